"""conv(x) -> conv(conv(x)) with fewer weights: an approximation, on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Family
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array, TensorType
from compactir.ops.conv import Conv, extra_operands
from compactir.ops.linear import Linear
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit
from compactir.passes._factors import Factors, Split, separable

SCHEMES = ("svd", "1", "2")


@register
@dataclass(frozen=True)
class Factorise(Pass):
    """Approximate layers by products of smaller ones; every layer's relative error is in the log.

        %a = conv(%x, @a.weight) {connect=dense(8->8, 3x3, pad 1)}
        ->                                                                      // with rank=3,scheme=2
        %a_vertical = conv(%x, @a_vertical.weight) {connect=dense(8->3, 3x1, pad 1/0/1/0)}
        %a = conv(%a_vertical, @a.weight) {connect=dense(3->8, 1x3, pad 0/1/0/1)}

    Not in any pipeline: `--also` of `compactc` puts it in front. Schemes: `svd`, the whole kernel to `rank`
    channels, then 1x1 (a linear layer becomes two); `1` of Jaderberg et al., per input channel `rank` filters
    kx1 and then 1xk, then 1x1 over all; `2` of theirs, kx1 to `rank` channels, then 1xk. `rank` is per block
    where there are blocks; with `error` instead each layer gets the smallest rank whose relative error, in
    the Frobenius norm of its weight, is at most that. Without either only what loses nothing is done. Layers
    whose name does not match `layers` (`residual*`), that would not get cheaper or are factors already stay.
    Needs: bound weights, no masks. Keeps: nothing but what the log says.
    Source: Denton et al. 2014, arXiv:1404.0736; Jaderberg et al. 2014, arXiv:1405.3866.
    """

    name: ClassVar[str] = "factorise"
    rank: int = 0
    error: float = 0.0
    scheme: str = "svd"
    layers: str = "*"

    def __post_init__(self) -> None:
        """CIR404 for options that contradict each other."""
        if self.scheme not in SCHEMES:
            raise CompactError(
                "CIR404", f"there is no scheme `{self.scheme}`", help=f"schemes: {' '.join(SCHEMES)}"
            )
        if self.rank < 0 or not 0 <= self.error < 1:
            raise CompactError(
                "CIR404", "a rank is a whole number from 1 on, an error a share between 0 and 1"
            )
        if self.rank and self.error:
            raise CompactError(
                "CIR404", "`rank` and `error` both choose the rank", help="leave one of them out"
            )

    @property
    def lossy(self) -> bool:
        """Whether results change by more than rounding."""
        return bool(self.rank or self.error)

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        nodes: list[Node] = []
        for node in graph.nodes:
            if isinstance(node.op, Conv | Linear) and fnmatchcase(node.name, self.layers):
                nodes += self._stages(edit, node)
            nodes.append(node)
        graph.nodes = nodes
        return edit.finish()

    def _stages(self, edit: Edit, node: Node) -> list[Node]:
        """New nodes in front of a layer, which becomes the last of its factors; none where it stays."""
        if why := _why_not(edit, node, self.scheme):
            self.left(node, why)
            return []
        weight = _weight(edit, node)
        factors, rank = self._factors(weight)
        error = factors.error(weight)
        macs = node.macs
        if self.error and error > self.error:
            self.left(node, f"no rank up to {rank} reaches an error of {self.error:g}: {error:.2g} is left")
            return []
        plan = _Chain(node, factors.stages, self.scheme)
        if plan.macs >= macs:
            self.left(node, f"rank {rank} takes {plan.macs:,} MACs, the layer {macs:,}")
            return []
        made = plan.apply(edit)
        self.did(
            node,
            f"scheme {self.scheme}, rank {rank}, relative error {error:.2g}: "
            f"{plan.macs:,} MACs, were {macs:,}",
        )
        return made

    def _factors(self, weight: Array) -> tuple[Factors, int]:
        """The factors of the asked rank, or of the smallest one that is good enough."""
        if self.scheme == "1":
            most = min(self.rank or prod(weight.shape[3:]), prod(weight.shape[3:]))
            for rank in [most] if self.rank else range(1, most + 1):
                found = separable(weight, rank)
                if found.error(weight) <= max(self.error, 1e-10):
                    break
            return found, rank
        split = Split(weight, across=self.scheme == "2")
        rank = min(self.rank or split.least(self.error), split.ranks)
        return split.factors(rank), rank


class _Chain:
    """A layer as several: their operations, shapes and cost."""

    def __init__(self, node: Node, stages: Sequence[Array], scheme: str) -> None:
        self.node, self.scheme = node, scheme
        self.ops: list[Conv | Linear] = []
        self.weights: list[Array] = []
        self.macs = 0
        if isinstance(node.op, Linear):
            first, last = (s[0, :, :, 0, 0] for s in stages)
            self.ops = [Linear(len(first), bias=False), node.op]
            self.weights = [first, last]
        else:
            self._convolutions(node.op, stages)  # type: ignore[arg-type]  # the only other kind
        x = node.args[0].type
        for op in self.ops:
            self.macs += op.macs(x)
            types = [TensorType.f32(*spec.shape) for spec in op.params(x)]
            plain = replace(op, epilogue=()) if isinstance(op, Conv) else op
            x = plain.infer(x, *types)

    def _convolutions(self, op: Conv, stages: Sequence[Array]) -> None:
        [family] = op.connect.families
        inputs, ins = family.inputs, op.connect.in_channels
        for at, stage in enumerate(stages):
            blocks, outs, _, kh, kw = stage.shape
            last = at == len(stages) - 1
            outputs = family.outputs if last else ChannelList.span(0, blocks * outs)
            made = op.connect.out_channels if last else blocks * outs
            rows, columns = _axes(self.scheme, at)
            top, left, bottom, right = family.pad
            pad = (top * rows, left * columns, bottom * rows, right * columns)
            connect = Connectivity(ins, made, (Family(blocks, inputs, outputs, (kh, kw), pad),))
            stride = (op.stride[0] if rows else 1, op.stride[1] if columns else 1)
            dilation = (op.dilation[0] if rows else 1, op.dilation[1] if columns else 1)
            end = replace(op, connect=connect, stride=stride, dilation=dilation)
            self.ops.append(end if last else replace(end, bias=False, epilogue=()))
            self.weights.append(stage.reshape(-1, *stage.shape[2:]))
            inputs, ins = ChannelList.span(0, made), made

    def apply(self, edit: Edit) -> list[Node]:
        """Put the stages in front of the node, and make it the last of them."""
        x, made = self.node.args[0], []
        names = ("basis",) if self.scheme == "svd" else ("vertical", "horizontal")
        for op, weight, suffix in zip(self.ops[:-1], self.weights, names, strict=False):
            name = f"{self.node.name}_{suffix}"
            param = edit.graph.bind(f"{name}.weight", weight.astype(edit.dtype), "weight")
            node = edit.graph.make(op, [x, param], name, self.node.span)
            edit.add(node)
            made.append(node)
            x = node.out
        last = self.ops[-1]
        epilogue = last.epilogue if isinstance(last, Conv) else ()
        extra = self.node.args[len(self.node.args) - sum(map(extra_operands, epilogue)) :]
        bias: list[Value] = list(self.node.params[-1:]) if last.bias else []
        edit.rewrite(self.node, last, [x], [self.weights[-1], *bias], extra)
        return made


def _axes(scheme: str, stage: int) -> tuple[bool, bool]:
    """Whether a stage carries the rows' and the columns' kernel, stride and padding."""
    if scheme == "svd":
        return stage == 0, stage == 0
    return stage == 0, stage == 1


def _weight(edit: Edit, node: Node) -> Array:
    """(G, O, I, kh, kw)."""
    weight = edit.array(node.params[0])
    if isinstance(node.op, Linear):
        return weight[None, :, :, None, None]
    assert isinstance(node.op, Conv)
    [family] = node.op.connect.families
    return weight.reshape(family.count, family.outs, family.ins, *family.kernel)


def _why_not(edit: Edit, node: Node, scheme: str) -> str:
    """Why a layer has no factors; empty when it may have some."""
    op = node.op
    if isinstance(op, Conv):
        if op.masked:
            return "it is masked: `collapse-sparse` first"
        if len(op.connect.families) != 1:
            return "its blocks differ in shape"
        [family] = op.connect.families
        if family.ins == 1 or family.outs == 1 or not family.ins:
            return "each of its blocks has a single channel on one side"
    if scheme == "1" and (isinstance(op, Linear) or 1 in op.connect.families[0].kernel):  # type: ignore[attr-defined]  # a convolution
        return "scheme 1 is for kernels that extend both ways"
    if not np.any(edit.stored(node.params[0])):
        return "its weights are zero"
    before, after = edit.makers.get(node.args[0]), edit.only_reader(node.out)
    if before and edit.only_reader(before.out) is not node:
        before = None
    for other in (before, after):
        if other and _adjacent(*((other, node) if other is before else (node, other))):
            return f"it is a factor already: nothing is between it and `{other.name}`"
    return ""


def _adjacent(first: Node, second: Node) -> bool:
    """True for two layers with nothing between them."""
    layers = isinstance(first.op, Conv | Linear) and isinstance(second.op, Conv | Linear)
    finished = isinstance(first.op, Conv) and first.op.epilogue
    return layers and not finished and second.args[0] is first.out

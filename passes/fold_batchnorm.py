"""bn(conv(x)) -> conv(x) with scaled weights and a bias; any other bn -> affine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat, Flatten, View
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm
from compactir.ops.pool import Upsample
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit

Vector = Array
Target = tuple[Node, Vector, Vector]


class BlockedError(Exception):
    """Why a scale cannot move up to its producer."""


@register
@dataclass(frozen=True)
class FoldBatchnorm(Pass):
    """Fold batch norm, and affine, into the convolution or linear layer that makes its operand.

        %a = conv(%x, @a.weight) {connect=dense(3->8, 3x3, pad 1)}
        %b = bn(%a, @b.weight, @b.bias, @b.running_mean, @b.running_var)
        ->
        %b = conv(%x, @a.weight, @a.bias) {connect=dense(3->8, 3x3, pad 1), bias=true} as a

    The scale climbs over what keeps channels apart and has no other reader: permutations and slices, concat
    and add (to every operand, or to none), nearest upsampling, flatten of 1x1 maps. Where it cannot reach a
    convolution (pre-activation: DenseNet, CondenseNet; a value with several readers) the bn becomes one
    `affine`. It is not pushed down into a following convolution: padding comes after it.
    Source: w' = w γ/√(σ²+ε), b' = β + (b − μ) γ/√(σ²+ε).
    Needs: bound weights. Keeps: every returned value, but for rounding.
    """

    name: ClassVar[str] = "fold-batchnorm"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            if isinstance(node.op, BatchNorm) or node.op == Affine():  # one without an epilogue
                self._fold(edit, node)
        return edit.finish()

    def ensures(self, graph: Graph) -> None:
        """No bn is left."""
        assert not any(isinstance(n.op, BatchNorm) for n in graph.nodes)

    def _fold(self, edit: Edit, node: Node) -> None:
        scale, shift = scale_and_shift(edit, node)
        x = node.args[0]
        try:
            targets = list(_producers(edit, x, node, scale, shift))
        except BlockedError as reason:
            self.left(node, str(reason))
            if isinstance(node.op, BatchNorm):
                edit.rewrite(node, Affine(), [x], [scale, shift])
            return
        for producer, s, t in targets:
            _scale(edit, producer, s, t)
        for value in _path(edit, x):  # what lies between holds scaled numbers now
            edit.renew(value)
        maker = edit.makers[node.args[0]]
        edit.drop(node)
        edit.remake(maker, node.out)
        self.did(node, f"folded into {', '.join(f'`{p.name}`' for p, _, _ in targets)}")


def scale_and_shift(edit: Edit, node: Node) -> tuple[Vector, Vector]:
    """What a bn or affine does to each channel: scale · x + shift."""
    if isinstance(node.op, Affine):
        return edit.array(node.args[1]), edit.array(node.args[2])
    assert isinstance(node.op, BatchNorm)
    weight, bias, mean, var = (edit.array(p) for p in node.args[1:])
    scale = weight / np.sqrt(var + node.op.eps)
    return scale, bias - mean * scale


def _producers(edit: Edit, value: Value, reader: Node, scale: Vector, shift: Vector) -> Iterator[Target]:
    """The layers that can take the scale of `value`, each with its share. Raises BlockedError."""
    if edit.only_reader(value) is not reader:
        raise BlockedError(edit.why_not_only(value, reader))
    node = edit.makers.get(value)
    if node is None:
        raise BlockedError(f"{value} is an input of the network")
    if isinstance(node.op, Conv | Linear | Affine):
        if isinstance(node.op, Conv | Affine) and node.op.epilogue:
            raise BlockedError(f"`{node.name}` has an epilogue already")
        yield node, scale, shift
    elif isinstance(node.op, View):
        yield from _producers(edit, node.args[0], node, *_through(node, scale, shift))
    elif isinstance(node.op, Concat):
        at = 0
        for operand in node.args:
            part = slice(at, at := at + operand.type.channels)
            yield from _producers(edit, operand, node, scale[part], shift[part])
    elif isinstance(node.op, Add) and all(v.type == value.type for v in node.args):
        for operand, once in zip(node.args, (shift, np.zeros_like(shift)), strict=True):
            yield from _producers(edit, operand, node, scale, once)
    elif isinstance(node.op, Upsample) or (
        isinstance(node.op, Flatten) and set(node.args[0].type.spatial) <= {1}
    ):
        yield from _producers(edit, node.args[0], node, scale, shift)
    else:
        raise BlockedError(f"{value} is made by `{node.op.name}`, which does not take a scale")


def _through(node: Node, scale: Vector, shift: Vector) -> tuple[Vector, Vector]:
    """The scale of a view's operand, given that of its result. Channels that the view drops keep theirs."""
    assert isinstance(node.op, View)
    channels = node.args[0].type.channels
    sources = node.op.sources(channels)
    if not sources.is_distinct:
        raise BlockedError(f"`{node.name}` repeats channels, and each repetition has its own scale")
    above, below = np.ones(channels), np.zeros(channels)
    above[sources.array], below[sources.array] = scale, shift
    return above, below


def _path(edit: Edit, value: Value) -> list[Value]:
    """The values between a bn and the layers that took its scale, those layers' own results included."""
    node = edit.makers[value]
    if isinstance(node.op, Conv | Linear | Affine):
        return [value]
    return [v for operand in node.values for v in _path(edit, operand)] + [value]


def _scale(edit: Edit, node: Node, scale: Vector, shift: Vector) -> None:
    """Let a layer compute scale · y + shift instead of y."""
    if isinstance(node.op, Affine):
        weight, bias = (edit.array(p) for p in node.args[1:])
        edit.rewrite(node, node.op, node.args[:1], [weight * scale, bias * scale + shift])
        return
    assert isinstance(node.op, Conv | Linear)
    op = replace(node.op, bias=True)
    params = node.params
    old_bias = edit.array(params.pop()) if node.op.bias else 0.0
    mask = [params.pop()] if isinstance(op, Conv) and op.masked else []
    rows = [f.outputs.array for f in op.connect.families] if isinstance(op, Conv) else [np.arange(op.out)]
    scaled = [
        edit.array(p) * scale[r].reshape(-1, *[1] * (p.type.rank - 1))
        for p, r in zip(params, rows, strict=True)
    ]
    edit.rewrite(node, op, node.args[:1], [*scaled, *mask, old_bias * scale + shift])

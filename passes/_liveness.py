"""Which channels are constant, whatever the input, and which channels anybody needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Family
from compactir.ir.graph import Node, Value
from compactir.ir.types import Array
from compactir.ops.activation import Activation
from compactir.ops.arrange import AsMap, AsSequence, Concat, Flatten, Transparent, View
from compactir.ops.combine import Combine
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm
from compactir.ops.pool import AvgPool, GlobalPool, MaxPool, Upsample
from compactir.passes._edit import Edit
from compactir.passes._flow import aligned_values, channels_of, is_lanewise

Flags = npt.NDArray[np.bool_]


class Liveness:
    """Constants forwards, needs backwards.

    `constant[v][c]` is the number that channel c of v holds at every pixel, NaN where it is not constant.
    `needed[v][c]` says whether any output depends on channel c of v through more than a bias.
    """

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.constant: dict[Value, Array] = {}
        self.needed: dict[Value, Flags] = {}
        self._known: dict[Node, list[Flags]] = {}
        graph = edit.graph
        for value in graph.inputs:
            self.constant[value] = np.full(channels_of(value), np.nan)
        with np.errstate(all="ignore"):
            for node in graph.nodes:
                self.constant[node.out] = self._constant(node)
        for value in graph.values():
            everything = value in edit.returned or value in graph.inputs
            self.needed[value] = np.full(channels_of(value), everything)
        while True:
            for node in reversed(graph.nodes):
                if self.needed[node.out].any():
                    self._need(node)
            if not self._tie():
                break

    # -- forwards

    def _constant(self, node: Node) -> Array:
        op, unknown = node.op, np.full(channels_of(node.out), np.nan)
        xs = [self.constant.get(v, np.full(channels_of(v), np.nan)) for v in node.values]
        if isinstance(op, View):
            return xs[0][op.sources(len(xs[0])).array]
        if isinstance(op, Concat):
            return np.concatenate(xs)
        if isinstance(op, Flatten):
            return np.repeat(xs[0], len(unknown) // len(xs[0]))
        if isinstance(op, AsMap) and len(xs[0]) != len(unknown):
            return unknown
        if isinstance(op, Transparent | AsMap | AsSequence | MaxPool | GlobalPool | Upsample):
            return xs[0]
        if isinstance(op, Activation | Combine):
            return op.reference(*xs)
        if isinstance(op, Affine | BatchNorm):
            y: Array = op.reference(xs[0][None], *(self.edit.array(p) for p in node.params))[0]
            return y
        if isinstance(op, AvgPool):
            whole = not op.divisor and not (op.count_pad and (any(op.pad) or op.ceil))
            return xs[0] if whole else np.where(xs[0] == 0, 0.0, np.nan)
        if isinstance(op, Linear) or (isinstance(op, Conv) and not op.masked and len(xs) == 1):
            return self._layer(node)
        return unknown

    def _layer(self, node: Node) -> Array:
        """An output is constant where it reads nothing but constants that fold into its bias."""
        assert isinstance(node.op, Conv | Linear)
        y = self.bias(node)
        for family, live in zip(*self.links(node), strict=True):
            y[family.outputs.array[live.any(axis=2).reshape(-1)]] = np.nan
        for op in node.op.epilogue if isinstance(node.op, Conv) else ():
            y = op.reference(y)
        return y

    def folds(self, node: Node, family: Family) -> Flags:
        """(count, ins): the inputs of a family that are constants which its outputs' biases can take.

        Padding puts zeros beside a constant, so that only zero itself folds where there is padding.
        """
        constant = self.constant[node.args[0]][family.inputs.array]
        fold = constant == 0 if any(family.pad) else ~np.isnan(constant)
        flags: Flags = fold.reshape(family.count, family.ins)
        return flags

    def links(self, node: Node) -> tuple[list[Family], list[Flags]]:
        """Per family (count, outs, ins): links that carry something which is not constant."""
        blocks = [family for family, _ in families(self.edit, node)]
        return blocks, [
            present & ~self.folds(node, family)[:, None, :]
            for family, present in zip(blocks, self._present(node), strict=True)
        ]

    def folds_any(self, node: Node) -> bool:
        """True when a layer has a link that carries a constant which folds."""
        blocks = [family for family, _ in families(self.edit, node)]
        each = zip(blocks, self._present(node), strict=True)
        return any(bool((present & self.folds(node, family)[:, None, :]).any()) for family, present in each)

    def _present(self, node: Node) -> list[Flags]:
        """Per family (count, outs, ins): links with a weight that is not zero."""
        if node not in self._known:
            self._known[node] = [
                (weight != 0).any(axis=(2, 3)).reshape(family.count, family.outs, family.ins)
                for family, weight in families(self.edit, node)
            ]
        return self._known[node]

    def bias(self, node: Node) -> Array:
        """A layer's bias, with what its constant inputs contribute."""
        assert isinstance(node.op, Conv | Linear)
        params = node.params
        bias = self.edit.array(params[-1]).copy() if node.op.bias else np.zeros(channels_of(node.out))
        for family, weight in families(self.edit, node):
            folds = self.folds(node, family)[:, None, :]
            if folds.any():
                constant = self.constant[node.args[0]][family.inputs.array].reshape(
                    family.count, 1, family.ins
                )
                sums = weight.sum(axis=(2, 3), dtype=np.float64)
                sums = sums.reshape(family.count, family.outs, family.ins) * np.where(folds, constant, 0.0)
                bias[family.outputs.array] += sums.sum(axis=2).reshape(-1)
        return bias

    # -- backwards

    def _need(self, node: Node) -> None:
        op, need = node.op, self.needed[node.out]
        if isinstance(op, View):
            self._add(node.args[0], op.sources(channels_of(node.args[0])).array[need])
        elif isinstance(op, Concat):
            at = 0
            for x in node.args:
                self.needed[x] |= need[at : at + channels_of(x)]
                at += channels_of(x)
        elif is_lanewise(node):
            for x in node.values:
                self.needed[x] |= need
        elif isinstance(op, Conv | Linear) and not (isinstance(op, Conv) and op.masked):
            self._need_links(node, need)
        else:
            if not isinstance(op, Flatten):
                need[:] = True
            for x in node.values:
                rows = need.reshape(channels_of(x), -1).any(axis=1) if isinstance(op, Flatten) else True
                self.needed[x] |= rows
            if isinstance(op, Flatten):
                need[:] = np.repeat(self.needed[node.args[0]], len(need) // channels_of(node.args[0]))

    def _tie(self) -> bool:
        """Operands that meet lane by lane keep the same channels, else one of them would have to be moved."""
        tied = False
        for node in self.edit.graph.nodes:
            if isinstance(node.op, Combine) and self.needed[node.out].any():
                flags = [self.needed[v] for v in (*node.values, node.out)]
                union = np.logical_or.reduce(flags)
                for each in flags:
                    tied |= bool((each != union).any())
                    each |= union
        return tied

    def _need_links(self, node: Node, need: Flags) -> None:
        for x in aligned_values(node):
            self.needed[x] |= need
        x = node.args[0]
        for family, live in zip(*self.links(node), strict=True):
            rows = need[family.outputs.array].reshape(family.count, family.outs, 1)
            read = (live & rows).any(axis=1).reshape(-1)
            self._add(x, family.inputs.array[read])
        if not self.needed[x].any():
            self.needed[x][0] = True  # a layer of constants still takes its size from its operand

    def _add(self, value: Value, channels: npt.NDArray[np.int64]) -> None:
        self.needed[value][channels] = True


def families(edit: Edit, node: Node) -> Iterator[tuple[Family, Array]]:
    """The blocks of a convolution, or the one of a linear layer, with weights (O, I, kh, kw) as stored."""
    if isinstance(node.op, Conv):
        for family, param in zip(node.op.connect.families, node.params, strict=False):
            yield family, edit.stored(param)
    else:
        weight = edit.stored(node.params[0])
        outs, ins = weight.shape
        yield Family(1, ChannelList.span(0, ins), ChannelList.span(0, outs), (1, 1)), weight[:, :, None, None]

"""conv(conv(x)) -> conv(x), where one layer is cheaper than two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from compactir.ir import algebra
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node
from compactir.ir.types import Array
from compactir.ops.arrange import View
from compactir.ops.conv import Conv, extra_operands
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class MultiplyOut(Pass):
    """Make two convolutions with nothing between them one, where that takes fewer multiply-accumulates.

        %a = conv(%x, @a.weight) {connect=dense(4->6, 3x1, pad 1/0/1/0)}
        %b = conv(%a, @b.weight) {connect=dense(6->4, 1x3, pad 0/1/0/1)}
        ->                                                        // 144 weights instead of 72 + 72: it stays
        %a = conv(%x, @a.weight) {connect=dense(4->9, 3x1, pad 1/0/1/0)}
        %b = conv(%a, @b.weight) {connect=dense(9->4, 1x3, pad 0/1/0/1)}
        ->                                                        // 144 weights instead of 108 + 108
        %b = conv(%x, @b.weight) {connect=dense(4->4, 3x3, pad 1)}

    Low-rank factors of a rank too high to save anything, linear bottlenecks that are none, group convolutions
    with a shuffle between them (IGCV2) whose product is sparse. Weights multiply, W = W₂ W₁, through the
    permutations and slices between. Exact where along each axis the first kernel has size 1 and no padding,
    or the second no padding: zeros around the map between are not what the first layer makes there. For the
    same reason a bias in front of a padded kernel keeps both.
    Needs: bound weights. Keeps: every returned value, but for the order of sums.
    """

    name: ClassVar[str] = "multiply-out"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            while isinstance(node.op, Conv) and self._multiplied(edit, node, node.op):
                pass  # the product may stand behind a further convolution
        return edit.finish()

    def _multiplied(self, edit: Edit, node: Node, op: Conv) -> bool:
        """Let a node do what the convolution before it does, if there is one and that pays."""
        found = _before(edit, node)
        if found is None:
            return False
        first, views, connect = found
        assert isinstance(first.op, Conv)
        why, cost = _why_not(edit, first, views, node, connect), ""
        if not why:
            pixels = prod(node.out.type.shape) // node.out.type.channels
            macs = pixels * _weights(first.op.connect, connect)
            two = first.macs + node.macs
            cost = f"{macs:,} MACs as one layer, {two:,} as two"
            why = (cost if macs >= two else "") if macs else "their product has no links"
        if why:
            self.left(node, f"`{first.name}` and `{node.name}` stay two layers: {why}")
            return False
        arrays, bias = _product(edit, first, node, connect)
        new = _operation(first.op, op, arrays[0], bool(bias))
        extra = node.args[len(node.args) - sum(map(extra_operands, op.epilogue)) :]
        edit.rewrite(node, new, [first.args[0]], [*arrays[1], *bias], extra)
        edit.drop(*views, first)
        self.did(node, f"`{first.name}` is multiplied into it: {cost}")
        return True


def _before(edit: Edit, node: Node) -> tuple[Node, list[Node], Connectivity] | None:
    """The convolution that a node reads, the views between (last first), and its blocks without them."""
    assert isinstance(node.op, Conv)
    views: list[Node] = []
    connect, maker = node.op.connect, edit.makers.get(node.args[0])
    while maker and isinstance(maker.op, View):
        channels = maker.args[0].type.channels
        connect = connect.reading(maker.op.sources(channels), channels)
        views.append(maker)
        maker = edit.makers.get(maker.args[0])
    return (maker, views, connect) if maker and isinstance(maker.op, Conv) else None


def _why_not(edit: Edit, first: Node, views: list[Node], second: Node, connect: Connectivity) -> str:
    """Why two convolutions have no product; empty when they have one."""
    a, b = first.op, second.op
    assert isinstance(a, Conv)
    assert isinstance(b, Conv)
    readers = [second, *views]
    for made, reader in zip([*views, first], readers, strict=True):
        if edit.only_reader(made.out) is not reader:
            return edit.why_not_only(made.out, reader)
    if a.masked or b.masked:
        return "one is masked"
    if a.epilogue:
        return f"`{a.epilogue[-1].name}` is between them"
    if not (a.connect.families and connect.families):
        return "one has no links"
    if algebra.product_shape(a.connect, connect) is None:
        return "at the border the second sees zeros where the first would have a result"
    for axis in (0, 1):
        ka, kb = a.connect.families[0].kernel[axis], connect.families[0].kernel[axis]
        if a.stride[axis] > 1 and (kb > 1 or connect.families[0].pad[axis]):
            return f"the first has stride {a.stride[axis]}, which would leave gaps between the second's taps"
        if ka > 1 and kb > 1 and a.dilation[axis] != b.dilation[axis]:
            return f"their dilations are {a.dilation[axis]} and {b.dilation[axis]}"
    if a.bias and any(connect.families[0].pad) and edit.stored(first.params[-1]).any():
        return "the first has a bias (of its own, or from a batch norm), and the second is padded"
    return ""


def _weights(a: Connectivity, b: Connectivity) -> int:
    """How many weights the product has."""
    shape = algebra.product_shape(a, b)
    assert shape
    return int(np.count_nonzero(algebra.product_mask(a, b))) * prod(shape[0])


def _product(
    edit: Edit, first: Node, second: Node, connect: Connectivity
) -> tuple[algebra.Weighted, list[Array]]:
    """Blocks and weights of the product, and its bias where one of the two has one."""
    a, b = first.op, second.op
    assert isinstance(a, Conv)
    assert isinstance(b, Conv)
    w, v = ([edit.array(p) for p in n.params[: len(n.op.connect.families)]] for n in (first, second))  # type: ignore[attr-defined]  # both are convolutions
    biases = [edit.array(second.params[-1])] if b.bias else []
    if a.bias:
        dense = connect.to_dense(v, b.dilation)[0].sum(axis=(2, 3))
        biases.append(dense @ edit.array(first.params[-1]))
    return algebra.product(a.connect, connect, w, v), [np.sum(biases, axis=0)] if biases else []


def _operation(a: Conv, b: Conv, made: Connectivity, bias: bool) -> Conv:
    stride = a.stride[0] * b.stride[0], a.stride[1] * b.stride[1]
    kernel = a.connect.families[0].kernel
    dilation = tuple(a.dilation[axis] if kernel[axis] > 1 else b.dilation[axis] for axis in (0, 1))
    return replace(b, connect=made, stride=stride, dilation=(dilation[0], dilation[1]), bias=bias)

"""conv(x) + conv(y) -> conv(concat(x, y)); conv(x) + conv(x) -> conv(x)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from compactir.ir.connectivity import Connectivity, Family, Pad
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class MergeSums(Pass):
    """Let one dense convolution compute the sum of two.

        %a = conv(%x, @a.weight) {connect=dense(4->8, 1x1)}
        %b = conv(%y, @b.weight) {connect=dense(4->8, 1x1)}
        %s = add(%a, %b)
        ->
        %a_in = concat(%x, %y)
        %s = conv(%a_in, @a.weight) {connect=dense(8->8, 1x1)} as a

    On different values: equal kernels, columns side by side (form A of ResNeXt becomes form B; the projection
    of a residual block joins its last layer). On one value: kernels add up, a smaller one in the middle of
    the larger (RepVGG). Both results have no other reader; strides and dilations are equal.
    Needs: bound weights. Keeps: every returned value, but for the order of sums.
    """

    name: ClassVar[str] = "merge-sums"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        nodes: list[Node] = []
        for node in graph.nodes:
            nodes += self._merged(edit, node) if isinstance(node.op, Add) else [node]
        graph.nodes = list(dict.fromkeys(reversed(nodes)))[::-1]  # a merged layer stands where its sum stood
        edit.sweep(n for n in graph.nodes if isinstance(n.op, Concat))
        return edit.finish()

    def _merged(self, edit: Edit, node: Node) -> list[Node]:
        """The one layer (and the concat that it reads) instead of this sum, or the sum itself."""
        layers = [m for v in node.values if (m := edit.makers.get(v)) and isinstance(m.op, Conv)]
        if len(layers) != 2:
            return [node]
        a, b = layers
        if why := _why_not(edit, a, b):
            self.left(node, f"`{a.name}` and `{b.name}` stay two layers: {why}")
            return [node]
        weights = [edit.array(n.params[0]) for n in layers]
        biases = [edit.array(n.params[1]) for n in layers if len(n.params) > 1]
        made: list[Node] = []
        x = a.args[0]
        if x is b.args[0]:
            weight, pad = _overlaid(_block(a), _block(b), weights)
        else:
            join = edit.graph.make(Concat(), [*_parts(edit, a), *_parts(edit, b)], f"{a.name}_in", node.span)
            edit.add(join)
            made.append(join)
            x, weight, pad = join.out, np.concatenate(weights, axis=1), _block(a).pad
        connect = Connectivity.dense(weight.shape[1], weight.shape[0], weight.shape[2:], pad)
        assert isinstance(a.op, Conv)
        bias = [np.sum(biases, axis=0)] if biases else []
        edit.rewrite(a, replace(a.op, connect=connect, bias=bool(bias)), [x], [weight, *bias])
        edit.drop(b, node)
        edit.remake(a, node.out)
        self.did(node, f"`{a.name}` and `{b.name}` are one layer of {connect.in_channels} inputs")
        return [*made, a]


def _block(node: Node) -> Family:
    assert isinstance(node.op, Conv)
    return node.op.connect.families[0]


def _why_not(edit: Edit, a: Node, b: Node) -> str:
    """Why two added convolutions cannot be one; empty when they can."""
    assert isinstance(a.op, Conv)
    assert isinstance(b.op, Conv)
    for node in (a, b):
        if edit.only_reader(node.out) is None:
            return edit.why_not_only(node.out)
    if not (a.op.connect.is_dense and b.op.connect.is_dense):
        return "only dense ones merge"
    if a.op.masked or b.op.masked or a.op.epilogue or b.op.epilogue:
        return "one is masked or has an epilogue"
    if (a.op.stride, a.op.dilation) != (b.op.stride, b.op.dilation) or a.out.type != b.out.type:
        return f"their strides are {a.op.stride[0]} and {b.op.stride[0]}"
    f, g = _block(a), _block(b)
    if (f.kernel, f.pad) == (g.kernel, g.pad):
        return ""
    if a.args[0] is not b.args[0]:
        return "they read different values through different kernels"
    same = a.op.dilation == (1, 1) and _common(f, g, 0) and _common(f, g, 1)
    return "" if same else "their kernels have no common place"


def _common(f: Family, g: Family, axis: int) -> tuple[int, int, int] | None:
    """(first, size, last): padding before, extent and padding after of a kernel that holds both."""
    before = max(f.pad[axis], g.pad[axis])
    size = before + max(k.kernel[axis] - k.pad[axis] for k in (f, g))
    after = {k.pad[axis + 2] + size - k.kernel[axis] - (before - k.pad[axis]) for k in (f, g)}
    return (before, size, after.pop()) if len(after) == 1 else None


def _overlaid(f: Family, g: Family, weights: list[Array]) -> tuple[Array, Pad]:
    """The sum of two kernels, each where its padding puts it."""
    if (f.kernel, f.pad) == (g.kernel, g.pad):
        return weights[0] + weights[1], f.pad
    rows, columns = _common(f, g, 0), _common(f, g, 1)
    assert rows
    assert columns
    total = np.zeros((*weights[0].shape[:2], rows[1], columns[1]))
    for k, weight in zip((f, g), weights, strict=True):
        y, x = rows[0] - k.pad[0], columns[0] - k.pad[1]
        total[:, :, y : y + k.kernel[0], x : x + k.kernel[1]] += weight
    return total, (rows[0], columns[0], rows[2], columns[2])


def _parts(edit: Edit, node: Node) -> list[Value]:
    """The operand of a layer, or those of the concat that only this layer reads."""
    x = node.args[0]
    maker = edit.makers.get(x)
    return maker.args if maker and isinstance(maker.op, Concat) and edit.only_reader(x) else [x]

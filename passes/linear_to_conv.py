"""linear(flatten(x)) -> flatten(conv(x)) with a kernel as large as the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Value
from compactir.ops.activation import Activation
from compactir.ops.arrange import AsMap, Concat, Flatten, Transparent, View
from compactir.ops.combine import Combine
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit

_ELEMENT = Activation | Transparent
_CHANNEL = BatchNorm | Affine | View


@register
@dataclass(frozen=True)
class LinearToConv(Pass):
    """Make linear layers convolutions, so that one kernel, and every pass on convolutions, serves both.

        %a = flatten(%x)                        // x: f32[1,16,5,5]
        %b = linear(%a, @b.weight, @b.bias) {out=120}
        ->
        %b_2 = conv(%x, @b.weight, @b.bias) {connect=dense(16->120, 5x5), bias=true} as b
        %b = flatten(%b_2)

    What follows on vectors (activations, bn, adds, concat, further linear layers) moves above the flatten,
    which for a 1x1 map is a view. A vector that is an input of the network becomes a 1x1 map by `as_map`,
    a sequence that is flattened a map of one row.
    Needs: bound weights (their shape changes). Keeps: every returned value, but for the order of sums.
    """

    name: ClassVar[str] = "linear-to-conv"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        if not any(isinstance(n.op, Linear) for n in graph.nodes):
            return False
        edit = Edit(graph)
        maps: dict[Value, Value] = {}  # vector -> the map of which it is the flattened form
        nodes: list[Node] = []
        for node in graph.nodes:
            nodes += self._moved(edit, node, maps) or [node]
        graph.nodes = nodes
        edit.sweep(n for n in nodes if isinstance(n.op, Flatten | AsMap))
        return edit.finish()

    def ensures(self, graph: Graph) -> None:
        """No linear layer is left."""
        assert not any(isinstance(n.op, Linear) for n in graph.nodes)

    def _moved(self, edit: Edit, node: Node, maps: dict[Value, Value]) -> list[Node]:
        """The nodes that replace this one: itself on maps, and a flatten that makes its old result."""
        if isinstance(node.op, Flatten):
            before = self._as_map(edit, node.args[0], node, maps) if node.args[0].type.rank == 3 else []
            maps[node.out] = maps.get(node.args[0], node.args[0])
            return [*before, node]
        if isinstance(node.op, Linear):
            return self._convolution(edit, node, maps)
        xs = [maps.get(v) for v in node.values]
        if node.out.type.rank != 2 or not xs or not all(_moves(node, x) for x in xs):
            return []
        edit.rewire(node, node.reading([x for x in xs if x]))
        return self._flattened(edit, node, maps)

    def _convolution(self, edit: Edit, node: Node, maps: dict[Value, Value]) -> list[Node]:
        assert isinstance(node.op, Linear)
        x, before = node.args[0], []
        if x.type.rank == 2:
            before = self._as_map(edit, x, node, maps)
        x = maps.get(x, x)
        size = (x.type.shape[2], x.type.shape[3])
        weight, *bias = node.params
        kernel = edit.stored(weight).reshape(node.op.out, x.type.channels, *size)
        connect = Connectivity.dense(x.type.channels, node.op.out, size)
        edit.rewrite(node, Conv(connect, bias=node.op.bias), [x], [kernel, *bias])
        self.did(node, f"a {size[0]}x{size[1]} convolution of a map of that size")
        return [*before, *self._flattened(edit, node, maps)]

    def _as_map(self, edit: Edit, x: Value, node: Node, maps: dict[Value, Value]) -> list[Node]:
        """What makes the map of a vector or a sequence, unless there is one."""
        if x in maps:
            return []
        as_map = edit.graph.make(AsMap(), [x], f"{node.name}_map", node.span)
        edit.add(as_map)
        maps[x] = as_map.out
        return [as_map]

    def _flattened(self, edit: Edit, node: Node, maps: dict[Value, Value]) -> list[Node]:
        """The node on maps, and a flatten that makes the vector it made before."""
        vector = node.out
        spatial = node.args[0].type.spatial if not isinstance(node.op, Conv) else (1, 1)
        channels = vector.type.channels // (spatial[0] * spatial[1])
        node.out = Value(
            edit.graph.fresh(node.name), vector.type.with_shape(vector.type.batch, channels, *spatial)
        )
        edit.makers[node.out] = node
        flat = Node(Flatten(), [node.out], vector, vector.name, node.span)
        edit.add(flat)
        maps[vector] = node.out
        return [node, flat]


def _moves(node: Node, x: Value | None) -> bool:
    """True when a node on vectors means the same on this map of one of its operands."""
    if x is None:
        return False
    if isinstance(node.op, _ELEMENT):
        return True
    return isinstance(node.op, _CHANNEL | Combine | Concat) and x.type.spatial == (1, 1)

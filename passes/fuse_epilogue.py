"""relu(conv(x) + y) -> conv(x, y) with the epilogue [add, relu]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from compactir.ir.graph import Graph, Node
from compactir.ops.activation import Activation
from compactir.ops.combine import Combine
from compactir.ops.conv import Conv, extra_operands
from compactir.ops.norm import Affine
from compactir.passes._base import Pass, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class FuseEpilogue(Pass):
    """Let a convolution finish its result before it stores it: activations, residual adds, gates.

        %a = conv(%x, @a.weight) {connect=dense(8->8, 1x1)}
        %b = add(%y, %a)
        %c = relu(%b)
        ->
        %c = conv(%x, @a.weight, %y) {connect=dense(8->8, 1x1), epilogue=[add, relu]} as a

    Operations join as long as the convolution's result has one reader, which keeps its type. The convolution
    moves down to the place of the last one, where every further operand is there. Of two convolutions that
    are added the later one takes the add; the other writes its result.
    Needs: nothing. Keeps: every returned value, bit for bit (a + b = b + a).
    """

    name: ClassVar[str] = "fuse-epilogue"

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        places: dict[Node, Node] = {}  # the last node of a chain -> the convolution that takes its place
        for node in reversed(graph.nodes):
            if isinstance(node.op, Conv | Affine) and (last := self._fuse(edit, node)):
                places[last] = node
        moved = set(places.values())
        graph.nodes = [places.get(n, n) for n in graph.nodes if n in places or n not in moved]
        return edit.finish()

    def _fuse(self, edit: Edit, node: Node) -> Node | None:
        """Take in what follows; returns the last node taken."""
        last: Node | None = None
        fused: list[str] = []
        while (reader := edit.only_reader(node.out)) and _fits(reader, node):
            assert isinstance(node.op, Conv | Affine)
            node.op = replace(node.op, epilogue=(*node.op.epilogue, reader.op))
            edit.rewire(node, [*node.args, *(a for a in reader.args if a is not node.out)])
            edit.drop(reader)
            edit.remake(node, reader.out)
            fused.append(f"`{reader.name}`")
            last = reader
        if fused:
            self.did(node, f"finishes {', '.join(fused)}")
        if why := _why_not(edit, node):
            self.left(node, why)
        return last


def _fits(reader: Node, node: Node) -> bool:
    """True for an operation of one element that keeps the type; an affine takes no further operands."""
    kinds = Activation | Combine if isinstance(node.op, Conv) else Activation
    return isinstance(reader.op, kinds) and reader.out.type == node.out.type


def _why_not(edit: Edit, node: Node) -> str:
    """What kept the next operation out, where one might have expected it in; else empty."""
    value, reader = node.out, edit.only_reader(node.out)
    if reader is None:
        near = [r for r in edit.readers(value) if _fits(r, node)]
        return f"`{near[0].name}` stays: {edit.why_not_only(value, near[0])}" if near else ""
    if isinstance(reader.op, Conv):
        joined = sum(map(extra_operands, reader.op.epilogue))
        late = joined and value in reader.args[-joined:]
        return f"its sum is finished by the later `{reader.name}`" if late else ""
    spreads = isinstance(reader.op, Combine) and reader.out.type != value.type
    return f"`{reader.name}` stays: it spreads {value}" if spreads else ""

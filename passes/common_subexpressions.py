"""The same operation on the same operands, twice -> once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph, Node, Value
from compactir.ir.op import Op
from compactir.ops.combine import Combine
from compactir.passes._base import Pass, register


@register
@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Compute equal things once: operations with equal attributes on the very same values and parameters.

        %a = relu(%x)                                   %a = relu(%x)
        %b = relu(%x)                           ->      %c = add(%a, %a)
        %c = add(%a, %b)

    DARTS cells apply one relu to a state per edge; a split written twice is two slices each. Operations with
    parameters of their own differ, however equal the numbers. a + b and b + a are equal. Needs: nothing.
    Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "common-subexpressions"

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        first: dict[tuple[Op, tuple[int, ...]], Node] = {}
        same: dict[Value, Value] = {}
        for node in graph.nodes:
            operands = [id(same.get(a, a)) for a in node.args]
            if isinstance(node.op, Combine):
                operands.sort()
            twin = first.setdefault((node.op, tuple(operands)), node)
            if twin is not node:
                same[node.out] = twin.out
                self.did(node, f"`{twin.name}` computes the same")
        graph.substitute(same)
        graph.nodes = [n for n in graph.nodes if n.out not in same]
        return bool(same)

"""A node whose value nobody reads and the network does not return -> nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph, Node, Value
from compactir.passes._base import Pass, register


@register
@dataclass(frozen=True)
class DeadCode(Pass):
    """Remove what does not lead to an output: nodes, and parameters that no node reads.

        %a = relu(%x)                                   %b = sigmoid(%x)
        %b = sigmoid(%x)                        ->      return %b
        return %b

    Inputs stay: they are the caller's. Needs: nothing. Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "dead-code"

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        live: set[Value] = set(graph.outputs.values())
        dead: list[Node] = []
        for node in reversed(graph.nodes):
            if node.out in live:
                live.update(node.args)
            else:
                dead.append(node)
        params = len(graph.params)
        for node in reversed(dead):
            self.did(node, f"nothing that is returned depends on {node.out}")
        graph.remove(dead)
        graph.drop_unused_params()
        return bool(dead) or len(graph.params) < params

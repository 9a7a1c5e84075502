"""dropout(x), identity(x), concat(x), shuffle(x) with 1 group -> x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph, Node
from compactir.ops.arrange import Concat, Flatten, Transparent, View
from compactir.ops.pool import GlobalPool, Pool, Upsample
from compactir.passes._base import Pass, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class DropIdentity(Pass):
    """Remove operations that return what they were given.

        %a = shuffle(%x) {groups=1}                     %c = conv(%x, @c.weight) {...}
        %b = dropout(%a)                        ->
        %c = conv(%b, @c.weight) {...}

    These are: dropout and identity (nothing at inference), a concat of one value, a view that takes every
    channel in order, a flatten of a vector, a 1x1 pool, a global pool of a 1x1 map, an upsampling by 1.
    Needs: nothing. Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "drop-identity"

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            reason = _returns_its_operand(node)
            if reason:
                edit.forward(node.out, node.args[0])
                edit.drop(node)
                self.did(node, reason)
        return edit.finish()


def _returns_its_operand(node: Node) -> str | None:
    """Why the node's result is its first operand, or None."""
    op, x = node.op, node.args[0]
    if isinstance(op, Transparent):
        return "does nothing at inference"
    if isinstance(op, Concat) and len(node.args) == 1:
        return "a concat of one value"
    if isinstance(op, View) and op.sources(x.type.channels).is_identity(x.type.channels):
        return "every channel stays in its place"
    if isinstance(op, Flatten) and x.type.rank == 2:
        return f"{x} is a vector already"
    if isinstance(op, Pool) and op.kernel == op.stride == (1, 1) and not getattr(op, "divisor", 0) > 1:
        return "windows of one element"
    if isinstance(op, GlobalPool) and x.type.spatial == (1, 1):
        return "maps of one element"
    if isinstance(op, Upsample) and node.out.type == x.type:
        return "the size stays"
    return None

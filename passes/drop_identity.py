"""dropout(x), identity(x), concat(x), shuffle(x) with 1 group -> x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compactir.ir.channels import Indices
from compactir.ir.graph import Graph, Node, Value
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
    channel in order, a flatten of a vector, a 1x1 pool, a global pool of a 1x1 map, an upsampling by 1. Views
    and concats that together take every channel of one value in order go as a whole (a shuffle and its
    inverse, a split that is joined again); what shows the same channels as a view before it is that view.
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
        self._round_trips(edit)
        return edit.finish()

    def _round_trips(self, edit: Edit) -> None:
        """Forward what views and concats of one value put back into its place."""
        source: dict[Value, tuple[Value, Indices]] = {}  # a view -> whose channels it shows, and which
        known: dict[tuple[Value, bytes], Value] = {}
        views = [n for n in edit.graph.nodes if isinstance(n.op, View | Concat) and not edit.gone(n)]
        for node in views:
            seen = [source.get(v, (v, np.arange(v.type.channels))) for v in node.args]
            root, channels = seen[0][0], np.concatenate([places for _, places in seen])
            if any(value is not root for value, _ in seen):
                continue
            if isinstance(node.op, View):
                channels = channels[node.op.sources(len(channels)).array]
            known.setdefault((root, np.arange(root.type.channels).tobytes()), root)
            same = known.setdefault((root, channels.astype(np.int64).tobytes()), node.out)
            if same is not node.out:
                edit.forward(node.out, same)
                self.did(node, f"every channel of {same} is back in its place")
            else:
                source[node.out] = root, channels
        edit.sweep(views)


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

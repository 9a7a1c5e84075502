"""concat(conv(x), conv(x)) -> conv(x) with a kernel per block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph, Node
from compactir.ops.arrange import Concat, View
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._branches import Branch, Merge, branches
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class MergeBranches(Pass):
    """Let one convolution compute all parallel ones whose results are joined.

        %a = conv(%x, @a.weight) {connect=dense(16->64, 1x1)}
        %b = conv(%x, @b.weight) {connect=dense(16->64, 3x3, pad 1)}
        %c = concat(%a, %b)
        ->
        %c = conv(%x, @a.weight0, @a.weight1) {connect=blocks(16->128; 1 of [0..16]->[0..64], 1x1; ...)} as a

    On one value, or on slices of it: a block per branch, rows side by side where blocks read the same (Fire,
    Inception, MixNet's kernels written as branches, paths of ResNeXt). On `many` or more values: branches of
    equal shape become a grouped convolution of their concat (ResNeXt, form B to form C; BUnit-Net); fewer
    stay, as merging them saves nothing. The same activations must follow each; results have no other reader.
    Needs: bound weights. Keeps: every returned value, but for the order of sums.
    """

    name: ClassVar[str] = "merge-branches"
    many: int = 4

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        before: dict[Node, list[Node]] = {}  # what stands in front of a concat, or instead of it
        work = [n for n in graph.nodes if isinstance(n.op, Concat)]
        while work:
            concat = work.pop()
            while group := self._group(edit, concat):
                made = Merge(edit, concat, group).nodes
                before.setdefault(concat, []).extend(made)
                work += [n for n in made if isinstance(n.op, Concat)]
                self.did(concat, f"{_names(b.layer for b in group)} are one layer")
                for tail in zip(*(b.tail for b in group), strict=True):
                    self.did(tail[0], f"{_names(tail)} are one, behind it")
        graph.nodes = _placed(edit, graph.nodes, before)
        edit.sweep(n for n in graph.nodes if isinstance(n.op, View | Concat))
        return edit.finish()

    def _group(self, edit: Edit, concat: Node) -> list[Branch]:
        """Branches of a concat that can be one layer; empty when there are none (any more)."""
        on_one: dict[tuple[object, ...], list[Branch]] = {}
        on_many: dict[tuple[object, ...], list[Branch]] = {}
        for branch in branches(edit, concat):
            on_one.setdefault((branch.x, *branch.kind), []).append(branch)
            on_many.setdefault(branch.shape, []).append(branch)
        for group in on_one.values():
            if len(group) > 1:
                return group
        for group in on_many.values():
            if len(group) >= max(2, self.many):
                return group
            if len(group) > 1:
                self.left(concat, f"{len(group)} equal branches read different values: too few to gain by it")
        return []


def _names(nodes: Iterable[Node]) -> str:
    return ", ".join(f"`{node.name}`" for node in nodes)


def _placed(edit: Edit, nodes: list[Node], before: dict[Node, list[Node]]) -> list[Node]:
    """The nodes in order, each with what stands in front of it."""
    moved = {node for made in before.values() for node in made}
    placed: list[Node] = []

    def emit(node: Node) -> None:
        for made in before.get(node, []):
            emit(made)
        placed.append(node)

    for node in nodes:
        if node not in moved:
            emit(node)
    return placed

"""conv(shuffle(x)) -> conv(x) that reads other channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compactir.ir.graph import Graph, Node, Value
from compactir.ops.arrange import Concat, View
from compactir.ops.combine import Combine
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit
from compactir.passes._flow import Flow, is_lanewise
from compactir.passes._fold import Fold
from compactir.passes._orders import best_orders


@register
@dataclass(frozen=True)
class FoldShuffle(Pass):
    """Fold every fixed choice of channels (shuffle, permutation, slice, index) into what computes.

        %a = conv(%x, @a.weight) {connect=groups(2, 8->8, 1x1)}
        %s = shuffle(%a) {groups=2}
        %b = conv(%s, @b.weight) {connect=depthwise(8, 3x3, pad 1)}
        %c = conv(%b, @c.weight) {connect=groups(2, 8->8, 1x1)}
        ->
        %a = conv(%x, @a.weight) {connect=groups(2, 8->8, 1x1)}
        %b_2 = conv(%a, @b.weight) {connect=depthwise(8, 3x3, pad 1)} as b              // filters permuted
        %c = conv(%b_2, @c.weight) {connect=blocks(8->8; 2 of [0,4,1,5,2,6,3,7]->[0..8], 1x1)}

    Views are traced through other views and concats to the values that are computed; every one of those gets
    an order (`_orders.py`: per-channel operations and both operands of an add must agree, the rest votes).
    Convolutions read through a list of channels and store at permuted places, which inside one block is a
    permutation of weights; a chain of splits and concats ends as a concat of computed values. A view that
    remains feeds something that takes channels as they lie (an output, softmax, an add of different orders);
    lowering makes it a channel map.
    Needs: bound weights. Keeps: every returned value, but for the order of sums.
    """

    name: ClassVar[str] = "fold-shuffle"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        flow = Flow(graph)
        orders = best_orders(graph, flow)
        plain = all(np.array_equal(o, np.arange(len(o))) for o in orders)
        views = [n for n in graph.nodes if isinstance(n.op, View)]
        concats = [n for n in graph.nodes if isinstance(n.op, Concat)]
        if plain and not views:
            for node in concats:
                self.did(node, _PLACES)
            return False
        fold = Fold(graph, flow, orders)
        for node in list(graph.nodes):
            fold.node(node)
        fold.finish()
        self._explain(fold, views)
        for node in concats:
            self.did(node, "its parts are read where they lie" if fold.edit.gone(node) else _PLACES)
        return fold.edit.finish()

    def _explain(self, fold: Fold, views: list[Node]) -> None:
        for node in views:
            if fold.edit.gone(node):
                self.did(node, "its choice of channels is part of what computes around it")
        for node in fold.nodes:
            if isinstance(node.op, View) and not fold.edit.gone(node):
                self.left(node, "; ".join(_needs_order(fold.edit, node.out)))


_PLACES = "its parts stay where they are made: it is a list of places"


def _needs_order(edit: Edit, value: Value) -> list[str]:
    """Who wants a value's channels just as they are."""
    reasons = ["the network returns it in this order"] if value in edit.returned else []
    for reader in edit.readers(value):
        if isinstance(reader.op, Combine):
            reasons.append(f"the operands of `{reader.name}` lie in different orders")
        elif isinstance(reader.op, Concat):
            reasons.append(f"`{reader.name}` joins it with other values")
        elif is_lanewise(reader):
            reasons.append(f"`{reader.name}` keeps each channel in its lane, it picks none")
        else:
            reasons.append(f"`{reader.name}` looks across the channels in this order")
    return reasons

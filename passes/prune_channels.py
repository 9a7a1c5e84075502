"""Channels that nobody needs, or that are constant -> nothing, through everything that carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit
from compactir.passes._liveness import Liveness
from compactir.passes._prune import Prune


@register
@dataclass(frozen=True)
class PruneChannels(Pass):
    """Take channels out of every layer that makes, carries or reads them.

        %a = conv(%x, @a.weight) {connect=dense(3->4, 1x1)}             // filter 1 is zero
        %b = conv(%a, @b.weight) {connect=depthwise(4, 3x3, pad 1)}
        %c = conv(%b, @c.weight) {connect=dense(4->2, 1x1)}
        ->
        %a_2 = conv(%x, @a.weight) {connect=dense(3->3, 1x1)} as a
        %b_2 = conv(%a_2, @b.weight) {connect=depthwise(3, 3x3, pad 1)} as b
        %c = conv(%b_2, @c.weight) {connect=dense(3->2, 1x1)}

    Backwards: a channel is needed if an output depends on it: features that no later index of CondenseNet
    selects, parts of a split that nobody reads, inputs of FLGC's groups without outputs go, with the filters
    that made them. Forwards: a filter without links is its bias, a constant, which runs through activations,
    pools, depthwise filters and adds, and joins the bias of the layer that reads it; where padding puts zeros
    beside a constant other than 0 it stays a channel. Adds and depthwise filters tie: what one operand needs,
    all keep.
    Needs: bound weights. Keeps: every returned value, but for the order of sums (and NaN in a channel that
    goes).
    """

    name: ClassVar[str] = "prune-channels"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        prune = Prune(edit, Liveness(edit))
        for node in list(graph.nodes):
            if why := prune.node(node):
                self.did(node, why)
        graph.nodes = prune.nodes
        graph.outputs = {name: prune.now.get(v, v) for name, v in graph.outputs.items()}
        return edit.finish()

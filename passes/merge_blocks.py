"""Small blocks that share inputs -> fewer, larger ones, padded with zero weights where vectors are wide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Block
from compactir.ir.graph import Graph, Node
from compactir.ops.conv import Conv, extra_operands
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._blocks import Weighted, gathered
from compactir.passes._edit import Edit

_START = 16
"""What starting a block costs, in multiply-accumulates per lane: its bias, its store, the loop around it."""
_PAIRWISE = 32
"""Up to so many blocks of a component every pair is tried; above, only all of them at once."""


@register
@dataclass(frozen=True)
class MergeBlocks(Pass):
    """Join blocks where a vector unit would leave its lanes empty.

        %a = conv(%x, @a.weight) {connect=blocks(3->4; 2 of [0..2,1..3]->[0..4], 1x1)}
        ->                                                                      // with lanes=4
        %a = conv(%x, @a.weight) {connect=dense(3->4, 1x1)}

    A block of o outputs takes ⌈o / lanes⌉ vectors for each of its inputs and taps; joined, two blocks read
    the union of their inputs with zero weights between. Components of the graph of blocks and inputs are
    looked at one by one (nothing is gained across them but full vectors), and the cheaper form stays; either
    way the log has the numbers. Not in the pipeline for C, whose lowering fills vectors from several blocks
    by itself and keeps useful and executed work apart: this is for outputs that know no blocks.
    Needs: bound weights, no masks. Keeps: every returned value, but for the order of sums (and 0 · NaN).
    """

    name: ClassVar[str] = "merge-blocks"
    lanes: int = 8

    def __post_init__(self) -> None:
        """CIR404 for a vector without lanes."""
        if self.lanes < 1:
            raise CompactError("CIR404", "a vector has at least one lane", help="`merge-blocks{lanes=8}`")

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            if isinstance(node.op, Conv) and not node.op.masked and not node.op.connect.is_depthwise:
                self._join(edit, node, node.op)
        return edit.finish()

    def _join(self, edit: Edit, node: Node, op: Conv) -> None:
        blocks: list[Weighted] = []
        for family, param in zip(op.connect.families, node.params, strict=False):
            rows = edit.stored(param).reshape(family.count, family.outs, family.ins, *family.kernel)
            blocks += zip(family.blocks(), rows, strict=True)
        if len(blocks) < 2:
            return
        joined = [block for part in _components(blocks) for block in self._cheapest(part)]
        before, after = sum(map(self._cost, blocks)), sum(map(self._cost, joined))
        story = f"{len(blocks)} blocks cost {before} lane operations per pixel, {len(joined)} cost {after}"
        if len(joined) == len(blocks):
            self.left(
                node, f"{len(blocks)} blocks cost {before} lane operations per pixel, joining saves none"
            )
            return
        connect, weights = gathered(op.connect, joined)
        extra = node.args[len(node.args) - sum(map(extra_operands, op.epilogue)) :]
        bias = node.params[-1:] if op.bias else []
        edit.rewrite(node, replace(op, connect=connect), [node.args[0]], [*weights, *bias], extra)
        self.did(node, f"{story}, {len(joined)} cost {after}")

    def _cost(self, item: Weighted) -> int:
        outs, ins, kh, kw = (int(n) for n in item[1].shape)
        return (-(-outs // self.lanes) * ins * kh * kw + _START) * self.lanes

    def _cheapest(self, blocks: list[Weighted]) -> list[Weighted]:
        """The blocks of one component, joined as long as that saves."""
        if len(blocks) > _PAIRWISE:
            whole = _joined(blocks)
            return [whole] if self._cost(whole) < sum(map(self._cost, blocks)) else blocks
        while len(blocks) > 1:
            pairs = ((a, b, _joined([a, b])) for a, b in combinations(blocks, 2))
            gain, a, b, pair = max(
                ((self._cost(a) + self._cost(b) - self._cost(p), a, b, p) for a, b, p in pairs),
                key=lambda item: item[0],
            )
            if gain <= 0:
                break
            blocks = [*(x for x in blocks if x is not a and x is not b), pair]
        return blocks


def _components(blocks: list[Weighted]) -> list[list[Weighted]]:
    """Blocks that hang together through shared inputs, and can: with one kernel and padding."""
    import networkx as nx  # slow to import, and few networks need it

    graph = nx.Graph()
    for index, (block, _) in enumerate(blocks):
        kind = (block.kernel, block.pad)
        graph.add_node(index)
        graph.add_edges_from((index, (kind, channel)) for channel in block.inputs)
    return [
        [blocks[i] for i in sorted(n for n in part if isinstance(n, int))]
        for part in nx.connected_components(graph)
    ]


def _joined(blocks: list[Weighted]) -> Weighted:
    """One block of all outputs over all inputs; absent links have zero weights."""
    first = blocks[0][0]
    inputs = np.unique(np.concatenate([b.inputs.array for b, _ in blocks]))
    outputs = np.concatenate([b.outputs.array for b, _ in blocks])
    weight = np.zeros((len(outputs), len(inputs), *first.kernel), blocks[0][1].dtype)
    at = 0
    for block, part in blocks:
        columns = np.searchsorted(inputs, block.inputs.array)
        for j, column in enumerate(columns.tolist()):  # a repeated input adds up
            weight[at : at + len(part), column] += part[:, j]
        at += len(part)
    order = np.argsort(outputs, kind="stable")
    lists = ChannelList.of(inputs), ChannelList.of(outputs[order])
    return Block(*lists, first.kernel, first.pad), weight[order]

"""A convolution with a mask, or with weights that are zero -> dense blocks over the links that exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Block, Connectivity, Family
from compactir.ir.graph import Graph, Node
from compactir.ir.types import Array
from compactir.ops.conv import Conv, extra_operands
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._blocks import gathered
from compactir.passes._edit import Edit
from compactir.passes._regular import choice, regular


@register
@dataclass(frozen=True)
class CollapseSparse(Pass):
    """Turn masks into blocks: outputs that read the same inputs share one dense block.

        %a = conv(%x, @a.weight, @a.mask) {connect=dense(4->4, 1x1), masked={init="learned(2)"}}
        ->                                                     // the mask joins 0 2 -> 1 3 and 1 3 -> 0 2
        %a = conv(%x, @a.weight) {connect=blocks(4->4; 2 of [1,3,0,2]->[0,2,1,3], 1x1)}

    Exact: every link of the mask becomes one weight per tap, nothing is padded (`merge-blocks` does that).
    Learned groups (FLGC, CondenseNet) come out as their groups, of unequal and possibly empty size; pruned
    filters as shorter lists (depthwise filters stay, in their lanes); an irregular table or a random mask as
    one block per distinct row; N:M sparsity of 1x1 filters as one family of equal rows, its compact storage
    (it runs dense, vector by vector: docs/sparsity.md; the log has the cost model's numbers).
    An output without links is its bias alone. With `zeros`, a pair of channels whose weights are all 0 counts
    as no link. Masks finer than links are multiplied in.
    Needs: bound weights. Keeps: every returned value, but for the order of sums (and NaN in a channel without
    links).
    """

    name: ClassVar[str] = "collapse-sparse"
    zeros: bool = True

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            if isinstance(node.op, Conv):
                self._collapse(edit, node, node.op)
        return edit.finish()

    def ensures(self, graph: Graph) -> None:
        """No mask is left."""
        assert not any(isinstance(n.op, Conv) and n.op.masked for n in graph.nodes)

    def _collapse(self, edit: Edit, node: Node, op: Conv) -> None:
        params = node.params
        links = self._links(edit, node, op)
        before, kept = sum(link.size for link in links), sum(int(link.sum()) for link in links)
        if not op.masked and kept == before:
            self._dense(edit, node)
            return
        weights = [edit.array(p) for p in params[: len(links)]]
        if op.masked:
            weights[0] = weights[0] * edit.array(params[len(links)])
        connect, arrays = op.connect, weights
        if kept < before:
            each = zip(op.connect.families, weights, links, strict=True)
            found = [block for family, weight, link in each for block in _blocks(family, weight, link)]
            connect, arrays = gathered(op.connect, found)
        bias = params[-1:] if op.bias else []
        extra = node.args[len(node.args) - sum(map(extra_operands, op.epilogue)) :]
        new = replace(op, connect=connect, masked=None)
        edit.rewrite(node, new, [node.args[0]], [*arrays, *bias], extra)
        regularity = _regularity(weights)
        self.did(node, _story(connect, arrays, kept, before) + (f"; {regularity}" if regularity else ""))

    def _dense(self, edit: Edit, node: Node) -> None:
        """Say of zeros that are no links why they stay."""
        assert isinstance(node.op, Conv)
        weights = [edit.stored(p) for p in node.params[: len(node.op.connect.families)]]
        total, live = sum(w.size for w in weights), sum(int(np.count_nonzero(w)) for w in weights)
        if live < total and not node.op.connect.is_depthwise:
            why = _regularity(weights) or "too fine for blocks"
            self.left(node, f"{total - live} of {total} weights are zero, but every link has some: {why}")

    def _links(self, edit: Edit, node: Node, op: Conv) -> list[Array]:
        """Per family (O, I/g): which pairs of channels are connected."""
        weights = [edit.stored(p) for p in node.params[: len(op.connect.families)]]
        links = [np.ones(w.shape[:2], np.bool_) for w in weights]
        if op.connect.is_depthwise:  # lanes want every channel; `prune-channels` takes whole channels out
            return links
        if self.zeros:
            links = [(w != 0).any(axis=(2, 3)) for w in weights]
        if op.masked:
            mask = edit.stored(node.params[len(weights)])
            links[0] &= ((weights[0] * mask if self.zeros else mask) != 0).any(axis=(2, 3))
        if links and not any(link.any() for link in links):
            links[0].flat[0] = True  # one link keeps the size of the result known
        return links


def _blocks(family: Family, weight: Array, links: Array) -> Iterator[tuple[Block, Array]]:
    """The dense blocks of one family: in each of its blocks the rows with equal links."""
    for index, block in enumerate(family.blocks()):
        rows = slice(index * family.outs, (index + 1) * family.outs)
        same: dict[bytes, list[int]] = {}
        for row, link in enumerate(links[rows]):
            if link.any():
                same.setdefault(link.tobytes(), []).append(row)
        for members in same.values():
            columns = np.flatnonzero(links[rows][members[0]])
            part = weight[rows][np.ix_(np.array(members), columns)]
            inputs, outputs = block.inputs.take(columns), block.outputs.take(members)
            yield Block(inputs, outputs, family.kernel, family.pad), part


def _regularity(weights: list[Array]) -> str:
    """What the cost model says where the weights are N:M sparse; else nothing."""
    if len(weights) != 1 or weights[0].all():
        return ""
    live = weights[0] != 0
    found = regular(live)
    return choice(live, *found) if found else ""


def _story(connect: Connectivity, weights: list[Array], kept: int, before: int) -> str:
    blocks = sum(f.count for f in connect.families)
    silent = connect.out_channels - sum(len(f.outputs) for f in connect.families)
    read = np.unique(ChannelList.joined(f.inputs for f in connect.families).array)
    total, live = sum(w.size for w in weights), sum(int(np.count_nonzero(w)) for w in weights)
    parts = [f"{kept} of {before} links in {blocks} block{'s' * (blocks != 1)}"]
    if silent:
        parts.append(f"{silent} outputs are their bias alone")
    if unread := connect.in_channels - len(read):
        parts.append(f"{unread} inputs are not read")
    if live < total:
        parts.append(f"{total - live} of {total} weights inside are zero and stay: too fine for blocks")
    return "; ".join(parts)

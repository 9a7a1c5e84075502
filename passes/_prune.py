"""The rewriting behind `prune-channels`: every node without the channels that are gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compactir.ir.channels import ChannelList, Indices
from compactir.ir.connectivity import Block, Connectivity
from compactir.ir.graph import Node, Value
from compactir.ops.arrange import Concat, Gather, View
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.passes._blocks import Weighted, gathered
from compactir.passes._edit import Edit
from compactir.passes._flow import aligned_values, channels_of, is_lanewise
from compactir.passes._liveness import Liveness, families


class Prune:
    """The rewriting: `kept` are the channels of every value before that are left, `now` the values after."""

    def __init__(self, edit: Edit, live: Liveness) -> None:
        self.edit, self.live = edit, live
        self.kept = {value: np.flatnonzero(need) for value, need in live.needed.items()}
        self.now: dict[Value, Value] = {}
        self.nodes: list[Node] = []

    def node(self, node: Node) -> str:
        """Rewrite one node; says what went, if anything did."""
        kept, out = self.kept[node.out], node.out
        if not len(kept):
            self.edit.drop(node)
            return f"nobody needs {out}"
        if self.alias(node, kept):
            return "its channels are all that is left of a value"
        before = node.op
        self.rewrite(node, kept)
        gone = channels_of(out) - len(kept)
        if gone:
            self.now[out] = Value(self.edit.graph.fresh(out.name), out.type.with_channels(len(kept)))
            self.edit.remake(node, self.now[out])
        self.nodes.append(node)
        if isinstance(before, Conv | Linear) and before != node.op:
            return f"{gone} of {channels_of(out)} outputs go, {node.macs} MACs remain"
        return ""

    def alias(self, node: Node, kept: Indices) -> bool:
        """A view or concat that has become a value as it is needs no node."""
        if isinstance(node.op, View):
            x = node.args[0]
            part = node.op.sources(channels_of(x)).array[kept]
            alone = np.array_equal(part, self.kept[x]) and len(part) < channels_of(x)
        elif isinstance(node.op, Concat):
            x, part = self.parts(node, kept)[0]
            alone = len(part) == len(kept) < channels_of(node.out)
        else:
            return False
        if alone:
            self.now[node.out] = self.pick(x, part)
            self.edit.drop(node)
        return alone

    def parts(self, node: Node, kept: Indices) -> list[tuple[Value, Indices]]:
        """Which channels of which operands of a concat are left."""
        ends = np.cumsum([channels_of(x) for x in node.args])
        split = np.split(kept, np.searchsorted(kept, ends[:-1]))
        starts = [0, *ends[:-1].tolist()]
        return [(x, part - at) for x, part, at in zip(node.args, split, starts, strict=True) if len(part)]

    def rewrite(self, node: Node, kept: Indices) -> None:
        """Give a node the operands and parameters that are left."""
        whole = len(kept) == channels_of(node.out)
        if isinstance(node.op, View):
            x = node.args[0]
            sources = np.searchsorted(self.kept[x], node.op.sources(channels_of(x)).array[kept])
            if not (whole and len(self.kept[x]) == channels_of(x)):
                node.op = Gather(ChannelList.of(sources))
            self.operands(node, [self.now.get(x, x)])
        elif isinstance(node.op, Concat):
            self.rewire(node, [self.pick(x, part) for x, part in self.parts(node, kept)])
        elif is_lanewise(node):
            self.lanewise(node, kept, whole)
        elif isinstance(node.op, Conv) and not node.op.masked:
            self.convolution(node, node.op, kept)
        elif isinstance(node.op, Linear):
            self.linear(node, kept, whole)
        else:
            self.operands(node, [self.now.get(v, v) for v in node.values])

    def pick(self, value: Value, channels: Indices) -> Value:
        """These channels (numbered as before) of a value: itself where just they are left, else a view."""
        now, kept = self.now.get(value, value), self.kept[value]
        if np.array_equal(kept, channels):
            return now
        where = ChannelList.of(np.searchsorted(kept, channels))
        node = self.edit.graph.make(Gather(where), [now], f"{value.name}_live")
        self.edit.add(node)
        self.nodes.append(node)
        return node.out

    def operands(self, node: Node, values: list[Value]) -> None:
        """Other values, the same parameters."""
        self.rewire(node, node.reading(values))

    def rewire(self, node: Node, args: list[Value]) -> None:
        """Other operands, if they are others; fewer for a concat of which one has nothing left."""
        if args != node.args:
            self.edit.rewire(node, args)

    def lanewise(self, node: Node, kept: Indices, whole: bool) -> None:
        """Per-channel operations lose rows of their parameters."""
        values = [self.pick(v, kept) for v in node.values]
        op = node.op
        if isinstance(op, Conv) and not whole:
            [family], n = op.connect.families, len(kept)
            op = replace(op, connect=Connectivity.grouped(n, n, n, family.kernel, family.pad))
        if whole or not node.params:
            self.operands(node, values)
            return
        first = 1 if isinstance(op, Conv) else len(values)
        arrays = [self.edit.array(p)[kept] for p in node.params]
        self.edit.rewrite(node, op, values[:first], arrays, values[first:])

    def linear(self, node: Node, kept: Indices, whole: bool) -> None:
        """A linear layer loses rows and columns."""
        assert isinstance(node.op, Linear)
        x = node.args[0]
        if whole and len(self.kept[x]) == channels_of(x):
            self.operands(node, [self.now.get(x, x)])
            return
        bias = self.live.bias(node)[kept]
        rows = [bias] if node.op.bias or bias.any() else []
        [_, [[live]]] = self.live.links(node)
        matrix = (self.edit.array(node.params[0]) * live)[np.ix_(kept, self.kept[x])]
        self.edit.rewrite(node, Linear(len(kept), bool(rows)), [self.now.get(x, x)], [matrix, *rows])

    def convolution(self, node: Node, op: Conv, kept: Indices) -> None:
        """Blocks lose rows that nobody needs, and columns that are gone or constant."""
        x = node.args[0]
        extra = [self.pick(v, kept) for v in aligned_values(node)]
        now = self.now.get(x, x)
        same = len(kept) == channels_of(node.out) and len(self.kept[x]) == channels_of(x)
        if same and not self.live.folds_any(node):
            self.operands(node, [now, *extra])
            return
        bias = self.live.bias(node)[kept]
        shape = Connectivity(channels_of(now), len(kept), ())
        connect, weights = gathered(shape, self.blocks(node, x, kept))
        arrays = [*weights, bias] if op.bias or bias.any() else weights
        new = replace(op, connect=connect, bias=len(arrays) > len(weights))
        self.edit.rewrite(node, new, [now], arrays, extra)

    def blocks(self, node: Node, x: Value, kept: Indices) -> list[Weighted]:
        """What is left of every block, in the numbering after; one zero link where nothing is left."""
        found: list[Weighted] = []
        for (family, weight), live in zip(families(self.edit, node), self.live.links(node)[1], strict=True):
            each = weight.reshape(family.count, family.outs, family.ins, *family.kernel)
            for block, links, w in zip(family.blocks(), live, each, strict=True):
                links = links & np.isin(block.outputs.array, kept)[:, None]
                rows, columns = np.flatnonzero(links.any(axis=1)), np.flatnonzero(links.any(axis=0))
                if not len(rows):
                    continue
                ins = np.searchsorted(self.kept[x], block.inputs.array[columns])
                outs = np.searchsorted(kept, block.outputs.array[rows])
                lists = ChannelList.of(ins), ChannelList.of(outs)
                found.append((Block(*lists, family.kernel, family.pad), w[np.ix_(rows, columns)]))
        if not found:
            assert isinstance(node.op, Conv)
            for family in node.op.connect.families[:1]:
                one = ChannelList.span(0, 1)
                found.append((Block(one, one, family.kernel, family.pad), np.zeros((1, 1, *family.kernel))))
        return found

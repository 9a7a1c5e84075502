"""Where every channel of every value really comes from, looking through shuffle, gather, slice and concat.

A value is *computed* when it is an input or made by anything but a view or concat. Every channel of every
computed value has a number of its own (an id), and any value is an array of ids: `ids[value][c]` is the
channel that channel c of the value is a copy of. A view only picks ids, a concat joins them.
"""

from __future__ import annotations

import numpy as np

from compactir.ir.channels import Indices
from compactir.ir.graph import Graph, Node, Value
from compactir.ops.arrange import AsMap, AsSequence, Concat, Flatten, View
from compactir.ops.conv import Conv, extra_operands


def channels_of(value: Value) -> int:
    """How many channels a value has; a tensor without an axis for them counts as one."""
    return value.type.channels if value.type.rank > 1 else 1


class Flow:
    """The ids of all values of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.computed: list[Value] = []
        self.ids: dict[Value, Indices] = {}
        self._bases: list[int] = []
        self.total = 0
        for value in graph.inputs:
            self._compute(value)
        for node in graph.nodes:
            if isinstance(node.op, View):
                x = node.args[0]
                self.ids[node.out] = self.ids[x][node.op.sources(channels_of(x)).array]
            elif isinstance(node.op, Concat):
                self.ids[node.out] = np.concatenate([self.ids[x] for x in node.args])
            else:
                self._compute(node.out)
        self.bases = np.array(self._bases, np.int64)

    def _compute(self, value: Value) -> None:
        channels = channels_of(value)
        self._bases.append(self.total)
        self.computed.append(value)
        self.ids[value] = np.arange(self.total, self.total + channels)
        self.total += channels

    def own(self, index: int) -> Indices:
        """The ids of a computed value."""
        return self.ids[self.computed[index]]

    def owners(self, ids: Indices) -> Indices:
        """For every id the index of the computed value that it is a channel of."""
        return np.searchsorted(self.bases, ids, side="right") - 1

    def permuted(self, ids: Indices) -> tuple[int, Indices] | None:
        """(index, channels) where ids are all channels of one computed value, each once, in some order."""
        index = int(self.owners(ids[:1])[0])
        channels = ids - self.bases[index]
        size = channels_of(self.computed[index])
        if len(ids) != size or channels.min() < 0 or channels.max() >= size:
            return None
        return (index, channels) if np.bincount(channels, minlength=size).max() == 1 else None


def is_lanewise(node: Node) -> bool:
    """True when channel c of the result depends on channel c of every value and parameter alone."""
    op = node.op
    if isinstance(op, Conv):
        return op.connect.groups == op.connect.in_channels == op.connect.out_channels
    if isinstance(op, Flatten | AsMap | AsSequence):
        return channels_of(node.args[0]) == channels_of(node.out)
    return op.per_channel


def aligned_values(node: Node) -> list[Value]:
    """The operands whose channel c meets channel c of the result: all, or only those of an epilogue."""
    if is_lanewise(node):
        return node.values
    if isinstance(node.op, Conv):
        count = sum(map(extra_operands, node.op.epilogue))
        return node.args[len(node.args) - count :]
    return []


def keeps_lanes(node: Node) -> bool:
    """Lanewise, or depthwise with kernels of several sizes: the order is the same in and out."""
    return is_lanewise(node) or (isinstance(node.op, Conv) and node.op.connect.is_depthwise)


def tied_values(node: Node) -> list[Value]:
    """The operands that have to be stored in the order of the result."""
    return node.values if keeps_lanes(node) else aligned_values(node)

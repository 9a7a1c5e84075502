"""What passes wrote in one operation, in the words of the language: as many operations as it takes.

%a = gather(%x) {channels=[0,4,1,5]}          %s = shuffle(%x) {groups=2}
%b = gather(%x) {channels=[2,6,3,7]}    ->    %a = gather(%s) {channels=0..4}
                                              %b = gather(%s) {channels=4..8}

%y = conv(%x, @w) {connect=blocks(8->8; 4 of [0,4,1,5,2,6,3,7]->[0..8], 1x1)}
    ->    %s = shuffle(%x) {groups=2}
          %y = conv(%s, @w) {connect=groups(4, 8->8, 1x1)}

Several kernels over parts of a value become slices, convolutions and a concat (`take_apart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compactir.ir.channels import ChannelList, divisors, inverse, is_permutation, shuffle
from compactir.ir.connectivity import Connectivity, Family
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.op import Op
from compactir.lang.write.calls import call_of
from compactir.ops.arrange import Gather, Shuffle
from compactir.ops.conv import Conv
from compactir.passes import parts_by_family, parts_by_output, rows_of, take_apart

__all__ = ["respelled"]

MOST_PARTS = 16
"""So many stand in the order of their outputs; of more, those of a kernel become one, with a permutation."""


def respelled(graph: Graph) -> Graph:
    """A copy with words for everything that has some."""
    copy = graph.clone()
    _whole_shuffles(copy)
    for node in list(copy.nodes):
        op = node.op
        if not isinstance(op, Conv) or op.masked or op.epilogue or call_of(node) is not None:
            continue
        if not _consecutive(copy, node, op):
            _apart(copy, node, op)
    return copy


# -- parts of a shuffled value -------------------------------------------------------------------------------


def _whole_shuffles(graph: Graph) -> None:
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Gather) and not node.op.channels.is_plain_range:
            readers.setdefault(node.values[0], []).append(node)
    for value, nodes in readers.items():
        if len(nodes) > 1 and (found := _parts_of_shuffle(value.type.channels, nodes)):
            groups, parts = found
            shuffled = graph.make(Shuffle(groups), [value], f"{nodes[0].name}_shuffle")
            graph.nodes.insert(graph.nodes.index(nodes[0]), shuffled)
            for node, (first, last) in zip(nodes, parts, strict=True):
                node.op, node.args = Gather(ChannelList.range(first, last)), [shuffled.out]


def _parts_of_shuffle(channels: int, nodes: Sequence[Node]) -> tuple[int, list[tuple[int, int]]] | None:
    """(groups, which channels of the shuffled value each node picks), if all pick consecutive ones."""
    lists = [np.array(node.op.channels) for node in nodes if isinstance(node.op, Gather)]
    for groups in divisors(channels)[1:-1]:
        place = np.array(inverse(shuffle(channels, groups)))
        parts = [(int(place[c[0]]), int(place[c[0]]) + len(c)) for c in lists]
        if all(np.array_equal(place[c], np.arange(a, b)) for c, (a, b) in zip(lists, parts, strict=True)):
            return groups, parts
    return None


# -- convolutions with lists of channels ---------------------------------------------------------------------


def _consecutive(graph: Graph, node: Node, op: Conv) -> bool:
    """Blocks over consecutive channels, with the lists around the convolution; False without words for it."""
    blocks = [(k, block) for k, family in enumerate(op.connect.families) for block in family.blocks()]
    by_output = sorted(blocks, key=lambda entry: int(entry[1].outputs[0]))
    for order in (by_output, blocks):
        read = ChannelList.joined(block.inputs for _, block in order)
        made = ChannelList.joined(block.outputs for _, block in order)
        if not is_permutation(made) or len(made) != op.connect.out_channels:
            continue
        families = _over_consecutive(op.connect.families, [k for k, _ in order])
        source = node.values[0]
        picked = Value("picked", source.type.with_channels(len(read)))
        plain = replace(op, connect=Connectivity(len(read), len(made), families))
        if call_of(Node(plain, [picked, *node.params], node.out, node.name)) is not None:
            _rewrite(graph, node, plain, read, made)
            return True
    return False


def _over_consecutive(families: Sequence[Family], order: Sequence[int]) -> tuple[Family, ...]:
    """The same blocks over consecutive channels, in this order of families."""
    reads: list[list[range]] = [[] for _ in families]
    makes: list[list[range]] = [[] for _ in families]
    at_in = at_out = 0
    for k in order:
        reads[k].append(range(at_in, at_in + families[k].ins))
        makes[k].append(range(at_out, at_out + families[k].outs))
        at_in, at_out = at_in + families[k].ins, at_out + families[k].outs
    return tuple(
        Family(f.count, _joined(r), _joined(m), f.kernel, f.pad)
        for f, r, m in zip(families, reads, makes, strict=True)
    )


def _rewrite(graph: Graph, node: Node, plain: Conv, read: ChannelList, made: ChannelList) -> None:
    """Put the lists before and behind the convolution."""
    place, source = graph.nodes.index(node), node.values[0]
    if not read.is_identity(source.type.channels):
        before = graph.make(_picking(read, source.type.channels), [source], f"{node.name}_in")
        graph.nodes.insert(place, before)
        node.args = [before.out, *node.args[1:]]
    node.op = plain
    if not made.is_identity(len(made)):
        if plain.bias:
            node.args[-1] = rows_of(graph, node.args[-1], made.array, f"{node.name}.bias")
        after = graph.make(_picking(inverse(made), len(made)), [node.out], f"{node.name}_out")
        graph.replace_uses(node.out, after.out)
        graph.nodes.insert(graph.nodes.index(node) + 1, after)


def _apart(graph: Graph, node: Node, op: Conv) -> None:
    """Several convolutions, where every output has a block that reads something."""
    made = sum(len(family.outputs) for family in op.connect.families if family.ins)
    if len(op.connect.families) < 2 or made < op.connect.out_channels:
        return
    parts = parts_by_output(op.connect)
    if len(parts) > max(MOST_PARTS, len(op.connect.families)):
        parts = parts_by_family(op.connect)
    place = graph.nodes.index(node)
    graph.nodes[place:place] = take_apart(graph, node, parts)
    if isinstance(node.op, Gather):
        node.op = _picking(node.op.channels, op.connect.out_channels)


def _joined(ranges: Sequence[range]) -> ChannelList:
    return ChannelList.of([channel for one in ranges for channel in one])


def _picking(channels: ChannelList, of: int) -> Op:
    """A shuffle, if the list is one."""
    if len(channels) == of:
        for groups in divisors(of)[1:-1]:
            if np.array_equal(channels.array, shuffle(of, groups).array):
                return Shuffle(groups)
    return Gather(channels)

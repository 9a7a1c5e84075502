"""What is written: a list of calls on values, in the order in which the file will make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList, divisors, inverse, shuffle
from compactir.ir.graph import Graph, Node, Value
from compactir.lang.write.calls import Call, call_of, shares
from compactir.ops.arrange import Gather, Shuffle

__all__ = ["Item", "items_of", "sorted_nodes", "with_whole_shuffles"]


@dataclass(eq=False)
class Item:
    """One call: of an operation or, once pieces that repeat have been found, of a block."""

    call: Call
    operands: list[Value]
    results: list[Value]
    nodes: list[Node] = field(default_factory=list)
    block: bool = False
    """Whether it calls a block."""

    @property
    def out(self) -> Value:
        """The only result."""
        return self.results[0]


def sorted_nodes(graph: Graph) -> list[Node]:
    """The nodes that outputs need, operands first and one after the other: branches stay together."""
    makers, done, order = graph.makers(), set[int](), list[Node]()
    stack: list[tuple[Value, bool]] = [(value, False) for value in reversed(graph.outputs.values())]
    while stack:
        value, ready = stack.pop()
        node = makers.get(value)
        if node is None or id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((value, True))
        stack += [(arg, False) for arg in reversed(node.values)]
    return order


def with_whole_shuffles(graph: Graph) -> Graph:
    """A copy in which parts of a shuffled value are slices of one shuffle.

    %a = gather(%x) {channels=[0,4,1,5]}          %s = shuffle(%x) {groups=2}
    %b = gather(%x) {channels=[2,6,3,7]}    ->    %a = gather(%s) {channels=0..4}
                                                  %b = gather(%s) {channels=4..8}
    """
    copy = graph.clone()
    readers: dict[Value, list[Node]] = {}
    for node in copy.nodes:
        if isinstance(node.op, Gather) and not node.op.channels.is_plain_range:
            readers.setdefault(node.values[0], []).append(node)
    for value, nodes in readers.items():
        if len(nodes) > 1 and (found := _shuffled(value.type.channels, nodes)):
            groups, parts = found
            shuffled = copy.make(Shuffle(groups), [value], f"{nodes[0].name}_shuffle")
            copy.nodes.insert(copy.nodes.index(nodes[0]), shuffled)
            for node, (first, last) in zip(nodes, parts, strict=True):
                node.op, node.args = Gather(ChannelList.range(first, last)), [shuffled.out]
    return copy


def _shuffled(channels: int, nodes: Sequence[Node]) -> tuple[int, list[tuple[int, int]]] | None:
    """(groups, which channels of the shuffled value each node picks), if all pick consecutive ones."""
    lists = [np.array(node.op.channels) for node in nodes if isinstance(node.op, Gather)]
    for groups in divisors(channels)[1:-1]:
        order = shuffle(channels, groups)
        place = np.array(inverse(order))
        parts = [(int(place[c[0]]), int(place[c[0]]) + len(c)) for c in lists]
        if all(np.array_equal(place[c], np.arange(a, b)) for c, (a, b) in zip(lists, parts, strict=True)):
            return groups, parts
    return None


def items_of(nodes: Sequence[Node]) -> list[Item]:
    """The calls, slices that cut a value into consecutive parts as one `split`.

    Errors: CIR680 with every node that the language has no word for.
    """
    parts = _splits(nodes)
    items, unknown, made = list[Item](), list[Node](), set[int]()
    for node in nodes:
        if id(node) in made:
            continue
        if group := parts.get(id(node)):
            made |= {id(n) for n in group}
            sizes = [n.out.type.channels for n in group]
            call = Call("split", (("sizes", tuple(shares(sizes))),))
            items.append(Item(call, [group[0].values[0]], [n.out for n in group], group))
        elif call_found := call_of(node):
            items.append(Item(call_found, node.values, [node.out], [node]))
        else:
            unknown.append(node)
    if unknown:
        raise CompactError(
            "CIR680",
            f"the language has no words for {len(unknown)} of the operations",
            notes=[
                f"`{node.name}`: {node.op.name} of {', '.join(str(v.type) for v in node.values)}"
                for node in unknown
            ],
            help="keep the graph as text: `compactc MODEL --emit ir`",
        )
    return items


def _splits(nodes: Sequence[Node]) -> dict[int, list[Node]]:
    """First slice → all slices of one value, where they follow each other and cover its channels."""
    readers: dict[Value, list[tuple[int, int, Node]]] = {}
    for node in nodes:
        if isinstance(node.op, Gather) and node.op.channels.is_plain_range:
            ends = (node.op.channels[0], node.op.channels[-1] + 1)
            readers.setdefault(node.values[0], []).append((*ends, node))
    found: dict[int, list[Node]] = {}
    for value, slices in readers.items():
        slices.sort(key=lambda entry: entry[:2])
        whole = slices[0][0] == 0 and slices[-1][1] == value.type.channels
        if len(slices) > 1 and whole and all(a[1] == b[0] for a, b in pairwise(slices)):
            group = [node for *_, node in slices]
            found |= {id(node): group for node in group}
    return found

"""What is written: a list of calls on values, in the order in which the file will make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph, Node, Value
from compactir.lang.write.calls import Call, call_of, shares
from compactir.ops.arrange import Gather

__all__ = ["Item", "items_of", "sorted_nodes"]


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

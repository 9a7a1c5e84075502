"""In which order the channels of every computed value are best stored.

Values that meet lane by lane (activations, pools, depthwise filters, both operands of an add) are tied: the
order of one gives the order of the other. Within such a class of values every producer and reader votes, with
a weight, for the order that would suit it; the order with most votes is taken. A dense convolution has no
wish: it stores and reads in any order by permuting its weights.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from compactir.ir.channels import ChannelList, Indices, is_permutation
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ops.arrange import Concat, View
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.passes._flow import Flow, keeps_lanes, tied_values

# Weights of votes per channel. A wish that is not met costs a view that stays (the caller's order, operations
# that look across channels), a scattered store, lanes that mix kernels, or only a list of scalar reads.
_VIEW, _STORE, _MIXED, _READ = 8, 4, 6, 1

Ties = dict[int, list[tuple[int, Indices]]]
"""Index -> (other index, p): other's order is p taken at this one's order."""


@dataclass
class Wishes:
    """Who wants which order, by the index of a computed value, each with the weight of its vote."""

    orders: dict[int, list[tuple[int, Indices]]] = field(default_factory=lambda: defaultdict(list))
    as_stored: dict[int, list[tuple[int, Indices]]] = field(default_factory=lambda: defaultdict(list))
    """Wants the order in which the channels with these ids come to lie."""
    fixed: set[int] = field(default_factory=set)
    """Values whose order cannot be changed at all."""


def best_orders(graph: Graph, flow: Flow) -> list[Indices]:
    """For every computed value the logical channel at each stored position."""
    ties, wishes = _ties(graph, flow), _wishes(graph, flow)
    orders: dict[int, Indices] = {}
    stored = np.arange(flow.total)  # id -> id of the place where it is stored, as far as that is decided
    for root in range(len(flow.computed)):
        if root in orders:
            continue
        seen = _reach(root, ties, np.arange(len(flow.own(root))))
        tally: dict[bytes, int] = defaultdict(int, {seen[root].tobytes(): 0})
        for index, from_root in seen.items():
            back = np.argsort(from_root, kind="stable")
            late = ((weight, _lying(flow, stored[ids])) for weight, ids in wishes.as_stored.get(index, []))
            for weight, wish in (*wishes.orders.get(index, []), *late):
                tally[back[wish].tobytes()] += weight
        chosen = np.frombuffer(max(tally, key=lambda k: tally[k]), np.int64)
        for index, from_root in seen.items():
            orders[index] = np.arange(len(chosen)) if index in wishes.fixed else from_root[chosen]
            stored[flow.own(index)[orders[index]]] = flow.own(index)
    return [orders[i] for i in range(len(orders))]


def _ties(graph: Graph, flow: Flow) -> Ties:
    ties: Ties = defaultdict(list)
    for node in graph.nodes:
        for value in tied_values(node):
            if (found := flow.permuted(flow.ids[value])) is not None:
                source, channels = found
                out = int(flow.owners(flow.ids[node.out][:1])[0])
                ties[out].append((source, channels))
                ties[source].append((out, np.argsort(channels, kind="stable")))
    return ties


def _reach(root: int, ties: Ties, identity: Indices) -> dict[int, Indices]:
    """Every value tied to the root, with the order it would have if the root kept its own."""
    seen, queue = {root: identity}, [root]
    for index in queue:
        for other, p in ties.get(index, []):
            if other not in seen:
                seen[other] = p[seen[index]]
                queue.append(other)
    return seen


def _wishes(graph: Graph, flow: Flow) -> Wishes:
    wishes = Wishes(fixed=set(range(len(graph.inputs))))

    def wish(ids: Indices, weight: int, order: Indices | None = None) -> None:
        if (found := flow.permuted(ids)) is not None:
            index, channels = found
            wanted = channels if order is None else channels[order]
            wishes.orders[index].append((weight * len(ids), wanted))

    for index in wishes.fixed:
        wish(flow.own(index), _VIEW)
    for node in graph.nodes:
        if isinstance(node.op, View | Concat):
            continue
        ids = flow.ids[node.out]
        if isinstance(node.op, Conv):
            if (order := _produced(node.op.connect)) is not None:
                wish(ids, _MIXED if keeps_lanes(node) else _STORE, order)
            if not keeps_lanes(node) and (order := _read(node.op.connect)) is not None:
                wish(flow.ids[node.args[0]], _READ, order)
        if keeps_lanes(node):
            if all(flow.permuted(flow.ids[v]) is None for v in node.values):
                read = flow.ids[node.values[0]]
                wishes.as_stored[int(flow.owners(ids[:1])[0])].append((_STORE * len(ids), read))
        elif not isinstance(node.op, Conv | Linear):
            wishes.fixed.add(int(flow.owners(ids[:1])[0]))
            for value in [*node.values, node.out]:
                wish(flow.ids[value], _VIEW)
    for value in graph.outputs.values():
        wish(flow.ids[value], _VIEW)
    return wishes


def _lying(flow: Flow, ids: Indices) -> Indices:
    """The order in which channels of several values lie: as they come if all of them are whole."""
    owners = dict.fromkeys(flow.owners(ids).tolist())
    whole = np.concatenate([flow.own(i) for i in owners])
    return np.arange(len(ids)) if np.array_equal(whole, ids) else np.argsort(ids, kind="stable")


def _produced(connect: Connectivity) -> Indices | None:
    """The outputs in the order of the blocks; None where that says nothing: one block, plain depthwise."""
    if len(connect.families) == 1 and (connect.families[0].count == 1 or connect.is_depthwise):
        return None
    made = np.concatenate([f.outputs.array for f in connect.families] or [np.empty(0, np.int64)])
    return np.concatenate([made, np.setdiff1d(np.arange(connect.out_channels), made)])


def _read(connect: Connectivity) -> Indices | None:
    """An order in which the inputs of each block lie together, if several blocks read all inputs once."""
    read = ChannelList.joined(f.inputs for f in connect.families)
    several = sum(f.count for f in connect.families) > 1
    if not several or len(read) != connect.in_channels or not is_permutation(read):
        return None
    blocks = (block.inputs.array for family in connect.families for block in family.blocks())
    rows = [np.sort(inputs) for inputs in blocks if len(inputs)]
    return np.concatenate(sorted(rows, key=lambda row: int(row[0])))

"""In which order the channels of every computed value are best stored.

Values that meet lane by lane (activations, pools, depthwise filters, both operands of an add) are tied: the
order of one gives the order of the other. Within such a class of values every producer and reader votes, with
a weight, for the order that would suit it; the order with most votes is taken. A dense convolution has no
wish: it stores and reads in any order by permuting its weights.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from compactir.ir.channels import ChannelList, Indices, is_permutation
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ops.arrange import Concat, View
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.passes._flow import Flow, aligned_values, is_lanewise

# Weights of votes per channel. A wish that is not met costs a view that stays (the caller's order, operations
# that look across channels), a scattered store, lanes that mix kernels, or only a list of scalar reads.
_VIEW, _STORE, _MIXED, _READ = 8, 4, 6, 1

Votes = dict[int, list[tuple[int, Indices]]]


def best_orders(graph: Graph, flow: Flow) -> list[Indices]:
    """For every computed value the logical channel at each stored position."""
    ties = _ties(graph, flow)
    votes, fixed = _votes(graph, flow)
    orders: dict[int, Indices] = {}
    for root in range(len(flow.computed)):
        if root in orders:
            continue
        seen = _reach(root, ties, np.arange(len(flow.own(root))))
        tally: dict[bytes, int] = defaultdict(int, {seen[root].tobytes(): 0})
        for index, from_root in seen.items():
            back = np.argsort(from_root, kind="stable")
            for weight, wish in votes.get(index, []):
                tally[back[wish].tobytes()] += weight
        chosen = np.frombuffer(max(tally, key=lambda k: tally[k]), np.int64)
        for index, from_root in seen.items():
            orders[index] = np.arange(len(chosen)) if index in fixed else from_root[chosen]
    return [orders[i] for i in range(len(orders))]


def _ties(graph: Graph, flow: Flow) -> dict[int, list[tuple[int, Indices]]]:
    """Index -> (other index, p): other's order is p taken at this one's order."""
    ties: dict[int, list[tuple[int, Indices]]] = defaultdict(list)
    for node in graph.nodes:
        for value in aligned_values(node):
            if (found := flow.permuted(flow.ids[value])) is not None:
                source, channels = found
                out = int(flow.owners(flow.ids[node.out][:1])[0])
                ties[out].append((source, channels))
                ties[source].append((out, np.argsort(channels, kind="stable")))
    return ties


def _reach(root: int, ties: dict[int, list[tuple[int, Indices]]], identity: Indices) -> dict[int, Indices]:
    """Every value tied to the root, with the order it would have if the root kept its own."""
    seen, queue = {root: identity}, [root]
    for index in queue:
        for other, p in ties.get(index, []):
            if other not in seen:
                seen[other] = p[seen[index]]
                queue.append(other)
    return seen


def _votes(graph: Graph, flow: Flow) -> tuple[Votes, set[int]]:
    """The wishes of producers and readers, and the values whose order cannot be changed at all."""
    votes: Votes = defaultdict(list)
    fixed = set(range(len(graph.inputs)))

    def wish(ids: Indices, weight: int, order: Indices | None = None) -> None:
        if (found := flow.permuted(ids)) is not None:
            index, channels = found
            votes[index].append((weight * len(ids), channels if order is None else channels[order]))

    for index in fixed:
        wish(flow.own(index), _VIEW)
    for node in graph.nodes:
        if isinstance(node.op, View | Concat):
            continue
        out = int(flow.owners(flow.ids[node.out][:1])[0])
        if is_lanewise(node):
            if all(flow.permuted(flow.ids[v]) is None for v in node.values):
                wish(flow.own(out), _STORE, np.argsort(flow.ids[node.values[0]], kind="stable"))
        elif isinstance(node.op, Conv):
            if (order := _produced(node.op.connect)) is not None:
                wish(flow.own(out), _MIXED if node.op.connect.is_depthwise else _STORE, order)
            if (order := _read(node.op.connect)) is not None:
                wish(flow.ids[node.args[0]], _MIXED if node.op.connect.is_depthwise else _READ, order)
        elif not isinstance(node.op, Linear):
            fixed.add(out)
            for value in [*node.values, node.out]:
                wish(flow.ids[value], _VIEW)
    for value in graph.outputs.values():
        wish(flow.ids[value], _VIEW)
    return votes, fixed


def _produced(connect: Connectivity) -> Indices | None:
    """The outputs in the order of the blocks; None for one block, which has no order of its own."""
    if len(connect.families) == 1 and connect.families[0].count == 1:
        return None
    made = np.concatenate([f.outputs.array for f in connect.families] or [np.empty(0, np.int64)])
    return np.concatenate([made, np.setdiff1d(np.arange(connect.out_channels), made)])


def _read(connect: Connectivity) -> Indices | None:
    """The inputs in the order of the blocks, where there are several that read every input once."""
    read = ChannelList.joined(f.inputs for f in connect.families)
    several = sum(f.count for f in connect.families) > 1
    whole = len(read) == connect.in_channels and is_permutation(read)
    return read.array if several and whole else None

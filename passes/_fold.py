"""The rewriting behind `fold-shuffle`: every node reads computed values as they are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compactir.ir.channels import ChannelList, Indices
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat, Gather, View
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.passes._blocks import sorted_blocks
from compactir.passes._edit import Edit
from compactir.passes._flow import Flow, is_lanewise, keeps_lanes, tied_values


class Fold:
    """The rewriting: nodes in their order, each reading computed values as they are stored."""

    def __init__(self, graph: Graph, flow: Flow, orders: list[Indices]) -> None:
        self.graph, self.flow, self.orders = graph, flow, orders
        self.edit = Edit(graph)
        self.nodes: list[Node] = []
        self.known: dict[bytes, Value] = {}  # the stored ids of a value -> the value
        self.plain: set[Value] = set(graph.inputs)  # computed values, and concats of plain values
        self.stored = np.empty(flow.total, np.int64)  # id -> id of the place where it is stored
        for index, order in enumerate(orders):
            self.stored[flow.own(index)[order]] = flow.own(index)
        for value in graph.inputs:
            self.known[self.places(value).tobytes()] = value

    def places(self, value: Value) -> Indices:
        """The stored ids of a value of the graph before."""
        return self.stored[self.flow.ids[value]]

    def node(self, node: Node) -> None:
        """Rewrite one node and everything it needs before it."""
        if isinstance(node.op, View | Concat):
            self.rewire(node, self.same(node.args))
            self.emit(node, flat=set(node.args) <= self.plain)
            if isinstance(node.op, Concat) and set(node.args) <= self.plain:
                self.plain.add(node.out)
            return
        order = self.orders[int(self.flow.owners(self.flow.ids[node.out][:1])[0])]
        kept = bool(np.array_equal(order, np.arange(len(order))))
        if is_lanewise(node):
            self.lanewise(node, order, kept)
        elif isinstance(node.op, Conv):
            self.convolution(node, node.op, order, kept)
        elif isinstance(node.op, Linear):
            self.linear(node, order, kept)
        else:
            self.rewire(node, node.reading(self.same(node.values)))
        if kept:
            self.emit(node)
            return
        logical = node.out
        self.edit.remake(node, Value(self.graph.fresh(logical.name), logical.type))
        self.emit(node, self.flow.ids[logical])
        back = ChannelList.of(np.argsort(order, kind="stable"))
        self.emit(Node(Gather(back), [node.out], logical, logical.name, node.span), new=True)

    def finish(self) -> None:
        """Let the network return values that are there, and drop what nobody reads any more."""
        outputs = dict(zip(self.graph.outputs, self.same(list(self.graph.outputs.values())), strict=True))
        self.edit.changed |= outputs != self.graph.outputs
        self.graph.outputs, self.graph.nodes = outputs, self.nodes
        self.edit.returned = set(outputs.values())
        self.edit.sweep(n for n in self.nodes if isinstance(n.op, View | Concat))

    def same(self, values: list[Value]) -> list[Value]:
        """For each value the first that holds the same channels."""
        return [self.known.get(self.places(v).tobytes(), v) for v in values]

    def emit(self, node: Node, places: Indices | None = None, new: bool = False, flat: bool = True) -> None:
        """Put a node into the list, and know its value unless that is a view of views.

        `places`: the stored ids of what it makes, if that is no value of the graph before.
        """
        self.nodes.append(node)
        if not flat:
            return
        if not isinstance(node.op, View | Concat):
            self.plain.add(node.out)
        if new:
            self.edit.add(node)
        self.known.setdefault((self.places(node.out) if places is None else places).tobytes(), node.out)

    def value(self, places: Indices, name: str) -> Value:
        """A value whose channels are these: a stored one, else a view or concat made for it."""
        if (known := self.known.get(places.tobytes())) is not None:
            return known
        container, positions = self.container(places, name)
        if positions is None:
            return container
        node = self.graph.make(Gather(ChannelList.of(positions)), [container], f"{name}_view")
        self.emit(node, places, new=True)
        return node.out

    def container(self, places: Indices, name: str) -> tuple[Value, Indices | None]:
        """A value that holds these channels as stored, and where they are in it (None: all, in order)."""
        owners = self.flow.owners(places).tolist()
        used = list(dict.fromkeys(owners))  # in this order if there is such a value, else as they were made
        if np.concatenate([self.flow.own(i) for i in used]).tobytes() not in self.known:
            used.sort()
        parts = [self.flow.own(i) for i in used]
        whole = np.concatenate(parts)
        if whole.tobytes() not in self.known:
            node = self.graph.make(Concat(), [self.known[p.tobytes()] for p in parts], f"{name}_parts")
            self.emit(node, whole, new=True)
        if np.array_equal(whole, places):
            return self.known[whole.tobytes()], None
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        moved = {i: start - int(self.flow.bases[i]) for i, start in zip(used, starts, strict=False)}
        return self.known[whole.tobytes()], places + np.array([moved[i] for i in owners], np.int64)

    def aligned(self, node: Node, order: Indices) -> list[Value]:
        """The operands that meet the result lane by lane, in its order."""
        return [self.value(self.places(v)[order], node.name) for v in tied_values(node)]

    def lanewise(self, node: Node, order: Indices, kept: bool) -> None:
        values = self.aligned(node, order)
        if not kept and node.params:
            arrays: list[Value | Array] = [self.edit.array(p)[order] for p in node.params]
            extra = len(node.values) - 1 if isinstance(node.op, Conv) else 0
            split = len(values) - extra
            self.edit.rewrite(node, node.op, values[:split], arrays, values[split:])
        else:
            self.rewire(node, node.reading(values))

    def convolution(self, node: Node, op: Conv, order: Indices, kept: bool) -> None:
        """A convolution reads any channels and stores in any order."""
        extra = self.aligned(node, order)
        if keeps_lanes(node):
            container, positions = extra.pop(0), None if kept else np.argsort(order, kind="stable")
        else:
            container, positions = self.container(self.places(node.args[0]), node.name)
        if positions is None and kept:
            self.rewire(node, [container, *node.params, *extra])
            return
        connect, params = op.connect, [self.edit.array(p) for p in node.params]
        if positions is not None:
            connect = connect.reading(ChannelList.of(positions), container.type.channels)
        bias = [params.pop()[order]] if op.bias else []
        mask = params.pop() if op.masked else None
        if mask is not None and len(params) > 1:  # a mask goes with the only weight, or into it
            params[0], mask, op = params[0] * mask, None, replace(op, masked=None)
        if not kept:
            connect = connect.writing(ChannelList.of(order))
        connect, weights, mask = sorted_blocks(connect, params, mask)
        arrays = [*weights, *([] if mask is None else [mask]), *bias]
        self.edit.rewrite(node, replace(op, connect=connect), [container], arrays, extra)

    def linear(self, node: Node, order: Indices, kept: bool) -> None:
        """A linear layer reads every channel of its operand: a permutation moves into its columns."""
        ids = self.flow.ids[node.args[0]]
        found = self.flow.permuted(ids)
        places = self.places(node.args[0])
        whole = self.flow.own(found[0]) if found else places
        x = self.value(whole, node.name)
        if kept and np.array_equal(whole, places):
            self.rewire(node, [x, *node.params])
            return
        columns = np.argsort(places, kind="stable")
        weight, *bias = (self.edit.array(p) for p in node.params)
        self.edit.rewrite(node, node.op, [x], [weight[order][:, columns], *(b[order] for b in bias)])

    def rewire(self, node: Node, args: list[Value]) -> None:
        """Other operands, if they are others."""
        if args != node.args:
            self.edit.rewire(node, args)

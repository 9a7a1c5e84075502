"""Bookkeeping that rewriting passes share: who makes and reads a value, new parameters, dropped nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.op import Op
from compactir.ir.types import Array


class Edit:
    """One round of edits of a graph: begin with `Edit(graph)`, end with `finish()`. Linear in total.

    `makers` and readers are kept up to date by the methods here, not by assignments to nodes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = graph.makers()
        self._readers: dict[Value, dict[Node, int]] = {}  # how often each node reads the value
        for node in graph.nodes:
            self._count(node, 1)
        self.returned = set(graph.outputs.values())
        self.changed = False
        self._gone: set[Node] = set()
        wide = [a for a in graph.weights.values() if a.dtype == np.float64]
        self.dtype = np.float64 if wide and len(wide) == len(graph.weights) else np.float32

    # -- questions

    def gone(self, node: Node) -> bool:
        """True for a node that was dropped in this round."""
        return node in self._gone

    def readers(self, value: Value) -> list[Node]:
        """The nodes that read the value, each once."""
        return list(self._readers.get(value, ()))

    def only_reader(self, value: Value) -> Node | None:
        """The node that reads the value, if just one does, once, and the network does not return it."""
        readers = self._readers.get(value, {})
        if len(readers) != 1 or value in self.returned:
            return None
        [(node, times)] = readers.items()
        return node if times == 1 else None

    def why_not_only(self, value: Value, but: Node | None = None) -> str:
        """Why `only_reader` said no, for the log."""
        if value in self.returned:
            return f"the network returns {value}"
        others = [n.name for n in self.readers(value) if n is not but] or ["its reader, twice"]
        return f"{value} is also read by {', '.join(others[:3])}" + (
            f" and {len(others) - 3} more" if len(others) > 3 else ""
        )

    def array(self, param: Value) -> Array:
        """The weights of a parameter in float64."""
        return np.asarray(self.graph.weights[param.name], np.float64)

    def stored(self, param: Value) -> Array:
        """The weights of a parameter as they are stored: enough to look at them or to reshape them."""
        return self.graph.weights[param.name]

    # -- edits

    def rewrite(
        self,
        node: Node,
        op: Op,
        values: Sequence[Value],
        params: Sequence[Value | Array],
        extra: Sequence[Value] = (),
    ) -> None:
        """Give a node another operation on these operands.

        Arrays among `params` become its parameters, as float64 or float32; `extra` are the operands of its
        epilogue. The result keeps its value and must keep its type.
        """
        specs = op.params(*(v.type for v in values))
        kept = {p for p in params if isinstance(p, Param)}
        for old in node.params:
            if old not in kept and self.readers(old) == [node]:
                self.graph.params.pop(old.name, None)
                self.graph.weights.pop(old.name, None)
        bound = [
            given
            if isinstance(given, Value)
            else self.graph.bind(f"{node.name}.{spec.name}", given.astype(self.dtype, copy=False), spec.role)
            for spec, given in zip(specs, params, strict=True)
        ]
        self.rewire(node, [*values, *bound, *extra])
        node.op = op

    def rewire(self, node: Node, args: Sequence[Value]) -> None:
        """Give a node other operands."""
        self._count(node, -1)
        node.args = list(args)
        self._count(node, 1)
        self.changed = True

    def _count(self, node: Node, by: int) -> None:
        for arg in node.args:
            readers = self._readers.setdefault(arg, {})
            readers[node] = readers.get(node, 0) + by
            if not readers[node]:
                del readers[node]

    def add(self, node: Node) -> None:
        """Know a new node; the caller puts it into the list."""
        self.makers[node.out] = node
        self._count(node, 1)
        self.changed = True

    def remake(self, node: Node, out: Value) -> None:
        """Let a node make `out` from now on; whoever made it before is to be dropped."""
        self.makers.pop(node.out, None)
        self.makers[out] = node
        node.out = out
        self.changed = True

    def renew(self, value: Value, channels: int | None = None) -> Value:
        """A fresh value, for its maker and readers, where the content changes: a name must not lie."""
        type = value.type if channels is None else value.type.with_channels(channels)
        new = Value(self.graph.fresh(value.name), type)
        if maker := self.makers.get(value):
            self.remake(maker, new)
        for reader in self.readers(value):
            self.rewire(reader, [new if a is value else a for a in reader.args])
        return new

    def forward(self, old: Value, new: Value) -> None:
        """Let every reader of `old`, the network included, read `new`."""
        for reader in self.readers(old):
            self.rewire(reader, [new if a is old else a for a in reader.args])
        if old in self.returned:
            self.graph.outputs = {k: new if v is old else v for k, v in self.graph.outputs.items()}
            self.returned = set(self.graph.outputs.values())
        self.changed = True

    def drop(self, *nodes: Node) -> None:
        """Remove nodes that nothing reads any more."""
        for node in nodes:
            self.rewire(node, [])
            self._gone.add(node)

    def sweep(self, candidates: Iterable[Node]) -> None:
        """Drop those of these nodes (in topological order) whose value nothing reads, last first."""
        for node in reversed(list(candidates)):
            if not self.gone(node) and not self.readers(node.out) and node.out not in self.returned:
                self.drop(node)

    def finish(self) -> bool:
        """Take dropped nodes and unread parameters out; True when anything changed."""
        graph = self.graph
        if self.changed:
            graph.nodes = [n for n in graph.nodes if n not in self._gone]
            read = {p.name: p for n in graph.nodes for p in n.params}
            read |= {v.name: v for v in graph.outputs.values() if isinstance(v, Param)}
            graph.params = read
            graph.weights = {name: graph.weights[name] for name in read if name in graph.weights}
        return self.changed

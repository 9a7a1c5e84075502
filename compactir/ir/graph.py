"""The graph: values, parameters, nodes in topological order, and the scopes they were written in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from compactir.diagnostics import CompactError, Span
from compactir.ir.op import Op
from compactir.ir.types import Array, TensorType


@dataclass(eq=False)
class Value:
    """A tensor that flows: an input, or the result of a node."""

    name: str
    type: TensorType

    sigil = "%"

    def __str__(self) -> str:
        return f"{self.sigil}{self.name}"

    __repr__ = __str__


@dataclass(eq=False)
class Param(Value):
    """A named tensor that belongs to the network; `role` is "weight" (trained) or "buffer" (kept)."""

    role: str = "weight"
    init: str = "he"

    sigil = "@"
    __repr__ = Value.__str__


@dataclass(eq=False)
class Node:
    """One operation on values and parameters that makes `out`; its name is its dotted path in the source."""

    op: Op
    args: list[Value]
    out: Value
    name: str
    span: Span | None = None

    @property
    def values(self) -> list[Value]:
        """The operands that are not parameters."""
        return [a for a in self.args if not isinstance(a, Param)]

    @property
    def params(self) -> list[Param]:
        """The operands that are parameters."""
        return [a for a in self.args if isinstance(a, Param)]

    def reading(self, values: Iterable[Value]) -> list[Value]:
        """The operands with these values for its own, in their places among the parameters."""
        left = iter(values)
        return [a if isinstance(a, Param) else next(left) for a in self.args]

    @property
    def types(self) -> list[TensorType]:
        """Types of all operands."""
        return [a.type for a in self.args]

    @property
    def macs(self) -> int:
        """Multiply-accumulates by the closed formula."""
        return self.op.macs(*self.types)

    def __repr__(self) -> str:
        return f"{self.out} = {self.op.name}({', '.join(map(str, self.args))})"


@dataclass(frozen=True)
class Scope:
    """One use of a block: which block, with which arguments, where."""

    block: str
    args: tuple[tuple[str, object], ...] = ()
    doc: str = ""
    span: Span | None = None


@dataclass(frozen=True)
class Region:
    """Nodes that run together, each reading the one before: no value between them exists as a whole map.

    `values` names the results of the nodes; `rows` is how many rows the window among them makes at a time.
    """

    values: tuple[str, ...]
    rows: int


@dataclass(eq=False, repr=False)
class Graph:
    """A network: `nodes` in topological order, `weights` the arrays of `params` once they are bound."""

    name: str
    inputs: list[Value] = field(default_factory=list)
    outputs: dict[str, Value] = field(default_factory=dict)
    params: dict[str, Param] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    scopes: dict[str, Scope] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    doc: str = ""
    weights_file: str | None = None
    weights_span: Span | None = None
    """Where the model names the weights file."""
    _taken: set[str] = field(default_factory=set, repr=False)

    def __repr__(self) -> str:
        """The text form: what a failing test and a debugger show."""
        from compactir.ir.text import print_graph  # which stands on this module

        return print_graph(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same for IPython and hypothesis, which would list the fields of a dataclass."""
        for i, line in enumerate(repr(self).splitlines()):
            if i:
                printer.break_()
            printer.text(line)

    # -- building --------------------------------------------------------------------------------------------

    def input(self, name: str, type: TensorType) -> Value:
        """Declare an input."""
        value = Value(self.fresh(name), type)
        self.inputs.append(value)
        return value

    def param(self, name: str, type: TensorType, role: str = "weight", init: str = "he") -> Param:
        """Declare a parameter. Errors: CIR304 when the name is taken."""
        if name in self.params:
            raise CompactError(
                "CIR304", f"there are two parameters named `{name}`", help="give the steps different labels"
            )
        self.params[name] = Param(name, type, role, init)
        return self.params[name]

    def apply(self, op: Op, xs: Sequence[Value], name: str, span: Span | None = None) -> Value:
        """Append a node named `name`; its parameters `name.weight` … are declared with it."""
        specs = op.params(*(x.type for x in xs))
        types = [x.type for x in xs] + [TensorType.f32(*spec.shape) for spec in specs]
        result = op.infer(*types)
        params = [
            self.param(f"{name}.{spec.name}", type, spec.role, spec.init)
            for spec, type in zip(specs, types[len(xs) :], strict=True)
        ]
        return self.append(op, [*xs, *params], name, span, result)

    def append(
        self,
        op: Op,
        args: Sequence[Value],
        name: str,
        span: Span | None = None,
        type: TensorType | None = None,
    ) -> Value:
        """Append a node whose parameters exist already."""
        node = self.make(op, args, name, span, type)
        self.nodes.append(node)
        return node.out

    def make(
        self,
        op: Op,
        args: Sequence[Value],
        name: str,
        span: Span | None = None,
        type: TensorType | None = None,
    ) -> Node:
        """A node that is not in the graph yet: passes place it with `replace` or into `nodes`."""
        out = Value(self.fresh(name), type or op.infer(*(a.type for a in args)))
        return Node(op, list(args), out, name, span)

    def fresh(self, stem: str) -> str:
        """A value name that is not taken: `stem`, else `stem_2`, `stem_3` and so on."""
        if not self._taken:
            self._taken = {v.name for v in self.values()}
        name, n = stem, 1
        while name in self._taken:
            n += 1
            name = f"{stem}_{n}"
        self._taken.add(name)
        return name

    # -- reading ---------------------------------------------------------------------------------------------

    def values(self) -> Iterator[Value]:
        """All values that flow: inputs, then results."""
        yield from self.inputs
        yield from (n.out for n in self.nodes)

    def makers(self) -> dict[Value, Node]:
        """Which node makes each value."""
        return {n.out: n for n in self.nodes}

    def users(self) -> dict[Value, list[Node]]:
        """Which nodes read each value (or parameter), in order; a node that reads it twice occurs twice."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for arg in node.args:
                users.setdefault(arg, []).append(node)
        return users

    def is_output(self, value: Value) -> bool:
        """True for a value that the network returns."""
        return any(value is out for out in self.outputs.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolution and linear layers, by the closed formulas."""
        return sum(n.macs for n in self.nodes)

    @property
    def trainable(self) -> int:
        """Number of trained scalars."""
        return sum(p.type.size for p in self.params.values() if p.role == "weight")

    # -- rewriting -------------------------------------------------------------------------------------------

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let every reader of `old`, outputs included, read `new`."""
        for node in self.nodes:
            node.args = [new if a is old else a for a in node.args]
        self.outputs = {name: new if v is old else v for name, v in self.outputs.items()}

    def substitute(self, replaced: dict[Value, Value]) -> None:
        """`replace_uses` for many values in one sweep; chains are followed."""

        def final(value: Value) -> Value:
            while value in replaced:
                value = replaced[value]
            return value

        for node in self.nodes:
            node.args = [final(a) for a in node.args]
        self.outputs = {name: final(v) for name, v in self.outputs.items()}

    def remove(self, nodes: Iterable[Node]) -> None:
        """Drop nodes that nothing reads any more."""
        gone = set(map(id, nodes))
        self.nodes = [n for n in self.nodes if id(n) not in gone]

    def drop_unused_params(self) -> None:
        """Forget parameters that no node reads, and that are not returned."""
        read = {*self.outputs.values(), *(a for n in self.nodes for a in n.args)}
        self.params = {name: p for name, p in self.params.items() if p in read}
        self.weights = {name: w for name, w in self.weights.items() if name in self.params}

    def bind(self, name: str, array: Array, role: str = "buffer") -> Param:
        """A new bound parameter made by a pass; its name is made fresh."""
        stem, n = name, 1
        while name in self.params:
            n += 1
            name = f"{stem}_{n}"
        param = self.param(name, TensorType.f32(*array.shape), role, "folded")
        self.weights[name] = array
        return param

    def clone(self) -> Graph:
        """An independent copy; weight arrays are shared (passes never write into them)."""
        other = Graph(self.name, doc=self.doc, weights_file=self.weights_file, weights_span=self.weights_span)
        twin: dict[Value, Value] = {}
        for value in self.inputs:
            twin[value] = Value(value.name, value.type)
        for param in self.params.values():
            twin[param] = Param(param.name, param.type, param.role, param.init)
        for node in self.nodes:
            twin[node.out] = Value(node.out.name, node.out.type)
            other.nodes.append(
                Node(node.op, [twin[a] for a in node.args], twin[node.out], node.name, node.span)
            )
        other.inputs = [twin[v] for v in self.inputs]
        other.outputs = {name: twin[v] for name, v in self.outputs.items()}
        other.params = {name: twin[p] for name, p in self.params.items()}  # type: ignore[misc]  # twins of Params
        other.scopes = dict(self.scopes)
        other.regions = list(self.regions)
        other.weights = dict(self.weights)
        return other

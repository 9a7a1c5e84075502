"""From the flat graph back to the blocks it was written in: what holds which steps, what flows between.

A node belongs to the scope that its dotted name says. Where passes moved work across scopes so that a block
can no longer be called in one go, the block is *dissolved*: its layers stay under its name, its parent's
`forward` runs them. A parameter that is not its node's own (shared, renamed, a constant) is a tensor of its
scope, and its node moves to a scope that can see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import networkx as nx

from compactir.ir.graph import Graph, Node, Param, Scope, Value
from compactir.ir.op import Op
from compactir.ir.types import TensorType
from compactir.ops.arrange import Concat, Gather, Identity
from compactir.ops.conv import Conv, extra_operands

Path = tuple[str, ...]


@dataclass(frozen=True)
class TensorRef:
    """A parameter that no layer owns: `name` is its dotted name as seen from the block."""

    name: str
    role: str


Ref = tuple[int, int] | TensorRef
"""(statement, which of its results), (-1, which input of the block), or a tensor."""


@dataclass(frozen=True)
class Split(Op):
    """Consecutive slices that together are the whole: several results at once, as `Tensor.split` has them."""

    sizes: tuple[int, ...]


@dataclass
class Step:
    """One operation of a block's body."""

    name: str
    """The layer is `self.<name>`; empty for what has none."""
    op: Op
    args: tuple[Ref, ...]
    types: tuple[TensorType, ...]
    outs: tuple[TensorType, ...]
    tensors: tuple[TensorRef, ...] | None = None
    """Its parameters, where it reads tensors instead of owning a layer."""
    repeated: bool = False
    """True where an earlier step has made the layer already."""

    @property
    def owns(self) -> bool:
        """True where its layer holds parameters, so that its name is part of their names."""
        return self.tensors is None and bool(self.op.params(self.types[0]))


@dataclass
class Use:
    """One call of a block inside another block's body."""

    name: str
    instance: Instance
    args: tuple[Ref, ...]

    @property
    def outs(self) -> tuple[TensorType, ...]:
        """Types of its results."""
        return tuple(v.type for v in self.instance.outputs)


@dataclass
class Instance:
    """One use of a block: a module object of the emitted file."""

    path: Path
    block: str
    scope: Scope | None
    inputs: list[Value]
    outputs: list[Value] = field(default_factory=list)
    results: list[Ref] = field(default_factory=list)
    body: list[Step | Use] = field(default_factory=list)
    tensors: list[tuple[TensorRef, tuple[int, ...]]] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)

    def walk(self) -> Iterator[Instance]:
        """This instance and all below it, children first."""
        for statement in self.body:
            if isinstance(statement, Use):
                yield from statement.instance.walk()
        yield self


def build(graph: Graph) -> Instance:
    """The network as a tree of block instances."""
    return _Builder(graph).root()


Item = int | str
"""What the body of a scope is ordered by: a node's index, or the name of a child scope."""


class _Builder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.alias = _aliases(graph)
        self.nodes = [n for n in graph.nodes if n.out not in self.alias]
        self.maker = {n.out: i for i, n in enumerate(self.nodes)}
        self.users: dict[Value, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for arg in node.args:
                self.users.setdefault(self.real(arg), []).append(i)
        self.layer: dict[int, Path] = {}  # node -> path of the layer that owns its parameters
        self.repeated: set[int] = set()  # nodes whose layer an earlier node has made
        self.scope: dict[int, Path] = {}  # node -> path of the block whose body runs it
        self._place()
        self.members: dict[Path, list[int]] = {}  # scope -> the nodes that run in it or below
        for i, path in self.scope.items():
            for n in range(len(path) + 1):
                self.members.setdefault(path[:n], []).append(i)
        self.live = set(self.members) | {()}
        self._dissolve(())
        self.scope = {i: self._alive(path) for i, path in self.scope.items()}
        self.results: dict[Path, dict[Value, Ref]] = {}

    def real(self, value: Value) -> Value:
        """The value behind identities."""
        return self.alias.get(value, value)

    # -- which block runs a node -----------------------------------------------------------------------------

    def _place(self) -> None:
        layers = {i: path for i, node in enumerate(self.nodes) if (path := _own_layer(node))}
        paths = set(layers.values())
        homes = [tuple(n.name.split("."))[:-1] for n in self.nodes]
        scopes = {home[:k] for home in homes if home not in paths for k in range(len(home) + 1)}
        first: dict[Path, int] = {}
        for i, path in layers.items():
            maker = first.setdefault(path, i)
            if path not in scopes and _same_layer(self.nodes[maker], self.nodes[i]):
                self.layer[i] = path
                self.repeated |= {i} - {maker}
        for i, node in enumerate(self.nodes):
            if i in self.layer:
                self.scope[i] = self.layer[i][:-1]
            else:  # tensors are read from above the layers and blocks that hold them
                self.scope[i] = _common([homes[i], *(tuple(p.name.split("."))[:-1] for p in node.params)])
            if homes[i] in paths and not node.params:
                self.scope[i] = self._brought_in(node, homes[i][:-1])

    def _brought_in(self, node: Node, scope: Path) -> Path:
        """Where to run what passes put before a layer (`conv1.parts`): outside of blocks that read it."""
        makers = [self.maker.get(self.real(v)) for v in node.values]
        while scope and not any(m is not None and self.scope[m][: len(scope)] == scope for m in makers):
            scope = scope[:-1]
        return scope

    def _alive(self, path: Path) -> Path:
        while path not in self.live:
            path = path[:-1]
        return path

    def _item(self, scope: Path, i: int) -> Item | None:
        """How the body of `scope` sees node i: itself, the child that runs it, None when it is elsewhere."""
        path = self._alive(self.scope[i])
        if path == scope:
            return i
        if path[: len(scope)] != scope:
            return None
        n = len(scope) + 1
        while path[:n] not in self.live:
            n += 1
        return ".".join(path[len(scope) : n])

    def _order(self, scope: Path) -> nx.DiGraph:
        """The items of a body and what each waits for; `first` is the index of an item's first node."""
        order = nx.DiGraph()
        for i in self.members.get(scope, ()):
            item, node = self._item(scope, i), self.nodes[i]
            if item is None:
                continue
            if item not in order:
                order.add_node(item, first=i)
            for arg in node.args:
                maker = self.maker.get(self.real(arg))
                source = None if maker is None else self._item(scope, maker)
                if source is not None and source != item:
                    order.add_edge(source, item)
        return order

    def _dissolve(self, scope: Path) -> None:
        while True:
            order = self._order(scope)
            tangled = [
                item
                for knot in nx.strongly_connected_components(order)
                for item in knot
                if len(knot) > 1 and isinstance(item, str)
            ]
            if not tangled:
                break
            self.live -= {(*scope, *item.split(".")) for item in tangled}
        for item in [item for item in order if isinstance(item, str)]:
            self._dissolve((*scope, *item.split(".")))

    # -- bodies ----------------------------------------------------------------------------------------------

    def root(self) -> Instance:
        """The network itself."""
        instance = self._instance((), list(self.graph.inputs))
        instance.outputs = [self.real(v) for v in self.graph.outputs.values()]
        instance.results = [self.results[()][v] for v in instance.outputs]
        by_path = {i.path: i for i in instance.walk()}
        of_layers = {p for i in self.layer for p in self.nodes[i].params}
        for param in self.graph.params.values():
            if param not in of_layers:
                _own_tensor(param, by_path)
        for one in by_path.values():
            one.containers = _containers(one)
        return instance

    def _instance(self, scope: Path, inputs: list[Value] | None = None) -> Instance:
        name = ".".join(scope)
        declared = self.graph.scopes.get(name)
        block = declared.block if declared else _stem(scope[-1]) if scope else self.graph.name
        instance = Instance(scope, block, declared, inputs if inputs is not None else [])
        refs: dict[Value, Ref] = {v: (-1, i) for i, v in enumerate(instance.inputs)}
        self.results[scope] = refs

        def tensor(param: Param) -> TensorRef:
            return TensorRef(".".join(param.name.split(".")[len(scope) :]), param.role)

        def ref(value: Value) -> Ref:
            value = self.real(value)
            if isinstance(value, Param):
                return tensor(value)
            if value not in refs:
                refs[value] = (-1, len(instance.inputs))
                instance.inputs.append(value)
            return refs[value]

        order = self._order(scope)
        items = list(nx.lexicographical_topological_sort(order, key=lambda item: order.nodes[item]["first"]))
        for group in self._groups(items):
            if isinstance(group, str):
                child = self._instance((*scope, *group.split(".")))
                instance.body.append(Use(group, child, tuple(ref(v) for v in child.inputs)))
                results = child.outputs
            elif len(group) > 1:
                parts = [self.nodes[i] for i in group]
                source = self.real(parts[0].args[0])
                outs = tuple(p.out.type for p in parts)
                split = Split(tuple(t.channels for t in outs))
                instance.body.append(Step("", split, (ref(source),), (source.type,), outs))
                results = [p.out for p in parts]
            else:
                instance.body += self._steps(group[0], scope, ref, tensor, len(instance.body))
                results = [self.nodes[group[0]].out]
            for k, value in enumerate(results):
                refs[value] = (len(instance.body) - 1, k)
        instance.outputs = [self.nodes[i].out for i in self.members.get(scope, ()) if self._leaves(i, scope)]
        instance.results = [refs[v] for v in instance.outputs]
        return instance

    def _groups(self, items: Iterable[Item]) -> Iterator[str | list[int]]:
        """Items one by one, but slices that cut one value into consecutive parts together."""
        waiting: list[int] = []
        for item in items:
            if waiting and isinstance(item, int) and self._continues(waiting, item):
                waiting.append(item)
                continue
            yield from self._as_split(waiting)
            waiting = []
            if isinstance(item, str):
                yield item
            else:
                waiting = [item]
        yield from self._as_split(waiting)

    def _continues(self, waiting: list[int], item: int) -> bool:
        last, node = self.nodes[waiting[-1]], self.nodes[item]
        if not isinstance(last.op, Gather) or not isinstance(node.op, Gather):
            return False
        if self.real(last.args[0]) is not self.real(node.args[0]):
            return False
        a, b = last.op.channels, node.op.channels
        return a.is_plain_range and b.is_plain_range and a[len(a) - 1] + 1 == b[0]

    def _as_split(self, waiting: list[int]) -> Iterator[list[int]]:
        if len(waiting) > 1:
            nodes = [self.nodes[i] for i in waiting]
            first = nodes[0].op
            whole = sum(n.out.type.channels for n in nodes) == nodes[0].args[0].type.channels
            if whole and isinstance(first, Gather) and first.channels[0] == 0:
                yield waiting
                return
        for item in waiting:
            yield [item]

    def _leaves(self, i: int, scope: Path) -> bool:
        """True when node i runs within `scope` and its value is read outside of it."""
        value = self.nodes[i].out
        if any(self.real(out) is value for out in self.graph.outputs.values()):
            return True
        return any(self.scope[j][: len(scope)] != scope for j in self.users.get(value, ()))

    def _steps(
        self,
        i: int,
        scope: Path,
        ref: Callable[[Value], Ref],
        tensor: Callable[[Param], TensorRef],
        at: int,
    ) -> list[Step]:
        """A node as steps: itself, then one for every operation of its epilogue."""
        node = self.nodes[i]
        op, outs = node.op, (node.out.type,)
        epilogue = _epilogue(op)
        own = len(op.params(node.args[0].type))
        values = node.args[:1] if own or epilogue else node.args
        extra = iter(node.args[1 + own :])
        if epilogue:
            op = _without_epilogue(op)
            outs = (op.infer(*(a.type for a in node.args[: 1 + own])),)
        path = self.layer.get(i)
        leaf = node.name.split(".")[-1] if path is None else ".".join(path[len(scope) :])
        tensors = None
        if own and path is None:
            tensors = tuple(tensor(p) for p in node.args[1 : 1 + own] if isinstance(p, Param))
        types = tuple(v.type for v in values)
        steps = [Step(leaf, op, tuple(map(ref, values)), types, outs, tensors, i in self.repeated)]
        for fused in epilogue:
            more = [next(extra) for _ in range(extra_operands(fused))]
            before = steps[-1].outs[0]
            types = (before, *(m.type for m in more))
            refs = ((at + len(steps) - 1, 0), *map(ref, more))
            steps.append(Step("", fused, refs, types, (fused.infer(*types),)))
        return steps


def _own_tensor(param: Param, by_path: dict[Path, Instance]) -> None:
    path = tuple(param.name.split("."))
    home = path[:-1]
    while home not in by_path:
        home = home[:-1]
    by_path[home].tensors.append((TensorRef(".".join(path[len(home) :]), param.role), param.type.shape))


def _aliases(graph: Graph) -> dict[Value, Value]:
    """Values that are another value under a new name: identities, and a concat of one."""
    alias: dict[Value, Value] = {}
    for node in graph.nodes:
        if isinstance(node.op, Identity) or (isinstance(node.op, Concat) and len(node.args) == 1):
            alias[node.out] = alias.get(node.args[0], node.args[0])
    return alias


def _own_layer(node: Node) -> Path | None:
    """The path of the layer that owns all parameters of a node; None where they are not all its own."""
    if isinstance(node.op, Conv) and not node.op.connect.families:
        return None  # a map of nothing but biases
    specs = node.op.params(node.args[0].type)
    params = node.params
    if not specs or params != node.args[1 : 1 + len(specs)] or len(params) != len(specs):
        return None
    stem = params[0].name.rpartition(".")[0]
    owned = all(p.name == f"{stem}.{s.name}" for p, s in zip(params, specs, strict=True))
    return tuple(stem.split(".")) if stem and owned else None


def _epilogue(op: Op) -> tuple[Op, ...]:
    found: tuple[Op, ...] = getattr(op, "epilogue", ())
    return found


def _without_epilogue(op: Op) -> Op:
    return replace(op, epilogue=()) if _epilogue(op) else op  # type: ignore[type-var]  # it has one


def _same_layer(a: Node, b: Node) -> bool:
    def settings(node: Node) -> tuple[object, ...]:
        return _without_epilogue(node.op), tuple(node.params), node.args[0].type.rank

    return settings(a) == settings(b)


def _common(paths: list[Path]) -> Path:
    n = 0
    while all(len(p) > n for p in paths) and len({p[n] for p in paths}) == 1:
        n += 1
    return paths[0][:n]


def _stem(name: str) -> str:
    """`block3` without its number."""
    return name.rstrip("0123456789").rstrip("_") or name


def _containers(instance: Instance) -> list[str]:
    """Names within a block that hold layers or tensors without being a block, outermost first."""
    made = {s.name for s in instance.body if isinstance(s, Use) or s.owns}
    names: dict[str, None] = {}
    for name in [*sorted(made), *(t.name for t, _ in instance.tensors)]:
        parts = name.split(".")
        for n in range(1, len(parts)):
            prefix = ".".join(parts[:n])
            if prefix not in made:
                names.setdefault(prefix)
    return sorted(names, key=lambda n: n.count("."))

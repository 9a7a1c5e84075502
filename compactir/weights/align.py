"""`--map auto` where names say nothing: by what stands where.

`by_graph` lays the layers of one graph onto those of another, for `.onnx` files: there the nodes say what a
tensor is and where it flows. Two layers are partners when they have parameters of the same roles and shapes
and everything before them corresponds, all that moves channels included. `by_sequence` knows a list of
arrays only: our layers take them in turn, whichever may come next by the graph.

Both refuse what more than one layer could be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compactir.diagnostics import CompactError, spell_list
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.weights.mapping import Mapped, Part
from compactir.weights.stored import Stored

__all__ = ["by_graph", "by_sequence", "plain"]

_LISTED = 12
_STILL = {
    *(
        "add",
        "affine",
        "as_map",
        "as_sequence",
        "avg_pool",
        "bn",
        "clip",
        "dropout",
        "flatten",
        "hard_sigmoid",
    ),
    *("global_avg_pool", "global_max_pool", "hard_swish", "identity", "leaky_relu", "lrn", "max_pool", "mul"),
    *("relu", "relu6", "sigmoid", "softmax", "swish", "tanh", "unary", "upsample"),
}
"""Operations that leave every channel where it is: how they are spelled does not matter for weights."""
_ACTIVATIONS = {
    "clip",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "relu",
    "relu6",
    "sigmoid",
    "swish",
    "tanh",
}
Shape = tuple[int, ...]


def plain(shape: Shape) -> Shape:
    """Without the ones at the end: a linear layer and a 1×1 convolution hold the same.

    A kernel of a sequence, (O, I, k), is one of a map of one row, (O, I, 1, k).
    """
    shape = (*shape[:2], 1, shape[2]) if len(shape) == 3 else shape
    return shape[:-2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


@dataclass(eq=False)
class _Layer:
    """A node with parameters: role → parameter. `norm` is the batch norm that it feeds alone, if any."""

    node: Node
    roles: dict[str, Param]
    norm: Node | None = None

    @property
    def signature(self) -> tuple[object, ...]:
        """What partners have in common: a bias may come from a batch norm that is folded.

        Shapes, and which channels meet where that is not all of them: equal weights mean equal things.
        """
        shapes = {role: plain(p.type.shape) for role, p in self.roles.items() if role != "bias"}
        connect = self.node.op.connect if isinstance(self.node.op, Conv) else None
        dense = (
            connect is None
            or connect.families
            == connect.grouped(
                connect.in_channels,
                connect.out_channels,
                1,
                connect.families[0].kernel,
                connect.families[0].pad,
            ).families
        )
        return (*sorted(shapes.items()), None if dense else connect)

    @property
    def all(self) -> dict[str, Param]:
        """The batch norm's too, those with `norm.` before their role."""
        return self.roles | {f"norm.{_role(p)}": p for p in (self.norm.params if self.norm else ())}


def _role(param: Param) -> str:
    return param.name.rpartition(".")[2]


def _layers(graph: Graph, paired: bool) -> list[_Layer]:
    """Nodes with parameters of their own, in order; a parameter that two share counts once."""
    layers, seen, norms = [], set[str](), set[str]()
    readers = graph.users()
    for node in graph.nodes:
        own = [p for p in node.params if p.name not in seen and p.name in graph.params]
        seen |= {p.name for p in own}
        if not own or node.name in norms:
            continue
        roles = {_role(p): p for p in own}
        users = readers.get(node.out, [])
        alone = paired and len(users) == 1 and not isinstance(node.op, BatchNorm)
        norm = users[0] if alone and isinstance(users[0].op, BatchNorm) else None
        norms |= {norm.name} if norm else set()
        layers.append(_Layer(node, roles, norm))
    return layers


# -- graphs --------------------------------------------------------------------------------------------------


@dataclass
class _Places:
    """Numbers for what stands before and behind a layer: equal ones for equal surroundings, in any graph."""

    numbers: dict[object, int] = field(default_factory=dict)
    inside: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """What a concatenation consists of: those of concatenations are flat."""

    def _number(self, key: object) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def behind(self, graph: Graph, layers: Sequence[_Layer]) -> list[int]:
        """A number for what becomes of each layer's result."""
        by_node = {layer.node.name: layer for layer in layers}
        future: dict[Value, set[object]] = {}
        for i, value in enumerate(graph.outputs.values()):
            future.setdefault(value, set()).add(("output", i))
        for node in reversed(graph.nodes):
            after = self._number(frozenset(future.get(node.out, ())))
            layer = by_node.get(node.name)
            for i, value in enumerate(node.values):
                key: set[object] = {("concat", i, after)}
                if layer is not None:
                    key = {("layer", layer.signature, after)}
                elif node.op.name in _STILL:
                    key = future.get(node.out, set())
                elif not isinstance(node.op, Concat):
                    key = {(node.op, i, after)}
                future.setdefault(value, set()).update(key)
        return [self._number(frozenset(future.get(layer.node.out, ()))) for layer in layers]

    def before(self, graph: Graph, layers: Sequence[_Layer]) -> list[int]:
        """A number for each layer and all that it is computed from."""
        by_node = {layer.node.name: layer for layer in layers}
        past: dict[Value, int] = {v: self._number(("input", i)) for i, v in enumerate(graph.inputs)}
        place: dict[str, int] = {}
        for node in graph.nodes:
            before = [past[v] for v in node.values if v in past]
            layer = by_node.get(node.name)
            if layer is not None:
                key: object = ("layer", layer.signature, tuple(before))
                place[node.name] = past[node.out] = self._number(key)
            elif isinstance(node.op, Concat):
                flat = tuple(part for b in before for part in self.inside.get(b, (b,)))
                past[node.out] = self._number(("concat", flat))
                self.inside[past[node.out]] = flat
            elif node.op.name not in _STILL:
                past[node.out] = self._number((node.op, tuple(before)))
            elif len(set(before)) == 1:
                past[node.out] = before[0]
            else:
                past[node.out] = self._number(("several", tuple(sorted(before))))
        return [place[layer.node.name] for layer in layers]


def by_graph(
    ours: Graph, theirs: Graph, origin: str, named: Mapping[str, Array] | None = None
) -> tuple[Mapped, dict[str, Stored], list[str]]:
    """Lay the weights of one graph onto another that computes the same.

    Args:
        ours: whose parameters are to be found.
        theirs: a graph with its weights, as an `.onnx` file gives it.
        origin: the file's name, for messages.
        named: what the names alone would give our parameters, if they say enough: it decides between layers
            that stand alike.

    Returns: the mapping, the tensors that it speaks of, and what is to be said about it. Where `theirs` has
    its batch norms folded into convolutions, those of `ours` are made to change nothing but add the bias.

    Errors: CIR646 where a layer has no partner, or shares it; CIR647 where one could be several, or where
    its name says another than its place.
    """
    tensors = {name: Stored("float32", array) for name, array in theirs.weights.items()}
    mine, other = _layers(ours, True), _layers(theirs, True)
    partners = _partners(ours, mine, theirs, other)
    parts: list[Part] = []
    made: dict[str, Stored] = {}
    unclear: list[str] = []
    taken: dict[_Layer, _Layer] = {}
    for layer, possible in zip(mine, partners, strict=True):
        if not possible or not _fits(layer, possible[0]):
            raise _alone(ours, theirs, layer, possible, origin)
        meant = [p for p in possible if named is None or _same(layer, p, named, theirs)]
        free = [p for p in meant if p not in taken] or meant or possible
        names = [f"`{p.node.name}`" for p in possible]
        if not meant:
            places = spell_list(names, "or", 4)
            unclear.append(
                f"`{layer.node.name}` is {places} by its place in the model, by its name it is not"
            )
        elif len(possible) > 1 and named is None:
            unclear.append(f"`{layer.node.name}` could be {spell_list(names, 'or', 4)}")
        elif free[0] in taken:
            raise _shared(ours, (taken[free[0]], layer), free[0], origin)
        taken[free[0]] = layer
        parts += _parts(layer, free[0])
        made |= _through(layer, free[0])
    if unclear:
        raise _ambiguous(unclear, origin)
    if left := len(other) - len(taken):
        raise CompactError(
            "CIR646",
            f"the weights in {origin} cannot be laid onto `{ours.name}`: {left} layers there have no partner",
            help="is it this network (`-D`)? the model itself can be compiled as it is",
        )
    by_place = [f"layers of {origin} are found by where they stand in the model, not by names"]
    notes = [*(by_place if named is None else []), *_said_of_others(ours, theirs, origin)]
    if made:
        norms = sum(name.endswith(".running_var") for name in made)
        notes.append(
            f"batch norm is folded into the weights of {origin}: {norms} batch norms of `{ours.name}` do no "
            "more than add the bias (mean 0, weight and deviation 1)"
        )
    return Mapped(tuple(parts), (), made=made), tensors, notes


def _same(layer: _Layer, partner: _Layer, named: Mapping[str, Array], theirs: Graph) -> bool:
    """Whether the names give a layer the arrays of that partner."""
    pairs = [(named[p.name], theirs.weights[partner.all[role].name]) for role, p in layer.all.items()]
    return all(a.size == b.size and np.array_equal(a.ravel(), b.ravel(), equal_nan=True) for a, b in pairs)


def _shared(ours: Graph, layers: tuple[_Layer, _Layer], partner: _Layer, origin: str) -> CompactError:
    first, second = (layer.node.name for layer in layers)
    return CompactError(
        "CIR646",
        f"the weights in {origin} cannot be laid onto `{ours.name}`",
        notes=[f"`{first}` and `{second}` stand where the model has one layer, `{partner.node.name}`"],
        help="is it this network (`-D`)? the model itself can be compiled as it is",
    )


def _said_of_others(ours: Graph, theirs: Graph, origin: str) -> list[str]:
    """A note where activations differ: weights fit all the same, results do not."""
    here, there = (Counter(n.op.name for n in g.nodes if n.op.name in _ACTIVATIONS) for g in (ours, theirs))
    if here == there:
        return []
    differing = [name for name in sorted(here | there) if here[name] != there[name]]
    listed = spell_list([f"{here[name]} `{name}` (there {there[name]})" for name in differing])
    return [f"`{ours.name}` is not the network of {origin}: it has {listed}"]


def _norms(graph: Graph) -> int:
    return sum(isinstance(node.op, BatchNorm) for node in graph.nodes)


def _partners(
    ours: Graph, mine: Sequence[_Layer], theirs: Graph, other: Sequence[_Layer]
) -> list[list[_Layer]]:
    """For each of our layers those that have the same past; of several, those that have the same future."""
    places = _Places()
    found = defaultdict[object, list[_Layer]](list)
    pairs = list(zip(places.before(theirs, other), places.behind(theirs, other), other, strict=True))
    for past, future, layer in pairs:
        found[past].append(layer)
        found[past, future].append(layer)
    own = list(zip(places.before(ours, mine), places.behind(ours, mine), strict=True))
    many = Counter(past for past, _ in own) + Counter(own)
    result = []
    for past, future in own:
        possible = found.get(past, [])
        if len(possible) > 1 and len(found.get((past, future), [])) == many[past, future] == 1:
            possible = found[past, future]
        result.append(possible)
    return result


def _fits(layer: _Layer, partner: _Layer) -> bool:
    """The same roles; or theirs has a bias where ours has a batch norm."""
    if layer.all.keys() == partner.all.keys():
        return True
    own = layer.roles.keys() | {"bias"}
    return layer.norm is not None and partner.norm is None and own == partner.roles.keys() | {"bias"}


def _parts(layer: _Layer, partner: _Layer) -> Iterator[Part]:
    for role, param in layer.all.items():
        if role in partner.all:
            yield Part(param.name, (partner.all[role].name,))
    if _folded(layer, partner) and "bias" not in layer.roles and "bias" in partner.roles:
        yield Part(layer.all["norm.bias"].name, (partner.roles["bias"].name,))


def _folded(layer: _Layer, partner: _Layer) -> bool:
    return layer.norm is not None and partner.norm is None


def _through(layer: _Layer, partner: _Layer) -> dict[str, Stored]:
    """The arrays of a batch norm that changes nothing but adds a bias, where theirs is folded."""
    if not _folded(layer, partner) or layer.norm is None or not isinstance(layer.norm.op, BatchNorm):
        return {}
    taken = set(partner.roles)
    if "bias" in partner.roles and "bias" not in layer.roles:
        taken |= {"norm.bias"}
    made: dict[str, Array] = {}
    for role, param in layer.all.items():
        shape = param.type.shape
        if role == "norm.running_var":
            made[param.name] = np.full(shape, 1 - layer.norm.op.eps, np.float32)
        elif role == "norm.weight":
            made[param.name] = np.ones(shape, np.float32)
        elif role == "norm.running_mean" or role not in taken:
            made[param.name] = np.zeros(shape, np.float32)
    return {name: Stored("float32", array) for name, array in made.items()}


def _alone(
    ours: Graph, theirs: Graph, layer: _Layer, possible: Sequence[_Layer], origin: str
) -> CompactError:
    def listed(roles: Mapping[str, Param]) -> str:
        return spell_list([f"`{role}` {list(p.type.shape)}" for role, p in roles.items()])

    notes = [f"`{layer.node.name}` ({listed(layer.all)}) is the first layer that has no partner at its place"]
    if possible:
        notes.append(f"there stands `{possible[0].node.name}` ({listed(possible[0].all)})")
    if (there := _norms(theirs)) != (here := _norms(ours)):
        notes.append(f"`{ours.name}` has {here} batch norms, the model {there}")
    return CompactError(
        "CIR646",
        f"the weights in {origin} cannot be laid onto `{ours.name}` by order and shape",
        notes=notes,
        help="is it this network, of this width (`-D`)? the model itself can be compiled as it is",
    )


def _ambiguous(unclear: Sequence[str], origin: str) -> CompactError:
    more = [f"… and {len(unclear) - _LISTED} more"] if len(unclear) > _LISTED else []
    return CompactError(
        "CIR647",
        f"the weights in {origin} fit in more than one way",
        notes=[*unclear[:_LISTED], *more],
        help="write the names down, a line `THEIRS -> OURS` each, and give them as `--map FILE`",
    )


# -- lists of arrays -----------------------------------------------------------------------------------------


def by_sequence(
    graph: Graph, shapes: Mapping[str, Shape], order: Sequence[str], origin: str
) -> Mapped | None:
    """Our layers take the arrays of a list in turn; None where they do not fit in this order.

    A layer may come when all layers that it depends on have come. Errors: CIR647 where two could come next
    that take the same, or where batch norm's four vectors do not say which of them is which.
    """
    layers = _layers(graph, False)
    waiting = _dependencies(graph, layers)
    parts: list[Part] = []
    at = 0
    left = {layer.node.name: layer for layer in layers}
    while left:
        ready = [left[name] for name in left if not waiting[name] & left.keys()]
        fitting = [layer for layer in ready if _takes(layer, [shapes[n] for n in order[at:]])]
        if not fitting:
            return None
        if len(fitting) > 1:
            raise _ambiguous([f"`{order[at]}` could begin `{layer.node.name}`" for layer in fitting], origin)
        (layer,) = fitting
        if isinstance(layer.node.op, BatchNorm):
            names = spell_list([f"`{n}`" for n in order[at : at + len(layer.roles)]])
            roles = spell_list(list(layer.roles))
            raise _ambiguous([f"{names} are vectors of one length: no name says which is {roles}"], origin)
        for role, name in zip(layer.roles.values(), order[at:], strict=False):
            parts.append(Part(role.name, (name,)))
        at += len(layer.roles)
        del left[layer.node.name]
    return Mapped(tuple(parts), ()) if at == len(order) else None


def _takes(layer: _Layer, shapes: Sequence[Shape]) -> bool:
    wanted = [plain(p.type.shape) for p in layer.roles.values()]
    return [plain(s) for s in shapes[: len(wanted)]] == wanted


def _dependencies(graph: Graph, layers: Sequence[_Layer]) -> dict[str, set[str]]:
    """The layers that a layer needs, directly or through others."""
    names = {layer.node.name for layer in layers}
    past: dict[Value, set[str]] = {}
    needs: dict[str, set[str]] = {}
    for node in graph.nodes:
        before = set[str]().union(*(past.get(v, set()) for v in node.values))
        if node.name in names:
            needs[node.name] = before
            before = before | {node.name}
        past[node.out] = before
    return needs

"""`--map auto`: which tensor of a foreign file is which of our parameters, by order, shape and role.

A file's tensors belong to modules (`features.1.conv.0.weight` to `features.1.conv.0`), modules lie in a
tree. Our layers have an order, that of the graph. A mapping lays the tree out so that its modules meet our
layers one by one, roles and shapes equal:

* the modules of a subtree follow each other: a block is done before the next begins;
* numbered siblings (`bn1` `bn2`, `inception3a` `inception3b`, `0` `1`) keep their order;
* everything else may stand in any order: .safetensors files are sorted by name and know no better.

Where two layouts fit, equal names decide (`branch.expand` is our `expand`); where names do not, nothing is
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from compactir.diagnostics import CompactError, spell_list
from compactir.ir.graph import Graph
from compactir.weights.align import by_sequence, plain
from compactir.weights.mapping import Mapped, Part
from compactir.weights.stored import Stored

__all__ = ["map_auto"]

ROLES = {
    "gamma": "weight",
    "scale": "weight",
    "kernel": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "mean": "running_mean",
    "var": "running_var",
    "variance": "running_var",
}
"""What other frameworks call it → PyTorch's name."""
_COUNTER = "num_batches_tracked"
_ONLY_TRAINED = re.compile(r"(^|\.)aux", re.IGNORECASE)
"""Heads that only training uses: `aux1` of torchvision's GoogLeNet, `AuxLogits` of Inception v3."""
_STEPS = 200_000
"""Places that the search looks at before it gives up; the networks of `examples` need a few thousand."""
_LISTED = 12


@dataclass(frozen=True)
class _Layer:
    """A node of ours with parameters: its name, and role → (parameter, shape)."""

    name: str
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    others: tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(eq=False)
class _Module:
    """A module of the file: the tensors that are directly its own, by role, and the modules in it."""

    path: str = ""
    tensors: dict[str, str] = field(default_factory=dict)
    children: dict[str, _Module] = field(default_factory=dict)
    words: frozenset[str] = frozenset()
    """Names in it, its own too."""


def map_auto(graph: Graph, tensors: Mapping[str, Stored], origin: str, *, flat: bool = True) -> Mapped:
    """The mapping, if there is exactly one.

    Args:
        graph: whose parameters are to be found.
        tensors: by their names in the file.
        origin: the file's name, for messages.
        flat: whether names that say nothing may go by the numbers in them alone.

    Raises:
        CompactError: CIR646 where nothing fits, with the first layer that finds no partner; CIR647 where two
            mappings fit, with what they differ in.
    """
    dropped = [name for name in tensors if name.endswith(_COUNTER) or _ONLY_TRAINED.search(name)]
    unused = set(dropped)
    shapes = {name: tensor.array.shape for name, tensor in tensors.items() if name not in unused}
    layers = _layers(graph)
    search = _Search(layers, shapes)
    found = search.solutions(_tree(shapes))
    first = next(found, None)
    if first is None:
        listed = _by_sequence(graph, shapes, origin) if flat and not _has_roles(graph, shapes) else None
        if listed is None:
            raise _nothing_fits(graph, layers, search, origin)
        return Mapped(listed.parts, tuple(dropped))
    if (second := next(found, None)) is not None:
        raise _ambiguous(first, second, origin)
    return Mapped(tuple(part for parts in first for part in parts), tuple(dropped))


def _has_roles(graph: Graph, names: Iterable[str]) -> bool:
    """Whether any name says what its tensor is."""
    roles = {name.rpartition(".")[2] for name in graph.params} | set(ROLES)
    return any(name.rpartition(".")[2] in roles for name in names)


def _by_sequence(graph: Graph, shapes: Mapping[str, tuple[int, ...]], origin: str) -> Mapped | None:
    """Names without meaning: by the numbers in them, and as the file has them, which must not disagree."""
    orders = {tuple(sorted(shapes, key=_natural)), tuple(shapes)}
    found = [m for order in sorted(orders) if (m := by_sequence(graph, shapes, order, origin))]
    if len(found) > 1 and found[0] != found[1]:
        raise _ambiguous([(part,) for part in found[0].parts], [(part,) for part in found[1].parts], origin)
    return found[0] if found else None


def _layers(graph: Graph) -> list[_Layer]:
    """Every node that has parameters, in order; a parameter that two nodes share counts once."""
    layers, seen = [], set[str]()
    for node in graph.nodes:
        own = [p for p in node.params if p.name not in seen]
        seen |= {p.name for p in own}
        named = [(p.name.rpartition(".")[2], p.name, p.type.shape) for p in own]
        weights = tuple((name, shape) for role, name, shape in named if re.fullmatch(r"weight\d*", role))
        others = tuple(entry for entry in named if not re.fullmatch(r"weight\d*", entry[0]))
        if own:
            layers.append(_Layer(node.name, weights, others))
    return layers


def _tree(names: Mapping[str, object]) -> _Module:
    root = _Module()
    for name in names:
        *path, last = name.split(".")
        module = root
        for i, word in enumerate(path):
            module = module.children.setdefault(word, _Module(".".join(path[: i + 1])))
        module.tensors[ROLES.get(last, last)] = name
    _settle(root)
    return root


def _settle(module: _Module) -> None:
    """Tensors of a module that has children too become a child of their own."""
    for child in module.children.values():
        _settle(child)
    own = {module.path.rpartition(".")[2]}
    module.words = frozenset(own.union(*(child.words for child in module.children.values())))
    if module.children and module.tensors:
        module.children[""] = _Module(module.path, module.tensors)
        module.tensors = {}


# -- does a module fit a layer? ------------------------------------------------------------------------------


def _fit(layer: _Layer, module: _Module, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Part, ...] | None:
    """The parts of a layer that a module gives, or None.

    A module whose children each hold a part of the output channels fits as a whole: MixConv and group
    convolutions as lists of convolutions.
    """
    pieces = [module] if module.tensors else list(module.children.values())
    if len(pieces) > 1 and any(piece.children or "weight" not in piece.tensors for piece in pieces):
        return None
    roles = [role for role, _, _ in layer.others]
    if any(set(piece.tensors) != {*roles, *(["weight"] if layer.weights else [])} for piece in pieces):
        return None
    if len(pieces) > 1 and not set(roles) <= {"bias"}:
        return None
    ordered = sorted(pieces, key=lambda piece: _natural(piece.path))
    weights = (
        _fit_weights(layer, [piece.tensors["weight"] for piece in ordered], shapes) if layer.weights else ()
    )
    if weights is None:
        return None
    others = tuple(Part(name, tuple(p.tensors[role] for p in ordered)) for role, name, _ in layer.others)
    right = all(
        _joins([shapes[n] for n in p.theirs], o[2]) for p, o in zip(others, layer.others, strict=True)
    )
    return (*weights, *others) if right else None


def _fit_weights(
    layer: _Layer, theirs: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Part, ...] | None:
    """One of ours from one or several of theirs, or as many as ours, one by one."""
    if len(layer.weights) == 1:
        (name, shape), all_of_them = layer.weights[0], tuple(theirs)
        return (Part(name, all_of_them),) if _joins([shapes[n] for n in theirs], shape) else None
    if len(layer.weights) != len(theirs):
        return None
    pairs = list(zip(layer.weights, theirs, strict=True))
    if not all(_joins([shapes[name]], shape) for (_, shape), name in pairs):
        return None
    return tuple(Part(ours, (name,)) for (ours, _), name in pairs)


def _joins(parts: Sequence[tuple[int, ...]], whole: tuple[int, ...]) -> bool:
    """Whether arrays of these shapes, one after the other, have that shape, up to axes of length one."""
    ends = {plain(part)[1:] for part in parts}
    return ends == {plain(whole)[1:]} and sum(p[0] for p in parts if p) == (whole[0] if whole else 0)


# -- laying the tree out -------------------------------------------------------------------------------------

_Open = tuple[tuple[_Module, frozenset[str]], ...]
"""Modules that have begun, outermost first, each with the children that are still to come."""


@dataclass(frozen=True)
class _Move:
    """One step: what is open after it, and the parts of the layer that it found, if any."""

    open: _Open
    parts: tuple[Part, ...] | None


@dataclass(eq=False)
class _Frame:
    """A place in the search: `preferred` moves (by name), then `others`, unless a preferred one led home."""

    at: int
    preferred: list[_Move]
    others: list[_Move]
    led_home: bool = False
    decided: bool = False
    _by_name: bool = False

    def next(self) -> _Move | None:
        self._by_name = bool(self.preferred)
        if self.preferred:
            return self.preferred.pop(0)
        return self.others.pop(0) if self.others and not self.decided else None

    def arrive(self) -> None:
        self.led_home = True
        self.decided |= self._by_name


class _Search:
    """Depth first, with a memory of dead ends."""

    def __init__(self, layers: Sequence[_Layer], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.layers = layers
        self.shapes = shapes
        self.furthest = 0
        self.last = ""
        self.gave_up = False

    def solutions(self, root: _Module) -> Iterator[list[tuple[Part, ...]]]:
        """All mappings, one by one: the parts of every layer."""
        start: _Open = ((root, frozenset(root.children)),) if root.children else ()
        if root.tensors:  # names without a dot: every tensor is a module
            root.children = {name: _Module(name, {role: name}) for role, name in root.tensors.items()}
            start = ((root, frozenset(root.children)),)
        stack, chosen, steps = [self._frame(0, start)], list[tuple[Part, ...]](), 0
        dead = set[tuple[int, _Open]]()
        keys, moves = [(0, start)], list[_Move]()
        while stack:
            move = stack[-1].next()
            steps += 1
            if steps > _STEPS:
                self.gave_up = True
                return
            if move is None:
                frame, key = stack.pop(), keys.pop()
                if not frame.led_home:
                    dead.add(key)
                if moves and moves.pop().parts is not None:
                    chosen.pop()
                continue
            at = stack[-1].at + (move.parts is not None)
            if (at, move.open) in dead:
                continue
            if move.parts is not None:
                chosen.append(move.parts)
                if at > self.furthest:
                    self.furthest, self.last = at, move.parts[0].theirs[0]
            if at == len(self.layers) and not move.open:
                for frame in stack:
                    frame.arrive()
                yield list(chosen)
                chosen.pop()
                continue
            stack.append(self._frame(at, move.open))
            keys.append((at, move.open))
            moves.append(move)

    def _frame(self, at: int, open: _Open) -> _Frame:
        if at == len(self.layers) or not open:
            return _Frame(at, [], [])
        (*outer, (module, left)) = open
        words = {word for word in self.layers[at].name.split(".") if not word[-1].isdigit()}  # labels
        preferred, others = list[_Move](), list[_Move]()
        for name in _first_of(left):
            child = module.children[name]
            rest = left - {name}
            after: _Open = (*outer, (module, rest)) if rest else tuple(outer)
            into = preferred if words & child.words else others
            parts = _fit(self.layers[at], child, self.shapes)
            if parts is not None:
                into.append(_Move(after, parts))
            if child.children and (parts is None or len(child.children) > 1):
                into.append(_Move((*after, (child, frozenset(child.children))), None))
        return _Frame(at, preferred, others)


def _first_of(names: frozenset[str]) -> list[str]:
    """Who may come next: of numbered names that begin alike, only the lowest."""
    lowest: dict[str, str] = {}
    for name in sorted(names, key=_natural):
        stem = re.split(r"\d", name, maxsplit=1)[0] if re.search(r"\d", name) else f"{name}="
        lowest.setdefault(stem, name)
    return list(lowest.values())


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `block2` before `block10`."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", name)]


# -- what to say ---------------------------------------------------------------------------------------------


def _nothing_fits(graph: Graph, layers: Sequence[_Layer], search: _Search, origin: str) -> CompactError:
    notes = []
    if search.furthest < len(layers):
        layer = layers[search.furthest]
        wanted = [f"`{n}` {list(s)}" for n, s in layer.weights] + [
            f"`{n}` {list(s)}" for _, n, s in layer.others
        ]
        after = (
            f"{search.furthest} of {len(layers)} layers find a partner, up to `{search.last}`; "
            if search.last
            else ""
        )
        notes.append(f"{after}nothing that may follow fits {spell_list(wanted)}")
    else:
        notes.append(f"all {len(layers)} layers find a partner, and the file holds more than these")
    ours, theirs = sum(p.type.size for p in graph.params.values()), sum(map(prod, search.shapes.values()))
    notes.append(
        f"`{graph.name}` has {ours:,} numbers in {len(graph.params)} tensors, "
        f"the file {theirs:,} in {len(search.shapes)}"
    )
    if search.shapes and not _has_roles(graph, search.shapes):
        example = next(iter(search.shapes))
        notes.append(f"no name of the file says what a tensor is, as `weight` and `bias` do: `{example}`")
    if search.gave_up:
        notes.append(f"the search was given up after {_STEPS:,} steps")
    return CompactError(
        "CIR646",
        f"the weights in {origin} cannot be laid onto `{graph.name}` by order and shape",
        notes=notes,
        help="is it this network, of this width (`-D`)? if it is, write the names down: `--map FILE`",
    )


def _ambiguous(
    first: Sequence[tuple[Part, ...]], second: Sequence[tuple[Part, ...]], origin: str
) -> CompactError:
    differing = [
        f"`{a.ours}` could be {_quoted(a.theirs)} or {_quoted(b.theirs)}"
        for left, right in zip(first, second, strict=True)
        for a, b in zip(left, right, strict=True)
        if a != b
    ]
    more = [f"… and {len(differing) - _LISTED} more"] if len(differing) > _LISTED else []
    return CompactError(
        "CIR647",
        f"the weights in {origin} fit in more than one way",
        notes=[*differing[:_LISTED], *more],
        help="write the names down, a line `THEIRS -> OURS` each, and give them as `--map FILE`",
    )


def _quoted(names: Sequence[str]) -> str:
    return spell_list([f"`{name}`" for name in names])

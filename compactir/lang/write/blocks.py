"""Pieces that repeat: stretches of calls with one value in and one out that occur again with the same wiring.

Of all stretches the one that saves most calls becomes a block, its places become calls of it, and so on until
nothing saves enough. In what two places may differ (widths, kernels, strides, groups), `parameters` makes
arguments of. Where some of the places add their input to their result, and just those where shapes allow it,
the block has the residual, with that condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compactir.ir.graph import Value
from compactir.lang.write.calls import Call
from compactir.lang.write.items import Item
from compactir.lang.write.parameters import Parameters, arguments, infer_parameters, is_width

__all__ = ["Block", "find_blocks"]

VARY = {"out", "kernel", "stride", "dilation", "groups", "width", "multiplier"}
"""Arguments in which the places of a block may differ."""
_LONGEST = 80
_LEAST_SAVED = 3.5
_TRIED = 24
_STRONG = {"conv", "depthwise", "linear"}
_STARTS = {"conv", "depthwise", "split", "bn", "affine"}
_NOT_FIRST = {
    "relu",
    "relu6",
    "swish",
    "hard_swish",
    "clip",
    "leaky_relu",
    "sigmoid",
    "dropout",
    "identity",
    "flatten",
}
_NOT_NEXT = _NOT_FIRST | {"bn", "affine"}


@dataclass(eq=False)
class Block:
    """A block that will be declared: the calls of its first place, and what its arguments are."""

    name: str
    items: list[Item]
    entry: Value
    out: Value
    residual: Item | None
    parameters: Parameters
    places: int = 0
    known: bool = False
    """It comes from the standard library: it is imported, not declared."""


@dataclass
class _Place:
    """A stretch items[start:stop] with its only input.

    `joints` counts the places inside where branches have met and something new begins: a block should end
    there. `added`: the item after it adds its input to its result.
    """

    start: int
    stop: int
    entry: Value
    joints: int = 0
    added: bool = False


@dataclass
class _Pattern:
    key: tuple[Any, ...]
    places: list[_Place] = field(default_factory=list)


def find_blocks(
    items: list[Item], outputs: Sequence[Value], taken: set[str]
) -> tuple[list[Item], list[Block]]:
    """The calls with blocks in place of what repeats, and these blocks, in order of first use."""
    blocks: list[Block] = []
    for gates_only in (True, False):
        while (pattern := _best(items, outputs, gates_only)) is not None:
            block, items = _extract(items, pattern, taken)
            blocks.append(block)
    return items, blocks


def _best(items: list[Item], outputs: Sequence[Value], gates_only: bool) -> _Pattern | None:
    rough = []
    for pattern in _patterns(items, outputs, gates_only):
        pattern.places = _apart(pattern.places)
        if len(pattern.places) > 1:
            _residuals(items, pattern, outputs)
            if (saved := _saving(items, pattern)) >= _LEAST_SAVED:
                rough.append((saved * (1 + 0.03 * _shape(items, pattern)), -pattern.places[0].start, pattern))
    rough.sort(key=lambda entry: entry[:2], reverse=True)
    scored = [_without_outliers(items, outputs, pattern) for _, _, pattern in rough[:_TRIED]]
    score, _, best = max(scored, key=lambda entry: entry[:2], default=(0.0, 0, None))
    return best if score >= _LEAST_SAVED else None


def _without_outliers(
    items: list[Item], outputs: Sequence[Value], pattern: _Pattern
) -> tuple[float, int, _Pattern]:
    """Leave out places that alone make parameters necessary; the score counts these."""
    best = pattern, _score(items, pattern)
    improved = True
    while improved and len(best[0].places) > 2:
        improved = False
        for place in (best[0].places[0], best[0].places[-1]):
            fewer = _Pattern(pattern.key, [replace(p) for p in best[0].places if p is not place])
            _residuals(items, fewer, outputs)
            if (score := _score(items, fewer)) > best[1]:
                best, improved = (fewer, score), True
                break
    return best[1], -best[0].places[0].start, best[0]


def _score(items: list[Item], pattern: _Pattern) -> float:
    pieces = [items[p.start : p.stop] for p in pattern.places]
    parameters = infer_parameters(pieces, [p.entry for p in pattern.places]).parameters
    spare = sum(1.0 if is_width(p.name) else 2.0 for p in parameters) * (1 + 0.1 * len(pieces))
    return (_saving(items, pattern) - spare) * (1 + 0.03 * _shape(items, pattern))


# -- stretches -----------------------------------------------------------------------------------------------


def _patterns(items: list[Item], outputs: Sequence[Value], gates_only: bool) -> Iterator[_Pattern]:
    """All stretches with one input and one result, sorted by what they do."""
    position = {value: i for i, item in enumerate(items) for value in item.results}
    last_use: dict[Value, int] = {}
    for i, item in enumerate(items):
        for value in item.operands:
            last_use[value] = i
    for value in outputs:
        last_use[value] = len(items)
    numbers: dict[tuple[Any, ...], int] = {}
    keys = [numbers.setdefault(_key(item), len(numbers)) for item in items]
    found: dict[tuple[Any, ...], _Pattern] = {}
    for start in range(len(items)):
        for place, key in _from(start, items, keys, position, last_use):
            if gates_only and items[place.stop - 1].call.word != "mul":
                continue
            found.setdefault(key, _Pattern(key)).places.append(place)
    yield from (p for p in found.values() if len(p.places) > 1)


def _from(
    start: int,
    items: list[Item],
    keys: list[int],
    position: dict[Value, int],
    last_use: dict[Value, int],
) -> Iterator[tuple[_Place, tuple[Any, ...]]]:
    entry: Value | None = None
    local: dict[Value, tuple[int, int]] = {}
    key: list[Any] = []
    joints, met = 0, False
    open_values: dict[Value, int] = {}  # what is read after the stretch so far → its last reader
    for stop in range(start + 1, min(len(items), start + _LONGEST) + 1):
        item = items[stop - 1]
        for value in item.operands:
            if value not in local:
                if entry is not None and value is not entry:
                    return
                entry = value
        refs = tuple(local.get(value, (-1, 0)) for value in item.operands)
        key.append((keys[stop - 1], refs))
        for k, value in enumerate(item.results):
            local[value] = (stop - 1 - start, k)
            open_values[value] = last_use.get(value, -1)
        open_values = {v: at for v, at in open_values.items() if at >= stop}
        if met and item.call.word in _STRONG:
            joints, met = joints + 1, False
        if len(item.results) == 1 and set(open_values) == {item.out} and entry is not None:
            met = met or len(item.operands) > 1
            worth = any(it.block or it.call.word in _STRONG for it in items[start:stop])
            if stop - start > 1 and worth and not _cuts(items, start, stop):
                yield _Place(start, stop, entry, joints), tuple(key)


def _cuts(items: list[Item], start: int, stop: int) -> bool:
    """Whether a stretch begins or ends within a row of calls of one block."""

    def same(a: int, b: int) -> bool:
        return items[a].block and items[a].call.word == items[b].call.word

    return (start > 0 and same(start, start - 1)) or (stop < len(items) and same(stop - 1, stop))


def _key(item: Item) -> tuple[Any, ...]:
    """What two calls must have in common to be one call of a block."""
    word, args = item.call.word, item.call.args
    fixed = tuple((n, repr(v)) for n, v in args if not (item.block or n in VARY) or not _varies(v))
    return (word, len(item.operands), len(item.results), tuple(n for n, _ in args), fixed)


def _varies(value: Any) -> bool:
    return isinstance(value, (int, list)) and not isinstance(value, bool)


def _apart(places: list[_Place]) -> list[_Place]:
    """Places that do not overlap, from the first on."""
    chosen: list[_Place] = []
    for place in sorted(places, key=lambda p: p.start):
        if not chosen or place.start >= chosen[-1].stop:
            chosen.append(place)
    return chosen


def _residuals(items: list[Item], pattern: _Pattern, outputs: Sequence[Value]) -> None:
    """Mark the places whose result is added to their input, if those are the ones whose shapes allow it."""
    readers: dict[Value, int] = {}
    for item in items:
        for value in item.operands:
            readers[value] = readers.get(value, 0) + 1
    orders = set()
    for place in pattern.places:
        result, place.added = items[place.stop - 1].out, False
        after = items[place.stop] if place.stop < len(items) else None
        if after is None or after.call.word != "add" or set(after.operands) != {place.entry, result}:
            continue
        if readers[result] == 1 and result not in outputs:
            place.added = True
            orders.add(after.operands[0] is place.entry)
    possible = [p.entry.type.shape == items[p.stop - 1].out.type.shape for p in pattern.places]
    if possible != [p.added for p in pattern.places] or len(orders) > 1:
        for place in pattern.places:
            place.added = False


def _saving(items: list[Item], pattern: _Pattern) -> float:
    """How many calls less there are to read; a run of equal calls reads as one (it becomes a loop)."""
    first = pattern.places[0]
    stretch = items[first.start : first.stop]
    length = 0.0
    for i, item in enumerate(stretch):
        length += 0.0 if i and item.block and item.call.word == stretch[i - 1].call.word else 1.0
    added = sum(place.added for place in pattern.places)
    return ((len(pattern.places) - 1) * (length - 0.5) + added - 1.5) * 0.6**first.joints


def _shape(items: list[Item], pattern: _Pattern) -> int:
    """How natural a stretch is: where it begins, where it ends, whether its input is read more than once."""
    first = pattern.places[0]
    words = [item.call.word for item in items[first.start : first.stop]]
    strong = [w for w in words if w in ("conv", "depthwise")]
    points = 2 * (words[0] in _STARTS) - 4 * (words[0] in _NOT_FIRST)
    points += 2 * (words[-1] not in _STARTS)
    after = {items[p.stop].call.word for p in pattern.places if p.stop < len(items)}
    if words[-1] not in ("concat", "shuffle", "max_pool", "avg_pool"):
        points -= 3 * bool(after & (_NOT_FIRST if words[-1] not in _STRONG else _NOT_NEXT))
    points += 2 * (not strong or strong[-1] != "depthwise" or strong[0] == "depthwise")
    inside = [item.operands for item in items[first.start : first.stop]]
    points += 2 * (sum(first.entry in operands for operands in inside) > 1)
    return points


# -- extraction ----------------------------------------------------------------------------------------------


def _extract(items: list[Item], pattern: _Pattern, taken: set[str]) -> tuple[Block, list[Item]]:
    """The block of a pattern, and the calls with its places replaced."""
    pieces = [items[p.start : p.stop] for p in pattern.places]
    entries = [p.entry for p in pattern.places]
    parameters = infer_parameters(pieces, entries)
    first = pattern.places[0]
    residual = next((items[p.stop] for p in pattern.places if p.added), None)
    name = _named(pieces[0], first.entry, residual is not None, taken)
    block = Block(name, pieces[0], first.entry, pieces[0][-1].out, None, parameters, len(pieces))
    if residual is not None:
        place = next(p for p in pattern.places if p.added)
        swapped = {place.entry: first.entry, items[place.stop - 1].out: block.out}
        block.residual = Item(residual.call, [swapped[v] for v in residual.operands], residual.results)
    result, at = list[Item](), 0
    for i, place in enumerate(pattern.places):
        result += items[at : place.start]
        stop = place.stop + place.added
        whole = items[place.start : stop]
        call = Call(name, arguments(parameters, pieces[i], place.entry))
        result.append(
            Item(call, [place.entry], [whole[-1].out], [n for item in whole for n in item.nodes], block=True)
        )
        at = stop
    return block, result + items[at:]


def _named(piece: Sequence[Item], entry: Value, residual: bool, taken: set[str]) -> str:
    """A name after what the block does."""
    words = [item.call.word for item in piece]
    heads = sum(entry in item.operands for item in piece)
    last = piece[-1].call.word
    adds = residual or ("add" in words and heads > 1)
    if last == "mul" and "global_avg_pool" in words and len(words) < 9:
        stem = "excite"
    elif "shuffle" in words:
        stem = "shuffle_unit"
    elif words.count("concat") and heads > 2:
        stem = "inception"
    elif last == "concat" and entry in piece[-1].operands:
        stem = "dense_layer"
    elif adds and "depthwise" in words:
        stem = "inverted_residual"
    elif adds:
        stem = "residual"
    elif last == "concat" and words.count("conv") == 3 and len(words) < 8 and heads == 1:
        stem = "fire"
    elif "concat" in words:
        stem = "branches"
    elif words.count("depthwise") == 1 and words.count("conv") == 1:
        stem = "separable"
    elif words.count("conv") + words.count("depthwise") == 1:
        stem = "layer"
    else:
        stem = "unit"
    name, n = stem, 1
    while name in taken:
        n += 1
        name = f"{stem}_{n}"
    taken.add(name)
    return name

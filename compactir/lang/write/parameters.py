"""In what the places of a block differ, as parameters: `out`, `mid = out / 4`, `x.channels * 6`.

Widths are said through each other where the same expression holds at every place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from compactir.ir.graph import Value
from compactir.lang.write.items import Item

__all__ = ["Parameter", "Parameters", "arguments", "infer_parameters"]

_WIDTHS = {"out", "width", "mid", "reduce", "pool", "squeeze"}
_PASSED = {"bn", "relu", "relu6", "swish", "hard_swish", "sigmoid", "leaky_relu", "depthwise", "shuffle"}
"""What stands between two convolutions without a width of its own."""
_RATIOS = [Fraction(1, n) for n in (2, 3, 4, 6, 8, 16)] + [Fraction(n) for n in (2, 3, 4, 6, 8)]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a block; `read` takes its value from a place."""

    name: str
    values: tuple[Any, ...]
    read: Callable[[Sequence[Item], Value], Any]

    @cached_property
    def default(self) -> Any:
        """The value that most places have, if it is that of more than half of them."""
        counts = Counter(map(repr, self.values))
        text, count = counts.most_common(1)[0]
        usual = not is_width(self.name) and self.name != "expand" and count * 2 > len(self.values)
        return next(v for v in self.values if repr(v) == text) if usual else None


@dataclass
class Parameters:
    """The parameters of a block, and (number of the item, argument) → the expression to write."""

    parameters: list[Parameter] = field(default_factory=list)
    written: dict[tuple[int, str], str] = field(default_factory=dict)


def is_width(name: str) -> bool:
    """Whether an argument counts channels."""
    return name.rstrip("0123456789") in _WIDTHS


def infer_parameters(pieces: Sequence[Sequence[Item]], entries: Sequence[Value]) -> Parameters:
    """What the places need, from all of them."""
    result = Parameters()
    channels = tuple(entry.type.channels for entry in entries)
    slots = [(i, name) for i, item in enumerate(pieces[0]) for name, _ in item.call.args]
    widths = [slot for slot in slots if is_width(slot[1])]
    for i, name in [*reversed(widths), *(slot for slot in slots if not is_width(slot[1]))]:
        values = tuple(dict(piece[i].call.args)[name] for piece in pieces)
        varies = any(v != values[0] for v in values)
        if is_width(name) and (text := _as_width(values, channels, result)):
            result.written[i, name] = text
        elif varies:
            result.written[i, name] = _parameter(i, name, values, channels, result)
    return _renumbered(result, slots, _roles(pieces[0], result))


def _roles(piece: Sequence[Item], found: Parameters) -> dict[str, str]:
    """Better names for widths: `squeeze` behind a global pool; of several each by its place and kernel."""
    places = {text: i for (i, _), text in reversed(found.written.items()) if is_width(text)}
    middle = [p.name for p in found.parameters if p.name.startswith("mid")]
    joined = piece[-1].call.word == "concat"
    roles = {name: _role(piece, i) for name, i in places.items()}
    if len(middle) > 1 and None not in roles.values() and len(set(roles.values())) == len(roles):
        return {name: role for name, role in roles.items() if role and (joined or name != "out")}
    return {name: "squeeze" for name in middle if roles.get(name) == "squeeze"}


def _role(piece: Sequence[Item], at: int) -> str | None:
    """`out3` of a 3×3 convolution, `reduce3` before one, `pool` behind a pool, `out1` else."""
    item = piece[at]
    kernel = dict(item.call.args).get("kernel")
    if item.call.word != "conv" or not isinstance(kernel, int):
        return None
    if kernel > 1:
        return f"out{kernel}"
    makers = {value: other for other in piece for value in other.results}
    maker = next((makers[v] for v in item.operands if v in makers), None)
    if maker is not None and "pool" in maker.call.word:
        return "squeeze" if maker.call.word.startswith("global") else "pool"
    value = item.out
    for other in piece[at + 1 :]:
        if value not in other.operands:
            continue
        if other.call.word not in _PASSED:
            behind = dict(other.call.args).get("kernel") if other.call.word == "conv" else None
            return f"reduce{behind}" if isinstance(behind, int) and behind > 1 else "out1"
        value = other.out
    return "out1"


def _renumbered(found: Parameters, slots: Sequence[tuple[int, str]], roles: Mapping[str, str]) -> Parameters:
    """The same with parameters of one kind numbered in the order in which they are used."""
    words = [w for slot in slots for w in re.findall(r"(?<![.\w])[a-z_]+\d*", found.written.get(slot, ""))]
    names = [p.name for p in found.parameters]
    order = [name for name in dict.fromkeys(words) if name in names]
    fresh: dict[str, str] = {}
    for name in order:
        if name in roles:
            fresh[name] = roles[name]
            continue
        stem = name.rstrip("0123456789")
        n = sum(old.rstrip("0123456789") == stem for old in fresh) + 1
        fresh[name] = stem if n == 1 else f"{stem}{n}"
    ranked = sorted(
        found.parameters, key=lambda p: (p.default is not None, fresh[p.name] != "out", order.index(p.name))
    )
    written = {
        slot: re.sub(r"(?<![.\w])[a-z_]+\d*", lambda m: fresh.get(m[0], m[0]), text)
        for slot, text in found.written.items()
    }
    return Parameters([replace(p, name=fresh[p.name]) for p in ranked], written)


def _as_width(values: tuple[Any, ...], channels: tuple[int, ...], result: Parameters) -> str | None:
    """A width through the input's, or through a parameter's, with the same ratio everywhere."""
    known = [("x.channels", channels)]
    known += [(p.name, p.values) for p in result.parameters if p.name.startswith(("out", "mid"))]
    constant = len(set(values)) == 1
    for name, given in known:
        if values == given and not (constant and len(values) < 3 and name == "x.channels"):
            return name
    if constant:
        return None
    for name, given in known:
        ratios = {Fraction(v, g) for v, g in zip(values, given, strict=True)}
        if len(ratios) == 1 and (ratio := next(iter(ratios))) in _RATIOS:
            return f"{name} / {ratio.denominator}" if ratio < 1 else f"{name} * {ratio}"
    return None


def _parameter(
    i: int, name: str, values: tuple[Any, ...], channels: tuple[int, ...], result: Parameters
) -> str:
    """A parameter that exists already and has these values, or a new one."""
    if not is_width(name):
        for known in result.parameters:
            if known.values == values and known.name.rstrip("0123456789") == name:
                return known.name

    def read(piece: Sequence[Item], entry: Value) -> Any:
        return dict(piece[i].call.args)[name]

    if is_width(name) and all(v % c == 0 and v > c for v, c in zip(values, channels, strict=True)):
        ratios = tuple(v // c for v, c in zip(values, channels, strict=True))
        if len(set(ratios)) < len(set(values)) and any(p.name == "out" for p in result.parameters):
            added = _add(
                result, "expand", ratios, lambda piece, entry: read(piece, entry) // entry.type.channels
            )
            return f"x.channels * {added}"
    stem = name
    if is_width(name) and any(p.name == "out" for p in result.parameters):
        stem = "mid"
    return _add(result, stem, values, read)


def _add(
    result: Parameters, stem: str, values: tuple[Any, ...], read: Callable[[Sequence[Item], Value], Any]
) -> str:
    name, n = stem, 1
    while name in {p.name for p in result.parameters}:
        n += 1
        name = f"{stem}{n}"
    result.parameters.append(Parameter(name, values, read))
    return name


def arguments(parameters: Parameters, piece: Sequence[Item], entry: Value) -> tuple[tuple[str, Any], ...]:
    """The arguments of the call that stands for a place."""
    return tuple((p.name, p.read(piece, entry)) for p in parameters.parameters)

"""The values of the language, exact arithmetic on them, and their conversion to what a parameter wants.

Numbers are `int` and `Fraction`: `32 * 0.35` is 56/5, not 11.2 and a bit. A `Fraction` stays one (it prints
as `1.0`) and serves as a whole number only where it is one. Lists and tuples are `Items`, tensors are the
graph's `Value`. Everything has a bound, so that no file can make the compiler run out of time or memory.
"""

from __future__ import annotations

import operator
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import floor
from typing import Any

from compactir.diagnostics import CompactError
from compactir.ir.graph import Value
from compactir.ir.types import TensorType

MAX_ITEMS = 1_000_000
MAX_BITS = 512
MAX_WHOLE = 2**40
"""The largest whole number that an operation is given."""

Number = int | Fraction


class Items(tuple[Any, ...]):
    """A list or a tuple. `weight` counts the leaves below it, so that doubling a list cannot run away."""

    weight: int

    @classmethod
    def of(cls, values: Iterable[Any]) -> Items:
        """Errors: CIR121 when there are too many elements."""
        items = cls(values)
        items.weight = 1 + sum(v.weight if isinstance(v, Items) else 1 for v in items)
        if items.weight > MAX_ITEMS:
            raise CompactError("CIR121", f"the list has more than {MAX_ITEMS} elements")
        return items


def is_number(value: object) -> bool:
    """True for whole numbers and fractions, not for true and false."""
    return isinstance(value, (int, Fraction)) and not isinstance(value, bool)


def show(value: object) -> str:
    """A value as a message spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fraction):
        return _show_fraction(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Value):
        return str(value.type)
    if isinstance(value, range):
        return f"{value.start}..{value.stop}"
    if isinstance(value, Items):
        shown = ", ".join(show(v) for v in value[:8]) + (", ..." if len(value) > 8 else "")
        return f"[{shown}]" if len(shown) < 100 else f"[{shown[:100]}...]"
    return str(value)


def _show_fraction(value: Fraction) -> str:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1 and value.denominator < 10**9:
        text = f"{float(value):.12g}"
        return text if "." in text or "e" in text else text + ".0"
    return f"{value.numerator}/{value.denominator}"


class Word(str):
    """A bare word as the value of a `-D`: `-D width=nan`."""


def kind(value: object) -> str:
    """What a value is, with its article."""
    if isinstance(value, Word):
        return f"the word `{value}`"
    if isinstance(value, bool):
        return "a truth value"
    if is_number(value):
        return "a number"
    if isinstance(value, Value):
        return "a tensor"
    if isinstance(value, (Items, range)):
        return "a list"
    names = {"str": "a string", "StepValue": "a step", "Masked": "`learned(...)`"}
    return names.get(type(value).__name__, f"a {type(value).__name__.lower()}")


# -- arithmetic --------------------------------------------------------------------------------------------

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def binary(op: str, a: Any, b: Any) -> Any:
    """The value of `a op b`. Errors: CIR122 too large, CIR133 by zero, CIR134 kinds that do not match."""
    if op in ("==", "!="):
        return _same(a, b, op) == (op == "==")
    if op == "in" and isinstance(b, (Items, range)):
        return any(_comparable(a, item) and a == item for item in b)
    if is_number(a) and is_number(b) and op != "in":
        return _ORDER[op](a, b) if op in _ORDER else arithmetic(op, a, b)
    if op == "+" and isinstance(a, (Items, range)) and isinstance(b, (Items, range)):
        return Items.of((*a, *b))
    raise CompactError("CIR134", f"`{op}` does not apply to {kind(a)} and {kind(b)}", help=_advice(op, a, b))


def _same(a: Any, b: Any, op: str) -> bool:
    if not _comparable(a, b):
        raise CompactError("CIR134", f"`{op}` compares {kind(a)} with {kind(b)}", help=_advice(op, a, b))
    return bool(tuple(a) == tuple(b)) if isinstance(a, (Items, range)) else bool(a == b)


def _comparable(a: Any, b: Any) -> bool:
    return kind(a) == kind(b) and not isinstance(a, Value)


def _advice(op: str, a: Any, b: Any) -> str | None:
    if isinstance(a, Value) != isinstance(b, Value):
        return "a tensor's numbers are `x.channels`, `x.height`, `x.width`, `x.size` and `x.shape`"
    if isinstance(a, Value):
        return "tensors are added and multiplied; everything else is an operation: `x -> op`"
    if op == "in":
        return "what follows `in` must be a list or a range"
    if op in ("==", "!=") and bool in (type(a), type(b)):
        return "a truth value needs no comparison: write `if a` or `if not a`"
    return None


def arithmetic(op: str, a: Number, b: Number) -> Number:
    """`+ - * / // % **` on numbers, exact. Errors: CIR122 result too large, CIR133 division by zero."""
    if op in ("/", "//", "%") and b == 0:
        raise CompactError("CIR133", f"{show(a)} is divided by zero")
    if op == "**":
        return _power(a, b)
    if op == "/":
        quotient = Fraction(a) / Fraction(b)
        both_whole = isinstance(a, int) and isinstance(b, int)
        result: Number = int(quotient) if both_whole and quotient.denominator == 1 else quotient
    else:
        result = _ARITHMETIC[op](a, b)
        if isinstance(a, Fraction) or isinstance(b, Fraction):
            result = Fraction(result)
    return bounded(result)


def _power(base: Number, exponent: Number) -> Number:
    if Fraction(exponent).denominator != 1:
        raise CompactError("CIR134", f"the exponent {show(exponent)} is not a whole number")
    if base == 0 and exponent < 0:
        raise CompactError("CIR133", "zero has no negative power")
    power = int(exponent)
    if abs(power) * max(1, _bits(base)) > 2 * MAX_BITS and base not in (0, 1, -1):
        raise CompactError("CIR122", f"{show(base)} ** {show(exponent)} is too large a number")
    result = Fraction(base) ** (power if base not in (0, 1, -1) or power < 0 else power % 2 or min(power, 2))
    return bounded(int(result) if isinstance(base, int) and result.denominator == 1 else result)


def _bits(number: Number) -> int:
    return max(number.numerator.bit_length(), number.denominator.bit_length()) - 1


def bounded(number: Number) -> Number:
    """The number itself. Errors: CIR122 when it is too large to be meant."""
    if _bits(number) > MAX_BITS:
        raise CompactError("CIR122", f"the result is too large a number: it has more than {MAX_BITS} bits")
    return number


def half_up(number: Number) -> int:
    """The nearest whole number; halves go up."""
    return floor(number + Fraction(1, 2))


def whole(value: Number, what: str) -> int:
    """The value as a whole number. Errors: CIR132 when it is none, CIR122 when it is absurdly large."""
    if isinstance(value, Fraction) and value.denominator != 1:
        low = floor(value)
        raise CompactError(
            "CIR132",
            f"{what} must be a whole number, it is {show(value)}",
            help=f"round it: `floor` gives {low}, `ceil` gives {low + 1}, `round` gives {half_up(value)}",
        )
    number = int(value)
    if abs(number) > MAX_WHOLE:
        raise CompactError("CIR122", f"{what} is {show(value)}: too large a number")
    return number


# -- conversion --------------------------------------------------------------------------------------------


class Mismatch(Exception):  # noqa: N818  # it never leaves this package
    """A value is not of the wanted type."""


def convert(value: Any, hint: Any, what: str) -> Any:
    """The value as Python's type `hint` wants it.

    Raises Mismatch when it is of another kind; CIR132 and CIR122 where it is the wrong number.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(hint), what)
    if hint is Any:
        return value
    if is_number(value) and hint is int:
        return whole(value, what)
    if is_number(value) and hint in (float, Fraction):
        return hint(value)
    if typing.get_origin(hint) in (list, tuple, Sequence) and isinstance(value, (Items, range)):
        inner = (typing.get_args(hint) or (Any,))[0]
        converted = [convert(v, inner, f"element {i} of {what}") for i, v in enumerate(value)]
        return converted if typing.get_origin(hint) is list else tuple(converted)
    is_class = isinstance(hint, type) and hint not in (int, float, Fraction)
    if is_class and isinstance(value, hint):
        return value
    raise Mismatch


def _convert_union(value: Any, hints: Sequence[Any], what: str) -> Any:
    problem: CompactError | None = None
    for hint in sorted(hints, key=lambda h: bool(h is not type(value))):  # the value's own type first
        try:
            return convert(value, hint, what)
        except Mismatch:
            continue
        except CompactError as error:
            problem = problem or error
    if problem:
        raise problem
    raise Mismatch


_WANTED = {
    int: "a whole number",
    float: "a number",
    Fraction: "a fraction",
    bool: "`true` or `false`",
    str: "a string",
    Any: "anything",
    TensorType: "a tensor",
}


def wanted(hint: Any) -> str:
    """What a type annotation asks for, in words."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        words = list(dict.fromkeys(wanted(h) for h in typing.get_args(hint) if h is not type(None)))
        return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    if typing.get_origin(hint) in (list, tuple, Sequence):
        inner = wanted((typing.get_args(hint) or (Any,))[0])
        for one, many in [
            ("a whole number", "whole numbers"),
            ("a fraction", "fractions"),
            ("a list", "lists"),
        ]:
            inner = inner.replace(one, many)
        return "a list of " + inner
    words_of_language = {"Masked": "`learned(...)`"}
    return _WANTED.get(hint) or words_of_language.get(getattr(hint, "__name__", ""), f"a {hint}")

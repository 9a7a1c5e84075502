"""What differs between the instances of a class, said as its constructor's arguments.

A number that is the same everywhere stays a number. One that follows an argument of the block takes that
name; one that is the width of what flows in is `in_channels`; simple products and quotients of these are
written out; what remains becomes an argument named after what it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from typing import Any

from compactir.codegen.torch.classes import Block, Statement, is_named
from compactir.codegen.torch.layer import Layer, Slot
from compactir.codegen.torch.layers import describe
from compactir.codegen.torch.structure import Instance, Ref, Step, TensorRef, Use
from compactir.codegen.torch.text import identifier, unused
from compactir.ir.channels import ChannelList

Values = tuple[Any, ...]
_KEEPS_SHAPE = re.compile(r"\w*stride\w* == 1 and (in_channels == [a-z]\w*|\w+ == in_channels)$")
_CHANGES_SHAPE = re.compile(r"\w*stride\w* != 1 or (in_channels != [a-z]\w*|\w+ != in_channels)$")
_NO_DEFAULT = object()


class CannotNameError(Exception):
    """A value that some instances do not have must not become an argument of all: the variants stay apart."""


@dataclass
class Argument:
    """An argument of a constructor and its value in each instance."""

    name: str
    values: Values
    counts_channels: bool
    default: object = _NO_DEFAULT

    @property
    def has_default(self) -> bool:
        """True where most instances leave it out."""
        return self.default is not _NO_DEFAULT

    @property
    def annotation(self) -> str:
        """Its type as written."""
        kinds = dict.fromkeys(_type_name(v) for v in self.values)
        return " | ".join(kinds)


def _type_name(value: object) -> str:
    if isinstance(value, ChannelList):
        return "Sequence[int]"
    if isinstance(value, list):
        inner = " | ".join(dict.fromkeys(_type_name(v) for v in value))
        return f"list[{inner}]" if inner else "list"
    if isinstance(value, tuple):
        return f"tuple[{', '.join(map(_type_name, value))}]"
    return type(value).__name__


@dataclass
class Written:
    """A statement of a class with all its numbers named."""

    make: str
    """Constructor call without its arguments; empty where nothing is made."""
    arguments: list[str]
    layer: Layer
    inline: dict[str, str]
    """Text of every slot of the expression."""


@dataclass
class Flag:
    """A condition of a class: `self.<name>`."""

    name: str
    test: str
    present: tuple[bool, ...]


Literal = Callable[[object, str], str]
"""Writes a constant, given a name to use should it be too long to stand in the line."""


class Constructor:
    """Finds the names of all numbers of a class.

    Afterwards `arguments`, `locals`, `stored`, `flags` and `written` say what its `__init__` holds.
    """

    def __init__(self, block: Block, classes: Mapping[int, Block], literal: Literal) -> None:
        self.block, self.classes, self.literal = block, classes, literal
        self.count = len(block.instances)
        self.declared = _declared(block.instances)
        self.arguments: list[Argument] = []
        self.locals: dict[str, str] = {}
        self.known: list[tuple[str, Values]] = []
        self.stored: dict[str, str] = {}  # attribute -> text
        self.flags: list[Flag] = []
        self.widths: dict[tuple[int, int], str] = {}
        self.layers = [_layer(s, classes) for s in block.body]
        self._tell_apart()
        self.attributes = {s.name.split(".")[0] for s in block.body} | {"training"}
        self.written = [self._write(i, s) for i, s in enumerate(block.body)]
        self.conditions = [self._condition(s) for s in block.body]
        self._settle()

    def _tell_apart(self) -> None:
        """Layers without parameters get names of their own: passes may have left two steps with one name."""
        fixed = [
            s for s, made in zip(self.block.body, self.layers, strict=True) if made.make and is_named(s.first)
        ]
        taken = {*(s.name for s in fixed), *self.block.containers, *(t.name for t, _ in self.block.tensors)}
        for statement, layer in zip(self.block.body, self.layers, strict=True):
            if layer.make and not is_named(statement.first):
                statement.name = unused(statement.name, taken)
                taken.add(statement.name)

    # -- statements ------------------------------------------------------------------------------------------

    def _write(self, at: int, statement: Statement) -> Written:
        layer = self.layers[at]
        made = [self._slot(s, at, statement) for s in layer.slots if s.positional or s.needed]
        inline = {s.name: self._inline(s, at, statement) for s in layer.inline}
        return Written(layer.make, made, layer, inline)

    def _slot(self, slot: Slot, at: int, statement: Statement) -> str:
        text = self._text(slot, at, statement)
        return text if slot.positional else f"{slot.name}={text}"

    def _inline(self, slot: Slot, at: int, statement: Statement) -> str:
        text = self._text(slot, at, statement)
        if _constant(slot.values):
            return text
        stem = slot.name if slot.name not in self.attributes else f"{statement.name}_{slot.name}"
        for name, stored in self.stored.items():
            if stored == text:
                return f"self.{name}"
        name = identifier(stem, {*self.attributes, *self.stored})
        self.stored[name] = text
        return f"self.{name}"

    def _text(self, slot: Slot, at: int, statement: Statement) -> str:
        if _constant(slot.values):
            return self.literal(_first(slot.values), f"{statement.name}_{slot.name}")
        operand = statement.args[0] if statement.args else None
        if isinstance(_first(slot.values), list) and (
            slot.makes or (slot.reads and isinstance(operand, tuple))
        ):
            whole = (at, 0) if slot.makes or not isinstance(operand, tuple) else operand
            return self._shares(slot, whole) or self.find(slot.values, slot.name, statement.name, False)
        if slot.reads and isinstance(operand, tuple):
            return self._width(operand)
        if slot.makes:
            return self._width((at, 0))
        return self.find(slot.values, slot.name, statement.name, slot.counts_channels)

    # -- widths ----------------------------------------------------------------------------------------------

    def _origin(self, ref: tuple[int, int]) -> tuple[int, int]:
        """The value that brought the number of channels of `ref` about."""
        while ref[0] >= 0 and self.layers[ref[0]].same_channels:
            before = self.block.body[ref[0]].args[0]
            if isinstance(before, TensorRef):
                break
            ref = before
        return ref

    def _channels(self, ref: Ref) -> Values:
        """Number of channels of a value, as seen in each instance."""
        if isinstance(ref, TensorRef):
            return (None,) * self.count
        if ref[0] < 0:
            return tuple(i.inputs[ref[1]].type.channels for i in self.block.instances)
        statement = self.block.body[ref[0]]
        stand_in = statement.instead.get(ref[1])
        other = self._channels(stand_in) if stand_in is not None else (None,) * self.count
        return tuple(
            other[k] if item is None else item.outs[ref[1]].channels for k, item in enumerate(statement.items)
        )

    def _width(self, ref: tuple[int, int]) -> str:
        ref = self._origin(ref)
        values = self._channels(ref)
        if _constant(values):
            return self.literal(_first(values), "channels")
        if ref not in self.widths:
            if ref[0] < 0:
                stem = "in_channels" if ref[1] == 0 else f"in_channels{ref[1] + 1}"
            else:
                is_result = any(isinstance(r, tuple) and self._origin(r) == ref for r in self.block.results)
                stem = "out_channels" if is_result else "hidden"
            self.widths[ref] = self.find(values, stem, "", True)
        return self.widths[ref]

    def _shares(self, slot: Slot, whole: tuple[int, int]) -> str:
        """`[out // 4, out * 3 // 4]`: parts of a number of channels, where all instances cut it alike."""
        totals = self._channels(whole)
        cuts = {
            tuple(Fraction(part, total) for part in parts)
            for parts, total in zip(slot.values, totals, strict=True)
            if parts is not None and total
        }
        if len(cuts) != 1 or _constant(totals):
            return ""
        shares = cuts.pop()
        if sum(shares) != 1 or any(s.denominator > 16 for s in shares):
            return ""
        name = self._width(whole)
        text = name if name.isidentifier() else f"({name})"
        times = [text if s.numerator == 1 else f"{text} * {s.numerator}" for s in shares]
        return f"[{', '.join(f'{t} // {s.denominator}' for t, s in zip(times, shares, strict=True))}]"

    # -- naming ----------------------------------------------------------------------------------------------

    def find(self, values: Values, stem: str, step: str, is_width: bool) -> str:
        """A text with these values: a block's argument, something known, a formula, a new argument."""
        for name, declared in self.declared.items():
            if _matches(declared, values):
                return self._argument(name, declared, is_width)
        for text, known in self.known:
            if _matches(known, values):
                return text
        formula = self._formula(values, stem, step, is_width)
        if formula:
            return formula
        if any(v is None for v in values):
            raise CannotNameError(stem)
        return self._argument(self._new_name(stem, step), values, is_width)

    def _new_name(self, stem: str, step: str) -> str:
        taken = {a.name for a in self.arguments} | {identifier(n) for n in self.declared} | set(self.locals)
        name = identifier(stem)
        return unused(identifier(f"{step}_{stem}") if name in taken and step else name, taken)

    def _argument(self, name: str, values: Values, counts_channels: bool) -> str:
        name = identifier(name)
        for argument in self.arguments:
            if argument.name == name:
                argument.counts_channels |= counts_channels
                return name
        self.arguments.append(Argument(name, values, counts_channels))
        self.known.append((name, values))
        return name

    def _formula(self, values: Values, stem: str, step: str, is_width: bool) -> str:
        if is_width:
            forms = self._products()
        elif stem == "padding":
            forms = ((n, v, 2, "//") for n, v in self.declared.items())
        else:
            return ""
        rows = len(set(map(_hashable, values)) - {None})
        for a, first, b, sign in forms:
            # Two numbers agree with many formulas: then only what the block itself or its input says counts.
            if rows < 3 and (not isinstance(b, int) or b > 8 or not self._is_given(a)):
                continue
            computed = _computed(first, sign, b if isinstance(b, int) else b[1])
            if not _matches(computed, values):
                continue
            second = str(b) if isinstance(b, int) else self._use(*b, is_width and sign != "*")
            text = f"{self._use(a, first, is_width)} {sign} {second}"
            if not is_width:
                return text
            name = self._new_name("hidden" if stem == "out_channels" else stem, step)
            self.locals[name] = text
            self.known.append((name, computed))
            return name
        return ""

    def _is_given(self, name: str) -> bool:
        return name in self.declared or name.startswith("in_channels")

    def _products(self) -> Iterator[tuple[str, Values, int | tuple[str, Values], str]]:
        known = [(n, v) for n, v in self.known if _is_numbers(v)]
        declared = [(n, v) for n, v in self.declared.items() if _is_numbers(v)]
        names = list(dict(known + declared).items())
        channels = [
            (n, v) for n, v in names if n not in self.declared or n in ("out", "out_channels", "channels")
        ]
        for (a, first), b in product([*channels, *names], declared):
            if a != b[0]:
                yield a, first, b, "*"
        for (a, first), b in product([*declared, *names], (2, 3, 4, 6, 8, 16)):
            yield a, first, b, "//"
            yield a, first, b, "*"
        for (a, first), b in product([*declared, *names], names):
            if a != b[0]:
                yield a, first, b, "-"
                yield a, first, b, "+"
                yield a, first, b, "//"

    def _use(self, name: str, values: Values, is_width: bool) -> str:
        return name if name in self.locals else self._argument(name, values, is_width)

    # -- conditions ------------------------------------------------------------------------------------------

    def _condition(self, statement: Statement) -> Flag | None:
        present = statement.present
        if all(present):
            return None
        for flag in self.flags:
            if flag.present == present:
                return flag
        same = [s for s in self.block.body if s.present == present]
        named = [s.name for s in same if s.name]
        sums = any(isinstance(s.first, Step) and s.first.op.name == "add" for s in same)
        additions = sums and not any(is_named(s.first) for s in same)
        stem = "residual" if additions else f"with_{named[0] if named else 'step'}"
        name = identifier(stem, {*self.attributes, *self.stored, *(f.name for f in self.flags)})
        test = self._test(present, additions)
        if test is None:
            test = self._argument(unused(name, {a.name for a in self.arguments}), present, False)
        self.flags.append(Flag(name, test, present))
        return self.flags[-1]

    def _test(self, present: tuple[bool, ...], is_sum: bool) -> str | None:
        """The simplest condition on arguments that holds in exactly the instances where the step is there.

        Tests of arguments with few values come first: `expand != 1` rather than `out != 16`. A sum needs
        equal shapes, so that where there is a stride, a residual connection names it too.
        """
        tests = sorted(self._simple_tests(), key=lambda t: max(len(set(map(str, v))) for _, v in t[2]))
        equal, unequal = ([t for t in tests if f" {sign} " in t[0]] for sign in ("==", "!="))
        both = [
            (f"{a[0]} and {b[0]}", tuple(x and y for x, y in zip(a[1], b[1], strict=True)), a[2] + b[2])
            for a, b in combinations(equal, 2)
        ]
        both += [
            (f"{a[0]} or {b[0]}", tuple(x or y for x, y in zip(a[1], b[1], strict=True)), a[2] + b[2])
            for a, b in combinations(unequal, 2)
        ]
        usual = _KEEPS_SHAPE if is_sum else _CHANGES_SHAPE
        flags = [t for t in tests if t[0].isidentifier()]
        for text, holds, used in [*flags, *(t for t in both if usual.match(t[0])), *tests, *both]:
            if holds == present:
                return self._adopt(text, used)
        return None

    def _simple_tests(self) -> Iterator[tuple[str, tuple[bool, ...], list[tuple[str, Values]]]]:
        known = [(n, v) for n, v in self.known if n not in self.locals and None not in v]
        names = list({**self.declared, **dict(known)}.items())
        for n, v in names:
            if all(isinstance(x, bool) for x in v):
                yield n, v, [(n, v)]
                yield f"not {n}", tuple(not x for x in v), [(n, v)]
        for n, v in names:
            if all(isinstance(x, (int, str)) and not isinstance(x, bool) for x in v):
                for c in self._telling(n, v):
                    constant = self.literal(c, n)
                    yield f"{n} != {constant}", tuple(x != c for x in v), [(n, v)]
                    yield f"{n} == {constant}", tuple(x == c for x in v), [(n, v)]
        numbers = [(n, v) for n, v in names if _is_numbers(v)]
        for (m, w), (n, v) in combinations(numbers, 2):
            equal = tuple(x == y for x, y in zip(v, w, strict=True))
            yield f"{n} == {m}", equal, [(n, v), (m, w)]
            yield f"{n} != {m}", tuple(not e for e in equal), [(n, v), (m, w)]

    def _telling(self, name: str, values: Values) -> list[Any]:
        """Constants that an argument is compared with: small ones; of widths, only what flows in."""
        if any(a.name == identifier(name) and a.counts_channels for a in self.arguments):
            width = self._channels((-1, 0)) if self.block.inputs else ()
            return [width[0]] if width and _constant(width) else []
        small = {v for v in values if isinstance(v, str) or v <= 8}
        return sorted(small, key=lambda c: (str(type(c)), c))

    def _adopt(self, text: str, used: list[tuple[str, Values]]) -> str:
        for name, values in used:
            self._argument(name, values, False)
            text = re.sub(rf"\b{re.escape(name)}\b", identifier(name), text)
        return text

    # -- the end ---------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Defaults and order of the arguments; formulas that are used once go where they are used."""
        for argument in self.arguments:
            (value, times), *_ = Counter(map(_hashable, argument.values)).most_common(1)
            if (
                not argument.counts_channels
                and 2 * times > self.count
                and isinstance(value, (bool, int, float, str))
            ):
                argument.default = value
        order = list(self.declared)

        def rank(a: Argument) -> tuple[bool, bool, int]:
            place = order.index(a.name) if a.name in order else -1 if a.name.startswith("in_") else len(order)
            return a.has_default, not a.counts_channels, place

        self.arguments.sort(key=rank)
        for name in list(self.locals):
            texts = [t for w in self.written for t in [*w.arguments, *w.inline.values()]]
            texts += [*self.stored.values(), *(v for n, v in self.locals.items() if n != name)]
            if sum(len(re.findall(rf"\b{name}\b", t)) for t in texts) == 1:
                self._inline_local(name)

    def _inline_local(self, name: str) -> None:
        formula = self.locals.pop(name)

        def put(text: str, inner: str) -> str:
            return re.sub(rf"\b{name}\b", inner, text)

        self.locals = {n: put(v, f"({formula})") for n, v in self.locals.items()}
        self.stored = {n: put(v, formula) for n, v in self.stored.items()}
        for written in self.written:
            written.arguments = [put(t, formula) for t in written.arguments]


def _layer(statement: Statement, classes: Mapping[int, Block]) -> Layer:
    """How a statement is written; the call of a block is a layer whose slots are the block's arguments."""
    items = statement.items
    if isinstance(statement.first, Step):
        return describe([i if isinstance(i, Step) else None for i in items])
    uses = [i if isinstance(i, Use) else None for i in items]
    child = classes[id(statement.first.instance)]
    at = [None if u is None else child.instances.index(u.instance) for u in uses]
    slots = []
    for argument in child.arguments:
        values = tuple(None if i is None else argument.values[i] for i in at)
        default = argument.default if argument.has_default else _NO_DEFAULT
        reads = argument.name == "in_channels"
        width = argument.counts_channels
        slots.append(Slot(argument.name, values, reads, False, width, width, default))
    operands = ", ".join(f"{{{i}}}" for i in range(len(statement.args)))
    return Layer(f"{{me}}({operands})", child.name, slots, outs=len(statement.first.outs))


def _declared(instances: Sequence[Instance]) -> dict[str, Values]:
    """The block's own arguments that every instance has and that differ."""
    scopes = [dict(i.scope.args) if i.scope else {} for i in instances]
    names = [n for n in scopes[0] if all(n in s for s in scopes)]
    found = {n: tuple(_plain(s[n]) for s in scopes) for n in names}
    return {n: v for n, v in found.items() if not _constant(v)}


def _plain(value: Any) -> Any:
    """An argument of the language as Python has it."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _first(values: Values) -> Any:
    return next(v for v in values if v is not None)


def _constant(values: Values) -> bool:
    present = [v for v in values if v is not None]
    return all(type(v) is type(present[0]) and v == present[0] for v in present)


def _matches(known: Values, values: Values) -> bool:
    return all(
        v is None or (v == k and isinstance(v, bool) == isinstance(k, bool))
        for k, v in zip(known, values, strict=True)
    )


def _is_numbers(values: Values) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _computed(first: Values, sign: str, second: int | Values) -> Values:
    others = (second,) * len(first) if isinstance(second, int) else second
    return tuple(_result(a, sign, b) for a, b in zip(first, others, strict=True))


def _result(a: Any, sign: str, b: Any) -> Any:
    if not isinstance(a, int) or not isinstance(b, int):
        return _NO_DEFAULT
    if sign == "//":
        return a // b if b else _NO_DEFAULT
    return {"*": a * b, "+": a + b, "-": a - b}[sign]


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value

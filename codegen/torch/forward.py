"""The body of `forward`: which steps share a line, what values are called, where conditions stand."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from compactir.codegen.torch.arguments import Constructor, Flag
from compactir.codegen.torch.classes import Statement
from compactir.codegen.torch.layer import access, me
from compactir.codegen.torch.structure import Instance, Ref, Step, TensorRef, Use
from compactir.codegen.torch.text import INDENT, WIDTH, identifier, statement

_LETTERS = ("x", "y", "z")
_NAMED = 6
"""So many parts of a split have names of their own."""
_LOOP = 3
"""So many calls in a chain, named by consecutive numbers, become a loop."""
RESERVED = frozenset({"self", "torch", "nn", "F", "Tensor", "i", "range", *keyword.kwlist})


@dataclass(frozen=True)
class _Pending:
    """A value whose expression may stand inside of the next statement's."""

    ref: tuple[int, int]
    text: str
    infix: str
    light: bool
    """True where it reads well inside of any call."""


class Forward:
    """Writes one `forward`. Values are (statement, result) as in the class's body; (-1, i) are the inputs."""

    def __init__(self, constructor: Constructor, inputs: Sequence[str], keep_inputs: bool) -> None:
        self.constructor = constructor
        self.block = constructor.block
        self.body = self.block.body
        self.inputs = list(inputs)
        self.keep_inputs = keep_inputs
        self.names: dict[Ref, str] = {(-1, i): n for i, n in enumerate(inputs)}
        self.uses = self._uses()
        self.stands_for: dict[Ref, list[tuple[int, int]]] = {}  # stand-in -> the results that it replaces
        for i, one in enumerate(self.body):
            for k, stand_in in one.instead.items():
                self.stands_for.setdefault(stand_in, []).append((i, k))
        self.pending: _Pending | None = None
        self.lines: list[str] = []
        self.flag: Flag | None = None
        self.opened = 0  # where the line of the open condition stands

    def _uses(self) -> dict[Ref, list[int]]:
        """Statements that read each value; the end of the body reads the results."""
        uses: dict[Ref, list[int]] = {}
        for i, one in enumerate(self.body):
            for ref in one.args:
                uses.setdefault(ref, []).append(i)
        for ref in self.block.results:
            uses.setdefault(ref, []).append(len(self.body))
        return uses

    # -- the body --------------------------------------------------------------------------------------------

    def write(self) -> list[str]:
        """The lines of the body, indented by two steps."""
        i = 0
        while i < len(self.body):
            self._enter(self.constructor.conditions[i])
            side_by_side = self._side_by_side(i)
            if not side_by_side:
                self._statement(i)
            i += side_by_side or 1
            flag = self.constructor.conditions[i] if i < len(self.body) else None
            if self.flag is not None and flag is not self.flag:
                self._leave(i)
        self._return()
        return rolled(self.lines, {s.name for s in self.body if isinstance(s.first, Use)})

    def _statement(self, i: int) -> None:
        one, layer = self.body[i], self.constructor.layers[i]
        operands = [self._operand(i, k) for k in range(len(one.args))]
        inline = self.constructor.written[i].inline
        text = layer.call.format(*operands, me=me(one.name), training="self.training", **inline)
        if layer.outs > 1:
            names = self._split_names(i, layer.outs)
            self.lines += statement(self._indent, f"{', '.join(names)} = ", text)
            return
        of_a_name = layer.joins and not layer.make and all(o.isidentifier() for o in operands)
        self._make(_Pending((i, 0), text, layer.infix, layer.light or of_a_name))

    def _make(self, value: _Pending) -> None:
        self.pending = value
        if not self._may_wait(value.ref[0]):
            self._flush()

    def _side_by_side(self, i: int) -> int:
        """Write a split, blocks of consecutive numbers on its parts, and their concat at once.

        Returns how many statements that were, 0 where there is no such thing.
        """
        layer = self.constructor.layers[i]
        end = i + layer.outs + 1
        if layer.outs < _LOOP or end >= len(self.body) or not self._is_parallel(i, end):
            return 0
        text = layer.call.format(self._operand(i, 0), **self.constructor.written[i].inline)
        parts = identifier("parts", self._taken((i, 0)))
        self.lines += statement(self._indent, f"{parts} = ", text)
        stem, first = numbered(self.body[i + 1].name)
        home, _, leaf = stem.rpartition(".")
        call = f'{me(home)}.get_submodule(f"{leaf}{{i}}")(part)'
        loop = f"[{call} for i, part in enumerate({parts}, {first})]"
        self._make(_Pending((end, 0), f"torch.cat({loop}, dim=1)", "", False))
        return end + 1 - i

    def _is_parallel(self, i: int, end: int) -> bool:
        """True when statement i cuts something up for the blocks up to `end`, which joins what they make."""
        body, layers = self.body, self.constructor.layers
        stem, first = numbered(body[i + 1].name)
        if isinstance(body[i].first, Use) or not self._is_concat(body[end]) or first < 0:
            return False
        for k, one in enumerate(body[i + 1 : end]):
            at = i + 1 + k
            if not isinstance(one.first, Use) or not all(one.present) or layers[at].outs > 1:
                return False
            if numbered(one.name) != (stem, first + k) or one.args != ((i, k),):
                return False
            if self.uses[(i, k)] != [at] or self.uses[(at, 0)] != [end] or body[end].args[k] != (at, 0):
                return False
        return len(body[end].args) == end - i - 1

    @property
    def _indent(self) -> int:
        return 2 if self.flag is None else 3

    def _operand(self, i: int, k: int) -> str:
        """The text of operand k of statement i: a name, or the pending expression where that reads well."""
        ref = self.body[i].args[k]
        if isinstance(ref, TensorRef):
            return access(ref)
        value = self.pending
        if value is not None and value.ref == ref:
            if self._joins(i, k, value) and self._fits(i, k, value.text):
                self.pending = None
                return value.text
            self._flush()
        return self.names[ref]

    def _joins(self, i: int, k: int, value: _Pending) -> bool:
        one, layer = self.body[i].first, self.constructor.layers[i]
        if isinstance(one, Use):
            return k == 0 and not value.infix and layer.outs == 1 and _is_function(one.instance)
        if layer.infix:
            return value.infix in ("", "+") and layer.infix == "+" and (k == 0 or not value.infix)
        if k > 0 or layer.outs > 1 or not layer.call.endswith(")"):
            return False
        plain = "{me}({0})" in layer.call or layer.call.startswith(("F.", "torch."))
        return layer.joins or (value.light and plain)

    def _fits(self, i: int, k: int, text: str) -> bool:
        one, layer = self.body[i], self.constructor.layers[i]
        operands = [text if j == k else self.names.get(ref, "x" * 3) for j, ref in enumerate(one.args)]
        inline = self.constructor.written[i].inline
        whole = layer.call.format(*operands, me=me(one.name), training="self.training", **inline)
        return len(INDENT * self._indent + "return " + whole) <= WIDTH

    def _may_wait(self, i: int) -> bool:
        """True when only the next statement reads this value, under the same condition."""
        if self.uses.get((i, 0)) == [len(self.body)] and i == len(self.body) - 1 and self.flag is None:
            return True  # into the `return`
        if self.uses.get((i, 0)) != [i + 1] or i + 1 == len(self.body) or self.body[i].instead:
            return False
        if self._ends_chain(i):
            return False  # so that the loop has it
        return self.constructor.conditions[i + 1] is self.flag

    def _ends_chain(self, i: int) -> bool:
        """True for a call of `block7` right behind one of `block6`."""
        if not i or not all(isinstance(self.body[j].first, Use) for j in (i - 1, i)):
            return False
        stem, number = numbered(self.body[i - 1].name)
        return number >= 0 and numbered(self.body[i].name) == (stem, number + 1)

    def _flush(self) -> None:
        if self.pending is None:
            return
        value, self.pending = self.pending, None
        self.lines += statement(self._indent, f"{self._name(value.ref)} = ", value.text)

    def _return(self) -> None:
        last = self.pending
        if last is not None and len(self.block.results) > 1:
            others = [self._result(r) for r in self.block.results if r != last.ref]
            if len("        return " + ", ".join([*others, last.text])) > WIDTH:
                self._flush()
        last = self.pending
        texts = [last.text if last and last.ref == r else self._result(r) for r in self.block.results]
        if len(texts) == 1:
            self.lines += statement(2, "return ", texts[0])
        else:
            self.lines.append("        return " + ", ".join(texts))

    def _result(self, ref: Ref) -> str:
        return access(ref) if isinstance(ref, TensorRef) else self.names[ref]

    # -- conditions ------------------------------------------------------------------------------------------

    def _enter(self, flag: Flag | None) -> None:
        if flag is not None and flag is not self.flag:
            self._flush()
            self.opened = len(self.lines)
            self.lines.append(f"        if self.{flag.name}:")
        self.flag = flag

    def _leave(self, end: int) -> None:
        """Close the condition that ends before statement `end`: values left out get their stand-in.

        That is said before the condition (`y = x`), or in an `else` where the name is still in use there.
        """
        self._flush()
        flag, self.flag = self.flag, None
        before, otherwise = [], []
        start = end
        while start > 0 and self.constructor.conditions[start - 1] is flag:
            start -= 1
        for i in range(start, end):
            for k, ref in self.body[i].instead.items():
                if not self._lives((i, k), end - 1) or isinstance(ref, TensorRef):
                    continue
                name, stand_in = self.names[(i, k)], self.names[ref]
                older = [
                    v for v, n in self.names.items() if n == name and isinstance(v, tuple) and v[0] < start
                ]
                if name == stand_in:
                    continue
                if any(self._lives(v, start - 1, apart_from=(i, k)) for v in older):
                    otherwise.append(f"            {name} = {stand_in}")
                else:
                    before.append(f"        {name} = {stand_in}")
        if otherwise:
            self.lines += ["        else:", *otherwise]
        self.lines[self.opened : self.opened] = before

    # -- names -----------------------------------------------------------------------------------------------

    def _lives(self, ref: Ref, after: int, apart_from: Ref | None = None) -> bool:
        """True when something behind statement `after` needs this value, itself or as a stand-in."""
        if self.uses.get(ref, [-1])[-1] > after:
            return True
        return any(
            self._end_of_run(made[0]) > after or self._lives(made, after)
            for made in self.stands_for.get(ref, ())
            if made != apart_from
        )

    def _end_of_run(self, i: int) -> int:
        flag = self.constructor.conditions[i]
        while i + 1 < len(self.body) and self.constructor.conditions[i + 1] is flag:
            i += 1
        return i if flag is not None else -1

    def _name(self, ref: tuple[int, int]) -> str:
        """What to call a value: as an operand that its statement uses up, or something new."""
        one = self.body[ref[0]]
        now = ref[0]
        stand_in = one.instead.get(ref[1])
        if stand_in is not None and self._may_reuse(stand_in, ref):
            return self._called(ref, self.names[stand_in])
        branch = self._branch_name(ref)
        for name, values in {} if branch else self._held(now).items():
            if name[-1].isdigit() and len(one.args) > 1:
                continue  # one of several: what becomes of them together is called something else
            if all(not self._lives(v, now) or v == ref for v in values) and self._just_used(values, now):
                return self._called(ref, name)
        return self._called(ref, branch or self._new_name(ref))

    def _may_reuse(self, stand_in: Ref, ref: tuple[int, int]) -> bool:
        """True when nothing but `ref` needs the name of its stand-in any more."""
        name = self.names.get(stand_in)
        if name is None or not name.isidentifier() or (self.keep_inputs and name in self.inputs):
            return False
        held = [v for v, n in self.names.items() if n == name and v != ref]
        return not any(self._lives(v, ref[0], apart_from=ref) for v in held)

    def _held(self, now: int) -> dict[str, list[Ref]]:
        """Names in use and all values they have stood for; names of operands first, in their order."""
        held: dict[str, list[Ref]] = {}
        first = [self.names[r] for r in self.body[now].args if r in self.names]
        for name in [*first, *self.names.values()]:
            if name.isidentifier() and (name not in self.inputs or not self.keep_inputs):
                held.setdefault(name, [])
        for value, name in self.names.items():
            if name in held:
                held[name].append(value)
        return held

    def _just_used(self, values: Sequence[Ref], now: int) -> bool:
        """True when the last of these values was read by the line that is being written."""
        latest = values[-1]
        lasts = self.uses.get(latest, [])
        return bool(lasts) and self._line_start(now) <= lasts[-1] <= now

    def _line_start(self, now: int) -> int:
        """The first statement of the line that ends with `now`: those in between have no name."""
        start = now
        while start > 0 and (start - 1, 0) not in self.names and self.constructor.layers[start - 1].outs == 1:
            start -= 1
        return start

    def _taken(self, ref: Ref) -> set[str]:
        return {n for n in self.names.values() if self._is_taken(n, ref)} | set(self.inputs) | RESERVED

    def _branch_name(self, ref: Ref) -> str:
        """`branch2` for what flows into the second place of a concat of three or more."""
        end = self._flows_to(ref)
        for user in self.uses.get(end, ()):
            if user < len(self.body) and len(self.body[user].args) > 2 and self._is_concat(self.body[user]):
                return identifier(f"branch{self.body[user].args.index(end) + 1}", self._taken(ref))
        return ""

    def _new_name(self, ref: Ref) -> str:
        taken = self._taken(ref)
        letters = [n for n in _LETTERS if n not in taken]
        return letters[0] if letters else identifier("y", taken)

    def _is_taken(self, name: str, ref: Ref) -> bool:
        now = ref[0] if isinstance(ref, tuple) else 0
        return any(self._lives(v, now) for v, n in self.names.items() if n == name)

    def _flows_to(self, ref: Ref) -> Ref:
        """The end of the chain of steps that this value alone flows through."""
        users = self.uses.get(ref, [])
        while len(users) == 1 and users[0] < len(self.body) and self._is_unary(users[0]):
            ref = (users[0], 0)
            users = self.uses.get(ref, [])
        return ref

    def _is_unary(self, i: int) -> bool:
        return len(self.body[i].args) == 1 and self.constructor.layers[i].outs == 1

    def _is_concat(self, one: Statement) -> bool:
        return isinstance(one.first, Step) and one.first.op.name == "concat"

    def _called(self, ref: Ref, name: str) -> str:
        self.names.pop(ref, None)
        self.names[ref] = name  # at the end: the latest value of a name comes last
        return name

    def _split_names(self, i: int, count: int) -> list[str]:
        """What to call several results of one statement; very many are parts of one tuple."""
        stem = "x" if isinstance(self.body[i].first, Step) else "y"
        held = {n for n in self.names.values() if self._is_taken(n, (i, 0))} | RESERVED
        held |= set(self.inputs) if self.keep_inputs else set()
        names: list[str] = []
        for k in range(count):
            name = identifier(f"{stem}{k + 1}", {*held, *names})
            names.append(self._called((i, k), name) if self.uses.get((i, k)) else "_")
        if count <= _NAMED:
            return names
        parts = identifier("parts", held)
        for k in range(count):
            self._called((i, k), f"{parts}[{k}]")
        return [parts]


def _is_function(instance: Instance) -> bool:
    """True for a block of one operation and no parameters, such as an activation of the paper's own."""
    return len(instance.body) == 1 and all(isinstance(s, Step) and not s.owns for s in instance.body)


# -- loops ---------------------------------------------------------------------------------------------------

_CALL = re.compile(r"^( +)(\w+) = (.*)self\.((?:\w+\.)*)([A-Za-z_]*[A-Za-z_])([1-9]\d*)\((\2)\)(.*)$")


def rolled(lines: Sequence[str], blocks: Collection[str]) -> list[str]:
    """Lines that call blocks of consecutive numbers in a chain and are equal otherwise, as a loop."""
    result: list[str] = []
    i = 0
    while i < len(lines):
        rest = list(lines[i:])
        x = match[2] if (match := _CALL.match(lines[i])) else ""
        if x and rest[-1].startswith("        return "):  # the last call of a chain may be what is returned
            rest[-1:] = [rest[-1].replace("return", f"{x} =", 1), f"        return {x}"]
        count = _chain(rest, blocks)
        loop = _looped(lines[i], count) if count >= _LOOP else []
        if loop and all(len(line) <= WIDTH for line in loop):
            result += loop
            i += count
            if i == len(lines):
                result.append(rest[-1])
        else:
            result.append(lines[i])
            i += 1
    return result


def _chain(lines: Sequence[str], blocks: Collection[str]) -> int:
    first = _CALL.match(lines[0])
    if not first or f"{first[4]}{first[5]}{first[6]}" not in blocks:
        return 0
    count = 1
    for line in lines[1:]:
        name = f"{first[5]}{int(first[6]) + count}"
        same = f"{first[1]}{first[2]} = {first[3]}self.{first[4]}{name}({first[2]}){first[8]}"
        if line != same or f"{first[4]}{name}" not in blocks:
            break
        count += 1
    return count


def _looped(line: str, count: int) -> list[str]:
    match = _CALL.match(line)
    assert match is not None
    space, x, before, home, stem, number, _, after = match.groups()
    call = f'self.{home}get_submodule(f"{stem}{{i}}")({x})'
    return [
        f"{space}for i in range({number}, {int(number) + count}):",
        f"{space}{INDENT}{x} = {before}{call}{after}",
    ]


def numbered(name: str) -> tuple[str, int]:
    """`block12` as (`block`, 12); -1 where there is no number, or one that is not written the usual way."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :]
    if not number or not stem or stem.endswith(".") or (number[0] == "0" and len(number) > 1):
        return name, -1
    return stem, int(number)

"""Calls → statements: pipelines where a value goes to the next call only, loops over equal calls, names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compactir.ir.graph import Value
from compactir.ir.op import signature
from compactir.lang.write.blocks import Block
from compactir.lang.write.calls import defaults, spelled
from compactir.lang.write.items import Item
from compactir.ops import SPELLINGS

__all__ = ["Body", "declaration"]

_NAMES = ["x", "y", "z", *"abcdefghjklmnpqrstuvw"]
_POSITIONAL = {
    "conv",
    "linear",
    "max_pool",
    "avg_pool",
    "shuffle",
    "slice",
    "gather",
    "permute",
    "split",
    "clip",
    "rbf",
    "dropout",
}
"""Operations whose first argument needs no name."""
_SIGNS = {"add": "+", "mul": "*"}


class Body:
    """Writes the statements of a block or a network."""

    def __init__(
        self, items: Sequence[Item], keep: Sequence[Value], blocks: Mapping[str, Block], reserved: set[str]
    ) -> None:
        self.items = items
        self.keep = keep
        self.blocks = blocks
        self.reserved = reserved
        self.names: dict[Value, str] = {}
        self.lines: list[str] = []
        self.written: Mapping[tuple[int, str], str] = {}
        self.uses: dict[Value, list[int]] = {}
        for i, item in enumerate(items):
            for value in item.operands:
                self.uses.setdefault(value, []).append(i)
        for value in keep:
            self.uses.setdefault(value, []).append(len(items))

    def name(self, value: Value, name: str) -> None:
        """Give a value that comes from outside its name."""
        self.names[value] = name

    def write(self, last: str | None) -> list[str]:
        """The statements; with `last` (`return`, `output y =`) the last one is that of the last item."""
        at = 0
        while at < len(self.items):
            stop = self._chain_end(at)
            at = self._chain(at, stop, last if stop == len(self.items) else None)
        return self.lines

    # -- chains ----------------------------------------------------------------------------------------------

    def _chain_end(self, at: int) -> int:
        stop = at + 1
        while stop < len(self.items) and self._goes_on(stop):
            stop += 1
        return stop

    def _goes_on(self, i: int) -> bool:
        """Whether item i reads the result of the one before, which nobody else reads."""
        before, item = self.items[i - 1], self.items[i]
        return len(before.results) == 1 and item.operands == [before.out] and self.uses.get(before.out) == [i]

    def _chain(self, start: int, stop: int, last: str | None) -> int:
        """Write items[start:stop], loops on their own; returns where to go on."""
        at = start
        for first, count in self._runs(start, stop):
            if first > at:
                self._statement(at, first, None)
            self._loop(first, count)
            at = first + count
        if at < stop:
            self._statement(at, stop, last)
        elif last is not None:
            self.lines.append(f"{last} {self.names[self.items[stop - 1].out]}")
        return stop

    def _statement(self, start: int, stop: int, last: str | None) -> None:
        head, steps = self._head(start)
        steps += [self._step(i) for i in range(start + (1 if self._spelt_in_head(start) else 0), stop)]
        text = " -> ".join([head, *steps])
        if last is not None:
            self.lines.append(f"{last} {text}")
            return
        target = self._target(start, self.items[stop - 1])
        self.lines.append(f"{target} = {text}")

    def _spelt_in_head(self, i: int) -> bool:
        return self.items[i].call.word in _SIGNS and len(self.items[i].operands) == 2

    def _head(self, i: int) -> tuple[str, list[str]]:
        item = self.items[i]
        names = [self.names[value] for value in item.operands]
        if self._spelt_in_head(i):
            return f"{names[0]} {_SIGNS[item.call.word]} {names[1]}", []
        return (names[0] if len(names) == 1 else f"({', '.join(names)})"), []

    def _target(self, start: int, item: Item) -> str:
        """The name of a result: that of an operand that nobody reads any more, else a new one."""
        end = self.items.index(item)
        free = [v for v in self.items[start].operands if v in self.names and max(self.uses[v]) <= end]
        old = [self.names[v] for v in free if self.names[v] in _NAMES]
        alive = {n for v, n in self.names.items() if max(self.uses.get(v, [-1])) > end}
        chosen = []
        for value in item.results:
            fresh = [
                n for n in [*old, *_NAMES, *(f"v{k}" for k in range(1000))] if n not in alive | self.reserved
            ]
            self.names[value] = fresh[0]
            alive.add(fresh[0])
            chosen.append(fresh[0])
        return chosen[0] if len(chosen) == 1 else f"({', '.join(chosen)})"

    # -- loops -----------------------------------------------------------------------------------------------

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Calls of one block that follow each other: (first, count)."""
        at = start
        while at < stop:
            count = 1
            while at + count < stop and self._alike(at, at + count):
                count += 1
            same = all(self.items[at].call == self.items[at + k].call for k in range(count))
            if count > (1 if same else 2) and not any(
                (i, n) in self.written for i in range(at, at + count) for n, _ in self.items[at].call.args
            ):
                yield at, count
            at += count

    def _alike(self, a: int, b: int) -> bool:
        one, other = self.items[a], self.items[b]
        return one.block and other.block and one.call.word == other.call.word and len(other.operands) == 1

    def _loop(self, first: int, count: int) -> None:
        calls = [self.items[i].call for i in range(first, first + count)]
        source = self.names[self.items[first].operands[0]]
        target = self._target(first, self.items[first + count - 1])
        if source != target:  # the loop needs a name of its own
            self.lines.append(f"{target} = {source}")
        varying = [n for n, v in calls[0].args if any(dict(c.args)[n] != v for c in calls)]
        if not varying:
            self.lines.append(f"for i in 0..{count} {{ {target} = {target} -> {self._step(first)} }}")
            return
        rows = [[spelled(dict(c.args)[n]) for n in varying] for c in calls]
        names = [n if n not in self.reserved | set(self.names.values()) else f"{n}_" for n in varying]
        if len(varying) == 1:
            head, listed = names[0], [row[0] for row in rows]
        else:
            head, listed = f"({', '.join(names)})", [f"({', '.join(row)})" for row in rows]
        step = self._step(first, dict(zip(varying, names, strict=True)))
        self.lines.append(f"for {head} in [{', '.join(listed)}] {{ {target} = {target} -> {step} }}")

    # -- one step --------------------------------------------------------------------------------------------

    def _step(self, i: int, variables: Mapping[str, str] | None = None) -> str:
        item = self.items[i]
        call, block = item.call, self.blocks.get(item.call.word)
        usual: dict[str, Any] = (
            {p.name: p.default for p in block.parameters.parameters} if block else defaults(call.word)
        )
        order = list(usual) if block or call.word in SPELLINGS else [n for n, _ in call.args]
        given, texts = dict(call.args), []
        for k, name in enumerate(order):
            text = (variables or {}).get(name) or self.written.get((i, name))
            if text is None:
                value = given[name]
                if _equal(value, usual.get(name)) and not _required(call.word, name, block):
                    continue
                text = spelled(value)
            elif text == spelled(usual.get(name)) and not variables:
                continue
            positional = k == 0 and (block is not None or call.word in _POSITIONAL)
            texts.append(text if positional and (not block or usual[name] is None) else f"{name}={text}")
        return f"{call.word}({', '.join(texts)})" if texts else call.word


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) and str(a) == str(b)


def _required(word: str, name: str, block: Block | None) -> bool:
    """Whether the argument has to be said; a kernel is always worth saying."""
    if block is not None:
        return next(p for p in block.parameters.parameters if p.name == name).default is None
    parameter = signature(word).attributes[name]
    return parameter.default is parameter.empty or (name == "kernel" and word == "depthwise")


def declaration(block: Block, blocks: Mapping[str, Block], reserved: set[str]) -> str:
    """The text of a block."""
    parameters = block.parameters.parameters
    names = {p.name for p in parameters}
    keep = [block.out] if block.residual is None else [block.out, block.entry]
    says_x = any("x.channels" in text for text in block.parameters.written.values())
    body = Body(block.items, keep, blocks, reserved | names | ({"x"} if says_x else set()))
    body.written = block.parameters.written
    body.name(block.entry, "x")
    if block.residual is None:
        lines = body.write("return")
    else:
        lines = body.write(None)
        left, right = (body.names[v] for v in block.residual.operands)
        result = body.names[block.out]
        sign = _SIGNS[block.residual.call.word]
        everywhere = f"{left} {sign} {right} if x.shape == {result}.shape else {result}"
        lines.append(f"return {everywhere}")
    texts = ["x", *(_parameter(p.name, p.values, p.default) for p in parameters)]
    inside = "\n".join(f"  {line}" for line in lines)
    return f"block {block.name}({', '.join(texts)}) {{\n{inside}\n}}"


def _parameter(name: str, values: Sequence[Any], default: Any) -> str:
    plain = all(isinstance(v, int) for v in values)
    typed = f"{name}: int" if plain else name
    if default is None:
        return typed
    return f"{typed} = {spelled(default)}" if plain else f"{typed}={spelled(default)}"

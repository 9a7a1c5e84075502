"""The order of loads and multiply-adds for in-order cores that start no vector load beside a multiply-add.

On such a core (Cortex-A53) a vector load of 64 bits costs a cycle and one of 128 bits costs two; a load into
an integer register runs beside a multiply-add for nothing, and a move from there into half a vector costs a
cycle that a load of 64 bits or another move can share (docs of the ncnn project, "arm a53 a55 dual issue";
LLVM's model of the core has one such move start per cycle, so moves stand next to loads wherever they can).

So weights come as a vector load of their low half and an integer load and a move for the high half, and
inputs as integer loads of two and a move. All of them are begun as soon as the registers are free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from compactir.codegen.lower.tiles import waiting

__all__ = ["between"]

_WORD = 4
_ON = "V_STEP(wk, sw);"
"""From here on weights are those of the next word."""
_INTEGER, _VECTOR = 3, 4
"""Cycles until what was loaded can be used."""


def between(
    pixels: Sequence[int],
    vectors: int,
    lanes: int,
    step: int,
    advance: Sequence[str],
    fetches: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """C for a loop over words of four inputs: what comes before it, and its body.

    The body reads inputs at `xi` (the first pixel's) and weights at `wk`, and moves both on to the next word
    as soon as it reads from there: `wk` by `sw` bytes, `xi` by the statements given. Weights go round in the
    registers w0, w1, … (`waiting` of them), their high halves pass through h0, h1, …; the inputs of pixel m
    lie in xm, two at a time, and pass through gm.

    Args:
        pixels: the pixels of the tile, as the accumulators number them.
        vectors: output vectors of the panel.
        lanes: floats per vector.
        step: floats from one pixel's inputs to the next one's.
        advance: statements that move `xi` on to the next word.
        fetches: statements that may stand anywhere, once per word.
    """
    names = _Names(vectors, lanes, step, pixels[0])
    before = [line for group in range(names.registers - 1) for line in names.weights(group)]
    before += [f"V_LOW(x{m}, xi, {(m - pixels[0]) * step});" for m in pixels]
    return before, _Body(tuple(pixels), names, tuple(advance)).run(fetches)


@dataclass(frozen=True)
class _Names:
    """The statements that load: group g holds the weights of input g // vectors, vector g % vectors."""

    vectors: int
    lanes: int
    step: int
    first: int
    """The pixel that `xi` points at."""

    @property
    def registers(self) -> int:
        return waiting(self.vectors)

    @property
    def groups(self) -> int:
        return _WORD * self.vectors

    def register(self, group: int) -> int:
        return group % self.registers

    def low(self, group: int) -> str:
        return f"V_LOW(w{self.register(group)}, wk, {group % self.groups * self.lanes});"

    def high(self, group: int) -> str:
        at = group % self.groups * self.lanes + self.lanes // 2
        return f"V_HIGH(h{self.register(group)}, wk, {at});"

    def join(self, group: int) -> str:
        return f"V_JOIN(w{self.register(group)}, h{self.register(group)});"

    def weights(self, group: int) -> list[str]:
        return [self.low(group), self.high(group), self.join(group)]

    def pair(self, m: int, j: int) -> str:
        return f"V_HIGH(g{m}, xi, {(m - self.first) * self.step + j % _WORD});"


@dataclass(frozen=True)
class _Load:
    """An integer load, or what else runs beside a multiply-add; `of` says what waits for it."""

    line: str
    of: tuple[str, int] | None = None


@dataclass(frozen=True)
class _Move:
    """A move into a vector register, from the cycle `ready` on, needed by the multiply-add number `due`."""

    due: int
    ready: int
    line: str


@dataclass
class _Body:
    """One round of the loop while it is written down; `now` counts the cycles that it takes."""

    pixels: tuple[int, ...]
    names: _Names
    advance: tuple[str, ...]
    now: int = 0
    lines: list[str] = field(default_factory=list)
    loads: deque[_Load] = field(default_factory=deque)
    lows: deque[int] = field(default_factory=deque)
    """Groups whose register is free, so that the low half of their weights can be loaded."""
    moves: list[_Move] = field(default_factory=list)
    loaded: dict[tuple[str, int], int] = field(default_factory=dict)
    """When what was loaded last can be used: halves of weights, by group, and inputs, by pixel."""

    def run(self, fetches: Sequence[str]) -> list[str]:
        names, last = self.names, self.pixels[-1]
        self.ask_weights(names.registers - 1)
        self.ask_pairs(_WORD // 2)
        self.loads.extend(_Load(line) for line in fetches)
        for group in range(names.groups):
            j, n = divmod(group, names.vectors)
            self.complete(group)
            for i, m in enumerate(self.pixels):
                self.move_by(group * len(self.pixels) + i)
                self.lines.append(f"V_MULTIPLY(a{m}_{n}, w{names.register(group)}, x{m}, {j % 2});")
                self.now += 1
                if m == last and group + 1 < names.groups:
                    self.ask_weights(group + names.registers)
                if j % 2 and n == names.vectors - 1:
                    self.move_pair(m, (group + 1) * len(self.pixels) + i)
                    if m == last and j + 1 < _WORD:
                        self.ask_pairs(_WORD)
                self.fill()
        self.finish()
        return self.lines

    def ask_weights(self, group: int) -> None:
        """The register of these weights is free."""
        if group == self.names.groups:
            self.loads.append(_Load(_ON))
        self.loads.append(_Load(self.names.high(group), ("high", group)))
        self.lows.append(group)

    def ask_pairs(self, j: int) -> None:
        """The integer registers of the inputs are free for those from j on."""
        if j == _WORD:
            self.loads.extend(_Load(line) for line in self.advance)
        self.loads.extend(_Load(self.names.pair(m, j), ("pair", m)) for m in self.pixels)

    def complete(self, group: int) -> None:
        """Whatever loads the multiply-adds of a group need and have not begun yet."""
        while group in self.lows:
            self.load_low()
        while any(load.of == ("high", group) for load in self.loads):
            self.load()

    def move_by(self, number: int) -> None:
        """The moves that a multiply-add needs and that have not begun yet."""
        while any(move.due <= number for move in self.moves):
            self.move(self.moves[:2])

    def fill(self) -> None:
        """What runs beside the multiply-add just written, and what stands before the next one."""
        self.load()
        if len(ready := [move for move in self.moves if move.ready <= self.now][:2]) == 2:
            self.load_low()
            self.move(ready)
        self.load_low()

    def finish(self) -> None:
        """What is left when the round ends."""
        while self.loads:
            self.load()
        while self.lows:
            self.load_low()
        while self.moves:
            self.move(self.moves[:2])

    def load(self) -> None:
        """The next integer load, if there is any."""
        if not self.loads:
            return
        if self.loads[0].line == _ON:
            while self.lows and self.lows[0] < self.names.groups:
                self.load_low()
        load = self.loads.popleft()
        self.lines.append(load.line)
        if load.of:
            self.loaded[load.of] = self.now + _INTEGER
            self.join(load.of[1]) if load.of[0] == "high" else None

    def load_low(self) -> None:
        """The low half of the next weights, if any wait; nothing runs beside it."""
        if not self.lows:
            return
        group = self.lows.popleft()
        while group >= self.names.groups and any(load.line == _ON for load in self.loads):
            self.load()
        self.lines.append(self.names.low(group))
        self.loaded["low", group] = self.now + _VECTOR
        self.now += 1
        self.join(group)

    def join(self, group: int) -> None:
        """Once both halves of the weights are on their way they can be joined."""
        low, high = self.loaded.get(("low", group)), self.loaded.get(("high", group))
        if low is not None and high is not None:
            self.add(_Move(group * len(self.pixels), max(low, high), self.names.join(group)))

    def move_pair(self, m: int, due: int) -> None:
        """The last multiply-add has read the inputs of a pixel: the next ones can take their place."""
        while any(load.of == ("pair", m) for load in self.loads):
            self.load()
        self.add(_Move(due, self.loaded["pair", m], f"V_MOVE(x{m}, g{m});"))

    def add(self, move: _Move) -> None:
        self.moves.append(move)
        self.moves.sort(key=lambda move: move.due)

    def move(self, chosen: Sequence[_Move]) -> None:
        """One or two moves, which start together."""
        for move in chosen:
            self.moves.remove(move)
            self.lines.append(move.line)
        self.now += 1

"""Runs a plan on marks instead of numbers: which floats hold what was meant to be there when they are read.

Every float of a buffer is marked with the row it holds (0 outside of rings) or as undefined. Lanes that
nobody fills may flow through whole vectors; a scalar that is picked out of one has to be defined, and so has
every output.

A step that several threads share runs part by part, the last one first: no part may rely on another, write
where another writes, or touch what another writes. Its own copies of buffers begin undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from compactir.ir.channel_map import ChannelMap
from compactir.ir.channels import Run
from compactir.ir.plan import Buffer, Call, Grid, Plan, Stage, Step
from compactir.ir.plan_access import Access, Footprint, Span, distinct, footprint
from compactir.ir.plan_parts import bands, call_part, first_rows, span, units

Marks = npt.NDArray[np.int32]
Bits = npt.NDArray[np.bool_]
UNDEFINED = -1


@dataclass(frozen=True)
class Finding:
    """`kind` is "unwritten", "ring", "rows", "parts" or "output"."""

    kind: str
    what: str
    step: Step | None = None


@dataclass
class Memory:
    """The marks of every buffer, the caller's tensors included."""

    plan: Plan
    floats: Callable[[str], int]
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buffers = {b.name: b for b in self.plan.buffers}
        self.marks: dict[str, Marks] = {}
        self.owners: dict[str, Marks] = {}
        """Which part of the step that runs has written a float; none outside of shared steps."""
        self.part = UNDEFINED
        self._calls: dict[int, tuple[Call, Footprint]] = {}
        self._known: dict[int, tuple[ChannelMap, list[EntryGrid]]] = {}
        self._sets: dict[int, tuple[ChannelMap, ChannelMap]] = {}
        for b in self.plan.buffers:
            start = 0 if b.region.startswith("input:") else UNDEFINED
            self.marks.setdefault(self._key(b), np.full(self.floats(b.name), start, np.int32))

    def _key(self, b: Buffer) -> str:
        return f"@{b.name}" if b.region == "arena" else b.region

    def of(self, name: str) -> Marks:
        """The marks of a buffer."""
        return self.marks[self._key(self.buffers[name])]

    def run(self) -> list[Finding]:
        """All steps in order, until one finds something; then the outputs."""
        for step in self.plan.steps:
            parts = self.plan.threads if step.split else 1
            for self.part in reversed(range(parts)) if parts > 1 else (UNDEFINED,):
                self._forget_copies(step)
                for call, first, last in part_calls(step, max(self.part, 0), parts):
                    self._call(step, call, first, last)
                    if self.findings:
                        return self.findings
            self.owners.clear()
            target, source = (self.buffers.get(name) for name in step.inplace)
            if target and source and overlap(target, source):
                self.of(source.name)[:] = UNDEFINED
        self._outputs()
        return self.findings

    def _forget_copies(self, step: Step) -> None:
        if self.part != UNDEFINED:
            names = {n for call in step.calls for n in call.y.buffers}
            for name in (n for n in names if self.buffers[n].copies > 1):
                self.of(name)[:] = UNDEFINED

    def _owned(self, name: str) -> Marks:
        """The owners of a buffer's floats; of own copies nothing is known, each part has another."""
        key = self._key(self.buffers[name])
        if key not in self.owners:
            self.owners[key] = np.full(len(self.marks[key]), UNDEFINED, np.int32)
        return self.owners[key]

    def _collide(self, step: Step, access: Access, writes: bool) -> None:
        """Take what a part writes into its possession; find what another part has written."""
        for view in self._views(access, self._distinct(access.map), self._owned):
            if self.buffers[view.buffer].copies > 1:
                continue
            if ((view.marks != UNDEFINED) & (view.marks != self.part)).any():
                how = "writes" if writes else "reads"
                where = f"what another part of it writes to `{view.buffer}`"
                self.findings.append(
                    Finding("parts", f"part {self.part} of `{step.name}` {how} {where}", step)
                )
                return
            if writes:
                view.marks[...] = self.part

    def _outputs(self) -> None:
        for tensor in self.plan.outputs:
            marks = self.marks.get(f"output:{tensor.name}")
            if marks is None:
                self.findings.append(Finding("output", f"nothing writes `{tensor.name}`"))
            elif (missing := np.flatnonzero(marks != 0)).size:
                text = f"float {missing[0]} of `{tensor.name}` is not written, {missing.size} in all"
                self.findings.append(Finding("output", text))

    # -- one call --------------------------------------------------------------------------------------------

    def _call(self, step: Step, call: Call, first: int, last: int | None) -> None:
        k = call.kernel
        if isinstance(k, Grid) and last is not None and first < last and not 0 <= first < last <= k.out[0]:
            text = f"`{step.name}` makes rows {first} to {last} of {k.out[0]}"
            self.findings.append(Finding("rows", text, step))
            return
        if id(call) not in self._calls:
            self._calls[id(call)] = (call, footprint(call))
        found = self._calls[id(call)][1](first, last)
        lanes = max((a.lanes for a in (*found.reads, *found.writes)), default=1)
        live = np.ones((len(call.y), lanes), np.bool_)
        for access in found.reads:
            if self.part != UNDEFINED:
                self._collide(step, access, False)
            asked = access.what != "x" or found.lanewise
            defined = self._read(step, access, asked)
            if asked and defined is not None:
                live[access.entries, : access.lanes] &= defined
        for access in found.writes:
            if self.part != UNDEFINED:
                self._collide(step, access, True)
            self._write(access, live[access.entries, : access.lanes])

    def _read(self, step: Step, access: Access, asked: bool) -> Bits | None:
        """For every entry and lane: whether all its floats hold the rows that they should. None: all of all.

        Where nobody asks for that, places that several entries name are looked at once.
        """
        m = access.map if asked else self._distinct(access.map)
        result: Bits | None = None
        for view in self._views(access, m):
            wrong = view.marks != view.wanted
            if not wrong.any():
                continue
            if asked:
                result = np.ones((len(m), access.lanes), np.bool_) if result is None else result
                result[view.entries] &= ~wrong.any(axis=(2, 3)).reshape(-1, access.lanes)
            other_rows = wrong & (view.marks != UNDEFINED)
            if other_rows.any():
                wrong = other_rows
            elif not access.strict:
                continue
            self._miss(step, access, view, tuple(np.argwhere(wrong)[0]))
            break
        return result

    def _miss(self, step: Step, access: Access, view: View, at: tuple[int, ...]) -> None:
        mark, row = view.marks[at], np.broadcast_to(view.wanted, view.marks.shape)[at]
        if mark == UNDEFINED:
            text = (
                f"`{step.name}` reads `{view.buffer}` ({access.what}), which is not written at pixel {at[3]}"
            )
            self.findings.append(Finding("unwritten", text, step))
        else:
            text = f"`{step.name}` reads row {row} of `{view.buffer}`, which holds row {mark} there"
            self.findings.append(Finding("ring", text, step))

    def _write(self, access: Access, live: Bits) -> None:
        everything = bool(live.all())
        for view in self._views(access, access.map):
            if everything:
                view.marks[...] = view.wanted
            else:
                shape = (*view.marks.shape[:2], 1, 1, access.lanes)
                view.marks[...] = np.where(live[view.entries].reshape(shape), view.wanted, UNDEFINED)

    def _views(
        self, access: Access, m: ChannelMap, of: Callable[[str], Marks] | None = None
    ) -> Iterator[View]:
        """All marks that an access means. In a ring, where rows wrap, one turn of it is a view by itself.

        `of` says what to look at instead of the marks.
        """
        rows, columns, lanes = access.rows, access.columns, access.lanes
        steps = [4 * rows.step * access.row_stride, 4 * columns.step * access.pixel_stride, 4]
        turns = [
            (turn, access.slot(turn.first) + columns.first * access.pixel_stride) for turn in _turns(access)
        ]
        wanted: dict[tuple[int, int, int], Marks] = {}
        for grid in self._grids(m):
            b, marks = self.buffers[grid.buffer], (of or self.of)(grid.buffer)
            strides = [4 * grid.steps[0], 4 * grid.steps[1], *steps]
            for turn, start in turns:
                key = (turn.first, b.height, b.row)
                if key not in wanted:
                    wanted[key] = _wanted(access, b, turn)
                shape = (*grid.counts, turn.count, columns.count, lanes)
                seen: Marks = np.ndarray(shape, np.int32, marks, 4 * (grid.start + start), strides)
                yield View(grid.buffer, grid.entries, seen, wanted[key])

    def _grids(self, m: ChannelMap) -> list[EntryGrid]:
        """The places of a map, kept: a fused step uses the same maps round after round."""
        if id(m) not in self._known:
            self._known[id(m)] = (m, entry_grids(m))
        return self._known[id(m)][1]

    def _distinct(self, m: ChannelMap) -> ChannelMap:
        """The same places, each once."""
        if id(m) not in self._sets:
            self._sets[id(m)] = (m, distinct(m))
        return self._sets[id(m)][1]


@dataclass(frozen=True)
class EntryGrid:
    """Consecutive entries of a map at start + i·steps[0] + j·steps[1], in the order of (i, j)."""

    buffer: str
    entries: slice
    start: int
    counts: tuple[int, int]
    steps: tuple[int, int]


def entry_grids(m: ChannelMap) -> list[EntryGrid]:
    """The places of a map: equal runs at equal distances are one grid."""
    found: list[EntryGrid] = []
    at = 0
    for piece in m.pieces:
        runs = piece.positions.runs
        i = 0
        while i < len(runs):
            run, j = runs[i], i + 1
            gap = runs[j].start - run.start if j < len(runs) else 0
            while j < len(runs) and _follows(runs[j], runs[j - 1], gap):
                j += 1
            end = at + run.count * (j - i)
            found.append(
                EntryGrid(piece.buffer, slice(at, end), run.start, (j - i, run.count), (gap, run.step))
            )
            i, at = j, end
    return found


def _follows(run: Run, before: Run, gap: int) -> bool:
    return run.start == before.start + gap and run.count == before.count and run.step == before.step


class View(NamedTuple):
    """Marks of some entries, (runs, entries of each, rows, columns, lanes), and the row each should hold."""

    buffer: str
    entries: slice
    marks: Marks
    wanted: Marks


def _turns(access: Access) -> list[Span]:
    """The rows of an access, cut where a ring begins anew."""
    rows = access.rows
    if not access.ring:
        return [rows]
    turns: list[Span] = []
    row, left = rows.first, rows.count
    while left > 0:
        count = min(left, -(-(access.ring - row % access.ring) // rows.step))
        turns.append(Span(row, count, rows.step))
        row, left = row + count * rows.step, left - count
    return turns


def _wanted(access: Access, b: Buffer, rows: Span) -> Marks:
    """The row that each float should hold, (1, 1, rows, columns or 1, 1); 0 outside of rings.

    In a ring of as many rows as the buffer has, row iy lies in slot iy mod height. A kernel whose ring is 1
    takes all rows of the buffer as one: its row iy holds those from iy·height on.
    """
    if not access.ring:
        return np.zeros((1, 1, 1, 1, 1), np.int32)
    numbers: Marks = np.arange(rows.first, rows.last + 1, rows.step, dtype=np.int32)[:, None]
    together, ends = max(1, b.height // access.ring), (access.columns.first, access.columns.last)
    if (
        together == 1
        and access.row_stride == b.row
        and all(0 <= c * access.pixel_stride < b.row for c in ends)
    ):
        return numbers[None, None, :, :, None]
    columns = access.columns.first + access.columns.step * np.arange(access.columns.count)
    slots = (numbers % access.ring * access.row_stride + columns * access.pixel_stride) // b.row
    wanted = (numbers - numbers % access.ring) * together + slots
    return wanted.astype(np.int32)[None, None, :, :, None]


def overlap(one: Buffer, other: Buffer) -> bool:
    """Whether two buffers of the arena share memory."""
    apart = one.offset + one.floats <= other.offset or other.offset + other.floats <= one.offset
    return one.region == other.region == "arena" and not apart


def part_calls(step: Step, part: int, parts: int) -> Iterator[tuple[Call, int, int | None]]:
    """What a part of a step runs, in order: calls with their rows, (call, first, end)."""
    if step.stages:
        yield from sweep(step, part, parts)
        return
    for call in step.calls:
        first, last = span(units(call.kernel), part, parts) if parts > 1 else (0, 1)
        if parts == 1:
            yield call, 0, None
        elif call.kernel.split == "rows":
            yield call, first, last
        elif cut := call_part(call, first, last):
            yield cut, 0, None


def sweep(step: Step, part: int = 0, parts: int = 1) -> Iterator[tuple[Call, int, int]]:
    """The calls of a fused step in the order in which they run, each with its rows: (call, first, end)."""
    stages, calls = step.stages, stage_calls(step)
    window = stages[-1].window
    first, last = (window * u for u in span(bands(step), part, parts))
    made = first_rows(stages, first)
    end = first + window
    while made[-1] < min(last, stages[-1].height):
        ends = [end]
        for stage in reversed(stages[:-1]):
            ends.insert(0, rows_needed(stage, ends[0]))
        rows = list(zip(made, ends, strict=True))
        groups = [[(call, *rows[i]) for call in group] for i, group in enumerate(calls)]
        if step.turns:
            groups[:2] = [[call for pair in zip(*groups[:2], strict=True) for call in pair]]
        for group in groups:
            yield from group
        made = ends
        end += window


def rows_needed(stage: Stage, end: int) -> int:
    """How many rows a stage must have made so that the next one can make those up to `end`."""
    return max(0, min(stage.height, (end - 1) * stage.stride + stage.window - stage.pad))


def stage_calls(step: Step) -> list[tuple[Call, ...]]:
    """The calls of each stage."""
    groups, at = [], 0
    for stage in step.stages:
        groups.append(step.calls[at : at + stage.calls])
        at += stage.calls
    return groups

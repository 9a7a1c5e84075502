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

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from compactir.ir.plan import Buffer, Call, Grid, Plan, Stage, Step
from compactir.ir.plan_access import Access, touched
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
        for name, _, owners, _ in self._views(access, self._owned):
            if self.buffers[name].copies > 1:
                continue
            if ((owners != UNDEFINED) & (owners != self.part)).any():
                how = "writes" if writes else "reads"
                text = f"part {self.part} of `{step.name}` {how} what another part of it writes to `{name}`"
                self.findings.append(Finding("parts", text, step))
                return
            if writes:
                owners[...] = self.part

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
        found = touched(call, first, last)
        lanes = max((a.lanes for a in (*found.reads, *found.writes)), default=1)
        live = np.ones((len(call.y), lanes), np.bool_)
        for access in found.reads:
            if self.part != UNDEFINED:
                self._collide(step, access, False)
            defined = self._read(step, access)
            if access.what != "x" or found.lanewise:
                live[access.entries, : access.lanes] &= defined
        for access in found.writes:
            if self.part != UNDEFINED:
                self._collide(step, access, True)
            self._write(access, live[access.entries, : access.lanes])

    def _read(self, step: Step, access: Access) -> Bits:
        """For every entry and lane: whether all its floats hold the rows that they should."""
        result = np.ones((len(access.entries), access.lanes), np.bool_)
        if len(access.map) != len(result):  # scalars of a convolution, whose table holds only the first
            result = np.ones((len(access.map), access.lanes), np.bool_)
        for name, entries, marks, wanted in self._views(access):
            wrong = marks != wanted
            if not wrong.any():
                continue
            result[entries] &= ~wrong.any(axis=(1, 2))
            other_rows = wrong & (marks != UNDEFINED)
            if other_rows.any():
                wrong = other_rows
            elif not access.strict:
                continue
            self._miss(step, access, name, marks, wanted, np.argwhere(wrong)[0])
            break
        return result[: len(access.entries)]

    def _miss(
        self, step: Step, access: Access, name: str, marks: Marks, wanted: Marks, at: npt.NDArray[np.int64]
    ) -> None:
        mark, row = marks[tuple(at)], np.broadcast_to(wanted, marks.shape)[tuple(at)]
        if mark == UNDEFINED:
            text = f"`{step.name}` reads `{name}` ({access.what}), which is not written at pixel {at[2]}"
            self.findings.append(Finding("unwritten", text, step))
        else:
            text = f"`{step.name}` reads row {row} of `{name}`, which holds row {mark} there"
            self.findings.append(Finding("ring", text, step))

    def _write(self, access: Access, live: Bits) -> None:
        for _, entries, marks, wanted in self._views(access):
            marks[...] = np.where(live[entries, None, None, :], wanted, UNDEFINED)

    def _views(
        self, access: Access, of: Callable[[str], Marks] | None = None
    ) -> Iterator[tuple[str, slice, Marks, Marks]]:
        """The marks that an access means, (entries, rows, columns, lanes), and the row each should hold.

        One view for every run of entries; in a ring one for every row too, since rows wrap. `of` says what
        to look at instead of the marks.
        """
        at = 0
        for piece in access.map.pieces:
            b = self.buffers[piece.buffer]
            for run in piece.positions.runs:
                for first, rows in (
                    [(r, 1) for r in access.rows] if access.ring else [(None, access.rows.count)]
                ):
                    row = access.rows.first if first is None else first
                    start = run.start + access.slot(row) + access.columns.first * access.pixel_stride
                    steps = (
                        run.step,
                        access.rows.step * access.row_stride,
                        access.columns.step * access.pixel_stride,
                        1,
                    )
                    marks = as_strided(
                        (of or self.of)(piece.buffer)[start:],
                        (run.count, rows, access.columns.count, access.lanes),
                        [4 * step for step in steps],
                    )
                    yield piece.buffer, slice(at, at + run.count), marks, _wanted(access, b, first)
                at += run.count


def _wanted(access: Access, b: Buffer, row: int | None) -> Marks:
    """The row that each column should hold, (1, 1, columns, 1); 0 outside of rings.

    In a ring of as many rows as the buffer has, row iy lies in slot iy mod height. A kernel whose ring is 1
    takes all rows of the buffer as one: its row iy holds those from iy·height on.
    """
    if row is None:
        return np.zeros((1, 1, 1, 1), np.int32)
    together = max(1, b.height // access.ring)
    columns = access.columns.first + access.columns.step * np.arange(access.columns.count)
    slots = (access.slot(row) + columns * access.pixel_stride) // b.row
    return ((row - row % access.ring) * together + slots).astype(np.int32)[None, None, :, None]


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

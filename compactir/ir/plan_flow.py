"""Runs a plan on marks instead of numbers: which floats hold what was meant to be there when they are read.

Every float of a buffer is marked with the row it holds (0 outside of rings) or as undefined. Lanes that
nobody fills may flow through whole vectors; a scalar that is picked out of one has to be defined, and so has
every output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from compactir.ir.channels import Indices
from compactir.ir.plan import Buffer, Call, Grid, Plan, Stage, Step
from compactir.ir.plan_access import Access, touched

Marks = npt.NDArray[np.int32]
Bits = npt.NDArray[np.bool_]
UNDEFINED = -1


@dataclass(frozen=True)
class Finding:
    """`kind` is "unwritten", "ring", "rows" or "output"."""

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
            calls = sweep(step) if step.stages else ((c, 0, None) for c in step.calls)
            for call, first, last in calls:
                self._call(step, call, first, last)
                if self.findings:
                    return self.findings
            target, source = step.inplace
            if target in self.buffers and source in self.buffers and target != source:
                self.of(source)[:] = UNDEFINED
        self._outputs()
        return self.findings

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
        lanes = max((a.lanes for a in found.y), default=1)
        live = np.ones((len(call.y), lanes), np.bool_)
        for access in (found.x, *found.extras):
            if access is None or not access.rows or not len(access.columns):
                continue
            defined = self._read(step, access)
            if access.what != "x" or found.lanewise:
                live[access.picks, : access.lanes] &= defined
        for access in found.y:
            self._write(access, live[access.picks, : access.lanes])

    def _read(self, step: Step, access: Access) -> Bits:
        """For every entry and lane: whether all its floats hold the rows that they should."""
        result = np.ones((len(access.picks), access.lanes), np.bool_)
        for name, where, positions in self._parts(access):
            inner, wanted = self._inner(access, self.buffers[name])
            index = positions[:, None] + inner
            fine = np.ones((len(positions), access.lanes), np.bool_)
            for lane in range(access.lanes):
                fine[:, lane] = (self.of(name)[index + lane] == wanted).all(axis=1)
            result[where] = fine
            if access.strict and not fine.all():
                self._miss(step, access, name, index[~fine[:, 0]], wanted)
                break
        return result

    def _miss(self, step: Step, access: Access, name: str, index: Indices, wanted: Indices) -> None:
        wanted = np.broadcast_to(wanted, index.shape)
        marks = self.of(name)[index]
        at = np.flatnonzero((marks != wanted).ravel())[0]
        mark, row = marks.ravel()[at], wanted.ravel()[at]
        if mark == UNDEFINED or not access.ring:
            text = f"`{step.name}` reads float {index.ravel()[at]} of `{name}` ({access.what})"
            self.findings.append(Finding("unwritten", text, step))
        else:
            text = f"`{step.name}` reads row {row} of `{name}`, which holds row {mark} there"
            self.findings.append(Finding("ring", text, step))

    def _write(self, access: Access, live: Bits) -> None:
        numbers = np.repeat([row if access.ring else 0 for row, _ in access.rows], len(access.columns))
        offsets = np.array([offset for _, offset in access.rows], np.int64)
        inner = (offsets[:, None] + access.columns).ravel()
        for name, where, positions in self._parts(access):
            marks, index = self.of(name), positions[:, None] + inner
            for lane in range(access.lanes):
                marks[index + lane] = np.where(live[where, lane, None], numbers, UNDEFINED)

    def _parts(self, access: Access) -> Iterator[tuple[str, Indices, Indices]]:
        """(buffer, which of the picks, their positions)."""
        places = [access.map.places[i] for i in access.picks.tolist()]
        for name in dict.fromkeys(name for name, _ in places):
            where = np.array([i for i, (other, _) in enumerate(places) if other == name])
            yield name, where, np.array([places[i][1] for i in where])

    def _inner(self, access: Access, b: Buffer) -> tuple[Indices, Indices]:
        """Offsets of all rows and columns, and the row that each should hold.

        In a ring of as many rows as the buffer has, row iy lies in slot iy mod height. A kernel whose ring is
        1 takes all rows of the buffer as one: its row iy holds those from iy·height on.
        """
        offsets = np.array([offset for _, offset in access.rows], np.int64)
        inner = (offsets[:, None] + access.columns).ravel()
        if not access.ring:
            return inner, np.zeros(1, np.int64)
        together = max(1, b.height // access.ring)
        first = np.array([(row - row % access.ring) * together for row, _ in access.rows], np.int64)
        return inner, np.repeat(first, len(access.columns)) + inner % b.block // b.row


def sweep(step: Step) -> Iterator[tuple[Call, int, int]]:
    """The calls of a fused step in the order in which they run, each with its rows: (call, first, end)."""
    stages, calls = step.stages, stage_calls(step)
    made = [0] * len(stages)
    end = stages[-1].window
    while made[-1] < stages[-1].height:
        ends = [end]
        for stage in reversed(stages[:-1]):
            ends.insert(0, rows_needed(stage, ends[0]))
        for i, group in enumerate(calls):
            yield from ((call, made[i], ends[i]) for call in group)
            made[i] = ends[i]
        end += stages[-1].window


def rows_needed(stage: Stage, end: int) -> int:
    """How many rows a stage must have made so that the next one can make those up to `end`."""
    return min(stage.height, (end - 1) * stage.stride + stage.window - stage.pad)


def stage_calls(step: Step) -> list[tuple[Call, ...]]:
    """The calls of each stage."""
    groups, at = [], 0
    for stage in step.stages:
        groups.append(step.calls[at : at + stage.calls])
        at += stage.calls
    return groups

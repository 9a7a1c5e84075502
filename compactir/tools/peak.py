"""Who needs the workspace at its peak, and which edits would lower the peak most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compactir.ir.plan import Buffer, Plan

EDITS = 3
"""How many edits are named."""


@dataclass(frozen=True)
class Edit:
    """What the peak would be without one buffer: because a fusion saves it, or a layer is made smaller."""

    buffer: str
    bytes: int
    peak_bytes: int
    """The peak without it."""
    made_by: str
    read_last_by: str


@dataclass(frozen=True)
class Peak:
    """The step at which the most bytes live, who lives there (largest first), the edits that help most."""

    step: str
    where: str
    bytes: int
    buffers: tuple[tuple[str, int], ...]
    edits: tuple[Edit, ...]


def find_peak(plan: Plan) -> Peak | None:
    """The peak of a plan; None where nothing needs the workspace."""
    arena = [b for b in plan.buffers if b.region == "arena"]
    if not arena:
        return None
    at, most = _highest(_live(arena, len(plan.steps)))
    alive = sorted((b for b in arena if b.first <= at <= b.last), key=lambda b: (-b.floats, b.name))
    edits = sorted((_without(plan, arena, b) for b in alive), key=lambda e: (e.peak_bytes, e.buffer))
    helpful = tuple(edit for edit in edits if edit.peak_bytes < 4 * most)
    step = plan.steps[at]
    buffers = tuple((b.name, 4 * b.floats) for b in alive)
    return Peak(step.name, step.where, 4 * most, buffers, helpful[:EDITS])


def _without(plan: Plan, arena: Sequence[Buffer], gone: Buffer) -> Edit:
    rest = [b for b in arena if b.name != gone.name]
    _, most = _highest(_live(rest, len(plan.steps)))
    made, read = plan.steps[gone.first].name, plan.steps[gone.last].name
    return Edit(gone.name, 4 * gone.floats, 4 * most, made, read)


def _live(buffers: Sequence[Buffer], steps: int) -> list[int]:
    """Floats that live while each step runs; a place that two buffers share in one step counts once."""
    changes: list[list[tuple[int, int]]] = [[] for _ in range(steps)]
    for buffer in buffers:
        for step in range(buffer.first, buffer.last + 1):
            changes[step].append((buffer.offset, buffer.offset + buffer.floats))
    return [sum(stop - start for start, stop in _union(spans)) for spans in changes]


def _union(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Disjoint intervals that cover the same places."""
    end = -1
    for start, stop in sorted(spans):
        if stop > end:
            yield max(start, end), stop
            end = stop


def _highest(live: list[int]) -> tuple[int, int]:
    """The first step with the most, and how much."""
    at = max(range(len(live)), key=live.__getitem__, default=0)
    return at, live[at] if live else 0

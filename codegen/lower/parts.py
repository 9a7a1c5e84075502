"""share-steps: which steps several threads share, along which axis, and where they wait for each other.

Times are estimates in cycles of one core; what counts is their ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod

from compactir.codegen.lower.plane_tiles import cycles, finishing
from compactir.ir.plan import (
    Across,
    Buffer,
    Call,
    Column,
    Conv,
    Copy,
    Depthwise,
    Grid,
    Grouped,
    Kernel,
    Nest,
    Plan,
    PlaneConv,
    PlanePool,
    Pool,
    Step,
    WinogradInput,
    WinogradOutput,
    WinogradRepair,
)
from compactir.ir.plan_access import packed_floats
from compactir.ir.plan_parts import axes, waits
from compactir.targets import Target

WORTH = 4000
"""Cycles from which on sharing a step pays: meeting again costs some hundreds (benchmarks/LOG.md)."""
_WEIGHTS, _MAPS, _ELEMENTS = 24, 8, 16
"""Bytes per cycle of streamed weights, of maps that another core has written; of elementwise work."""


def share(
    steps: Iterable[Step], buffers: Iterable[Buffer], threads: int, target: Target
) -> tuple[list[Step], list[Buffer]]:
    """Cut the steps that are worth it, and give their inner buffers a copy for every part."""
    shared = [_shared(step, threads, target) for step in steps]
    own = {n for step in shared if step.split for n in _inner(step)}
    return shared, [replace(b, copies=threads) if b.name in own else b for b in buffers]


def with_waits(plan: Plan) -> Plan:
    """Say which steps wait for the ones before; buffers have their places."""
    steps = zip(plan.steps, waits(plan), strict=True)
    return replace(plan, steps=tuple(replace(step, wait=wait) for step, wait in steps))


def _inner(step: Step) -> set[str]:
    calls = step.calls[: -step.stages[-1].calls] if step.stages else ()
    return {n for c in calls for n in c.y.buffers} | {c.scratch for c in step.calls if c.scratch}


def _shared(step: Step, threads: int, target: Target) -> Step:
    if step.stages:
        worth = sum(_cycles(c.kernel, target) for c in step.calls) >= WORTH
        return replace(step, split=worth)
    cut = [_cut(call, threads, target) for call in step.calls]
    saved = sum(_cycles(c.kernel, target) for c in step.calls) - sum(time for _, time in cut)
    if 2 * saved < WORTH or not step.calls:
        return step
    calls = tuple(
        replace(c, kernel=replace(c.kernel, split=a)) for c, (a, _) in zip(step.calls, cut, strict=True)
    )
    return replace(step, calls=calls, split=True)


def _cut(call: Call, threads: int, target: Target) -> tuple[str, float]:
    """The best axis of a call, and the time of its longest part along it."""
    k = call.kernel
    times = {}
    for axis, count in axes(k).items():
        longest = -(-count // threads) / count
        once = _read_by_all(k, axis) * (1 - longest)
        times[axis] = _cycles(k, target) * longest + once
    best = min(times, key=lambda axis: times[axis])
    return best, times[best]


def _read_by_all(k: Kernel, axis: str) -> float:
    """Cycles for what every part reads, and one thread alone would read once."""
    if axis in ("rows", "tiles", "pixels"):
        return 4 * packed_floats(k) / _WEIGHTS
    return 4 * prod(k.size) * k.depth / _MAPS if isinstance(k, Conv) and k.shared else 0.0


def _cycles(k: Kernel, target: Target) -> float:
    """How long one thread takes."""
    if isinstance(k, Conv):
        return prod(k.out) * k.panels * k.executed / (k.lanes * target.fma_per_cycle)
    if isinstance(k, PlaneConv | PlanePool):
        return cycles(target, k)
    if isinstance(k, Depthwise | Pool):
        return prod(k.out) * k.blocks * max(prod(k.window) / target.fma_per_cycle, 4 * k.lanes / _ELEMENTS)
    if isinstance(k, Grouped):
        terms = k.terms * prod(k.window) / target.fma_per_cycle
        return prod(k.out) * k.blocks * max(terms, 4 * k.lanes / _ELEMENTS)
    if isinstance(k, WinogradInput):
        return 120.0 * k.blocks * prod(k.out)
    if isinstance(k, WinogradOutput):
        return 100.0 * k.blocks * prod(k.size)
    if isinstance(k, WinogradRepair):
        return 2.0 * k.blocks * k.tile_rows
    if isinstance(k, Column | Across):
        return 4.0 * k.pixels * k.channels
    if isinstance(k, Copy):
        return 1.0 * k.pixels * k.channels
    if isinstance(k, Nest):
        strided = any(w.picks or w.strides[len(k.extents) - 1] not in (0, 1) for w in k.operands)
        return k.elements * (1.0 if strided and not k.along else (2 + finishing(k.epilogue)) / k.lanes)
    assert not isinstance(k, Grid)
    lanes, count = getattr(k, "lanes", 1), getattr(k, "blocks", 0) or getattr(k, "channels", 1)
    pixels = getattr(k, "pixels", 0) or prod(getattr(k, "out", (1,)))
    return 4.0 * lanes * count * pixels / _ELEMENTS

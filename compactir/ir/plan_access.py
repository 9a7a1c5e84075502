"""Which floats every call of a plan touches: what `verify_plan` judges, told without the C templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np

from compactir.ir.channel_map import ChannelMap
from compactir.ir.channels import Indices
from compactir.ir.plan import (
    Call,
    Column,
    Conv,
    Copy,
    Depthwise,
    GlobalPool,
    Grid,
    Kernel,
    Map,
    Pool,
    Resize,
)

ALIGN = 16
"""Floats: every buffer of the arena and every packed piece starts on a cache line of 64 bytes."""


@dataclass(frozen=True, eq=False)
class Access:
    """Floats at entry + row + column + lane, for all entries of an address table, rows, columns and lanes.

    `rows` pairs the number of a row with its offset. `picks` are the entries of the table that are meant.
    `strict`: a scalar that counts (lanes of vectors may be dead, as long as nobody picks them out).
    """

    what: str
    map: ChannelMap
    picks: Indices
    rows: tuple[tuple[int, int], ...]
    columns: Indices
    lanes: int = 1
    strict: bool = True
    ring: int = 0


@dataclass(frozen=True)
class Touched:
    """What one call reads and writes when it makes some rows. `lanewise`: lane l of y needs lane l of x."""

    x: Access | None
    extras: tuple[Access, ...]
    y: tuple[Access, ...]
    lanewise: bool


ALL: tuple[tuple[int, int], ...] = ((0, 0),)
_HERE = np.zeros(1, np.int64)


def touched(call: Call, first: int = 0, last: int | None = None) -> Touched:
    """The floats of a call; of a ranged one, for output rows first … last − 1."""
    k = call.kernel
    if isinstance(k, Conv):
        return _conv(k, call, first, k.out[0] if last is None else last)
    if isinstance(k, Grid):
        return _windowed(k, call, first, k.out[0] if last is None else last)
    if isinstance(k, Column | Copy):
        lines = (np.arange(k.pixels) * step for step in (k.x_pixel, k.y_pixel))
        x, y = (
            Access(what, m, np.arange(len(m)), ALL, columns)
            for what, m, columns in zip("xy", (call.x, call.y), lines, strict=True)
        )
        return Touched(x, (), (y,), False)
    if isinstance(k, Map):
        return _vectors(k.lanes, call, np.arange(k.pixels), np.arange(k.pixels), k.spread)
    if isinstance(k, GlobalPool):
        return _vectors(k.lanes, call, np.arange(k.pixels), _HERE, ())
    assert isinstance(k, Resize)
    return _vectors(k.lanes, call, _resized(k), np.arange(prod(k.out)), ())


def _vectors(lanes: int, call: Call, xs: Indices, ys: Indices, spread: Sequence[bool]) -> Touched:
    """Whole vectors of these pixels."""
    x, y = (
        Access(what, m, np.arange(len(m)), ALL, pixels * lanes, lanes, False)
        for what, m, pixels in (("x", call.x, xs), ("y", call.y, ys))
    )
    extras = tuple(
        Access(
            f"operand {i + 2}", m, np.arange(len(m)), ALL, _HERE if spread[i] else ys * lanes, lanes, False
        )
        for i, m in enumerate(call.extra)
    )
    return Touched(x, extras, (y,), True)


def _resized(k: Resize) -> Indices:
    """The pixels that an enlargement reads: all of them but for those that rounding leaves out."""
    if k.mode != "nearest":
        return np.arange(prod(k.size))
    rows, columns = (np.arange(out) * size // out for size, out in zip(k.size, k.out, strict=True))
    return np.unique(rows[:, None] * k.size[1] + columns)


# -- kernels that slide a window -----------------------------------------------------------------------------


def _windowed(k: Grid, call: Call, first: int, last: int) -> Touched:
    """Depthwise filters and pools: every lane by itself."""
    rows, columns = _inputs(k, first, last)
    x = Access("x", call.x, np.arange(len(call.x)), rows, columns, k.lanes, False, k.x_ring)
    whole = [(np.arange(len(call.y)), k.lanes)]
    return Touched(x, _extras(k, call, whole, first, last), _results(k, call, whole, first, last), True)


def _conv(k: Conv, call: Call, first: int, last: int) -> Touched:
    """Every panel reads its inputs one by one, and writes vectors; the last one may be cut short."""
    rows, columns = _inputs(k, first, last)
    if k.reads != "table":
        i = np.arange(k.depth)
        inner = i * k.x_block if k.reads == "planes" else i // k.lanes * k.x_block + i % k.lanes
        columns = np.unique(inner[:, None] + columns)
    x = Access("x", call.x, np.arange(len(call.x)), rows, columns, ring=k.x_ring) if k.depth else None
    ends = np.arange(len(call.y)) % k.vectors == k.vectors - 1
    cut, lanes = (ends, k.lanes // 2) if k.half else (np.zeros(len(call.y), np.bool_), k.lanes)
    if k.tail:
        cut, lanes = np.arange(len(call.y)) == len(call.y) - 1, k.tail
    stored = [(np.flatnonzero(~cut), k.lanes), (np.flatnonzero(cut), lanes)]
    read = [(np.flatnonzero(~cut), k.lanes), (np.flatnonzero(cut), lanes if k.half else k.lanes)]
    return Touched(x, _extras(k, call, read, first, last), _results(k, call, stored, first, last), False)


def _results(
    k: Grid, call: Call, parts: list[tuple[Indices, int]], first: int, last: int
) -> tuple[Access, ...]:
    rows = tuple((oy, _slot(oy, k.y_ring) * k.y_strides[0]) for oy in range(first, last))
    columns = np.arange(k.out[1]) * k.y_strides[1]
    return tuple(
        Access("y", call.y, picks, rows, columns, lanes, False, k.y_ring)
        for picks, lanes in parts
        if len(picks)
    )


def _extras(
    k: Grid, call: Call, parts: list[tuple[Indices, int]], first: int, last: int
) -> tuple[Access, ...]:
    found = []
    for i, m in enumerate(call.extra):
        spread = k.spread[i]
        rows = ALL if spread else tuple((0, oy * k.y_strides[0]) for oy in range(first, last))
        columns = _HERE if spread else np.arange(k.out[1]) * k.y_strides[1]
        found += [
            Access(f"operand {i + 2}", m, picks, rows, columns, lanes, False)
            for picks, lanes in parts
            if len(picks)
        ]
    return tuple(found)


def _inputs(k: Grid, first: int, last: int) -> tuple[tuple[tuple[int, int], ...], Indices]:
    """Rows (with their offsets) and offsets of columns that windows of these rows reach inside the map."""
    rows = _reached(k.size[0], range(first, last), k.window[0], k.stride[0], k.dilation[0], k.pad[0])
    every = range(k.out[1])
    columns = _reached(k.size[1], every, k.window[1], k.stride[1], k.dilation[1], k.pad[1])
    offsets = np.array(columns, np.int64) * k.x_strides[1]
    return tuple((iy, _slot(iy, k.x_ring) * k.x_strides[0]) for iy in rows), offsets


@cache
def _reached(size: int, outs: range, window: int, stride: int, dilation: int, pad: int) -> tuple[int, ...]:
    taps = np.arange(outs.start, outs.stop)[:, None] * stride - pad + np.arange(window) * dilation
    inside = np.unique(taps[(taps >= 0) & (taps < size)])
    return tuple(inside.tolist())


def _slot(row: int, ring: int) -> int:
    return row % ring if ring else row


# -- sizes ---------------------------------------------------------------------------------------------------


def table_lengths(kernel: Kernel) -> tuple[int, int]:
    """How many addresses of x and of y a kernel walks."""
    if isinstance(kernel, Conv):
        inputs = kernel.depth if kernel.reads == "table" else 1
        return inputs * (1 if kernel.shared else kernel.panels), kernel.panels * kernel.vectors
    if isinstance(kernel, Column | Copy):
        return kernel.channels, kernel.channels
    assert isinstance(kernel, Depthwise | Pool | Map | GlobalPool | Resize)
    return kernel.blocks, kernel.blocks


def packed_floats(kernel: Kernel) -> int:
    """How many packed weights a kernel reads."""
    if isinstance(kernel, Conv):
        return kernel.panels * kernel.panel_floats
    return kernel.blocks * kernel.block_floats if isinstance(kernel, Depthwise) else 0


def scratch_floats(kernel: Column) -> int:
    """How many floats a column kernel writes aside: whole vectors; for LRN with zeros around, thrice."""
    whole = -(-kernel.channels // kernel.lanes) * kernel.lanes
    around: int = getattr(kernel.op, "size", 0)
    return 3 * (whole + 2 * around) if around else whole

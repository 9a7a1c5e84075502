"""Which floats every call of a plan touches: what `verify_plan` judges, told without the C templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import gcd, prod

import numpy as np

from compactir.ir.channel_map import ChannelMap, Piece
from compactir.ir.channels import ChannelList, Indices, Run
from compactir.ir.plan import (
    Across,
    Call,
    Column,
    Conv,
    Copy,
    Depthwise,
    GlobalPool,
    Grid,
    Grouped,
    Kernel,
    Map,
    Nest,
    PlaneConv,
    PlaneGrid,
    PlanePool,
    Pool,
    Resize,
    Walk,
    WinogradInput,
    WinogradOutput,
    WinogradRepair,
)

ALIGN = 16
"""Floats: every buffer of the arena and every packed piece starts on a cache line of 64 bytes."""


@dataclass(frozen=True)
class Span:
    """`count` numbers from `first` in steps of `step`."""

    first: int
    count: int
    step: int = 1

    @classmethod
    def around(cls, numbers: Sequence[int]) -> Span:
        """The smallest span that holds these ascending numbers."""
        if len(numbers) < 2:
            return cls(numbers[0] if numbers else 0, len(numbers))
        step = gcd(*(n - numbers[0] for n in numbers[1:]))
        return cls(numbers[0], (numbers[-1] - numbers[0]) // step + 1, step)

    @property
    def last(self) -> int:
        """The last number."""
        return self.first + (self.count - 1) * self.step

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last + 1, self.step)) if self.count else iter(())


ONE = Span(0, 1)


@dataclass(frozen=True, eq=False)
class Access:
    """Floats at entry + row · row_stride + column · pixel_stride + lane, of all entries, rows, and so on.

    `entries` are the numbers of the table's entries that `map` holds. `strict`: scalars that count (lanes of
    vectors may be dead, as long as nobody picks them out). `ring`: rows wrap after so many, 0 for never.
    """

    what: str
    map: ChannelMap
    entries: Indices
    columns: Span
    pixel_stride: int
    lanes: int = 1
    rows: Span = ONE
    row_stride: int = 0
    strict: bool = False
    ring: int = 0

    def slot(self, row: int) -> int:
        """Where a row lies, in floats from the entry."""
        return (row % self.ring if self.ring else row) * self.row_stride

    @property
    def reach(self) -> tuple[int, int]:
        """The lowest offset from an entry, and the highest + 1."""
        slots = {self.slot(row) for row in (self.rows if self.ring else (self.rows.first, self.rows.last))}
        ends = [column * self.pixel_stride for column in (self.columns.first, self.columns.last)]
        return min(slots) + min(ends), max(slots) + max(ends) + self.lanes


@dataclass(frozen=True)
class Touched:
    """What a call reads and writes to make some rows. `lanewise`: lane l of y depends on lane l of x."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    lanewise: bool


Footprint = Callable[[int, int | None], Touched]
"""What a call touches; of a ranged one, for the output rows from the first number to before the second."""
Rows = Callable[[int, int], tuple[Access, ...]]
"""The same for one operand."""


def touched(call: Call) -> Touched:
    """The floats of a call."""
    return footprint(call)(0, None)


def footprint(call: Call) -> Footprint:
    """The floats of a call for any rows; what does not depend on rows is found once, here."""
    k = call.kernel
    if isinstance(k, Grid):
        accesses, units, lanewise = _of_grid(k, call)

        def some(first: int, last: int | None) -> Touched:
            reads, writes = (
                tuple(access for rows in operands for access in rows(*units(first, last)))
                for operands in accesses
            )
            return Touched(reads, writes, lanewise)

        return some
    found = _whole(k, call)
    return lambda first, last: found


def _whole(k: Kernel, call: Call) -> Touched:
    """Kernels that have no rows."""
    if isinstance(k, Column | Copy):
        pixels = Span(0, k.pixels)
        x = Access("x", call.x, _all(call.x), pixels, k.x_pixel, strict=True)
        return Touched((x,), (Access("y", call.y, _all(call.y), pixels, k.y_pixel),), False)
    if isinstance(k, Nest):
        return _nested(k, call)
    if isinstance(k, Map):
        return _with_tail(k, call, _vectors(k.lanes, call, k.pixels, k.pixels, k.spread))
    if isinstance(k, Across):
        return replace(_vectors(k.lanes, call, k.pixels, k.pixels, ()), lanewise=False)
    if isinstance(k, GlobalPool):
        return _vectors(k.lanes, call, k.pixels, 1, ())
    assert isinstance(k, Resize)
    return _vectors(k.lanes, call, prod(k.size), prod(k.out), ())


def _all(m: ChannelMap) -> Indices:
    return np.arange(len(m))


def _vectors(lanes: int, call: Call, xs: int, ys: int, spread: Sequence[bool]) -> Touched:
    """Whole vectors of the first pixels."""
    x = Access("x", call.x, _all(call.x), Span(0, xs), lanes, lanes)
    extras = (
        Access(_operand(i), m, _all(m), ONE if spread[i] else Span(0, ys), lanes, lanes)
        for i, m in enumerate(call.extra)
    )
    return Touched((x, *extras), (Access("y", call.y, _all(call.y), Span(0, ys), lanes, lanes),), True)


def _with_tail(k: Map, call: Call, found: Touched) -> Touched:
    """Also the floats after the last whole vector."""
    if not k.tail:
        return found
    end = Span(k.pixels, 1)
    x = Access("x", call.x, _all(call.x), end, k.lanes, k.tail)
    y = Access("y", call.y, _all(call.y), end, k.lanes, k.tail)
    return Touched((*found.reads, x), (*found.writes, y), True) if k.pixels else Touched((x,), (y,), True)


def _operand(number: int) -> str:
    return f"operand {number + 2}"


# -- loops over tensors --------------------------------------------------------------------------------------


def _nested(k: Nest, call: Call) -> Touched:
    """Elements that count, all of them."""
    sizes = (*k.extents, *k.reduced)
    moving = zip(k.moving, (call.x, *call.extra), strict=False)
    reads = tuple(_walked("x", m, sizes, walk) for walk, m in moving)
    y = _walked("y", call.y, k.extents, Walk(k.y))
    return Touched(reads, (replace(y, entries=np.zeros(len(y.map), np.int64)),), False)


def _walked(what: str, m: ChannelMap, sizes: Sequence[int], walk: Walk) -> Access:
    """The floats that loops reach, in any order: two loops as rows and columns, the others one by one."""
    [(buffer, start)] = m.places
    loops = sorted((abs(s), e) for e, s in zip(sizes, walk.strides, strict=True) if e > 1 and s)
    start += sum((e - 1) * s for e, s in zip(sizes, walk.strides, strict=True) if s < 0)
    joined: list[tuple[int, int]] = []
    for stride, extent in loops:
        if joined and stride == joined[-1][0] * joined[-1][1]:
            joined[-1] = joined[-1][0], joined[-1][1] * extent
        else:
            joined.append((stride, extent))
    inner, rows, *rest = (*joined, (0, 1), (0, 1))
    starts = np.unique(np.add.outer(walk.picks or (0,), [start]))
    for stride, extent in rest:
        starts = np.unique(np.add.outer(starts, stride * np.arange(extent)))
    entries = ChannelMap.of((buffer, int(each)) for each in starts)
    columns, row = Span(0, inner[1]), Span(0, rows[1])
    return Access(what, entries, _all(entries), columns, inner[0], rows=row, row_stride=rows[0], strict=True)


# -- kernels that slide a window -----------------------------------------------------------------------------

Units = Callable[[int, int | None], tuple[int, int]]
"""Rows of a call as its stage counts them -> output rows of its map."""
OfGrid = tuple[tuple[list[Rows], list[Rows]], Units, bool]
"""Reads and writes, rows, whether it is lanewise."""


def _of_grid(k: Grid, call: Call) -> OfGrid:
    if isinstance(k, Conv):
        return _conv(k, call), _in_units(k.out[0], 1), False
    if isinstance(k, Grouped):
        return _grouped(k, call), _in_units(k.out[0], 1), False
    if isinstance(k, WinogradOutput):
        return _from_tiles(k, call), _in_units(k.size[0], k.strip), False
    if isinstance(k, WinogradRepair):
        return _from_inputs(k, call), _in_units(k.out[0], 4 * k.strip), False
    if isinstance(k, WinogradInput):
        return _windowed(k, call), _in_units(k.out[0], k.strip), False
    if isinstance(k, PlaneGrid):
        return _on_planes(k, call), _in_units(k.out[0], k.rows), False
    return _windowed(k, call), _in_units(k.out[0], 1), True


def _in_units(height: int, unit: int) -> Units:
    """Rows in units of so many; the last unit may be cut short."""
    return lambda first, last: (first * unit, height if last is None else min(last * unit, height))


def _windowed(k: Grid, call: Call) -> tuple[list[Rows], list[Rows]]:
    """Depthwise filters and pools: every lane by itself."""
    whole = [(_all(call.y), k.lanes)]
    return [_windows(k, call.x, k.lanes), _extras(k, call, whole)], [_results(k, call, whole)]


def _conv(k: Conv, call: Call) -> tuple[list[Rows], list[Rows]]:
    """Every panel reads its inputs one by one, and writes vectors; the last one may be cut short."""
    x = [_windows(k, _inputs(k, call.x), 1, strict=True)] if k.depth else []
    entries = _all(call.y)
    cut = entries % k.vectors == k.vectors - 1 if k.half else entries == len(entries) - 1
    lanes = k.lanes // 2 if k.half else k.tail or k.lanes
    stored = [(entries[~cut], k.lanes), (entries[cut], lanes)]
    loaded = stored if k.half else [(entries, k.lanes)]
    return [*x, _extras(k, call, loaded)], [_results(k, call, stored)]


def _grouped(k: Grouped, call: Call) -> tuple[list[Rows], list[Rows]]:
    """Every term picks some lanes of a block, one by one."""
    heads = zip(call.x.places, k.uses, strict=True)
    picked = {(buffer, start + lane) for (buffer, start), use in heads for lane in k.sources[use]}
    whole = [(_all(call.y), k.lanes)]
    x = _windows(k, ChannelMap.of(sorted(picked)), 1, strict=True)
    return [x, _extras(k, call, whole)], [_results(k, call, whole)]


def _on_planes(k: PlaneGrid, call: Call) -> tuple[list[Rows], list[Rows]]:
    """Pixels that count, all of them: a plane has no dead lanes."""
    x = [_windows(k, call.x, 1, strict=True)] if len(call.x) else []
    return [*x], [_results(k, call, [(_all(call.y), 1)])]


def _from_tiles(k: WinogradOutput, call: Call) -> tuple[list[Rows], list[Rows]]:
    """Every output reads all sums of its tile; strips are the unit."""
    row, pixel = k.x_strides
    columns, entries, whole = Span(0, k.size[1]), _all(call.x), [(_all(call.y), k.lanes)]

    def sums(first: int, last: int) -> tuple[Access, ...]:
        rows = Span(first, last - first)
        return (Access("x", call.x, entries, columns, pixel, k.lanes, rows, row, ring=k.x_ring),)

    def in_pixels(rows: Rows) -> Rows:
        return lambda first, last: rows(4 * first, min(4 * last, k.out[0]))

    return [sums, in_pixels(_extras(k, call, whole))], [in_pixels(_results(k, call, whole))]


def _from_inputs(k: WinogradRepair, call: Call) -> tuple[list[Rows], list[Rows]]:
    """Any row of tiles may have to be made once more, by the windows of its outputs; strips are the unit."""
    heads, used = call.x.places, {origin.head for origin in k.origins}
    every = (head * k.lanes + i for head in sorted(used) for i in range(k.depth))
    numbers = [n for n in every if n not in k.unread]
    reads = [(heads[n // k.lanes][0], heads[n // k.lanes][1] + n % k.lanes) for n in numbers]
    whole = [(_all(call.y), k.lanes)]
    x = _windows(k, ChannelMap.of(reads), 1, strict=True)
    return [x, _extras(k, call, whole)], [_results(k, call, whole)]


def _inputs(k: Conv, heads: ChannelMap) -> ChannelMap:
    """The places of all inputs, each once, where a table only holds the first of each panel."""
    if k.reads == "table":
        return heads
    i = np.arange(k.depth)
    steps = i * k.x_block if k.reads == "planes" else i // k.lanes * k.x_block + i % k.lanes
    return distinct(heads, steps)


def distinct(m: ChannelMap, steps: Indices | None = None) -> ChannelMap:
    """The places of a map, each once, in order; or those at these distances from them."""
    positions: dict[str, list[Indices]] = {}
    for piece in m.pieces:
        positions.setdefault(piece.buffer, []).append(piece.positions.array)
    pieces = []
    for buffer, found in positions.items():
        places = np.unique(np.concatenate(found))
        pieces.append(Piece(buffer, _listed(places if steps is None else np.unique(places[:, None] + steps))))
    return ChannelMap(tuple(pieces))


def _listed(places: Indices) -> ChannelList:
    """As a list, even of places before the buffer, which a rule finds."""
    low = min(0, int(places.min(initial=0)))
    found = ChannelList.of(places - low)
    return found if not low else ChannelList(tuple(Run(r.start + low, r.count, r.step) for r in found.runs))


def _windows(k: Grid, m: ChannelMap, lanes: int, strict: bool = False) -> Rows:
    """What windows of output rows reach inside the map."""
    columns = _reached(k.size[1], range(k.out[1]), k.window[1], k.stride[1], k.dilation[1], k.pad[1])
    (row, pixel), entries = k.x_strides, _all(m)

    def some(first: int, last: int) -> tuple[Access, ...]:
        rows = _reached(k.size[0], range(first, last), k.window[0], k.stride[0], k.dilation[0], k.pad[0])
        if not rows.count or not columns.count:
            return ()
        return (Access("x", m, entries, columns, pixel, lanes, rows, row, strict, k.x_ring),)

    return some


@cache
def _reached(size: int, outs: range, window: int, stride: int, dilation: int, pad: int) -> Span:
    taps = np.arange(outs.start, outs.stop)[:, None] * stride - pad + np.arange(window) * dilation
    return Span.around(np.unique(taps[(taps >= 0) & (taps < size)]).tolist())


Part = tuple[Indices, int]


def _results(k: Grid, call: Call, parts: list[Part]) -> Rows:
    row, pixel = k.y_strides
    columns = Span(0, k.out[1])
    tables = [(_taken(call.y, entries), entries, lanes) for entries, lanes in parts if len(entries)]

    def some(first: int, last: int) -> tuple[Access, ...]:
        rows = Span(first, last - first)
        return tuple(
            Access("y", m, entries, columns, pixel, lanes, rows, row, ring=k.y_ring)
            for m, entries, lanes in tables
            if rows.count > 0
        )

    return some


def _extras(k: Grid, call: Call, parts: list[Part]) -> Rows:
    row, pixel = k.y_strides
    tables = [
        (i, _taken(m, entries), entries, lanes)
        for i, m in enumerate(call.extra)
        for entries, lanes in parts
        if len(entries)
    ]

    def some(first: int, last: int) -> tuple[Access, ...]:
        whole = Span(first, last - first), Span(0, k.out[1])
        found = []
        for i, m, entries, lanes in tables if last > first else ():
            rows, columns = (ONE, ONE) if k.spread[i] else whole
            found.append(Access(_operand(i), m, entries, columns, pixel, lanes, rows, row))
        return tuple(found)

    return some


def _taken(m: ChannelMap, entries: Indices) -> ChannelMap:
    return m if len(entries) == len(m) else m.take(entries)


# -- sizes ---------------------------------------------------------------------------------------------------


def table_lengths(kernel: Kernel) -> tuple[int, int]:
    """How many addresses of x and of y a kernel walks."""
    if isinstance(kernel, Conv):
        inputs = kernel.depth if kernel.reads == "table" else 1
        return inputs * (1 if kernel.shared else kernel.panels), kernel.panels * kernel.vectors
    if isinstance(kernel, PlaneConv):
        return kernel.panel_starts[-1][0], kernel.panels * kernel.maps
    if isinstance(kernel, Column | Copy):
        return kernel.channels, kernel.channels
    if isinstance(kernel, Nest):
        return min(1, len(kernel.moving)), 1
    if isinstance(kernel, Grouped):
        return kernel.blocks * kernel.terms, kernel.blocks
    if isinstance(kernel, WinogradInput):
        return kernel.blocks, 36 * kernel.blocks
    if isinstance(kernel, WinogradOutput):
        return 36 * kernel.blocks, kernel.blocks
    if isinstance(kernel, WinogradRepair):
        return kernel.heads, kernel.blocks
    assert isinstance(kernel, Depthwise | Pool | PlanePool | Map | GlobalPool | Across | Resize)
    return kernel.blocks, kernel.blocks


def packed_floats(kernel: Kernel) -> int:
    """How many packed weights a kernel reads."""
    if isinstance(kernel, Conv):
        return kernel.panels * kernel.panel_floats
    if isinstance(kernel, PlaneConv | WinogradRepair | Nest):
        return kernel.packed_floats
    if isinstance(kernel, Depthwise | Grouped | WinogradOutput):
        return kernel.blocks * kernel.block_floats
    return 0


def scratch_floats(kernel: Kernel) -> int:
    """How many floats a kernel writes aside, in whole vectors, or reads there."""
    if isinstance(kernel, WinogradOutput | WinogradRepair):
        return kernel.scratch_floats
    if isinstance(kernel, Across):
        return kernel.together * kernel.column
    if not isinstance(kernel, Column):
        return 0
    return -(-kernel.channels // kernel.lanes) * kernel.lanes

"""How several threads share a plan: the parts of a step, and which steps may run at the same time.

A call of a kernel with `split` is cut along that axis into units; part p of n makes the units from
p·units // n up to (p + 1)·units // n. A fused step is cut into bands of rows of its last stage; every band
makes the rows of the other stages that it needs, in copies of their buffers. No part changes how any number
is summed up, so results are the same bits for every number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from compactir.ir.channel_map import ChannelMap, Piece
from compactir.ir.channels import ChannelList, Run
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
    Map,
    Nest,
    Plan,
    PlaneConv,
    PlaneGrid,
    Stage,
    Step,
    WinogradOutput,
    WinogradRepair,
)

__all__ = ["axes", "bands", "call_part", "conflicts", "first_rows", "span", "tile_starts", "units", "waits"]


def axes(kernel: Kernel) -> dict[str, int]:
    """Along what a kernel can be cut, and into how many units."""
    if isinstance(kernel, WinogradOutput | WinogradRepair):
        return {"blocks": kernel.blocks}
    if isinstance(kernel, PlaneGrid):
        # Rows that are made twice would be made by two parts.
        rows = {"rows": kernel.sweeps} if kernel.sweeps > 1 and kernel.out[0] % kernel.rows == 0 else {}
        return (
            {"panels": kernel.panels} | rows
            if isinstance(kernel, PlaneConv)
            else {"blocks": _blocks(kernel)} | rows
        )
    if isinstance(kernel, Grid):
        found = {"rows": kernel.out[0]} if kernel.out[0] > 1 else {}
        if isinstance(kernel, Conv | Depthwise) and is_plain(kernel):
            found["tiles"] = -(-kernel.out[1] // kernel.tile)
        return found | (
            {"panels": kernel.panels} if isinstance(kernel, Conv) else {"blocks": _blocks(kernel)}
        )
    if isinstance(kernel, Copy):
        return {"pixels": kernel.pixels} if kernel.pixels > 1 else {"channels": kernel.channels}
    if isinstance(kernel, Column | Across):
        return {"pixels": kernel.pixels}
    if isinstance(kernel, Nest):
        return {"steps": kernel.extents[0]}
    if isinstance(kernel, Map) and not kernel.tail:
        return {"blocks": _blocks(kernel), "pixels": kernel.pixels}
    return {"blocks": _blocks(kernel)}


def is_plain(kernel: Grid) -> bool:
    """Whether every output pixel of its one row depends on the input pixel at the same place."""
    ones = (kernel.out[0], *kernel.window, *kernel.stride)
    return set(ones) == {1} and kernel.pad == (0, 0) and not kernel.ranged


def _blocks(kernel: Kernel) -> int:
    assert not isinstance(kernel, Conv | Copy | Column | Across)
    return kernel.blocks  # type: ignore[attr-defined,no-any-return]  # all others have some


def units(kernel: Kernel) -> int:
    """Into how many units the kernel is cut."""
    return axes(kernel)[kernel.split]


def span(count: int, part: int, parts: int) -> tuple[int, int]:
    """The units of a part."""
    return count * part // parts, count * (part + 1) // parts


def call_part(call: Call, first: int, last: int) -> Call | None:
    """The call that makes these units only, on the same data; None where there are none.

    Rows are left out: what a kernel touches for some rows `plan_access.touched` says.
    """
    return _CUTS[call.kernel.split](call, first, last) if first < last else None


def _of_tiles(call: Call, first: int, last: int) -> Call:
    """Some neighbouring pixels of the one row."""
    k = call.kernel
    assert isinstance(k, Grid)
    starts = tile_starts(k)
    start, end = starts[first], starts[last]
    part = replace(k, size=(1, end - start), out=(1, end - start), tile=min(k.tile, end - start))
    extra = [m if s else _moved(m, start * k.y_strides[1]) for m, s in zip(call.extra, k.spread, strict=True)]
    x, y = _moved(call.x, start * k.x_strides[1]), _moved(call.y, start * k.y_strides[1])
    return replace(call, kernel=part, x=x, y=y, extra=tuple(extra))


def tile_starts(k: Grid) -> list[int]:
    """The first pixel of every tile of a plain row, and the end: near-equal tiles, larger ones first."""
    tiles = -(-k.out[1] // k.tile)
    small, extra = divmod(k.out[1], tiles)
    return [i * small + min(i, extra) for i in range(tiles + 1)]


def _of_panels(call: Call, first: int, last: int) -> Call:
    k = call.kernel
    if isinstance(k, PlaneConv):
        start, end = k.panel_starts[first][0], k.panel_starts[last][0]
        part = replace(k, counts=k.counts[first:last])
        return _rest(call, part, ChannelMap.of(call.x.places[start:end]), (first, last, k.panels))
    assert isinstance(k, Conv)
    x = call.x if k.shared else _slice(call.x, first, last, k.panels)
    tail = k.tail if last == k.panels else 0
    return _rest(call, replace(k, panels=last - first, tail=tail), x, (first, last, k.panels))


def _of_blocks(call: Call, first: int, last: int) -> Call:
    k = call.kernel
    count = _blocks(k)
    part: Kernel = replace(k, blocks=last - first)  # type: ignore[call-arg]  # `_blocks` has seen to it
    if isinstance(part, Grouped):
        part = replace(part, uses=part.uses[first * part.terms : last * part.terms])
    if isinstance(part, WinogradRepair):
        part = replace(part, origins=part.origins[first:last])
        return _rest(call, part, call.x, (first, last, count))
    return _rest(call, part, _slice(call.x, first, last, count), (first, last, count))


def _rest(call: Call, kernel: Kernel, x: ChannelMap, cut: tuple[int, int, int]) -> Call:
    extra = tuple(_slice(m, *cut) for m in call.extra)
    return replace(call, kernel=kernel, x=x, y=_slice(call.y, *cut), extra=extra)


def _of_pixels(call: Call, first: int, last: int) -> Call:
    k = call.kernel
    assert isinstance(k, Map | Across | Column | Copy)
    x_pixel, y_pixel = (k.x_pixel, k.y_pixel) if isinstance(k, Column | Copy) else (k.lanes, k.lanes)
    spread = k.spread if isinstance(k, Map) else ()
    extra = [m if s else _moved(m, first * y_pixel) for m, s in zip(call.extra, spread, strict=True)]
    x, y = _moved(call.x, first * x_pixel), _moved(call.y, first * y_pixel)
    return replace(call, kernel=replace(k, pixels=last - first), x=x, y=y, extra=tuple(extra))


def _of_channels(call: Call, first: int, last: int) -> Call:
    k = call.kernel
    assert isinstance(k, Copy)
    cut = (first, last, k.channels)
    return _rest(call, replace(k, channels=last - first), _slice(call.x, *cut), cut)


def _of_steps(call: Call, first: int, last: int) -> Call:
    """Some steps of the first loop."""
    k = call.kernel
    assert isinstance(k, Nest)
    operands = tuple(walk.part(first, last) for walk in k.operands)
    part = replace(k, extents=(last - first, *k.extents[1:]), operands=operands)
    maps = (call.x, *call.extra)[: len(k.moving)]
    x, *extra = [_moved(m, first * w.strides[0]) for w, m in zip(k.moving, maps, strict=True)] or [call.x]
    return replace(call, kernel=part, x=x, y=_moved(call.y, first * k.y[0]), extra=tuple(extra))


_CUTS: dict[str, Callable[[Call, int, int], Call]] = {
    "tiles": _of_tiles,
    "panels": _of_panels,
    "blocks": _of_blocks,
    "pixels": _of_pixels,
    "channels": _of_channels,
    "steps": _of_steps,
}


def _slice(m: ChannelMap, first: int, last: int, count: int) -> ChannelMap:
    """Of a table with equally many entries for each of `count` units, those of some units."""
    each = len(m) // count
    return ChannelMap.of(m.places[first * each : last * each])


def _moved(m: ChannelMap, floats: int) -> ChannelMap:
    return ChannelMap(
        tuple(
            Piece(
                p.buffer,
                ChannelList(tuple(Run(r.start + floats, r.count, r.step) for r in p.positions.runs)),
            )
            for p in m.pieces
        )
    )


# -- fused steps ---------------------------------------------------------------------------------------------


def bands(step: Step) -> int:
    """Into how many bands of rows a fused step can be cut: rounds of its last stage."""
    last = step.stages[-1]
    return -(-last.height // last.window)


def first_rows(stages: tuple[Stage, ...], first: int) -> list[int]:
    """The first row of every stage that the last stage needs for its rows from `first` on."""
    rows = [first]
    for stage in reversed(stages[:-1]):
        rows.insert(0, min(stage.height, max(0, rows[0] * stage.stride - stage.pad)))
    return rows


# -- which steps have to wait --------------------------------------------------------------------------------


def waits(plan: Plan) -> Iterator[bool]:
    """For every step: whether it has to wait for the ones before.

    It may not where it touches nothing that a step since the last wait writes, and writes nothing that one
    reads. The steps that no two threads share still need it: each may be run by another thread.
    """
    buffers = {b.name: b for b in plan.buffers}
    running: list[Step] = []
    for step in plan.steps:
        wait = any(conflicts(step, other, buffers) for other in running)
        running = [step] if wait else [*running, step]
        yield wait


def conflicts(one: Step, other: Step, buffers: dict[str, Buffer]) -> bool:
    """Whether two steps may not run at the same time."""
    reads, writes = _touched(one)
    earlier_reads, earlier_writes = _touched(other)
    pairs = [(a, b) for a in writes for b in earlier_reads | earlier_writes]
    pairs += [(a, b) for a in reads for b in earlier_writes]
    return any(_share(buffers[a], buffers[b]) for a, b in pairs)


def _touched(step: Step) -> tuple[set[str], set[str]]:
    reads = {n for c in step.calls for m in (c.x, *c.extra) for n in m.buffers}
    writes = {n for c in step.calls for n in (*c.y.buffers, *([c.scratch] if c.scratch else []))}
    return reads, writes


def _share(one: Buffer, other: Buffer) -> bool:
    if one.region != "arena" or other.region != "arena":
        return one.region == other.region
    return one.offset < other.offset + other.floats and other.offset < one.offset + one.floats

"""Kernels to C functions: one template per kind, filled with numbers that are all computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from math import prod
from typing import Any

import jinja2

from compactir.codegen.c.beside import LEAST_WORDS, beside
from compactir.codegen.c.between import between
from compactir.codegen.c.finish import CALLED, chain, literal
from compactir.codegen.c.nests import nest
from compactir.codegen.c.paired import paired, unrolled
from compactir.codegen.c.planes import Tile, column, load, store, vector_tiles
from compactir.codegen.lower.tiles import LEAST_PIXELS, Segment, segments, waiting, weight_registers
from compactir.ir.plan import (
    WORD,
    Call,
    Conv,
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
    WinogradInput,
    WinogradOutput,
    WinogradRepair,
)
from compactir.ir.plan_access import packed_floats
from compactir.ops.pool import Upsample
from compactir.targets import Target

_PLANES = 4
"""Planes up to which the window's rows are read as vectors."""
_WORD = 4
"""Inputs of a word where kernels multiply by elements."""
_LINE = 16
"""Floats of a cache line."""
_FAR = 32760 // 4
"""Floats that the offset of a prefetch reaches on Arm."""
_AHEAD = 48 * 1024
"""Bytes of a picture from which on its next rows are fetched early."""


@cache
def environment() -> jinja2.Environment:
    """Jinja with C left as C: statements are lines that begin with %%; a misspelt name is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("compactir.codegen.c", "templates"),
        undefined=jinja2.StrictUndefined,
        line_statement_prefix="%%",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_kernel(kernel: Kernel, function: str, target: Target) -> str:
    """The C function of a kernel."""
    template = environment().get_template(f"{kernel.kind}.c.j2")
    words = (literal, plus, minus, times, plural, strides, wrapped)
    context = {word.__name__: word for word in words} | _context(kernel, target)
    return template.render(k=kernel, fn=function, **context)


def plus(n: int) -> str:
    """` + n`; nothing for 0."""
    return f" + {n}" if n > 0 else minus(-n)


def minus(n: int) -> str:
    """` - n`; nothing for 0."""
    return f" - {n}" if n > 0 else plus(-n) if n else ""


def times(n: int) -> str:
    """` * n`; nothing for 1."""
    return "" if n == 1 else f" * {n}"


def plural(n: int, word: str) -> str:
    """`1 pixel`, `2 pixels`."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def strides(kernel: Grid) -> str:
    """`, stride 2x2` for the comment of a kernel; nothing where it is 1."""
    return "" if kernel.stride == (1, 1) else f", stride {kernel.stride[0]}x{kernel.stride[1]}"


def window_at(kernel: Grid, segment: Segment, base: str, row: str) -> str:
    """The pointer to the first pixel that a tile reads in a row of taps: it never leaves the map.

    Args:
        kernel: what reads.
        segment: the tiles that look alike.
        base: the pointer to the map.
        row: the number of the row inside the map, "" where there is only one.
    """
    terms = [base, *([f"{row}{times(kernel.x_strides[0])}"] if row else [])]
    if (first := first_tap(kernel, segment)) is None:
        return " + ".join(terms)
    shift, step = first - kernel.pad[1], kernel.x_strides[1]
    if shift:
        return " + ".join([*terms, f"(ox{times(kernel.stride[1])}{plus(shift)}){times(step)}"])
    return " + ".join([*terms, f"ox{times(kernel.stride[1] * step)}"])


def first_tap(kernel: Grid, segment: Segment) -> int | None:
    """The first column that a tile reads, from the window of its first pixel; None where it reads none."""
    step, dilation = kernel.stride[1], kernel.dilation[1]
    live = enumerate(segment.live)
    return min((m[0] * step + kx * dilation for kx, m in live if m[0] < m[1]), default=None)


def rows_of_window(kernel: Grid) -> list[str]:
    """C for the rows of taps that lie inside the map, ky0 .. ky1 - 1, of a window that begins in row iy."""
    height, window, dilation = kernel.size[0], kernel.window[0], kernel.dilation[0]

    def rows(distance: str) -> str:
        return distance if dilation == 1 else f"({distance}{plus(dilation - 1)}) / {dilation}"

    return [
        f"const int ky0 = iy < 0 ? {rows('-iy')} : 0;",
        f"const int below = {rows(f'{height} - iy')};",
        f"const int ky1 = below < {window} ? below : {window};",
    ]


def _context(kernel: Kernel, target: Target) -> dict[str, Any]:
    spread: tuple[bool, ...] = getattr(kernel, "spread", ())
    epilogue = getattr(kernel, "epilogue", ())
    step = kernel.y_strides[1] if isinstance(kernel, Grid) else 0

    def finished(a: str, pixel: int, other: int | None = None) -> list[str]:
        loads = []
        for e, is_spread in enumerate(spread):
            here, there = (
                f"r{e}" + ("" if is_spread or not p else f" + {p * step}") for p in (pixel, other or pixel)
            )
            loads.append(f"v_load({here})" if other is None else f"v_load_halves({here}, {there})")
        return chain(epilogue, a, loads)

    context: dict[str, Any] = {
        "ranged": ", int from, int to" if kernel.split or getattr(kernel, "ranged", False) else "",
        "over": lambda axis, count: ("from", "to") if kernel.split == axis else (0, count),
        "extras": len(spread),
        "extra_parameters": "".join(f", const float *e{i}, const int32_t *e{i}t" for i in range(len(spread))),
        "chain": finished,
    }
    if isinstance(kernel, PlaneGrid):
        context |= _on_planes(kernel, target)
    elif isinstance(kernel, Grid):
        context |= {
            "segments": segments(
                kernel.size[1],
                kernel.out[1],
                kernel.window[1],
                kernel.stride[1],
                kernel.dilation[1],
                kernel.pad[1],
                kernel.tile,
            ),
            "by_rows": kernel.ranged or kernel.split == "rows",
            "clipped": _clipped(kernel),
            "rows_of_window": rows_of_window(kernel),
            "window_at": lambda segment, base, row: window_at(kernel, segment, base, row),
            "tap": lambda segment, m, kx: _tap(kernel, segment, m, kx),
            "tap_row": _ring(f"iy + ky{times(kernel.dilation[0])}", kernel.x_ring),
            "always": target.isa == "neon" and _always(kernel),
            "moving": kernel.out[0] > 1 or kernel.ranged,
            "xrow": lambda row: _ring(row, kernel.x_ring),
            "yrow": _ring("oy", kernel.y_ring),
            "pixel_step": kernel.stride[1] * kernel.x_strides[1],
        }
        counts = [0, *(segment.count for segment in context["segments"])]
        context["firsts"] = [sum(counts[: i + 1]) for i in range(len(counts) - 1)]
    if isinstance(kernel, WinogradInput | WinogradOutput):
        context["yrow"] = lambda row: _strip_row(row, kernel.y_ring, kernel.y_strides[0])
        context["xrow"] = lambda row: _strip_row(row, kernel.x_ring, kernel.x_strides[0])
    if isinstance(kernel, WinogradOutput | WinogradRepair):
        context["mark_row"] = f"(ty - from{times(kernel.strip)})" if kernel.ranged else "ty"
    if isinstance(kernel, WinogradRepair):
        rows = (astuple(origin) for origin in kernel.origins)
        context["origins"] = wrapped([f"{{ {', '.join(map(str, row))} }}" for row in rows])
        context["unread"] = wrapped(list(map(str, kernel.unread)))
    if isinstance(kernel, Conv):
        context["swept"] = kernel.rows < kernel.out[0] and not kernel.ranged
        context |= {
            "x_step": target.x_step,
            "pin": kernel.tile <= 4,
            # One pixel reads every weight once: what counts is how many loads the core can look ahead.
            "streams": kernel.tile == 1 and not kernel.distance and target.isa in ("avx2", "avx512"),
            # The rows that the next row of outputs adds: a picture rarely lies in the first-level cache.
            "ahead": kernel.reads == "planes"
            and kernel.depth <= 4
            and context["moving"]
            and not kernel.x_ring
            and 4 * kernel.depth * prod(kernel.size) > _AHEAD,
            "paced": target.isa == "neon",
            "loads": "whole" if kernel.half or kernel.distance else target.word_loads,
            "beside": beside,
            "weight_registers": weight_registers,
            "between": between,
            "waiting": waiting,
            "least_words": LEAST_WORDS,
            "least_pixels": LEAST_PIXELS,
            "across": across,
            "by_rows_of_planes": kernel.reads == "planes"
            and kernel.x_strides[1] == 1  # else channels of blocks that happen to lie in equal steps
            and 0 < kernel.depth <= _PLANES
            and not (kernel.half or kernel.distance)
            and target.word_loads in ("moves", "pairs"),
            "paired": paired,
            "unrolled": unrolled,
            "fetch_turns": _fetch_turns(kernel, sum(counts)),
            "far": _FAR,
            "reading": _READING[kernel.reads],
        }
    if isinstance(kernel, Depthwise):
        # On x86 a load feeds all its taps, so that fewer wait for the second cache. Compilers for others
        # see by themselves what is read twice, and in-order cores like pixels one by one.
        by = _columns if target.isa in ("avx2", "avx512") else _taps
        context["columns"] = lambda segment: by(kernel, segment)
    if isinstance(kernel, Grouped):
        context["columns"] = lambda segment: _columns(kernel, segment)
        context["rotated"] = [(lane + kernel.lanes // 2) % kernel.lanes for lane in range(kernel.lanes)]
        context["uses"] = wrapped([str(use) for use in kernel.uses])
    if isinstance(kernel, Resize):
        context["rows"], context["columns"] = _resized(kernel)
    if isinstance(kernel, Nest):
        context |= nest(kernel)
    if isinstance(kernel, Pool | PlanePool):
        context["shares"] = wrapped([literal(1 / d) for d in kernel.divisors])
    return context


def _tap(kernel: Grid, segment: Segment, m: int, kx: int) -> int:
    """Floats from the first pixel that a tile reads to that of pixel m and tap kx."""
    first = first_tap(kernel, segment) or 0
    return (m * kernel.stride[1] + kx * kernel.dilation[1] - first) * kernel.x_strides[1]


def _columns(kernel: Grid, segment: Segment) -> list[tuple[int, list[tuple[int, int]]]]:
    """The input columns of a tile, from the first that it reads, with the (pixel, tap) pairs of each."""
    users: dict[int, list[tuple[int, int]]] = {}
    for kx, (start, end) in enumerate(segment.live):
        for m in range(start, end):
            users.setdefault(_tap(kernel, segment, m, kx), []).append((m, kx))
    return sorted(users.items())


def _taps(kernel: Grid, segment: Segment) -> list[tuple[int, list[tuple[int, int]]]]:
    """The same pixel by pixel: a column stands there once for every tap that reads it."""
    return [
        (_tap(kernel, segment, m, kx), [(m, kx)])
        for m in range(segment.tile)
        for kx, (start, end) in enumerate(segment.live)
        if start <= m < end
    ]


def across(
    live: Sequence[tuple[int, int]], step: int, dilation: int
) -> tuple[int, list[int], dict[tuple[int, int], tuple[int, int]]] | None:
    """Vectors of x words that cover what a tile reads of one row of a plane, and nothing else.

    Args:
        live: per tap the range of pixels for which it lies inside the map.
        step: floats from one pixel's window to the next one's.
        dilation: floats from one tap to the next one.

    Returns:
        Where the first vector starts, in floats from the window of pixel 0; where each starts, from there;
        the vector and element that pixel m multiplies by tap kx, by (m, kx). None where a vector is too wide.
    """
    read = {(m, kx): m * step + kx * dilation for kx, span in enumerate(live) for m in range(*span)}
    if not read or max(read.values()) - min(read.values()) + 1 < _WORD:
        return None
    first, width = min(read.values()), max(read.values()) - min(read.values()) + 1
    starts = [min(at, width - _WORD) for at in range(0, width, _WORD)]
    lanes = {}
    for place, at in read.items():
        vector = (at - first) // _WORD
        lanes[place] = (vector, at - first - starts[vector])
    return first, starts, lanes


def _fetch_turns(kernel: Conv, tiles: int) -> int:
    """Tiles that take turns in fetching the next panel's weights, each some of the lines of every round."""
    words = (kernel.words if kernel.reads == "table" else kernel.depth) // _WORD
    lines = unrolled(words, kernel.vectors, kernel.lanes) * _WORD * kernel.vectors * kernel.lanes // _LINE
    return max(1, min(lines, tiles * min(kernel.out[0], 2)))


def _on_planes(kernel: PlaneGrid, target: Target) -> dict[str, Any]:
    """What the templates for planes ask: the vectors of a sweep, and how each is loaded and stored."""
    context: dict[str, Any] = {
        "tiles": vector_tiles(kernel),
        "load": lambda tile, vector, kx, fill: load(kernel, tile, vector, kx, fill),
        "column": lambda tile: column(kernel, tile),
        "tap_row": f"(iy + ky{times(kernel.dilation[0])})",
        "rows_of_window": rows_of_window(kernel),
        "store": lambda vector, y, value: store(kernel, vector, y, value),
        "clipped": kernel.is_clipped(0),
        "twice": kernel.out[0] % kernel.rows,
        "sweeps": ("from", "to") if kernel.split == "rows" else (0, kernel.sweeps),
        "word": WORD,
        # Sums that live across a call lie in memory all the time (gcc at -O1); NEON's stay where they are.
        "calls": target.isa == "scalar" and any(op.label in CALLED for op in getattr(kernel, "epilogue", ())),
        # On NEON weights come four at a time, for several taps.
        "looped": lambda tile: target.isa != "neon" and _is_uniform(kernel, tile),
    }
    if isinstance(kernel, PlaneConv):
        same = [len({row[s] for row in kernel.counts}) == 1 for s in range(len(kernel.masks))]
        context["sections"] = [
            (
                [m for m in range(kernel.maps) if mask >> m & 1],
                str(kernel.counts[0][s]) if same[s] else f"n[{s + 2}]",
            )
            for s, mask in enumerate(kernel.masks)
        ]
        rows = zip(kernel.panel_starts, kernel.counts, strict=False)
        context["table"] = wrapped(
            ["{ " + ", ".join(map(str, (*start, *counts))) + " }" for start, counts in rows]
        )
    return context


def _is_uniform(kernel: PlaneGrid, tile: Tile) -> bool:
    """Whether all taps of a row are loaded alike, one pixel further each."""
    return kernel.window[1] > 1 and kernel.stride[1] == 1 and tile.is_inner


def _resized(kernel: Resize) -> list[list[str]]:
    """For rows and columns: where the two sources of each lie, and the share of the second."""
    op = Upsample(kernel.out, kernel.mode)
    both = []
    for axis, step in ((0, kernel.size[1] * kernel.lanes), (1, kernel.lanes)):
        first, second, share = zip(*op.taps(kernel.size, axis), strict=True)
        places = [[str(i * step) for i in numbers] for numbers in (first, second)]
        both.append([wrapped(items) for items in (*places, [literal(float(t)) for t in share])])
    return both


_READING = {
    "blocks": "consecutive lanes of blocks",
    "planes": "one plane each",
    "table": "each at its own address",
}


def _ring(row: str, held: int) -> str:
    """The row of a buffer that holds all rows, or the last `held` of them."""
    plain = row if row.isidentifier() else f"({row})"
    wrapped_at = f"& {held - 1}" if held & (held - 1) == 0 else f"% {held}"
    return f"({plain} {wrapped_at})" if held else plain


def _strip_row(row: str, held: int, stride: int) -> str:
    """` + ` where a row of tiles lies: of all rows, or of the strip."""
    return "" if held == 1 else f" + {_ring(row, held)}{times(stride)}"


def _clipped(kernel: Grid) -> bool:
    """Whether some row of windows reaches over the upper or lower border."""
    last = (
        (kernel.out[0] - 1) * kernel.stride[0] - kernel.pad[0] + (kernel.window[0] - 1) * kernel.dilation[0]
    )
    return kernel.pad[0] > 0 or last >= kernel.size[0]


def _always(kernel: Grid) -> bool:
    """Whether every row of windows has a row inside the map."""
    step, pad, dilation = kernel.stride[0], kernel.pad[0], kernel.dilation[0]
    rows = range(kernel.size[0])
    return all(
        any(oy * step - pad + ky * dilation in rows for ky in range(kernel.window[0]))
        for oy in range(kernel.out[0])
    )


def name_kernel(kernel: Kernel, index: int) -> str:
    """A readable name: kind, window, stride, tile; the index keeps names apart."""
    parts = [kernel.kind]
    if isinstance(kernel, Grid):
        parts += [f"{kernel.window[0]}x{kernel.window[1]}", f"s{kernel.stride[0]}", f"t{kernel.tile}"]
    if isinstance(kernel, Conv):
        parts[-1] += f"x{kernel.vectors}"
        parts.append(f"k{kernel.depth}")
    if isinstance(kernel, Map | GlobalPool):
        parts.append(f"p{kernel.pixels}")
    return "_".join([*parts, str(index)])


def wrapped(items: Sequence[str], width: int = 110, indent: str = "    ") -> str:
    """A long list of C initialisers in lines."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return "\n".join([*lines, line.rstrip(" ,")])


def has_weights(call: Call) -> bool:
    """Whether the kernel of a call reads packed weights."""
    return packed_floats(call.kernel) > 0

"""Kernels on planes in C: which pixels the vectors of a tile hold, and how each is loaded and stored."""

from __future__ import annotations

from dataclasses import dataclass

from compactir.ir.plan import PlaneGrid
from compactir.ir.stretches import Stretch


@dataclass(frozen=True)
class Vector:
    """A vector of a tile: a stretch of one row (or two), counted from the first row and column of the tile.

    `live[kx]` is the range of its lanes for which tap kx lies inside the map.
    """

    row: int
    stretch: Stretch
    live: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tile:
    """`count` tiles that look alike, from column `start` in steps of `step`."""

    start: int
    step: int
    count: int
    vectors: tuple[Vector, ...]

    def words(self, maps: int, word: int) -> list[int]:
        """Which words of `word` weights its taps multiply by, of a row of taps for `maps` outputs."""
        seen = [
            kx
            for kx, spans in enumerate(zip(*(v.live for v in self.vectors), strict=True))
            if max(spans) > (0, 0)
        ]
        return sorted({(kx * maps + m) // word for kx in seen for m in range(maps)})

    @property
    def is_inner(self) -> bool:
        """True when all pixels see all taps."""
        return all(span == (0, v.stretch.count) for v in self.vectors for span in v.live)


def vector_tiles(k: PlaneGrid) -> list[Tile]:
    """The tiles of a row; neighbours that look alike are joined."""
    result: list[Tile] = []
    for tile in k.tiles:
        start = tile[0].column
        vectors = tuple(
            Vector(row, Stretch(p.column - start, p.count, p.halves), _live(k, p))
            for p in tile
            for row in range(0, k.rows, 2 if p.halves else 1)
        )
        last = result[-1] if result else None
        if (
            last
            and last.vectors == vectors
            and (last.count == 1 or start == last.start + last.count * last.step)
        ):
            result[-1] = Tile(last.start, (start - last.start) // last.count, last.count + 1, vectors)
        else:
            result.append(Tile(start, 0, 1, vectors))
    return result


def _live(k: PlaneGrid, stretch: Stretch) -> tuple[tuple[int, int], ...]:
    spans = []
    for kx in range(k.window[1]):
        first = stretch.column * k.stride[1] + kx * k.dilation[1] - k.pad[1]
        inside = [m for m in range(stretch.count) if 0 <= first + m * k.stride[1] < k.size[1]]
        spans.append((inside[0], inside[-1] + 1) if inside else (0, 0))
    return tuple(spans)


def first_column(k: PlaneGrid, tile: Tile) -> int | None:
    """The first column that a tile reads, from the window of its first pixel; None where it reads none."""
    step, dilation = k.stride[1], k.dilation[1]
    return min(
        (
            (v.stretch.column + first) * step + kx * dilation
            for v in tile.vectors
            for kx, (first, last) in enumerate(v.live)
            if first < last
        ),
        default=None,
    )


def column(k: PlaneGrid, tile: Tile) -> str:
    """` + ` where the first pixel that a tile reads lies in its row: pointers never leave the map."""
    if (first := first_column(k, tile)) is None:
        return ""
    shift = first - k.pad[1]
    start = "ox" if k.stride[1] == 1 else f"ox * {k.stride[1]}"
    return f" + {start}" if not shift else f" + ({_at(shift, start)})"


def load(k: PlaneGrid, tile: Tile, vector: Vector, kx: int, fill: str) -> str:
    """The pixels that tap kx of a vector reads, `xr` being the tile's first in this row of taps; "" for none.

    No pixel is read that the taps do not ask for: planes may be the caller's.
    """
    stretch, (first, last), stride = vector.stretch, vector.live[kx], k.stride[1]
    if first == last:
        return ""
    at = vector.row * k.stride[0] * k.x_strides[0] + stretch.column * stride - (first_column(k, tile) or 0)
    if (first, last) == (0, stretch.count) and (found := _whole(k, vector, kx, at)):
        return found
    here = at + first * stride + kx * k.dilation[1]
    return f"v_load_each({_at(here)}, {stride}, {first}, {last}, {fill})"


def _whole(k: PlaneGrid, vector: Vector, kx: int, at: int) -> str:
    stretch, stride = vector.stretch, k.stride[1]
    here = at + kx * k.dilation[1]
    if stride == 1 and stretch.halves:
        return f"v_load_halves({_at(here)}, {_at(here + k.stride[0] * k.x_strides[0])})"
    if stride == 1:
        return _some(here, stretch.count, k.lanes)
    if stride != 2 or k.dilation[1] != 1:
        return ""
    # Two vectors of neighbours hold this tap's pixels and those of the next one, or of the one before.
    for first, word in ((kx, "v_even"), (kx - 1, "v_odd")):
        if 0 <= first < k.window[1] - 1 and vector.live[first] == vector.live[first + 1] == (
            0,
            stretch.count,
        ):
            one = _some(at + first, 2 * stretch.count, k.lanes)
            return f"{word}({one}, {_some(at + first + k.lanes, 2 * stretch.count - k.lanes, k.lanes)})"
    return ""


def _some(at: int, count: int, lanes: int) -> str:
    if count <= 0:
        return "v_zero()"
    return f"v_load({_at(at)})" if count >= lanes else f"v_load_n({_at(at)}, {count})"


def _at(offset: int, base: str = "xr") -> str:
    return f"{base} + {offset}" if offset > 0 else f"{base} - {-offset}" if offset else base


def store(k: PlaneGrid, vector: Vector, y: str, value: str) -> str:
    """The statement that stores a vector; `y` is the tile's first pixel."""
    stretch = vector.stretch
    at = vector.row * k.y_strides[0] + stretch.column
    if stretch.halves:
        return f"v_store_halves({_at(at, y)}, {_at(at + k.y_strides[0], y)}, {value});"
    if stretch.count < k.lanes:
        return f"v_store_n({_at(at, y)}, {value}, {stretch.count});"
    return f"v_store({_at(at, y)}, {value});"

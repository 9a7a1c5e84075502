"""How many rows, vectors and output planes a kernel on planes makes at once; which outputs share a panel.

The cost model is that of `tiles`, with the roles exchanged: vectors of pixels are multiplied by weights, one
for all lanes. Every vector of pixels that is loaded serves those outputs of the panel that read its plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

from compactir.codegen.lower import tiles
from compactir.ir.op import Op
from compactir.ir.plan import PlaneConv, PlaneGrid, PlanePool
from compactir.targets import Target

_TRANSCENDENTAL = 12.0
"""Cycles of a vector of tanh, sigmoid and their like; of other functions one."""
_SCATTERED = 2.0
"""Cycles of a load per lane, where lanes are no neighbours or some lie outside of the map."""


def finishing(epilogue: Sequence[Op]) -> float:
    """Cycles per vector of what follows the multiplications."""
    slow = {"tanh", "sigmoid", "swish", "exp", "log", "sqrt", "div"}
    return sum(_TRANSCENDENTAL if op.label in slow else 1.0 for op in epilogue)


def cycles(target: Target, k: PlaneConv | PlanePool) -> float:
    """Estimated time of a kernel."""
    if isinstance(k, PlanePool):
        return k.blocks * k.vectors * (prod(k.window) * (1.5 if k.stride[1] < 3 else k.lanes) + 2)
    times = _sections(target, k)
    taps = prod(k.window)
    total = 0.0
    for row in k.counts:
        inputs = sum(n * (taps * time + 3 * k.window[0]) for n, time in zip(row, times, strict=True))
        total += k.sweeps * (inputs + 15 * len(k.tiles))
    return total + k.panels * k.maps * k.vectors * (1 + finishing(k.epilogue))


def _sections(target: Target, k: PlaneConv) -> list[float]:
    """Cycles of one tap of one input over all tiles of a sweep, section by section."""
    loads = [_loads(k, i) for i in range(len(k.tiles))]
    return [sum(_tap(target, vectors, mask.bit_count(), load) for vectors, load in loads) for mask in k.masks]


def _loads(k: PlaneGrid, index: int) -> tuple[int, float]:
    """Vectors of a tile, and the loads of a tap for them."""
    vectors, loads = 0, 0.0
    scattered = k.stride[1] > 2 or (k.stride[1] == 2 and k.dilation[1] > 1)
    reach = (k.window[1] - 1) * k.dilation[1]
    for stretch in k.tiles[index]:
        rows = k.rows // 2 if stretch.halves else k.rows
        first = stretch.column * k.stride[1] - k.pad[1]
        last = (stretch.column + stretch.count - 1) * k.stride[1] - k.pad[1] + reach
        # Of a row of taps those at the border miss lanes.
        outside = min(1.0, (max(0, -first) + max(0, last + 1 - k.size[1])) / k.window[1])
        whole = 2.0 if stretch.halves or k.stride[1] == 2 else 1.0
        each = _SCATTERED * k.lanes
        vectors += rows
        loads += rows * (each if scattered else whole + outside * each)
    return vectors, loads


def _tap(target: Target, vectors: int, maps: int, loads: float) -> float:
    if not maps:
        return 0.0
    if target.isa == "neon":
        return tiles.cycles(target, vectors * maps, loads + maps / target.x_step, 1, 1)
    return max(vectors * maps / 2, 1.15 * (loads + maps) / 2, 4)


def fits(target: Target, vectors: int, maps: int) -> bool:
    """Whether sums, pixels and weights stay in registers; elsewhere than on NEON a weight fills one."""
    weights = -(-maps // target.x_step) + 1 if target.isa == "neon" else 1
    spare = 1 if target.fma else 2
    return vectors * maps + min(vectors, maps) + weights + spare <= target.registers or vectors * maps == 1


# -- panels --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """Outputs that are made together, and their inputs, section by section."""

    outputs: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Panels:
    """Panels of one size, which one kernel makes."""

    masks: tuple[int, ...]
    panels: tuple[Panel, ...]

    @property
    def counts(self) -> tuple[tuple[int, ...], ...]:
        """Inputs of every section of every panel."""
        return tuple(tuple(map(len, p.inputs)) for p in self.panels)


@cache
def grouped(reads: tuple[frozenset[int], ...], maps: int) -> tuple[Panels, ...]:
    """Panels of at most `maps` outputs, near-equal; those that read much in common share one."""
    left = dict(enumerate(reads))
    found: list[Panels] = []
    for size, count in tiles.split(len(reads), maps):
        chosen = [_together(left, size) for _ in range(count)]
        masks = {
            sum(1 << m for m, o in enumerate(outputs) if i in reads[o])
            for outputs in chosen
            for i in frozenset().union(*(reads[o] for o in outputs))
        }
        order = tuple(sorted(masks, key=lambda mask: (-mask.bit_count(), mask)))
        found.append(Panels(order, tuple(_panel(outputs, reads, order) for outputs in chosen)))
    return tuple(found)


def _together(left: dict[int, frozenset[int]], size: int) -> tuple[int, ...]:
    """Take `size` outputs: first the one that reads most, then whatever adds the fewest inputs."""
    taken = [max(left, key=lambda o: (len(left[o]), -o))]
    union = left.pop(taken[0])
    while len(taken) < size:
        best = min(left, key=lambda o: (len(left[o] - union) - len(left[o] & union), o))
        union |= left.pop(best)
        taken.append(best)
    return tuple(sorted(taken))


def _panel(outputs: tuple[int, ...], reads: Sequence[frozenset[int]], masks: Sequence[int]) -> Panel:
    inputs = sorted(frozenset().union(*(reads[o] for o in outputs)))
    of = {i: sum(1 << m for m, o in enumerate(outputs) if i in reads[o]) for i in inputs}
    return Panel(outputs, tuple(tuple(i for i in inputs if of[i] == mask) for mask in masks))


def choose(
    target: Target, plain: PlaneConv, reads: tuple[frozenset[int], ...]
) -> tuple[tuple[Panels, ...], tuple[PlaneConv, ...]]:
    """The cheapest rows, vectors and outputs at once for a kernel without panels, as panels and kernels."""
    options = [
        (grouped(reads, maps), replace(plain, tile=tile, rows=rows))
        for rows, tile in _shapes(plain)
        for maps in range(1, (min(_MOST, len(reads)) if _shared(reads) else 1) + 1)
        if fits(target, _most_vectors(replace(plain, tile=tile, rows=rows)), maps)
    ]
    short = [(g, k) for g, k in options if max(len(p.masks) for p in g) <= _SECTIONS]
    made = [(g, _kernels(k, g)) for g, k in short or options[:1]]
    return min(made, key=lambda option: sum(cycles(target, kernel) for kernel in option[1]))


def _shared(reads: tuple[frozenset[int], ...]) -> bool:
    """Whether two outputs read the same input."""
    return sum(map(len, reads)) > len(frozenset().union(*reads))


def _kernels(plain: PlaneConv, groups: Sequence[Panels]) -> tuple[PlaneConv, ...]:
    return tuple(
        replace(plain, maps=len(g.panels[0].outputs), masks=g.masks, counts=g.counts) for g in groups
    )


_MOST = 8
"""Outputs at once: sections grow with the subsets of a panel's outputs."""
_ROWS, _VECTORS = 8, 16
"""Rows at once, and vectors of a row."""
_SECTIONS = 12
"""So many sections are written out in a kernel."""


def _shapes(k: PlaneConv) -> Iterator[tuple[int, int]]:
    """(rows, tile): rows that divide the map evenly, and any number of them where none does."""
    most = 1 if k.is_clipped(0) else min(_ROWS, k.out[0])  # each row has other taps inside
    even = [rows for rows in range(1, most + 1) if k.out[0] % rows == 0]
    for rows in even if len(even) > 1 else range(1, most + 1):
        count = sum(map(len, replace(k, rows=rows, tile=k.out[1]).tiles))
        for vectors in range(1, min(count, _VECTORS) + 1):
            yield rows, min(k.out[1], vectors * k.lanes)


def _most_vectors(k: PlaneGrid) -> int:
    return max(sum(k.rows // 2 if stretch.halves else k.rows for stretch in tile) for tile in k.tiles)

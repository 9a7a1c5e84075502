"""Tile shapes: how many pixels and how many output vectors a kernel keeps in registers at once.

Two cost models. Where a broadcast is a load, the one measured for AVX-512 on Zen 5 (benchmarks/LOG.md): per
step over the inputs a tile of a pixels and b vectors takes max(a·b/2, 1.15·(a + b)/2, 5.7) cycles plus the
weight stream, and its beginning and end half a cycle per sum: up to 14 sums the core runs the end of a tile
beside the beginning of the next one, every further sum takes two cycles more. On NEON, which multiplies by
elements of loaded vectors, what the core's description says about multiply-adds, loads and instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from compactir.targets import Target

_STREAMED = 16 * 1024
"""Bytes of a panel's weights from which on tiles wait for them: a third of the first cache is theirs."""


BESIDE_PIXELS = 4
"""Where loads come by halves: from so many pixels on there are multiply-adds enough to load beside."""


LEAST_PIXELS = 3
"""Where loads come by way of moves: with fewer pixels there are not multiply-adds enough to load beside."""


_MOST_PIXELS = 8
"""Inputs of more pixels than these would take more integer registers than compilers have to give."""


def weight_registers(pixels: int, vectors: int) -> int:
    """Registers in which weights wait that come by halves, so that the next ones are there in time."""
    return max(2, vectors) if pixels >= BESIDE_PIXELS else 4


def waiting(vectors: int) -> int:
    """Registers in which weights wait that come by way of moves: the next ones are there in time.

    A divisor of a word's four times `vectors`, so that every round of the loop finds them in the same ones.
    """
    return vectors if vectors > 2 else 4


@dataclass(frozen=True)
class Tiling:
    """`tile` pixels by panels of `vectors`, listed as (vectors of a panel, number of such panels)."""

    tile: int
    panels: tuple[tuple[int, int], ...]
    half: bool = False


@dataclass(frozen=True)
class Shape:
    """Output pixels in a run, output vectors, inputs, and how many of these come in x words."""

    pixels: int
    blocks: int
    depth: int
    words: int = 0


def choose(target: Target, shape: Shape, half: bool = False) -> Tiling:
    """The cheapest tiling; `half`: the last vector is half empty, and may serve two pixels at once."""
    options = [t for h in sorted({False, half}) for t in _tilings(target, shape, h)]
    return min(options, key=lambda t: cost(target, shape, t))


_NEAR = 1.3
"""Tilings that the cost model gives more than this of the best one's cycles are not worth a measurement."""


def ranked(target: Target, shape: Shape, half: bool = False) -> list[Tiling]:
    """Different tilings near the cheapest one, which comes first."""
    options = sorted(
        (t for h in sorted({False, half}) for t in _tilings(target, shape, h)),
        key=lambda t: cost(target, shape, t),
    )
    near = [t for t in options if cost(target, shape, t) <= _NEAR * cost(target, shape, options[0])]
    return list({(split(shape.pixels, t.tile)[0], t.panels, t.half): t for t in reversed(near)}.values())[
        ::-1
    ]


@dataclass
class Choices:
    """Where a lowering takes tilings from: what was measured, else the cost model.

    With `rank` the cost model's next best ones instead, for a layer that has so many: what tuning measures.
    """

    measured: Mapping[str, Tiling] = field(default_factory=dict)
    rank: int = 0
    taken: dict[str, Tiling] = field(default_factory=dict)
    """What the lowering has taken, by the layer's key."""
    steps: dict[str, list[str]] = field(default_factory=dict)
    """The keys of the layers that a step of the plan runs."""
    latest: list[str] = field(default_factory=list)
    """Keys since the last `close`."""

    def take(self, target: Target, shape: Shape, half: bool, kind: str) -> Tiling:
        """A tiling for a layer; `kind` says what else its speed depends on."""
        key = f"{target.name} {shape.pixels}x{shape.blocks} {shape.depth}/{shape.words} {half:d} {kind}"
        if key not in self.taken:
            self.taken[key] = self._tiling(target, shape, half, key)
        self.latest.append(key)
        return self.taken[key]

    def _tiling(self, target: Target, shape: Shape, half: bool, key: str) -> Tiling:
        if key in self.measured and _is_possible(target, shape, self.measured[key], half):
            return self.measured[key]
        if not self.rank:
            return choose(target, shape, half)
        options = ranked(target, shape, half)
        return options[self.rank] if self.rank < len(options) else options[0]

    def close(self, step: str) -> None:
        """The latest layers belong to this step."""
        self.steps.setdefault(step, []).extend(self.latest)
        self.latest.clear()


def _is_possible(target: Target, shape: Shape, tiling: Tiling, half: bool) -> bool:
    """Whether a tiling that was read from a file makes this layer."""
    whole = sum(b * n for b, n in tiling.panels) == shape.blocks and (half or not tiling.half)
    fit = all(n > 0 and b > 0 and fits(target, tiling.tile, b) for b, n in tiling.panels)
    return whole and fit and 1 <= tiling.tile <= shape.pixels


def cost(target: Target, shape: Shape, tiling: Tiling) -> float:
    """Estimated cycles of one run of pixels over all panels."""
    return (_cost_by_element if target.isa == "neon" else _cost_by_broadcast)(target, shape, tiling)


def _cost_by_element(target: Target, shape: Shape, tiling: Tiling) -> float:
    """On NEON: words of x_step inputs, for which every pixel loads one vector, and single inputs."""
    step = target.x_step
    words, singles = divmod(shape.words, step)
    singles += shape.depth - shape.words
    return sum(
        times
        * panels
        * (
            words * _cycles_of_word(target, a, b)
            + singles * cycles(target, a * b, a + b, 3, 1)
            + 3 * a * b / target.fma_per_cycle
            + 10
        )
        for a, times in split(shape.pixels, tiling.tile)
        for b, panels in tiling.panels
    )


def _cycles_of_word(target: Target, a: int, b: int) -> float:
    """Of the multiply-adds of x_step inputs, for a pixels and b vectors."""
    step = target.x_step
    if target.word_loads == "moves" and a >= LEAST_PIXELS:
        # A weight vector takes a load and a move between multiply-adds, inputs a move for two; moves pair up.
        return step * a * b + step * b + (step * b + step // 2 * a) / 2 + 2
    if target.word_loads != "halves":
        return cycles(target, step * a * b, a + step * b, 4, step)
    # Loads run beside multiply-adds; joining two halves of weights takes a multiply-add's place.
    fmas, joined, halves = step * a * b, step * b, 2 * (a + step * b)
    slots = (fmas + joined + halves + 8) / target.issue_width
    return max(slots, (fmas + joined) / target.fma_per_cycle, halves, _LATENCY * step)


_LATENCY = 4
"""Cycles from a multiply-add to the next one on the same sum."""


def cycles(target: Target, fmas: int, loads: float, others: int, chain: int) -> float:
    """Of one pass: the scarcest of multipliers, load units, instruction slots, and the chain of sums."""
    slots = (fmas + 0.55 * loads + others) / target.issue_width  # most loads are of pairs
    multipliers = fmas / target.fma_per_cycle + target.load_stall * loads
    return max(slots, multipliers, loads / target.loads_per_cycle, _LATENCY * chain) + 0.02 * loads


_CHAIN = 5.7
"""Cycles from a multiply-add to the next one on the same sum, waits for a free unit included."""
_BESIDE = 14
"""Sums of a tile up to which its end runs beside the beginning of the next one."""


def _cost_by_broadcast(target: Target, shape: Shape, tiling: Tiling) -> float:
    depth = shape.depth
    total = 0.0
    for a, times in split(shape.pixels, tiling.tile):
        for index, (b, count) in enumerate(tiling.panels):
            stream = 0.5 if depth * b * target.lanes * 4 > _STREAMED else 0.1
            halves = 1 if tiling.half and index == len(tiling.panels) - 1 else 0
            for vectors, panels in ((float(b), count - halves), (b - 0.5, halves)):
                # A vector of two pixels needs both broadcasts in registers, and a blend.
                blends = 0.25 * a if vectors < b else 0.0
                sums = a * vectors
                step = max(sums / 2 + blends, 1.15 * (a + b) / 2, _CHAIN) + stream * b + 0.02 * a
                ends = 0.5 * sums + 2 * max(0, sums - _BESIDE)
                total += times * panels * (depth * step + ends)
    return total


def _tilings(target: Target, shape: Shape, half: bool) -> Iterator[Tiling]:
    for b in range(1, min(shape.blocks, 16) + 1):
        for a in range(1, min(shape.pixels, 28) + 1):
            if fits(target, a, b) and (a > 1 or not half):
                yield Tiling(a, tuple(split(shape.blocks, b)), half)


def fits(target: Target, tile: int, vectors: int) -> bool:
    """Whether accumulators, weights and broadcast inputs stay in registers.

    On NEON every pixel holds a loaded vector, whose elements are multiplied by; elsewhere the broadcast comes
    from memory and one register is kept for it.
    """
    held = tile if target.isa == "neon" else 1
    free = 3 if target.word_loads == "halves" else 1 if target.registers >= 32 else 0
    weights = vectors
    if target.word_loads == "halves":
        weights = weight_registers(tile, vectors)
    elif target.word_loads == "moves" and tile >= LEAST_PIXELS:
        if tile > _MOST_PIXELS:
            return False
        weights = waiting(vectors)
    elif target.word_loads == "pairs":
        weights = max(vectors, 2)
    return tile * vectors + weights + held <= target.registers - free


def split(total: int, most: int) -> list[tuple[int, int]]:
    """Near-equal parts of at most `most`: [(size, how many)], larger ones first. 49 by 14 is 13 + 3 × 12."""
    parts = -(-total // most)
    small, extra = divmod(total, parts)
    return [(size, count) for size, count in ((small + 1, extra), (small, parts - extra)) if count]


@dataclass(frozen=True)
class Segment:
    """`count` neighbouring tiles of `tile` pixels from column `start`, all with the same taps inside the map.

    `live[kx]` is the range of the tile's pixels for which tap kx lies inside the map.
    """

    start: int
    count: int
    tile: int
    live: tuple[tuple[int, int], ...]

    @property
    def has_taps(self) -> bool:
        """True when some pixel sees some tap: padding may be wider than the window."""
        return any(start < end for start, end in self.live)

    @property
    def is_inner(self) -> bool:
        """True when every pixel sees every tap."""
        return all(span == (0, self.tile) for span in self.live)


def segments(
    width: int, out: int, kernel: int, stride: int, dilation: int, pad: int, tile: int
) -> list[Segment]:
    """Cut a row of `out` pixels into tiles and join neighbours that look alike."""
    result: list[Segment] = []
    start = 0
    for size, count in split(out, tile):
        for _ in range(count):
            live = tuple(
                _live(range(start, start + size), width, stride, kx * dilation - pad) for kx in range(kernel)
            )
            last = result[-1] if result else None
            if last and (last.tile, last.live) == (size, live):
                result[-1] = Segment(last.start, last.count + 1, size, live)
            else:
                result.append(Segment(start, 1, size, live))
            start += size
    return result


def _live(columns: range, width: int, stride: int, shift: int) -> tuple[int, int]:
    inside = [m for m, ox in enumerate(columns) if 0 <= ox * stride + shift < width]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)

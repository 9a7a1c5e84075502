"""Dense 3×3 convolutions by Winograd's minimal filtering, F(4×4, 3×3): 36 multiplications instead of 144.

A map is cut into tiles of 4×4 outputs. Step one turns the 6×6 inputs of every tile into 36 coefficients
(Bᵀ d B), step two multiplies each coefficient's map by its own matrix of channels, which is what pointwise
kernels do, step three turns 36 sums back into 16 outputs (Aᵀ m A). Filters are transformed here (G g Gᵀ).

Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4.3, whose points
0, ±1, ±2 these are. Rounding errors are larger than those of the direct sum: docs/numerics.md.

One NaN or infinity would spoil all outputs of the tiles that see it. So step three adds up the outputs of a
row of tiles; where that is not finite, a last call makes the row once more, as a direct sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from compactir.codegen.lower import tiles
from compactir.codegen.lower.pack import panel
from compactir.codegen.lower.state import Lowering, spatial
from compactir.ir.channel_map import ChannelMap
from compactir.ir.channels import divisors
from compactir.ir.connectivity import Pad
from compactir.ir.plan import (
    Buffer,
    Call,
    Conv,
    Origin,
    Stage,
    Step,
    WinogradInput,
    WinogradOutput,
    WinogradRepair,
)
from compactir.ir.types import Array
from compactir.passes import Decision
from compactir.targets import Target

if TYPE_CHECKING:
    from compactir.codegen.lower.convolution import Operands

OUT, WINDOW = 4, 6
"""Outputs of a tile along an axis, and inputs that they read."""
POINTS = WINDOW * WINDOW
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / [
    [24],
    [24],
    [24],
    [24],
    [24],
    [24],
]
_INPUT, _OUTPUT = (288, 288), (200, 200)
"""(Instructions, loads and stores) per vector of channels of a tile: forth and back."""
_NEARER = 0.9
"""What the estimate has to be below, as a share of the direct sum's: estimates are no better than that."""

_NEAR, _FAR = 1 / 32, 1 / 10
"""Cycles per byte from the second cache, and from beyond."""
_LARGEST = 4 << 20
"""Bytes of a layer's transformed filters, four times the filters, or a third of the last cache if it is more.

Beyond, nothing was gained, and the file of weights grew threefold (benchmarks/LOG.md).
"""


@dataclass(frozen=True)
class Part:
    """Output blocks of a convolution that read the same inputs: what can be transformed.

    `blocks` of `rows` lie in `buffer`; `weights` (O, K, 3, 3) are over the lanes of the blocks at `heads`, of
    which the outputs read those at `reads`.
    """

    run: Operands
    source: Buffer
    buffer: Buffer
    heads: tuple[tuple[str, int], ...]
    reads: Sequence[int]
    weights: Array
    window: Pad
    rows: Sequence[list[int]]
    blocks: Sequence[int]
    extras: Sequence[list[tuple[str, int]]]

    @property
    def depth(self) -> int:
        """Inputs, with lanes between them that nobody reads."""
        return int(self.weights.shape[1])

    def ins(self, lanes: int) -> int:
        """Blocks of inputs."""
        return -(-self.depth // lanes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct sum: what the graph counts."""
        live = {c for b in self.blocks for c in self.rows[b]}
        links = sum(
            prod(family.kernel) * family.ins * sum(c in live for c in family.outputs)
            for family in self.run.connect.families
        )
        return links * prod(spatial(self.run.node.out.type))

    def half(self, target: Target) -> bool:
        """Whether the last vector's upper half is dead, so that it can serve two tiles at once."""
        upper = self.rows[self.blocks[-1]][target.lanes // 2 :]
        return target.isa in ("avx2", "avx512") and max(upper) < 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        height, width = spatial(self.run.node.out.type)
        return -(-height // OUT), -(-width // OUT)


def whole_blocks(
    state: Lowering, source: Buffer, inputs: Sequence[tuple[str, int]], weights: Array
) -> tuple[tuple[tuple[str, int], ...], list[int], Array]:
    """The blocks that inputs lie in, their lanes there, and the weights (O, K, kh, kw) over all lanes."""
    lanes = [(name, offset - offset % source.lanes, offset % source.lanes) for name, offset in inputs]
    heads = tuple(dict.fromkeys((name, head) for name, head, _ in lanes))
    number = {head: i for i, head in enumerate(heads)}
    at = [number[name, head] * state.lanes + lane for name, head, lane in lanes]
    spread = np.zeros((len(weights), max(at) + 1, *weights.shape[2:]), np.float32)
    spread[:, at] = weights
    return heads, at, spread


def suits(state: Lowering, part: Part) -> bool:
    """Whether the layer can be transformed, and whether that is estimated to be faster."""
    run, source = part.run, part.source
    plain = run.stride == run.dilation == (1, 1) and part.weights.shape[2:] == (3, 3) and not run.distance
    whole = all(offset % source.block == 0 for _, offset in part.heads) and source.lanes == state.lanes
    inside = source.region == part.buffer.region == "arena"
    held = run.node.out.name in state.fused or bool(state.held.get(run.x, 0))
    if not (state.target.winograd and plain and whole and inside and not held and run.offset == (0, 0)):
        return False
    if not np.isfinite(part.weights).all():
        return _decide(state, part, False, "an infinite weight would be lost among the others of its filter")
    filters = 4 * POINTS * part.depth * len(part.blocks) * state.lanes
    if filters > max(_LARGEST, state.target.l3_bytes // 3):
        return _decide(
            state, part, False, f"transformed filters of {filters / 1e6:.1f} MB would leave the cache"
        )
    direct, around = _direct(state.target, part), cycles(state.target, part)
    estimates = f"about {around / 1e6:.2f} million cycles; the direct sum: {direct / 1e6:.2f}"
    return _decide(state, part, around < _NEARER * direct, estimates)


def _decide(state: Lowering, part: Part, done: bool, why: str) -> bool:
    node = part.run.node
    state.decisions.append(Decision("winograd", node.name, node.span, done, why))
    return done


def _direct(target: Target, part: Part) -> float:
    height, width = spatial(part.run.node.out.type)
    shape = tiles.Shape(width, len(part.blocks), 9 * len(part.reads))
    return height * tiles.cost(target, shape, tiles.choose(target, shape, part.half(target)))


def cycles(target: Target, part: Part) -> float:
    """Of the whole layer, with strips as they suit it best."""
    count, ins = prod(part.grid), part.ins(target.lanes)
    around = sum(
        count * blocks * max(work / target.fma_per_cycle, moves / target.loads_per_cycle)
        for blocks, (work, moves) in ((ins, _INPUT), (len(part.blocks), _OUTPUT))
    )
    return around + _products_cycles(target, part, 1, _strip(target, part, 1))


def _strip(target: Target, part: Part, units: int) -> int:
    """Rows of tiles at once: the fastest of all, or a power of two, within twice the second cache."""
    rows, columns = part.grid
    row = 4 * target.lanes * POINTS * columns * units * (part.ins(target.lanes) + len(part.blocks))
    whole = [n for n in divisors(rows) if n == rows or n.bit_count() == 1]
    fitting = [n for n in whole if n == 1 or n * row <= 2 * target.l2_bytes]
    return min(fitting, key=lambda n: _products_cycles(target, part, units, n))


def _products_cycles(target: Target, part: Part, units: int, strip: int) -> float:
    """Of all products, `strip` rows of tiles at a time, and of what they need from beyond the first cache.

    Coefficients are written and read once, and make room for others twice; every strip reads all filters.
    """
    outs, strips = len(part.blocks), part.grid[0] // strip
    shape = tiles.Shape(strip * part.grid[1], outs, part.depth)
    products = POINTS * units * tiles.cost(target, shape, tiles.choose(target, shape, part.half(target)))
    vector = 4 * target.lanes * POINTS * units
    coefficients = vector * shape.pixels * (part.ins(target.lanes) + outs)
    filters = vector * part.depth * outs
    moved = 4 * coefficients * _distance(target, coefficients)
    moved += filters * _distance(target, coefficients + filters)
    return strips * (products + moved)


def _distance(target: Target, size: int) -> float:
    """Cycles per byte of what is used over and over, by the cache that holds it."""
    missed = max(0, 1 - target.l1_bytes / size)
    return missed * (_NEAR if size <= target.l2_bytes else _FAR)


def together(parts: Sequence[Part], target: Target) -> list[list[Part]]:
    """Parts of equal sizes share their steps: the groups of a grouped convolution."""
    found: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        key = (part.depth, len(part.blocks), part.half(target), part.window)
        found.setdefault(key, []).append(part)
    return list(found.values())


def steps(state: Lowering, parts: Sequence[Part]) -> list[Step]:
    """What runs: three steps one after the other, or one that makes strip after strip of tile rows."""
    part, run = parts[0], parts[0].run
    v, pixels = state.lanes, prod(part.grid)
    ins, outs = (len(parts) * n for n in (part.ins(v), len(part.blocks)))
    strip = _strip(state.target, part, len(parts))
    banded = strip < part.grid[0]
    stem, shape = run.node.out.name, (strip, part.grid[1])
    forth = state.buffer(f"{stem}.tiles", shape, POINTS * ins)
    back = state.buffer(f"{stem}.sums", shape, POINTS * outs)
    strips = part.grid[0] // strip
    tile = tiles.Shape(strip * part.grid[1], len(part.blocks), part.depth)
    kind = f"winograd {len(parts)} {strips}"
    tiling = state.choices.take(state.target, tile, part.half(state.target), kind)
    into = _forth(parts, forth, banded)
    products = _products(state, parts, forth, back, tiling)
    out_of = _back(state, parts, back, banded)
    origins = _origins(parts, tiling, products, out_of)
    calls = ((into,), products, (out_of, _again(parts, into, out_of, origins, products[0].weights)))
    read = run.x.type.size // run.x.type.batch
    live = sum(c >= 0 for part in parts for b in part.blocks for c in part.rows[b])
    whole = Step(
        f"{run.node.name}.winograd",
        "conv",
        tuple(call for stage in calls for call in stage),
        macs=sum(part.macs for part in parts),
        executed=POINTS * part.depth * outs * v * pixels,
        read=read + POINTS * sum(part.weights[..., 0, 0].size for part in parts),
        written=live * prod(spatial(run.node.out.type)),
        where=str(run.node.span) if run.node.span else "",
    )
    if banded:
        stages = tuple(Stage(len(stage), part.grid[0] // strip) for stage in calls)
        return [replace(whole, stages=stages)]
    first, last = POINTS * ins * v * pixels, POINTS * outs * v * pixels
    name = run.node.name
    state.choices.close(f"{name}.products")
    return [
        replace(whole, name=f"{name}.tiles", calls=calls[0], macs=0, executed=0, read=read, written=first),
        replace(whole, name=f"{name}.products", calls=calls[1], read=first + whole.read - read, written=last),
        replace(whole, name=f"{name}.sums", calls=calls[2], macs=0, executed=0, read=last),
    ]


@dataclass(frozen=True)
class Order:
    """How far apart the maps of neighboring coefficients lie, and those of neighboring blocks, in floats."""

    point: int
    block: int

    @classmethod
    def of(cls, buffer: Buffer) -> Order:
        """All coefficients of a block together, or all blocks of a coefficient: what spreads better.

        The transformations touch the 36 coefficients of a tile in turn. Where these lie a power of two apart
        they meet in a few sets of the first-level cache and push each other out (benchmarks/LOG.md).
        """
        orders = (
            cls(buffer.block, POINTS * buffer.block),
            cls(buffer.blocks // POINTS * buffer.block, buffer.block),
        )
        return max(orders, key=lambda order: len({order.point * 4 * i // 64 % _SETS for i in range(POINTS)}))

    def place(self, block: int, point: int) -> int:
        """Where a map begins."""
        return block * self.block + point * self.point


_SETS = 64
"""Of the first-level cache: lines 4096 bytes apart share one, on every processor here."""


def _forth(parts: Sequence[Part], buffer: Buffer, banded: bool) -> Call:
    """From the map to 36 coefficients of every tile."""
    part, heads = parts[0], [head for part in parts for head in part.heads]
    blocks, order = buffer.blocks // POINTS, Order.of(buffer)
    kernel = WinogradInput(
        lanes=buffer.lanes,
        size=spatial(part.run.x.type),
        out=part.grid,
        window=(WINDOW, WINDOW),
        stride=(OUT, OUT),
        dilation=(1, 1),
        pad=part.window[:2],
        x_strides=(part.source.row, part.source.pixel),
        y_strides=(buffer.row, buffer.pixel),
        tile=1,
        y_ring=buffer.height if banded else 0,
        ranged=banded,
        blocks=blocks,
        strip=buffer.height if banded else 1,
    )
    places = (order.place(b, point) for b in range(blocks) for point in range(POINTS))
    return Call(kernel, ChannelMap.of(heads), ChannelMap.of((buffer.name, place) for place in places))


def _back(state: Lowering, parts: Sequence[Part], buffer: Buffer, banded: bool) -> Call:
    """From 36 sums of every tile to its 16 outputs, with bias and epilogue."""
    part, run, blocks = parts[0], parts[0].run, buffer.blocks // POINTS
    order = Order.of(buffer)
    written = [b for part in parts for b in part.blocks]
    out = spatial(run.node.out.type)
    kernel = WinogradOutput(
        lanes=buffer.lanes,
        size=part.grid,
        out=out,
        window=(1, 1),
        stride=(1, 1),
        dilation=(1, 1),
        pad=(0, 0),
        x_strides=(buffer.row, buffer.pixel),
        y_strides=(part.buffer.row, part.buffer.pixel),
        tile=1,
        x_ring=buffer.height if banded else 0,
        ranged=banded,
        epilogue=run.epilogue,
        spread=tuple(spatial(e.type) != out for e in run.extra),
        blocks=blocks,
        strip=buffer.height if banded else 1,
    )
    places = (order.place(b, point) for b in range(blocks) for point in range(POINTS))
    lanes = np.array([part.rows[b] for b in written])
    scratch = state.buffer(f"{run.node.out.name}.finite", (1, 1), kernel.scratch_floats // buffer.lanes)
    return Call(
        kernel,
        ChannelMap.of((buffer.name, place) for place in places),
        ChannelMap.of((part.buffer.name, b * part.buffer.block) for b in written),
        state.packer.add(np.where(lanes >= 0, run.bias[lanes], np.float32(0))),
        tuple(state.starts([e[b] for b in written]) for e in part.extras),
        scratch.name,
    )


def _origins(
    parts: Sequence[Part], tiling: tiles.Tiling, products: Sequence[Call], out_of: Call
) -> list[Origin]:
    """Where the panels hold the filters of every block of outputs, counted from the first panel."""
    outs, start = len(parts[0].blocks), products[0].weights
    found: dict[int, Origin] = {}
    for call, spans in zip(products, _panels(tiling, outs).values(), strict=True):
        k = call.kernel
        assert isinstance(k, Conv)
        vector, point = k.vectors * k.lanes, len(spans) * k.panel_floats
        for unit, (number, span) in product(range(len(parts)), enumerate(spans)):
            filters = call.weights - start + unit * POINTS * point + number * k.panel_floats + vector
            for i, block in enumerate(span):
                found[unit * outs + block] = Origin(
                    bias=out_of.weights - start + (unit * outs + block) * k.lanes,
                    filters=filters + i * k.lanes,
                    point=point,
                    depth=vector,
                    head=unit * parts[0].ins(k.lanes),
                    lanes=k.lanes // 2 if k.half and block == span[-1] else k.lanes,
                )
    return [found[block] for block in range(len(found))]


def _again(parts: Sequence[Part], into: Call, out_of: Call, origins: Sequence[Origin], start: int) -> Call:
    """Rows of tiles with numbers that are not finite: the direct sum of what `into` has read."""
    part, k = parts[0], out_of.kernel
    assert isinstance(k, WinogradOutput)
    lanes = k.lanes
    firsts = [unit * part.ins(lanes) * lanes for unit in range(len(parts))]
    read = {first + lane for first, one in zip(firsts, parts, strict=True) for lane in one.reads}
    every = (first + lane for first in firsts for lane in range(part.depth))
    kernel = WinogradRepair(
        lanes=lanes,
        size=spatial(part.run.x.type),
        out=k.out,
        window=(3, 3),
        stride=(1, 1),
        dilation=(1, 1),
        pad=part.window[:2],
        x_strides=(part.source.row, part.source.pixel),
        y_strides=k.y_strides,
        tile=1,
        ranged=k.ranged,
        epilogue=k.epilogue,
        spread=k.spread,
        blocks=k.blocks,
        strip=k.strip,
        depth=part.depth,
        heads=len(into.x),
        origins=tuple(origins),
        unread=tuple(n for n in every if n not in read),
    )
    return Call(kernel, into.x, out_of.y, start, out_of.extra, out_of.scratch)


def _products(
    state: Lowering, parts: Sequence[Part], forth: Buffer, back: Buffer, tiling: tiles.Tiling
) -> tuple[Call, ...]:
    """A pointwise convolution of every coefficient's map, with filters of its own; strips are its rows."""
    part, v, outs = parts[0], state.lanes, len(parts[0].blocks)
    ins, pixels = part.ins(v), forth.height * forth.width
    source, target = Order.of(forth), Order.of(back)
    strips = part.grid[0] // forth.height
    bias = np.zeros(len(part.run.bias), np.float32)
    plain = Conv(
        lanes=v,
        size=(strips, pixels),
        out=(strips, pixels),
        window=(1, 1),
        stride=(1, 1),
        dilation=(1, 1),
        pad=(0, 0),
        x_strides=(pixels * v, v),
        y_strides=(pixels * v, v),
        tile=tiles.split(pixels, tiling.tile)[0][0],
        x_ring=1 if strips > 1 else 0,
        y_ring=1 if strips > 1 else 0,
        ranged=strips > 1,
        depth=part.depth,
        x_block=source.place(1, 0),
        shared=False,
        prefetch=tiling.tile > 1,
    )
    calls = []
    for (vectors, half), spans in _panels(tiling, outs).items():
        heads, places, packed = [], [], []
        for unit, one in enumerate(parts):
            filters = _filters(one)
            for point, span in product(range(POINTS), spans):
                heads.append(source.place(unit * ins, point))
                places += [target.place(unit * outs + i, point) for i in span]
                lanes = [c for i in span for c in one.rows[one.blocks[i]]]
                packed.append(panel(filters[point], bias, lanes, vectors if half else 0))
        calls.append(
            Call(
                replace(plain, vectors=vectors, panels=len(heads), half=half),
                ChannelMap.of((forth.name, head) for head in heads),
                ChannelMap.of((back.name, place) for place in places),
                state.packer.add(np.concatenate(packed)),
            )
        )
    return tuple(calls)


def _filters(part: Part) -> Array:
    """(36, O, K, 1, 1): the transformed filters of all outputs of the part."""
    outputs = sorted({c for b in part.blocks for c in part.rows[b] if c >= 0})
    found = np.zeros((POINTS, *part.weights.shape[:2], 1, 1), np.float32)
    found[:, outputs] = transformed(part.weights[outputs]).reshape(POINTS, len(outputs), -1, 1, 1)
    return found


def transformed(weights: Array) -> Array:
    """G g Gᵀ (6, 6, O, K) of filters (O, K, 3, 3), computed in float64; `taps` finds all signs in it."""
    exact = np.einsum("ai,okij,bj->abok", G, weights.astype(np.float64), G, optimize=True)
    rounded: Array = exact.astype(np.float32)
    weights = weights.transpose(2, 3, 0, 1)
    lost = (np.sign(taps(rounded)) != np.sign(weights)).any(axis=(0, 1))
    if lost.any():
        rounded[..., lost] = _with_signs(exact[..., lost], weights[..., lost].astype(np.float64))
    return rounded


def taps(filters: Array) -> Array:
    """The 3×3 filters (3, 3, …) of transformed ones (6, 6, …), as the C function computes them back.

    Corners are exact, the others within some units of the last place of the largest.
    """
    f = filters
    top = (16 * f[0, 0], 12 * (f[0, 2] - f[0, 1]), 4 * f[0, 5])
    middle = (
        12 * (f[2, 0] - f[1, 0]),
        9 * ((f[2, 2] - f[2, 1]) - (f[1, 2] - f[1, 1])),
        3 * (f[2, 5] - f[1, 5]),
    )
    return np.array([top, middle, (4 * f[5, 0], 3 * (f[5, 2] - f[5, 1]), f[5, 5])], filters.dtype)


def _with_signs(exact: Array, weights: Array) -> Array:
    """Transformed filters (6, 6, n), rounded such that `taps` finds zeros, and all signs, as they are.

    An infinity times a weight is an infinity of its sign, or NaN. Coefficients become multiples of a grid on
    which the differences in `taps` are exact; there each tap's difference is set.
    """
    found = exact.astype(np.float32)
    _, exponent = np.frexp(np.abs(exact).max(axis=(0, 1)))
    grid = np.ldexp(1.0, exponent - 22)
    u = np.rint(exact / grid)

    def difference(row: int, column: int, divisor: int) -> Array:
        tap = weights[row, column]
        found: Array = np.sign(tap) * np.maximum(1, np.rint(np.abs(tap) / divisor / grid))
        return found

    u[0, 2] = u[0, 1] + difference(0, 1, 12)
    u[2, 0] = u[1, 0] + difference(1, 0, 12)
    u[2, 5] = u[1, 5] + difference(1, 2, 3)
    u[5, 2] = u[5, 1] + difference(2, 1, 3)
    u[2, 2] = u[2, 1] + u[1, 2] - u[1, 1] + difference(1, 1, 9)
    inner = np.ix_((0, 1, 2, 5), (0, 1, 2, 5))
    found[inner] = (u * grid)[inner]
    for row, column in product((0, 5), (0, 5)):
        found[row, column] = exact[row, column]
    return found


def _panels(tiling: tiles.Tiling, blocks: int) -> dict[tuple[int, bool], list[range]]:
    """(Vectors, whether the last is half empty) -> the blocks of every such panel."""
    found: dict[tuple[int, bool], list[range]] = {}
    at = 0
    for vectors, count in tiling.panels:
        for _ in range(count):
            span = range(at, at + vectors)
            at += vectors
            found.setdefault((vectors, tiling.half and at == blocks), []).append(span)
    return found

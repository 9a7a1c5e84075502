"""Convolutions: panels of output vectors over lists of inputs, any connectivity; depthwise lane by lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from compactir.codegen.lower import narrow, tiles, winograd
from compactir.codegen.lower.pack import filters, panel
from compactir.codegen.lower.state import Block, Lowering, Rows, lowers, natural, spatial
from compactir.diagnostics import CompactError
from compactir.ir.channel_map import ChannelMap
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Pad
from compactir.ir.graph import Node, Value
from compactir.ir.op import Op
from compactir.ir.plan import Buffer, Call, Grouped
from compactir.ir.plan import Conv as ConvKernel
from compactir.ir.plan import Depthwise as DepthwiseKernel
from compactir.ir.types import Array
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear, Rbf
from compactir.passes import Decision

_BROADCASTING = ("avx2", "avx512")
"""Where an input reaches all lanes by a load: a vector of two pixels costs nothing more."""
_READER = 9
"""Multiplications per block that whoever reads the result has to do: a depthwise 3×3 convolution."""
_SWEEP = 256 * 1024
"""Bytes of input that one sweep over the panels may take, so that it stays in the second-level cache."""
_PREFETCHED = 48 * 1024
"""Bytes of weights from which on fetching the next panel early pays (measured on Zen 5, benchmarks/LOG.md).

Not for single pixels: they read every weight once, in order, and the early fetches only push others out."""


_ROOM = 1.5
"""How many times the memory of full vectors an output may take so that fewer lanes compute zeros."""


Place = tuple[str, int]
"""A buffer and an offset in it, in floats."""


@dataclass(frozen=True)
class Operands:
    """A convolution with its arrays: everything the rules below need, whatever operation it came from."""

    node: Node
    x: Value
    connect: Connectivity
    weights: list[Array]
    bias: Array
    stride: tuple[int, int]
    dilation: tuple[int, int]
    epilogue: tuple[Op, ...]
    extra: list[Value]
    offset: tuple[int, int] = (0, 0)
    distance: bool = False
    vector: bool = False
    """Its inputs are pixels of planes, as channels of a 1×1 map."""


@lowers(Conv)
def lower_conv(state: Lowering, node: Node) -> None:
    """One convolution: depthwise where every lane keeps its channel, panels of blocks otherwise."""
    op = node.op
    assert isinstance(op, Conv)
    x = node.args[0]
    weights, bias, rest = weights_of(state, node)
    connect, offset = _in_taps(node, op.connect, op.dilation)
    run = Operands(node, x, connect, weights, bias, op.stride, op.dilation, op.epilogue, rest, offset)
    if op.connect.is_depthwise and op.connect.in_channels > 1:
        _depthwise(state, run, *state.layers(state.blocked(x)))
    else:
        _panels(state, run)


def weights_of(state: Lowering, node: Node) -> tuple[list[Array], Array, list[Value]]:
    """The weights of a convolution's families, its bias, and the operands of its epilogue."""
    op = node.op
    assert isinstance(op, Conv)
    rest = list(node.args[1:])
    weights = [state.weight(rest.pop(0)) for _ in op.connect.families]
    if op.masked:
        weights[0] = weights[0] * state.weight(rest.pop(0))
    bias = state.weight(rest.pop(0)) if op.bias else np.zeros(op.connect.out_channels, np.float32)
    return weights, bias, rest


@lowers(Linear, Rbf)
def lower_linear(state: Lowering, node: Node) -> None:
    """A linear layer is a 1×1 convolution of a 1×1 map; radial basis functions differ in what they sum."""
    x, weight, *rest = node.args
    matrix = state.weight(weight)
    outs, ins = matrix.shape
    bias = state.weight(rest[0]) if rest else np.zeros(outs, np.float32)
    weights = [matrix.reshape(outs, ins, 1, 1)]
    distance = isinstance(node.op, Rbf)
    dense = Connectivity.dense(ins, outs)
    _panels(state, Operands(node, x, dense, weights, bias, (1, 1), (1, 1), (), [], distance=distance))


def _in_taps(
    node: Node, connect: Connectivity, dilation: tuple[int, int]
) -> tuple[Connectivity, tuple[int, int]]:
    """The connectivity with padding counted in taps, and the rest in pixels that all blocks have in common.

    Blocks of different kernels can share a kernel only where their taps fall on each other.
    """
    if dilation == (1, 1):
        return connect, (0, 0)
    rests = {(f.pad[0] % dilation[0], f.pad[1] % dilation[1]) for f in connect.families} or {(0, 0)}
    if len(rests) > 1:
        raise CompactError(
            "CIR503",
            f"the blocks of `{node.name}` have paddings that differ by less than the dilation "
            f"{list(dilation)}",
            span=node.span,
            help="pad each block by a multiple of the dilation",
        )
    vertical, horizontal = dilation
    families = tuple(
        replace(f, pad=(f.pad[0] // vertical, f.pad[1] // horizontal, f.pad[2], f.pad[3]))
        for f in connect.families
    )
    return replace(connect, families=families), rests.pop()


# -- depthwise -----------------------------------------------------------------------------------------------


def _depthwise(state: Lowering, run: Operands, x_blocks: list[Block], rows: Rows) -> None:
    """Blocks that share a window share a call; dead lanes get zero filters."""
    node, connect = run.node, run.connect
    extras = [state.aligned(v, rows) for v in run.extra]
    buffer, _ = state.result(node.out, rows)
    reach, windows = _windows(connect)
    dense = np.zeros((connect.out_channels, reach[0] + reach[2] + 1, reach[1] + reach[3] + 1), np.float32)
    for family, weight in zip(connect.families, run.weights, strict=True):
        top, left = reach[0] - family.pad[0], reach[1] - family.pad[1]
        dense[family.outputs.array, top : top + family.kernel[0], left : left + family.kernel[1]] = weight[
            :, 0
        ]
    groups: dict[Pad, list[int]] = {}
    for index, lanes in enumerate(rows):
        groups.setdefault(_union([windows[c] for c in lanes if c >= 0]), []).append(index)
    source = state.buffers[x_blocks[0][0]]
    e_blocks = [e.blocks(state.lanes) for e in extras]
    calls = []
    for window, blocks in groups.items():
        cropped = _crop(dense, reach, window)
        kernel = DepthwiseKernel(
            **_grid(state, run, source, buffer, window, _depthwise_tile(state, buffer.width)),
            blocks=len(blocks),
        )
        packed = [filters(cropped, run.bias, rows[b]) for b in blocks]
        calls.append(
            Call(
                kernel,
                state.starts([x_blocks[b] for b in blocks]),
                ChannelMap.of((buffer.name, b * buffer.block) for b in blocks),
                state.packer.add(np.concatenate(packed)),
                tuple(state.starts([e[b] for b in blocks]) for e in e_blocks),
            )
        )
    taps = sum((w[0] + w[2] + 1) * (w[1] + w[3] + 1) * len(b) for w, b in groups.items())
    state.step(node, calls, executed=taps * state.lanes * prod(spatial(node.out.type)))


def _depthwise_tile(state: Lowering, width: int) -> int:
    """Pixels at once: half of the registers for sums, the rest for inputs and filters."""
    most = {32: 14, 16: 6}.get(state.target.registers, 4)
    return tiles.split(width, min(most, width))[0][0]


# -- panels --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Output blocks that read the same inputs through the same window."""

    inputs: tuple[int, ...]
    window: Pad
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Narrow:
    """An output block for the lane by lane kernel, with the arguments of its `_grid`."""

    grid: dict[str, Any]
    block: int
    weights: Array
    terms: Sequence[narrow.Term]
    half: bool


def _panels(state: Lowering, run: Operands) -> None:
    xmap = state.map(run.x)
    if state.geometry(xmap) is None:
        xmap = state.blocked(run.x)
    run, places = _vector(run, state.elements(xmap).places, state.buffers[xmap.buffers[0]])
    node, connect = run.node, run.connect
    order = sorted(set(places), key=lambda p: (xmap.buffers.index(p[0]), p[1]))
    position = {place: i for i, place in enumerate(order)}
    index = np.array([position[p] for p in places])
    dense, reach = _physical(run, index, len(order))
    reads = np.zeros((connect.out_channels, len(order)), np.bool_)
    np.logical_or.at(reads.T, index, connect.mask.T)
    _, windows = _windows(connect)
    source_lanes = state.buffers[xmap.buffers[0]].lanes
    rows = _rows(state, run, reads, [(name, offset // source_lanes) for name, offset in order])
    extras = [state.aligned(v, rows).blocks(state.lanes) for v in run.extra]
    buffer, _ = state.result(node.out, rows, direct=True)
    source = state.buffers[xmap.buffers[0]]
    calls: dict[ConvKernel, list[tuple[list[tuple[str, int]], Sequence[int], Array]]] = {}
    transformed: list[winograd.Part] = []
    narrowed: list[Narrow] = []
    for group in _groups(rows, reads, windows):
        inputs = [order[i] for i in group.inputs]
        mode, x_block = _reading(state, inputs)
        chosen, words = list(group.inputs), len(inputs) if mode == "blocks" else 0
        if mode == "table" and state.target.isa == "neon":
            first, words = _words(inputs, state.target.x_step)
            chosen, inputs = [chosen[i] for i in first], [inputs[i] for i in first]
        weights = _crop(dense, reach, group.window)[:, chosen]
        grid = _grid(state, run, source, buffer, group.window, 1)
        depth = len(inputs) * grid["window"][0] * grid["window"][1]
        half = _half_empty(state, buffer, rows[group.blocks[-1]])
        shape = tiles.Shape(grid["out"][1], len(group.blocks), depth, words * depth // max(1, len(inputs)))
        part, decided = None, len(state.decisions)
        if inputs and source.lanes == state.lanes and weights.shape[2:] == (3, 3):
            covered, lanes_read, spread = winograd.whole_blocks(state, source, inputs, weights)
            part = winograd.Part(
                run, source, buffer, covered, lanes_read, spread, group.window, rows, group.blocks, extras
            )
            part = part if winograd.suits(state, part) else None
        live = [c for b in group.blocks for c in rows[b] if c >= 0]
        sparse = bool(inputs) and float(reads[np.ix_(live, group.inputs)].mean()) < narrow.DENSE
        if sparse and narrow.suits(state, run, source, buffer, grid["window"][1]):
            lanewise = {b: narrow.terms(inputs, rows[b], reads[:, chosen], state.lanes) for b in group.blocks}
            count = sum(len(found) for found, _ in lanewise.values())
            own = narrow.cycles(state.target, grid["window"], run.stride[1], grid["out"], count)
            others = _estimate(state, shape, half, grid["out"][0], part)
            if narrow.is_nearer(own, others):
                why = f"about {own / 1e6:.2f} million cycles, the next best way {others / 1e6:.2f}"
                del state.decisions[decided:]  # Winograd's, overruled
                state.decisions.append(Decision("lane-by-lane", node.name, node.span, True, why))
                narrowed += [Narrow(grid, b, weights, *lanewise[b]) for b in group.blocks]
                continue
        if part:
            transformed.append(part)
            continue
        tiling = state.choices.take(state.target, shape, half, _kind(grid, mode, x_block))
        grid["tile"] = tiles.split(grid["out"][1], tiling.tile)[0][0]
        at = 0
        for vectors, count in tiling.panels:
            kernel = ConvKernel(
                **grid,
                vectors=vectors,
                depth=len(inputs),
                reads=mode,
                x_block=x_block,
                words=words if mode == "table" else 0,
                word=state.target.x_step if mode == "table" and words else 1,
                rows=_rows_per_sweep(grid, len(inputs)),
                prefetch=grid["tile"] > 1 and depth * len(group.blocks) * state.lanes * 4 > _PREFETCHED,
                tail=_tail(state, buffer, node.out.type.channels, rows, group.blocks, (at, vectors, count)),
                distance=run.distance,
            )
            for _ in range(count):
                blocks = group.blocks[at : at + vectors]
                if tiling.half and blocks[-1] == group.blocks[-1]:
                    kernel = replace(kernel, half=True)
                lanes = [c for b in blocks for c in rows[b]]
                heads = inputs if mode == "table" else inputs[:1] or [(buffer.name, 0)]
                packed = panel(weights, run.bias, lanes, vectors if kernel.half else 0)
                calls.setdefault(kernel, []).append((heads, blocks, packed))
                at += vectors
    emitted = [_call(state, kernel, panels, buffer, extras) for kernel, panels in calls.items()]
    executed = sum(c.kernel.panels * c.kernel.executed for c in emitted if isinstance(c.kernel, ConvKernel))
    lanewise_calls = _lanewise(state, run, rows, buffer, extras, narrowed)
    executed += sum(
        c.kernel.blocks * c.kernel.executed for c in lanewise_calls if isinstance(c.kernel, Grouped)
    )
    executed *= prod(spatial(node.out.type))
    emitted += lanewise_calls
    if not transformed:
        state.step(node, emitted, executed=executed)
        return
    if emitted:
        rest = node.macs // node.out.type.batch - sum(part.macs for part in transformed)
        state.step(node, emitted, executed=executed, name=f"{node.name}.direct", macs=rest)
    for parts in winograd.together(transformed, state.target):
        if emitted or parts[0] is not transformed[0]:
            state.choices.close(state.steps[-1].name)
        state.steps += winograd.steps(state, parts)
    state.steps[-1] = replace(state.steps[-1], name=node.name)


def _estimate(
    state: Lowering, shape: tiles.Shape, half: bool, height: int, part: winograd.Part | None
) -> float:
    """Cycles of some output blocks by the transformation, or by the direct sum of all rows."""
    if part:
        return winograd.cycles(state.target, part)
    return height * tiles.cost(state.target, shape, tiles.choose(state.target, shape, half))


def _lanewise(
    state: Lowering,
    run: Operands,
    rows: Rows,
    buffer: Buffer,
    extras: list[list[tuple[str, int]]],
    narrowed: Sequence[Narrow],
) -> list[Call]:
    """Calls of the lane by lane kernel: blocks with equally many terms share one."""
    groups: dict[tuple[object, ...], list[Narrow]] = {}
    for one in narrowed:
        groups.setdefault((one.grid["window"], one.grid["pad"], len(one.terms), one.half), []).append(one)
    calls = []
    for members in groups.values():
        first = members[0]
        picks = [tuple(lane for lane, _ in term.picks) for one in members for term in one.terms]
        sources = tuple(sorted(set(picks)))
        kernel = Grouped(
            **first.grid | {"tile": narrow.tile_of(state.target, first.grid["out"][1])},
            blocks=len(members),
            terms=len(first.terms),
            half=first.half,
            sources=sources,
            uses=tuple(map(sources.index, picks)),
        )
        packed = [narrow.packed(m.weights, run.bias, rows[m.block], m.terms, m.half) for m in members]
        calls.append(
            Call(
                kernel,
                ChannelMap.of(term.head for one in members for term in one.terms),
                ChannelMap.of((buffer.name, one.block * buffer.block) for one in members),
                state.packer.add(np.concatenate(packed)),
                tuple(state.starts([e[one.block] for one in members]) for e in extras),
            )
        )
    return calls


def _vector(run: Operands, places: Sequence[Place], source: Buffer) -> tuple[Operands, Sequence[Place]]:
    """The one window of a convolution over planes as channels of a 1×1 map, which lie one after the other."""
    windows = {(f.kernel, f.pad[:2]) for f in run.connect.families}
    if source.lanes > 1 or spatial(run.node.out.type) != (1, 1) or len(windows) != 1:
        return run, places
    (height, width), pad = windows.pop()
    if height * width == 1 or pad != (0, 0) or run.offset != (0, 0):
        return run, places
    size = zip((height, width), run.dilation, spatial(run.node.args[0].type), strict=True)
    if any((taps - 1) * step >= extent for taps, step, extent in size):
        return run, places  # some lie in the padding below or to the right
    taps = [
        y * run.dilation[0] * source.row + x * run.dilation[1] * source.pixel
        for y in range(height)
        for x in range(width)
    ]
    families = tuple(
        replace(
            f,
            inputs=ChannelList.of((f.inputs.array[:, None] * len(taps) + range(len(taps))).ravel()),
            kernel=(1, 1),
            pad=(0, 0, 0, 0),
        )
        for f in run.connect.families
    )
    connect = Connectivity(run.connect.in_channels * len(taps), run.connect.out_channels, families)
    weights = [w.reshape(len(w), -1, 1, 1) for w in run.weights]
    spread = [(buffer, offset + tap) for buffer, offset in places for tap in taps]
    return replace(run, connect=connect, weights=weights, stride=(1, 1), dilation=(1, 1), vector=True), spread


def _kind(grid: dict, mode: str, x_block: int) -> str:  # type: ignore[type-arg]  # arguments of a kernel
    """What the speed of a layer's tilings depends on beside their shape."""
    window, stride = ("x".join(map(str, grid[name])) for name in ("window", "stride"))
    rings = f"{grid['x_ring']}-{grid['y_ring']}"
    return f"{grid['out'][0]} {window} {stride} {mode} {x_block} {rings} {len(grid['spread'])}"


def _call(
    state: Lowering,
    kernel: ConvKernel,
    panels: list[tuple[list[tuple[str, int]], Sequence[int], Array]],
    buffer: Buffer,
    extras: list[list[tuple[str, int]]],
) -> Call:
    """All panels of one kernel: address tables panel after panel, weights packed in the same order."""
    shared = all(heads == panels[0][0] for heads, _, _ in panels)
    x = panels[0][0] if shared else [place for heads, _, _ in panels for place in heads]
    blocks = [b for _, bs, _ in panels for b in bs]
    return Call(
        replace(kernel, panels=len(panels), shared=shared),
        ChannelMap.of(x),
        ChannelMap.of((buffer.name, b * buffer.block) for b in blocks),
        state.packer.add(np.concatenate([packed for _, _, packed in panels])),
        tuple(state.starts([e[b] for b in blocks]) for e in extras),
    )


def _physical(run: Operands, index: Array, count: int) -> tuple[Array, Pad]:
    """The dense weight over physical inputs (O, places, KH, KW): channels that share a place add up."""
    dense, reach = dense_weights(run.connect, run.weights)
    if np.array_equal(index, np.arange(count)):
        return dense, reach
    physical = np.zeros((dense.shape[0], count, *dense.shape[2:]), np.float32)
    if len(np.unique(index)) == len(index):
        physical[:, index] = dense
    else:
        np.add.at(physical.transpose(1, 0, 2, 3), index, dense.transpose(1, 0, 2, 3))
    return physical, reach


def _rows(state: Lowering, run: Operands, reads: Array, blocks: Sequence[tuple[str, int]]) -> Rows:
    """Which channel each output lane carries: as a partner needs it, else what executes the fewest MACs.

    `blocks`: where the inputs lie.
    """
    channels = run.connect.out_channels
    for value in [*run.extra, *_partners(state, run.node.out)]:
        rows = state.rows(state.blocked(value)) if value in state.maps else None
        if rows is not None and sum(c >= 0 for lanes in rows for c in lanes) == channels:
            return rows
    options = [natural(channels, state.lanes)]
    if sum(family.count for family in run.connect.families) > 1:
        groups = [list(b.outputs) for family in run.connect.families for b in family.blocks()]
        covered = {c for group in groups for c in group}
        groups.append([c for c in range(channels) if c not in covered])
        numbers = {block: i for i, block in enumerate(dict.fromkeys(blocks))}
        lies = np.zeros((len(blocks), len(numbers)), np.int64)
        lies[np.arange(len(blocks)), [numbers[block] for block in blocks]] = 1
        per_block = reads.astype(np.int64) @ lies
        near = sorted(groups, key=lambda g: np.flatnonzero(per_block[list(g)].any(axis=0)).tolist())
        others = _apart(groups, state.lanes), _side_by_side(near, state.lanes)
        options += [rows for rows in others if len(rows) <= _ROOM * len(options[0])]
    if len(options) == 1:
        return options[0]
    halves = state.target.isa in _BROADCASTING and spatial(run.node.out.type) != (1, 1)
    return min(options, key=lambda rows: (_executed(rows, reads, halves), _terms(rows, per_block)))


def _apart(groups: Sequence[Sequence[int]], lanes: int) -> Rows:
    """Every group begins a block."""
    return [[g[i] if i >= 0 else -1 for i in block] for g in groups for block in natural(len(g), lanes)]


def _side_by_side(groups: Sequence[Sequence[int]], lanes: int) -> Rows:
    """Groups share blocks as long as they fit: only a group larger than a block lies in two."""
    rows: Rows = []
    room = 0
    for group in groups:
        if len(group) > room:
            rows += [[-1] * lanes for _ in range(-(-len(group) // lanes))]
            room = lanes * -(-len(group) // lanes)
        for channel in group:
            at = len(rows) * lanes - room
            rows[at // lanes][at % lanes] = channel
            room -= 1
    return rows


def _partners(state: Lowering, value: Value) -> list[Value]:
    """Values that later meet this one lane by lane: operands of adds and gates that its result reaches."""
    found: list[Value] = []
    frontier = [value]
    while frontier and len(found) < 4:
        for node in state.users.get(frontier.pop(), []):
            if node.op.name in ("add", "mul"):
                found += [a for a in node.values if a is not value]
            elif getattr(node.op, "elementwise", False):
                frontier.append(node.out)
    return found


def _terms(rows: Rows, reads: Array) -> int:
    """Of the lane by lane kernel; `reads` (outputs, blocks) counts inputs."""
    return sum(int(reads[[c for c in lanes if c >= 0]].max(axis=0).sum()) for lanes in rows)


def _executed(rows: Rows, reads: Array, halves: bool) -> float:
    """Vectors that are multiplied per pixel, here and by a reader; half-empty ones may serve two pixels."""
    return _READER * len(rows) + sum(
        int(reads[[c for c in lanes if c >= 0]].any(axis=0).sum())
        * (0.5 if halves and max(lanes[len(lanes) // 2 :]) < 0 else 1)
        for lanes in rows
    )


def _half_empty(state: Lowering, buffer: Buffer, lanes: list[int]) -> bool:
    """Whether a block's upper lanes are all dead, so that one vector can serve two pixels of it.

    Worth it where a broadcast is a load: NEON multiplies by elements of loaded vectors.
    """
    return (
        state.target.isa in _BROADCASTING and buffer.region == "arena" and max(lanes[state.lanes // 2 :]) < 0
    )


def _groups(rows: Rows, reads: Array, windows: list[Pad]) -> list[Group]:
    """Blocks by what they read; the inputs of a block are those of any of its lanes."""
    groups: dict[tuple[bytes, Pad], list[int]] = {}
    for index, lanes in enumerate(rows):
        live = [c for c in lanes if c >= 0]
        needed = reads[live].any(axis=0)
        groups.setdefault((needed.tobytes(), _union([windows[c] for c in live])), []).append(index)
    return [
        Group(tuple(np.flatnonzero(np.frombuffer(needed, np.bool_)).tolist()), window, tuple(blocks))
        for (needed, window), blocks in groups.items()
    ]


def _reading(state: Lowering, inputs: list[tuple[str, int]]) -> tuple[str, int]:
    """How a kernel walks its inputs: lanes of equidistant blocks, equidistant planes, or a table."""
    if len({buffer for buffer, _ in inputs}) == 1:
        offsets = np.array([offset for _, offset in inputs], np.int64)
        relative, v = offsets - offsets[0], state.lanes
        index = np.arange(len(offsets))
        block = int(relative[v]) if len(offsets) > v else v
        if np.array_equal(relative, index // v * block + index % v):
            return "blocks", block
        plane = int(relative[1])
        if np.array_equal(relative, index * plane):
            return "planes", plane
    return ("table", 0) if inputs else ("blocks", 0)


def _words(inputs: list[tuple[str, int]], size: int) -> tuple[list[int], int]:
    """An order of the inputs that begins with words of `size` neighboring floats, and how many these are."""
    words: list[int] = []
    singles: list[int] = []
    at = 0
    while at < len(inputs):
        buffer, offset = inputs[at]
        if inputs[at : at + size] == [(buffer, offset + i) for i in range(size)]:
            words += range(at, at + size)
            at += size
        else:
            singles.append(at)
            at += 1
    return words + singles, len(words)


def _rows_per_sweep(grid: dict, depth: int) -> int:  # type: ignore[type-arg]  # keyword arguments of a kernel
    """Output rows (or, where a map is one run of pixels, all) per sweep over the panels."""
    per_row = max(1, grid["size"][1] * depth * 4 * grid["stride"][0])
    return int(max(1, min(grid["out"][0], _SWEEP // per_row)))


def _tail(
    state: Lowering,
    buffer: Buffer,
    channels: int,
    rows: Rows,
    blocks: Sequence[int],
    part: tuple[int, int, int],
) -> int:
    """Lanes of the last vector that may be stored: only the caller's memory ends where the channels end."""
    if buffer.region == "arena" or channels % state.lanes == 0:
        return 0
    at, vectors, count = part
    return channels % state.lanes if len(rows) - 1 in blocks[at : at + vectors * count] else 0


# -- windows -------------------------------------------------------------------------------------------------


def _windows(connect: Connectivity) -> tuple[Pad, list[Pad]]:
    """How far taps reach (up, left, down, right) from an output's pixel: in all, and per output channel."""
    windows: list[Pad] = [(0, 0, 0, 0)] * connect.out_channels
    used = []
    for family in connect.families:
        top, left, _, _ = family.pad
        window = (top, left, family.kernel[0] - 1 - top, family.kernel[1] - 1 - left)
        used.append(window)
        for channel in family.outputs:
            windows[channel] = window
    return _union(used), windows


def dense_weights(connect: Connectivity, weights: Sequence[Array]) -> tuple[Array, Pad]:
    """The weights as one array (O, I, KH, KW) of all taps within reach, and how far these reach.

    Absent links are zero, repeated inputs add up.
    """
    reach, _ = _windows(connect)
    dense = np.zeros(
        (connect.out_channels, connect.in_channels, reach[0] + reach[2] + 1, reach[1] + reach[3] + 1),
        np.float32,
    )
    for family, weight in zip(connect.families, weights, strict=True):
        y, x = reach[0] - family.pad[0], reach[1] - family.pad[1]
        kh, kw = family.kernel
        blocks = weight.reshape(family.count, family.outs, family.ins, kh, kw)
        outs = family.outputs.array.reshape(family.count, -1)
        ins = family.inputs.array.reshape(family.count, -1)
        distinct = family.inputs.is_plain_range
        for b in range(family.count):
            if distinct:
                at = slice(int(ins[b, 0]), int(ins[b, 0]) + family.ins) if family.ins else slice(0)
                dense[outs[b], at, y : y + kh, x : x + kw] = blocks[b]
            else:
                for j, channel in enumerate(ins[b]):
                    dense[outs[b], channel, y : y + kh, x : x + kw] += blocks[b, :, j]
    return dense, reach


def _union(windows: list[Pad]) -> Pad:
    if not windows:
        return (0, 0, 0, 0)
    top, left, bottom, right = (max(w[i] for w in windows) for i in range(4))
    return top, left, bottom, right


def _crop(dense: Array, reach: Pad, window: Pad) -> Array:
    """The taps of a window out of those of the whole reach (last two axes)."""
    top, left = reach[0] - window[0], reach[1] - window[1]
    height, width = window[0] + window[2] + 1, window[1] + window[3] + 1
    return dense[..., top : top + height, left : left + width]


def _grid(state: Lowering, run: Operands, source: Buffer, buffer: Buffer, window: Pad, tile: int) -> dict:  # type: ignore[type-arg]  # keyword arguments of a kernel
    """The geometry; a 1×1 convolution without stride sees the map as one row of pixels."""
    size, out = (1, 1) if run.vector else spatial(run.x.type), spatial(run.node.out.type)
    taps = (window[0] + window[2] + 1, window[1] + window[3] + 1)
    x_strides, y_strides = (source.row, source.pixel), (buffer.row, buffer.pixel)
    plain = taps == (1, 1) and run.stride == (1, 1) and window[:2] == run.offset == (0, 0) and size == out
    spread = tuple(spatial(v.type) != out for v in run.extra)
    ranged = run.node.out.name in state.fused
    x_ring = state.held.get(run.x, 0)
    if plain and not ranged:
        size = out = (1, size[0] * size[1])
    elif plain and x_ring and not state.held.get(run.node.out) and not run.connect.is_depthwise:
        # The reader of a strip: its rows are the strip's, all pixels of it in one run. The 1×1 blocks of a
        # window have rows as its others do.
        size = out = (size[0] // x_ring, size[1] * x_ring)
        x_strides, y_strides = (source.row * x_ring, source.pixel), (buffer.row * x_ring, buffer.pixel)
        x_ring = 1
    if min(taps) < 1:
        raise CompactError("CIR503", f"`{run.node.name}` has a window without taps", span=run.node.span)
    return {
        "lanes": state.lanes,
        "size": size,
        "out": out,
        "window": taps,
        "stride": run.stride,
        "dilation": run.dilation,
        "pad": (window[0] * run.dilation[0] + run.offset[0], window[1] * run.dilation[1] + run.offset[1]),
        "x_strides": x_strides,
        "y_strides": y_strides,
        "tile": tile,
        "x_ring": x_ring,
        "y_ring": state.held.get(run.node.out, 0),
        "ranged": ranged,
        "epilogue": run.epilogue,
        "spread": spread,
    }

"""Operations that keep channels in their lanes: pools, activations, adds, gates, scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compactir.codegen.lower import narrow, tiles
from compactir.codegen.lower.pack import filters
from compactir.codegen.lower.state import Block, Lowering, Rows, lowers, spatial
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Node, Param, Value
from compactir.ir.op import Op
from compactir.ir.plan import Buffer, Call, Depthwise, GlobalPool, Grouped, Map, Resize
from compactir.ir.plan import Pool as PoolKernel
from compactir.ir.types import Array
from compactir.ops import activation, norm, pool
from compactir.ops.combine import Add, Mul
from compactir.ops.tensor import Binary, Unary


def lanes_of(state: Lowering, value: Value) -> tuple[list[Block], Rows]:
    """The blocks a value lies in, and what each of their lanes carries."""
    return state.layers(state.blocked(value))


@lowers(pool.MaxPool, pool.AvgPool)
def lower_pool(state: Lowering, node: Node) -> None:
    """A windowed pool over all live blocks."""
    op = node.op
    assert isinstance(op, pool.MaxPool | pool.AvgPool)
    blocks, rows = lanes_of(state, node.args[0])
    buffer, _ = state.result(node.out, rows)
    source = state.buffers[blocks[0][0]]
    kernel = PoolKernel(
        lanes=state.lanes,
        size=spatial(node.args[0].type),
        out=spatial(node.out.type),
        window=op.kernel,
        stride=op.stride,
        dilation=(1, 1),
        pad=op.pad[:2],
        x_strides=(source.row, source.pixel),
        y_strides=(buffer.row, buffer.pixel),
        tile=tiles.split(buffer.width, min(8, buffer.width))[0][0],
        x_ring=state.held.get(node.args[0], 0),
        y_ring=state.held.get(node.out, 0),
        ranged=node.out.name in state.fused,
        blocks=len(rows),
        average=isinstance(op, pool.AvgPool),
        divisors=divisors(node),
    )
    state.step(node, [Call(kernel, state.starts(blocks), _all_blocks(buffer))])


def divisors(node: Node) -> tuple[int, ...]:
    """What the sums of a pool are divided by: one number for all windows or one for each; none for maxima."""
    if not isinstance(node.op, pool.AvgPool):
        return ()
    found = tuple(d for row in node.op.divisors(spatial(node.args[0].type)) for d in row)
    return found[:1] if len(set(found)) == 1 else found


@lowers(pool.GlobalAvgPool, pool.GlobalMaxPool)
def lower_global_pool(state: Lowering, node: Node) -> None:
    """One number per lane."""
    blocks, rows = lanes_of(state, node.args[0])
    size = spatial(node.args[0].type)
    kernel = GlobalPool(state.lanes, size[0] * size[1], len(rows), isinstance(node.op, pool.GlobalAvgPool))
    x = state.starts(blocks)
    buffer, _ = state.result(node.out, rows)
    state.step(node, [Call(kernel, x, _all_blocks(buffer))])


@lowers(pool.Upsample)
def lower_upsample(state: Lowering, node: Node) -> None:
    """Repeat rows and pixels, or mix neighbours."""
    assert isinstance(node.op, pool.Upsample)
    blocks, rows = lanes_of(state, node.args[0])
    buffer, _ = state.result(node.out, rows)
    sizes = spatial(node.args[0].type), spatial(node.out.type)
    kernel = Resize(state.lanes, *sizes, len(rows), node.op.mode)
    state.step(node, [Call(kernel, state.starts(blocks), _all_blocks(buffer))])


ACTIVATIONS = (
    activation.Relu,
    activation.Relu6,
    activation.Clip,
    activation.LeakyRelu,
    activation.Sigmoid,
    activation.Tanh,
    activation.Swish,
    activation.HardSigmoid,
    activation.HardSwish,
)


@lowers(*ACTIVATIONS)
def lower_activation(state: Lowering, node: Node) -> None:
    """An activation that found no producer to live in."""
    _map(state, node, node.args[0], (node.op,), ())


def has_kernel(node: Node) -> bool:
    """Whether these rules lower a node on maps and vectors: the second operand is as large or a vector."""
    if isinstance(node.op, Binary):
        a, b = node.args
        spread = b.type.rank == 4 and b.type.shape == (*a.type.shape[:2], 1, 1)
        values = not any(isinstance(v, Param) for v in node.args)
        return values and (a.type == b.type or spread)
    return True


@lowers(Unary)
def lower_unary(state: Lowering, node: Node) -> None:
    """A function of every element."""
    _map(state, node, node.args[0], (node.op,), ())


@lowers(Binary)
def lower_binary(state: Lowering, node: Node) -> None:
    """A function of two elements."""
    _map(state, node, node.args[0], (node.op,), (node.args[1],))


@lowers(Add, Mul)
def lower_combine(state: Lowering, node: Node) -> None:
    """An add or a gate that found no producer to live in."""
    a, b = node.args
    if spatial(a.type) != spatial(node.out.type):
        a, b = b, a
    _map(state, node, a, (node.op,), (b,))


def _map(state: Lowering, node: Node, x: Value, epilogue: tuple[Op, ...], extra: Sequence[Value]) -> None:
    blocks, rows = lanes_of(state, x)
    extras = [state.starts(state.aligned(v, rows).blocks(state.lanes)) for v in extra]
    size = spatial(x.type)
    spread = tuple(spatial(v.type) != size for v in extra)
    buffer, _ = state.result(node.out, rows)
    starts = state.starts(blocks)
    kernel = Map(state.lanes, size[0] * size[1], len(rows), epilogue, spread)
    call = Call(kernel, starts, _all_blocks(buffer), 0, tuple(extras))
    # An operand that is the source in another order would be read after it was written over.
    safe = all(e == starts or not set(e.buffers) & set(starts.buffers) for e in extras)
    state.step(node, [call], inplace=_over(state, blocks, buffer) if safe else ("", ""))


def _over(state: Lowering, blocks: list[Block], buffer: Buffer) -> tuple[str, str]:
    """The result may lie over its operand where that is one whole buffer, block by block."""
    source = state.buffers[blocks[0][0]]
    whole = blocks == [(source.name, b) for b in range(source.blocks)]
    return (buffer.name, source.name) if whole and source.region == "arena" else ("", "")


@lowers(norm.BatchNorm, norm.Affine)
def lower_affine(state: Lowering, node: Node) -> None:
    """Scale and shift: a depthwise 1×1 filter with bias, on all pixels at once or row by row."""
    scale, shift = scale_shift(state, node)
    moved = narrow.gathered(state, node.args[0])
    blocks, rows = moved[:2] if moved else lanes_of(state, node.args[0])
    size = spatial(node.out.type)
    buffer, _ = state.result(node.out, rows)
    ranged = node.out.name in state.fused
    size = size if ranged else (1, size[0] * size[1])
    source = state.buffers[blocks[0][0]]
    grid: dict[str, Any] = {
        "lanes": state.lanes,
        "size": size,
        "out": size,
        "window": (1, 1),
        "stride": (1, 1),
        "dilation": (1, 1),
        "pad": (0, 0),
        "x_strides": (source.row, source.pixel),
        "y_strides": (buffer.row, buffer.pixel),
        "tile": tiles.split(size[1], min(8, size[1]))[0][0],
        "y_ring": state.held.get(node.out, 0),
        "ranged": ranged,
        "blocks": len(rows),
        "epilogue": node.op.epilogue if isinstance(node.op, norm.Affine) else (),
    }
    kernel = Grouped(**grid, sources=moved[2], uses=moved[3]) if moved else Depthwise(**grid)
    packed = np.concatenate([filters(scale.reshape(-1, 1, 1), shift, lanes) for lanes in rows])
    call = Call(kernel, state.starts(blocks), _all_blocks(buffer), state.packer.add(packed))
    state.step(node, [call], inplace=("", "") if ranged or moved else _over(state, blocks, buffer))


def scale_shift(state: Lowering, node: Node) -> tuple[Array, Array]:
    """The factors and the summands of an affine layer or a batch norm."""
    arrays = [state.weight(p).astype(np.float64) for p in node.args[1:]]
    if isinstance(node.op, norm.Affine):
        return arrays[0], arrays[1]
    assert isinstance(node.op, norm.BatchNorm)
    gamma, beta, mean, var = arrays
    scale = gamma / np.sqrt(var + node.op.eps)
    return scale, beta - mean * scale


def _all_blocks(buffer: Buffer) -> ChannelMap:
    return ChannelMap.of((buffer.name, b * buffer.block) for b in range(buffer.blocks))

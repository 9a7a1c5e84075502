"""Values as planes, one channel each: pixels in the lanes, and of a convolution no more links than it has.

The rules for the nodes whose results `layout` wants as planes; views need none, they rename channels in any
layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from compactir.codegen.lower import plane_tiles
from compactir.codegen.lower.convolution import dense_weights, weights_of
from compactir.codegen.lower.lanewise import ACTIVATIONS, divisors, scale_shift
from compactir.codegen.lower.state import Lowering, Rule, spatial
from compactir.ir.channel_map import ChannelMap
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Node
from compactir.ir.op import Op
from compactir.ir.plan import Buffer, Call, Map, PlaneConv, PlanePool
from compactir.ir.types import Array
from compactir.ops import norm, pool
from compactir.ops.conv import Conv
from compactir.ops.tensor import Unary


def lower_conv(state: Lowering, node: Node) -> None:
    """A convolution, whatever its connectivity."""
    assert isinstance(node.op, Conv)
    weights, bias, _ = weights_of(state, node)
    _convolve(state, node, dense_weights(node.op.connect, weights)[0], bias)


def lower_affine(state: Lowering, node: Node) -> None:
    """Scale and shift: a plane has one link, to the one at its place, and may lie over it."""
    scale, shift = scale_shift(state, node)
    _convolve(state, node, np.diag(scale)[:, :, None, None], shift)


def _convolve(state: Lowering, node: Node, dense: Array, bias: Array) -> None:
    x = state.elements(state.map(node.args[0]))
    buffer, y = state.planes(node.out)
    groups, kernels = plane_tiles.choose(state.target, plain_kernel(node, state.lanes), links(node))
    calls = []
    for kernel, group in zip(kernels, groups, strict=True):
        inputs = [x.places[i] for p in group.panels for section in p.inputs for i in section]
        outputs = [y.places[o] for p in group.panels for o in p.outputs]
        packed = [_packed(dense, bias, group.masks, p) for p in group.panels]
        rest = np.zeros(kernel.packed_floats - sum(map(len, packed)))
        at = state.packer.add(np.concatenate([*packed, rest]))
        calls.append(Call(kernel, ChannelMap.of(inputs), state.elements(ChannelMap.of(outputs)), at))
    executed = sum(k.executed for k in kernels) if node.macs else 0
    state.step(node, calls, executed=executed, inplace=_over(state, calls, buffer))


def _packed(dense: Array, bias: Array, masks: Sequence[int], panel: plane_tiles.Panel) -> Array:
    """The biases, then of every input [ky][kx][output]."""
    parts = [bias[list(panel.outputs)]]
    for mask, section in zip(masks, panel.inputs, strict=True):
        outputs = [o for m, o in enumerate(panel.outputs) if mask >> m & 1]
        parts += [dense[outputs, i].transpose(1, 2, 0).reshape(-1) for i in section]
    return np.concatenate(parts)


def _over(state: Lowering, calls: Sequence[Call], buffer: Buffer) -> tuple[str, str]:
    """A result may lie over its operand where every pixel depends on the one at its place alone."""
    names = {name for call in calls for name in call.x.buffers}
    source = state.buffers[names.pop()] if len(names) == 1 else buffer
    kernels = [c.kernel for c in calls]
    alone = all(isinstance(k, PlaneConv) and k.is_pointwise and k.maps == 1 for k in kernels)
    places = [(x, y) for c in calls for (_, x), (_, y) in zip(c.x.places, c.y.places, strict=False)]
    same = all(x == y for x, y in places) and all(len(c.x) == len(c.y) for c in calls)
    arena = source.region == buffer.region == "arena" and source.blocks == buffer.blocks
    return (buffer.name, source.name) if alone and same and arena and source is not buffer else ("", "")


@dataclass(frozen=True)
class Links:
    """What a convolution, an affine or a batch norm connects, and how."""

    connect: Connectivity
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    epilogue: tuple[Op, ...] = ()

    @classmethod
    def of(cls, node: Node) -> Links:
        """The node's."""
        op = node.op
        if isinstance(op, Conv):
            return cls(op.connect, op.stride, op.dilation, op.epilogue)
        channels = node.out.type.channels
        epilogue = op.epilogue if isinstance(op, norm.Affine) else ()
        return cls(Connectivity.grouped(channels, channels, channels), epilogue=epilogue)


def links(node: Node) -> tuple[frozenset[int], ...]:
    """The inputs that every output reads."""
    return tuple(frozenset(np.flatnonzero(row).tolist()) for row in Links.of(node).connect.mask)


def plain_kernel(node: Node, lanes: int) -> PlaneConv:
    """A kernel without its panels; where every pixel is by itself the map is one row of pixels."""
    it = Links.of(node)
    size, out = spatial(node.args[0].type), spatial(node.out.type)
    family = it.connect.families[0]
    if family.kernel == it.stride == (1, 1) and family.pad[:2] == (0, 0) and size == out:
        size = out = (1, prod(size))
    return PlaneConv(
        lanes=lanes,
        size=size,
        out=out,
        window=family.kernel,
        stride=it.stride,
        dilation=it.dilation,
        pad=family.pad[:2],
        x_strides=(size[1], 1),
        y_strides=(out[1], 1),
        tile=out[1],
        epilogue=it.epilogue,
    )


def lower_pool(state: Lowering, node: Node) -> None:
    """A windowed pool of every plane."""
    assert isinstance(node.op, pool.MaxPool | pool.AvgPool)
    _, y = state.planes(node.out)
    x = state.elements(state.map(node.args[0]))
    state.step(node, [Call(pool_kernel(node, state.lanes), x, state.elements(y))])


def pool_kernel(node: Node, lanes: int) -> PlanePool:
    """The kernel of a pool."""
    op = node.op
    assert isinstance(op, pool.MaxPool | pool.AvgPool)
    size, out = spatial(node.args[0].type), spatial(node.out.type)
    return PlanePool(
        lanes=lanes,
        size=size,
        out=out,
        window=op.kernel,
        stride=op.stride,
        dilation=(1, 1),
        pad=op.pad[:2],
        x_strides=(size[1], 1),
        y_strides=(out[1], 1),
        tile=min(out[1], 4 * lanes),
        blocks=node.out.type.channels,
        average=isinstance(op, pool.AvgPool),
        divisors=divisors(node),
    )


def lower_map(state: Lowering, node: Node) -> None:
    """A function of every element, plane after plane as one run where they lie so."""
    x = state.elements(state.map(node.args[0]))
    buffer, y = state.planes(node.out)
    places = state.elements(y)
    source = state.buffers[x.buffers[0]]
    run, blocks = buffer.block, len(x)
    if [offset for _, offset in x.places] == [offset for _, offset in places.places] and len(x.buffers) == 1:
        run, blocks, x, places = (
            run * blocks,
            1,
            ChannelMap.of(x.places[:1]),
            ChannelMap.of(places.places[:1]),
        )
    kernel = Map(state.lanes, run // state.lanes, blocks, (node.op,), tail=run % state.lanes)
    over = blocks == 1 and source.region == buffer.region == "arena" and source.blocks == buffer.blocks
    state.step(node, [Call(kernel, x, places)], inplace=(buffer.name, source.name) if over else ("", ""))


RULES: dict[type[Op], Rule] = {
    Conv: lower_conv,
    norm.Affine: lower_affine,
    norm.BatchNorm: lower_affine,
    pool.MaxPool: lower_pool,
    pool.AvgPool: lower_pool,
    Unary: lower_map,
    **dict.fromkeys(ACTIVATIONS, lower_map),
}
"""How the nodes are lowered whose results are planes."""

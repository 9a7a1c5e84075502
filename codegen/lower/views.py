"""Operations that only rename channels, and the few that look across them."""

from __future__ import annotations

from compactir.codegen.lower.state import Lowering, lowers, natural, spatial
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Node
from compactir.ir.plan import Call, Column, Copy
from compactir.ops.activation import Softmax
from compactir.ops.arrange import AsMap, Concat, Dropout, Flatten, Gather, Identity, Shuffle, View
from compactir.ops.norm import Lrn


@lowers(Shuffle, Gather)
def lower_view(state: Lowering, node: Node) -> None:
    """No code: the list of places in another order."""
    op = node.op
    assert isinstance(op, View)
    x = node.args[0]
    state.maps[node.out] = state.map(x).take(op.sources(x.type.channels))


@lowers(Concat)
def lower_concat(state: Lowering, node: Node) -> None:
    """No code: the lists one after the other. Parts that lie in the caller's memory are brought in."""
    maps = [state.map(v) for v in node.args]
    joined = ChannelMap.joined(maps)
    if state.geometry(joined) is None:
        joined = ChannelMap.joined([state.blocked(v) for v in node.args])
    state.maps[node.out] = joined


@lowers(AsMap, Dropout, Identity)
def lower_nothing(state: Lowering, node: Node) -> None:
    """No code."""
    state.maps[node.out] = state.map(node.args[0])


@lowers(Flatten)
def lower_flatten(state: Lowering, node: Node) -> None:
    """No code for 1×1 maps; pixels of larger maps become channels by a copy."""
    x = node.args[0]
    height, width = spatial(x.type)
    if (height, width) == (1, 1):
        state.maps[node.out] = state.map(x)
        return
    m = state.map(x)
    features = natural(node.out.type.channels, state.lanes)
    buffer = state.buffer(node.out.name, (1, 1), len(features))
    source = [
        (
            name,
            state.buffers[name].element(position)
            + y * state.buffers[name].row
            + column * state.buffers[name].pixel,
        )
        for name, position in m.places
        for y in range(height)
        for column in range(width)
    ]
    count = len(source)
    kernel = Copy(1, count, 0, 0)
    call = Call(kernel, ChannelMap.of(source), ChannelMap.whole(buffer.name, count))
    state.maps[node.out] = ChannelMap.whole(buffer.name, count)
    state.step(node, [call], copied=count)


@lowers(Softmax, Lrn)
def lower_column(state: Lowering, node: Node) -> None:
    """All channels of a pixel through a scratch column."""
    x = node.args[0]
    xmap = state.blocked(x)
    source = state.buffers[xmap.buffers[0]]
    buffer, ymap = state.result(node.out, natural(x.type.channels, state.lanes))
    size = spatial(x.type)
    # LRN needs `size` zeros around the channels; every kernel works on whole vectors.
    around = node.op.size if isinstance(node.op, Lrn) else 0
    column = -(-(x.type.channels + 2 * around) // state.lanes) + 2
    scratch = state.buffer(f"{node.out.name}.column", (1, 1), column * 3)
    kernel = Column(state.lanes, size[0] * size[1], x.type.channels, node.op, source.pixel, buffer.pixel)
    call = Call(kernel, state.elements(xmap), state.elements(ymap), 0, (), scratch.name)
    state.step(node, [call])

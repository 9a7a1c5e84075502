"""Operations that only rename channels, and the few that look across them."""

from __future__ import annotations

from compactir.codegen.lower.state import Lowering, lowers, natural, spatial
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Node
from compactir.ir.plan import Across, Call, Column, Copy
from compactir.ir.plan_access import scratch_floats
from compactir.ops.activation import Softmax
from compactir.ops.arrange import AsMap, AsSequence, Concat, Dropout, Flatten, Gather, Identity, Shuffle, View
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


@lowers(AsSequence, Dropout, Identity)
def lower_nothing(state: Lowering, node: Node) -> None:
    """No code."""
    state.maps[node.out] = state.map(node.args[0])


@lowers(AsMap)
def lower_as_map(state: Lowering, node: Node) -> None:
    """No code for 1×1 maps, rows and the caller's vectors; features of others become pixels by a copy."""
    x, size = node.args[0], spatial(node.out.type)
    m = state.map(x)
    if spatial(x.type) == size:
        state.maps[node.out] = m
        return
    [first, *others] = m.buffers
    given = state.buffers[first]
    if given.region.startswith("input:") and m == ChannelMap.whole(first, given.blocks) and not others:
        channels = node.out.type.channels
        seen = state.buffer(node.out.name, size, channels, given.region, lanes=1)
        state.maps[node.out] = ChannelMap.whole(seen.name, channels)
        return
    buffer, y = state.result(node.out, natural(node.out.type.channels, state.lanes))
    target = [
        (buffer.name, buffer.element(position) + row * buffer.row + column * buffer.pixel)
        for _, position in y.places
        for row in range(size[0])
        for column in range(size[1])
    ]
    call = Call(Copy(1, len(target), 0, 0), state.elements(m), ChannelMap.of(target))
    state.step(node, [call], copied=len(target))


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


@lowers(Softmax)
def lower_column(state: Lowering, node: Node) -> None:
    """All channels of a pixel through a scratch column."""
    x = node.args[0]
    xmap = state.blocked(x)
    source = state.buffers[xmap.buffers[0]]
    buffer, ymap = state.result(node.out, natural(x.type.channels, state.lanes))
    size = spatial(x.type)
    kernel = Column(state.lanes, size[0] * size[1], x.type.channels, node.op, source.pixel, buffer.pixel)
    scratch = state.buffer(f"{node.out.name}.column", (1, 1), scratch_floats(kernel) // state.lanes)
    call = Call(kernel, state.elements(xmap), state.elements(ymap), 0, (), scratch.name)
    state.step(node, [call])


@lowers(Lrn)
def lower_lrn(state: Lowering, node: Node) -> None:
    """Neighbouring channels have to lie in neighbouring lanes."""
    x = node.args[0]
    rows = natural(x.type.channels, state.lanes)
    blocks = state.aligned(x, rows).blocks(state.lanes)
    buffer, _ = state.result(node.out, rows)
    size = spatial(x.type)
    kernel = Across(state.lanes, size[0] * size[1], x.type.channels, node.op)
    scratch = state.buffer(f"{node.out.name}.column", (1, 1), scratch_floats(kernel) // state.lanes)
    places = ChannelMap.of((buffer.name, b * buffer.block) for b in range(buffer.blocks))
    state.step(node, [Call(kernel, state.starts(blocks), places, 0, (), scratch.name)])

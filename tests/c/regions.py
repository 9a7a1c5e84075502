"""Random networks of separable blocks, large enough for regions that run row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st

from compactir.ir.channels import divisors
from compactir.ir.connectivity import Connectivity, Pad
from compactir.ir.graph import Graph
from compactir.ir.types import TensorType
from compactir.ops.activation import HardSwish, Relu6
from compactir.ops.arrange import Concat, Shuffle
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.ops.pool import AvgPool, GlobalAvgPool, MaxPool
from tests.graphs import Maker, random_weights

Draw = Callable[[st.SearchStrategy[Any]], Any]
_CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 33)


@st.composite
def separable(draw: Draw) -> Graph:
    """One or two blocks: expand, a window, project, a residual sum; each part may be missing."""
    graph = Graph("separable")
    size = draw(st.integers(9, 24)), draw(st.integers(10, 40))
    shape = (draw(st.sampled_from([1, 2])), draw(st.sampled_from(_CHANNELS)), *size)
    m = Maker(draw, graph, graph.input("image", TensorType.f32(*shape)))
    for _ in range(draw(st.integers(1, 2))):
        _block(m)
    if draw(st.booleans()):
        m.then(GlobalAvgPool())
    graph.outputs["y"] = m.x
    graph.weights = random_weights(graph, draw(st.integers(0, 9)))
    return graph


def _block(m: Maker) -> None:
    x = m.x
    if m.draw(st.booleans()):
        _expand(m)
    if min(m.x.type.spatial) < 5:
        return
    m.draw(st.sampled_from([_depthwise, _depthwise, _depthwise, _mixed, _pool]))(m)
    _finish(m)
    if m.draw(st.booleans()):
        outs = x.type.channels if m.draw(st.booleans()) else m.draw(st.sampled_from(_CHANNELS))
        groups = m.draw(st.sampled_from([d for d in divisors(m.channels) if outs % d == 0]))
        m.then(Conv(Connectivity.grouped(m.channels, outs, groups), bias=m.draw(st.booleans())))
        _finish(m)
    if m.x.type == x.type and m.draw(st.booleans()):
        m.x = m.apply(Add(), x, m.x)
    elif m.x.type.spatial == x.type.spatial and m.draw(st.booleans()):
        m.x = m.apply(Concat(), x, m.x)
        if m.channels % 2 == 0:
            m.then(Shuffle(2))


def _finish(m: Maker) -> None:
    if m.draw(st.booleans()):
        m.then(BatchNorm())
    if m.draw(st.booleans()):
        m.then(m.draw(st.sampled_from([Relu6(), HardSwish()])))


def _expand(m: Maker) -> None:
    kernel, pad = m.draw(st.sampled_from([(1, 0), (1, 0), (3, 1), (3, 0)]))
    stride = m.draw(st.sampled_from([(1, 1), (1, 1), (2, 1)]))
    outs = m.draw(st.sampled_from(_CHANNELS))
    m.then(Conv(Connectivity.dense(m.channels, outs, (kernel, kernel), (pad,) * 4), stride))
    _finish(m)


def _pad(m: Maker, extents: tuple[int, int]) -> Pad:
    top, left, bottom, right = (m.draw(st.integers(-1, extents[i % 2] - 1)) for i in range(4))
    return top, left, bottom, right


def _depthwise(m: Maker) -> None:
    kernel = m.draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2), (1, 1)]))
    dilation = m.draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2), (2, 2)]))
    stride = m.draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (2, 1)]))
    extents = (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1
    if min(h - e for h, e in zip(m.x.type.spatial, extents, strict=True)) < 2:
        kernel, extents, dilation = (1, 1), (1, 1), (1, 1)
    pad = _pad(m, extents)
    connect = Connectivity.grouped(m.channels, m.channels, m.channels, kernel, pad)
    m.then(Conv(connect, stride, dilation, m.draw(st.booleans())))


def _mixed(m: Maker) -> None:
    cut, small = m.draw(st.integers(0, m.channels)), m.draw(st.sampled_from([3, 3, 1]))
    sizes = [(small, small)] * cut + [(5, 5)] * (m.channels - cut)
    pads: list[Pad] = [(k // 2,) * 4 for k, _ in sizes]
    stride = m.draw(st.sampled_from([(1, 1), (2, 2)]))
    m.then(Conv(Connectivity.parts([(1, 1)] * m.channels, sizes, pads), stride))


def _pool(m: Maker) -> None:
    kind, ceil = m.draw(st.sampled_from([MaxPool, AvgPool])), m.draw(st.booleans())
    kernel = m.draw(st.sampled_from([(3, 3), (2, 2), (2, 3)]))
    pad = tuple(m.draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    m.then(kind(kernel, m.draw(st.sampled_from([(1, 1), (2, 2), (2, 1)])), pad, ceil))

"""Seeded convolutions and pools with every odd combination of kernel, stride, dilation and padding."""

from __future__ import annotations

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import divisors
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Value
from compactir.ir.op import Op
from compactir.ir.types import TensorType
from compactir.ops.activation import HardSwish, Relu6
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Upsample
from tests.c.networks import Case
from tests.graphs import random_weights


def window_cases(count: int, seed: int = 0) -> list[Case]:
    """So many cases; padding may be wider than windows, cut off borders, leave windows without pixels."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    while len(cases) < count:
        graph = Graph("window")
        channels, size = int(rng.integers(1, 20)), rng.integers(1, 9, 2).tolist()
        x = graph.input("x", TensorType.f32(int(rng.integers(1, 3)), channels, *size))
        draw = [_dense, _dense, _grouped, _grouped, _depthwise, _depthwise, _pool, _other][rng.integers(8)]
        try:
            y = graph.apply(draw(rng, channels), [x], "y")
            if draw is not _pool and rng.integers(2):
                y = _finished(rng, graph, y)
        except CompactError:  # the kernel does not fit
            continue
        graph.outputs["y"] = y
        graph.weights = random_weights(graph, len(cases))
        cases.append(Case(f"{len(cases)}: {' '.join(str(n.op) for n in graph.nodes)} of {x.type}", graph))
    return cases


def _pair(rng: np.random.Generator, *values: int) -> tuple[int, int]:
    return int(rng.choice(values)), int(rng.choice(values))


def _conv(rng: np.random.Generator, connect: Connectivity) -> Op:
    return Conv(connect, _pair(rng, 1, 1, 2, 3), _pair(rng, 1, 1, 1, 2, 3), bool(rng.integers(2)))


def _window(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    kernel = _pair(rng, 1, 1, 2, 3, 3, 5)
    top, left, bottom, right = (int(n) for n in rng.choice([0, 0, 0, 1, 1, 2, 3, 6, -1, -2], 4))
    return kernel, (top, left, bottom, right)


def _dense(rng: np.random.Generator, channels: int) -> Op:
    return _conv(rng, Connectivity.dense(channels, int(rng.integers(1, 40)), *_window(rng)))


def _grouped(rng: np.random.Generator, channels: int) -> Op:
    groups = int(rng.choice(divisors(channels)))
    outs = groups * int(rng.integers(1, 7))
    return _conv(rng, Connectivity.grouped(channels, outs, groups, *_window(rng)))


def _depthwise(rng: np.random.Generator, channels: int) -> Op:
    return _conv(rng, Connectivity.grouped(channels, channels, channels, *_window(rng)))


def _pool(rng: np.random.Generator, channels: int) -> Op:
    kernel, pad = _window(rng)
    top, left, bottom, right = (max(0, min(p, kernel[i % 2] - 1)) for i, p in enumerate(pad))
    kind = MaxPool if rng.integers(2) else AvgPool
    return kind(kernel, _pair(rng, 1, 1, 2, 3), (top, left, bottom, right), bool(rng.integers(2)))


def _other(rng: np.random.Generator, channels: int) -> Op:
    size = _pair(rng, *range(1, 12))
    options = [GlobalAvgPool(), GlobalMaxPool(), Upsample(size), Upsample(size, "bilinear")]
    return options[rng.integers(len(options))]


def _finished(rng: np.random.Generator, graph: Graph, y: Value) -> Value:
    """More behind it: activations, a sum with itself, a gate."""
    values = [y]
    options: list[Op] = [Relu6(), HardSwish(), Add(), Mul()]
    for i in rng.integers(len(options), size=2).tolist():
        operands = [values[-1], y] if isinstance(options[i], Add | Mul) else [values[-1]]
        values.append(graph.apply(options[i], operands, f"more{len(values)}"))
    return values[-1]

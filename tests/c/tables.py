"""Seeded networks whose maps may lie as planes: tables of connections, pools, scale and shift, functions."""

from __future__ import annotations

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Value
from compactir.ir.types import TensorType
from compactir.ops.activation import Relu6, Tanh
from compactir.ops.arrange import Concat, Gather, Shuffle
from compactir.ops.conv import Conv
from compactir.ops.norm import Affine
from compactir.ops.pool import AvgPool, MaxPool
from tests.c.networks import Case
from tests.graphs import random_weights

SIZES = (1, 2, 3, 4, 5, 7, 9, 11, 12, 16, 17, 19, 28, 33)


def table_cases(count: int, seed: int = 0) -> list[Case]:
    """So many chains of convolutions by tables and what may stand between them."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    while len(cases) < count:
        graph = Graph("table")
        size = rng.choice(SIZES, 2).tolist()
        y = graph.input("x", TensorType.f32(int(rng.integers(1, 3)), int(rng.integers(1, 8)), *size))
        try:
            for i in range(int(rng.integers(1, 4))):
                y = _table(rng, graph, y, f"conv{i}")
                if rng.integers(2):
                    y = _between(rng, graph, y, f"step{i}")
            if rng.integers(2):
                height, width = y.type.spatial
                y = graph.apply(Conv(Connectivity.dense(y.type.channels, 9, (height, width))), [y], "last")
        except CompactError:  # the kernel does not fit
            continue
        graph.outputs["y"] = y
        graph.weights = random_weights(graph, len(cases))
        name = f"table {len(cases)}: {' '.join(n.op.name for n in graph.nodes)} of {graph.inputs[0].type}"
        cases.append(Case(name, graph, as_planes=True))
    return cases


def joined_cases() -> list[Case]:
    """Maps of the caller's beside computed ones, or one of two inputs beside the other, in one concat."""
    cases = []
    for number, convolve in enumerate((True, False)):
        graph = Graph("joined")
        first = graph.input("first", TensorType.f32(1, 3, 18, 18))
        y: Value = first
        if convolve:
            y = graph.apply(Conv(Connectivity.dense(3, 5, (3, 3))), [y], "conv")
        second = graph.input("second", TensorType.f32(1, 2, *y.type.spatial))
        y = graph.apply(Concat(), [second, y], "joined")
        y = graph.apply(AvgPool((2, 2), (2, 2), (0, 0, 0, 0)), [y], "pool")
        graph.outputs["y"] = graph.apply(Conv(Connectivity.dense(y.type.channels, 3, (3, 3))), [y], "last")
        graph.weights = random_weights(graph, number)
        cases.append(Case(f"joined {number}", graph, as_planes=True))
    return cases


def linkless_case() -> Case:
    """Outputs that read nothing are their biases, in panels of their own: no input, no row is used."""
    graph = Graph("linkless")
    x = graph.input("x", TensorType.f32(1, 1, 8, 11))
    mask = np.arange(15)[:, None] % 2 == 0
    y = graph.apply(Conv(Connectivity.from_mask(mask, (3, 3), (1, 1, 1, 1)), (1, 2), bias=True), [x], "conv")
    graph.outputs["y"] = graph.apply(Tanh(), [y], "tanh")
    graph.weights = random_weights(graph, 0)
    return Case("linkless", graph, as_planes=True)


def _pick(rng: np.random.Generator, *values: int) -> tuple[int, int]:
    return int(rng.choice(values)), int(rng.choice(values))


def _table(rng: np.random.Generator, graph: Graph, x: Value, name: str) -> Value:
    ins, outs = x.type.channels, int(rng.integers(1, 12))
    kernel = _pick(rng, 1, 1, 2, 3, 3, 5)
    top, left, bottom, right = (int(n) for n in rng.choice([0, 0, 0, 0, 1, 2, 3, 6, -1], 4))
    pad = (0, 0, 0, 0) if rng.integers(2) else (top, left, bottom, right)
    rows = {
        o: sorted(rng.choice(ins, int(rng.integers(1, ins + 1)), replace=False).tolist()) for o in range(outs)
    }
    connect = [
        Connectivity.table(ins, rows, kernel, pad),
        Connectivity.dense(ins, outs, kernel, pad),
        Connectivity.grouped(ins, ins, ins, kernel, pad),
    ][rng.choice([0, 0, 0, 1, 2])]
    return graph.apply(Conv(connect, _pick(rng, 1, 1, 1, 2, 3), _pick(rng, 1, 1, 1, 2), True), [x], name)


def _between(rng: np.random.Generator, graph: Graph, x: Value, name: str) -> Value:
    channels = x.type.channels
    kernel, stride = _pick(rng, 1, 2, 2, 3), _pick(rng, 1, 2, 2, 3)
    pad = tuple(int(rng.integers(0, kernel[i % 2])) for i in range(4)) if rng.integers(2) else (0, 0, 0, 0)
    kind = rng.integers(7)
    if kind == 0:
        return graph.apply(MaxPool(kernel, stride, pad, bool(rng.integers(2))), [x], name)  # type: ignore[arg-type]  # four numbers
    if kind in (1, 2):
        pool = AvgPool(kernel, stride, pad, bool(rng.integers(2)), divisor=int(rng.integers(2)))  # type: ignore[arg-type]  # four numbers
        return graph.apply(Affine(), [graph.apply(pool, [x], f"{name}.pool")], name)
    if kind == 3:
        return graph.apply(Affine((Tanh(),)), [x], name)
    if kind == 4:
        return graph.apply(Relu6(), [x], name)
    if kind == 5:
        return graph.apply(Shuffle(channels), [x], name)
    picked = ChannelList.of(rng.integers(0, channels, int(rng.integers(1, 9))))
    return graph.apply(Concat(), [x, graph.apply(Gather(picked), [x], f"{name}.some")], name)

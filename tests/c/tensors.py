"""Random graphs of operations on tensors of any rank, with layers on maps between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Value
from compactir.ir.op import Op
from compactir.ir.types import TensorType
from compactir.ops.activation import HardSwish, Relu, Sigmoid, Softmax
from compactir.ops.arrange import Concat, Flatten, Identity, Shuffle
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from compactir.ops.tensor import (
    Binary,
    Choose,
    Expand,
    Join,
    MatMul,
    Pad,
    Reduce,
    Reshape,
    Take,
    Transpose,
    Unary,
)
from tests.graphs import random_weights

MOST = 3000
"""Elements of a tensor."""


@dataclass
class Growth:
    """A graph that grows by operations that fit its last value, of `batch` images."""

    graph: Graph
    rng: np.random.Generator
    x: Value
    batch: int
    values: list[Value] = field(default_factory=list)
    made: int = 0

    def then(self, op: Op, *others: Value) -> None:
        """Apply an operation to the last value; one that does not fit or grows too large is left out."""
        types = [v.type for v in (self.x, *others)]
        try:
            specs = op.params(*types)
            out = op.infer(*types, *(TensorType.f32(*s.shape) for s in specs))
        except CompactError:
            return
        if not 0 < out.size <= MOST * self.batch or (self.batch > 1 and out.shape[:1] != (self.batch,)):
            return
        self.made += 1
        self.values.append(self.x)
        self.x = self.graph.apply(op, [self.x, *others], f"{op.label}{self.made}")

    def pick(self, *choices: str) -> str:
        """One of some words."""
        return choices[self.rng.integers(len(choices))]

    def axis(self) -> int:
        """An axis; of several images not the first."""
        first = int(self.batch > 1)
        return int(self.rng.integers(first, max(first + 1, self.x.type.rank)))


def _function(g: Growth) -> None:
    ops: list[Op] = [Relu(), Sigmoid(), HardSwish(), Identity()]
    ops += [Unary(f) for f in ("abs", "erf", "floor", "neg", "round", "sign", "sin", "exp")]
    g.then(ops[g.rng.integers(len(ops))])


def _two(g: Growth) -> None:
    """With another value of its shape, with itself, or with what broadcasts."""
    alike = [v for v in g.values if v.type == g.x.type] or [g.x]
    other = alike[g.rng.integers(len(alike))]
    if g.rng.random() < 0.5:
        shape = [e if g.rng.random() < 0.5 else 1 for e in g.x.type.shape]
        shape[:1] = g.x.type.shape[:1] if g.batch > 1 else shape[:1]
        keep = tuple(i for i, (e, s) in enumerate(zip(g.x.type.shape, shape, strict=True)) if e != s)
        before = g.x
        g.then(Reduce(g.pick("mean", "max", "min", "sum", "prod"), keep))
        other, g.x = g.x, before
    names = ("add", "sub", "mul", "max", "min", "less", "greater", "equal", "div", "fmod", "mod")
    op: Op = Binary(g.pick(*names))
    if other.type == g.x.type and g.rng.random() < 0.5:
        op = (Add(), Mul())[g.rng.integers(2)]
    if g.rng.random() < 0.3:
        g.x, other = other, g.x
    g.then(op, other)


def _choose(g: Growth) -> None:
    alike = [v for v in g.values if v.type == g.x.type] or [g.x]
    g.then(Choose(), alike[g.rng.integers(len(alike))], alike[g.rng.integers(len(alike))])


def _reduce(g: Growth) -> None:
    first = int(g.batch > 1)
    axes = [i for i in range(first, g.x.type.rank) if g.rng.random() < 0.4]
    g.then(Reduce(g.pick("mean", "max", "min", "sum", "prod"), tuple(axes), bool(g.rng.integers(2))))


def _reshape(g: Growth) -> None:
    """Axes split and joined at random."""
    rest = g.x.type.size // (g.batch if g.batch > 1 else 1)
    shape = [g.batch] if g.batch > 1 else []
    for factor in (2, 3, 4, 5, 7):
        if rest % factor == 0 and g.rng.random() < 0.5:
            shape.append(factor)
            rest //= factor
    tail = [*shape[1:], rest] if g.batch > 1 else [*shape, rest]
    g.rng.shuffle(tail)
    if g.rng.random() < 0.3:
        tail.insert(int(g.rng.integers(len(tail) + 1)), 1)
    shape = [*shape[:1], *tail] if g.batch > 1 else tail
    if g.batch == 1 and g.rng.random() < 0.6:
        shape = [1, *shape]
    g.then(Reshape(tuple(int(e) for e in shape[:5])) if len(shape) <= 5 else Identity())


def _transpose(g: Growth) -> None:
    first = int(g.batch > 1)
    rest = g.rng.permutation(np.arange(first, g.x.type.rank))
    g.then(Transpose((*range(first), *(int(i) for i in rest))))


def _take(g: Growth) -> None:
    axis = g.axis()
    extent = g.x.type.shape[axis] if axis < g.x.type.rank else 1
    some = g.rng.integers(0, extent, int(g.rng.integers(1, 2 * extent + 1))).tolist()
    lists = [
        list(range(0, extent, 2)),
        list(range(extent))[::-1],
        some,
        [extent - 1],
        list(range(extent // 2, extent)),
    ]
    g.then(Take(axis, ChannelList.of(lists[g.rng.integers(len(lists))])))


def _join(g: Growth) -> None:
    alike = [v for v in g.values if v.type == g.x.type] or [g.x]
    op = Concat() if g.x.type.rank in (2, 4) and g.rng.random() < 0.3 else Join(g.axis())
    g.then(op, *alike[: int(g.rng.integers(1, 3))])


def _pad(g: Growth) -> None:
    before, after = g.rng.integers(0, 3, (2, g.x.type.rank)).tolist()
    if g.batch > 1:
        before[0] = after[0] = 0
    g.then(Pad(tuple(before), tuple(after), (0.0, -1.5)[g.rng.integers(2)]))


def _expand(g: Growth) -> None:
    shape = [e if e > 1 or g.rng.random() < 0.5 else 3 for e in g.x.type.shape]
    shape[:1] = [g.batch] if g.batch > 1 else shape[:1]
    g.then(Expand(tuple([2, *shape] if g.batch == 1 and g.rng.random() < 0.2 else shape)))


def _matmul(g: Growth) -> None:
    """With its own transposed self, from either side."""
    rank = g.x.type.rank
    if rank < (3 if g.batch > 1 else 2):
        return
    before = g.x
    g.then(Transpose((*range(rank - 2), rank - 1, rank - 2)))
    other, g.x = g.x, before
    if other is not before:
        g.then(*((MatMul(), other) if g.rng.integers(2) else (Identity(),)))


def _layer(g: Growth) -> None:
    """A layer on maps or vectors, where the value is one."""
    channels = g.x.type.shape[1] if g.x.type.rank in (2, 4) else 0
    if g.x.type.rank == 4:
        height, width = g.x.type.shape[2:]
        ops: list[Op] = [Softmax(), BatchNorm(), Affine(), GlobalAvgPool(), GlobalMaxPool(), Flatten()]
        ops += [AvgPool((1, width), (1, 1)), MaxPool((height, width), (1, 1))]
        ops += [Shuffle(2)] if channels % 2 == 0 else []
        if g.x.type.shape[0] == g.batch:
            out = int(g.rng.integers(1, 20))
            ops += [Conv(Connectivity.dense(channels, out)), MaxPool((2, 2), (2, 2))]
        g.then(ops[g.rng.integers(len(ops))])
    elif channels:
        g.then((Linear(int(g.rng.integers(1, 20))), Softmax(), Affine())[g.rng.integers(3)])


KINDS: tuple[Callable[[Growth], None], ...] = (
    _function,
    _two,
    _choose,
    _reduce,
    _reshape,
    _transpose,
    _take,
    _join,
    _pad,
    _expand,
    _matmul,
    _layer,
)


def grow(g: Growth, least: int) -> None:
    """At least so many operations, where any fit."""
    for _ in range(5 * least):
        if g.made >= least:
            return
        KINDS[g.rng.integers(len(KINDS))](g)


def tensor_graph(seed: int) -> Graph:
    """A graph of tensors of up to five axes, of one image or two, one output or more."""
    rng = np.random.default_rng([7, seed])
    batch = 1 if rng.random() < 0.8 else 2
    rank = int(rng.integers(1, 6)) if batch == 1 else int(rng.integers(2, 5))
    shape = [int(e) for e in rng.integers(1, (0, 400, 40, 17, 9, 6)[rank], rank)]
    shape[:1] = [batch] if batch > 1 or rng.random() < 0.7 else shape[:1]
    graph = Graph(f"tensors{seed}")
    x = graph.input("x", TensorType.f32(*shape))
    growth = Growth(graph, rng, x, batch)
    grow(growth, int(rng.integers(1, 9)))
    if growth.x is x:
        growth.then(Unary("neg"))
    graph.outputs["y"] = growth.x
    if growth.values[1:] and rng.random() < 0.2:
        graph.outputs["z"] = growth.values[int(rng.integers(1, len(growth.values)))]
    graph.weights = random_weights(graph, seed)
    return graph


def is_steady(graph: Graph) -> bool:
    """Whether rounding does not decide what comes out: floors and products of hundreds of numbers may."""
    inputs = {k: v.astype(np.float32) for k, v in reference.random_inputs(graph, 1).items()}
    short, long = (reference.run(graph, inputs, dtype) for dtype in (np.float32, np.float64))
    return all(
        np.allclose(short[k], one, rtol=0, atol=1e-5 * np.nanmax(np.abs(one), initial=0), equal_nan=True)
        for k, one in long.items()
    )

"""Along axes: sums and their kin, softmax, normalisations, products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Builder, Tensor, bounded, is_known, shape_of
from compactir.frontends.onnx.reader import Call, normal_axis, operator
from compactir.ir.types import Array
from compactir.ops.activation import Softmax
from compactir.ops.linear import Linear
from compactir.ops.norm import BatchNorm, Lrn

_PLAIN = {
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
}


def _geometry(c: Call) -> tuple[list[int], bool] | None:
    """Axes and whether they stay; None where nothing is to be reduced. Axes are operands since 13 or 18."""
    rank = len(shape_of(c[0]))
    since = 13 if c.node.op == "ReduceSum" else 18
    given: Sequence[int] | None = c.node.attributes.get("axes")
    if c.version >= since:
        given = None if c.get(1) is None else c.ints(1, "the axes")
    keep = bool(c.attribute("keepdims", 1))
    if not given:
        return None if c.attribute("noop_with_empty_axes", 0) else (list(range(rank)), keep)
    return [normal_axis(a, rank) for a in given], keep


@operator(*_PLAIN)
def _plain(c: Call) -> Tensor:
    found = _geometry(c)
    if found is None or not found[0]:
        return c[0]
    return c.b.reduce(_PLAIN[c.node.op], c[0], *found)


@operator("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def _composed(c: Call) -> Tensor:
    found, b, x = _geometry(c), c.b, c[0]

    def total(y: Tensor) -> Tensor:
        return y if found is None or not found[0] else b.reduce("sum", y, *found)

    if c.node.op == "ReduceL1":
        return total(b.unary("abs", x))
    if c.node.op in ("ReduceL2", "ReduceSumSquare"):
        y = total(b.binary("mul", x, x))
        return b.unary("sqrt", y) if c.node.op == "ReduceL2" else y
    if c.node.op == "ReduceLogSum":
        return b.unary("log", total(x))
    if found is None or not found[0]:
        return x
    axes, keep = found
    top = b.reduce("max", x, axes)
    y = b.binary("add", b.unary("log", b.reduce("sum", b.unary("exp", b.binary("sub", x, top)), axes)), top)
    kept = [e for i, e in enumerate(shape_of(y)) if keep or i not in axes]
    return b.reshape(y, kept)


@operator("Softmax", "LogSoftmax", "Hardmax")
def _softmax(c: Call) -> Tensor:
    """Up to version 12 all axes from `axis` on count as one, from 13 on there is just the one."""
    shape = shape_of(c[0])
    axis = c.axis(-1 if c.version >= 13 else 1, len(shape))
    x = c[0]
    if c.version < 13:
        last = [i for i, e in enumerate(shape) if i >= axis and e > 1]
        if len(last) <= 1:  # the others have one element each
            return _along(c, x, last[0] if last else axis)
        flat = c.b.reshape(x, [prod(shape[:axis]), prod(shape[axis:])])
        return c.b.reshape(_along(c, flat, 1), shape)
    return _along(c, x, axis)


def _along(c: Call, x: Tensor, axis: int) -> Tensor:
    b = c.b
    if c.node.op == "Hardmax":
        return _hardmax(b, x, axis)
    if c.node.op == "Softmax" and axis == 1 and len(shape_of(x)) in (2, 3, 4) and not is_known(x):
        return b.on_map(x, lambda m: b.place(Softmax(), m))
    shifted = b.binary("sub", x, b.reduce("max", x, [axis]))
    powers = b.unary("exp", shifted)
    total = b.reduce("sum", powers, [axis])
    if c.node.op == "LogSoftmax":
        return b.binary("sub", shifted, b.unary("log", total))
    return b.binary("div", powers, total)


def _hardmax(b: Builder, x: Tensor, axis: int) -> Tensor:
    """One where the first largest element is: of those that equal it, the one with no other before it."""
    is_top = b.binary("equal", x, b.reduce("max", x, [axis]))
    if is_known(is_top):
        is_top = is_top.astype(np.float32)
    count = shape_of(x)[axis]
    before = along(b, is_top, axis, np.tril(np.ones(bounded((count, count), LARGEST_INDEX), np.float32), -1))
    first = b.binary("equal", before, np.zeros((), np.float32))
    return b.binary("mul", is_top, first.astype(np.float32) if is_known(first) else first)


def along(b: Builder, x: Tensor, axis: int, matrix: Array) -> Tensor:
    """Every line of x along an axis, multiplied by a constant matrix (new extent, old extent)."""
    rank = len(shape_of(x))
    if rank > 1 and axis == rank - 2:
        return b.matmul(matrix, x)
    order = [i for i in range(rank) if i != axis] + [axis]
    moved = b.matmul(b.transpose(x, order), np.ascontiguousarray(matrix.T))
    return b.transpose(moved, [order.index(i) for i in range(rank)])


@operator("CumSum")
def _cumsum(c: Call) -> Tensor:
    shape = shape_of(c[0])
    axis = normal_axis(int(c.known(1, "the axis").reshape(-1)[0]), len(shape))
    count = shape[axis]
    ones = np.tril(
        np.ones(bounded((count, count), LARGEST_INDEX), np.float32), -1 if c.attribute("exclusive", 0) else 0
    )
    return along(c.b, c[0], axis, ones.T if c.attribute("reverse", 0) else ones)


# -- normalisations ------------------------------------------------------------------------------------------


@operator("BatchNormalization")
def _batch_norm(c: Call) -> list[Tensor | None]:
    eps = float(c.attribute("epsilon", 1e-5))
    shape = shape_of(c[0])
    if c.attribute("training_mode", 0):
        return _trained(c, eps)
    if not c.attribute("spatial", 1) and c.version < 9 and prod(shape[2:]) > 1:
        raise c.refuse("it normalises every element apart (spatial=0)")
    x = c[0]
    parameters = [c.known(i, "a parameter").reshape(-1) for i in range(1, 5)]
    if is_known(x) or len(shape) not in (2, 3, 4) or eps <= 0:
        return [_normalised(c, x, [c[i] for i in range(1, 5)], eps)]
    return [c.b.on_map(x, lambda m: c.b.layer(BatchNorm(eps), m, *parameters))]


def _per_channel(c: Call, x: Tensor, vector: Tensor) -> Tensor:
    rank = len(shape_of(x))
    return c.b.reshape(vector, [1, -1 if is_known(vector) else shape_of(vector)[0], *[1] * (rank - 2)][:rank])


def _normalised(c: Call, x: Tensor, parameters: Sequence[Tensor], eps: float) -> Tensor:
    """The line weight · (x − mean) / √(var + eps) + bias for tensors of any rank."""
    b = c.b
    weight, bias, mean, var = (_per_channel(c, x, p) for p in parameters)
    scale = b.binary("div", weight, b.unary("sqrt", b.scaled(var, 1.0, eps)))
    return b.binary("add", b.binary("mul", b.binary("sub", x, mean), scale), bias)


def _trained(c: Call, eps: float) -> list[Tensor | None]:
    """Statistics of the operand itself, and what becomes of the running ones."""
    b, x = c.b, c[0]
    axes = [i for i in range(len(shape_of(x))) if i != 1]
    mean = b.reduce("mean", x, axes, keep=False)
    apart = b.binary("sub", x, _per_channel(c, x, mean))
    var = b.reduce("mean", b.binary("mul", apart, apart), axes, keep=False)
    momentum = float(c.attribute("momentum", 0.9))
    y = _normalised(c, x, [c[1], c[2], mean, var], eps)
    running: list[Tensor | None] = [
        b.binary("add", b.scaled(old, momentum), b.scaled(new, 1 - momentum))
        for old, new in ((c[3], mean), (c[4], var))
    ]
    return [y, *running][: len(c.node.outputs)]


@operator("InstanceNormalization")
def _instance_norm(c: Call) -> Tensor:
    b, x = c.b, c[0]
    axes = list(range(2, len(shape_of(x))))
    apart = b.binary("sub", x, b.reduce("mean", x, axes))
    var = b.reduce("mean", b.binary("mul", apart, apart), axes)
    scaled = b.binary("div", apart, b.unary("sqrt", b.scaled(var, 1.0, float(c.attribute("epsilon", 1e-5)))))
    return b.binary("add", b.binary("mul", scaled, _per_channel(c, x, c[1])), _per_channel(c, x, c[2]))


@operator("LpNormalization")
def _lp_norm(c: Call) -> Tensor:
    b, x = c.b, c[0]
    axis = c.axis(-1, len(shape_of(x)))
    if c.attribute("p", 2) == 1:
        norm = b.reduce("sum", b.unary("abs", x), [axis])
    else:
        norm = b.unary("sqrt", b.reduce("sum", b.binary("mul", x, x), [axis]))
    zero = b.binary("equal", norm, b.scalar(0, norm))
    return b.choose(zero, b.scalar(0, x), b.binary("div", x, b.choose(zero, b.scalar(1, x), norm)))


@operator("LRN")
def _lrn(c: Call) -> Tensor:
    size = int(c.attribute("size", 0))
    alpha, beta, k = (float(c.attribute(n, d)) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    if size % 2 and len(shape_of(c[0])) in (3, 4) and not is_known(c[0]):
        return c.b.on_map(c[0], lambda m: c.b.place(Lrn(size, alpha, beta, k), m))
    b, x = c.b, c[0]
    channels = shape_of(x)[1]
    rows, columns = np.indices(bounded((channels, channels), LARGEST_INDEX))
    near = (columns - rows >= -((size - 1) // 2)) & (columns - rows <= size // 2)
    total = along(b, b.binary("mul", x, x), 1, near.astype(np.float32))
    return b.binary("div", x, b.binary("pow", b.scaled(total, alpha / size, k), b.scalar(beta, x)))


# -- matrices ------------------------------------------------------------------------------------------------


@operator("MatMul")
def _matmul(c: Call) -> Tensor:
    return c.b.matmul(c[0], c[1])


@operator("Gemm")
def _gemm(c: Call) -> Tensor:
    b, x, weight, bias = c.b, c[0], c[1], c.get(2)
    alpha, beta = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0))
    trans_a, trans_b = (bool(c.attribute(name, 0)) for name in ("transA", "transB"))
    fits = bias is None or (is_known(bias) and shape_of(bias)[:-1] in ((), (1,)))
    if is_known(weight) and not is_known(x) and not trans_a and fits and len(shape_of(x)) == 2:
        matrix = weight if trans_b else weight.T
        matrix = matrix if alpha == 1 else (matrix * np.float32(alpha)).astype(np.float32)
        layer = Linear(len(matrix), bias is not None)
        if bias is None or not is_known(bias):
            return b.layer(layer, x, matrix)
        vector = np.broadcast_to(bias.reshape(-1), (len(matrix),)) * np.float32(beta)
        return b.layer(layer, x, matrix, vector)
    product = b.matmul(*(b.transpose(m, [1, 0]) if t else m for m, t in ((x, trans_a), (weight, trans_b))))
    product = b.scaled(product, alpha)
    return product if bias is None else b.binary("add", product, b.scaled(bias, beta))

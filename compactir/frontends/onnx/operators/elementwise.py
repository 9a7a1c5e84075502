"""Functions of one, two and many elements, comparisons, choices, casts."""

from __future__ import annotations

from functools import reduce
from math import inf, isclose
from typing import Any

import numpy as np

from compactir.frontends.build import Builder, Tensor, is_known, shape_of
from compactir.frontends.onnx.reader import Call, operator
from compactir.ir.types import Array
from compactir.ops import activation
from compactir.ops.tensor import UNARY


@operator(*(name.capitalize() for name in UNARY if name not in ("trunc", "not")))
def _unary(c: Call) -> Tensor:
    return c.b.unary(c.node.op.lower(), c[0])


@operator("Not")
def _not(c: Call) -> Tensor:
    return c.truth(c.b.unary("not", c[0]))


@operator("Relu")
def _relu(c: Call) -> Tensor:
    return c.b.activation(activation.Relu(), c[0])


@operator("Sigmoid")
def _sigmoid(c: Call) -> Tensor:
    return c.b.activation(activation.Sigmoid(), c[0])


@operator("Tanh")
def _tanh(c: Call) -> Tensor:
    return c.b.activation(activation.Tanh(), c[0])


@operator("HardSwish")
def _hard_swish(c: Call) -> Tensor:
    return c.b.activation(activation.HardSwish(), c[0])


@operator("LeakyRelu")
def _leaky_relu(c: Call) -> Tensor:
    return c.b.activation(activation.LeakyRelu(float(c.attribute("alpha", 0.01))), c[0])


@operator("HardSigmoid")
def _hard_sigmoid(c: Call) -> Tensor:
    alpha, beta = float(c.attribute("alpha", 0.2)), float(c.attribute("beta", 0.5))
    if isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return c.b.activation(activation.HardSigmoid(), c[0])
    return c.b.activation(activation.Clip(0.0, 1.0), c.b.scaled(c[0], alpha, beta))


@operator("Swish")
def _swish(c: Call) -> Tensor:
    alpha = float(c.attribute("alpha", 1.0))
    if alpha == 1:
        return c.b.activation(activation.Swish(), c[0])
    return c.b.binary("mul", c[0], c.b.activation(activation.Sigmoid(), c.b.scaled(c[0], alpha)))


@operator("Clip")
def _clip(c: Call) -> Tensor:
    """Bounds are attributes up to version 6, operands from 11 on, each may be left out."""
    bounds: list[Any] = [c.get(1), c.get(2)]
    if c.version < 11:
        bounds = [None if (n := c.attribute(name)) is None else np.float32(n) for name in ("min", "max")]
        bounds = [None if n is None else np.asarray(n) for n in bounds]
    x = c[0]
    known = all(b is not None and is_known(b) for b in bounds)
    if known and not is_known(x) and float(bounds[0]) <= float(bounds[1]):
        return c.b.activation(activation.Clip(float(bounds[0]), float(bounds[1])), x)
    if bounds[0] is not None:
        x = _at_least(c.b, x, bounds[0])
    return x if bounds[1] is None else c.b.binary("min", x, bounds[1])


def _at_least(b: Builder, x: Tensor, low: Tensor) -> Tensor:
    if is_known(low) and not is_known(x) and not np.any(low):
        return b.activation(activation.Relu(), x)
    return b.binary("max", x, low)


# -- spelled out ---------------------------------------------------------------------------------------------


def split_at_zero(b: Builder, x: Tensor) -> tuple[Tensor, Tensor]:
    """max(x, 0) and min(x, 0) = −max(−x, 0), whose sum is x: with a relu, so that C has both."""
    relu = activation.Relu()
    return b.activation(relu, x), b.unary("neg", b.activation(relu, b.unary("neg", x)))


def _exponential(c: Call, alpha: float, inner: float = 1.0, outer: float = 1.0) -> Tensor:
    """The curve outer · (max(x, 0) + alpha · (e^(min(x, 0) / inner) − 1))."""
    above, below = split_at_zero(c.b, c[0])
    curve = c.b.scaled(c.b.unary("exp", c.b.scaled(below, 1 / inner)), alpha, -alpha)
    return c.b.scaled(c.b.binary("add", above, curve), outer)


@operator("Elu")
def _elu(c: Call) -> Tensor:
    return _exponential(c, float(c.attribute("alpha", 1.0)))


@operator("Celu")
def _celu(c: Call) -> Tensor:
    alpha = float(c.attribute("alpha", 1.0))
    return _exponential(c, alpha, inner=alpha)


@operator("Selu")
def _selu(c: Call) -> Tensor:
    alpha, gamma = (
        c.attribute("alpha", 1.67326319217681884765625),
        c.attribute("gamma", 1.05070102214813232421875),
    )
    return _exponential(c, float(alpha), outer=float(gamma))


@operator("PRelu")
def _prelu(c: Call) -> Tensor:
    slope = c[1]
    if is_known(slope) and slope.size == 1:
        return c.b.activation(activation.LeakyRelu(float(slope.reshape(()))), c[0])
    if len(shape_of(slope)) == 1 and c.version < 7 and len(shape_of(c[0])) > 2:  # one per channel
        slope = c.b.reshape(slope, [-1 if i == 1 else 1 for i in range(1, len(shape_of(c[0])))])
    above, below = split_at_zero(c.b, c[0])
    return c.b.binary("add", above, c.b.binary("mul", below, slope))


@operator("Softplus")
def _softplus(c: Call) -> Tensor:
    """log(1 + e^x) without overflow: max(x, 0) + log(1 + e^−|x|)."""
    return softplus(c.b, c[0])


def softplus(b: Builder, x: Tensor) -> Tensor:
    """log(1 + e^x)."""
    tail = b.unary("exp", b.unary("neg", b.unary("abs", x)))
    return b.binary("add", split_at_zero(b, x)[0], b.unary("log", b.scaled(tail, 1.0, 1.0)))


@operator("Mish")
def _mish(c: Call) -> Tensor:
    return c.b.binary("mul", c[0], c.b.activation(activation.Tanh(), softplus(c.b, c[0])))


@operator("Softsign")
def _softsign(c: Call) -> Tensor:
    return c.b.binary("div", c[0], c.b.scaled(c.b.unary("abs", c[0]), 1.0, 1.0))


@operator("ThresholdedRelu")
def _thresholded(c: Call) -> Tensor:
    above = c.b.binary("greater", c[0], c.b.scalar(c.attribute("alpha", 1.0), c[0]))
    return c.b.choose(above, c[0], c.b.scalar(0, c[0]))


@operator("Shrink")
def _shrink(c: Call) -> Tensor:
    bias, limit = float(c.attribute("bias", 0.0)), float(c.attribute("lambd", 0.5))
    x, zero = c[0], c.b.scalar(0, c[0])
    low = c.b.choose(c.b.binary("less", x, c.b.scalar(-limit, x)), c.b.scaled(x, 1.0, bias), zero)
    return c.b.choose(c.b.binary("greater", x, c.b.scalar(limit, x)), c.b.scaled(x, 1.0, -bias), low)


@operator("Reciprocal")
def _reciprocal(c: Call) -> Tensor:
    return c.b.binary("div", c.b.scalar(1, c[0]), c[0])


# -- two and more --------------------------------------------------------------------------------------------


def aligned(c: Call, a: Tensor, b: Tensor) -> Tensor:
    """The second operand as NumPy broadcasts it: up to version 6 attributes said where it lies."""
    if c.version >= 7 or not c.attribute("broadcast", 0) or not shape_of(b):
        return b
    rank, own = len(shape_of(a)), len(shape_of(b))
    axis = int(c.attribute("axis", rank - own)) % rank
    return c.b.reshape(b, [*shape_of(b), *[1] * (rank - own - axis)])


_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
}
_COMPARISONS = {"Equal": "equal", "Less": "less", "Greater": "greater"}
_LOGIC = {"And": "and", "Or": "or", "Xor": "xor"}


@operator(*_BINARY)
def _binary(c: Call) -> Tensor:
    return c.b.binary(_BINARY[c.node.op], c[0], aligned(c, c[0], c[1]))


@operator(*_COMPARISONS, *_LOGIC)
def _comparison(c: Call) -> Tensor:
    function = {**_COMPARISONS, **_LOGIC}[c.node.op]
    return c.truth(c.b.binary(function, c[0], aligned(c, c[0], c[1])))


@operator("LessOrEqual", "GreaterOrEqual")
def _or_equal(c: Call) -> Tensor:
    """Less or equal as two comparisons: NaN is neither."""
    function = "less" if c.node.op == "LessOrEqual" else "greater"
    either = c.b.binary("or", c.b.binary(function, c[0], c[1]), c.b.binary("equal", c[0], c[1]))
    return c.truth(either)


@operator("Mod")
def _mod(c: Call) -> Tensor:
    return c.b.binary("fmod" if c.attribute("fmod", 0) else "mod", c[0], c[1])


@operator("Max", "Min", "Sum")
def _several(c: Call) -> Tensor:
    function = {"Max": "max", "Min": "min", "Sum": "add"}[c.node.op]
    return reduce(lambda a, b: c.b.binary(function, a, b), c.all)


@operator("Mean")
def _mean(c: Call) -> Tensor:
    return c.b.scaled(reduce(lambda a, b: c.b.binary("add", a, b), c.all), 1 / len(c))


@operator("Where")
def _where(c: Call) -> Tensor:
    x = c.b.choose(c[0], c[1], c[2])
    both = all(not is_known(v) and v in c.reader.truths for v in (c[1], c[2]))
    return c.truth(x) if both else x


# -- element types -------------------------------------------------------------------------------------------


@operator("Identity")
def _identity(c: Call) -> Tensor:
    return c[0]


@operator("Cast")
def _cast(c: Call) -> Tensor:
    return cast(c, c[0], int(c.attribute("to", 0)))


@operator("CastLike")
def _cast_like(c: Call) -> Tensor:
    from onnx import helper

    return cast(c, c[0], helper.np_dtype_to_tensor_dtype(c.reader.dtype(c[1])))


def cast(c: Call, x: Tensor, to: int) -> Tensor:
    """Another element type. Values of the network stay float32; all that can be asked of them is truth."""
    from onnx import helper

    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(to))
    if is_known(x):
        return x.astype(np.float32 if np.issubdtype(dtype, np.floating) else dtype)
    if dtype == np.float32 or (dtype == np.bool_ and x in c.reader.truths):
        return x
    if dtype == np.bool_:
        same = c.b.binary("equal", x, c.b.scalar(0, x))
        return c.truth(c.b.unary("not", same))
    raise c.refuse(f"values of the network are float32, it makes them {dtype}")


@operator("IsInf", "IsNaN")
def _odd(c: Call) -> Tensor:
    if c.node.op == "IsNaN":
        return c.truth(c.b.unary("not", c.b.binary("equal", c[0], c[0])))
    wanted = [
        limit for limit, name in ((inf, "detect_positive"), (-inf, "detect_negative")) if c.attribute(name, 1)
    ]
    found: list[Tensor] = [c.b.binary("equal", c[0], c.b.scalar(limit, c[0])) for limit in wanted]
    zeros: Array = np.zeros(shape_of(c[0]), np.bool_)
    return c.truth(reduce(lambda a, b: c.b.binary("or", a, b), found)) if found else zeros

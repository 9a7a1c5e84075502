"""Quantized networks (QDQ) as the float networks that they approximate.

compactir computes in float32. A constant that is dequantized is what it stands for: scale · (stored − zero).
A value of the network that is quantized and dequantized again is not rounded, only clamped to the range that
the integers can hold: the rounding is an error that the quantized network makes, the clamp is part of what it
computes (converters drop a relu that the range implies). A quantized value must go to DequantizeLinear: other
readers see the clamped value. The roundings that are left out are counted, `read` warns of them (CIR638).

Sources: Jacob et al. 2018, arXiv:1712.05877, section 2; Operators.md, QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

import numpy as np

from compactir.frontends.build import Tensor, is_known, shape_of
from compactir.frontends.onnx.reader import Call, operator
from compactir.ir.types import Array
from compactir.ops.activation import Clip


def _spread(vector: Array, rank: int, axis: int) -> Array:
    """One number, or one per slice along an axis."""
    return (
        vector.reshape(())
        if vector.size == 1
        else vector.reshape([-1 if i == axis else 1 for i in range(rank)])
    )


def _parameters(c: Call) -> tuple[Array, Array]:
    """Scale and zero point, shaped to broadcast."""
    rank = len(shape_of(c[0]))
    axis = int(c.attribute("axis", 1)) % max(rank, 1)
    if c.attribute("block_size", 0):
        raise c.refuse("it is quantized in blocks")
    scale = c.known(1, "the scale").astype(np.float32)
    zero = c.known_or(2, "the zero point")
    zero = np.zeros(scale.shape, np.uint8) if zero is None else zero
    return _spread(scale, rank, axis), _spread(zero, rank, axis)


@operator("DequantizeLinear")
def _dequantize(c: Call) -> Tensor:
    x = c[0]
    scale, zero = _parameters(c)
    if is_known(x):
        return ((x.astype(np.float32) - zero.astype(np.float32)) * scale).astype(np.float32)
    if x in c.reader.quantized:
        return x
    raise c.refuse("what it reads was not made by QuantizeLinear")


@operator("QuantizeLinear")
def _quantize(c: Call) -> Tensor:
    x = c[0]
    scale, zero = _parameters(c)
    info = np.iinfo(zero.dtype)
    if is_known(x):
        stored: Array = np.clip(np.rint(x / scale) + zero.astype(np.float32), info.min, info.max)
        return stored.astype(zero.dtype)
    if scale.size != 1:
        raise c.refuse("values of the network are quantized by one scale each, it has several")
    low, high = ((float(end) - float(zero)) * float(scale) for end in (info.min, info.max))
    y = c.b.activation(Clip(low, high), x)
    c.reader.steps.append(float(scale))
    c.reader.quantized.add(y)  # type: ignore[arg-type]  # a value, as x is
    return y

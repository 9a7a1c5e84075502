"""Functions of one element: activations, clamps; and softmax, which looks along the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.op import Op, Sample, register, spelling
from compactir.ir.types import Array, TensorType

_SHAPES = ((2, 5, 3, 4), (1, 17), (1, 1, 1, 1))


class Activation(Op):
    """Base of the functions of one element: any shape in, the same shape out, no parameters."""

    elementwise: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        return x

    @classmethod
    def samples(cls) -> list[Sample]:
        """A map, a vector, one element."""
        return [Sample(cls(), (shape,)) for shape in _SHAPES]


def logistic(x: Array) -> Array:
    """1 / (1 + e^−x) without overflow, in the dtype of x."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def clamp(x: Array, low: float, high: float) -> Array:
    """min(max(x, low), high) in the dtype of x; NaN stays NaN."""
    y: Array = np.minimum(np.maximum(x, x.dtype.type(low)), x.dtype.type(high))
    return y


@register
@dataclass(frozen=True)
class Relu(Activation):
    """max(x, 0). Source: Nair and Hinton 2010."""

    name: ClassVar[str] = "relu"

    def reference(self, x: Array) -> Array:
        """The meaning; NaN stays NaN."""
        y: Array = np.maximum(x, x.dtype.type(0))
        return y


@register
@dataclass(frozen=True)
class Relu6(Activation):
    """min(max(x, 0), 6). Source: Krizhevsky 2010; Howard et al. 2017."""

    name: ClassVar[str] = "relu6"

    def reference(self, x: Array) -> Array:
        """The meaning; NaN stays NaN."""
        return clamp(x, 0, 6)


@register
@dataclass(frozen=True)
class Clip(Activation):
    """min(max(x, low), high)."""

    name: ClassVar[str] = "clip"
    low: float = 0.0
    high: float = 1.0

    def reference(self, x: Array) -> Array:
        """The meaning; NaN stays NaN."""
        return clamp(x, self.low, self.high)


@register
@dataclass(frozen=True)
class LeakyRelu(Activation):
    """x where x ≥ 0, slope · x elsewhere. Source: Maas et al. 2013."""

    name: ClassVar[str] = "leaky_relu"
    slope: float = 0.01

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return np.where(x >= 0, x, x * x.dtype.type(self.slope))


@register
@dataclass(frozen=True)
class Sigmoid(Activation):
    """1 / (1 + e^−x)."""

    name: ClassVar[str] = "sigmoid"

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return logistic(x)


@register
@dataclass(frozen=True)
class Tanh(Activation):
    """scale · tanh(slope · x); LeNet-5 has 1.7159 and 2/3. Source: LeCun et al. 1998, appendix A."""

    name: ClassVar[str] = "tanh"
    scale: float = 1.0
    slope: float = 1.0

    def reference(self, x: Array) -> Array:
        """The meaning."""
        y: Array = x.dtype.type(self.scale) * np.tanh(x.dtype.type(self.slope) * x)
        return y


@register
@dataclass(frozen=True)
class Swish(Activation):
    """x · sigmoid(x), also called SiLU. Source: Ramachandran et al. 2017, arXiv:1710.05941."""

    name: ClassVar[str] = "swish"

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x * logistic(x)


@register
@dataclass(frozen=True)
class HardSigmoid(Activation):
    """min(max(x + 3, 0), 6) / 6. Source: Howard et al. 2019 (MobileNetV3), arXiv:1905.02244."""

    name: ClassVar[str] = "hard_sigmoid"

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return clamp(x + 3, 0, 6) / 6


@register
@dataclass(frozen=True)
class HardSwish(Activation):
    """x · min(max(x + 3, 0), 6) / 6. Source: Howard et al. 2019 (MobileNetV3), arXiv:1905.02244."""

    name: ClassVar[str] = "hard_swish"

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x * clamp(x + 3, 0, 6) / 6


@register
@dataclass(frozen=True)
class Softmax(Op):
    """e^x_c / Σ e^x over the channels.

    Shapes: x (N, C) or (N, C, H, W) -> as x.
    Cost:   no MACs by convention.
    Errors: none.
    Source: none needed.
    """

    name: ClassVar[str] = "softmax"

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        return x

    def reference(self, x: Array) -> Array:
        """The meaning; the maximum is subtracted first."""
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y: Array = e / e.sum(axis=1, keepdims=True)
        return y

    @classmethod
    def samples(cls) -> list[Sample]:
        """A vector, a map, one channel."""
        return [Sample(cls(), ((2, 10),)), Sample(cls(), ((1, 19, 2, 3),)), Sample(cls(), ((1, 1),))]


@spelling
def relu(x: TensorType) -> Relu:
    """max(x, 0)."""
    return Relu()


@spelling
def relu6(x: TensorType) -> Relu6:
    """min(max(x, 0), 6)."""
    return Relu6()


@spelling
def clip(x: TensorType, low: float, high: float) -> Clip:
    """min(max(x, low), high)."""
    if not low <= high:
        raise CompactError("CIR208", f"`clip` needs low ≤ high, it has {low} and {high}")
    return Clip(low, high)


@spelling
def leaky_relu(x: TensorType, slope: float = 0.01) -> LeakyRelu:
    """The value x, or slope · x below zero."""
    return LeakyRelu(slope)


@spelling
def sigmoid(x: TensorType) -> Sigmoid:
    """1 / (1 + e^−x)."""
    return Sigmoid()


@spelling
def tanh(x: TensorType, scale: float = 1.0, slope: float = 1.0) -> Tanh:
    """The hyperbolic tangent: `scale` times tanh of `slope` times x."""
    return Tanh(scale, slope)


@spelling
def swish(x: TensorType) -> Swish:
    """The product x · sigmoid(x)."""
    return Swish()


@spelling
def hard_sigmoid(x: TensorType) -> HardSigmoid:
    """relu6(x + 3) / 6."""
    return HardSigmoid()


@spelling
def hard_swish(x: TensorType) -> HardSwish:
    """The product x · relu6(x + 3) / 6."""
    return HardSwish()


@spelling
def softmax(x: TensorType) -> Softmax:
    """e^x over its sum along the channels."""
    return Softmax()

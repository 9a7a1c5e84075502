"""Normalisation: batch norm, per-channel scale and shift, local response normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.op import Op, ParamSpec, Sample, need_map, need_params, register, spelling
from compactir.ir.types import Array, TensorType


def along_channels(vector: Array, like: Array) -> Array:
    """A (C) vector shaped to broadcast over (N, C) or (N, C, H, W)."""
    return vector.reshape(1, -1, *([1] * (like.ndim - 2)))


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation with fixed statistics.

    Shapes: x (N, C, H, W) or (N, C), weight, bias, running_mean, running_var (C) -> as x,
            y = weight · (x − mean) / √(var + eps) + bias.
    Cost:   no MACs by the papers' convention; folds into a convolution.
    Errors: CIR206, CIR208 (eps not above 0).
    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2.
    """

    name: ClassVar[str] = "bn"
    per_channel: ClassVar[bool] = True
    eps: float = 1e-5

    def params(self, x: TensorType, *more: TensorType) -> list[ParamSpec]:
        """PyTorch's four names."""
        c = (x.channels,)
        return [
            ParamSpec("weight", c, "weight", "gamma"),
            ParamSpec("bias", c, "weight", "beta"),
            ParamSpec("running_mean", c, "buffer", "mean"),
            ParamSpec("running_var", c, "buffer", "variance"),
        ]

    def infer(self, x: TensorType, *params: TensorType) -> TensorType:
        """The type rule."""
        need_params(self, params, x)
        return x

    def reference(self, x: Array, weight: Array, bias: Array, mean: Array, var: Array) -> Array:
        """The meaning."""
        scale = weight / np.sqrt(var + x.dtype.type(self.eps))
        return (x - along_channels(mean, x)) * along_channels(scale, x) + along_channels(bias, x)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Maps and vectors, usual and unusual eps."""
        return [
            Sample(cls(), ((2, 5, 3, 4),)),
            Sample(cls(eps=1e-3), ((1, 19, 1, 1),)),
            Sample(cls(), ((2, 7),)),
        ]


@register
@dataclass(frozen=True)
class Affine(Op):
    """Scale and shift each channel.

    Shapes: x (N, C, H, W) or (N, C), weight (C), bias (C) -> as x, y = weight · x + bias; then the epilogue,
            functions of one element that a pass put there.
    Cost:   no MACs by convention.
    Errors: CIR206.
    Source: the trainable coefficient and bias of LeNet-5's S2 and S4, LeCun et al. 1998, section II.B.
    """

    name: ClassVar[str] = "affine"
    per_channel: ClassVar[bool] = True
    epilogue: tuple[Op, ...] = ()

    def params(self, x: TensorType, *more: TensorType) -> list[ParamSpec]:
        """`weight`, `bias`."""
        return [
            ParamSpec("weight", (x.channels,), "weight", "gamma"),
            ParamSpec("bias", (x.channels,), "weight", "beta"),
        ]

    def infer(self, x: TensorType, *params: TensorType) -> TensorType:
        """The type rule."""
        need_params(self, params, x)
        for op in self.epilogue:
            x = op.infer(x)
        return x

    def reference(self, x: Array, weight: Array, bias: Array) -> Array:
        """The meaning."""
        y = x * along_channels(weight, x) + along_channels(bias, x)
        for op in self.epilogue:
            y = op.reference(y)
        return y

    @classmethod
    def samples(cls) -> list[Sample]:
        """Maps and vectors."""
        return [Sample(cls(), ((1, 6, 5, 5),)), Sample(cls(), ((2, 18),))]


@register
@dataclass(frozen=True)
class Lrn(Op):
    """Local response normalisation across `size` neighbouring channels.

    Shapes: x (N, C, H, W) -> as x, y_c = x_c / (k + alpha / size · Σ x²)^beta,
            the sum over channels c − ⌊size/2⌋ … c + ⌊(size − 1)/2⌋.
    Cost:   no MACs by convention.
    Errors: CIR205, CIR208 (size below 1).
    Source: Krizhevsky et al. 2012, section 3.3, in the Caffe and PyTorch convention (alpha divided by size).
    """

    name: ClassVar[str] = "lrn"
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        need_map(self, x)
        return x

    def reference(self, x: Array) -> Array:
        """The meaning."""
        before, after = self.size // 2, (self.size - 1) // 2
        squares = np.pad(x * x, ((0, 0), (before, after), (0, 0), (0, 0)))
        total = sum(squares[:, j : j + x.shape[1]] for j in range(self.size))
        scale = x.dtype.type(self.k) + x.dtype.type(self.alpha / self.size) * total
        y: Array = x / scale ** x.dtype.type(self.beta)
        return y

    @classmethod
    def samples(cls) -> list[Sample]:
        """AlexNet's, a strong one, an even size, fewer channels than the window, other powers."""
        return [
            Sample(cls(), ((1, 9, 3, 3),)),
            Sample(cls(size=3, alpha=0.5, beta=0.5, k=2.0), ((2, 20, 2, 5),)),
            Sample(cls(size=4, alpha=0.1), ((1, 5, 1, 3),)),
            Sample(cls(size=5, alpha=0.1), ((1, 2, 2, 2),)),
            Sample(cls(size=7, alpha=0.2, beta=1.0), ((1, 17, 3, 1),)),
            Sample(cls(size=2, alpha=0.3, beta=0.6), ((1, 16, 1, 10),)),
        ]


@spelling
def bn(x: TensorType, eps: float = 1e-5) -> BatchNorm:
    """Batch normalisation."""
    if not eps > 0:
        raise CompactError("CIR208", f"`eps` must be above 0, it is {eps}")
    return BatchNorm(eps)


@spelling
def affine(x: TensorType) -> Affine:
    """Scale and shift each channel by trained numbers."""
    return Affine()


@spelling
def lrn(x: TensorType, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Lrn:
    """Local response normalisation across channels."""
    if size < 1:
        raise CompactError("CIR208", f"`size` must be at least 1, it is {size}")
    return Lrn(size, alpha, beta, k)

"""Layers on feature vectors: linear, and LeNet-5's radial-basis output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.diagnostics import CompactError
from compactir.ir.op import Op, ParamSpec, Sample, need_params, need_shape, register, spelling, tally
from compactir.ir.types import Array, TensorType


def need_vector(op: Op, x: TensorType) -> tuple[int, int]:
    """(N, F); a 1×1 feature map counts as one. CIR205 otherwise."""
    if x.rank == 2 or (x.rank == 4 and x.spatial == (1, 1)):
        return x.shape[0], x.shape[1]
    raise CompactError(
        "CIR205",
        f"`{op.name}` needs a feature vector (N, F), its operand is {x}",
        help="put `flatten` before it",
    )


@register
@dataclass(frozen=True)
class Linear(Op):
    """Every output is a weighted sum of every input.

    Shapes: x (N, I) or (N, I, 1, 1), w (O, I), bias (O) where biased -> y (N, O).
    Cost:   N I O.
    Errors: CIR205, CIR206.
    Source: none needed.
    """

    name: ClassVar[str] = "linear"
    out: int
    bias: bool = True

    def params(self, x: TensorType, *more: TensorType) -> list[ParamSpec]:
        """`weight`, `bias`."""
        specs = [ParamSpec("weight", (self.out, need_vector(self, x)[1]))]
        return [*specs, ParamSpec("bias", (self.out,), "weight", "bias")] if self.bias else specs

    def infer(self, x: TensorType, *params: TensorType) -> TensorType:
        """The type rule."""
        n, _ = need_vector(self, x)
        need_params(self, params, x)
        return x.with_shape(n, self.out)

    def reference(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """The meaning."""
        flat = x.reshape(x.shape[0], -1)
        tally(x.shape[0] * weight.size)
        y = flat @ weight.T
        return y if bias is None else y + bias

    def macs(self, x: TensorType, *params: TensorType) -> int:
        """N I O."""
        return x.batch * need_vector(self, x)[1] * self.out

    @classmethod
    def samples(cls) -> list[Sample]:
        """With and without bias, from vectors and 1×1 maps."""
        return [
            Sample(cls(5), ((1, 7),)),
            Sample(cls(1, bias=False), ((3, 33),)),
            Sample(cls(37), ((2, 16, 1, 1),)),
        ]


@register
@dataclass(frozen=True)
class Rbf(Op):
    """Squared distance to one fixed centre per output: LeNet-5's output layer.

    Shapes: x (N, I), centres w (O, I) of ±1 -> y (N, O), y_i = Σ_j (x_j − w_ij)².
    Cost:   N I O (one multiply and one add per term, the subtraction not counted).
    Errors: CIR205, CIR206.
    Source: LeCun et al. 1998, equation 7 and figure 3.
    """

    name: ClassVar[str] = "rbf"
    distance: ClassVar[bool] = True
    out: int

    def params(self, x: TensorType, *more: TensorType) -> list[ParamSpec]:
        """`centres`: fixed, not trained."""
        return [ParamSpec("centres", (self.out, need_vector(self, x)[1]), "buffer", "sign")]

    def infer(self, x: TensorType, centres: TensorType) -> TensorType:
        """The type rule."""
        n, f = need_vector(self, x)
        need_shape(self, "centres", centres, (self.out, f))
        return x.with_shape(n, self.out)

    def reference(self, x: Array, centres: Array) -> Array:
        """The meaning."""
        tally(x.shape[0] * centres.size)
        differences = x.reshape(x.shape[0], 1, -1) - centres
        y: Array = (differences * differences).sum(axis=2)
        return y

    def macs(self, x: TensorType, *params: TensorType) -> int:
        """N I O."""
        return x.batch * need_vector(self, x)[1] * self.out

    @classmethod
    def samples(cls) -> list[Sample]:
        """LeNet-5's own size and an odd one."""
        return [Sample(cls(10), ((2, 84),)), Sample(cls(3), ((1, 5),))]


@spelling
def linear(x: TensorType, out: int, bias: bool = True) -> Linear:
    """A fully connected layer with `out` outputs, biased unless told otherwise."""
    _need_positive(out)
    return Linear(out, bias)


@spelling
def rbf(x: TensorType, out: int) -> Rbf:
    """LeNet-5's output: squared distances to `out` fixed centres."""
    _need_positive(out)
    return Rbf(out)


def _need_positive(out: int) -> None:
    if out < 1:
        raise CompactError("CIR208", f"`out` must be at least 1, it is {out}")

"""Element-wise combination of two values: the residual add, the gate of a squeeze-and-excitation block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.diagnostics import CompactError
from compactir.ir.op import Op, Sample, register, spelling
from compactir.ir.types import Array, TensorType


class Combine(Op):
    """Base of element-wise operations of two values; a (N, C, 1, 1) operand is spread over the map."""

    per_channel: ClassVar[bool] = True

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The type rule."""
        if a.shape == b.shape:
            return a
        if a.rank == b.rank == 4 and a.shape[:2] == b.shape[:2]:
            for large, small in ((a, b), (b, a)):
                if small.spatial == (1, 1):
                    return large
        raise CompactError("CIR211", f"`{self.name}` cannot combine {a} and {b}", help=_advice(a, b))

    @classmethod
    def samples(cls) -> list[Sample]:
        """Equal shapes, a gate on either side, vectors."""
        return [
            Sample(cls(), ((1, 5, 3, 4), (1, 5, 3, 4))),
            Sample(cls(), ((2, 19, 3, 3), (2, 19, 1, 1))),
            Sample(cls(), ((1, 3, 1, 1), (1, 3, 2, 5))),
            Sample(cls(), ((1, 9), (1, 9))),
        ]


def _advice(a: TensorType, b: TensorType) -> str:
    if a.rank != b.rank:
        return "flatten both, or neither"
    if a.channels != b.channels:
        return f"bring both to {a.channels} channels with a 1x1 convolution"
    return "give both branches the same stride"


@register
@dataclass(frozen=True)
class Add(Combine):
    """a + b.

    Shapes: (N, C, H, W) and the same or (N, C, 1, 1) -> (N, C, H, W).
    Cost:   no MACs.
    Errors: CIR211.
    Source: He et al. 2016, arXiv:1512.03385.
    """

    name: ClassVar[str] = "add"

    def reference(self, a: Array, b: Array) -> Array:
        """The meaning."""
        return a + b


@register
@dataclass(frozen=True)
class Mul(Combine):
    """a · b.

    Shapes: (N, C, H, W) and the same or (N, C, 1, 1) -> (N, C, H, W).
    Cost:   no MACs by convention.
    Errors: CIR211.
    Source: Hu et al. 2018 (squeeze and excitation), arXiv:1709.01507.
    """

    name: ClassVar[str] = "mul"

    def reference(self, a: Array, b: Array) -> Array:
        """The meaning."""
        return a * b


@spelling
def add(a: TensorType, b: TensorType) -> Add:
    """The sum, also written `a + b`."""
    return Add()


@spelling
def mul(a: TensorType, b: TensorType) -> Mul:
    """The product, also written `a * b`."""
    return Mul()

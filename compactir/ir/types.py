"""What a value is: an element type and a static shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from compactir.diagnostics import CompactError

Array = npt.NDArray[Any]

MAX_ELEMENTS = 2**31 - 1

DTYPES: dict[str, type[np.generic]] = {
    "f32": np.float32,
    "f64": np.float64,
    "i8": np.int8,
    "i32": np.int32,
}
_TEXT = re.compile(r"(\w+)\s*\[\s*(\d{1,9}(?:\s*,\s*\d{1,9})*)?\s*\]")


@dataclass(frozen=True)
class Quantization:
    """Affine quantization: real = scale * (stored - zero_point), one scale per slice along `axis`.

    Source: Jacob et al. 2018, arXiv:1712.05877, equation 1.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class TensorType:
    """An element type and a static shape: `f32[1,3,224,224]` is (N, C, H, W), `f32[1,1000]` is (N, F)."""

    dtype: str
    shape: tuple[int, ...]
    quant: Quantization | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CompactError(
                "CIR201", f"unknown element type `{self.dtype}`", help=f"known types: {' '.join(DTYPES)}"
            )
        if any(extent < 1 for extent in self.shape):
            raise CompactError(
                "CIR202", f"every extent of a shape must be at least 1, this one is {list(self.shape)}"
            )
        if prod(self.shape) > MAX_ELEMENTS:
            raise CompactError(
                "CIR202",
                f"a tensor of shape {list(self.shape)} has more than {MAX_ELEMENTS:,} elements",
                help="make it smaller: offsets in generated code are 32-bit numbers",
            )

    @classmethod
    def f32(cls, *shape: int) -> TensorType:
        """The float32 type of this shape."""
        return cls("f32", shape)

    @classmethod
    def parse(cls, text: str) -> TensorType:
        """Read back what `str` wrote."""
        match = _TEXT.fullmatch(text.strip())
        if not match:
            raise CompactError(
                "CIR301", f"`{text}` is not a tensor type", help="write it as `f32[1,3,224,224]`"
            )
        return cls(match[1], tuple(map(int, match[2].split(","))) if match[2] else ())

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        """Number of axes, batch included."""
        return len(self.shape)

    @property
    def batch(self) -> int:
        """N. Errors: CIR205 where the type has no batch and channels."""
        return self._axis(0)

    @property
    def channels(self) -> int:
        """C of (N, C, H, W), F of (N, F). Errors: CIR205 where the type has no channels."""
        return self._axis(1)

    def _axis(self, axis: int) -> int:
        if self.rank < 2:
            raise CompactError("CIR205", f"{self} has no batch and channels")
        return self.shape[axis]

    @property
    def spatial(self) -> tuple[int, ...]:
        """(H, W); empty for (N, F)."""
        return self.shape[2:]

    @property
    def size(self) -> int:
        """Number of elements, batch included."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory when stored densely."""
        return self.size * np.dtype(DTYPES[self.dtype]).itemsize

    def with_shape(self, *shape: int) -> TensorType:
        """The same element type in another shape."""
        return TensorType(self.dtype, shape, self.quant)

    def with_channels(self, channels: int) -> TensorType:
        """The same value with another number of channels."""
        return self.with_shape(self.batch, channels, *self.spatial)

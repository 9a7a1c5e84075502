"""Pooling and resampling: each channel by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.connectivity import Kernel, Pad
from compactir.ir.op import Op, Sample, need_map, register, spelling
from compactir.ir.types import Array, TensorType
from compactir.ops.conv import Padding, Size, padding, pair

MODES = ("nearest", "bilinear")
"""What `upsample` can do between elements."""


@dataclass(frozen=True)
class Window:
    """Where a pool's windows lie: `spans[axis][i] = (first, last + 1)`, clipped to the input."""

    spans: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
    full: tuple[tuple[int, ...], tuple[int, ...]]  # extent of window i clipped to the padded input only


class Pool(Op):
    """Base of windowed pools.

    H' = ⌊(H + top + bottom − kh) / s⌋ + 1, or the ceiling, in which case the last window must still start
    inside the input or its top padding (PyTorch's rule).
    """

    per_channel: ClassVar[bool] = True
    kernel: Kernel
    stride: Kernel
    pad: Pad
    ceil: bool

    def out_extent(self, size: int, axis: int) -> int:
        """H' or W'."""
        k, s = self.kernel[axis], self.stride[axis]
        before, after = self.pad[axis], self.pad[axis + 2]
        room = size + before + after - k
        if room < 0:
            raise CompactError(
                "CIR204",
                f"a {self.kernel[0]}x{self.kernel[1]} pool does not fit into a map of extent {size} "
                f"padded by {before} and {after}",
                help="use a smaller kernel or a larger input",
            )
        count = (-(-room // s) if self.ceil else room // s) + 1
        return count - 1 if self.ceil and (count - 1) * s >= size + before else count

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        n, c, h, w = need_map(self, x)
        for axis, k in enumerate(self.kernel):
            if min(self.pad) < 0:
                raise CompactError("CIR208", f"padding {min(self.pad)} of a pool must not be below 0")
            if max(self.pad[axis], self.pad[axis + 2]) >= k:
                raise CompactError(
                    "CIR208", f"padding {max(self.pad)} of a pool must be smaller than its kernel {k}"
                )
        return x.with_shape(n, c, self.out_extent(h, 0), self.out_extent(w, 1))

    def window(self, size: Sequence[int]) -> Window:
        """Every window of a map of this size."""
        spans, full = [], []
        for axis in (0, 1):
            starts = [
                i * self.stride[axis] - self.pad[axis] for i in range(self.out_extent(size[axis], axis))
            ]
            k, limit = self.kernel[axis], size[axis]
            spans.append(tuple((max(0, a), min(limit, a + k)) for a in starts))
            full.append(tuple(min(limit + self.pad[axis + 2], a + k) - a for a in starts))
        return Window((spans[0], spans[1]), (full[0], full[1]))


@register
@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest element of each window; padding never wins.

    Shapes: x (N, C, H, W) -> (N, C, H', W').
    Cost:   no MACs.
    Errors: CIR204, CIR205, CIR208.
    Source: PyTorch's MaxPool2d for `ceil`.
    """

    name: ClassVar[str] = "max_pool"
    kernel: Kernel
    stride: Kernel
    pad: Pad = (0, 0, 0, 0)
    ceil: bool = False

    def reference(self, x: Array) -> Array:
        """The meaning."""
        rows, columns = self.window(x.shape[2:]).spans
        out = [[x[:, :, a:b, c:d].max(axis=(2, 3)) for c, d in columns] for a, b in rows]
        return np.array(out).transpose(2, 3, 0, 1)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Plain, padded, ceil on even and odd sizes, uneven kernels, one window."""
        return [
            Sample(cls((2, 2), (2, 2)), ((2, 5, 6, 7),)),
            Sample(cls((3, 3), (2, 2), (1, 1, 1, 1)), ((1, 17, 9, 8),)),
            Sample(cls((3, 3), (2, 2), ceil=True), ((1, 4, 8, 9),)),
            Sample(cls((3, 3), (1, 1), (1, 1, 1, 1)), ((1, 3, 5, 5),)),
            Sample(cls((2, 3), (1, 2), (0, 1, 1, 0)), ((1, 3, 4, 6),)),
            Sample(cls((3, 3), (3, 3), (1, 1, 1, 1), ceil=True), ((1, 2, 1, 1),)),
        ]


@register
@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of each window.

    The divisor is the number of real elements, with `count_pad` that of real and padding elements, or
    `divisor` where that is not 0 (1 makes it a sum: LeNet-5's S2).

    Shapes: x (N, C, H, W) -> (N, C, H', W').
    Cost:   no MACs.
    Errors: CIR204, CIR205, CIR208.
    Source: PyTorch's AvgPool2d.
    """

    name: ClassVar[str] = "avg_pool"
    kernel: Kernel
    stride: Kernel
    pad: Pad = (0, 0, 0, 0)
    ceil: bool = False
    count_pad: bool = False
    divisor: int = 0

    def divisors(self, size: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The divisor of every window, (H') rows of (W')."""
        window = self.window(size)
        rows, columns = (
            window.full if self.count_pad else tuple(tuple(b - a for a, b in s) for s in window.spans)
        )
        return tuple(tuple(self.divisor or r * c for c in columns) for r in rows)

    def reference(self, x: Array) -> Array:
        """The meaning."""
        rows, columns = self.window(x.shape[2:]).spans
        out = np.array([[x[:, :, a:b, c:d].sum(axis=(2, 3)) for c, d in columns] for a, b in rows])
        y: Array = out.transpose(2, 3, 0, 1) / np.array(self.divisors(x.shape[2:]), x.dtype)
        return y

    @classmethod
    def samples(cls) -> list[Sample]:
        """Plain, padded both ways of counting, ceil, a sum."""
        return [
            Sample(cls((2, 2), (2, 2)), ((1, 5, 6, 7),)),
            Sample(cls((3, 3), (2, 2), (1, 1, 1, 1), count_pad=True), ((1, 24, 8, 8),)),
            Sample(cls((3, 3), (2, 2), (1, 1, 1, 1)), ((2, 3, 7, 5),)),
            Sample(cls((3, 3), (2, 2), ceil=True), ((1, 4, 8, 6),)),
            Sample(cls((3, 3), (2, 2), (1, 1, 1, 1), ceil=True, count_pad=True), ((1, 4, 8, 6),)),
            Sample(cls((2, 2), (2, 2), divisor=1), ((1, 6, 4, 4),)),
        ]


class GlobalPool(Op):
    """Base of pools over the whole map."""

    per_channel: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        n, c, _, _ = need_map(self, x)
        return x.with_shape(n, c, 1, 1)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Odd, prime and 1×1 maps."""
        return [Sample(cls(), (shape,)) for shape in [(2, 5, 3, 4), (1, 33, 7, 7), (1, 2, 1, 1)]]


@register
@dataclass(frozen=True)
class GlobalAvgPool(GlobalPool):
    """The mean of each channel. Source: Lin et al. 2013, arXiv:1312.4400."""

    name: ClassVar[str] = "global_avg_pool"

    def reference(self, x: Array) -> Array:
        """The meaning."""
        y: Array = x.mean(axis=(2, 3), keepdims=True)
        return y


@register
@dataclass(frozen=True)
class GlobalMaxPool(GlobalPool):
    """The largest element of each channel."""

    name: ClassVar[str] = "global_max_pool"

    def reference(self, x: Array) -> Array:
        """The meaning."""
        y: Array = x.max(axis=(2, 3), keepdims=True)
        return y


@register
@dataclass(frozen=True)
class Upsample(Op):
    """Resize a map, by repeating its elements or by interpolating between them.

    nearest: output row i reads row ⌊i · H / H'⌋. bilinear: it lies at max((i + 1/2) · H / H' − 1/2, 0)
    between two rows, the second of them H − 1 at most. Columns alike.

    Shapes: x (N, C, H, W) -> (N, C, H', W').
    Cost:   no MACs.
    Errors: CIR205, CIR208.
    Source: PyTorch's interpolate(mode="nearest") and (mode="bilinear", align_corners=False).
    """

    name: ClassVar[str] = "upsample"
    per_channel: ClassVar[bool] = True
    size: Kernel
    mode: str = "nearest"

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        n, c, _, _ = need_map(self, x)
        if self.mode not in MODES:
            known = " and ".join(f'"{mode}"' for mode in MODES)
            raise CompactError("CIR208", f'`mode="{self.mode}"` is not known', help=f"there are {known}")
        return x.with_shape(n, c, *self.size)

    def sources(self, size: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The (upper) source row of every output row, the (left) source column of every output column."""
        rows, columns = (tuple(first for first, _, _ in self.taps(size, axis)) for axis in (0, 1))
        return rows, columns

    def taps(self, size: Sequence[int], axis: int) -> list[tuple[int, int, Fraction]]:
        """For every output row (or column): two source rows and the share of the second."""
        old, new = size[axis], self.size[axis]
        if self.mode == "nearest":
            return [(i * old // new, i * old // new, Fraction(0)) for i in range(new)]
        places = [max(Fraction((2 * i + 1) * old - new, 2 * new), Fraction(0)) for i in range(new)]
        return [(floor(p), min(floor(p) + 1, old - 1), p - floor(p)) for p in places]

    def reference(self, x: Array) -> Array:
        """The meaning; a map of that size already is left as it is."""
        for axis in (0, 1) if x.shape[2:] != self.size else ():
            first, second, share = zip(*self.taps(x.shape[2:], axis), strict=True)
            y = x.take(first, axis + 2)
            if self.mode == "bilinear":
                t = np.array(share, x.dtype).reshape(-1, *[1] * (1 - axis))
                y = (1 - t) * y + t * x.take(second, axis + 2)
            x = y
        return x

    @classmethod
    def samples(cls) -> list[Sample]:
        """Whole factors, odd sizes, from one element, both ways; shrinking."""
        return [
            Sample(cls((6, 8)), ((1, 3, 3, 4),)),
            Sample(cls((7, 7)), ((2, 17, 4, 3),)),
            Sample(cls((5, 2)), ((1, 1, 1, 1),)),
            Sample(cls((6, 8), "bilinear"), ((1, 3, 3, 4),)),
            Sample(cls((14, 7), "bilinear"), ((2, 17, 3, 3),)),
            Sample(cls((2, 5), "bilinear"), ((1, 5, 3, 2),)),
        ]


@spelling
def max_pool(
    x: TensorType, kernel: Size, stride: Size | None = None, pad: Padding = 0, ceil: bool = False
) -> MaxPool:
    """The largest element of each window; the stride is the kernel unless given."""
    return MaxPool(*_geometry(x, kernel, stride, pad), ceil)


@spelling
def avg_pool(
    x: TensorType,
    kernel: Size,
    stride: Size | None = None,
    pad: Padding = 0,
    ceil: bool = False,
    count_pad: bool = False,
    divisor: int = 0,
) -> AvgPool:
    """The mean of each window; `count_pad` lets padding count, `divisor=1` makes it a sum."""
    if divisor < 0:
        raise CompactError("CIR208", f"`divisor` must be at least 0, it is {divisor}")
    return AvgPool(*_geometry(x, kernel, stride, pad), ceil, count_pad, divisor)


def _geometry(x: TensorType, kernel: Size, stride: Size | None, pad: Padding) -> tuple[Kernel, Kernel, Pad]:
    _, _, h, w = need_map(MaxPool((1, 1), (1, 1)), x)
    k = pair(kernel, "kernel")
    s = k if stride is None else pair(stride, "stride")
    return k, s, padding(pad, (h, w), k, s, (1, 1))


@spelling
def global_avg_pool(x: TensorType) -> GlobalAvgPool:
    """The mean of each channel."""
    return GlobalAvgPool()


@spelling
def global_max_pool(x: TensorType) -> GlobalMaxPool:
    """The largest element of each channel."""
    return GlobalMaxPool()


@spelling
def upsample(x: TensorType, scale: Size = 2, size: Size | None = None, mode: str = "nearest") -> Upsample:
    """Enlargement by a whole factor, or to a size; `mode` is "nearest" or "bilinear"."""
    _, _, h, w = need_map(Upsample((1, 1)), x)
    if size is not None:
        return Upsample(pair(size, "size"), mode)
    vertical, horizontal = pair(scale, "scale")
    return Upsample((h * vertical, w * horizontal), mode)

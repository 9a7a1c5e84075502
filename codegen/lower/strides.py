"""Views of tensors: elements of a buffer, or of a constant, under any shape and strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from compactir.ir.types import Array

__all__ = ["Loops", "Shape", "View", "constant", "merged"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Elements of a buffer or of a constant under a shape: `start`, and steps along every axis in floats."""

    shape: Shape
    strides: Shape
    buffer: str = ""
    start: int = 0
    constant: Array | None = field(default=None, compare=False)

    @classmethod
    def dense(cls, shape: Shape, buffer: str = "", start: int = 0, constant: Array | None = None) -> View:
        """All elements in their order."""
        strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        return cls(shape, strides, buffer, start, constant)

    def transposed(self, order: Sequence[int]) -> View:
        """Axis i is axis order[i] of this one."""
        shape, strides = (tuple(each[i] for i in order) for each in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    def expanded(self, shape: Shape) -> View:
        """Repeated along axes of extent 1 and along new ones in front, as NumPy broadcasts."""
        kept = (s if e > 1 else 0 for e, s in zip(self.shape, self.strides, strict=True))
        strides = (*[0] * (len(shape) - len(self.shape)), *kept)
        return replace(self, shape=shape, strides=strides)

    def part(self, axis: int, first: int, count: int, step: int = 1) -> View:
        """`count` elements of an axis from `first` on, `step` apart."""
        shape, strides = list(self.shape), list(self.strides)
        start = self.start + first * strides[axis]
        shape[axis], strides[axis] = count, step * strides[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides), start=start)

    def reshaped(self, shape: Shape) -> View | None:
        """The same elements in the same order; None where no strides say that."""
        loops = merged(self.shape, [self.strides])
        extent, stride, strides = 1, 0, []
        for wanted in reversed(shape):
            if wanted > 1 and extent == 1:
                extent, [stride] = loops.pop()
            if extent % wanted:
                return None
            strides.append(stride)
            extent, stride = extent // wanted, stride * wanted
        return replace(self, shape=shape, strides=tuple(reversed(strides)))


Loops = list[tuple[int, list[int]]]
"""The extent of every loop, and how far each of some tensors moves with its steps."""


def merged(extents: Shape, strides: Sequence[Shape]) -> Loops:
    """As few loops as walk the same elements in the same order."""
    loops: Loops = []
    for axis, extent in enumerate(extents):
        steps = [s[axis] for s in strides]
        if loops and loops[-1][1] == [extent * step for step in steps]:
            loops[-1] = loops[-1][0] * extent, steps
        elif extent > 1:
            loops.append((extent, steps))
    return loops


def constant(array: Array) -> View:
    """A constant."""
    return View.dense(array.shape, constant=array)

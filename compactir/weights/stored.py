"""A tensor as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass

from compactir.ir.types import Array

__all__ = ["Stored"]


@dataclass(frozen=True)
class Stored:
    """A tensor of a weights file.

    `dtype` is what the file says (`float32`, `bfloat16`, …); `array` is what NumPy can hold of it: float32
    for bfloat16, raw bytes for types that NumPy does not know.
    """

    dtype: str
    array: Array

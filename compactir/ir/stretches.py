"""How a row of pixels is cut into vectors: whole ones, halves of two rows, the same pixels twice, a part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """`count` pixels from `column` on, of one row; with `halves` of two rows, which share a vector."""

    column: int
    count: int
    halves: bool = False


def stretches(width: int, lanes: int, paired: bool, apart: bool) -> list[Stretch]:
    """Vectors for a row of `width` pixels.

    `paired`: two rows are made at once, and half a vector of each may share one. `apart`: no pixel may be
    made twice, since the result may lie over the operand.
    """
    full = [Stretch(column, lanes) for column in range(0, width - lanes + 1, lanes)]
    rest, half = width % lanes, lanes // 2
    if not rest:
        return full
    if paired and not apart and rest <= half <= width:
        return [*full, Stretch(width - half, half, halves=True)]
    if full and not apart:
        return [*full, Stretch(width - lanes, lanes)]
    return [*full, Stretch(width - rest, rest)]

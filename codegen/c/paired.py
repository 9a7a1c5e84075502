"""Loads by twos, for cores that find an order of their own and pay for every instruction.

Out-of-order cores run loads beside multiply-adds whatever the order; what costs is an instruction. Two
vectors that lie side by side take one load (`ldp`): weights always do, inputs of neighbouring pixels where
they are words of four floats. Compilers pair loads as far as the next barrier only.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MOST_WORDS", "paired", "unrolled"]

_WORD = 4
MOST_WORDS = 4
"""Words of one round of the loop at most, which share its counting and moving on."""
_REACH = 1008
"""Bytes that the offset of a pair reaches."""


def unrolled(words: int, vectors: int, lanes: int) -> int:
    """How many of the words a round of the loop takes: a divisor of them, within reach of one pointer."""
    return max(
        n
        for n in range(1, MOST_WORDS + 1)
        if n == 1 or (words % n == 0 and (n * _WORD * vectors - 2) * lanes * 4 <= _REACH)
    )


def paired(
    pixels: Sequence[int], vectors: int, lanes: int, step: int, word: int, stride: str = ""
) -> list[str]:
    """C for one word of four inputs: `xi` points at the first pixel's, `wk` at the weights of the round.

    Args:
        pixels: the pixels of the tile, as the accumulators number them.
        vectors: output vectors of the panel.
        lanes: floats per vector.
        step: floats from one pixel's inputs to the next one's.
        word: which of the words of the round.
        stride: where the inputs of the next word are reached by as many bytes, that variable: a load of one
            vector moves `xi` on as well.
    """
    rest = list(pixels)
    along = rest.pop(0) if stride and len(rest) % 2 else None
    lines = []
    while rest:
        m = rest.pop(0)
        at = (m - pixels[0]) * step
        if rest and step == lanes and at * 4 <= _REACH:
            lines.append(f"V_PAIR(x{m}, x{rest.pop(0)}, xi, {at});")
        else:
            lines.append(f"V_WHOLE(x{m}, xi, {at});")
    if along is not None:
        lines.append(f"V_ALONG(x{along}, xi, {stride});")
    elif stride:
        lines.append(f"V_STEP(xi, {stride});")
    groups = _WORD * vectors
    for group in range(groups):
        j, n = divmod(group, vectors)
        if group % 2 == 0:
            lines.append(f"V_PAIR(w0, w1, wk, {(word * groups + group) * lanes});")
        lines += [f"V_MULTIPLY(a{m}_{n}, w{group % 2}, x{m}, {j});" for m in pixels]
    return lines

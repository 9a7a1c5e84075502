"""The order of loads and multiply-adds for in-order cores that start half a load beside a multiply-add.

Such a core (Cortex-A55) stands still for two cycles at every load of 128 bits. So weights come as two loads
of 64 bits and an insertion, inputs as pairs, each beside a multiply-add that needs neither: the registers of
the next weights and inputs are filled as soon as the last multiply-add has read the old ones. Compilers
move loads to the front of the loop, where nothing runs beside them; hence statements that keep their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from compactir.codegen.lower.tiles import BESIDE_PIXELS, weight_registers

__all__ = ["LEAST_WORDS", "beside"]

LEAST_WORDS = 4
"""With fewer words of four inputs, what comes before the loop is not worth it."""
_WORD = 4


def beside(pixels: Sequence[int], vectors: int, lanes: int, step: int) -> tuple[list[str], list[str]]:
    """C for a loop over words of four inputs: what comes before it, and its body.

    The body reads inputs at `xi` (the first pixel's) and weights at `wk`; those of the next word are at `xn`
    and `wn`. Weights go round in the registers w0, w1, … (`weight_registers` of them).

    Args:
        pixels: the pixels of the tile, as the accumulators number them.
        vectors: output vectors of the panel.
        lanes: floats per vector.
        step: floats from one pixel's inputs to the next one's.
    """
    many, registers = len(pixels) >= BESIDE_PIXELS, weight_registers(len(pixels), vectors)
    groups, last_pixel = _WORD * vectors, pixels[-1]

    def weights(group: int) -> list[str]:
        n, base, at = group % registers, "wn" if group >= groups else "wk", group % groups * lanes
        low, high = f"V_LOW(w{n}, {base}, {at});", f"V_HIGH(h{n}, {base}, {at + lanes // 2});"
        return [low, high, f"V_JOIN(w{n}, h{n});"]

    def pair(m: int, j: int) -> str:
        return f"V_LOW(x{m}, {'xn' if j == _WORD else 'xi'}, {(m - pixels[0]) * step + j % _WORD});"

    before = [line for group in range(registers - 1) for line in weights(group)]
    before += [pair(m, 0) for m in pixels[:-1]]
    # What the end of one round has no time for comes at the beginning of the next.
    left = deque(weights(registers - 1)[:2])
    joins: deque[str] = deque([weights(registers - 1)[2]])
    ready: deque[tuple[int, str]] = deque()
    body, now = [], 0
    if many:
        left.appendleft(pair(last_pixel, 0))
    else:
        body.append(pair(last_pixel, 0))

    def load() -> None:
        body.append(left[0])
        if left.popleft().startswith("V_HIGH"):
            ready.append((now + (3 if many else 2), joins.popleft()))

    for group in range(groups):
        j, n = divmod(group, vectors)
        while any(f"(h{group % registers}," in line for line in left):
            load()
        while any(f"(w{group % registers}," in line for _, line in ready):
            body.append(ready.popleft()[1])
        for m in pixels:
            body.append(f"V_MULTIPLY(a{m}_{n}, w{group % registers}, x{m}, {j % 2});")
            now += 1
            if j % 2 and n == vectors - 1 and not (j == _WORD - 1 and m == last_pixel):
                left.append(pair(m, j + 1))
            if m == last_pixel and group + 1 < groups:
                left.extend(weights(group + registers)[:2])
                joins.append(weights(group + registers)[2])
            for _ in range(1 if many else 3):
                if left:
                    load()
            while ready and ready[0][0] <= now:
                body.append(ready.popleft()[1])
    while left:
        load()
    return before, [*body, *(line for _, line in ready)]

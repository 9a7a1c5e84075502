"""N:M and balanced sparsity: what it is, and why its rows run as dense vectors.

In every run of M weights of a filter N are left. Rows of one length could each gather their own inputs. But
maps lie in blocks of channels, a vector of them per pixel, and there a gathered multiply-add takes `GATHERED`
times as long as one of the dense kernel (measured by benchmarks/bench_sparse.py, docs/sparsity.md), while the
dense kernel executes per vector of L rows at most L times what the rows keep: it skips
what none of them reads.
"""

from __future__ import annotations

import numpy as np

from compactir.ir.channels import divisors
from compactir.ir.types import Array

LANES, GATHERED = 8, 17
"""Of AVX2, the least of all ratios that were measured (AVX-512: 16 lanes, 38 times)."""
MEASURED: dict[tuple[int, int], tuple[float, float]] = {
    (2, 4): (301, 2557),
    (4, 16): (330, 1281),
    (1, 8): (208, 646),
    (1, 16): (133, 323),
    (1, 32): (69, 163),
}
"""(N, M): microseconds dense, gathered; 256 -> 256 channels, 1x1, 14x14 pixels, AVX2, Zen 5, 2026-11-22."""


def regular(live: Array) -> tuple[int, int] | None:
    """(N, M) where in each of several runs of M entries of a row of a mask (O, …) N are set, at most half."""
    rows = live.reshape(len(live), -1)
    for run in divisors(rows.shape[1]):
        counts = np.count_nonzero(rows.reshape(len(rows), -1, run), axis=2)
        if counts.size > 1 and 0 < counts.flat[0] <= run / 2 and (counts == counts.flat[0]).all():
            return int(counts.flat[0]), run
    return None


def choice(live: Array, kept: int, of: int) -> str:
    """Dense or gathered, in words, by executed multiply-adds; `live` is (O, I, kh, kw)."""
    rows = live.reshape(len(live), -1)
    groups = np.array_split(rows, range(LANES, len(rows), LANES))
    dense = sum(LANES * int(np.count_nonzero(group.any(axis=0))) for group in groups)
    gathered = GATHERED * int(np.count_nonzero(rows))
    near = min(MEASURED, key=lambda known: abs(known[0] / known[1] - kept / of))
    times = f"{near[0]} of {near[1]}: {MEASURED[near][0]} us dense, {MEASURED[near][1]} us gathered"
    word = "dense" if dense <= gathered else "dense, for want of a kernel that gathers"
    return (
        f"{kept} of every {of} weights: {word}, {dense:,} multiply-adds per pixel in vectors of {LANES} rows"
        f"; gathered row by row the time of {gathered:,} (measured at {times})"
    )

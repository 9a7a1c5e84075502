"""The loop of multiply-adds as one more runner: what the others are measured against."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from pathlib import Path

    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case

LIBRARY = "libpeak.so"
"""In the case's folder."""
RUN_S = 0.5e-3
"""How long one run of the loop takes, about."""


class Peak(Engine):
    """Not an engine: it runs no network."""

    name = "peak"
    forms = False

    def version(self) -> str:
        """It has none."""
        return ""

    def library_bytes(self, case: Case) -> int:
        """It is not installed."""
        return 0

    def bring(self) -> None:
        """Nothing to import."""

    def load(self, case: Case, form: str, threads: int) -> Loop:
        """The loop, on so many threads."""
        return Loop(case.folder / LIBRARY, threads)


class Loop:
    """`run` takes about `RUN_S`; `rounds` says how many times the loop goes round in it, per thread."""

    def __init__(self, library: Path, threads: int) -> None:
        from compactir.tools.bench.fma import open_loop

        self._loop = open_loop(library)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.rounds = self._calibrated()

    def run(self) -> None:
        if self._pool is None:
            self._one(0)
        else:
            list(self._pool.map(self._one, range(self._threads)))

    def results(self) -> list[Array]:
        return []

    def _one(self, number: int) -> None:
        self._loop(self.rounds, 0.5, 0.5)

    def _calibrated(self) -> int:
        rounds = 1000
        while True:
            start = perf_counter()
            self._loop(rounds, 0.5, 0.5)
            if (took := perf_counter() - start) > RUN_S / 4:
                return max(1, round(rounds * RUN_S / took))
            rounds *= 4

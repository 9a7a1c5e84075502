"""The loop of multiply-adds as one more runner: what the others are measured against."""

from __future__ import annotations

import os
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
"""How long one run of the loop takes on one thread, about."""
CREW_RUN_S = 2e-3
"""And on several: waking them takes tens of microseconds, which belong to no multiply-add."""


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
    """`run` takes about `RUN_S`; `rounds` says how many times the loop goes round in it, per thread.

    Several threads have a core each. Left to the scheduler, two of them shared one for whole races, or one
    thread of a common pool took the work of both, and a peak of half the machine made every share twice as
    large.
    """

    def __init__(self, library: Path, threads: int) -> None:
        from compactir.tools.bench.fma import open_loop

        self._loop = open_loop(library)
        self._crew = [_thread_on(core) for core in _cores(threads)] if threads > 1 else []
        self.rounds = self._calibrated(CREW_RUN_S if self._crew else RUN_S)

    def run(self) -> None:
        if not self._crew:
            self._one()
            return
        for done in [thread.submit(self._one) for thread in self._crew]:
            done.result()

    def results(self) -> list[Array]:
        return []

    def _one(self) -> None:
        self._loop(self.rounds, 0.5, 0.5)

    def _calibrated(self, run_s: float) -> int:
        rounds = 1000
        while True:
            start = perf_counter()
            self._loop(rounds, 0.5, 0.5)
            if (took := perf_counter() - start) > RUN_S / 4:
                return max(1, round(rounds * run_s / took))
            rounds *= 4


def _cores(threads: int) -> list[int]:
    """A core for each thread, of those that this process may use; -1 where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return [-1] * threads
    ours = sorted(os.sched_getaffinity(0))
    return [ours[i % len(ours)] for i in range(threads)]


def _thread_on(core: int) -> ThreadPoolExecutor:
    """A thread that waits for work and stays on a core."""
    if core < 0:
        return ThreadPoolExecutor(1)
    return ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {core}))

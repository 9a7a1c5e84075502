"""What cores could do at most: multiply-adds on registers, reads of memory; built as libraries are here.

The share of this peak is what figures of different days and machines have in common.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from compactir.codegen.c.vocabulary import vocabulary
from compactir.diagnostics import CompactError
from compactir.runtime.build import SHARED, compile_library, find_compiler
from compactir.runtime.cache import content_key, open_cache
from compactir.targets import Target, load_target

__all__ = [
    "CHAINS",
    "Gauge",
    "Loop",
    "build_loop",
    "few_cores",
    "find_gauge",
    "loop_target",
    "open_loop",
    "read_speed",
]

Gauge = Callable[[], float]
"""Measures the peak now: GFLOP/s of all threads together."""

READS = 8
"""Vectors that are read at a time."""
CHAINS = 12
"""Independent sums: two pipes times four to six cycles of latency; they fit into 16 registers."""
LOOPS = 20
"""Runs of the loop each time that the peak is measured: the fastest counts."""
RUN_S = 0.5e-3
"""How long one run of the loop takes on one thread, about."""
CREW_RUN_S = 2e-3
"""And on several: waking them takes tens of microseconds, which belong to no multiply-add."""

_LIBRARY = "libpeak.so"
_SOURCE = """\
/* {chains} independent chains of multiply-adds: nothing to wait for, nothing to read. */
{vocabulary}
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
float peak_loop(long rounds, float w, float x);
float peak_loop(long rounds, float w, float x) {{
  const vf32 a = v_set1(w), b = v_set1(x);
  vf32 {declared};
  for (long i = 0; i < rounds; ++i) {{
{body}
  }}
  return v_sum({total});
}}

/* Reads so many floats (a multiple of {reads} vectors) so many times. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
float read_loop(const float *p, long floats, long rounds);
float read_loop(const float *p, long floats, long rounds) {{
  vf32 {read_declared};
  for (long i = 0; i < rounds; ++i) {{
    for (long at = 0; at < floats; at += {reads} * V_LANES) {{
{read_body}
    }}
    V_BARRIER();
  }}
  return v_sum({read_total});
}}
"""


def find_gauge(target: str, threads: int, cc: str | None = None) -> Gauge | None:
    """What measures the peak for a target's vectors on so many threads.

    Args:
        target: the name of a target that this machine runs.
        threads: how many cores take part.
        cc: the C compiler, by default the one that `find_compiler` finds.

    Returns:
        None where the loop cannot be had: no C compiler, a target that is not known here, fewer cores than
        threads.

    Raises:
        CompactError: of room 5xx, for a `cc` that does not serve.
    """
    if few_cores(threads):
        return None
    try:
        vectors = loop_target(load_target(target))
        loop = Loop(build_loop(vectors, cc), threads)
    except CompactError:
        if cc is not None:
            raise
        return None
    except OSError:  # the cache lies where nothing may be executed
        return None
    work = 2e-9 * CHAINS * vectors.lanes * threads * loop.rounds
    return lambda: work / min(_seconds(loop) for _ in range(LOOPS))


def _seconds(loop: Loop) -> float:
    start = perf_counter()
    loop.run()
    return perf_counter() - start


def loop_target(target: Target) -> Target:
    """Whose vectors the loop takes: for portable code those of this CPU."""
    return target if target.isa != "scalar" else load_target("native")


def source(target: Target) -> str:
    """The C text for the target's vectors."""
    sums = [f"s{i}" for i in range(CHAINS)]
    lanes = f"#define V_LANES {target.lanes}\n" if target.isa == "scalar" else ""
    return _SOURCE.format(
        chains=CHAINS,
        vocabulary=lanes + vocabulary(target.isa),
        declared=", ".join(f"{s} = v_set1({i}.0f)" for i, s in enumerate(sums)),
        body="\n".join(f"    {s} = v_fma({s}, a, b);" for s in sums),
        total=_sum(sums),
        reads=READS,
        read_declared=", ".join(f"{s} = v_zero()" for s in sums[:READS]),
        read_body="\n".join(
            f"      {s} = v_add({s}, v_load(p + at + {i} * V_LANES));" for i, s in enumerate(sums[:READS])
        ),
        read_total=_sum(sums[:READS]),
    )


def _sum(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"v_add({_sum(names[:-1])}, {names[-1]})"


def build_loop(target: Target, cc: str | None = None) -> Path:
    """The library with `peak_loop`, from the cache. Errors: room 5xx."""
    compiler = find_compiler(target, cc)
    text = source(target)
    key = content_key("peak", text, *target.flags(compiler.family), compiler.identity)

    def build(aside: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
            path = Path(folder) / "peak.c"
            path.write_text(text, encoding="utf-8")
            compile_library([path], aside / _LIBRARY, target, compiler, flags=SHARED)

    return open_cache().build(key, build) / _LIBRARY


def open_loop(library: Path) -> Any:
    """`f(rounds, w, x)`; other threads run meanwhile."""
    import ctypes

    loop = ctypes.CDLL(str(library)).peak_loop
    loop.argtypes, loop.restype = (ctypes.c_long, ctypes.c_float, ctypes.c_float), ctypes.c_float
    return loop


def read_speed(library: Path, megabytes: float, seconds: float = 0.05) -> float:
    """How fast this thread reads a buffer of that size again and again: GB/s, the fastest try."""
    import ctypes

    loop = ctypes.CDLL(str(library)).read_loop
    loop.argtypes, loop.restype = (ctypes.c_void_p, ctypes.c_long, ctypes.c_long), ctypes.c_float
    buffer = np.ones(int(megabytes * 1e6 / 4) // 1024 * 1024, np.float32)
    rounds = max(1, round(0.002e11 / buffer.nbytes))
    loop(buffer.ctypes.data, buffer.size, 1)
    best, until = 0.0, perf_counter() + seconds
    while not best or perf_counter() < until:
        start = perf_counter()
        loop(buffer.ctypes.data, buffer.size, rounds)
        best = max(best, rounds * buffer.nbytes / (perf_counter() - start) / 1e9)
    return best


class Loop:
    """`run` takes about `RUN_S`; `rounds` says how many times the loop goes round in it, per thread.

    Several threads have a core each. Left to the scheduler, two of them shared one for whole races, or one
    thread of a common pool took the work of both, and a peak of half the machine made every share twice as
    large.
    """

    def __init__(self, library: Path, threads: int) -> None:
        self._loop = open_loop(library)
        self._crew = [_thread_on(core) for core in _cores(threads)] if threads > 1 else []
        self.rounds = self._calibrated(CREW_RUN_S if self._crew else RUN_S)

    def run(self) -> None:
        """Once on every thread."""
        if not self._crew:
            self._one()
            return
        for done in [thread.submit(self._one) for thread in self._crew]:
            done.result()

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


def few_cores(threads: int) -> str:
    """Why so many threads have no peak, where this process has fewer cores; else nothing."""
    here = len(set(_cores(threads)))
    if here >= threads or min(_cores(threads)) < 0:
        return ""
    return f"{threads} threads on {here} core{'s' * (here > 1)}: there is no peak to take a share of"


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

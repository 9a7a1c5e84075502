"""What one core could do at most: multiply-adds on registers, reads of memory; built as libraries are here.

The share of this peak is what figures of different days and machines have in common.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from compactir.codegen.c.vocabulary import vocabulary
from compactir.runtime.build import SHARED, compile_library, find_compiler
from compactir.runtime.cache import content_key, open_cache
from compactir.targets import Target

__all__ = ["CHAINS", "build_loop", "open_loop", "read_speed"]

READS = 8
"""Vectors that are read at a time."""
CHAINS = 12
"""Independent sums: two pipes times four to six cycles of latency; they fit into 16 registers."""

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

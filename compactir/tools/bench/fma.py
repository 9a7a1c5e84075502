"""What one core could do at most: a loop of multiply-adds on registers, built like any library of ours.

The share of this peak is what figures of different days and machines have in common.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from compactir.codegen.c.vocabulary import vocabulary
from compactir.runtime.build import SHARED, compile_library, find_compiler
from compactir.runtime.cache import content_key, open_cache
from compactir.targets import Target

__all__ = ["CHAINS", "build_loop", "open_loop"]

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
"""


def source(target: Target) -> str:
    """The C text for the target's vectors."""
    sums = [f"s{i}" for i in range(CHAINS)]
    total = sums[0]
    for each in sums[1:]:
        total = f"v_add({total}, {each})"
    lanes = f"#define V_LANES {target.lanes}\n" if target.isa == "scalar" else ""
    return _SOURCE.format(
        chains=CHAINS,
        vocabulary=lanes + vocabulary(target.isa),
        declared=", ".join(f"{s} = v_set1({i}.0f)" for i, s in enumerate(sums)),
        body="\n".join(f"    {s} = v_fma({s}, a, b);" for s in sums),
        total=total,
    )


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

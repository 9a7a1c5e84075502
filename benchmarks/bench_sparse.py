"""N:M sparsity: the dense kernel against rows that gather only what they need, on this CPU.

    python benchmarks/bench_sparse.py [--write docs/sparsity.md] [--target NAME]…

A 1x1 layer whose rows keep N of every M weights. `dense` is the kernel that compactir generates, zeros
included; `gather` is the best loop we could write over the same blocks of channels, each lane with a list of
its own; `planes` works on channel-by-channel maps, pixels in the lanes, without the transpositions that this
would take inside a network (their time stands beside it). All on one thread, minimum of many runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LAYERS = ((64, 28), (256, 14))
"""Channels in and out, pixels a side."""
PATTERNS = ((2, 4), (4, 16), (1, 8), (1, 16), (1, 32))
RUNS = 200
BEGIN, END = "<!-- measured: written by benchmarks/bench_sparse.py -->", "<!-- end -->"


def main() -> None:
    """Measure, print, write."""
    from benchmarks.arguments import a_target
    from compactir.targets import cpu_name, load_target, unsupported

    parser = argparse.ArgumentParser(description="Time dense against gathered N:M layers.")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument(
        "--target", type=a_target, action="append", help="default: the vector targets of this machine"
    )
    options = parser.parse_args()
    names = options.target or ["x86", "x86-avx512", "arm"]
    targets = [t for name in names if not unsupported(t := load_target(name))]
    warnings.simplefilter("ignore")  # that weights are random
    how = f"{cpu_name()}, one thread, {datetime.now(UTC):%Y-%m-%d}, microseconds, minimum of {RUNS} runs."
    lines = [
        f"{how} `×` is over dense.",
        "",
        "| target | channels | pixels | kept | dense | gather | × | planes | transposing |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for target in targets:
        for channels, side in LAYERS:
            for keep, of in PATTERNS:
                dense, gather, planes, there = measure(target, channels, side, keep, of)
                lines.append(
                    f"| `{target.name}` | {channels} | {side}×{side} | {keep} of {of} | {dense:.1f} "
                    f"| {gather:.1f} | {gather / dense:.1f} | {planes:.1f} | {there:.1f} |"
                )
                print(lines[-1], flush=True)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        options.write.write_text(
            f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8"
        )


def measure(target: Any, channels: int, side: int, keep: int, of: int) -> tuple[float, ...]:
    """Microseconds of the dense kernel, of the two gathering loops, and of transposing in and out."""
    pixels = -(-side * side // 64) * 64  # whole tiles for the loops: a little more than the layer has
    lib, ffi = _library(target)
    lanes = lib.lanes()
    rng = np.random.default_rng(0)
    kept = channels // of * keep
    every = np.tile(np.arange(of), (channels, 1))
    runs = [np.sort(rng.permuted(every, axis=1)[:, :keep]) + at for at in range(0, channels, of)]
    lists = np.concatenate(runs, axis=1)
    x, y = (_aligned(channels * pixels + 16) for _ in range(2))
    w = _aligned(channels * kept)
    by_lane = (lists // lanes * pixels * lanes + lists % lanes).reshape(-1, lanes, kept).transpose(0, 2, 1)
    lane_table, plane_table = (np.ascontiguousarray(t, np.int32) for t in (by_lane, lists))

    def pointer(array: Any, kind: str = "float *") -> Any:
        return ffi.cast(kind, array.ctypes.data)

    args = pointer(x), pointer(y), pointer(w)
    gather = _fastest(
        lib, lambda: lib.by_lanes(*args, pointer(lane_table, "int32_t *"), channels // lanes, kept, pixels)
    )
    planes = _fastest(
        lib, lambda: lib.by_planes(*args, pointer(plane_table, "int32_t *"), channels, kept, pixels)
    )
    transpose = 2 * _fastest(lib, lambda: lib.to_planes(args[0], args[1], channels, pixels))
    exact = side * side / pixels
    return _dense(target, channels, side, keep, of), gather * exact, planes * exact, transpose * exact


def _dense(target: Any, channels: int, side: int, keep: int, of: int) -> float:
    """Our kernel on the layer, in a network that has it twice: the second reads and writes blocks."""
    import compactir

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.arch"
        path.write_text(
            f"network layer() {{\n  input x: f32[{channels}, {side}, {side}]\n"
            f"  output y = x -> conv({channels}, kernel=1) as before -> relu\n"
            f"    -> conv({channels}, kernel=1, connect=balanced({keep}, {of})) as sparse -> relu\n"
            f"    -> conv({channels}, kernel=1) as after -> global_avg_pool\n}}\n",
            encoding="utf-8",
        )
        with compactir.compile(path, target=target.name) as module:
            rows = [row for _ in range(5) for row in module.profile(repeats=RUNS // 5).rows]
        return min(row.time_us for row in rows if row.step.name == "sparse")


def _fastest(lib: Any, run: Callable[[], None]) -> float:
    times = []
    for _ in range(RUNS):
        start = lib.now()
        run()
        times.append(lib.now() - start)
    return 1e6 * float(min(times))


def _aligned(floats: int) -> Any:
    whole = np.ones(floats + 16, np.float32)
    start = -whole.ctypes.data % 64 // 4
    return whole[start : start + floats]


def _library(target: Any) -> tuple[Any, Any]:
    """gather.c with the target's flags, through cffi."""
    import cffi

    from compactir.runtime.build import find_compiler

    ffi = cffi.FFI()
    ffi.cdef(
        "int lanes(void); double now(void); void to_planes(const float *, float *, int, int);"
        "void by_lanes(const float *, float *, const float *, const int32_t *, int, int, int);"
        "void by_planes(const float *, float *, const float *, const int32_t *, int, int, int);"
    )
    folder = tempfile.mkdtemp()
    library = Path(folder) / "gather.so"
    build = [*find_compiler(target, None).command, "-O3", *target.cflags, "-shared", "-fPIC"]
    subprocess.run([*build, str(ROOT / "benchmarks/gather.c"), "-o", str(library)], check=True)
    return ffi.dlopen(str(library)), ffi


if __name__ == "__main__":
    main()

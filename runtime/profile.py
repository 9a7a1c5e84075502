"""Where the time of a compiled network goes: every step timed by itself, through NAME_run_steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

from compactir.runtime.manifest import Manifest, Step

__all__ = ["Profile", "Row", "Runner", "fastest", "measure", "minima"]

Runner = Callable[[int, int], int]
"""`f(first, last)` runs the steps [first, last) and returns a status, 0 for fine."""


@dataclass(frozen=True)
class Row:
    """One step and its time."""

    step: Step
    time_us: float
    share: float
    """Of the sum over all steps, 0…1."""

    @property
    def gflops(self) -> float:
        """Billions of multiplications and additions per second: 2 × MACs / time."""
        return 2e-3 * self.step.macs / self.time_us if self.time_us else 0.0

    @property
    def gbytes_per_s(self) -> float:
        """Billions of bytes of inputs, outputs and weights per second."""
        return 1e-3 * self.step.bytes_moved / self.time_us if self.time_us else 0.0


@dataclass(frozen=True)
class Profile:
    """Medians over `repeats` runs. Prints as a table; `to_json` for programs."""

    network: str
    target: str
    repeats: int
    rows: tuple[Row, ...]
    total_us: float
    """One whole run, timed in one piece: less than the sum of the rows where a step finds the cache warm."""
    peak_gflops: float | None = None
    threads: int = 1
    note: str = ""
    """Why there is no peak, where something can be done about it."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(row.step.macs for row in self.rows)

    @property
    def gflops(self) -> float:
        """Of the whole run."""
        return 2e-3 * self.macs / self.total_us if self.total_us else 0.0

    def slowest(self, count: int = 10) -> tuple[Row, ...]:
        """The steps that take longest."""
        return tuple(sorted(self.rows, key=lambda row: -row.time_us)[:count])

    def against(self, peak_gflops: float) -> Profile:
        """The same times with the share of this peak."""
        return replace(self, peak_gflops=peak_gflops)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        rows = [
            {
                "name": row.step.name,
                "nodes": list(row.step.nodes or (row.step.name,)),
                "kernel": row.step.kernel,
                "op": row.step.op,
                "time_us": round(row.time_us, 3),
                "share": round(row.share, 5),
                "gflops": round(row.gflops, 3),
                "macs": row.step.macs,
                "bytes_moved": row.step.bytes_moved,
            }
            for row in self.rows
        ]
        whole = {"total_us": round(self.total_us, 3), "gflops": round(self.gflops, 3), "macs": self.macs}
        return {
            "network": self.network,
            "target": self.target,
            "repeats": self.repeats,
            "threads": self.threads,
            **whole,
            "peak_gflops": self.peak_gflops,
            **({"note": self.note} if self.note else {}),
            "steps": rows,
        }

    def __str__(self) -> str:
        width = max([len(row.step.title) for row in self.rows] + [4])
        kernel = max([len(row.step.kernel) for row in self.rows] + [6])
        head = f"{'step':<{width}}  {'kernel':<{kernel}}  {'µs':>10}  {'share':>6}  {'GFLOP/s':>8}"
        head += f"  {'bytes':>12}"
        lines = [head + ("  of peak" if self.peak_gflops else "")]
        for row in self.rows:
            line = f"{row.step.title:<{width}}  {row.step.kernel:<{kernel}}  {row.time_us:>10.2f}"
            line += f"  {row.share:>6.1%}  {row.gflops:>8.2f}  {row.step.bytes_moved:>12,}"
            lines.append(line + self._of_peak(row.gflops))
        whole = f"whole run: {self.total_us:.2f} µs, {self.gflops:.2f} GFLOP/s{self._of_peak(self.gflops)}"
        on = f", {self.threads} threads" if self.threads > 1 else ""
        if self.peak_gflops:
            whole += f" of {self.peak_gflops:.4g}"
        note = [f"note: {self.note}"] if self.note else []
        return "\n".join([*lines, f"{whole} (median of {self.repeats}{on})", *note])

    def _of_peak(self, gflops: float) -> str:
        return f"  {gflops / self.peak_gflops:>7.1%}" if self.peak_gflops else ""


def measure(
    manifest: Manifest,
    run: Runner,
    repeats: int,
    warmup: int,
    peak_gflops: float | None,
    threads: int = 1,
) -> Profile:
    """Time each step `repeats` times, in the order of the network so that the caches are as in earnest."""
    count = len(manifest.steps)
    repeats = max(repeats, 1)
    for _ in range(warmup):
        run(0, count)
    whole = median(_time_us(run, 0, count) for _ in range(repeats))
    empty = min(_time_us(run, 0, 0) for _ in range(50))  # what calling costs, without any work
    runs = [[_time_us(run, i, i + 1) for i in range(count)] for _ in range(repeats)]
    times = [max(median(column) - empty, 0.0) for column in zip(*runs, strict=True)]
    total = sum(times) or 1.0
    rows = tuple(Row(step, t, t / total) for step, t in zip(manifest.steps, times, strict=True))
    whole = max(whole - empty, 0.0)
    return Profile(manifest.network, manifest.target, repeats, rows, whole, peak_gflops, threads)


def minima(runners: Sequence[Runner], count: int, rounds: int) -> list[list[float]]:
    """The fastest time of every step in µs, for each of several forms of a network, which take turns."""
    best = [[float("inf")] * count for _ in runners]
    for _ in range(rounds):
        for run, times in zip(runners, best, strict=True):
            for i in range(count):
                times[i] = min(times[i], _time_us(run, i, i + 1))
    return best


def fastest(runners: Sequence[Runner], count: int, rounds: int) -> list[float]:
    """The fastest time of the whole network in µs, for each of several forms, which take turns."""
    best = [float("inf")] * len(runners)
    for _ in range(rounds):
        for i, run in enumerate(runners):
            run(0, count)
            best[i] = min(best[i], _time_us(run, 0, count))
    return best


def median(numbers: Iterable[float]) -> float:
    """The middle one, or the mean of the two in the middle; the module `statistics` takes 3 ms to import."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _time_us(run: Runner, first: int, last: int) -> float:
    start = perf_counter_ns()
    run(first, last)
    return (perf_counter_ns() - start) / 1000

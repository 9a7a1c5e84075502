"""The charts of docs/performance.md: ratios as bars, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.performance_page import OURS, best_of, entry_of
from compactir.tools.bench.figures import BUSY_CORES

RATIOS, ROOFLINE = "performance-ratios.svg", "performance-roofline.svg"


def draw(known: Mapping[str, Any], titles: Mapping[str, str], folder: Path) -> list[str]:
    """Write both charts; the same figures give the same files. Returns the files' names."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "compactir", "svg.fonttype": "none", "font.size": 9})
    races = {titles[key]: known["races"][key] for key in titles}
    preliminary = any(race["circumstances"]["others"] > BUSY_CORES for race in races.values())
    _save(_ratios(races, preliminary), folder / RATIOS)
    _save(_roofline(races, known["reads"], preliminary), folder / ROOFLINE)
    return [RATIOS, ROOFLINE]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def _title(text: str, preliminary: bool) -> str:
    return text + (" (preliminary: busy machine)" if preliminary else "")


def _ratios(races: Mapping[str, Any], preliminary: bool) -> Any:
    """How many times as long as ours the best engine of each network takes."""
    rows = [(title, best) for title, race in races.items() if (best := best_of(race))]
    figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(rows) + 1))
    for at, (_, best) in enumerate(rows):
        ratio = best["ratio"]["minimum"]
        axes.barh(at, ratio, color="#2f7ebc" if ratio >= 1 else "#c0504d")
        axes.text(ratio + 0.02, at, f"{ratio:.2f}  {best['engine']}", va="center")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [title for title, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max((best["ratio"]["minimum"] for _, best in rows), default=1))
    axes.set_xlabel("time of the best engine / time of compactir (fastest runs, one thread)")
    axes.set_title(_title("The best engine of each network against compactir", preliminary))
    return figure


def _roofline(races: Mapping[str, Any], reads: Mapping[str, float], preliminary: bool) -> Any:
    """Speed over operations per byte that our kernels move."""
    figure, axes = plt.subplots(figsize=(7.5, 5))
    peak = max(race["peak"]["best"] for race in races.values())
    _roofs(axes, peak, reads)
    for title, race in races.items():
        work, ours, best = 2 * race["macs"], entry_of(race, OURS), best_of(race)
        x = work / race["bytes_moved"]
        marks = ((ours, "o", "#2f7ebc", "compactir"), (best, "x", "#c0504d", "best engine"))
        for entry, marker, color, label in marks:
            if entry:
                speed = work / entry["times"]["minimum_ms"] / 1e6
                axes.plot(x, speed, marker, color=color, label=label, markersize=5)
                if entry is ours:
                    axes.annotate(title, (x, speed), (3, 4), textcoords="offset points", fontsize=6.5)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), loc="lower right")
    axes.set_xlabel("operations per byte moved by the kernels (inputs, outputs, weights)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(_title("Roofline of one core", preliminary))
    return figure


def _roofs(axes: Axes, peak: float, reads: Mapping[str, float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    left, right = 1.0, 128.0
    axes.hlines(peak, left, right, color="black", linewidth=1)
    axes.text(left, peak * 1.05, f"{peak:.0f} GFLOP/s multiply-adds", fontsize=7)
    for size, speed in reads.items():
        axes.plot([left, peak / speed], [left * speed, peak], color="gray", linewidth=0.8)
        axes.text(left, left * speed * 1.08, f"{speed:.0f} GB/s reading {size} MB", fontsize=7, color="gray")
    axes.set_xlim(left, right)

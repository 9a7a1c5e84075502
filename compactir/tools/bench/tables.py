"""The figures of a race for people: two tables, and what has to be known to read them."""

from __future__ import annotations

from compactir.tools import terminal
from compactir.tools.bench import figures
from compactir.tools.bench.engines import OURS
from compactir.tools.bench.figures import Entry, Result

__all__ = ["print_result", "remarks"]


def print_result(result: Result) -> None:
    """Speed, start-up, remarks."""
    what = f"{result.network} for {result.target}, batch {result.batch}, {result.macs:,} MACs"
    count = f"{result.threads} thread" + "s" * (result.threads > 1)
    held = f", engines held to {result.held}" if result.held else ""
    terminal.table(f"{what}: {count}, float32{held}", *_speed(result))
    if any(entry.forms for entry in result.entries):
        terminal.table("fastest runs in every form, ms", *_forms(result))
    terminal.table("start-up and size", *_startup(result))
    for line in remarks(result):
        print(line)


def _speed(result: Result) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    columns = ("engine", "form", "min ms>", "median ms>", "ratio min>", "ratio median>", "of peak>", "known>")
    rows: list[tuple[object, ...]] = []
    for entry in result.timed:
        assert entry.times, "timed has only those"
        share, off = result.share(entry), result.off(entry)
        known = "" if off is None else f"{off:+.0%}" + " !" * result.is_far(entry)
        ratios = [_ratio(result.ratio(entry, median)) for median in (False, True)]
        times = (f"{entry.times.minimum_ms:.4g}", f"{entry.times.median_ms:.4g}")
        rows.append((entry.engine, entry.form, *times, *ratios, f"{share:.1%}" if share else "", known))
    return columns, rows


def _forms(result: Result) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    names = list(dict.fromkeys(it.form for entry in result.entries for it in entry.forms))
    rows: list[tuple[object, ...]] = []
    for entry in result.entries:
        found = {it.form: f"{it.times.minimum_ms:.4g}" if it.times else it.state for it in entry.forms}
        if found:
            rows.append((entry.engine, *(found.get(name, "") for name in names)))
    return ("engine", *(f"{name}>" for name in names)), rows


def _startup(result: Result) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    columns = (
        "engine", "version", "import ms>", "load ms>", "first run ms>",
        "peak RSS MB>", "above Python MB>", "library KB>",
    )  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for entry in result.timed:
        start = entry.start
        assert start, "whoever is timed has started"
        spans = (start.import_ms, start.load_ms, start.first_ms)
        memory = (start.peak_bytes, start.peak_bytes - start.baseline_bytes)
        name = "" if entry.engine == OURS else entry.version
        sizes = (*(f"{b / 1e6:.1f}" for b in memory), f"{entry.library_bytes / 1e3:,.0f}")
        rows.append((entry.engine, name, *(f"{t:.1f}" for t in spans), *sizes))
    return columns, rows


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def remarks(result: Result) -> list[str]:
    """What is left to say, a sentence each."""
    it, peak = result.circumstances, result.peak
    lines = [f"{entry.engine}: {entry.note}" for entry in result.entries if entry.note]
    lines += [
        f"{entry.engine}, {it.form}: {it.note}"
        for entry in result.entries
        for it in entry.forms
        if it.note and entry.state == figures.TIMED
    ]
    lines += [line for entry in result.timed for line in _doubts(result, entry)]
    lines.append(
        f"peak: {peak.best:.4g} GFLOP/s (median {peak.median:.4g}), "
        f"a loop of {peak.isa} multiply-adds in the same race"
    )
    where = f"core{'s' * (len(it.pinned) > 1)} {', '.join(map(str, it.pinned))} of {it.cores}"
    lines.append(
        f"{it.date}, {it.cpu}, {where}; load average {it.load_average:.2f} before, "
        f"others kept {it.others:.2f} cores busy meanwhile"
    )
    if not it.quiet:
        lines.append(
            "preliminary: the machine had other work; ratios of minima are what can be used, with care"
        )
    return lines


def _doubts(result: Result, entry: Entry) -> list[str]:
    doubts = []
    if entry.times and not entry.times.trusted:
        doubts.append(f"{entry.engine}: fewer than {figures.ENOUGH} runs were undisturbed, all of them count")
    if result.is_far(entry):
        off = result.off(entry) or 0.0
        how = "slower" if off < 0 else "faster"
        doubts.append(
            f"{entry.engine}: {abs(off):.0%} {how} (as a share of the peak) than it is known to be here: "
            "is it driven as before, was the machine busy?"
        )
    return doubts

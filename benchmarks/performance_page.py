"""docs/performance.md from the figures of bench_engines.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from typing import Any

from compactir.tools.bench.figures import BUSY_CORES, FAR

OURS, PADDED = "compactir", "padded"
Race = Mapping[str, Any]

HEAD = """\
# Performance

Other engines against compactir: float32, batch 1, one thread, the same weights (through our own exports) and
the same input for everybody. `make bench` measures it anew and writes this page; `compactc bench MODEL` does
it for one network. An engine is only timed if its output agrees with the reference executor, max|a − b| ≤
1e-4 · max|reference|, before and after. Engines run in turns on one core, each in a process of its own. How
to read the figures: [benchmarks/README.md](../benchmarks/README.md).
"""
PRELIMINARY = """\
**These figures are preliminary.** The machine had other work while they were taken (load average {load},
others kept {others} of its {cores} cores busy). Such work slows engines unequally, so that neither the times
nor the ratios below are those of an idle machine: they show that the table can be made, and little more.
"""
SPEED = """\
## Speed

Fastest run (and median) of compactir in milliseconds, its share of the multiply-add peak, and how many times
as long each engine's fastest run took (in brackets by medians). Bold: the best engine. `!-20%`: its share of
the peak is more than 15 % off the one it is known to reach on such a core, and by how much. A slower engine
makes our ratio doubtful (was the machine busy, was the engine driven badly?); a faster one does not.

A race with an engine slower than that, with others on the machine, or with a peak as far below the best of
the table, **does not count**: †. The means are given of all races and of those that count.
"""
TWO = """\
## Two threads

The same on two cores; the peak is that of both.
"""
AVX2 = """\
## AVX2

The same on one thread with our target `x86`, and with the engines held to AVX2 that can be; the peak is that
of 256-bit multiply-adds. A share above 100 % is Winograd's: fewer multiplications than the graph counts.
"""
UNKNOWN = """\
Nobody wrote down yet what shares of the peak these engines reach here: only other work on the machine, or a
low peak, keeps a race of this table from counting. An engine that was driven badly would not show.
"""
STARTS = """\
## Start-up, memory, size: {title}

Medians of several processes. Memory is the most that a process had after its first run; in brackets, what of
it is above Python with numpy. The library is ours without weights, and an engine's package on disk.
"""
FORMS = """\
## Every form

Uneven groups, tables, indices and masks are no operations of the engines. Each engine runs in every form of
such a network, in turns in the same race, and the fastest is its time above. Milliseconds, and in brackets
how many times as long as ours.

* `written`: uneven groups as slices, convolutions and a concat; an index as a gather; a table as a gather,
  grouped convolutions and a concat
* `slices`: every index as slices and a concat
* `padded`: zeros where there are no links; the dense convolution (or depthwise one with the largest kernel)
"""
REMARKS = """\
## Not timed
"""


def page(known: Mapping[str, Any], titles: Mapping[str, str], charts: Sequence[str]) -> str:
    """The whole page. `titles`: key of a race → how the network is called; `charts`: file names."""
    races: dict[str, Race] = {key: known["races"][key] for key in titles}
    parts = [HEAD, *_warning(races), *_circumstances(races), *_speed(races, titles)]
    parts += [f"![{_alt(chart)}]({chart})\n" for chart in charts]
    pairs: dict[str, Race] = known.get("races of two threads", {})
    if pairs:
        parts += [TWO, *_warning(pairs), *_table(pairs, titles)]
    narrow: dict[str, Race] = known.get("races of avx2", {})
    if narrow:
        parts += [AVX2, *_held(narrow), *_warning(narrow), *_table(narrow, titles)]
    parts += [*_forms(races, titles), *_starts(races, titles), *_remarks(races, titles), *_settings(races)]
    return "\n".join(parts)


def _held(races: Mapping[str, Race]) -> Iterator[str]:
    """How engines were held, and which cannot be."""
    from compactir.tools.bench.engines import engine

    for name in _engines(races):
        held = engine(name).held.get("avx2")
        words = " ".join(f"`{key}={value}`" for key, value in (held or {}).items())
        if held is None:
            yield f"* {name}: not here. Nothing holds it to AVX2, it takes the best kernels of the processor"
        else:
            yield f"* {name}: {words or 'has no kernels beyond AVX2'}"
    peaks = [race["peak"]["best"] for race in races.values()]
    yield f"\nPeak: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s.\n"


def _alt(chart: str) -> str:
    return chart.removesuffix(".svg").replace("performance-", "").replace("-", " ")


def _warning(races: Mapping[str, Race]) -> Iterator[str]:
    seen = [race["circumstances"] for race in races.values()]
    if all(it["others"] <= BUSY_CORES for it in seen):
        return
    loads, others = ([it[key] for it in seen] for key in ("load_average", "others"))
    yield PRELIMINARY.format(load=_range(loads), others=_range(others), cores=seen[0]["cores"])


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def _circumstances(races: Mapping[str, Race]) -> Iterator[str]:
    seen = [race["circumstances"] for race in races.values()]
    last, peaks = seen[-1], [race["peak"]["best"] for race in races.values()]
    yield "| | |\n|---|---|"
    rows = {
        "date": ", ".join(sorted({it["date"] for it in seen})),
        "machine": f"{last['cpu']}, {last['cores']} cores, pinned to core {last['pinned'][0]}",
        "target": ", ".join(sorted({race["target"] for race in races.values()})),
        "compiler": f"{last['compiler']}, `{' '.join(last['flags'])}`",
        "load average before each race": _range([it["load_average"] for it in seen]),
        "cores that others kept busy meanwhile": _range([it["others"] for it in seen]),
        "multiply-add peak, GFLOP/s": f"{min(peaks):.0f} to {max(peaks):.0f}, a loop in every race",
        "turns of everybody": _range([float(it["rounds"]) for it in seen]).removesuffix(".0"),
        "Python": last["python"],
        "engines": ", ".join(f"{name} {version}" for name, version in _versions(races).items()),
    }
    for key, value in rows.items():
        yield f"| {key} | {value} |"
    yield ""


def _versions(races: Mapping[str, Race]) -> dict[str, str]:
    entries = [e for race in races.values() for e in race["entries"] if e["version"] and e["engine"] != OURS]
    return {e["engine"]: e["version"] for e in entries}


def _engines(races: Mapping[str, Race]) -> list[str]:
    names = [e["engine"] for race in races.values() for e in race["entries"] if e["engine"] != OURS]
    return list(dict.fromkeys(names))


def entry_of(race: Race, engine: str) -> Mapping[str, Any] | None:
    """The part of an engine, if it was timed."""
    return next((e for e in race["entries"] if e["engine"] == engine and e["times"]), None)


def best_of(race: Race) -> Mapping[str, Any] | None:
    """The fastest engine that is not ours, by the minimum."""
    timed = [e for e in race["entries"] if e["times"] and e["engine"] != OURS]
    return min(timed, key=lambda e: e["times"]["minimum_ms"], default=None)


def counts(race: Race, races: Mapping[str, Race]) -> bool:
    """Whether nobody else kept the machine busy, and every engine was about as fast as it is known to be.

    Nor does a race count whose loop of multiply-adds was far slower than that of the others of its table.
    """
    peak = max(other["peak"]["best"] for other in races.values())
    if race["peak"]["best"] < (1 - FAR) * peak:
        return False
    off = [e["off_known_share"] for e in race["entries"] if e["times"]]
    return race["circumstances"]["others"] <= BUSY_CORES and not any(o and o < -FAR for o in off)


# -- tables --------------------------------------------------------------------------------------------------


def _speed(races: Mapping[str, Race], titles: Mapping[str, str]) -> Iterator[str]:
    yield SPEED
    yield from _table(races, titles)


def _table(races: Mapping[str, Race], titles: Mapping[str, str]) -> Iterator[str]:
    engines = [name for name in _engines(races) if any(entry_of(race, name) for race in races.values())]
    yield f"| network | MMAC | compactir, ms | of peak | {' | '.join(engines)} |"
    yield f"|---|---|---|---|{'---|' * len(engines)}"
    for key in (key for key in titles if key in races):
        race = races[key]
        ours, best = entry_of(race, OURS), best_of(race)
        times = _times(ours) if ours else "–"
        share = f"{ours['share_of_peak']:.0%}" if ours else ""
        cells = [_ratio_cell(race, name, best) for name in engines]
        title = titles[key] + ("" if counts(race, races) else " †")
        yield f"| {title} | {_short(race['macs'] / 1e6)} | {times} | {share} | {' | '.join(cells)} |"
    for name, median in (("geometric mean", False), ("geometric mean, medians", True)):
        means = [_mean(races, engine, median) for engine in engines]
        yield f"| {name} | | | | {' | '.join(means)} |"
    every = _geometric([r for race in races.values() if (r := _best_ratio(race))])
    yield f"\nAgainst the best engine of each network, by fastest runs: geometric mean {every}"
    counted = _geometric([r for race in races.values() if counts(race, races) and (r := _best_ratio(race))])
    yield f"of all races, {counted or 'none'} of those that count.\n"
    if all(e["off_known_share"] is None for race in races.values() for e in race["entries"]):
        yield UNKNOWN


def _short(number: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _times(entry: Mapping[str, Any]) -> str:
    times = entry["times"]
    return f"{_short(times['minimum_ms'])} ({_short(times['median_ms'])})"


def _ratio_cell(race: Race, engine: str, best: Mapping[str, Any] | None) -> str:
    entry = next((e for e in race["entries"] if e["engine"] == engine), None)
    if not entry or not entry["times"]:
        return entry["state"] if entry else ""
    ratio = entry["ratio"]
    if ratio["minimum"] is None:
        return _times(entry)
    text = f"{ratio['minimum']:.2f} ({ratio['median']:.2f})"
    return (f"**{text}**" if entry is best else text) + _mark(entry)


def _mark(entry: Mapping[str, Any]) -> str:
    off = entry["off_known_share"]
    return f" !{off:+.0%}" if off is not None and abs(off) > FAR else ""


def _best_ratio(race: Race) -> float | None:
    best = best_of(race)
    return best["ratio"]["minimum"] if best else None


def _mean(races: Mapping[str, Race], engine: str, median: bool) -> str:
    key = "median" if median else "minimum"
    entries = [entry_of(race, engine) for race in races.values()]
    return _geometric([e["ratio"][key] for e in entries if e and e["ratio"][key]])


def _geometric(ratios: Sequence[float]) -> str:
    return f"{exp(sum(map(log, ratios)) / len(ratios)):.2f} (of {len(ratios)})" if ratios else ""


def _starts(races: Mapping[str, Race], titles: Mapping[str, str]) -> Iterator[str]:
    key = "mobilenet_v2" if "mobilenet_v2" in races else next(iter(races))
    yield STARTS.format(title=titles[key])
    yield "| engine | import, ms | load, ms | first run, ms | peak memory, MB | library, MB |"
    yield "|---|---|---|---|---|---|"
    for entry in races[key]["entries"]:
        if start := entry["start"]:
            spans = " | ".join(f"{start[k]:.1f}" for k in ("import_ms", "load_ms", "first_ms"))
            most, above = start["peak_bytes"] / 1e6, (start["peak_bytes"] - start["baseline_bytes"]) / 1e6
            size = entry["library_bytes"] / 1e6
            yield f"| {entry['engine']} | {spans} | {most:.0f} ({above:.0f}) | {_short(size)} |"
    yield ""


def _forms(races: Mapping[str, Race], titles: Mapping[str, str]) -> Iterator[str]:
    several = {key: race for key, race in races.items() if any(e.get("forms") for e in race["entries"])}
    if not several:
        return
    yield FORMS
    tried = [form["form"] for race in several.values() for e in race["entries"] for form in e["forms"]]
    names = list(dict.fromkeys(tried))
    yield f"| network, engine | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    for key, race in several.items():
        for entry in race["entries"]:
            cells = {form["form"]: _form_cell(form, entry_of(race, OURS)) for form in entry["forms"]}
            if cells:
                row = " | ".join(cells.get(name, "") for name in names)
                yield f"| {titles[key]}, {entry['engine']} | {row} |"
    yield ""
    for key, race in several.items():
        yield from _best_forms(titles[key], race)
    yield from _dense_lenet(races)
    yield ""


def _form_cell(form: Mapping[str, Any], ours: Mapping[str, Any] | None) -> str:
    if not form["times"]:
        return str(form["state"])
    least = form["times"]["minimum_ms"]
    return f"{least:.3g}" + (f" ({least / ours['times']['minimum_ms']:.2f})" if ours else "")


def _best_forms(title: str, race: Race) -> Iterator[str]:
    """The best engine with links as they are, and with zeros."""
    ours = entry_of(race, OURS)
    ran = [(form, e["engine"]) for e in race["entries"] for form in e["forms"] if form["times"]]
    sparse = [it for it in ran if it[0]["form"] != PADDED]
    padded = [it for it in ran if it[0]["form"] == PADDED]
    parts = []
    for name, group in (("without zeros", sparse), ("padded with zeros", padded)):
        if ours and group:
            form, engine = min(group, key=lambda it: it[0]["times"]["minimum_ms"])
            ratio = form["times"]["minimum_ms"] / ours["times"]["minimum_ms"]
            parts.append(f"the best engine {name} takes {ratio:.2f} times as long as ours ({engine})")
    if parts:
        yield f"* {title}: {'; '.join(parts)}"


def _dense_lenet(races: Mapping[str, Race]) -> Iterator[str]:
    """The best engine's dense network beside our sparse one: two races of the same run."""
    if {"lenet5_table", "lenet5_dense"} <= races.keys():
        ours, best = entry_of(races["lenet5_table"], OURS), best_of(races["lenet5_dense"])
        if ours and best:
            ratio = best["times"]["minimum_ms"] / ours["times"]["minimum_ms"]
            yield (
                f"* LeNet-5: the best engine on the *dense* network takes {ratio:.2f} times as long as ours "
                f"with the table ({best['engine']})"
            )


def _remarks(races: Mapping[str, Race], titles: Mapping[str, str]) -> Iterator[str]:
    lines = [line for key, race in races.items() for line in _remarks_of(titles[key], race)]
    if lines:
        yield REMARKS
        yield from lines
        yield ""


def _remarks_of(title: str, race: Race) -> Iterator[str]:
    for entry in race["entries"]:
        if entry["state"] != "timed":
            yield f"* {title}, {entry['engine']}: {_plain(entry['note'])}"
            continue
        for form in entry.get("forms", ()):
            if form["state"] != "timed":
                yield f"* {title}, {entry['engine']}, form `{form['form']}`: {_plain(form['note'])}"
        if entry["times"] and not entry["times"]["trusted"]:
            yield f"* {title}, {entry['engine']}: the core was taken from it in nearly every run"


def _plain(note: str) -> str:
    """Nothing that a page would take for a table or a tag."""
    return note.replace("|", "/").replace("<", "(").replace(">", ")")


def _settings(races: Mapping[str, Race]) -> Iterator[str]:
    yield "## How each engine is driven\n"
    found = {e["engine"]: e["settings"] for race in races.values() for e in race["entries"] if e["settings"]}
    yield from (f"* {engine}: {settings}" for engine, settings in found.items())
    yield ""

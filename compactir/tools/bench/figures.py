"""What came out of a race: times, ratios, shares of the peak, start-up, memory, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from compactir.tools.bench.engines import OURS
from compactir.tools.bench.known import known_share
from compactir.tools.bench.worker import Start, Turn

__all__ = ["Circumstances", "Entry", "FormTimes", "Peak", "Result", "Times"]

ENOUGH = 5
"""With fewer undisturbed runs than this, the disturbed ones count too, and the figures say so."""
FAR = 0.15
"""A share of the peak that is further than this from the known one says that something is not as it was."""
BUSY_CORES = 0.25
"""Above it, figures are preliminary: cores that others kept busy in the race. (The load average before it is
that of the race before as well, where races follow each other.)"""

TIMED, WRONG, FAILED, MISSING, UNFIT = "timed", "wrong", "failed", "missing", "unfit"


@dataclass(frozen=True)
class Times:
    """Of one runner, over all its turns."""

    minimum_ms: float
    median_ms: float
    runs: int
    disturbed: int
    """Runs in which the system gave the core to somebody else; not counted where enough others are left."""
    trusted: bool
    in_loops: float
    """The fastest run of a turn, in runs of the loop of multiply-adds just before and after it: the median of
    all turns. Clocks change within a race, by a tenth and more; the loop beside a turn has its clock."""

    @classmethod
    def of(cls, turns: Sequence[Turn], loops_ns: Sequence[float]) -> Times:
        """From the runs of all turns, and for each turn the fastest run of the loop beside it."""
        clean = [ns for turn in turns for ns in turn.clean]
        disturbed = [ns for turn in turns for ns in turn.disturbed]
        trusted = len(clean) >= ENOUGH
        counted = sorted(clean if trusted else clean + disturbed)
        middle = (counted[(len(counted) - 1) // 2] + counted[len(counted) // 2]) / 2
        fastest = [min(turn.clean or turn.disturbed) for turn in turns]
        in_loops = median(own / loop for own, loop in zip(fastest, loops_ns, strict=True))
        return cls(counted[0] / 1e6, middle / 1e6, len(counted), len(disturbed), trusted, in_loops)


@dataclass(frozen=True)
class Peak:
    """What the multiply-add loop reached in the same race, GFLOP/s of all threads together."""

    best: float
    median: float
    isa: str
    run_flop: float
    """Operations of one run of the loop, of all threads."""


@dataclass(frozen=True)
class FormTimes:
    """One engine on the network in one form."""

    form: str
    state: str
    note: str = ""
    times: Times | None = None


@dataclass(frozen=True)
class Entry:
    """One engine's part, in its fastest form."""

    engine: str
    version: str
    state: str
    """timed; wrong: its outputs differ, it was not timed; failed; missing: not installed; unfit."""
    note: str = ""
    form: str = ""
    error: float | None = None
    """max|output - reference| / max|reference|, the worst output."""
    start: Start | None = None
    times: Times | None = None
    library_bytes: int = 0
    threads: int = 1
    settings: str = ""
    forms: tuple[FormTimes, ...] = ()
    """Every form that it tried, this one too; empty where the network has one only."""

    @property
    def wrong(self) -> bool:
        """Whether an output was wrong, in this form or in another."""
        return WRONG in (self.state, *(form.state for form in self.forms))


@dataclass(frozen=True)
class Circumstances:
    """Without which no figure says anything."""

    date: str
    cpu: str
    cores: int
    pinned: tuple[int, ...]
    load_average: float
    """Of the minute before the race."""
    others: float
    """Cores that other processes kept busy during the race, on average."""
    compiler: str
    flags: tuple[str, ...]
    python: str
    rounds: int

    @property
    def quiet(self) -> bool:
        """Whether the machine was this race's own."""
        return self.others <= BUSY_CORES


@dataclass(frozen=True)
class Result:
    """One race."""

    network: str
    target: str
    batch: int
    macs: int
    bytes_moved: int
    """Inputs, outputs and weights of all our kernels: what the network's operations are spread over."""
    threads: int
    peak: Peak
    entries: tuple[Entry, ...]
    circumstances: Circumstances
    held: str = ""
    """The instruction set that engines were held to, "" where they took what they liked."""

    def entry(self, engine: str) -> Entry | None:
        """The part of one engine."""
        return next((e for e in self.entries if e.engine == engine), None)

    @property
    def timed(self) -> tuple[Entry, ...]:
        """Who ran, fastest first."""
        ran = [e for e in self.entries if e.times]
        return tuple(sorted(ran, key=lambda e: e.times.minimum_ms if e.times else 0.0))

    @property
    def best(self) -> Entry | None:
        """The fastest engine that is not ours."""
        return next((e for e in self.timed if e.engine != OURS), None)

    def ratio(self, entry: Entry, median: bool = False) -> float | None:
        """How many times as long as ours it takes, by the minima or the medians."""
        ours = self.entry(OURS)
        if not entry.times or not ours or not ours.times:
            return None
        if median:
            return entry.times.median_ms / ours.times.median_ms
        return entry.times.minimum_ms / ours.times.minimum_ms

    def share(self, entry: Entry) -> float | None:
        """Of the peak, 0…1: useful operations of the network over those that the loop does meanwhile."""
        if not entry.times:
            return None
        return 2 * self.macs / (entry.times.in_loops * self.peak.run_flop)

    def off(self, entry: Entry) -> float | None:
        """How far its share is from the one it reached before, as a fraction; None where none is known."""
        share = self.share(entry)
        known = known_share(self.network, self.macs, entry.engine, self.threads, self.peak.isa)
        return share / known - 1 if share is not None and known else None

    def is_far(self, entry: Entry) -> bool:
        """Whether that is further than `FAR`."""
        off = self.off(entry)
        return off is not None and abs(off) > FAR

    def to_json(self) -> dict[str, Any]:
        """For programs; `ratio` is to ours, by minima and by medians."""
        data = asdict(self)
        for row, entry in zip(data["entries"], self.entries, strict=True):
            row["ratio"] = {"minimum": self.ratio(entry), "median": self.ratio(entry, median=True)}
            row["share_of_peak"] = self.share(entry)
            row["off_known_share"] = self.off(entry)
        data["circumstances"]["quiet"] = self.circumstances.quiet
        return data

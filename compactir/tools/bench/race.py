"""Starts a process per engine, refuses whose outputs differ, lets the others run in turns on one core."""

from __future__ import annotations

import datetime
import json
import os
import platform
import random
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median, median_low
from typing import IO, Any

import compactir
from compactir.runtime.peak import CHAINS
from compactir.targets import Target, cpu_name
from compactir.tools.bench import figures
from compactir.tools.bench.case import Case, read_results
from compactir.tools.bench.engines import OURS, PEAK, Engine, engine
from compactir.tools.bench.figures import Circumstances, Entry, FormTimes, Peak, Result, Times
from compactir.tools.bench.worker import Start, Turn, results_file
from compactir.tools.verify import TOLERANCE, compare

__all__ = ["Record", "Settings", "race"]

Say = Callable[[str], None]

PATIENCE_S = 900.0
"""How long a conversion, or loading, may take."""
SETTLE = 3
"""Turns before the race, for engines that compile or tune themselves in their first runs."""
LOOP_S = 0.005
"""How long the loop of multiply-adds runs before every turn, and after the last one of a round."""
WARMUP = 0.15
"""Share of a turn that is not measured: another engine's weights are in the cache when it begins."""


@dataclass(frozen=True)
class Settings:
    """How a race is run."""

    threads: int = 1
    rounds: int = 20
    turn_s: float = 0.05
    """How long one turn of one engine takes; at least three runs."""
    starts: int = 3
    """How many processes are started to see how long that takes; medians are given."""
    cores: tuple[int, ...] = ()
    """Where everything runs; by default the last ones that this process may use."""
    isa: str = ""
    """What engines are held to; those that nothing holds do not take part."""

    def pinned(self) -> tuple[int, ...]:
        """The cores, as many as there are threads."""
        if self.cores:
            return self.cores
        return tuple(sorted(os.sched_getaffinity(0))[-self.threads :])


class EngineError(Exception):
    """An engine's process ended, or said what went wrong."""


class Process:
    """A worker that has loaded its network and waits for turns."""

    def __init__(self, case: Case, runner: Engine, form: str, settings: Settings) -> None:
        self.engine, self.form, self.case = runner, form, case
        order = {"do": "race", "threads": settings.threads, "cores": settings.pinned()}
        order["isa"] = settings.isa
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # `close` does
        self._process = _spawn(case, runner, form, order, self._said)
        self.cpu_ns = 0
        try:
            self.start = Start(**self._answer())
        except BaseException:
            self.close()
            raise

    def turn(self, seconds: float, keep: bool = False) -> Turn:
        """Let it run for a while."""
        question = {"seconds": seconds, "warmup": WARMUP * seconds, "keep": keep}
        assert self._process.stdin, "opened as a pipe"
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineError(self._last_words()) from None
        turn = Turn(**self._answer())
        self.cpu_ns += turn.cpu_ns
        return turn

    def error(self) -> float:
        """max|output - reference| / max|reference|, the worst output; infinite where NaN stands elsewhere."""
        pairs = zip(
            self.case.outputs,
            read_results(results_file(self.case.folder, self.engine.name, self.form), self.case),
            self.case.expected(),
            strict=True,
        )
        found = [compare(t.name, actual, expected) for t, actual, expected in pairs]
        return max(c.relative if c.same_specials else float("inf") for c in found)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin, "opened as a pipe"
        try:
            self._process.stdin.close()
            self._process.wait(timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        assert self._process.stdout, "opened as a pipe"
        self._process.stdout.close()
        self._said.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout, "opened as a pipe"
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            why = self._last_words() if ready else f"it says nothing for {PATIENCE_S:.0f} s"
            self._process.kill()
            raise EngineError(why)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        return _reason(self._said, status)


def _spawn(
    case: Case, runner: Engine, form: str, order: dict[str, Any], said: IO[str]
) -> subprocess.Popen[str]:
    whole = json.dumps({"folder": str(case.folder), "engine": runner.name, "form": form} | order)
    root = str(Path(compactir.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(order.get("threads", 1))}
    environment |= runner.held.get(order.get("isa", ""), {})
    return subprocess.Popen(
        [sys.executable, "-m", "compactir.tools.bench.worker", whole],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
        env=environment,
        cwd=case.folder,
    )


def _reason(said: IO[str], status: int) -> str:
    """The last line that a process said before it ended, or how that happened."""
    if status < 0:
        return f"its process was ended by signal {-status}"
    said.seek(0)
    lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    if not lines:
        return f"its process ended with status {status}"
    return re.sub(r"^(\w+\.)*RuntimeError: ", "", lines[-1])[:300]


def convert(case: Case, runner: Engine, form: str) -> None:
    """Bring one form of the network to an engine, in a process of its own. Errors: EngineError."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = _spawn(case, runner, form, {"do": "convert"}, said)
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise EngineError(f"converting takes longer than {PATIENCE_S:.0f} s") from None
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise EngineError(_reason(said, process.returncode))


# -- who takes part ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One form on one engine, before the race."""

    entry: Entry
    process: Process | None = None


def enter(case: Case, name: str, settings: Settings) -> list[Trial]:
    """Bring the network to an engine in every form; those that are right have a process."""
    runner = engine(name)
    if missing := runner.missing():
        note = f"not installed: pip install {' '.join(missing)}"
        return [Trial(Entry(name, "", figures.MISSING, note))]
    entry = Entry(name, runner.version(), figures.TIMED, threads=settings.threads, settings=runner.settings)
    if why := runner.unfit(case) or _free(runner, settings.isa):
        return [Trial(replace(entry, state=figures.UNFIT, note=why))]
    forms = case.forms if runner.forms else case.forms[:1]
    return [_try(case, runner, form, settings, entry) for form in forms]


def _free(runner: Engine, isa: str) -> str:
    """Why an engine cannot be held to an instruction set."""
    if not isa or isa in runner.held or runner.name == OURS:
        return ""
    return f"nothing holds it to {isa}: it takes the best kernels that the processor has"


def _try(case: Case, runner: Engine, form: str, settings: Settings, entry: Entry) -> Trial:
    entry = replace(entry, form=form)
    try:
        convert(case, runner, form)
        process = Process(case, runner, form, settings)
    except EngineError as problem:
        return Trial(replace(entry, state=figures.FAILED, note=str(problem)))
    try:
        for _ in range(SETTLE):
            process.turn(settings.turn_s, keep=True)
        error = process.error() if case.outputs else 0.0
    except EngineError as problem:
        process.close()
        return Trial(replace(entry, state=figures.FAILED, note=str(problem)))
    entry = replace(entry, error=error, start=process.start, library_bytes=runner.library_bytes(case))
    if not error <= TOLERANCE:
        process.close()
        note = f"refused: its output differs from the reference by {error:.1e} of the largest element"
        return Trial(replace(entry, state=figures.WRONG, note=note))
    return Trial(entry, process)


# -- the race ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What a race cannot see for itself, and a reader of its figures has to know."""

    compiler: str
    flags: tuple[str, ...]
    loop: Target
    """What the loop of multiply-adds was built for."""
    batch: int
    bytes_moved: int
    """By our kernels."""


def race(case: Case, engines: Sequence[str], settings: Settings, record: Record, say: Say) -> Result:
    """Compare our module with engines, in turns. `say` is told what is being done."""
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        peak = Process(case, engine(PEAK), case.forms[0], settings)
        stack.callback(peak.close)
        entered = []
        for name in (OURS, *engines):
            say(f"{case.network}: preparing {name}")
            entered.append(enter(case, name, settings))
            for trial in entered[-1]:
                if trial.process:
                    stack.callback(trial.process.close)
        runners = [trial.process for trials in entered for trial in trials if trial.process]
        with _watched([peak, *runners]) as others:
            loops, laps = _run(peak, runners, settings, say, case.network)
        say(f"{case.network}: starting everybody again")
        entries = tuple(_best(trials, laps, settings) for trials in entered)
        fastest = _peak(loops, peak.start.rounds * settings.threads, record.loop)
    circumstances = Circumstances(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        pinned=settings.pinned(),
        load_average=load,
        others=others[0],
        compiler=record.compiler,
        flags=record.flags,
        python=platform.python_version(),
        rounds=settings.rounds,
    )
    head = (case.network, case.target, record.batch, case.macs, record.bytes_moved, settings.threads)
    return Result(*head, fastest, entries, circumstances, settings.isa)


def _peak(loops: Sequence[int], rounds: int, target: Target) -> Peak:
    """GFLOP/s of the loop that went round so often in each run."""
    work = 2 * CHAINS * target.lanes * rounds
    return Peak(work / min(loops), work / median(loops), target.isa, work)


@dataclass(frozen=True)
class Lap:
    """A turn, and the fastest run of the loop just before and after it, in nanoseconds."""

    turn: Turn
    loop_ns: int


Laps = dict[int, list[Lap]]


def _run(
    peak: Process, runners: list[Process], settings: Settings, say: Say, network: str
) -> tuple[list[int], Laps]:
    """The loop's fastest runs, and everyone's turns by the identity of the process; who fails has none."""
    loops: list[int] = []
    laps: Laps = {id(runner): [] for runner in runners}
    alive = list(runners)

    def loop() -> int:
        turn = peak.turn(LOOP_S)
        loops.append(min(turn.clean or turn.disturbed))
        return loops[-1]

    for k in range(settings.rounds):
        say(f"{network}: round {k + 1} of {settings.rounds}")
        before = loop()
        for runner in random.Random(k).sample(alive, len(alive)):  # nobody always comes after the same one
            try:
                turn = runner.turn(settings.turn_s, keep=k + 1 == settings.rounds)
            except EngineError:
                alive.remove(runner)
                laps[id(runner)] = []
                continue
            after = loop()
            laps[id(runner)].append(Lap(turn, min(before, after)))
            before = after
    return loops, laps


def _best(trials: Sequence[Trial], laps: Laps, settings: Settings) -> Entry:
    """The fastest form of an engine, with the times of all; if none was timed, what went wrong first."""
    entries = [_finished(trial, laps) for trial in trials]
    timed = [(entry.times.minimum_ms, at) for at, entry in enumerate(entries) if entry.times]
    at = min(timed)[1] if timed else 0
    best = _started(entries[at], trials[at].process, settings) if timed else entries[0]
    if len(entries) == 1:
        return best
    return replace(best, forms=tuple(FormTimes(e.form, e.state, e.note, e.times) for e in entries))


def _started(entry: Entry, process: Process | None, settings: Settings) -> Entry:
    """With the medians of several starts; who does not start again keeps its times, and it is said."""
    assert process, "it took part"
    starts = [process.start]
    try:
        for _ in range(settings.starts - 1):
            again = Process(process.case, process.engine, process.form, settings)
            starts.append(again.start)
            again.close()
    except EngineError as problem:
        entry = replace(entry, note=f"after the race it did not start again: {problem}")
    start = Start(**{f.name: median_low(getattr(s, f.name) for s in starts) for f in fields(Start)})
    return replace(entry, start=start)


def _finished(trial: Trial, laps: Laps) -> Entry:
    """One form on one engine, after the race."""
    if trial.process is None:
        return trial.entry
    own = laps[id(trial.process)]
    if not own:
        return replace(trial.entry, state=figures.FAILED, note="its process ended during the race")
    if not (error := trial.process.error()) <= TOLERANCE:
        note = f"refused: after the race its output differs by {error:.1e} of the largest element"
        return replace(trial.entry, state=figures.WRONG, note=note, error=error)
    return replace(trial.entry, times=Times.of([lap.turn for lap in own], [lap.loop_ns for lap in own]))


@contextmanager
def _watched(runners: Sequence[Process]) -> Iterator[list[float]]:
    """Afterwards, the list holds how many cores other processes kept busy meanwhile."""
    found = [0.0]
    before, own, start = _busy_s(), _own_s(runners), _clock()
    yield found
    passed = max(_clock() - start, 1e-9)
    found[0] = max(0.0, (_busy_s() - before) - (_own_s(runners) - own)) / passed


def _clock() -> float:
    return os.times().elapsed


def _own_s(runners: Sequence[Process]) -> float:
    return sum(os.times()[:2]) + sum(runner.cpu_ns for runner in runners) / 1e9


def _busy_s() -> float:
    """Processor seconds that all cores have worked since the system started; 0 where it does not say."""
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, *steal = map(int, first)
    return (user + nice + system + irq + softirq + sum(steal[:1])) / os.sysconf("SC_CLK_TCK")

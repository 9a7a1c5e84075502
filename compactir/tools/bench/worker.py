"""The process of one engine: `python -m compactir.tools.bench.worker ORDER`, ORDER being JSON.

    {"do": "convert", "folder": F, "engine": E, "form": M}       bring the model to the engine, then end
    {"do": "race", …, "threads": N, "cores": [C, …], "isa": I}   load, run once, then answer questions:

Questions come as JSON lines on standard input, answers go as JSON lines to standard output; what an engine
prints goes to standard error. The first answer is sent without a question: the start (`Start`), with the
outputs beside it in the folder. A turn is `{"seconds": S, "warmup": W}`, its answer is a `Turn`. At the end
of the questions the process ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import IO, Any

__all__ = ["Start", "Turn", "results_file"]

LONG_NS = 200_000
"""Whether a run was disturbed is asked after each one that is longer, else after as many as take so long."""


@dataclass(frozen=True)
class Start:
    """How a process begins: times in milliseconds, memory in bytes."""

    import_ms: float
    load_ms: float
    first_ms: float
    baseline_bytes: int
    """The most that Python with numpy had used before the engine was imported."""
    peak_bytes: int
    """The most after the first run."""
    rounds: int = 0
    """Only the peak loop's: how much work a run is."""


@dataclass(frozen=True)
class Turn:
    """Runs one after the other, in nanoseconds; disturbed: the core did something else meanwhile."""

    clean: list[int]
    disturbed: list[int]
    cpu_ns: int
    """Of the whole process, warm-up included."""


def results_file(folder: Path, engine: str, form: str) -> Path:
    """Where the outputs of the last run lie, after the start and after every turn that asks for them."""
    return folder / f"{form}.{engine}.results.npz"


def main(order: dict[str, Any], answers: IO[str]) -> None:
    """Convert, or load and answer questions until there are none left."""
    import numpy as np  # noqa: F401  # before the baseline is taken: every engine needs it

    from compactir.tools.bench.case import Case
    from compactir.tools.bench.engines import engine

    if order.get("cores"):
        os.sched_setaffinity(0, order["cores"])
    case, runner = Case.read(Path(order["folder"])), engine(order["engine"])
    if order["do"] == "convert":
        runner.convert(case, order["form"])
        return
    session, start = _begin(runner, case, order)
    file = results_file(case.folder, runner.name, order["form"])
    _keep(file, case, session)
    _answer(answers, asdict(start))
    for line in sys.stdin:
        question = json.loads(line)
        turn = take_turn(session.run, question["seconds"], question["warmup"])
        if question.get("keep"):
            _keep(file, case, session)
        _answer(answers, asdict(turn))


def _begin(runner: Any, case: Any, order: dict[str, Any]) -> tuple[Any, Start]:
    case.arrays()  # what reading arrays costs is no engine's
    baseline = peak_rss()
    times = [perf_counter_ns()]
    runner.bring()
    times.append(perf_counter_ns())
    session = runner.load(case, order["form"], order["threads"])
    times.append(perf_counter_ns())
    session.run()
    times.append(perf_counter_ns())
    if (isa := order.get("isa")) and (kernels := runner.beyond(session, isa)):
        raise RuntimeError(f"it was to be held to {isa}, and ran {kernels}")
    brought, loaded, ran = ((b - a) / 1e6 for a, b in pairwise(times))
    return session, Start(brought, loaded, ran, baseline, peak_rss(), getattr(session, "rounds", 0))


def take_turn(run: Callable[[], None], seconds: float, warmup: float) -> Turn:
    """Run for `warmup` seconds unmeasured (once at least), then for `seconds` (three times at least)."""
    cpu = process_time_ns()
    until = perf_counter_ns() + int(warmup * 1e9)
    run()
    while perf_counter_ns() < until:
        run()
    clean: list[int] = []
    disturbed: list[int] = []
    until = perf_counter_ns() + int(seconds * 1e9)
    while len(clean) + len(disturbed) < 3 or perf_counter_ns() < until:
        times, alone = _some(run)
        (clean if alone else disturbed).extend(times)
    return Turn(clean, disturbed, process_time_ns() - cpu)


def _some(run: Callable[[], None]) -> tuple[list[int], bool]:
    """Runs of `LONG_NS` together, and whether nobody else got the core meanwhile."""
    before = _evictions()
    times: list[int] = []
    start = begin = perf_counter_ns()
    while start - begin < LONG_NS:
        run()
        end = perf_counter_ns()
        times.append(end - start)
        start = end
    return times, _evictions() == before


def _evictions() -> int:
    """How often the system took the core from a thread of this process."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def peak_rss() -> int:
    """The most memory this process ever had, in bytes; 0 where the system does not say.

    Not `ru_maxrss`, which counts the parent's memory before the exec.
    """
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:")), 0)


def _keep(file: Path, case: Any, session: Any) -> None:
    if case.outputs and (results := session.results()):
        from compactir.tools.bench.case import save_results

        save_results(file, case, results)


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _private_stdout() -> IO[str]:
    """Standard output for answers only: engines print to descriptor 1, which becomes standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), _private_stdout())

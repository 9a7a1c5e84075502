"""`--tune`: the tiles that the cost model likes best, measured on this machine, layer by layer.

The network is built with every layer's second best tiling, then with the third best, and so on; each build
takes turns with the first one, step by step, and the fastest times count. What came out is kept beside the
build cache, by machine, compiler, number of threads and layer: the next network, or the next call, measures
only what is new.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from time import monotonic

from compactir import __version__
from compactir.codegen.lower import Choices
from compactir.codegen.lower.tiles import Tiling
from compactir.diagnostics import CompactError
from compactir.driver import Generated, build, load, write_to_cache
from compactir.files import alone_in, put
from compactir.runtime.build import find_compiler
from compactir.runtime.cache import open_cache
from compactir.runtime.profile import Runner, fastest, minima
from compactir.targets import Target, cpu_name
from compactir.tools.terminal import Say

__all__ = ["Tuned", "tune"]

MOST = 5
"""Tilings per layer that are measured beside the cost model's best."""
ROUNDS = 40
_GAIN = 0.97
"""A tiling has to be this much faster to be taken: less is noise."""

Make = Callable[[Choices], Generated]


@dataclass(frozen=True)
class Tuned:
    """What tuning found. `choices` are the cost model's where nothing was faster."""

    choices: Choices
    changed: int
    layers: int
    before_us: float
    after_us: float
    measured: int = 0
    """Tilings, in this call."""
    threads: int = 1
    """What was timed ran on so many: those that the network is compiled for."""

    def to_json(self) -> dict[str, float]:
        """For `--json`."""
        return {name: value for name, value in vars(self).items() if name != "choices"}

    @property
    def sentence(self) -> str:
        """What it gained."""
        if not self.changed:
            return f"tuning: no other tiles for any of {self.layers} layers make the network faster"
        gain = 1 - self.after_us / self.before_us
        on = f" on {self.threads} threads" if self.threads > 1 else ""
        return (
            f"tuning: other tiles for {self.changed} of {self.layers} layers, "
            f"{_us(self.before_us)} to {_us(self.after_us)} µs{on} ({gain:+.1%} faster)"
        )


def tune(make: Make, target: Target, seconds: float, cc: str | None, say: Say) -> Tuned:
    """Measure until the time is over, on all threads of the network, then take what was fastest.

    Args:
        make: the network's C with these tilings.
        target: what it is compiled for: this machine.
        seconds: the budget; a build that has begun is finished.
        cc: the C compiler.
        say: told how far it is.

    Raises:
        CompactError: those of building; CIR627 where the code does not run here.
    """
    start = monotonic()
    plain = Choices()
    base = _runner(make(plain), cc)
    store = _Store(_place(target, cc, base.threads))
    longest, measured = 0.0, 0
    for rank in range(1, MOST + 1):
        other = Choices(rank=rank)
        generated = make(other)
        new = {key for key, tiling in other.taken.items() if tiling != plain.taken[key]}
        new = {key for key in new if not store.has(key, other.taken[key])}
        spent = monotonic() - start
        if spent + longest > seconds:
            break
        if new:
            say(f"tuning {_bar(spent, seconds)} tiles {rank + 1} of at most {MOST + 1}, {len(new)} layers")
            store.add(other, new, _ratios(base, _runner(generated, cc), other, new))
            longest, measured = max(longest, monotonic() - start - spent), measured + len(new)
    found = _judge(make, base, plain, store.best(plain), cc)
    return replace(found, measured=measured, threads=base.threads)


def _us(time: float) -> str:
    """Whole microseconds; of a small network so many digits that a gain is seen."""
    return f"{time:.0f}" if time >= 1000 else f"{time:.4g}"


def _bar(spent: float, seconds: float, width: int = 20) -> str:
    done = min(width, int(width * spent / seconds)) if seconds else width
    return f"[{'#' * done}{'.' * (width - done)}] {spent:.0f} of {seconds:.0f} s:"


@dataclass(frozen=True)
class _Timed:
    """A form of the network on all its threads, and the names of its steps."""

    run: Runner
    steps: list[str]
    threads: int


def _runner(generated: Generated, cc: str | None) -> _Timed:
    module = load(write_to_cache(generated, build(generated, cc)))
    run = module.stepper(threads=module.threads)
    return _Timed(run, [step.name for step in module.manifest.steps], module.threads)


def _ratios(base: _Timed, other: _Timed, choices: Choices, keys: set[str]) -> dict[str, float]:
    """For each layer: the time of its steps with the other tiling over that with the plain one."""
    assert base.steps == other.steps
    plain, changed = minima([base.run, other.run], len(base.steps), ROUNDS)
    ratios = {}
    for key in keys:
        at = [i for i, step in enumerate(base.steps) if key in choices.steps.get(step, [])]
        ratios[key] = sum(changed[i] for i in at) / max(sum(plain[i] for i in at), 1e-9)
    return ratios


def _judge(make: Make, base: _Timed, plain: Choices, measured: dict[str, Tiling], cc: str | None) -> Tuned:
    """The network with the best tilings against the plain one; what is not faster as a whole is not taken."""
    best = Choices(measured)
    generated = make(best)
    changed = sum(tiling != plain.taken[key] for key, tiling in best.taken.items())
    count = len(base.steps)
    if not changed:
        time = fastest([base.run], count, ROUNDS)[0]
        return Tuned(Choices(), 0, len(plain.taken), time, time)
    before, after = fastest([base.run, _runner(generated, cc).run], count, 2 * ROUNDS)
    if after >= before:
        return Tuned(Choices(), 0, len(plain.taken), before, before)
    return Tuned(Choices(measured), changed, len(plain.taken), before, after)


# -- what was measured before --------------------------------------------------------------------------------


def _place(target: Target, cc: str | None, threads: int) -> Path:
    """The file for this machine, compiler and number of threads."""
    compiler = find_compiler(target, cc)
    parts = [__version__, cpu_name(), target.name, compiler.identity, *target.flags(compiler.family)]
    parts.append(f"{threads} threads")
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return open_cache().root / "tuning" / f"{digest}.json"


Times = dict[str, dict[str, float]]
"""Layer's key → tiling → how long it took, the cost model's choice taken as 1."""


@dataclass
class _Store:
    """What was measured, by this process and by others that tune at the same time."""

    path: Path
    times: Times = field(default_factory=dict)
    kept: bool = True
    """Whether the file could be written so far."""

    def __post_init__(self) -> None:
        self.times = _read(self.path)

    def has(self, key: str, tiling: Tiling) -> bool:
        return _text(tiling) in self.times.get(key, {})

    def add(self, choices: Choices, keys: set[str], ratios: Mapping[str, float]) -> None:
        """Keep what was measured, in the file too: an interrupt loses one build at most.

        Where the file cannot be written, a warning says so once, and this call goes on.
        """
        for key in keys:
            self.times.setdefault(key, {})[_text(choices.taken[key])] = round(ratios[key], 4)
        if self.kept:
            try:
                self._write()
            except (OSError, CompactError) as error:
                self.kept = False
                why = error.message if isinstance(error, CompactError) else f"{self.path}: {error.strerror}"
                warnings.warn(f"the next call will measure again: {why}", stacklevel=2)

    def _write(self) -> None:
        """Into the file together with what others have written there meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(self.path.parent):
            for key, row in _read(self.path).items():
                mine = self.times.setdefault(key, {})
                for text, time in row.items():
                    mine[text] = min(time, mine.get(text, inf))
            put(self.path, json.dumps(self.times, indent=1, sort_keys=True) + "\n")

    def best(self, plain: Choices) -> dict[str, Tiling]:
        """The tilings that were clearly faster."""
        found = {}
        for key in plain.taken:
            times = self.times.get(key, {})
            text = min(times, key=lambda t: times[t], default="")
            tiling = _tiling(text)
            if tiling and times[text] < _GAIN:
                found[key] = tiling
        return found


def _read(path: Path) -> Times:
    """What lies there; a file that is damaged in any way is none."""
    with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
        data = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(key): {str(text): float(t) for text, t in row.items() if _tiling(text) and 0 < t < inf}
            for key, row in data.items()
        }
    return {}


def _text(tiling: Tiling) -> str:
    return f"{tiling.tile} {' '.join(f'{b}x{n}' for b, n in tiling.panels)}{' half' if tiling.half else ''}"


def _tiling(text: str) -> Tiling | None:
    try:
        tile, *panels = text.removesuffix(" half").split()
        pairs = tuple((int(b), int(n)) for b, _, n in (p.partition("x") for p in panels))
        return Tiling(int(tile), pairs, text.endswith(" half"))
    except ValueError:
        return None

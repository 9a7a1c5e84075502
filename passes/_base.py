"""What a pass is, how pipelines are written and run, and the log of what was done and what was not.

Contract: a pass gets a valid graph and leaves a valid graph; in between anything goes. Two habits of the
house beyond that:

* A value keeps its name only while it keeps its content. Whoever changes what a value holds (permutes or
scales its
  channels) makes a fresh value; whoever fuses two nodes lets the survivor make the *last* value. Stages can
  then be compared value by value, and a wrong pass is caught at the first wrong node.
* Arithmetic on weights happens in float64 and is stored in the element type that was found.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from compactir.diagnostics import CompactError, Span, did_you_mean
from compactir.ir.graph import Graph, Node
from compactir.ir.verify import verify

# -- the log -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """One rewrite that a rule made, or one that it considered and left, with its reason."""

    rule: str
    node: str
    span: Span | None
    done: bool
    why: str

    def __str__(self) -> str:
        where = f" ({self.span})" if self.span else ""
        return f"{self.rule}: {self.node}{where}: {'' if self.done else 'not done: '}{self.why}"


@dataclass
class Log:
    """Everything that a pipeline decided, in order: what `compactc explain MODEL` shows."""

    decisions: list[Decision] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Names of the passes that changed the graph, in order."""

    def of(self, rule: str, done: bool | None = None) -> list[Decision]:
        """The decisions of one pass; `done` selects."""
        return [d for d in self.decisions if d.rule == rule and done in (None, d.done)]


_LOG: ContextVar[Log | None] = ContextVar("log", default=None)


@contextmanager
def logged(log: Log) -> Iterator[Log]:
    """Passes that run inside write their decisions here."""
    token = _LOG.set(log)
    try:
        yield log
    finally:
        _LOG.reset(token)


# -- passes --------------------------------------------------------------------------------------------------


class Pass:
    """Base of all passes. A subclass is a frozen dataclass whose fields are its command-line options."""

    name: ClassVar[str] = ""

    @property
    def lossy(self) -> bool:
        """Whether results change by more than rounding, as was asked for: then its log says by how much."""
        return False

    def requires(self, graph: Graph) -> None:
        """Raise a CompactError of room 4xx when the graph is not ready for this pass."""

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph in place; True when anything changed."""
        raise TypeError(f"{type(self).__name__} does not say what it does")

    def ensures(self, graph: Graph) -> None:
        """Check what the pass promises about its result; failing is a bug of ours (AssertionError)."""

    def __call__(self, graph: Graph) -> bool:
        """Requires, run, ensures."""
        self.requires(graph)
        changed = self.run(graph)
        self.ensures(graph)
        return changed

    def did(self, node: Node, why: str) -> None:
        """Record a rewrite."""
        self._record(node, True, why)

    def left(self, node: Node, why: str) -> None:
        """Record a rewrite that was considered and not made, with its reason."""
        self._record(node, False, why)

    def _record(self, node: Node, done: bool, why: str) -> None:
        log = _LOG.get()
        if log is not None:
            log.decisions.append(Decision(self.name, node.name, node.span, done, why))

    def __str__(self) -> str:
        options = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # a dataclass
        given = [
            f"{f.name.replace('_', '-')}={_show(options[f.name])}"
            for f in fields(self)  # type: ignore[arg-type]  # a dataclass
            if options[f.name] != f.default
        ]
        return self.name + (f"{{{','.join(given)}}}" if given else "")


def need_weights(graph: Graph) -> None:
    """For `requires` of passes that compute with weights. Errors: CIR401."""
    missing = [name for name in graph.params if name not in graph.weights]
    if missing:
        raise CompactError(
            "CIR401",
            f"this pass computes with weights, and `{graph.name}` has none for {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if len(missing) > 3 else ""),
            help="bind trained ones with `--weights FILE.safetensors`, or draw some with `--init seed=0`",
        )


PASSES: dict[str, type[Pass]] = {}
PassClass = TypeVar("PassClass", bound=type[Pass])


def register(cls: PassClass) -> PassClass:
    """Make a pass known under its name."""
    if not cls.name or cls.name in PASSES:
        raise ValueError(f"pass name {cls.name!r} is missing or taken")
    PASSES[cls.name] = cls
    return cls


# -- pipelines as text ---------------------------------------------------------------------------------------

_STEP = re.compile(r"\s*([\w-]+)\s*(?:\{([^{}]*)\})?\s*(,|$)")


def parse_pipeline(text: str) -> list[Pass]:
    """Read `fold-batchnorm,merge-blocks{lanes=8}`. Errors: CIR403 (unknown pass), CIR404 (options)."""
    passes: list[Pass] = []
    at = 0
    while text[at:].strip():
        match = _STEP.match(text, at)
        if not match:
            raise CompactError(
                "CIR403",
                f"`{text[at:].strip()}` is not a list of passes",
                help="write `pass,pass{option=value}`",
            )
        passes.append(_make(match[1], match[2] or ""))
        at = match.end()
    return passes


def _make(name: str, options: str) -> Pass:
    if name not in PASSES:
        raise CompactError(
            "CIR403",
            f"there is no pass `{name}`",
            help=did_you_mean(name, PASSES) or f"passes: {' '.join(sorted(PASSES))}",
        )
    cls = PASSES[name]
    known = {f.name.replace("_", "-"): f for f in fields(cls)}  # type: ignore[arg-type]  # a dataclass
    given: dict[str, Any] = {}
    for option in filter(None, (o.strip() for o in options.split(","))):
        key, _, value = (part.strip() for part in option.partition("="))
        if key not in known:
            raise CompactError(
                "CIR404",
                f"pass `{name}` has no option `{key}`",
                help=did_you_mean(key, known) or f"its options: {' '.join(known) or 'none'}",
            )
        given[known[key].name] = _read(name, key, value, known[key].default)
    return cls(**given)


def _read(name: str, key: str, value: str, default: Any) -> Any:
    """The value of an option, which has the type of its default; no number is below 0."""
    kind = type(default)
    try:
        read = {"true": True, "false": False}[value] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise CompactError(
            "CIR404", f"option `{key}` of pass `{name}` must be of type {kind.__name__}, it is `{value}`"
        ) from None
    if kind in (int, float) and not read >= 0:
        raise CompactError("CIR404", f"option `{key}` of pass `{name}` must be at least 0, it is `{value}`")
    return read


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- running -------------------------------------------------------------------------------------------------

Dump = Callable[[str, Graph], None]


class Instrument:
    """Something that watches a pipeline: dumps, clocks and verifiers are instruments, not code in passes."""

    def start(self, graph: Graph) -> None:
        """Before the first pass."""

    def before(self, step: Pass, graph: Graph) -> None:
        """Before each pass."""

    def after(self, step: Pass, graph: Graph, changed: bool) -> None:
        """After each pass."""

    def finish(self, graph: Graph) -> None:
        """After the last pass, also when one raised."""


@dataclass
class Dumper(Instrument):
    """Calls `dump("before:NAME", graph)` and `dump("NAME", graph)` around every pass."""

    dump: Dump

    def before(self, step: Pass, graph: Graph) -> None:
        self.dump(f"before:{step.name}", graph)

    def after(self, step: Pass, graph: Graph, changed: bool) -> None:
        self.dump(step.name, graph)


@dataclass
class Clock(Instrument):
    """Seconds per pass, in the order in which they ran."""

    seconds: list[tuple[str, float]] = field(default_factory=list)
    _since: float = 0.0

    def before(self, step: Pass, graph: Graph) -> None:
        self._since = time.perf_counter()

    def after(self, step: Pass, graph: Graph, changed: bool) -> None:
        self.seconds.append((str(step), time.perf_counter() - self._since))


def run_pipeline(
    graph: Graph,
    passes: str | Iterable[Pass],
    *,
    verify_each: bool = False,
    dump: Dump | None = None,
    instruments: Sequence[Instrument] = (),
    log: Log | None = None,
) -> Log:
    """Run passes on `graph`, in place.

    Args:
        graph: a valid graph; passes that compute with weights need them bound.
        passes: a pipeline as text, or pass objects.
        verify_each: run the reference in float64 around every pass and stop at the first difference.
        dump: called with ("before:NAME", graph) and ("NAME", graph) around every pass.
        instruments: further watchers.
        log: where to write decisions; a new one by default.

    Returns: the log.
    Errors: those of the passes, with a note that names the pass and those before it; CIR402 (`verify_each`).
    """
    from compactir.passes._verify import Verifier  # which needs this module

    steps = parse_pipeline(passes) if isinstance(passes, str) else list(passes)
    watchers: list[Instrument] = list(instruments)
    if dump:
        watchers.append(Dumper(dump))
    if verify_each:
        watchers.append(Verifier())
    log = Log() if log is None else log
    for watcher in watchers:
        watcher.start(graph)
    try:
        with logged(log):
            for at, step in enumerate(steps):
                _run_one(graph, step, steps[:at], watchers, log)
    finally:
        for watcher in watchers:
            watcher.finish(graph)
    return log


def _run_one(
    graph: Graph, step: Pass, earlier: Sequence[Pass], watchers: Sequence[Instrument], log: Log
) -> None:
    try:
        for watcher in watchers:
            watcher.before(step, graph)
        if changed := step(graph):
            log.changed.append(step.name)
            verify(graph)
        for watcher in watchers:
            watcher.after(step, graph, changed)
    except Exception as error:
        after = f", after {', '.join(map(str, earlier))}" if earlier else ""
        note = f"in pass `{step}` on `{graph.name}`{after}"
        if isinstance(error, CompactError):
            error.at(None, note)
        else:
            error.add_note(note)
        raise

"""`compactc verify`: the compiled network against the graph as authored, ONNX Runtime or PyTorch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir import reference
from compactir.diagnostics import CompactError, spell_list
from compactir.driver import Authored, Planned, build, generate, load, plan, read, write_to_cache
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Graph
from compactir.ir.types import Array, TensorType
from compactir.runtime.manifest import read_manifest
from compactir.tools import carry, terminal
from compactir.tools.judge import Verdict, ask
from compactir.tools.preparation import PREPARATIONS, Case, doubts, files_of, read_cases
from compactir.tools.source import source_of, target_of
from compactir.tools.suspects import suspects

if TYPE_CHECKING:
    from compactir.runtime.manifest import Manifest
    from compactir.runtime.module import Module
    from compactir.targets import Target

TOLERANCE = 1e-4
"""Of the largest element of the reference, per tensor."""


@dataclass(frozen=True)
class Comparison:
    """One tensor against what it should be."""

    name: str
    error: float
    """max|a - b| over finite places."""
    scale: float
    """max|reference| over finite places."""
    same_specials: bool
    """NaN and infinities stand in the same places."""
    where: str = ""
    ulp: float | None = None
    """max|a - b| in units in the last place (float32) of the element that it should be, for outputs."""
    cosine: float | None = None
    """Of the angle between both, for outputs."""
    top1: float | None = None
    """The share of items whose best class is the same, for outputs of one number per class."""
    covers: tuple[str, ...] = ()
    """The steps of the model that a step of the compiled network computes."""

    @property
    def relative(self) -> float:
        """The error in units of the largest element."""
        return self.error / self.scale if self.scale else self.error

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.same_specials and self.error <= TOLERANCE * self.scale


def compare(
    name: str, actual: Array, expected: Array, where: str = "", *, graded: bool = False
) -> Comparison:
    """Compare two arrays of one shape; another shape is no agreement. `graded` adds measures of outputs."""
    if actual.shape != expected.shape:
        return Comparison(name, float("inf"), 1.0, False, where)
    special = ~np.isfinite(expected)
    same = np.array_equal(special, ~np.isfinite(actual)) and np.array_equal(
        actual[special], expected[special], equal_nan=True
    )
    both = np.isfinite(actual) & ~special
    a, b = actual[both].astype(np.float64), expected[both].astype(np.float64)
    difference, scale = np.abs(a - b).max(initial=0.0), np.abs(b).max(initial=0.0)
    found = Comparison(name, float(difference), float(scale), bool(same), where)
    return (
        replace(found, ulp=_ulp(a, b), cosine=_cosine(a, b), top1=_top1(actual, expected))
        if graded
        else found
    )


def _ulp(a: Array, b: Array) -> float:
    """The largest distance in float32's units in the last place."""
    spacing = np.spacing(np.maximum(np.abs(b), np.finfo(np.float32).tiny).astype(np.float32)).astype(
        np.float64
    )
    return float((np.abs(a - b) / spacing).max(initial=0.0))


def _cosine(a: Array, b: Array) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else float(np.array_equal(a, b))


def _top1(a: Array, b: Array) -> float | None:
    if a.ndim != 2 or a.shape[1] < 2:
        return None
    return float((np.argmax(a, 1) == np.argmax(b, 1)).mean())


@dataclass(frozen=True)
class Answer:
    """One run: which inputs, and every output against the judge's; `expected` where a folder says more."""

    case: str
    outputs: list[Comparison]
    expected: list[Comparison]
    hints: list[str]


def main(args: Namespace) -> int:
    """Compile (or load), compare, print; 1 where they disagree."""
    source = source_of(args)
    if args.inputs:
        files_of(Path(args.inputs))
    with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
        given = args.module or args.answers
        target, threads = _built_for(args, given) if given else (target_of(args), args.threads)
        authored = read(source)
        planned = plan(authored, target, threads=threads)
        cases = _cases(args, authored)
        folder = Path(given) if given else _built(args, planned)
        if args.by_hand:
            _check_fits(args, planned, read_manifest(folder))
            carry.show(carry.write(args, folder, Path(args.by_hand), cases), args.json)
            return 0
        module = _opened(args, folder, cases)
        _check_fits(args, planned, module.manifest)
        say(f"asking the {args.against} about {len(cases)} inputs")
        verdicts = ask(source, [case.inputs for case in cases], args.against, trace=args.per_layer)
        answers = []
        for case, verdict in zip(cases, verdicts, strict=True):
            say(f"comparing {module.name} with the {args.against}: {case.name}")
            answers.append(_answer(module, authored.graph, case, verdict, again=not args.answers))
        layers = (
            list(compare_layers(planned, module, cases[0].inputs, verdicts[0].values))
            if args.per_layer
            else []
        )
    compared = [c for a in answers for c in (*a.outputs, *a.expected)]
    agrees = all(c.agrees for c in (*compared, *layers))
    hints = list(dict.fromkeys(hint for answer in answers for hint in answer.hints))
    hints += () if agrees else suspects(args, authored, module)
    if args.json:
        terminal.print_json(_json(module, answers, layers, hints, args.against))
    else:
        _print(module, answers, layers, hints, args.against)
    return 0 if agrees else 1


def check(args: Namespace) -> None:
    """Errors: CIR671 for steps that cannot be compared."""
    if args.per_layer and args.against != "reference":
        raise CompactError(
            "CIR671",
            f"{args.against} keeps no value between layers that could be compared",
            help="leave `--against` out: the reference has them all",
        )
    if args.per_layer:
        _check_batch(args.batch)


def _check_batch(batch: int) -> None:
    if batch != 1:
        raise CompactError(
            "CIR671", "steps are compared for one image", help="leave `--batch` out: the kernels are the same"
        )


def _cases(args: Namespace, authored: Authored) -> list[Case]:
    """Random inputs, or those of a folder."""
    if args.inputs:
        return read_cases(Path(args.inputs), authored.graph)
    return [Case(f"random {k + 1}", reference.random_inputs(authored.graph, k), {}) for k in range(args.runs)]


def _run(module: Module, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    result = module(*(inputs[name] for name in module.inputs))
    return result if isinstance(result, dict) else {next(iter(module.outputs)): result}


def _answer(module: Module, graph: Graph, case: Case, verdict: Verdict, again: bool) -> Answer:
    """`again`: whether the module can be asked about other preparations of the inputs."""
    actual = _run(module, case.inputs)
    outputs = [compare(name, actual[name], verdict.outputs[name], graded=True) for name in verdict.outputs]
    expected = [compare(name, actual[name], array, graded=True) for name, array in case.expected.items()]
    hints = doubts(case) if case.expected or not case.name.startswith("random ") else []
    if again and any(not c.agrees for c in expected) and all(c.agrees for c in outputs):
        hints += _prepared_otherwise(module, graph, case)
    return Answer(case.name, outputs, expected, hints)


def _prepared_otherwise(module: Module, graph: Graph, case: Case) -> list[str]:
    """Whether the expected outputs are those of the same image in another preparation."""
    maps = [v.name for v in graph.inputs if v.type.rank == 4]
    for words, prepare in PREPARATIONS.items():
        other = {
            name: prepare(case.inputs[name]) if name in maps else array for name, array in case.inputs.items()
        }
        given = {
            name: np.ascontiguousarray(array, np.float32)
            for name, array in other.items()
            if array is not None
        }
        if len(given) < len(other):
            continue
        actual = _run(module, given)
        if all(compare(name, actual[name], array).agrees for name, array in case.expected.items()):
            right = f"`{case.name}`: the network is right, its input is prepared differently"
            return [f"{right}: the expected outputs are those of inputs {words}"]
    unexplained = (
        "no usual preparation of the input explains it; are model and weights those of the other program?"
    )
    return [f"`{case.name}`: {unexplained}"]


def _built_for(args: Namespace, folder: str) -> tuple[Target, int]:
    from compactir.targets import load_target

    if args.host or args.by_hand or args.answers:
        manifest = read_manifest(Path(folder))
    else:
        with load(folder) as module:
            manifest = module.manifest
    return replace(
        load_target(manifest.target), winograd=manifest.raw.get("winograd", True)
    ), manifest.threads


def _built(args: Namespace, planned: Planned) -> Path:
    """A new build, in the cache."""
    generated = generate(planned)
    return write_to_cache(generated, build(generated, args.cc))


def _opened(args: Namespace, folder: Path, cases: Sequence[Case]) -> Module:
    """The module of a folder: here, on a board, or what a board has answered.

    Errors: CIR517 for a board that cannot be reached; what it takes to run it there by hand is written then.
    """
    from compactir.runtime.module import load_answers, load_on_board

    if args.answers:
        return load_answers(folder)
    if not args.host:
        return load(folder, args.cc)
    try:
        return load_on_board(folder, args.host, args.cc)
    except CompactError as error:
        if error.code == "CIR517":
            error.at(None, *_instead(args, folder, cases))
        raise


def _instead(args: Namespace, folder: Path, cases: Sequence[Case]) -> Sequence[str]:
    """What is left where ssh does not reach a board, as notes."""
    try:
        return carry.instead(args, folder, cases)
    except CompactError as error:
        return [f"`--by-hand DIR` writes what it takes to run it there by hand, but {error.message}"]


def _check_fits(args: Namespace, planned: Planned, manifest: Manifest) -> None:
    """Errors: CIR670 for a folder of another model."""
    if not (given := args.module or args.answers):
        return
    inside = "object" if manifest.raw.get("object") else "inline"
    here = generate(planned, pack="file" if manifest.weights else inside).manifest
    if any(
        {t.name: t.shape for t in getattr(manifest, side)} != {t.name: t.shape for t in getattr(here, side)}
        for side in ("inputs", "outputs")
    ):
        raise CompactError(
            "CIR670",
            f"the module in {given} is not compiled from `{args.model}`: inputs or outputs differ",
            help="give the model, -D and --batch that it was compiled with",
        )
    if args.per_layer and manifest.content_id != here.content_id:
        raise CompactError(
            "CIR670",
            f"the module in {given} has another plan than `{args.model}` has now",
            notes=["its steps cannot be compared one by one"],
            help="leave --per-layer out, or compile it again",
        )


def compare_outputs(authored: Authored, module: Module, seed: int = 0) -> list[Comparison]:
    """Every output on random inputs."""
    inputs = reference.random_inputs(authored.graph, seed)
    expected = reference.run(authored.graph, inputs)
    result = module(*(inputs[name] for name in module.inputs))
    actual: Mapping[str, Array] = result if isinstance(result, dict) else {next(iter(module.outputs)): result}
    return [compare(name, actual[name], expected[name]) for name in expected]


def compare_layers(
    planned: Planned, module: Module, inputs: Mapping[str, Array], values: Mapping[str, Array]
) -> Iterator[Comparison]:
    """What every step leaves in memory against the value of that name in the authored graph.

    Args:
        planned: says where a step leaves its result.
        module: what was built.
        inputs: of the run.
        values: of the authored graph, by name. Where passes made a value that it does not have, the graph
            after the passes says what it should be.

    Errors: CIR671 for a batch of more than one: its images share one workspace.
    """
    graph, lowered = planned.graph, planned.lowered
    _check_batch(lowered.plan.batch)
    later = {value.name: array for value, array in reference.trace(graph, inputs).items()}
    makers = {node.name: node for node in graph.nodes}
    steps = [makers[step.name].out.name for step in lowered.plan.steps if step.name in makers]
    covered = Covered(planned.authored.graph, steps)
    for step, (workspace, outputs) in zip(lowered.plan.steps, module.stepwise(**inputs), strict=True):
        node = makers.get(step.name)
        if node is None or node.out.name not in lowered.places:
            continue  # a conversion of the caller's tensors
        name, shape = node.out.name, node.out.type.shape
        right = values[name] if name in values and values[name].shape == shape else later[name]
        actual = _gather(planned, lowered.places[name], node.out.type, workspace, outputs)
        yield replace(compare(step.name, actual, right, step.where), covers=covered.by(name))


class Covered:
    """Back through fusions: which steps of the model a value of the compiled network stands for."""

    def __init__(self, graph: Graph, kept: Sequence[str]) -> None:
        self.makers = {node.out.name: node for node in graph.nodes}
        self.kept = {*kept, *(value.name for value in graph.inputs)}

    def by(self, name: str) -> tuple[str, ...]:
        """From the values that are still there up to this one, in order."""
        found: dict[str, int] = {}
        stack = [name]
        while stack:
            node = self.makers.get(stack.pop())
            if node is None or node.name in found:
                continue
            found[node.name] = len(found)
            stack += [v.name for v in node.values if v.name not in self.kept]
        return tuple(reversed(found))


def _gather(
    planned: Planned, place: ChannelMap, type: TensorType, workspace: Array, outputs: Mapping[str, Array]
) -> Array:
    """A value out of the memory of a run, in logical order."""
    buffers = {b.name: b for b in planned.lowered.plan.buffers}
    channels = []
    for name, position in place.places:
        buffer = buffers[name]
        side, _, tensor = buffer.region.partition(":")
        memory = outputs[tensor].reshape(-1) if side == "output" else workspace
        start = buffer.offset + buffer.element(position)
        rows = np.arange(buffer.height)[:, None] * buffer.row + np.arange(buffer.width) * buffer.pixel
        channels.append(memory[start + rows])
    return np.stack(channels).reshape(type.shape)


# -- showing it ----------------------------------------------------------------------------------------------


def _print(
    module: Module, answers: list[Answer], layers: list[Comparison], hints: list[str], against: str
) -> None:
    if layers:
        columns = ("step", "max|difference|>", "max|reference|>", "relative>", "agrees", "where")
        rows = [
            (c.name, f"{c.error:.3g}", f"{c.scale:.4g}", f"{c.relative:.1e}", c.agrees, c.where)
            for c in layers
        ]
        terminal.table(f"{module.name} for {module.target}: steps against the reference", columns, rows)
    judged = [(a.case, c) for a in answers for c in a.outputs]
    _print_outputs(f"{module.name} for {module.target}: outputs against the {against}", judged)
    expected = [(a.case, c) for a in answers for c in a.expected]
    if expected:
        _print_outputs("outputs against what the folder expects", expected)
    for hint in hints:
        print(f"hint: {hint}")
    wrong = next((c for c in (*layers, *(c for _, c in (*judged, *expected))) if not c.agrees), None)
    if wrong is None:
        print(f"agrees: every difference is at most {TOLERANCE:g} of the largest element")
        return
    print(f"does not agree: `{wrong.name}` is the first tensor that differs ({wrong.relative:.1e})")
    if len(wrong.covers) > 1:
        print(f"  it computes {spell_list([f'`{name}`' for name in wrong.covers])}")


def _print_outputs(title: str, found: list[tuple[str, Comparison]]) -> None:
    columns = ("input", "output", "max|difference|>", "relative>", "ULP>", "cosine>", "top 1>", "agrees")
    rows = [
        (
            case,
            c.name,
            f"{c.error:.3g}",
            f"{c.relative:.1e}",
            "" if c.ulp is None else f"{c.ulp:.3g}",
            "" if c.cosine is None else f"{c.cosine:.9f}",
            "" if c.top1 is None else f"{c.top1:.0%}",
            c.agrees,
        )
        for case, c in found
    ]
    terminal.table(title, columns, rows)


def _json(
    module: Module, answers: list[Answer], layers: list[Comparison], hints: list[str], against: str
) -> dict[str, Any]:
    compared = [c for a in answers for c in (*a.outputs, *a.expected)]
    return {
        "network": module.name,
        "target": module.target,
        "against": against,
        "tolerance": TOLERANCE,
        "agrees": all(c.agrees for c in (*compared, *layers)),
        "outputs": [_row(c, answer.case) for answer in answers for c in answer.outputs],
        "expected": [_row(c, answer.case) for answer in answers for c in answer.expected],
        "hints": hints,
        "layers": [_row(c) for c in layers],
    }


def _row(c: Comparison, case: str | None = None) -> dict[str, Any]:
    numbers = {name: _finite(value) for name, value in (("error", c.error), ("relative", c.relative))}
    measured = {
        name: v for name, v in (("ulp", c.ulp), ("cosine", c.cosine), ("top1", c.top1)) if v is not None
    }
    plain = {k: v for k, v in asdict(c).items() if k not in ("ulp", "cosine", "top1", "covers")}
    more: dict[str, Any] = {"input": case} if case is not None else {"covers": list(c.covers)}
    return more | plain | numbers | {k: _finite(v) for k, v in measured.items()} | {"agrees": c.agrees}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

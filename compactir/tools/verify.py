"""`compactc verify`: the compiled network against the reference executor on the graph as authored."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.driver import Authored, Planned, build, generate, load, plan, read, write_to_cache
from compactir.ir.channel_map import ChannelMap
from compactir.ir.types import Array, TensorType
from compactir.tools import terminal
from compactir.tools.source import source_of, target_of

if TYPE_CHECKING:
    from compactir.runtime.module import Module
    from compactir.targets import Target

TOLERANCE = 1e-4
"""Of the largest element of the reference, per tensor."""


@dataclass(frozen=True)
class Comparison:
    """One tensor against its reference."""

    name: str
    error: float
    """max|a - b| over finite places."""
    scale: float
    """max|reference| over finite places."""
    same_specials: bool
    """NaN and infinities stand in the same places."""
    where: str = ""

    @property
    def relative(self) -> float:
        """The error in units of the largest element."""
        return self.error / self.scale if self.scale else self.error

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.same_specials and self.error <= TOLERANCE * self.scale


def compare(name: str, actual: Array, expected: Array, where: str = "") -> Comparison:
    """Compare two arrays of one shape; another shape is no agreement."""
    if actual.shape != expected.shape:
        return Comparison(name, float("inf"), 1.0, False, where)
    special = ~np.isfinite(expected)
    same = np.array_equal(special, ~np.isfinite(actual)) and np.array_equal(
        actual[special], expected[special], equal_nan=True
    )
    both = np.isfinite(actual) & ~special
    difference = np.abs(actual[both].astype(np.float64) - expected[both]).max(initial=0.0)
    scale = np.abs(expected[both]).max(initial=0.0)
    return Comparison(name, float(difference), float(scale), bool(same), where)


def main(args: Namespace) -> int:
    """Compile (or load), compare, print; 1 where they disagree."""
    with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
        authored = read(source_of(args))
        target, threads = _built_for(args.module) if args.module else (target_of(args), args.threads)
        planned = plan(authored, target, threads=threads)
        module = _module(args, planned)
        outputs: list[Comparison] = []
        for run in range(args.runs):
            say(f"comparing {module.name} with the reference: run {run + 1} of {args.runs}")
            outputs += compare_outputs(authored, module, seed=run)
        layers = list(compare_layers(planned, module)) if args.per_layer else []
    if args.json:
        terminal.print_json(_json(module, outputs, layers))
    else:
        _print(module, outputs, layers)
    return 0 if all(c.agrees for c in (*outputs, *layers)) else 1


def _built_for(folder: str) -> tuple[Target, int]:
    from compactir.targets import load_target

    with load(folder) as module:
        return load_target(module.target), module.threads


def _module(args: Namespace, planned: Planned) -> Module:
    """A new build, or the folder that --module names. Errors: CIR670 for a folder of another model."""
    if not args.module:
        generated = generate(planned)
        return load(write_to_cache(generated, build(generated, args.cc)))
    module = load(args.module)
    inside = "object" if module.manifest.raw.get("object") else "inline"
    generated = generate(planned, pack="file" if module.manifest.weights else inside)
    known = {name: t.shape for name, t in (module.inputs | module.outputs).items()}
    here = {t.name: t.shape for t in (*generated.manifest.inputs, *generated.manifest.outputs)}
    if known != here:
        raise CompactError(
            "CIR670",
            f"the module in {args.module} is not compiled from `{args.model}`: inputs or outputs differ",
            help="give the model, -D and --batch that it was compiled with",
        )
    if args.per_layer and module.manifest.content_id != generated.manifest.content_id:
        raise CompactError(
            "CIR670",
            f"the module in {args.module} has another plan than `{args.model}` has now",
            notes=["its steps cannot be compared one by one"],
            help="leave --per-layer out, or compile it again",
        )
    return module


def compare_outputs(authored: Authored, module: Module, seed: int = 0) -> list[Comparison]:
    """Every output on random inputs."""
    inputs = reference.random_inputs(authored.graph, seed)
    expected = reference.run(authored.graph, inputs)
    result = module(*(inputs[name] for name in module.inputs))
    actual: Mapping[str, Array] = result if isinstance(result, dict) else {next(iter(module.outputs)): result}
    return [compare(name, actual[name], expected[name]) for name in expected]


def compare_layers(planned: Planned, module: Module, seed: int = 0) -> Iterator[Comparison]:
    """What every step leaves in memory against the reference of the graph after the passes.

    Errors: CIR671 for a batch of more than one: its images share one workspace.
    """
    graph, lowered = planned.graph, planned.lowered
    if lowered.plan.batch != 1:
        raise CompactError(
            "CIR671", "steps are compared for one image", help="leave `--batch` out: the kernels are the same"
        )
    inputs = reference.random_inputs(graph, seed)
    values = {value.name: array for value, array in reference.trace(graph, inputs).items()}
    makers = {node.name: node for node in graph.nodes}
    for step, (workspace, outputs) in zip(lowered.plan.steps, module.stepwise(**inputs), strict=True):
        node = makers.get(step.name)
        if node is None or node.out.name not in lowered.places:
            continue  # a conversion of the caller's tensors
        place = lowered.places[node.out.name]
        actual = _gather(planned, place, node.out.type, workspace, outputs)
        yield compare(step.name, actual, values[node.out.name], step.where)


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


def _print(module: Module, outputs: list[Comparison], layers: list[Comparison]) -> None:
    columns = ("tensor", "max|difference|>", "max|reference|>", "relative>", "agrees", "where")
    for title, found in (("steps", layers), ("outputs", outputs)):
        if found:
            rows = [
                (c.name, f"{c.error:.3g}", f"{c.scale:.4g}", f"{c.relative:.1e}", c.agrees, c.where)
                for c in found
            ]
            terminal.table(f"{module.name} for {module.target}: {title} against the reference", columns, rows)
    wrong = next((c for c in (*layers, *outputs) if not c.agrees), None)
    if wrong is None:
        print(f"agrees: every difference is at most {TOLERANCE:g} of the largest element")
    else:
        print(f"does not agree: `{wrong.name}` is the first tensor that differs ({wrong.relative:.1e})")


def _json(module: Module, outputs: list[Comparison], layers: list[Comparison]) -> dict[str, Any]:
    def rows(found: list[Comparison]) -> list[dict[str, Any]]:
        return [
            asdict(c) | {"error": _finite(c.error), "relative": _finite(c.relative), "agrees": c.agrees}
            for c in found
        ]

    return {
        "network": module.name,
        "target": module.target,
        "tolerance": TOLERANCE,
        "agrees": all(c.agrees for c in (*outputs, *layers)),
        "outputs": rows(outputs),
        "layers": rows(layers),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

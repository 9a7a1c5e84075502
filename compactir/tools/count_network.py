"""`compactc count`: what a network executes on an Arm core, layer by layer, counted under an emulator."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from compactir.diagnostics import CompactError
from compactir.driver import Generated, generate, plan, read
from compactir.runtime.build import Compiler, find_compiler
from compactir.targets import all_targets
from compactir.tools import terminal
from compactir.tools.count import MODELS, Accesses, estimate_all, models_for
from compactir.tools.count.network import count_steps
from compactir.tools.source import source_of, target_of

WORK_OF = 4
"""Multiply-accumulates of one FMLA on a vector of four floats."""
COLUMNS = ("layer", "op", "MAC>", "instructions>", "FMA>", "loads>", "stores>", "other>", "FMA per MAC/4>")


@dataclass(frozen=True)
class Layer:
    """One step: its instructions by class, and estimated cycles by model."""

    name: str
    op: str
    where: str
    macs: int
    classes: dict[str, int]
    cycles: dict[str, float]
    accesses: Accesses | None = None

    @property
    def instructions(self) -> int:
        """All classes together."""
        return sum(self.classes.values())

    @property
    def others(self) -> int:
        """Neither multiply-adds on vectors, nor loads or stores."""
        known = ("fma32", "load_vector", "store_vector")
        return self.instructions - sum(self.classes.get(name, 0) for name in known)


def main(args: Namespace) -> int:
    """Compile, count, estimate, print."""
    with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
        target = target_of(args)
        generated = generate(plan(read(source_of(args)), target))
        compiler = find_compiler(target, args.cc)
        say(f"running {generated.manifest.network} under {target.runner}, counting")
        models = models_for(target.name, args.model_of_core or ())
        layers, missing = count(generated, compiler, models, args.caches)
    if args.json:
        terminal.print_json(as_json(generated, compiler, layers, missing))
    else:
        _print(generated, compiler, layers)
        if missing:
            terminal.note(f"no estimated cycles: {missing.message}")
            terminal.note(f"  help: {missing.help}")
    return 0


def check(args: Namespace) -> None:
    """Errors: CIR514 for a target whose instructions we cannot class, or the models of cores do not know."""
    target = target_of(args)
    if target.isa != "neon":
        names = ", ".join(t.name for t in all_targets() if t.isa == "neon")
        raise CompactError(
            "CIR514",
            f"counting is for Arm: `{target.name}` is not",
            help=f"give one of them with --target: {names}; `compactc profile` measures this machine's CPU",
        )
    models_for(target.name, args.model_of_core or ())


def count(
    generated: Generated, compiler: Compiler, models: Sequence[str], caches: bool = False
) -> tuple[list[Layer], CompactError | None]:
    """Every step counted; the error says which tool is missing where cycles could not be estimated."""
    intervals = count_steps(generated, compiler, caches=caches)
    cycles: list[dict[str, float]] = [{} for _ in intervals]
    missing = None
    try:
        for model in models:
            for into, found in zip(cycles, estimate_all(intervals, model), strict=True):
                into[model] = found.cycles
    except CompactError as error:
        if error.code != "CIR516":
            raise
        missing = error
    steps = generated.manifest.steps
    layers = [
        Layer(step.name, step.op, step.where, step.macs, interval.classes(), cost, interval.accesses)
        for step, interval, cost in zip(steps, intervals, cycles, strict=True)
    ]
    return layers, missing


def total(layers: Sequence[Layer]) -> Layer:
    """All layers as one."""
    classes: Counter[str] = Counter()
    for layer in layers:
        classes.update(layer.classes)
    models = dict.fromkeys(model for layer in layers for model in layer.cycles)
    cycles = {model: sum(layer.cycles[model] for layer in layers) for model in models}
    found = [layer.accesses for layer in layers if layer.accesses]
    sums = (sum(part) for part in zip(*(asdict(a).values() for a in found), strict=True))
    accesses = Accesses(*sums) if found else None
    macs = sum(layer.macs for layer in layers)
    return Layer("total", "", "", macs, dict(classes), cycles, accesses)


# -- showing it ----------------------------------------------------------------------------------------------


def _print(generated: Generated, compiler: Compiler, layers: Sequence[Layer]) -> None:
    whole = total(layers)
    models = list(whole.cycles)
    caches = whole.accesses is not None
    columns = [*COLUMNS, *(f"{model} cycles>" for model in models)]
    columns += ["L1 misses>", "L2 misses>"] if caches else []
    rows = [_row(layer, models, caches) for layer in layers]
    title = f"{generated.manifest.network} for {generated.manifest.target}, {compiler.version}"
    terminal.table(title, columns, rows, _row(whole, models, caches))
    for model in models:
        rate = whole.instructions / whole.cycles[model]
        print(f"{whole.cycles[model]:,.0f} cycles, {rate:.2f} instructions per cycle: {MODELS[model]}")
    if models:
        print("cycles are estimates, and lower bounds: every load hits the first cache, no branch is missed")


def _row(layer: Layer, models: Sequence[str], caches: bool) -> list[object]:
    classes = layer.classes
    row: list[object] = [layer.name, layer.op, layer.macs, layer.instructions]
    row += [classes.get(name, 0) for name in ("fma32", "load_vector", "store_vector")]
    row += [layer.others, f"{classes.get('fma32', 0) * WORK_OF / layer.macs:.2f}" if layer.macs else ""]
    row += [round(layer.cycles[model]) if model in layer.cycles else "" for model in models]
    if caches:
        row += [layer.accesses.l1_misses, layer.accesses.l2_misses] if layer.accesses else ["", ""]
    return row


def as_json(
    generated: Generated, compiler: Compiler, layers: Sequence[Layer], missing: CompactError | None
) -> dict[str, Any]:
    """Everything for programs."""

    def plain(layer: Layer) -> dict[str, Any]:
        accesses = {"accesses": asdict(layer.accesses)} if layer.accesses else {}
        named = {"name": layer.name, "op": layer.op, "where": layer.where, "macs": layer.macs}
        counts = {"instructions": layer.instructions, "classes": layer.classes}
        return named | counts | {"cycles": {m: round(c) for m, c in layer.cycles.items()}} | accesses

    whole = plain(total(layers))
    return {
        "network": generated.manifest.network,
        "target": generated.manifest.target,
        "compiler": compiler.version,
        "models": {name: MODELS[name] for layer in layers[:1] for name in layer.cycles},
        "missing": {"message": missing.message, "help": missing.help} if missing else None,
        "total": {key: whole[key] for key in whole if key not in ("name", "op", "where")},
        "layers": [plain(layer) for layer in layers],
    }

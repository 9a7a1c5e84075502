"""`compactc verify --by-hand`: the comparison on a board without ssh, as a folder and four commands."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compactir.runtime.by_hand import Recorder, commands
from compactir.runtime.manifest import read_manifest
from compactir.runtime.module import Module
from compactir.tools import terminal
from compactir.tools.preparation import Case
from compactir.tools.source import named

__all__ = ["Carried", "instead", "show", "write"]


@dataclass(frozen=True)
class Carried:
    """A folder that was written, and what a person types."""

    folder: str
    network: str
    target: str
    runs: int
    commands: list[str]


def write(args: Namespace, built: Path, out: Path, cases: Sequence[Case]) -> Carried:
    """Write the folder `out` for the network in the folder `built`. Errors: CIR652, those of compiling."""
    manifest = read_manifest(built)
    recorder = Recorder(built, manifest, cc=args.cc)
    module = Module(built, manifest, recorder)
    recorder.write(out, _calls(module, cases, args.per_layer))
    folder = named(out)
    typed = commands(Path(folder), args.host or "user@board", _again(args, folder))
    return Carried(folder, manifest.network, manifest.target, len(cases), typed)


def instead(args: Namespace, built: Path, cases: Sequence[Case]) -> list[str]:
    """The same where ssh does not reach the board: notes for that error."""
    carried = write(args, built, Path("out") / f"{read_manifest(built).symbol}-board", cases)
    return [f"{carried.folder} has all that it takes to run it there by hand:", *carried.commands]


def show(carried: Carried, as_json: bool) -> None:
    """Say what there is to do."""
    if as_json:
        terminal.print_json(vars(carried))
        return
    inputs = "1 input" if carried.runs == 1 else f"{carried.runs} inputs"
    print(f"{carried.folder}: {carried.network} for {carried.target}, {inputs}; nothing is compared yet")
    for command in carried.commands:
        print(f"  {command}")


def _calls(module: Module, cases: Sequence[Case], per_layer: bool) -> Iterator[Callable[[], object]]:
    """What `compactc verify` asks a module, one request each."""
    for case in cases:
        yield partial(module, *(case.inputs[name] for name in module.inputs))
    if per_layer:
        steps = module.stepwise(**cases[0].inputs)
        yield from (partial(next, steps) for _ in module.manifest.steps)


def _again(args: Namespace, folder: str) -> list[str]:
    """The command that compares the answers: the model and the inputs as they were given now."""
    words = ["compactc", "verify", args.model]
    for name, value in args.define:
        words += ["-D", f"{name}={value}"]
    usual = {"--batch": 1, "--runs": 3, "--against": "reference"}
    given = {
        "--network": args.network,
        "--batch": args.batch,
        "--weights": args.weights,
        "--map": args.map,
        "--init": None if args.seed is None else f"seed={args.seed}",
        "--against": args.against,
        "--inputs": args.inputs,
        "--runs": args.runs,
    }
    for flag, value in given.items():
        if value is not None and value != usual.get(flag):
            words += [flag, str(value)]
    return [*words, *(["--per-layer"] if args.per_layer else []), "--answers", folder]

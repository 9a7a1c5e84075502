"""`compactc profile`: the time of every step, against the multiply-adds that the machine could do."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from compactir.driver import build, generate, load, plan, read, write_to_cache
from compactir.runtime.manifest import read_manifest
from compactir.targets import load_target
from compactir.tools import terminal
from compactir.tools.source import check_runs_here, source_of, target_of

if TYPE_CHECKING:
    from compactir.runtime.module import Module


def main(args: Namespace) -> int:
    """Compile (or load), time, print."""
    is_built = Path(args.model).is_dir()
    check_runs_here(load_target(read_manifest(Path(args.model)).target) if is_built else target_of(args))
    with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
        module = _module(args)
        say(f"timing {module.name}")
        profile = module.profile(repeats=args.repeats, threads=args.threads)
    if args.json:
        terminal.print_json(profile.to_json())
    else:
        print(profile)
    return 0


def _module(args: Namespace) -> Module:
    if Path(args.model).is_dir():
        return load(args.model, args.cc)
    generated = generate(plan(read(source_of(args)), target_of(args), threads=args.threads or 1))
    return load(write_to_cache(generated, build(generated, args.cc)), args.cc)

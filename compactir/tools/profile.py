"""`compactc profile`: the time of every step, against the multiply-adds that the machine could do."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from compactir.driver import build, generate, load, plan, read, write_to_cache
from compactir.runtime.manifest import read_manifest
from compactir.targets import Target, load_target
from compactir.tools import terminal
from compactir.tools.source import check_runs_here, source_of, target_of

if TYPE_CHECKING:
    from compactir.runtime.module import Module

LOOPS = 20
"""Runs of the loop before the network's, and again after it: the fastest counts."""


def main(args: Namespace) -> int:
    """Compile (or load), time, print."""
    is_built = Path(args.model).is_dir()
    check_runs_here(load_target(read_manifest(Path(args.model)).target) if is_built else target_of(args))
    with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
        module = _module(args)
        threads = args.threads or module.threads
        say(f"timing {module.name}")
        loop = _Loop(load_target(module.target), threads, args.cc)
        before = loop.gflops()
        profile = module.profile(repeats=args.repeats, threads=threads)
        peak = max(before, loop.gflops())
    profile = profile.against(peak)
    if args.json:
        terminal.print_json(profile.to_json())
    else:
        print(profile)
    return 0


def _module(args: Namespace) -> Module:
    if Path(args.model).is_dir():
        return load(args.model)
    generated = generate(plan(read(source_of(args)), target_of(args), threads=args.threads or 1))
    return load(write_to_cache(generated, build(generated, args.cc)), args.cc)


class _Loop:
    """The loop of multiply-adds, on so many threads; for portable code in the vectors of this CPU."""

    def __init__(self, target: Target, threads: int, cc: str | None) -> None:
        from compactir.tools.bench.engines.peak import Loop
        from compactir.tools.bench.fma import CHAINS, build_loop

        target = target if target.isa != "scalar" else load_target("native")
        self._loop = Loop(build_loop(target, cc), threads)
        self._work = 2e-9 * CHAINS * target.lanes * threads * self._loop.rounds

    def gflops(self) -> float:
        """Of all threads together, at best."""
        best = float("inf")
        for _ in range(LOOPS):
            start = perf_counter()
            self._loop.run()
            best = min(best, perf_counter() - start)
        return self._work / best

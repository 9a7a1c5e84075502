"""Count what an Arm program executes: `python -m compactir.tools.count --target arm-a55 ./program`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from compactir.diagnostics import CompactError, render
from compactir.targets import load_target
from compactir.tools.count import MODELS, Estimate, Interval, estimate, models_for, run_counted


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 1 with an error on the standard error stream."""
    options = _parser().parse_args(argv)
    try:
        target = load_target(options.target)
        models = models_for(target.name, options.model or ())
        intervals, output = run_counted([options.program, *options.arguments], target, caches=options.caches)
        at = min(options.at, len(intervals) - 1)
        estimates = [estimate(intervals[at], model) for model in models]
    except CompactError as error:
        print(render(error), file=sys.stderr)
        return 1
    sys.stderr.write(output.decode(errors="replace"))
    if options.json:
        print(json.dumps(_as_json(intervals, at, estimates)))
    else:
        _print(intervals, at, estimates, options.hot, options.macs)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compactir.tools.count",
        description="Count the instructions that a program executes between calls of getppid(), by class.",
    )
    parser.add_argument("--target", default="arm-a76", help="whose program it is (default: arm-a76)")
    parser.add_argument("--at", type=int, default=1, help="the interval to estimate cycles of (default: 1)")
    parser.add_argument(
        "--model", action="append", choices=sorted(MODELS), help="default: what fits the target"
    )
    parser.add_argument("--caches", action="store_true", help="also model the data caches")
    parser.add_argument("--macs", type=int, default=0, help="multiply-accumulates, to set the counts against")
    parser.add_argument("--hot", type=int, default=0, metavar="N", help="show the N most expensive blocks")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _print(
    intervals: Sequence[Interval], at: int, estimates: Sequence[Estimate], hot: int, macs: int
) -> None:
    for number, interval in enumerate(intervals):
        classes = ", ".join(f"{name} {count:,}" for name, count in interval.classes().items())
        print(f"interval {number}: {interval.instructions:,} instructions: {classes}")
        if interval.accesses:
            print("  " + ", ".join(f"{name} {count:,}" for name, count in asdict(interval.accesses).items()))
    if macs:
        done = intervals[at].instructions
        print(f"{done / macs:.4f} instructions per MAC; {macs / 4 / done:.1%} of them do the work of 4")
    for result in estimates:
        rate = result.instructions / result.cycles if result.cycles else 0.0
        rates = f"{result.cycles:,.0f} cycles estimated, {rate:.2f} instructions per cycle"
        print(f"{MODELS[result.model]}: {rates}")
        for block in result.blocks[:hot]:
            share = block.times * block.cycles / result.cycles
            where = f"{block.block.address:x} {block.block.symbol}"
            print(f"  {share:6.1%} at {where}: runs {block.times:,} times, {block.cycles:.1f} cycles")
            print("\n".join(f"           {line}" for line in block.code[:60]))


def _as_json(intervals: Sequence[Interval], at: int, estimates: Sequence[Estimate]) -> dict[str, object]:
    return {
        "intervals": [
            {
                "instructions": interval.instructions,
                "classes": interval.classes(),
                "accesses": asdict(interval.accesses) if interval.accesses else None,
            }
            for interval in intervals
        ],
        "estimated_interval": at,
        "cycles": {result.model: result.cycles for result in estimates},
    }


if __name__ == "__main__":
    sys.exit(main())

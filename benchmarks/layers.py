"""What stands between a network and the peak, step by step: `python benchmarks/layers.py mobilenet_v2`.

The fastest of many runs of every step (they are short, so that other work on the machine hardly shows), the
time that its multiply-adds would take at the peak, and what is lost between the two. The same steps of
several blocks (`layer7.conv1` is `layern.conv1`) are added up; the largest losses come first. The tables
of benchmarks/LOG.md come from here.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@dataclass
class Kind:
    """Steps that are counted together."""

    name: str
    steps: int = 0
    us: float = 0.0
    macs: int = 0
    bytes: int = 0
    kernel: str = ""


def main() -> None:
    """Measure a network, print a table for the log."""
    from benchmarks.arguments import a_count, a_definition, a_target_that_runs, an_example
    from compactir.diagnostics import CompactError

    parser = argparse.ArgumentParser(description="What stands between a network and the peak.")
    parser.add_argument("network", type=an_example, help="an example's name")
    parser.add_argument("--target", type=a_target_that_runs, default="native")
    parser.add_argument(
        "-D", "--define", type=a_definition, action="append", default=[], metavar="NAME=VALUE"
    )
    parser.add_argument("--rounds", type=a_count, default=200)
    parser.add_argument("--top", type=a_count, default=12, help="how many rows, the rest in one")
    parser.add_argument("--apart", action="store_true", help="every step by itself")
    options = parser.parse_args()
    try:
        print("\n".join(_report(options)))
    except CompactError as error:
        parser.exit(1, f"{error}\n")


def _report(options: argparse.Namespace) -> Iterator[str]:
    from compactir import driver
    from compactir.runtime.peak import CHAINS, Loop, build_loop
    from compactir.runtime.profile import minima
    from compactir.targets import load_target

    target = load_target(options.target)
    source = driver.Source(ROOT / f"examples/{options.network}.arch", dict(options.define), seed=0)
    generated = driver.generate(driver.plan(driver.read(source), target))
    module = driver.load(driver.write_to_cache(generated, driver.build(generated, None)))
    loop = Loop(build_loop(target), 1)
    steps = module.manifest.steps

    def at_the_peak(first: int, last: int) -> int:
        loop.run()
        return 0

    spent = minima([module.stepper(), at_the_peak], len(steps), options.rounds)
    peak = 2e-3 * CHAINS * target.lanes * loop.rounds / min(spent[1])  # GFLOP/s, in the same rounds
    kinds: dict[str, Kind] = {}
    for step, us in zip(steps, spent[0], strict=True):
        block, dot, rest = step.name.partition(".")
        name = step.name if options.apart or not dot else f"{re.sub(r'[0-9]+', 'n', block)}.{rest}"
        kind = kinds.setdefault(name, Kind(name, kernel=step.kernel))
        kind.steps, kind.us, kind.macs = kind.steps + 1, kind.us + us, kind.macs + step.macs
        kind.bytes += step.bytes_moved
    yield from _table(list(kinds.values()), peak, options.top)


def _table(kinds: Sequence[Kind], peak: float, top: int) -> Iterator[str]:
    total = sum(kind.us for kind in kinds)
    ideal = 2e-3 * sum(kind.macs for kind in kinds) / peak
    yield f"{total:.0f} µs in all, {ideal / total:.0%} of {peak:.0f} GFLOP/s (sum of the fastest steps).\n"
    yield "| steps | kernels | µs | at the peak | lost | share of the loss | GB/s |"
    yield "|---|---|---|---|---|---|---|"
    lost = {id(kind): kind.us - 2e-3 * kind.macs / peak for kind in kinds}
    ranked = sorted(kinds, key=lambda kind: -lost[id(kind)])
    rest = ranked[top:]
    if rest:
        others = Kind(
            "all others", sum(k.steps for k in rest), sum(k.us for k in rest), sum(k.macs for k in rest)
        )
        others.bytes = sum(k.bytes for k in rest)
        lost[id(others)] = sum(lost[id(k)] for k in rest)
        ranked = [*ranked[:top], others]
    for kind in ranked:
        count = f"{kind.steps} × " if kind.steps > 1 else ""
        share = lost[id(kind)] / max(total - ideal, 1e-9)
        yield (
            f"| {count}{kind.name} | {kind.kernel} | {kind.us:.0f} | {2e-3 * kind.macs / peak:.0f} | "
            f"{lost[id(kind)]:.0f} | {share:.0%} | {1e-3 * kind.bytes / max(kind.us, 1e-9):.0f} |"
        )


if __name__ == "__main__":
    main()

"""Random networks against the C side for as long as told: `python tests/fuzz_c.py --seconds 600 --target c`.

What fails is shrunk by hypothesis and printed as `.cir` text. Exit status 1 where something failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, seed, settings

from compactir.ir.graph import Graph
from compactir.ir.plan_text import parse_plan, print_plan
from compactir.ir.text import print_graph
from compactir.ir.verify_plan import verify_plan
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target
from tests.c.networks import AT_START, Case, build, disagreements
from tests.c.regions import separable
from tests.graphs import graphs


def check(graph: Graph, target: Target, cache_bytes: int | None) -> None:
    """One network: plan, text, C between guard pages, numbers."""
    case = Case("network", graph).optimised(target, cache_bytes)
    with tempfile.TemporaryDirectory() as folder:
        program = build([case], target, find_compiler(target), Path(folder), "-O1")
        plan = program.networks[0].lowered.plan
        assert parse_plan(print_plan(plan)) == plan
        verify_plan(plan)
        wrong = {**disagreements(program), **disagreements(program, AT_START)}
    assert not wrong, f"{wrong}\n{print_graph(graph)}"


def one_round(number: int, target: Target, end: float) -> int:
    """Networks of one seed until the time is over; says how many."""
    done: list[Graph] = []

    @seed(number)
    @settings(max_examples=50, database=None, deadline=None)
    @given(st.one_of(graphs().map(lambda g: (g, None)), st.tuples(separable(), st.sampled_from([0, 1]))))
    def run(drawn: tuple[Graph, int | None]) -> None:
        if time.monotonic() < end:
            check(drawn[0], target, drawn[1])
            done.append(drawn[0])

    run()
    return len(done)


def main() -> int:
    """Rounds of fifty networks, each with a seed of its own that the output names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long")
    parser.add_argument("--target", action="append", help="which targets, by default c and native")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    args = parser.parse_args()
    targets = [load_target(name) for name in args.target or ("c", "native")]
    end, number, done = time.monotonic() + args.seconds, args.seed, 0
    while time.monotonic() < end:
        target = targets[number % len(targets)]

        print(f"seed {number}, target {target.name}: {done} networks so far", flush=True)
        try:
            done += one_round(number, target, end)
        except AssertionError as error:
            print(error)
            return 1
        number += 1
    print(f"{done} networks, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())

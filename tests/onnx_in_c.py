"""The cases of ONNX's backend suite that pass in the reference, compiled: `python -m tests.onnx_in_c`.

    --target c     for another target (default: native)

Forty networks make one program. Exit status 1 where a case has no kernel, or its output is not what the
reference says. Cases without an input, or that only name one anew, have nothing to compile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from compactir.codegen.lower import lower
from compactir.diagnostics import CompactError
from compactir.frontends.onnx.backend import CompactBackend
from compactir.frontends.onnx.reader import imported, read_model
from compactir.ir.graph import Graph
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target
from tests import onnx_suite
from tests.c.networks import AT_END, Case, build, disagreements

KINDS = ("pytorch-converted", "pytorch-operator", "simple", "node")
LEAST = 800
"""Networks that have to be compiled."""


def graph_of(case: onnx_suite.Case) -> Graph:
    """The network of a case; shapes, axes and weights among its inputs are constants."""
    model = CompactBackend.prepare(case.model).model
    inputs, _ = case.data[0]
    names = (value.name for value in model.inputs)
    given = {name: np.asarray(array) for name, array in zip(names, inputs, strict=False)}
    return imported(read_model(model, model.name, given=given))


def networks(target: Target, lacking: list[str]) -> Iterator[Case]:
    """What can be compiled, after the passes; the others are listed."""
    for case in onnx_suite.cases(KINDS):
        if onnx_suite.out_of_scope(case.model) or onnx_suite.judge(case).word != "passed":
            continue
        graph = graph_of(case)
        if not graph.inputs or not graph.nodes:
            continue
        network = Case(case.name.replace("/", "_"), graph).optimised(target)
        try:
            lower(network.graph, target)
        except CompactError as error:
            lacking.append(f"{case.name}: {error.code}: {error.message}")
            continue
        yield network


def main(arguments: Iterable[str] | None = None) -> int:
    """Compile and compare everything."""
    parser = argparse.ArgumentParser(description="ONNX's backend suite in C")
    parser.add_argument(
        "--target", default="native", help="a target that this machine runs (default: native)"
    )
    args = parser.parse_args(None if arguments is None else list(arguments))
    target = load_target(args.target)
    wrong: list[str] = []
    done = 0
    with np.errstate(all="ignore"):
        found = networks(target, wrong)
        while some := list(islice(found, 40)):
            with tempfile.TemporaryDirectory() as folder:
                program = build(some, target, find_compiler(target), Path(folder), "-O0")
                wrong += [
                    f"{name}: off by {error:.1e}" for name, error in disagreements(program, AT_END).items()
                ]
            done += len(some)
    for line in wrong:
        print(f"failed in C: {line}")
    print(f"{done} networks compiled for {target.name}, {len(wrong)} wrong or without a kernel")
    return 1 if wrong or done < LEAST else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every file of tests/passes: cases of `// RUN: PIPELINE`, the graph before, `// =====`, the graph after.

Cases are parted by `// -----`. A case may say `// WEIGHTS: name = [[1, 0], [0, 1]]` (Python, spread over the
shape), `// ERROR: CIR401` instead of a graph after, `// UNBOUND` to run without weights, and `// LOG: text`
for every decision that must be in the log. Where text before and after are equal, the case shows that the
pass does not fire.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph, print_graph
from compactir.passes import PASSES, Log, parse_pipeline, run_pipeline
from compactir.passes._verify import disagreement

FILES = sorted((Path(__file__).parent / "passes").glob("*.cir"))
BETWEEN, AFTER = "// -----\n", "// =====\n"


@dataclass
class Case:
    """One case of a file."""

    path: Path
    index: int
    before: str
    after: str

    def directives(self, word: str) -> list[str]:
        """What stands behind `// WORD:`."""
        return [m[1].strip() for m in re.finditer(rf"^// {word}:?(.*)$", self.before, re.MULTILINE)]

    @property
    def pipeline(self) -> str:
        """The passes to run."""
        return self.directives("RUN")[0]

    def graph(self) -> Graph:
        """The graph before, with weights unless the case says UNBOUND."""
        graph = parse_graph(self.before, str(self.path))
        if not self.directives("UNBOUND"):
            draw(graph)
            for line in self.directives("WEIGHTS"):
                name, _, numbers = line.partition("=")
                array = np.asarray(ast.literal_eval(numbers.strip()), np.float32)
                shape = graph.params[name.strip()].type.shape
                array = array.reshape([*array.shape, *[1] * (len(shape) - array.ndim)])
                graph.weights[name.strip()] = np.broadcast_to(array, shape).copy()
        return graph

    def written(self, after: str) -> str:
        """The text of the case with this graph after."""
        return self.before + AFTER + after


def draw(graph: Graph, seed: int = 0) -> None:
    """Bind seeded weights; variances are positive."""
    rng = np.random.default_rng(seed)
    for name, param in graph.params.items():
        array = rng.standard_normal(param.type.shape)
        graph.weights[name] = (np.abs(array) + 0.5 if param.init == "variance" else array).astype(np.float32)


def cases() -> Iterator[Case]:
    """All cases of all files."""
    for path in FILES:
        for index, text in enumerate(path.read_text(encoding="utf-8").split(BETWEEN)):
            before, _, after = text.partition(AFTER)
            yield Case(path, index, before, after)


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.path.stem}-{c.index}")
def test_case(case: Case, update_golden: bool) -> None:
    """The text after is as written, the results are those of before, the log says what the case wants."""
    graph = case.graph()
    if errors := case.directives("ERROR"):
        with pytest.raises(CompactError) as caught:
            run_pipeline(graph, case.pipeline)
        assert caught.value.code == errors[0]
        return
    original, log = graph.clone(), Log()
    run_pipeline(graph, case.pipeline, verify_each=bool(graph.weights) or not graph.params, log=log)
    after = print_graph(graph, spans=False).removeprefix("cir 1\n")
    if update_golden:
        update(case, after)
    else:
        assert after == case.after
    assert print_graph(parse_graph(after), spans=False).removeprefix("cir 1\n") == after
    decisions = "\n".join(map(str, log.decisions))
    for expected in case.directives("LOG"):
        assert expected in decisions
    if not case.directives("UNBOUND") and not any(step.lossy for step in parse_pipeline(case.pipeline)):
        same_in_float64(original, graph)


def same_in_float64(before: Graph, after: Graph) -> None:
    """Equal outputs, but for the rounding of folded weights to float32 (`verify_each` has none of it)."""
    inputs = reference.random_inputs(before, seed=3)
    expected = reference.run(before, inputs, np.float64)
    for name, array in reference.run(after, inputs, np.float64).items():
        assert disagreement(array, expected[name]) < 1e-5


def update(case: Case, after: str) -> None:
    """Write one case of a file anew."""
    parts = case.path.read_text(encoding="utf-8").split(BETWEEN)
    parts[case.index] = case.written(after)
    case.path.write_text(BETWEEN.join(parts), encoding="utf-8")


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    """A pass without its golden file, or whose file shows one side only, is not finished."""
    own = [c for c in CASES if c.path.stem == name.replace("-", "_")]
    assert own, f"tests/passes/{name.replace('-', '_')}.cir is missing"
    fires = {name in run_pipeline(c.graph(), c.pipeline).changed for c in own if not c.directives("ERROR")}
    assert fires == {True, False}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.path.stem}-{c.index}")
def test_a_second_run_changes_nothing(case: Case) -> None:
    """A pass that would go on changing its own result has not finished the first time."""
    if case.directives("ERROR"):
        return
    graph = case.graph()
    run_pipeline(graph, case.pipeline)
    once = print_graph(graph)
    for step in parse_pipeline(case.pipeline):
        changed = step(graph)
        assert print_graph(graph) == once
        assert not changed

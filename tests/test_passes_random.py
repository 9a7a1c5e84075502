"""Random networks through every pass and the whole pipeline, judged by the reference in float64."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

from compactir import reference
from compactir.codegen.c.emit import emit_c
from compactir.codegen.lower import lower
from compactir.diagnostics import CompactError
from compactir.driver import Source, read_graph
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Value
from compactir.ir.op import Op
from compactir.ir.text import parse_graph, print_graph
from compactir.ir.types import TensorType
from compactir.ops.activation import Relu
from compactir.ops.arrange import Shuffle
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.passes import PASSES, Pass, parse_pipeline, pipeline, run_pipeline
from compactir.passes._verify import disagreement
from compactir.targets import load_target
from compactir.weights.init import draw
from tests.effort import calls
from tests.graphs import features, graphs

MANY = 500
ACTIVATIONS = {"swish", "hard_swish", "leaky_relu", "tanh", "sigmoid", "hard_sigmoid", "clip"}
"""Beside relu and relu6, which passes know by name, these count as one feature."""


@pytest.fixture(scope="module")
def coverage() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """500 random graphs through the whole pipeline, each pass verified to 1e-9 in float64.

    Returns in how many of them each pass fired, and each pair of features occurred.
    """
    fired: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()

    @settings(max_examples=MANY, derandomize=True, database=None, phases=[Phase.generate])
    @given(graphs(min_steps=14, max_steps=22, distinct=True))
    def verify(graph: Graph) -> None:
        found = features(graph)
        found = found - ACTIVATIONS | ({"other activation"} if found & ACTIVATIONS else set())
        fired.update({"graphs", *run_pipeline(graph, pipeline("c"), verify_each=True).changed})
        pairs.update(combinations(sorted(found), 2))

    verify()
    return fired, pairs


@pytest.mark.slow
@pytest.mark.slow
def test_every_pass_fires_in_a_tenth_of_500_verified_graphs(
    coverage: tuple[Counter[str], Counter[tuple[str, str]]],
) -> None:
    fired, _ = coverage
    assert fired["graphs"] >= MANY
    shares = {step.name: fired[step.name] / fired["graphs"] for step in pipeline("c")}
    assert {name: share for name, share in shares.items() if share < 0.1} == {}


@pytest.mark.slow
def test_every_two_features_occur_together_twenty_times(
    coverage: tuple[Counter[str], Counter[tuple[str, str]]],
) -> None:
    _, pairs = coverage
    known = sorted({name for pair in pairs for name in pair})
    wanted = {"shuffle", "slice", "split_unit", "concat", "uneven groups", "masked", "residual"}
    assert set(known) >= wanted | {"mixed kernels", "groups", "depthwise", "gather", "product"}
    assert {pair: pairs[pair] for pair in combinations(known, 2) if pairs[pair] < 20} == {}


@given(graphs())
@settings(max_examples=30)
def test_the_whole_pipeline_keeps_the_function(graph: Graph) -> None:
    """Other graphs each time: the results in float32 weights, and the text form."""
    before = graph.clone()
    run_pipeline(graph, pipeline("c"))
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text
    inputs = reference.random_inputs(before, 1)
    expected = reference.run(before, inputs, np.float64)
    for name, array in reference.run(graph, inputs, np.float64).items():
        assert disagreement(array, expected[name]) < 1e-4


@pytest.mark.parametrize("name", sorted(PASSES))
@given(graph=graphs())
@settings(max_examples=15)
def test_every_pass_alone_keeps_the_function_and_settles(name: str, graph: Graph) -> None:
    """One pass on what an author may write, verified; running it again changes nothing."""
    run_pipeline(graph, name, verify_each=True)
    once = print_graph(graph)
    [again] = parse_pipeline(name)
    assert not again(graph)
    assert print_graph(graph) == once


@dataclass(frozen=True)
class WrongShuffle(Pass):
    """shuffle(g) -> its inverse: the mistake that papers and their code disagree about."""

    name: ClassVar[str] = "wrong-shuffle"

    def run(self, graph: Graph) -> bool:
        shuffles = [n for n in graph.nodes if isinstance(n.op, Shuffle)]
        for node in shuffles:
            assert isinstance(node.op, Shuffle)
            node.op = Shuffle(node.out.type.channels // node.op.groups)
        return bool(shuffles)


@pytest.mark.slow
def test_a_broken_pass_is_caught_and_shrunk() -> None:
    """The verifier finds it, and hypothesis reduces the network to a handful of nodes."""

    def caught(graph: Graph) -> bool:
        try:
            run_pipeline(graph.clone(), [WrongShuffle()], verify_each=True)
        except CompactError as error:
            return error.code == "CIR402" and "wrong-shuffle" in error.message
        return False

    graph = find(graphs(), caught, settings=settings(max_examples=500, database=None))
    assert len(graph.nodes) <= 6


def shufflenet(units: int) -> Graph:
    """ShuffleNetV1's unit, ten nodes, as often as asked for."""
    graph, channels = Graph("long"), 24
    x = graph.input("image", TensorType.f32(1, channels, 4, 4))
    groups = Connectivity.grouped(channels, channels, 3)
    filters = Connectivity.grouped(channels, channels, channels, (3, 3), (1, 1, 1, 1))
    for unit in range(units):

        def apply(op: Op, *xs: Value, unit: int = unit) -> Value:
            return graph.apply(op, xs, f"u{unit}_{len(graph.nodes)}")

        y = apply(Relu(), apply(BatchNorm(), apply(Conv(groups), x)))
        y = apply(BatchNorm(), apply(Conv(filters), apply(Shuffle(3), y)))
        y = apply(BatchNorm(), apply(Conv(groups), y))
        x = apply(Relu(), apply(Add(), x, y))
    graph.outputs["y"] = x
    graph.weights = {name: np.ones(p.type.shape, np.float32) for name, p in graph.params.items()}
    return graph


@pytest.mark.slow
def test_compiling_is_linear_in_the_number_of_nodes() -> None:
    """Passes, plan and C of 10 000 nodes take ten times the calls of 1 000 (seconds: `bench_compile.py`)."""
    target, taken = load_target("x86"), {}
    for units in (10, 100, 1000):  # the first one only fills caches
        graph = shufflenet(units)

        def compile_it(graph: Graph = graph) -> None:
            log = run_pipeline(graph, pipeline("c", target))
            assert {"fold-batchnorm", "fold-shuffle", "fuse-epilogue"} <= set(log.changed)
            emit_c(lower(graph, target), target, pack="file")

        taken[units] = calls(compile_it)
        assert len(graph.nodes) == 3 * units
    assert taken[1000] < 11 * taken[100], taken


@pytest.mark.parametrize("name", ["shufflenet_v2", "condensenet74", "darts_v2"])
@pytest.mark.slow
def test_an_example_is_compiled_with_little_effort(name: str) -> None:
    """From its file to C, drawing of weights aside: CondenseNet-74's 12 million calls take 1.5 s."""
    target, path = load_target("x86"), Path(__file__).parent.parent / "examples" / f"{name}.arch"
    graph = read_graph(Source(path))
    graph.weights = draw(graph, 0)

    def compile_it() -> None:
        run_pipeline(graph, pipeline("c", target))
        emit_c(lower(graph, target), target, pack="file")

    assert calls(lambda: read_graph(Source(path))) + calls(compile_it) < 16_000_000

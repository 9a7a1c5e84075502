"""Random networks through every pass and the whole pipeline, judged by the reference in float64."""

import numpy as np
import pytest
from hypothesis import given, settings

from compactir import reference
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph, print_graph
from compactir.passes import PASSES, parse_pipeline, pipeline, run_pipeline
from compactir.passes._verify import disagreement
from tests.graphs import graphs


@given(graphs())
@settings(max_examples=60)
def test_the_whole_pipeline_keeps_the_function(graph: Graph) -> None:
    """Every pass of the C pipeline, each verified, and the text form of the result."""
    before = graph.clone()
    run_pipeline(graph, pipeline("c"), verify_each=True)
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text
    inputs = reference.random_inputs(before, 1)
    expected = reference.run(before, inputs, np.float64)
    for name, array in reference.run(graph, inputs, np.float64).items():
        assert disagreement(array, expected[name]) < 1e-4


@pytest.mark.parametrize("name", sorted(PASSES))
@given(graph=graphs())
@settings(max_examples=25)
def test_every_pass_alone_keeps_the_function_and_settles(name: str, graph: Graph) -> None:
    """One pass on what an author may write, verified; running it again changes nothing."""
    run_pipeline(graph, name, verify_each=True)
    once = print_graph(graph)
    [again] = parse_pipeline(name)
    assert not again(graph)
    assert print_graph(graph) == once

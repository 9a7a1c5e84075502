"""The executor of graphs: what it computes, in which element type, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ir.types import TensorType
from compactir.ops.activation import Relu
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from tests.graphs import graphs, random_weights


def residual() -> Graph:
    """relu(conv(x)) + x and the convolution itself."""
    graph = Graph("residual")
    x = graph.input("x", TensorType.f32(1, 3, 4, 4))
    y = graph.apply(Conv(Connectivity.dense(3, 3)), [x], "conv1")
    graph.outputs["sum"] = graph.apply(Add(), [graph.apply(Relu(), [y], "relu1"), x], "add1")
    graph.outputs["conv"] = y
    graph.weights = random_weights(graph)
    return graph


def test_outputs_are_what_the_graph_says() -> None:
    graph = residual()
    x = reference.random_inputs(graph)["x"].astype(np.float64)
    out = reference.run(graph, {"x": x}, np.float64)
    conv = np.einsum("oi,nihw->nohw", graph.weights["conv1.weight"][:, :, 0, 0].astype(np.float64), x)
    np.testing.assert_allclose(out["conv"], conv, rtol=1e-12)
    np.testing.assert_allclose(out["sum"], np.maximum(conv, 0) + x, rtol=1e-12)


@settings(max_examples=60)
@given(graphs())
def test_both_element_types_agree_on_random_graphs(graph: Graph) -> None:
    inputs = reference.random_inputs(graph)
    single, double = (reference.trace(graph, inputs, dtype) for dtype in (np.float32, np.float64))
    for node in graph.nodes:
        a, b = single[node.out], double[node.out]
        assert a.dtype == np.float32
        assert b.dtype == np.float64
        assert a.shape == b.shape == node.out.type.shape
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max() + 1e-6


@settings(max_examples=30)
@given(
    graphs(steps=["dense", "groups", "depthwise", "mixed", "uneven", "table", "learned", "branches", "gate"])
)
def test_counted_multiplications_are_the_formula(graph: Graph) -> None:
    assert reference.counted(graph, reference.random_inputs(graph)) == graph.macs


def test_inputs_are_seeded() -> None:
    graph = residual()
    first, again, other = (reference.random_inputs(graph, seed)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def test_missing_weights_are_named() -> None:
    graph = residual()
    graph.weights.clear()
    with pytest.raises(CompactError, match=r"CIR601: `residual` has no weights for conv1\.weight"):
        reference.run(graph, reference.random_inputs(graph))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "is missing"),
        ({"x": np.zeros((1, 3, 4, 5))}, r"has shape \[1, 3, 4, 5\]"),
        ({"y": 0}, "is missing"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(CompactError, match=f"CIR602: input `x` {words}"):
        reference.run(residual(), inputs)


def test_nan_and_infinity_are_results_like_any_other() -> None:
    graph = residual()
    x = reference.random_inputs(graph)["x"]
    x[0, 1, 2, 3], x[0, 0, 0, 0] = np.nan, np.inf
    out = reference.run(graph, {"x": x})["sum"]
    assert np.isnan(out[0, :, 2, 3]).all()
    assert np.isfinite(out[0, :, 1, 1]).all()
    assert np.isinf(out[0, 0, 0, 0])

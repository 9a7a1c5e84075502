"""The generator of random graphs: what it makes is valid, seeded, small, and holds what passes look for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

from compactir.ir.graph import Graph
from compactir.ir.text import print_graph
from tests.graphs import STEPS, features, graphs, random_weights

WANTED = {
    *("conv", "dense", "groups", "depthwise", "blocks", "mixed kernels", "masked", "strided", "dilated"),
    *("biased", "dead outputs", "shuffle", "permute", "gather", "slice", "concat", "add", "mul"),
    *("bn", "affine", "lrn", "relu", "relu6", "hard_swish", "tanh", "max_pool", "avg_pool", "upsample"),
    *("global_avg_pool", "flatten", "linear", "identity", "dropout", "two outputs"),
}


@pytest.mark.slow
def test_everything_that_passes_look_for_occurs() -> None:
    found: Counter[str] = Counter()

    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    @given(graphs())
    def collect(graph: Graph) -> None:
        found.update(features(graph))

    collect()
    assert set(found) >= WANTED


@pytest.mark.parametrize("step", sorted(STEPS))
def test_every_step_makes_nodes(step: str) -> None:
    sizes: list[int] = []

    @settings(max_examples=10, derandomize=True, database=None, phases=[Phase.generate])
    @given(graphs(steps=[step]))
    def collect(graph: Graph) -> None:
        sizes.append(len(graph.nodes))

    collect()
    assert max(sizes) > 0


def test_failures_shrink_to_what_matters() -> None:
    graph = find(graphs(), lambda g: "lrn" in features(g), settings=settings(database=None))
    assert len(graph.nodes) <= 3


@settings(max_examples=50)
@given(graphs())
def test_weights_are_bound_and_seeded(graph: Graph) -> None:
    assert set(graph.weights) == set(graph.params)
    assert all(w.dtype == np.float32 and np.isfinite(w).all() for w in graph.weights.values())
    first, again, other = (random_weights(graph, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    if any(w.size > 8 for n, w in first.items() if graph.params[n].init == "he"):
        assert any(not np.array_equal(first[n], other[n]) for n in first)
    assert len(print_graph(graph)) < 30_000

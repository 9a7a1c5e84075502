"""Runs a graph with the NumPy meaning of its operations: the judge of everything else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph, Value
from compactir.ir.op import counted_macs
from compactir.ir.types import Array


def run(graph: Graph, inputs: Mapping[str, Array], dtype: type[np.floating] = np.float32) -> dict[str, Array]:
    """Every output of the graph by name, computed in `dtype`.

    Args:
        graph: with its weights bound.
        inputs: one array per input, of the input's shape.
        dtype: np.float32, or np.float64 to tell a wrong rewrite from rounding.

    Errors: CIR601 (no weights), CIR602 (inputs missing or of another shape).
    """
    results = trace(graph, inputs, dtype)
    return {name: results[value] for name, value in graph.outputs.items()}


def trace(
    graph: Graph, inputs: Mapping[str, Array], dtype: type[np.floating] = np.float32
) -> dict[Value, Array]:
    """Every value of the graph: what `verify --per-layer` compares. Arguments as `run`."""
    missing = [name for name in graph.params if name not in graph.weights]
    if missing:
        raise CompactError(
            "CIR601",
            f"`{graph.name}` has no weights for {', '.join(missing[:4])}",
            help="bind or draw them first",
        )
    values: dict[Value, Array] = {
        p: np.asarray(graph.weights[name], dtype) for name, p in graph.params.items()
    }
    for value in graph.inputs:
        given = inputs.get(value.name)
        if given is None or np.shape(given) != value.type.shape:
            found = "is missing" if given is None else f"has shape {list(np.shape(given))}"
            raise CompactError("CIR602", f"input `{value.name}` {found}, it must be {value.type}")
        values[value] = np.asarray(given, dtype)
    with np.errstate(all="ignore"):  # NaN and Inf are results like any other here
        for node in graph.nodes:
            values[node.out] = node.op.reference(*(values[a] for a in node.args))
    return values


def counted(graph: Graph, inputs: Mapping[str, Array]) -> int:
    """Multiply-accumulates that the references' loops execute on these inputs."""
    with counted_macs() as count:
        run(graph, inputs)
    return count[0]


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Seeded standard normal inputs."""
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal(v.type.shape).astype(np.float32) for v in graph.inputs}

"""`--verify-each`: the reference judges every pass, on random inputs, in float64."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph, Node
from compactir.ir.types import Array
from compactir.passes._base import Instrument, Pass
from compactir.reference import random_inputs, trace


def disagreement(actual: Array, expected: Array) -> float:
    """max|a − b| / max|b| over finite places; infinite where shape, NaN or Inf differ."""
    if actual.shape != expected.shape:
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(np.isnan(actual), np.isnan(expected)):
        return float("inf")
    if not np.array_equal(actual[~finite & ~np.isnan(expected)], expected[~finite & ~np.isnan(expected)]):
        return float("inf")
    error = np.abs(actual[finite] - expected[finite]).max(initial=0.0)
    scale = np.abs(expected[finite]).max(initial=0.0)
    return float(error / scale) if scale else float("inf" if error else 0.0)


def _fingerprint(graph: Graph) -> object:
    """Equal exactly where nothing was touched: passes put new arrays in place of old ones, never numbers."""
    nodes = [(n, n.op, n.out, *n.args) for n in graph.nodes]
    return nodes, dict(graph.outputs), {name: id(array) for name, array in graph.weights.items()}


@dataclass
class Verifier(Instrument):
    """Compares every output before and after each pass; a difference above `tolerance` stops with CIR402.

    Weights are float64 while it watches, so that folding does not round; `finish` stores them back as they
    came.
    """

    tolerance: float = 1e-9
    seed: int = 0
    _dtypes: dict[str, np.dtype[np.generic]] = field(default_factory=dict)
    _inputs: dict[str, Array] = field(default_factory=dict)
    _values: dict[str, Array] = field(default_factory=dict)
    _outputs: dict[str, Array] = field(default_factory=dict)
    _fingerprint: object = None

    def start(self, graph: Graph) -> None:
        self._dtypes = {name: array.dtype for name, array in graph.weights.items()}
        graph.weights = {name: np.asarray(array, np.float64) for name, array in graph.weights.items()}
        self._inputs = random_inputs(graph, self.seed)
        self._fingerprint = _fingerprint(graph)
        self._remember(graph)

    def after(self, step: Pass, graph: Graph, changed: bool) -> None:
        known, self._fingerprint = self._fingerprint, _fingerprint(graph)
        if self._fingerprint == known:
            return
        names, outputs = self._values, self._outputs
        self._remember(graph)
        if step.lossy:  # from here on its result is what must be kept
            return
        for name, expected in outputs.items():
            error = disagreement(self._outputs[name], expected) if name in self._outputs else float("inf")
            if error > self.tolerance:
                raise self._report(step, graph, name, error, names)

    def finish(self, graph: Graph) -> None:
        graph.weights = {
            name: array.astype(self._dtypes.get(name, np.dtype(np.float32)), copy=False)
            for name, array in graph.weights.items()
        }

    def _remember(self, graph: Graph) -> None:
        results = trace(graph, self._inputs, np.float64)
        self._values = {value.name: array for value, array in results.items()}
        self._outputs = {name: results[value] for name, value in graph.outputs.items()}

    def _report(
        self, step: Pass, graph: Graph, output: str, error: float, before: dict[str, Array]
    ) -> CompactError:
        node = self._first_difference(graph, before)
        where = f"; the first value that differs is made by `{node.name}`" if node else ""
        return CompactError(
            "CIR402",
            f"pass `{step}` changes output `{output}` by {error:.1e} of its largest element{where}",
            span=node.span if node else None,
            notes=[f"the value is {node!r}"] if node else [],
            help=f"this is a bug of the pass: `--dump-ir before:{step.name}` shows what it was given",
        )

    def _first_difference(self, graph: Graph, before: dict[str, Array]) -> Node | None:
        """The first node whose value existed before the pass, with other content."""
        for node in graph.nodes:
            old, new = before.get(node.out.name), self._values[node.out.name]
            if old is not None and disagreement(new, old) > self.tolerance:
                return node
        return None

"""Counting a network: parameters from arrays, MACs in the reference's loops, both again by formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compactir import reference
from compactir.ir.graph import Graph, Node, Param
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear, Rbf

WEIGHTED = (Conv, Linear, Rbf)
"""Operations whose memory access the ShuffleNetV2 paper counts: convolutions and fully connected layers."""


@dataclass(frozen=True)
class Layer:
    """One node of the authored graph. Sizes in elements, for one image."""

    name: str
    op: str
    where: str
    shape: tuple[int, ...]
    params: int
    macs: int
    """By the closed formula."""
    read: int
    written: int
    weights: int
    """Without the bias, as the paper counts."""
    weighted: bool
    """Convolution or fully connected."""

    @property
    def memory_access(self) -> int:
        """Elements in + out + weights: hw (c1 + c2) + c1 c2 for a 1×1 convolution."""
        return self.read + self.written + self.weights

    @property
    def bytes(self) -> int:
        """Memory of the result and of the parameters, as float32."""
        return 4 * (self.written + self.params)


@dataclass(frozen=True)
class Counts:
    """A network's totals, for one image."""

    layers: tuple[Layer, ...]
    params: int
    """Trained scalars in the arrays, without those that a connection mask removes."""
    params_stored: int
    params_formula: int
    buffers: int
    """Kept, not trained: batch-norm statistics, masks."""
    macs: int
    """As the loops of the reference execute them."""
    macs_formula: int

    @property
    def memory_access_cost(self) -> int:
        """Σ in + out + weights over convolutions and fully connected layers."""
        return sum(layer.memory_access for layer in self.layers if layer.weighted)

    @property
    def disagreements(self) -> list[str]:
        """What the three ways of counting do not agree on; empty as it should be."""
        masked = self.params != self.params_stored
        found = []
        if self.params_stored != self.params_formula:
            found.append(
                f"the arrays hold {self.params_stored:,} parameters, the formulas say {self.params_formula:,}"
            )
        if self.macs != self.macs_formula and not masked:
            found.append(f"the loops execute {self.macs:,} MACs, the formulas say {self.macs_formula:,}")
        return found


def count(graph: Graph) -> Counts:
    """Count a graph whose weights are bound; runs the reference once."""
    batch = graph.inputs[0].type.batch if graph.inputs else 1
    trained = [name for name, p in graph.params.items() if p.role == "weight"]
    sizes = {name: graph.weights[name].size for name in graph.params}
    stored = sum(sizes[name] for name in trained)
    return Counts(
        layers=tuple(layer(node, batch) for node in graph.nodes),
        params=stored - sum(_masked_out(graph, node) for node in graph.nodes),
        params_stored=stored,
        params_formula=graph.trainable,
        buffers=sum(sizes.values()) - stored,
        macs=reference.counted(graph, reference.random_inputs(graph)) // batch,
        macs_formula=graph.macs // batch,
    )


def layer(node: Node, batch: int) -> Layer:
    """What a node computes, reads and writes."""
    trained = [p for p in node.params if p.role == "weight"]
    return Layer(
        name=node.name,
        op=node.op.label,
        where=f"{node.span}" if node.span else "",
        shape=node.out.type.shape,
        params=sum(p.type.size for p in trained),
        macs=node.macs // batch,
        read=sum(v.type.size for v in node.values) // batch,
        written=node.out.type.size // batch,
        weights=sum(p.type.size for p in trained if not _is_bias(p)),
        weighted=isinstance(node.op, WEIGHTED),
    )


def _is_bias(param: Param) -> bool:
    return param.name.rpartition(".")[2] == "bias"


def _masked_out(graph: Graph, node: Node) -> int:
    """Weights of a convolution that its mask removes."""
    if not (isinstance(node.op, Conv) and node.op.masked):
        return 0
    mask = graph.weights[next(p.name for p in node.params if p.name.endswith("mask"))]
    weight = graph.weights[node.params[0].name]
    return weight.size - int(np.count_nonzero(np.broadcast_to(mask, weight.shape)))

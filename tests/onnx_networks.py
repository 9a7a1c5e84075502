"""Whole networks through ONNX: those of the onnx package with random weights, our examples there and back.

The package's networks hold 0.02 in every weight, so that an error of channels passes them; here each gets
seeded weights that keep the variance from layer to layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from compactir import reference
from compactir.codegen.onnx import export_onnx
from compactir.diagnostics import CompactError
from compactir.frontends.onnx.model import check_model
from compactir.frontends.onnx.reader import imported, read_model
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.lang import elaborate, parse_file
from compactir.ops.arrange import Shuffle
from compactir.weights.init import draw
from tests.onnx_models import in_runtime
from tests.onnx_suite import LIGHT

ROOT = Path(__file__).parent.parent
NETWORKS = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx"))
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.arch"))
TOLERANCE = 1e-4
"""Of the largest element: the house's."""


def light(name: str, seed: int = 0) -> onnx.ModelProto:
    """A network of the package with random weights: He for layers, near 1 and positive for batch norm.

    The softmax at its end is left out: it would make ones and zeros of everything.
    """
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(seed)
    shapes = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    roles = _roles(model)
    kept: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(e) for e in shapes[node.input[0]])
        array = _drawn(rng, shape, roles.get(node.output[0], "bias"))
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    last = kept[-1]
    if last.op_type == "Softmax":
        (maker,) = (n for n in kept if n.output[0] == last.input[0])
        maker.output[0] = last.output[0]
        kept.pop()
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _roles(model: onnx.ModelProto) -> dict[str, str]:
    """What each tensor is to the node that reads it; what is only reshaped is what its reader makes of it."""
    roles: dict[str, str] = {}
    for node in reversed(model.graph.node):
        if node.op_type == "BatchNormalization":
            roles |= dict(zip(node.input[1:], ("scale", "bias", "bias", "variance"), strict=True))
        elif node.op_type in ("Conv", "Gemm"):
            roles |= dict(zip(node.input[1:], ("weight", "bias"), strict=False))
        elif node.op_type == "Mul":
            roles[node.input[1]] = "scale"
        elif node.op_type == "Unsqueeze":
            roles[node.input[0]] = roles.get(node.output[0], "bias")
    return roles


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], role: str) -> Array:
    if role == "weight":
        fan = int(np.prod(shape[1:]))
        return np.asarray(rng.standard_normal(shape) * np.sqrt(2 / fan), np.float32)
    if role in ("scale", "variance"):
        return np.asarray(rng.uniform(0.5, 1.5, shape), np.float32)
    return np.asarray(0.1 * rng.standard_normal(shape), np.float32)


def read_back(model: onnx.ModelProto) -> Graph:
    """A model in memory as a graph."""
    return imported(read_model(check_model(model), "model.onnx"))


def agree(ours: Array, theirs: Array) -> None:
    """Raises AssertionError where two results differ by more than the tolerance, or are degenerate."""
    assert ours.shape == theirs.shape
    spread = float(np.ptp(theirs))
    assert spread > 10 * TOLERANCE * float(np.abs(theirs).max()), "all results are alike: nothing is compared"
    difference = float(np.abs(ours - theirs).max()) / float(np.abs(theirs).max())
    assert difference <= TOLERANCE, f"results differ by {difference:.1e} of the largest"


def check_light(name: str) -> Graph:
    """One of the package's networks: our reference and ONNX Runtime agree; returns the graph."""
    model = light(name)
    graph = read_back(model)
    inputs = reference.random_inputs(graph)
    (ours,) = reference.run(graph, inputs).values()
    agree(ours, in_runtime(model, inputs)[0])
    return graph


def without(graph: Graph, node: Any) -> Graph:
    """The graph with a node left out that keeps its operand's type."""
    twin = graph.clone()
    (gone,) = (n for n in twin.nodes if n.out.name == node.out.name)
    twin.replace_uses(gone.out, gone.args[0])
    twin.remove([gone])
    return twin


def shuffles(graph: Graph) -> list[Any]:
    """The shuffles of a graph."""
    return [n for n in graph.nodes if isinstance(n.op, Shuffle)]


# -- our examples --------------------------------------------------------------------------------------------


def example(name: str) -> Graph:
    """An example network with random weights, on a small image where its parameters allow one."""
    tree = parse_file(ROOT / "examples" / f"{name}.arch")
    graph = next(_sized(tree))
    graph.weights = draw(graph)
    return graph


def _sized(tree: Any) -> Iterator[Graph]:
    for size in ("32", "64", "96"):
        try:
            yield elaborate(tree, defines={"size": size})
        except CompactError:
            continue
    yield elaborate(tree)


def check_example(name: str) -> None:
    """Our reference, ONNX Runtime on what we export, and on what we export of what we read of it, agree."""
    graph = example(name)
    model = export_onnx(graph)
    inputs = reference.random_inputs(graph)
    back = read_back(model)
    assert operations(back) == operations(graph), "what ONNX spells out comes back as what it was"
    for ours, once, twice in zip(
        reference.run(graph, inputs).values(),
        in_runtime(model, inputs),
        in_runtime(export_onnx(back), inputs),
        strict=True,
    ):
        agree(once, ours)
        agree(twice, ours)


def operations(graph: Graph) -> Counter[str]:
    """How many operations of each kind; dropout is nothing, and only our linear layer flattens 1x1 maps."""
    return Counter(n.op.name for n in graph.nodes if n.op.name not in ("flatten", "dropout"))

"""ONNX export: every operation, random networks and the examples in ONNX Runtime, against the reference."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from compactir import reference
from compactir.codegen.onnx import export_onnx
from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Family
from compactir.ir.graph import Graph, Param
from compactir.ir.types import Array, TensorType
from compactir.ops import OPS
from compactir.ops.activation import Relu, Tanh
from compactir.ops.arrange import Identity
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv, Masked
from compactir.passes._base import run_pipeline
from compactir.passes.pipelines import pipeline
from tests.graphs import example, graphs, one_op, random_weights

pytest.importorskip("onnx", reason='no onnx here: pip install "compactir[onnx]"')
ort = pytest.importorskip("onnxruntime", reason="no onnxruntime here: pip install onnxruntime")

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-4
SAMPLES = [(name, sample) for name, op in OPS.items() for sample in op.samples()]


def in_runtime(model: Any, inputs: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes, with its own rewrites switched off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    outputs: list[Array] = session.run(None, dict(zip(names, inputs.values(), strict=True)))
    return outputs


def assert_same(graph: Graph) -> Any:
    """The exported model and the reference agree; returns the model."""
    model = export_onnx(graph)
    inputs = reference.random_inputs(graph)
    expected = reference.run(graph, inputs)
    assert [o.name for o in model.graph.output] == list(expected)
    for a, b in zip(in_runtime(model, inputs), expected.values(), strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= TOLERANCE * max(np.abs(b).max(), 1e-30)
    return model


def operators(model: Any) -> set[str]:
    """The operators of a model."""
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_every_op(name: str, sample: Any) -> None:
    assert_same(one_op(sample.op, *sample.shapes))


ORDER = Family(2, ChannelList.of([2, 0]), ChannelList.of([3, 0]), (1, 1))
PART = Family(1, ChannelList.of([2, 0]), ChannelList.of([4, 1]), (3, 3), (1, 1, 1, 1))
CONNECTIVITIES = {
    "no block": Connectivity(3, 4, ()),
    "outputs out of order": Connectivity(3, 4, (ORDER,)),
    "some outputs are bias": Connectivity(3, 6, (PART,)),
    "cropped": Connectivity.dense(3, 4, (3, 3), (-1, 1, 0, 1)),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CONNECTIVITIES)
def test_unusual_connectivities(name: str, bias: bool) -> None:
    connect = CONNECTIVITIES[name]
    stride = (1, 1) if connect.families else (2, 1)
    assert_same(one_op(Conv(connect, stride, bias=bias), (2, 3, 5, 4)))


def test_masks_are_multiplied_into_the_weights() -> None:
    graph = one_op(Conv(Connectivity.dense(4, 6), masked=Masked("learned(2)")), (1, 4, 3, 3))
    assert operators(assert_same(graph)) == {"Conv"}


def test_epilogues() -> None:
    graph = Graph("fused")
    x = graph.input("x", TensorType.f32(2, 3, 5, 4))
    gate = graph.input("gate", TensorType.f32(2, 6, 1, 1))
    stays = graph.input("stays", TensorType.f32(2, 6, 5, 4))
    connect = Connectivity.dense(3, 6, (3, 3), (1, 1, 1, 1))
    op = Conv(connect, bias=True, epilogue=(Tanh(1.7159, 2 / 3), Mul(), Add(), Relu()))
    params = [
        graph.param("conv1.weight", TensorType.f32(6, 3, 3, 3)),
        graph.param("conv1.bias", TensorType.f32(6)),
    ]
    graph.outputs["y"] = graph.append(op, [x, *params, gate, stays], "conv1")
    graph.weights = random_weights(graph)
    assert_same(graph)


def test_outputs_that_are_inputs_and_names_that_meet() -> None:
    graph = Graph("names")
    x = graph.input("x", TensorType.f32(1, 3, 2, 2))
    y = graph.apply(Relu(), [graph.apply(Identity(), [x], "y")], "relu1")
    graph.outputs |= {"y": y, "again": y, "same": x, "relu1": graph.apply(Relu(), [y], "z")}
    assert_same(graph)


@settings(max_examples=60)
@given(graphs())
def test_random_graphs_as_authored_and_after_passes(graph: Graph) -> None:
    assert_same(graph)
    run_pipeline(graph, pipeline("c"))
    assert_same(graph)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2", "lenet5", "mixnet", "seesawnet"])
def test_examples_and_the_test_can_fail(name: str) -> None:
    graph = example(name, **({} if name == "lenet5" else {"size": "64"}))
    model = assert_same(graph)
    inputs = reference.random_inputs(graph)
    convolutions = [n for n in graph.nodes if isinstance(n.op, Conv) and not n.op.connect.is_depthwise]
    weight = convolutions[len(convolutions) // 2].params[0].name
    swapped = graph.clone()
    swapped.weights[weight] = graph.weights[weight].copy()
    swapped.weights[weight][[0, 1]] = graph.weights[weight][[1, 0]]
    before, after = (in_runtime(m, inputs)[0] for m in (model, export_onnx(swapped)))
    assert np.abs(before - after).max() > 100 * TOLERANCE * np.abs(before).max()


def test_what_a_reader_of_the_model_finds() -> None:
    graph = example("mobilenet_v2", width="0.5", size="32")
    model = export_onnx(graph)
    assert model.producer_name == "compactir"
    assert [(i.name, [d.dim_value for d in i.type.tensor_type.shape.dim]) for i in model.graph.input] == [
        ("image", [1, 3, 32, 32])
    ]
    names = {i.name for i in model.graph.initializer}
    weights = {n for n, p in graph.params.items() if isinstance(p, Param)}
    assert weights <= names
    assert operators(model) <= {
        "Conv",
        "BatchNormalization",
        "Clip",
        "Add",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
    assert model.SerializeToString() == export_onnx(graph.clone()).SerializeToString()


def test_missing_weights_and_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = one_op(Conv(Connectivity.dense(2, 2)), (1, 2, 1, 1))
    unbound = graph.clone()
    unbound.weights = {}
    with pytest.raises(CompactError, match="CIR601"):
        export_onnx(unbound)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CompactError, match=r"CIR605.*compactir\[onnx\]"):
        export_onnx(graph)

"""Networks through ONNX: channels told apart, every shuffle counts, C copies nothing; examples and back.

`make onnx-suite` checks the networks that take longer: all nine of the onnx package, all examples.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason='no onnx here: pip install "compactir[onnx]"')
pytest.importorskip("onnxruntime", reason="no onnxruntime here: pip install onnxruntime")

from compactir import reference
from compactir.codegen.onnx import export_onnx
from compactir.driver import Source, compile, plan, read
from compactir.ops.arrange import Shuffle
from compactir.ops.conv import Conv
from compactir.targets import load_target
from tests.onnx_models import in_runtime
from tests.onnx_networks import (
    EXAMPLES,
    NETWORKS,
    agree,
    check_example,
    check_light,
    light,
    read_back,
    shuffles,
    without,
)

pytestmark = pytest.mark.slow

LARGE = {
    "alexnet",
    "bunit_resnet18",
    "condensenet74",
    "darts_v2",
    "densenet121",
    "flgc_mobilenet_v2",
    "googlenet",
    "igcv1",
    "mixnet",
    "resnet18",
    "resnet50",
    "resnext50",
    "scalenet50",
    "seesawnet",
}
"""More than half a second each: left to `make onnx-suite`."""


def test_all_nine_are_there() -> None:
    assert len(NETWORKS) == 9


def test_squeezenet_with_random_weights() -> None:
    check_light("squeezenet")


def test_shufflenet_with_random_weights_and_without_any_one_shuffle() -> None:
    graph = check_light("shufflenet")
    assert len(shuffles(graph)) == 16
    grouped = [n for n in graph.nodes if isinstance(n.op, Conv) and 1 < (n.op.connect.groups or 1) < 24]
    assert len(grouped) == 32
    inputs = reference.random_inputs(graph)
    (whole,) = in_runtime(export_onnx(graph), inputs)
    for shuffle in shuffles(graph):
        (less,) = in_runtime(export_onnx(without(graph, shuffle)), inputs)
        assert np.abs(less - whole).max() > 0.01 * np.abs(whole).max(), shuffle


@pytest.mark.compiler
def test_shufflenet_in_c_copies_nothing() -> None:
    model = light("shufflenet")
    graph = read_back(model)
    lowered = plan(read(Source(graph)), load_target("native")).lowered
    assert sum(step.copied for step in lowered.plan.steps if not step.conversion) == 0
    assert not any(isinstance(n.op, Shuffle) for n in plan(read(Source(graph)), load_target("c")).graph.nodes)
    inputs = reference.random_inputs(graph)
    agree(np.asarray(compile(graph)(*inputs.values())), in_runtime(model, inputs)[0])


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in LARGE])
def test_examples_there_and_back(name: str) -> None:
    check_example(name)


def test_the_comparison_can_fail() -> None:
    graph = read_back(light("squeezenet"))
    one = [n for n in graph.nodes if isinstance(n.op, Conv)][12]
    weight = graph.weights[one.params[0].name].copy()
    weight[[0, 1]] = weight[[1, 0]]
    graph.weights[one.params[0].name] = weight
    inputs = reference.random_inputs(graph)
    with pytest.raises(AssertionError, match="results differ"):
        agree(in_runtime(export_onnx(graph), inputs)[0], in_runtime(light("squeezenet"), inputs)[0])

"""Transformed 3×3 convolutions: the same numbers as the direct sum, in one go or strip by strip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compactir import driver, reference
from compactir.codegen.lower import lower, winograd
from compactir.ir.graph import Graph
from compactir.ir.plan import Plan, WinogradInput, WinogradOutput
from compactir.ir.types import TensorType
from compactir.ir.verify_plan import verify_plan
from compactir.ops.activation import Relu
from compactir.ops.combine import Add
from compactir.ops.conv import conv
from compactir.passes import run_pipeline
from compactir.passes.pipelines import pipeline
from compactir.targets import load_target
from tests.c.networks import TOLERANCE
from tests.graphs import random_weights

SHAPES = {
    "odd": (20, 13, 14, 40),
    "one tile": (16, 4, 4, 16),
    "one row": (3, 1, 2, 5),
    "prime": (17, 11, 7, 23),
    "strips": (40, 56, 57, 33),
}
"""Inputs, height, width, outputs."""


def network(ins: int, height: int, width: int, outs: int, pad: int = 1) -> Graph:
    """A pointwise convolution, so that its result lies in blocks; 3×3 with a residual; another reader."""
    graph = Graph("net")
    x = graph.input("image", TensorType.f32(1, ins, height, width))
    a = graph.apply(Relu(), [graph.apply(conv(x.type, ins, 1), [x], "a")], "relu")
    b = graph.apply(conv(a.type, outs, 3, pad=pad, bias=True), [a], "b")
    c = graph.apply(conv(a.type, outs, 1 if pad else 3, pad=0), [a], "c")
    graph.outputs["y"] = graph.apply(Relu(), [graph.apply(Add(), [b, c], "add")], "last")
    graph.weights = random_weights(graph)
    return graph


def planned(graph: Graph, name: str, **changes: object) -> Plan:
    """The plan; its steps count the MACs of the graph that is lowered."""
    target = replace(load_target(name), **changes)  # type: ignore[arg-type]  # fields of Target
    after = graph.clone()
    run_pipeline(after, pipeline("c", target))
    plan = lower(after, target).plan
    assert sum(step.macs for step in plan.steps) == after.macs
    return plan


def transforms(plan: Plan) -> int:
    return sum(isinstance(call.kernel, WinogradInput) for step in plan.steps for call in step.calls)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transform wherever that is possible."""
    monkeypatch.setattr(winograd, "_NEARER", np.inf)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("cache", [1 << 24, 20_000], ids=["whole", "strips"])
@pytest.mark.parametrize("target", ["c", "x86", "x86-avx512", "arm"])
@pytest.mark.parametrize("shape", SHAPES)
def test_plans_are_right(shape: str, target: str, cache: int) -> None:
    plan = planned(network(*SHAPES[shape]), target, l1_bytes=cache, l2_bytes=cache)
    assert transforms(plan) == 1
    verify_plan(plan)


CASES = [(shape, 1, cache) for shape in SHAPES for cache in (1 << 24, 20_000)] + [("odd", 0, 1 << 24)]


@pytest.mark.usefixtures("always")
@pytest.mark.compiler
@pytest.mark.parametrize(("shape", "pad", "cache"), CASES)
def test_the_same_numbers(shape: str, pad: int, cache: int) -> None:
    ins, height, width, outs = SHAPES[shape]
    graph = network(ins, height + 2, width + 2, outs, pad)
    target = replace(load_target("native"), l1_bytes=cache, l2_bytes=cache)
    made = driver.plan(driver.Authored(graph, {}), target, threads=2)
    assert transforms(made.lowered.plan) >= 1
    generated = driver.generate(made)
    inputs = reference.random_inputs(graph, 1)
    with driver.load(driver.write_to_cache(generated, driver.build(generated))) as module:
        found, shared = module(**inputs, threads=1), module(**inputs, threads=2)
    expected = reference.run(graph, inputs, np.float64)["y"]
    assert np.abs(found - expected).max() <= TOLERANCE / 10 * np.abs(expected).max()
    assert np.array_equal(found, shared)


@pytest.mark.parametrize("target", ["x86", "x86-avx512", "arm-a76"])
def test_wide_layers_are_transformed_narrow_ones_are_not(target: str) -> None:
    assert transforms(planned(network(64, 28, 28, 128), target))
    assert not transforms(planned(network(4, 28, 28, 8), target))
    assert not transforms(planned(network(64, 2, 2, 64), target))


def test_it_can_be_switched_off() -> None:
    graph = network(64, 28, 28, 128)
    plan = planned(graph, "x86", winograd=False)
    assert not transforms(plan)
    assert not any(isinstance(c.kernel, WinogradOutput) for s in plan.steps for c in s.calls)


def test_the_transforms_are_those_of_the_paper() -> None:
    """Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A is the convolution, exactly up to rounding of float64."""
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal((6, 6)), rng.standard_normal((3, 3))
    b = np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    )
    a = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
    y = a @ ((winograd.G @ g @ winograd.G.T) * (b @ d @ b.T)) @ a.T
    direct = [[(d[i : i + 3, j : j + 3] * g).sum() for j in range(4)] for i in range(4)]
    assert np.abs(y - direct).max() < 1e-12


def test_the_choice_is_explained() -> None:
    """With both estimates, or because transformed filters would fill the cache; silent where switched off."""
    wide, deep = network(64, 28, 28, 128), network(512, 7, 7, 512)
    for graph, done, why in ((wide, True, "the direct sum"), (deep, False, "would leave the cache")):
        [decision] = lower(graph, load_target("x86")).decisions
        assert (decision.rule, decision.done) == ("winograd", done)
        assert why in decision.why
        assert not lower(graph, replace(load_target("x86"), winograd=False)).decisions

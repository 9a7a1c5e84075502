"""Transformed 3×3 convolutions: the same numbers as the direct sum, in one go or strip by strip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compactir import driver, reference
from compactir.codegen.lower import lower, narrow, winograd
from compactir.diagnostics import CompactErrors
from compactir.ir.channels import ChannelList
from compactir.ir.graph import Graph
from compactir.ir.op import Op
from compactir.ir.plan import Plan, WinogradInput, WinogradOutput, WinogradRepair
from compactir.ir.plan_text import parse_plan, print_plan
from compactir.ir.types import Array, TensorType
from compactir.ir.verify_plan import verify_plan
from compactir.ops.activation import LeakyRelu, Relu, Relu6
from compactir.ops.arrange import Gather
from compactir.ops.combine import Add
from compactir.ops.conv import conv, depthwise
from compactir.passes import run_pipeline
from compactir.passes.pipelines import pipeline
from compactir.runtime.build import find_compiler
from compactir.targets import load_target, unsupported
from tests.c.networks import TOLERANCE, Case, Request, build
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


# -- NaN and infinities --------------------------------------------------------------------------------------

Layer = tuple[int, tuple[int, int], int, int, int, bool, tuple[Op, ...]]
"""Inputs, their size, outputs, groups, padding, whether the input is added; what comes last."""
LAYERS: dict[str, Layer] = {
    "odd": (7, (13, 9), 19, 1, 1, False, ()),
    "half a vector": (12, (7, 22), 20, 1, 1, False, (Relu6(),)),
    "residual": (18, (9, 11), 18, 1, 1, True, (Relu6(),)),
    "inside": (5, (11, 6), 9, 1, 0, False, (LeakyRelu(0.5),)),
    "small": (9, (3, 4), 33, 1, 1, False, (Relu(),)),
    "groups": (18, (10, 9), 30, 3, 1, False, ()),
    "gathered": (21, (9, 13), 10, 1, 1, False, ()),
}
HUGE = 1e38
TARGETS = [n for n in ("c", "x86", "x86-avx512") if not unsupported(load_target(n))] + ["arm", "arm-v7"]
WHOLE = ("x86", "arm")
"""Of these most maps are transformed in one go, of the others strip by strip."""


def layer(name: str, batch: int) -> Graph:
    """A 3×3 convolution of what lies in blocks; half of its filters' weights are zero or tiny."""
    ins, size, outs, groups, pad, residual, last = LAYERS[name]
    graph = Graph("net")
    x = graph.input("x", TensorType.f32(batch, ins, *size))
    a = y = graph.apply(LeakyRelu(0.5), [graph.apply(depthwise(x.type, kernel=1), [x], "a")], "left")
    if name == "gathered":
        y = graph.apply(Gather(ChannelList.of([*range(ins - 1, 11, -1), *range(8)])), [a], "gather")
    y = graph.apply(conv(y.type, outs, 3, pad=pad, bias=True, groups=groups), [y], "b")
    y = graph.apply(Add(), [y, a], "add") if residual else y
    for op in last:
        y = graph.apply(op, [y], "last")
    graph.outputs["y"] = y
    graph.weights = random_weights(graph)
    weights = sparse(graph.weights["b.weight"])
    weights[..., 1, 2] = np.where((weights == 0).all(axis=(2, 3)), 1, weights[..., 1, 2])  # a link each
    graph.weights["b.weight"] = weights
    return graph


def sparse(weights: Array) -> Array:
    """A third of them zero, a sixth tiny."""
    draw = np.random.default_rng(3).random(weights.shape)
    return np.where(draw < 1 / 3, 0, np.where(draw < 1 / 2, 1e-11, 1) * weights).astype(np.float32)


def spoilt(name: str, batch: int, seed: int) -> Array:
    """Random numbers, among them one to four that are not finite or, where none is clipped, huge."""
    ins, size, *_, last = LAYERS[name]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, ins, *size)).astype(np.float32)
    kinds = [np.nan, np.inf, -np.inf] + ([] if last else [HUGE, -HUGE])
    for _ in range(rng.integers(1, 5)):
        x[tuple(rng.integers(n) for n in x.shape)] = rng.choice(kinds)
    return x


def same_places(found: Array, expected: Array, of_groups: bool) -> None:
    """NaN and both infinities in the same places; of groups, vectors of two may have NaN in both."""
    more = (
        np.isnan(found) & ~np.isfinite(expected).all(axis=1, keepdims=True)
        if of_groups
        else np.zeros(1, bool)
    )
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert not ((kind(found) != kind(expected)) & ~more).any()
    finite = np.isfinite(found) & np.isfinite(expected)
    error = np.abs(found[finite] - expected[finite]).max(initial=0)
    assert error <= TOLERANCE * np.abs(expected[finite]).max(initial=0)


@pytest.mark.usefixtures("always")
@pytest.mark.compiler
@pytest.mark.parametrize("name", TARGETS)
def test_nan_and_infinities_stay_in_their_windows(
    name: str, tmp_path: Path, tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = 1 << 24 if name in WHOLE else 20_000
    target = replace(load_target(name), l1_bytes=cache, l2_bytes=cache)
    cross = None if target.is_native else tool(target.cc[0])
    if not target.is_native:
        tool(target.runner)
    monkeypatch.setattr(narrow, "_NEARER", 0.0)
    threads = 2 if target.is_native else 1
    graphs = {layer_name: layer(layer_name, 1 + i % 2) for i, layer_name in enumerate(LAYERS)}
    cases = [Case(layer_name, graph).optimised(target) for layer_name, graph in graphs.items()]
    program = build(cases, target, find_compiler(target, cross), tmp_path, "-O0", threads=threads)
    assert all(transforms(network.lowered.plan) for network in program.networks)
    steps = [step for network in program.networks for step in network.lowered.plan.steps]
    banded = {bool(s.stages) for s in steps if isinstance(s.calls[-1].kernel, WinogradRepair)}
    assert (name not in WHOLE) in banded
    inputs = {n: [spoilt(n, g.inputs[0].type.batch, seed) for seed in range(6)] for n, g in graphs.items()}
    expected = {
        n: [reference.run(graphs[n], {"x": x}, np.float64)["y"] for x in xs] for n, xs in inputs.items()
    }
    assert sum(not np.isfinite(y).all() for ys in expected.values() for y in ys) > len(expected)
    for crew in range(1, threads + 1):
        program.environment = {"CREW": str(crew)}
        for n, xs in inputs.items():
            for x, wanted in zip(xs, expected[n], strict=True):
                [made] = program.run([Request(n, {"x": x})])
                same_places(made["y"], wanted.astype(np.float32), LAYERS[n][3] > 1)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_filters_come_back_with_their_signs(scale: float) -> None:
    """Also weights that are zero, and tiny ones among large ones."""
    full = np.random.default_rng(1).standard_normal((40, 30, 3, 3)).astype(np.float32)
    for drawn in (full, sparse(full), np.sign(sparse(full))):
        weights = drawn * np.float32(scale)
        packed = winograd.transformed(weights)
        found = winograd.taps(packed).transpose(2, 3, 0, 1)
        assert np.array_equal(np.sign(found), np.sign(weights))
        assert (np.abs(found - weights) <= 1e-5 * np.abs(weights).max(axis=(2, 3), keepdims=True)).all()
        exact = np.einsum("ai,okij,bj->abok", winograd.G, weights.astype(np.float64), winograd.G)
        assert (np.abs(packed - exact) <= 1e-6 * np.abs(exact).max(axis=(0, 1))).all()


@pytest.mark.usefixtures("always")
def test_infinite_weights_are_summed_up_directly() -> None:
    graph = network(20, 13, 14, 40)
    graph.weights["b.weight"][3, 4, 1, 1] = np.inf
    assert not transforms(planned(graph, "x86"))


def repairs(plan: Plan, **changes: Any) -> Plan:
    """The plan, with its repairing kernels changed."""
    steps = []
    for step in plan.steps:
        calls = (
            replace(c, kernel=replace(c.kernel, **changes)) if isinstance(c.kernel, WinogradRepair) else c
            for c in step.calls
        )
        steps.append(replace(step, calls=tuple(calls)))
    return replace(plan, steps=tuple(steps))


def buffers(plan: Plan, name: str, **changes: Any) -> Plan:
    """The plan, with a buffer changed."""
    return replace(plan, buffers=tuple(replace(b, **changes) if b.name == name else b for b in plan.buffers))


@pytest.mark.usefixtures("always")
def test_plans_tell_what_is_read_again() -> None:
    """The input lives until the sums are turned back; marks, filters and origins are where they should be."""
    plan = planned(network(*SHAPES["odd"]), "x86")
    assert parse_plan(print_plan(plan)) == plan
    [(at, call)] = [
        (i, c) for i, s in enumerate(plan.steps) for c in s.calls if isinstance(c.kernel, WinogradRepair)
    ]
    kernel, [source] = call.kernel, call.x.buffers
    assert isinstance(kernel, WinogradRepair)
    far = replace(kernel.origins[0], bias=1 << 20)
    for broken, rule in (
        (buffers(plan, source, last=at - 1), "used while they are alive"),
        (buffers(plan, call.scratch, blocks=1, height=1), "a scratch is large enough"),
        (repairs(plan, origins=kernel.origins[1:]), "kernels fit"),
        (repairs(plan, origins=(far, *kernel.origins[1:])), "packed weights lie in the packed weights"),
        (repairs(plan, depth=kernel.depth + 8), "kernels fit"),
    ):
        with pytest.raises(CompactErrors, match=rule):
            verify_plan(broken)

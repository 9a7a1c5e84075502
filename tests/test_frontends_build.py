"""The builder of all frontends: constants fold, values are placed, layers are raised, C refuses the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.driver import Source, plan, read
from compactir.frontends.build import LARGEST, Builder, identifier, raised
from compactir.ir.graph import Graph, Value
from compactir.ir.plan import Nest
from compactir.ir.types import Array
from compactir.ops.activation import Relu
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.pool import MaxPool
from compactir.targets import load_target

RNG = np.random.default_rng(0)


def array(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


A, B, C = array(2, 3, 4), array(4, 1), array(2, 4, 3)
COMPOSED: dict[str, Any] = {
    "unary": lambda b, a: b.unary("exp", a),
    "binary": lambda b, a: b.binary("sub", a, B[:, 0]),
    "choose": lambda b, a: b.choose(np.array([True, False, True, True]), a, B[:, 0]),
    "reduce": lambda b, a: b.reduce("mean", a, [-1, 1], keep=False),
    "reshape": lambda b, a: b.reshape(a, [4, 6]),
    "transpose": lambda b, a: b.transpose(a, [2, 0, 1]),
    "take": lambda b, a: b.take(a, 2, [3, 1]),
    "join": lambda b, a: b.join([a, C.transpose(0, 2, 1)], 1),
    "pad": lambda b, a: b.pad(a, [0, 1, -1], [0, 0, 2], 0.5),
    "expand": lambda b, a: b.expand(a, [5, 2, 3, 4]),
    "matmul": lambda b, a: b.matmul(a, C),
    "scaled": lambda b, a: b.scaled(a, 2.0, 1.0),
    "activation": lambda b, a: b.activation(Relu(), a),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_folded_and_placed_are_the_same(name: str) -> None:
    folded = COMPOSED[name](Builder("folded"), A)
    builder = Builder("placed")
    builder.output("y", COMPOSED[name](builder, builder.input("x", A.shape)))
    assert isinstance(folded, np.ndarray)
    assert builder.graph.nodes
    placed = reference.run(builder.graph, {"x": A})["y"]
    assert placed.shape == folded.shape
    np.testing.assert_allclose(placed, folded, rtol=1e-6)


def test_whole_numbers_and_truth_fold_as_such() -> None:
    builder = Builder("shapes")
    quotient = builder.binary("div", np.array([7, -7]), np.array(2))
    assert isinstance(quotient, np.ndarray)
    assert quotient.tolist() == [3, -3]
    assert quotient.dtype == np.int64
    less = builder.binary("less", np.array([1, 2]), np.array([2, 1]))
    assert isinstance(less, np.ndarray)
    assert less.tolist() == [True, False]
    assert less.dtype == np.bool_
    assert not builder.graph.nodes


def test_operations_that_do_nothing_are_not_placed() -> None:
    builder = Builder("nothing")
    x = builder.input("x", (2, 3))
    for y in (
        builder.reshape(x, (2, 3)),
        builder.transpose(x, (0, 1)),
        builder.take(x, 1, range(3)),
        builder.join([x], 0),
        builder.pad(x, (0, 0), (0, 0)),
        builder.expand(x, (2, 3)),
        builder.scaled(x),
    ):
        assert y is x


@pytest.mark.parametrize(
    "grow",
    [
        lambda b: b.expand(np.zeros(1), (LARGEST, 2)),
        lambda b: b.binary("add", np.zeros((1 << 15, 1)), np.zeros((1, 1 << 15))),
        lambda b: b.pad(np.zeros(1), (LARGEST,), (0,)),
        lambda b: b.choose(np.zeros((1 << 15, 1)), np.zeros((1, 1 << 15)), np.zeros(1)),
    ],
)
def test_constants_have_a_limit(grow: Any) -> None:
    with pytest.raises(CompactError, match="CIR635"):
        grow(Builder("bomb"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/features/features.0/Conv", "features_features_0_Conv"),
        ("0", "x_0"),
        ("é", "x"),
        ("a" * 300, "a" * 120),
    ],
)
def test_names_are_identifiers(text: str, name: str) -> None:
    assert identifier(text, "x") == name


def test_names_are_used_once() -> None:
    builder = Builder("names")
    x: Any = builder.input("x", (1, 2))
    for _ in range(3):
        builder.at("x")
        x = builder.unary("exp", x)
    assert [n.name for n in builder.graph.nodes] == ["x_2", "x_3", "x_4"]


def classifier(builder: Builder) -> Graph:
    """A convolution, a shuffle as three moves, a head of matrices."""
    x = builder.input("image", (1, 3, 6, 6))
    cut = _cut(builder, x)
    builder.at("stem")
    y: Any = builder.layer(Conv.samples()[3].op, cut, array(8, 3, 3, 3))
    n, c, h, w = y.type.shape
    y = builder.reshape(
        builder.transpose(builder.reshape(y, (n, 2, c // 2, h, w)), (0, 2, 1, 3, 4)), (n, c, h, w)
    )
    y = builder.reduce("mean", y, [2, 3], keep=False)
    builder.output("scores", builder.binary("add", builder.matmul(y, array(8, 5)), array(5)))
    return builder.graph


def _cut(builder: Builder, x: Value) -> Value:
    y = builder.pad(x, (0, 0, 0, 0), (0, 0, 1, 1))
    assert isinstance(y, Value)
    return y


def test_raised_and_compiled() -> None:
    graph = classifier(Builder("classifier"))
    x = {"image": array(1, 3, 6, 6)}
    before = reference.run(graph, x)["scores"]
    names = [n.op.name for n in raised(graph).nodes]
    assert names == ["conv", "shuffle", "global_avg_pool", "flatten", "linear"]
    assert graph.params["stem.weight"].init == "he"
    linear = graph.nodes[-1]
    assert isinstance(linear.op, Linear)
    assert [p.init for p in linear.params] == ["he", "bias"]
    np.testing.assert_allclose(reference.run(graph, x)["scores"], before, rtol=1e-5)


def test_tensors_have_kernels() -> None:
    builder = Builder("sequence")
    x = builder.activation(Relu(), builder.unary("sin", builder.input("x", (1, 3, 4))))
    builder.output("y", x)
    steps = plan(read(Source(builder.graph), warn=False), load_target("c")).lowered.plan.steps
    assert [type(call.kernel) for step in steps for call in step.calls] == [Nest]


def test_a_target_says_what_it_has_no_kernel_for() -> None:
    builder = Builder("windows")
    builder.at("e")
    apart = builder.reshape(builder.input("x", (1, 3, 4, 4)), (3, 1, 4, 4))
    assert isinstance(apart, Value)
    builder.output("y", builder.layer(MaxPool((2, 2), (2, 2)), apart))
    with pytest.raises(CompactError, match=r"CIR501.*`max_pool` on f32\[3,1,2,2\]"):
        plan(read(Source(builder.graph), warn=False), load_target("c"))

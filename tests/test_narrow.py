"""Narrow groups lane by lane: plans that hold, the reference's numbers, lanes put where they are of use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compactir.codegen.lower import lower, narrow
from compactir.codegen.lower.convolution import _side_by_side
from compactir.ir.channels import ChannelList
from compactir.ir.graph import Graph
from compactir.ir.plan import Grouped
from compactir.ir.plan_text import parse_plan, print_plan
from compactir.ir.types import TensorType
from compactir.ir.verify_plan import verify_plan
from compactir.ops.activation import Relu
from compactir.ops.arrange import Gather, Shuffle
from compactir.ops.combine import Add
from compactir.ops.conv import conv
from compactir.ops.norm import BatchNorm
from compactir.runtime.build import find_compiler
from compactir.targets import load_target
from tests.c.networks import AT_START, Case, build, disagreements
from tests.graphs import random_weights

SHAPES = {
    "two of eight": (32, 8, 4, 13, 14, 3, 1),
    "four of four": (32, 32, 8, 9, 17, 3, 1),
    "odd": (21, 15, 3, 5, 1, 3, 1),
    "stride 2": (24, 24, 6, 11, 12, 3, 2),
    "five taps": (16, 8, 4, 10, 9, 5, 1),
}
"""Inputs, outputs, groups, height, width, kernel, stride."""


def network(ins: int, outs: int, groups: int, height: int, width: int, kernel: int, stride: int) -> Graph:
    """A pointwise convolution, shuffled; the grouped one, with a sum and an activation."""
    graph = Graph("net")
    x = graph.input("image", TensorType.f32(1, 3, height, width))
    a = graph.apply(Shuffle(groups), [graph.apply(conv(x.type, ins, 1), [x], "a")], "s")
    pad = kernel // 2
    b = graph.apply(conv(a.type, outs, kernel, stride=stride, pad=pad, groups=groups, bias=True), [a], "b")
    c = graph.apply(conv(a.type, outs, 1, stride=stride), [a], "c")
    graph.outputs["y"] = graph.apply(Relu(), [graph.apply(Add(), [b, c], "sum")], "last")
    graph.weights = random_weights(graph)
    return graph


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lane by lane wherever that is possible."""
    monkeypatch.setattr(narrow, "_NEARER", np.inf)
    monkeypatch.setattr(narrow, "DENSE", 1.1)


@pytest.mark.compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["x86", "x86-avx512"])
def test_numbers_are_right(name: str, threads: int, tmp_path: Path) -> None:
    target = load_target(name)
    cases = [Case(shape, network(*sizes)).optimised(target) for shape, sizes in SHAPES.items()]
    program = build(cases, target, find_compiler(target), tmp_path, threads=threads)
    for built in program.networks:
        plan = built.lowered.plan
        assert any(isinstance(c.kernel, Grouped) for step in plan.steps for c in step.calls), built.case.name
        verify_plan(plan)
        assert parse_plan(print_plan(plan)) == plan
    program.environment["CREW"] = str(threads)
    assert not disagreements(program)
    assert not disagreements(program, AT_START)


def test_a_half_empty_block_carries_two_terms_at_a_time() -> None:
    target = load_target("x86-avx512")
    graph = network(*SHAPES["two of eight"])
    plan = lower(Case("net", graph).optimised(target).graph, target).plan
    (kernel,) = (c.kernel for step in plan.steps for c in step.calls if isinstance(c.kernel, Grouped))
    assert kernel.half
    # Two blocks of two groups each, eight inputs of a group two at a time; a panel would take 9 · 32 · 8.
    assert kernel.executed == 9 * 2 * (8 // 2) * 16


def gathering() -> Graph:
    """Channels several times, each with a scale of its own, as CondenseNet's layers begin."""
    graph = Graph("net")
    x = graph.input("image", TensorType.f32(1, 20, 5, 6))
    a = graph.apply(Relu(), [x], "a")
    g = graph.apply(Gather(ChannelList.of([0, 4, 4, 17, 4, 0, 19, 4, 2, 3, 17])), [a], "g")
    graph.outputs["y"] = graph.apply(Relu(), [graph.apply(BatchNorm(), [g], "b")], "last")
    graph.weights = random_weights(graph)
    return graph


@pytest.mark.compiler
@pytest.mark.parametrize("name", ["x86", "x86-avx512"])
def test_repeated_channels_fill_blocks(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    program = build(
        [Case("gathered", gathering()).optimised(target)], target, find_compiler(target), tmp_path
    )
    plan = program.networks[0].lowered.plan
    (kernel,) = (c.kernel for step in plan.steps for c in step.calls if isinstance(c.kernel, Grouped))
    # Six channels are left, eleven times read, one of them four times: four layers of lanes otherwise.
    assert (kernel.terms, kernel.blocks) == (1, -(-11 // target.lanes))
    verify_plan(plan)
    assert not disagreements(program)


def test_groups_stay_in_one_block() -> None:
    rows = _side_by_side([[0, 1, 2], [3, 4, 5], [6, 7], [8, 9, 10, 11, 12]], 4)
    assert rows == [[0, 1, 2, -1], [3, 4, 5, -1], [6, 7, -1, -1], [8, 9, 10, 11], [12, -1, -1, -1]]

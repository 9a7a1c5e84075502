"""Plans: the text gives them back, the rules hold for all that lowering makes, every rule can be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from compactir import driver
from compactir.cli import main
from compactir.codegen.lower import Lowered, lower
from compactir.diagnostics import CompactError
from compactir.ir.channel_map import ChannelMap
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Pad
from compactir.ir.graph import Graph
from compactir.ir.plan import (
    Buffer,
    Call,
    Column,
    Conv,
    Grid,
    Plan,
    PlaneConv,
    PlaneGrid,
    Pool,
    Step,
)
from compactir.ir.plan_text import parse_plan, print_plan
from compactir.ir.types import TensorType
from compactir.ir.verify_plan import RULES, verify_plan
from compactir.ops.activation import Relu, Softmax
from compactir.ops.arrange import Gather
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv as ConvOp
from compactir.ops.conv import conv
from compactir.ops.pool import AvgPool, MaxPool
from compactir.passes import pipeline, run_pipeline
from compactir.passes.fuse_separable import FuseSeparable
from compactir.targets import load_target
from tests.c.networks import op_cases
from tests.c.regions import separable
from tests.graphs import graphs, random_weights

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("c", "x86", "x86-avx512", "arm")
NETWORKS = ("lenet5", "mobilenet_v2", "shufflenet_v2")


def planned(graph: Graph, target: str, cache_bytes: int = 1 << 20, threads: int = 1) -> Plan:
    """The plan after the passes of the C pipeline; see `Case.optimised` for caches of 0 bytes and 1."""
    passes = [p for p in pipeline("c", load_target(target)) if not isinstance(p, FuseSeparable)]
    run_pipeline(graph, [*passes, FuseSeparable(cache_bytes)])
    return lower(graph, load_target(target), threads).plan


# -- what holds for all plans --------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_every_sample(target: str) -> None:
    for case in op_cases():
        plan = lower(case.graph, load_target(target)).plan
        assert parse_plan(print_plan(plan)) == plan, case.name
        verify_plan(plan)


@cache
def network(name: str, target: str) -> Plan:
    """The plan of an example."""
    source = driver.Source(ROOT / "examples" / f"{name}.arch", seed=0)
    return driver.plan(driver.read(source, warn=False), load_target(target)).lowered.plan


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", ["x86", "arm"])
def test_networks(name: str, target: str) -> None:
    plan = network(name, target)
    assert parse_plan(print_plan(plan)) == plan
    verify_plan(plan)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.arch")), ids=lambda p: p.stem)
@pytest.mark.slow
def test_every_network_of_the_examples(path: Path) -> None:
    """Planned with zeros for most weights: drawing 61 million numbers takes longer than all the rest."""
    graph = driver.read_graph(driver.Source(path))
    drawn = {"learned", "fine", "variance", "gamma"}
    some = Graph("masks")
    some.params = {n: p for n, p in graph.params.items() if p.init.partition("(")[0] in drawn}
    zeros = {n: np.zeros(p.type.shape, np.float32) for n, p in graph.params.items()}
    graph.weights = {**zeros, **random_weights(some)}
    plan = planned(graph, "x86")
    assert parse_plan(print_plan(plan)) == plan
    verify_plan(plan)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_several_threads(threads: int) -> None:
    plan = shared(threads)
    assert {call.kernel.split for step in plan.steps for call in step.calls} >= {"panels", "tiles", "blocks"}
    assert any(step.split for step in plan.steps if step.stages)
    assert parse_plan(print_plan(plan)) == plan
    verify_plan(plan)


@given(graphs(), st.sampled_from(TARGETS))
@settings(max_examples=60)
def test_random_graphs(graph: Graph, target: str) -> None:
    plan = planned(graph, target)
    assert parse_plan(print_plan(plan)) == plan
    verify_plan(plan)


def test_operand_of_a_result_that_is_cut_short() -> None:
    graph = Graph("gate")
    x = graph.apply(Relu(), [graph.input("x", TensorType.f32(1, 1, 1, 1))], "relu")
    y = graph.apply(ConvOp(Connectivity.dense(1, 1)), [x], "conv")
    graph.outputs["y"] = graph.apply(Mul(), [y, x], "mul")
    graph.weights = random_weights(graph)
    plan = planned(graph, "c")
    assert any(len(call.extra) == 1 and call.kernel.tail for step in plan.steps for call in step.calls)  # type: ignore[attr-defined]
    verify_plan(plan)


@given(separable(), st.sampled_from(TARGETS), st.integers(1, 4), st.integers(0, 1))
@settings(max_examples=40)
def test_random_regions(graph: Graph, target: str, threads: int, cache_bytes: int) -> None:
    plan = planned(graph, target, cache_bytes, threads)
    assert parse_plan(print_plan(plan)) == plan
    verify_plan(plan)


@pytest.mark.parametrize("kernel", [3, 9])
@pytest.mark.parametrize("cache_bytes", [0, 1])
def test_1x1_filters_of_a_window_at_the_end_of_a_region(kernel: int, cache_bytes: int) -> None:
    """They read the producer's ring as their neighbors do: it is no strip of which each row is read once."""
    graph = Graph("mixed")
    x = graph.input("x", TensorType.f32(1, 8, 28, 28))
    a = graph.apply(conv(x.type, 16, 1), [x], "a")
    pads: list[Pad] = [(0,) * 4] * 8 + [(kernel // 2,) * 4] * 8
    connect = Connectivity.parts([(1, 1)] * 16, [(1, 1)] * 8 + [(kernel, kernel)] * 8, pads)
    graph.outputs["y"] = graph.apply(ConvOp(connect), [a], "b")
    graph.weights = random_weights(graph)
    plan = planned(graph, "x86", cache_bytes)
    assert [len(step.stages) for step in plan.steps if step.stages] == [2]
    verify_plan(plan)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("plan 1", "plan 7", "not a plan of format 1"),
        ("Buffer(name=", "Bufer(name=", "line 5 of the plan"),
        ("lanes=8,", "lanes=8,,", "line 2 of the plan"),
        ("  in Tensor", "  Tensor", "line 3 of the plan"),
        ("  Buffer(", "  in Buffer(", "line 5 of the plan"),
        ("lenet5(", "lenet5 + (", "line 2 of the plan"),
        ("batch=1", "badge=1", "line 2 of the plan"),
        ("first=1", "fist=1", "line 7 of the plan"),
    ],
)
def test_text_that_is_no_plan(old: str, new: str, said: str) -> None:
    text = print_plan(network("lenet5", "x86"))
    assert old in text
    with pytest.raises(CompactError, match=said) as caught:
        parse_plan(text.replace(old, new))
    assert caught.value.code == "CIR301"


@pytest.mark.parametrize("name", ["int", "class", "3 Netze", "größe", "a'b", "ﬁ"])
def test_any_name_comes_back(name: str) -> None:
    plan = replace(in_order(), name=name)
    assert parse_plan(print_plan(plan)) == plan


@pytest.mark.parametrize("text", ["", "plan 1", "plan 1\n{\n}", "plan 1\n1\n}"])
def test_what_is_too_short(text: str) -> None:
    with pytest.raises(CompactError, match="CIR301"):
        parse_plan(text)


# -- broken plans --------------------------------------------------------------------------------------------


def in_order() -> Plan:
    """A pool, a sum of it with itself in place, a softmax."""
    g = Graph("small")
    x = g.apply(MaxPool((2, 2), (1, 1)), [g.input("x", TensorType.f32(1, 32, 4, 4))], "pool")
    y = g.apply(Add(), [x, x], "sum")
    z = g.apply(AvgPool((2, 2), (1, 1), (1, 1, 1, 1), count_pad=False), [y], "mean")
    g.outputs["z"] = g.apply(Softmax(), [g.apply(Add(), [z, z], "again")], "softmax")
    return lower(g, load_target("x86")).plan


@cache
def samples() -> tuple[Plan, ...]:
    """Plans with everything that rules are about: rings of one and two stages, columns, results in place."""
    return (in_order(), network("lenet5", "x86"), network("mobilenet_v2", "x86"), fused())


def fused() -> Plan:
    """A region of three stages."""
    source = driver.Source(ROOT / "examples" / "mobilenet_v2.arch", {"width": "0.25", "size": "64"}, seed=0)
    return planned(driver.read(source, warn=False).graph, "x86", cache_bytes=0)


Broken = Callable[[Plan], Plan | None]


def with_buffer(plan: Plan, wanted: Callable[[Buffer], bool], **changes: Any) -> Plan | None:
    """The first such buffer changed; None where there is none."""
    found = next((b for b in plan.buffers if wanted(b)), None)
    if found is None:
        return None
    return replace(plan, buffers=tuple(replace(b, **changes) if b is found else b for b in plan.buffers))


def with_call(plan: Plan, change: Callable[[Call], Call | None]) -> Plan | None:
    """The first call that `change` takes, changed."""
    for step in plan.steps:
        for i, call in enumerate(step.calls):
            if (other := change(call)) is not None:
                calls = (*step.calls[:i], other, *step.calls[i + 1 :])
                return with_step(plan, step, calls=calls)
    return None


def with_step(plan: Plan, step: Step, **changes: Any) -> Plan:
    """This step changed."""
    return replace(plan, steps=tuple(replace(s, **changes) if s is step else s for s in plan.steps))


def with_kernel(plan: Plan, kind: type, wanted: Callable[[Any], bool], **changes: Any) -> Plan | None:
    """The first such kernel changed."""

    def change(call: Call) -> Call | None:
        k = call.kernel
        return replace(call, kernel=replace(k, **changes)) if isinstance(k, kind) and wanted(k) else None

    return with_call(plan, change)


def planes_of(plan: Plan) -> set[str]:
    """The buffers that kernels on planes write."""
    calls = [call for step in plan.steps for call in step.calls if isinstance(call.kernel, PlaneGrid)]
    return {name for call in calls for name in call.y.buffers}


def is_arena(b: Buffer) -> bool:
    return b.region == "arena"


def anything(_: object) -> bool:
    return True


def moved(m: ChannelMap, by: int) -> ChannelMap:
    """All addresses shifted."""
    return ChannelMap.of((buffer, position + by) for buffer, position in m.places)


def first_place(m: ChannelMap) -> ChannelMap:
    """Its first address, again and again."""
    return ChannelMap.of([m.places[0]] * len(m))


def overlapping(plan: Plan) -> Plan | None:
    arena = [b for b in plan.buffers if is_arena(b)]
    for one in arena:
        for other in arena:
            apart = one.offset + one.floats <= other.offset
            if apart and one.first < other.first <= one.last and one.floats >= other.floats:
                changed = replace(other, offset=one.offset)
                return replace(plan, buffers=tuple(changed if b is other else b for b in plan.buffers))
    return None


def in_place_in_another_order(plan: Plan) -> Plan | None:
    step = next((s for s in plan.steps if s.inplace[0] and len(s.calls[0].y) > 1), None)
    if step is None:
        return None
    call = step.calls[0]
    return with_step(plan, step, calls=(replace(call, y=ChannelMap.of(call.y.places[::-1])),))


def in_place_over_a_window(plan: Plan) -> Plan | None:
    for index, step in enumerate(plan.steps):
        x, y = step.calls[0].x.buffers, step.calls[0].y.buffers
        buffers = {b.name: b for b in plan.buffers}
        if isinstance(step.calls[0].kernel, Pool) and not step.stages and buffers[x[0]].last == index:
            target = replace(buffers[y[0]], offset=buffers[x[0]].offset)
            changed = tuple(target if b.name == target.name else b for b in plan.buffers)
            return replace(with_step(plan, step, inplace=(y[0], x[0])), buffers=changed)
    return None


def mixed_regions(plan: Plan) -> Plan | None:
    other = next(b.name for b in plan.buffers if b.region.startswith("input:"))
    return with_call(
        plan,
        lambda c: (
            replace(c, x=ChannelMap.of([*c.x.places[:-1], (other, 0)]))
            if len(c.x) > 1 and other not in c.x.buffers
            else None
        ),
    )


def written_input(plan: Plan) -> Plan | None:
    other = next(b.name for b in plan.buffers if b.region.startswith("input:"))
    return with_call(plan, lambda c: replace(c, y=ChannelMap.of((other, p) for _, p in c.y.places)))


def far_away(plan: Plan) -> Plan | None:
    return with_buffer(replace(plan, arena=1 << 33), is_arena, offset=1 << 31)


def used_before_it_lives(plan: Plan) -> Plan | None:
    return with_buffer(plan, lambda b: is_arena(b) and b.first < b.last, first=1000, last=1001)


def small_column(plan: Plan) -> Plan | None:
    names = {c.scratch for s in plan.steps for c in s.calls if isinstance(c.kernel, Column)}
    return with_buffer(plan, lambda b: b.name in names, blocks=1)


def stages_of(plan: Plan, **changes: Any) -> Plan | None:
    """The first stage of the first fused step changed."""
    step = next((s for s in plan.steps if s.stages and s.stages[0].window > 1), None)
    if step is None:
        return None
    return with_step(plan, step, stages=(replace(step.stages[0], **changes), *step.stages[1:]))


def more_rows(plan: Plan) -> Plan | None:
    step = next((s for s in plan.steps if s.stages), None)
    if step is None:
        return None
    last = replace(step.stages[-1], height=step.stages[-1].height + 1)
    return with_step(plan, step, stages=(*step.stages[:-1], last))


def smaller_ring(plan: Plan) -> Plan | None:
    """Half the rows, everywhere alike."""
    found = next((c for s in plan.steps for c in s.calls if getattr(c.kernel, "x_ring", 0) >= 4), None)
    if found is None:
        return None
    name = found.x.buffers[0]
    buffer = next(b for b in plan.buffers if b.name == name)
    steps = tuple(replace(s, calls=tuple(_halved(c, name, buffer) for c in s.calls)) for s in plan.steps)
    half = with_buffer(plan, lambda b: b.name == name, height=buffer.height // 2)
    assert half is not None
    return replace(half, steps=steps)


def _halved(call: Call, name: str, b: Buffer) -> Call:
    def nearer(m: ChannelMap) -> ChannelMap:
        places = ((n, p // b.block * (b.block // 2) + p % b.block if n == name else p) for n, p in m.places)
        return ChannelMap.of(places)

    k = call.kernel
    if isinstance(k, Grid) and k.y_ring and name in call.y.buffers:
        return replace(call, y=nearer(call.y), kernel=replace(k, y_ring=k.y_ring // 2))
    if isinstance(k, Grid) and k.x_ring and name in call.x.buffers:
        return replace(call, x=nearer(call.x), kernel=replace(k, x_ring=k.x_ring // 2))
    return call


EXISTENCE, PLACES, ADDRESSES, FLOW = ([rule.name for rule in group] for group in RULES)
BROKEN: list[tuple[str, str, Broken]] = [
    ("a region that is not there", EXISTENCE[0], lambda p: with_buffer(p, is_arena, region="attic")),
    ("a name twice", EXISTENCE[0], lambda p: replace(p, buffers=(*p.buffers, p.buffers[0]))),
    ("a buffer that is not there", EXISTENCE[0], lambda p: replace(p, buffers=p.buffers[1:])),
    (
        "an address too few",
        EXISTENCE[1],
        lambda p: with_call(p, lambda c: replace(c, y=c.y.take(ChannelList.span(0, len(c.y) - 1)))),
    ),
    ("no operand", EXISTENCE[1], lambda p: with_call(p, lambda c: replace(c, extra=()) if c.extra else None)),
    ("a tile of nothing", EXISTENCE[2], lambda p: with_kernel(p, Grid, anything, tile=0)),
    ("a wide tile", EXISTENCE[2], lambda p: with_kernel(p, Grid, anything, tile=9999)),
    ("other vectors", EXISTENCE[2], lambda p: with_kernel(p, Conv, anything, lanes=4)),
    ("a long tail", EXISTENCE[2], lambda p: with_kernel(p, Conv, anything, tail=8)),
    ("rows beyond the map", EXISTENCE[2], lambda p: with_kernel(p, PlaneGrid, anything, rows=99)),
    ("planes in a ring", EXISTENCE[2], lambda p: with_kernel(p, PlaneGrid, anything, y_ring=4)),
    ("blocks for planes", EXISTENCE[2], lambda p: with_buffer(p, lambda b: b.name in planes_of(p), lanes=2)),
    ("another section", EXISTENCE[2], lambda p: with_kernel(p, PlaneConv, anything, masks=(1, 2, 3))),
    ("no divisors", EXISTENCE[2], lambda p: with_kernel(p, Pool, lambda k: k.average, divisors=())),
    ("a lost stage", EXISTENCE[3], lambda p: _stages(p, lambda s: s[1:])),
    ("no stages", EXISTENCE[3], lambda p: _stages(p, lambda s: ())),
    ("turns of too few stages", EXISTENCE[3], lambda p: _turns(p, lambda s: len(s.stages) == 2, tuple)),
    ("turns in another order", FLOW[1], lambda p: _turns(p, lambda s: s.turns, _first_two_exchanged)),
    ("an odd offset", PLACES[0], lambda p: with_buffer(p, is_arena, offset=8)),
    (
        "odd weights",
        PLACES[0],
        lambda p: with_call(p, lambda c: replace(c, weights=c.weights + 1) if c.weights else None),
    ),
    ("a small arena", PLACES[1], lambda p: replace(p, arena=p.arena - 16)),
    ("few weights", PLACES[2], lambda p: replace(p, weights=p.weights - 16) if p.weights else None),
    ("far away", PLACES[3], far_away),
    ("two regions", PLACES[4], mixed_regions),
    ("a written input", PLACES[5], written_input),
    ("a dead buffer", PLACES[6], used_before_it_lives),
    ("two in one place", PLACES[7], overlapping),
    ("in place, reversed", PLACES[8], in_place_in_another_order),
    ("in place, a window", PLACES[8], in_place_over_a_window),
    ("a small column", PLACES[9], small_column),
    ("half a ring", PLACES[10], lambda p: with_kernel(p, Grid, lambda k: k.y_ring > 2, y_ring=2)),
    ("x beyond its buffer", ADDRESSES[0], lambda p: with_call(p, lambda c: replace(c, x=moved(c.x, 1)))),
    ("y beyond its buffer", ADDRESSES[0], lambda p: with_call(p, lambda c: replace(c, y=moved(c.y, 1)))),
    ("too many rows", FLOW[0], more_rows),
    ("written once", FLOW[1], lambda p: with_call(p, _written_once)),
    ("too few rows", FLOW[1], lambda p: stages_of(p, window=1)),
    ("a short ring", FLOW[2], smaller_ring),
    ("a hole in the output", FLOW[3], lambda p: replace(p, steps=(*p.steps[:-1], _with_a_hole(p.steps[-1])))),
]


# What only plans for several threads have; the sample is `shared`.
SHARED: list[tuple[str, str, Broken]] = [
    ("an axis that is not there", EXISTENCE[4], lambda p: _cut_along(p, "panels", "channels")),
    ("a cut that nobody makes", EXISTENCE[4], lambda p: _with_shared(p, "panels", split=False)),
    ("shared by one thread", EXISTENCE[4], lambda p: replace(p, threads=1)),
    ("one ring for two", PLACES[11], lambda p: with_buffer(p, lambda b: b.copies > 1, copies=1)),
    ("two distances", PLACES[11], lambda p: _with_another_copy(p)),
    ("no wait", PLACES[12], lambda p: _with_shared(p, "tiles", wait=False)),
    ("panels on top of each other", FLOW[4], lambda p: _on_top(p, "panels")),
    ("blocks on top of each other", FLOW[4], lambda p: _on_top(p, "blocks")),
]


@cache
def shared(threads: int = 2) -> Plan:
    """Regions, panels, tiles and blocks, cut for several threads."""
    source = driver.Source(ROOT / "examples" / "mobilenet_v2.arch", {"width": "0.5", "size": "96"}, seed=0)
    return driver.plan(driver.read(source, warn=False), load_target("x86"), threads=threads).lowered.plan


def _cut(plan: Plan, axis: str) -> Step:
    return next(s for s in plan.steps if s.split and s.calls[0].kernel.split == axis and s.wait)


def _with_shared(plan: Plan, axis: str, **changes: Any) -> Plan:
    return with_step(plan, _cut(plan, axis), **changes)


def _cut_along(plan: Plan, axis: str, other: str) -> Plan:
    call = (step := _cut(plan, axis)).calls[0]
    return with_step(plan, step, calls=(replace(call, kernel=replace(call.kernel, split=other)),))


def _on_top(plan: Plan, axis: str) -> Plan:
    call = (step := _cut(plan, axis)).calls[0]
    return with_step(plan, step, calls=(replace(call, y=first_place(call.y)),))


def _with_another_copy(plan: Plan) -> Plan:
    """The window of a region reads its ring, and a buffer that all parts have in common."""
    step = next(s for s in plan.steps if len(s.stages) == 3 and len(s.calls[1].x) > 1)
    call = step.calls[1]
    other = next(b.name for b in plan.buffers if is_arena(b) and b.copies == 1)
    x = ChannelMap.of([*call.x.places[:-1], (other, 0)])
    return with_step(plan, step, calls=(step.calls[0], replace(call, x=x), *step.calls[2:]))


def _stages(plan: Plan, change: Callable[[Any], Any]) -> Plan | None:
    step = next((s for s in plan.steps if s.stages), None)
    return with_step(plan, step, stages=change(step.stages)) if step else None


def _turns(plan: Plan, wanted: Callable[[Step], bool], change: Callable[[Any], Any]) -> Plan | None:
    """A step of several stages that takes turns, with other calls."""
    step = next((s for s in plan.steps if len(s.stages) > 1 and wanted(s)), None)
    return with_step(plan, step, calls=change(step.calls), turns=True) if step else None


def _first_two_exchanged(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """The first call of the first stage makes what the second one should: the first window finds nothing."""
    first, second, *rest = calls
    return (replace(first, y=second.y), replace(second, y=first.y), *rest)


def _written_once(call: Call) -> Call | None:
    arena = isinstance(call.kernel, Pool | Conv) and not call.kernel.ranged
    return replace(call, y=first_place(call.y)) if arena and len(call.y) > 1 else None


def _with_a_hole(step: Step) -> Step:
    return replace(step, calls=(replace(step.calls[0], y=first_place(step.calls[0].y)), *step.calls[1:]))


@pytest.mark.parametrize(
    ("rule", "broken", "several"),
    [(*b[1:], b in SHARED) for b in BROKEN + SHARED],
    ids=[b[0] for b in BROKEN + SHARED],
)
def test_a_broken_plan_is_refused(rule: str, broken: Broken, several: bool) -> None:
    wholes = (shared(),) if several else samples()
    plans = [other for plan in wholes if (other := broken(plan)) is not None]
    assert plans, "no plan has what is to be broken"
    for plan in plans:
        with pytest.raises(CompactError) as caught:
            verify_plan(plan)
        assert caught.value.code == "CIR306"
        assert rule in str(caught.value)


SMALL = """
network small() {
  input image: f32[3, 8, 8]
  output y = image -> conv(8, kernel=3) -> relu -> conv(8, kernel=1) -> global_avg_pool -> linear(4)
}
"""


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model, and a lowering that leaves its first step out."""

    def forget(*args: Any) -> Lowered:
        lowered = lower(*args)
        return replace(lowered, plan=replace(lowered.plan, steps=lowered.plan.steps[1:]))

    monkeypatch.setattr("compactir.codegen.lower.lower", forget)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.arch").write_text(SMALL, encoding="utf-8")
    return tmp_path / "small.arch"


def test_the_driver_refuses_a_broken_plan(forgetful: Path) -> None:
    with pytest.raises(CompactError) as caught:
        driver.compile(forgetful, target="c", seed=0)
    error = caught.value
    assert error.code == "CIR306"
    assert "`conv2`" in error.message
    assert error.span is not None
    assert "this is a bug of ours" in error.notes[-1]
    assert error.help == "please report it with the command and the model"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_plan_is_no_mistake_of_the_user(
    forgetful: Path, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [forgetful.name, "--init", "seed=0", "--target", "c", "--emit", "c", "-o", "out"]
    assert main([*words, "--json"] if as_json else words) == 70
    said = capsys.readouterr()
    text = said.out if as_json else said.err
    assert "CIR306" in text
    assert "`conv2`" in text
    assert "this is a bug of ours" in text
    assert not (forgetful.parent / "out").exists()


def test_every_rule_can_be_broken() -> None:
    assert {rule for _, rule, _ in BROKEN + SHARED} == {rule.name for group in RULES for rule in group}


def test_the_error_names_step_and_line() -> None:
    plan = network("lenet5", "x86")
    broken = with_kernel(plan, Conv, anything, tile=9999)
    assert broken is not None
    with pytest.raises(CompactError, match="`c3` makes 9999 pixels at once") as caught:
        verify_plan(broken)
    assert caught.value.span is not None
    assert str(caught.value.span) == next(s.where for s in plan.steps if s.name == "c3")


def test_a_result_does_not_lie_over_what_is_read_in_another_order() -> None:
    """The sum of a map with itself, its blocks exchanged: written in place it would read its own results."""
    g = Graph("exchanged")
    x = g.apply(MaxPool((2, 2), (1, 1)), [g.input("x", TensorType.f32(1, 32, 4, 4))], "pool")
    other = g.apply(Gather(ChannelList.of([*range(16, 32), *range(16)])), [x], "other")
    g.outputs["z"] = g.apply(MaxPool((2, 2), (1, 1)), [g.apply(Add(), [x, other], "sum")], "last")
    verify_plan(lower(g, load_target("x86")).plan)


# -- moved buffers -------------------------------------------------------------------------------------------


@given(graphs(), st.data())
@settings(max_examples=60)
def test_a_moved_buffer_is_refused_where_memory_is_shared(graph: Graph, data: st.DataObject) -> None:
    """The rules about memory, judged by listing floats step by step."""
    plan = planned(graph, "x86")
    arena = [b for b in plan.buffers if is_arena(b)]
    if not arena:
        return
    chosen = data.draw(st.sampled_from(arena))
    other = replace(chosen, offset=16 * data.draw(st.integers(0, plan.arena // 16 + 1)))
    moved_plan = replace(plan, buffers=tuple(other if b is chosen else b for b in plan.buffers))
    groups = _groups(plan)
    apart = all(
        groups.get(b.name, b.name) == groups.get(other.name, other.name)
        or not set(range(b.first, b.last + 1)) & set(range(other.first, other.last + 1))
        or not set(range(b.offset, b.offset + b.floats))
        & set(range(other.offset, other.offset + other.floats))
        for b in arena
        if b is not chosen
    )
    if apart and other.offset + other.floats <= plan.arena and chosen.name not in _in_place(plan):
        verify_plan(moved_plan)
    elif other != chosen and chosen.name not in _in_place(plan):
        with pytest.raises(CompactError) as caught:
            verify_plan(moved_plan)
        assert caught.value.code == "CIR306"


def _groups(plan: Plan) -> dict[str, str]:
    groups: dict[str, str] = {}
    for step in plan.steps:
        target, source = step.inplace
        groups |= {target: groups.get(source, source)} if target else {}
    return groups


def _in_place(plan: Plan) -> set[str]:
    return {name for step in plan.steps for name in step.inplace}

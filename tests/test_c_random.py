"""Random networks through the C pipeline, lowering and C equal the reference of what was authored.

`make fuzz-c` does the same with new networks for as long as it is told.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, given, seed, settings

from compactir.ir.graph import Graph
from compactir.ir.plan import Conv
from compactir.ir.text import print_graph
from compactir.ir.types import TensorType
from compactir.ops.activation import Relu
from compactir.ops.conv import conv
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target
from tests.c import networks
from tests.c.networks import AT_END, AT_START, Case, Program, build, disagreements
from tests.c.regions import separable
from tests.c.windows import window_cases
from tests.graphs import graphs, random_weights

pytestmark = pytest.mark.compiler
TARGETS = [load_target("c"), load_target("native")]


def drawn(strategy: st.SearchStrategy[Graph], count: int) -> list[Graph]:
    """The same examples every time; what fails here shrinks under `make fuzz-c`."""
    found: list[Graph] = []

    @seed(20)
    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(strategy)
    def collect(graph: Graph) -> None:
        found.append(graph)

    collect()
    return found


def cases(target: Target) -> list[Case]:
    """Small networks of everything, separable blocks run row by row, single windows."""
    small = [Case(f"small {i}", g).optimised(target) for i, g in enumerate(drawn(graphs(), 24))]
    fused = [Case(f"fused {i}", g).optimised(target, i % 2) for i, g in enumerate(drawn(separable(), 12))]
    windows = [case.optimised(target) for case in window_cases(30)]
    return [*small, *fused, *windows]


@pytest.fixture(
    scope="module",
    params=[pytest.param(t, marks=[pytest.mark.slow] * (t.name == "c")) for t in TARGETS],
    ids=lambda t: t.name,
)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    target: Target = request.param
    folder = tmp_path_factory.mktemp(target.name)
    return build(cases(target), target, find_compiler(target), folder, "-O0")


@pytest.mark.parametrize("placement", [AT_END, AT_START], ids=["ends-at-a-guard-page", "begins-at-one"])
def test_random_networks_equal_the_reference(program: Program, placement: int) -> None:
    wrong = disagreements(program, placement)
    shown = [print_graph(n.case.authored or n.case.graph) for n in program.networks if n.case.name in wrong]
    assert wrong == {}, "\n".join(shown)


def test_the_networks_hold_what_is_to_be_tested(program: Program) -> None:
    plans = [n.lowered.plan for n in program.networks]
    stages = Counter(len(s.stages) for p in plans for s in p.steps)
    kernels = Counter(c.kernel.kind for p in plans for s in p.steps for c in s.calls)
    reads = Counter(
        c.kernel.reads for p in plans for s in p.steps for c in s.calls if isinstance(c.kernel, Conv)
    )
    assert {2, 3} <= set(stages)
    assert {"conv", "depthwise", "pool", "map", "global_pool", "across", "resize", "copy"} <= set(kernels)
    assert {"blocks", "planes", "table"} <= set(reads)
    assert any(s.inplace[0] for p in plans for s in p.steps)
    assert any(call.extra for p in plans for s in p.steps for call in s.calls)


_POINTER = re.compile(r"const float \*(x\w|p) = [^;]*;")
_READER = re.compile(r"^V_KERNEL void \w+\(const float \*x, .*?^\}\n", re.M | re.S)


def _watched(text: str) -> str:
    """Kernels that stop where they form a pointer before their input, whether or not it is read."""
    return _READER.sub(lambda kernel: _POINTER.sub(r"\g<0> if (\1 < x) __builtin_trap();", kernel[0]), text)


def _between_others(groups: int) -> Case:
    """A 3x3 convolution from blocks to blocks: transformed where it is dense, else lane by lane."""
    graph = Graph("net")
    x = graph.input("x", TensorType.f32(1, 96, 14, 14))
    a = graph.apply(Relu(), [graph.apply(conv(x.type, 96, 1), [x], "a")], "relu1")
    b = graph.apply(Relu(), [graph.apply(conv(a.type, 96, 3, pad=1, groups=groups), [a], "b")], "relu2")
    graph.outputs["y"] = graph.apply(conv(b.type, 8, 1), [b], "c")
    graph.weights = random_weights(graph)
    return Case(f"{groups} groups", graph)


def test_no_pointer_lies_before_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formally even that is undefined, and no sanitizer sees it."""
    plain, target = networks.one_file, load_target("native")
    monkeypatch.setattr(networks, "one_file", lambda *given: _watched(plain(*given)))
    authored = [_between_others(1), _between_others(24), *window_cases(30, seed=1)]
    cases = [
        replace(case, name=f"{case.name} {planes}", as_planes=planes).optimised(target)
        for case in authored
        for planes in (False, True)
    ]
    program = build(cases, target, find_compiler(target), tmp_path, "-O0")
    kinds = {c.kernel.kind for n in program.networks for s in n.lowered.plan.steps for c in s.calls}
    assert kinds >= {"conv", "depthwise", "grouped", "pool", "plane_conv", "plane_pool", "winograd_input"}
    assert (tmp_path / "all.c").read_text().count("__builtin_trap()") > len(cases)
    assert disagreements(program, AT_START) == {}

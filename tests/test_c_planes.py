"""Maps as planes, one channel each: the same results, no link executed that a table does not have."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactir.codegen.lower import lower
from compactir.codegen.lower.planes import plain_kernel
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ir.plan import Copy, PlaneConv, PlanePool
from compactir.ir.plan_text import parse_plan, print_plan
from compactir.ir.stretches import stretches
from compactir.ir.text import print_graph
from compactir.ir.types import TensorType
from compactir.ir.verify_plan import verify_plan
from compactir.ops.conv import Conv
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target, unsupported
from tests.c.networks import AT_END, AT_START, Program, build, disagreements
from tests.c.tables import joined_cases, linkless_case, table_cases

TARGETS = [t for t in map(load_target, ("c", "x86", "x86-avx512")) if not unsupported(t)]


@pytest.fixture(scope="module", params=TARGETS, ids=lambda t: t.name)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    target: Target = request.param
    folder = tmp_path_factory.mktemp(target.name)
    cases = [*table_cases(20), *joined_cases(), linkless_case()]
    return build(cases, target, find_compiler(target), folder, "-O0")


@pytest.mark.compiler
@pytest.mark.parametrize("placement", [AT_END, AT_START], ids=["ends-at-a-guard-page", "begins-at-one"])
def test_random_tables_equal_the_reference(program: Program, placement: int) -> None:
    wrong = disagreements(program, placement)
    shown = [print_graph(n.case.graph) for n in program.networks if n.case.name in wrong]
    assert not wrong, "\n\n".join(shown)


def test_the_tables_have_what_kernels_on_planes_know() -> None:
    """Strides, dilation, padding, halves of two rows, parts of vectors, shared inputs, and no copies."""
    seen: Counter[str] = Counter()
    for case in table_cases(40):
        plan = lower(case.graph, load_target("c"), as_planes=True).plan
        for step in plan.steps:
            assert step.conversion or not any(isinstance(call.kernel, Copy) for call in step.calls)
            for k in (call.kernel for call in step.calls):
                if isinstance(k, PlaneConv | PlanePool):
                    kind = "conv" if isinstance(k, PlaneConv) else "pool"
                    row = [s for tile in k.tiles for s in tile]
                    seen[f"{kind} with stride {k.stride[1]}"] += 1
                    seen[f"{kind} with padding"] += k.pad != (0, 0)
                    seen[f"{kind} with dilation"] += k.dilation != (1, 1)
                    seen["halves"] += any(s.halves for s in row)
                    seen["parts"] += any(s.count < k.lanes and not s.halves for s in row)
                    seen["pixels made twice"] += sum(s.count for s in row) > k.out[1]
                    seen["several rows"] += k.rows > 1
                if isinstance(k, PlaneConv):
                    seen["sections"] += len(k.masks) > 1
    assert {f"{kind} with stride {s}" for kind in ("conv", "pool") for s in (1, 2, 3)} <= set(seen)
    assert min(seen.values()) >= 1 or seen["pool with dilation"] == 0
    assert all(seen[name] for name in ("conv with padding", "conv with dilation", "pool with padding"))
    assert all(seen[name] for name in ("halves", "parts", "pixels made twice", "several rows", "sections"))


@pytest.mark.parametrize("target", ["c", "arm-a55", "x86", "x86-avx512"])
@pytest.mark.parametrize("threads", [1, 3])
def test_plans_hold_their_rules(target: str, threads: int) -> None:
    for case in table_cases(12, seed=threads):
        plan = lower(case.graph, load_target(target), threads, as_planes=True).plan
        assert parse_plan(print_plan(plan)) == plan, case.name
        verify_plan(plan)


@pytest.mark.parametrize("height", [2, 10, 14])
@pytest.mark.parametrize("width", [2, 4, 6, 10, 28])
def test_two_rows_at_once_make_no_pixel_twice(height: int, width: int) -> None:
    """Four lanes: half a vector of one row and half of the next share one."""
    graph = Graph("table")
    x = graph.input("x", TensorType.f32(1, 3, height + 2, width + 2))
    graph.apply(Conv(Connectivity.dense(3, 5, (3, 3))), [x], "conv")
    kernel = plain_kernel(graph.nodes[0], 4)
    assert kernel.vectors * 4 >= height * width
    assert replace(kernel, rows=2).vectors * 4 == height * width


@given(st.integers(1, 70), st.sampled_from([2, 4, 8, 16]), st.booleans(), st.booleans())
def test_stretches_cover_a_row(width: int, lanes: int, paired: bool, apart: bool) -> None:
    found = stretches(width, lanes, paired, apart)
    pixels = Counter(c for s in found for c in range(s.column, s.column + s.count))
    assert set(pixels) == set(range(width))
    assert not apart or max(pixels.values()) == 1
    assert all(s.count <= (lanes // 2 if s.halves else lanes) for s in found)
    assert paired or not any(s.halves for s in found)


def test_no_link_is_executed_that_the_connections_lack() -> None:
    """The sections of all panels hold every link once; on vectors without rest nothing else is executed."""
    for case in table_cases(24, seed=2):
        plan = lower(case.graph, load_target("c"), as_planes=True).plan
        for node in case.graph.nodes:
            kernels = [c.kernel for s in plan.steps if s.name == node.name for c in s.calls]
            if isinstance(node.op, Conv) and all(isinstance(k, PlaneConv) for k in kernels):
                linked = sum(sum(k.links) * prod(k.window) for k in kernels if isinstance(k, PlaneConv))
                assert linked * prod(node.out.type.spatial) * node.out.type.batch == node.macs, case.name

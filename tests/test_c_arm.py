"""The same samples and random networks as Arm programs, many networks in one, run under an emulator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target
from tests.c.networks import (
    AT_END,
    AT_START,
    INSERTED,
    Case,
    Program,
    build,
    disagreements,
    op_cases,
    undefined,
)
from tests.c.regions import separable
from tests.c.tables import table_cases
from tests.c.windows import window_cases
from tests.test_c_random import drawn

pytestmark = [pytest.mark.compiler, pytest.mark.emulator, pytest.mark.slow]
WAYS = [
    (load_target(name), family)
    for name in ("arm", "arm-a53", "arm-a55", "arm-v7")
    for family in ("zig", "gcc")
]
"""What is usual for another machine than this one, and the cross compiler that a system has."""


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0].name}-{way[1]}")
def program(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tool: Callable[[str], str],
    need: Callable[[str], None],
) -> Program:
    target: Target
    target, family = request.param
    if family == "zig":
        need("ziglang")
    if not target.is_native:
        tool(target.runner)
    compiler = find_compiler(target, "zig" if family == "zig" else tool(target.cc[0]))
    fused = [Case(f"fused {i}", g).optimised(target, i % 2) for i, g in enumerate(drawn(separable(), 8))]
    windows = [case.optimised(target) for case in window_cases(16)]
    cases = [*op_cases(), *fused, *windows, *table_cases(16)]
    return build(cases, target, compiler, tmp_path_factory.mktemp(target.name), "-O0")


@pytest.mark.parametrize("placement", [AT_END, AT_START], ids=["ends-at-a-guard-page", "begins-at-one"])
def test_samples_and_networks_equal_the_reference(program: Program, placement: int) -> None:
    assert disagreements(program, placement) == {}


def test_no_library_is_needed(program: Program, tool: Callable[[str], str]) -> None:
    nm = "nm" if program.target.is_native else f"{program.target.triple}-nm"
    assert undefined(program, tool(nm)) <= INSERTED

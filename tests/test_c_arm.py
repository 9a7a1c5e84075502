"""The same samples and random networks as Arm programs, many networks in one, run under an emulator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compactir.diagnostics import CompactError
from compactir.runtime.build import Compiler, find_compiler
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
TARGETS = [load_target(name) for name in ("arm", "arm-a53", "arm-a55", "arm-v7")]


def compiler_for(target: Target, tool: Callable[[str], str]) -> Compiler:
    """The cross compiler, zig where there is none; skips naming the package where neither is."""
    if not target.is_native:
        tool(target.runner)
    try:
        return find_compiler(target)
    except CompactError:
        tool(target.compilers()[0])
        raise


@pytest.fixture(scope="module", params=TARGETS, ids=lambda t: t.name)
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Program:
    target: Target = request.param
    compiler = compiler_for(target, tool)
    fused = [Case(f"fused {i}", g).optimised(target, 0) for i, g in enumerate(drawn(separable(), 8))]
    windows = [case.optimised(target) for case in window_cases(16)]
    cases = [*op_cases(), *fused, *windows, *table_cases(16)]
    return build(cases, target, compiler, tmp_path_factory.mktemp(target.name), "-O0")


@pytest.mark.parametrize("placement", [AT_END, AT_START], ids=["ends-at-a-guard-page", "begins-at-one"])
def test_samples_and_networks_equal_the_reference(program: Program, placement: int) -> None:
    assert disagreements(program, placement) == {}


def test_no_library_is_needed(program: Program, tool: Callable[[str], str]) -> None:
    nm = "nm" if program.target.is_native else f"{program.target.triple}-nm"
    assert undefined(program, tool(nm)) <= INSERTED

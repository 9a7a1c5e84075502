"""Code for several threads: the same bits for any number, callers at once, nothing for ThreadSanitizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compactir import driver
from compactir.codegen.lower import parts
from compactir.runtime.build import Compiler, find_compiler
from compactir.targets import load_target
from tests.c.networks import (
    AT_END,
    AT_START,
    ON_HEAP,
    Case,
    Program,
    Request,
    build,
    compile_quietly,
    disagreements,
    op_cases,
)
from tests.c.regions import separable
from tests.c.tables import table_cases
from tests.c.windows import window_cases
from tests.graphs import graphs
from tests.test_c_interface import same_bits
from tests.test_c_random import drawn

pytestmark = pytest.mark.compiler
ROOT = Path(__file__).resolve().parent.parent
THREADS = 3
RACES = ("-O0", "-g", "-fsanitize=thread")


NETWORKS = {"mobilenet_v2": {"width": "0.25", "size": "64"}, "shufflenet_v2": {"width": "0.5", "size": "64"}}


def example(name: str) -> Case:
    """A network of the examples, small."""
    source = driver.Source(ROOT / "examples" / f"{name}.arch", NETWORKS[name], seed=0)
    graph = driver.read(source, warn=False).graph
    return Case(name, graph).optimised(load_target("native"), 0)


@pytest.fixture(scope="module")
def everything_shared() -> Iterator[None]:
    """Steps of any size are cut, which pays for large ones only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "WORTH", 0)
        yield


@pytest.fixture(scope="module")
def program(everything_shared: None, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Every sample, windows, regions, small networks, for three threads."""
    target = load_target("native")
    fused = [Case(f"fused {i}", g).optimised(target, i % 2) for i, g in enumerate(drawn(separable(), 5))]
    small = [Case(f"small {i}", g).optimised(target) for i, g in enumerate(drawn(graphs(), 4))]
    cases = [*op_cases((2,)), *window_cases(8), *table_cases(8), *fused, *small, *map(example, NETWORKS)]
    folder = tmp_path_factory.mktemp("threads")
    return build(cases, target, find_compiler(target), folder, "-O0", threads=THREADS)


def crew(program: Program, threads: int, **more: str) -> Program:
    """The program on so many threads."""
    return Program(program.path, program.target, program.networks, {"CREW": str(threads), **more})


@pytest.mark.parametrize("placement", [AT_END, AT_START], ids=["ends-at-a-guard-page", "begins-at-one"])
def test_any_number_of_threads_gives_the_same_bits(program: Program, placement: int) -> None:
    cases = [n.case for n in program.networks]
    requests = [Request(case.name, placement=placement) for case in cases]
    alone = crew(program, 1).run(requests)
    assert disagreements(crew(program, 1), placement) == {}
    for threads in (2, THREADS, THREADS + 1):
        together = crew(program, threads).run(requests)
        assert [c.name for c, a, b in zip(cases, alone, together, strict=True) if not same_bits(a, b)] == []


def test_the_samples_are_cut_along_every_axis(program: Program) -> None:
    steps = [step for n in program.networks for step in n.lowered.plan.steps]
    axes = {call.kernel.split for step in steps for call in step.calls}
    assert axes == {"", "rows", "tiles", "panels", "blocks", "pixels", "channels", "steps"}
    assert any(step.split and step.stages for step in steps)
    assert any(not step.wait for n in program.networks for step in n.lowered.plan.steps[1:])


def test_callers_at_once_get_the_same_bits(program: Program) -> None:
    """Four threads call at once: one of them has the crew, the others run on their own."""
    for network in program.networks[:: len(program.networks) // 12]:
        alone = crew(program, 1).run([Request(network.case.name)])[0]
        request = Request(network.case.name, times=20, threads=4)
        for together in crew(program, THREADS).run([request]):
            assert same_bits(alone, together), network.case.name


def test_the_thread_sanitizer_finds_nothing(
    everything_shared: None, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """Networks in turns, on threads and with several callers; a race would end the program with status 66."""
    target = load_target("native")
    compiler = Compiler((tool("gcc"),), "gcc", "gcc", "")
    fused = [Case(f"fused {i}", g).optimised(target, i % 2) for i, g in enumerate(drawn(separable(), 4))]
    small = [Case(f"small {i}", g).optimised(target) for i, g in enumerate(drawn(graphs(), 4))]
    program = crew(
        build([*fused, *small, *table_cases(4)], target, compiler, tmp_path, *RACES, threads=THREADS), THREADS
    )
    program.environment |= {"NO_HANDLER": "1", "TSAN_OPTIONS": "halt_on_error=1"}
    for callers in (1, 4):
        names = [n.case.name for n in program.networks]
        program.run([Request(name, times=8, threads=callers, placement=ON_HEAP) for name in names])


def test_the_thread_sanitizer_would_find_a_step_that_does_not_wait(
    everything_shared: None, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """The same with all waiting taken out of the generated code."""
    target = load_target("native")
    compiler = Compiler((tool("gcc"),), "gcc", "gcc", "")
    cases = [Case("fused", g).optimised(target, 0) for g in drawn(separable(), 4)]
    program = build(
        [max(cases, key=lambda c: len(c.graph.nodes))], target, compiler, tmp_path, *RACES, threads=2
    )
    source = (tmp_path / "all.c").read_text()
    line = "if ((step_kind_of0[s] & 2) || s == c.first) crew_await(&crew.finished, before);"
    assert source.count(line) == 1
    (tmp_path / "all.c").write_text(source.replace(line, ""))
    objects = [str(tmp_path / f"{stem}.o") for stem in ("networks", "driver")]
    command = [*compiler.command, *target.flags("gcc"), *RACES, f"-I{tmp_path}", str(tmp_path / "all.c")]
    compile_quietly([*command, *objects, "-pthread", "-o", str(program.path)])
    broken = crew(program, 2, NO_HANDLER="1", TSAN_OPTIONS="halt_on_error=1")
    with pytest.raises(AssertionError, match="data race"):
        broken.run([Request("fused", times=500, placement=ON_HEAP)])

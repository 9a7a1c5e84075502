"""Every sample of every operation in C equals the reference, on every target that this machine runs.

All memory of a run lies between pages that must not be touched, so these tests also prove that nothing
outside the caller's tensors, the weights and the workspace is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir import reference
from compactir.codegen.lower import lower
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target, unsupported
from compactir.weights.container import pack
from tests.c.networks import (
    AT_END,
    AT_START,
    INSERTED,
    TOLERANCE,
    Array,
    Case,
    Program,
    Request,
    StoppedError,
    build,
    compile_quietly,
    disagreements,
    op_cases,
    swapped,
    undefined,
    worst,
)

pytestmark = pytest.mark.compiler
TARGETS = [t for t in map(load_target, ("c", "x86", "x86-avx512")) if not unsupported(t)]


@pytest.fixture(scope="module", params=TARGETS, ids=lambda t: t.name)
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    target: Target = request.param
    return build(op_cases(), target, find_compiler(target), tmp_path_factory.mktemp(target.name), "-O1")


@pytest.mark.parametrize("placement", [AT_END, AT_START], ids=["ends-at-a-guard-page", "begins-at-one"])
def test_every_sample_equals_the_reference(samples: Program, placement: int) -> None:
    assert disagreements(samples, placement) == {}


def test_no_library_is_needed(samples: Program, tool: Callable[[str], str]) -> None:
    assert undefined(samples, tool("nm")) <= INSERTED


ODD = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "minus zero": -0.0, "huge": 3e38}


def with_odd(case: Case, value: float) -> dict[str, Array]:
    """The case's inputs, one element of each replaced."""
    random = np.random.default_rng(7)
    inputs = {name: array.copy() for name, array in case.inputs.items()}
    for array in inputs.values():
        array.flat[random.integers(array.size)] = value
    return inputs


def keeps_odd_in_place(case: Case) -> bool:
    """Whether C multiplies just what the reference does.

    Blocks of channels that share vectors read the union of their inputs, with weights of zero where nothing
    is connected; 0 · Inf is NaN, so that NaN and Inf spread to outputs of the same vector (docs/numerics.md).
    """
    ops = [n.op for n in case.graph.nodes if isinstance(n.op, Conv)]
    windows = {(f.kernel, f.pad) for op in ops for f in op.connect.families}
    return len(windows) <= 1 and all(op.connect.is_dense or op.connect.is_depthwise for op in ops)


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_nan_and_infinity_come_out_in_place(samples: Program, value: float) -> None:
    cases = [n.case for n in samples.networks]
    inputs = [with_odd(case, value) for case in cases]
    answers = samples.run([Request(c.name, x) for c, x in zip(cases, inputs, strict=True)])
    wrong = []
    for case, x, got in zip(cases, inputs, answers, strict=True):
        # What overflows on the way depends on the order of operations: either precision may be right.
        references = [in_float32(case, x, dtype) for dtype in (np.float32, np.float64)]
        if keeps_odd_in_place(case):
            fine = any(worst(got, expected) <= TOLERANCE for expected in references)
        else:
            fine = all(not np.isfinite(got[k][~np.isfinite(v)]).any() for k, v in references[0].items())
        wrong += [] if fine else [case.name]
    assert wrong == []


def in_float32(case: Case, inputs: dict[str, Array], dtype: type[np.floating]) -> dict[str, Array]:
    """The reference's results, rounded to what a float holds."""
    results = reference.run(case.graph, inputs, dtype)
    with np.errstate(over="ignore"):
        return {name: result.astype(np.float32) for name, result in results.items()}


def weighted(program: Program) -> list[tuple[Case, str]]:
    """Cases with a weight that has two output channels, and its name."""
    return [
        (n.case, name)
        for n in program.networks
        for name, array in n.case.graph.weights.items()
        if len(array) > 1 and not np.array_equal(array[0], array[1]) and "mask" not in name
    ]


def test_two_channels_of_a_weight_exchanged_are_noticed(samples: Program) -> None:
    """The comparison can fail: wrong weights move every result by more than 100 tolerances."""
    cases = weighted(samples)
    assert len({type(c.graph.nodes[0].op) for c, _ in cases}) >= 4
    requests = []
    for case, name in cases:
        network = samples.networks[samples.index[case.name]]
        lowered = lower(swapped(case.graph, name), samples.target)
        assert lowered.plan == network.lowered.plan
        requests.append(Request(case.name, blob=pack(lowered.weights, network.files.content_id)))
    for (case, name), got in zip(cases, samples.run(requests), strict=True):
        least = 1 if isinstance(case.graph.nodes[0].op, BatchNorm) else 100
        assert worst(got, case.expected) > least * TOLERANCE, f"{case.name}: {name}"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("x0[5 * 60]", "byte 1200 of the 1200 of `x0`"),
        ("x0[-1]", "byte -4 of the 1200 of `x0`"),
        ("(((float *)ws)[64] = 1.0f)", "byte 256 of the 256 of `workspace`"),
        ("(((float *)(size_t)x0)[0] = 1.0f)", "byte 0 of the 1200 of `x0`"),
        ("(((float *)(size_t)w)[3] = 1.0f)", "byte 12 of the 64 of `weights`"),
    ],
)
def test_the_driver_notices_accesses_outside(tmp_path: Path, wrong: str, said: str) -> None:
    """A network made by hand that does what no kernel may do."""
    target = load_target("c")
    (tmp_path / "table.c").write_text(
        '#include "driver.h"\n'
        "static int bind(const float **w, const void *data, size_t size) { *w = data; return size != 64; }\n"
        "static int run(const float *w, float *const *t, void *ws) {\n"
        "  const volatile float *x0 = t[0];\n  (void)w, (void)ws;\n"
        f"  t[1][0] = {wrong};\n  return 0;\n}}\n"
        'static const size_t bytes[] = { 1200, 4 };\nstatic const char *const names[] = { "x0", "y" };\n'
        'const network networks[] = { { "wrong", 1, 1, bytes, names, 64, 256, bind, run } };\n'
    )
    here = Path(__file__).parent / "c"
    command = [*find_compiler(target).command, "-std=c99", f"-I{here}", str(tmp_path / "table.c")]
    program = tmp_path / "program"
    compile_quietly([*command, str(here / "driver.c"), "-pthread", "-o", str(program)])
    end = AT_START if "[-1]" in wrong else AT_END
    request = np.array([0, end, 1, 1], "<i4").tobytes() + bytes(64) + bytes(1200)
    with pytest.raises(StoppedError, match=said):
        Program(program, target, []).ask(request)

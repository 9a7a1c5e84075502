"""docs/numerics.md tells the truth: what it says about numbers is checked here, on every target at hand.

The models of a target are one program, in which all memory lies between pages that must not be touched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from compactir import reference
from compactir.codegen.c.vocabulary import ON_DEMAND
from compactir.codegen.lower import lower
from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph
from compactir.ir.plan import Conv, Grouped, PlaneConv
from compactir.lang import elaborate, parse
from compactir.passes import _verify, pipeline, run_pipeline
from compactir.runtime.build import find_compiler
from compactir.targets import Target, all_targets, load_target, unsupported
from compactir.tools import verify
from compactir.weights.load import load_weights
from compactir.weights.safetensors import write_safetensors
from tests.c import networks
from tests.c.networks import Array, Case, Program, Request, build
from tests.graphs import random_weights

pytestmark = pytest.mark.compiler
F32 = np.float32
ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
EMULATED = ("arm", "arm-v7")
TARGETS = [n for n in ("c", "x86", "x86-avx512") if not unsupported(load_target(n))] + list(EMULATED)

CLAMPS = ("relu", "relu6", "clip(low=-1, high=1)")
SMOOTH = ("sigmoid", "tanh", "swish", "hard_sigmoid")
MODELS = {
    "dense": "input x: f32[5, 6, 6];  output y = x -> conv(8, kernel=3, bias=true)",
    "depthwise": "input x: f32[8, 9, 9];  output y = x -> depthwise(kernel=3, bias=true)",
    "mixed": "input x: f32[32, 9, 9];  output y = x -> depthwise(kernel=[3, 5])",
    "narrow": "input x: f32[8, 9, 9];  output y = x -> depthwise(kernel=[3, 5])",
    "grouped": "input x: f32[8, 3, 3];  output y = x -> conv(32, kernel=1, groups=8)",
    "ones": "input x: f32[3, 4, 4];  output y = x -> conv(4, kernel=3)",
    "infinite": "input x: f32[8, 4, 4];  output y = x -> depthwise(kernel=3)",
    "mean": "input x: f32[8, 5, 5];  output y = x -> global_avg_pool",
    "average": "input x: f32[8, 6, 6];  output y = x -> avg_pool(kernel=3)",
    "largest": "input x: f32[8, 6, 6];  output y = x -> max_pool(kernel=2)",
    "top": "input x: f32[8, 6, 6];  output y = x -> global_max_pool",
    "softmax": "input x: f32[19];  output y = x -> softmax",
    "lrn": "input x: f32[8, 2, 2];  output y = x -> lrn",
    "leaky_relu": "input x: f32[16];  output y = x -> leaky_relu(slope=0.1)",
    "hard_swish": "input x: f32[16];  output y = x -> hard_swish",
    **{name: f"input x: f32[16];  output y = x -> {name}" for name in (*CLAMPS, *SMOOTH)},
    "chain": "input x: f32[5, 12, 12];  y = x -> conv(24, kernel=1) -> bn -> relu -> depthwise(kernel=3)"
    " -> shuffle(groups=2) -> conv(8, kernel=1, groups=2) -> swish;"
    "  output z = y -> global_avg_pool -> linear(7)",
}
MODELS["pair"] = MODELS["chain"]
BATCH = {"pair": 2}
WEIGHTS = {"ones": 1.0, "infinite": np.inf}


@cache
def graph(name: str) -> Graph:
    """A model as authored, weights drawn; those of some are all the same number."""
    text = f"network n {{ {MODELS[name]} }}".replace(";", "\n")
    made = elaborate(parse(text), batch=BATCH.get(name, 1))
    made.weights = random_weights(made, 0)
    if name in WEIGHTS:
        made.weights = {key: np.full_like(w, WEIGHTS[name]) for key, w in made.weights.items()}
    return made


@dataclass(frozen=True)
class Compiled:
    """The models as one program for a target."""

    target: Target
    program: Program

    def __call__(self, name: str, x: Array) -> Array:
        """What a model makes of x, as C."""
        [out] = self.program.run([Request(name, {"x": x})])
        [result] = out.values()
        return result


def expected(name: str, x: Array) -> Array:
    """What a model makes of x, by the reference."""
    [result] = reference.run(graph(name), {"x": x}).values()
    return result.astype(F32)


def compiled(
    target: Target, folder: Path, *flags: str, cc: str | None = None, names: Sequence[str] = tuple(MODELS)
) -> Compiled:
    """Models for a target, after the passes; for another machine by the cross compiler, if it is here."""
    cases = []
    for name in names:
        optimised = graph(name).clone()
        run_pipeline(optimised, pipeline("c", target))
        cases.append(Case(name, optimised))
    cross = () if target.is_native else filter(shutil.which, target.cc)
    compiler = find_compiler(target, cc or next(iter(cross), None))
    return Compiled(target, build(cases, target, compiler, folder, *flags))


@pytest.fixture(scope="module", params=TARGETS)
def c(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Compiled:
    target = load_target(request.param)
    if not target.is_native:
        tool(target.runner)
    return compiled(target, tmp_path_factory.mktemp("numerics"), "-O0")


def ramp(*shape: int) -> Array:
    """Seeded normal numbers for one image."""
    return np.random.default_rng(1).standard_normal((1, *shape)).astype(F32)


def bits(x: Array) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(x, F32).view(np.uint32)


def same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(bits(a), bits(b)))


# -- the order of sums ---------------------------------------------------------------------------------------


def multiply_add(target: Target, total: Array, a: Array, b: Array) -> Array:
    """The sum total + a·b as v_fma rounds it: once (float64 holds the product exactly), or twice."""
    if target.fma:
        return (total.astype(np.float64) + a.astype(np.float64) * b.astype(np.float64)).astype(F32)
    return total + a * b


def windows(x: Array, ky: int, kx: int, size: int) -> Array:
    """What a tap of a 3x3 window with padding 1 sees."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return padded[:, :, ky : ky + size, kx : kx + size]


def test_a_convolution_adds_row_by_row_tap_by_tap_input_by_input(c: Compiled) -> None:
    x, weights = ramp(5, 6, 6), graph("dense").weights
    total = np.broadcast_to(weights["conv1.bias"][None, :, None, None], (1, 8, 6, 6)).astype(F32)
    reversed_order = total
    for ky, kx, i in np.ndindex(3, 3, 5):
        w = weights["conv1.weight"][:, i, ky, kx][None, :, None, None]
        total = multiply_add(c.target, total, windows(x, ky, kx, 6)[:, i : i + 1], w)
    for i, kx, ky in np.ndindex(5, 3, 3):
        w = weights["conv1.weight"][:, i, ky, kx][None, :, None, None]
        reversed_order = multiply_add(c.target, reversed_order, windows(x, ky, kx, 6)[:, i : i + 1], w)
    assert same_bits(c("dense", x), total)
    assert not same_bits(c("dense", x), reversed_order)


def test_a_depthwise_filter_adds_row_by_row(c: Compiled) -> None:
    x, weights = ramp(8, 9, 9), graph("depthwise").weights
    total = np.broadcast_to(weights["depthwise1.bias"][None, :, None, None], x.shape).astype(F32)
    for ky, kx in np.ndindex(3, 3):
        w = weights["depthwise1.weight"][:, 0, ky, kx][None, :, None, None]
        total = multiply_add(c.target, total, windows(x, ky, kx, 9), w)
    assert same_bits(c("depthwise", x), total)


def test_means_multiply_by_the_rounded_reciprocal(c: Compiled) -> None:
    x = ramp(8, 5, 5)
    sums = [x.reshape(1, 8, 25)[..., start::4] for start in range(4)]
    four = [np.add.accumulate(s, axis=2, dtype=F32)[..., -1] for s in sums]
    mean = ((four[0] + four[1]) + (four[2] + four[3])) * F32(1 / 25)
    assert same_bits(c("mean", x)[..., 0, 0], mean)
    x = ramp(8, 6, 6)
    total = np.zeros((1, 8, 2, 2), F32)
    for ky, kx in np.ndindex(3, 3):
        total = total + x[:, :, ky::3, kx::3]
    assert same_bits(c("average", x), total * F32(1 / 9))


def digits(run: Compiled, names: Sequence[str] = tuple(MODELS)) -> dict[str, npt.NDArray[np.uint32]]:
    """The bits of every result, NaN as NaN. Softmax adds lanes: there the width of a vector shows."""
    shapes = {name: graph(name).inputs[0].type.shape[1:] for name in names if name != "softmax"}
    answers = {name: run(name, np.repeat(ramp(*shapes[name]), BATCH.get(name, 1), 0)) for name in shapes}
    return {name: bits(np.where(np.isnan(y), F32(np.nan), y)) for name, y in answers.items()}


def differing(a: dict[str, npt.NDArray[np.uint32]], b: dict[str, npt.NDArray[np.uint32]]) -> list[str]:
    return [name for name in a if not np.array_equal(a[name], b[name])]


KNOWN: dict[tuple[bool, str, str], npt.NDArray[np.uint32]] = {}
"""Fused or not, model, order of its sums -> the bits that the first such target gave."""


def order(name: str, target: Target) -> str:
    """How its convolutions add up (docs/numerics.md): what comes first, window, rows of it, or inputs."""
    optimised = graph(name).clone()
    run_pipeline(optimised, pipeline("c", target))
    kernels = [call.kernel for step in lower(optimised, target).plan.steps for call in step.calls]
    if any(isinstance(kernel, PlaneConv | Grouped) for kernel in kernels):
        return "inputs"
    pictures = any(isinstance(kernel, Conv) and kernel.reads == "planes" for kernel in kernels)
    return "rows" if pictures and target.word_loads in ("moves", "pairs") else "window"


def test_targets_give_the_same_bits_if_they_fuse_and_add_alike(c: Compiled) -> None:
    """Those that fuse among each other, and those that do not."""
    found, fma = digits(c), c.target.fma
    orders = {name: order(name, c.target) for name in found}
    assert sum(way == "window" for way in orders.values()) >= len(found) - 4
    known = {name: KNOWN.setdefault((fma, name, orders[name]), found[name]) for name in found}
    assert differing(found, known) == []
    if (other := KNOWN.get((not fma, "dense", orders["dense"]))) is not None:
        assert not np.array_equal(found["dense"], other)


def test_a_batch_is_its_images_and_a_call_is_like_the_last(c: Compiled) -> None:
    a, b = ramp(5, 12, 12), 2 * ramp(5, 12, 12)
    alone = [c("chain", x) for x in (a, b)]
    assert same_bits(c("pair", np.concatenate([a, b])), np.concatenate(alone))
    assert same_bits(c("chain", a), alone[0])
    assert not same_bits(alone[0], alone[1])


@pytest.mark.parametrize(("cc", "level"), [("gcc", "-O0"), ("gcc", "-O3"), ("clang", "-O2"), ("zig", "-O2")])
def test_compilers_and_levels_give_the_same_bits(
    cc: str, level: str, tmp_path: Path, tool: Callable[[str], str], need: Callable[[str], None]
) -> None:
    need("ziglang") if cc == "zig" else tool(cc)
    target, names = load_target("native"), ("dense", "tanh", "chain")
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    one = digits(compiled(target, a, level, cc=cc, names=names), names)
    assert differing(one, digits(compiled(target, b, "-O1", names=names), names)) == []


def test_contraction_is_forbidden_and_nothing_is_fast() -> None:
    for target in all_targets():
        for family in ("gcc", "clang", "zig"):
            flags = target.flags(family)
            assert [f for f in flags if "fp-contract" in f or "fast" in f] == ["-ffp-contract=off"]


def test_nothing_sets_rounding_or_flushing(c: Compiled) -> None:
    for network in c.program.networks:
        assert not re.search(r"setcsr|fesetround|FLUSH_ZERO|fpscr|fpcr", network.files.source)


def test_batch_norm_folds_in_float64() -> None:
    """Weights are rounded once, to float32, after the whole product."""
    made = graph("chain").clone()
    w = {name: array.astype(np.float64) for name, array in made.weights.items()}
    run_pipeline(made, "fold-batchnorm")
    scale = w["bn1.weight"] / np.sqrt(w["bn1.running_var"] + 1e-5)
    shift = w["bn1.bias"] - w["bn1.running_mean"] * scale
    assert same_bits(
        made.weights["conv1.weight"], (w["conv1.weight"] * scale[:, None, None, None]).astype(F32)
    )
    assert same_bits(made.weights["conv1.bias"], shift.astype(F32))


# -- NaN and infinities --------------------------------------------------------------------------------------


def one_odd(shape: tuple[int, ...], at: tuple[int, ...], value: float) -> Array:
    x = ramp(*shape)
    x[(0, *at)] = value
    return x


@pytest.mark.parametrize("name", [*CLAMPS, *SMOOTH, "leaky_relu", "hard_swish"])
def test_activations_keep_nan_in_its_place(c: Compiled, name: str) -> None:
    y = c(name, one_odd((16,), (5,), np.nan))
    assert np.flatnonzero(np.isnan(y)).tolist() == [5]


def test_pools_and_normalisations_keep_nan(c: Compiled) -> None:
    """Also maxima, where C's fmax would lose it. Softmax spreads it over the channels, LRN over five."""
    for name in ("largest", "top", "mean", "average"):
        x = one_odd(graph(name).inputs[0].type.shape[1:], (3, 4, 4), np.nan)
        assert np.array_equal(np.isnan(c(name, x)), np.isnan(expected(name, x))), name
        assert np.isnan(c(name, x)).sum() == 1, name
    assert np.isnan(c("softmax", one_odd((19,), (7,), np.nan))).all()
    assert np.flatnonzero(np.isnan(c("lrn", one_odd((8, 2, 2), (3, 0, 0), np.nan))[0, :, 0, 0])).tolist() == [
        1, 2, 3, 4, 5
    ]  # fmt: skip


SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    3e38,
    -3e38,
    88.8,
    -104.0,
    100.0,
    -100.0,
    1e-30,
    -1e-30,
    3.0,
    -3.0,
    6.0,
    1.0,
]


@pytest.mark.parametrize("name", [*CLAMPS, *SMOOTH, "leaky_relu"])
def test_special_values_stand_where_the_reference_has_them(c: Compiled, name: str) -> None:
    x = np.array([SPECIAL], F32)
    assert networks.distance(c(name, x), expected(name, x)) <= verify.TOLERANCE


def test_hard_swish_overflows_later_than_its_reference(c: Compiled) -> None:
    """C multiplies by 1/6 first, the reference by 6."""
    x = np.array([SPECIAL], F32)
    y, reference_y = c("hard_swish", x), expected("hard_swish", x)
    assert np.isinf(reference_y[0, 4])
    assert y[0, 4] == pytest.approx(3e38)
    assert networks.distance(np.delete(y, 4, 1), np.delete(reference_y, 4, 1)) <= verify.TOLERANCE


def test_an_infinity_spreads_to_outputs_of_the_same_vector(c: Compiled) -> None:
    """8 groups of 1 input and 4 outputs; the infinity is in the first group."""
    x = one_odd((8, 3, 3), (0, 1, 1), np.inf)
    y = c("grouped", x)
    assert np.flatnonzero(~np.isfinite(expected("grouped", x)[0, :, 1, 1])).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(np.isinf(y[0, :, 1, 1])).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(np.isnan(y[0, :, 1, 1])).tolist() == list(range(4, c.target.lanes))
    assert (~np.isfinite(y)).sum() == max(4, c.target.lanes)  # other pixels do not notice


def test_a_nan_spreads_over_the_largest_window_of_a_vector(c: Compiled) -> None:
    """Kernels of 3 and 5: a vector that holds channels of both takes the larger window for all."""
    assert np.isnan(c("depthwise", one_odd((8, 9, 9), (0, 4, 4), np.nan))).sum() == 9
    assert np.isnan(c("mixed", one_odd((32, 9, 9), (0, 4, 4), np.nan))).sum() == 9  # 16 channels of each
    y = c("narrow", one_odd((8, 9, 9), (0, 4, 4), np.nan))  # 4 channels of each
    assert np.isnan(y).sum() == (9 if c.target.lanes == 4 else 25)


def test_padding_is_skipped_not_multiplied(c: Compiled) -> None:
    """Infinite weights at the border: 0 * Inf in the reference, nothing in C."""
    x = np.ones((1, 8, 4, 4), F32)
    assert np.isnan(expected("infinite", x)).sum() == 8 * 12
    assert np.isposinf(c("infinite", x)).all()


def test_weights_files_hold_no_nan(tmp_path: Path) -> None:
    given = {name: np.array(w) for name, w in graph("ones").weights.items()}
    given["conv1.weight"][0, 0, 0, 0] = np.inf
    write_safetensors(tmp_path / "w.safetensors", given)
    load_weights(graph("ones"), tmp_path / "w.safetensors")
    given["conv1.weight"][0, 0, 0, 0] = np.nan
    write_safetensors(tmp_path / "w.safetensors", given)
    with pytest.raises(CompactError, match="holds NaN"):
        load_weights(graph("ones"), tmp_path / "w.safetensors")


# -- zeros and denormals -------------------------------------------------------------------------------------


def test_the_sign_of_a_zero_is_open(c: Compiled) -> None:
    x = np.full((1, 16), -0.0, F32)
    assert (c("relu", x) == 0).all()
    assert np.signbit(c("tanh", x)).all()
    assert np.signbit(c("hard_swish", x)).all()
    assert networks.distance(np.array([-0.0], F32), np.array([0.0])) == 0


def test_denormals_count(c: Compiled) -> None:
    """Everywhere but on 32-bit Arm, whose vectors take them for 0."""
    x = np.zeros((1, 3, 4, 4), F32)
    x[0, 0, 1, 1] = tiny = F32(1e-40)
    y = c("ones", x)
    assert y.max() == (0 if c.target.name == "arm-v7" else tiny)
    assert expected("ones", x).max() == tiny


# -- agreement -----------------------------------------------------------------------------------------------


def test_the_tolerances_are_what_the_page_says() -> None:
    assert "≤ 1e-4 · max|ref|" in PAGE
    assert verify.TOLERANCE == networks.TOLERANCE == 1e-4
    assert "1e-9" in PAGE
    assert _verify.Verifier().tolerance == 1e-9


def test_the_bounds_are_those_of_the_vocabulary() -> None:
    """`test_vocabulary.py` measures them on every target."""
    headers = [ROOT / "codegen/c/simd" / name for name in ("elementary.h", *ON_DEMAND)]
    text = "".join(header.read_text(encoding="utf-8") for header in headers)
    promised = re.findall(r"\* +(v_\w+\(.*?\)) +([\d.]+) +([\d.]+) ", text)
    assert len(promised) == 7 + 15
    assert re.findall(r"^\| `(v_\w+\(.*?\))` \| ([\d.]+) \| ([\d.]+) \|", PAGE, re.MULTILINE) == promised


def test_two_channels_exchanged_move_the_result_by_more_than_100_tolerances() -> None:
    """In the middle of a network; the same comparison says that the result for the right weights is fine."""
    right, x = graph("chain"), ramp(5, 12, 12)
    wrong = networks.swapped(right, "depthwise1.weight")
    [a], [b] = (reference.run(g, {"x": x}).values() for g in (right, wrong))
    assert networks.distance(a, a.astype(np.float64)) == 0
    assert networks.distance(b, a.astype(np.float64)) > 100 * verify.TOLERANCE

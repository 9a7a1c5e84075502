"""Every word of every vector header equals its meaning in NumPy; the elementary functions keep their bounds.

One driver program per machine holds all words; it reads operands from stdin, writes results to stdout, and
runs here or in an emulator. Words that take a count work at the edge of a page that must not be touched.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from compactir.codegen.c.vocabulary import ON_DEMAND, vocabulary
from compactir.targets import Target, all_targets, load_target, unsupported

SIMD = Path(__file__).resolve().parent.parent / "codegen" / "c" / "simd"
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Meaning = Callable[..., npt.NDArray[np.float32]]
TINY = float(np.finfo(np.float32).tiny)
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")

SOFT = Target(
    **{
        **vars(load_target("arm-v7")),
        "name": "scalar-arm32",
        "isa": "scalar",
        "fma": False,
        "cflags": ("-O2", "-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard", "-ffp-contract=off"),
    }
)
"""The portable header on a 32-bit machine without vectors."""

OLD_ARM = replace(
    load_target("arm-v7"),
    name="arm-v7-unfused",
    fma=False,
    cflags=("-O2", "-march=armv7-a", "-mfpu=neon", "-mfloat-abi=hard", "-ffp-contract=off"),
    runner_args=("-cpu", "cortex-a9"),
)
"""NEON without a fused multiply-add: Cortex-A8 and A9."""

HERE = tuple(load_target(n) for n in ("c", "x86", "x86-avx512") if not unsupported(load_target(n)))
EMULATED = (*(t for t in (load_target("arm"), load_target("arm-v7")) if not t.is_native), SOFT, OLD_ARM)
MACHINES = (*HERE, *EMULATED)


# ---------------------------------------------------------------------------------------- what the words mean


@dataclass(frozen=True)
class Word:
    """One word: the C expression that uses it and what it means in NumPy, (rows, lanes) arrays in and out.

    In the expression a, b, c are operand vectors, p, q, r point at their floats, and n is (int)q[0].
    """

    expression: str
    meaning: Meaning
    operands: int = 1
    compare: str = "bits"  # "bits": NaN equals NaN; "value": also -0 equals +0; "raw": as integers
    domain: str = "all"  # "all": with NaN, inf, denormals; "first not NaN"; "count": b holds n; "moderate"


def fused(a: F32, b: F32, c: F32) -> F32:
    """A * b + c rounded once: the exact product in float64, the sum rounded to odd there, then to float32."""
    product = a.astype(np.float64) * b
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    even = (total.view(np.int64) & 1) == 0
    toward = np.where(lost > 0, np.inf, -np.inf)
    odd = np.where(even & (lost != 0) & np.isfinite(total), np.nextafter(total, toward), total)
    return odd.astype(np.float32)


def unfused(a: F32, b: F32, c: F32) -> F32:
    return a * b + c


def unfused_without_denormals(a: F32, b: F32, c: F32) -> F32:
    return flushed(a * b) + c


def flushed(a: F32) -> F32:
    return np.where(np.abs(a) < TINY, np.copysign(np.float32(0), a), a)


def halves_sum(a: F32) -> F32:
    while a.shape[1] > 1:
        a = a[:, : a.shape[1] // 2] + a[:, a.shape[1] // 2 :]
    return a


def all_lanes(column: F32, like: F32) -> F32:
    return np.broadcast_to(column, like.shape)


def first_lanes(a: F32, counts: F32, other: float) -> F32:
    lane = np.arange(a.shape[1])[None, :]
    return np.where(lane < counts[:, :1], a, np.float32(other))


def low_high(a: F32, b: F32) -> F32:
    half = a.shape[1] // 2
    return np.concatenate([a[:, :half], b[:, half:]], axis=1)


def every_second_after_the_first(a: F32, b: F32) -> F32:
    half = a.shape[1] // 2
    return np.concatenate([b[:, :1], a[:, : 2 * half - 2 : 2], b[:, half:]], axis=1)


def on_bits(f: Callable[..., npt.NDArray[np.uint32]]) -> Meaning:
    return lambda *args: f(*(a.view(np.uint32) for a in args)).astype(np.uint32).view(np.float32)


def smaller(c: F32, x: F32) -> F32:
    return np.where(np.isnan(x), x, np.minimum(c, x))


def larger(c: F32, x: F32) -> F32:
    return np.where(np.isnan(x), x, np.maximum(c, x))


def product_error(a: F32, b: F32) -> F32:
    return (a.astype(np.float64) * b - (a * b)).astype(np.float32)


def words(fma: Callable[[F32, F32, F32], F32]) -> dict[str, Word]:
    """Every word, given what v_fma means on the machine."""

    def x_words() -> dict[str, Word]:
        def at(j: int) -> Meaning:
            return lambda a, b, x: fma(b, all_lanes(x[:, j : j + 1], b), a)

        return {
            **{f"v_fma_x {j}": Word(f"v_fma_x(a, b, x_load(r), {j})", at(j), 3) for j in range(4)},
            "x_load": Word("v_fma_x(a, b, x_load(at_edge(r, V_X)), 3)", at(3), 3),
            "x_load_n": Word("v_fma_x(a, b, x_load_n(at_edge(r, 2), 2), 1)", at(1), 3),
            "v_fma_1": Word("v_fma_1(a, b, at_edge(r, 1))", at(0), 3),
        }

    return {
        "v_zero": Word("v_zero()", np.zeros_like),
        "v_set1": Word("v_set1(p[0])", lambda a: all_lanes(a[:, :1], a)),
        "v_load": Word("v_load(p)", lambda a: a),
        "v_store": Word("stored(a)", lambda a: a),
        "v_load_n": Word("v_load_n(at_edge(p, n), n)", lambda a, n: first_lanes(a, n, 0), 2, domain="count"),
        "v_store_n": Word("stored_n(a, n)", lambda a, n: first_lanes(a, n, -7), 2, domain="count"),
        "v_load_halves": Word("v_load_halves(p, q + V_LANES / 2)", low_high, 2),
        "v_store_halves": Word("stored_halves(a)", lambda a: a),
        "v_halves": Word("v_halves(a, b)", low_high, 2),
        "v_pick": Word("picked(a)", lambda a: a[:, np.arange(a.shape[1]) * 3 % a.shape[1]]),
        "v_even": Word("v_even(a, b)", lambda a, b: np.concatenate([a[:, ::2], b[:, ::2]], axis=1), 2),
        "v_odd": Word("v_odd(a, b)", lambda a, b: np.concatenate([a[:, 1::2], b[:, 1::2]], axis=1), 2),
        "v_load_each": Word(
            "v_load_each(at_edge(p, V_LANES - 3), 2, 1, V_LANES / 2, b)", every_second_after_the_first, 2
        ),
        "v_add": Word("v_add(a, b)", np.add, 2),
        "v_sub": Word("v_sub(a, b)", np.subtract, 2),
        "v_mul": Word("v_mul(a, b)", np.multiply, 2),
        "v_div": Word("v_div(a, b)", np.divide, 2),
        "v_fma": Word("v_fma(a, b, c)", fma, 3),
        "v_sqrt": Word("v_sqrt(a)", np.sqrt),
        "v_abs": Word("v_abs(a)", np.abs),
        "v_min": Word("v_min(a, b)", smaller, 2, "value", "first not NaN"),
        "v_max": Word("v_max(a, b)", larger, 2, "value", "first not NaN"),
        "v_max_nan": Word("v_max_nan(a, b)", np.maximum, 2, "value"),
        "v_less": Word("v_less(a, b, c, v_zero())", lambda a, b, c: np.where(a < b, c, np.float32(0)), 3),
        "v_load_at": Word(
            "loaded_at(p)", lambda a: np.concatenate([a[:, :0:-1], np.zeros_like(a[:, :1])], axis=1)
        ),
        "v_min_nan": Word("v_min_nan(a, b)", np.minimum, 2, "value"),
        "v_same": Word("v_same(a, b, c, v_zero())", lambda a, b, c: np.where(a == b, c, np.float32(0)), 3),
        "v_round": Word("v_round(a)", np.rint),
        "v_floor": Word("v_floor(a)", np.floor),
        "v_ceil": Word("v_ceil(a)", np.ceil),
        "v_trunc": Word("v_trunc(a)", np.trunc),
        "v_sign": Word("v_sign(a)", np.sign, 1, "value"),
        "v_sum": Word("v_set1(v_sum(a))", lambda a: all_lanes(halves_sum(a), a)),
        "v_max_all": Word(
            "v_set1(v_max_all(a))", lambda a: all_lanes(a.max(axis=1, keepdims=True), a), 1, "value"
        ),
        **x_words(),
        "v_mul_error": Word("v_mul_error(a, b, v_mul(a, b))", product_error, 2, "value", "moderate"),
        "V_PIN": Word("pinned(a)", lambda a: a),
        "V_BARRIER": Word("after_barrier(a)", lambda a: a),
        "V_PREFETCH": Word("prefetched(a, p)", lambda a: a),
        "vi_set1": Word("vi_float(vi_set1(0x3f800000u))", np.ones_like),
        "vi_add": Word("vi_float(vi_add(vi_bits(a), vi_bits(b)))", on_bits(np.add), 2, "raw"),
        "vi_sub": Word("vi_float(vi_sub(vi_bits(a), vi_bits(b)))", on_bits(np.subtract), 2, "raw"),
        "vi_and": Word("vi_float(vi_and(vi_bits(a), vi_bits(b)))", on_bits(np.bitwise_and), 2, "raw"),
        "vi_or": Word("vi_float(vi_or(vi_bits(a), vi_bits(b)))", on_bits(np.bitwise_or), 2, "raw"),
        "vi_shl23": Word("vi_float(vi_shl23(vi_bits(a)))", on_bits(lambda u: u << np.uint32(23)), 1, "raw"),
        "vi_shr23": Word("vi_float(vi_shr23(vi_bits(a)))", on_bits(lambda u: u >> np.uint32(23)), 1, "raw"),
        "vi_shr1": Word("vi_float(vi_shr1(vi_bits(a)))", on_bits(lambda u: u >> np.uint32(1)), 1, "raw"),
    }


FUSED, UNFUSED, UNFUSED_WITHOUT_DENORMALS = (words(f) for f in (fused, unfused, unfused_without_denormals))
ELEMENTARY = {
    "v_exp": Word("v_exp(a)", np.exp),
    "v_exp2": Word("v_exp2(a)", np.exp2),
    "v_log2": Word("v_log2(a)", np.log2),
    "v_tanh": Word("v_tanh(a)", np.tanh),
    "v_sigmoid": Word("v_sigmoid(a)", lambda x: 1 / (1 + np.exp(-x))),
    "v_swish": Word("v_swish(a)", lambda x: x / (1 + np.exp(-x))),
    "v_pow": Word("v_pow(a, b)", lambda a, b: np.where((a < 0) | np.isnan(a + b), np.nan, np.power(a, b)), 2),
}
RARE = {
    "v_erf": Word("v_erf(a)", np.vectorize(math.erf, otypes=[np.float64])),
    "v_sin": Word("v_sin(a)", np.sin),
    "v_cos": Word("v_cos(a)", np.cos),
    "v_tan": Word("v_tan(a)", np.tan),
    "v_asin": Word("v_asin(a)", np.arcsin),
    "v_acos": Word("v_acos(a)", np.arccos),
    "v_atan": Word("v_atan(a)", np.arctan),
    "v_sinh": Word("v_sinh(a)", np.sinh),
    "v_cosh": Word("v_cosh(a)", np.cosh),
    "v_asinh": Word("v_asinh(a)", np.arcsinh),
    "v_acosh": Word("v_acosh(a)", np.arccosh),
    "v_atanh": Word("v_atanh(a)", np.arctanh),
    "v_power": Word("v_power(a, b)", np.power, 2),
    "v_fmod": Word("v_fmod(a, b)", np.fmod, 2),
    "v_mod": Word("v_mod(a, b)", np.mod, 2),
}
ELEMENTARY |= RARE
NAMES = (*FUSED, *ELEMENTARY)


# ------------------------------------------------------------------------------------------------- the driver

SYSTEM = """
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
"""
HELPERS = """
float *edge; /* the first float of a page that must not be touched */
static const float *at_edge(const float *p, int n) {
  if (n < 0) n = 0;
  if (n > V_LANES) n = V_LANES;
  memcpy(edge - n, p, (size_t)n * sizeof(float));
  return edge - n;
}
static vf32 stored(vf32 a) { v_store(edge - V_LANES, a); return v_load(edge - V_LANES); }
static vf32 stored_n(vf32 a, int n) {
  float around[3 * V_LANES];
  const int last = n < 0 ? 0 : n > V_LANES ? V_LANES : n;
  for (int i = 0; i < 3 * V_LANES; ++i) around[i] = -7.0f;
  v_store_n(edge - last, a, n);
  v_store_n(around + V_LANES, a, n);
  for (int i = 0; i < 3 * V_LANES; ++i)
    if ((i < V_LANES || i >= 2 * V_LANES) && around[i] != -7.0f) abort();
  return v_load(around + V_LANES);
}
static vf32 stored_halves(vf32 a) {
  float *const low = edge - V_LANES / 2, *const high = low - V_LANES;
  v_store_halves(low, high, a);
  return v_load_halves(low, high);
}
static vf32 picked(vf32 a) {
  int32_t from[V_LANES];
  for (int i = 0; i < V_LANES; ++i) from[i] = i * 3 % V_LANES;
  return v_pick(a, from);
}
static vf32 loaded_at(const float *p) {
  int32_t at[V_LANES];
  for (int i = 0; i < V_LANES; ++i) at[i] = V_LANES - 1 - i;
  return v_load_at(p, at, V_LANES - 1);
}
static vf32 pinned(vf32 a) { V_PIN(a); return a; }
static vf32 after_barrier(vf32 a) { V_BARRIER(); return a; }
static vf32 prefetched(vf32 a, const float *p) { V_PREFETCH(p); V_PREFETCH((const float *)0); return a; }
"""
MAIN = """
static const unsigned char operands[] = {@OPERANDS@};

int main(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned head[2];
  if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE)) return 3;
  edge = (float *)(void *)(pages + page);
  while (fread(head, sizeof head, 1, stdin) == 1) {
    const size_t size = (size_t)head[1] * V_LANES, all = size * operands[head[0]];
    float *base = malloc((all + size + 1) * sizeof(float)), *x = base + 1, *y = x + all;
    if (!base || fread(x, sizeof(float), all, stdin) != all) return 4;
    for (size_t i = 0; i < size; i += V_LANES) {
      const float *p = x + i, *q = p + (operands[head[0]] > 1) * size;
      const float *r = q + (operands[head[0]] > 2) * size;
      const vf32 a = v_load(p), b = v_load(q), c = v_load(r);
      const int n = head[0] == @LOAD_N@ || head[0] == @STORE_N@ ? (int)q[0] : 0;
      vf32 result = a;
      (void)b, (void)c, (void)n;
      switch (head[0]) {
@CASES@
      }
      v_store(y + i, result);
    }
    if (fwrite(y, sizeof(float), size, stdout) != size) return 5;
    free(base);
  }
  return 0;
}
"""


def driver_source(isa: str) -> str:
    """The C text of the driver with all words of one header."""
    table = [*FUSED.values(), *ELEMENTARY.values()]
    cases = "\n".join(f"      case {i}: result = {w.expression}; break;" for i, w in enumerate(table))
    main = (
        MAIN.replace("@OPERANDS@", ", ".join(str(word.operands) for word in table))
        .replace("@LOAD_N@", str(NAMES.index("v_load_n")))
        .replace("@STORE_N@", str(NAMES.index("v_store_n")))
        .replace("@CASES@", cases)
    )
    return SYSTEM + vocabulary(isa) + HELPERS + main


@dataclass(frozen=True)
class Driver:
    """A built driver program of one machine."""

    target: Target
    program: Path
    lanes: int

    def __call__(self, name: str, *operands: F32) -> F32:
        """Apply one word to each row of the operands. Shapes: (rows, lanes) each -> (rows, lanes)."""
        head = struct.pack("<II", NAMES.index(name), len(operands[0]))
        data = head + b"".join(np.ascontiguousarray(o, np.float32).tobytes() for o in operands)
        command = self.target.run_command([str(self.program)])
        done = subprocess.run(command, input=data, capture_output=True, timeout=120)
        assert done.returncode == 0, f"{name}: exit status {done.returncode}: {done.stderr.decode()}"
        return np.frombuffer(done.stdout, np.float32).reshape(operands[0].shape)

    @property
    def words(self) -> dict[str, Word]:
        return FUSED if self.target.fma else UNFUSED if self.denormals else UNFUSED_WITHOUT_DENORMALS

    @property
    def denormals(self) -> bool:
        """Whether the vectors know denormals: ARMv7's NEON does not."""
        return not (self.target.machine == "arm" and self.target.isa == "neon")


def compiler_of(target: Target, tool: Callable[[str], str], need: Callable[[str], None]) -> list[str]:
    """The command of the compiler to use: the first that is there; zig where a host has no other."""
    usual = [name for name in target.compilers() if name != "zig"]
    found = [path for name in usual if (path := shutil.which(name))]
    if found or not target.is_native:
        return [found[0] if found else tool(usual[0])]
    need("ziglang")
    return [sys.executable, "-m", "ziglang", "cc"]


def family(command: Sequence[str]) -> str:
    return "zig" if "ziglang" in command else "clang" if "clang" in Path(command[0]).name else "gcc"


def build(target: Target, command: Sequence[str], folder: Path, *more: str) -> Path:
    """Compile the driver of the target into the folder, warnings being errors."""
    source, program = folder / f"{target.name}.c", folder / target.name
    source.write_text(driver_source(target.isa))
    flags = target.flags(family(command), static=not target.is_native)
    static = () if target.is_native else ("-static",)
    subprocess.run([*command, *WARNINGS, *flags, *static, *more, str(source), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="session", params=MACHINES, ids=lambda t: t.name)
def driver(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tool: Callable[[str], str],
    need: Callable[[str], None],
) -> Driver:
    target: Target = request.param
    if not target.is_native:
        tool(target.runner)
    command = compiler_of(target, tool, need)
    return Driver(target, build(target, command, tmp_path_factory.mktemp(target.name)), target.lanes)


# ------------------------------------------------------------------------------------------------ the samples

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 1.5, -0.1, 3e38, -3.4028235e38, 16777216.0, 1e-20, TINY, -TINY, 1e-45, -1e-40,
     np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip


def samples(word: Word, lanes: int, denormals: bool) -> list[F32]:
    """Operands of a word: all tuples of special values, then random ones, as (rows, lanes) arrays."""
    random = np.random.default_rng(20).standard_normal((word.operands, 4096)).astype(np.float32)
    if word.domain == "moderate":
        columns = random
    else:
        special = (
            SPECIAL if denormals else SPECIAL[(np.abs(SPECIAL) >= TINY) | (SPECIAL == 0) | np.isnan(SPECIAL)]
        )
        tuples = np.array(list(itertools.product(special, repeat=word.operands)), np.float32).T
        columns = np.concatenate([tuples, random], axis=1)
    rows = columns.shape[1] // lanes
    operands = [column[: rows * lanes].reshape(rows, lanes).copy() for column in columns]
    if word.domain == "first not NaN":
        operands[0][np.isnan(operands[0])] = 0.5
    if word.domain == "count":
        operands[1][:] = (np.arange(rows) % (lanes + 4) - 2)[:, None]
    return operands


def differences(word: Word, got: F32, expected: F32, denormals: bool) -> npt.NDArray[np.bool_]:
    """Where the result is not what the word means."""
    bits: npt.NDArray[np.bool_] = got.view(np.uint32) != np.ascontiguousarray(expected, np.float32).view(
        np.uint32
    )
    if word.compare == "raw":
        return bits
    wrong: npt.NDArray[np.bool_] = bits & ~(np.isnan(got) & np.isnan(expected))
    if word.compare == "value":
        wrong &= got != expected
    return wrong if denormals else wrong & ~((got == 0) & (np.abs(expected) <= TINY))


# -------------------------------------------------------------------------------------------------- the tests


@pytest.mark.compiler
@pytest.mark.parametrize("name", FUSED)
def test_word(driver: Driver, name: str) -> None:
    word = driver.words[name]
    operands = samples(word, driver.lanes, driver.denormals or word.compare == "raw")
    with np.errstate(all="ignore"):
        expected = word.meaning(*operands)
    got = driver(name, *operands)
    wrong = np.argwhere(differences(word, got, expected, driver.denormals))
    shown = [
        f"{[float(o[i, j]) for o in operands]}: {got[i, j]!r}, not {expected[i, j]!r}" for i, j in wrong[:5]
    ]
    assert not len(wrong), f"{len(wrong)} lanes differ, {'; '.join(shown)}"


def bounds(fma: bool) -> dict[str, float]:
    """The bounds that elementary.h promises: the table in its comment."""
    rows = re.findall(r"\* +(v_\w+)\(.*?\) +([\d.]+) +([\d.]+) ", vocabulary("scalar"))
    return {name: float(one if fma else two) for name, one, two in rows}


def arguments(name: str) -> list[F32]:
    """Dense arguments of an elementary function: all magnitudes, interesting ranges, the special values."""
    rng = np.random.default_rng(30)
    every = np.arange(0, 2**32, 65521, dtype=np.uint32).view(np.float32)
    if ELEMENTARY[name].operands == 1:
        ranges = [np.linspace(-r, r, 40000, dtype=np.float32) for r in (1, 20, 110, 160)]
        return [np.concatenate([every, *ranges, SPECIAL])]
    pairs = np.array(
        list(itertools.product([*np.abs(SPECIAL[:14]), np.inf, np.nan, -2], [*SPECIAL[:6], 0.75, np.nan]))
    )
    if name != "v_pow":
        whole = rng.integers(-30, 30, (2, 60000))
        return [
            np.concatenate([every, whole[0], whole[0] / 4, pairs[:, 0], -pairs[:, 0]]).astype(np.float32),
            np.concatenate([rng.permutation(every), whole[1], whole[1], pairs[:, 1], pairs[:, 1]]).astype(
                np.float32
            ),
        ]
    near = rng.uniform(0.5, 2, 200000).astype(np.float32)
    a = np.concatenate([np.exp(rng.uniform(-80, 80, 60000)), near, pairs[:, 0]])
    b = np.concatenate(
        [rng.uniform(-1.2, 1.2, 60000), rng.uniform(-130, 130, 200000) / np.log2(near), pairs[:, 1]]
    )
    return [a.astype(np.float32), b.astype(np.float32)]


def ulps(got: F32, exact: F64) -> F64:
    """The distance from the exact value in units of the last place that a float of that size has."""
    nearest = exact.astype(np.float32)
    overflow, top = np.isinf(nearest), 2.0**128
    place = np.where(overflow, 2.0**104, np.spacing(np.abs(nearest)).astype(np.float64))
    gap = np.abs(np.clip(got.astype(np.float64), -top, top) - np.clip(exact, -top, top)) / place
    return np.where(np.isnan(got) & np.isnan(exact), 0.0, np.where(np.isnan(gap), np.inf, gap))


@pytest.mark.compiler
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_keep_their_bounds(driver: Driver, name: str) -> None:
    operands = arguments(name)
    rows = len(operands[0]) // driver.lanes
    operands = [o[-rows * driver.lanes :].reshape(rows, driver.lanes) for o in operands]
    if not driver.denormals:
        operands = [flushed(o) for o in operands]
    with np.errstate(all="ignore"):
        exact = ELEMENTARY[name].meaning(*(o.astype(np.float64) for o in operands)).astype(np.float64)
        got = driver(name, *operands)
        error = ulps(got, exact)
    if name == "v_swish":
        lost = (exact < 0) & (exact > -(2.0**-120))
        assert ((got[lost] <= 0) & (got[lost] > -(2.0**-119))).all()
        error[lost] = 0
    if not driver.denormals:
        error[(np.abs(exact) < 2 * TINY) & (np.abs(got) < 2 * TINY)] = 0
    i, j = np.unravel_index(np.argmax(error), error.shape)
    where = f"{[float(o[i, j]) for o in operands]}: {got[i, j]!r}, exactly {exact[i, j]!r}"
    assert error[i, j] <= bounds(driver.target.fma)[name], f"{error[i, j]:.3f} ULP at {where}"


DIGITS = {
    "v_exp": ("947847bbf3900909", "99da1501e18de4a6"),
    "v_exp2": ("1409abf774880d92", "890d987bfc0dc654"),
    "v_log2": ("1850f4e416eda728", "2651ecf6e449f8a4"),
    "v_tanh": ("3016be0901f2cd7b", "2849a06513f57159"),
    "v_sigmoid": ("00ca64e4d63a9326", "55a177bb368ca23b"),
    "v_swish": ("389cc7b2a9886138", "0e5c1dbac8fc10cd"),
    "v_pow": ("19592e4eb259ba9a", "ff4a55dfdfa49b6d"),
    "v_erf": ("3e3629e26995a388", "d9a4dc83d6c7c190"),
    "v_sin": ("db42a805bb0b07dc", "db42a805bb0b07dc"),
    "v_cos": ("607f47aea9ca4564", "607f47aea9ca4564"),
    "v_tan": ("569a14fae3e22f5e", "569a14fae3e22f5e"),
    "v_asin": ("52c314061d707efe", "52c314061d707efe"),
    "v_acos": ("e8b1f564c14da20a", "e8b1f564c14da20a"),
    "v_atan": ("85c3c6cf0c3708ce", "85c3c6cf0c3708ce"),
    "v_sinh": ("d358f38e80b16be6", "d358f38e80b16be6"),
    "v_cosh": ("00f0a20e1ed335ff", "00f0a20e1ed335ff"),
    "v_asinh": ("bd07740d3dc6fbae", "bd07740d3dc6fbae"),
    "v_acosh": ("45f809a1184cb2a8", "45f809a1184cb2a8"),
    "v_atanh": ("719b20ee47da3823", "719b20ee47da3823"),
    "v_power": ("8606b8a0cb2d97dc", "8606b8a0cb2d97dc"),
    "v_fmod": ("db198c1014761cb2", "db198c1014761cb2"),
    "v_mod": ("f8ecc892b16cc9d0", "f8ecc892b16cc9d0"),
}
"""Digest of the results on fixed bit patterns, fused and not: the same from every compiler and machine."""


def digest(driver: Driver, name: str) -> str:
    """A digest of the word's results for magnitudes from 2^-20 to 64, both signs where it takes them."""
    patterns = np.arange(0x35800000, 0x42800000, 7001, dtype=np.uint32)[
        :31104
    ]  # whole vectors of every width
    a = patterns.view(np.float32).reshape(-1, driver.lanes)
    operands = [a] if name in ("v_log2", "v_pow") else [np.concatenate([a, -a])]
    if ELEMENTARY[name].operands == 2:
        a = operands[0]
        operands.append(np.where(np.arange(a.size) % 2, -0.75, 1.7).astype(np.float32).reshape(a.shape))
    return hashlib.sha256(driver(name, *operands).tobytes()).hexdigest()[:16]


@pytest.mark.compiler
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_give_the_same_digits_everywhere(driver: Driver, name: str) -> None:
    assert digest(driver, name) == DIGITS[name][0 if driver.target.fma else 1]


def test_every_word_is_tested() -> None:
    headers = ("words.h", *ON_DEMAND)
    comment = "".join((SIMD / name).read_text(encoding="utf-8").split("*/")[0] for name in headers)
    told = set(re.findall(r"\b([vx]_[a-z]\w*|V_PIN|V_BARRIER|V_PREFETCH)\b", comment))
    assert told - {name.split()[0] for name in NAMES} == set()


@pytest.mark.compiler
@pytest.mark.parametrize("target", all_targets(), ids=lambda t: t.name)
def test_vocabulary_needs_no_library(
    target: Target, tmp_path: Path, tool: Callable[[str], str], need: Callable[[str], None]
) -> None:
    """Linked with nothing at all but the two functions that gcc may call anywhere, each word resolves."""
    doubles = "-sp-" not in " ".join(target.cflags)
    table = [w for name, w in (FUSED | ELEMENTARY).items() if doubles or name not in RARE or name == "v_erf"]
    functions = "\n".join(
        f"vf32 use_{i}(const float *p, const float *q, const float *r, int n);\n"
        f"vf32 use_{i}(const float *p, const float *q, const float *r, int n) {{\n"
        f"  const vf32 a = v_load(p), b = v_load(q), c = v_load(r);\n"
        f"  (void)a, (void)b, (void)c, (void)n;\n  return {word.expression};\n}}"
        for i, word in enumerate(table)
    )
    supplied = "void *memcpy(void *, const void *, size_t);\nvoid abort(void);\n"
    source = tmp_path / "all.c"
    words = vocabulary(target.isa) if doubles else vocabulary(target.isa, ("tensor.h",))
    source.write_text(words + supplied + HELPERS + functions)
    command = compiler_of(target, tool, need)
    free = ["-ffreestanding", "-nostdlib", "-shared", "-fPIC", "-Wl,-z,defs"]
    symbols = [f"-Wl,--defsym={name}=0" for name in ("memcpy", "memset", "abort")]
    flags = target.flags(family(command))
    subprocess.run(
        [*command, *WARNINGS, *flags, *free, *symbols, str(source), "-o", str(tmp_path / "all.so")],
        check=True,
    )


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize(
    "compiler", ["gcc", "clang", "zig", "gcc -O0", "gcc -O3", "gcc sanitized", "clang -O3"]
)
@pytest.mark.parametrize("target", HERE, ids=lambda t: t.name)
def test_every_compiler_and_level(
    target: Target, compiler: str, tmp_path: Path, tool: Callable[[str], str], need: Callable[[str], None]
) -> None:
    name, _, level = compiler.partition(" ")
    if name == "zig":
        need("ziglang")
    command = [sys.executable, "-m", "ziglang", "cc"] if name == "zig" else [tool(name)]
    more = (
        ["-fsanitize=undefined", "-fno-sanitize-recover"]
        if level == "sanitized"
        else [level]
        if level
        else []
    )
    built = Driver(target, build(target, command, tmp_path, *more), target.lanes)
    for word in FUSED:
        test_word(built, word)
    for word in ELEMENTARY:
        test_elementary_functions_give_the_same_digits_everywhere(built, word)


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.parametrize("target", [t for t in all_targets() if not t.bare], ids=lambda t: t.name)
def test_zig_compiles_for_every_target(target: Target, tmp_path: Path, need: Callable[[str], None]) -> None:
    need("ziglang")
    source = tmp_path / "driver.c"
    source.write_text(driver_source(target.isa))
    command = [sys.executable, "-m", "ziglang", "cc", *WARNINGS, *target.flags("zig")]
    subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "driver.o")], check=True)

"""The C interface as callers see it: codes for wrong arguments, words for codes, threads, sanitizers."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compactir.codegen.c.cpu import cpu_check
from compactir.codegen.c.emit import CFiles, emit_c
from compactir.codegen.lower import lower
from compactir.runtime.build import Compiler, compile_library, compile_program, find_compiler
from compactir.targets import load_target
from compactir.weights.container import pack
from tests.c.networks import (
    AT_END,
    AT_START,
    ON_HEAP,
    Array,
    Case,
    Program,
    Request,
    StoppedError,
    build,
    compile_quietly,
    disagreements,
    generate,
    op_cases,
)
from tests.c.regions import separable
from tests.c.tables import table_cases
from tests.c.windows import window_cases
from tests.test_c_random import drawn
from tests.test_c_warnings import small

pytestmark = pytest.mark.compiler
CODES = ("OK", "ARGUMENT", "WEIGHTS", "VERSION", "ENDIANNESS", "SIZE", "ALIGNMENT", "CPU")
Bytes = npt.NDArray[np.uint8]


class Weights(ctypes.Structure):
    """NAME_weights."""

    _fields_ = (("data", ctypes.c_void_p),)


def aligned(size: int, offset: int = 0) -> Bytes:
    """So many bytes, `offset` bytes after a multiple of 64."""
    base = np.zeros(size + 128, np.uint8)
    start = -base.ctypes.data % 64 + offset
    return base[start : start + size]


def pointer(array: npt.NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


@dataclass
class Loaded:
    """A library and good arguments for it."""

    library: ctypes.CDLL
    files: CFiles
    blob: bytes
    case: Case

    def bind(self, blob: bytes, offset: int = 0) -> tuple[int, Weights, Bytes]:
        """The code for packed weights that lie so many bytes after a multiple of 64."""
        data, weights = aligned(len(blob) + 1, offset), Weights()
        data[: len(blob)] = np.frombuffer(blob, np.uint8)
        code = self.call("bind", ctypes.byref(weights), pointer(data), ctypes.c_size_t(len(blob)))
        return code, weights, data

    def call(self, name: str, *arguments: Any) -> int:
        return int(getattr(self.library, f"{self.files.symbol}_{name}")(*arguments))

    def error(self, code: int) -> str:
        function = getattr(self.library, f"{self.files.symbol}_error")
        function.restype = ctypes.c_char_p
        return str(function(code).decode())

    def arguments(self) -> dict[str, Any]:
        """What NAME_run takes."""
        code, weights, data = self.bind(self.blob)
        assert code == 0
        out = np.full(self.case.graph.outputs["new"].type.shape, np.nan, np.float32)
        workspace = aligned(self.files.workspace_bytes)
        return {
            "weights": weights,
            "image": self.case.inputs["class"],
            "out": out,
            "workspace": workspace,
            "data": data,
        }

    def run(self, name: str = "run", more: tuple[int, ...] = (), **changed: Any) -> int:
        a = self.arguments() | changed
        weights = ctypes.byref(a["weights"]) if a["weights"] is not None else None
        tensors = (pointer(a[key]) for key in ("image", "out", "workspace"))
        return self.call(name, weights, *tensors, *more)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    target, folder = load_target("native"), tmp_path_factory.mktemp("interface")
    network = generate(Case("small", small()), target, "small")
    (folder / "small.h").write_text(network.files.header)
    (folder / "small.c").write_text(network.files.source)
    library = compile_library([folder / "small.c"], folder / "libsmall.so", target, find_compiler(target))
    return Loaded(ctypes.CDLL(str(library)), network.files, network.blob, network.case)


# -- codes ---------------------------------------------------------------------------------------------------


def code(word: str) -> int:
    return CODES.index(word)


def test_the_enumeration_is_what_the_header_says(loaded: Loaded) -> None:
    header = loaded.files.header
    found = [line.strip().rstrip(",") for line in header.splitlines() if line.startswith("  SMALL_")]
    assert found == ["SMALL_OK = 0", *(f"SMALL_BAD_{word}" for word in CODES[1:])]


def test_every_code_has_words_of_its_own(loaded: Loaded) -> None:
    words = [loaded.error(number) for number in range(len(CODES))]
    assert len(set(words)) == len(CODES)
    assert all(words)
    assert {loaded.error(number) for number in (-1, len(CODES), 2**31 - 1, -(2**31))} == {"unknown code"}


def header_with(blob: bytes, at: int, value: bytes) -> bytes:
    return blob[:at] + value + blob[at + len(value) :]


DAMAGED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "nothing wrong": ("OK", lambda b: b),
    "another magic": ("WEIGHTS", lambda b: b"ABCD" + b[4:]),
    "a newer format": ("VERSION", lambda b: header_with(b, 4, struct.pack("<I", 2))),
    "another header": ("VERSION", lambda b: header_with(b, 12, struct.pack("<I", 128))),
    "another byte order": ("ENDIANNESS", lambda b: header_with(b, 8, struct.pack(">I", 0x01020304))),
    "of another network": ("WEIGHTS", lambda b: header_with(b, 24, bytes(16))),
    "another payload": ("SIZE", lambda b: header_with(b, 16, struct.pack("<Q", 4))),
    "cut short": ("SIZE", lambda b: b[:-4]),
    "too long": ("SIZE", lambda b: b + bytes(4)),
    "half a header": ("SIZE", lambda b: b[:40]),
    "nothing": ("SIZE", lambda b: b""),
}


@pytest.mark.parametrize(("word", "change"), DAMAGED.values(), ids=DAMAGED)
def test_weights_that_do_not_fit(loaded: Loaded, word: str, change: Callable[[bytes], bytes]) -> None:
    got, weights, _ = loaded.bind(change(loaded.blob))
    assert got == code(word)
    assert (weights.data is None) == (word != "OK")


def test_weights_in_the_wrong_byte_order_throughout(loaded: Loaded) -> None:
    payload = np.frombuffer(loaded.blob[64:], np.float32)
    swapped = struct.pack(
        ">4sIIIQ16s24x", b"CIRW", 1, 0x01020304, 64, payload.nbytes, loaded.files.content_id
    )
    got, _, _ = loaded.bind(swapped + payload.byteswap().tobytes())
    assert got == code("ENDIANNESS")


@pytest.mark.parametrize("offset", [1, 4, 16, 32])
def test_weights_that_are_not_aligned(loaded: Loaded, offset: int) -> None:
    assert loaded.bind(loaded.blob, offset)[0] == code("ALIGNMENT")


def test_bind_without_a_pointer(loaded: Loaded) -> None:
    size, data = ctypes.c_size_t(len(loaded.blob)), aligned(len(loaded.blob))
    assert loaded.call("bind", None, pointer(data), size) == code("ARGUMENT")
    assert loaded.call("bind", ctypes.byref(Weights()), None, size) == code("ARGUMENT")


@pytest.mark.parametrize("name", ["weights", "image", "out", "workspace"])
def test_run_without_a_pointer(loaded: Loaded, name: str) -> None:
    changed: dict[str, Any] = {name: None}
    assert loaded.run(**changed) == code("ARGUMENT")


def test_run_with_weights_that_were_never_bound(loaded: Loaded) -> None:
    assert loaded.run(weights=Weights()) == code("ARGUMENT")


@pytest.mark.parametrize("offset", [1, 4, 32])
def test_run_with_a_workspace_that_is_not_aligned(loaded: Loaded, offset: int) -> None:
    assert loaded.run(workspace=aligned(loaded.files.workspace_bytes, offset)) == code("ALIGNMENT")


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [(0, 0, "OK"), (2, 1, "OK"), (-1, 1, "ARGUMENT"), (0, 99, "ARGUMENT")],
)
def test_steps_that_do_not_exist(loaded: Loaded, first: int, last: int, word: str) -> None:
    assert loaded.run("run_steps", (first, last)) == code(word)


def test_refused_calls_leave_the_output_alone(loaded: Loaded) -> None:
    out = np.full((1, 19, 4, 3), 7, np.float32)
    loaded.run(out=out, workspace=None)
    assert (out == 7).all()


def test_step_by_step_gives_the_same_bits(loaded: Loaded) -> None:
    whole, steps = (np.full((1, 19, 4, 3), np.nan, np.float32) for _ in range(2))
    assert loaded.run(out=whole) == 0
    count = int(loaded.files.header.split("SMALL_STEPS ")[1].split()[0])
    kept = loaded.arguments()
    for step in range(count):
        assert loaded.run("run_steps", (step, step + 1), **{**kept, "out": steps}) == 0
    assert np.array_equal(whole, steps)


# -- another CPU ---------------------------------------------------------------------------------------------

ASKED = """
#include <stdio.h>
#include "small.h"
int main(void) {
  small_weights w;
  const int code = small_bind(&w, small_inline_weights(), SMALL_WEIGHTS_BYTES);
  printf("%d %s\\n", code, small_error(code));
  return 0;
}
"""


@pytest.mark.parametrize(("cpu", "word"), [("qemu64", "CPU"), ("max", "OK")])
@pytest.mark.parametrize("family", ["gcc", "zig"])
def test_a_cpu_without_the_instructions(
    family: str, cpu: str, word: str, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """The emulator's plainest CPU has no AVX: `bind` says so, instead of an illegal instruction later."""
    target, emulator = load_target("x86"), tool("qemu-x86_64")
    if family == "gcc":
        tool("gcc" if target.is_native else "x86_64-linux-gnu-gcc")
    made = emit_c(lower(small(), target), target, symbol="small", pack="inline")
    for name, text in (("small.h", made.header), ("small.c", made.source), ("main.c", ASKED)):
        (tmp_path / name).write_text(text)
    sources = [tmp_path / "small.c", tmp_path / "main.c"]
    program = compile_program(sources, tmp_path / "asked", target, find_compiler(target, family))
    done = subprocess.run([emulator, "-cpu", cpu, str(program)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == str(code(word))


def test_targets_that_every_cpu_of_their_kind_runs_ask_nothing() -> None:
    for name in ("c", "arm", "arm-v7"):
        assert cpu_check(load_target(name)) is None


def test_every_feature_of_a_target_is_asked_for() -> None:
    """Both x86 targets, bit by bit: as many as they have features, with OSXSAVE."""
    for name in ("x86", "x86-avx512"):
        target = load_target(name)
        check = cpu_check(target)
        assert check is not None
        bits = sum(int(check[key].rstrip("u"), 16).bit_count() for key in ("leaf1", "leaf7", "extended"))
        assert bits == len(target.cpu_features) + 1


# -- threads and sanitizers ----------------------------------------------------------------------------------


def test_threads_with_a_workspace_each_give_the_same_bits(tmp_path: Path) -> None:
    """Four threads over the same weights and inputs, many times."""
    target = load_target("native")
    graphs = [small(), *drawn(separable(), 3)]
    cases = [Case(f"network {i}", g).optimised(target, 0) for i, g in enumerate(graphs)]
    program = build(cases, target, find_compiler(target), tmp_path, "-O1")
    for case in cases:
        alone = program.run([Request(case.name)])[0]
        for together in program.run([Request(case.name, times=40, threads=4)]):
            assert same_bits(alone, together), case.name
    assert disagreements(program) == {}


def same_bits(one: dict[str, Array], other: dict[str, Array]) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


SANITIZE = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Program:
    """Samples, windows and fused regions, not optimised: every load of a vector is checked.

    For this machine's own target: gcc takes 4 s for its code, and 40 s for that of the portable one.
    """
    target = load_target("native")
    compiler = Compiler((tool("gcc"),), "gcc", "gcc", "")
    fused = [Case(f"fused {i}", g).optimised(target, i % 2) for i, g in enumerate(drawn(separable(), 6))]
    cases = [*op_cases((2,)), *window_cases(12), *table_cases(16), *fused]
    folder = tmp_path_factory.mktemp("sanitized")
    program = build(cases, target, compiler, folder, *SANITIZE)
    program.environment = {"NO_HANDLER": "1", "ASAN_OPTIONS": "detect_leaks=1"}
    return program


@pytest.mark.parametrize("placement", [AT_END, AT_START, ON_HEAP], ids=["end", "start", "heap"])
@pytest.mark.slow
def test_sanitizers_find_nothing(sanitized: Program, placement: int) -> None:
    assert disagreements(sanitized, placement) == {}


def test_sanitizers_would_find_something(sanitized: Program, tmp_path: Path) -> None:
    """The same program given too small a workspace on the heap: the sanitizer stops it."""
    source = (sanitized.path.parent / "networks.c").read_text()
    assert "NET0_WORKSPACE_BYTES" in source
    number = max(range(len(sanitized.networks)), key=lambda i: sanitized.networks[i].files.workspace_bytes)
    name = sanitized.networks[number].case.name
    (tmp_path / "networks.c").write_text(source.replace(f"NET{number}_WORKSPACE_BYTES", "64"))
    folder = sanitized.path.parent
    command = ["gcc", "-std=c99", *SANITIZE, f"-I{folder}", str(tmp_path / "networks.c")]
    objects = [str(folder / "all.o"), str(folder / "driver.o")]
    broken = tmp_path / "broken"
    compile_quietly([*command, *objects, "-pthread", "-o", str(broken)])
    program = Program(broken, sanitized.target, sanitized.networks, sanitized.environment)
    with pytest.raises(StoppedError, match="heap-buffer-overflow"):
        program.run([Request(name, placement=ON_HEAP)])


def test_packed_weights_are_what_the_container_says(loaded: Loaded) -> None:
    payload = np.frombuffer(loaded.blob[64:], np.float32)
    assert pack(payload, loaded.files.content_id) == loaded.blob
    assert len(loaded.blob) == loaded.files.weights_bytes

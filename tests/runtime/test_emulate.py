"""Code of another processor: built as a program, run under the emulator, called like any module."""

import io
import json
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compactir.diagnostics import CompactError
from compactir.runtime import emulate
from compactir.runtime.build import Compiler, find_compiler
from compactir.runtime.cache import Cache
from compactir.runtime.emulate import RUN, STEPS, Emulated, build_program, program_source, request
from compactir.runtime.manifest import read_manifest
from compactir.runtime.module import load
from compactir.targets import load_target

pytestmark = [pytest.mark.compiler, pytest.mark.emulator]

Make = Callable[..., Path]
Expected = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def arm(compiled: Make, tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny network compiled for 64-bit Arm; the warning about emulation is new in each test.

    By the cross compiler: zig would first build a C library for the programs.
    """
    monkeypatch.setenv("COMPACTIR_CC", tool("aarch64-linux-gnu-gcc"))
    tool("qemu-aarch64")
    monkeypatch.setattr(emulate, "_said", False)
    return compiled(target="arm")


def test_called_like_any_module(arm: Path, compiled: Make, image: np.ndarray, expected: Expected) -> None:
    with pytest.warns(UserWarning, match=r"`tiny` is compiled for aarch64 and runs under qemu-aarch64 here"):
        m = load(arm)
    for _ in range(3):
        np.testing.assert_array_equal(m(image), expected(image))
    y = np.empty((1, 3, 4, 5), np.float32)
    assert m(image[0], out=y) is y
    np.testing.assert_array_equal(y, expected(image))
    np.testing.assert_array_equal(m.bind(2 * image, out=y)(), expected(2 * image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so once
        load(arm)
    with pytest.raises(CompactError, match="CIR627"):
        m.profile()


def test_by_the_compiler_that_built_the_library(
    arm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, need: Callable[[str], None]
) -> None:
    need("ziglang")
    folder = shutil.copytree(arm, tmp_path / "out")
    gcc = find_compiler(load_target("arm"))
    monkeypatch.delenv("COMPACTIR_CC")
    asked: list[Compiler] = []

    def program(*arguments: object) -> Path:
        asked.append(arguments[3])  # type: ignore[arg-type]
        return Path("none")

    monkeypatch.setattr(emulate, "build_program", program)
    manifest = read_manifest(folder)
    monkeypatch.setattr(emulate, "_said", True)
    for record in (None, {"version": "gcc 1"}, gcc.record([])):
        raw = {"compiler": record} if record else {}
        Emulated(folder, replace(manifest, raw=raw))
    Emulated(folder, replace(manifest, raw=raw), cc="zig")
    assert [compiler.family for compiler in asked] == ["zig", "zig", "gcc", "zig"]


def test_several_threads_take_turns(arm: Path, expected: Expected) -> None:
    wrong: list[int] = []
    with pytest.warns(UserWarning, match="qemu"):
        m = load(arm)

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((1, 3, 4, 5)).astype(np.float32)
        wrong.extend(i for i in range(20) if not np.array_equal(m(x), expected(x)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def native_program(compiled: Make, tmp_path: Path) -> Emulated:
    """The same program without an emulator: what a board runs."""
    folder = compiled()
    return Emulated(folder, read_manifest(folder), load_target("c"))


def test_step_by_step(compiled: Make, tmp_path: Path, image: np.ndarray, expected: Expected) -> None:
    program = native_program(compiled, tmp_path)
    y = np.full((1, 3, 4, 5), 7, np.float32)
    workspace = program.run_steps([image], [y], 0, 1)
    scaled = np.frombuffer(workspace, np.float32)[:60]
    np.testing.assert_array_equal(scaled.reshape(3, 20)[1], -2 * image[0, 1].ravel())
    program.run_steps([np.zeros_like(image)], [y], 1, 2)  # the workspace is as the first step left it
    np.testing.assert_array_equal(y, expected(image))


def test_files_in_files_out(compiled: Make, tmp_path: Path, image: np.ndarray, expected: Expected) -> None:
    """The same protocol through plain files: three requests, three answers."""
    folder = compiled()
    target = load_target("c")
    program = build_program(folder, read_manifest(folder), target, cache=Cache(tmp_path / "cache"))
    images = [image, 2 * image, -image]
    asked = b"".join(bytes(part) for x in images for part in request(RUN, 0, 0, [x]))
    done = subprocess.run([program, folder / "tiny.weights"], input=asked, capture_output=True, check=True)
    answers = io.BytesIO(done.stdout)
    for x in images:
        assert answers.read(4) == bytes(4)
        np.testing.assert_array_equal(np.frombuffer(answers.read(240), np.float32), expected(x).ravel())
    assert answers.read() == b""
    asked = b"".join(bytes(part) for part in request(STEPS, 0, 1, [image]))
    done = subprocess.run([program, folder / "tiny.weights"], input=asked, capture_output=True, check=True)
    assert len(done.stdout) == 4 + 240 + 256


def test_weights_inside(compiled: Make, image: np.ndarray, expected: Expected, tmp_path: Path) -> None:
    """Inline weights need no argument. The tiny network's come by assembler, which only a library has."""
    folder = shutil.copytree(compiled(embed=True), tmp_path / "inline")
    source = (folder / "tiny.c").read_text()
    packed = ", ".join(str(b) for b in (compiled() / "tiny.weights").read_bytes())
    inline = f"static const unsigned char tiny_packed[] __attribute__((aligned(64))) = {{ {packed} }};"
    (folder / "tiny.c").write_text(source.replace("extern const unsigned char tiny_packed[];", inline))
    y = np.empty((1, 3, 4, 5), np.float32)
    Emulated(folder, read_manifest(folder), load_target("c")).run([image], [y])
    np.testing.assert_array_equal(y, expected(image))


def test_the_program_is_built_once(compiled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    arguments = compiled(), read_manifest(compiled()), load_target("c")
    first = build_program(*arguments, cache=cache)

    def again(*args: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(emulate, "compile_program", again)
    assert build_program(*arguments, cache=cache) == first


def test_the_program_compiles_without_warnings(
    compiled: Make, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    manifest = read_manifest(compiled())
    for cc in ("gcc", "clang"):
        source = tmp_path / f"{cc}.c"
        source.write_text(program_source(manifest))
        flags = [
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-O2",
            "-c",
            "-o",
            str(tmp_path / "x.o"),
        ]
        done = subprocess.run([tool(cc), *flags, source], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_dies(compiled: Make, tmp_path: Path, image: np.ndarray, expected: Expected) -> None:
    folder = shutil.copytree(compiled(), tmp_path / "dying")
    source = (folder / "tiny.c").read_text()
    crash = "if (image[0] == 42) { volatile int *p = 0; *p = 1; }"
    source = source.replace("  float *t = workspace;\n", f"  float *t = workspace;\n  {crash}\n")
    (folder / "tiny.c").write_text(source)
    program = Emulated(folder, read_manifest(folder), load_target("c"))
    y = np.empty((1, 3, 4, 5), np.float32)
    bad = image.copy()
    bad[0, 0, 0, 0] = 42
    with pytest.raises(CompactError, match="CIR515") as caught:
        program.run([bad], [y])
    assert "was ended by signal 11" in caught.value.message
    program.run([image], [y])  # a new process
    np.testing.assert_array_equal(y, expected(image))


def test_a_status_is_reported(compiled: Make, tmp_path: Path, image: np.ndarray) -> None:
    folder = shutil.copytree(compiled(), tmp_path / "failing")
    source = (folder / "tiny.c").read_text()
    source = source.replace(
        "  float *t = workspace;\n", "  float *t = workspace;\n  if (image[0] == 42) return 7;\n"
    )
    (folder / "tiny.c").write_text(source)
    program = Emulated(folder, read_manifest(folder), load_target("c"))
    y, bad = np.empty((1, 3, 4, 5), np.float32), np.full((1, 3, 4, 5), 42, np.float32)
    with pytest.raises(CompactError, match=r"CIR626.*BAD_CPU"):
        program.run([bad], [y])
    program.run([image], [y])  # the process is still in step


def test_weights_that_do_not_fit(compiled: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(compiled(), tmp_path / "other")
    (folder / "tiny.weights").write_bytes(b"CIRW" + bytes(72))
    with pytest.raises(CompactError, match="CIR619"):
        Emulated(folder, read_manifest(folder), load_target("c"))


def test_no_emulator(
    compiled: Make, other_machine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = shutil.copytree(compiled(), tmp_path / "foreign")
    text = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(text | {"target": other_machine}))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompactError, match="CIR514") as caught:
        Emulated(folder, read_manifest(folder))
    assert "--target native" in (caught.value.help or "")


def test_the_source_is_needed(compiled: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(compiled(), tmp_path / "no source")
    (folder / "tiny.c").unlink()
    with pytest.raises(CompactError, match="CIR614"):
        Emulated(folder, read_manifest(folder), load_target("c"))


def test_a_portable_library_of_another_machine(
    arm: Path, tmp_path: Path, image: np.ndarray, expected: Expected
) -> None:
    """Compiled for target `c` by a cross compiler: the library's header says where it belongs."""
    folder = shutil.copytree(arm, tmp_path / "portable")
    text = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps(text | {"target": "c", "isa": "scalar", "cpu_features": []})
    )
    source = (folder / "tiny.c").read_text().replace("; cpu asimd;", "; cpu any;")
    (folder / "tiny.c").write_text(source)
    with pytest.warns(UserWarning, match="qemu-aarch64"):
        np.testing.assert_array_equal(load(folder)(image), expected(image))

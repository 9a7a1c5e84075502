"""What an output folder holds for somebody else's program: linked, run under an emulator, compared."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir import reference
from compactir.cli import main
from compactir.diagnostics import CompactError
from compactir.driver import Source, archive, build, generate, plan, read
from compactir.runtime import build as build_room
from compactir.targets import Target, load_target
from compactir.tools.verify import compare

pytestmark = pytest.mark.slow

LENET = str(Path(__file__).parent.parent / "examples" / "lenet5.arch")
ARM = load_target("arm")
PACKS = ("inline", "object", "file")

Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def gcc(tool: Tool) -> str:
    """The cross compiler; the emulator is there too."""
    tool("qemu-aarch64")
    return tool("aarch64-linux-gnu-gcc")


@pytest.fixture(scope="module")
def folders(gcc: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LeNet-5 for Arm with its weights in each of the places they can be."""
    root = tmp_path_factory.mktemp("outputs")
    for pack in PACKS:
        assert main([LENET, "--target", "arm", "-o", str(root / pack), "--pack", pack, "--cc", gcc]) == 0
    return {pack: root / pack for pack in PACKS}


def run(command: list[str]) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def answers(folder: Path, program: Path, target: Target = ARM) -> np.ndarray:
    """What the example writes for the reference's random image."""
    graph = read(Source(LENET)).graph
    (image,) = reference.random_inputs(graph, 0).values()
    image.tofile(folder / "image.f32")
    weights = (
        [str(folder / "lenet5.weights")]
        if "lenet5.weights [" in (folder / "example_main.c").read_text()
        else []
    )
    argv = [str(program), *weights, str(folder / "image.f32"), str(folder / "digit.f32")]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "QEMU_LD_PREFIX": "/usr/aarch64-linux-gnu"}
    run = target.run_command(argv)
    if not target.is_native:
        run[1:1] = ["-E", f"LD_LIBRARY_PATH={folder}"]
    said = subprocess.run(run, capture_output=True, text=True, env=environment, check=True).stdout
    assert "the largest of 10" in said
    return np.fromfile(folder / "digit.f32", np.float32).reshape(1, 10)


def agrees(actual: np.ndarray) -> bool:
    """Whether this is the reference's answer; another image has another one."""
    graph = read(Source(LENET)).graph
    expected = reference.run(graph, reference.random_inputs(graph, 0))["digit"]
    other = reference.run(graph, reference.random_inputs(graph, 1))["digit"]
    assert not compare("digit", other, expected).agrees
    return compare("digit", actual, expected).agrees


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("how", ["static", "shared"])
def test_example_with_gcc(folders: dict[str, Path], gcc: str, pack: str, how: str, tmp_path: Path) -> None:
    folder, program = folders[pack], tmp_path / "example"
    library = [str(folder / "liblenet5.a"), "-static"] if how == "static" else [f"-L{folder}", "-llenet5"]
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    command = [gcc, *strict, str(folder / "example_main.c"), f"-I{folder}", *library, "-o", str(program)]
    subprocess.run(command, check=True)
    assert agrees(answers(folder, program))


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.parametrize("shared", ["OFF", "ON"])
@pytest.mark.parametrize("pack", ["object", "file"])
def test_cmake(folders: dict[str, Path], tool: Tool, pack: str, shared: str, tmp_path: Path) -> None:
    """The folder as a CMake project, cross-compiled; ctest runs the example in the emulator."""
    cmake, ctest = tool("cmake"), tool("ctest")
    settings = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
        "CMAKE_ASM_COMPILER": "aarch64-linux-gnu-gcc",
        "CMAKE_CROSSCOMPILING_EMULATOR": ";".join(ARM.run_command([])),
        "BUILD_SHARED_LIBS": shared,
    }
    defined = [f"-D{key}={value}" for key, value in settings.items()]
    run([cmake, "-S", str(folders[pack]), "-B", str(tmp_path / "b"), *defined])
    run([cmake, "--build", str(tmp_path / "b")])
    said = run([ctest, "-V", "--test-dir", str(tmp_path / "b")])
    assert "100% tests passed" in said
    assert "the largest of 10" in said
    run([cmake, "--install", str(tmp_path / "b"), "--prefix", str(tmp_path / "i")])
    ending = "so" if shared == "ON" else "a"
    assert list((tmp_path / "i").rglob(f"liblenet5.{ending}"))
    assert list((tmp_path / "i").rglob("lenet5.h"))


@pytest.mark.compiler
def test_pkg_config(tool: Tool, tmp_path: Path) -> None:
    """A program for this machine, with the flags that pkg-config gives."""
    cc, pkg_config = tool("cc"), tool("pkg-config")
    folder, target = tmp_path / "out dir", load_target("c")
    kinds = "c,lib,archive,project"
    assert main([LENET, "--target", "c", "-o", str(folder), "--emit", kinds, "--pack", "file"]) == 0
    asked = [pkg_config, "--cflags", "--libs", "lenet5"]
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder)}
    flags = shlex.split(subprocess.check_output(asked, env=environment, text=True))
    program = tmp_path / "program"
    subprocess.run([cc, str(folder / "example_main.c"), *flags, "-o", str(program)], check=True)
    assert agrees(answers(folder, program, target))


def test_text_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build_room, "_pip_zig", lambda: None)
    for name in ("CC", "COMPACTIR_CC"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "out"
    for pack in PACKS:
        arguments = [LENET, "--target", "arm", "--emit", "c,project", "--pack", pack, "-o", str(folder)]
        assert main(arguments) == 0
        manifest = json.loads((folder / "manifest.json").read_text())
        assert {"CMakeLists.txt", "example_main.c", "lenet5.c", "lenet5.h", "lenet5.pc"} <= set(
            manifest["files"]
        )
        assert ("lenet5_weights.S" in manifest["files"]) == (pack == "object")
        assert (folder / "lenet5_weights.S").exists() == (pack == "object")  # the stale one is removed
        for name, digest in manifest["sha256"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert main([LENET, "--target", "arm", "--emit", "c,archive", "-o", str(folder)]) == 1


@pytest.mark.compiler
@pytest.mark.parametrize("cc", ["aarch64-linux-gnu-gcc", "zig"])
def test_what_is_built_is_reproducible(
    cc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool, need: Callable[[str], None]
) -> None:
    """Archive and library, in other folders each time."""
    need("ziglang") if cc == "zig" else tool(cc)
    generated = generate(plan(read(Source(LENET)), ARM), pack="object")
    built = []
    for name in ("one", "two and more"):
        monkeypatch.setenv("COMPACTIR_CACHE", str(tmp_path / name))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        built.append([make(generated, cc).read_bytes() for make in (archive, build)])
    assert built[0] == built[1]
    assert built[0][0].startswith(b"!<arch>\n")
    assert str(tmp_path).encode() not in b"".join(built[0])


def test_an_archiver_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler = build_room.Compiler(("/none/gcc",), "gcc", "gcc 12", "aarch64")
    with pytest.raises(CompactError) as caught:
        build_room._archiver(compiler)
    assert caught.value.code == "CIR512"
    assert "binutils" in (caught.value.help or "")

"""Without an operating system and without a library: programs with their own `_start`, and Cortex-M."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir import reference
from compactir.cli import main
from compactir.codegen.c.emit import macro_prefix
from compactir.diagnostics import CompactError
from compactir.driver import Generated, Source, archive, build, contents, generate, plan, read
from compactir.targets import Target, load_target
from compactir.tools.footprint import footprint
from compactir.tools.verify import compare

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
Tool = Callable[[str], str]

HOSTED = [
    ("x86", "clang"),
    ("arm", "aarch64-linux-gnu-gcc"),
    ("arm-v7", "arm-linux-gnueabihf-gcc"),
]


def made(name: str, target: Target) -> Generated:
    authored = read(Source(EXAMPLES / f"{name}.arch", seed=0))
    return generate(plan(authored, target), freestanding=True)


def undefined(file: Path, tool: Tool) -> set[str]:
    """The symbols that an object, archive or program wants from elsewhere."""
    said = subprocess.run([tool("llvm-nm-19"), "-u", str(file)], capture_output=True, text=True, check=True)
    return {words[-1] for line in said.stdout.splitlines() if (words := line.split()) and words[0] == "U"}


def program(generated: Generated, target: Target, cc: str, folder: Path, tool: Tool) -> Path:
    """The network and `start.c`, linked with nothing else."""
    symbol = generated.manifest.symbol
    upper = macro_prefix(symbol)
    for name, content in contents(generated).items():
        (folder / name).write_text(str(content), encoding="utf-8")
    (folder / "network.h").write_text(
        f'#include "{symbol}.h"\n'
        f"#define WEIGHTS {symbol}_weights\n#define BIND {symbol}_bind\n#define RUN {symbol}_run\n"
        f"#define PACKED {symbol}_inline_weights\n#define WEIGHTS_BYTES {upper}_WEIGHTS_BYTES\n"
        f"#define WORKSPACE {upper}_WORKSPACE_BYTES\n"
        f"#define SCORES {generated.manifest.outputs[0].bytes // 4}\n",
        encoding="utf-8",
    )
    (image,) = reference.random_inputs(generated.planned.authored.graph, 0).values()
    text = ", ".join(f"{float(x)!r}f" for x in image.ravel())
    (folder / "image.c").write_text(f"const float image[] = {{ {text} }};\n", encoding="utf-8")
    library = archive(generated, cc)
    assert undefined(library, tool) == set()
    out = folder / "program"
    family = "clang" if cc == "clang" else "gcc"
    flags = ["-ffreestanding", "-nostdlib", "-static", "-Wl,--gc-sections", "-Wall", "-Werror"]
    sources = [str(HERE / "c" / "start.c"), str(folder / "image.c"), str(library)]
    command = [tool(cc), *target.flags(family), *flags, f"-I{folder}", *sources, "-o", str(out)]
    subprocess.run(command, check=True)
    return out


def agrees(generated: Generated, command: list[str]) -> bool:
    """Whether the program writes the reference's answer, which another image does not have."""
    said = subprocess.run(command, capture_output=True, check=True).stdout
    graph = generated.planned.authored.graph
    (name,) = graph.outputs
    expected, other = (reference.run(graph, reference.random_inputs(graph, seed))[name] for seed in (0, 1))
    actual = np.frombuffer(said, np.float32).reshape(expected.shape)
    assert not compare(name, other, expected).agrees
    return compare(name, actual, expected).agrees


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.parametrize(("name", "cc"), HOSTED)
def test_lenet_without_a_library(name: str, cc: str, tmp_path: Path, tool: Tool) -> None:
    target = load_target(name)
    generated = made("lenet5", target)
    linked = program(generated, target, cc, tmp_path, tool)
    assert undefined(linked, tool) == set()
    assert agrees(generated, target.run_command([str(linked)]))


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.parametrize(("name", "network"), [("cortex-m4", "lenet5"), ("cortex-m7", "ds_cnn")])
@pytest.mark.slow
def test_bare_metal_links_and_computes(name: str, network: str, tmp_path: Path, tool: Tool) -> None:
    """Run, too, on a core that has their instructions: QEMU starts no program of Linux on a Cortex-M."""
    target = load_target(name)
    generated = made(network, target)
    linked = program(generated, target, "arm-none-eabi-gcc", tmp_path, tool)
    assert undefined(linked, tool) == set()
    assert agrees(generated, [tool("qemu-arm"), "-cpu", "max", str(linked)])


@pytest.mark.compiler
@pytest.mark.parametrize("target", ["cortex-m7", "arm-v7"])
def test_zig_needs_no_library_either(target: str, need: Callable[[str], None], tool: Tool) -> None:
    need("ziglang")
    generated = made("ds_cnn", load_target(target))
    assert undefined(archive(generated, "zig"), tool) == set()


@pytest.mark.compiler
@pytest.mark.slow
def test_flash_and_ram(tool: Tool, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cc = tool("arm-none-eabi-gcc")
    generated = made("lenet5", load_target("cortex-m7"))
    size = footprint(generated, cc)
    assert size.weights == generated.manifest.weights_bytes
    assert 0 < size.code < 40_000
    assert 0 <= size.tables < 10_000
    assert size.ram == size.workspace == generated.manifest.workspace_bytes
    said = subprocess.run(["size", str(archive(generated, cc))], capture_output=True, text=True, check=True)
    text, data, zeroed = map(int, said.stdout.splitlines()[1].split()[:3])
    assert (size.flash, size.variables) == (text, data + zeroed)
    lenet = str(EXAMPLES / "lenet5.arch")
    assert main(["compile", lenet, "--target", "cortex-m7", "--cc", cc, "-o", str(tmp_path / "out")]) == 0
    assert f"flash {size.flash:,} bytes" in capsys.readouterr().out
    assert main(["report", lenet, "--target", "cortex-m7"]) == 0
    assert f"{size.flash:,}" in capsys.readouterr().out


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize(("title", "network"), [("LeNet-5", "lenet5"), ("DS-CNN", "ds_cnn")])
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7"])
def test_the_table_of_the_manual(title: str, network: str, name: str, tool: Tool) -> None:
    page = (EXAMPLES.parent / "docs" / "arm.md").read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| {title}, {name} \| (.*) \|$", page, re.MULTILINE)
    flash, code, weights, ram = (int(cell.removesuffix(" KB")) * 1024 for cell in row.split(" | "))
    size = footprint(made(network, load_target(name)), tool("arm-none-eabi-gcc"))
    half = 512  # what rounding to kilobytes takes away
    assert weights == pytest.approx(size.weights, abs=half)
    assert ram == pytest.approx(size.ram, abs=half)
    assert code == pytest.approx(size.code, abs=half + size.code // 50)  # compilers of one year differ
    assert flash == pytest.approx(size.flash, abs=half + size.code // 50)


@pytest.mark.parametrize(
    "arguments",
    [["--target", "cortex-m4", "--emit", "c,lib"], ["--freestanding", "--threads", "2", "--emit", "c"]],
)
def test_what_takes_an_operating_system(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(EXAMPLES / "lenet5.arch"), *arguments, "-o", str(tmp_path)]) == 2
    assert "CIR506" in capsys.readouterr().err


def test_no_library_for_a_chip() -> None:
    with pytest.raises(CompactError, match="no operating system") as caught:
        build(made("lenet5", load_target("cortex-m4")))
    assert caught.value.code == "CIR506"


@pytest.mark.slow
def test_the_module_in_python_is_the_same(tmp_path: Path) -> None:
    import compactir

    small = tmp_path / "small.arch"
    small.write_text(
        "network small {\n  input x: f32[4, 8, 8]\n  output y = x -> conv(8, kernel=3) -> sigmoid\n}\n"
    )
    image = np.ones((1, 4, 8, 8), np.float32)
    usual, ours = (compactir.compile(small, target="c", seed=0, freestanding=how) for how in (False, True))
    with usual, ours:
        assert np.array_equal(usual(image), ours(image))
        assert ours.manifest.raw["freestanding"] is True

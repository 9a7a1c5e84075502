"""What compilers make of generated C: multiply-adds where the target has them, one text."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compactir.codegen.c.emit import emit_c
from compactir.codegen.lower import lower
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Scope
from compactir.ir.types import TensorType
from compactir.ops.conv import Conv
from compactir.passes import run_pipeline
from compactir.passes.fuse_separable import FuseSeparable
from compactir.targets import Target, load_target
from tests.c.networks import compile_quietly
from tests.graphs import random_weights

ROOT = Path(__file__).resolve().parent.parent
Tool = Callable[[str], str]


def compiled(target: Target, folder: Path, tool: Tool, source: str, *flags: str) -> Path:
    """An object file, by the target's gcc with the target's flags."""
    (folder / "net.c").write_text(source)
    out = folder / "net.o"
    command = [tool("gcc" if target.is_native else target.cc[0]), *target.flags("gcc"), "-std=c99", *flags]
    compile_quietly([*command, f"-I{folder}", "-c", str(folder / "net.c"), "-o", str(out)])
    return out


def convolution(target: Target, folder: Path, tool: Tool, *flags: str) -> Path:
    """A pointwise convolution of 16 channels to 16."""
    graph = Graph("net")
    x = graph.input("x", TensorType.f32(1, 16, 8, 8))
    graph.outputs["y"] = graph.apply(Conv(Connectivity.dense(16, 16)), [x], "conv1")
    graph.weights = random_weights(graph, 0)
    made = emit_c(lower(graph, target), target, symbol="net", pack="file")
    (folder / "net.h").write_text(made.header)
    return compiled(target, folder, tool, made.source, *flags)


def instructions(target: Target, program: Path, tool: Tool) -> list[str]:
    """The mnemonics of the object file."""
    name = "objdump" if target.is_native else f"{target.triple}-objdump"
    done = subprocess.run([tool(name), "-d", str(program)], capture_output=True, text=True, check=True)
    return re.findall(r"^\s*[0-9a-f]+:\t[0-9a-f ]+\t(\S+)", done.stdout, re.M)


FUSED = {"x86": "vfmadd", "x86-avx512": "vfmadd", "arm": "fmla", "arm-v7": "vfma"}


@pytest.mark.compiler
@pytest.mark.parametrize("name", FUSED)
def test_a_convolution_uses_fused_multiply_adds(name: str, tmp_path: Path, tool: Tool) -> None:
    target = load_target(name)
    found = instructions(target, convolution(target, tmp_path, tool), tool)
    assert sum(i.startswith(FUSED[name]) for i in found) >= 8


@pytest.mark.compiler
def test_portable_code_is_never_contracted(tmp_path: Path, tool: Tool) -> None:
    """Where the CPU has the instruction, the target's flags keep the compiler from using it by itself."""
    target, x86 = load_target("c"), load_target("x86")
    if not x86.is_native:
        pytest.skip("no x86 compiler here: apt-get install gcc-x86-64-linux-gnu")
    found = instructions(x86, convolution(target, tmp_path, tool, "-march=x86-64-v3"), tool)
    assert any(i.startswith("vmulps") for i in found)
    assert not any(i.startswith("vfmadd") for i in found)


EMIT = """
import sys
from compactir import driver
from compactir.targets import load_target
for name in sys.argv[1:]:
    source = driver.Source(f"examples/{name}.arch", seed=0)
    for target in ("x86", "arm"):
        made = driver.generate(driver.plan(driver.read(source, warn=False), load_target(target)), pack="file")
        sys.stdout.buffer.write(made.files.source.encode() + made.files.header.encode())
        sys.stdout.buffer.write(made.planned.lowered.weights.tobytes() + made.files.content_id)
"""


def test_comments_name_every_node_of_a_step_and_count_in_english() -> None:
    """A fused step is its nodes, under the name of their block; strides of 1 go without saying."""
    graph, target = Graph("net"), load_target("x86")
    y = graph.input("x", TensorType.f32(1, 1, 64, 64))
    each = Connectivity.grouped(48, 48, 48, (3, 3), (1, 1, 1, 1))
    graph.scopes["block"] = Scope("Block")
    y = graph.apply(Conv(Connectivity.dense(1, 48)), [y], "block.expand")
    y = graph.apply(Conv(each, stride=(2, 2)), [y], "block.filter")
    graph.outputs["y"] = graph.apply(Conv(Connectivity.dense(48, 8)), [y], "block.project")
    graph.weights = random_weights(graph, 0)
    run_pipeline(graph, [FuseSeparable(0)])
    source = emit_c(lower(graph, target), target).source
    assert "/* step 0: block: expand, filter, project (conv+conv+conv) */" in source
    assert "/* 1x1 convolution: 64x64 -> 64x64, " in source
    assert "outputs over 1 input\n" in source
    assert re.search(r"/\* 3x3 depthwise, stride 2x2: 64x64 -> 32x32, \d blocks of 8 channels, ", source)
    body = source[source.index("static void step_0(") :].partition("\n}\n")[0]
    made = re.findall(r"^    (conv|depthwise)_\w+\(", body, re.MULTILINE)
    assert len(made) > 3, "the expansion has several panels"
    assert made == ["conv", "depthwise"] * (len(made) // 2) + ["conv"], "each is filtered at once"


@pytest.mark.slow
def test_every_process_writes_the_same_bytes() -> None:
    """Sets and dictionaries of strings come in another order under another hash seed."""
    digests = set()
    for number in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", EMIT, "lenet5", "shufflenet_v2"],
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number},
        )
        assert done.returncode == 0, done.stderr.decode()
        assert len(done.stdout) > 1_000_000
        digests.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(digests) == 1

"""Generated C says nothing to any compiler, links beside other networks, and takes any name and any path."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compactir.codegen.c.emit import CFiles, emit_c, macro_prefix, symbol_for
from compactir.codegen.lower import lower
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ir.types import TensorType
from compactir.ops.activation import Relu6
from compactir.ops.conv import Conv
from compactir.targets import Target, load_target, unsupported
from tests.c.networks import compile_quietly, generate, one_file, op_cases
from tests.c.tables import table_cases
from tests.graphs import random_weights

pytestmark = pytest.mark.compiler
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-pedantic")
TARGETS = [load_target(name) for name in ("c", "x86", "x86-avx512", "arm", "arm-v7")]
Tool = Callable[[str], str]
Need = Callable[[str], None]


def command(name: str, tool: Tool, need: Need) -> list[str]:
    """`gcc`, `clang`, `zig` and their C++ twins as the start of a command line."""
    if name.startswith("zig"):
        need("ziglang")
        return [sys.executable, "-m", "ziglang", "c++" if name.endswith("++") else "cc"]
    return [tool(name)]


def small(name: str = "small", outs: int = 19) -> Graph:
    """A convolution and a depthwise one, with inputs and outputs called after C++ keywords."""
    g = Graph(name)
    image = g.input("class", TensorType.f32(1, 3, 6, 5))
    x = g.apply(Conv(Connectivity.dense(3, outs, (3, 3), (1, 1, 1, 1))), [image], "conv1")
    x = g.apply(Relu6(), [x], "relu1")
    g.outputs["new"] = g.apply(Conv(Connectivity.grouped(outs, outs, outs, (3, 3))), [x], "conv2")
    g.weights = random_weights(g, 0)
    return g


def files(graph: Graph, target: Target, symbol: str | None = None) -> CFiles:
    return emit_c(lower(graph, target), target, symbol=symbol, pack="inline")


def written(made: CFiles, folder: Path) -> Path:
    """The C file with its header beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{made.symbol}.h").write_text(made.header, encoding="utf-8")
    source = folder / f"{made.symbol}.c"
    source.write_text(made.source, encoding="utf-8")
    return source


def check_only(compiler: str, folder: Path) -> list[str]:
    """Without code where the compiler can: zig wants to see an object file."""
    return ["-O0", "-c", "-o", str(folder / "checked.o")] if compiler == "zig" else ["-fsyntax-only"]


# -- warnings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("compiler", ["gcc", "clang", pytest.param("zig", marks=pytest.mark.slow)])
def test_no_compiler_has_anything_to_say(
    compiler: str, target: Target, tmp_path: Path, tool: Tool, need: Need
) -> None:
    """All samples in one file, checked but not translated; freestanding: no foreign libc is needed.

    What gcc says of unused functions it says when it translates: test_c_ops and test_c_arm do. Zig always
    translates, so it gets one sample of each operation.
    """
    name = compiler
    if compiler == "gcc" and not target.is_native:
        name = target.cc[0]
    cases = [c for c in op_cases((1,)) if compiler != "zig" or " 0 batch" in c.name]
    cases += table_cases(4)
    networks = [generate(c, target, f"net{i}") for i, c in enumerate(cases)]
    for network in networks:
        (tmp_path / f"{network.files.symbol}.h").write_text(network.files.header)
    (tmp_path / "all.c").write_text(one_file(networks, target))
    flags = target.flags(compiler)
    check = [*check_only(compiler, tmp_path), "-ffreestanding", f"-I{tmp_path}", str(tmp_path / "all.c")]
    compile_quietly([*command(name, tool, need), *flags, *STRICT, *check])


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
@pytest.mark.parametrize("target", [t for t in TARGETS if not unsupported(t)], ids=lambda t: t.name)
def test_one_file_as_it_is_shipped(
    compiler: str, target: Target, tmp_path: Path, tool: Tool, need: Need
) -> None:
    """With the target's own flags: some warnings come only with optimisation."""
    source = written(files(small(), target), tmp_path)
    flags = target.flags(compiler)
    made = ["-c", str(source), "-o", str(tmp_path / "small.o")]
    compile_quietly([*command(compiler, tool, need), *flags, *STRICT, *made])


def test_few_inputs_of_many_weights(tmp_path: Path, tool: Tool) -> None:
    """Two inputs are no word for loads by twos; 51 KB of weights are worth fetching early."""
    target = load_target("arm")
    g = Graph("wide")
    image = g.input("image", TensorType.f32(1, 2, 1, 3))
    g.outputs["out"] = g.apply(Conv(Connectivity.dense(2, 6400)), [image], "conv1")
    g.weights = random_weights(g, 0)
    source = written(emit_c(lower(g, target), target), tmp_path)
    flags = [tool(target.cc[0]), *target.flags("gcc"), *STRICT]
    compile_quietly([*flags, "-c", str(source), "-o", str(tmp_path / "wide.o")])


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_one_file_for_several_threads(compiler: str, tmp_path: Path, tool: Tool, need: Need) -> None:
    target = load_target("native")
    made = emit_c(lower(small(), target, 4), target, pack="inline")
    flags = [*command(compiler, tool, need), *target.flags(compiler), *STRICT, "-pthread"]
    compile_quietly([*flags, "-c", str(written(made, tmp_path)), "-o", str(tmp_path / "small.o")])


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("target", ["c", "x86"])
def test_tiles_that_threads_share(target: str, compiler: str, tmp_path: Path, tool: Tool) -> None:
    """A loop over the tiles of a thread around loops over 37 inputs: each has a variable of its own."""
    machine = load_target(target)
    g = Graph("tiles")
    image = g.input("image", TensorType.f32(1, 37, 24, 24))
    g.outputs["out"] = g.apply(Conv(Connectivity.dense(37, 24)), [image], "conv1")
    g.weights = random_weights(g, 0)
    lowered = lower(g, machine, 3)
    assert "tiles" in {call.kernel.split for step in lowered.plan.steps for call in step.calls}
    source = written(emit_c(lowered, machine), tmp_path)
    flags = [*machine.flags(compiler), *STRICT, "-pthread", "-fsyntax-only"]
    compile_quietly([tool(compiler), *flags, str(source)])


@pytest.mark.parametrize("compiler", ["g++", "clang++", "zig c++"])
def test_the_header_alone_as_cpp(compiler: str, tmp_path: Path, tool: Tool, need: Need) -> None:
    made = files(small(), load_target("c"))
    written(made, tmp_path)
    (tmp_path / "only.cpp").write_text(f'#include "{made.symbol}.h"\n#include "{made.symbol}.h"\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-c", str(tmp_path / "only.cpp")]
    compile_quietly([*command(compiler, tool, need), *flags, "-o", str(tmp_path / "only.o")])


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_a_warning_would_be_noticed(compiler: str, tmp_path: Path, tool: Tool, need: Need) -> None:
    source = tmp_path / "warns.c"
    source.write_text("int f(void);\nint f(void) { int unused; return 0; }\n")
    with pytest.raises(AssertionError, match="unused variable"):
        compile_quietly(
            [*command(compiler, tool, need), *STRICT, *check_only(compiler, tmp_path), str(source)]
        )


# -- together ------------------------------------------------------------------------------------------------

MAIN = """
#include <cstdio>
#include <cstdlib>
@INCLUDES@
template <class W, class Bind, class Run>
static double total(Bind bind, Run run, const void *packed, size_t bytes, size_t workspace, int outputs) {
  W w;
  float in[90], out[4096];
  for (int i = 0; i < 90; ++i) in[i] = static_cast<float>(i % 7) - 3.0f;
  void *ws = aligned_alloc(64, (workspace + 63) / 64 * 64);
  if (bind(&w, packed, bytes) || run(&w, in, out, ws)) return -1e30;
  double sum = 0;
  for (int i = 0; i < outputs; ++i) sum += out[i] * (i + 1);
  free(ws);
  return sum;
}

int main() {
@CALLS@
  return 0;
}
"""


def program_of(made: list[tuple[CFiles, int]]) -> str:
    calls = [
        f'  std::printf("%.6e\\n", total<{f.symbol}_weights>({f.symbol}_bind, {f.symbol}_run, '
        f"{f.symbol}_inline_weights(), {macro_prefix(f.symbol)}_WEIGHTS_BYTES, "
        f"{macro_prefix(f.symbol)}_WORKSPACE_BYTES, {outputs}));"
        for f, outputs in made
    ]
    includes = "\n".join(f'#include "{f.symbol}.h"' for f, _ in made)
    return MAIN.replace("@INCLUDES@", includes).replace("@CALLS@", "\n".join(calls))


def test_two_networks_and_one_for_two_targets_in_a_cpp_program(tmp_path: Path, tool: Tool) -> None:
    native = load_target("native")
    one, two = small("one", 19), small("two", 8)
    made = [
        (files(one, load_target("c"), "one_c"), 19 * 4 * 3, load_target("c")),
        (files(one, native, "one_native"), 19 * 4 * 3, native),
        (files(two, native, "two_native"), 8 * 4 * 3, native),
    ]
    objects = []
    for f, _, target in made:
        source = written(f, tmp_path)
        objects.append(str(source.with_suffix(".o")))
        compile_quietly([tool("gcc"), *target.flags("gcc"), *STRICT, "-c", str(source), "-o", objects[-1]])
    main = tmp_path / "main.cpp"
    main.write_text(program_of([(f, outputs) for f, outputs, _ in made]))
    program = tmp_path / "together"
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    compile_quietly([tool("g++"), *strict, f"-I{tmp_path}", str(main), *objects, "-o", str(program)])
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.split()
    first, again, other = map(float, said)
    assert first == pytest.approx(again, rel=1e-4)
    assert abs(other - first) > 1e-2 * abs(first)


def test_names_that_differ_in_case_alone_in_one_program(tmp_path: Path, tool: Tool) -> None:
    """Their headers are different files, and none takes the place of another's macros."""
    names = ["tiny_net", "Tiny_net", "TINY_NET", "tinY_net"]
    made = [files(small(name, 8 + i), load_target("c")) for i, name in enumerate(names)]
    assert len({macro_prefix(f.symbol) for f in made}) == len(names)
    objects = [str(written(f, tmp_path / str(i))) for i, f in enumerate(made)]
    for source in objects:
        compile_quietly([tool("gcc"), *STRICT, "-c", source, "-o", source[:-2] + ".o"])
    main, program = tmp_path / "main.cpp", tmp_path / "together"
    main.write_text(program_of([(f, (8 + i) * 4 * 3) for i, f in enumerate(made)]))
    folders = [f"-I{tmp_path / str(i)}" for i in range(len(names))]
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror", *folders]
    compile_quietly([tool("g++"), *strict, str(main), *(o[:-2] + ".o" for o in objects), "-o", str(program)])
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.split()
    assert len(said) == len(names)
    assert "-1.000000e+30" not in said


# -- names and paths -----------------------------------------------------------------------------------------

NAMES = [
    "int",
    "class",
    "restrict",
    "3 Netze",
    "größe",
    "日本語",
    "a-b.c",
    "main",
    "math",
    "linux",
    "_x",
    "with space",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_compiles_as_c_and_its_header_as_cpp(name: str, tmp_path: Path, tool: Tool) -> None:
    made = files(small(name), load_target("c"))
    assert made.symbol == symbol_for(name)
    assert made.symbol.isascii()
    assert made.symbol.isidentifier()
    source = written(made, tmp_path)
    compile_quietly([tool("gcc"), *STRICT, "-fsyntax-only", str(source)])
    only = tmp_path / "only.cpp"
    only.write_text(f'#include "{made.symbol}.h"\n')
    compile_quietly([tool("g++"), "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(only)])


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_paths_with_spaces_and_unicode(compiler: str, tmp_path: Path, tool: Tool, need: Need) -> None:
    target = load_target("native")
    source = written(files(small(), target), tmp_path / "ein Ordner" / "größe 日本")
    out = source.with_suffix(".o")
    flags = target.flags(compiler)
    compile_quietly([*command(compiler, tool, need), *flags, *STRICT, "-c", str(source), "-o", str(out)])
    assert out.stat().st_size
    shutil.rmtree(tmp_path / "ein Ordner")

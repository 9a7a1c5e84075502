"""Counting Arm code: encodings, the in-order model, and a program whose instructions are known in advance."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from compactir.diagnostics import CompactError
from compactir.targets import load_target
from compactir.tools.count import Block, Estimate, Interval, estimate, llvm, models_for, run_counted
from compactir.tools.count import __main__ as command
from compactir.tools.count.encodings import class_of
from compactir.tools.count.estimate import merge
from compactir.tools.count.inorder import cycles, parse

# Words as gas assembles them.
A64 = {
    "fma32": [0x4E22CC20, 0x4FA21020, 0x4EA2CC20, 0x4FA25820, 0x0E22CC20],  # fmla, by element, fmls, .2s
    "fma16": [0x4E420C20, 0x4F021020],
    "dot8": [0x4E829420, 0x6E829420, 0x4F82E020, 0x4E82A420],  # sdot, udot, by element, smmla
    "mla_int": [0x0E628020, 0x4E629420, 0x0E62C020],  # smlal, mla, smull
    "simd_other": [0x4E62CC20, 0x4E22D420, 0x1F020C20, 0x4F000400],  # fmla .2d, fadd, fmadd, movi
    "load_vector": [0x3DC00020, 0xAD400440, 0x4C407820, 0xFC408420, 0x4D40C820, 0x9C000040],
    "store_vector": [0x3D800020, 0xAD000440, 0x4C007820, 0xFC008420],
    "load_integer": [0xF9400020, 0xA9400440, 0x39400020, 0xB9800020, 0xF9800020],  # ..., ldrsw, prfm
    "store_integer": [0xF9000020, 0xA9000440, 0x39000020],
    "integer": [0x8B020020, 0x91004000, 0xF1000400, 0x9B027C20, 0x10000080, 0xD2800020],
    "branch": [0x54FFFFE1, 0x14000002, 0xD65F03C0, 0xB4000060, 0x94000019],
    "sve": [0x65A20020],
}
A32 = {
    "fma32": [0xF2020D54, 0xF2020C54, 0xF3A20144],  # vmla.f32, vfma.f32, vmla by scalar
    "simd_other": [0xF2020D44, 0xEE300A01],
    "load_vector": [0xF4200A8F, 0xED900B00],
    "store_vector": [0xF4000A8F, 0xED800B00],
    "load_integer": [0xE5900000, 0xE8B00006, 0xE1D010B0],  # ldr, ldm, ldrh
    "store_integer": [0xE5800000, 0xE8A00006, 0xE1C010B0],
    "integer": [0xE0810002, 0xE2511001, 0xE0010192, 0xE6EF1071],  # add, subs, mul, uxtb
    "branch": [0x1AFFFFFC, 0xEB000000],
}


@pytest.mark.parametrize(
    ("machine", "name", "word"),
    [
        (machine, name, word)
        for machine, table in (("aarch64", A64), ("arm", A32))
        for name, words in table.items()
        for word in words
    ],
)
def test_classes(machine: str, name: str, word: int) -> None:
    assert class_of(word.to_bytes(4, "little"), machine) == name


def test_what_is_not_known_is_other() -> None:
    assert class_of(b"\x00\xbf", "arm") == "other"  # Thumb
    assert class_of(b"\x90", "x86_64") == "other"


def fmla(count: int, *, width: str = "4s", same: bool = False) -> list[str]:
    return [f"fmla v{0 if same else i}.{width}, v30.{width}, v31.{width}" for i in range(count)]


MOVES = [f"ins v{i}.d[1], x{i}" for i in range(4)]


@pytest.mark.parametrize(
    ("core", "code", "expected"),
    [
        ("a55", fmla(24), 24),  # one 128-bit FMLA per cycle
        ("a53", fmla(24), 24),
        ("a55", fmla(24, width="2s"), 12),  # two 64-bit ones
        ("a55", fmla(1, same=True), 4),  # each waits for the one before
        ("a53", fmla(1, same=True), 4),
        ("a55", [*fmla(8), "ldr q29, [x0]"], 10),  # a 128-bit load keeps arithmetic out for two cycles
        ("a55", [*fmla(8), "ldr d29, [x0]"], 8),  # a 64-bit load hides behind it on the A55
        ("a53", [*fmla(8), "ldr d29, [x0]"], 9),  # not on the A53,
        ("a53", [*fmla(8), "ldr x9, [x0]"], 8),  # where an integer load does
        ("a53", MOVES, 2),
        ("a55", MOVES, 2),
        ("a53-one-move", MOVES, 4),
        ("a53-one-move", [*MOVES[:2], "ldr x9, [x10]", "ldr x11, [x10]"], 2),
        ("a53-one-move", ["dup v0.2s, v9.s[1]", "dup v1.2s, v9.s[0]"], 1),
        ("a53-one-move", ["fmov x0, d0", "fmov x1, d1"], 1),
        ("a55", ["add x0, x0, #1"] * 4, 4),
        ("a55", ["add x0, x1, #1", "add x2, x3, #1"] * 4, 4),
        ("a55", ["ldr x1, [x2]", "add x2, x1, #0"], 4),  # load to use: 3 cycles
    ],
)
def test_in_order_model(core: str, code: list[str], expected: float) -> None:
    assert cycles(code, core, passes=40, warm=20) == pytest.approx(expected, abs=0.1)


def test_reading_assembly() -> None:
    load = parse("ld1 { v4.4s - v7.4s }, [x1], #64")
    assert (load.kind, load.writes, load.bytes, load.moved_base) == (
        "vector load",
        ("v4", "v5", "v6", "v7"),
        64,
        "x1",
    )
    lane = parse("ld1 { v0.s }[1], [x3]")
    assert (lane.reads, lane.writes) == (("x3", "v0"), ("v0",))
    pair = parse("stp q0, q1, [sp, #-32]!")
    assert (pair.kind, pair.reads, pair.moved_base) == ("vector store", ("sp", "v0", "v1"), "sp")
    product = parse("fmla v16.4s, v0.4s, v4.s[1]")
    assert (product.accumulator, product.reads, product.pipes) == (("v16",), ("v0", "v4"), 2)


def block(address: int, length: int) -> Block:
    return Block(address, (b"\x1f\x20\x03\xd5",) * length, "f", "aarch64")


def test_blocks_that_run_one_after_the_other_are_joined() -> None:
    joined = merge([(block(0, 4), 7), (block(16, 2), 7), (block(24, 3), 5), (block(100, 1), 7)])
    assert [(b.address, len(b.code), times) for b, times in joined] == [(0, 6, 7), (24, 3, 5), (100, 1, 7)]


def test_models_for_targets() -> None:
    assert models_for("arm-a55") == ("a55",)
    assert models_for("arm") == ("a53", "a55", "a57", "a76")
    assert models_for("arm-a53") == ("a53",)
    assert models_for("arm-v7") == ()
    assert models_for("arm-a55", ["a53-one-move"]) == ("a53-one-move",)
    with pytest.raises(CompactError, match="no model of a core reads the instructions of `arm-v7`"):
        models_for("arm-v7", ["a76"])


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CompactError) as caught:
        llvm.tool("llvm-mca", 17)
    assert caught.value.code == "CIR516"
    assert "apt install llvm-19" in (caught.value.help or "")


def test_an_old_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm, "_version", lambda path: 14)
    monkeypatch.setattr("shutil.which", lambda name: "/bin/" + name)
    with pytest.raises(CompactError, match="CIR516"):
        llvm.throughput([["nop"]], "aarch64", "neoverse-n1")


PROGRAM = """
#include <unistd.h>
int main(void) {
  getppid();
  __asm__ volatile("mov x9, #1000\\n"
                   "1: fmla v0.4s, v30.4s, v31.4s\\n fmla v1.4s, v30.4s, v31.4s\\n"
                   "fmla v2.4s, v30.4s, v31.4s\\n fmla v3.4s, v30.4s, v31.4s\\n"
                   "ldr q29, [sp]\\n subs x9, x9, #1\\n b.ne 1b"
                   ::: "x9", "v0", "v1", "v2", "v3", "v29", "memory", "cc");
  getppid();
  return 0;
}
"""


@pytest.fixture(scope="module")
def llvm_tools() -> None:
    try:
        llvm.tool("llvm-mc")
        llvm.tool("llvm-mca", 17)
    except CompactError as missing:
        pytest.skip(f"{missing.message}: apt-get install llvm-19")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Path:
    folder = tmp_path_factory.mktemp("count")
    source = folder / "loop.c"
    source.write_text(PROGRAM)
    tool("qemu-aarch64")
    cc = tool("aarch64-linux-gnu-gcc")
    subprocess.run([cc, "-O2", "-static", str(source), "-o", str(folder / "loop")], check=True)
    return folder / "loop"


@pytest.fixture(scope="module")
def loop(program: Path) -> Interval:
    intervals, _ = run_counted([str(program)], load_target("arm-a55"))
    assert len(intervals) == 3  # before, between and after the two marks
    return intervals[1]


@pytest.mark.compiler
@pytest.mark.emulator
def test_counts_are_exact(program: Path, loop: Interval) -> None:
    classes = loop.classes()
    assert classes["fma32"] == 4000
    assert classes["load_vector"] == 1000
    assert 7001 <= loop.instructions <= 7060  # and the calls of getppid
    again, _ = run_counted([str(program)], load_target("arm-a55"))
    assert (again[1].instructions, again[1].classes()) == (loop.instructions, classes)


@pytest.mark.compiler
@pytest.mark.emulator
def test_cache_model(program: Path) -> None:
    intervals, _ = run_counted([str(program)], load_target("arm-a55"), caches=True)
    accesses = intervals[1].accesses
    assert accesses is not None
    assert 2000 <= accesses.reads <= 2030  # one load of 128 bits, again and again, from one line
    assert accesses.l1_misses < 30
    assert intervals[0].accesses is not None
    assert intervals[0].accesses.l1_misses > 30


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.usefixtures("llvm_tools")
def test_estimates(loop: Interval) -> None:
    result: Estimate = estimate(loop, "a55")
    assert result.cycles == pytest.approx(6000, rel=0.05)  # 4 FMLA, 2 cycles of load hide the rest
    assert result.blocks[0].times in (999, 1000)
    assert result.blocks[0].code[0].startswith("fmla")


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.usefixtures("llvm_tools")
def test_estimates_by_llvm_mca(loop: Interval) -> None:
    assert estimate(loop, "a76").cycles == pytest.approx(4000, rel=0.1)  # FMLA chains of 4 cycles each


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.usefixtures("llvm_tools")
def test_command_line(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--target", "arm-a55", "--json", str(program)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["intervals"][1]["classes"]["fma32"] == 4000
    assert set(said["cycles"]) == {"a55"}
    assert command.main(["--target", "arm-a55", "--hot", "1", "--macs", "16000", str(program)]) == 0
    assert "fmla" in capsys.readouterr().out


@pytest.mark.compiler
@pytest.mark.emulator
def test_a_program_that_fails_is_an_error(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CompactError) as caught:
        run_counted([str(program) + "-missing"], load_target("arm"))
    assert caught.value.code == "CIR515"
    assert command.main(["--target", "x86", str(program)]) == 1
    assert "CIR514" in capsys.readouterr().err

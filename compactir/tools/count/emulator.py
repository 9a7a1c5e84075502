"""Runs a program under QEMU with our plugin: which blocks of code ran how often between two marks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target
from compactir.tools.count.encodings import CLASSES, class_of


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other: their address, their bytes, the function they belong to."""

    address: int
    code: tuple[bytes, ...]
    symbol: str
    machine: str

    @property
    def end(self) -> int:
        return self.address + sum(map(len, self.code))

    @cached_property
    def classes(self) -> Counter[str]:
        return Counter(class_of(code, self.machine) for code in self.code)


@dataclass(frozen=True)
class Accesses:
    """What the model of the data cache saw. QEMU makes two accesses of 64 bits of one of 128.

    `next_to_recent` are the l2 misses that a prefetcher would have foreseen.
    """

    reads: int
    writes: int
    l1_misses: int
    l2_misses: int
    next_to_recent: int


@dataclass(frozen=True)
class Interval:
    """What ran between two marks: blocks with how often they ran, in the order of their first run."""

    runs: tuple[tuple[Block, int], ...]
    accesses: Accesses | None = None

    @property
    def instructions(self) -> int:
        return sum(times * len(block.code) for block, times in self.runs)

    def classes(self) -> dict[str, int]:
        """Instructions by class, in the order of `CLASSES`; classes that do not occur are left out."""
        total: Counter[str] = Counter()
        for block, times in self.runs:
            total.update({name: number * times for name, number in block.classes.items()})
        return {name: total[name] for name in CLASSES if total[name]}


def run_counted(
    program: Sequence[str],
    target: Target,
    *,
    caches: bool = False,
    data: bytes = b"",
) -> tuple[list[Interval], bytes]:
    """Run a program of the target and count: one interval up to each `getppid()` of it, one up to its end.

    Args:
        program: the executable, best linked statically, and its arguments.
        target: says which emulator and which CPU.
        caches: also model the data caches that the target describes (several times slower).
        data: the program's standard input.

    Returns:
        The intervals and what the program wrote to its standard output.

    Raises:
        CompactError: CIR514 without the emulator, CIR515 where the program fails, CIR51x without a compiler.
    """
    command = target.run_command(program, emulate=True)
    if not target.runner or not shutil.which(target.runner):
        raise CompactError(
            "CIR514",
            f"counting for `{target.name}` needs the emulator {target.runner or '(there is none)'}",
            help="`apt install qemu-user` brings the emulators; Arm targets have one",
        )
    with tempfile.TemporaryDirectory(prefix="compactir-count-") as folder:
        plugin, counts = build_plugin(Path(folder)), Path(folder) / "counts"
        options = f"{plugin},out={counts}" + (_cache_options(target) if caches else "")
        command[1:1] = ["-plugin", options]
        done = subprocess.run(command, input=data, capture_output=True)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            what = f"`{Path(program[0]).name}` ended with status {done.returncode} in {target.runner}"
            raise CompactError("CIR515", what, notes=said[-8:], help="run it without counting to see more")
        return list(_intervals(counts, target.machine)), done.stdout


def build_plugin(folder: Path) -> Path:
    """Compile the plugin for this machine: a fraction of a second, no header of QEMU needed."""
    compiler = find_compiler(load_target("c"))
    library = folder / "plugin.so"
    free = ["-Wl,--allow-shlib-undefined"] if compiler.family == "zig" else []
    with as_file(files("compactir.tools.count") / "plugin.c") as source:
        flags = ["-std=c99", "-O2", "-shared", "-fPIC", *free]
        subprocess.run([*compiler.command, *flags, str(source), "-o", str(library)], check=True)
    return library


def _cache_options(target: Target) -> str:
    """The caches of the target as arguments of the plugin; ways as Arm's cores have them."""
    return f",cache=1,l1={target.l1_bytes},l1ways=4,l2={target.l2_bytes or target.l3_bytes},l2ways=16"


def _intervals(counts: Path, machine: str) -> Iterator[Interval]:
    """Read the plugin's output. A block that was translated twice counts once."""
    blocks: dict[str, Block] = {}
    runs: Counter[Block] = Counter()
    accesses = None
    with counts.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            kind, first, *rest = line.rstrip("\n").split(" ", 4)
            if kind == "B":
                code = tuple(bytes.fromhex(group) for group in rest[1].split(","))
                blocks[first] = Block(int(rest[0], 16), code, rest[2] if len(rest) > 2 else "-", machine)
            elif kind == "R":
                runs[blocks[first]] += int(rest[0])
            elif kind == "C":
                accesses = Accesses(*(int(number) for number in line.split()[1:]))
            else:
                yield Interval(tuple(runs.items()), accesses)
                runs, accesses = Counter(), None

"""Target descriptions: registers, caches, compilers and flags as data, one .toml per target.

    target = load_target("x86")          # or "native": the best one that this CPU runs
    unsupported(target)                  # () or what this machine lacks, such as ("avx2", "fma")

A new target is one new .toml (and, where it has instructions of its own, one header in `codegen/c/simd`).
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.targets._cpu import cache_bytes, cpu_features, cpu_name, cpu_parts, machine

__all__ = [
    "ISAS",
    "WORD_LOADS",
    "Target",
    "all_targets",
    "cache_bytes",
    "cpu_features",
    "cpu_name",
    "load_levels",
    "load_target",
    "machine",
    "target_names",
    "unsupported",
]

ISAS = ("scalar", "avx2", "avx512", "neon")
"""The instruction sets with a vocabulary header, `codegen/c/simd/<isa>.h`."""

WORD_LOADS = ("whole", "halves", "moves", "pairs")
"""Vector by vector as compilers like it; by halves beside multiply-adds (`codegen/c/beside.py`); by way of
integer registers between them (`codegen/c/between.py`); two vectors at once (`codegen/c/paired.py`)."""

_HOST_CC = ("gcc", "clang", "cc")
_ZIG = ("-g0", "-fno-sanitize=undefined", "-fno-stack-protector")
"""Against what zig adds unasked: debug information, which holds the path of the folder that it compiled in,
and at -O0 checks that call functions of its own library."""
_ZIG_ARM = ("-fno-unwind-tables",)
"""gcc makes none for C on 32-bit Arm either; they name functions of the library that unwinds C++."""
_MUSL = {
    "x86_64": "x86_64-linux-musl",
    "i686": "x86-linux-musl",
    "aarch64": "aarch64-linux-musl",
    "arm": "arm-linux-musleabihf",
}
"""This machine, as zig calls it for static programs of the portable target: it has no static glibc."""


@dataclass(frozen=True)
class Target:
    """One machine to generate for. The fields are the keys of its .toml; sizes in bytes, lanes in floats."""

    name: str
    description: str
    isa: str
    """Which vocabulary: one of `ISAS`."""
    lanes: int
    """Floats per vector register, V_LANES of the vocabulary."""
    registers: int
    """Vector registers a kernel can hold values in."""
    fma: bool
    """v_fma rounds once; else it rounds the product and the sum."""
    x_step: int
    """Input scalars that one x_load of the vocabulary takes, V_X."""
    issue_width: float
    """Instructions per cycle. This and the next three: what the core does at best, for choosing tiles."""
    fma_per_cycle: float
    """Multiply-adds on whole vectors per cycle."""
    loads_per_cycle: float
    """Loads of whole vectors per cycle."""
    load_stall: float
    """Cycles in which no multiply-add starts because of a load of a vector: in-order cores."""
    word_loads: str
    """How loops over words of inputs load, one of `WORD_LOADS`: what the core does beside a multiply-add."""
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    """Data caches as one core sees them; 0 where there is none."""
    align: int
    """Alignment of weights, workspace and packed panels."""
    native_rank: int
    """`native` takes the supported target with the highest rank."""
    machine: str
    """`x86_64`, `aarch64`, `arm`, or "" for any."""
    triple: str
    """The GNU triple, also clang's `--target`; "" for the host's own."""
    zig_target: str
    """zig's `-target` for shared libraries."""
    zig_target_static: str
    """zig's `-target` for static executables (its glibc targets are dynamic only)."""
    zig_cpu: str
    """zig's `-mcpu`, which replaces every -m flag of cflags."""
    cc: tuple[str, ...]
    """Compilers made for this target, which run on other machines; `compilers` has the order."""
    cflags: tuple[str, ...]
    """For gcc and clang. The level and the contraction of multiply-adds are always explicit."""
    cpu_features: tuple[str, ...]
    """What the CPU must have when the library is loaded, as /proc/cpuinfo spells it."""
    cpu_parts: tuple[str, ...]
    """Arm part numbers this target is tuned for; `native` takes it only on these. Empty: any CPU."""
    runner: str
    """The emulator that runs its programs elsewhere; "" if there is none."""
    runner_args: tuple[str, ...]
    sysroots: tuple[str, ...]
    """Where the emulator may find the shared libraries of dynamic executables."""
    winograd: bool
    """Whether dense 3×3 convolutions may take fewer multiplications, and round more (docs/numerics.md)."""
    notes: str

    @property
    def is_native(self) -> bool:
        """Whether the architecture is this process's own (`unsupported` tells the rest)."""
        return self.machine in ("", machine()) and not self.bare

    @property
    def bare(self) -> bool:
        """Whether its programs run without an operating system, and without a libc."""
        return "-none-" in self.triple

    def compilers(self) -> tuple[str, ...]:
        """Command names to look for, best first; the host's own compilers only where they fit the target.

        `zig` brings the C library of every system, so it is the first for another machine, and the last where
        the host has a compiler of its own. For a chip a compiler made for bare metal comes before it.
        """
        foreign = tuple(command for command in self.cc if command not in _HOST_CC)
        if self.is_native:
            return (*_HOST_CC, *foreign, "zig")
        return (*foreign, "zig") if self.bare else ("zig", *foreign)

    def flags(self, family: str, *, static: bool = False) -> tuple[str, ...]:
        """The machine and optimization flags as one family of compilers spells them.

        Args:
            family: "gcc", "clang" or "zig" (`zig cc`).
            static: the program is to be linked statically, which only changes zig's target.
        """
        if family == "zig":
            plain = tuple(flag for flag in self.cflags if not flag.startswith("-m"))
            triple = self.zig_target_static if static else self.zig_target
            if static and not triple:
                triple = _MUSL.get(machine(), "")
            if self.is_native and platform.system() != "Linux":  # the triples name Linux
                triple = ""
            less = (*_ZIG, *_ZIG_ARM) if self.machine == "arm" else _ZIG
            return (*(("-target", triple) if triple else ()), f"-mcpu={self.zig_cpu}", *plain, *less)
        cross = family == "clang" and bool(self.triple) and not self.is_native
        return ((f"--target={self.triple}",) if cross else ()) + self.cflags

    def link_flags(self, family: str, *, static: bool = False) -> tuple[str, ...]:
        """Those of `flags` that linking takes. zig would build its C library again for each set of others."""
        flags = self.flags(family, static=static)
        if family != "zig":
            return flags
        return tuple(flag for flag in flags if not flag.startswith(("-mcpu=", *_ZIG, *_ZIG_ARM)))

    def run_command(self, argv: Sequence[str], *, emulate: bool = False) -> list[str]:
        """The command line that runs a program of this target here, in the emulator if it has to be.

        Args:
            argv: the program and its arguments.
            emulate: use the emulator (if there is one) even where the program would run without it.
        """
        if not self.runner or (self.is_native and not emulate):
            return list(argv)
        root = next((path for path in self.sysroots if Path(path).is_dir()), None)
        return [self.runner, *self.runner_args, *(("-L", root) if root else ()), *argv]


def target_names() -> tuple[str, ...]:
    """The names that have a description, in alphabetical order (`native` is another word for one of them)."""
    names = (entry.name for entry in Path(__file__).parent.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def all_targets() -> tuple[Target, ...]:
    """Every described target, by name."""
    return tuple(load_target(name) for name in target_names())


@cache
def load_target(name: str) -> Target:
    """The target of that name; `native` is the best one that this machine runs.

    Errors: CIR502 for a name without a description.
    """
    if "," in name:
        first = next((word.strip() for word in name.split(",") if word.strip()), "native")
        raise CompactError(
            "CIR502",
            f"`{name}` names several targets, one is wanted",
            notes=["`compactc compile` puts several levels of one processor into a folder"],
            help=f"write `--target {first}`",
        )
    if name in target_names():
        text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
        return parse_target(name, text)
    if name == "native":
        return _native()
    known = [*target_names(), "native"]
    raise CompactError(
        "CIR502",
        f"there is no target `{name}`",
        notes=["`torch` is an output, not a target"] if name == "torch" else (),
        help="write `--emit py` for the PyTorch module"
        if name == "torch"
        else did_you_mean(name, known) or f"the targets are {spell_list(sorted(known), limit=99)}",
    )


def load_levels(names: str) -> tuple[Target, ...]:
    """One target, or several levels of one processor (`c,x86,x86-avx512`), lowest first.

    Portable code is a level of this machine's processor: that is what it is compiled for.

    Errors: CIR502 for a name without a description, CIR505 for targets that are no levels of one processor.
    """
    words = [word.strip() for word in names.split(",")]
    if not all(words):
        raise CompactError("CIR502", f"`{names}` lacks the name of a target", help="write `x86` or `c,x86`")
    found = sorted(map(load_target, words), key=lambda t: (t.native_rank, t.name))
    for one, other in pairwise(found):
        if one == other:
            once = words.count(one.name) == 1
            raise CompactError(
                "CIR505",
                f"the level `{one.name}` is given twice",
                notes=[f"`native` is `{one.name}` on this machine"] if once else (),
                help="write each level once",
            )
        if not one.machine and not other.is_native:
            raise CompactError(
                "CIR505",
                f"`{one.name}` and `{other.name}` are not levels of one processor here",
                notes=[
                    f"`{one.name}` is compiled for this machine ({machine()}), `{other.name}` for another"
                ],
                help=f"give one target: `--target {other.name}`",
            )
        apart = one.machine not in ("", other.machine)
        if apart or not set(one.cpu_features) < set(other.cpu_features):
            raise CompactError(
                "CIR505",
                f"`{one.name}` and `{other.name}` are not levels of one processor",
                notes=["of levels, each has all instructions of the one below, and more"],
                help="give one target, or levels such as `x86,x86-avx512`",
            )
    return tuple(found)


def parse_target(name: str, text: str) -> Target:
    """Read a description. A wrong, missing or unknown key is a ValueError: the files are ours."""
    import tomllib  # loading a module asks for CPU features only, and should not wait for this

    data = tomllib.loads(text)
    wanted = [field.name for field in fields(Target) if field.name != "name"]
    if odd := sorted(set(data) ^ set(wanted)):
        raise ValueError(f"target {name}: missing or unknown keys: {', '.join(odd)}")
    kinds = get_type_hints(Target)
    values: dict[str, Any] = {key: _typed(f"target {name}: {key}", data[key], kinds[key]) for key in wanted}
    if values["isa"] not in ISAS:
        raise ValueError(f"target {name}: isa is {values['isa']!r}, not one of {', '.join(ISAS)}")
    if values["word_loads"] not in WORD_LOADS:
        given, known = values["word_loads"], ", ".join(WORD_LOADS)
        raise ValueError(f"target {name}: word_loads is {given!r}, not one of {known}")
    return Target(name=name, **values)


def unsupported(target: Target) -> tuple[str, ...]:
    """What this machine lacks to run the target's code: the architecture, or CPU features; () if nothing."""
    if not target.is_native:
        return (target.machine,)
    return tuple(sorted(set(target.cpu_features) - cpu_features()))


def _native() -> Target:
    """The supported target with the highest rank; one tuned for a core where all cores are of it."""
    tuned_right = [t for t in all_targets() if not t.cpu_parts or cpu_parts() == set(t.cpu_parts)]
    return max((t for t in tuned_right if not unsupported(t)), key=lambda t: t.native_rank)


def _typed(what: str, value: object, kind: object) -> object:
    """The TOML value as the field's type (lists become tuples); ValueError where it is of another one."""
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind is float and isinstance(value, int):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value.strip() if isinstance(value, str) else value
    raise ValueError(f"{what} is {value!r}, not of type {kind}")

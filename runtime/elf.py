"""What an ELF file says about itself: asked before `dlopen`, which crashes on some that it should refuse."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from pathlib import Path

__all__ = ["Elf", "Sizes", "member_sizes", "read_elf"]

_MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_LOAD = 1
_WRITE, _ALLOC, _EXECUTE, _NOBITS = 1, 2, 4, 8


@dataclass(frozen=True)
class Elf:
    """The two things we want to know."""

    machine: str
    """What processor it is for, spelled as `targets.machine()` spells it."""
    complete: bool
    """The file holds all that its program headers promise. `dlopen` of a truncated one ends in SIGBUS."""


def read_elf(path: Path) -> Elf | None:
    """The headers of an ELF file; None for anything else (macOS and Windows libraries, garbage)."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 52 or header[:4] != b"\x7fELF":
            return None
        wide, order = header[4] == 2, "<" if header[5] == 1 else ">"
        number, *_, table = struct.unpack_from(order + ("HIQQ" if wide else "HIII"), header, 18)
        entry_bytes, entries = struct.unpack_from(order + "HH", header, 54 if wide else 42)
        size = file.seek(0, 2)
        file.seek(table)
        segments = file.read(entry_bytes * entries)
    machine = _MACHINES.get(number, f"ELF machine {number}")
    if entry_bytes < (56 if wide else 32) or len(segments) < entry_bytes * entries:
        return Elf(machine, False)
    ends = [_end(segments, i * entry_bytes, wide, order) for i in range(entries)]
    return Elf(machine, max(ends, default=0) <= size)


def _end(segments: bytes, at: int, wide: bool, order: str) -> int:
    """Where in the file a loaded segment ends; 0 for the other kinds."""
    if wide:
        kind, _, offset, _, _, size = struct.unpack_from(order + "IIQQQQ", segments, at)
    else:
        kind, offset, _, _, size = struct.unpack_from(order + "IIIII", segments, at)
    return int(offset + size) if kind == _LOAD else 0


@dataclass(frozen=True)
class Sizes:
    """Bytes of compiled code by where they end up on a chip."""

    code: int = 0
    constants: int = 0
    data: int = 0
    """Variables that begin with a value: in flash, copied to RAM."""
    zeroed: int = 0

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def member_sizes(archive: Path) -> Sizes:
    """The sections of all objects in a static library, in total."""
    text, at, total = archive.read_bytes(), 8, Sizes()
    while at + 60 <= len(text):
        size = int(text[at + 48 : at + 58])
        member = text[at + 60 : at + 60 + size]
        if member[:4] == b"\x7fELF":
            total += _sizes(member)
        at += 60 + size + size % 2
    return total


def _sizes(elf: bytes) -> Sizes:
    wide, order = elf[4] == 2, "<" if elf[5] == 1 else ">"
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), elf, 40 if wide else 32)
    entry_bytes, entries = struct.unpack_from(order + "HH", elf, 58 if wide else 46)
    total = Sizes()
    for at in range(table, table + entries * entry_bytes, entry_bytes):
        kind, flags, _, _, size = struct.unpack_from(order + ("IQQQQ" if wide else "IIIII"), elf, at + 4)
        if not flags & _ALLOC:
            continue
        if kind == _NOBITS:
            total += Sizes(zeroed=size)
        elif flags & _WRITE:
            total += Sizes(data=size)
        else:
            total += Sizes(code=size) if flags & _EXECUTE else Sizes(constants=size)
    return total

"""What an ELF file says about itself: asked before `dlopen`, which crashes on some that it should refuse."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Elf", "read_elf"]

_MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_LOAD = 1


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

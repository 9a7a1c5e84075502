"""What ELF headers say: written here field by field, since no machine has compilers for all of these."""

import struct
from pathlib import Path

import pytest

from compactir.runtime.elf import Elf, read_elf


def elf(machine: int, wide: bool, order: str, *, size: int, segments: list[tuple[int, int, int]]) -> bytes:
    """A file of `size` bytes; `segments` are (kind, offset, bytes)."""
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    start, entry = (64, 56) if wide else (52, 32)
    head = struct.pack(order + "HHI", 3, machine, 1)
    head += struct.pack(order + ("QQQ" if wide else "III"), 0, start, 0)
    head += struct.pack(order + "IHHHHHH", 0, start, entry, len(segments), 0, 0, 0)
    table = b"".join(
        struct.pack(order + "IIQQQQQQ", kind, 5, offset, 0, 0, length, length, 4096)
        if wide
        else struct.pack(order + "IIIIIIII", kind, offset, 0, 0, length, length, 5, 4096)
        for kind, offset, length in segments
    )
    return (ident + head + table).ljust(size, b"\0")[:size]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("machine", "wide", "name"),
    [
        (62, True, "x86_64"),
        (183, True, "aarch64"),
        (40, False, "arm"),
        (3, False, "i686"),
        (8, False, "ELF machine 8"),
    ],
)
def test_headers(tmp_path: Path, machine: int, wide: bool, name: str, order: str) -> None:
    path = tmp_path / "lib.so"
    segments = [(1, 0, 300), (2, 0, 99_999), (1, 300, 200)]
    path.write_bytes(elf(machine, wide, order, size=500, segments=segments))
    assert read_elf(path) == Elf(name, True)
    path.write_bytes(elf(machine, wide, order, size=499, segments=segments))
    assert read_elf(path) == Elf(name, False)
    path.write_bytes(elf(machine, wide, order, size=100, segments=segments))
    assert read_elf(path) == Elf(name, False)
    path.write_bytes(elf(machine, wide, order, size=500, segments=[]))
    assert read_elf(path) == Elf(name, True)  # promises nothing; the loader refuses it by itself


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\xcf\xfa\xed\xfe" + bytes(100), b"MZ" + bytes(100)])
def test_what_is_no_elf(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_elf(tmp_path / "x") is None

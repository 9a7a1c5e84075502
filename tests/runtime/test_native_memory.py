"""Memory that the network works in: fresh, writable, in huge pages where the system grants them."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from compactir.runtime.native import _map

_SMAPS = Path("/proc/self/smaps")
_KNOWN = Path("/sys/kernel/mm/transparent_hugepage")


def _flags(address: int) -> list[str]:
    """What the system says of the mapping that holds an address: `hg` where huge pages were asked for."""
    here = False
    for line in _SMAPS.read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            here = start <= address < end
        elif here and first == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(f"no mapping holds {address:#x}")


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@pytest.mark.parametrize("size", [1, 4097, (2 << 20) - 1, 2 << 20, (5 << 20) + 12])
def test_fresh_memory_is_zero_and_can_be_written(size: int) -> None:
    memory = _map(-1, size)
    assert len(memory) == size
    assert memory[:] == bytes(size)
    memory[size - 1] = 7
    assert memory[size - 1] == 7


@pytest.mark.parametrize(("size", "huge"), [(1 << 20, False), (8 << 20, True)])
def test_huge_pages_are_asked_for_where_one_fits(size: int, huge: bool) -> None:
    memory = _map(-1, size)
    if _SMAPS.exists():
        assert ("hg" in _flags(_address(memory))) is (huge and _KNOWN.exists())

"""NumPy's archives (.npz): every member is checked against what it claims before its elements are read.

`numpy.load` believes the headers: a member may claim any size, and its header is parsed as Python. Here a
header that does not match the member's length is damage, and so is anything but plain numbers.
"""

from __future__ import annotations

import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.weights.stored import Stored

__all__ = ["read_npz"]

_LONGEST = 1 << 32
"""Bytes of all members together, unpacked."""
_RATIO = 1100
"""Deflate makes at most 1032 bytes of one: zlib.net/zlib_tech.html."""


def read_npz(path: Path) -> dict[str, Stored]:
    """All arrays of an archive.

    Raises:
        CompactError: CIR640 when it cannot be read, CIR642 when it is damaged or claims too much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(m.file_size for m in members) > _LONGEST:
                raise _damaged(path, f"it claims more than {_LONGEST:,} bytes")
            result = {}
            for member in members:
                with archive.open(member) as file:
                    result[member.filename.removesuffix(".npy")] = _array(file, member, path)
            return result
    except CompactError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise _damaged(path, str(error) or "it ends early") from error
    except OSError as error:
        raise CompactError(
            "CIR640", f"the weights file {path} cannot be read: {error.strerror}", help="correct the path"
        ) from error


def _array(file: IO[bytes], member: zipfile.ZipInfo, path: Path) -> Stored:
    """One member. Errors: CIR642."""
    name = member.filename
    if member.file_size > _RATIO * (member.compress_size + 1):
        raise _damaged(path, f"`{name}` claims {member.file_size:,} bytes, it has {member.compress_size:,}")
    shape, by_columns, dtype = _header(file, name, path)
    if dtype.hasobject or dtype.kind not in "fiub" or dtype.names:
        kind = "Python objects" if dtype.hasobject else str(dtype)
        raise _damaged(path, f"`{name}` holds {kind}, not plain numbers")
    size = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or max(shape, default=0) > _LONGEST or size > member.file_size:
        raise _damaged(path, f"`{name}` claims shape {list(shape)}, it has {member.file_size:,} bytes")
    data = file.read(size)
    if len(data) < size:
        raise _damaged(path, f"`{name}` ends early")
    array = np.frombuffer(data, dtype).reshape(shape[::-1] if by_columns else shape)
    return Stored(dtype.newbyteorder("=").name, array.T if by_columns else array)


def _header(file: IO[bytes], name: str, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether columns come first, type of the elements)."""
    try:
        version = np.lib.format.read_magic(file)
        read: Any = np.lib.format.read_array_header_1_0
        if version[0] > 1:
            read = np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
    except CompactError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # the parser of Python's literals has many kinds of errors, and more each year
        first = str(error).strip().partition("\n")[0]
        raise _damaged(path, f"`{name}` has no header of an array: {first[:120]}") from error
    return shape, by_columns, dtype


def _damaged(path: Path, problem: str) -> CompactError:
    return CompactError("CIR642", f"{path} is damaged: {problem}", help="copy it again, or save it again")

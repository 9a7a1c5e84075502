"""The safetensors format: a length, a JSON header, then the tensors' bytes. Nothing in it can be executed.

Read and written here rather than by the package of that name, which has no NumPy type for bfloat16 and
checks the header with less to say about what is wrong. Source: the format's description,
huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.files import put
from compactir.ir.types import Array
from compactir.weights.stored import Stored

__all__ = ["read_safetensors", "safetensors", "write_safetensors"]

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}
_METADATA = "__metadata__"
_LONGEST_HEADER = 100_000_000
_LONGEST_AXIS = 1 << 40
"""NumPy refuses [2**62, 1000, 0], although it has no elements."""


def read_safetensors(path: Path) -> dict[str, Stored]:
    """All tensors of a file, mapped, not copied.

    Raises:
        CompactError: CIR640 when it cannot be read, CIR642 when it is damaged.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise _damaged(path, f"its header would have {length:,} bytes, the file has {size:,}")
            header = _parse_header(file.read(length), path)
    except OSError as error:
        problem = f"the weights file {path} cannot be read: {error.strerror}"
        raise CompactError("CIR640", problem, help="correct the path") from error
    data: Array = np.memmap(path, np.uint8, "r", 8 + length) if size > 8 + length else np.empty(0, np.uint8)
    _check_cover(header, data.size, path)
    return {name: _tensor(name, entry, data, path) for name, entry in header.items()}


def write_safetensors(
    path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the file, all of it or nothing.

    Raises:
        CompactError: CIR652 when it cannot be written.
    """
    put(path, safetensors(arrays, metadata))


def safetensors(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The bytes of the file, array by array. The same arrays give the same bytes, in any order."""
    plain = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    plain = {name: a.astype(a.dtype.newbyteorder("<"), copy=False) for name, a in plain.items()}
    header: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name, array in plain.items():
        ends = [offset, offset + array.nbytes]
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(np.shape(arrays[name])),
            "data_offsets": ends,
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from (array.tobytes() for array in plain.values())


def _parse_header(text: bytes, path: Path) -> dict[str, dict[str, Any]]:
    """Name → {dtype, shape, data_offsets}, each of the right kind."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError("a name occurs twice")
        return result

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop(_METADATA, None)
    for name, entry in header.items():
        if not _is_entry(entry):
            raise _damaged(path, f"the entry of `{name}` is malformed")
    return header


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    return all(type(n) is int and n >= 0 for n in [*shape, *offsets])


def _check_cover(header: Mapping[str, dict[str, Any]], size: int, path: Path) -> None:
    """The tensors follow each other and fill the file: none shares bytes with another, no byte hides."""
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        if first != at or last < first:
            raise _damaged(path, f"`{name}` lies at bytes {first}…{last}, it should begin at {at}")
        at = last
    if at != size:
        what = "is truncated" if size < at else "has bytes that belong to no tensor"
        raise _damaged(path, f"it {what}: {size:,} bytes of tensors instead of {at:,}")


def _tensor(name: str, entry: dict[str, Any], data: Array, path: Path) -> Stored:
    kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    raw = data[first:last]
    if kind not in _TYPES:  # 8-bit floats and what comes after them: named, and refused by who wants floats
        return Stored(kind.lower(), raw)
    dtype = np.dtype(_TYPES[kind])
    if raw.size != prod(shape) * dtype.itemsize or max(shape, default=0) > _LONGEST_AXIS:
        raise _damaged(path, f"`{name}` has {raw.size} bytes, {kind} of shape {list(shape)} needs others")
    array = np.frombuffer(raw.data, dtype).reshape(shape)
    if kind == "BF16":
        return Stored("bfloat16", (array.astype("<u4") << 16).view("<f4"))
    return Stored(dtype.name, array)


def _damaged(path: Path, problem: str) -> CompactError:
    return CompactError("CIR642", f"{path} is damaged: {problem}", help="copy it again, or save it again")

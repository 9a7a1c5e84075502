"""NAME.weights: the packed weights of one compiled network, mapped into memory and used in place.

    offset  size  field
    0       4     magic "CIRW"
    4       4     format version, 1
    8       4     0x01020304 as the target stores it
    12      4     size of this header, 64
    16      8     size of the payload
    24      16    content id of the plan and code that the payload was packed for
    40      24    zeros
    64      …     payload: floats as the kernels want them

The generated NAME_bind checks the header against what was compiled in.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.types import Array

__all__ = ["HEADER_BYTES", "Header", "pack", "read_container"]

MAGIC = b"CIRW"
FORMAT = 1
ENDIAN_MARK = 0x01020304
HEADER_BYTES = 64
_FIELDS = "4sIIIQ16s"


@dataclass(frozen=True)
class Header:
    """What stands before the payload."""

    payload_bytes: int
    content_id: bytes
    big_endian: bool = False

    def to_bytes(self) -> bytes:
        """The 64 bytes."""
        if len(self.content_id) != 16:
            raise ValueError(f"a content id has 16 bytes, not {len(self.content_id)}")
        order = ">" if self.big_endian else "<"
        fields = (MAGIC, FORMAT, ENDIAN_MARK, HEADER_BYTES, self.payload_bytes, self.content_id)
        return struct.pack(order + _FIELDS, *fields).ljust(HEADER_BYTES, b"\0")


def pack(payload: Array, content_id: bytes) -> bytes:
    """The whole container in memory; `payload` is 1-d and C-contiguous, in the byte order of the target."""
    return _header(payload, content_id).to_bytes() + payload.tobytes()


def read_container(path: Path, content_id: bytes | None = None) -> tuple[Header, Array]:
    """Check a file and map its payload (float32, read-only).

    Args:
        path: the file.
        content_id: what it has to be packed for; None takes any.

    Raises:
        CompactError: CIR617 when it cannot be read, CIR618 when it is truncated or too long, CIR619 when it
            is not ours or packed for something else, CIR613 when its format is newer.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _parse(file.read(HEADER_BYTES), path)
    except OSError as error:
        problem = f"the weights file {path} cannot be read: {error.strerror}"
        raise CompactError(
            "CIR617", problem, help="give the file that was written beside the library"
        ) from error
    wanted = HEADER_BYTES + header.payload_bytes
    if size != wanted:
        what = "truncated" if size < wanted else "too long"
        problem = f"{path} is {what}: it has {size:,} bytes instead of {wanted:,}"
        raise CompactError("CIR618", problem, help="copy it again, or compile the network again")
    if content_id is not None and header.content_id != content_id:
        raise CompactError(
            "CIR619",
            f"{path} was packed for another network or another target",
            notes=[f"wanted {content_id.hex()}, found {header.content_id.hex()}"],
            help="packed weights belong to one library: copy both from the same output folder",
        )
    dtype = np.dtype(">f4" if header.big_endian else "<f4")
    if not header.payload_bytes:
        return header, np.empty(0, dtype)
    return header, np.memmap(path, dtype, "r", HEADER_BYTES, (header.payload_bytes // 4,))


def _header(payload: Array, content_id: bytes) -> Header:
    return Header(payload.nbytes, content_id, payload.dtype.str.startswith(">"))


def _parse(data: bytes, path: Path) -> Header:
    """The header in the first bytes of a file."""
    if data[:4] != MAGIC:
        problem = f"{path} does not begin like packed weights"
        raise CompactError(
            "CIR619",
            problem,
            notes=[f"its first bytes are {data[:4]!r}, not {MAGIC!r}"],
            help="packed weights are called NAME.weights; safetensors files go to `compactc --weights`",
        )
    if len(data) < HEADER_BYTES:
        problem = f"{path} is truncated: it has {len(data)} bytes, its header alone has {HEADER_BYTES}"
        raise CompactError("CIR618", problem, help="copy it again, or compile the network again")
    big = struct.unpack_from(">I", data, 8)[0] == ENDIAN_MARK
    _, version, mark, header_bytes, payload_bytes, content_id = struct.unpack_from(
        (">" if big else "<") + _FIELDS, data
    )
    if version > FORMAT:
        problem = f"{path} has format {version}, this compactir reads up to {FORMAT}"
        raise CompactError(
            "CIR613", problem, help="update compactir, or compile the network again with this version"
        )
    if mark != ENDIAN_MARK or header_bytes != HEADER_BYTES or version < 1 or payload_bytes % 4:
        raise CompactError(
            "CIR619", f"{path} has a damaged header", help="copy it again, or compile the network again"
        )
    return Header(payload_bytes, content_id, big)

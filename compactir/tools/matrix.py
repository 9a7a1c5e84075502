"""Connection matrices as pictures, as the papers draw them: rows are outputs, columns are inputs."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

from compactir.ir.connectivity import Connectivity, Kernel
from compactir.ir.types import Array

Bytes = npt.NDArray[np.uint8]

LARGEST = 192
"""Pixels per side: larger matrices are scaled down, a pixel is set where any of its connections is."""
PALETTE = (
    (255, 255, 255),
    (31, 78, 140),
    (200, 80, 20),
    (40, 130, 60),
    (130, 60, 150),
    (170, 140, 20),
    (20, 140, 150),
    (90, 90, 90),
)
"""Color 0 is no connection; the others are kernel sizes, in the order of `kernels`."""


def kernels(connect: Connectivity) -> list[Kernel]:
    """The kernel sizes of a convolution, smallest first."""
    return sorted({family.kernel for family in connect.families})


def labels(connect: Connectivity, mask: Array | None = None) -> Bytes:
    """(O, I): 0 where output o does not read input i, else 1 + the number of its kernel size.

    Args:
        connect: what reads what.
        mask: (O, ins of a group, ...) of a masked convolution: where it is zero there is no connection.
    """
    sizes = {kernel: k + 1 for k, kernel in enumerate(kernels(connect))}
    picture: Bytes = np.zeros((connect.out_channels, connect.in_channels), np.uint8)
    for family in connect.families:
        for block in family.blocks():
            rows, columns = block.outputs.array, block.inputs.array
            picture[np.ix_(rows, columns)] = sizes[block.kernel]
    if mask is not None and connect.is_dense:
        picture[~np.asarray(mask).reshape(*picture.shape, -1).any(axis=2)] = 0
    return picture


def shrunk(picture: Bytes, largest: int = LARGEST) -> Bytes:
    """The picture with at most `largest` pixels per side; of merged pixels the highest label stays."""
    step = max(-(-extent // largest) for extent in picture.shape) if picture.size else 1
    if step <= 1:
        return picture
    rows, columns = (-(-extent // step) * step for extent in picture.shape)
    padded = np.zeros((rows, columns), np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    smaller: Bytes = padded.reshape(rows // step, step, columns // step, step).max(axis=(1, 3))
    return smaller


def png(picture: Bytes) -> bytes:
    """A palette PNG of labels; the same bytes for the same picture."""
    height, width = picture.shape
    capped = np.where(picture < len(PALETTE), picture, len(PALETTE) - 1).astype(np.uint8)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), capped], axis=1)  # filter 0 before each row
    palette = b"".join(bytes(color) for color in PALETTE)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def data_url(picture: Bytes) -> str:
    """The PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

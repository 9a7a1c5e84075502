"""Weights as the kernels want them: one array, panels and blocks aligned, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compactir.ir.types import Array

ALIGN = 16
"""Floats: one cache line of 64 bytes, also the widest vector."""


class Packer:
    """Collects packed pieces; each starts on a cache line."""

    def __init__(self) -> None:
        self.pieces: list[Array] = []
        self.size = 0

    def add(self, array: Array) -> int:
        """Append, and say at which float it starts."""
        start = self.size
        flat = np.ascontiguousarray(array, np.float32).reshape(-1)
        padded = np.zeros(-(-flat.size // ALIGN) * ALIGN, np.float32)
        padded[: flat.size] = flat
        self.pieces.append(padded)
        self.size += padded.size
        return start

    def blob(self) -> Array:
        """Everything."""
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.float32)


def panel(weights: Array, bias: Array, rows: Sequence[int], half: int = 0) -> Array:
    """One panel: the bias of its lanes, then for every tap and input one row of lanes.

    Args:
        weights: (O, K, kh, kw) over the physical inputs of the panel.
        bias: (O).
        rows: the output channel of every lane, −1 for lanes that nobody reads (they compute zero).
        half: 0, or the number of vectors of the panel: the lower half of the last one stands in its upper
            half too.
    """
    lanes = np.array(rows)
    if half:
        lanes[-(len(lanes) // half // 2) :] = lanes[-(len(lanes) // half) :][: len(lanes) // half // 2]
    live = lanes >= 0
    index = np.where(live, lanes, 0)
    body = weights[index].transpose(2, 3, 1, 0)  # kh, kw, K, lanes
    body = body if live.all() else np.where(live, body, np.float32(0))
    return np.concatenate([np.where(live, bias[index], np.float32(0)), body.reshape(-1)])


def filters(weights: Array, bias: Array, rows: Sequence[int]) -> Array:
    """One depthwise block: the bias of its lanes, then one row of lanes per tap; weights (C, kh, kw)."""
    live = np.asarray(rows) >= 0
    index = np.where(live, rows, 0)
    body = np.where(live, weights[index].transpose(1, 2, 0), np.float32(0))
    return np.concatenate([np.where(live, bias[index], np.float32(0)), body.reshape(-1)])

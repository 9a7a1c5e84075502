"""Convolutions in narrow groups, lane by lane: vectors of inputs are permuted instead of broadcast.

A panel multiplies every input with whole vectors of outputs; where a block of outputs spans several groups
most of these products are zeros. Here every lane picks an input of its own: of a block of inputs, term t
gives each output the t-th input that it needs. A term costs one permutation per input vector, which the
taps of a window share. Where the upper half of a block is dead it carries every other term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from compactir.codegen.lower import tiles
from compactir.codegen.lower.state import natural
from compactir.ir.types import Array
from compactir.targets import Target

if TYPE_CHECKING:
    from compactir.codegen.lower.convolution import Operands
    from compactir.codegen.lower.state import Lowering
    from compactir.ir.graph import Value
    from compactir.ir.plan import Buffer

PERMUTING = ("avx2", "avx512")
"""Where any lane reaches any other in one instruction."""
_NEARER = 0.9
"""What the estimate has to be below, as a share of the others': estimates are no better than that."""
DENSE = 0.75
"""The share of links from which on a block of outputs is as good as dense."""
Lane = tuple[int, int]
"""A lane of a block, and the number of the input that lies there; −1 where a weight is zero."""


@dataclass(frozen=True)
class Term:
    """For every lane of an output block, the lane of the block at `head` that it reads, and which input."""

    head: tuple[str, int]
    picks: tuple[Lane, ...]


def gathered(
    state: Lowering, x: Value
) -> tuple[list[tuple[str, int]], list[list[int]], tuple[tuple[int, ...], ...], tuple[int, ...]] | None:
    """Repeated channels in as few blocks as hold them: blocks of x, their channels, `sources` and `uses`.

    A gather repeats channels. Where lanes stay in place, a block with four copies of one channel takes four
    layers; where they can be moved, its channels fill one block after the other. None where it saves nothing.
    """
    m, size = state.blocked(x), state.lanes
    if state.target.isa not in PERMUTING:
        return None
    found: dict[tuple[str, int], list[int]] = {}
    for channel, (buffer, position) in enumerate(m.places):
        found.setdefault((buffer, position // size), []).append(channel)
    rows = [(head, row) for head, held in found.items() for row in natural(len(held), size)]
    if len(rows) >= len(state.layers(m)[0]):
        return None
    channels = [[found[head][i] if i >= 0 else -1 for i in row] for head, row in rows]
    # A dead lane reads what a live one does.
    picks = [tuple(m.places[c if c >= 0 else row[0]][1] % size for c in row) for row in channels]
    kinds = tuple(sorted(set(picks)))
    return [head for head, _ in rows], channels, kinds, tuple(map(kinds.index, picks))


def terms(
    places: Sequence[tuple[str, int]], lanes: Sequence[int], reads: Array, size: int
) -> tuple[list[Term], bool]:
    """The terms of an output block, and whether its upper half carries every other one.

    Args:
        places: where the inputs lie.
        lanes: the channel of every lane, −1 where it is dead.
        reads: (outputs, inputs), what depends on what.
        size: lanes of a block.
    """
    half = max(lanes[size // 2 :]) < 0
    blocks: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for number, (buffer, offset) in enumerate(places):
        blocks.setdefault((buffer, offset - offset % size), []).append((offset % size, number))
    found = []
    for head, held in blocks.items():
        wanted = [[pick for pick in held if c >= 0 and reads[c, pick[1]]] for c in lanes]
        if half:
            wanted = [wanted[i % (size // 2)][i // (size // 2) :: 2] for i in range(size)]
        for t in range(max(map(len, wanted))):
            some = next(w[t] for w in wanted if len(w) > t)
            found.append(Term(head, tuple(w[t] if len(w) > t else (some[0], -1) for w in wanted)))
    return found, half


def tile_of(target: Target, width: int) -> int:
    """Pixels at once: the filters of a row of taps, a vector of inputs and where it goes stay beside them."""
    most = {32: 14, 16: 8}.get(target.registers, 4)
    return tiles.split(width, min(most, width))[0][0]


def suits(state: Lowering, run: Operands, source: Buffer, buffer: Buffer, columns: int) -> bool:
    """Whether there is such a kernel: windows of so many columns, that share what they permute."""
    inside = source.region == buffer.region == "arena" and source.lanes == state.lanes
    held = run.node.out.name in state.fused or bool(state.held.get(run.x, 0))
    shared = run.stride[1] < columns and not run.distance
    return state.target.isa in PERMUTING and inside and shared and not held


def cycles(target: Target, window: tuple[int, int], stride: int, out: tuple[int, int], count: int) -> float:
    """Of `count` terms, all blocks together: what is scarcer, multipliers or permutations."""
    tile = tile_of(target, out[1])
    columns = (tile - 1) * stride + window[1]
    row = max(tile * window[1] / target.fma_per_cycle, columns) + window[1] / target.loads_per_cycle
    return prod(out) / tile * count * (window[0] * row + 4)


def packed(weights: Array, bias: Array, lanes: Sequence[int], found: Sequence[Term], half: bool) -> Array:
    """One block: the bias of its lanes, then for every term and tap one vector; weights (O, K, kh, kw)."""
    size = len(lanes)
    channels = [lanes[i % (size // 2)] if half else lanes[i] for i in range(size)]
    pieces = [np.array([bias[c] if c >= 0 else 0 for c in lanes], np.float32)]
    for term in found:
        body = np.zeros((*weights.shape[2:], size), np.float32)
        for lane, (channel, (_, number)) in enumerate(zip(channels, term.picks, strict=True)):
            if number >= 0:
                body[..., lane] = weights[channel, number]
        pieces.append(body.reshape(-1))
    return np.concatenate(pieces)


def is_nearer(own: float, others: float) -> bool:
    """Whether it is worth it."""
    return own < _NEARER * others

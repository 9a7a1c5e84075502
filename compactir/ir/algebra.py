"""Rewrites of a convolution's blocks that carry its weights along: restrict, normal form, product, cost.

Each takes a connectivity with one weight array per family and returns both anew; without weights (`None`) the
result's are zeros, for callers who ask for the blocks only. What a rewrite must keep is said by
`Connectivity.to_dense`: the dense weight before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Block, Connectivity, Family, Kernel, Pad
from compactir.ir.types import Array

Weighted = tuple[Connectivity, list[Array]]
_POINT: tuple[Kernel, Pad] = ((1, 1), (0, 0, 0, 0))


@dataclass(frozen=True)
class Piece:
    """One block and its weight (outs, ins, kh, kw)."""

    block: Block
    weight: Array


@dataclass(frozen=True)
class Cost:
    """What a convolution costs: `macs` that its links need, `executed` with lanes filled up by zeros."""

    macs: int
    executed: int
    weights: int
    channels_read: int
    channels_written: int


def pieces(connect: Connectivity, weights: Sequence[Array] | None = None) -> list[Piece]:
    """The blocks one by one, each with its slice of the weights."""
    if weights is None:
        weights = [np.broadcast_to(np.float32(0), shape) for shape in connect.weight_shapes]
    return [
        Piece(block, part)
        for family, weight in zip(connect.families, weights, strict=True)
        for block, part in zip(
            family.blocks(), weight.reshape(family.count, family.outs, *weight.shape[1:]), strict=True
        )
    ]


def join(ins: int, outs: int, parts: Iterable[Piece]) -> Weighted:
    """A convolution of these blocks: neighbours of equal shape form a family, empty ones fall out."""
    linked = [p for p in parts if p.weight.size]
    families, weights = [], []
    for (_, kernel, pad), group in groupby(linked, _shape):
        same = list(group)
        inputs = ChannelList.joined(p.block.inputs for p in same)
        outputs = ChannelList.joined(p.block.outputs for p in same)
        families.append(Family(len(same), inputs, outputs, kernel, pad))
        weights.append(np.concatenate([p.weight for p in same]) if len(same) > 1 else same[0].weight)
    return Connectivity(ins, outs, tuple(families)), weights


def restrict(
    connect: Connectivity, inputs: ChannelList, outputs: ChannelList, weights: Sequence[Array] | None = None
) -> Weighted:
    """The convolution that reads only these input channels and makes only these outputs, numbered as listed.

    Links to input channels that are not listed are dropped: right where those are zero. An output that loses
    all its links is left to its bias. Both lists must be distinct: CIR302.
    """
    for channels in (inputs, outputs):
        if not channels.is_distinct:
            raise CompactError("CIR302", f"the kept channels [{channels}] repeat one")
    place_in, place_out = _places(inputs, connect.in_channels), _places(outputs, connect.out_channels)
    kept = []
    for piece in pieces(connect, weights):
        columns, rows = place_in[piece.block.inputs.array], place_out[piece.block.outputs.array]
        block = replace(
            piece.block, inputs=ChannelList.of(columns[columns >= 0]), outputs=ChannelList.of(rows[rows >= 0])
        )
        kept.append(Piece(block, piece.weight[rows >= 0][:, columns >= 0]))
    return join(len(inputs), len(outputs), kept)


def normal(connect: Connectivity, weights: Sequence[Array] | None = None) -> Weighted:
    """The normal form: what links the same channels by the same kernels prints the same.

    Within a block channels ascend and occur once (repeated inputs add up); outputs of equal inputs and kernel
    share a block; blocks of equal shape share a family; families and blocks stand in the order of their first
    outputs.
    """
    rows: dict[tuple[bytes, Kernel, Pad], list[Piece]] = {}
    for piece in map(_sorted_inputs, pieces(connect, weights)):
        key = (piece.block.inputs.array.tobytes(), piece.block.kernel, piece.block.pad)
        rows.setdefault(key, []).append(piece)
    blocks = sorted(map(_sorted_outputs, rows.values()), key=_first_output)
    shapes: dict[object, list[Piece]] = {}
    for piece in blocks:
        shapes.setdefault(_shape(piece), []).append(piece)
    return join(
        connect.in_channels, connect.out_channels, (piece for same in shapes.values() for piece in same)
    )


def product(
    first: Connectivity,
    second: Connectivity,
    first_weights: Sequence[Array] | None = None,
    second_weights: Sequence[Array] | None = None,
) -> Weighted:
    """The one convolution that does `first`, then `second`, in normal form: W = W₂ W₁.

    Each must have one kernel and padding for all its blocks, and nothing may lie between them at the border:
    along each axis the first is of size 1 without padding, or the second is not padded (CIR303). Stride,
    dilation and the bias between are the caller's to judge: a bias in front of a padded kernel does not pass.
    Outputs that read only outputs of `first` without links are left to their bias.
    """
    if first.out_channels != second.in_channels:
        raise CompactError(
            "CIR303", f"{first.out_channels} outputs do not meet {second.in_channels} input channels"
        )
    shape = product_shape(first, second)
    if shape is None:
        raise CompactError("CIR303", "these two have no product: at the border they see different zeros")
    result = Connectivity.from_mask(product_mask(first, second), *shape)
    if first_weights is None or second_weights is None:
        return normal(result)
    a, b = first.to_dense(first_weights)[0], second.to_dense(second_weights)[0]
    dense = np.zeros((len(b), a.shape[1], *shape[0]), np.result_type(a, b))
    for y, x in np.ndindex(b.shape[2:]):
        dense[:, :, y : y + a.shape[2], x : x + a.shape[3]] += np.tensordot(b[:, :, y, x], a, 1)
    return normal(result, result.from_dense(dense))


def product_shape(first: Connectivity, second: Connectivity) -> tuple[Kernel, Pad] | None:
    """Kernel and padding of the product of two convolutions; None where they have none (see `product`)."""
    kinds = [{(f.kernel, f.pad) for f in c.families} or {_POINT} for c in (first, second)]
    if any(len(each) > 1 for each in kinds):
        return None
    [(ka, pa)], [(kb, pb)] = kinds
    for axis in (0, 1):
        if (ka[axis], pa[axis], pa[axis + 2]) != (1, 0, 0) and (pb[axis], pb[axis + 2]) != (0, 0):
            return None
    top, left, bottom, right = (a + b for a, b in zip(pa, pb, strict=True))
    return (ka[0] + kb[0] - 1, ka[1] + kb[1] - 1), (top, left, bottom, right)


def product_mask(first: Connectivity, second: Connectivity) -> Array:
    """(O, I), bool: which outputs of `second` depend on which inputs of `first`."""
    mask: Array = second.mask.astype(np.float32) @ first.mask.astype(np.float32) > 0
    return mask


def cost(connect: Connectivity, pixels: int, lanes: int = 1) -> Cost:
    """The cost for so many output pixels on vectors of `lanes` output channels: a last vector runs full."""
    links = [(f.count * f.ins * f.kernel[0] * f.kernel[1], f.outs) for f in connect.families]
    read = ChannelList.joined(f.inputs for f in connect.families)
    return Cost(
        macs=pixels * sum(per_row * outs for per_row, outs in links),
        executed=pixels * sum(per_row * -(-outs // lanes) * lanes for per_row, outs in links),
        weights=connect.weights,
        channels_read=len(np.unique(read.array)),
        channels_written=connect.out_channels,
    )


def _places(kept: ChannelList, channels: int) -> Array:
    """Where each of all channels stands in the list, −1 where it does not."""
    if kept.top >= channels:
        raise CompactError("CIR302", f"channel {kept.top} does not exist, there are {channels}")
    places = np.full(channels, -1, np.int64)
    places[kept.array] = np.arange(len(kept))
    return places


def _sorted_inputs(piece: Piece) -> Piece:
    channels = piece.block.inputs.array
    distinct, where = np.unique(channels, return_inverse=True)
    if np.array_equal(distinct, channels):
        return piece
    weight = np.zeros((piece.weight.shape[0], len(distinct), *piece.weight.shape[2:]), piece.weight.dtype)
    for column, place in enumerate(where.tolist()):
        weight[:, place] += piece.weight[:, column]
    return Piece(replace(piece.block, inputs=ChannelList.of(distinct)), weight)


def _sorted_outputs(same: Sequence[Piece]) -> Piece:
    """One block of all that have the same inputs and kernel."""
    outputs = np.concatenate([p.block.outputs.array for p in same])
    order = np.argsort(outputs, kind="stable")
    if len(same) == 1 and np.array_equal(order, np.arange(len(order))):
        return same[0]
    weight = np.concatenate([p.weight for p in same])[order]
    return Piece(replace(same[0].block, outputs=ChannelList.of(outputs[order])), weight)


def _first_output(piece: Piece) -> int:
    return piece.block.outputs[0] if len(piece.block.outputs) else -1


def _shape(piece: Piece) -> tuple[tuple[int, ...], Kernel, Pad]:
    return piece.weight.shape, piece.block.kernel, piece.block.pad

"""Rewrites of a connectivity together with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Block, Connectivity, Family
from compactir.ir.types import Array

Weighted = tuple[Block, Array]


def sorted_blocks(
    connect: Connectivity, weights: Sequence[Array], mask: Array | None = None
) -> tuple[Connectivity, list[Array], Array | None]:
    """The same convolution with ascending inputs and outputs inside every block, and blocks by first output.

    Inside a block the order of channels is free: it permutes rows and columns of the weight. `mask`, where
    given, goes with the weight of the only family.
    """
    done = [
        _sorted(f, [w] if mask is None else [w, mask]) for f, w in zip(connect.families, weights, strict=True)
    ]
    done.sort(key=lambda item: item[0].outputs[0])
    families = tuple(family for family, _ in done)
    masks = [arrays[1] for _, arrays in done] if mask is not None else [None]
    return replace(connect, families=families), [arrays[0] for _, arrays in done], masks[0]


def _sorted(family: Family, arrays: Sequence[Array]) -> tuple[Family, list[Array]]:
    ins = family.inputs.array.reshape(family.count, -1)
    outs = family.outputs.array.reshape(family.count, -1)
    columns, rows = np.argsort(ins, axis=1, kind="stable"), np.argsort(outs, axis=1, kind="stable")
    ins, outs = np.take_along_axis(ins, columns, 1), np.take_along_axis(outs, rows, 1)
    blocks = np.argsort(outs[:, 0], kind="stable")
    first = np.arange(family.count)[:, None, None]
    moved = [
        array.reshape(family.count, family.outs, *array.shape[1:])[
            first, rows[:, :, None], columns[:, None, :]
        ]
        if family.ins
        else array.reshape(family.count, family.outs, *array.shape[1:])
        for array in arrays
    ]
    lists = ChannelList.of(ins[blocks].reshape(-1)), ChannelList.of(outs[blocks].reshape(-1))
    new = replace(family, inputs=lists[0], outputs=lists[1])
    return new, [m[blocks].reshape(a.shape) for m, a in zip(moved, arrays, strict=True)]


def gathered(
    connect: Connectivity, blocks: Sequence[tuple[Block, Array]]
) -> tuple[Connectivity, list[Array]]:
    """A connectivity of these blocks, equal shapes in one family, in order of their first outputs."""
    shapes: dict[tuple[int, ...], list[Weighted]] = {}
    for block, weight in sorted(blocks, key=lambda item: item[0].outputs[0]):
        shapes.setdefault((*weight.shape, *block.pad), []).append((block, weight))
    families = tuple(
        Family(
            len(members),
            ChannelList.joined(b.inputs for b, _ in members),
            ChannelList.joined(b.outputs for b, _ in members),
            members[0][0].kernel,
            members[0][0].pad,
        )
        for members in shapes.values()
    )
    weights = [np.concatenate([w for _, w in members]) for members in shapes.values()]
    return Connectivity(connect.in_channels, connect.out_channels, families), weights


def joined_rows(blocks: Sequence[Weighted]) -> list[Weighted]:
    """Blocks that read the same inputs through the same kernel become one, rows side by side."""
    alike: dict[tuple[object, ...], list[Weighted]] = {}
    for block, weight in blocks:
        alike.setdefault((block.inputs, block.kernel, block.pad), []).append((block, weight))
    return [
        (replace(same[0][0], outputs=ChannelList.joined(b.outputs for b, _ in same)), _stacked(same))
        for same in alike.values()
    ]


def _stacked(blocks: Sequence[Weighted]) -> Array:
    return np.concatenate([weight for _, weight in blocks])

"""Seeded legal masks that stand in for trained ones: `learned`, `condensed`, `balanced`, `pruned`.

A mask is declared by a text such as `condensed(4, 4)`, which the operation keeps as `Masked.init`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

import numpy as np

from compactir.ir.types import Array

__all__ = ["density", "draw_mask", "is_mask"]

Uniform = Callable[[tuple[int, ...], str], Array]
"""Numbers of (−1, 1), the same for the same shape and key."""


def is_mask(init: str) -> bool:
    """Whether this text declares a mask."""
    return init.partition("(")[0] in _RULES


def draw_mask(init: str, shape: tuple[int, ...], key: str, seed: int, uniform: Uniform) -> Array:
    """A mask of zeros and ones, float32.

    Args:
        init: its declaration.
        shape: (O, I, 1, 1), or that of the weight for a mask of single weights.
        key: the parameter's name.
        seed: of all draws.
        uniform: where numbers come from.
    """
    kind, numbers = _read(init)
    mask = _RULES[kind](shape, numbers, lambda shape, what: uniform(shape, f"{seed}:{what or key}"), key)
    return np.broadcast_to(mask.astype(np.float32).reshape(*mask.shape, *[1] * (4 - mask.ndim)), shape).copy()


def density(init: str, shape: tuple[int, ...]) -> float:
    """The share of connections that a mask keeps (1 for what is no mask)."""
    if not is_mask(init):
        return 1.0
    kind, numbers = _read(init)
    if kind == "learned":
        return 1 / min(numbers[0], *shape[:2])
    if kind == "pruned":
        return (numbers[1] or shape[1]) / shape[1]  # of the inputs of an output that is left
    return 1 / numbers[1] if kind == "condensed" else numbers[0] / numbers[1]


def _read(init: str) -> tuple[str, list[int]]:
    return init.partition("(")[0], [int(n) for n in re.findall(r"\d+", init)]


Draw = Callable[[tuple[int, ...], str], Array]


def _learned(shape: tuple[int, ...], numbers: list[int], draw: Draw, key: str) -> Array:
    """Links between inputs and outputs of equal groups; groups are of nearly equal size, at random places."""
    outputs, inputs = shape[:2]
    groups = min(numbers[0], outputs, inputs)
    chosen = [
        np.argsort(draw((n,), f"{key}:{side}"), kind="stable") % groups
        for side, n in (("outputs", outputs), ("inputs", inputs))
    ]
    return np.array(chosen[0][:, None] == chosen[1])


def _condensed(shape: tuple[int, ...], numbers: list[int], draw: Draw, key: str) -> Array:
    """Output o belongs to group o mod G; each group reads 1 / C of the inputs, at random."""
    (outputs, inputs), (groups, condense) = shape[:2], numbers
    rank = np.argsort(np.argsort(draw((groups, inputs), key), axis=1, kind="stable"), axis=1)
    return np.array((rank < inputs // condense)[np.arange(outputs) % groups])


def _balanced(shape: tuple[int, ...], numbers: list[int], draw: Draw, key: str) -> Array:
    """In each run of so many weights of a row as many are left."""
    keep, of = numbers
    rank = np.argsort(np.argsort(draw((prod(shape) // of, of), key), axis=1, kind="stable"), axis=1)
    return np.array(rank < keep).reshape(shape)


def _pruned(shape: tuple[int, ...], numbers: list[int], draw: Draw, key: str) -> Array:
    """As many outputs and inputs are left; equal counts mean equal channels, wherever they occur."""
    kept = []
    for channels, count in zip(shape[:2], numbers, strict=True):
        order = np.argsort(draw((channels,), f"{count or channels} of {channels} channels"), kind="stable")
        kept.append(np.isin(np.arange(channels), order[: count or channels]))
    return np.array(kept[0][:, None] & kept[1])


_RULES: dict[str, Callable[[tuple[int, ...], list[int], Draw, str], Array]] = {
    "learned": _learned,
    "condensed": _condensed,
    "balanced": _balanced,
    "pruned": _pruned,
}

"""Loops whose loads stand beside multiply-adds: each of these finds the right numbers in its registers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from compactir.codegen.c.beside import beside
from compactir.codegen.lower.tiles import weight_registers
from tests.loops import LANES, STEP, WORDS, Products, expected, play


def run(pixels: range, vectors: int, skip: str = "") -> Products:
    """The loop, without the lines that read `skip`."""
    before, body = beside(pixels, vectors, LANES, STEP)
    starts = [{"wk": word, "xi": word, "wn": word + 1, "xn": word + 1} for word in range(WORDS)]
    lines = [(line, starts[0]) for line in before] + [(line, at) for at in starts for line in body]
    return play((line, at) for line, at in lines if line != skip)


@pytest.mark.parametrize("vectors", range(1, 15))
@pytest.mark.parametrize("pixels", [range(1), range(2), range(1, 4), range(4), range(2, 9), range(9)])
def test_every_multiply_add_has_its_numbers(pixels: range, vectors: int) -> None:
    assert run(pixels, vectors) == expected(pixels, vectors)


def test_a_load_that_is_left_out_is_noticed() -> None:
    pixels, vectors = range(9), 2
    _, body = beside(pixels, vectors, LANES, STEP)
    for line in body:
        if not line.startswith("V_MULTIPLY"):
            assert run(pixels, vectors, skip=line) != expected(pixels, vectors), line


@pytest.mark.parametrize(("pixels", "vectors"), [(9, 2), (8, 2), (7, 3), (4, 5)])
def test_loads_stand_alone_and_are_early(pixels: int, vectors: int) -> None:
    """Never two of them in a row but at the end; four registers per vector and pair is the most."""
    _, body = beside(range(pixels), vectors, LANES, STEP)
    loads = [line.startswith(("V_LOW", "V_HIGH")) for line in body]
    assert sum(a and b for a, b in pairwise(loads)) <= 3
    assert weight_registers(pixels, vectors) == vectors

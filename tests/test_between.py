"""Loops whose numbers come by way of integer registers: each multiply-add finds the right ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from compactir.codegen.c.between import between
from compactir.codegen.lower.tiles import waiting
from tests.loops import LANES, STEP, WORDS, Products, expected, play

ON = ["V_STEP(xi, sx);"]


def run(pixels: range, vectors: int, skip: str = "") -> Products:
    """The loop, without the lines that read `skip`."""
    before, body = between(pixels, vectors, LANES, STEP, ON)
    at = {"wk": 0, "xi": 0}

    def lines() -> Iterator[tuple[str, dict[str, int]]]:
        for line in before + body * WORDS:
            if line == skip:
                continue
            if line.startswith("V_STEP"):
                at[line.partition("(")[2].partition(",")[0]] += 1
            yield line, at

    return play(lines())


@pytest.mark.parametrize("vectors", range(1, 9))
@pytest.mark.parametrize("pixels", [range(3), range(1, 4), range(4), range(2, 9), range(9), range(14)])
def test_every_multiply_add_has_its_numbers(pixels: range, vectors: int) -> None:
    assert run(pixels, vectors) == expected(pixels, vectors)


@pytest.mark.parametrize(("pixels", "vectors"), [(7, 3), (9, 2)])
def test_a_load_that_is_left_out_is_noticed(pixels: int, vectors: int) -> None:
    _, body = between(range(pixels), vectors, LANES, STEP, ON)
    for line in body:
        if not line.startswith("V_MULTIPLY"):
            assert run(range(pixels), vectors, skip=line) != expected(range(pixels), vectors), line


@pytest.mark.parametrize(("pixels", "vectors"), [(7, 3), (9, 2), (6, 3), (14, 1)])
def test_moves_start_by_twos(pixels: int, vectors: int) -> None:
    """A vector load or two moves take a cycle from the multiply-adds: at most 3 of them are spent in vain."""
    _, body = between(range(pixels), vectors, LANES, STEP, ON)
    text = "".join("m" if line.startswith(("V_JOIN", "V_MOVE")) else "." for line in body)
    cycles = sum((len(run) + 1) // 2 for run in re.findall("m+", text))
    assert cycles <= text.count("m") // 2 + 3
    assert 4 * vectors % waiting(vectors) == 0


def test_statements_of_the_caller_are_there_once() -> None:
    _, body = between(range(7), 3, LANES, STEP, ["V_AT(xi, xk, xo);"], ["V_FETCH(wk, 100);"])
    assert body.count("V_AT(xi, xk, xo);") == body.count("V_FETCH(wk, 100);") == 1
    reads = [i for i, line in enumerate(body) if ", xi, " in line]
    at = body.index("V_AT(xi, xk, xo);")
    assert sum(i < at for i in reads) == sum(i > at for i in reads) == 7

"""Loops whose loads stand beside multiply-adds: each of these finds the right numbers in its registers."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

import pytest

from compactir.codegen.c.beside import beside
from compactir.codegen.lower.tiles import weight_registers

LANES, STEP, WORDS = 4, 8, 3


def play(pixels: range, vectors: int, skip: str = "") -> list[tuple[str, str, str]]:
    """Run the loop on names: accumulator, weights (word, place), input (word, place) of each multiply-add."""
    before, body = beside(pixels, vectors, LANES, STEP)
    registers: dict[str, str] = defaultdict(lambda: "0:0 empty")
    done: list[tuple[str, str, str]] = []
    for word in range(WORDS):
        at = {"wk": word, "xi": word, "wn": word + 1, "xn": word + 1}
        for line in [*(before if word == 0 else []), *body]:
            name, *given = re.findall(r"\w+", line)
            if line == skip:
                continue
            match name:
                case "V_LOW":
                    registers[given[0]] = f"{at[given[1]]}:{given[2]}"
                case "V_HIGH":
                    registers[given[0]] = f"{at[given[1]]}:{int(given[2]) - LANES // 2}"
                case "V_JOIN":
                    whole = registers[given[0]] == registers[given[1]]
                    registers[given[0]] = f"{registers[given[0]]} whole" if whole else "torn"
                case "V_MULTIPLY":
                    start, place = registers[given[2]].split(":")
                    x = f"{start}:{int(place.split()[0]) + int(given[3])}"
                    x += " empty" if "empty" in place else ""
                    done.append((given[0], registers[given[1]], x))
    return done


def expected(pixels: range, vectors: int) -> list[tuple[str, str, str]]:
    return [
        (f"a{m}_{n}", f"{word}:{(j * vectors + n) * LANES} whole", f"{word}:{m * STEP + j}")
        for word in range(WORDS)
        for j in range(4)
        for n in range(vectors)
        for m in pixels
    ]


@pytest.mark.parametrize("vectors", range(1, 15))
@pytest.mark.parametrize("pixels", [range(1), range(2), range(1, 4), range(4), range(2, 9), range(9)])
def test_every_multiply_add_has_its_numbers(pixels: range, vectors: int) -> None:
    assert play(pixels, vectors) == expected(pixels, vectors)


def test_a_load_that_is_left_out_is_noticed() -> None:
    pixels, vectors = range(9), 2
    _, body = beside(pixels, vectors, LANES, STEP)
    for line in body:
        if not line.startswith("V_MULTIPLY"):
            assert play(pixels, vectors, skip=line) != expected(pixels, vectors), line


@pytest.mark.parametrize(("pixels", "vectors"), [(9, 2), (8, 2), (7, 3), (4, 5)])
def test_loads_stand_alone_and_are_early(pixels: int, vectors: int) -> None:
    """Never two of them in a row but at the end; four registers per vector and pair is the most."""
    _, body = beside(range(pixels), vectors, LANES, STEP)
    loads = [line.startswith(("V_LOW", "V_HIGH")) for line in body]
    assert sum(a and b for a, b in pairwise(loads)) <= 3
    assert weight_registers(pixels, vectors) == vectors

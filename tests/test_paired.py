"""Loops that load two vectors at once: each multiply-add finds the right numbers in its registers."""

from __future__ import annotations

import re

import pytest

from compactir.codegen.c.paired import paired, unrolled
from compactir.codegen.c.render import across

LANES = 4


def play(pixels: range, vectors: int, step: int, words: int, stride: str) -> list[tuple[str, int, int]]:
    """Run one round: accumulator, place of the weights, place of the input of each multiply-add."""
    registers: dict[str, tuple[int, int]] = {}
    done: list[tuple[str, int, int]] = []
    at = {"wk": 0, "xi": 0}
    for word in range(words):
        for line in paired(pixels, vectors, LANES, step, word, stride):
            name, *given = re.findall(r"\w+", line)
            match name:
                case "V_PAIR":
                    for i in range(2):
                        registers[given[i]] = at[given[2]], int(given[3]) + i * LANES
                case "V_WHOLE":
                    registers[given[0]] = at[given[1]], int(given[2])
                case "V_ALONG":
                    registers[given[0]] = at["xi"], 0
                    at["xi"] += 1
                case "V_STEP":
                    at["xi"] += 1
                case "V_MULTIPLY":
                    block, place = registers[given[2]]
                    assert not stride or block == word
                    done.append((given[0], registers[given[1]][1], place + int(given[3])))
    assert at["xi"] == (words if stride else 0)
    return done


@pytest.mark.parametrize("stride", ["", "sx"])
@pytest.mark.parametrize("step", [4, 8])
@pytest.mark.parametrize("vectors", [1, 2, 3, 5])
@pytest.mark.parametrize("pixels", [range(1), range(1, 3), range(7), range(1, 8), range(8)])
def test_every_multiply_add_has_its_numbers(pixels: range, vectors: int, step: int, stride: str) -> None:
    words = unrolled(12, vectors, LANES)
    assert play(pixels, vectors, step, words, stride) == [
        (f"a{m}_{n}", ((word * 4 + j) * vectors + n) * LANES, (m - pixels[0]) * step + j)
        for word in range(words)
        for j in range(4)
        for n in range(vectors)
        for m in pixels
    ]


@pytest.mark.parametrize(
    ("words", "vectors", "expected"), [(12, 3, 4), (6, 3, 3), (7, 3, 1), (12, 5, 3), (12, 15, 1), (1, 1, 1)]
)
def test_rounds_divide_the_words_and_stay_in_reach(words: int, vectors: int, expected: int) -> None:
    assert unrolled(words, vectors, LANES) == expected


@pytest.mark.parametrize(
    ("live", "step", "dilation"),
    [
        ([(0, 5), (0, 5), (0, 5)], 2, 1),
        ([(1, 7), (0, 7), (0, 6)], 2, 1),
        ([(0, 1), (0, 1), (0, 1), (0, 1), (0, 1)], 1, 3),
        ([(0, 2), (0, 4), (2, 2)], 4, 1),
    ],
)
def test_vectors_of_a_row_hold_what_is_multiplied_and_read_nothing_else(
    live: list[tuple[int, int]], step: int, dilation: int
) -> None:
    found = across(live, step, dilation)
    assert found is not None
    first, starts, lanes = found
    places = {(m, kx): m * step + kx * dilation for kx, span in enumerate(live) for m in range(*span)}
    held = {place: first + starts[vector] + lane for place, (vector, lane) in lanes.items()}
    assert held == places
    assert min(starts) == 0
    assert first + max(starts) + LANES - 1 == max(places.values())
    assert all(0 <= lane < LANES for _, lane in lanes.values())


def test_rows_shorter_than_a_vector_are_read_one_by_one() -> None:
    assert across([(0, 1), (0, 1), (0, 1)], 2, 1) is None
    assert across([(0, 0), (0, 0)], 2, 1) is None

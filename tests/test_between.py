"""Loops whose numbers come by way of integer registers: each multiply-add finds the right ones."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from compactir.codegen.c.between import between
from compactir.codegen.lower.tiles import waiting

LANES, STEP, WORDS = 4, 8, 3
ON = ["V_STEP(xi, sx);"]


def play(pixels: range, vectors: int, skip: str = "") -> list[tuple[str, str, str]]:
    """Run the loop on names: accumulator, weights (word, place), input (word, place) of each multiply-add."""
    before, body = between(pixels, vectors, LANES, STEP, ON)
    registers: dict[str, str] = defaultdict(lambda: "0:0 empty")
    done: list[tuple[str, str, str]] = []
    at = {"wk": 0, "xi": 0}
    for line in before + body * WORDS:
        name, *given = re.findall(r"\w+", line)
        if line == skip:
            continue
        match name:
            case "V_STEP":
                at[given[0]] += 1
            case "V_LOW":
                registers[given[0]] = f"{at[given[1]]}:{given[2]}"
            case "V_HIGH":
                back = LANES // 2 if given[0][0] == "h" else 0
                registers[given[0]] = f"{at[given[1]]}:{int(given[2]) - back}"
            case "V_MOVE":
                registers[given[0]] = registers[given[1]]
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


@pytest.mark.parametrize("vectors", range(1, 9))
@pytest.mark.parametrize("pixels", [range(3), range(1, 4), range(4), range(2, 9), range(9), range(14)])
def test_every_multiply_add_has_its_numbers(pixels: range, vectors: int) -> None:
    assert play(pixels, vectors) == expected(pixels, vectors)


@pytest.mark.parametrize(("pixels", "vectors"), [(7, 3), (9, 2)])
def test_a_load_that_is_left_out_is_noticed(pixels: int, vectors: int) -> None:
    _, body = between(range(pixels), vectors, LANES, STEP, ON)
    for line in body:
        if not line.startswith("V_MULTIPLY"):
            assert play(range(pixels), vectors, skip=line) != expected(range(pixels), vectors), line


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

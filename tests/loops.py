"""Loops over registers as the templates write them, run on names: which numbers meet in each multiply-add?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

LANES, STEP, WORDS = 4, 8, 3

Products = list[tuple[str, str, str]]
"""Of every multiply-add: accumulator, weights (word:place), input (word:place)."""


def play(lines: Iterable[tuple[str, Mapping[str, int]]]) -> Products:
    """Run lines, each with the words that its pointers stand at."""
    registers: dict[str, str] = defaultdict(lambda: "0:0 empty")
    done: Products = []
    for line, at in lines:
        name, *given = re.findall(r"\w+", line)
        match name:
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


def expected(pixels: range, vectors: int) -> Products:
    """What has to meet, in the order of the words."""
    return [
        (f"a{m}_{n}", f"{word}:{(j * vectors + n) * LANES} whole", f"{word}:{(m - pixels[0]) * STEP + j}")
        for word in range(WORDS)
        for j in range(4)
        for n in range(vectors)
        for m in pixels
    ]

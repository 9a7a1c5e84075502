"""Throw damaged model files at the language: `python tests/fuzz_lang.py --seconds 30 --seed 1`.

Whatever comes in, parsing and elaboration either succeed or raise a CompactError that renders; the formatter
keeps the syntax tree and is idempotent. Anything else is printed with its text, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a bare checkout, nothing installed

from compactir.diagnostics import CompactError, render, render_json  # noqa: E402  # after the path is set
from compactir.lang import elaborate, parse  # noqa: E402
from compactir.lang.format import format_text  # noqa: E402
from compactir.lang.source import read_text  # noqa: E402

FOLDERS = ("compactir/lang/std", "tests/diagnostics", "tests/diagnostics/lib", "examples")
TOKEN = re.compile(r"\s+|\w+|\"[^\"\n]*\"|->|\.\.|\*\*|//|[<>=!]=|.", re.DOTALL)
# fmt: off
WORDS = [
    *'(){}[]=,.;:#"+-*/%<>\n', "->", "..", "**", "//", "==", '"""', "\u00e9", "\x00", "\t",
    " as ", " if ", " else ", " for ", " in ", " and ", " or ", "not ", "true", "return ", "input ",
    "output ", "block b(x) {", "network m {", "choice c {", "table {", 'weights "w"', "as y", "0..3", "max(",
    "x.channels", "0", "1", "-1", "1/3", "0.5", "1e9", "99999999999", "x", "conv(8, kernel=3)", "concat",
    "split([1/2, 1/2])", "stack(b, count=2)",
]
# fmt: on


def corpus() -> list[str]:
    """The texts that mutations start from: cases, examples, library; three times what the manual shows."""
    files = [path for name in FOLDERS for path in sorted((ROOT / name).glob("*.arch"))]
    manual = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```arch.*?\n(.*?)^```$", manual, re.MULTILINE | re.DOTALL)
    inside = "network n {{\ninput x: f32[8, 16, 16]\n{}output y\n}}\n"
    whole = [text if "network " in text else inside.format(text) for text in shown]
    return [path.read_text(encoding="utf-8") for path in files] + 3 * whole


def random_bytes(rng: random.Random, _: list[str]) -> bytes:
    return rng.randbytes(rng.randrange(200))


def damaged_bytes(rng: random.Random, texts: list[str]) -> bytes:
    data = bytearray(rng.choice(texts).encode())
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(data)


def damaged_tokens(rng: random.Random, texts: list[str]) -> bytes:
    pieces = TOKEN.findall(rng.choice(texts))
    for _ in range(rng.randrange(1, 4)):
        at, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        deed = rng.randrange(6)
        if deed == 0:
            del pieces[at : at + rng.randrange(1, 4)]
        elif deed == 1:
            pieces.insert(at, rng.choice(WORDS))
        elif deed == 2:
            pieces[at] = rng.choice(WORDS)
        elif deed == 3:
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif deed == 4:
            pieces[at:at] = pieces[other : other + rng.randrange(1, 12)]
        else:
            at = rng.choice([i for i, piece in enumerate(pieces) if piece.isdigit()] or [at])
            pieces[at] = str(rng.choice([0, 1, 2, 3, 5, 7, 8, 16, 64, 1000, 10**6, 10**12]))
        if not pieces:
            break
    return "".join(pieces).encode()


def spliced(rng: random.Random, texts: list[str]) -> bytes:
    lines = [line for text in rng.sample(texts, 2) for line in text.splitlines(keepends=True)]
    start = rng.randrange(len(lines))
    return "".join(lines[start:] + lines[:start][: rng.randrange(20)]).encode()


DAMAGES: list[Callable[[random.Random, list[str]], bytes]] = [
    random_bytes,
    damaged_bytes,
    damaged_tokens,
    damaged_tokens,
    damaged_tokens,
    spliced,
]


def check(data: bytes, path: Path) -> bool:
    """Run one input through everything; true when it elaborates. Raises what a user must never see."""
    path.write_bytes(data)
    try:
        text = read_text(path)
        tree = parse(text, str(path))
        tidy = format_text(text, str(path))
        assert parse(tidy, str(path)) == tree, "the formatter changed the tree"
        assert format_text(tidy, str(path)) == tidy, "formatting twice differs"
        elaborate(parse(text, str(path)))
    except CompactError as problem:
        if not re.fullmatch(r"CIR[12]\d\d", problem.code) or not render(problem) or not render_json(problem):
            raise AssertionError(f"{problem.code} does not belong here") from problem
        return False
    return True


def fuzz(seconds: float, seed: int, folder: Path) -> tuple[int, int, str]:
    """Number of inputs, how many elaborated, and the first failure (empty when there is none)."""
    rng, texts = random.Random(seed), corpus()
    for name in ("std", "lib"):  # imports of the damaged texts find something
        (folder / name).mkdir(exist_ok=True)
    for path in (ROOT / "tests/diagnostics/lib").glob("*.arch"):
        (folder / "lib" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    end, count, good = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        data = rng.choice(DAMAGES)(rng, texts)
        count += 1
        try:
            began = time.monotonic()
            good += check(data, folder / "fuzzed.arch")
            assert time.monotonic() - began < 20, "one small file took more than 20 seconds"
        except Exception as failure:
            return count, good, f"{type(failure).__name__}: {failure}\n{data!r}"
    return count, good, ""


def main() -> int:
    import tempfile

    parser = argparse.ArgumentParser(description="fuzz the language")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count, good, failure = fuzz(args.seconds, args.seed, Path(folder))
    print(
        f"{count} inputs, {good} of them elaborated, " + (f"FAILED\n{failure}" if failure else "no failure")
    )
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())

"""Throw damaged model files at the language: `python tests/fuzz_lang.py --seconds 30 --seed 1`.

Whatever comes in, parsing and elaboration either succeed or raise a CompactError that renders; the formatter
keeps the syntax tree and is idempotent; a graph that comes out is valid and survives its text form. Anything
else is printed with its text, and the exit code is 1.

Noise alone would never get past the parser. So there are three kinds of input: noise, files of ours in which
tokens are exchanged for others of their kind, and files written at random by the grammar (`fuzz_models.py`).
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a bare checkout, nothing installed

from compactir.diagnostics import CompactError, render, render_json  # noqa: E402  # after the path is set
from compactir.ir.text import parse_graph, print_graph  # noqa: E402
from compactir.ir.verify import verify  # noqa: E402
from compactir.lang import elaborate, parse  # noqa: E402
from compactir.lang.format import format_text  # noqa: E402
from compactir.lang.source import read_text  # noqa: E402
from tests.fuzz_models import model  # noqa: E402

FOLDERS = ("compactir/lang/std", "tests/diagnostics", "tests/diagnostics/lib", "examples")
TOKEN = re.compile(r"\s+|\w+|\"[^\"\n]*\"|->|\.\.|\*\*|//|[<>=!]=|.", re.DOTALL)
# fmt: off
WORDS = [
    *'(){}[]=,.;:#"+-*/%<>\n', "->", "..", "**", "//", "==", '"""', "\u00e9", "\x00", "\t",
    " as ", " if ", " else ", " for ", " in ", " and ", " or ", "not ", "true", "return ", "input ",
    "output ", "block b(x) {", "network m {", "choice c {", 'choice c = "a" {', 'weights "w"', "as y", "0..3",
    "max(", "x.channels", "0", "1", "-1", "1/3", "0.5", "1e9", "99999999999", "x", "conv(8, kernel=3)",
    "concat", "split([1/2, 1/2])", "stack(b, count=2)",
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


KINDS = [
    re.compile(r"\d[\d_]*"),
    re.compile(r"[A-Za-z_]\w*"),
    re.compile(r"[-+*/%]|//|\*\*|[<>=!]="),
    re.compile(r"[<>]"),
]
# fmt: off
FIXED = frozenset({
    "network", "block", "def", "input", "output", "return", "for", "in", "if", "else", "import", "from", "as",
    "assert", "choice", "table", "true", "false", "f32",
})
# fmt: on


def exchanged(text: str, rng: random.Random, most: int = 4) -> str:
    """A text in which some tokens stand for others of their kind: the parser is content, mostly."""
    pieces = TOKEN.findall(text)
    at_kind = [[i for i, p in enumerate(pieces) if kind.fullmatch(p) and p not in FIXED] for kind in KINDS]
    for _ in range(rng.randrange(1, most)):
        kind = rng.choice([places for places in at_kind if places])
        at = rng.choice(kind)
        if pieces[at].isdigit() and rng.random() < 0.6:
            n = int(pieces[at]) % 10**6
            pieces[at] = str(rng.choice([n + 1, max(n - 1, 0), 2 * n, n // 2, 0, 1, 3, 4, 8]))
        else:
            pieces[at] = pieces[rng.choice(kind)]
    return "".join(pieces)


def exchanged_tokens(rng: random.Random, texts: list[str]) -> bytes:
    return exchanged(rng.choice(texts), rng).encode()


def without_lines(rng: random.Random, texts: list[str]) -> bytes:
    """A line is missing, is there twice, or comes a line later."""
    lines = rng.choice(texts).splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at : at + 1] = rng.choice([[], [lines[at]] * 2, [*lines[at + 1 : at + 2], lines[at]]])
    return "".join(lines).encode()


def written(rng: random.Random, _: list[str]) -> bytes:
    return model(rng).encode()


def written_and_exchanged(rng: random.Random, _: list[str]) -> bytes:
    return exchanged(model(rng), rng).encode()


DAMAGES: list[Callable[[random.Random, list[str]], bytes]] = [
    random_bytes,
    damaged_bytes,
    damaged_tokens,
    damaged_tokens,
    spliced,
    without_lines,
    exchanged_tokens,
    exchanged_tokens,
    exchanged_tokens,
    written,
    written,
    written_and_exchanged,
    written_and_exchanged,
]


@dataclass
class Tally:
    """How far the inputs came."""

    inputs: int = 0
    parsed: int = 0
    elaborated: int = 0

    def __str__(self) -> str:
        return f"{self.inputs} inputs, {self.parsed} of them parsed, {self.elaborated} elaborated"


def check(data: bytes, path: Path, tally: Tally) -> None:
    """Run one input through everything, and count how far it comes. Raises what a user must never see."""
    tally.inputs += 1
    path.write_bytes(data)
    try:
        text = read_text(path)
        tree = parse(text, str(path))
        tally.parsed += 1
        tidy = format_text(text, str(path))
        assert parse(tidy, str(path)) == tree, "the formatter changed the tree"
        assert format_text(tidy, str(path)) == tidy, "formatting twice differs"
        graph = elaborate(tree)
        tally.elaborated += 1
    except CompactError as problem:
        if not re.fullmatch(r"CIR[12]\d\d", problem.code) or not render(problem) or not render_json(problem):
            raise AssertionError(f"{problem.code} does not belong here") from problem
        return
    verify(graph)
    again = print_graph(parse_graph(print_graph(graph)))
    assert again == print_graph(graph), "the text form of the graph differs"


def fuzz(seconds: float, seed: int, folder: Path) -> tuple[Tally, str]:
    """How far the inputs came, and the first failure (empty when there is none)."""
    rng, texts = random.Random(seed), corpus()
    for name in ("std", "lib"):  # imports of the damaged texts find something
        (folder / name).mkdir(exist_ok=True)
    for path in (ROOT / "tests/diagnostics/lib").glob("*.arch"):
        (folder / "lib" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    end, tally = time.monotonic() + seconds, Tally()
    while time.monotonic() < end:
        data = rng.choice(DAMAGES)(rng, texts)
        try:
            began = time.monotonic()
            check(data, folder / "fuzzed.arch", tally)
            assert time.monotonic() - began < 20, "one small file took more than 20 seconds"
        except Exception as failure:
            return tally, f"{type(failure).__name__}: {failure}\n{data.decode(errors='replace')}\n{data!r}"
    return tally, ""


def main() -> int:
    import tempfile

    parser = argparse.ArgumentParser(description="fuzz the language")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally, failure = fuzz(args.seconds, args.seed, Path(folder))
    print(f"{tally}, " + (f"FAILED\n{failure}" if failure else "no failure"))
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())

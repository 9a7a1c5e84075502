"""The text of a model file before it is parsed: reading it, one sweep over brackets, strings and comments.

The sweep runs first because its errors are better than a parser's (it knows where a bracket was opened) and
because it bounds nesting and size, so that nothing behind it can run out of stack or memory.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from compactir.diagnostics import CompactError, Span, did_you_mean, spell_list

MAX_CHARACTERS = 1 << 20
MAX_WORDS = 100_000
"""Words and signs; parsing takes some 50 us for each."""
MAX_NESTING = 64
_GLANCE = 4096

_PIECE = re.compile(r'"""(?:[^"]|"(?!""))*"""|"""|"[^"\n]*"|"|#[^\n]*|[][(){}]')
_TEXTS = re.compile(r'"""(?:[^"]|"(?!""))*"""|"[^"\n]*"|#[^\n]*')
_WORD = re.compile(r"\w+|[^\w\s]")
_CLOSES = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Comment:
    """`# ...` without trailing blanks; `alone` where nothing precedes it on its line."""

    text: str
    line: int
    column: int
    alone: bool


class Places:
    """Turns offsets into spans: lines and columns from 1."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def __call__(self, start: int, stop: int) -> Span:
        first, last = bisect_right(self.starts, start), bisect_right(self.starts, stop)
        return Span(
            self.file, first, start - self.starts[first - 1] + 1, last, stop - self.starts[last - 1] + 1
        )


def read_text(path: str | Path, limit: int | None = MAX_CHARACTERS) -> str:
    """The text of a model file, at most `limit` characters.

    Errors: CIR113 when it cannot be read, CIR102 when it is not UTF-8, CIR109 when it is larger.
    """
    name = str(path)
    most = -1 if limit is None else 4 * limit + 4  # UTF-8 has at most four bytes per character
    try:
        with open(path, "rb") as file:
            data = file.read(most)
    except FileNotFoundError:
        raise CompactError("CIR113", f"there is no file `{name}`", help=_nearby_files(Path(path))) from None
    except IsADirectoryError:
        built = (Path(path) / "manifest.json").exists()
        what = "what was compiled, not the model" if built else "not a model"
        help = "give the model file" if built else _nearby_files(Path(path, "model.arch"))
        raise CompactError("CIR113", f"`{name}` is a folder, {what}", help=help) from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise CompactError("CIR113", f"cannot read `{name}`: {reason.lower()}") from None
    if len(data) == most:
        raise _too_large(data[:_GLANCE].decode("utf-8", "replace"), name, "millions of")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise _not_utf8(name, data, problem.start) from None


def _not_utf8(name: str, data: bytes, at: int) -> CompactError:
    line, column = data.count(b"\n", 0, at) + 1, len(data[:at].rsplit(b"\n", 1)[-1].decode("utf-8")) + 1
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return CompactError(
        "CIR102",
        f"the file is not UTF-8 text: byte 0x{data[at]:02x} at offset {at}",
        span=Span(name, line, column, line, column + 1),
        help="it looks like UTF-16: save it as UTF-8"
        if utf16
        else "save it as UTF-8, or give the path of the model file",
    )


def _nearby_files(path: Path) -> str | None:
    try:
        near = sorted(p.name for p in path.parent.glob("*.arch"))
    except (OSError, ValueError):
        return None
    listed = f"model files there: {spell_list([f'`{n}`' for n in near], limit=6)}" if near else None
    return did_you_mean(path.name, near) or listed


def scan(text: str, file: str) -> list[Comment]:
    """The comments of a text whose brackets match and whose strings end.

    Errors: CIR105 bracket without partner, CIR106 too deep, CIR108 string without end, CIR109 too large.
    """
    if len(text) > MAX_CHARACTERS:  # before anything looks at it
        raise _too_large(text[:_GLANCE], file, f"{len(text):,}")
    place = Places(text, file)
    opened: list[tuple[str, int]] = []
    comments = []
    for match in _PIECE.finditer(text):
        piece, at = match[0], match.start()
        if piece in "([{":
            opened.append((piece, at))
            if len(opened) > MAX_NESTING:
                message = f"brackets are nested more than {MAX_NESTING} deep"
                raise CompactError("CIR106", message, span=place(at, at + 1), help="name the inner parts")
        elif piece in _CLOSES:
            _close(piece, at, opened, place)
        elif piece in ('"', '"""'):
            span = place(at, match.end())
            raise CompactError("CIR108", "the string has no end", span=span, help=f"close it with `{piece}`")
        elif piece[0] == "#":
            span = place(at, match.end())
            alone = not text[place.starts[span.line - 1] : at].strip()
            comments.append(Comment(piece.rstrip(), span.line, span.column, alone))
    if opened:
        bracket, at = opened[-1]
        raise CompactError("CIR105", f"`{bracket}` is never closed", span=place(at, at + 1))
    _check_words(text, file)
    return comments


def _check_words(text: str, file: str) -> None:
    count = len(_WORD.findall(_TEXTS.sub("", text)))
    if count > MAX_WORDS:
        raise CompactError(
            "CIR109",
            f"the file has {count:,} words and signs, more than {MAX_WORDS:,}",
            span=Span(file, 1, 1, 1, 2),
            help="write loops instead of unrolled text; numbers by the thousand belong in a weights file",
        )


def _too_large(beginning: str, file: str, count: str) -> CompactError:
    """CIR109; where the file opens bracket after bracket, it says that, too."""
    begins = re.sub(r"[^][(){}]", "", beginning)
    nested = len(begins) - len(begins.lstrip("([{")) > MAX_NESTING
    return CompactError(
        "CIR109",
        f"the file has {count} characters, more than {MAX_CHARACTERS:,}",
        span=Span(file, 1, 1, 1, 2),
        notes=[f"its brackets are nested more than {MAX_NESTING} deep, too"] if nested else [],
        help="numbers by the thousand belong in a weights file",
    )


def _close(piece: str, at: int, opened: list[tuple[str, int]], place: Places) -> None:
    if not opened:
        raise CompactError("CIR105", f"`{piece}` closes nothing", span=place(at, at + 1))
    bracket, begun = opened.pop()
    if bracket != _CLOSES[piece]:
        start = place(begun, begun + 1)
        raise CompactError(
            "CIR105",
            f"`{piece}` does not close `{bracket}`",
            span=place(at, at + 1),
            notes=[f"`{bracket}` was opened at line {start.line}, column {start.column}"],
        )

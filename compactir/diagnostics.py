"""What goes wrong in a user's file, as data: where, what, why, what to do; and how it is shown.

An error is a `CompactError` with a code of the catalogue (`compactir/catalogue.py`), which
`compactc explain CODE` prints. Wording as rustc's: lower case, no full stop, source in backticks; a note says
why, the help what to do, with the numbers of this very case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compactir.catalogue import CATALOGUE, Code

__all__ = [
    "BUGS",
    "CATALOGUE",
    "Code",
    "CompactError",
    "CompactErrors",
    "Span",
    "check_argument",
    "did_you_mean",
    "divisors",
    "explain",
    "remember_source",
    "render",
    "render_json",
    "spell_list",
]

# What only messages need is imported with the first of them: loading a compiled network should take no time.


def __getattr__(name: str) -> Any:
    if name not in ("CATALOGUE", "Code"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from compactir import catalogue

    return getattr(catalogue, name)


BUGS = ("CIR306",)
"""Codes of which no file is the cause, nor the command line: exit code 70."""
_WIDEST_EXCERPT = 110
_SOURCES: dict[str, str] = {}
_SOURCES_KEPT = 64


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of source text. Lines and columns count from 1 in code points; the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def until(self, other: Span) -> Span:
        """From the start of this span to the end of another one in the same file."""
        return Span(self.file, self.line, self.column, other.end_line, other.end_column)


class CompactError(Exception):
    """A mistake in what the user gave us. Everything else that is raised is a bug of ours (so are `BUGS`).

    Args:
        code: a key of `CATALOGUE`, such as `CIR203`.
        message: one line, lower case, no full stop.
        span: where in the user's file; filled in by whoever knows it first.
        notes: why, one line each.
        help: what to do, with the numbers of this very case.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        span: Span | None = None,
        notes: Sequence[str] = (),
        help: str | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.span = span
        self.notes = tuple(notes)
        self.help = help

    def __str__(self) -> str:
        where = f"{self.span}: " if self.span else ""
        why = "".join(f"; note: {note}" for note in self.notes)
        return f"{where}{self.code}: {self.message}{why}" + (f"; help: {self.help}" if self.help else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.code, self.message, self.span, self.notes, self.help)

    def at(self, span: Span | None, *notes: str) -> CompactError:
        """Fill in the place if it is still unknown and add notes; returns the same error, to raise again."""
        self.span = self.span or span
        self.notes = (*self.notes, *(note for note in notes if note not in self.notes))
        return self

    def parts(self) -> tuple[CompactError, ...]:
        """The single problems behind this error: itself, unless it is a collection."""
        return (self,)


class CompactErrors(CompactError):  # noqa: N818  # the plural of CompactError
    """Several problems found in one go, in the order of the source text."""

    def __init__(self, errors: Iterable[CompactError]) -> None:
        self.errors = tuple(part for error in errors for part in error.parts())
        first = self.errors[0]
        super().__init__(first.code, first.message, span=first.span, notes=first.notes, help=first.help)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)

    def __reduce__(self) -> tuple[Any, ...]:
        return CompactErrors, (self.errors,)

    def parts(self) -> tuple[CompactError, ...]:
        return self.errors


def _rebuild(
    code: str, message: str, span: Span | None, notes: Sequence[str], help: str | None
) -> CompactError:
    return CompactError(code, message, span=span, notes=notes, help=help)


def remember_source(file: str, text: str) -> None:
    """Keep a text for the excerpts of `render`: what was parsed, even if there never was a file."""
    _SOURCES.pop(file, None)
    _SOURCES[file] = text
    while len(_SOURCES) > _SOURCES_KEPT:
        del _SOURCES[next(iter(_SOURCES))]


def check_argument(
    name: str, value: Any, kinds: tuple[type, ...], wanted: str, fits: Callable[[Any], bool] | None = None
) -> None:
    """CIR678 unless an argument of a public function is one of `kinds` (True is no number) and fits."""
    is_kind = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
    if not is_kind or (fits and not fits(value)):
        what = repr(value) if is_kind or value is None else f"{value!r:.40} ({type(value).__name__})"
        raise CompactError("CIR678", f"`{name}` is {what}", help=f"give {wanted}")


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The help line for a misspelt name, or None where nothing is near."""
    import difflib

    near = difflib.get_close_matches(name, sorted(set(candidates)), n=2, cutoff=0.6)
    return f"did you mean {spell_list([f'`{n}`' for n in near], 'or')}" if near else None


def divisors(n: int) -> list[int]:
    """All divisors of a positive number in ascending order: what fits where `n` channels must split."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


def spell_nodes(names: Sequence[str]) -> str:
    """The nodes of a step: `block2: conv1, depthwise1, conv2` where all are parts of one block."""
    blocks, parts = zip(*(name.rpartition(".")[::2] for name in names), strict=True)
    if len(names) > 1 and blocks[0] and len(set(blocks)) == 1:
        return f"{blocks[0]}: {', '.join(parts)}"
    return ", ".join(names)


def spell_list(words: Sequence[str], last: str = "and", limit: int = 12) -> str:
    """`a, b and c`; a long list is cut and says how much is missing."""
    if len(words) > limit:
        return ", ".join(words[:limit]) + f" {last} {len(words) - limit} more"
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def explain(code: str) -> str | None:
    """The catalogue entry as text for `compactc explain CODE`, or None for a code that does not exist."""
    from compactir.catalogue import CATALOGUE

    entry = CATALOGUE.get(code.upper())
    if entry is None:
        return None
    example = "\n".join("    " + line for line in entry.example.splitlines())
    return (
        f"{entry.code}: {entry.title}\n\nWhat it says: {entry.what}\n\nWhy it is an error: {entry.why}\n\n"
        f"Example:\n\n{example}\n\nWhat to do: {entry.fix}\n"
    )


def render(error: CompactError, *, color: bool = False) -> str:
    """The error as rustc prints one: headline, place, excerpt with carets, notes, help."""
    return "\n\n".join(_render_one(part, _ANSI if color else _PLAIN) for part in error.parts())


def render_json(error: CompactError) -> dict[str, Any]:
    """For programs: `{"errors": [{code, title, message, span, notes, help}]}`; span and help may be null."""
    return {"errors": [_as_json(part) for part in error.parts()]}


def _as_json(error: CompactError) -> dict[str, Any]:
    from compactir.catalogue import CATALOGUE

    return {
        "code": error.code,
        "title": CATALOGUE[error.code].title if error.code in CATALOGUE else None,
        "message": error.message,
        "span": asdict(error.span) if error.span else None,
        "notes": list(error.notes),
        "help": error.help,
    }


_PLAIN = {"error": "", "frame": "", "bold": "", "off": ""}
_ANSI = {"error": "\x1b[1;31m", "frame": "\x1b[1;34m", "bold": "\x1b[1m", "off": "\x1b[0m"}


def _render_one(error: CompactError, ink: dict[str, str]) -> str:
    bold, frame, off = ink["bold"], ink["frame"], ink["off"]
    lines = [f"{ink['error']}error[{error.code}]{off}{bold}: {_visible(error.message)}{off}"]
    gutter = len(str(error.span.line)) if error.span else 0
    bar = f"{' ' * gutter} {frame}|{off}"
    if error.span:
        lines.append(f"{' ' * gutter}{frame}-->{off} {_visible(str(error.span))}")
        excerpt = _excerpt(error.span)
        if excerpt:
            text, carets = excerpt
            lines += [bar, f"{frame}{error.span.line} |{off} {text}".rstrip()]
            lines += [f"{bar} {ink['error']}{carets}{off}"]
            if error.notes or error.help:
                lines.append(bar)
    edge = f"{' ' * gutter} {frame}={off}"
    lines += [f"{edge} {bold}note{off}: {_indent(note, gutter + 9)}" for note in error.notes]
    if error.help:
        lines.append(f"{edge} {bold}help{off}: {_indent(error.help, gutter + 9)}")
    return "\n".join(lines)


def _indent(text: str, width: int) -> str:
    return ("\n" + " " * width).join(_visible(line) for line in text.splitlines())


def _excerpt(span: Span) -> tuple[str, str] | None:
    """The source line and the carets under it; None where the text cannot be had."""
    line = _source_line(span)
    if line is None:
        return None
    start = min(span.column - 1, len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line.rstrip())
    end = max(min(end, len(line)), start + 1)
    before, inside, after = line[:start], line[start:end], line[end:]
    if len(line) > _WIDEST_EXCERPT:  # a window around the place: a line may have millions of characters
        before = "..." + before[-40:] if len(before) > 43 else before
        room = _WIDEST_EXCERPT - len(before)
        inside, rest = inside[:room], max(0, room - len(inside))
        after = after if len(after) <= rest else after[:rest] + "..."
    before, inside, after = _visible(before), _visible(inside), _visible(after)
    return before + inside + after, " " * _cells(before) + "^" * max(1, _cells(inside))


def _source_line(span: Span) -> str | None:
    if span.file not in _SOURCES:
        try:
            remember_source(span.file, Path(span.file).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):
            return None
    lines = _SOURCES[span.file].split("\n", span.line)
    return lines[span.line - 1].removesuffix("\r") if 1 <= span.line <= len(lines) else None


def _visible(text: str) -> str:
    """The text with tabs as four blanks and without characters that would move a terminal's cursor."""
    text = text.replace("\t", "    ")
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text
    )


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian wide characters two, combining ones none."""
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )

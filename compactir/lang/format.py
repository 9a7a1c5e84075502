"""`compactc fmt`: one way to lay out a model file.

Works on tokens, so that every comment stays where it was. The author's line breaks stay, because they group
a pipeline as the paper does; indentation, spacing and alignment are the formatter's, and lines that are too
long are broken. Arrows that begin a line stand under the first arrow of their statement; what continues
inside brackets stands behind the bracket. Formatting twice changes nothing; the syntax tree stays the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import cleandoc

from compactir.lang.mistakes import ENDS_VALUE
from compactir.lang.parser import parse, tokens
from compactir.lang.source import Comment, scan

WIDTH = 110
INDENT = 2
CONTINUATION = 4
_OPENING = {"LPAR", "LSQB", "LBRACE"}
_CLOSING = {"RPAR", "RSQB", "RBRACE"}
_BREAK_BEFORE = {"_ARROW", "PLUS", "AND", "OR", "IF", "ELSE"}
_NO_SPACE_AFTER = {"LPAR", "LSQB", "DOT", "_DOTS"}
_NO_SPACE_BEFORE = {"RPAR", "RSQB", "COMMA", "COLON", "DOT", "_DOTS"}


def format_text(text: str, file: str = "<text>") -> str:
    """The text in its one layout. Errors: those of `parse`; a text that does not parse is not touched."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    parse(text, file)
    layout = _Layout(_pieces(text, scan(text, file)))
    while layout.run():  # each round breaks every line that is too long at one more place
        pass
    return "\n".join(layout.out).strip("\n") + "\n"


# -- what the source says ----------------------------------------------------------------------------------


@dataclass(eq=False)
class _Piece:
    """A token, and what the source says about its place."""

    type: str
    text: str
    line: int
    end_line: int
    starts: bool  # a statement or alternative begins here
    breaks: bool  # there is a line end before it
    gap: str = ""  # what stands before it within a line
    blank: bool = False  # there is an empty line before it and its comments
    inside: _Piece | None = None  # innermost open bracket
    statement: _Piece | None = None  # where its statement begins
    partner: _Piece | None = None  # of a bracket
    brace: str = ""  # of `{` and `}`: body or choice
    is_empty: bool = False  # of a brace: nothing inside, no comment either
    above: list[Comment] = field(default_factory=list)
    behind: Comment | None = None

    @property
    def depth(self) -> int:
        """How many brackets are open."""
        return 0 if self.inside is None else 1 + self.inside.depth


def _pieces(text: str, comments: list[Comment]) -> list[_Piece]:
    """The tokens of a text; an empty last piece holds the comments at the end of the file."""
    pieces: list[_Piece] = []
    separated = True
    for token in tokens(text):
        if token.type == "_NL":
            separated = True
            continue
        line, end_line = token.line or 1, token.end_line or 1
        after_brace = bool(pieces) and pieces[-1].type == "LBRACE"
        breaks = bool(pieces) and line > pieces[-1].end_line
        pieces.append(_Piece(token.type, str(token), line, end_line, separated or after_brace, breaks))
        separated = False
    end = text.count("\n") + 2
    pieces.append(_Piece("END", "", end, end, starts=True, breaks=True))
    _nest(pieces)
    _space(pieces)
    _attach(pieces, comments)
    return pieces


def _nest(pieces: list[_Piece]) -> None:
    """Find each piece's bracket, partner and statement."""
    inside: _Piece | None = None
    statement = pieces[0]
    for i, piece in enumerate(pieces):
        if piece.type in _CLOSING and inside is not None:
            piece.partner, inside.partner, piece.brace = inside, piece, inside.brace
            statement, piece.starts = inside.statement or statement, False
            inside = inside.inside
        if inside is not None and inside.brace == "choice" and pieces[i + 1].type == "COLON":
            piece.starts = True
        if piece.starts:
            statement = piece
        piece.inside, piece.statement = inside, statement
        if piece.type in _OPENING:
            inside = piece
        if piece.type == "LBRACE":
            piece.brace = "choice" if statement.type == "_CHOICE" else "body"


def _space(pieces: list[_Piece]) -> None:
    for i in range(1, len(pieces)):
        pieces[i].gap = _gap(pieces, i)


def _gap(pieces: list[_Piece], i: int) -> str:
    """What stands between two pieces on one line."""
    a, b = pieces[i - 1], pieces[i]
    if b.starts and a.type != "LBRACE":
        return "  " if b.inside is not None and b.inside.brace == "choice" else "; "
    if a.type in _NO_SPACE_AFTER or b.type in _NO_SPACE_BEFORE:
        return ""
    if b.type in ("LPAR", "LSQB") and a.type in ("NAME", "RPAR", "RSQB"):
        return ""
    if a.type == "MINUS" and (i < 2 or pieces[i - 2].type not in ENDS_VALUE):
        return ""
    if "/" in (a.text, b.text) and _is_fraction(pieces, i if b.text == "/" else i - 1):
        return ""
    if "EQUAL" in (a.type, b.type) and _is_tight(pieces, i if b.type == "EQUAL" else i - 1):
        return ""
    return " "


def _is_fraction(pieces: list[_Piece], i: int) -> bool:
    """True for the `/` of `1/2`, two literals that belong to nothing tighter."""
    left, right = pieces[i - 1], pieces[i + 1]
    tighter = ("TIMES", "POWER")
    return (
        left.type == right.type == "INT"
        and pieces[i - 2].type not in tighter
        and pieces[i + 2].type not in tighter
    )


def _is_tight(pieces: list[_Piece], i: int) -> bool:
    """True for the `=` of `stride=2`, false for that of `stride: int = 1` and of an assignment."""
    inside = pieces[i].inside
    if inside is None or inside.type == "LBRACE":
        return False
    while pieces[i] is not inside and not (pieces[i].type == "COMMA" and pieces[i].inside is inside):
        if pieces[i].type == "COLON":
            return False
        i -= 1
    return True


def _attach(pieces: list[_Piece], comments: list[Comment]) -> None:
    """Give a comment to the token before it on its line, else to the next token; find the empty lines."""
    begins, ends = [p.line for p in pieces], [p.end_line for p in pieces]
    for comment in comments:
        text = comment.text if comment.text[1:2] in ("", " ", "!", "#") else "# " + comment.text[1:]
        tidy = Comment(text, comment.line, comment.column, comment.alone)
        if comment.alone:
            pieces[bisect_right(begins, comment.line)].above.append(tidy)
        else:
            pieces[bisect_right(ends, comment.line) - 1].behind = tidy
    for i in range(1, len(pieces)):
        first = pieces[i].above[0].line if pieces[i].above else pieces[i].line
        pieces[i].blank = first > pieces[i - 1].end_line + 1
        a, b = pieces[i - 1], pieces[i]
        a.is_empty = a.partner is b and not a.behind and not b.above


# -- laying out ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Line:
    indent: int
    text: str
    placed: list[tuple[_Piece, int]] = field(default_factory=list)  # with the column behind each


class _Layout:
    """Lays out pieces line by line; `forced` pieces begin lines, `expanded` one-line braces are opened up."""

    def __init__(self, pieces: list[_Piece]) -> None:
        self.pieces = pieces
        self.forced: set[_Piece] = set()
        self.expanded: set[_Piece] = set()

    def run(self) -> bool:
        """Lay out everything into `out`; true when another round would make long lines shorter."""
        self.out: list[str] = []
        self.lines: list[_Line] = []
        self.indents: dict[_Piece, int] = {}  # of statements, and of the lines that hold brackets
        self.behind: dict[_Piece, int] = {}  # column behind a bracket, missing where a line end follows it
        self.arrows: dict[tuple[_Piece | None, _Piece | None], int] = {}
        before: _Piece | None = None
        for piece in self.pieces:
            if before is None or self._breaks(piece, before):
                self._begin(piece, before)
            else:
                self.line.text += piece.gap
                if before.type in _OPENING:
                    self.behind[before] = len(self.line.text)
            self._put(piece)
            before = piece
        self._finish()
        too_long = [line for line in self.lines if self._shorten(line)]
        return bool(too_long)

    def _breaks(self, piece: _Piece, before: _Piece) -> bool:
        """True where a line begins."""
        if before.behind or piece.above or piece.type == "END":
            return True
        if piece.type == "LBRACE" or (piece.type == "ELSE" and before.type == "RBRACE"):
            return False
        if before.type == "LBRACE":
            return self._is_open(before)
        if piece.type == "RBRACE":
            return self._is_open(piece.partner)
        if piece.starts and (piece.inside is None or piece.inside.brace == "body"):
            return piece.inside is None or self._is_open(piece.inside)
        return piece.breaks or piece in self.forced

    def _is_open(self, brace: _Piece | None) -> bool:
        """True for braces whose contents stand on lines of their own."""
        if brace is None or brace.partner is None or brace.is_empty:
            return False
        return brace in self.expanded or brace.line != brace.partner.line

    def _begin(self, piece: _Piece, before: _Piece | None) -> None:
        """Begin a line: finish the one before, then empty lines and comments."""
        if before is not None:
            self._finish()
        indent = self._indent(piece)
        separates = piece.starts or piece.type == "RBRACE"
        may_part = separates and before is not None and before.type != "LBRACE"
        blank = piece.blank and (piece.starts or piece.above)
        ends_declaration = before is not None and self._is_open(before.partner) and piece.inside is None
        if may_part and (blank or (ends_declaration and piece.type not in ("END", "RBRACE"))):
            self.out.append("")
        at = self._content(piece, indent)
        for i, comment in enumerate(piece.above):
            if i and separates and comment.line > piece.above[i - 1].line + 1:
                self.out.append("")
            self.out.append(" " * at + comment.text)
        if piece.above and piece.starts and piece.type != "END" and piece.line > piece.above[-1].line + 1:
            self.out.append("")
        self.line = _Line(indent, " " * indent)

    def _indent(self, piece: _Piece) -> int:
        inside, statement = piece.inside, piece.statement
        if piece.type == "RBRACE" and piece.partner is not None:
            return self._base(piece.partner)
        if piece.type in _CLOSING and piece.partner is not None:
            column = self.behind.get(piece.partner)
            return self.indents[piece.partner] if column is None else column - 1
        if piece.starts:
            return 0 if inside is None else self._base(inside) + INDENT
        if piece.type == "_ARROW" and (statement, inside) in self.arrows:
            return self.arrows[statement, inside]
        if inside is not None and inside.type != "LBRACE":
            return self.behind.get(inside, self.indents[inside] + INDENT)
        return self.indents[statement] + CONTINUATION if statement is not None else 0

    def _content(self, piece: _Piece, indent: int) -> int:
        """The indent of comments above a piece: those above what closes belong to the contents."""
        if piece.type == "RBRACE":
            return indent + INDENT
        if piece.type in _CLOSING and piece.partner is not None:
            return self.behind.get(piece.partner, self.indents[piece.partner] + INDENT)
        return indent

    def _base(self, brace: _Piece) -> int:
        """The indent of a closing brace: its statement's."""
        return self.indents[brace if brace.statement is None else brace.statement]

    def _put(self, piece: _Piece) -> None:
        if piece.starts:
            self.indents[piece] = self.line.indent
        if piece.type in _OPENING:
            self.indents[piece] = self.line.indent
        if piece.type == "_ARROW":
            self.arrows.setdefault((piece.statement, piece.inside), len(self.line.text))
        *head, last = _docstring(piece.text, self.line.indent) if piece.type == "DOCSTRING" else [piece.text]
        for text in head:
            self.out.append((self.line.text + text).rstrip())
            self.line.text = ""
        self.line.text += last
        self.line.placed.append((piece, len(self.line.text)))

    def _finish(self) -> None:
        first, last = self.line.placed[0][0], self.line.placed[-1][0]
        text = self.line.text.rstrip()
        if last.behind:
            together = f"{text}  {last.behind.text}"
            if len(together) > WIDTH and first.starts:  # the comment moves above its statement
                self.out.append(" " * self.line.indent + last.behind.text)
            else:
                text = together
        self.out.append(text)
        self.lines.append(self.line)

    # -- long lines ---------------------------------------------------------------------------------------

    def _shorten(self, line: _Line) -> bool:
        """Break a line that is too long at one more place, a long list at all; false if there is none."""
        if len(line.text) <= WIDTH:
            return False
        on_line = {piece for piece, _ in line.placed}
        for piece, _ in line.placed:
            one_line = piece.type == "LBRACE" and piece.partner in on_line and not piece.is_empty
            if one_line and piece not in self.expanded:
                self.expanded.add(piece)
                return True
        places = list(self._places(line))
        before, shift, listed = (
            0,
            0,
            None,
        )  # the break before, how far left it moves the rest, the list it is in
        while fitting := [i for i in places if i > before and line.placed[i - 1][1] - shift <= WIDTH]:
            least = min(line.placed[i][0].depth for i in fitting)
            at = [i for i in fitting if line.placed[i][0].depth == least][-1]
            piece, inside = line.placed[at][0], line.placed[at][0].inside
            if listed and inside is not listed:
                return True
            self.forced.add(piece)
            shift = line.placed[at - 1][1] + len(piece.gap) - self._indent(piece)
            if line.placed[at - 1][0].type != "COMMA" or len(line.text) - shift <= WIDTH:
                return True
            before, listed = at, inside
        return listed is not None

    def _places(self, line: _Line) -> Iterator[int]:
        """Where the next line could begin, whether or not what stands before is short enough."""
        arrows = set()
        for i, (piece, _) in enumerate(line.placed):
            before, end = line.placed[i - 1]
            group = (piece.statement, piece.inside)
            is_first_arrow = piece.type == "_ARROW" and self.arrows[group] == end + 1 and group not in arrows
            arrows.add(group if piece.type == "_ARROW" else None)
            if i == 0 or is_first_arrow:
                continue
            in_braces = piece.starts and before.type != "LBRACE"
            conditional = piece.type in _BREAK_BEFORE and before.type not in ("ELSE", "RBRACE")
            if in_braces or before.type == "COMMA" or (conditional and not piece.starts):
                yield i


def _docstring(text: str, indent: int) -> list[str]:
    """The lines of a docstring, those after the first indented like its statement."""
    body = text[3:-3]
    first, *rest = [line.rstrip() for line in cleandoc(body).strip().split("\n")]
    if not rest:
        return [f'"""{first}"""']
    lines = [f'"""{first}', *(" " * indent + line if line else "" for line in rest)]
    on_its_own = body.rstrip(" \t").endswith("\n")
    return [*lines, " " * indent + '"""'] if on_its_own else [*lines[:-1], lines[-1] + '"""']

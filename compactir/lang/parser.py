"""Text -> syntax tree with spans. Whatever is wrong with the text comes out as a CompactError of room 1xx."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from importlib import resources
from inspect import cleandoc
from pathlib import Path
from typing import Any

import lark
from lark.visitors import Transformer_NonRecursive

from compactir.diagnostics import CompactError, Span, remember_source
from compactir.lang import ast, mistakes
from compactir.lang.source import MAX_NESTING, read_text, scan

MAX_DIGITS = 40
MAX_EXPONENT = 40
_DEEPEST_TREE = 2 * MAX_NESTING


def parse_file(path: str | Path) -> ast.File:
    """Parse a file. Errors: CIR113 it cannot be read, CIR102 it is not UTF-8, and those of `parse`."""
    return parse(read_text(path), str(path))


def parse(text: str, file: str = "<text>") -> ast.File:
    """Parse the text of a file; `file` names it in messages. Errors: CIR101, CIR103 to CIR109."""
    tree = _parse(text, file, "file")
    if not tree.items:
        raise _empty(file)
    return tree  # type: ignore[no-any-return]  # the builder makes a File of the rule `file`


def parse_expression(text: str, file: str = "<expression>") -> ast.Expr:
    """Parse one expression, such as the value of `-D widths=[8,16]`."""
    return _parse(text, file, "expr")  # type: ignore[no-any-return]  # the builder makes an Expr of the rule `expr`


def tokens(text: str) -> Iterator[lark.Token]:
    """The tokens of a text that parses; `_NL` stands where statements or alternatives are separated."""
    return _parser().lex(text)


def _empty(file: str) -> CompactError:
    return CompactError("CIR101", "the file says nothing", span=Span(file, 1, 1, 1, 2))


def _parse(text: str, file: str, start: str) -> Any:
    remember_source(file, text)
    scan(text, file)
    if not re.sub(r"#[^\n]*|;", "", text).strip():
        raise _empty(file)
    try:
        tree = _parser().parse(text, start=start)
    except lark.UnexpectedCharacters as problem:
        message, help = mistakes.unexpected_character(problem.char)
        line, column = problem.line, problem.column
        span = Span(file, line, column, line, column + 1)
        raise CompactError("CIR103", message, span=span, help=help) from None
    except lark.UnexpectedToken as problem:
        raise _syntax_error(text, file, start, problem) from None
    if not isinstance(tree, lark.Tree):  # a lone token: `?expr` is inlined
        tree = lark.Tree("lone", [tree])
    try:
        result = _Builder(file, text).transform(tree)
    except lark.exceptions.VisitError as problem:
        raise problem.orig_exc from None
    _check_depth(result.items if isinstance(result, ast.File) else (result,))
    return result


def _syntax_error(text: str, file: str, start: str, problem: lark.UnexpectedToken) -> CompactError:
    token = problem.token
    span = _token_span(file, text, token)
    foreign = {str(token), str(_token_before(text, token))} & set(mistakes.WORDS)
    if start == "file" and not foreign and not re.search(r"\b(network|block|def|import)\b", text):
        message = "this is no model: neither a `network` nor a `block` stands in it"
        return CompactError("CIR104", message, span=span, help="a model is `network NAME() { … }`")
    match = _usual_mistake(text, problem, start)
    if match:
        message, _, help = match.partition(" | ")
        return CompactError("CIR104", message, span=span, help=help or None)
    found = f"`{token}`"
    if not token.strip():
        found = "the end of the file" if token.type == "$END" else "the end of the line"
    return CompactError(
        "CIR104", f"{found} cannot stand here", span=span, help=mistakes.one_of(problem.expected)
    )


def _usual_mistake(text: str, problem: lark.UnexpectedToken, start: str) -> str | None:
    """`message | help` of a foreign word, of an example in the same state, or of a pair of tokens."""
    token = problem.token
    known = [mistakes.WORDS.get(str(token))]
    if start == "file":
        known += [_known_mistakes().get(key) for key in _keys(problem)]
    before = _token_before(text, token)
    if before is not None:
        known.append(mistakes.WORDS.get(str(before)))
        if before.end_line == token.line or before.type not in mistakes.ENDS_VALUE:
            known += [m for a, b, m in mistakes.PAIRS if before.type in a and (b is None or token.type in b)]
    return next((message for message in known if message), None)


def _token_before(text: str, token: lark.Token) -> lark.Token | None:
    before = None
    for other in _parser().lex(text):
        if token.type != "$END" and (other.start_pos or 0) >= (token.start_pos or 0):
            break
        before = before if other.type in ("_NL", "SEMICOLON") else other
    return before


def _keys(problem: lark.UnexpectedToken) -> list[tuple[object, ...]]:
    """What identifies a mistake: the parser's state and the token, most telling first."""
    state, token = problem.state.position, problem.token
    return [(state, token.type, str(token)), (state, token.type)]


@cache
def _known_mistakes() -> dict[tuple[object, ...], str]:
    # lark's own `match_examples` compares the depth of the stack too, so that nothing would match further in.
    table: dict[tuple[object, ...], str] = {}
    for message, examples in mistakes.EXAMPLES.items():
        for example in examples:
            try:
                _parser().parse(example, start="file")
            except lark.UnexpectedToken as problem:
                for key in _keys(problem):
                    table.setdefault(key, message)
    return table


def _token_span(file: str, text: str, token: lark.Token) -> Span:
    if token.type == "$END":
        lines = text.rstrip().split("\n")
        return Span(file, len(lines), len(lines[-1]) + 1, len(lines), len(lines[-1]) + 2)
    line, column = token.line or 1, token.column or 1
    return Span(file, line, column, line, column + max(1, len(token.strip().split("\n")[0])))


def _check_depth(roots: tuple[ast.Node, ...]) -> None:
    """CIR106 when a tree is so deep that walking it could exhaust the stack: `1+1+1+...`."""
    level, depth = list(roots), 0
    while level:
        depth += 1
        if depth > _DEEPEST_TREE:
            raise CompactError(
                "CIR106",
                f"the expression is nested more than {_DEEPEST_TREE} deep",
                span=level[0].span,
                help="give its parts names",
            )
        level = [child for node in level for child in ast.children(node)]


# -- line ends ---------------------------------------------------------------------------------------------


class _LineEnds:
    """Lets a line end through only where it separates statements or alternatives."""

    always_accept = ("_NL", "SEMICOLON")
    _opening = frozenset({"LPAR", "LSQB", "LBRACE"})
    _closing = frozenset({"RPAR", "RSQB", "RBRACE"})
    _operators = frozenset(
        {"OR", "AND", "NOT", "COMPARE", "PLUS", "MINUS", "TIMES", "POWER", "_ARROW", "_DOTS"}
    ) | {*("COMMA", "EQUAL", "COLON", "DOT", "LBRACE", "AS", "FROM", "IMPORT")}
    _continuing = (_operators | _closing | {"ELSE"}) - {"NOT", "IMPORT"}

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        nesting: list[str] = []
        before: str | None = None
        pending: lark.Token | None = None
        for token in stream:
            in_braces = not nesting or nesting[-1] == "LBRACE"
            if token.type == "_NL" or (token.type == "SEMICOLON" and in_braces):
                pending = (pending or token.update(type="_NL")) if in_braces else None
                continue
            if pending and before and before not in self._operators and token.type not in self._continuing:
                yield pending
            pending, before = None, token.type
            if token.type in self._opening:
                nesting.append(token.type)
            elif token.type in self._closing and nesting:
                nesting.pop()
            yield token


@cache
def _parser() -> lark.Lark:
    grammar = resources.files("compactir.lang").joinpath("arch.lark").read_text(encoding="utf-8")
    return lark.Lark(
        grammar,
        parser="lalr",
        lexer="basic",
        start=["file", "expr"],
        propagate_positions=True,
        postlex=_LineEnds(),
    )


# -- building ----------------------------------------------------------------------------------------------


Parts = list[Any]  # inside the builder `list` and `tuple` are rules of the grammar


class _Doc(str):
    """A docstring on its way up."""


class _Arguments(tuple[ast.Argument, ...]):
    """The arguments of a call on their way up."""


class _Body:
    """The statements of a body and its docstring on their way up."""

    def __init__(self, parts: Parts) -> None:
        self.doc = str(next((p for p in parts if isinstance(p, _Doc)), ""))
        self.statements = tuple(p for p in parts if isinstance(p, ast.Statement))


@lark.v_args(meta=True)
class _Builder(Transformer_NonRecursive[Any, Any]):
    """One method per rule of the grammar; children come ready-made."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(visit_tokens=False)
        self._path = path
        self._text = text

    def _span(self, at: Any) -> Span:
        return Span(self._path, at.line, at.column, at.end_line, at.end_column)

    # ... the file and its declarations

    def file(self, _: Any, parts: Parts) -> ast.File:
        doc = str(next((p for p in parts if isinstance(p, _Doc)), ""))
        return ast.File(self._path, doc, tuple(p for p in parts if isinstance(p, ast.Node)), self._text)

    def doc(self, _: Any, parts: Parts) -> _Doc:
        lines = cleandoc(parts[0][3:-3]).strip().split("\n")
        return _Doc("\n".join(line.rstrip() for line in lines))

    def imported(self, at: Any, parts: Parts) -> ast.Imported:
        return ast.Imported(self._span(at), str(parts[0]), str(parts[1] or parts[0]))

    def import_(self, at: Any, parts: Parts) -> ast.Import:
        return ast.Import(self._span(at), tuple(parts[:-1]), parts[-1][1:-1], self._span(parts[-1]))

    def network(self, at: Any, parts: Parts) -> ast.Network:
        name, parameters, body = parts
        return ast.Network(
            self._span(at), str(name), parameters or (), body.doc, body.statements, self._span(name)
        )

    def block(self, at: Any, parts: Parts) -> ast.Block:
        name, parameters, body = parts
        return ast.Block(self._span(at), str(name), parameters, body.doc, body.statements, self._span(name))

    def function(self, at: Any, parts: Parts) -> ast.Function:
        name, parameters, returns, body = parts
        span = self._span(at)
        return ast.Function(span, str(name), parameters, body.doc, body.statements, self._span(name), returns)

    def parameters(self, _: Any, parts: Parts) -> tuple[ast.Parameter, ...]:
        return tuple(p for p in parts if p is not None)

    def parameter(self, at: Any, parts: Parts) -> ast.Parameter:
        return ast.Parameter(self._span(at), str(parts[0]), parts[1], parts[2])

    def type(self, at: Any, parts: Parts) -> ast.Type:
        return ast.Type(self._span(at), str(parts[0]), parts[1])

    # ... statements

    def body(self, _: Any, parts: Parts) -> _Body:
        return _Body(parts)

    def assign(self, at: Any, parts: Parts) -> ast.Assign:
        return ast.Assign(self._span(at), parts[0], parts[1])

    def input(self, at: Any, parts: Parts) -> ast.Input:
        return ast.Input(self._span(at), str(parts[0]), parts[1])

    def tensor(self, at: Any, parts: Parts) -> ast.TensorShape:
        return ast.TensorShape(self._span(at), str(parts[0]), tuple(parts[1:]))

    def output(self, at: Any, parts: Parts) -> ast.Output:
        return ast.Output(self._span(at), str(parts[0]), parts[1])

    def branches(self, at: Any, parts: Parts) -> ast.If:
        chain = tuple(p for p in parts if isinstance(p, ast.Branch))
        otherwise = next((p.statements for p in parts if isinstance(p, _Body)), None)
        return ast.If(self._span(at), chain, otherwise)

    def branch(self, at: Any, parts: Parts) -> ast.Branch:
        return ast.Branch(self._span(at), parts[0], parts[1].statements)

    def loop(self, at: Any, parts: Parts) -> ast.For:
        return ast.For(self._span(at), parts[0], parts[1], parts[2].statements)

    def return_(self, at: Any, parts: Parts) -> ast.Return:
        return ast.Return(self._span(at), parts[0])

    def choice(self, at: Any, parts: Parts) -> ast.Choice:
        return ast.Choice(self._span(at), str(parts[0]), parts[1], tuple(parts[2:]))

    def alternative(self, at: Any, parts: Parts) -> ast.Alternative:
        return ast.Alternative(self._span(at), str(parts[0]), parts[1])

    def weights(self, at: Any, parts: Parts) -> ast.Weights:
        return ast.Weights(self._span(at), parts[0][1:-1])

    def assert_(self, at: Any, parts: Parts) -> ast.Assert:
        return ast.Assert(self._span(at), parts[0], str(parts[1][1:-1]) if parts[1] else None)

    def target(self, at: Any, parts: Parts) -> ast.Target:
        return ast.Target(self._span(at), str(parts[0]))

    def target_tuple(self, at: Any, parts: Parts) -> ast.Target:
        return ast.Target(self._span(at), None, tuple(parts))

    # ... expressions

    def tuple(self, at: Any, parts: Parts) -> ast.Tuple:
        return ast.Tuple(self._span(at), _items(parts))

    def list(self, at: Any, parts: Parts) -> ast.List:
        return ast.List(self._span(at), _items(parts))

    def bracketed(self, at: Any, parts: Parts) -> ast.Expr:
        inner: ast.Expr = parts[0]
        return replace(inner, span=self._span(at))

    def comprehension(self, at: Any, parts: Parts) -> ast.Comprehension:
        return ast.Comprehension(self._span(at), *parts)

    def conditional(self, at: Any, parts: Parts) -> ast.Conditional:
        return ast.Conditional(self._span(at), *parts)

    def unary(self, at: Any, parts: Parts) -> ast.Unary:
        return ast.Unary(self._span(at), str(parts[0]), parts[1])

    def binary(self, at: Any, parts: Parts) -> ast.Binary:
        return ast.Binary(self._span(at), str(parts[1]), parts[0], parts[2])

    def range(self, at: Any, parts: Parts) -> ast.Range:
        return ast.Range(self._span(at), *parts)

    def attribute(self, at: Any, parts: Parts) -> ast.Attribute:
        return ast.Attribute(self._span(at), parts[0], str(parts[1]), self._span(parts[1]))

    def index(self, at: Any, parts: Parts) -> ast.Index:
        return ast.Index(self._span(at), *parts)

    def name(self, at: Any, parts: Parts) -> ast.Name:
        return ast.Name(self._span(at), str(parts[0]))

    def truth(self, at: Any, parts: Parts) -> ast.Bool:
        return ast.Bool(self._span(at), parts[0] == "true")

    def string(self, at: Any, parts: Parts) -> ast.String:
        return ast.String(self._span(at), parts[0][1:-1])

    def number(self, at: Any, parts: Parts) -> ast.Number:
        return ast.Number(self._span(at), self._value(parts[0]), str(parts[0]))

    def call(self, at: Any, parts: Parts) -> ast.Call:
        return ast.Call(self._span(at), str(parts[0]), parts[1], self._span(parts[0]))

    def arguments(self, _: Any, parts: Parts) -> _Arguments:
        return _Arguments(p for p in parts if p is not None)

    def positional(self, at: Any, parts: Parts) -> ast.Argument:
        return ast.Argument(self._span(at), None, parts[0])

    def named(self, at: Any, parts: Parts) -> ast.Argument:
        return ast.Argument(self._span(at), str(parts[0]), parts[1])

    def pipe(self, at: Any, parts: Parts) -> ast.Pipe:
        return ast.Pipe(self._span(at), parts[0], _items(parts[1:]))

    def step(self, at: Any, parts: Parts) -> ast.Step:
        name, args, label = parts
        call = ast.Call(self._span(at), str(name), args, self._span(name))
        return ast.Step(call.span, call, label)

    def labelled(self, at: Any, parts: Parts) -> ast.Labelled:
        return ast.Labelled(self._span(at), *parts)

    def label(self, at: Any, parts: Parts) -> ast.Label:
        is_template = parts[0].type == "STRING"
        return ast.Label(self._span(at), str(parts[0][1:-1] if is_template else parts[0]), is_template)

    # ... numbers

    def _value(self, token: lark.Token) -> int | Fraction:
        text = token.replace("_", "").lower()
        mantissa, _, exponent = text.partition("e")
        if len(mantissa) > MAX_DIGITS or len(exponent) > 4 or abs(int(exponent or 0)) > MAX_EXPONENT:
            raise CompactError(
                "CIR107",
                f"the number is too long: at most {MAX_DIGITS} digits and an exponent up to {MAX_EXPONENT}",
                span=self._span(token),
            )
        return int(text) if token.type == "INT" else Fraction(text)


# The rules whose names are words of Python.
for _word in ("import", "return", "assert"):
    setattr(_Builder, _word, getattr(_Builder, f"{_word}_"))


def _items(parts: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(p for p in parts if p is not None)

"""The graph as text: `print_graph` writes a `.cir`, `parse_graph` reads it back to an equal graph.

    cir 1
    graph lenet5(%image: f32[1,1,32,32]) {
      param @conv1.weight: f32[6,1,5,5] weight he
      scope head = classifier(out=10)
      %conv1: f32[1,6,28,28] = conv(%image, @conv1.weight) {connect=dense(1->6, 5x5)} loc("n.arch":4:12-4:30)
      return digits=%conv1
    }

Nothing here knows an operation: attributes are the fields of its dataclass, read by their annotated types.
One that equals its default is left out; so is a node's name that equals its value's (`as other` says it), and
a result type may be left out by whoever writes by hand: it is inferred. Names that are not plain words are
quoted: `%"a b"`. `//` starts a comment. Weights are not part of the text. Importing `compactir.ops` makes the
operations known.
"""

from __future__ import annotations

import json
import re
import types
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import numpy as np

from compactir.diagnostics import CompactError, Span, did_you_mean, remember_source
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Param, Region, Scope, Value
from compactir.ir.op import OPS, Op, attributes, result_type
from compactir.ir.types import Quantization, TensorType

FORMAT = 1
_DEEPEST = 32

# -- writing -------------------------------------------------------------------------------------------------

_PLAIN_NAME = re.compile(r"[\w.]+")
_PLAIN_WORD = re.compile(r"[^\W\d][\w.]*")


def print_graph(graph: Graph, spans: bool = True) -> str:
    """The text of a graph; `spans=False` leaves the places in the source out."""
    inputs = ", ".join(f"{_value(v)}: {_type(v.type)}" for v in graph.inputs)
    lines = [f"cir {FORMAT}", f"graph {_word(graph.name)}({inputs}) {{"]
    lines += [f"  {line}" for line in _statements(graph, spans)]
    return "\n".join([*lines, "}", ""])


def op_text(op: Op) -> str:
    """An operation as it stands in a list: `relu6`, `tanh{scale=1.7159}`."""
    inside = _attributes(op)
    return f"{op.name}{{{inside}}}" if inside else op.name


def node_text(node: Node, spans: bool = True) -> str:
    """One line of the graph: `%y: f32[1,8,4,4] = relu6(%x)`."""
    inside = _attributes(node.op)
    return (
        f"{_value(node.out)}: {_type(node.out.type)} = {node.op.name}({', '.join(map(_value, node.args))})"
        + (f" {{{inside}}}" if inside else "")
        + (f" as {_word(node.name)}" if node.name != node.out.name else "")
        + (_loc(node.span) if spans else "")
    )


def _statements(graph: Graph, spans: bool) -> Iterator[str]:
    if graph.doc:
        yield f"doc {_string(graph.doc)}"
    if graph.weights_file is not None:
        yield f"weights {_string(graph.weights_file)}"
    for param in graph.params.values():
        yield f"param {_value(param)}: {_type(param.type)} {param.role} {_word(param.init)}"
    for path, scope in graph.scopes.items():
        yield _scope_text(path, scope, spans)
    for node in graph.nodes:
        yield node_text(node, spans)
    for region in graph.regions:
        yield f"region {', '.join(_named('%', name) for name in region.values)} rows {region.rows}"
    outputs = (
        _value(v) if name == v.name else f"{_word(name)}={_value(v)}" for name, v in graph.outputs.items()
    )
    yield f"return {', '.join(outputs)}"


def _scope_text(path: str, scope: Scope, spans: bool) -> str:
    args = ", ".join(f"{_word(key)}={_text(value)}" for key, value in scope.args)
    doc = f" doc {_string(scope.doc)}" if scope.doc else ""
    return f"scope {_word(path)} = {_word(scope.block)}({args}){doc}" + (_loc(scope.span) if spans else "")


def _loc(span: Span | None) -> str:
    if span is None:
        return ""
    return f" loc({_string(span.file)}:{span.line}:{span.column}-{span.end_line}:{span.end_column})"


def _attributes(thing: Any) -> str:
    cls: Any = type(thing)
    hints = _hints(cls)
    return ", ".join(f"{key}={_text(value, hints[key])}" for key, value in attributes(thing))


def _value(value: Value) -> str:
    return _named(value.sigil, value.name)


def _named(sigil: str, name: str) -> str:
    return sigil + (name if _PLAIN_NAME.fullmatch(name) else _string(name))


def _word(name: str) -> str:
    return name if _PLAIN_WORD.fullmatch(name) and name not in _NOT_WORDS else _string(name)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _type(type: TensorType) -> str:
    return str(type) if type.quant is None else f"{type} quant{{{_attributes(type.quant)}}}"


def _text(value: Any, hint: Any = object) -> str:
    """Any attribute value. What has no literal of its own (only in a scope's arguments) becomes a string."""
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | float | np.number):
        return (
            repr(float(value)) if hint is float or isinstance(value, float | np.floating) else str(int(value))
        )
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item, _item_hint(hint, i)) for i, item in enumerate(value)) + "]"
    if isinstance(value, ChannelList):
        return f"[{value}]"
    if isinstance(value, Connectivity):
        return str(value)
    if isinstance(value, Op):
        return op_text(value)
    if hint is not object and is_dataclass(value):
        return f"{{{_attributes(value)}}}"
    return _string(str(value))


def _item_hint(hint: Any, index: int) -> Any:
    """The annotated type of one item of an annotated list or tuple."""
    inside = get_args(hint)
    if get_origin(hint) not in (list, tuple) or not inside:
        return object
    return inside[min(index, len(inside) - 1)] if inside[-1] is not Ellipsis else inside[0]


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The annotated type of every field of a dataclass, in order of declaration."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


# -- comparing -----------------------------------------------------------------------------------------------


def equal(a: Graph, b: Graph, spans: bool = True) -> str | None:
    """None where the graphs print alike, else the first difference. Weights are not compared."""
    ours, theirs = print_graph(a, spans).splitlines(), print_graph(b, spans).splitlines()
    for line, (x, y) in enumerate(zip(ours, theirs, strict=False), 1):
        if x != y:
            return f"line {line}: `{x.strip()}` is not `{y.strip()}`"
    if len(ours) == len(theirs):
        return None
    longer, which = (ours, "first") if len(ours) > len(theirs) else (theirs, "second")
    extra = longer[min(len(ours), len(theirs))].strip()
    return f"line {min(len(ours), len(theirs)) + 1}: only the {which} graph has `{extra}`"


# -- reading -------------------------------------------------------------------------------------------------


def parse_graph(text: str, file: str = "<cir>") -> Graph:
    """Read what `print_graph` wrote.

    Errors: CIR301 with line and column for everything that is not such a text; room 2xx where a type that was
    left out cannot be inferred.
    """
    remember_source(file, text)
    return _Parser(text, file).graph()


_STATEMENTS = {"param", "scope", "doc", "weights", "region", "rows", "return"}
_NOT_WORDS = {"inf", "nan", *_STATEMENTS}
_TOKEN = re.compile(
    r"""(?P<blank>(?:[ \t\r\n]|//[^\n]*)+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<value>[%@](?:[\w.]+|"(?:[^"\\\n]|\\.)*"))
      | (?P<number>-?(?:(?:inf|nan)\b(?!\.)|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))
      | (?P<word>[^\W\d][\w.]*)
      | (?P<sign>[{}()\[\]=,:/])""",
    re.VERBOSE,
)
_LOC = re.compile(r"""loc\(\s*("(?:[^"\\\n]|\\.)*"):(\d{1,9}):(\d{1,9})-(\d{1,9}):(\d{1,9})\s*\)""")
_RAW: dict[type, tuple[re.Pattern[str], Callable[[str], Any], str]] = {
    TensorType: (
        re.compile(r"\w+\s*\[[^\]]*\]"),
        TensorType.parse,
        "a tensor type such as `f32[1,3,224,224]`",
    ),
    ChannelList: (
        re.compile(r"\[[^\]]*\]"),
        lambda t: ChannelList.parse(t[1:-1]),
        "a list of channels such as `[0..8]`",
    ),
    Connectivity: (
        re.compile(r"\w+\([^)]*\)"),
        Connectivity.parse,
        "a connectivity such as `dense(3->8, 3x3)`",
    ),
}
_LITERALS = {"true": True, "false": False, "none": None}
_LONGEST_NUMBER = 400


class _Parser:
    """Recursive descent over the text, one token of lookahead: `kind` and `token`, from `start` to `end`."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self.kind = self.token = ""
        self.start = self.end = self.last_end = self.depth = 0
        self.result = Graph("")
        self.known: dict[str, Value] = {}
        self.advance()

    # -- tokens

    def advance(self) -> str:
        """Step to the next token; returns the one that was left."""
        left, self.last_end, at = self.token, self.end, self.end
        match = _TOKEN.match(self.text, at)
        if match and match.lastgroup == "blank":
            at = match.end()
            match = _TOKEN.match(self.text, at)
        if match:
            self.kind, self.token, self.start, self.end = str(match.lastgroup), match[0], at, match.end()
            return left
        self.kind, self.start, self.end = "end", at, min(at + 1, len(self.text))
        self.token = self.text[at : at + 1]
        if self.token:
            self.fail(f"unexpected character `{self.token}`", at, at + 1)
        return left

    def jump(self, end: int) -> None:
        """Go on reading behind a stretch that was read as a whole."""
        self.end = end
        self.advance()

    def span(self, start: int, end: int) -> Span:
        """The span of a stretch of the text."""
        first, last = bisect_right(self.lines, start), bisect_right(self.lines, end)
        columns = start - self.lines[first - 1] + 1, end - self.lines[last - 1] + 1
        return Span(self.file, first, columns[0], last, columns[1])

    def fail(self, message: str, start: int = -1, end: int = -1, help: str | None = None) -> NoReturn:
        start, end = (self.start, self.end) if start < 0 else (start, end)
        raise CompactError("CIR301", message, span=self.span(start, end), help=help)

    def expected(self, what: str) -> NoReturn:
        found = f"`{self.token}`" if self.token else "the end of the text"
        self.fail(f"expected {what}, found {found}")

    def at(self, sign: str) -> bool:
        return self.token == sign and self.kind in ("sign", "word")

    def accept(self, sign: str) -> bool:
        """Step over this sign or word if it comes next."""
        if found := self.at(sign):
            self.advance()
        return found

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            self.expected(f"`{sign}`")

    def items(self, close: str) -> Iterator[None]:
        """Run the caller's body once per item of a list up to `close`, which is consumed."""
        while not self.at(close):
            yield
            if not self.accept(","):
                break
        self.expect(close)

    # -- the parts of a graph

    def graph(self) -> Graph:
        graph = self.result
        self.header()
        self.expect("graph")
        graph.name = self.name("the name of the graph")
        self.expect("(")
        for _ in self.items(")"):
            start, end, name = self.value_name("%", "an input such as `%image`")
            self.expect(":")
            value = Value(name, self.type())
            self.define(value, start, end)
            graph.inputs.append(value)
        self.expect("{")
        while not self.at("return"):
            self.statement()
        self.returned()
        self.expect("}")
        if self.kind != "end":
            self.expected("the end of the text")
        return graph

    def header(self) -> None:
        """`cir 1`; a text that goes straight to `graph` is taken as the current format."""
        if not self.accept("cir"):
            return
        start, end = self.start, self.end
        version = self.integer()
        if version != FORMAT:
            self.fail(
                f"this text has format {version}, this compactir reads format {FORMAT}",
                start,
                end,
                help="read it with the compactir that wrote it"
                if version < FORMAT
                else "install a newer compactir",
            )

    def statement(self) -> None:
        if self.kind == "value":
            self.node()
        elif self.accept("param"):
            self.param()
        elif self.accept("scope"):
            self.scope()
        elif self.accept("doc"):
            self.result.doc = self.string()
        elif self.accept("weights"):
            start, end = self.start, self.end
            self.result.weights_file = self.string()
            self.result.weights_span = self.span(start, end)
        elif self.accept("region"):
            self.region()
        else:
            self.expected("a node, `param`, `scope` or `return`")

    def param(self) -> None:
        """`@conv1.weight: f32[6,1,5,5] weight he`; role and draw may be left out."""
        start, end, name = self.value_name("@", "a parameter such as `@conv1.weight`")
        self.expect(":")
        param = Param(name, self.type())
        if self.at("weight") or self.at("buffer"):
            param.role = self.advance()
            if (self.kind == "word" and self.token not in _STATEMENTS) or self.kind == "string":
                param.init = self.name("the draw of a parameter")
        self.define(param, start, end)
        self.result.params[name] = param

    def scope(self) -> None:
        """`head = classifier(out=10) doc "…" loc(…)`."""
        start, end = self.start, self.end
        path = self.name("the path of a scope")
        if path in self.result.scopes:
            self.fail(f"scope `{path}` is defined twice", start, end)
        self.expect("=")
        block, args = self.name("the name of a block"), []
        self.expect("(")
        for _ in self.items(")"):
            key = self.name("the name of an argument")
            self.expect("=")
            args.append((key, self.anything()))
        doc = self.string() if self.accept("doc") else ""
        self.result.scopes[path] = Scope(block, tuple(args), doc, self.loc())

    def region(self) -> None:
        """`region %expand, %filter, %project rows 2`."""
        values = [self.value_name("%", "a value")[2]]
        while self.accept(","):
            values.append(self.value_name("%", "a value")[2])
        self.expect("rows")
        self.result.regions.append(Region(tuple(values), self.integer()))

    def node(self) -> None:
        """`%y: f32[1,8,4,4] = relu6(%x) {…} as name loc(…)`."""
        start, end, name = self.value_name("%", "a value")
        type = self.type() if self.accept(":") else None
        self.expect("=")
        op_start, op_end = self.start, self.end
        kind = self.name("the name of an operation")
        cls = self.op_class(kind, op_start, op_end)
        self.expect("(")
        args = [self.operand() for _ in self.items(")")]
        op = self.fill(cls, kind, op_start, op_end)
        path = self.name("the name of the node") if self.accept("as") else name
        span = self.loc()
        if type is None:
            type = self.checked(lambda: result_type(op, [a.type for a in args]), start)
        out = Value(name, type)
        self.define(out, start, end)
        self.result.nodes.append(Node(op, args, out, path, span))

    def returned(self) -> None:
        """`return logits=%linear1, %pool`."""
        self.expect("return")
        while True:
            start, end, name = self.start, self.end, None
            if self.kind != "value":
                name = self.name("an output such as `logits=%linear1`")
                self.expect("=")
            value = self.operand()
            name = value.name if name is None else name
            if name in self.result.outputs:
                self.fail(f"output `{name}` is returned twice", start, end)
            self.result.outputs[name] = value
            if not self.accept(","):
                return

    def define(self, value: Value, start: int, end: int) -> None:
        if str(value) in self.known:
            self.fail(f"`{value}` is defined twice", start, end)
        self.known[str(value)] = value

    def operand(self) -> Value:
        start, end = self.start, self.end
        if self.kind != "value":
            self.expected("a value such as `%x`")
        sigil = self.token[0]
        _, _, name = self.value_name(sigil, "a value")
        if f"{sigil}{name}" not in self.known:
            what = "parameter" if sigil == "@" else "value"
            help = did_you_mean(f"{sigil}{name}", self.known) or f"a {what} is defined above its first use"
            self.fail(f"there is no {what} `{sigil}{name}` here", start, end, help)
        return self.known[f"{sigil}{name}"]

    def value_name(self, sigil: str, what: str) -> tuple[int, int, str]:
        """Where a value's name stands, and the name without its sigil."""
        if self.kind != "value" or not self.token.startswith(sigil):
            self.expected(what)
        start, end = self.start, self.end
        text = self.advance()[1:]
        return start, end, self.unquoted(text, start, end) if text.startswith('"') else text

    def op_class(self, name: str, start: int, end: int) -> type[Op]:
        if name not in OPS:
            help = did_you_mean(name, OPS) if OPS else "the program has to import compactir.ops first"
            self.fail(f"there is no operation `{name}`", start, end, help)
        return OPS[name]

    def loc(self) -> Span | None:
        """`loc("file":1:2-3:4)` if it comes next."""
        if not self.at("loc"):
            return None
        match = _LOC.match(self.text, self.start)
        if not match:
            self.fail("this is not a place in a source", help='write it as `loc("net.arch":1:1-1:9)`')
        file = self.unquoted(match[1], match.start(1), match.end(1))
        line, column, end_line, end_column = (int(match[i]) for i in range(2, 6))
        self.jump(match.end())
        return Span(file, line, column, end_line, end_column)

    # -- attribute values

    def fill(self, cls: type, what: str, start: int, end: int) -> Any:
        """An instance of a dataclass from `{key=value, …}`; without braces all attributes are defaults."""
        hints, given = _hints(cls), dict[str, Any]()
        if self.accept("{"):
            for _ in self.items("}"):
                key_start, key_end = self.start, self.end
                key = self.name("the name of an attribute")
                if key not in hints:
                    self.fail(
                        f"`{what}` has no attribute `{key}`", key_start, key_end, did_you_mean(key, hints)
                    )
                if key in given:
                    self.fail(f"attribute `{key}` is given twice", key_start, key_end)
                self.expect("=")
                given[key] = self.typed(hints[key])
        missing = [f.name for f in fields(cls) if f.name not in given and _is_required(f)]
        if missing:
            self.fail(f"`{what}` needs the attribute `{missing[0]}`", start, end)
        return self.checked(lambda: cls(**given), start)

    def typed(self, hint: Any) -> Any:
        """A value of an annotated type."""
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self.optional(get_args(hint))
        if origin in (list, tuple):
            return self.sequence(origin, get_args(hint))
        if hint in _RAW:
            return self.raw(hint)
        if hint in _SCALARS:
            return _SCALARS[hint](self)
        if isinstance(hint, type) and issubclass(hint, Op):
            return self.nested(self.op)
        if is_dataclass(hint) and isinstance(hint, type):
            return self.nested(lambda: self.fill(hint, hint.__name__, self.start, self.end))
        return self.anything()

    def optional(self, members: Sequence[Any]) -> Any:
        """`T | None`; a union of several types is read by its looks."""
        if type(None) in members and self.accept("none"):
            return None
        members = [m for m in members if m is not type(None)]
        return self.typed(members[0]) if len(members) == 1 else self.anything()

    def sequence(self, make: type, members: Sequence[Any]) -> Any:
        """`[a, b]` as an annotated list or tuple."""
        start = self.start
        self.expect("[")
        free = make is list or not members or members[-1] is Ellipsis
        found: list[Any] = []
        for _ in self.items("]"):
            index = 0 if free else min(len(found), len(members) - 1)
            found.append(self.nested(partial(self.typed, members[index] if members else object)))
        if not free and len(found) != len(members):
            self.fail(f"expected a list of {len(members)}, found one of {len(found)}", start, self.last_end)
        return make(found)

    def raw(self, cls: type) -> Any:
        """A value whose class reads its own text."""
        pattern, parse, what = _RAW[cls]
        match = pattern.match(self.text, self.start)
        if not match:
            self.expected(what)
        start = self.start
        self.jump(match.end())
        return self.checked(lambda: parse(match[0]), start)

    def op(self) -> Op:
        """`relu6` or `tanh{scale=1.7159}`."""
        start, end = self.start, self.end
        name = self.name("the name of an operation")
        op: Op = self.fill(self.op_class(name, start, end), name, start, end)
        return op

    def anything(self) -> Any:
        """A value read by its looks: number, fraction, string, true, false, none, list (as a tuple)."""
        if self.kind == "number":
            value = self.number()
            return Fraction(value, self.divisor()) if isinstance(value, int) and self.accept("/") else value
        if self.kind == "string":
            return self.string()
        if self.kind == "word" and self.token in _LITERALS:
            return _LITERALS[self.advance()]
        if self.accept("["):
            return tuple(self.nested(self.anything) for _ in self.items("]"))
        self.expected("a value")

    def nested(self, read: Callable[[], Any]) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail("this is nested too deeply")
        value = read()
        self.depth -= 1
        return value

    def type(self) -> TensorType:
        """`f32[1,3,224,224]`, with `quant{…}` where quantized."""
        plain: TensorType = self.raw(TensorType)
        if not self.at("quant"):
            return plain
        start, end = self.start, self.end
        self.advance()
        return TensorType(plain.dtype, plain.shape, self.fill(Quantization, "quant", start, end))

    def name(self, what: str) -> str:
        if self.kind == "string":
            return self.string()
        if self.kind != "word":
            self.expected(what)
        return self.advance()

    def string(self) -> str:
        if self.kind != "string":
            self.expected("a string")
        start, end = self.start, self.end
        return self.unquoted(self.advance(), start, end)

    def unquoted(self, text: str, start: int, end: int) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            self.fail(
                f"{text} is not a string", start, end, help='escape as in JSON: `\\n`, `\\"`, `\\u00e9`'
            )

    def number(self) -> int | float:
        if self.kind != "number" or len(self.token) > _LONGEST_NUMBER:
            self.expected("a number")
        text = self.advance()
        return int(text) if text.lstrip("-").isdecimal() else float(text)

    def integer(self) -> int:
        start, end = self.start, self.end
        value = self.number()
        if not isinstance(value, int):
            self.fail(f"expected a whole number, found `{value}`", start, end)
        return value

    def divisor(self) -> int:
        start, end = self.start, self.end
        value = self.integer()
        if value < 1:
            self.fail("the lower number of a fraction must be at least 1", start, end)
        return value

    def fraction(self) -> Fraction:
        value = self.integer()
        return Fraction(value, self.divisor() if self.accept("/") else 1)

    def boolean(self) -> bool:
        if self.accept("true"):
            return True
        if not self.accept("false"):
            self.expected("`true` or `false`")
        return False

    def checked(self, make: Callable[[], Any], start: int) -> Any:
        """Run `make`; its errors get this place in the text."""
        end = self.last_end
        try:
            return make()
        except CompactError as error:
            raise error.at(self.span(start, end)) from None


_SCALARS: dict[Any, Callable[[_Parser], Any]] = {
    bool: _Parser.boolean,
    int: _Parser.integer,
    float: lambda parser: float(parser.number()),
    str: _Parser.string,
    Fraction: _Parser.fraction,
}


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING

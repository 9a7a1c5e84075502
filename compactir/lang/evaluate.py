"""The value of an expression: names, numbers, lists and conditions. Calls and pipes are elaborate.py's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import Any

from compactir.diagnostics import CompactError, Span, did_you_mean
from compactir.ir.graph import Value
from compactir.lang import ast
from compactir.lang.modules import Module
from compactir.lang.values import MAX_ITEMS, Items, binary, bounded, half_up, is_number, kind, show, whole

MAX_WORK = 2_000_000
PROPERTIES = ("channels", "height", "width", "size", "shape")


@dataclass(eq=False)
class Frame:
    """Where names live while a file, function, block or network is evaluated.

    `path` is the scope's dotted name, `counts` counts its unlabelled steps, `taken` holds the names of all;
    `assigned` are the names that its body assigns somewhere, reached or not.
    """

    module: Module
    sort: str
    title: str
    path: str = ""
    names: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    assigned: frozenset[str] = frozenset()

    @property
    def builds(self) -> bool:
        """True where tensors may be made."""
        return self.sort in ("network", "block")

    def dotted(self, name: str) -> str:
        """The name of a step of this scope in the graph."""
        return f"{self.path}.{name}" if self.path else name


@dataclass(eq=False)
class StepValue:
    """A step as a value: a pipeline without its source, and the frame whose names it uses."""

    expr: ast.Expr
    frame: Frame
    title: str


def _extreme(which: Callable[..., Any]) -> Callable[..., Any]:
    def run(*values: Any) -> Any:
        return which(_numbers(values[0] if len(values) == 1 and not is_number(values[0]) else values))

    return run


def _numbers(values: Any, fewest: int = 1) -> Any:
    if not isinstance(values, (range, tuple)) or not all(is_number(v) for v in values):
        raise CompactError("CIR131", "numbers are needed here")
    if len(values) < fewest:
        raise CompactError("CIR131", "at least one number is needed here")
    return values


def _number(value: Any) -> Any:
    return _numbers((value,))[0]


def _length(value: Any) -> int:
    if not isinstance(value, (Items, range)):
        raise CompactError("CIR131", f"`len` counts the elements of a list, this is {kind(value)}")
    return len(value)


BUILTINS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "min": (1, 99, _extreme(min)),
    "max": (1, 99, _extreme(max)),
    "sum": (1, 1, lambda v: bounded(sum(_numbers(v, fewest=0)))),
    "floor": (1, 1, lambda v: floor(_number(v))),
    "ceil": (1, 1, lambda v: ceil(_number(v))),
    "round": (1, 1, lambda v: half_up(_number(v))),
    "abs": (1, 1, lambda v: abs(_number(v))),
    "len": (1, 1, _length),
}
"""Functions of the language: fewest and most arguments, and what they do."""


class Evaluator(ABC):
    """Evaluates expressions. `work` bounds what one file may cost."""

    def __init__(self) -> None:
        self.work = 0

    def spend(self, span: Span, amount: int = 1) -> None:
        """Count work. Errors: CIR121 when the file asks for too much."""
        self.work += amount
        if self.work > MAX_WORK:
            raise CompactError(
                "CIR121",
                f"the file takes more than {MAX_WORK} steps to evaluate",
                span=span,
                help="a network has thousands of steps: look at the bounds of its loops",
            )

    def eval(self, expr: ast.Expr, frame: Frame) -> Any:
        """The value of an expression; an error without a place gets the expression's."""
        self.spend(expr.span)
        try:
            method = getattr(self, "_" + type(expr).__name__.lower())
            return method(expr, frame)
        except CompactError as problem:
            raise problem.at(expr.span) from None

    def truth(self, expr: ast.Expr, frame: Frame) -> bool:
        """The value of a condition. Errors: CIR137 when it is not true or false."""
        value = self.eval(expr, frame)
        if not isinstance(value, bool):
            raise CompactError(
                "CIR137",
                f"a condition must be true or false, this is {kind(value)}",
                span=expr.span,
                help="compare it: `... != 0`" if is_number(value) else None,
            )
        return value

    def number(self, expr: ast.Expr, frame: Frame, what: str) -> int:
        """The value of an expression that must be a whole number. Errors: CIR131, CIR132."""
        value = self.eval(expr, frame)
        if not is_number(value):
            raise CompactError(
                "CIR131", f"{what} must be a whole number, this is {kind(value)}", span=expr.span
            )
        try:
            return whole(value, what)
        except CompactError as problem:
            raise problem.at(expr.span, *self.origin(expr, value, frame)) from None

    def items(self, expr: ast.Expr, frame: Frame) -> Iterable[Any]:
        """The elements to loop over. Errors: CIR131 when it is no list or range."""
        value = self.eval(expr, frame)
        if isinstance(value, (Items, range)):
            return value
        advice = f"to repeat {show(value)} times, write `0..{show(value)}`" if is_number(value) else None
        raise CompactError(
            "CIR131", f"a loop needs a list or a range, this is {kind(value)}", span=expr.span, help=advice
        )

    def bind(self, target: ast.Target, value: Any, frame: Frame) -> None:
        """Give names values. Errors: CIR136 when a tuple of names meets something else."""
        if target.name is not None:
            frame.names[target.name] = value
            return
        if not isinstance(value, (Items, range)) or len(value) != len(target.items):
            count = f"a list of {len(value)}" if isinstance(value, (Items, range)) else kind(value)
            raise CompactError(
                "CIR136", f"{len(target.items)} names cannot take apart {count}", span=target.span
            )
        for part, item in zip(target.items, value, strict=True):
            self.bind(part, item, frame)

    def origin(self, expr: ast.Expr, value: Any, frame: Frame) -> list[str]:
        """The note `60 = round_channels(240 * width / 4) with width = 1.0`; none for a literal."""
        inner = expr.value if isinstance(expr, ast.Labelled) else expr
        literal = (ast.Number, ast.Bool, ast.String, ast.List, ast.Tuple)
        if isinstance(inner, literal) or len(show(value)) > 40:
            return []
        text = source_text(expr, frame)
        known = {}
        for name in names_in(expr):
            if name in frame.names or name in frame.module.constants:
                known[name] = show(frame.names.get(name, frame.module.constants.get(name)))
        if isinstance(inner, ast.Name):
            return [f"`{text}` is {show(value)}"]
        given = ", ".join(f"{name} = {shown}" for name, shown in known.items() if len(shown) < 60)
        return [f"{show(value)} = {text}" + (f" with {given}" if given else "")]

    # -- one method per kind of expression -----------------------------------------------------------------

    def _number(self, expr: ast.Number, frame: Frame) -> Any:
        return expr.value

    def _string(self, expr: ast.String, frame: Frame) -> Any:
        return expr.value

    def _bool(self, expr: ast.Bool, frame: Frame) -> Any:
        return expr.value

    def _name(self, expr: ast.Name, frame: Frame) -> Any:
        if expr.id in frame.names:
            return frame.names[expr.id]
        if expr.id in frame.module.constants:
            return frame.module.constants[expr.id]
        declared = frame.module.declared.get(expr.id)
        if declared and isinstance(declared[1], ast.Block):
            return StepValue(expr, frame, f"`{expr.id}`")
        if declared or expr.id in BUILTINS:
            raise CompactError("CIR110", f"`{expr.id}` is not a value", help=f"call it: `{expr.id}(...)`")
        known = [*frame.names, *frame.module.constants]
        help = did_you_mean(expr.id, known)
        if expr.id in frame.assigned:
            help = "it is assigned in a branch that was not taken, or further down: give it a value first"
        raise CompactError("CIR110", f"unknown name `{expr.id}`", help=help)

    def _tuple(self, expr: ast.Tuple, frame: Frame) -> Any:
        return Items.of(self.eval(item, frame) for item in expr.items)

    def _list(self, expr: ast.List, frame: Frame) -> Any:
        return Items.of(self.eval(item, frame) for item in expr.items)

    def _comprehension(self, expr: ast.Comprehension, frame: Frame) -> Any:
        return Items.of([self.eval(expr.item, frame) for _ in self.turns(expr, frame)])

    def turns(self, expr: ast.Comprehension, frame: Frame) -> Iterator[None]:
        """Once for every element that the condition lets through, the loop's names bound."""
        with Loop(self, expr.target, frame):
            for element in self.items(expr.iterable, frame):
                self.spend(expr.span)
                self.bind(expr.target, element, frame)
                if expr.condition is None or self.truth(expr.condition, frame):
                    yield

    def _range(self, expr: ast.Range, frame: Frame) -> Any:
        start = self.number(expr.start, frame, "the start of a range")
        stop = self.number(expr.stop, frame, "the end of a range")
        if stop - start > MAX_ITEMS:
            raise CompactError("CIR121", f"the range {start}..{stop} has more than {MAX_ITEMS} elements")
        return range(start, stop)

    def _unary(self, expr: ast.Unary, frame: Frame) -> Any:
        if expr.op == "not":
            return not self.truth(expr.operand, frame)
        value = self.eval(expr.operand, frame)
        if not is_number(value):
            raise CompactError("CIR134", f"`-` does not apply to {kind(value)}")
        return -value

    def _binary(self, expr: ast.Binary, frame: Frame) -> Any:
        if expr.op in ("and", "or"):
            left = self.truth(expr.left, frame)
            return self.truth(expr.right, frame) if left == (expr.op == "and") else left
        a, b = self.eval(expr.left, frame), self.eval(expr.right, frame)
        if isinstance(a, Value) and isinstance(b, Value) and expr.op in "+*":
            return self.combine(expr, a, b, frame)
        if isinstance(a, (Items, range)) or isinstance(b, (Items, range)):
            self.spend(expr.span, sum(len(v) for v in (a, b) if isinstance(v, (Items, range))))
        try:
            return binary(expr.op, a, b)
        except CompactError as problem:
            sides = [(e, v) for e, v in ((expr.left, a), (expr.right, b)) if is_number(v)]
            raise problem.at(expr.span, *(n for e, v in sides for n in self.origin(e, v, frame))) from None

    @abstractmethod
    def combine(self, expr: ast.Binary, a: Value, b: Value, frame: Frame) -> Value:
        """`a + b` and `a * b` of tensors."""

    def _conditional(self, expr: ast.Conditional, frame: Frame) -> Any:
        return self.eval(expr.then if self.truth(expr.condition, frame) else expr.otherwise, frame)

    def _index(self, expr: ast.Index, frame: Frame) -> Any:
        value = self.eval(expr.value, frame)
        if not isinstance(value, (Items, range)):
            raise CompactError(
                "CIR131", f"only lists have elements, this is {kind(value)}", span=expr.value.span
            )
        index = self.number(expr.index, frame, "an index")
        if not -len(value) <= index < len(value):
            raise CompactError(
                "CIR135",
                f"index {index} is outside a list of {len(value)}",
                span=expr.index.span,
                notes=self.origin(expr.index, index, frame),
                help=f"indices go from 0 to {len(value) - 1}" if value else "the list is empty",
            )
        return value[index]

    def _attribute(self, expr: ast.Attribute, frame: Frame) -> Any:
        value = self.eval(expr.value, frame)
        if not isinstance(value, Value):
            advice = "the number of elements is `len(...)`" if isinstance(value, (Items, range)) else None
            raise CompactError(
                "CIR139", f"{kind(value)} has no `.{expr.name}`, only tensors have properties", help=advice
            )
        if expr.name not in PROPERTIES:
            raise CompactError(
                "CIR139",
                f"a tensor has no `.{expr.name}`",
                span=expr.name_span,
                help=did_you_mean(expr.name, PROPERTIES)
                or "it has " + ", ".join(f"`.{p}`" for p in PROPERTIES),
            )
        return tensor_property(value, expr.name)


class Loop:
    """Within it, the loop's names hide others of the same name; afterwards those are back."""

    def __init__(self, evaluator: Evaluator, target: ast.Target, frame: Frame) -> None:
        self.frame = frame
        self.names = list(_target_names(target))

    def __enter__(self) -> None:
        self.hidden = {name: self.frame.names[name] for name in self.names if name in self.frame.names}

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            self.frame.names.pop(name, None)
        self.frame.names.update(self.hidden)


def assigned_in(body: Sequence[ast.Node]) -> frozenset[str]:
    """The names that a body assigns anywhere; loop variables are not among them."""
    assigned = (n for statement in body for n in ast.walk(statement) if isinstance(n, ast.Assign))
    return frozenset(name for n in assigned for name in _target_names(n.target))


def _target_names(target: ast.Target) -> Iterable[str]:
    if target.name is not None:
        return [target.name]
    return [name for item in target.items for name in _target_names(item)]


def tensor_property(value: Value, name: str) -> Any:
    """`x.channels` and the like. Errors: CIR139 where a vector has no height, or a map is not square."""
    shape = value.type.shape[1:]
    if name == "shape":
        return Items.of(shape)
    if name == "channels":
        return shape[0]
    if len(shape) != 3:
        raise CompactError(
            "CIR139", f"{value.type} has no `.{name}`: it is no feature map", help="it has `.channels`"
        )
    if name == "size" and shape[1] != shape[2]:
        raise CompactError(
            "CIR139",
            f"{shape[1]}x{shape[2]} is not square: there is no one `.size`",
            help="use `.height` and `.width`",
        )
    return shape[1] if name in ("height", "size") else shape[2]


def names_in(node: ast.Node) -> list[str]:
    """The names that an expression reads, each once, in order."""
    return list(dict.fromkeys(n.id for n in ast.walk(node) if isinstance(n, ast.Name)))


def source_text(node: ast.Node, frame: Frame, limit: int = 80) -> str:
    """What the author wrote for a node, on one line."""
    span, lines = node.span, frame.module.file.text.split("\n")
    if not 1 <= span.line <= span.end_line <= len(lines):
        return "..."
    picked = lines[span.line - 1 : span.end_line]
    picked[-1] = picked[-1][: span.end_column - 1]
    picked[0] = picked[0][span.column - 1 :]
    text = " ".join(" ".join(picked).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def exact(value: Any) -> Any:
    """A value as `Scope` keeps it: plain Python, lists for lists."""
    if isinstance(value, (Items, range)):
        return [exact(v) for v in value]
    return float(value) if isinstance(value, Fraction) else value

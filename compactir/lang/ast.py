"""The syntax tree of an .arch file. Every node knows its place; equality ignores places.

Numbers are exact: a literal with a point or an exponent is a `Fraction`. Nothing is evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from fractions import Fraction

from compactir.diagnostics import Span


@dataclass(frozen=True)
class Node:
    """Base of all nodes."""

    span: Span = field(compare=False, repr=False)


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below, in the order of the source."""
    for f in fields(node):
        value = getattr(node, f.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Node))


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it, in the order of the source, however deep."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(list(children(node))))


# -- expressions -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expr(Node):
    """Base of what has a value."""


@dataclass(frozen=True)
class Number(Expr):
    """`8`, `0.25`, `1e-5`; `text` keeps the spelling."""

    value: int | Fraction
    text: str = field(compare=False)


@dataclass(frozen=True)
class String(Expr):
    """`"same"`."""

    value: str


@dataclass(frozen=True)
class Bool(Expr):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True)
class Name(Expr):
    """`width`."""

    id: str


@dataclass(frozen=True)
class Tuple(Expr):
    """`(a, b)`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True)
class List(Expr):
    """`[3, 5, 7]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Comprehension(Expr):
    """`[item for target in iterable if condition]`."""

    item: Expr
    target: Target
    iterable: Expr
    condition: Expr | None


@dataclass(frozen=True)
class Unary(Expr):
    """`-a`, `not a`."""

    op: str
    operand: Expr


@dataclass(frozen=True)
class Binary(Expr):
    """`a + b`, `a == b`, `a and b`, `a in b`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Conditional(Expr):
    """`then if condition else otherwise`."""

    then: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True)
class Range(Expr):
    """`start..stop`, half open."""

    start: Expr
    stop: Expr


@dataclass(frozen=True)
class Argument(Node):
    """`3` or `stride=2`."""

    name: str | None
    value: Expr


@dataclass(frozen=True)
class Call(Expr):
    """`max(a, b)`, and what follows an arrow; there the brackets may be missing (`args` is None)."""

    function: str
    args: tuple[Argument, ...] | None
    name_span: Span = field(compare=False, repr=False)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments, none if there are no brackets."""
        return self.args or ()


@dataclass(frozen=True)
class Index(Expr):
    """`widths[2]`."""

    value: Expr
    index: Expr


@dataclass(frozen=True)
class Attribute(Expr):
    """`x.channels`."""

    value: Expr
    name: str
    name_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Label(Node):
    """`as expand`, `as "unit{i}"`; a template's braces hold names of the scope."""

    text: str
    is_template: bool


@dataclass(frozen=True)
class Labelled(Expr):
    """`concat(a, b) as joined`."""

    value: Expr
    label: Label


@dataclass(frozen=True)
class Step(Node):
    """What follows an arrow, with its label."""

    call: Call
    label: Label | None


@dataclass(frozen=True)
class Pipe(Expr):
    """`x -> conv(8, kernel=3) -> bn -> relu`."""

    source: Expr
    steps: tuple[Step, ...]


# -- targets and types -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target(Node):
    """What an assignment or a loop names: a name, or a tuple of targets."""

    name: str | None
    items: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Type(Node):
    """`int`, `list[float]`."""

    name: str
    item: Type | None = None

    def __str__(self) -> str:
        return f"{self.name}[{self.item}]" if self.item else self.name


@dataclass(frozen=True)
class TensorShape(Node):
    """`f32[3, size, size]`, without the batch."""

    dtype: str
    extents: tuple[Expr, ...]


@dataclass(frozen=True)
class Parameter(Node):
    """`stride: int = 1`."""

    name: str
    type: Type | None
    default: Expr | None


# -- statements --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement(Node):
    """Base of statements."""


@dataclass(frozen=True)
class Assign(Statement):
    """`y = x -> relu`, `(a, b) = x -> split([8, 8])`; at the top of a file it declares a constant."""

    target: Target
    value: Expr


@dataclass(frozen=True)
class Input(Statement):
    """`input image: f32[3, 224, 224]`."""

    name: str
    shape: TensorShape


@dataclass(frozen=True)
class Output(Statement):
    """`output logits = x -> linear(10)`, or `output y`."""

    name: str
    value: Expr | None


@dataclass(frozen=True)
class Branch(Node):
    """One `if c { … }` of a chain."""

    condition: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class If(Statement):
    """`if … else if … else …`; `otherwise` is None without an else."""

    branches: tuple[Branch, ...]
    otherwise: tuple[Statement, ...] | None


@dataclass(frozen=True)
class For(Statement):
    """`for (c, n) in stages { … }`."""

    target: Target
    iterable: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Return(Statement):
    """`return y`; several values are a tuple."""

    value: Expr


@dataclass(frozen=True)
class Alternative(Node):
    """`k3: conv(32, kernel=3) -> bn`: the first step of the expression has no source yet."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Choice(Statement):
    """`choice mixer = "k3" { k3: …  skip: identity }`: afterwards `-> mixer` is a step."""

    name: str
    default: Expr | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class Weights(Statement):
    """`weights "lenet5.safetensors"`, relative to the file."""

    path: str


@dataclass(frozen=True)
class Assert(Statement):
    """`assert width > 0, "width must be positive"`."""

    condition: Expr
    message: str | None


# -- declarations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported(Node):
    """One name of an import, and what it is called here."""

    name: str
    alias: str


@dataclass(frozen=True)
class Import(Node):
    """`import fire, conv_bn as cb from "std/blocks.arch"`."""

    names: tuple[Imported, ...]
    path: str
    path_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Declaration(Node):
    """Base of network, block and function."""

    name: str
    parameters: tuple[Parameter, ...]
    doc: str
    body: tuple[Statement, ...]
    name_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Network(Declaration):
    """What is compiled: parameters fixed by `-D`, inputs and outputs in its body."""


@dataclass(frozen=True)
class Block(Declaration):
    """A piece of a network, written once: tensors and values in, tensors and values out."""


@dataclass(frozen=True)
class Function(Declaration):
    """Arithmetic: numbers in, a number out."""

    returns: Type | None


@dataclass(frozen=True)
class File:
    """A whole file."""

    path: str
    doc: str
    items: tuple[Node, ...]
    text: str = field(compare=False, repr=False, default="")

"""x · clip(x + 3, 0, 6) / 6 -> hard_swish(x), and the other activations that are spelled out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isclose
from typing import ClassVar

from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.op import Op
from compactir.ops.activation import (
    Activation,
    Clip,
    HardSigmoid,
    HardSwish,
    Relu,
    Relu6,
    Sigmoid,
    Swish,
    Tanh,
)
from compactir.ops.combine import Mul
from compactir.ops.tensor import Binary
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class RaiseFunctions(Pass):
    """Recognise activations that are spelled as arithmetic.

        %a = binary(%x, @three) {function="add"}
        %b = clip(%a) {low=0.0, high=6.0}               ->      %d = hard_swish(%x)
        %c = binary(%x, %b) {function="mul"}
        %d = binary(%c, @six) {function="div"}

    These are: relu (a maximum with 0), relu6 and clip (minimum and maximum with numbers), hard sigmoid (any
    clip of a·x + b that has its three corners), hard swish and swish (x times the gate; a factor may stand on
    either side), tanh with factors inside and outside (LeNet-5's). Numbers are compared to 1e-5. A value that
    something else reads stays for that reader.
    Needs: bound weights. Keeps: every returned value, but for rounding.
    """

    name: ClassVar[str] = "raise-functions"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for rule in (_clamp, _gate, _gated, _scaled_tanh):
            for node in graph.nodes:
                if not edit.gone(node) and (found := rule(edit, node)) is not None:
                    op, x = found
                    operands = list(node.args)
                    edit.rewrite(node, op, [x], [])
                    self.did(node, f"spelled out, it is a {op.name} of {x}")
                    edit.sweep(_above(edit, operands, x))
        return edit.finish()


Found = tuple[Op, Value]
Rule = Callable[[Edit, Node], Found | None]


def _above(edit: Edit, values: list[Value], x: Value) -> list[Node]:
    """The nodes between x and these values, in topological order."""
    seen: dict[Node, None] = {}

    def visit(value: Value) -> None:
        maker = edit.makers.get(value)
        if (
            value is x
            or maker is None
            or maker in seen
            or not isinstance(maker.op, Binary | Activation | Mul)
        ):
            return
        for arg in maker.args:
            visit(arg)
        seen[maker] = None

    for value in values:
        visit(value)
    return list(seen)


def number(edit: Edit, value: Value) -> float | None:
    """The number that a parameter of one element holds."""
    return (
        float(edit.stored(value).reshape(())) if isinstance(value, Param) and value.type.size == 1 else None
    )


def _with_number(edit: Edit, node: Node) -> tuple[str, Value, float, bool] | None:
    """(function, x, number, whether the number stands on the left) of arithmetic with one number."""
    if not isinstance(node.op, Binary):
        return None
    for i in (1, 0):
        n, x = number(edit, node.args[i]), node.args[1 - i]
        if n is not None and not isinstance(x, Param) and x.type == node.out.type:
            return node.op.function, x, n, i == 0
    return None


def _line(edit: Edit, value: Value) -> tuple[Value, float, float]:
    """(x, a, b) with value = a·x + b, through as much arithmetic with numbers as there is."""
    maker = edit.makers.get(value)
    found = _with_number(edit, maker) if maker else None
    if found is None:
        return value, 1.0, 0.0
    function, inner, n, left = found
    x, a, b = _line(edit, inner)
    if function == "add":
        return x, a, b + n
    if function == "sub":
        return (x, -a, n - b) if left else (x, a, b - n)
    if function == "mul":
        return x, a * n, b * n
    if function == "div" and not left and n:
        return x, a / n, b / n
    return value, 1.0, 0.0


def _bounds(op: Op) -> tuple[float, float] | None:
    """What an activation clamps to."""
    if isinstance(op, Clip):
        return op.low, op.high
    return (0.0, 6.0) if isinstance(op, Relu6) else None


def _clamp(edit: Edit, node: Node) -> Found | None:
    """min(max(x, low), high), in either order of a maximum and a minimum."""
    if isinstance(node.op, Clip):
        op = _clip(node.op.low, node.op.high)
        return None if isinstance(op, Clip) else (op, node.args[0])
    outer = _with_number(edit, node)
    if outer is None or outer[0] not in ("max", "min"):
        return None
    function, x, n, _ = outer
    maker = edit.makers.get(x)
    inner = _with_number(edit, maker) if maker else None
    low, high = (n, inf) if function == "max" else (-inf, n)
    if maker is not None and isinstance(maker.op, Relu) and function == "min":
        low, x = 0.0, maker.args[0]
    elif inner is not None and inner[0] in ("max", "min") and inner[0] != function:
        low, high = (low, inner[2]) if function == "max" else (inner[2], high)
        x = inner[1]
    if (low, high) != (0.0, inf) and (low == -inf or high == inf or low > high):
        return None
    return _clip(low, high), x


def _clip(low: float, high: float) -> Activation:
    """The plainest activation that clamps to these bounds."""
    if low == 0 and high in (6.0, inf):
        return Relu6() if high == 6 else Relu()
    return Clip(low, high)


def _hard_sigmoid(edit: Edit, value: Value, factor: float = 1.0) -> Value | None:
    """The x of which factor · value is the hard sigmoid."""
    y, scale, shift = _line(edit, value)
    maker = edit.makers.get(y)
    if maker is None:
        return None
    if isinstance(maker.op, HardSigmoid):
        return maker.args[0] if _is(factor * scale, 1) and _is(factor * shift, 0) else None
    bounds = _bounds(maker.op)
    if bounds is None:
        return None
    low, high = bounds
    x, a, b = _line(edit, maker.args[0])
    corners = [(b - 3 * a, low), (b + 3 * a, high)]
    ends = [(factor * (scale * low + shift), 0), (factor * (scale * high + shift), 1)]
    return x if a > 0 and all(_is(p, q) for p, q in [*corners, *ends]) else None


def _is(a: float, b: float) -> bool:
    return isclose(a, b, rel_tol=1e-5, abs_tol=1e-5)


def _gate(edit: Edit, node: Node) -> Found | None:
    """A clip of a line, scaled to 0 … 1."""
    if isinstance(node.op, HardSigmoid):
        return None
    x = _hard_sigmoid(edit, node.out)
    return None if x is None else (HardSigmoid(), x)


def _gated(edit: Edit, node: Node) -> Found | None:
    """A product of x and its gate, whole or with a factor behind it."""
    y, factor, shift = _line(edit, node.out)
    maker = edit.makers.get(y)
    if shift or maker is None or not _is_product(maker):
        return None
    for gate, x in (maker.args, maker.args[::-1]):
        made = edit.makers.get(gate)
        if factor == 1 and made and isinstance(made.op, Sigmoid) and made.args[0] is x:
            return Swish(), x
        inner, before, rest = _line(edit, x)
        if not rest and _hard_sigmoid(edit, gate, factor * before) is inner:
            return HardSwish(), inner
    return None


def _scaled_tanh(edit: Edit, node: Node) -> Found | None:
    """The curve scale · tanh(slope · x)."""
    y, scale, shift = _line(edit, node.out)
    maker = edit.makers.get(y)
    if shift or maker is None or not isinstance(maker.op, Tanh):
        return None
    x, slope, inner = _line(edit, maker.args[0])
    if inner or (scale, slope) == (1, 1) or (scale != 1 and edit.only_reader(y) is None):
        return None
    return Tanh(scale * maker.op.scale, slope * maker.op.slope), x


def _is_product(node: Node) -> bool:
    equal = len(node.args) == 2 and node.args[0].type == node.args[1].type
    return equal and (isinstance(node.op, Mul) or (isinstance(node.op, Binary) and node.op.function == "mul"))

"""The text form of a plan: one line per buffer and step; `parse_plan(print_plan(p)) == p`."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from compactir.diagnostics import CompactError
from compactir.ir import plan as plans
from compactir.ir.channel_map import ChannelMap, Piece
from compactir.ir.channels import ChannelList
from compactir.ir.op import OPS, Op
from compactir.ir.plan import Plan, Tensor

__all__ = ["FORMAT", "parse_plan", "print_plan"]

FORMAT = 1

_CLASSES: dict[str, type] = {
    name: each for name, each in vars(plans).items() if getattr(each, "__module__", "") == plans.__name__
}
"""What stands in a plan: the classes of `ir/plan.py`."""


def print_plan(plan: Plan) -> str:
    """The text form."""
    shown = ("target", "lanes", "batch", "arena", "weights", *(("threads",) if plan.threads > 1 else ()))
    head = ", ".join(f"{k}={_text(getattr(plan, k))}" for k in shown)
    lines = [f"plan {FORMAT}", f"{_name(plan.name)}({head}) {{"]
    for title in ("inputs", "outputs", "buffers", "steps"):
        lines += [
            f"  {_text(item)}" if title != "inputs" else f"  in {_text(item)}"
            for item in getattr(plan, title)
        ]
    return "\n".join([*lines, "}", ""]).replace("\n  Tensor(", "\n  out Tensor(")


def parse_plan(text: str) -> Plan:
    """Read back what `print_plan` wrote. Errors: CIR301 naming the line."""
    lines = text.strip().splitlines()
    if not lines or lines[0] != f"plan {FORMAT}":
        raise CompactError(
            "CIR301", f"this is not a plan of format {FORMAT}", help=f"its first line must be `plan {FORMAT}`"
        )
    head = _parsed(2, lines[1].removesuffix("{").strip() if len(lines) > 1 else "")
    parts: dict[str, list[Any]] = {"in": [], "out": [], "Buffer": [], "Step": []}
    for number, line in enumerate(lines[2:-1], 3):
        word, _, rest = line.strip().partition(" ")
        tensor = word in ("in", "out")
        item = _item(number, _parsed(number, rest if tensor else line.strip()))
        kind = word if tensor else type(item).__name__
        if isinstance(item, Tensor) != tensor or kind not in parts:
            raise _unreadable(number, f"a {kind} does not stand here")
        parts[kind].append(item)
    if not isinstance(head, ast.Call) or not isinstance(head.func, ast.Name | ast.Constant):
        raise _unreadable(2, "it does not begin with `NAME(…`")
    name = head.func.id if isinstance(head.func, ast.Name) else head.func.value
    inputs, outputs, buffers, steps = (tuple(parts[k]) for k in ("in", "out", "Buffer", "Step"))
    try:
        named = {k.arg: _value(k.value) for k in head.keywords if k.arg}
        return Plan(str(name), inputs=inputs, outputs=outputs, buffers=buffers, steps=steps, **named)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(2, str(error)) from error


def _parsed(number: int, text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _unreadable(number, str(error)) from error


def _item(number: int, node: ast.expr) -> Any:
    try:
        return _value(node)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(number, str(error)) from error


def _unreadable(number: int, why: str) -> CompactError:
    return CompactError("CIR301", f"line {number} of the plan cannot be read: {why}")


def _name(name: str) -> str:
    """A network's name: bare where Python reads it back as it is, else quoted."""
    return name if name.isascii() and name.isidentifier() and not keyword.iskeyword(name) else repr(name)


def _text(value: Any) -> str:
    if isinstance(value, ChannelMap):
        return f"at({str(value)!r})"
    if isinstance(value, tuple):
        return (
            "(" + "".join(f"{_text(v)}, " for v in value).rstrip(" ") + ")"
            if len(value) < 2
            else ("(" + ", ".join(map(_text, value)) + ")")
        )
    if is_dataclass(value) and not isinstance(value, type):
        shown = [
            f"{f.name}={_text(getattr(value, f.name))}" for f in fields(value) if not _is_default(value, f)
        ]
        return f"{value.name if isinstance(value, Op) else type(value).__name__}({', '.join(shown)})"
    return repr(value)


def _is_default(value: Any, spec: Any) -> bool:
    return spec.default is not MISSING and getattr(value, spec.name) == spec.default


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_value(e) for e in node.elts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "at":
            return _map(ast.literal_eval(node.args[0]))
        build: Callable[..., Any] = _CLASSES.get(node.func.id) or OPS[node.func.id]
        return build(**{k.arg: _value(k.value) for k in node.keywords if k.arg})
    return ast.literal_eval(node)


def _map(text: str) -> ChannelMap:
    pieces = []
    for part in text.split():
        buffer, _, positions = part.removesuffix("]").partition("[")
        pieces.append(Piece(buffer, ChannelList.parse(positions)))
    return ChannelMap(tuple(pieces))

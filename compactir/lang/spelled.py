"""Calling an operation by its spelling: arguments to annotated types, errors that point at the culprit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from compactir.diagnostics import CompactError, Span, did_you_mean, spell_list
from compactir.ir.graph import Value
from compactir.ir.op import Signature
from compactir.lang import ast
from compactir.lang.modules import in_library
from compactir.lang.values import Items, Mismatch, convert, is_number, kind, wanted
from compactir.ops import SPELLINGS, signature

FOREIGN = {
    "conv2d": "conv",
    "convolution": "conv",
    "dwconv": "depthwise",
    "depthwise_conv": "depthwise",
    "batch_norm": "bn",
    "batchnorm": "bn",
    "batchnorm2d": "bn",
    "dense": "linear",
    "fc": "linear",
    "gemm": "linear",
    "maxpool": "max_pool",
    "maxpool2d": "max_pool",
    "avgpool": "avg_pool",
    "average_pool": "avg_pool",
    "gap": "global_avg_pool",
    "globalavgpool": "global_avg_pool",
    "adaptive_avg_pool": "global_avg_pool",
    "silu": "swish",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "leakyrelu": "leaky_relu",
    "prelu": "leaky_relu",
    "cat": "concat",
    "concatenate": "concat",
    "channel_shuffle": "shuffle",
    "local_response_norm": "lrn",
    "clamp": "clip",
    "resize": "upsample",
    "chunk": "split",
}
"""What other tools call our operations."""


@dataclass(frozen=True)
class Given:
    """An evaluated argument: where it stands in the source, and its value."""

    node: ast.Argument
    value: Any


@dataclass(eq=False)
class Bound:
    """The operands and attributes of one call, ready for the spelling."""

    name: str
    operands: list[Value]
    given: dict[str, Given] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


@cache
def declared(name: str) -> Signature:
    """The spelling's declaration."""
    return signature(name)


def unknown_step(name: str, span: Span, known: Sequence[str]) -> CompactError:
    """CIR111 with the nearest operation, block or choice."""
    foreign, file = FOREIGN.get(name.lower()), in_library(name)
    help = did_you_mean(name, [*known, *SPELLINGS])
    if foreign or file:
        help = f"it is called `{foreign}` here" if foreign else f'write `import {name} from "{file}"` above'
    return CompactError("CIR111", f"unknown operation or block `{name}`", span=span, help=help)


def bind_spelling(call: ast.Call, piped: Sequence[Value], given: Sequence[Given]) -> Bound:
    """Match the arguments of a call with the spelling's declaration.

    Leading tensors among the positional arguments are operands. Errors: CIR130 (number and names of
    arguments), CIR131 (type), CIR132 (a number that is not whole).
    """
    wants = declared(call.function)
    bound = Bound(call.function, list(piped))
    positional = [g for g in given if g.node.name is None]
    while (
        positional
        and _tensors(positional[0].value)
        and (wants.variadic or len(bound.operands) < len(wants.operands))
    ):
        bound.operands += _tensors(positional.pop(0).value)
    _check_operands(call, wants, bound)
    names = list(wants.attributes)
    for one in positional:
        if len(bound.given) == len(names):
            raise _too_many(call, names, one)
        bound.given[names[len(bound.given)]] = one
    for one in given:
        if one.node.name is not None:
            _take_named(call, names, bound.given, one, one.node.name)
    for name, parameter in wants.attributes.items():
        if name in bound.given:
            bound.attributes[name] = converted(call.function, name, parameter.annotation, bound.given[name])
        elif parameter.default is inspect.Parameter.empty:
            raise CompactError(
                "CIR130",
                f"`{call.function}` needs `{name}`",
                span=call.span,
                help=f"write `{usage(call.function)}`",
            )
    return bound


def _tensors(value: Any) -> list[Value]:
    if isinstance(value, Value):
        return [value]
    return (
        list(value) if isinstance(value, Items) and value and all(isinstance(v, Value) for v in value) else []
    )


def _check_operands(call: ast.Call, wants: Signature, bound: Bound) -> None:
    count, needed = len(bound.operands), len(wants.operands)
    if count == needed or (wants.variadic and count):
        return
    if not count:
        raise CompactError(
            "CIR130",
            f"`{call.function}` is given no tensor",
            span=call.span,
            help=f"write `x -> {usage(call.function)}`",
        )
    takes = "one tensor" if needed == 1 else "no tensor" if not needed else f"{needed} tensors"
    help = f"join them first: `(a, b) -> concat -> {call.function}`" if needed == 1 else None
    raise CompactError(
        "CIR130", f"`{call.function}` takes {takes}, it is given {count}", span=call.span, help=help
    )


def _too_many(call: ast.Call, names: Sequence[str], one: Given) -> CompactError:
    if isinstance(one.value, Value):
        return CompactError("CIR130", f"`{call.function}` is given a tensor too many", span=one.node.span)
    takes = f"takes {spell_list([f'`{n}`' for n in names])}" if names else "takes no arguments"
    return CompactError("CIR130", f"`{call.function}` {takes}: this one is too many", span=one.node.span)


def _take_named(call: ast.Call, names: Sequence[str], taken: dict[str, Given], one: Given, name: str) -> None:
    if name not in names:
        listed = (
            f"its arguments are {spell_list([f'`{n}`' for n in names])}" if names else "it has no arguments"
        )
        raise CompactError(
            "CIR130",
            f"`{call.function}` has no argument `{name}`",
            span=one.node.span,
            help=did_you_mean(name, names) or listed,
        )
    if name in taken:
        raise CompactError("CIR130", f"`{name}` of `{call.function}` is given twice", span=one.node.span)
    taken[name] = one


def converted(function: str, name: str, hint: Any, one: Given) -> Any:
    """An argument as its annotation wants it. Errors: CIR131, CIR132, CIR122."""
    span = one.node.value.span
    try:
        return convert(one.value, hint, f"`{name}` of `{function}`")
    except Mismatch:
        raise CompactError(
            "CIR131", f"`{name}` of `{function}` must be {wanted(hint)}, this is {kind(one.value)}", span=span
        ) from None
    except CompactError as problem:
        raise problem.at(span) from None


def usage(name: str) -> str:
    """How an operation is written: `conv(out, kernel, stride=...)`."""
    attributes = declared(name).attributes
    required = [n for n, p in attributes.items() if p.default is inspect.Parameter.empty]
    optional = [f"{n}=..." for n, p in attributes.items() if p.default is not inspect.Parameter.empty]
    inside = ", ".join([*required, *optional[:1]])
    return f"{name}({inside})" if inside else name


_ABOUT_OPERANDS = frozenset({"CIR205", "CIR207", "CIR210", "CIR211"})
_ABOUT_LISTS = frozenset({"CIR203", "CIR209"})


def to_blame(problem: CompactError, bound: Bound) -> Given | None:
    """The argument that an operation's complaint is about; None where it is about the operands.

    In this order: the one that the message names in backticks; the list, where it speaks of lists; the one
    whose value it quotes ("60 channels do not split"); the one whose name it mentions ("an even kernel").
    """
    if problem.code in _ABOUT_OPERANDS:
        return None
    named = [bound.given[n] for n in re.findall(r"`(\w+)", problem.message) if n in bound.given]
    lists = [g for g in bound.given.values() if problem.code in _ABOUT_LISTS and isinstance(g.value, Items)]
    numbers = quoted(problem, bound) if problem.code == "CIR203" else []
    words = [bound.given[n] for n in re.findall(r"[a-z_]+", problem.message) if n in bound.given]
    return next(iter([*named, *lists, *numbers, *words]), None)


def quoted(problem: CompactError, bound: Bound) -> list[Given]:
    """The arguments whose values the message quotes, in its order."""
    found = re.findall(r"(?<![\w.,\[/])-?\d{1,18}(?![\w.\]/])", problem.message)
    numbers = [g for g in bound.given.values() if is_number(g.value)]
    return [g for n in found for g in numbers if g.value == int(n)]

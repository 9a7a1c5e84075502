"""One operation as the call that makes it: found by trying spellings, proved by making it again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import is_permutation
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Node
from compactir.ir.op import Op
from compactir.ops import SPELLINGS, signature
from compactir.ops.arrange import Gather
from compactir.ops.conv import Conv, Masked

__all__ = ["Call", "call_of", "defaults", "shares", "spelled"]


@dataclass(frozen=True)
class Call:
    """A word of the language with all its arguments, defaults too."""

    word: str
    args: tuple[tuple[str, Any], ...] = ()


def call_of(node: Node) -> Call | None:
    """The call that makes this operation, or None where the language has no word for it."""
    types = [value.type for value in node.values]
    for word, given in _candidates(node.op, node):
        try:
            made = SPELLINGS[word](*types, **given)
        except CompactError:
            continue
        if made == node.op or _nearly(made, node.op):
            return Call(word, tuple((defaults(word) | given).items()))
    return None


def defaults(word: str) -> dict[str, Any]:
    """Every attribute with its default; what has none has None."""
    empty = inspect.Parameter.empty
    found = signature(word).attributes.items() if word in SPELLINGS else ()
    return {name: None if p.default is empty else p.default for name, p in found}


def _nearly(made: object, op: Op) -> bool:
    """Equal but for digits that float32 does not have: 1e-05 is 9.99999974737875e-06 in other formats."""
    if type(made) is not type(op):
        return False
    pairs = [(getattr(made, f.name), getattr(op, f.name)) for f in fields(op)]  # type: ignore[arg-type]  # a dataclass
    return all(a == b or (isinstance(a, float) and np.float32(a) == np.float32(b)) for a, b in pairs)


def _candidates(op: Op, node: Node) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(op, Conv):
        yield from _convolutions(op)
    elif isinstance(op, Gather):
        yield from _gathers(op)
    elif op.name in SPELLINGS:
        yield op.name, _attributes(op)


def _attributes(op: Op) -> dict[str, Any]:
    """The fields of an operation as its spelling takes them."""
    wanted = signature(op.name).attributes
    given = {name: _plain(getattr(op, name)) for name in wanted if hasattr(op, name)}
    if given.get("stride") == given.get("kernel") and "pool" in op.name:
        given.pop("stride", None)
    return {name: value for name, value in given.items() if value != wanted[name].default}


def _plain(value: Any) -> Any:
    """(3, 3) as 3, (1, 1, 1, 1) as 1, (1, 2, 1, 2) as [1, 2]; a float with as few digits as float32 needs."""
    if isinstance(value, tuple):
        if len(set(value)) == 1:
            return value[0]
        return list(value[:2]) if len(value) == 4 and value[:2] == value[2:] else list(value)
    if isinstance(value, float) and value != 0 and np.isfinite(value):
        return float(str(np.float32(value))) if float(np.float32(value)) == value else value
    return value


def _gathers(op: Gather) -> Iterator[tuple[str, dict[str, Any]]]:
    channels = [int(c) for c in op.channels]
    if op.channels.is_plain_range:
        yield "slice", {"start": channels[0], "stop": channels[-1] + 1}
    if is_permutation(op.channels):
        yield "permute", {"order": channels}
    yield "gather", {"channels": channels}


def _convolutions(op: Conv) -> Iterator[tuple[str, dict[str, Any]]]:
    """From the shortest form to the longest; those that do not fit are found out by making them."""
    if op.epilogue:
        return
    families = op.connect.families
    common: dict[str, Any] = {}
    if op.stride != (1, 1):
        common["stride"] = _plain(op.stride)
    if op.dilation != (1, 1):
        common["dilation"] = _plain(op.dilation)
    if op.bias:
        common["bias"] = True
    out = {"out": op.connect.out_channels}
    if op.masked:
        common["connect"] = op.masked
    kernels = [_plain(f.kernel) for f in families]
    for pad in _pads(op.connect):
        given = common | pad
        if len(families) == 1:
            family = families[0]
            groups = {"groups": family.count} if family.count > 1 else {}
            conv = ("conv", out | {"kernel": kernels[0]} | given | groups)
            if family.count == 1:  # the first layer on a grey image is no depthwise one
                yield conv
            if family.count == op.connect.in_channels and family.ins == 1 and not op.masked:
                extra = {"multiplier": family.outs} if family.outs > 1 else {}
                yield "depthwise", {"kernel": kernels[0]} | given | extra
            if family.count > 1:
                yield conv
            continue
        if all(f.ins == 1 and f.kernel[0] == f.kernel[1] for f in families):  # a mixture is of squares
            multiplier = {"multiplier": families[0].outs} if families[0].outs > 1 else {}
            yield "depthwise", {"kernel": _kernel_list(op.connect)} | given | multiplier
        if len(set(map(str, kernels))) == 1:
            parts = _parts(op.connect)
            if parts:
                yield "conv", out | {"kernel": kernels[0]} | given | {"groups": parts}
            yield "conv", out | {"kernel": kernels[0]} | given | {"connect": _rows(op.connect)}
    if len(families) == 1:
        return


def _pads(connect: Connectivity) -> Iterator[dict[str, Any]]:
    yield {}
    pads = {f.pad for f in connect.families}
    if len(pads) == 1:
        pad = next(iter(pads))
        short = _plain(pad)
        yield {"pad": short}
        yield {"pad": list(pad)}


def _kernel_list(connect: Connectivity) -> list[Any]:
    """The kernel of each part, in the order of the channels."""
    blocks = sorted((int(b.outputs[0]), _plain(f.kernel)) for f in connect.families for b in f.blocks())
    kernels = [kernel for _, kernel in blocks]
    return [k for i, k in enumerate(kernels) if i == 0 or kernels[i - 1] != k]


def _parts(connect: Connectivity) -> list[Fraction] | None:
    """The shares of uneven groups."""
    blocks = sorted(
        (int(b.outputs[0]), len(b.inputs), len(b.outputs)) for f in connect.families for b in f.blocks()
    )
    shares = [Fraction(ins, connect.in_channels) for _, ins, _ in blocks]
    there = [Fraction(outs, connect.out_channels) for _, _, outs in blocks]
    return shares if shares == there else None


def _rows(connect: Connectivity) -> list[list[int] | range]:
    """The inputs of every output; where they are consecutive, as a range."""
    rows = {
        int(o): [int(i) for i in block.inputs]
        for family in connect.families
        for block in family.blocks()
        for o in block.outputs
    }
    return [_range(rows.get(o, [])) for o in range(connect.out_channels)]


def _range(channels: list[int]) -> list[int] | range:
    run = range(channels[0], channels[-1] + 1) if channels else range(0)
    return run if len(run) > 3 and channels == list(run) else channels


def shares(sizes: list[int]) -> list[Fraction]:
    """Parts as fractions of their sum."""
    return [Fraction(size, sum(sizes)) for size in sizes]


# -- as text -------------------------------------------------------------------------------------------------


def spelled(value: Any) -> str:
    """A value as the language writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, Mapping):
        raise TypeError("the language has no mappings")
    if isinstance(value, range):
        return f"{value.start}..{value.stop}"
    if isinstance(value, Masked):
        return _masked(value.init)
    if isinstance(value, float) and value == int(value) and abs(value) < 1e9:
        return str(int(value)) if str(value) != "-0.0" else "-0.0"
    return str(value)


_MASKS = {
    "learned": ("groups",),
    "condensed": ("groups", "condense"),
    "balanced": ("keep", "of"),
    "pruned": ("filters", "channels"),
}


def _masked(init: str) -> str:
    kind, numbers = init.partition("(")[0], re.findall(r"\d+", init)
    named = ", ".join(f"{n}={v}" for n, v in zip(_MASKS[kind], numbers, strict=True) if v != "0")
    return f"{'learned' if kind == 'condensed' else kind}({named})"

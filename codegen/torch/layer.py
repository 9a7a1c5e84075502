"""What a layer is as PyTorch source, and the table that says how each operation becomes one.

A `Layer` describes one step of a block for all instances of the block at once, so that whatever differs
between them is visible as the values of a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from compactir.codegen.torch.structure import Step, TensorRef
from compactir.codegen.torch.text import LONG_LIST, LONG_TEXT, is_plain_name, literal
from compactir.ir.channels import ChannelList

NONE = object()


@dataclass(frozen=True)
class Slot:
    """A number (or list, …) of a step, per instance of its block."""

    name: str
    values: tuple[Any, ...]
    reads: bool = False
    """True where it is the number of channels of the step's first operand."""
    makes: bool = False
    """True where it is the number of channels of the step's result.

    A list of numbers with `reads` or `makes` is how those channels are shared out.
    """
    counts_channels: bool = False
    """True where it is a number of channels, of whatever."""
    positional: bool = False
    default: object = NONE

    @property
    def needed(self) -> bool:
        """False where every instance has PyTorch's default."""
        return any(v != self.default for v in self.values if v is not None)


@dataclass
class Layer:
    """One step as PyTorch source."""

    call: str
    """A format: `{0}`, `{1}` the operands, `{me}` the layer, `{name}` a slot of `inline`, `{training}`."""
    make: str = ""
    """The class that `__init__` instantiates with `slots`; empty for a mere function."""
    slots: list[Slot] = field(default_factory=list)
    inline: list[Slot] = field(default_factory=list)
    joins: bool = False
    """True where it reads well around its first operand's expression: `relu(bn(conv(x)))`."""
    light: bool = False
    """True where it reads well inside of any call: a slice, a flatten, a global pool."""
    infix: str = ""
    same_channels: bool = False
    helpers: tuple[str, ...] = ()
    outs: int = 1


def access(tensor: TensorRef) -> str:
    """How `forward` says a tensor that belongs to no layer."""
    home, _, leaf = tensor.name.rpartition(".")
    drawer = "_parameters" if tensor.role == "weight" else "_buffers"
    return me(home) + (f".{leaf}" if is_plain_name(leaf) else f".{drawer}[{literal(leaf)}]")


def me(name: str) -> str:
    """How a layer or block of this dotted name is reached: `self.conv1`, `self._modules["half"]`."""
    parts = name.split(".") if name else []
    return "self" + "".join(f".{p}" if is_plain_name(p) else f"._modules[{literal(p)}]" for p in parts)


Describe = Callable[[Sequence[Any], Sequence[Step]], Layer]
TABLE: dict[str, Describe] = {}


def writes(name: str) -> Callable[[Describe], Describe]:
    """Make a function the one that describes steps of this operation."""

    def add(function: Describe) -> Describe:
        TABLE[name] = function
        return function

    return add


def square(pair: Sequence[int]) -> int | tuple[int, ...]:
    """One number where all are equal."""
    return pair[0] if len(set(pair)) == 1 else tuple(pair)


def torch_pad(pad: Sequence[int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) as F.pad takes it: (left, right, top, bottom)."""
    top, left, bottom, right = pad
    return left, right, top, bottom


def own_tensors(step: Step) -> list[str]:
    """The texts of the parameters of a step without a layer."""
    return [access(t).replace("{", "{{").replace("}", "}}") for t in step.tensors or ()]


def is_long(value: object) -> bool:
    """True for lists of numbers that would fill lines: they become named constants."""
    if isinstance(value, ChannelList):
        return len(literal(value)) > LONG_TEXT
    if isinstance(value, list) and value and all(isinstance(v, list) for v in value):
        return sum(map(len, value)) > LONG_LIST
    return isinstance(value, list) and len(value) > LONG_LIST and all(isinstance(v, int) for v in value)

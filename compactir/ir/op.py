"""What every operation declares: attributes, parameters, type rule, meaning, cost, samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, ClassVar, TypeVar

from compactir.diagnostics import CompactError
from compactir.ir.types import Array, TensorType


@dataclass(frozen=True)
class ParamSpec:
    """A parameter that an operation owns, such as `weight`, `bias` or `running_mean`.

    `role` is "weight" (trained) or "buffer" (kept, not trained). `init` names the seeded random draw of
    `compactir.weights.init` ("he", "bias", "gamma", "mean", "variance", "coefficient", "sign", …).
    """

    name: str
    shape: tuple[int, ...]
    role: str = "weight"
    init: str = "he"


@dataclass(frozen=True)
class Sample:
    """One small case of an operation: its attributes are in `op`, its value operands have these shapes."""

    op: Op
    shapes: tuple[tuple[int, ...], ...]


class Op:
    """Base of all operations. A subclass is a frozen dataclass whose fields are its attributes.

    Every operation makes one value. Operands are the value operands followed by the parameters that `params`
    names.
    """

    name: ClassVar[str] = ""
    elementwise: ClassVar[bool] = False
    """True where output element i depends on input elements i only, whatever the channel: shuffles pass."""
    per_channel: ClassVar[bool] = False
    """True where output channel c depends on input channel c (and channel c of the parameters) only."""
    distance: ClassVar[bool] = False
    """True where the results are distances: of several classes, the one with the smallest is the answer."""

    def params(self, *xs: Any, **kw: Any) -> list[ParamSpec]:
        """The parameters this operation owns, given its value operands."""
        return []

    def infer(self, *types: Any, **kw: Any) -> TensorType:
        """The type of the result. Raises a CompactError of room 2xx when the operands do not fit."""
        raise TypeError(f"{type(self).__name__} does not declare its type rule")

    def reference(self, *arrays: Any, **kw: Any) -> Array:
        """The meaning, in plain NumPy, in the dtype of the operands. Obviously right, never fast."""
        raise TypeError(f"{type(self).__name__} does not declare its meaning")

    def macs(self, *types: Any, **kw: Any) -> int:
        """Multiply-accumulates of convolution and linear layers by their closed formula, else 0."""
        return 0

    @classmethod
    def samples(cls) -> list[Sample]:
        """Small, odd and strided cases: every test of every stage uses them."""
        return []

    @property
    def label(self) -> str:
        """The stem of the names of unlabelled steps: `conv1`, `bn3`."""
        return self.name


OPS: dict[str, type[Op]] = {}
SPELLINGS: dict[str, Callable[..., Any]] = {}
OpClass = TypeVar("OpClass", bound=type[Op])
Spelling = TypeVar("Spelling", bound=Callable[..., Any])


def register(cls: OpClass) -> OpClass:
    """Make an operation known under its name."""
    if not cls.name or cls.name in OPS:
        raise ValueError(f"operation name {cls.name!r} is missing or taken")
    OPS[cls.name] = cls
    return cls


def spelling(function: Spelling) -> Spelling:
    """Make a function a word of the language.

    Its leading parameters annotated `TensorType` (or `*xs: TensorType`) are operands, the others attributes
    with the annotated types and defaults; it returns the operation, or a list of operations on the same
    operands (`split`).
    """
    name = function.__name__.rstrip("_")
    if name in SPELLINGS:
        raise ValueError(f"spelling {name!r} is taken")
    SPELLINGS[name] = function
    return function


@dataclass(frozen=True)
class Signature:
    """A spelling's declaration as the language reads it."""

    operands: tuple[str, ...]
    variadic: bool
    attributes: dict[str, inspect.Parameter]


def signature(name: str) -> Signature:
    """Operands and attributes of the spelling `name`."""
    parameters = inspect.signature(SPELLINGS[name], eval_str=True).parameters.values()
    operands = [p for p in parameters if p.annotation is TensorType]
    return Signature(
        tuple(p.name for p in operands),
        any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in operands),
        {p.name: p for p in parameters if p.annotation is not TensorType},
    )


def attributes(op: Op) -> Iterator[tuple[str, Any]]:
    """The attributes that differ from their defaults, in order of declaration."""
    for field in fields(op):  # type: ignore[arg-type]  # every registered Op is a dataclass
        value = getattr(op, field.name)
        if field.default is MISSING or value != field.default or _is_minus_zero(value):
            yield field.name, value


def _is_minus_zero(value: object) -> bool:
    """True for −0.0, which equals a default of 0.0 and is another number all the same."""
    return isinstance(value, float) and str(value) == "-0.0"


# -- counted multiply-accumulates ----------------------------------------------------------------------------

_TALLY: ContextVar[list[int] | None] = ContextVar("tally", default=None)


def tally(macs: int) -> None:
    """Called by references of convolution and linear layers where they multiply and accumulate."""
    counter = _TALLY.get()
    if counter is not None:
        counter[0] += macs


@contextmanager
def counted_macs() -> Iterator[list[int]]:
    """Count what the references execute in the body of a `with`; the first item of the list is the count."""
    counter = [0]
    token = _TALLY.set(counter)
    try:
        yield counter
    finally:
        _TALLY.reset(token)


def result_type(op: Op, types: Sequence[TensorType]) -> TensorType:
    """`op.infer(*types)`, where the number of operands may be wrong too.

    Errors: CIR206, and those of the type rule.
    """
    cls: Any = type(op)  # mypy holds classes for unhashable
    names, least, most = _operands(cls)
    if not least <= len(types) <= most:
        raise CompactError("CIR206", f"`{op.name}` takes ({names}), it has {len(types)} operands")
    return op.infer(*types)


@cache
def _operands(cls: type[Op]) -> tuple[str, int, float]:
    """Names of the operands of a type rule, the least and the highest number of them."""
    parameters = list(inspect.signature(cls.infer).parameters.values())[1:]
    several = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    least = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    return ", ".join(p.name for p in parameters), least, float("inf") if several else len(parameters)


# -- checks that many type rules share -----------------------------------------------------------------------


def need_map(op: Op, x: TensorType) -> tuple[int, int, int, int]:
    """(N, C, H, W), or CIR205 when the operand is not a feature map."""
    if x.rank != 4:
        raise CompactError(
            "CIR205",
            f"`{op.name}` needs a feature map (N, C, H, W), its operand is {x}",
            help={
                2: "remove the `flatten` or pooling before it",
                3: "make a map of one row of it: `as_map`",
            }.get(x.rank),
        )
    n, c, h, w = x.shape
    return n, c, h, w


def need_params(op: Op, given: Sequence[TensorType], *xs: TensorType) -> None:
    """CIR206 when `given` are not just the parameters that the operation declares for operands `xs`."""
    specs = op.params(*xs)
    if len(given) != len(specs):
        raise CompactError("CIR206", f"`{op.name}` needs {len(specs)} parameters, it has {len(given)}")
    for spec, type in zip(specs, given, strict=True):
        need_shape(op, spec.name, type, spec.shape)


def need_shape(op: Op, what: str, actual: TensorType, shape: Sequence[int]) -> None:
    """CIR206 when a parameter does not have the shape that the operation declared."""
    if actual.shape != tuple(shape):
        found, wanted = list(actual.shape), list(shape)
        raise CompactError("CIR206", f"the {what} of `{op.name}` has shape {found}, it must be {wanted}")

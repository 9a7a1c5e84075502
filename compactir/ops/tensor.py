"""Operations on tensors of any rank, as imported networks have them before they are raised to layers.

They have no word in the language. Frontends write them, the passes `raise-…` turn what they can into the
operations of the other files; what is left runs on the reference, in PyTorch, in ONNX and in C: functions
of maps in blocks of channels (`codegen/lower/lanewise.py`), all else as loops (`codegen/lower/tensors.py`).
The functions of `UNARY`, `BINARY` and `REDUCE` are also what frontends fold constants with, whole numbers and
truth values included; in a graph truth is 1 and falsehood 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.op import Op, Sample, register
from compactir.ir.types import Array, TensorType

Shape = tuple[int, ...]


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _divide(a: Array, b: Array) -> Array:
    """The quotient; of whole numbers it is rounded towards zero, as in C and in ONNX."""
    if np.issubdtype(a.dtype, np.integer):
        return np.asarray((np.abs(a) // np.abs(b)) * (np.sign(a) * np.sign(b)))
    return np.asarray(a / b)


UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": _erf,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "neg": np.negative,
    "not": np.logical_not,
    "round": np.rint,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "trunc": np.trunc,
}
"""Functions of one element; `round` goes to the even neighbour."""

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "and": np.logical_and,
    "div": _divide,
    "equal": np.equal,
    "fmod": np.fmod,
    "greater": np.greater,
    "less": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "or": np.logical_or,
    "pow": np.power,
    "sub": np.subtract,
    "xor": np.logical_xor,
}
"""Functions of two elements; `mod` has the sign of the divisor, `fmod` that of the dividend."""

REDUCE: dict[str, Callable[..., Array]] = {
    "max": np.max,
    "mean": np.mean,
    "min": np.min,
    "prod": np.prod,
    "sum": np.sum,
}
"""Functions of the elements along axes."""


class TensorOp(Op):
    """Base of the operations of this file."""


def _known(op: Op, function: str, table: dict[str, Any]) -> None:
    if function not in table:
        raise CompactError("CIR208", f"`{op.name}` has no function `{function}`", help=" ".join(table))


def _axes(op: Op, axes: Sequence[int], rank: int) -> None:
    if len(set(axes)) != len(axes) or not all(0 <= axis < rank for axis in axes):
        raise CompactError("CIR205", f"`{op.name}` names the axes {list(axes)} of {rank}")


@register
@dataclass(frozen=True)
class Unary(TensorOp):
    """A function of every element that no layer has: `exp`, `sqrt`, `floor` and so on.

    Shapes: any -> the same.
    Cost:   no MACs.
    Errors: CIR208 (no such function).
    Source: ONNX's operators of the same names.
    """

    name: ClassVar[str] = "unary"
    elementwise: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True
    function: str

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        _known(self, self.function, UNARY)
        return x

    def reference(self, x: Array) -> Array:
        """The meaning, in the dtype of x."""
        return np.asarray(UNARY[self.function](x)).astype(x.dtype)

    @property
    def label(self) -> str:
        """The function's name."""
        return self.function

    @classmethod
    def samples(cls) -> list[Sample]:
        """Functions that are defined everywhere, on maps, vectors and sequences."""
        shapes = [(2, 5, 3, 4), (1, 7), (2, 3, 4)]
        return [
            Sample(cls(f), (s,))
            for f, s in zip(["exp", "abs", "erf", "sin", "neg"], shapes * 2, strict=False)
        ]


@register
@dataclass(frozen=True)
class Binary(TensorOp):
    """A function of two elements, the smaller operand repeated along axes of extent 1.

    Shapes: a, b -> NumPy's broadcast of them.
    Cost:   no MACs.
    Errors: CIR208 (no such function), CIR211 (shapes that do not broadcast).
    Source: ONNX, "Broadcasting in ONNX": multidirectional.
    """

    name: ClassVar[str] = "binary"
    function: str

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The type rule."""
        _known(self, self.function, BINARY)
        return a.with_shape(*_broadcast(self, a, b))

    def reference(self, a: Array, b: Array) -> Array:
        """The meaning, in the dtype of a."""
        return np.asarray(BINARY[self.function](a, b)).astype(a.dtype)

    @property
    def label(self) -> str:
        """The function's name."""
        return self.function

    @classmethod
    def samples(cls) -> list[Sample]:
        """Equal shapes, broadcasts on either side."""
        return [
            Sample(cls("sub"), ((2, 5, 3, 4), (2, 5, 3, 4))),
            Sample(cls("max"), ((1, 5, 3, 1), (1, 1, 3, 4))),
            Sample(cls("less"), ((2, 4), (2, 4))),
        ]


def _broadcast(op: Op, *types: TensorType) -> Shape:
    try:
        return np.broadcast_shapes(*(t.shape for t in types))
    except ValueError:
        listed = " and ".join(map(str, types))
        raise CompactError("CIR211", f"`{op.name}` cannot combine {listed}") from None


@register
@dataclass(frozen=True)
class Choose(TensorOp):
    """Elements of a where the condition is not 0, of b elsewhere.

    Shapes: condition, a, b -> NumPy's broadcast of them.
    Cost:   no MACs.
    Errors: CIR211.
    Source: ONNX's Where.
    """

    name: ClassVar[str] = "choose"

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
        """The type rule."""
        return a.with_shape(*_broadcast(self, condition, a, b))

    def reference(self, condition: Array, a: Array, b: Array) -> Array:
        """The meaning."""
        return np.where(condition != 0, a, b)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Equal shapes."""
        return [Sample(cls(), ((2, 3, 4), (2, 3, 4), (2, 3, 4)))]


@register
@dataclass(frozen=True)
class Reduce(TensorOp):
    """One element for all along some axes; `keep` leaves them with extent 1.

    Shapes: x -> x without (or with 1 for) the axes.
    Cost:   no MACs by convention.
    Errors: CIR205 (no such axis), CIR208 (no such function).
    Source: ONNX's ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceProd.
    """

    name: ClassVar[str] = "reduce"
    function: str
    axes: tuple[int, ...]
    keep: bool = True

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        _known(self, self.function, REDUCE)
        _axes(self, self.axes, x.rank)
        kept = [1 if i in self.axes else e for i, e in enumerate(x.shape) if self.keep or i not in self.axes]
        return x.with_shape(*kept)

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return np.asarray(REDUCE[self.function](x, axis=self.axes, keepdims=self.keep)).astype(x.dtype)

    @property
    def label(self) -> str:
        """`reduce_mean`."""
        return f"reduce_{self.function}"

    @classmethod
    def samples(cls) -> list[Sample]:
        """One axis and several, kept and dropped."""
        return [
            Sample(cls("mean", (2, 3)), ((2, 5, 3, 4),)),
            Sample(cls("sum", (1,), keep=False), ((1, 7, 2),)),
            Sample(cls("max", (2,), keep=False), ((2, 3, 4),)),
        ]


@register
@dataclass(frozen=True)
class Reshape(TensorOp):
    """The same elements in the same order under another shape; one extent may be −1: what is left.

    Shapes: x -> shape.
    Cost:   none.
    Errors: CIR205 (another number of elements).
    Source: ONNX's Reshape.
    """

    name: ClassVar[str] = "reshape"
    shape: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        rest = prod(e for e in self.shape if e != -1)
        shape = [x.size // rest if e == -1 and rest > 0 else e for e in self.shape]
        if min(self.shape, default=1) < -1 or self.shape.count(-1) > 1 or prod(shape) != x.size:
            raise CompactError("CIR205", f"{x} cannot have the shape {list(self.shape)}")
        return x.with_shape(*shape)

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x.reshape(self.shape)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Into groups and back."""
        return [Sample(cls((-1, 2, 3, 4)), ((1, 6, 4),)), Sample(cls((-1, 12)), ((2, 3, 4),))]


@register
@dataclass(frozen=True)
class Transpose(TensorOp):
    """Axes in another order: axis i of the result is axis order[i] of x.

    Shapes: x -> x's extents in that order.
    Cost:   none where it can be folded away, else a copy.
    Errors: CIR205 (not an order of the axes).
    Source: ONNX's Transpose.
    """

    name: ClassVar[str] = "transpose"
    order: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        _axes(self, self.order, x.rank)
        if len(self.order) != x.rank:
            raise CompactError("CIR205", f"`transpose` orders {len(self.order)} axes, its operand is {x}")
        return x.with_shape(*(x.shape[i] for i in self.order))

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x.transpose(self.order)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Space and channels, groups and channels."""
        return [Sample(cls((0, 2, 3, 1)), ((1, 3, 4, 5),)), Sample(cls((0, 2, 1)), ((2, 3, 4),))]


@register
@dataclass(frozen=True)
class Take(TensorOp):
    """Elements of one axis by a constant list: slices, strides, repeats, reversals.

    Shapes: x -> x with len(indices) along the axis.
    Cost:   none where it can be folded away, else a copy.
    Errors: CIR205 (no such axis), CIR209 (no such element).
    Source: ONNX's Slice, Split, Tile and, for one axis, Gather.
    """

    name: ClassVar[str] = "take"
    axis: int
    indices: ChannelList

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        _axes(self, (self.axis,), x.rank)
        if not 0 <= self.indices.top < x.shape[self.axis]:
            raise CompactError(
                "CIR209", f"`take` reads element {self.indices.top} of axis {self.axis} of {x}"
            )
        return x.with_shape(*x.shape[: self.axis], len(self.indices), *x.shape[self.axis + 1 :])

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x.take(self.indices.array, self.axis)

    @property
    def label(self) -> str:
        """`slice` for a range."""
        return "slice" if self.indices.is_plain_range else "take"

    @classmethod
    def samples(cls) -> list[Sample]:
        """A stride, a reversal, repeats."""
        return [
            Sample(cls(2, ChannelList.of(range(1, 6, 2))), ((1, 3, 6, 2),)),
            Sample(cls(1, ChannelList.of([3, 2, 1, 0])), ((2, 4, 5),)),
            Sample(cls(1, ChannelList.of([0, 0, 2])), ((2, 3),)),
        ]


@register
@dataclass(frozen=True)
class Join(TensorOp):
    """Put tensors one after the other along an axis.

    Shapes: tensors that differ in that axis only -> the sum along it.
    Cost:   none where it can be folded away, else a copy.
    Errors: CIR205, CIR210.
    Source: ONNX's Concat.
    """

    name: ClassVar[str] = "join"
    axis: int

    def infer(self, *xs: TensorType) -> TensorType:
        """The type rule."""
        if not xs:
            raise CompactError("CIR210", "`join` needs at least one operand")
        _axes(self, (self.axis,), xs[0].rank)
        rests = {(*x.shape[: self.axis], *x.shape[self.axis + 1 :]) for x in xs}
        if len(rests) > 1 or len({x.rank for x in xs}) > 1:
            raise CompactError("CIR210", f"`join` cannot join {' and '.join(map(str, xs))}")
        total = sum(x.shape[self.axis] for x in xs)
        return xs[0].with_shape(*xs[0].shape[: self.axis], total, *xs[0].shape[self.axis + 1 :])

    def reference(self, *xs: Array) -> Array:
        """The meaning."""
        return np.concatenate(xs, axis=self.axis)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Rows of maps, steps of sequences."""
        return [
            Sample(cls(2), ((1, 3, 2, 4), (1, 3, 1, 4))),
            Sample(cls(1), ((2, 3, 4), (2, 2, 4), (2, 1, 4))),
        ]


@register
@dataclass(frozen=True)
class Pad(TensorOp):
    """A constant around a tensor, so many elements before and after along each axis.

    Shapes: x -> extents plus before plus after.
    Cost:   none where it can be folded away, else a copy.
    Errors: CIR205 (not two numbers from 0 on per axis).
    Source: ONNX's Pad, mode "constant".
    """

    name: ClassVar[str] = "pad"
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        if (
            not len(self.before) == len(self.after) == x.rank
            or min((*self.before, *self.after), default=0) < 0
        ):
            raise CompactError(
                "CIR205", f"`pad` by {list(self.before)} and {list(self.after)} does not fit {x}"
            )
        return x.with_shape(*(b + e + a for b, e, a in zip(self.before, x.shape, self.after, strict=True)))

    def reference(self, x: Array) -> Array:
        """The meaning."""
        widths = list(zip(self.before, self.after, strict=True))
        return np.pad(x, widths, constant_values=x.dtype.type(self.value)) if widths else x

    @classmethod
    def samples(cls) -> list[Sample]:
        """Maps and sequences."""
        return [
            Sample(cls((0, 0, 1, 0), (0, 0, 2, 1)), ((1, 3, 4, 5),)),
            Sample(cls((0, 0, 2), (0, 1, 0), -1.5), ((2, 3, 4),)),
        ]


@register
@dataclass(frozen=True)
class Expand(TensorOp):
    """Repeat along axes of extent 1, and along new ones in front, up to a shape; −1 keeps an extent.

    Shapes: x -> shape.
    Cost:   none where it can be folded away, else a copy.
    Errors: CIR211.
    Source: ONNX's Expand.
    """

    name: ClassVar[str] = "expand"
    shape: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        new = len(self.shape) - x.rank
        shape = [x.shape[i - new] if e == -1 and i >= new else e for i, e in enumerate(self.shape)]
        if new < 0 or any(a not in (1, b) for a, b in zip(x.shape, shape[new:], strict=True)):
            raise CompactError("CIR211", f"`expand` cannot bring {x} to {list(self.shape)}")
        return x.with_shape(*shape)

    def reference(self, x: Array) -> Array:
        """The meaning."""
        shape = self.infer(TensorType.f32(*x.shape)).shape
        return np.broadcast_to(x, shape).copy()

    @classmethod
    def samples(cls) -> list[Sample]:
        """A map from a vector of channels, rows from one."""
        return [Sample(cls((-1, 3, 4, 5)), ((1, 3, 1, 1),)), Sample(cls((-1, 3, 2)), ((2, 1, 2),))]


@register
@dataclass(frozen=True)
class MatMul(TensorOp):
    """The product of matrices, the last two axes; the axes before broadcast.

    Shapes: a (…, M, K), b (…, K, N) -> (…, M, N); a tensor with one axis is a row (a) or a column (b).
    Cost:   no MACs by convention: raised to a linear layer, it has those.
    Errors: CIR211.
    Source: numpy.matmul, and so ONNX's MatMul.
    """

    name: ClassVar[str] = "matmul"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The type rule."""
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if not a.rank or not b.rank or left[-1] != right[-2]:
            raise CompactError("CIR211", f"`matmul` cannot multiply {a} and {b}")
        before = _broadcast(self, a.with_shape(*left[:-2]), b.with_shape(*right[:-2]))
        return a.with_shape(
            *before, *(left[-2:-1] if a.rank > 1 else ()), *(right[-1:] if b.rank > 1 else ())
        )

    def reference(self, a: Array, b: Array) -> Array:
        """The meaning."""
        return np.asarray(a @ b)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Matrices of a batch."""
        return [Sample(cls(), ((2, 3, 4), (2, 4, 5))), Sample(cls(), ((1, 2, 3, 4), (1, 1, 4, 2)))]

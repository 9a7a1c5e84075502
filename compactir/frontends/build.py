"""What every frontend builds with: operations that are folded where all operands are known, else appended.

A tensor of a foreign model is a NumPy array (known when the network is compiled) or a value of the graph. A
frontend writes one function per foreign operator against the methods here and gets the folding of constants,
whole shape computations included, for free. Raising to layers is not done here: see `RAISE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.diagnostics import CompactError, Span
from compactir.ir.channels import ChannelList
from compactir.ir.graph import Graph, Param, Value
from compactir.ir.op import Op
from compactir.ir.types import Array, TensorType
from compactir.ops import tensor
from compactir.ops.activation import Activation
from compactir.passes import parse_pipeline, run_pipeline

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Tensor = Array | Value

LARGEST = 1 << 27
"""Elements of a constant at most (0.5 GiB of float32; VGG has one of 103 million): files claim anything."""
LARGEST_INDEX = 1 << 24
"""The same for lists of places and for matrices that are made when a model is read."""

RAISE = "raise-sequences,raise-shuffle,raise-functions,raise-tensors,raise-groups,dead-code"
"""What turns tensor operations into layers: the same for every frontend."""


def raised(graph: Graph) -> Graph:
    """Turn what a frontend wrote into layers, in place; returns the graph. Errors: CIR305."""
    from compactir.ir.verify import verify

    verify(graph)
    run_pipeline(graph, parse_pipeline(RAISE))
    for node in graph.nodes:
        if not node.values:
            continue  # all of it is known: what it computes from is a parameter too
        for param, spec in zip(node.params, node.op.params(*(v.type for v in node.values)), strict=False):
            param.init = spec.init  # so that random weights are drawn as for a network of our own
    return graph


def is_known(x: Tensor) -> TypeIs[Array]:
    """True for a tensor whose elements are known."""
    return isinstance(x, np.ndarray)


def shape_of(x: Tensor) -> tuple[int, ...]:
    """The extents of a tensor."""
    return x.shape if is_known(x) else x.type.shape


def bounded(shape: Iterable[int], largest: int = LARGEST) -> tuple[int, ...]:
    """The shape, if a constant of it is no absurdity. Errors: CIR635."""
    extents = tuple(int(e) for e in shape)
    if prod(max(e, 1) for e in extents) > largest or min(extents, default=0) < 0:
        raise CompactError(
            "CIR635",
            f"a constant of shape {list(extents)} is claimed",
            notes=[f"at most {largest} elements are made"],
        )
    return extents


def identifier(text: str, otherwise: str) -> str:
    """The text as a name in C, Python and `.arch` alike: ASCII letters, digits, underscores."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")[:120]
    if not name:
        return otherwise
    return name if not name[0].isdigit() else f"{otherwise}_{name}"


class Builder:
    """The graph under construction. `at` says on whose behalf nodes are appended."""

    def __init__(self, name: str, doc: str = "") -> None:
        self.graph = Graph(identifier(name, "network"), doc=doc)
        self.stem = "step"
        self.span: Span | None = None
        self._taken: dict[str, int] = {}
        """Names in use, each with the number that was tried last."""

    # -- names and operands ----------------------------------------------------------------------------------

    def at(self, stem: str, span: Span | None = None) -> None:
        """What the following nodes are called, and where they come from."""
        self.stem, self.span = stem, span

    def _name(self) -> str:
        """A name that no node, value or parameter has."""
        name, n = self.stem, self._taken.get(self.stem, 0)
        while name in self._taken:
            n += 1
            name = f"{self.stem}_{n + 1}"
        self._taken[self.stem] = n
        self._taken.setdefault(name, 0)
        return name

    def input(self, name: str, shape: Sequence[int]) -> Value:
        """Declare an input of the network."""
        self.at(identifier(name, "input"))
        return self.graph.input(self._name(), TensorType.f32(*shape))

    def output(self, name: str, x: Tensor) -> None:
        """Declare what the network returns."""
        unique, n = identifier(name, "output"), 1
        while unique in self.graph.outputs:
            n += 1
            unique = f"{identifier(name, 'output')}_{n}"
        self.at(unique)
        value = self._operand(x, self._name()) if is_known(x) else x
        self.graph.outputs[unique] = value

    def _operand(self, x: Tensor, stem: str) -> Value:
        """A value, or a parameter that holds the constant."""
        if not is_known(x):
            return x
        return self.graph.bind(f"{stem}.constant", np.array(x, np.float32, order="C"))

    def place(self, op: Op, *operands: Tensor) -> Value:
        """Append an operation; constants become parameters."""
        name = self._name()
        return self.graph.append(op, [self._operand(x, name) for x in operands], name, self.span)

    def layer(self, op: Op, x: Value, *weights: Array, name: str = "") -> Value:
        """Append a layer with its parameters. Errors: those of its type rule."""
        if name:
            self.stem = name
        name = self._name()
        specs = op.params(x.type)
        types = [TensorType.f32(*np.shape(w)) for w in weights]
        result = op.infer(x.type, *types)
        params = []
        for spec, type, weight in zip(specs, types, weights, strict=True):
            param = self.graph.param(f"{name}.{spec.name}", type, spec.role, spec.init)
            self.graph.weights[param.name] = np.ascontiguousarray(weight, np.float32)
            params.append(param)
        return self.graph.append(op, [x, *params], name, self.span, result)

    # -- operations that fold --------------------------------------------------------------------------------

    def activation(self, op: Activation, x: Tensor) -> Tensor:
        """A function of one element that is a layer."""
        return op.reference(x) if is_known(x) else self.place(op, x)

    def unary(self, function: str, x: Tensor) -> Tensor:
        """A function of one element, see `tensor.UNARY`."""
        if is_known(x):
            y = np.asarray(tensor.UNARY[function](x))
            return y if y.dtype == np.bool_ else y.astype(x.dtype)
        return self.place(tensor.Unary(function), x)

    def binary(self, function: str, a: Tensor, b: Tensor) -> Tensor:
        """A function of two elements with broadcasting, see `tensor.BINARY`."""
        if is_known(a) and is_known(b):
            bounded(np.broadcast_shapes(a.shape, b.shape))
            y = np.asarray(tensor.BINARY[function](a, b))
            return y if y.dtype == np.bool_ else y.astype(a.dtype)
        return self.place(tensor.Binary(function), a, b)

    def choose(self, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Elements of a where the condition holds, of b elsewhere."""
        if is_known(condition):
            if condition.size and bool(np.all(condition)) and not is_known(a):
                return self.expand(a, np.broadcast_shapes(condition.shape, shape_of(a), shape_of(b)))
            if is_known(a) and is_known(b):
                bounded(np.broadcast_shapes(condition.shape, a.shape, b.shape))
                return np.where(condition != 0, a, b)
        return self.place(tensor.Choose(), condition, a, b)

    def reduce(self, function: str, x: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """One element for all along these axes."""
        axes = tuple(a % max(len(shape_of(x)), 1) for a in axes)
        if is_known(x):
            return np.asarray(tensor.REDUCE[function](x, axis=axes, keepdims=keep)).astype(x.dtype)
        return self.place(tensor.Reduce(function, axes, keep), x)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Another shape, no −1 in it."""
        shape = tuple(int(e) for e in shape)
        if is_known(x):
            return x.reshape(shape)
        return x if shape_of(x) == shape else self.place(tensor.Reshape(shape), x)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Axes in another order."""
        order = tuple(int(i) for i in order)
        if is_known(x):
            return x.transpose(order)
        return x if order == tuple(range(len(order))) else self.place(tensor.Transpose(order), x)

    def take(self, x: Tensor, axis: int, indices: Sequence[int] | Array) -> Tensor:
        """Elements of one axis by a list of them."""
        bounded((len(indices),), LARGEST_INDEX)
        listed = np.asarray(indices, np.int64)
        bounded((*shape_of(x)[:axis], listed.size, *shape_of(x)[axis + 1 :]))
        if is_known(x):
            return x.take(listed, axis)
        if not listed.size:  # nothing of it: known, whatever it holds
            return np.zeros((*shape_of(x)[:axis], 0, *shape_of(x)[axis + 1 :]), np.float32)
        if np.array_equal(listed, np.arange(shape_of(x)[axis])):
            return x
        return self.place(tensor.Take(axis, ChannelList.of(listed)), x)

    def join(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors one after the other."""
        if all(map(is_known, xs)):
            return np.concatenate(xs, axis)  # type: ignore[arg-type]  # `all` does not narrow
        xs = [x for x in xs if shape_of(x)[axis]]
        return xs[0] if len(xs) == 1 else self.place(tensor.Join(axis), *xs)

    def pad(self, x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
        """A constant around a tensor; numbers below 0 cut elements off."""
        for axis, (b, a) in enumerate(zip(before, after, strict=True)):
            if b < 0 or a < 0:
                x = self.take(x, axis, range(max(-b, 0), shape_of(x)[axis] - max(-a, 0)))
        widths = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        bounded(e + b + a for e, (b, a) in zip(shape_of(x), widths, strict=True))
        if is_known(x):
            return np.pad(x, widths, constant_values=value)
        if not any(map(any, widths)):
            return x
        return self.place(tensor.Pad(tuple(b for b, _ in widths), tuple(a for _, a in widths), value), x)

    def expand(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Repeated along axes of extent 1 up to a shape."""
        shape = bounded(shape)
        if is_known(x):
            return np.broadcast_to(x, shape)
        return x if shape_of(x) == shape else self.place(tensor.Expand(shape), x)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of matrices."""
        if is_known(a) and is_known(b):
            bounded(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2:-1] + b.shape[-1:]))
            return np.asarray(a @ b)
        if is_known(a) and not is_known(b):  # constants come last: (Bᵀ Aᵀ)ᵀ
            turned = np.swapaxes(a, -1, -2) if a.ndim > 1 else a
            product = self.place(tensor.MatMul(), self.transpose(b, _turned(b)), turned)
            return self.transpose(product, _turned(product)) if a.ndim > 1 else product
        return self.place(tensor.MatMul(), a, b)

    def on_map(self, x: Value, make: Callable[[Value], Value]) -> Value:
        """What a layer makes of a value: of a sequence (N, C, L) as a map of one row."""
        return self.as_sequence(make(self.as_map(x))) if x.type.rank == 3 else make(x)

    def as_map(self, x: Value) -> Value:
        """A sequence (N, C, L) as a map of one row."""
        n, channels, length = x.type.shape
        return self._aside("map", x, (n, channels, 1, length))

    def as_sequence(self, x: Value) -> Value:
        """A map of one row as a sequence."""
        n, channels, _, length = x.type.shape
        return self._aside("sequence", x, (n, channels, length))

    def _aside(self, what: str, x: Value, shape: tuple[int, ...]) -> Value:
        """A reshape that leaves its name to the layer beside it."""
        stem, self.stem = self.stem, f"{self.stem}_{what}"
        y = self.place(tensor.Reshape(shape), x)
        self.stem = stem
        return y

    # -- usual compositions ----------------------------------------------------------------------------------

    def scalar(self, value: float, like: Tensor) -> Array:
        """A number in the element type of a tensor."""
        dtype: Any = like.dtype if is_known(like) else np.float32
        return np.asarray(value, dtype)

    def scaled(self, x: Tensor, factor: float = 1.0, shift: float = 0.0) -> Tensor:
        """The line factor · x + shift."""
        if factor != 1:
            x = self.binary("mul", x, self.scalar(factor, x))
        return self.binary("add", x, self.scalar(shift, x)) if shift else x

    def param_of(self, value: Tensor) -> Param | None:
        """The parameter that a value is."""
        return value if isinstance(value, Param) else None


def _turned(x: Tensor) -> list[int]:
    """The axes of a tensor with the last two exchanged."""
    rank = len(shape_of(x))
    return [*range(rank - 2), rank - 1, rank - 2]

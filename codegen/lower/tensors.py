"""How each operation on tensors becomes loops (`nests`): functions, sums, products, elements elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from compactir.codegen.lower.convolution import dense_weights, weights_of
from compactir.codegen.lower.lanewise import ACTIVATIONS, scale_shift
from compactir.codegen.lower.nests import Nests, Work, loops
from compactir.codegen.lower.state import spatial
from compactir.codegen.lower.strides import View, constant
from compactir.ir.graph import Node
from compactir.ops import norm, pool, tensor
from compactir.ops.activation import Softmax
from compactir.ops.arrange import AsMap, AsSequence, Concat, Dropout, Flatten, Gather, Identity, Shuffle
from compactir.ops.arrange import View as Rename
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear

# -- functions of one element --------------------------------------------------------------------------------


@loops(*ACTIVATIONS, tensor.Unary, tensor.Binary, tensor.Choose, Add, Mul, functions=True)
def _function(nests: Nests, node: Node) -> None:
    """A function of the elements of one value, and of those of others at their places."""
    args = list(node.args)
    if begun := [v for v in args if v in nests.begun]:
        work = nests.begun.pop(begun[0])
        args.remove(begun[0])
    else:
        shape = nests.shape(node.out)
        work = Work(shape, (nests.view(args.pop(0)).expanded(shape),))
    nests.make(node, work.then(node, [node.op], [nests.view(v) for v in args]))


@loops(norm.Affine, norm.BatchNorm, functions=True)
def _affine(nests: Nests, node: Node) -> None:
    """Scale and shift every channel, the second axis; then the epilogue."""
    shape, x = nests.shape(node.out), node.args[0]
    along = (-1, *[1] * (len(shape) - 2))
    scale, shift = (constant(a.reshape(along)) for a in scale_shift(nests.state, node))
    epilogue = node.op.epilogue if isinstance(node.op, norm.Affine) else ()
    work = nests.begun.pop(x) if x in nests.begun else Work(shape, (nests.view(x),))
    nests.make(node, work.then(node, [Mul(), Add(), *epilogue], [scale, shift]))


# -- sums ----------------------------------------------------------------------------------------------------


def joined(view: View, function: str, axes: Sequence[int], keep: bool) -> Work:
    """All along some axes as one element."""
    kept = [i for i in range(len(view.shape)) if i not in axes]
    shape = tuple(view.shape[i] if i in kept else 1 for i in range(len(view.shape)) if keep or i in kept)
    x = view.transposed([*kept, *axes])
    reduced = tuple(view.shape[i] for i in axes)
    outer = replace(x, shape=x.shape[: len(kept)], strides=x.strides[: len(kept)]).reshaped(shape)
    assert outer is not None  # only extents of 1 come and go
    whole = replace(x, shape=(*shape, *reduced), strides=(*outer.strides, *x.strides[len(kept) :]))
    return Work(shape, (whole,), function, reduced)


@loops(tensor.Reduce, pool.GlobalAvgPool, pool.GlobalMaxPool, pool.AvgPool, pool.MaxPool)
def _reduce(nests: Nests, node: Node) -> None:
    """One element for all along some axes."""
    view, op = nests.view(node.args[0]), node.op
    match op:
        case tensor.Reduce(function, axes, keep):
            work = joined(view, function, axes, keep)
        case pool.GlobalAvgPool() | pool.AvgPool():
            work = joined(view, "mean", _pooled(node), True)
        case _:
            work = joined(view, "max", _pooled(node), True)
    nests.make(node, work)


def _pooled(node: Node) -> list[int]:
    sizes = zip(spatial(node.args[0].type), spatial(node.out.type), strict=True)
    return [axis for axis, (size, out) in enumerate(sizes, 2) if size != out]


@loops(tensor.MatMul)
def _matmul(nests: Nests, node: Node) -> None:
    """Sums of products along the last axis of the first and the last but one of the second."""
    a, b = (nests.view(v) for v in node.args)
    a = a if len(a.shape) > 1 else a.expanded((1, *a.shape))
    b = b if len(b.shape) > 1 else replace(b, shape=(*b.shape, 1), strides=(*b.strides, 0))
    nests.make(node, _product(nests, node, a, b))


@loops(Linear)
def _linear(nests: Nests, node: Node) -> None:
    """The product with the turned weights, which lie row by row."""
    x, weight, *bias = node.args
    batch, features = nests.shape(node.out)[0], weight.type.shape[1]
    rows = nests.shaped(nests.view(x), (batch, features), f"{node.out.name}.order")
    turned = constant(np.ascontiguousarray(nests.state.weight(weight).T))
    work = _product(nests, node, rows, turned)
    nests.make(node, work.then(node, [Add()], [nests.view(bias[0])]) if bias else work)


@loops(Conv)
def _convolution(nests: Nests, node: Node) -> None:
    """A linear layer of whole maps is rows times the turned weights, one of every pixel these times maps."""
    assert isinstance(node.op, Conv)
    weights, bias, extras = weights_of(nests.state, node)
    batch, pixels = nests.shape(node.out)[0], prod(spatial(node.out.type))
    matrix = dense_weights(node.op.connect, weights)[0].reshape(node.op.connect.out_channels, -1)
    shape = (batch, matrix.shape[1]) if pixels == 1 else (batch, matrix.shape[1], pixels)
    x = nests.shaped(nests.view(node.args[0]), shape, f"{node.out.name}.order")
    if pixels == 1:
        work = _product(nests, node, x, constant(np.ascontiguousarray(matrix.T)))
    else:
        work = _product(nests, node, constant(matrix), x)
    further = [constant(bias if pixels == 1 else bias[:, None])]
    for value in extras:
        spread = nests.view(value).expanded(nests.shape(node.out))
        further.append(nests.shaped(spread, work.shape, f"{value.name}.order"))
    nests.make(node, work.then(node, [Add(), *node.op.epilogue], further))


def _product(nests: Nests, node: Node, a: View, b: View) -> Work:
    """The product of matrices: rows of a times columns of b, which had better lie side by side."""
    if b.shape[-1] > 1 and b.strides[-1] != 1 and a.shape[-2] > 1:
        b = nests.in_order(b, f"{node.out.name}.turned")
    before = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, depth, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    a, b = a.expanded((*before, rows, depth)), b.expanded((*before, depth, columns))
    whole = (*before, rows, columns, depth)
    left = replace(a, shape=whole, strides=(*a.strides[:-1], 0, a.strides[-1]))
    right = replace(b, shape=whole, strides=(*b.strides[:-2], 0, b.strides[-1], b.strides[-2]))
    return Work(whole[:-1], (left, right), "dot", (depth,))


@loops(Softmax)
def _softmax(nests: Nests, node: Node) -> None:
    """The powers of e of what the largest leaves, as shares of their sum: over the second axis."""
    x, name = nests.view(node.args[0]), node.out.name
    one = (x.shape[0], 1, *x.shape[2:])
    largest, powers, total = (
        nests.aside(f"{name}.{what}", shape)
        for what, shape in (("largest", one), ("powers", x.shape), ("total", one))
    )
    nests.aside_step(joined(x, "max", [1], keep=True), largest)
    minus, power = tensor.Binary("sub"), tensor.Unary("exp")
    nests.aside_step(Work(x.shape, (x,)).then(node, [minus, power], [largest]), powers)
    nests.aside_step(joined(powers, "sum", [1], keep=True), total)
    nests.make(node, Work(x.shape, (powers,)).then(node, [tensor.Binary("div")], [total]))


# -- the same elements elsewhere -----------------------------------------------------------------------------


@loops(tensor.Reshape, Flatten, AsMap, AsSequence)
def _reshape(nests: Nests, node: Node) -> None:
    """No code where strides say it, else a copy in order."""
    shape = nests.shape(node.out)
    nests.views[node.out] = nests.shaped(nests.view(node.args[0]), shape, f"{node.out.name}.order")


@loops(tensor.Transpose)
def _transpose(nests: Nests, node: Node) -> None:
    """No code."""
    assert isinstance(node.op, tensor.Transpose)
    nests.views[node.out] = nests.view(node.args[0]).transposed(node.op.order)


@loops(tensor.Expand)
def _expand(nests: Nests, node: Node) -> None:
    """No code."""
    nests.views[node.out] = nests.view(node.args[0]).expanded(nests.shape(node.out))


@loops(Dropout, Identity)
def _nothing(nests: Nests, node: Node) -> None:
    """No code."""
    nests.views[node.out] = nests.view(node.args[0])


@loops(tensor.Take, Gather, Shuffle)
def _take(nests: Nests, node: Node) -> None:
    """No code for elements in equal steps, else a copy by a table."""
    view, op = nests.view(node.args[0]), node.op
    if isinstance(op, tensor.Take):
        axis, indices = op.axis, op.indices
    else:
        assert isinstance(op, Rename)
        axis, indices = 1, op.sources(view.shape[1])
    if len(indices.runs) == 1:
        [run] = indices.runs
        nests.views[node.out] = view.part(axis, run.start, run.count, run.step)
        return
    y = nests.place(node.out)
    numbers = tuple(view.strides[axis] * i for i in indices)
    one = view.part(axis, 0, 1).expanded(y.shape)
    nests.moved(node, [nests.call(Work(y.shape, (one,)), y, (axis, numbers))], y)


@loops(tensor.Join, Concat)
def _join(nests: Nests, node: Node) -> None:
    """Every operand into its part of the result."""
    axis = node.op.axis if isinstance(node.op, tensor.Join) else 1
    y, calls, at = nests.place(node.out), [], 0
    for value in node.args:
        view = nests.view(value)
        part = y.part(axis, at, view.shape[axis])
        calls.append(nests.call(Work(view.shape, (view,)), part))
        at += view.shape[axis]
    nests.moved(node, calls, y)


@loops(tensor.Pad)
def _pad(nests: Nests, node: Node) -> None:
    """The border, two sides of every axis, and the operand inside; no element is written twice."""
    op = node.op
    assert isinstance(op, tensor.Pad)
    y, view, border = nests.place(node.out), nests.view(node.args[0]), constant(np.array(op.value))
    calls, inner = [], y
    for axis, (before, after) in enumerate(zip(op.before, op.after, strict=True)):
        extent = inner.shape[axis]
        for first, count in ((0, before), (extent - after, after)):
            part = inner.part(axis, first, count)
            if prod(part.shape):
                calls.append(nests.call(Work(part.shape, (border.expanded(part.shape),)), part))
        inner = inner.part(axis, before, extent - before - after)
    calls.append(nests.call(Work(view.shape, (view,)), inner))
    nests.moved(node, calls, y)

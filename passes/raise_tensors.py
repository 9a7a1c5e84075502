"""reduce(x), take(x), binary(x, constant), matmul(x, constant) ... -> the layer that does the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, prod
from typing import ClassVar, TypeVar

import numpy as np

from compactir.ir.connectivity import Pad as Padding
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.op import Op
from compactir.ir.types import Array
from compactir.ops.arrange import AsMap, AsSequence, Concat, Flatten, Gather
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear, Rbf
from compactir.ops.norm import Affine
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Upsample
from compactir.ops.tensor import Binary, Expand, Join, MatMul, Pad, Reduce, Reshape, Take, Unary
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class RaiseTensors(Pass):
    """Make layers of the tensor operations that are layers, one by one.

        %a = reduce(%x) {function="mean", axes=[2, 3]}          %a = global_avg_pool(%x)
        %b = reshape(%a) {shape=[1, 8]}                 ->      %b = flatten(%a)
        %c = matmul(%b, @w)                                     %d = linear(%b, @c.weight, @c.bias) {out=4}
        %d = binary(%c, @v) {function="add"}

    On maps and vectors: reductions over space are global pools, over one of its axes pools, reshapes flatten
    or make maps of vectors, takes and joins along the channels are gathers and concats, a product with a
    constant matrix is a linear layer, sums and products of two values are add and mul, with constants per
    channel they are affine (and join the linear layer or affine before), padding and cropping go into the
    convolution or pool behind, an expanded 1x1 map is an upsampled one, squared distances to constant rows
    are rbf. Whatever has another rank stays. Needs: bound weights. Keeps: every returned value, but for
    rounding.
    """

    name: ClassVar[str] = "raise-tensors"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        work = _Work(Edit(graph))
        nodes: list[Node] = []
        for node in graph.nodes:
            work.before = []
            for rule in _RULES.get(type(node.op), ()):
                if not work.edit.gone(node) and rule(work, node):
                    self.did(node, f"a {node.op.name}" if not work.edit.gone(node) else "joins what it reads")
                    break
            nodes += [*work.before, node]
        graph.nodes = nodes
        work.edit.sweep(n for n in nodes if isinstance(n.op, Pad | Reshape | Take))
        return work.edit.finish()


@dataclass
class _Work:
    """The round of edits, and what stands in front of the node in hand."""

    edit: Edit
    before: list[Node] = field(default_factory=list)

    def insert(self, op: Op, x: Value, stem: str, node: Node, *weights: Array) -> Value:
        """A new node in front of `node`."""
        graph = self.edit.graph
        specs = op.params(x.type)
        params = [
            graph.bind(f"{stem}.{s.name}", w.astype(self.edit.dtype), s.role)
            for s, w in zip(specs, weights, strict=True)
        ]
        new = graph.make(op, [x, *params], stem, node.span)
        new.name = new.out.name
        self.edit.add(new)
        self.before.append(new)
        return new.out

    def maker(self, value: Value) -> Node | None:
        """The node that makes a value that is known to nobody else than its reader."""
        maker = self.edit.makers.get(value)
        return maker if maker is not None and self.edit.only_reader(value) is not None else None


_Rule = Callable[[_Work, Node], bool]
_RULES: dict[type[Op], list[_Rule]] = {}
_RuleType = TypeVar("_RuleType", bound=_Rule)


def _of(*ops: type[Op]) -> Callable[[_RuleType], _RuleType]:
    def add(rule: _RuleType) -> _RuleType:
        for op in ops:
            _RULES.setdefault(op, []).append(rule)
        return rule

    return add


def _is_layered(value: Value) -> bool:
    """True for a map or a vector that is no parameter."""
    return value.type.rank in (2, 4) and not isinstance(value, Param)


# -- shapes --------------------------------------------------------------------------------------------------


_SHAPES = Reshape | Flatten | AsMap | AsSequence


@_of(Reshape)
def _reshape(work: _Work, node: Node) -> bool:
    x, shape = node.args[0], node.out.type.shape
    if isinstance(x, Param):
        return False
    above = work.edit.makers.get(x)
    while above is not None and isinstance(above.op, _SHAPES):  # only the last shape counts
        x = above.args[0]
        above = work.edit.makers.get(x)
    if shape == x.type.shape:
        work.edit.forward(node.out, x)
        work.edit.drop(node)
        return True
    height, width = shape[2:] if len(shape) == 4 else (1, 1)
    if x.type.rank in (3, 4) and shape == (x.type.batch, prod(x.type.shape[1:])):
        work.edit.rewrite(node, Flatten(), [x], [])
    elif x.type.rank == 2 and shape == (x.type.batch, x.type.channels // (height * width), height, width):
        work.edit.rewrite(node, AsMap((height, width)), [x], [])
    elif x.type.rank == 3 and shape == (*x.type.shape[:2], 1, *x.type.spatial):
        work.edit.rewrite(node, AsMap(), [x], [])
    elif x is not node.args[0]:
        work.edit.rewire(node, [x])
    else:
        return False
    return True


@_of(Take)
def _take(work: _Work, node: Node) -> bool:
    assert isinstance(node.op, Take)
    if node.op.axis != 1 or not _is_layered(node.args[0]):
        return False
    work.edit.rewrite(node, Gather(node.op.indices), [node.args[0]], [])
    return True


@_of(Join)
def _join(work: _Work, node: Node) -> bool:
    assert isinstance(node.op, Join)
    if node.op.axis != 1 or not all(map(_is_layered, node.args)):
        return False
    work.edit.rewrite(node, Concat(), node.args, [])
    return True


@_of(Expand)
def _expand(work: _Work, node: Node) -> bool:
    x, y = node.args[0], node.out.type
    if not _is_layered(x) or x.type.rank != 4 or x.type.spatial != (1, 1) or y.shape[:2] != x.type.shape[:2]:
        return False
    work.edit.rewrite(node, Upsample((y.shape[2], y.shape[3])), [x], [])
    return True


@_of(Reduce)
def _reduce(work: _Work, node: Node) -> bool:
    op, x = node.op, node.args[0]
    assert isinstance(op, Reduce)
    pools = {"mean": GlobalAvgPool, "max": GlobalMaxPool}
    if op.function not in pools or not _is_layered(x) or x.type.rank != 4:
        return False
    if op.keep and op.axes in ((2,), (3,)):  # a window as high, or as wide, as the map
        height, width = (e if axis in op.axes else 1 for axis, e in enumerate(x.type.spatial, 2))
        pool = AvgPool if op.function == "mean" else MaxPool
        work.edit.rewrite(node, pool((height, width), (height, width)), [x], [])
        return True
    if op.axes not in ((2, 3), (3, 2)):
        return False
    if op.keep:
        work.edit.rewrite(node, pools[op.function](), [x], [])
    else:
        pooled = work.insert(pools[op.function](), x, f"{node.name}_pool", node)
        work.edit.rewrite(node, Flatten(), [pooled], [])
    return True


# -- arithmetic ----------------------------------------------------------------------------------------------


@_of(Binary)
def _combine(work: _Work, node: Node) -> bool:
    """Two values."""
    op, (a, b) = node.op, node.args
    assert isinstance(op, Binary)
    if not (_is_layered(a) and _is_layered(b)) or op.function not in ("add", "sub", "mul"):
        return False
    if a.type.shape != b.type.shape and not _is_gate(a, b) and not _is_gate(b, a):
        return False
    if op.function == "sub":
        c = b.type.channels
        b = work.insert(Affine(), b, f"{node.name}_negative", node, -np.ones(c), np.zeros(c))
    work.edit.rewrite(node, Mul() if op.function == "mul" else Add(), [a, b], [])
    return True


def _is_gate(a: Value, b: Value) -> bool:
    return a.type.rank == b.type.rank == 4 and a.type.shape == (*b.type.shape[:2], 1, 1)


@_of(Binary)
def _bias(work: _Work, node: Node) -> bool:
    """A linear layer without bias, and a vector added to it."""
    op = node.op
    assert isinstance(op, Binary)
    for x, constant in (node.args, node.args[::-1]):
        vector = _per_channel(work, x, constant)
        maker = work.maker(x)
        if op.function != "add" or vector is None or maker is None:
            continue
        if isinstance(maker.op, Linear) and not maker.op.bias:
            layer, [source, weight] = replace(maker.op, bias=True), maker.args
            node.name = maker.name
            work.edit.rewrite(node, layer, [source], [weight, vector])
            work.edit.drop(maker)
            return True
    return False


@_of(Binary)
def _window_sum(work: _Work, node: Node) -> bool:
    """The mean of windows, times a number by which the number of elements divides: a pool with a divisor."""
    op, maker = node.op, work.maker(node.args[0])
    assert isinstance(op, Binary)
    if op.function != "mul" or maker is None or not isinstance(maker.op, AvgPool):
        return False
    pool, constant = maker.op, node.args[1]
    if pool.divisor or pool.ceil or (any(pool.pad) and not pool.count_pad) or constant.type.size != 1:
        return False
    if not isinstance(constant, Param) or constant.type.rank > 4:
        return False
    divisor = prod(pool.kernel) / float(work.edit.stored(constant).reshape(()))
    if divisor < 1 or divisor != int(divisor) or divisor == prod(pool.kernel):
        return False
    work.edit.rewrite(node, replace(pool, divisor=int(divisor)), [maker.args[0]], [])
    work.edit.drop(maker)
    return True


@_of(Binary, Unary)
def _affine(work: _Work, node: Node) -> bool:
    """A constant per channel."""
    found = _scale_shift(work, node)
    if found is None:
        return False
    x, scale, shift = found
    maker = work.maker(x)
    if maker is not None and isinstance(maker.op, Affine) and not maker.op.epilogue:
        before, after = (work.edit.array(p) for p in maker.params)
        scale, shift, x = scale * before, scale * after + shift, maker.args[0]
        work.edit.drop(maker)
    dtype = work.edit.dtype
    work.edit.rewrite(node, Affine(), [x], [scale.astype(dtype), shift.astype(dtype)])
    return True


def _scale_shift(work: _Work, node: Node) -> tuple[Value, Array, Array] | None:
    """(x, scale, shift) with the node's result = scale · x + shift per channel."""
    one = np.ones(node.out.type.channels) if node.out.type.rank in (2, 4) else np.ones(0)
    if isinstance(node.op, Unary):
        return (
            (node.args[0], -one, 0 * one) if node.op.function == "neg" and _is_layered(node.args[0]) else None
        )
    assert isinstance(node.op, Binary)
    a, b = node.args
    function = node.op.function
    if (c := _per_channel(work, a, b)) is not None:
        if function in ("add", "sub"):
            return a, one, c if function == "add" else -c
        if function == "mul" or (function == "div" and np.all(c)):
            return a, c if function == "mul" else 1 / c, 0 * one
    if (c := _per_channel(work, b, a)) is not None:
        if function in ("add", "mul"):
            return (b, one, c) if function == "add" else (b, c, 0 * one)
        if function == "sub":
            return b, -one, c
    return None


def _per_channel(work: _Work, x: Value, constant: Value) -> Array | None:
    """The constant as one number per channel of x, float64; None where it is something else."""
    if not isinstance(constant, Param) or not _is_layered(x) or constant.type.rank > x.type.rank:
        return None
    shape = (*[1] * (x.type.rank - constant.type.rank), *constant.type.shape)
    if shape[1] not in (1, x.type.channels) or any(e != 1 for i, e in enumerate(shape) if i != 1):
        return None
    return np.broadcast_to(work.edit.array(constant).reshape(-1), (x.type.channels,)).copy()


@_of(MatMul)
def _linear(work: _Work, node: Node) -> bool:
    x, weight = node.args
    if x.type.rank != 2 or not isinstance(weight, Param) or weight.type.rank != 2 or isinstance(x, Param):
        return False
    matrix = np.ascontiguousarray(work.edit.stored(weight).T)
    work.edit.rewrite(node, Linear(len(matrix), bias=False), [x], [matrix])
    return True


@_of(Reduce)
def _rbf(work: _Work, node: Node) -> bool:
    """The sum of squared differences to constant rows."""
    op = node.op
    square = work.maker(node.args[0])
    if not isinstance(op, Reduce) or op.function != "sum" or op.keep or square is None:
        return False
    apart = work.edit.makers.get(square.args[0])
    is_square = isinstance(square.op, Binary | Mul) and square.args[0] is square.args[1]
    if not is_square or getattr(square.op, "function", "mul") != "mul" or apart is None:
        return False
    if (
        not isinstance(apart.op, Binary)
        or apart.op.function != "sub"
        or len(work.edit.readers(apart.out)) > 1
    ):
        return False
    row, centres = apart.args
    vector = work.edit.makers.get(row)
    if vector is None or not isinstance(vector.op, Reshape | AsMap) or not isinstance(centres, Param):
        return False
    x = vector.args[0]
    if x.type.rank != 2 or apart.out.type.rank != 4 or op.axes != (2, 3):  # a sequence that became a map
        return False
    n, features, outs = *x.type.shape, node.out.type.shape[-1]
    if row.type.shape != (n, 1, 1, features) or apart.out.type.shape != (n, outs, 1, features):
        return False
    if centres.type.size != outs * features:
        return False
    work.edit.rewrite(node, Rbf(outs), [x], [work.edit.stored(centres).reshape(outs, features)])
    work.edit.sweep([vector, apart, square])
    return True


# -- padding -------------------------------------------------------------------------------------------------


@_of(Conv, MaxPool, AvgPool)
def _padding(work: _Work, node: Node) -> bool:
    """The padding of what it reads."""
    maker = work.edit.makers.get(node.args[0])
    if maker is None or not isinstance(maker.op, Pad) or any((*maker.op.before[:2], *maker.op.after[:2])):
        return False
    op, pad = node.op, maker.op
    more: Padding = (pad.before[2], pad.before[3], pad.after[2], pad.after[3])
    if isinstance(op, Conv):
        families = tuple(replace(f, pad=_sum(f.pad, more)) for f in op.connect.families)
        fits = pad.value == 0 and families and all(min(f.pad) >= 0 for f in op.connect.families)
        new: Op = replace(op, connect=replace(op.connect, families=families))
    elif isinstance(op, AvgPool):  # windows must not reach beyond what the pad op made
        fits = pad.value == 0 and not any(op.pad) and not op.ceil
        new = replace(op, pad=_sum(op.pad, more), count_pad=True)
    else:
        assert isinstance(op, MaxPool)
        fits = pad.value == -inf and not op.ceil
        new = replace(op, pad=_sum(op.pad, more))
    if isinstance(new, MaxPool | AvgPool):
        fits = fits and all(p < k for p, k in zip(new.pad, (*new.kernel, *new.kernel), strict=True))
    if not fits or new.infer(maker.args[0].type, *node.types[1:]) != node.out.type:
        return False
    node.op = new
    work.edit.rewire(node, [maker.args[0], *node.args[1:]])
    return True


@_of(Conv)
def _crop(work: _Work, node: Node) -> bool:
    """Rows or columns that are cut off in front of it."""
    op, maker = node.op, work.edit.makers.get(node.args[0])
    assert isinstance(op, Conv)
    done = False
    while maker is not None and isinstance(maker.op, Take) and maker.op.axis in (2, 3):
        axis, indices, x = maker.op.axis - 2, maker.op.indices, maker.args[0]
        before, after = int(indices[0]), x.type.shape[maker.op.axis] - 1 - indices.top
        pads = [f.pad for f in op.connect.families]
        touched = [p[i] for p in pads for i, cut in ((axis, before), (axis + 2, after)) if cut]
        if not indices.is_plain_range or any(touched) or not pads:
            break
        cut = [0, 0, 0, 0]
        cut[axis], cut[axis + 2] = -before, -after
        more: Padding = (cut[0], cut[1], cut[2], cut[3])
        families = tuple(replace(f, pad=_sum(f.pad, more)) for f in op.connect.families)
        op = replace(op, connect=replace(op.connect, families=families))
        node.op, done = op, True
        work.edit.rewire(node, [x, *node.args[1:]])
        maker = work.edit.makers.get(x)
    return done


def _sum(a: Padding, b: Padding) -> Padding:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]

"""Shapes and places: what moves elements without computing with them. Shape arithmetic folds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Tensor, bounded, shape_of
from compactir.frontends.onnx.reader import Call, normal_axis, operator
from compactir.ir.types import Array

_INTS = np.int64


@operator("Constant")
def _constant(c: Call) -> Tensor:
    given = c.node.attributes
    if "value" in given:
        return np.asarray(c.reader._single(given["value"]))
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", _INTS)):
        if name in given:
            return np.asarray(given[name], dtype)
    if "value_ints" in given:
        return np.asarray(given["value_ints"], _INTS)
    raise c.refuse("its constant is sparse or text")


@operator("ConstantOfShape")
def _constant_of_shape(c: Call) -> Tensor:
    value = np.asarray(c.attribute("value", np.zeros(1, np.float32))).reshape(-1)[:1]
    return np.broadcast_to(value, bounded(c.ints(0, "the shape"))).copy()


@operator("Shape")
def _shape(c: Call) -> Tensor:
    shape = shape_of(c[0])
    return np.array(
        shape[c.node.attributes.get("start", 0) : c.node.attributes.get("end", len(shape))], _INTS
    )


@operator("Size")
def _size(c: Call) -> Tensor:
    return np.array(prod(shape_of(c[0])), _INTS)


@operator("Range")
def _range(c: Call) -> Tensor:
    start, limit, step = (c.known(i, "a bound").reshape(()) for i in range(3))
    (count,) = bounded([max(0, int(np.ceil((limit - start) / step)))])
    return np.asarray(start + np.arange(count) * step).astype(start.dtype)


@operator("Reshape")
def _reshape(c: Call) -> Tensor:
    wanted = c.ints(1, "the shape") if c.version >= 5 else [int(i) for i in c.attribute("shape", [])]
    old = shape_of(c[0])
    if not c.attribute("allowzero", 0):
        wanted = [old[i] if e == 0 else e for i, e in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = prod(e for e in wanted if e != -1)
        wanted[wanted.index(-1)] = prod(old) // rest
    if prod(wanted) != prod(old) or min(wanted, default=0) < 0:
        raise ValueError(f"{list(old)} cannot have the shape {wanted}")
    return c.b.reshape(c[0], wanted)


@operator("Flatten")
def _flatten(c: Call) -> Tensor:
    shape = shape_of(c[0])
    axis = int(c.attribute("axis", 1))
    axis += len(shape) if axis < 0 else 0
    return c.b.reshape(c[0], [prod(shape[:axis]), prod(shape[axis:])])


def _axes(c: Call, rank: int, since: int = 13) -> list[int] | None:
    """`axes`, an operand since a version, an attribute before; None where left out."""
    if c.version >= since:
        given = None if c.get(1) is None else c.ints(1, "the axes")
    else:
        given = c.node.attributes.get("axes")
    return None if given is None else [normal_axis(int(a), rank) for a in given]


@operator("Squeeze")
def _squeeze(c: Call) -> Tensor:
    shape = shape_of(c[0])
    axes = _axes(c, len(shape))
    gone = [i for i, e in enumerate(shape) if e == 1] if axes is None else axes
    if any(shape[a] != 1 for a in gone):
        raise ValueError(f"it squeezes axes {gone} of {list(shape)}")
    return c.b.reshape(c[0], [e for i, e in enumerate(shape) if i not in gone])


@operator("Unsqueeze")
def _unsqueeze(c: Call) -> Tensor:
    shape = list(shape_of(c[0]))
    given = c.ints(1, "the axes") if c.version >= 13 else list(c.attribute("axes", []))
    rank = len(shape) + len(given)
    for axis in sorted(normal_axis(int(a), rank) for a in given):
        shape.insert(axis, 1)
    return c.b.reshape(c[0], shape)


@operator("Transpose")
def _transpose(c: Call) -> Tensor:
    rank = len(shape_of(c[0]))
    return c.b.transpose(c[0], c.attribute("perm", list(range(rank))[::-1]))


@operator("Concat")
def _concat(c: Call) -> Tensor:
    return c.b.join(c.all, c.axis(1, len(shape_of(c[0]))))


@operator("Split")
def _split(c: Call) -> list[Tensor | None]:
    shape = shape_of(c[0])
    axis = c.axis(0, len(shape))
    count = int(c.attribute("num_outputs", len(c.node.outputs)))
    sizes = c.ints(1, "the sizes") if c.get(1) is not None else c.node.attributes.get("split")
    if sizes is None:
        part = -(-shape[axis] // count)
        sizes = [min(part, shape[axis] - i * part) for i in range(count)]
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0:
        raise ValueError(f"parts of {sizes} are not the {shape[axis]} there are")
    ends = np.cumsum([0, *sizes])
    return [c.b.take(c[0], axis, range(a, b)) for a, b in pairwise(ends)]


@operator("Slice")
def _slice(c: Call) -> Tensor:
    rank = len(shape_of(c[0]))
    if c.version >= 10:
        starts, ends = c.ints(1, "the start"), c.ints(2, "the end")
        axes = c.ints(3, "the axes") if c.get(3) is not None else list(range(len(starts)))
        steps = c.ints(4, "the steps") if c.get(4) is not None else [1] * len(starts)
    else:
        starts, ends = list(c.attribute("starts", [])), list(c.attribute("ends", []))
        axes, steps = list(c.attribute("axes", list(range(len(starts))))), [1] * len(starts)
    x = c[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = normal_axis(axis, rank)
        stop = None if step < 0 and end < -shape_of(x)[at] else end
        x = c.b.take(x, at, range(shape_of(x)[at])[slice(start, stop, step)])
    return x


@operator("Gather")
def _gather(c: Call) -> Tensor:
    shape = shape_of(c[0])
    axis = c.axis(0, len(shape))
    indices = c.known(1, "the index").astype(_INTS)
    flat = _in_range(indices.reshape(-1), shape[axis])
    taken = c.b.take(c[0], axis, flat)
    return c.b.reshape(taken, [*shape[:axis], *indices.shape, *shape[axis + 1 :]])


def _in_range(indices: Array, extent: int) -> Array:
    """Indices counted from the front. Raises ValueError for one outside."""
    if indices.size and not (-extent <= indices.min() and indices.max() < extent):
        raise ValueError(f"an index lies outside of {extent} elements")
    return np.where(indices < 0, indices + extent, indices)


def flat_take(c: Call, x: Tensor, where: Array) -> Tensor:
    """Elements of x by their places in row-major order, in the shape of `where`."""
    flat = c.b.take(c.b.reshape(x, [prod(shape_of(x))]), 0, where.reshape(-1))
    return c.b.reshape(flat, where.shape)


def places(shape: Sequence[int]) -> Array:
    """The place of every element in row-major order."""
    return np.arange(prod(bounded(shape, LARGEST_INDEX)), dtype=_INTS).reshape(tuple(shape))


@operator("GatherElements")
def _gather_elements(c: Call) -> Tensor:
    shape = shape_of(c[0])
    axis = c.axis(0, len(shape))
    indices = _in_range(c.known(1, "the index").astype(_INTS), shape[axis])
    return flat_take(c, c[0], np.take_along_axis(places(shape), indices, axis))


@operator("GatherND")
def _gather_nd(c: Call) -> Tensor:
    shape, indices = shape_of(c[0]), c.known(1, "the index").astype(_INTS)
    batch = int(c.attribute("batch_dims", 0))
    where = places(shape)
    if not batch:
        return flat_take(c, c[0], where[_tuple(indices, shape)])
    many = where.reshape(-1, *shape[batch:])
    each = indices.reshape(-1, *indices.shape[batch:])
    found = [w[_tuple(i, shape[batch:])] for w, i in zip(many, each, strict=True)]
    return flat_take(c, c[0], np.stack(found).reshape(*shape[:batch], *found[0].shape))


def _tuple(indices: Array, shape: Sequence[int]) -> tuple[Array, ...]:
    """The last axis of an index as a tuple for NumPy."""
    return tuple(_in_range(indices[..., i], shape[i]) for i in range(indices.shape[-1]))


@operator("ScatterElements", "Scatter")
def _scatter_elements(c: Call) -> Tensor:
    shape = shape_of(c[0])
    axis = c.axis(0, len(shape))
    indices = _in_range(c.known(1, "the index").astype(_INTS), shape[axis])
    grid: list[Array] = list(np.indices(indices.shape))
    grid[axis] = indices
    return _scattered(c, places(shape)[tuple(grid)].reshape(-1))


@operator("ScatterND")
def _scatter_nd(c: Call) -> Tensor:
    shape, indices = shape_of(c[0]), c.known(1, "the index").astype(_INTS)
    return _scattered(c, places(shape)[_tuple(indices, shape)].reshape(-1))


def _scattered(c: Call, targets: Array) -> Tensor:
    """The operand with update i written to (or combined with what is at) place targets[i], in order.

    Updates that meet at one place are taken in rounds: in each, every place takes one update, or a number
    that changes nothing.
    """
    shape = shape_of(c[0])
    (count,) = bounded((prod(shape),), LARGEST_INDEX)
    updates = c.b.reshape(c[2], [len(targets)])
    x = c.b.reshape(c[0], [count])
    how = c.node.attributes.get("reduction", "none")
    if how == "none":
        source = np.arange(count, dtype=_INTS)
        source[targets] = count + np.arange(len(targets))
        return c.b.reshape(c.b.take(c.b.join([x, updates], 0), 0, source), shape)
    neutral = {"add": 0.0, "mul": 1.0, "max": -np.inf, "min": np.inf}[how]
    more = c.b.join([updates, np.full(1, neutral, np.float32)], 0)
    rounds: list[Array] = []
    seen: dict[int, int] = {}
    for i, target in enumerate(targets.tolist()):
        times = seen[target] = seen.get(target, -1) + 1
        if times == len(rounds):
            bounded((times + 1, count), LARGEST_INDEX)
            rounds.append(np.full(count, len(targets), _INTS))
        rounds[times][target] = i
    for source in rounds:
        x = c.b.binary(how, x, c.b.take(more, 0, source))
    return c.b.reshape(x, shape)


@operator("Expand")
def _expand(c: Call) -> Tensor:
    return c.b.expand(c[0], np.broadcast_shapes(shape_of(c[0]), tuple(c.ints(1, "the shape"))))


@operator("Tile")
def _tile(c: Call) -> Tensor:
    x = c[0]
    for axis, times in enumerate(c.ints(1, "the repeats")):
        bounded([times * shape_of(x)[axis]])
        x = c.b.take(x, axis, np.tile(np.arange(shape_of(x)[axis]), times))
    return x


@operator("Pad")
def _pad(c: Call) -> Tensor:
    rank = len(shape_of(c[0]))
    old = c.version < 11
    pads = list(c.attribute("pads", [])) if old else c.ints(1, "the padding")
    axes = (
        [normal_axis(a, rank) for a in c.ints(3, "the axes")] if c.get(3) is not None else list(range(rank))
    )
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = int(pads[i]), int(pads[i + len(axes)])
    mode = c.attribute("mode", "constant")
    if mode == "constant":
        value = c.attribute("value", 0.0) if old else c.known_or(2, "the constant")
        number = 0.0 if value is None else float(np.asarray(value).reshape(-1)[0])
        return c.b.pad(c[0], before, after, number)
    x = c[0]
    for axis in range(rank):
        widths = (max(before[axis], 0), max(after[axis], 0))
        bounded([shape_of(x)[axis] + sum(widths)])
        how: Any = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}[mode]
        kept = slice(max(-before[axis], 0), shape_of(x)[axis] - max(-after[axis], 0))
        x = c.b.take(x, axis, np.pad(np.arange(shape_of(x)[axis])[kept], widths, mode=how))
    return x


@operator("DepthToSpace")
def _depth_to_space(c: Call) -> Tensor:
    n, ch, h, w = shape_of(c[0])
    k = int(c.attribute("blocksize", 1))
    if c.attribute("mode", "DCR") == "DCR":
        x = c.b.transpose(c.b.reshape(c[0], [n, k, k, ch // (k * k), h, w]), [0, 3, 4, 1, 5, 2])
    else:
        x = c.b.transpose(c.b.reshape(c[0], [n, ch // (k * k), k, k, h, w]), [0, 1, 4, 2, 5, 3])
    return c.b.reshape(x, [n, ch // (k * k), h * k, w * k])


@operator("SpaceToDepth")
def _space_to_depth(c: Call) -> Tensor:
    n, ch, h, w = shape_of(c[0])
    k = int(c.attribute("blocksize", 1))
    order = [0, 3, 5, 1, 2, 4] if c.attribute("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    x = c.b.transpose(c.b.reshape(c[0], [n, ch, h // k, k, w // k, k]), order)
    return c.b.reshape(x, [n, ch * k * k, h // k, w // k])


@operator("EyeLike")
def _eye(c: Call) -> Tensor:
    rows, columns = shape_of(c[0])
    bounded([rows, columns])
    return np.eye(rows, columns, int(c.attribute("k", 0)), np.float32)


@operator("OneHot")
def _one_hot(c: Call) -> Tensor:
    indices, depth = c.known(0, "the index"), int(c.known(1, "the depth").reshape(-1)[0])
    bounded([*indices.shape, depth])
    axis = normal_axis(int(c.attribute("axis", -1)), indices.ndim + 1)
    whole = np.where(indices < 0, indices + depth, indices).astype(_INTS)
    hot = np.expand_dims(whole, axis) == np.arange(depth).reshape(
        [-1 if i == axis else 1 for i in range(indices.ndim + 1)]
    )
    off, on = (c.b.take(c[2], 0, [i]) for i in range(2))
    return c.b.choose(hot, on, off)


@operator("ReverseSequence")
def _reverse_sequence(c: Call) -> Tensor:
    shape, lengths = shape_of(c[0]), c.known(1, "the lengths")
    time, batch = int(c.attribute("time_axis", 0)), int(c.attribute("batch_axis", 1))
    where = np.moveaxis(places(shape), (batch, time), (0, 1)).copy()
    for row, length in zip(where, lengths.reshape(-1).tolist(), strict=True):
        row[:length] = row[:length][::-1]
    return flat_take(c, c[0], np.moveaxis(where, (0, 1), (batch, time)))


@operator("Trilu")
def _trilu(c: Call) -> Tensor:
    shape = shape_of(c[0])
    k = c.known_or(1, "the diagonal")
    ones = np.ones(bounded(shape[-2:]), np.bool_)
    cut = np.triu if c.attribute("upper", 1) else np.tril
    return c.b.choose(cut(ones, 0 if k is None else int(k.reshape(-1)[0])), c[0], c.b.scalar(0, c[0]))


@operator("NonZero")
def _non_zero(c: Call) -> Tensor:
    return np.array(np.nonzero(c.known(0, "what is not zero")), _INTS)


@operator("ArgMax", "ArgMin")
def _arg(c: Call) -> Tensor:
    x = c.known(0, "the operand")
    axis = c.axis(0, x.ndim)
    best = (np.argmax if c.node.op == "ArgMax" else np.argmin)(x, axis)
    return np.expand_dims(best, axis) if c.attribute("keepdims", 1) else np.asarray(best)


@operator("Dropout")
def _dropout(c: Call) -> list[Tensor | None]:
    """Nothing, as the network is not trained; the mask keeps all."""
    training = c.known_or(2, "whether to train")
    ratio = c.known_or(1, "the share") if c.version >= 12 else None
    if training is not None and bool(np.any(training)) and (ratio is None or bool(np.any(ratio))):
        raise c.refuse("it drops at random, for training")
    if not c.returns(1):
        return [c[0]]
    return [c[0], np.ones(bounded(shape_of(c[0])), np.bool_)]

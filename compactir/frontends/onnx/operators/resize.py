"""Resize and Upsample: a choice of elements, or a matrix, per axis; what `upsample` says becomes that layer.

Source: Operators.md, "Resize" (coordinate transformations, nearest modes, cubic coefficients, antialiasing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, floor

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Tensor, bounded, is_known, shape_of
from compactir.frontends.onnx.operators.reduce import along
from compactir.frontends.onnx.reader import Call, normal_axis, operator
from compactir.ir.types import Array
from compactir.ops.pool import Upsample

_ROUND: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda x: ceil(x - 0.5),
    "round_prefer_ceil": lambda x: floor(x + 0.5),
    "floor": floor,
    "ceil": ceil,
}


@operator("Upsample")
def _upsample(c: Call) -> Tensor:
    given = c.known(1, "the scale").reshape(-1) if c.version >= 9 else c.attribute("scales", [])
    scales = [float(s) for s in given]
    new = [floor(e * s) for e, s in zip(shape_of(c[0]), scales, strict=True)]
    return _resized(c, new, scales, range(len(new)), c.attribute("mode", "nearest"), "asymmetric", "floor")


@operator("Resize")
def _resize(c: Call) -> Tensor:
    shape = shape_of(c[0])
    if c.version < 11:
        scales = [float(s) for s in c.known(1, "the scale").reshape(-1)]
        new = [floor(e * s) for e, s in zip(shape, scales, strict=True)]
        return _resized(
            c, new, scales, range(len(new)), c.attribute("mode", "nearest"), "asymmetric", "floor"
        )
    named = c.node.attributes.get("axes")
    axes = [normal_axis(a, len(shape)) for a in named] if named else list(range(len(shape)))
    given, sizes = c.known_or(2, "the scale"), c.known_or(3, "the size")
    if sizes is not None and sizes.size:
        new, scales = _from_sizes(c, [int(s) for s in sizes.reshape(-1)], [shape[a] for a in axes])
    elif given is not None:
        scales = [float(s) for s in given.reshape(-1)]
        new = [floor(shape[a] * s) for a, s in zip(axes, scales, strict=True)]
    else:
        raise ValueError("it has neither scales nor sizes")
    how = c.attribute("coordinate_transformation_mode", "half_pixel")
    nearest = c.attribute("nearest_mode", "round_prefer_floor")
    return _resized(c, new, scales, axes, c.attribute("mode", "nearest"), how, nearest)


def _from_sizes(c: Call, sizes: list[int], old: list[int]) -> tuple[list[int], list[float]]:
    policy = c.attribute("keep_aspect_ratio_policy", "stretch")
    scales = [s / e for s, e in zip(sizes, old, strict=True)]
    if policy != "stretch":
        scale = (min if policy == "not_larger" else max)(scales)
        return [floor(scale * e + 0.5) for e in old], [scale] * len(old)
    return sizes, scales


def _resized(
    c: Call,
    new: Sequence[int],
    scales: Sequence[float],
    axes: Sequence[int],
    mode: str,
    how: str,
    nearest: str,
) -> Tensor:
    shape = shape_of(c[0])
    bounded(new)
    if mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"`{mode}` is no mode")
    roi = c.known_or(1, "the region") if how == "tf_crop_and_resize" else None
    matrices: dict[int, Array] = {}
    outside: Array = np.zeros([1] * len(shape), np.bool_)
    for i, axis in enumerate(axes):
        region = (0.0, 1.0) if roi is None else (float(roi[i]), float(roi[i + len(axes)]))
        at = _coordinates(how, new[i], shape[axis], scales[i], region)
        matrix = _matrix(c, at, shape[axis], scales[i], mode, nearest)
        if how == "tf_crop_and_resize":
            outside = outside | _lines((at < 0) | (at > shape[axis] - 1), axis, len(shape))
        if matrix.shape[0] != matrix.shape[1] or not np.array_equal(matrix, np.eye(len(matrix))):
            matrices[axis] = matrix
    layer = None if outside.any() else _layer(c, shape, matrices)
    y = _product(c, matrices) if layer is None else layer
    if not outside.any():
        return y
    return c.b.choose(outside, c.b.scalar(float(c.attribute("extrapolation_value", 0.0)), y), y)


def _lines(flags: Array, axis: int, rank: int) -> Array:
    """Flags of one axis, to broadcast over all."""
    return flags.reshape([-1 if i == axis else 1 for i in range(rank)])


def _layer(c: Call, shape: Sequence[int], matrices: dict[int, Array]) -> Tensor | None:
    """The layer that has these matrices, if there is one."""
    if len(shape) == 3:
        shape, matrices = (*shape[:2], 1, shape[2]), {a + (a >= 2): m for a, m in matrices.items()}
    if len(shape) != 4 or not set(matrices) <= {2, 3} or is_known(c[0]):
        return None
    size = tuple(len(matrices[a]) if a in matrices else shape[a] for a in (2, 3))
    for mode in ("nearest", "bilinear"):
        op = Upsample((size[0], size[1]), mode)
        wanted = [_of_taps(op.taps(shape[2:], axis), shape[axis + 2]) for axis in (0, 1)]
        found = [matrices.get(axis + 2, np.eye(shape[axis + 2])) for axis in (0, 1)]
        if all(np.allclose(w, f, atol=1e-6) for w, f in zip(wanted, found, strict=True)):
            return c.b.on_map(c[0], partial(c.b.place, op))
    return None


def _of_taps(taps: Sequence[tuple[int, int, object]], old: int) -> Array:
    matrix = np.zeros((len(taps), old))
    for row, (first, second, share) in zip(matrix, taps, strict=True):
        row[first] += 1 - float(share)  # type: ignore[arg-type]  # a Fraction
        row[second] += float(share)  # type: ignore[arg-type]
    return matrix


def _product(c: Call, matrices: dict[int, Array]) -> Tensor:
    x = c[0]
    for axis, matrix in matrices.items():
        picks = matrix.argmax(axis=1)
        one = np.zeros_like(matrix)
        one[np.arange(len(matrix)), picks] = 1
        if np.array_equal(one, matrix):
            x = c.b.take(x, axis, picks)
        else:
            x = along(c.b, x, axis, matrix.astype(np.float32))
    return x


def _coordinates(how: str, new: int, old: int, scale: float, region: tuple[float, float]) -> Array:
    """Where every new element lies among the old ones."""
    i = np.arange(new, dtype=np.float64)
    if how == "align_corners":  # the new extent before it was rounded
        return i * (old - 1) / (scale * old - 1) if scale * old != 1 else 0 * i
    if how == "asymmetric":
        return i / scale
    if how == "tf_crop_and_resize":
        start, end = region
        return start * (old - 1) + (
            i * (end - start) * (old - 1) / (new - 1) if new > 1 else 0.5 * (end - start) * (old - 1) + 0 * i
        )
    if how == "pytorch_half_pixel" and new == 1:
        return 0 * i - 0.5 + 0.5
    if how == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if how == "half_pixel_symmetric":
        adjustment = new / (scale * old)
        return old / 2 * (1 - adjustment) + (i + 0.5) / scale - 0.5
    if how not in ("half_pixel", "pytorch_half_pixel"):
        raise ValueError(f"`{how}` is no coordinate transformation")
    return (i + 0.5) / scale - 0.5


def _matrix(c: Call, at: Array, old: int, scale: float, mode: str, nearest: str) -> Array:
    """What share of every old element goes into every new one."""
    matrix = np.zeros(bounded((len(at), old), LARGEST_INDEX))
    if mode == "nearest":
        for row, x in zip(matrix, at.tolist(), strict=True):
            row[min(max(_ROUND[nearest](x), 0), old - 1)] = 1
        return matrix
    squeeze = min(scale, 1.0) if c.attribute("antialias", 0) else 1.0
    a = float(c.attribute("cubic_coeff_a", -0.75))
    support = (1 if mode == "linear" else 2) / squeeze
    bounded((len(at), int(2 * support) + 2), LARGEST_INDEX >> 4)  # so many shares are computed one by one
    outside_too = not c.attribute("exclude_outside", 0)
    for row, x in zip(matrix, at.tolist(), strict=True):
        taps = range(ceil(x - support - 1e-9), floor(x + support + 1e-9) + 1)
        weights = {t: _kernel(mode, (t - x) * squeeze, a) for t in taps}
        if not outside_too:
            weights = {t: w for t, w in weights.items() if 0 <= t < old}
        total = sum(weights.values())
        for t, w in weights.items():
            row[min(max(t, 0), old - 1)] += w / total
    return matrix


def _kernel(mode: str, x: float, a: float) -> float:
    """Weight of an element at this distance: the hat, or Keys' cubic."""
    x = abs(x)
    if mode == "linear":
        return max(0.0, 1 - x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

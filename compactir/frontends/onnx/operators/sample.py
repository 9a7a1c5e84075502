"""Maps read at given places: sampling, folding, unpooling. With known places each is a constant linear map.

Source: Operators.md and the reference evaluator's description of GridSample, Col2Im, MaxUnpool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import floor, prod

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Tensor, bounded, shape_of
from compactir.frontends.onnx.operators.resize import _kernel as kernel
from compactir.frontends.onnx.reader import Call, operator
from compactir.ir.types import Array

_TAPS = {"nearest": 0, "linear": 1, "bilinear": 1, "cubic": 2, "bicubic": 2}
"""How many elements on either side of a place have a share."""


@operator("GridSample")
def _grid_sample(c: Call) -> Tensor:
    """One matrix per image: what share every element has in every sample."""
    grid = c.known(1, "the grid")
    n, ch, h, w = shape_of(c[0])
    if grid.ndim != 4:
        raise c.refuse("its grid is not one of a map")
    mode, border = c.attribute("mode", "linear"), c.attribute("padding_mode", "zeros")
    corners = bool(c.attribute("align_corners", 0))
    rows, columns = grid.shape[1:3]
    bounded((n, rows, columns, 16), LARGEST_INDEX >> 2)  # so many shares are computed one by one
    matrices = np.zeros(bounded((n, h * w, rows * columns), LARGEST_INDEX), np.float32)
    for image in range(n):
        for at, (x, y) in enumerate(grid[image].reshape(-1, 2).astype(np.float64).tolist()):
            shares = product(_shares(y, h, mode, border, corners), _shares(x, w, mode, border, corners))
            for (i, a), (j, b) in shares:
                matrices[image, i * w + j, at] += a * b
    y = c.b.matmul(c.b.reshape(c[0], [n, ch, h * w]), matrices)
    return c.b.reshape(y, [n, ch, rows, columns])


def _shares(place: float, extent: int, mode: str, border: str, corners: bool) -> Iterator[tuple[int, float]]:
    """Elements along one axis and their shares, for a place between −1 and 1."""
    low, high = (0.0, extent - 1.0) if corners else (-0.5, extent - 0.5)
    x = (place + 1) / 2 * (extent - 1) if corners else ((place + 1) * extent - 1) / 2
    reach = _TAPS[mode]
    if not reach:
        x = float(np.rint(x))
    if not low <= x <= high:
        x = {"zeros": x, "border": min(max(x, 0), extent - 1), "reflection": _mirrored(x, low, high)}[border]
    if not reach:
        taps = [(int(x), 1.0)]
    else:
        taps = [(t, kernel("linear" if reach == 1 else "cubic", t - x, -0.75)) for t in _near(x, reach)]
    for tap, share in taps:
        if border == "border":
            yield min(max(tap, 0), extent - 1), share
        elif border == "reflection" and not 0 <= tap < extent:
            yield int(_mirrored(tap, low, high)), share
        elif 0 <= tap < extent:
            yield tap, share


def _near(x: float, reach: int) -> range:
    return range(floor(x) - reach + 1, floor(x) + reach + 1)


def _mirrored(x: float, low: float, high: float) -> float:
    """A place thrown back at the ends as often as it takes."""
    if low <= x <= high or high <= low:
        return min(max(x, low), high)
    period = high - low
    past = low - x if x < low else x - high
    times, rest = divmod(past, period)
    from_low = (x < low) == (times % 2 == 0)
    return low + rest if from_low else high - rest


@operator("Col2Im")
def _col2im(c: Call) -> Tensor:
    """Every column's elements added to where its window lay."""
    image, window = c.ints(1, "the size"), c.ints(2, "the window")
    axes = len(image)
    stride, dilation = (list(c.attribute(name, [1] * axes)) for name in ("strides", "dilations"))
    pads = list(c.attribute("pads", [0] * 2 * axes))
    n, rows, columns = shape_of(c[0])
    ch = rows // prod(window)
    steps = [
        (image[a] + pads[a] + pads[a + axes] - dilation[a] * (window[a] - 1) - 1) // stride[a] + 1
        for a in range(axes)
    ]
    if prod(steps) != columns:
        raise ValueError(f"{columns} columns are not {steps} windows")
    bounded((prod(window), columns), LARGEST_INDEX >> 4)
    matrix = np.zeros(bounded((prod(window) * columns, prod(image)), LARGEST_INDEX), np.float32)
    for i, tap in enumerate(product(*map(range, window))):
        for j, step in enumerate(product(*map(range, steps))):
            at = [step[a] * stride[a] - pads[a] + tap[a] * dilation[a] for a in range(axes)]
            if all(0 <= x < e for x, e in zip(at, image, strict=True)):
                matrix[i * columns + j, _place(at, image)] = 1
    flat = c.b.reshape(c[0], [n * ch, prod(window) * columns])
    return c.b.reshape(c.b.matmul(flat, matrix), [n, ch, *image])


def _place(at: Sequence[int], shape: Sequence[int]) -> int:
    return int(np.ravel_multi_index(tuple(at), tuple(shape)))


@operator("MaxUnpool")
def _max_unpool(c: Call) -> Tensor:
    """Every element back to the place that its index names, zeros elsewhere."""
    indices = c.known(1, "the index").astype(np.int64)
    shape = shape_of(c[0])
    kernel_shape = list(c.attribute("kernel_shape", []))
    axes = len(kernel_shape)
    stride, pads = list(c.attribute("strides", [1] * axes)), list(c.attribute("pads", [0] * 2 * axes))
    natural = [
        (e - 1) * s - pads[a] - pads[a + axes] + k
        for a, (e, s, k) in enumerate(zip(shape[2:], stride, kernel_shape, strict=True))
    ]
    asked = c.known_or(2, "the shape")
    whole = [int(e) for e in asked.reshape(-1)] if asked is not None else [*shape[:2], *natural]
    small = (*shape[:2], *natural)
    return _unpooled(c, indices, small, bounded(whole))


def _unpooled(c: Call, indices: Array, small: Sequence[int], whole: Sequence[int]) -> Tensor:
    """Indices count the elements of the natural result, which may lie in a larger one."""
    count, zero = prod(shape_of(c[0])), prod(shape_of(c[0]))
    source = np.full(bounded((prod(whole),), LARGEST_INDEX), zero, np.int64)
    at = np.unravel_index(indices.reshape(-1), tuple(small))
    source[np.ravel_multi_index(at, tuple(whole))] = np.arange(count)
    elements = c.b.join([c.b.reshape(c[0], [count]), np.zeros(1, np.float32)], 0)
    return c.b.reshape(c.b.take(elements, 0, source), whole)

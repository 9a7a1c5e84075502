"""Convolutions and pools; a sequence (N, C, L) is a map of one row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import inf

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Tensor, bounded, is_known, shape_of
from compactir.frontends.onnx.reader import Call, operator
from compactir.ir.connectivity import Connectivity, same_padding
from compactir.ir.graph import Value
from compactir.ir.types import Array
from compactir.ops.conv import Conv
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool

Pair = tuple[int, int]
Pad = tuple[int, int, int, int]


def _value(c: Call, x: Tensor) -> Value:
    """A value also where the operand is a constant."""
    return c.b._operand(x, c.b._name()) if is_known(x) else x


def _spatial(c: Call, x: Tensor) -> tuple[Value, bool]:
    """The operand as a map, and whether it was a sequence."""
    shape = shape_of(x)
    if len(shape) == 3:
        return c.b.as_map(_value(c, x)), True
    if len(shape) != 4:
        raise c.refuse(f"its operand has {len(shape)} axes; maps have four, sequences three")
    return _value(c, x), False


def _back(c: Call, y: Tensor, was_sequence: bool) -> Tensor:
    return c.b.as_sequence(_value(c, y)) if was_sequence else y


def _pair(values: Sequence[int] | None, sequence: bool) -> Pair:
    """One number per axis; 1 where nothing is said."""
    given = [int(v) for v in values] if values is not None else [1] * (1 if sequence else 2)
    if len(given) != (1 if sequence else 2) or min(given) < 1:
        raise ValueError(f"it has {given} where one positive number per axis belongs")
    return (1, given[0]) if sequence else (given[0], given[1])


def _pads(c: Call, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, sequence: bool) -> Pad:
    """(top, left, bottom, right) from `pads` or `auto_pad`."""
    auto = c.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        top, left, bottom, right = same_padding(size, kernel, stride, dilation)
        return (bottom, right, top, left) if auto == "SAME_LOWER" else (top, left, bottom, right)
    given = (
        [0] * 4 if auto == "VALID" else [int(p) for p in c.attribute("pads", [0] * (2 if sequence else 4))]
    )
    if sequence and auto != "VALID":
        given = [0, given[0], 0, given[1]]
    top, left, bottom, right = given
    return top, left, bottom, right


# -- convolutions --------------------------------------------------------------------------------------------


@operator("Conv")
def _conv(c: Call) -> Tensor:
    weight, bias = c.known(1, "the weight"), c.known_or(2, "the bias")
    x, sequence = _spatial(c, c[0])
    if sequence:
        weight = weight.reshape(*weight.shape[:2], 1, weight.shape[2])
    if weight.ndim != 4:
        raise ValueError(f"its weight has the shape {list(weight.shape)}")
    kernel: Pair = (weight.shape[2], weight.shape[3])
    stride, dilation = (_pair(c.node.attributes.get(name), sequence) for name in ("strides", "dilations"))
    size: Pair = (x.type.shape[2], x.type.shape[3])
    pad = _pads(c, size, kernel, stride, dilation, sequence)
    connect = Connectivity.grouped(x.type.channels, len(weight), int(c.attribute("group", 1)), kernel, pad)
    op = Conv(connect, stride, dilation, bias is not None)
    return _back(c, c.b.layer(op, x, weight, *([] if bias is None else [bias])), sequence)


@operator("ConvTranspose")
def _conv_transpose(c: Call) -> Tensor:
    """A convolution of the map with zeros between its elements, by the flipped kernels."""
    weight, bias = c.known(1, "the weight"), c.known_or(2, "the bias")
    x, sequence = _spatial(c, c[0])
    if sequence:
        weight = weight.reshape(*weight.shape[:2], 1, weight.shape[2])
    kernel: Pair = (weight.shape[2], weight.shape[3])
    stride, dilation = (_pair(c.node.attributes.get(name), sequence) for name in ("strides", "dilations"))
    extra = [int(e) for e in c.attribute("output_padding", [0] * (1 if sequence else 2))]
    more: Pair = (0, extra[0]) if sequence else (extra[0], extra[1])
    pad = _transposed_pads(c, (x.type.shape[2], x.type.shape[3]), kernel, stride, dilation, more, sequence)
    spread = _spread_out(c, x, stride)
    group = int(c.attribute("group", 1))
    ins, outs = len(weight) // group, weight.shape[1]
    turned = weight[:, :, ::-1, ::-1].reshape(group, ins, outs, *kernel).swapaxes(1, 2)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    around: Pad = (
        reach[0] - pad[0],
        reach[1] - pad[1],
        reach[0] - pad[2] + more[0],
        reach[1] - pad[3] + more[1],
    )
    fitted = _value(c, c.b.pad(spread, (0, 0, around[0], around[1]), (0, 0, around[2], around[3])))
    connect = Connectivity.grouped(x.type.channels, group * outs, group, kernel)
    op = Conv(connect, (1, 1), dilation, bias is not None)
    y = c.b.layer(op, fitted, turned.reshape(group * outs, ins, *kernel), *([] if bias is None else [bias]))
    return _back(c, y, sequence)


def _transposed_pads(
    c: Call, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, more: Pair, sequence: bool
) -> Pad:
    """What is cut off: `pads`, or what is too much for `output_shape` or `auto_pad`.

    An odd number more at the end with SAME_UPPER, else at the beginning. Where too little is there, each axis
    for itself, zeros follow at the end: the equations of the specification do not say, ONNX Runtime does so.
    """
    auto = c.attribute("auto_pad", "NOTSET")
    wanted = c.node.attributes.get("output_shape")
    if wanted is not None:
        wanted = [1, *wanted][-2:] if sequence else list(wanted)[-2:]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [e * s for e, s in zip(size, stride, strict=True)]
    else:
        return _pads(c, size, kernel, stride, dilation, sequence)
    total = [
        stride[a] * (size[a] - 1) + more[a] + (kernel[a] - 1) * dilation[a] + 1 - int(wanted[a])
        for a in (0, 1)
    ]
    first = [max(t - t // 2 if auto != "SAME_UPPER" else t // 2, 0) for t in total]
    return first[0], first[1], total[0] - first[0], total[1] - first[1]


def _spread_out(c: Call, x: Value, stride: Pair) -> Tensor:
    """The map with stride − 1 zeros between neighbours."""
    if stride == (1, 1):
        return x
    n, ch, h, w = x.type.shape
    y = c.b.reshape(x, [n, ch, h, 1, w, 1])
    y = c.b.pad(y, [0] * 6, [0, 0, 0, stride[0] - 1, 0, stride[1] - 1])
    y = c.b.reshape(y, [n, ch, h * stride[0], w * stride[1]])
    return c.b.pad(y, [0] * 4, [0, 0, 1 - stride[0], 1 - stride[1]])


# -- pools ---------------------------------------------------------------------------------------------------


@operator("MaxPool", "AveragePool", "LpPool")
def _pool(c: Call) -> Tensor:
    if c.returns(1):
        raise c.refuse("it also returns where the largest elements were")
    x, sequence = _spatial(c, c[0])
    kernel = _pair(c.attribute("kernel_shape", []), sequence)
    stride, dilation = (_pair(c.node.attributes.get(name), sequence) for name in ("strides", "dilations"))
    pad = _pads(c, (x.type.shape[2], x.type.shape[3]), kernel, stride, dilation, sequence)
    ceil = bool(c.attribute("ceil_mode", 0))
    if c.node.op == "LpPool":
        p = float(c.attribute("p", 2))
        powers = c.b.binary("pow", c.b.unary("abs", x), c.b.scalar(p, x))
        total = _windowed(c, "add", powers, kernel, stride, dilation, pad, ceil)
        return _back(c, c.b.binary("pow", total, c.b.scalar(1 / p, x)), sequence)
    largest = c.node.op == "MaxPool"
    counts = bool(c.attribute("count_include_pad", 0))
    if dilation == (1, 1) and all(p < k for p, k in zip(pad, (*kernel, *kernel), strict=True)):
        mean = AvgPool(kernel, stride, pad, ceil, counts)
        return _back(c, c.b.place(MaxPool(kernel, stride, pad, ceil) if largest else mean, x), sequence)
    if largest:
        return _back(c, _windowed(c, "max", x, kernel, stride, dilation, pad, ceil), sequence)
    total = _windowed(c, "add", x, kernel, stride, dilation, pad, ceil)
    ones: Array = np.ones((1, 1, *x.type.spatial), np.float32)
    if counts:
        ones = np.pad(ones, ((0, 0), (0, 0), (pad[0], pad[2]), (pad[1], pad[3])), constant_values=1)
        pad = (0, 0, 0, 0)
    number = _windowed(c, "add", ones, kernel, stride, dilation, pad, ceil)
    return _back(c, c.b.binary("div", total, number), sequence)


def _windowed(
    c: Call, function: str, x: Tensor, kernel: Pair, stride: Pair, dilation: Pair, pad: Pad, ceil: bool
) -> Tensor:
    """The windows' elements combined tap by tap: pools that no layer is."""
    size = shape_of(x)[2:]
    out: list[int] = []
    ends: list[int] = []
    for a in (0, 1):
        reach = (kernel[a] - 1) * dilation[a] + 1
        room = size[a] + pad[a] + pad[a + 2] - reach
        count = (-(-room // stride[a]) if ceil else room // stride[a]) + 1
        count -= int(ceil and (count - 1) * stride[a] >= size[a] + pad[a])
        out.append(count)
        ends.append((count - 1) * stride[a] + reach - size[a] - pad[a])
    bounded((sum(kernel),), LARGEST_INDEX >> 12)  # so many operations are placed
    value = -inf if function == "max" else 0.0
    y = c.b.pad(x, (0, 0, pad[0], pad[1]), (0, 0, *ends), value)
    for a in (0, 1):  # rows first, then columns: both functions allow it
        starts = [i * dilation[a] for i in range(kernel[a])]
        taps = [c.b.take(y, a + 2, range(s, s + (out[a] - 1) * stride[a] + 1, stride[a])) for s in starts]
        y = reduce(lambda p, q: c.b.binary(function, p, q), taps)
    return y


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(c: Call) -> Tensor:
    mean = c.node.op == "GlobalAveragePool"
    rank = len(shape_of(c[0]))
    if rank in (3, 4) and not is_known(c[0]):
        layer = GlobalAvgPool() if mean else GlobalMaxPool()
        return c.b.on_map(c[0], lambda x: c.b.place(layer, x))
    return c.b.reduce("mean" if mean else "max", c[0], range(2, rank))

"""What each operation becomes in LiteRT: a function per operation, operators of XNNPACK where it has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Family, Kernel, Pad
from compactir.ir.graph import Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Gather, Shuffle
from compactir.ops.conv import Conv
from compactir.ops.pool import Pool
from compactir.tools.bench.tflite import Writer

__all__ = ["lower"]

Lower = Callable[[Writer, Any, list[Value], Value], int]
"""(writer, operation, operands, result) -> the tensor of the result."""

_TABLE: dict[str, Lower] = {}
_TILE = 8
"""Rows and columns that XNNPACK transposes at once, of 32 bits each."""
_MANY = 128
"""Channels: with 64 XNNPACK's padding takes 1.4 times as long as LiteRT's, with 240 it does not."""
_LOWEST = float(np.finfo(np.float32).min)


def lower(writer: Writer, node: Node) -> int:
    """The operators of a node. Errors: RuntimeError for an operation without a spelling."""
    if node.op.name not in _TABLE:
        raise RuntimeError(f"no spelling of `{node.op.name}` for LiteRT")
    return _TABLE[node.op.name](writer, node.op, node.args, node.out)


def _table(name: str) -> Callable[[Lower], Lower]:
    def add(function: Lower) -> Lower:
        _TABLE[name] = function
        return function

    return add


# -- convolution ---------------------------------------------------------------------------------------------


@_table("conv")
def _conv(writer: Writer, op: Conv, args: list[Value], out: Value) -> int:
    x, rest = writer.of(args[0]), list(args[1:])
    weights = [writer.array(rest.pop(0)) for _ in op.connect.families]
    if op.masked:
        weights[0] = weights[0] * writer.array(rest.pop(0))
    bias = writer.array(rest.pop(0)) if op.bias else np.zeros(op.connect.out_channels, np.float32)
    assert not op.epilogue, "nothing fuses epilogues before this"
    made = np.concatenate([f.outputs.array for f in op.connect.families])
    if len(made) < op.connect.out_channels:
        raise RuntimeError("no spelling of outputs that are their bias alone for LiteRT")
    parts = [
        _family(writer, op, family, _pick(writer, x, family.inputs), weight, bias[family.outputs.array])
        for family, weight in zip(op.connect.families, weights, strict=True)
    ]
    y = _concat(writer, parts)
    return _pick(writer, y, ChannelList.of(np.argsort(made, kind="stable")))


def _family(writer: Writer, op: Conv, family: Family, x: int, weight: Array, bias: Array) -> int:
    """One (grouped) convolution; a filter is [O, kh, kw, I/g], a depthwise one [1, kh, kw, O]."""
    n, h, w, _ = writer.shapes[x]
    padding, x = _pad_for(writer, x, family.kernel, op.stride, op.dilation, family.pad)
    height, width = op.connect.out_size((h, w), op.stride, op.dilation)
    shape = (n, height, width, len(family.outputs))
    common = {
        "padding": padding,
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
    }
    if family.ins == 1 and family.count > 1:
        kernel = writer.constant(np.transpose(weight, (1, 2, 3, 0)))
        inputs = [x, kernel, writer.constant(bias)]
        code, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        return writer.emit(code, inputs, shape, options, depthMultiplier=family.outs, **common)
    kernel = writer.constant(np.transpose(weight, (0, 2, 3, 1)))
    return writer.emit("CONV_2D", [x, kernel, writer.constant(bias)], shape, "Conv2DOptions", **common)


def _pad_for(
    writer: Writer, x: int, kernel: Kernel, stride: Kernel, dilation: Kernel, pad: Pad
) -> tuple[int, int]:
    """SAME or VALID, and the tensor to read: padded by PAD, a part of the convolution, if neither says it."""
    _, h, w, _ = writer.shapes[x]
    same, valid = writer.schema.Padding.SAME, writer.schema.Padding.VALID
    if pad == (0, 0, 0, 0):
        return valid, x
    if pad == _same((h, w), kernel, stride, dilation):
        return same, x
    if min(pad) < 0:
        raise RuntimeError("no spelling of cropping for LiteRT")
    amounts, shape = _padded(writer, x, pad)
    return valid, writer.emit("PAD", [x, amounts], shape, "PadOptions")


def _pad_with(writer: Writer, x: int, pad: Pad, value: float) -> int:
    """The tensor with a frame of `value`, for a pool: PADV2, or PAD for zeros around many channels.

    XNNPACK makes PAD a part of the convolution that reads it. In front of anything else its PAD takes 140 µs
    for 112 × 112 × 24 (one thread, AVX-512), and LiteRT's own kernel, the only one for PADV2, 15 µs.
    litert-torch 0.10.0 pads for maxima with PADV2, too. With PAD, ShuffleNetV2 0.5× takes 9 % longer.

    With 240 channels and more both take the same (28 × 28 × 384 and its mean: 63 and 61 µs), and every PADV2
    cuts what XNNPACK runs in two: ShuffleNetV1 with 8 groups takes 5 % longer with it in front of its means.
    """
    amounts, shape = _padded(writer, x, pad)
    if value == 0 and shape[-1] >= _MANY:
        return writer.emit("PAD", [x, amounts], shape, "PadOptions")
    constant = writer.constant(np.array([value], np.float32))
    return writer.emit("PADV2", [x, amounts, constant], shape, "PadV2Options")


def _padded(writer: Writer, x: int, pad: Pad) -> tuple[int, tuple[int, ...]]:
    """What to add, as a constant, and the shape with it."""
    n, h, w, c = writer.shapes[x]
    top, left, bottom, right = pad
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    return writer.constant(amounts), (n, h + top + bottom, w + left + right, c)


def _same(size: Sequence[int], kernel: Kernel, stride: Kernel, dilation: Kernel) -> Pad:
    """What TensorFlow's SAME pads."""
    total = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2


# -- linear, normalization -----------------------------------------------------------------------------------


@_table("linear")
def _linear(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    weight = writer.array(args[1])
    bias = writer.array(args[2]) if len(args) > 2 else np.zeros(len(weight), np.float32)
    inputs = [_vector(writer, args[0]), writer.constant(weight), writer.constant(bias)]
    return writer.emit("FULLY_CONNECTED", inputs, out.type.shape, "FullyConnectedOptions")


@_table("flatten")
def _flatten(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    return _vector(writer, args[0])


def _vector(writer: Writer, value: Value) -> int:
    """(N, F) of a map in the order (c, y, x)."""
    x = writer.of(value)
    if value.type.rank == 2:
        return x
    if value.type.rank == 3:
        return _reshape(writer, x, (value.type.batch, prod(value.type.shape[1:])))
    n, h, w, c = writer.shapes[x]
    if h * w > 1 and c > 1:
        x = _transpose(writer, x, (0, 3, 1, 2))
    return _reshape(writer, x, (n, c * h * w))


def _transpose(writer: Writer, x: int, axes: Sequence[int]) -> int:
    shape = [writer.shapes[x][axis] for axis in axes]
    return writer.emit("TRANSPOSE", [x, writer.ints(axes)], shape, "TransposeOptions")


def _reshape(writer: Writer, x: int, shape: Sequence[int]) -> int:
    return writer.emit("RESHAPE", [x, writer.ints(shape)], shape, "ReshapeOptions", newShape=list(shape))


@_table("as_map")
def _as_map(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    n, c, *length = args[0].type.shape
    x = writer.of(args[0])
    if not length:
        _, channels, h, w = out.type.shape
        planes = _reshape(writer, x, (n, channels, h, w)) if h * w > 1 else x
        if h * w > 1 and channels > 1:
            return _transpose(writer, planes, (0, 2, 3, 1))
        return _reshape(writer, x, (n, h, w, channels))
    return _reshape(writer, _transpose(writer, x, (0, 2, 1)), (n, 1, *length, c))


@_table("as_sequence")
def _as_sequence(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    n, c, length = out.type.shape
    return _transpose(writer, _reshape(writer, writer.of(args[0]), (n, length, c)), (0, 2, 1))


@_table("affine")
def _affine(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    x, weight, bias = writer.of(args[0]), *(writer.constant(writer.array(a)) for a in args[1:])
    scaled = _binary(writer, "MUL", x, weight, writer.shapes[x])
    return _binary(writer, "ADD", scaled, bias, writer.shapes[x])


@_table("bn")
def _bn(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    x = writer.of(args[0])
    weight, bias, mean, variance = (writer.array(a).astype(np.float64) for a in args[1:])
    factor = weight / np.sqrt(variance + op.eps)
    scaled = _binary(writer, "MUL", x, writer.constant(factor.astype(np.float32)), writer.shapes[x])
    shift = writer.constant((bias - factor * mean).astype(np.float32))
    return _binary(writer, "ADD", scaled, shift, writer.shapes[x])


@_table("lrn")
def _lrn(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    if op.size % 2 == 0:
        raise RuntimeError("no spelling of an even window of `lrn` for LiteRT")
    x = writer.of(args[0])
    return writer.emit(
        "LOCAL_RESPONSE_NORMALIZATION",
        [x],
        writer.shapes[x],
        "LocalResponseNormalizationOptions",
        radius=op.size // 2,
        bias=float(op.k),
        alpha=op.alpha / op.size,
        beta=float(op.beta),
    )


# -- functions of one element --------------------------------------------------------------------------------


def _binary(writer: Writer, code: str, a: int, b: int, shape: Sequence[int]) -> int:
    return writer.emit(code, [a, b], shape, {"ADD": "AddOptions", "MUL": "MulOptions"}[code])


def _unary(writer: Writer, code: str, x: int, options: str = "", **fields: Any) -> int:
    return writer.emit(code, [x], writer.shapes[x], options, **fields)


def _function(code: str, options: str = "") -> Lower:
    return lambda writer, op, args, out: _unary(writer, code, writer.of(args[0]), options)


def _fusible(code: str) -> Lower:
    def spell(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
        fused = writer.fuse(args[0], code)
        return _unary(writer, code, writer.of(args[0])) if fused is None else fused

    return spell


def _pair(code: str) -> Lower:
    def spell(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
        from compactir.tools.bench.tflite import dimensions

        return _binary(writer, code, writer.of(args[0]), writer.of(args[1]), dimensions(out.type))

    return spell


def _same_tensor(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    return writer.of(args[0])


_TABLE |= {
    "relu": _fusible("RELU"),
    "relu6": _fusible("RELU6"),
    "sigmoid": _function("LOGISTIC"),
    "hard_swish": _function("HARD_SWISH", "HardSwishOptions"),
    "add": _pair("ADD"),
    "mul": _pair("MUL"),
    "identity": _same_tensor,
    "dropout": _same_tensor,
}


@_table("leaky_relu")
def _leaky_relu(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    return _unary(writer, "LEAKY_RELU", writer.of(args[0]), "LeakyReluOptions", alpha=float(op.slope))


@_table("softmax")
def _softmax(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    return _unary(writer, "SOFTMAX", writer.of(args[0]), "SoftmaxOptions", beta=1.0)


@_table("hard_sigmoid")
def _hard_sigmoid(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    x = writer.of(args[0])
    three, sixth = (writer.constant(np.array([v], np.float32)) for v in (3.0, 1 / 6))
    shifted = writer.emit("ADD", [x, three], writer.shapes[x], "AddOptions")
    return _binary(writer, "MUL", _unary(writer, "RELU6", shifted), sixth, writer.shapes[x])


@_table("tanh")
def _tanh(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    x = writer.of(args[0])
    for factor in (op.slope, None, op.scale):
        if factor is None:
            x = _unary(writer, "TANH", x)
        elif factor != 1:
            x = _binary(writer, "MUL", x, writer.constant(np.array([factor], np.float32)), writer.shapes[x])
    return x


@_table("swish")
def _swish(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    x = writer.of(args[0])
    return _binary(writer, "MUL", x, _unary(writer, "LOGISTIC", x), writer.shapes[x])


# -- pools ---------------------------------------------------------------------------------------------------


def _reach(op: Pool, size: Sequence[int]) -> Pad:
    """Padding with which the windows fit exactly."""
    ends = [
        max((op.out_extent(size[a], a) - 1) * op.stride[a] + op.kernel[a] - op.pad[a] - size[a], 0)
        for a in (0, 1)
    ]
    return op.pad[0], op.pad[1], ends[0], ends[1]


def _pool(writer: Writer, code: str, op: Pool, x: int, padding: int, shape: Sequence[int]) -> int:
    return writer.emit(
        code,
        [x],
        shape,
        "Pool2DOptions",
        padding=padding,
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=op.kernel[0],
        filterWidth=op.kernel[1],
    )


@_table("max_pool")
def _max_pool(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    x, size = writer.of(args[0]), args[0].type.spatial
    pad, shape = _reach(op, size), (out.type.batch, *out.type.spatial, out.type.channels)
    if any(pad) and pad == _same(size, op.kernel, op.stride, (1, 1)):
        return _pool(writer, "MAX_POOL_2D", op, x, writer.schema.Padding.SAME, shape)
    if any(pad):
        x = _pad_with(writer, x, pad, _LOWEST)
    return _pool(writer, "MAX_POOL_2D", op, x, writer.schema.Padding.VALID, shape)


@_table("avg_pool")
def _avg_pool(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    """LiteRT's mean leaves SAME's padding out; any other padding is zeros that count, and a factor."""
    x, size = writer.of(args[0]), args[0].type.spatial
    pad, shape = _reach(op, size), (out.type.batch, *out.type.spatial, out.type.channels)
    divisors = np.array(op.divisors(size), np.float64)
    area = op.kernel[0] * op.kernel[1]
    if not op.count_pad and not op.divisor and pad == _same(size, op.kernel, op.stride, (1, 1)):
        return _pool(writer, "AVERAGE_POOL_2D", op, x, writer.schema.Padding.SAME, shape)
    if any(pad):
        x = _pad_with(writer, x, pad, 0.0)
    mean = _pool(writer, "AVERAGE_POOL_2D", op, x, writer.schema.Padding.VALID, shape)
    factors = np.broadcast_to(area / divisors, out.type.spatial)
    if np.all(factors == 1):
        return mean
    one = np.all(factors == factors[0, 0])
    array = factors[:1, :1].reshape(1) if one else factors[None, :, :, None]
    return _binary(writer, "MUL", mean, writer.constant(array.astype(np.float32)), shape)


def _global(code: str) -> Lower:
    def spell(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
        x = writer.of(args[0])
        n, _, _, c = writer.shapes[x]
        axes = writer.ints([1, 2])
        return writer.emit(code, [x, axes], (n, 1, 1, c), "ReducerOptions", keepDims=True)

    return spell


_TABLE |= {"global_avg_pool": _global("MEAN"), "global_max_pool": _global("REDUCE_MAX")}


# -- arrangement ---------------------------------------------------------------------------------------------


@_table("concat")
def _joined(writer: Writer, op: Any, args: list[Value], out: Value) -> int:
    return _concat(writer, [writer.of(arg) for arg in args])


def _concat(writer: Writer, parts: list[int]) -> int:
    if len(parts) == 1:
        return parts[0]
    first = writer.shapes[parts[0]]
    shape = (*first[:-1], sum(writer.shapes[part][-1] for part in parts))
    return writer.emit("CONCATENATION", parts, shape, "ConcatenationOptions", axis=len(shape) - 1)


@_table("gather")
def _gather(writer: Writer, op: Gather, args: list[Value], out: Value) -> int:
    return _pick(writer, writer.of(args[0]), op.channels)


def _pick(writer: Writer, x: int, channels: ChannelList) -> int:
    """These channels: x itself, a slice, or a gather, of planes: of last axes LiteRT copies single numbers.

    With two transpositions CondenseNet-74 takes 17.3 ms instead of 28.8, LeNet-5 as written 59 µs, not 90.
    """
    before = writer.shapes[x]
    if channels.is_identity(before[-1]):
        return x
    shape, axis = (*before[:-1], len(channels)), len(before) - 1
    if channels.is_plain_range:
        begin = writer.ints([*[0] * axis, channels[0]])
        return writer.emit("SLICE", [x, begin, writer.ints(shape)], shape, "SliceOptions")
    indices = writer.ints(channels.array.tolist())
    if axis < 3 or before[1] * before[2] == 1:
        return writer.emit("GATHER", [x, indices], shape, "GatherOptions", axis=axis)
    n, h, w, _ = before
    planes = _transpose(writer, x, (0, 3, 1, 2))
    picked = writer.emit("GATHER", [planes, indices], (n, shape[-1], h, w), "GatherOptions", axis=1)
    return _transpose(writer, picked, (0, 2, 3, 1))


@_table("shuffle")
def _shuffle(writer: Writer, op: Shuffle, args: list[Value], out: Value) -> int:
    """Of few groups two transpositions, pixels × (g, n) to (n, g) × pixels and back; else one of g × n.

    XNNPACK moves tiles of 8 × 8, along the last axis of the operand and along that of the result. Of one
    transposition, pixels × (g, n) to pixels × (n, g), the latter is g numbers long. Microseconds with one,
    with two, and with the three that litert-torch 0.10.0 writes (one thread, AVX-512, LiteRT 2.3.0):

    |                   | g | one  | two  | three |
    |-------------------|---|------|------|-------|
    | 28 × 28 × 48      | 2 | 15.0 | 6.0  | 6.5   |
    | 7 × 7 × 464       | 2 | 7.8  | 4.7  | 5.8   |
    | 112 × 112 × 144   | 2 | 2189 | 1176 | 1384  |
    | 28 × 28 × 240     | 3 | 62.3 | 42.6 | 45.0  |
    | 14 × 14 × 256     | 4 | 12.0 | 11.1 | 11.8  |
    | 14 × 14 × 768     | 8 | 30.5 | 43.5 | 42.1  |

    With it and `_pad_with`, ShuffleNetV2 0.5× takes 0.815 ms instead of 0.970, and litert-torch's file of it
    0.856, in turns on one core; ShuffleNetV2 1× 2.16 instead of 2.32, and 2.21.
    """
    x = writer.of(args[0])
    n, h, w, c = writer.shapes[x]
    grouped = _reshape(writer, x, (n, h, w, op.groups, c // op.groups))
    if h * w == 1 or op.groups >= _TILE:
        return _reshape(writer, _transpose(writer, grouped, (0, 1, 2, 4, 3)), (n, h, w, c))
    planes = _reshape(writer, _transpose(writer, grouped, (0, 4, 3, 1, 2)), (n, c, h, w))
    return _transpose(writer, planes, (0, 2, 3, 1))

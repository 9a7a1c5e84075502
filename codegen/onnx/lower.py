"""What each operation becomes in ONNX: one function per operation, standard operators only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Family, Pad
from compactir.ir.graph import Node, Param
from compactir.ir.op import Op
from compactir.ir.types import Array, TensorType
from compactir.ops.activation import Clip, LeakyRelu, Tanh
from compactir.ops.arrange import AsMap, Gather, Shuffle
from compactir.ops.conv import Conv, extra_operands
from compactir.ops.linear import Linear, Rbf
from compactir.ops.norm import BatchNorm, Lrn
from compactir.ops.pool import AvgPool, MaxPool, Pool, Upsample
from compactir.ops.tensor import Binary, Expand, Join, Reduce, Reshape, Take, Transpose, Unary
from compactir.ops.tensor import Pad as PadTensor

if TYPE_CHECKING:
    from compactir.codegen.onnx.export import Writer

Arg = str | Param
Lower = Callable[["Writer", Any, list[Arg], TensorType], str]
"""(writer, operation, operands, type of the first operand) -> the name of the result."""

_TABLE: dict[str, Lower] = {}
_END = np.iinfo(np.int64).max
"""Where a slice without an end ends."""


def lower(writer: Writer, node: Node, args: list[Arg]) -> str:
    """The nodes of an operation and its epilogue; returns the name of the result."""
    epilogue: tuple[Op, ...] = getattr(node.op, "epilogue", ())
    own = 1 + len(node.op.params(node.args[0].type)) if epilogue else len(args)
    result = _lower(writer, node.op, args[:own], node.args[0].type)
    rest = args[own:]
    for op in epilogue:
        extra, rest = rest[: extra_operands(op)], rest[extra_operands(op) :]
        result = _lower(writer, op, [result, *extra], node.out.type)
    return result


def _lower(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    if op.name not in _TABLE:
        raise CompactError("CIR501", f"ONNX cannot say `{op.name}`")
    return _TABLE[op.name](writer, op, args, type)


def _table(name: str) -> Callable[[Lower], Lower]:
    def add(function: Lower) -> Lower:
        _TABLE[name] = function
        return function

    return add


def _text(writer: Writer, arg: Arg) -> str:
    return writer.param(arg) if isinstance(arg, Param) else arg


def _array(writer: Writer, arg: Arg) -> Array:
    assert isinstance(arg, Param), "type rules let nothing else stand here"
    return writer.array(arg)


def _scalar(writer: Writer, value: float, stem: str) -> str:
    return writer.constant(np.array(value, np.float32), stem)


def _ints(writer: Writer, values: Sequence[int], stem: str) -> str:
    return writer.constant(np.array(values, np.int64), stem)


# -- convolution ---------------------------------------------------------------------------------------------


@_table("conv")
def _conv(writer: Writer, op: Conv, args: list[Arg], type: TensorType) -> str:
    x, rest = _text(writer, args[0]), list(args[1:])
    kernels = [rest.pop(0) for _ in op.connect.families]
    mask = rest.pop(0) if op.masked else None
    bias = rest.pop(0) if op.bias else None
    if not kernels:
        return _nothing(writer, op, bias, type)
    weights = [_text(writer, k) for k in kernels[1:]]
    weights.insert(0, _weight(writer, kernels[0], mask))
    made = np.concatenate([f.outputs.array for f in op.connect.families])
    whole = len(made) == op.connect.out_channels
    parts = []
    for source, family, weight in zip(_inputs(writer, op, x), op.connect.families, weights, strict=True):
        inputs = [source, weight]
        if bias is not None and whole:
            inputs.append(_part_of_bias(writer, bias, family, op))
        parts.append(_one(writer, op, family, inputs))
    y = parts[0] if len(parts) == 1 else writer.emit("Concat", *parts, axis=1)
    if not np.array_equal(made, np.arange(op.connect.out_channels)):
        y = _in_order(writer, y, made, op.connect.out_channels)
    if bias is not None and not whole:
        y = writer.emit("Add", y, writer.constant(_array(writer, bias).reshape(1, -1, 1, 1), "bias"))
    return y


def _weight(writer: Writer, kernel: Arg, mask: Arg | None) -> str:
    if mask is None:
        return _text(writer, kernel)
    return writer.constant(_array(writer, kernel) * _array(writer, mask), "weight")


def _one(writer: Writer, op: Conv, family: Family, inputs: list[str]) -> str:
    """The convolution of one family of equal blocks."""
    pads = family.pad
    if min(pads) < 0:  # ONNX convolutions cannot crop
        top, left, bottom, right = pads
        amounts = _ints(writer, [0, 0, top, left, 0, 0, bottom, right], "pads")
        inputs[0], pads = writer.emit("Pad", inputs[0], amounts), (0, 0, 0, 0)
    return writer.emit(
        "Conv",
        *inputs,
        kernel_shape=family.kernel,
        strides=op.stride,
        dilations=op.dilation,
        pads=pads,
        group=family.count,
    )


def _inputs(writer: Writer, op: Conv, x: str) -> list[str]:
    """What each family reads: x itself, parts of a split, or picked channels."""
    families = op.connect.families
    together = np.concatenate([f.inputs.array for f in families])
    if np.array_equal(together, np.arange(op.connect.in_channels)):
        return writer.emit_split(x, [len(f.inputs) for f in families])
    return [_pick(writer, x, f.inputs, op.connect.in_channels) for f in families]


def _part_of_bias(writer: Writer, bias: Arg, family: Family, op: Conv) -> str:
    if family.outputs.is_identity(op.connect.out_channels):
        return _text(writer, bias)
    return writer.constant(_array(writer, bias)[family.outputs.array], "bias")


def _in_order(writer: Writer, y: str, made: Array, channels: int) -> str:
    """Put the outputs of all parts where they belong; what no part makes is read from a channel of zeros."""
    if len(made) < channels:
        y = writer.emit("Pad", y, _ints(writer, [0, 0, 0, 0, 0, 1, 0, 0], "pads"))
    order = np.full(channels, len(made), np.int64)
    order[made] = np.arange(len(made))
    return writer.emit("Gather", y, writer.constant(order, "order"), axis=1)


def _nothing(writer: Writer, op: Conv, bias: Arg | None, type: TensorType) -> str:
    """A convolution without any block: its bias everywhere."""
    channels = op.connect.out_channels
    shape = (type.batch, channels, *op.connect.out_size(type.spatial, op.stride, op.dilation))
    values = np.zeros(channels, np.float32) if bias is None else _array(writer, bias)
    return writer.emit(
        "Expand", writer.constant(values.reshape(1, -1, 1, 1), "bias"), _ints(writer, shape, "shape")
    )


# -- linear, normalisation -----------------------------------------------------------------------------------


def _vector(writer: Writer, x: Arg, type: TensorType) -> str:
    name = _text(writer, x)
    return writer.emit("Flatten", name, axis=1) if type.rank == 4 else name


@_table("linear")
def _linear(writer: Writer, op: Linear, args: list[Arg], type: TensorType) -> str:
    x = _vector(writer, args[0], type)
    return writer.emit("Gemm", x, *(_text(writer, a) for a in args[1:]), transB=1)


@_table("rbf")
def _rbf(writer: Writer, op: Rbf, args: list[Arg], type: TensorType) -> str:
    x = writer.emit("Unsqueeze", _vector(writer, args[0], type), _ints(writer, [1], "axes"))
    difference = writer.emit("Sub", x, _text(writer, args[1]))
    square = writer.emit("Mul", difference, difference)
    return writer.emit("ReduceSum", square, _ints(writer, [2], "axes"), keepdims=0)


@_table("bn")
def _bn(writer: Writer, op: BatchNorm, args: list[Arg], type: TensorType) -> str:
    return writer.emit("BatchNormalization", *(_text(writer, a) for a in args), epsilon=op.eps)


@_table("affine")
def _affine(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    shape = (1, -1, *[1] * (type.rank - 2))
    weight, bias = (_array(writer, a).reshape(shape) for a in args[1:])
    scaled = writer.emit("Mul", _text(writer, args[0]), writer.constant(weight, "weight"))
    return writer.emit("Add", scaled, writer.constant(bias, "bias"))


@_table("lrn")
def _lrn(writer: Writer, op: Lrn, args: list[Arg], type: TensorType) -> str:
    x = _text(writer, args[0])
    if op.size % 2:
        return writer.emit("LRN", x, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.k)
    n, c, h, w = type.shape  # ONNX lays an even window the other way round: average along the channels
    square = writer.emit("Mul", x, x)
    flat = writer.emit("Reshape", square, _ints(writer, [n, 1, c, h * w], "shape"))
    before, after = op.size // 2, (op.size - 1) // 2
    mean = writer.emit(
        "AveragePool", flat, kernel_shape=[op.size, 1], pads=[before, 0, after, 0], count_include_pad=1
    )
    mean = writer.emit("Reshape", mean, _ints(writer, type.shape, "shape"))
    scale = writer.emit("Mul", mean, _scalar(writer, op.alpha, "alpha"))
    scale = writer.emit("Add", scale, _scalar(writer, op.k, "k"))
    return writer.emit("Div", x, writer.emit("Pow", scale, _scalar(writer, op.beta, "beta")))


# -- functions of one element --------------------------------------------------------------------------------


def _function(operation: str, **attributes: Any) -> Lower:
    return lambda writer, op, args, type: writer.emit(operation, _text(writer, args[0]), **attributes)


_TABLE |= {
    "relu": _function("Relu"),
    "sigmoid": _function("Sigmoid"),
    "hard_sigmoid": _function("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": _function("HardSwish"),
    "softmax": _function("Softmax", axis=1),
    "global_avg_pool": _function("GlobalAveragePool"),
    "global_max_pool": _function("GlobalMaxPool"),
    "flatten": _function("Flatten", axis=1),
    "identity": lambda writer, op, args, type: _text(writer, args[0]),
    "dropout": lambda writer, op, args, type: _text(writer, args[0]),
    "add": lambda writer, op, args, type: writer.emit("Add", *(_text(writer, a) for a in args)),
    "mul": lambda writer, op, args, type: writer.emit("Mul", *(_text(writer, a) for a in args)),
    "concat": lambda writer, op, args, type: writer.emit("Concat", *(_text(writer, a) for a in args), axis=1),
}


def _clamp(writer: Writer, x: Arg, low: float, high: float) -> str:
    return writer.emit("Clip", _text(writer, x), _scalar(writer, low, "low"), _scalar(writer, high, "high"))


@_table("relu6")
def _relu6(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    return _clamp(writer, args[0], 0.0, 6.0)


@_table("clip")
def _clip(writer: Writer, op: Clip, args: list[Arg], type: TensorType) -> str:
    return _clamp(writer, args[0], op.low, op.high)


@_table("leaky_relu")
def _leaky_relu(writer: Writer, op: LeakyRelu, args: list[Arg], type: TensorType) -> str:
    return writer.emit("LeakyRelu", _text(writer, args[0]), alpha=op.slope)


@_table("tanh")
def _tanh(writer: Writer, op: Tanh, args: list[Arg], type: TensorType) -> str:
    x = _text(writer, args[0])
    if op.slope != 1:
        x = writer.emit("Mul", x, _scalar(writer, op.slope, "slope"))
    y = writer.emit("Tanh", x)
    return y if op.scale == 1 else writer.emit("Mul", y, _scalar(writer, op.scale, "scale"))


@_table("swish")
def _swish(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    x = _text(writer, args[0])
    return writer.emit("Mul", x, writer.emit("Sigmoid", x))


# -- pools and resampling ------------------------------------------------------------------------------------


def _reach(op: Pool, type: TensorType) -> Pad:
    """The padding as written, unless the size is rounded up: then one with which the windows fit exactly.

    Engines have different ideas of a rounded-up size, and pnnx (for ncnn) pads twice where sides differ.
    """
    ends = []
    for axis in (0, 1):
        size, pad, kernel, stride = type.spatial[axis], op.pad[axis], op.kernel[axis], op.stride[axis]
        extent = op.out_extent(size, axis)
        plain = (size + 2 * pad - kernel) // stride + 1 == extent
        ends.append(pad if plain else max((extent - 1) * stride + kernel - pad - size, 0))
    return op.pad[0], op.pad[1], ends[0], ends[1]


@_table("max_pool")
def _max_pool(writer: Writer, op: MaxPool, args: list[Arg], type: TensorType) -> str:
    x = _text(writer, args[0])
    return writer.emit("MaxPool", x, kernel_shape=op.kernel, strides=op.stride, pads=_reach(op, type))


@_table("avg_pool")
def _avg_pool(writer: Writer, op: AvgPool, args: list[Arg], type: TensorType) -> str:
    real = not op.count_pad and not op.divisor
    mean = writer.emit(
        "AveragePool",
        _text(writer, args[0]),
        kernel_shape=op.kernel,
        strides=op.stride,
        pads=_reach(op, type),
        count_include_pad=0 if real else 1,
    )
    factors = op.kernel[0] * op.kernel[1] / np.array(op.divisors(type.spatial), np.float64)
    if real or np.all(factors == 1):
        return mean
    factors = factors[:1, :1] if np.all(factors == factors[0, 0]) else factors
    return writer.emit("Mul", mean, writer.constant(factors[None, None].astype(np.float32), "factors"))


@_table("upsample")
def _upsample(writer: Writer, op: Upsample, args: list[Arg], type: TensorType) -> str:
    x = _text(writer, args[0])
    if op.mode == "bilinear":
        sizes = _ints(writer, [*type.shape[:2], *op.size], "sizes")
        how = "half_pixel"
        return writer.emit("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode=how)
    if all(new % old == 0 for new, old in zip(op.size, type.spatial, strict=True)):
        factors = [new // old for new, old in zip(op.size, type.spatial, strict=True)]
        scales = writer.constant(np.array([1, 1, *factors], np.float32), "scales")
        how = "asymmetric"
        return writer.emit(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode=how, nearest_mode="floor"
        )
    for axis, sources in enumerate(op.sources(type.spatial)):  # a rounded factor could miss by one
        x = writer.emit("Gather", x, _ints(writer, sources, "sources"), axis=axis + 2)
    return x


# -- arrangement ---------------------------------------------------------------------------------------------


@_table("shuffle")
def _shuffle(writer: Writer, op: Shuffle, args: list[Arg], type: TensorType) -> str:
    n, c, *spatial = type.shape
    grouped = _ints(writer, [n, op.groups, c // op.groups, *spatial], "grouped")
    x = writer.emit("Reshape", _text(writer, args[0]), grouped)
    x = writer.emit("Transpose", x, perm=[0, 2, 1, *range(3, 3 + len(spatial))])
    return writer.emit("Reshape", x, _ints(writer, type.shape, "shape"))


@_table("gather")
def _gather(writer: Writer, op: Gather, args: list[Arg], type: TensorType) -> str:
    return _pick(writer, _text(writer, args[0]), op.channels, type.channels)


def _pick(writer: Writer, x: str, channels: ChannelList, of: int) -> str:
    """These channels of x: x itself, a slice, or a gather."""
    if channels.is_identity(of):
        return x
    if len(channels.runs) == 1 and channels.runs[0].step > 0:
        run = channels.runs[0]
        stop = run.start + run.step * run.count
        ends = [run.start], [stop if stop <= of else _END], [1], [run.step]
        return writer.emit("Slice", x, *(_ints(writer, e, s) for e, s in zip(ends, _SLICE, strict=True)))
    return writer.emit("Gather", x, writer.constant(channels.array, "channels"), axis=1)


_SLICE = ("starts", "ends", "axes", "steps")


@_table("as_map")
def _as_map(writer: Writer, op: AsMap, args: list[Arg], type: TensorType) -> str:
    if op.size != (1, 1):
        shape = _ints(writer, op.infer(type).shape, "shape")
        return writer.emit("Reshape", _text(writer, args[0]), shape)
    axes = [2] if type.rank == 3 else [2, 3]
    return writer.emit("Unsqueeze", _text(writer, args[0]), _ints(writer, axes, "axes"))


@_table("as_sequence")
def _as_sequence(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    return writer.emit("Squeeze", _text(writer, args[0]), _ints(writer, [2], "axes"))


# -- tensors of any rank -------------------------------------------------------------------------------------

_COMPARED = {"equal": "Equal", "greater": "Greater", "less": "Less"}
_LOGICAL = {"and": "And", "or": "Or", "xor": "Xor"}
_FLOAT, _BOOL = 1, 9
"""Numbers of element types in ONNX."""


@_table("unary")
def _unary(writer: Writer, op: Unary, args: list[Arg], type: TensorType) -> str:
    x = _text(writer, args[0])
    if op.function == "not":
        return writer.emit("Cast", writer.emit("Not", writer.emit("Cast", x, to=_BOOL)), to=_FLOAT)
    if op.function == "trunc":
        size = writer.emit("Floor", writer.emit("Abs", x))
        return writer.emit("Mul", writer.emit("Sign", x), size)
    return writer.emit(op.function.capitalize(), x)


@_table("binary")
def _binary(writer: Writer, op: Binary, args: list[Arg], type: TensorType) -> str:
    a, b = (_text(writer, arg) for arg in args)
    if op.function in _COMPARED:
        return writer.emit("Cast", writer.emit(_COMPARED[op.function], a, b), to=_FLOAT)
    if op.function in _LOGICAL:
        a, b = (writer.emit("Cast", x, to=_BOOL) for x in (a, b))
        return writer.emit("Cast", writer.emit(_LOGICAL[op.function], a, b), to=_FLOAT)
    if op.function == "fmod":
        return writer.emit("Mod", a, b, fmod=1)
    if op.function == "mod":  # ONNX has it for whole numbers only
        multiple = writer.emit("Mul", writer.emit("Floor", writer.emit("Div", a, b)), b)
        return writer.emit("Sub", a, multiple)
    return writer.emit(op.function.capitalize(), a, b)


@_table("choose")
def _choose(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    condition, a, b = (_text(writer, arg) for arg in args)
    return writer.emit("Where", writer.emit("Cast", condition, to=_BOOL), a, b)


@_table("reduce")
def _reduce(writer: Writer, op: Reduce, args: list[Arg], type: TensorType) -> str:
    name, x = f"Reduce{op.function.capitalize()}", _text(writer, args[0])
    if op.function == "sum":  # the only one whose axes are an operand in this opset
        return writer.emit(name, x, _ints(writer, op.axes, "axes"), keepdims=int(op.keep))
    return writer.emit(name, x, axes=op.axes, keepdims=int(op.keep))


@_table("reshape")
def _reshape(writer: Writer, op: Reshape, args: list[Arg], type: TensorType) -> str:
    return writer.emit("Reshape", _text(writer, args[0]), _ints(writer, op.shape, "shape"))


@_table("transpose")
def _transpose(writer: Writer, op: Transpose, args: list[Arg], type: TensorType) -> str:
    return writer.emit("Transpose", _text(writer, args[0]), perm=op.order)


@_table("take")
def _take(writer: Writer, op: Take, args: list[Arg], type: TensorType) -> str:
    indices = writer.constant(op.indices.array, "indices")
    return writer.emit("Gather", _text(writer, args[0]), indices, axis=op.axis)


@_table("join")
def _join(writer: Writer, op: Join, args: list[Arg], type: TensorType) -> str:
    return writer.emit("Concat", *(_text(writer, a) for a in args), axis=op.axis)


@_table("pad")
def _pad(writer: Writer, op: PadTensor, args: list[Arg], type: TensorType) -> str:
    amounts = _ints(writer, [*op.before, *op.after], "pads")
    return writer.emit("Pad", _text(writer, args[0]), amounts, _scalar(writer, op.value, "value"))


@_table("expand")
def _expand(writer: Writer, op: Expand, args: list[Arg], type: TensorType) -> str:
    shape = [1 if e == -1 else e for e in op.shape]  # what ONNX's Expand keeps
    return writer.emit("Expand", _text(writer, args[0]), _ints(writer, shape, "shape"))


@_table("matmul")
def _matmul(writer: Writer, op: Op, args: list[Arg], type: TensorType) -> str:
    return writer.emit("MatMul", *(_text(writer, a) for a in args))

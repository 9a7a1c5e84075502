"""ATen operations as layers and as arithmetic on tensors, one function for each kind."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from compactir.frontends.build import Tensor, is_known, shape_of
from compactir.frontends.torch.functions import adaptive, bordered, transposed
from compactir.frontends.torch.reader import Refused, Step, handles
from compactir.ir.connectivity import Connectivity
from compactir.ir.types import Array
from compactir.ops import SPELLINGS
from compactir.ops.activation import Activation
from compactir.ops.arrange import Dropout
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import BatchNorm
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from compactir.ops.tensor import Reshape

# -- layers --------------------------------------------------------------------------------------------------


def _pair(value: Any) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return (int(numbers[0]), int(numbers[-1]))


@handles("conv2d", "convolution", "conv1d")
def _conv(s: Step) -> Any:
    if s.get("transposed", False):
        return transposed(s)
    weight = s.known("weight")
    x, sequence = s.value("input"), weight.ndim == 3
    if sequence:
        x, weight = s.b.as_map(x), weight[:, :, None]
    c = shape_of(x)[1]
    kernel = (weight.shape[2], weight.shape[3])

    def axes(name: str, otherwise: int) -> tuple[int, int]:
        first, last = _pair(s.get(name, otherwise))
        return (otherwise, last) if sequence else (first, last)

    stride, dilation = axes("stride", 1), axes("dilation", 1)
    padding = s.get("padding", 0)
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        pad = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        pad = axes("padding", 0) * 2
    bias = s["bias"]
    connect = Connectivity.grouped(c, len(weight), int(s.get("groups", 1)), kernel, pad)
    op = Conv(connect, stride, dilation, bias is not None)
    y = s.b.layer(op, x, weight, *([] if bias is None else [bias]), name=s.layer_name())
    return s.b.as_sequence(y) if sequence else y


@handles("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm")
def _batch_norm(s: Step) -> Any:
    if s.get("training", False):
        raise Refused("it normalises by the batch (training)")
    x, mean = s.value("input"), s.known("running_mean")
    weight = np.ones_like(mean) if s["weight"] is None else s.known("weight")
    bias = np.zeros_like(mean) if s["bias"] is None else s.known("bias")
    eps = float(s["eps"])
    name = s.layer_name("running_mean")
    n, c, *rest = x.type.shape
    flat = s.b.place(Reshape((n, c, int(np.prod(rest)))), x) if x.type.rank > 4 else x
    parameters = (weight, bias, mean, s.known("running_var"))
    y = s.b.on_map(flat, lambda m: s.b.layer(BatchNorm(eps), m, *parameters, name=name))
    y = s.b.place(Reshape(x.type.shape), y) if x.type.rank > 4 else y
    return y if str(s.node.target).startswith("aten.batch_norm") else [y, mean, mean]


@handles("linear")
def _linear(s: Step) -> Any:
    weight, bias = s.known("weight"), s["bias"]
    return _matrix(s, s["input"], weight, bias, s.layer_name())


@handles("addmm")
def _addmm(s: Step) -> Any:
    if s.get("alpha", 1) != 1 or s.get("beta", 1) != 1:
        raise Refused("its factors are not 1")
    name = s.layer_name("self")
    return _matrix(s, s["mat1"], s.known("mat2").T, s["self"], name)


@handles("mm", "matmul")
def _product(s: Step) -> Any:
    a, b = (s["self"], s["mat2"]) if "mat2" in s.args else (s["self"], s["other"])
    if is_known(b) and b.ndim == 2:
        return _matrix(s, a, b.T, None, s.b.stem)
    return s.b.matmul(a, b)


def _matrix(s: Step, x: Any, weight: Array, bias: Any, name: str) -> Any:
    """A linear layer; on more than two axes a product with a matrix."""
    if len(shape_of(x)) == 2 and (bias is None or is_known(bias)):
        op = Linear(len(weight), bias is not None)
        return s.b.layer(op, x, weight, *([] if bias is None else [bias]), name=name)
    y = s.b.matmul(x, np.ascontiguousarray(weight.T))
    return y if bias is None else s.b.binary("add", y, bias)


# -- activations ---------------------------------------------------------------------------------------------

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "swish",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
}


@handles(*_ACTIVATIONS)
def _activation(s: Step) -> Any:
    word = str(s.node.target).split(".")[1].rstrip("_")
    return s.b.activation(_op(_ACTIVATIONS[word], s), s[s.first])


def _op(word: str, s: Step, **attributes: Any) -> Activation:
    first = s[s.first]
    op: Activation = SPELLINGS[word](first.type, **attributes)
    return op


@handles("leaky_relu")
def _leaky_relu(s: Step) -> Any:
    return s.b.activation(_op("leaky_relu", s, slope=float(s["negative_slope"])), s["self"])


@handles("dropout", "feature_dropout")
def _dropout(s: Step) -> Any:
    if s.get("train", False):
        raise Refused("it drops values (training)")
    return s.b.place(Dropout(float(s["p"])), s[s.first])  # `input`, in place `self`


@handles("exp", "abs", "neg", "sqrt", "log", "floor", "ceil", "erf", "sin", "cos")
def _unary(s: Step) -> Any:
    return s.b.unary(str(s.node.target).split(".")[1].rstrip("_"), s["self"])


@handles("rsqrt", "reciprocal")
def _inverse(s: Step) -> Any:
    x = s["self"]
    root = s.b.unary("sqrt", x) if "rsqrt" in str(s.node.target) else x
    return s.b.binary("div", np.ones((), np.float32), root)


# -- arithmetic ----------------------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    return np.asarray(value, np.float32) if isinstance(value, (int, float, bool)) else value


@handles("add", "sub", "mul", "div")
def _arithmetic(s: Step) -> Any:
    word = str(s.node.target).split(".")[1].rstrip("_")
    a, b = _number(s["self"]), _number(s["other"])
    if (alpha := s.get("alpha", 1)) != 1:
        b = s.b.scaled(b, float(alpha))
    y = s.b.binary(word, a, b)
    return y if s.get("rounding_mode") is None else s.b.unary(s["rounding_mode"], y)


@handles("pow")
def _power(s: Step) -> Any:
    return s.b.binary("pow", _number(s["self"]), _number(s["exponent"]))


@handles("maximum", "minimum")
def _extreme(s: Step) -> Any:
    return s.b.binary("max" if "max" in str(s.node.target) else "min", s["self"], s["other"])


# -- pools ---------------------------------------------------------------------------------------------------


def _window(s: Step) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    kernel = _pair(s["kernel_size"])
    stride = _pair(s["stride"]) if s.get("stride") else kernel
    top, left = _pair(s.get("padding", 0))
    return kernel, stride, (top, left, top, left)


@handles("avg_pool2d")
def _avg_pool(s: Step) -> Any:
    kernel, stride, pad = _window(s)
    counts, divisor = bool(s.get("count_include_pad", True)) and any(pad), int(s.get("divisor_override") or 0)
    return s.b.place(
        AvgPool(kernel, stride, pad, bool(s.get("ceil_mode", False)), counts, divisor), s.value("self")
    )


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d")
@handles("adaptive_avg_pool1d", "adaptive_max_pool1d")
def _adaptive(s: Step) -> Any:
    x, largest = s.value("self"), "max" in str(s.node.target)
    given = _pair(s["output_size"])[-len(x.type.spatial) :]
    (height, rows), (width, columns) = [(1, 1), *zip(x.type.spatial, given, strict=True)][-2:]
    kernel = (height // rows, width // columns)
    y: Tensor
    if (rows, columns) == (1, 1):
        y = s.b.on_map(x, partial(s.b.place, GlobalMaxPool() if largest else GlobalAvgPool()))
    elif height % rows == width % columns == 0:
        pool = MaxPool(kernel, kernel) if largest else AvgPool(kernel, kernel)
        y = s.b.on_map(x, partial(s.b.place, pool))
    else:
        y = adaptive(s, x, given, largest)
    return [y, None] if largest else y


@handles("mean", "sum", "amax", "amin")
def _reduced(s: Step) -> Any:
    word = {"mean": "mean", "sum": "sum", "amax": "max", "amin": "min"}[str(s.node.target).split(".")[1]]
    axes = s.get("dim") or range(len(shape_of(s["self"])))
    axes = [axes] if isinstance(axes, int) else list(axes)
    return s.b.reduce(word, s["self"], axes, bool(s.get("keepdim", False)))


# -- shapes --------------------------------------------------------------------------------------------------


@handles("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten")
def _reshaped(s: Step) -> Any:
    return s.b.reshape(s["self"], [int(e) for e in s.node.meta["val"].shape])


@handles("permute")
def _permuted(s: Step) -> Any:
    rank = len(shape_of(s["self"]))
    return s.b.transpose(s["self"], [d % rank for d in s["dims"]])


@handles("transpose", "t")
def _transposed(s: Step) -> Any:
    rank = len(shape_of(s["self"]))
    order = list(range(rank))
    a, b = (s["dim0"] % rank, s["dim1"] % rank) if "dim0" in s.args else (0, 1)
    order[a], order[b] = order[b], order[a]
    return s.b.transpose(s["self"], order)


@handles("expand")
def _expanded(s: Step) -> Any:
    return s.b.expand(s["self"], [int(e) for e in s.node.meta["val"].shape])


@handles("cat", "concat")
def _cat(s: Step) -> Any:
    return s.b.join(s["tensors"], int(s.get("dim", 0)) % len(shape_of(s["tensors"][0])))


@handles("split", "split_with_sizes", "chunk", "unbind", "tensor_split")
def _split(s: Step) -> Any:
    x, axis = s["self"], int(s.get("dim", 0)) % len(shape_of(s["self"]))
    parts = [tuple(int(e) for e in part.shape) for part in s.node.meta["val"]]
    single = len(parts[0]) < len(shape_of(x))
    sizes, at, results = [1 if single else part[axis] for part in parts], 0, []
    for size, part in zip(sizes, parts, strict=True):
        results.append(s.b.reshape(s.b.take(x, axis, range(at, at + size)), part))
        at += size
    return results


@handles("slice")
def _slice(s: Step) -> Any:
    x = s["self"]
    axis = int(s.get("dim", 0)) % len(shape_of(x))
    chosen = range(shape_of(x)[axis])[slice(s["start"], s["end"], s.get("step", 1))]
    return s.b.take(x, axis, chosen)


@handles("select", "narrow")
def _select(s: Step) -> Any:
    x = s["self"]
    axis = int(s["dim"]) % len(shape_of(x))
    if "index" not in s.args:
        start = int(s["start"]) % shape_of(x)[axis]
        return s.b.take(x, axis, range(start, start + int(s["length"])))
    taken = s.b.take(x, axis, [int(s["index"]) % shape_of(x)[axis]])
    return s.b.reshape(taken, [int(e) for e in s.node.meta["val"].shape])


@handles("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(s: Step) -> Any:
    groups = int(s["groups"])
    return s.b.on_map(s.value("self"), lambda m: s.b.place(SPELLINGS["shuffle"](m.type, groups=groups), m))


@handles("pixel_shuffle")
def _pixel_shuffle(s: Step) -> Any:
    n, c, h, w = shape_of(s["self"])
    r = int(s["upscale_factor"])
    y = s.b.reshape(s["self"], [n, c // r**2, r, r, h, w])
    return s.b.reshape(s.b.transpose(y, [0, 1, 4, 2, 5, 3]), [n, c // r**2, h * r, w * r])


@handles("pad", "constant_pad_nd")
def _pad(s: Step) -> Any:
    x: Tensor = s["self"]
    if (mode := s.get("mode", "constant")) != "constant":
        return bordered(s, x, s["pad"], mode)
    rank, given = len(shape_of(x)), [int(p) for p in s["pad"]]
    before, after = [0] * rank, [0] * rank
    for i in range(len(given) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = given[2 * i], given[2 * i + 1]
    return s.b.pad(x, before, after, float(s.get("value", 0.0)))

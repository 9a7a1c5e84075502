"""ATen operations that are written out: by ONNX's operators of the same meaning, or by arithmetic.

What ONNX has too is read by the function that reads it there (`_as_onnx`), so that both frontends support the
same and give the same graphs. PyTorch's meanings: https://docs.pytorch.org/docs/stable/torch.html and
`torch.nn.functional`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, inf, pi, prod, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Builder, Tensor, bounded, is_known, shape_of
from compactir.frontends.onnx import reader as onnx
from compactir.frontends.onnx.model import Node
from compactir.frontends.onnx.operators.arrange import flat_take, places
from compactir.frontends.onnx.operators.elementwise import softplus, split_at_zero
from compactir.frontends.onnx.operators.reduce import along
from compactir.frontends.torch.reader import Refused, Step, handles
from compactir.ir.types import Array
from compactir.ops import activation
from compactir.ops.activation import Softmax
from compactir.ops.pool import Upsample

_VERSION = 23
"""Of ONNX's operators."""


def _as_onnx(s: Step, op: str, *operands: Tensor | None, **attributes: Any) -> Tensor:
    """What ONNX's operator of this name makes of the operands."""
    context: Any = SimpleNamespace(builder=s.b, truths=set(), quantized=set(), need=_needed)
    node = Node(op, "", (), ("y",), attributes, s.node.name)
    try:
        result = onnx.OPERATORS[op](onnx.Call(context, node, list(operands), _VERSION))
    except onnx.Unsupported as reason:
        raise Refused(str(reason)) from None
    made = result[0] if isinstance(result, list) else result
    assert made is not None  # every operator makes its first result
    return made


def _needed(x: Tensor, why: str) -> Array:
    raise Refused(why)


def _called(s: Step) -> str:
    return str(s.node.target).split(".")[1].rstrip("_")


def _first(s: Step) -> Tensor:
    x: Tensor = s[s.first]
    return x


def _list(value: Any, count: int) -> list[int]:
    """One number for each of so many axes."""
    numbers = [value] if isinstance(value, int) else [int(v) for v in value]
    return numbers * count if len(numbers) == 1 else numbers


def _made_shape(s: Step) -> list[int]:
    """The shape that PyTorch found."""
    made = s.node.meta["val"]
    return [int(e) for e in (made[0] if isinstance(made, (list, tuple)) else made).shape]


def _axes_of(s: Step, name: str = "dim") -> list[int]:
    """The axes that it goes along, from the front; all where none is given."""
    rank = len(shape_of(_first(s)))
    given = s.get(name)
    given = range(rank) if given is None or given == [] else [given] if isinstance(given, int) else given
    return [int(a) % max(rank, 1) for a in given]


# -- functions of one element --------------------------------------------------------------------------------


@handles("gelu")
def _gelu(s: Step) -> Any:
    """Half x times one plus erf(x / √2), or its usual approximation by tanh."""
    b, x = s.b, _first(s)
    if s.get("approximate", "none") == "tanh":
        cube = b.binary("mul", b.binary("mul", x, x), x)
        inner = b.scaled(b.binary("add", x, b.scaled(cube, 0.044715)), sqrt(2 / pi))
        bent = b.activation(activation.Tanh(), inner)
    else:
        bent = b.unary("erf", b.scaled(x, sqrt(0.5)))
    return b.binary("mul", b.scaled(x, 0.5), b.scaled(bent, 1.0, 1.0))


@handles("elu", "celu", "selu")
def _elu(s: Step) -> Any:
    word, alpha = _called(s), float(s.get("alpha", 1.0))
    if word == "elu" and (s.get("scale", 1) != 1 or s.get("input_scale", 1) != 1):  # selu, taken apart
        b, inner, outer = s.b, float(s.get("input_scale", 1)), float(s.get("scale", 1))
        above, below = split_at_zero(b, _first(s))
        curve = b.scaled(b.unary("exp", b.scaled(below, inner)), alpha, -alpha)
        return b.scaled(b.binary("add", above, curve), outer)
    return _as_onnx(s, word.capitalize(), _first(s), **({} if word == "selu" else {"alpha": alpha}))


@handles("mish")
def _mish(s: Step) -> Any:
    return _as_onnx(s, "Mish", _first(s))


@handles("softplus")
def _softplus(s: Step) -> Any:
    """log(1 + e^(beta x)) / beta; above a threshold x itself (from 20 on they are one)."""
    beta, threshold = float(s.get("beta", 1)), float(s.get("threshold", 20))
    y = s.b.scaled(softplus(s.b, s.b.scaled(_first(s), beta)), 1 / beta)
    if threshold >= 20:
        return y
    straight = s.b.binary("greater", s.b.scaled(_first(s), beta), s.b.scalar(threshold, y))
    return s.b.choose(straight, _first(s), y)


@handles("log_sigmoid", "log_sigmoid_forward")
def _log_sigmoid(s: Step) -> Any:
    y = s.b.unary("neg", softplus(s.b, s.b.unary("neg", _first(s))))
    return [y, None] if "forward" in _called(s) else y


@handles("prelu", "_prelu_kernel")
def _prelu(s: Step) -> Any:
    slope = s["weight"]
    if len(shape_of(slope)) == 1 and "kernel" not in _called(s):
        slope = s.b.reshape(slope, [shape_of(slope)[0], *[1] * max(len(shape_of(_first(s))) - 2, 0)])
    return _as_onnx(s, "PRelu", _first(s), slope)


@handles("rrelu", "rrelu_with_noise")
def _rrelu(s: Step) -> Any:
    if s.get("training", False):
        raise Refused("it draws slopes at random (training)")
    return _as_onnx(s, "LeakyRelu", _first(s), alpha=(float(s["lower"]) + float(s["upper"])) / 2)


@handles("hardshrink", "softshrink")
def _shrunk(s: Step) -> Any:
    limit = float(s["lambd"])
    bias = limit if "soft" in _called(s) else 0.0
    return _as_onnx(s, "Shrink", _first(s), bias=bias, lambd=limit)


@handles("threshold")
def _threshold(s: Step) -> Any:
    b, x = s.b, _first(s)
    above = b.binary("greater", x, b.scalar(float(s["threshold"]), x))
    return b.choose(above, x, b.scalar(float(s["value"]), x))


@handles("glu")
def _glu(s: Step) -> Any:
    x, axis = _first(s), int(s.get("dim", -1)) % len(shape_of(_first(s)))
    half = shape_of(x)[axis] // 2
    gate = s.b.activation(activation.Sigmoid(), s.b.take(x, axis, range(half, 2 * half)))
    return s.b.binary("mul", s.b.take(x, axis, range(half)), gate)


@handles("log1p", "expm1", "square", "exp2", "log2", "log10")
def _simple(s: Step) -> Any:
    b, x = s.b, _first(s)
    match _called(s):
        case "log1p":
            return b.unary("log", b.scaled(x, 1.0, 1.0))
        case "expm1":
            return b.scaled(b.unary("exp", x), 1.0, -1.0)
        case "exp2":
            return b.unary("exp", b.scaled(x, float(np.log(2))))
        case "log2" | "log10" as word:
            return b.scaled(b.unary("log", x), 1 / float(np.log(2 if word == "log2" else 10)))
    return b.binary("mul", x, x)


_UNARY = {
    name: name
    for name in ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "round", "sign", "sinh")
} | {"tan": "tan", "trunc": "trunc", "logical_not": "not", "sgn": "sign"}


@handles(*_UNARY)
def _unary(s: Step) -> Any:
    if s.get("decimals", 0):
        raise Refused("it rounds to decimals")
    return s.b.unary(_UNARY[_called(s)], _first(s))


# -- comparisons and choices ---------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    return np.asarray(value, np.float32) if isinstance(value, (int, float, bool)) else value


_COMPARED = {"gt": "greater", "lt": "less", "eq": "equal", "ge": "greater", "le": "less", "ne": "equal"}


@handles(*_COMPARED)
def _compared(s: Step) -> Any:
    b, a, other = s.b, s["self"], _number(s["other"])
    found = b.binary(_COMPARED[_called(s)], a, other)
    if _called(s) == "ne":
        return b.unary("not", found)
    return b.binary("or", found, b.binary("equal", a, other)) if _called(s) in ("ge", "le") else found


@handles(*(f"{kind}_{word}" for kind in ("logical", "bitwise") for word in ("and", "or", "xor")))
def _logical(s: Step) -> Any:
    if "bool" not in str(s.node.meta["val"].dtype):
        raise Refused("it takes whole numbers apart into bits")
    return s.b.binary(_called(s).partition("_")[2], s["self"], s["other"])


@handles("bitwise_not")
def _not(s: Step) -> Any:
    if "bool" not in str(s.node.meta["val"].dtype):
        raise Refused("it takes whole numbers apart into bits")
    return s.b.unary("not", _first(s))


@handles("where")
def _where(s: Step) -> Any:
    if "other" not in s.args:
        raise Refused("the number of its results depends on the data")
    return s.b.choose(s["condition"], _number(s["self"]), _number(s["other"]))


@handles("masked_fill")
def _masked_fill(s: Step) -> Any:
    return s.b.choose(s["mask"], _number(s["value"]), s["self"])


@handles("fmod", "remainder")
def _remainder(s: Step) -> Any:
    return s.b.binary("fmod" if _called(s) == "fmod" else "mod", s["self"], _number(s["other"]))


@handles("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clamped(s: Step) -> Any:
    """Limits may be open, numbers, or tensors."""
    low, high = (_number(s.get(a, s.get(b))) for a, b in (("min", "min_val"), ("max", "max_val")))
    x = _first(s)
    if all(n is not None and is_known(n) and n.ndim == 0 for n in (low, high)) and not is_known(x):
        if (float(low), float(high)) == (0, 6):
            return s.b.activation(activation.Relu6(), x)
        if float(low) <= float(high):
            return s.b.activation(activation.Clip(float(low), float(high)), x)
    return _as_onnx(s, "Clip", x, low, high)


@handles("addcmul", "addcdiv")
def _added(s: Step) -> Any:
    word = "mul" if _called(s) == "addcmul" else "div"
    product = s.b.binary(word, s["tensor1"], s["tensor2"])
    return s.b.binary("add", s["self"], s.b.scaled(product, float(s.get("value", 1))))


@handles("lerp")
def _lerp(s: Step) -> Any:
    way = s.b.binary("mul", _number(s["weight"]), s.b.binary("sub", s["end"], s["self"]))
    return s.b.binary("add", s["self"], way)


# -- normalisations ------------------------------------------------------------------------------------------


def _standardised(b: Builder, x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    """Less its mean, by its deviation, along these axes."""
    apart = b.binary("sub", x, b.reduce("mean", x, axes))
    var = b.reduce("mean", b.binary("mul", apart, apart), axes)
    return b.binary("div", apart, b.unary("sqrt", b.scaled(var, 1.0, eps)))


def _affine(
    b: Builder, x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]
) -> Tensor:
    """Times a weight, plus a bias, both spread over x."""
    y = x if weight is None else b.binary("mul", x, b.reshape(weight, shape))
    return y if bias is None else b.binary("add", y, b.reshape(bias, shape))


@handles("layer_norm", "native_layer_norm")
def _layer_norm(s: Step) -> Any:
    x, over = _first(s), [int(e) for e in s["normalized_shape"]]
    rank = len(shape_of(x))
    y = _standardised(s.b, x, range(rank - len(over), rank), float(s["eps"]))
    y = _affine(s.b, y, s["weight"], s["bias"], over)
    return [y, None, None] if "native" in _called(s) else y


@handles("rms_norm")
def _rms_norm(s: Step) -> Any:
    b, x, over = s.b, _first(s), [int(e) for e in s["normalized_shape"]]
    rank = len(shape_of(x))
    eps = float(np.finfo(np.float32).eps) if s.get("eps") is None else float(s["eps"])
    mean = b.reduce("mean", b.binary("mul", x, x), range(rank - len(over), rank))
    return _affine(b, b.binary("div", x, b.unary("sqrt", b.scaled(mean, 1.0, eps))), s["weight"], None, over)


@handles("group_norm", "native_group_norm")
def _group_norm(s: Step) -> Any:
    """Each image's channels in groups, standardised together."""
    x = _first(s)
    n, c, *space = shape_of(x)
    groups = int(s["num_groups"] if "num_groups" in s.args else s["group"])
    grouped = s.b.reshape(x, [n, groups, c // groups * prod(space)])
    y = s.b.reshape(_standardised(s.b, grouped, [2], float(s["eps"])), [n, c, *space])
    y = _affine(s.b, y, s["weight"], s["bias"], [c, *[1] * len(space)])
    return [y, None, None] if "native" in _called(s) else y


@handles("instance_norm")
def _instance_norm(s: Step) -> Any:
    x = _first(s)
    c, *space = shape_of(x)[1:]
    spread, eps = [c, *[1] * len(space)], float(s["eps"])
    if s.get("use_input_stats", True):
        y = _standardised(s.b, x, range(2, 2 + len(space)), eps)
    else:
        scale = 1 / np.sqrt(s.known("running_var") + np.float32(eps))
        y = _affine(s.b, x, scale, -s.known("running_mean") * scale, spread)
    return _affine(s.b, y, s["weight"], s["bias"], spread)


@handles("var", "std", "var_mean", "std_mean")
def _variance(s: Step) -> Any:
    b, x, axes = s.b, _first(s), _axes_of(s)
    less = s.get("correction", int(s.get("unbiased", True)))
    count, keep = prod(shape_of(x)[a] for a in axes), bool(s.get("keepdim", False))
    mean = b.reduce("mean", x, axes)
    apart = b.binary("sub", x, mean)
    y = b.scaled(
        b.reduce("sum", b.binary("mul", apart, apart), axes, keep), 1 / max(count - float(less), 0.0)
    )
    y = b.unary("sqrt", y) if "std" in _called(s) else y
    return [y, b.reduce("mean", x, axes, keep)] if "mean" in _called(s) else y


@handles("linalg_vector_norm", "norm")
def _norm(s: Step) -> Any:
    b, x, axes = s.b, _first(s), _axes_of(s)
    order, keep = float(s.get("ord", s.get("p", 2))), bool(s.get("keepdim", False))
    size = b.unary("abs", x)
    if order in (inf, -inf):
        return b.reduce("max" if order > 0 else "min", size, axes, keep)
    if order == 2:
        return b.unary("sqrt", b.reduce("sum", b.binary("mul", x, x), axes, keep))
    if order == 1:
        return b.reduce("sum", size, axes, keep)
    powers = b.reduce("sum", b.binary("pow", size, b.scalar(order, size)), axes, keep)
    return b.binary("pow", powers, b.scalar(1 / order, powers))


@handles("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax")
def _softmax(s: Step) -> Any:
    """Along any axis; along the channels it is a layer."""
    x, axis = s.value("self"), int(s["dim"]) % len(shape_of(s["self"]))
    if "log" in _called(s):
        return _as_onnx(s, "LogSoftmax", x, axis=axis)
    if axis == 1 and x.type.rank in (2, 3, 4):
        return s.b.on_map(x, lambda m: s.b.place(Softmax(), m))
    return _as_onnx(s, "Softmax", x, axis=axis)


@handles("logsumexp")
def _log_sum(s: Step) -> Any:
    axes = np.array(_axes_of(s))
    return _as_onnx(s, "ReduceLogSumExp", _first(s), axes, keepdims=int(s.get("keepdim", False)))


@handles("prod", "max", "min")
def _reduced(s: Step) -> Any:
    if "other" in s.args:
        return s.b.binary(_called(s), s["self"], s["other"])
    y = s.b.reduce(_called(s), _first(s), _axes_of(s), bool(s.get("keepdim", False)))
    return [y, None] if _called(s) != "prod" and "dim" in s.args else y


@handles("cumsum")
def _cumulated(s: Step) -> Any:
    return _as_onnx(s, "CumSum", _first(s), np.array(int(s["dim"])))


# -- products ------------------------------------------------------------------------------------------------


@handles("bmm")
def _batched(s: Step) -> Any:
    return s.b.matmul(s["self"], s["mat2"])


@handles("baddbmm")
def _batched_sum(s: Step) -> Any:
    product = s.b.scaled(s.b.matmul(s["batch1"], s["batch2"]), float(s.get("alpha", 1)))
    return s.b.binary("add", s.b.scaled(s["self"], float(s.get("beta", 1))), product)


@handles("scaled_dot_product_attention")
def _attention(s: Step) -> Any:
    """softmax(scale · q kᵀ + mask) v."""
    b, q, k, v = s.b, s["query"], s["key"], s["value"]
    if s.get("dropout_p", 0) or s.get("enable_gqa", False):
        raise Refused("it drops values, or shares heads")
    scale = 1 / sqrt(shape_of(q)[-1]) if s.get("scale") is None else float(s["scale"])
    rank = len(shape_of(k))
    scores = b.scaled(b.matmul(q, b.transpose(k, [*range(rank - 2), rank - 1, rank - 2])), scale)
    mask = s.get("attn_mask")
    if s.get("is_causal", False):
        rows, columns = shape_of(scores)[-2:]
        mask = np.tril(np.ones(bounded((rows, columns), LARGEST_INDEX), np.bool_))
    if mask is not None:
        if is_known(mask) and mask.dtype == np.bool_:
            mask = np.where(mask, np.float32(0), np.float32(-inf))
        scores = b.binary("add", scores, mask)
    return b.matmul(_as_onnx(s, "Softmax", scores, axis=-1), v)


@handles("conv_transpose2d", "conv_transpose1d", "convolution_transposed")
def transposed(s: Step) -> Any:
    """As a convolution of the spread-out map by the turned kernels, which have a name of their own."""
    weight = s.known("weight")
    axes = weight.ndim - 2
    s.b.at(f"{s.layer_name()}.turned")
    pads = _list(s.get("padding", 0), axes)
    return _as_onnx(
        s,
        "ConvTranspose",
        _first(s),
        weight,
        s["bias"],
        strides=_list(s.get("stride", 1), axes),
        dilations=_list(s.get("dilation", 1), axes),
        output_padding=_list(s.get("output_padding", 0), axes),
        group=int(s.get("groups", 1)),
        pads=pads * 2,
    )


# -- pools and sizes -----------------------------------------------------------------------------------------


@handles("max_pool1d", "avg_pool1d", "max_pool2d", "max_pool2d_with_indices")
def _pooled(s: Step) -> Any:
    x, axes = _first(s), len(shape_of(_first(s))) - 2
    kernel = _list(s["kernel_size"], axes)
    given: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": _list(s["stride"], axes) if s.get("stride") else kernel,
        "pads": _list(s.get("padding", 0), axes) * 2,
        "ceil_mode": int(s.get("ceil_mode", False)),
    }
    if "max" in _called(s):
        y = _as_onnx(s, "MaxPool", x, **given, dilations=_list(s.get("dilation", 1), axes))
        return [y, None] if "indices" in _called(s) else y
    return _as_onnx(s, "AveragePool", x, **given, count_include_pad=int(s.get("count_include_pad", True)))


def adaptive(s: Step, x: Tensor, out: Sequence[int], largest: bool) -> Tensor:
    """Windows of differing sizes: output i has the elements from ⌊i n / m⌋ to below ⌈(i + 1) n / m⌉."""
    for axis, many in enumerate(out, 2):
        extent = shape_of(x)[axis]
        if extent == many:
            continue
        windows = [range(i * extent // many, -(-(i + 1) * extent // many)) for i in range(many)]
        if largest:
            parts = [s.b.reduce("max", s.b.take(x, axis, w), [axis]) for w in windows]
            x = s.b.join(parts, axis)
            continue
        matrix = np.zeros((many, extent), np.float32)
        for row, window in zip(matrix, windows, strict=True):
            row[window.start : window.stop] = 1 / len(window)
        x = along(s.b, x, axis, matrix)
    return x


def _scales(s: Step, axes: int) -> list[float | None]:
    """The scales that were given, one per axis."""
    if "scale_factors" in s.args:
        return list(s.get("scale_factors") or [None] * axes)
    names = {1: ["scales"], 2: ["scales_h", "scales_w"]}[axes]
    return [s.get(name) for name in names]


@handles("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d")
def _nearest(s: Step) -> Any:
    """Output i is input ⌊i · n / m⌋, in float32 as PyTorch computes it; the exact one ⌊(i + ½) n / m⌋."""
    x, exact = _first(s), "exact" in _called(s)
    old, new = shape_of(x)[2:], _made_shape(s)[2:]
    chosen: list[Array] = []
    for n, m, given in zip(old, new, _scales(s, len(old)), strict=True):
        ratio = np.float32(n / m if given is None else 1 / given)
        at = np.floor((np.arange(m, dtype=np.float32) + np.float32(0.5 * exact)) * ratio)
        chosen.append(np.minimum(at.astype(np.int64), n - 1))
    if not is_known(x):
        (height, width), (rows, columns) = ((1, *size)[-2:] for size in (old, new))
        op = Upsample((rows, columns), "nearest")
        taps = [[first for first, _, _ in op.taps((height, width), axis)] for axis in (0, 1)]
        if all(np.array_equal(t, c) for t, c in zip(taps[-len(chosen) :], chosen, strict=True)):
            return s.b.on_map(x, lambda m: s.b.place(op, m))
    for axis, picks in enumerate(chosen, 2):
        x = s.b.take(x, axis, picks)
    return x


@handles("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d")
@handles("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def _interpolated(s: Step) -> Any:
    x, word = _first(s), _called(s)
    smooth, cubic = word.endswith("_aa"), "bicubic" in word
    old, new = shape_of(x)[2:], _made_shape(s)[2:]
    scales = _scales(s, len(old))
    if s.get("align_corners", False):
        how, scales = "align_corners", [None] * len(old)
    else:
        how = "half_pixel"
    sized: list[Array | None] = [np.array([], np.float32), np.array([*shape_of(x)[:2], *new])]
    if all(scale is not None and floor(n * scale) == m for n, m, scale in zip(old, new, scales, strict=True)):
        sized = [np.array([1, 1, *scales], np.float64), None]
    return _as_onnx(
        s,
        "Resize",
        x,
        None,
        *sized,
        mode="cubic" if cubic else "linear",
        coordinate_transformation_mode=how,
        antialias=int(smooth),
        exclude_outside=int(smooth),
        cubic_coeff_a=-0.5 if smooth else -0.75,
    )


@handles("grid_sampler", "grid_sampler_2d")
def _sampled(s: Step) -> Any:
    return _as_onnx(
        s,
        "GridSample",
        s["input"],
        s["grid"],
        mode=("linear", "nearest", "cubic")[int(s["interpolation_mode"])],
        padding_mode=("zeros", "border", "reflection")[int(s["padding_mode"])],
        align_corners=int(s.get("align_corners", False)),
    )


# -- places --------------------------------------------------------------------------------------------------

_BORDERS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def bordered(s: Step, x: Tensor, pads: Sequence[int], mode: str) -> Tensor:
    """A border of the map's own elements; pads as PyTorch lists them, the last axis first."""
    rank = len(shape_of(x))
    for i in range(len(pads) // 2):
        axis, widths = rank - 1 - i, (int(pads[2 * i]), int(pads[2 * i + 1]))
        if min(widths) < 0:
            raise Refused("it cuts elements off")
        how: Any = _BORDERS[mode]
        x = s.b.take(x, axis, np.pad(np.arange(shape_of(x)[axis]), widths, mode=how))
    return x


@handles("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def _border(s: Step) -> Any:
    mode = "reflect" if "reflection" in _called(s) else "replicate"
    return bordered(s, _first(s), s["padding"], mode)


@handles("roll")
def _rolled(s: Step) -> Any:
    x, shifts, dims = _first(s), s["shifts"], s.get("dims") or []
    if not dims:
        flat = s.b.reshape(x, [prod(shape_of(x))])
        turned = s.b.take(flat, 0, np.roll(np.arange(prod(shape_of(x))), _list(shifts, 1)[0]))
        return s.b.reshape(turned, shape_of(x))
    for axis, shift in zip(_list(dims, 1), _list(shifts, 1), strict=True):
        at = axis % len(shape_of(x))
        x = s.b.take(x, at, np.roll(np.arange(shape_of(x)[at]), shift))
    return x


@handles("flip")
def _flipped(s: Step) -> Any:
    x = _first(s)
    for axis in _axes_of(s, "dims"):
        x = s.b.take(x, axis, range(shape_of(x)[axis])[::-1])
    return x


@handles("repeat", "tile")
def _repeated(s: Step) -> Any:
    x, times = _first(s), [int(t) for t in (s["repeats"] if "repeats" in s.args else s["dims"])]
    rank = max(len(shape_of(x)), len(times))
    x = s.b.reshape(x, [*[1] * (rank - len(shape_of(x))), *shape_of(x)])
    return _as_onnx(s, "Tile", x, np.array([*[1] * (rank - len(times)), *times]))


@handles("repeat_interleave")
def _each_repeated(s: Step) -> Any:
    x, times, axis = _first(s), s.get("repeats"), s.get("dim")
    if not isinstance(times, int):
        raise Refused("each element is repeated differently")
    if axis is None:
        x, axis = s.b.reshape(x, [prod(shape_of(x))]), 0
    at = int(axis) % len(shape_of(x))
    return s.b.take(x, at, np.repeat(np.arange(shape_of(x)[at]), times))


@handles("stack")
def _stacked(s: Step) -> Any:
    shape = _made_shape(s)
    axis = int(s.get("dim", 0)) % len(shape)
    one = [1 if i == axis else e for i, e in enumerate(shape)]
    return s.b.join([s.b.reshape(x, one) for x in s["tensors"]], axis)


@handles("pixel_unshuffle")
def _unshuffled(s: Step) -> Any:
    return _as_onnx(s, "SpaceToDepth", _first(s), blocksize=int(s["downscale_factor"]), mode="CRD")


@handles("expand_as", "view_as", "reshape_as")
def _shaped_as(s: Step) -> Any:
    shape = _made_shape(s)
    return s.b.expand(_first(s), shape) if "expand" in _called(s) else s.b.reshape(_first(s), shape)


@handles("movedim", "swapaxes", "swapdims", "numpy_T", "mT")
def _moved(s: Step) -> Any:
    rank = len(shape_of(_first(s)))
    move: dict[str, Callable[[Array], Array]] = {
        "movedim": lambda a: np.moveaxis(a, s["source"], s["destination"]),
        "swapaxes": lambda a: np.swapaxes(a, s["axis0"], s["axis1"]),
        "swapdims": lambda a: np.swapaxes(a, s["dim0"], s["dim1"]),
        "numpy_T": np.transpose,
        "mT": lambda a: np.swapaxes(a, -1, -2),
    }
    turned = move[_called(s)](np.empty([1 + i for i in range(rank)], np.int8))
    return s.b.transpose(_first(s), [e - 1 for e in turned.shape])


@handles("index", "index_select")
def _picked(s: Step) -> Any:
    """Elements by lists of known places, as NumPy picks them."""
    x = _first(s)
    indices = s["indices"] if "indices" in s.args else [None] * int(s["dim"]) + [s["index"]]
    if any(i is not None and not is_known(i) for i in indices):
        raise Refused("it picks by a computed list")
    if sum(i is not None for i in indices) == 1:
        axis = next(i for i, index in enumerate(indices) if index is not None)
        listed = indices[axis]
        if listed.ndim == 1:
            listed = np.flatnonzero(listed) if listed.dtype == np.bool_ else listed
            return s.b.take(x, axis, np.asarray(listed, np.int64) % shape_of(x)[axis])
    picked = tuple(slice(None) if i is None else i for i in indices)
    return flat_take(_call(s), x, places(shape_of(x))[picked])


def _call(s: Step) -> Any:
    """What helpers of the ONNX frontend ask for the builder."""
    return SimpleNamespace(b=s.b)


@handles("gather")
def _gathered(s: Step) -> Any:
    return _as_onnx(s, "GatherElements", s["self"], s["index"], axis=int(s["dim"]))


@handles("tril", "triu")
def _triangle(s: Step) -> Any:
    diagonal = np.array(int(s.get("diagonal", 0)))
    return _as_onnx(s, "Trilu", _first(s), diagonal, upper=int(_called(s) == "triu"))


@handles("slice_scatter", "select_scatter")
def _written(s: Step) -> Any:
    """A tensor with one part of it replaced."""
    x, part = s["self"], s["src"]
    axis = int(s.get("dim", 0)) % len(shape_of(x))
    extent = shape_of(x)[axis]
    if "index" in s.args:
        chosen = [int(s["index"]) % extent]
        part = s.b.reshape(part, [*shape_of(x)[:axis], 1, *shape_of(x)[axis + 1 :]])
    else:
        chosen = list(range(extent)[slice(s.get("start"), s.get("end"), s.get("step", 1))])
    source = np.arange(extent)
    source[chosen] = extent + np.arange(len(chosen))
    return s.b.take(s.b.join([x, part], axis), axis, source)


@handles("index_put")
def _put(s: Step) -> Any:
    """A tensor with the elements at known places replaced."""
    x, part = s["self"], s["values"]
    if s.get("accumulate", False) or any(i is not None and not is_known(i) for i in s["indices"]):
        raise Refused("it adds up, or its places are computed")
    where = places(shape_of(x))
    targets = where[tuple(slice(None) if i is None else i for i in s["indices"])]
    flat = s.b.reshape(s.b.expand(part, targets.shape), [targets.size])
    source = where.reshape(-1).copy()
    source[targets.reshape(-1)] = where.size + np.arange(targets.size)
    joined = s.b.join([s.b.reshape(x, [where.size]), flat], 0)
    return s.b.reshape(s.b.take(joined, 0, source), shape_of(x))


@handles("copy")
def _copied(s: Step) -> Any:
    return s.b.expand(s["src"], _made_shape(s))


@handles("unfold")
def _windows(s: Step) -> Any:
    """Windows along an axis, their elements along a new last one."""
    x, size, step = _first(s), int(s["size"]), int(s["step"])
    shape = list(shape_of(x))
    axis = int(s["dimension"]) % len(shape)
    count = (shape[axis] - size) // step + 1
    chosen = (np.arange(count)[:, None] * step + np.arange(size)).reshape(-1)
    y = s.b.reshape(s.b.take(x, axis, chosen), [*shape[:axis], count, size, *shape[axis + 1 :]])
    return s.b.transpose(y, [*range(axis + 1), *range(axis + 2, len(shape) + 1), axis + 1])


@handles("floor_divide")
def _floor_divided(s: Step) -> Any:
    return s.b.unary("floor", s.b.binary("div", s["self"], _number(s["other"])))


@handles("fill", "full_like", "zeros_like", "ones_like")
def _filled(s: Step) -> Any:
    usual = {"zeros_like": 0, "ones_like": 1}.get(_called(s))
    value = s["value"] if "value" in s.args else s.get("fill_value", usual)
    if isinstance(value, np.ndarray):
        value = float(value)
    if not isinstance(value, (int, float)):
        raise Refused("the number is computed")
    return np.full(bounded(_made_shape(s)), value, np.float32)

"""The meaning of every operation against PyTorch, called by hand here and through no emitter of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="no torch here: pip install torch")

import torch
import torch.nn.functional as F  # noqa: N812  # its name everywhere
from torch import Tensor

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ir.op import Op, Sample
from compactir.ir.types import Array, TensorType
from compactir.ops import OPS
from compactir.ops.activation import Clip, HardSwish, LeakyRelu, Relu, Relu6, Swish, Tanh
from compactir.ops.arrange import Gather, Shuffle
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm, Lrn
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Upsample
from compactir.ops.tensor import BINARY, REDUCE, UNARY, Binary, Reduce, Unary
from tests.graphs import connectivities, random_weights

TOLERANCE = {np.float32: 1e-4, np.float64: 1e-9}
FLOATS = tuple(TOLERANCE)
Floating = type[np.floating[Any]]
Judge = Callable[..., Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:TF32")  # PyTorch's own, wherever oneDNN is switched off


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small arrays: threads only cost."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- PyTorch's side ------------------------------------------------------------------------------------------


def conv_in_torch(op: Conv, x: Tensor, *params: Tensor) -> Tensor:
    """One grouped convolution per family on gathered channels, scattered to where its outputs belong."""
    weights = params[: len(op.connect.families)]
    parts = []
    for family, weight in zip(op.connect.families, weights, strict=True):
        top, left, bottom, right = family.pad
        gathered = F.pad(x[:, torch.tensor(list(family.inputs))], (left, right, top, bottom))
        parts.append(F.conv2d(gathered, weight, None, op.stride, 0, op.dilation, family.count))
    size = parts[0].shape[2:] if parts else op.connect.out_size(x.shape[2:], op.stride, op.dilation)
    y = torch.zeros((x.shape[0], op.connect.out_channels, *size), dtype=x.dtype)
    for family, part in zip(op.connect.families, parts, strict=True):
        y.index_copy_(1, torch.tensor(list(family.outputs)), part)
    return y + params[len(weights)][:, None, None] if op.bias else y


def max_pool_in_torch(op: MaxPool, x: Tensor) -> Tensor:
    top, left, bottom, right = op.pad
    if (top, left) == (bottom, right):
        return F.max_pool2d(x, op.kernel, op.stride, (top, left), ceil_mode=op.ceil)
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-float("inf")), op.kernel, op.stride)


def avg_pool_in_torch(op: AvgPool, x: Tensor) -> Tensor:
    top, left, bottom, right = op.pad
    assert (top, left) == (bottom, right)
    divisor = op.divisor or None
    return F.avg_pool2d(x, op.kernel, op.stride, (top, left), op.ceil, op.count_pad, divisor)


_UNARY: dict[str, Any] = {
    "not": torch.logical_not,
    "sign": lambda x: torch.sign(x).where(~x.isnan(), x),  # PyTorch's sign of NaN is 0
}
_BINARY: dict[str, Any] = {
    "and": torch.logical_and,
    "equal": torch.eq,
    "greater": torch.gt,
    "less": torch.lt,
    "max": torch.maximum,
    "min": torch.minimum,
    "mod": torch.remainder,
    "or": torch.logical_or,
    "xor": torch.logical_xor,
}
"""Functions that PyTorch calls differently."""


def unary_in_torch(op: Unary, x: Tensor) -> Tensor:
    function = _UNARY.get(op.function) or getattr(torch, op.function)
    result: Tensor = function(x).to(x.dtype)
    return result


def binary_in_torch(op: Binary, a: Tensor, b: Tensor) -> Tensor:
    function = _BINARY.get(op.function) or getattr(torch, op.function)
    result: Tensor = function(a, b).to(a.dtype)
    return result


def reduce_in_torch(op: Reduce, x: Tensor) -> Tensor:
    if op.function == "prod":
        for axis in op.axes:
            x = x.prod(axis, keepdim=True)
        return x if op.keep else x.squeeze(op.axes)
    function = {"max": torch.amax, "min": torch.amin}.get(op.function) or getattr(torch, op.function)
    result: Tensor = function(x, dim=op.axes, keepdim=op.keep)
    return result


TORCH: dict[str, Judge] = {
    "add": lambda op, a, b: a + b,
    "affine": lambda op, x, weight, bias: x * _spread(weight, x) + _spread(bias, x),
    "unary": unary_in_torch,
    "binary": binary_in_torch,
    "choose": lambda op, c, a, b: torch.where(c != 0, a, b),
    "reduce": reduce_in_torch,
    "reshape": lambda op, x: x.reshape(op.shape),
    "transpose": lambda op, x: x.permute(op.order),
    "take": lambda op, x: x.index_select(op.axis, torch.tensor(op.indices.array)),
    "join": lambda op, *xs: torch.cat(xs, op.axis),
    "pad": lambda op, x: F.pad(
        x, [n for pair in zip(op.before[::-1], op.after[::-1], strict=True) for n in pair], value=op.value
    ),
    "expand": lambda op, x: x.expand(op.shape),
    "matmul": lambda op, a, b: a @ b,
    "as_map": lambda op, x: x[:, :, None] if x.ndim == 3 else x.unflatten(1, (-1, *op.size)),
    "as_sequence": lambda op, x: x.squeeze(2),
    "avg_pool": avg_pool_in_torch,
    "bn": lambda op, x, weight, bias, mean, var: F.batch_norm(x, mean, var, weight, bias, False, 0.0, op.eps),
    "clip": lambda op, x: F.hardtanh(x, op.low, op.high),
    "concat": lambda op, *xs: torch.cat(xs, 1),
    "conv": conv_in_torch,
    "dropout": lambda op, x: F.dropout(x, op.p, training=False),
    "flatten": lambda op, x: torch.flatten(x, 1),
    "gather": lambda op, x: torch.index_select(x, 1, torch.tensor(list(op.channels))),
    "global_avg_pool": lambda op, x: F.adaptive_avg_pool2d(x, 1),
    "global_max_pool": lambda op, x: F.adaptive_max_pool2d(x, 1),
    "hard_sigmoid": lambda op, x: F.hardsigmoid(x),
    "hard_swish": lambda op, x: F.hardswish(x),
    "identity": lambda op, x: x,
    "leaky_relu": lambda op, x: F.leaky_relu(x, op.slope),
    "linear": lambda op, x, weight, *bias: F.linear(x.flatten(1), weight, *bias),
    "lrn": lambda op, x: F.local_response_norm(x, op.size, op.alpha, op.beta, op.k),
    "max_pool": max_pool_in_torch,
    "mul": lambda op, a, b: a * b,
    "rbf": lambda op, x, centres: torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist") ** 2,
    "relu": lambda op, x: F.relu(x),
    "relu6": lambda op, x: F.relu6(x),
    "shuffle": lambda op, x: F.channel_shuffle(x, op.groups),
    "sigmoid": lambda op, x: torch.sigmoid(x),
    "softmax": lambda op, x: F.softmax(x, 1),
    "swish": lambda op, x: F.silu(x),
    "tanh": lambda op, x: op.scale * torch.tanh(op.slope * x),
    "upsample": lambda op, x: F.interpolate(x, op.size, mode=op.mode),
}


def _spread(vector: Tensor, like: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (like.ndim - 2))


# -- the comparison ------------------------------------------------------------------------------------------


def excess(ours: Array, theirs: Array, dtype: Floating) -> float:
    """By how many tolerances two results differ, inf where NaN or infinities lie elsewhere; 1 agrees."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == dtype
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return float("inf")
    odd = ~np.isfinite(ours) | ~np.isfinite(theirs)
    if not np.array_equal(ours[odd], theirs[odd], equal_nan=True):
        return float("inf")
    a, b = ours[~odd], theirs[~odd]
    if not a.size:
        return 0.0
    error, tolerance = float(np.abs(a - b).max()), TOLERANCE[dtype] * float(np.abs(b).max())
    return error / tolerance if tolerance else float("inf") if error else 0.0


def operands(sample: Sample, dtype: Floating, seed: int = 0) -> list[Array]:
    """Seeded operands of about 2 in size, so that clamps are reached from both sides."""
    rng = np.random.default_rng(seed)
    graph = Graph("sample")
    for spec in sample.op.params(*(TensorType.f32(*shape) for shape in sample.shapes)):
        graph.param(spec.name, TensorType.f32(*spec.shape), spec.role, spec.init)
    xs = [3 * rng.standard_normal(shape) for shape in sample.shapes]
    return [np.asarray(a, dtype) for a in [*xs, *random_weights(graph, seed).values()]]


def in_torch(op: Op, arrays: Sequence[Array]) -> Array:
    """What PyTorch computes, by plain kernels: oneDNN's Winograd would spread a NaN over its neighbours."""
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        result: Array = TORCH[op.name](op, *(torch.from_numpy(a.copy()) for a in arrays)).numpy()
        return result


def in_numpy(op: Op, arrays: Sequence[Array]) -> Array:
    with np.errstate(all="ignore"):
        return op.reference(*arrays)


def disagreement(sample: Sample, dtype: Floating, spoil: Callable[[Array], None] = lambda x: None) -> float:
    """`excess` for the operands of a sample, of which `spoil` may change the first."""
    arrays = operands(sample, dtype)
    spoil(arrays[0])
    return excess(in_numpy(sample.op, arrays), in_torch(sample.op, arrays), dtype)


# -- the cases -----------------------------------------------------------------------------------------------


def _grouped(ins: int, outs: int, groups: int, k: int, pad: int) -> Connectivity:
    return Connectivity.grouped(ins, outs, groups, (k, k), (pad,) * 4)


def _pools(kind: type[MaxPool] | type[AvgPool]) -> list[Sample]:
    """Every size from 3 to 8, floor and ceil, plain and padded, overlapping and leaving gaps."""
    return [
        Sample(kind((k, k), (s, s), (p,) * 4, ceil), ((1, 2, size, 11 - size),))
        for size in range(3, 9)
        for k, s, p in [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (2, 1, 1), (2, 3, 1), (1, 2, 0)]
        for ceil in (False, True)
    ]


MORE: list[Sample] = [
    *(Sample(Unary(f), ((2, 3, 4),)) for f in UNARY),
    *(Sample(Binary(f), ((2, 3, 4), (3, 1))) for f in BINARY),
    *(Sample(Reduce(f, (0, 2), keep), ((2, 3, 4),)) for f in REDUCE for keep in (True, False)),
    # stride 2 on even and odd sizes, padding on any side
    *(
        Sample(Conv(Connectivity.dense(3, 4, (3, 3), pad), (2, 2)), ((1, 3, h, w),))
        for h, w in [(6, 6), (6, 7), (7, 6), (7, 7)]
        for pad in [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1), (1, 0, 0, 1), (2, 0, 1, 3)]
    ),
    # groups with more or fewer outputs than inputs, 1x1 maps, dilation with stride
    Sample(Conv(_grouped(8, 4, 4, 3, 1), bias=True), ((2, 8, 5, 5),)),
    Sample(Conv(_grouped(4, 12, 2, 3, 0)), ((1, 4, 3, 3),)),
    Sample(Conv(_grouped(6, 6, 6, 3, 1), (2, 2)), ((1, 6, 1, 1),)),
    Sample(Conv(_grouped(5, 7, 1, 1, 0), (2, 2), bias=True), ((2, 5, 1, 1),)),
    Sample(Conv(_grouped(4, 6, 2, 3, 3), (2, 1), (3, 2)), ((1, 4, 9, 8),)),
    Sample(Conv(Connectivity.dense(2, 3, (1, 5), (0, 4, 0, 0))), ((1, 2, 1, 1),)),
    Sample(Conv(Connectivity.learned([0, 1, 1, 3], [1, 2, 0, 0, 1]), bias=True), ((1, 4, 3, 3),)),
    *(Sample(BatchNorm(eps), ((2, 5, 3, 3),)) for eps in (1e-5, 1e-3, 0.1, 2.0)),
    *(Sample(Lrn(size, 0.3, 0.6, 1.5), ((1, 7, 2, 3),)) for size in range(1, 9)),
    *(Sample(Clip(low, high), ((1, 50),)) for low, high in [(-1.0, 1.0), (0.5, 0.5), (-3.5, 20.0)]),
    *(Sample(LeakyRelu(slope), ((1, 50),)) for slope in (0.0, 0.2, 1.0)),
    Sample(Tanh(1.7159, 2 / 3), ((1, 50),)),
    *_pools(MaxPool),
    *_pools(AvgPool),
    *(Sample(AvgPool((3, 3), (2, 2), (1,) * 4, ceil, True), ((1, 2, 7, 8),)) for ceil in (False, True)),
    *(Sample(AvgPool((2, 2), (2, 2), divisor=d), ((1, 2, 7, 8),)) for d in (1, 3)),
    *(Sample(Upsample(size), ((1, 2, 3, 4),)) for size in [(3, 4), (6, 8), (9, 16), (4, 5), (2, 2)]),
    *(Sample(Upsample(size, "bilinear"), ((1, 2, 3, 4),)) for size in [(6, 8), (9, 16), (4, 5), (2, 2)]),
]
SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name in sorted(OPS)
    for i, sample in enumerate([*OPS[name].samples(), *(s for s in MORE if s.op.name == name)])
]


def test_every_op_is_judged() -> None:
    assert set(TORCH) == set(OPS)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_reference_equals_torch(sample: Sample, dtype: Floating) -> None:
    assert disagreement(sample, dtype) <= 1


@settings(max_examples=60)
@given(connectivities(), st.booleans(), st.integers(1, 2))
def test_any_connectivity_equals_torch(connect: Connectivity, bias: bool, stride: int) -> None:
    assume(all(f.ins for f in connect.families))  # a block that reads nothing has no weight
    sample = Sample(Conv(connect, (stride, stride), bias=bias), ((2, connect.in_channels, 5, 6),))
    assert disagreement(sample, np.float64) <= 1


# -- NaN, infinities, zeros ----------------------------------------------------------------------------------


def _spoil(x: Array) -> None:
    """NaN, both infinities, both zeros, a denormal and the largest number, spread over the operand."""
    special = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, np.finfo(np.float32).max]
    places = np.linspace(0, x.size - 1, num=min(len(special), x.size)).astype(int)
    x.reshape(-1)[places] = special[: len(places)]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_stand_where_torch_has_them(sample: Sample, dtype: Floating) -> None:
    assert disagreement(sample, dtype, _spoil) <= 1


@pytest.mark.parametrize("op", [Relu(), Relu6(), Clip(-1.0, 2.0), HardSwish(), Swish(), Tanh(), LeakyRelu()])
def test_nan_stays_nan(op: Op) -> None:
    assert np.isnan(in_numpy(op, [np.full((1, 3), np.nan, np.float32)])).all()


# -- the comparison can fail ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """An operation, and one that somebody could have written instead."""

    right: Op
    wrong: Op
    shape: tuple[int, ...] = (1, 4, 7, 8)


_PAD = (1, 1, 1, 1)
MISTAKES = [
    Mistake(BatchNorm(1e-3), BatchNorm(0.1)),
    Mistake(Lrn(3, 0.3), Lrn(4, 0.3)),
    Mistake(Lrn(3, 0.3), Lrn(3, 0.1)),
    Mistake(LeakyRelu(0.01), LeakyRelu(0.1)),
    Mistake(Tanh(1.7159, 2 / 3), Tanh(1.7159, 0.6)),
    Mistake(Relu6(), Relu()),
    Mistake(HardSwish(), Swish()),
    Mistake(Shuffle(2), Shuffle(3), (1, 6, 2, 2)),
    Mistake(Gather(ChannelList.of([1, 0])), Gather(ChannelList.of([0, 1]))),
    Mistake(MaxPool((3, 3), (2, 2), (1, 1, 0, 0)), MaxPool((3, 3), (2, 2), (0, 0, 1, 1))),
    Mistake(MaxPool((2, 2), (1, 1)), AvgPool((2, 2), (1, 1))),
    Mistake(AvgPool((3, 3), (1, 1), _PAD, count_pad=True), AvgPool((3, 3), (1, 1), _PAD)),
    Mistake(AvgPool((2, 2), (2, 2), divisor=1), AvgPool((2, 2), (2, 2))),
    Mistake(GlobalAvgPool(), GlobalMaxPool()),
    Mistake(Upsample((14, 16)), Upsample((14, 16), "bilinear")),
    Mistake(
        Conv(Connectivity.dense(4, 4, (3, 3), (0, 0, 1, 1)), (2, 2)),
        Conv(Connectivity.dense(4, 4, (3, 3), (1, 1, 0, 0)), (2, 2)),
        (1, 4, 8, 8),
    ),
    Mistake(
        Conv(Connectivity.grouped(4, 4, 2)),
        Conv(Connectivity.grouped(4, 4, 2).reading(ChannelList.of([0, 2, 1, 3]), 4)),
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.right.name}-{m.wrong.name}")
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_mistake_is_seen(mistake: Mistake, dtype: Floating) -> None:
    arrays = operands(Sample(mistake.right, (mistake.shape,)), dtype)
    theirs = in_torch(mistake.right, arrays)
    assert excess(in_numpy(mistake.right, arrays), theirs, dtype) <= 1
    assert excess(in_numpy(mistake.wrong, arrays), theirs, dtype) > 100


OWNERS = [Conv(_grouped(4, 4, 2, 3, 1), bias=True), BatchNorm(), Affine(), Linear(4)]


@pytest.mark.parametrize("op", OWNERS, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_two_swapped_channels_of_a_parameter_are_seen(op: Op, dtype: Floating) -> None:
    shape = (1, 4) if op.name == "linear" else (1, 4, 5, 5)
    arrays = operands(Sample(op, (shape,)), dtype)
    theirs = in_torch(op, arrays)
    for i in range(1, len(arrays)):
        swapped = [a.copy() for a in arrays]
        swapped[i][[1, 2]] = swapped[i][[2, 1]]
        assert excess(in_numpy(op, swapped), theirs, dtype) > 100


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_special_value_elsewhere_is_seen(value: float, dtype: Floating) -> None:
    here, there = np.ones((1, 3), dtype), np.ones((1, 3), dtype)
    here[0, 0], there[0, 1] = value, value
    assert excess(here, here, dtype) == 0
    assert excess(here, there, dtype) == float("inf")
    assert excess(here, -here, dtype) > 100

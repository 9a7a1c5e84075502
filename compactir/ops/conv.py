"""Convolution: one operation; its connectivity says if it is dense, grouped, depthwise, mixed or a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Family, Kernel, Pad, same_padding
from compactir.ir.op import Op, ParamSpec, Sample, need_map, need_shape, register, spelling, tally
from compactir.ir.types import Array, TensorType

Size = int | list[int]
Padding = int | str | list[int] | None


@dataclass(frozen=True)
class Masked:
    """`connect=learned(groups=4)` and its kin: a connection mask that comes with the weights.

    `init` names the seeded legal draw that stands in while there are no trained weights.
    """

    init: str
    fine: bool = False  # one entry per weight instead of one per pair of channels

    def check(self, ins: int, outs: int, kernel: Kernel) -> None:
        """Whether weights (outs, ins, kh, kw) can have this mask. Errors: CIR203, CIR208."""
        kind, numbers = self.init.partition("(")[0], [int(n) for n in re.findall(r"\d+", self.init)]
        row = ins * prod(kernel)
        if kind == "balanced" and row % numbers[1]:
            raise CompactError(
                "CIR203", f"the {row} weights of a filter do not divide into runs of {numbers[1]}"
            )
        if kind == "condensed" and ins % numbers[1]:
            raise CompactError("CIR203", f"one in {numbers[1]} of {ins} input channels is not a whole number")
        if kind == "pruned" and (numbers[0] > outs or numbers[1] > ins):
            what, left, there = (
                ("filters", numbers[0], outs) if numbers[0] > outs else ("channels", numbers[1], ins)
            )
            raise CompactError("CIR208", f"`pruned` leaves {left} `{what}`, there are {there}")


@register
@dataclass(frozen=True)
class Conv(Op):
    """Convolve blocks of channels; which block reads what is the connectivity's to say.

    Shapes: x (N, I, H, W), one weight (count·outs, ins, kh, kw) per family, mask (O, I/g, 1 or kh, 1 or kw)
            where masked, bias (O) where biased -> y (N, O, H', W'),
            H' = ⌊(H + top + bottom − d(kh − 1) − 1) / s⌋ + 1; then the epilogue, each of its operations
            reading its further operands in order.
    Cost:   N H' W' · number of weights (those the mask keeps are not known to the formula).
    Errors: CIR204 (kernel does not fit), CIR205, CIR206, CIR207 (channels disagree).
    Source: LeCun et al. 1998; Krizhevsky et al. 2012 for groups; Howard et al. 2017 for depthwise.
    """

    name: ClassVar[str] = "conv"
    connect: Connectivity
    stride: Kernel = (1, 1)
    dilation: Kernel = (1, 1)
    bias: bool = False
    masked: Masked | None = None
    epilogue: tuple[Op, ...] = ()

    @property
    def label(self) -> str:
        """`depthwise3`, `conv1`."""
        return "depthwise" if self.connect.is_depthwise and self.connect.in_channels > 1 else "conv"

    def params(self, x: TensorType, *more: TensorType) -> list[ParamSpec]:
        """`weight` (or `weight0`, `weight1`, … where blocks differ in shape), `mask`, `bias`."""
        shapes = self.connect.weight_shapes
        names = ["weight"] if len(shapes) == 1 else [f"weight{i}" for i in range(len(shapes))]
        specs = [ParamSpec(name, shape) for name, shape in zip(names, shapes, strict=True)]
        if self.masked:
            out, ins, kh, kw = shapes[0]
            shape = (out, ins, kh, kw) if self.masked.fine else (out, ins, 1, 1)
            specs.append(ParamSpec("mask", shape, "buffer", self.masked.init))
        if self.bias:
            specs.append(ParamSpec("bias", (self.connect.out_channels,), "weight", "bias"))
        return specs

    def infer(self, x: TensorType, *rest: TensorType) -> TensorType:
        """The type rule."""
        n, c, h, w = need_map(self, x)
        if c != self.connect.in_channels:
            raise CompactError(
                "CIR207", f"`conv` connects {self.connect.in_channels} input channels, its operand has {c}"
            )
        specs = self.params(x)
        if len(rest) < len(specs):
            raise CompactError("CIR206", f"`conv` needs {len(specs)} parameters, it has {len(rest)}")
        for spec, given in zip(specs, rest, strict=False):
            need_shape(self, spec.name, given, spec.shape)
        height, width = self.connect.out_size((h, w), self.stride, self.dilation)
        result = x.with_shape(n, self.connect.out_channels, height, width)
        return _epilogue_type(self.epilogue, result, list(rest[len(specs) :]))

    def reference(self, x: Array, *rest: Array) -> Array:
        """The meaning: for every family, block, tap: multiply and accumulate."""
        rest_list = list(rest)
        weights = [rest_list.pop(0) for _ in self.connect.families]
        if self.masked:
            mask = rest_list.pop(0)
            weights = [weights[0] * mask, *weights[1:]]
        height, width = self.connect.out_size(x.shape[2:], self.stride, self.dilation)
        y = np.zeros((x.shape[0], self.connect.out_channels, height, width), x.dtype)
        for family, weight in zip(self.connect.families, weights, strict=True):
            y[:, family.outputs.array] = self._family(x, weight, family, (height, width))
            live = (
                prod(weight.shape)
                if not self.masked
                else int(np.count_nonzero(np.broadcast_to(mask, weight.shape)))
            )
            tally(x.shape[0] * height * width * live)
        if self.bias:
            y += rest_list.pop(0)[:, None, None]
        return run_epilogue(self.epilogue, y, rest_list)

    def _family(self, x: Array, weight: Array, family: Family, size: Kernel) -> Array:
        padded = _padded(x[:, family.inputs.array], family.pad)
        kh, kw = family.kernel
        blocks = weight.reshape(family.count, family.outs, family.ins, kh, kw)
        n = x.shape[0]
        y = np.zeros((n, family.count, family.outs, size[0] * size[1]), x.dtype)
        for ky in range(kh):
            for kx in range(kw):
                window = _window(padded, (ky, kx), self.stride, self.dilation, size)
                window = window.reshape(n, family.count, family.ins, size[0] * size[1])
                if family.ins == family.outs == 1:
                    y += blocks[None, :, :, 0, ky, kx, None] * window
                else:
                    y += blocks[None, :, :, :, ky, kx] @ window
        return y.reshape(n, family.count * family.outs, *size)

    def macs(self, x: TensorType, *rest: TensorType) -> int:
        """N H' W' · number of weights."""
        height, width = self.connect.out_size(x.spatial, self.stride, self.dilation)
        return x.batch * height * width * self.connect.weights

    @classmethod
    def samples(cls) -> list[Sample]:
        """Dense, strided, asymmetric, dilated, grouped, depthwise, uneven, mixed, table, gathered."""
        dense, grouped = Connectivity.dense, Connectivity.grouped
        same = (1, 1, 1, 1)
        table = Connectivity.table(4, {0: [0, 1], 1: [1, 2], 2: [0, 2, 3], 3: [3]}, (3, 3))
        mixed = Connectivity.parts([(1, 1)] * 5, [(3, 3)] * 2 + [(5, 5)] * 3, [same] * 2 + [(2, 2, 2, 2)] * 3)
        wide = Family(1, ChannelList.span(0, 3), ChannelList.span(2, 3), (3, 3), same)
        fire = Connectivity(3, 5, (Family(1, ChannelList.span(0, 3), ChannelList.span(0, 2), (1, 1)), wide))
        gathered = grouped(6, 4, 2).reading(ChannelList.of([5, 0, 3, 3, 1, 6]), 7)
        cases: list[tuple[Conv, tuple[int, ...]]] = [
            (cls(dense(3, 5)), (1, 3, 4, 4)),
            (cls(dense(1, 1)), (1, 1, 1, 1)),
            (cls(dense(7, 19), bias=True), (2, 7, 1, 1)),
            (cls(dense(3, 8, (3, 3), same), (2, 2)), (2, 3, 7, 7)),
            (cls(dense(3, 8, (3, 3), (0, 0, 1, 1)), (2, 2)), (1, 3, 8, 6)),
            (cls(dense(2, 3, (5, 3), (2, 1, 0, 3)), (1, 2), bias=True), (1, 2, 9, 11)),
            (cls(dense(4, 6, (3, 3), (2, 2, 2, 2)), dilation=(2, 2)), (1, 4, 11, 5)),
            (cls(dense(2, 4, (7, 7), (3, 3, 3, 3)), (4, 4)), (1, 2, 13, 17)),
            (cls(dense(6, 24, (2, 2), (0, 0, 1, 1))), (1, 6, 1, 1)),
            (cls(dense(5, 3, (3, 3), (0, 0, 0, 1))), (1, 5, 3, 2)),
            (cls(dense(5, 3, (1, 1), (-1, -1, 0, 0)), (2, 2)), (1, 5, 6, 8)),
            (cls(dense(2, 3, (3, 3), (-1, 1, 1, -2))), (1, 2, 6, 7)),
            (cls(grouped(9, 9, 9, (3, 3), (-1, 0, 1, -1))), (1, 9, 6, 5)),
            (cls(grouped(6, 4, 2, (3, 3), same)), (1, 6, 5, 5)),
            (cls(grouped(40, 24, 4), bias=True), (1, 40, 3, 5)),
            (cls(grouped(5, 5, 5, (3, 3), same)), (1, 5, 6, 7)),
            (cls(grouped(37, 37, 37, (3, 3), same), (2, 2)), (1, 37, 7, 8)),
            (cls(grouped(16, 16, 16, (5, 5), (2, 2, 2, 2)), (2, 2)), (1, 16, 9, 9)),
            (cls(grouped(3, 6, 3, (3, 3), same)), (2, 3, 4, 4)),
            (cls(Connectivity.parts([(2, 3), (6, 5)])), (1, 8, 3, 3)),
            (cls(mixed), (1, 5, 6, 6)),
            (cls(fire), (1, 3, 5, 4)),
            (cls(table, bias=True), (1, 4, 6, 6)),
            (cls(gathered), (1, 7, 3, 3)),
        ]
        return [Sample(op, (shape,)) for op, shape in cases]


def _padded(x: Array, pad: Pad) -> Array:
    """Zeros around the map; where a number is below 0, rows or columns less."""
    top, left, bottom, right = (max(p, 0) for p in pad)
    y = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    top, left, bottom, right = (max(-p, 0) for p in pad)
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def _window(padded: Array, tap: Kernel, stride: Kernel, dilation: Kernel, size: Kernel) -> Array:
    """What one tap sees: (N, C, H', W')."""
    y, x = tap[0] * dilation[0], tap[1] * dilation[1]
    return padded[
        :,
        :,
        y : y + stride[0] * (size[0] - 1) + 1 : stride[0],
        x : x + stride[1] * (size[1] - 1) + 1 : stride[1],
    ]


def _epilogue_type(epilogue: Sequence[Op], result: TensorType, rest: list[TensorType]) -> TensorType:
    needed = sum(map(extra_operands, epilogue))
    if len(rest) != needed:
        raise CompactError("CIR206", f"the epilogue of `conv` reads {needed} operands, it has {len(rest)}")
    for op in epilogue:
        result = op.infer(result, *(rest.pop(0) for _ in range(extra_operands(op))))
    return result


def extra_operands(op: Op) -> int:
    """How many operands an epilogue operation reads beside the value that it finishes."""
    return 1 if op.name in ("add", "mul") else 0


def run_epilogue(epilogue: Sequence[Op], y: Array, rest: list[Array]) -> Array:
    """Apply the fused operations in order, each taking its further operands from `rest`."""
    for op in epilogue:
        extra = [rest.pop(0) for _ in range(extra_operands(op))]
        y = op.reference(y, *extra)
    return y


# -- the words of the language -------------------------------------------------------------------------------


def pair(value: Size, what: str) -> Kernel:
    """One number for both axes, or [vertical, horizontal]."""
    numbers = [value, value] if isinstance(value, int) else list(value)
    if len(numbers) != 2 or min(numbers) < 1:
        raise CompactError("CIR208", f"`{what}` must be one or two numbers from 1 on, it is {value}")
    return numbers[0], numbers[1]


def padding(pad: Padding, size: Sequence[int], kernel: Kernel, stride: Kernel, dilation: Kernel) -> Pad:
    """The padding: by default d·(k − 1)/2 for odd kernels, "same" TensorFlow's, else 1, 2 or 4 numbers.

    Of four numbers, one below 0 cuts rows or columns off instead: `pad=[-1, -1, 0, 0]` reads the map from its
    second row and column on (the factorized reduction of DARTS).
    Errors: CIR208 for an even kernel without a word about padding, and for anything else that is no padding.
    """
    if pad is None:
        for k in kernel:
            if k % 2 == 0:
                raise CompactError(
                    "CIR208",
                    f"an even kernel ({kernel[0]}x{kernel[1]}) has no default padding",
                    help='say it: `pad=0`, `pad=[top, left, bottom, right]` or `pad="same"`',
                )
        vertical, horizontal = (d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
        return vertical, horizontal, vertical, horizontal
    if isinstance(pad, str):
        if pad != "same":
            raise CompactError("CIR208", f'`pad="{pad}"` is not known', help='the only word is "same"')
        return same_padding(size, kernel, stride, dilation)
    numbers = [pad] * 4 if isinstance(pad, int) else list(pad) * (2 if len(pad) == 2 else 1)
    if len(numbers) != 4 or (min(numbers) < 0 and numbers != pad):
        cut = "only one of four may be below 0: `pad=[-1, 0, 0, 0]` cuts the first row off"
        raise CompactError(
            "CIR208",
            f"`pad` must be one, two or four numbers from 0 on, it is {pad}",
            help=cut if min(numbers) < 0 else None,
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def shares(of: int, parts: Sequence[Fraction | int], what: str) -> list[int]:
    """Cut `of` channels by fractions that sum to 1, or by counts that sum to `of`."""
    if all(isinstance(p, Fraction) and p < 1 for p in parts):
        counts = [p * of for p in parts]
        for part, count in zip(parts, counts, strict=True):
            if count.denominator != 1:
                raise CompactError("CIR203", f"{part} of {of} {what} channels is not a whole number")
    else:
        counts = list(parts)
    if sum(counts) != of:
        raise CompactError(
            "CIR203", f"the shares {', '.join(map(str, parts))} do not add up to the {of} {what} channels"
        )
    return [int(c) for c in counts]


@spelling
def conv(
    x: TensorType,
    out: int,
    kernel: Size,
    stride: Size = 1,
    pad: Padding = None,
    dilation: Size = 1,
    groups: int | list[Fraction | int] = 1,
    connect: list[list[int]] | Masked | None = None,
    bias: bool = False,
) -> Conv:
    """To `out` channels; `groups` is a number or shares, `connect` lists of inputs or `learned(…)`."""
    op = Conv(Connectivity.dense(1, 1))
    _, ins, h, w = need_map(op, x)
    k, s, d = pair(kernel, "kernel"), pair(stride, "stride"), pair(dilation, "dilation")
    p = padding(pad, (h, w), k, s, d)
    if out < 1:
        raise CompactError("CIR208", f"`out` must be at least 1, it is {out}")
    if connect is not None:
        _check_one_connection(groups, connect)
    if isinstance(groups, list):
        sizes = list(zip(shares(ins, groups, "input"), shares(out, groups, "output"), strict=True))
        return Conv(Connectivity.parts(sizes, [k] * len(sizes), [p] * len(sizes)), s, d, bias)
    if isinstance(connect, list):
        return Conv(_listed(connect, ins, out, k, p), s, d, bias)
    grouped = Conv(Connectivity.grouped(ins, out, groups, k, p), s, d, bias, connect)
    if connect is not None:
        connect.check(ins // groups, out, k)
    return grouped


def _check_one_connection(groups: int | list[Fraction | int], connect: list[list[int]] | Masked) -> None:
    """A list says everything, a mask lies over equal groups. Errors: CIR208 for what plays no part."""
    if isinstance(connect, list) and groups != 1:
        raise CompactError(
            "CIR208",
            "`groups` and a list of connections both say which channels are connected",
            help="leave `groups` out: the list has the inputs of every output",
        )
    if isinstance(groups, list) and isinstance(connect, Masked):
        kind = connect.init.partition("(")[0]
        raise CompactError(
            "CIR208",
            f"`connect={kind}(…)` needs equal groups, `groups` is a list of shares",
            help=f"write `groups={len(groups)}` for equal groups, or leave out `connect` or `groups`",
        )


def _listed(connect: list[list[int]], ins: int, out: int, kernel: Kernel, pad: Pad) -> Connectivity:
    """Element o holds the inputs of output o. Errors: CIR209 not there, missing, there twice."""
    if len(connect) != out:
        raise CompactError(
            "CIR209",
            f"`connect` lists the inputs of {len(connect)} outputs, there are {out}",
            help="one list per output",
        )
    for o, inputs in enumerate(connect):
        for channel in inputs:
            if not 0 <= channel < ins:
                raise CompactError(
                    "CIR209", f"`connect` names input channel {channel} for output {o}, there are {ins}"
                )
        if not inputs:
            raise CompactError("CIR209", f"`connect` names no input for output {o}")
        if len(set(inputs)) != len(inputs):
            raise CompactError("CIR209", f"`connect` names an input of output {o} twice")
    return Connectivity.table(ins, dict(enumerate(connect)), kernel, pad)


@spelling
def depthwise(
    x: TensorType,
    kernel: Size = 3,
    stride: Size = 1,
    pad: Padding = None,
    dilation: Size = 1,
    multiplier: int = 1,
    bias: bool = False,
) -> Conv:
    """Each channel through its own filter; a list of kernels gives each equal part of the channels its size.

    The split: ⌊C / parts⌋ channels each, the remainder to the first. Source: Tan and Le 2019 (MixConv).
    """
    op = Conv(Connectivity.dense(1, 1))
    _, c, h, w = need_map(op, x)
    s, d = pair(stride, "stride"), pair(dilation, "dilation")
    sizes = kernel if isinstance(kernel, list) else [kernel]
    if not sizes or len(sizes) > c:
        raise CompactError("CIR208", f"{c} channels cannot be split among {len(sizes)} kernels")
    kernels, pads = [], []
    part = c // len(sizes)
    for j, size in enumerate(sizes):
        k = pair(size, "kernel")
        count = part + (c - part * len(sizes) if j == 0 else 0)
        kernels += [k] * count
        pads += [padding(pad, (h, w), k, s, d)] * count
    if len(sizes) == 1:
        return Conv(Connectivity.grouped(c, c * multiplier, c, kernels[0], pads[0]), s, d, bias)
    return Conv(Connectivity.parts([(1, multiplier)] * c, kernels, pads), s, d, bias)


@spelling
def learned(groups: int, condense: int = 0) -> Masked:
    """A connection learned in training (FLGC): input and filter choose one of `groups`; links join equals.

    With `condense` (CondenseNet) filter o is in group o mod `groups`, a group keeps one in `condense` inputs.
    Source: Wang et al. 2019, arXiv:1904.00346; Huang et al. 2018, arXiv:1711.09224.
    """
    for name, value, least in (("groups", groups, 1), ("condense", condense, 0)):
        if value < least:
            raise CompactError("CIR208", f"`{name}` must be at least {least}, it is {value}")
    return Masked(f"condensed({groups}, {condense})" if condense else f"learned({groups})")


@spelling
def balanced(keep: int, of: int) -> Masked:
    """In every run of `of` weights of a filter, `keep` are left: balanced sparsity, N:M sparsity.

    The weights of a filter stand in the order input, row, column.
    Source: Yao et al. 2019, arXiv:1811.00206.
    """
    if not 1 <= keep <= of:
        raise CompactError("CIR208", f"`balanced` keeps 1 to all of the weights, not {keep} of {of}")
    return Masked(f"balanced({keep}, {of})", fine=True)


@spelling
def pruned(filters: int = 0, channels: int = 0) -> Masked:
    """As many filters and input channels are left (0 leaves all); the others are dead.

    Source: He et al. 2018 (AMC), arXiv:1802.03494.
    """
    if min(filters, channels) < 0:
        raise CompactError("CIR208", f"`pruned` leaves a number of channels, not {min(filters, channels)}")
    return Masked(f"pruned({filters}, {channels})")

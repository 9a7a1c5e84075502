"""How convolutions are written in PyTorch: plain, in parts, by blocks, or as tensors of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from compactir.codegen.torch.layer import NONE, Layer, Slot, own_tensors, square, torch_pad, writes
from compactir.codegen.torch.structure import Step
from compactir.ir.connectivity import Family
from compactir.ops.conv import Conv


def conv_form(op: Conv) -> str:
    """The plainest spelling that says it: plain, split, table, gather or blocks."""
    families = op.connect.families
    if op.connect.groups is not None:
        return "plain"
    if op.masked or not families:
        return "blocks"
    ins = np.concatenate([f.inputs.array for f in families])
    outs = np.concatenate([f.outputs.array for f in families])
    if not np.array_equal(outs, np.arange(op.connect.out_channels)):
        return "blocks"
    if len(families) > 1 and np.array_equal(ins, np.arange(op.connect.in_channels)):
        return "split"
    degrees = [f.ins for f in families]
    same = len({(f.kernel, f.pad) for f in families}) == 1 and all(f.outs == 1 for f in families)
    if same and max(degrees) > 1 and all(a != b for a, b in pairwise(degrees)):
        return "table"
    return "gather" if len(families) == 1 else "blocks"


@writes("conv")
def _conv(ops: Sequence[Conv], steps: Sequence[Step]) -> Layer:
    form = conv_form(ops[0])
    common = [
        Slot("stride", tuple(square(op.stride) for op in ops), default=1),
        Slot("dilation", tuple(square(op.dilation) for op in ops), default=1),
        Slot("bias", tuple(op.bias for op in ops), default=True),
    ]
    if form in ("plain", "gather"):
        layer = _plain_conv(ops, common)
    elif form == "table":
        layer = Layer("{me}({0})", "TableConv2d", _table_slots(ops, common), helpers=("TableConv2d",))
    elif form == "split":
        layer = Layer("{me}({0})", "SplitConv2d", _split_slots(ops, common), helpers=("SplitConv2d",))
    else:
        layer = Layer("{me}({0})", "BlockConv2d", _block_slots(ops, common), helpers=("BlockConv2d",))
    if not ops[0].connect.families:
        return _constant_map(ops, steps)
    return _direct_conv(ops, steps) if steps[0].tensors is not None else layer


def _plain_conv(ops: Sequence[Conv], common: list[Slot]) -> Layer:
    families = [op.connect.families[0] for op in ops]
    groups = tuple(f.count for f in families)
    ins = tuple(len(f.inputs) for f in families)
    outs = tuple(op.connect.out_channels for op in ops)
    stride, dilation, bias = common
    reads = all(op.connect.groups for op in ops)
    slots = [
        Slot("in_channels", ins, reads=reads, counts_channels=True, positional=True),
        Slot("out_channels", outs, makes=True, reads=reads and groups == outs == ins, positional=True),
        Slot("kernel_size", tuple(square(f.kernel) for f in families), positional=True),
        stride,
    ]
    layer = Layer("{me}({0})", "nn.Conv2d")
    pads = [f.pad for f in families]
    if all(p[:2] == p[2:] and min(p) >= 0 for p in pads):
        slots.append(Slot("padding", tuple(square(p[:2]) for p in pads), default=0))
    else:
        layer.call = "{me}(F.pad({0}, {pad}))"
        layer.inline = [Slot("pad", tuple(torch_pad(p) for p in pads))]
    layer.slots = [*slots, dilation, Slot("groups", groups, reads=reads and groups == ins, default=1), bias]
    if not reads:
        layer.make, layer.helpers = "GatherConv2d", ("GatherConv2d",)
        layer.slots.insert(0, Slot("inputs", tuple(f.inputs for f in families), positional=True))
    elif ops[0].masked:
        layer.make, layer.helpers = "MaskedConv2d", ("MaskedConv2d",)
        layer.slots.append(
            Slot("fine", tuple(bool(op.masked and op.masked.fine) for op in ops), default=False)
        )
    return layer


def _part_pad(family: Family) -> int | tuple[int, int, int, int]:
    return family.pad[0] if len(set(family.pad)) == 1 else torch_pad(family.pad)


def _per_part(ops: Sequence[Conv], read: Callable[[Family], Any], shared: object = NONE) -> tuple[Any, ...]:
    """One list per instance, or the one number where all parts of all instances share the default."""
    lists = [[read(f) for f in op.connect.families] for op in ops]
    return tuple(shared for _ in ops) if all(v == shared for one in lists for v in one) else tuple(lists)


def _part_slots(ops: Sequence[Conv], common: list[Slot]) -> list[Slot]:
    stride, dilation, bias = common
    return [
        Slot("kernel_size", _per_part(ops, lambda f: square(f.kernel))),
        stride,
        Slot("padding", _per_part(ops, _part_pad, 0), default=0),
        dilation,
        Slot("groups", _per_part(ops, lambda f: f.count, 1), default=1),
        bias,
    ]


def _split_slots(ops: Sequence[Conv], common: list[Slot]) -> list[Slot]:
    ins, outs = _per_part(ops, lambda f: len(f.inputs)), _per_part(ops, lambda f: len(f.outputs))
    slots = _part_slots(ops, common)
    slots = [replace(s, reads=True) if s.name == "groups" and s.values == ins else s for s in slots]
    return [
        Slot("in_channels", _per_part(ops, lambda f: len(f.inputs)), reads=True),
        Slot("out_channels", outs, makes=outs != ins, reads=outs == ins),
        *slots,
    ]


def _block_slots(ops: Sequence[Conv], common: list[Slot]) -> list[Slot]:
    made = tuple(sum(len(f.outputs) for f in op.connect.families) for op in ops)
    outs = tuple(op.connect.out_channels for op in ops)
    slots = [
        Slot("inputs", _per_part(ops, lambda f: f.inputs)),
        Slot("outputs", _per_part(ops, lambda f: f.outputs)),
        *_part_slots(ops, common),
    ]
    if made != outs:
        slots.append(Slot("out_channels", outs))
    if ops[0].masked:
        slots.append(Slot("mask", tuple(_mask_shape(op) for op in ops)))
    return slots


def _mask_shape(op: Conv) -> tuple[int, ...]:
    shape = op.connect.weight_shapes[0]
    return shape if op.masked and op.masked.fine else (*shape[:2], 1, 1)


def _table_slots(ops: Sequence[Conv], common: list[Slot]) -> list[Slot]:
    stride, dilation, bias = common
    first = [op.connect.families[0] for op in ops]
    tables = [[list(b.inputs) for f in op.connect.families for b in f.blocks()] for op in ops]
    return [
        Slot("table", tuple(tables), positional=True),
        Slot("kernel_size", tuple(square(f.kernel) for f in first), positional=True),
        stride,
        Slot("padding", tuple(_part_pad(f) for f in first), default=0),
        dilation,
        bias,
    ]


def _constant_map(ops: Sequence[Conv], steps: Sequence[Step]) -> Layer:
    """No block makes any output: every channel is zero, or its bias."""
    inline = [
        Slot("channels", tuple(op.connect.out_channels for op in ops)),
        Slot("rows", tuple(op.stride[0] for op in ops)),
        Slot("columns", tuple(op.stride[1] for op in ops)),
    ]
    zeros = "torch.zeros_like({0}[:, :1, ::{rows}, ::{columns}]).repeat(1, {channels}, 1, 1)"
    if not steps[0].tensors:
        return Layer(zeros, inline=inline)
    return Layer(f"{zeros} + {own_tensors(steps[0])[0]}[:, None, None]", inline=inline, infix="+")


def _direct_conv(ops: Sequence[Conv], steps: Sequence[Step]) -> Layer:
    """A convolution by tensors that belong to others: spelled out, part by part."""
    op, tensors = ops[0], own_tensors(steps[0])
    families = op.connect.families
    weights = [tensors.pop(0) for _ in families]
    if op.masked:
        weights[0] = f"{weights[0]} * {tensors.pop(0)}"
    bias = tensors.pop(0) if op.bias else "None"
    single = len(families) == 1 and families[0].outputs.is_identity(op.connect.out_channels)
    inline = [Slot("stride", tuple(square(op.stride) for op in ops), default=1)]
    inline.append(Slot("dilation", tuple(square(op.dilation) for op in ops), default=1))
    parts = []
    for k, weight in enumerate(weights):
        inputs = tuple(op.connect.families[k].inputs for op in ops)
        pads = tuple(torch_pad(op.connect.families[k].pad) for op in ops)
        source = "{0}"
        if any(not i.is_identity(op.connect.in_channels) for i, op in zip(inputs, ops, strict=True)):
            inline.append(Slot(f"inputs{k}", tuple(list(i) for i in inputs)))
            source = f"{{0}}[:, {{inputs{k}}}]"
        if any(any(p) for p in pads):
            inline.append(Slot(f"pad{k}", pads))
            source = f"F.pad({source}, {{pad{k}}})"
        inline.append(Slot(f"groups{k}", tuple(op.connect.families[k].count for op in ops)))
        own = bias if single else "None"
        parts.append(f"F.conv2d({source}, {weight}, {own}, {{stride}}, 0, {{dilation}}, {{groups{k}}})")
    if single:
        return Layer(parts[0], inline=inline)
    if sum(len(f.outputs) for f in families) < op.connect.out_channels:
        parts.append(f"torch.zeros_like({parts[0]}[:, :1])")
    inline.append(Slot("order", tuple(_output_order(op) for op in ops)))
    call = f"torch.cat([{', '.join(parts)}], dim=1)[:, {{order}}]"
    call += f" + {bias}[:, None, None]" if bias != "None" else ""
    return Layer(call, inline=inline, infix="+" if bias != "None" else "")


def _output_order(op: Conv) -> list[int]:
    """Where each output channel lies in the concatenated parts; one past their end where no part makes it."""
    made = np.concatenate([f.outputs.array for f in op.connect.families])
    order = np.full(op.connect.out_channels, len(made))
    order[made] = np.arange(len(made))
    return [int(c) for c in order]

"""How each operation is written in PyTorch: the layer that `__init__` makes, the expression in `forward`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compactir.codegen.torch.convolutions import conv_form
from compactir.codegen.torch.layer import (
    TABLE,
    Describe,
    Layer,
    Slot,
    own_tensors,
    square,
    torch_pad,
    writes,
)
from compactir.codegen.torch.structure import Split, Step
from compactir.codegen.torch.text import literal
from compactir.diagnostics import CompactError
from compactir.ir.op import Op
from compactir.ops.activation import Clip, LeakyRelu, Tanh
from compactir.ops.arrange import AsMap, Dropout, Gather, Shuffle
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear, Rbf
from compactir.ops.norm import BatchNorm, Lrn
from compactir.ops.pool import AvgPool, MaxPool, Pool, Upsample
from compactir.ops.tensor import Binary, Expand, Join, Pad, Reduce, Reshape, Take, TensorOp, Transpose, Unary


def describe(steps: Sequence[Step | None]) -> Layer:
    """How a step is written, given what it is in every instance of its block (None where it is left out)."""
    present = [s for s in steps if s is not None]
    op = present[0].op
    if isinstance(op, Split):
        layer = _split([s.op for s in present], present)
    elif op.name in TABLE:
        layer = TABLE[op.name]([s.op for s in present], present)
    else:
        raise CompactError("CIR501", f"PyTorch source for `{op.name}` is not known")
    if len(present) < len(steps):
        layer.slots = [_spread(s, steps) for s in layer.slots]
        layer.inline = [_spread(s, steps) for s in layer.inline]
    return layer


def kind(step: Step) -> tuple[object, ...]:
    """What must be equal for two steps to be one step of one class."""
    op = step.op
    more: tuple[object, ...] = ()
    if isinstance(op, Conv):
        more = (conv_form(op), len(op.connect.families), op.masked and op.masked.fine)
    elif isinstance(op, Split):
        return ("split", len(op.sizes))
    elif isinstance(op, AvgPool):
        more = (op.divisor > 0,)
    elif isinstance(op, Gather):
        more = (_is_slice(op),)
    elif isinstance(op, TensorOp | AsMap):
        more = (op,)  # written out, with its numbers
    ranks = () if op.name in _ANY_RANK else tuple(t.rank for t in step.types)
    return (op.name, ranks, step.tensors, step.repeated, *more)


def _spread(slot: Slot, steps: Sequence[Step | None]) -> Slot:
    values = iter(slot.values)
    spread = tuple(None if s is None else next(values) for s in steps)
    return replace(slot, values=spread)


# -- layers with parameters ----------------------------------------------------------------------------------


@writes("bn")
def _bn(ops: Sequence[BatchNorm], steps: Sequence[Step]) -> Layer:
    channels = tuple(s.types[0].channels for s in steps)
    eps = Slot("eps", tuple(op.eps for op in ops), default=1e-5)
    if steps[0].tensors is not None:
        weight, bias, mean, var = own_tensors(steps[0])
        tail = ", eps={eps}" if eps.needed else ""
        call = f"F.batch_norm({{0}}, {mean}, {var}, {weight}, {bias}, {{training}}{tail})"
        return Layer(call, inline=[eps], joins=True, same_channels=True)
    make = "nn.BatchNorm2d" if steps[0].types[0].rank == 4 else "nn.BatchNorm1d"
    slots = [Slot("num_features", channels, reads=True, positional=True), eps]
    return Layer("{me}({0})", make, slots, joins=True, same_channels=True)


@writes("affine")
def _affine(ops: Sequence[Op], steps: Sequence[Step]) -> Layer:
    channels = Slot("channels", tuple(s.types[0].channels for s in steps), reads=True, positional=True)
    if steps[0].tensors is not None:
        weight, bias = own_tensors(steps[0])
        at = "[:, None, None]" if steps[0].types[0].rank == 4 else ""
        return Layer(f"torch.addcmul({bias}{at}, {{0}}, {weight}{at})", joins=True, same_channels=True)
    return Layer("{me}({0})", "Affine", [channels], joins=True, same_channels=True, helpers=("Affine",))


def _vector(step: Step) -> str:
    """The operand as (N, F): a 1x1 map is flattened."""
    return "torch.flatten({0}, 1)" if step.types[0].rank == 4 else "{0}"


@writes("linear")
def _linear(ops: Sequence[Linear], steps: Sequence[Step]) -> Layer:
    x = _vector(steps[0])
    if steps[0].tensors is not None:
        return Layer(f"F.linear({x}, {', '.join(own_tensors(steps[0]))})")
    slots = [
        Slot("in_features", tuple(s.types[0].channels for s in steps), reads=True, positional=True),
        Slot("out_features", tuple(op.out for op in ops), makes=True, positional=True),
        Slot("bias", tuple(op.bias for op in ops), default=True),
    ]
    return Layer(f"{{me}}({x})", "nn.Linear", slots)


@writes("rbf")
def _rbf(ops: Sequence[Rbf], steps: Sequence[Step]) -> Layer:
    x = _vector(steps[0])
    if steps[0].tensors is not None:
        return Layer(f"({x}[:, None, :] - {own_tensors(steps[0])[0]}).square().sum(dim=2)")
    slots = [
        Slot("in_features", tuple(s.types[0].channels for s in steps), reads=True, positional=True),
        Slot("out_features", tuple(op.out for op in ops), makes=True, positional=True),
    ]
    return Layer(f"{{me}}({x})", "Rbf", slots, helpers=("Rbf",))


# -- functions of one element --------------------------------------------------------------------------------

_FUNCTIONS = {
    "relu": "F.relu({0})",
    "relu6": "F.relu6({0})",
    "sigmoid": "torch.sigmoid({0})",
    "swish": "F.silu({0})",
    "hard_sigmoid": "F.hardsigmoid({0})",
    "hard_swish": "F.hardswish({0})",
    "softmax": "F.softmax({0}, dim=1)",
}


def _function(call: str) -> Describe:
    return lambda ops, steps: Layer(call, joins=True, same_channels=True)


_ANY_RANK = {
    *_FUNCTIONS,
    "clip",
    "leaky_relu",
    "tanh",
    "dropout",
    "add",
    "mul",
    "concat",
    "flatten",
    "gather",
}
"""Operations that are written alike for maps and for vectors."""

for _name, _call in _FUNCTIONS.items():
    TABLE[_name] = _function(_call)


@writes("clip")
def _clip(ops: Sequence[Clip], steps: Sequence[Step]) -> Layer:
    slots = [Slot("low", tuple(op.low for op in ops)), Slot("high", tuple(op.high for op in ops))]
    return Layer("torch.clamp({0}, {low}, {high})", inline=slots, joins=True, same_channels=True)


@writes("leaky_relu")
def _leaky_relu(ops: Sequence[LeakyRelu], steps: Sequence[Step]) -> Layer:
    slope = Slot("slope", tuple(op.slope for op in ops), default=0.01)
    call = "F.leaky_relu({0}, {slope})" if slope.needed else "F.leaky_relu({0})"
    return Layer(call, inline=[slope], joins=True, same_channels=True)


@writes("tanh")
def _tanh(ops: Sequence[Tanh], steps: Sequence[Step]) -> Layer:
    scale = Slot("scale", tuple(op.scale for op in ops), default=1.0)
    slope = Slot("slope", tuple(op.slope for op in ops), default=1.0)
    if not scale.needed and not slope.needed:
        return Layer("torch.tanh({0})", joins=True, same_channels=True)
    call = "scaled_tanh({0}, {scale}, {slope})"
    return Layer(call, inline=[scale, slope], joins=True, same_channels=True, helpers=("scaled_tanh",))


@writes("lrn")
def _lrn(ops: Sequence[Lrn], steps: Sequence[Step]) -> Layer:
    slots = [
        Slot("size", tuple(op.size for op in ops)),
        Slot("alpha", tuple(op.alpha for op in ops), default=1e-4),
        Slot("beta", tuple(op.beta for op in ops), default=0.75),
        Slot("k", tuple(op.k for op in ops), default=1.0),
    ]
    call = "F.local_response_norm({0}, {size}" + _given(slots[1:]) + ")"
    return Layer(call, inline=slots, joins=True, same_channels=True)


def _given(slots: Sequence[Slot]) -> str:
    """Further arguments of a call, those with another value than the default."""
    return "".join(f", {s.name}={{{s.name}}}" for s in slots if s.needed)


# -- pools ---------------------------------------------------------------------------------------------------


def _sayable(op: Pool) -> bool:
    """PyTorch pads both sides alike, and by at most half of the kernel."""
    half = all(p <= k // 2 for p, k in zip(op.pad, (*op.kernel, *op.kernel), strict=True))
    return half and op.pad[:2] == op.pad[2:]


def _reach(op: Pool, step: Step) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) that makes the windows fit exactly; negative where input is left over."""
    ends = []
    for axis in (0, 1):
        size, before = step.types[0].spatial[axis], op.pad[axis]
        last = (step.outs[0].spatial[axis] - 1) * op.stride[axis] + op.kernel[axis]
        ends.append(last - before - size)
    return op.pad[1], ends[1], op.pad[0], ends[0]


def _pool_slots(ops: Sequence[Pool]) -> list[Slot]:
    return [
        Slot("kernel_size", tuple(square(op.kernel) for op in ops)),
        Slot("stride", tuple(square(op.stride) for op in ops)),
        Slot("padding", tuple(square(op.pad[:2]) for op in ops), default=0),
        Slot("ceil_mode", tuple(op.ceil for op in ops), default=False),
    ]


def _window(slots: Sequence[Slot]) -> str:
    kernel, stride = slots
    return "{kernel_size}" + ("" if kernel.values == stride.values else ", stride={stride}")


@writes("max_pool")
def _max_pool(ops: Sequence[MaxPool], steps: Sequence[Step]) -> Layer:
    slots = _pool_slots(ops)
    window = _window(slots[:2])
    if all(map(_sayable, ops)):
        return Layer(f"F.max_pool2d({{0}}, {window}{_given(slots[2:])})", inline=slots, same_channels=True)
    reach = Slot("pad", tuple(_reach(op, s) for op, s in zip(ops, steps, strict=True)))
    x = 'F.pad({0}, {pad}, value=float("-inf"))'
    return Layer(f"F.max_pool2d({x}, {window})", inline=[*slots[:2], reach], same_channels=True)


@writes("avg_pool")
def _avg_pool(ops: Sequence[AvgPool], steps: Sequence[Step]) -> Layer:
    slots = _pool_slots(ops)
    window = _window(slots[:2])
    padded = slots[2].needed
    count = Slot("count_include_pad", tuple(op.count_pad for op in ops), default=True)
    divisor = Slot("divisor_override", tuple(op.divisor for op in ops), default=0)
    if all(map(_sayable, ops)):
        more = [*slots[2:], *([count] if padded else []), divisor]
        return Layer(
            f"F.avg_pool2d({{0}}, {window}{_given(more)})",
            inline=[*slots, count, divisor],
            same_channels=True,
        )
    reach = Slot("reach", tuple(_reach(op, s) for op, s in zip(ops, steps, strict=True)))
    if all(op.divisor for op in ops):
        call = f"F.avg_pool2d(F.pad({{0}}, {{reach}}), {window}{_given([divisor])})"
        return Layer(call, inline=[*slots[:2], reach, divisor], same_channels=True)
    counted = Slot("counted", tuple(torch_pad(op.pad if op.count_pad else (0, 0, 0, 0)) for op in ops))
    call = "windowed_mean({0}, {kernel_size}, {stride}, {reach}, {counted})"
    inline = [*slots[:2], reach, counted]
    return Layer(call, inline=inline, same_channels=True, helpers=("windowed_mean",))


TABLE["global_avg_pool"] = lambda ops, steps: Layer(
    "F.adaptive_avg_pool2d({0}, 1)", light=True, same_channels=True
)
TABLE["global_max_pool"] = lambda ops, steps: Layer(
    "F.adaptive_max_pool2d({0}, 1)", light=True, same_channels=True
)


@writes("upsample")
def _upsample(ops: Sequence[Upsample], steps: Sequence[Step]) -> Layer:
    sizes = Slot("size", tuple(op.size for op in ops))
    if any(op.mode != "nearest" for op in ops):
        modes = Slot("mode", tuple(op.mode for op in ops))
        call = "F.interpolate({0}, size={size}, mode={mode})"
        return Layer(call, inline=[sizes, modes], same_channels=True)
    if not all(_interpolates(op.size, s.types[0].spatial) for op, s in zip(ops, steps, strict=True)):
        return Layer(
            "resize_nearest({0}, {size})", inline=[sizes], same_channels=True, helpers=("resize_nearest",)
        )
    factors = {
        new / old
        for op, s in zip(ops, steps, strict=True)
        for new, old in zip(op.size, s.types[0].spatial, strict=True)
    }
    if len(factors) == 1 and (factor := factors.pop()).is_integer():
        return Layer(f"F.interpolate({{0}}, scale_factor={int(factor)})", same_channels=True)
    return Layer("F.interpolate({0}, size={size})", inline=[sizes], same_channels=True)


def _interpolates(new: Sequence[int], old: Sequence[int]) -> bool:
    """True where PyTorch's arithmetic in float32 finds the same source for every row and column."""
    for n, o in zip(new, old, strict=True):
        at = np.arange(n)
        theirs = np.floor(at.astype(np.float32) * (np.float32(o) / np.float32(n))).astype(np.int64)
        if not np.array_equal(np.minimum(theirs, o - 1), at * o // n):
            return False
    return True


# -- arrangement ---------------------------------------------------------------------------------------------


@writes("shuffle")
def _shuffle(ops: Sequence[Shuffle], steps: Sequence[Step]) -> Layer:
    groups = Slot("groups", tuple(op.groups for op in ops))
    if steps[0].types[0].rank == 4:
        return Layer("F.channel_shuffle({0}, {groups})", inline=[groups], joins=True, same_channels=True)
    call = "{0}.unflatten(1, ({groups}, -1)).transpose(1, 2).flatten(1)"
    return Layer(call, inline=[groups], same_channels=True)


def _is_slice(op: Gather) -> bool:
    return len(op.channels.runs) == 1 and op.channels.runs[0].step > 0


@writes("gather")
def _gather(ops: Sequence[Gather], steps: Sequence[Step]) -> Layer:
    lists = tuple(op.channels for op in ops)
    if not all(map(_is_slice, ops)):
        slots = [Slot("channels", lists, positional=True)]
        return Layer("{me}({0})", "PickChannels", slots, joins=True, helpers=("PickChannels",))
    runs = [c.runs[0] for c in lists]
    start = Slot("start", tuple(r.start for r in runs), default=0)
    stop = Slot("stop", tuple(r.start + r.step * (r.count - 1) + 1 for r in runs))
    step = Slot("step", tuple(r.step for r in runs), default=1)
    ends = all(r.start + r.step * r.count >= s.types[0].channels for r, s in zip(runs, steps, strict=True))
    text = (
        ("{start}" if start.needed else "")
        + ":"
        + ("" if ends else "{stop}")
        + (":{step}" if step.needed else "")
    )
    return Layer(f"{{0}}[:, {text}]", inline=[start, stop, step], light=True)


def _split(ops: Sequence[Any], steps: Sequence[Step]) -> Layer:
    sizes = tuple(list(op.sizes) for op in ops)
    count = len(sizes[0])
    if all(len(set(one)) == 1 for one in sizes):
        return Layer(f"{{0}}.chunk({count}, dim=1)", outs=count)
    return Layer("{0}.split({sizes}, dim=1)", inline=[Slot("sizes", sizes)], outs=count)


@writes("concat")
def _concat(ops: Sequence[Op], steps: Sequence[Step]) -> Layer:
    operands = ", ".join(f"{{{i}}}" for i in range(len(steps[0].types)))
    return Layer(f"torch.cat([{operands}], dim=1)")


TABLE["flatten"] = lambda ops, steps: Layer("torch.flatten({0}, 1)", light=True)
TABLE["as_sequence"] = lambda ops, steps: Layer("{0}.squeeze(2)", light=True, same_channels=True)
TABLE["add"] = lambda ops, steps: Layer("{0} + {1}", infix="+", same_channels=True)
TABLE["mul"] = lambda ops, steps: Layer("{0} * {1}", infix="*", same_channels=True)


@writes("as_map")
def _as_map(ops: Sequence[AsMap], steps: Sequence[Step]) -> Layer:
    if ops[0].size != (1, 1):
        height, width = ops[0].size
        return Layer(f"{{0}}.unflatten(1, (-1, {height}, {width}))", light=True)
    text = "{0}.unsqueeze(2)" if steps[0].types[0].rank == 3 else "{0}[:, :, None, None]"
    return Layer(text, light=True, same_channels=True)


@writes("dropout")
def _dropout(ops: Sequence[Dropout], steps: Sequence[Step]) -> Layer:
    p = Slot("p", tuple(op.p for op in ops), positional=True, default=0.5)
    return Layer("{me}({0})", "nn.Dropout", [p], joins=True, light=True, same_channels=True)


# -- tensors of any rank -------------------------------------------------------------------------------------

_BINARY = {
    "and": "torch.logical_and({0}, {1}).float()",
    "equal": "torch.eq({0}, {1}).float()",
    "greater": "torch.gt({0}, {1}).float()",
    "less": "torch.lt({0}, {1}).float()",
    "max": "torch.maximum({0}, {1})",
    "min": "torch.minimum({0}, {1})",
    "mod": "torch.remainder({0}, {1})",
    "or": "torch.logical_or({0}, {1}).float()",
    "xor": "torch.logical_xor({0}, {1}).float()",
}
_REDUCE = {"max": "amax", "min": "amin", "mean": "mean", "sum": "sum"}


@writes("unary")
def _unary(ops: Sequence[Unary], steps: Sequence[Step]) -> Layer:
    function = ops[0].function
    call = "torch.logical_not({0}).float()" if function == "not" else f"torch.{function}({{0}})"
    return Layer(call, joins=True, same_channels=True)


@writes("binary")
def _binary(ops: Sequence[Binary], steps: Sequence[Step]) -> Layer:
    function = ops[0].function
    return Layer(_BINARY.get(function, f"torch.{function}({{0}}, {{1}})"))


@writes("reduce")
def _reduce(ops: Sequence[Reduce], steps: Sequence[Step]) -> Layer:
    op = ops[0]
    if op.function in _REDUCE:
        return Layer(f"torch.{_REDUCE[op.function]}({{0}}, dim={list(op.axes)}, keepdim={op.keep})")
    axes = sorted(op.axes, reverse=True)  # PyTorch's product goes along one axis
    return Layer("{0}" + "".join(f".prod({axis}, keepdim={op.keep})" for axis in axes))


@writes("reshape")
def _reshape(ops: Sequence[Reshape], steps: Sequence[Step]) -> Layer:
    return Layer(f"torch.reshape({{0}}, {list(ops[0].shape)})")


@writes("transpose")
def _transpose(ops: Sequence[Transpose], steps: Sequence[Step]) -> Layer:
    return Layer(f"torch.permute({{0}}, {list(ops[0].order)})")


@writes("take")
def _take(ops: Sequence[Take], steps: Sequence[Step]) -> Layer:
    indices, colons = ops[0].indices, ":, " * ops[0].axis
    if len(indices.runs) == 1 and indices.runs[0].step > 0:
        run = indices.runs[0]
        return Layer(f"{{0}}[{colons}{run.start}:{indices.top + 1}:{run.step}]")
    return Layer(f"{{0}}[{colons}{list(indices)}]")


@writes("join")
def _join(ops: Sequence[Join], steps: Sequence[Step]) -> Layer:
    operands = ", ".join(f"{{{i}}}" for i in range(len(steps[0].types)))
    return Layer(f"torch.cat([{operands}], dim={ops[0].axis})")


@writes("pad")
def _pad(ops: Sequence[Pad], steps: Sequence[Step]) -> Layer:
    pairs = zip(reversed(ops[0].before), reversed(ops[0].after), strict=True)
    widths = [n for pair in pairs for n in pair]
    return Layer(f"F.pad({{0}}, {widths}, value={literal(ops[0].value)})")


@writes("expand")
def _expand(ops: Sequence[Expand], steps: Sequence[Step]) -> Layer:
    return Layer(f"{{0}}.expand({list(ops[0].shape)})")


TABLE["choose"] = lambda ops, steps: Layer("torch.where({0} != 0, {1}, {2})")
TABLE["matmul"] = lambda ops, steps: Layer("torch.matmul({0}, {1})")

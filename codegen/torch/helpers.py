"""What PyTorch has no layer for: read as text and copied by name into the files that need it, never imported.

The text is the user's: no name of ours, and laid out as `text.py` says.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn


def scaled_tanh(x: Tensor, scale: float, slope: float) -> Tensor:
    """Return scale * tanh(slope * x)."""
    return scale * torch.tanh(slope * x)


def resize_nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Row i of the result is row floor(i * H / H') of x, in whole numbers."""
    height, width = size
    rows = torch.arange(height, device=x.device) * x.shape[2] // height
    columns = torch.arange(width, device=x.device) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def windowed_mean(
    x: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    reach: tuple[int, int, int, int],
    counted: tuple[int, int, int, int],
) -> Tensor:
    """Average pooling with any padding, given as (left, right, top, bottom).

    `reach` makes the windows fit exactly; of it, what lies within `counted` of x counts
    in the divisor.
    """
    ones = F.pad(torch.ones_like(x[:1, :1]), counted, value=1.0)
    beyond = [r - c for r, c in zip(reach, counted, strict=True)]
    total = F.avg_pool2d(F.pad(x, reach), kernel_size, stride, divisor_override=1)
    count = F.avg_pool2d(F.pad(ones, beyond), kernel_size, stride, divisor_override=1)
    return total / count


class PickChannels(nn.Module):
    """Output channel c is input channel channels[c]: reorders, repeats, drops."""

    channels: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("channels", torch.tensor(list(channels)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.channels]


class GatherConv2d(nn.Conv2d):
    """A convolution that reads the channels `inputs` of its operand, in this order."""

    inputs: Tensor

    def __init__(self, inputs: Sequence[int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        index = torch.tensor(list(inputs))
        self.register_buffer("inputs", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x[:, self.inputs])
        return y


class MaskedConv2d(nn.Conv2d):
    """A convolution whose weight is multiplied by a mask that is kept, not trained.

    The mask has one entry per pair of channels, or per weight where it is `fine`.
    """

    mask: Tensor

    def __init__(self, *arguments: Any, fine: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        size = self.weight.shape[2:] if fine else (1, 1)
        self.register_buffer("mask", torch.ones(*self.weight.shape[:2], *size))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.weight * self.mask, self.bias)
        return y


class SplitConv2d(nn.Module):
    """Convolutions side by side: part k reads the next in_channels[k] channels.

    Parts may differ in channels, groups, kernel size and padding; a padding is a number
    or (left, right, top, bottom). `weight0`, `weight1`, ... belong to the parts.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: list[int],
        kernel_size: list[int | tuple[int, int]],
        stride: int | tuple[int, int] = 1,
        padding: list[int | tuple[int, int, int, int]] | int = 0,
        dilation: int | tuple[int, int] = 1,
        groups: list[int] | int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        parts = len(in_channels)
        paddings = padding if isinstance(padding, list) else [padding] * parts
        self.in_channels = in_channels
        self.stride, self.dilation = stride, dilation
        self.padding = [(p,) * 4 if isinstance(p, int) else p for p in paddings]
        self.groups = groups if isinstance(groups, list) else [groups] * parts
        for k, size in enumerate(kernel_size):
            height, width = (size, size) if isinstance(size, int) else size
            inputs = in_channels[k] // self.groups[k]
            weight = nn.Parameter(torch.empty(out_channels[k], inputs, height, width))
            nn.init.kaiming_uniform_(weight, a=5**0.5)
            self.register_parameter(f"weight{k}", weight)
        zeros = torch.zeros(sum(out_channels))
        self.bias = nn.Parameter(zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for k, part in enumerate(torch.split(x, self.in_channels, dim=1)):
            part = F.pad(part, self.padding[k])
            weight = self.get_parameter(f"weight{k}")
            how = (self.stride, 0, self.dilation, self.groups[k])
            parts.append(F.conv2d(part, weight, None, *how))
        y = torch.cat(parts, dim=1)
        return y if self.bias is None else y + self.bias[:, None, None]


class BlockConv2d(nn.Module):
    """Part k convolves the channels inputs[k] into the output channels outputs[k].

    Inputs may overlap, repeat and be left out; an output that no part makes is its
    bias. Parts may differ in groups, kernel size and padding; a padding is a number or
    (left, right, top, bottom). The weight is `weight`, or `weight0`, ... by part.
    """

    def __init__(
        self,
        inputs: list[Sequence[int]],
        outputs: list[Sequence[int]],
        kernel_size: list[int | tuple[int, int]],
        stride: int | tuple[int, int] = 1,
        padding: list[int | tuple[int, int, int, int]] | int = 0,
        dilation: int | tuple[int, int] = 1,
        groups: list[int] | int = 1,
        bias: bool = True,
        out_channels: int | None = None,
        mask: tuple[int, int, int, int] | None = None,
    ) -> None:
        super().__init__()
        parts = len(inputs)
        paddings = padding if isinstance(padding, list) else [padding] * parts
        self.out_channels = out_channels or sum(map(len, outputs))
        self.stride, self.dilation = stride, dilation
        self.padding = [(p,) * 4 if isinstance(p, int) else p for p in paddings]
        self.groups = groups if isinstance(groups, list) else [groups] * parts
        self.names = ["weight"] if parts == 1 else [f"weight{k}" for k in range(parts)]
        for k, size in enumerate(kernel_size):
            height, width = (size, size) if isinstance(size, int) else size
            shape = (len(outputs[k]), len(inputs[k]) // self.groups[k], height, width)
            weight = nn.Parameter(torch.empty(shape))
            nn.init.kaiming_uniform_(weight, a=5**0.5)
            self.register_parameter(self.names[k], weight)
            for name, channels in ("inputs", inputs[k]), ("outputs", outputs[k]):
                index = torch.tensor(list(channels))
                self.register_buffer(f"{name}{k}", index, persistent=False)
        self.mask: Tensor | None
        self.register_buffer("mask", torch.ones(mask) if mask else None)
        zeros = torch.zeros(self.out_channels)
        self.bias = nn.Parameter(zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for k, name in enumerate(self.names):
            part = F.pad(x[:, self.get_buffer(f"inputs{k}")], self.padding[k])
            weight: Tensor = self.get_parameter(name)
            if k == 0 and self.mask is not None:
                weight = weight * self.mask
            how = (self.stride, 0, self.dilation, self.groups[k])
            parts.append(F.conv2d(part, weight, None, *how))
        y = x.new_zeros(x.shape[0], self.out_channels, *parts[0].shape[2:])
        for k, part in enumerate(parts):
            y[:, self.get_buffer(f"outputs{k}")] = part
        return y if self.bias is None else y + self.bias[:, None, None]


class TableConv2d(nn.Module):
    """Output channel o reads the input channels table[o].

    Neighbouring rows of equal length are one grouped convolution with one weight; the
    weight is `weight`, or `weight0`, `weight1`, ... in order. A padding is a number or
    (left, right, top, bottom).
    """

    def __init__(
        self,
        table: list[list[int]],
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int, int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        size = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        self.padding = (padding,) * 4 if isinstance(padding, int) else padding
        self.stride, self.dilation = stride, dilation
        self.runs = [list(rows) for _, rows in groupby(table, len)]
        names = ["weight"] if len(self.runs) == 1 else []
        self.names = names or [f"weight{k}" for k in range(len(self.runs))]
        for name, rows in zip(self.names, self.runs, strict=True):
            weight = nn.Parameter(torch.empty(len(rows), len(rows[0]), *size))
            nn.init.kaiming_uniform_(weight, a=5**0.5)
            self.register_parameter(name, weight)
        self.bias = nn.Parameter(torch.zeros(len(table))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.padding)
        parts = []
        for name, rows in zip(self.names, self.runs, strict=True):
            inputs = x[:, [channel for row in rows for channel in row]]
            weight = self.get_parameter(name)
            how = (self.stride, 0, self.dilation, len(rows))
            parts.append(F.conv2d(inputs, weight, None, *how))
        y = torch.cat(parts, dim=1)
        return y if self.bias is None else y + self.bias[:, None, None]


class Affine(nn.Module):
    """Each channel times its own weight plus its own bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (x.dim() - 2)
        return x * self.weight.view(shape) + self.bias.view(shape)


class Rbf(nn.Module):
    """Squared distance of the features to one fixed centre of -1 and 1 per output."""

    centres: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        centres = torch.randint(0, 2, (out_features, in_features)) * 2.0 - 1.0
        self.register_buffer("centres", centres)

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None, :] - self.centres).square().sum(dim=2)

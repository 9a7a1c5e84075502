# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""Pieces that many networks share: convolution with batch norm, shuffle, width rounding, uneven groups.

Nothing here, and nothing in this folder, imports compactir: these models judge it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(
    cin: int,
    cout: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: nn.Module | None = None,
    dilation: int = 1,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Unbiased convolution with symmetric same-size padding, batch norm, activation: keys `conv`, `bn`."""
    pad = dilation * (kernel - 1) // 2
    steps: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(cin, cout, kernel, stride, pad, dilation, groups, bias=False)),
        ("bn", nn.BatchNorm2d(cout, eps=eps)),
    ]
    if act is not None:
        steps.append(("act", act))
    return nn.Sequential(OrderedDict(steps))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Reshape the channels to (groups, n), transpose, flatten: output c reads (c mod g) n + c div g."""
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def gap(x: Tensor) -> Tensor:
    """Global average: (N, C, H, W) -> (N, C)."""
    return x.mean((2, 3))


def divisible(value: float, by: int = 8) -> int:
    """Width rounding of the MobileNetV2 and MixNet family: nearest multiple of 8, never below 90 %."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


class UnevenConv(nn.Module):
    """A convolution of independent parts: part k reads its slice of the input and writes its own outputs.

    `parts` lists (inputs, outputs) in order. Neighbors of equal shape become one `nn.Conv2d` with groups, so
    that the keys are `convs.0.weight`, `convs.1.weight`, … in channel order. No bias.
    """

    def __init__(self, parts: Sequence[tuple[int, int]], kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        runs = [(shape, len(list(run))) for shape, run in groupby(parts)]
        self.widths = [i * n for (i, _), n in runs]
        self.convs = nn.ModuleList(
            nn.Conv2d(i * n, o * n, kernel, stride, kernel // 2, groups=n, bias=False) for (i, o), n in runs
        )

    def forward(self, x: Tensor) -> Tensor:
        slices = torch.split(x, self.widths, 1)
        return torch.cat([conv(s) for conv, s in zip(self.convs, slices, strict=True)], 1)


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding: the odd row or column of zeros goes to the bottom or right."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, k, s in zip(
            reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))

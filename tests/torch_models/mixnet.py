# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""MixNet-S, -M and -L, Tan and Le 2019, with the group counts of the public reference implementation.

A row of TABLE: repeats, mid and output width, stride, groups of the expansion, kernels, groups of the
projection, SE width; the input width is the row's above. Rows 1 and 2 (no SE) use ReLU, the others swish.
Stem 3x3 s2 BN ReLU; depthwise 3x3 BN ReLU, 1x1 BN, residual; rows; head 1x1 to 1536 BN ReLU; global average;
FC.
Block: 1x1 (groups) BN act; MDConv BN act; SE; 1x1 (groups) BN; add iff s = 1 and the width stays.
MDConv: channels in equal consecutive parts, part j has a depthwise kernel of its own size. SE: global
average, 1x1 to its width with bias, swish, 1x1 back with bias, sigmoid, scale.
Choices: symmetric padding (k - 1)/2 (published weights come from TensorFlow and want SAME); L is M with
widths times 1.3 rounded by the divisible-by-8 rule, SE widths taken from the block's input (ratio in the
comments of M).
Parameter order: stem, blocks (expand, bn; one depthwise weight per kernel size, bn; SE reduce, expand;
project, bn), head, fc.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import conv_bn, divisible, gap

Row = tuple[int, int, int, int, int, tuple[int, ...], int, int]
S: list[Row] = [
    (1, 96, 24, 2, 2, (3,), 2, 0), (1, 72, 24, 1, 2, (3,), 2, 0),
    (1, 144, 40, 2, 1, (3, 5, 7), 1, 12), (3, 240, 40, 1, 2, (3, 5), 2, 20),
    (1, 240, 80, 2, 1, (3, 5, 7), 2, 10), (2, 480, 80, 1, 1, (3, 5), 2, 20),
    (1, 480, 120, 1, 2, (3, 5, 7), 2, 40), (2, 360, 120, 1, 2, (3, 5, 7, 9), 2, 60),
    (1, 720, 200, 2, 1, (3, 5, 7, 9, 11), 1, 60), (2, 1200, 200, 1, 1, (3, 5, 7, 9), 2, 100),
]  # fmt: skip
M: list[Row] = [
    (1, 144, 32, 2, 2, (3, 5, 7), 2, 0), (1, 96, 32, 1, 2, (3,), 2, 0),
    (1, 192, 40, 2, 1, (3, 5, 7, 9), 1, 16), (3, 240, 40, 1, 2, (3, 5), 2, 20),
    (1, 240, 80, 2, 1, (3, 5, 7), 1, 10), (3, 480, 80, 1, 2, (3, 5, 7, 9), 2, 20),
    (1, 480, 120, 1, 1, (3,), 1, 40), (3, 360, 120, 1, 2, (3, 5, 7, 9), 2, 60),
    (1, 720, 200, 2, 1, (3, 5, 7, 9), 1, 60), (3, 1200, 200, 1, 1, (3, 5, 7, 9), 2, 100),
]  # fmt: skip
L: list[Row] = [
    (1, 192, 40, 2, 2, (3, 5, 7), 2, 0), (1, 120, 40, 1, 2, (3,), 2, 0),
    (1, 240, 56, 2, 1, (3, 5, 7, 9), 1, 20), (3, 336, 56, 1, 2, (3, 5), 2, 28),
    (1, 336, 104, 2, 1, (3, 5, 7), 1, 14), (3, 624, 104, 1, 2, (3, 5, 7, 9), 2, 26),
    (1, 624, 160, 1, 1, (3,), 1, 52), (3, 480, 160, 1, 2, (3, 5, 7, 9), 2, 80),
    (1, 960, 264, 2, 1, (3, 5, 7, 9), 1, 80), (3, 1584, 264, 1, 1, (3, 5, 7, 9), 2, 132),
]  # fmt: skip
NETS = {"s": (16, S), "m": (24, M), "l": (divisible(24 * 1.3), L)}


class MdConv(nn.Module):
    def __init__(self, c: int, kernels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        n = c // len(kernels)
        self.widths = [c - n * (len(kernels) - 1)] + [n] * (len(kernels) - 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(w, w, k, stride, k // 2, groups=w, bias=False)
            for w, k in zip(self.widths, kernels, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.widths, 1)
        return torch.cat([conv(p) for conv, p in zip(self.convs, parts, strict=True)], 1)


class SqueezeExcite(nn.Module):
    def __init__(self, c: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c, width, 1)
        self.expand = nn.Conv2d(width, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = nn.functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.expand(s).sigmoid()


class Block(nn.Module):
    def __init__(self, cin: int, mid: int, cout: int, stride: int, row: Row) -> None:
        super().__init__()
        *_, g_expand, kernels, g_project, se = row
        self.add = stride == 1 and cin == cout
        act = nn.SiLU if se else nn.ReLU
        self.expand = conv_bn(cin, mid, groups=g_expand, act=act())
        self.depthwise = nn.Sequential(MdConv(mid, kernels, stride), nn.BatchNorm2d(mid), act())
        self.se = SqueezeExcite(mid, se) if se else nn.Identity()
        self.project = conv_bn(mid, cout, groups=g_project)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.add else y


class MixNet(nn.Module):
    def __init__(self, net: str = "s") -> None:
        super().__init__()
        c, rows = NETS[net]
        self.stem = conv_bn(3, c, 3, 2, act=nn.ReLU())
        self.first = nn.Sequential(conv_bn(c, c, 3, 1, c, nn.ReLU()), conv_bn(c, c))
        self.blocks = nn.Sequential()
        for row in rows:
            n, mid, cout, stride = row[:4]
            for i in range(n):
                self.blocks.append(Block(c, mid, cout, 1 if i else stride, row))
                c = cout
        self.head = conv_bn(c, 1536, act=nn.ReLU())
        self.fc = nn.Linear(1536, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        return self.fc(gap(self.head(self.blocks(x))))

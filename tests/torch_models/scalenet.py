# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""ScaleNet, Li, Kuang, Chen, Zhang 2019: a ResNet whose 3x3 aggregates over scales, with learned widths.

Stem 7x7 s2 p3 to 64, BN, ReLU, max 3x3 s2 p1; stages of base widths n = 64, 128, 256, 512; global average;
FC.
Block: the first of stages 2 to 4 starts with max 2x2 s2 (both paths); shortcut identity, or 1x1-BN where the
width changes; main: 1x1 to n, BN, ReLU; SA; 1x1 to 4n, BN; add; ReLU.
SA: scale i of factor f = 1, 2, 4, 7 and width c_i (none if 0): max f x f s f (none for f = 1; floor); conv to
c_i, 3x3 p1, but 1x1 when side / 2^i <= 1 (side = 56, 28, 14, 7 by stage); upsample to the input's size,
nearest where that is an integer multiple, else bilinear (align-corners off); BN. Concat over scales; ReLU.
The widths (c_0, c_1, c_2, c_3) of every block are in scalenet_widths.py. `size` scales the sides (224,
and no less: the last stage pools by 7).
Parameter order: stem, blocks (reduce; SA per scale conv, bn; expand; then the projection), fc.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .common import conv_bn, gap
from .scalenet_widths import WIDTHS

FACTORS = (1, 2, 4, 7)


class Scale(nn.Module):
    def __init__(self, cin: int, cout: int, i: int, side: int) -> None:
        super().__init__()
        kernel = 1 if side / 2**i <= 1 else 3
        self.factor = FACTORS[i]
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if self.factor == 1:
            return self.bn(self.conv(x))
        y = self.conv(functional.max_pool2d(x, self.factor))
        if all(big % small == 0 for big, small in zip(size, y.shape[2:], strict=True)):
            return self.bn(functional.interpolate(y, size))
        return self.bn(functional.interpolate(y, size, mode="bilinear", align_corners=False))


class Aggregate(nn.Module):
    def __init__(self, cin: int, widths: tuple[int, ...], side: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Scale(cin, c, i, side) for i, c in enumerate(widths) if c)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([scale(x) for scale in self.scales], 1).relu()


class Block(nn.Module):
    def __init__(self, cin: int, n: int, widths: tuple[int, ...], side: int, down: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if down else nn.Identity()
        self.main = nn.Sequential(
            conv_bn(cin, n, act=nn.ReLU()), Aggregate(n, widths, side), conv_bn(sum(widths), 4 * n)
        )
        self.shortcut = nn.Identity() if cin == 4 * n else conv_bn(cin, 4 * n)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        return (self.main(x) + self.shortcut(x)).relu()


class ScaleNet(nn.Module):
    def __init__(self, net: str = "50", size: int = 224) -> None:
        super().__init__()
        self.stem = conv_bn(3, 64, 7, 2, act=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential()
        c = 64
        for stage, rows in enumerate(WIDTHS[net]):
            n, side = 64 << stage, size // 4 >> stage
            for i, widths in enumerate(rows):
                self.blocks.append(Block(c, n, widths, side, stage > 0 and i == 0))
                c = 4 * n
        self.fc = nn.Linear(c, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.blocks(self.pool(self.stem(x)))))

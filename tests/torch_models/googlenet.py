# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""GoogLeNet (Inception v1), Szegedy et al. 2014, table 1.

Inception(a; b_r to b; c_r to c; d): 1x1 to a | 1x1 to b_r, 3x3 to b | 1x1 to c_r, 5x5 to c | max 3x3 s1 p1,
1x1 to d; ReLU after every convolution; concat [a, b, c, d]. TABLE below, "M" is the max pooling between
stages.
Stem: 7x7 s2 p3 64; max 3x3 s2 ceil; LRN; 1x1 64; 3x3 p1 192; LRN; max 3x3 s2 ceil. Head: global average, FC
1000.

Original: biased convolutions, LRN (5, 1e-4, 0.75, k = 1). BN form (torchvision's): BN with eps 1e-3 instead
of bias, no LRN, the third branch is 3x3, the pooling before stage 5 is 2x2 s2. `aux` adds the two
training-only heads of the BN form (on 4a and 4d: average 5x5 s3, 1x1 to 128, FC 1024, dropout 0.7, FC 1000),
defined last and run in training only.
Parameter order: stem, then each inception branch by branch (a; b_r, b; c_r, c; d), fc, heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import conv_bn, gap

M = (0, 0, 0, 0, 0, 0)
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "pool3": M,
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "pool4": M,
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def conv(cin: int, cout: int, kernel: int, stride: int, bn: bool) -> nn.Module:
    if bn:
        return conv_bn(cin, cout, kernel, stride, act=nn.ReLU(), eps=1e-3)
    return nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2), nn.ReLU())


class Inception(nn.Module):
    def __init__(self, cin: int, row: tuple[int, ...], bn: bool) -> None:
        super().__init__()
        a, b_r, b, c_r, c, d = row
        self.a = conv(cin, a, 1, 1, bn)
        self.b = nn.Sequential(conv(cin, b_r, 1, 1, bn), conv(b_r, b, 3, 1, bn))
        self.c = nn.Sequential(conv(cin, c_r, 1, 1, bn), conv(c_r, c, 3 if bn else 5, 1, bn))
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(cin, d, 1, 1, bn))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)


class Head(nn.Sequential):
    def __init__(self, cin: int) -> None:
        super().__init__(
            nn.AvgPool2d(5, 3), conv(cin, 128, 1, 1, True), nn.Flatten(),
            nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(0.7), nn.Linear(1024, 1000),
        )  # fmt: skip


class GoogLeNet(nn.Module):
    def __init__(self, bn: bool = False, aux: bool = False) -> None:
        super().__init__()

        def pool(kernel: int = 3) -> nn.Module:
            return nn.MaxPool2d(kernel, 2, ceil_mode=True)

        def lrn() -> nn.Module:
            return nn.Identity() if bn else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

        self.stem = nn.Sequential(
            conv(3, 64, 7, 2, bn),
            pool(),
            lrn(),
            conv(64, 64, 1, 1, bn),
            conv(64, 192, 3, 1, bn),
            lrn(),
            pool(),
        )
        self.stages = nn.ModuleDict()
        c = 192
        for name, row in TABLE.items():
            if row == M:
                self.stages[name] = pool(2 if bn and name == "pool4" else 3)
            else:
                self.stages[name] = Inception(c, row, bn)
                c = row[0] + row[2] + row[4] + row[5]
        self.fc = nn.Linear(c, 1000)
        self.aux = nn.ModuleDict({"4a": Head(512), "4d": Head(528)}) if aux else nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        heads = []
        x = self.stem(x)
        for name, stage in self.stages.items():
            x = stage(x)
            if self.training and name in self.aux:
                heads.append(self.aux[name](x))
        y = self.fc(gap(x))
        return (y, *heads) if heads else y

# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""DenseNet-BC, Huang et al. 2016, table 1.

| net        | growth | stem | layers per block |
|------------|--------|------|------------------|
| 121        | 32     | 64   | 6, 12, 24, 16    |
| 169        | 32     | 64   | 6, 12, 32, 32    |
| 201        | 32     | 64   | 6, 12, 48, 32    |
| 161        | 48     | 96   | 6, 12, 36, 24    |
| BC-100 k12 | 12     | 24   | 16, 16, 16       |

Stem 7x7 s2 p3, BN, ReLU, max 3x3 s2 p1 (CIFAR: 3x3, nothing after it). Layer: BN-ReLU-1x1(to 4k)-BN-ReLU-3x3
p1(to k); output concat [input, new]. Between blocks BN-ReLU-1x1(halve)-average 2x2. End: BN-ReLU-global
average-FC.
Parameter order: stem, layers and transitions as they run (bn1, conv1, bn2, conv2), last bn, fc.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .common import conv_bn, gap


class Layer(nn.Module):
    def __init__(self, cin: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.bn1(x).relu())
        return torch.cat([x, self.conv2(self.bn2(y).relu())], 1)


class Transition(nn.Module):
    def __init__(self, cin: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(cin)
        self.conv = nn.Conv2d(cin, cin // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(self.bn(x).relu()))


class DenseNet(nn.Module):
    def __init__(
        self,
        layers: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: int = 64,
        cifar: bool = False,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.steps = nn.Sequential()
        if cifar:
            self.steps.append(nn.Conv2d(3, stem, 3, padding=1, bias=False))
        else:
            self.steps.append(conv_bn(3, stem, 7, 2, act=nn.ReLU()))
            self.steps.append(nn.MaxPool2d(3, 2, 1))
        c = stem
        for block, count in enumerate(layers):
            if block:
                self.steps.append(Transition(c))
                c //= 2
            for _ in range(count):
                self.steps.append(Layer(c, growth))
                c += growth
        self.bn = nn.BatchNorm2d(c)
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.bn(self.steps(x)).relu()))

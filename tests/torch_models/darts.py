# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""DARTS, Liu, Simonyan, Yang 2018: the networks of the derived cells V1 and V2, CIFAR and ImageNet form.

A cell reads inputs 0 (the cell before the last) and 1 (the last); nodes 2 to 5 each add two edges op(input);
output concat of the four. Tables below. In a reduction cell, edges from inputs 0 and 1 have stride 2.

| op      | definition                                                    |
|---------|---------------------------------------------------------------|
| max avg | pooling 3x3 p1 (average: padding not counted)                 |
| skip    | identity; with stride 2 a factorized reduce                   |
| sep3    | twice [ReLU, depthwise 3x3, 1x1, BN], the stride in the first |
| dil3    | ReLU, depthwise 3x3 dilation 2 p2, 1x1, BN                    |

Factorized reduce: ReLU; two stride-2 1x1 convolutions to C/2, the second on the input shifted by (1, 1);
concat; BN.
Each input enters a cell through ReLU-1x1-BN to C, input 0 through a factorized reduce if it has double size.
CIFAR: stem 3x3 to 3C, BN; 20 cells, C = 36. ImageNet: stem0 3x3 s2 to C/2, BN, ReLU, 3x3 s2 to C, BN; stem1
ReLU, 3x3 s2 to C, BN; 14 cells, C = 48. Reductions (C doubles) at cells L div 3 and 2L div 3. Global average;
FC. No auxiliary head.
Parameter order: stems, cells (input 0, input 1, edges in their order), fc.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import conv_bn, gap

Edges = list[tuple[str, int]]
V1_NORMAL: Edges = [
    ("sep3", 1), ("sep3", 0), ("skip", 0), ("sep3", 1), ("skip", 0), ("sep3", 1), ("sep3", 0), ("skip", 2)
]  # fmt: skip
V1_REDUCE: Edges = [
    ("max", 0), ("max", 1), ("skip", 2), ("max", 0), ("max", 0), ("skip", 2), ("skip", 2), ("avg", 0)
]  # fmt: skip
V2_NORMAL: Edges = [
    ("sep3", 0), ("sep3", 1), ("sep3", 0), ("sep3", 1), ("sep3", 1), ("skip", 0), ("skip", 0), ("dil3", 2)
]  # fmt: skip
V2_REDUCE: Edges = [
    ("max", 0), ("max", 1), ("skip", 2), ("max", 1), ("max", 0), ("skip", 2), ("skip", 2), ("max", 1)
]  # fmt: skip
CELLS = {"v1": (V1_NORMAL, V1_REDUCE), "v2": (V2_NORMAL, V2_REDUCE)}  # two edges for each of nodes 2, 3, 4, 5


class FactorizedReduce(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(cin, cout // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


def separable(c: int, stride: int, dilation: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(c, c, 3, stride, dilation, dilation, groups=c, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, conv_bn(c, c))


def operation(name: str, c: int, stride: int) -> nn.Module:
    if name == "skip":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c)
    if name == "max":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "dil3":
        return separable(c, stride, 2)
    return nn.Sequential(separable(c, stride), separable(c, 1))


class Cell(nn.Module):
    def __init__(self, edges: Edges, c0: int, c1: int, c: int, reduce: bool, reduce_before: bool) -> None:
        super().__init__()
        plain = nn.Sequential(nn.ReLU(), conv_bn(c0, c))
        self.input0 = FactorizedReduce(c0, c) if reduce_before else plain
        self.input1 = nn.Sequential(nn.ReLU(), conv_bn(c1, c))
        self.sources = [source for _, source in edges]
        self.edges = nn.ModuleList(operation(name, c, 2 if reduce and i < 2 else 1) for name, i in edges)

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        states = [self.input0(x0), self.input1(x1)]
        for k in range(0, len(self.edges), 2):
            a, b = (self.edges[j](states[self.sources[j]]) for j in (k, k + 1))
            states.append(a + b)
        return torch.cat(states[2:], 1)


class Darts(nn.Module):
    def __init__(self, net: str = "v2", imagenet: bool = False) -> None:
        super().__init__()
        c, cells, classes = (48, 14, 1000) if imagenet else (36, 20, 10)
        s0, s1 = conv_bn(3, c // 2, 3, 2, act=nn.ReLU()), conv_bn(c // 2, c, 3, 2)
        self.stem0 = nn.Sequential(s0, s1) if imagenet else conv_bn(3, 3 * c, 3)
        self.stem1 = nn.Sequential(nn.ReLU(), conv_bn(c, c, 3, 2)) if imagenet else nn.Identity()
        normal, reduction = CELLS[net]
        c0 = c1 = c if imagenet else 3 * c
        self.cells = nn.ModuleList()
        before = imagenet
        for i in range(cells):
            reduce = i in (cells // 3, 2 * cells // 3)
            c *= 2 if reduce else 1
            self.cells.append(Cell(reduction if reduce else normal, c0, c1, c, reduce, before))
            c0, c1, before = c1, 4 * c, reduce
        self.fc = nn.Linear(c1, classes)

    def forward(self, x: Tensor) -> Tensor:
        x0 = self.stem0(x)
        x1 = self.stem1(x0)
        for cell in self.cells:
            x0, x1 = x1, cell(x0, x1)
        return self.fc(gap(x1))

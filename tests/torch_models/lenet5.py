# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""LeNet-5, LeCun et al. 1998, figure 2 and table I: sparse C3, trainable subsampling, RBF output.

| layer | output   | definition                                                            | trainable |
|-------|----------|-----------------------------------------------------------------------|-----------|
| C1    | 6x28x28  | conv 5x5, bias                                                        |       156 |
| S2    | 6x14x14  | sum of each 2x2 window, times a coefficient, plus a bias, per map     |        12 |
| C3    | 16x10x10 | conv 5x5 over the maps of TABLE, bias                                 |     1,516 |
| S4    | 16x5x5   | as S2                                                                 |        32 |
| C5    | 120x1x1  | conv 5x5, bias                                                        |    48,120 |
| F6    | 84       | dense, bias                                                           |    10,164 |
| OUT   | 10       | rbf: y_i = sum_j (x_j - w_ij)^2, w fixed; or linear: dense 84 to 10   |         0 |

f(a) = 1.7159 tanh(2a / 3) after each layer but the last. Choices: the activation stands after S2 and S4 too
(as in the paper); C3 with a dense table and plain average pooling is the common modern variant.
Parameter order: c1, s2, c3 (one weight per run of maps with equally many inputs: (6,3,5,5), (9,4,5,5),
(1,6,5,5), then one bias of 16), s4, c5, f6, out (`out.weight`, (10, 84), is a buffer for rbf).
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.prepare_digits import read_bitmaps

TABLE = [
    [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 4, 5], [0, 1, 5],
    [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5],
    [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5],
    [0, 1, 2, 3, 4, 5],
]  # fmt: skip


class Squash(nn.Module):
    """1.7159 tanh(2a / 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsample(nn.Module):
    """Sum of each 2x2 window, stride 2, times a coefficient per map, plus a bias per map."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, x: Tensor) -> Tensor:
        sums = functional.avg_pool2d(x, 2, divisor_override=1)
        return sums * self.weight[:, None, None] + self.bias[:, None, None]


class Bias(nn.Module):
    """One number per map."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias[:, None, None]


class TableConv(nn.Module):
    """Output map o reads the input maps table[o]: planes gathered, a grouped conv per run of equal count."""

    def __init__(self, table: list[list[int]], kernel: int) -> None:
        super().__init__()
        runs = [list(run) for _, run in groupby(table, len)]
        self.planes = [[i for row in run for i in row] for run in runs]
        self.convs = nn.ModuleList(
            nn.Conv2d(len(r) * len(r[0]), len(r), kernel, groups=len(r), bias=False) for r in runs
        )
        self.add = Bias(len(table))

    def forward(self, x: Tensor) -> Tensor:
        maps = [conv(x[:, planes]) for conv, planes in zip(self.convs, self.planes, strict=True)]
        return self.add(torch.cat(maps, 1))


class Rbf(nn.Module):
    """Squared distance to each of ten fixed patterns."""

    weight: Tensor

    def __init__(self, patterns: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", patterns)

    def forward(self, x: Tensor) -> Tensor:
        return ((x[:, None, :] - self.weight) ** 2).sum(2)


def lenet5(output: str = "rbf", sparse: bool = True, average: bool = False) -> nn.Module:
    """`output` "rbf" or "linear"; C3 `sparse` by TABLE or dense; `average` pooling, or the trainable one."""
    net = nn.Sequential()
    net.add_module("c1", nn.Conv2d(1, 6, 5))
    net.add_module("f1", Squash())
    net.add_module("s2", nn.AvgPool2d(2) if average else Subsample(6))
    net.add_module("f2", Squash())
    net.add_module("c3", TableConv(TABLE, 5) if sparse else nn.Conv2d(6, 16, 5))
    net.add_module("f3", Squash())
    net.add_module("s4", nn.AvgPool2d(2) if average else Subsample(16))
    net.add_module("f4", Squash())
    net.add_module("c5", nn.Conv2d(16, 120, 5))
    net.add_module("f5", Squash())
    net.add_module("flatten", nn.Flatten())
    net.add_module("f6", nn.Linear(120, 84))
    net.add_module("f7", Squash())
    net.add_module("out", Rbf(torch.tensor(read_bitmaps())) if output == "rbf" else nn.Linear(84, 10))
    return net

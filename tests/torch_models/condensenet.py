# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""CondenseNet, Huang, Liu, van der Maaten, Weinberger 2018: test form (index, grouped 1x1) and training form.

| net               | stem        | layers per block | growth per block   |
|-------------------|-------------|------------------|--------------------|
| ImageNet 74       | 3x3 s2 to 16| 4, 6, 8, 10, 8   | 8, 16, 32, 64, 128 |
| CIFAR 6n + 2      | 3x3 to 16   | n, n, n          | 8, 16, 32          |
| CIFAR 182         | 3x3 to 24   | 30, 30, 30       | 12, 24, 48         |

The stem has no BN and no activation. Layer on R channels, growth k, groups G, condensation C:
test: gather R G / C channels by index, BN, ReLU, 1x1 with G groups to 4k, shuffle(G), BN, ReLU, 3x3 with G
groups to k;
training: BN, ReLU, 1x1 from R to 4k times a mask (output o belongs to group o mod G), then the same.
Output concat [input, new]. Between blocks average 2x2 s2 of everything. End: BN, ReLU, global average, FC
with bias, which reads half of the features by index in the test form and all of them in training.
Choice: the default index is drawn with a fixed seed (each group ascending); `index` of a layer and
`head.index` of the classifier are buffers to overwrite. CIFAR-182's stem has 2 k = 24 channels; all others 16
= 2 k too.
Parameter order: stem, layers (bn1, conv1, bn2, conv2), last bn, fc.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .common import gap, shuffle


def draw(count: int, out_of: int) -> list[int]:
    """`count` different channels out of `out_of`, ascending, always the same for the same arguments."""
    rng = torch.Generator(device="cpu").manual_seed(1009 * count + out_of)
    return sorted(torch.randperm(out_of, generator=rng, device="cpu")[:count].tolist())


class Gather(nn.Module):
    index: Tensor

    def __init__(self, index: list[int]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(index))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.index]


class LearnedConv(nn.Module):
    """Training form of the learned-group 1x1: all weights; a mask (G, R) of the inputs that are left."""

    mask: Tensor

    def __init__(self, cin: int, cout: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cout, cin, 1, 1) * cin**-0.5)
        self.register_buffer("mask", torch.ones(groups, cin))

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask.repeat(self.weight.shape[0] // len(self.mask), 1)  # row o is group o mod G
        return nn.functional.conv2d(x, self.weight * mask[:, :, None, None])


class Layer(nn.Module):
    def __init__(self, cin: int, growth: int, groups: int, condense: int, training_form: bool) -> None:
        super().__init__()
        mid = 4 * growth
        self.groups = 1 if training_form else groups
        kept = [i for g in range(groups) for i in draw(cin // condense, cin)]
        self.gather = nn.Identity() if training_form else Gather(kept)
        self.bn1 = nn.BatchNorm2d(cin if training_form else len(kept))
        self.conv1: nn.Module = LearnedConv(cin, mid, groups)
        if not training_form:
            self.conv1 = nn.Conv2d(len(kept), mid, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, growth, 3, padding=1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle(self.conv1(self.bn1(self.gather(x)).relu()), self.groups)
        return torch.cat([x, self.conv2(self.bn2(y).relu())], 1)


class CondenseNet(nn.Module):
    def __init__(
        self,
        layers: Sequence[int] = (4, 6, 8, 10, 8),
        growth: int = 8,
        groups: int = 4,
        condense: int = 4,
        cifar: bool = False,
        classes: int = 1000,
        training_form: bool = False,
    ) -> None:
        super().__init__()
        c = 2 * growth
        self.stem = nn.Conv2d(3, c, 3, 1 if cifar else 2, 1, bias=False)
        self.steps = nn.Sequential()
        for block, count in enumerate(layers):
            if block:
                self.steps.append(nn.AvgPool2d(2))
            for _ in range(count):
                self.steps.append(Layer(c, growth << block, groups, condense, training_form))
                c += growth << block
        self.bn = nn.BatchNorm2d(c)
        self.head = nn.Identity() if training_form else Gather(draw(c // 2, c))
        self.fc = nn.Linear(c if training_form else c // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.head(gap(self.bn(self.steps(self.stem(x))).relu())))


def condensenet_cifar(depth: int = 86, growth: int = 8) -> nn.Module:
    return CondenseNet([(depth - 2) // 6] * 3, growth, cifar=True, classes=10)

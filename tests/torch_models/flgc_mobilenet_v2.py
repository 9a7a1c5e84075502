# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""MobileNetV2 on CIFAR-10 with fully learnable group convolutions, Wang et al. 2019.

| t | c   | n | s (first) |
|---|-----|---|-----------|
| 1 | 16  | 1 | 1         |
| 6 | 24  | 2 | 1         |
| 6 | 32  | 3 | 2         |
| 6 | 64  | 4 | 2         |
| 6 | 96  | 3 | 1         |
| 6 | 160 | 3 | 2         |
| 6 | 320 | 1 | 1         |

Stem 3x3 s1 p1 to 32, BN, ReLU6; blocks; 1x1 to 1280, BN, ReLU6; global average; FC 10. Block: 1x1 to t I, BN,
ReLU6 (left out if t = 1); depthwise 3x3 s p1, BN, ReLU6; FLGC 1x1 to c, BN; add the input where s = 1,
through a 1x1-BN if the width changes.
FLGC with G groups: input i belongs to group s(i), filter o to t(o); the link (o, i) lives iff they are equal.
Groups may be uneven and empty; an output whose group has no input is zero. G = 1 is an ordinary convolution.
Choices (source: a public re-implementation): activations are MobileNetV2's ReLU6; selections are given by a
function (inputs, outputs, groups) ->
(s, t), evenly consecutive by default; the weight of group k is (|T_k|, |S_k|, 1, 1), channels ascending.
Parameter order: stem, blocks (expand, depthwise, project's groups in order, bn; then the shortcut), head, fc.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .common import conv_bn, gap

TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
Select = Callable[[int, int, int], tuple[list[int], list[int]]]


def evenly(inputs: int, outputs: int, groups: int) -> tuple[list[int], list[int]]:
    return [i * groups // inputs for i in range(inputs)], [o * groups // outputs for o in range(outputs)]


class Flgc(nn.Module):
    def __init__(self, cin: int, cout: int, groups: int, select: Select) -> None:
        super().__init__()
        s, t = select(cin, cout, groups)
        self.cout = cout
        members = [
            ([i for i in range(cin) if s[i] == k], [o for o in range(cout) if t[o] == k])
            for k in range(groups)
        ]
        self.members = [(sk, tk) for sk, tk in members if sk and tk]
        self.convs = nn.ModuleList(nn.Conv2d(len(sk), len(tk), 1, bias=False) for sk, tk in self.members)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], self.cout, *x.shape[2:])
        for conv, (sk, tk) in zip(self.convs, self.members, strict=True):
            y[:, tk] = conv(x[:, sk])
        return y


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, t: int, groups: int, select: Select) -> None:
        super().__init__()
        mid = cin * t
        self.add = stride == 1
        self.main = nn.Sequential()
        if t > 1:
            self.main.add_module("expand", conv_bn(cin, mid, act=nn.ReLU6()))
        self.main.add_module("depthwise", conv_bn(mid, mid, 3, stride, mid, nn.ReLU6()))
        self.main.add_module("project", Flgc(mid, cout, groups, select))
        self.main.add_module("bn", nn.BatchNorm2d(cout))
        self.shortcut = conv_bn(cin, cout) if self.add and cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x) if self.add else self.main(x)


class FlgcMobileNetV2(nn.Module):
    def __init__(self, groups: int = 8, select: Select = evenly) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32, 3, act=nn.ReLU6())
        self.blocks = nn.Sequential()
        c = 32
        for t, cout, n, s in TABLE:
            for i in range(n):
                self.blocks.append(Block(c, cout, 1 if i else s, t, groups, select))
                c = cout
        self.head = conv_bn(c, 1280, act=nn.ReLU6())
        self.fc = nn.Linear(1280, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.head(self.blocks(self.stem(x)))))


def random_select(seed: int) -> Select:
    """Uniform selections: uneven groups, some possibly empty."""
    rng = torch.Generator(device="cpu").manual_seed(seed)

    def select(inputs: int, outputs: int, groups: int) -> tuple[list[int], list[int]]:
        s = torch.randint(groups, (inputs,), generator=rng, device="cpu").tolist()
        return s, torch.randint(groups, (outputs,), generator=rng, device="cpu").tolist()

    return select

# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""BUnit-Net, stacked independent units: table II's CIFAR-10 toys, ResNet style, table I's MNIST networks.

Unit kinds c_in - c_h - c_out: A 1-2-1, B 1-2-2, C 1-2-3, D 2-1-2, E 2-1-1, F 3-2-1; two 3x3 p1 convolutions
without bias, BN and ReLU after both. A stacked layer is m units side by side on consecutive slices, no link
between them.

| network         | layers                                                                                  |
|-----------------|-----------------------------------------------------------------------------------------|
| toy             | 3x3 to in1, BN, ReLU; 20 units; max 2x2; 3x3 to in2, BN, ReLU; 20 units; flatten; FC 10 |
| ResNet 18 style | ResNet-18's stem, stages 1 and 4, head; in stages 2 and 3 the main branch of a block is |
|                 | I/2 units 2 - 4 - 2 O/I, stride in the first convolution; shortcut identity or 1x1-BN   |
| MNIST           | conv 5x5 p0 to 8; 8 units 1 - h - 1 [5x5 p1, BN, ReLU, max 5x5 s2, 5x5 p1, BN, ReLU];   |
|                 | max 5x5 s2; flatten; FC 10; all convolutions biased                                     |

Choices: units of a toy stand in the order A to F (the paper draws them; counts do not depend on it); one BN
spans all units of a layer, which is the same as one per unit.
Parameter order: as the table; a block's main branch before its shortcut.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .common import UnevenConv, conv_bn, gap
from .resnet import Block

KINDS = ((1, 2, 1), (1, 2, 2), (1, 2, 3), (2, 1, 2), (2, 1, 1), (3, 2, 1))
TOYS = [  # units of kind A to F in layer 1, in layer 2
    ((3, 3, 2, 3, 5, 4), (4, 7, 2, 0, 4, 3)),
    ((5, 5, 2, 2, 3, 3), (3, 4, 1, 4, 4, 4)),
    ((5, 3, 1, 3, 4, 4), (3, 4, 2, 3, 5, 3)),
    ((3, 4, 5, 2, 2, 4), (3, 1, 6, 3, 3, 4)),
    ((5, 4, 1, 2, 3, 5), (1, 6, 2, 6, 2, 3)),
    ((4, 6, 3, 3, 2, 2), (3, 3, 3, 3, 6, 2)),
    ((0, 4, 3, 3, 3, 7), (3, 3, 2, 4, 5, 3)),
    ((2, 2, 2, 3, 6, 5), (3, 5, 4, 1, 5, 2)),
    ((3, 2, 1, 3, 4, 7), (6, 4, 5, 1, 1, 3)),
    ((2, 6, 5, 2, 3, 2), (1, 2, 5, 3, 3, 6)),
]
STYLES = {18: (2, 2, 2, 2), 20: (3, 3, 3, 1), 34: (3, 4, 6, 3)}


class Stacked(nn.Sequential):
    """Units side by side; `stride` on the first convolution."""

    def __init__(self, units: Sequence[tuple[int, int, int]], stride: int = 1) -> None:
        hidden, out = sum(u[1] for u in units), sum(u[2] for u in units)
        super().__init__(
            UnevenConv([(i, h) for i, h, _ in units], 3, stride), nn.BatchNorm2d(hidden), nn.ReLU(),
            UnevenConv([(h, o) for _, h, o in units], 3), nn.BatchNorm2d(out), nn.ReLU(),
        )  # fmt: skip


def bunit_toy(number: int = 1) -> nn.Module:
    """Toy `number`, 1 to 10, of table II; input 3x32x32."""
    net = nn.Sequential()
    c = 3
    for layer, counts in enumerate(TOYS[number - 1]):
        units = [kind for kind, n in zip(KINDS, counts, strict=True) for _ in range(n)]
        cin = sum(u[0] for u in units)
        net.add_module(f"normal{layer + 1}", conv_bn(c, cin, 3, act=nn.ReLU()))
        net.add_module(f"stacked{layer + 1}", Stacked(units))
        c = sum(u[2] for u in units)
        if layer == 0:
            net.add_module("pool", nn.MaxPool2d(2))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(c * 16 * 16, 10))
    return net


class UnitBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.main = Stacked([(2, 4, 2 * cout // cin)] * (cin // 2), stride)
        self.shortcut = nn.Identity() if cin == cout else conv_bn(cin, cout, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.shortcut(x)).relu()


class BunitResNet(nn.Module):
    def __init__(self, style: int = 18, classes: int = 1000) -> None:
        super().__init__()
        self.stem = conv_bn(3, 64, 7, 2, act=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential()
        c = 64
        for stage, count in enumerate(STYLES[style]):
            kind = UnitBlock if stage in (1, 2) else Block
            for i in range(count):
                self.blocks.append(kind(c, 64 << stage, 2 if stage and not i else 1))
                c = 64 << stage
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.blocks(self.pool(self.stem(x)))))


def bunit_mnist(hidden: int = 2) -> nn.Module:
    """`hidden` 2, 3 or 4; input 1x28x28."""
    h = 8 * hidden
    return nn.Sequential(
        nn.Conv2d(1, 8, 5),
        nn.Conv2d(8, h, 5, padding=1, groups=8), nn.BatchNorm2d(h), nn.ReLU(), nn.MaxPool2d(5, 2),
        nn.Conv2d(h, 8, 5, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(5, 2),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip

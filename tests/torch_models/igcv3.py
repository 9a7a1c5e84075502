# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""IGCV3-D, Sun, Li, Liu, Wang 2018, as in the authors' exported graph.

| t | 1  | 6  | 6  | 6  | 6  | 6   | 6   |
|---|----|----|----|----|----|-----|-----|
| c | 16 | 24 | 32 | 64 | 96 | 160 | 320 |
| n | 1  | 4  | 6  | 8  | 6  | 6   | 1   |
| s | 1  | 2  | 2  | 2  | 1  | 2   | 1   |

Stem 3x3 s2 p1 to 32, BN, ReLU6; blocks; 1x1 to 1280, BN, ReLU6 (dense); global average; FC.
Block: 1x1 g2 to t I, BN (no activation); shuffle(2); depthwise 3x3 s p1, BN, ReLU6; 1x1 g2 to c, BN; add the
input in every block but the first of a stage. Choices: exactly one permutation per block (the authors' code,
not the second one of popular re-implementations); widths: rounded to the nearest integer, plus one if odd;
the head keeps 1280.
Parameter order: stem, blocks (expand, depthwise, project; conv then bn), head, fc.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import conv_bn, gap, shuffle

TABLE = [
    (1, 16, 1, 1),
    (6, 24, 4, 2),
    (6, 32, 6, 2),
    (6, 64, 8, 2),
    (6, 96, 6, 1),
    (6, 160, 6, 2),
    (6, 320, 1, 1),
]


def even(value: float) -> int:
    """Nearest integer (halves up), then up to the next even one."""
    rounded = int(value + 0.5)
    return rounded + rounded % 2


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, t: int, first: bool) -> None:
        super().__init__()
        mid = cin * t
        self.add = not first
        self.expand = conv_bn(cin, mid, groups=2)
        self.depthwise = conv_bn(mid, mid, 3, stride, mid, nn.ReLU6())
        self.project = conv_bn(mid, cout, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(shuffle(self.expand(x), 2)))
        return x + y if self.add else y


class Igcv3(nn.Module):
    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c = even(32 * width)
        self.stem = conv_bn(3, c, 3, 2, act=nn.ReLU6())
        self.blocks = nn.Sequential()
        for t, out, n, s in TABLE:
            cout = even(out * width)
            for i in range(n):
                self.blocks.append(Block(c, cout, 1 if i else s, t, i == 0))
                c = cout
        self.head = conv_bn(c, 1280, act=nn.ReLU6())
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.head(self.blocks(self.stem(x)))))

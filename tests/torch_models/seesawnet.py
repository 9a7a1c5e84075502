# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""SeesawNet (Seesaw-shuffleNet), Zhang 2019, as in the authors' repository: uneven group convolutions.

| t           | 1  | 6  | 6  | 6  | 6  | 6   | 6   |
|-------------|----|----|----|----|----|-----|-----|
| c           | 16 | 24 | 32 | 64 | 96 | 160 | 320 |
| n of "1.0D" | 1  | 4  | 6  | 8  | 6  | 6   | 1   |
| n of "0.5D" | 1  | 2  | 3  | 4  | 3  | 3   | 1   |
| s           | 1  | 2  | 2  | 2  | 1  | 2   | 1   |

Stem 3x3 s2 p1 to 32, BN, ReLU6; blocks; 1x1 to 1280, BN, ReLU6; global average; FC.
Block: uneven 1x1 to t I, BN over the concatenation; shuffle(2); depthwise 3x3 s p1, BN, ReLU6; uneven 1x1 to
c, BN; add iff s = 1 and I = c. Uneven: the first quarter of the inputs feeds the first quarter of the
outputs, the other three quarters the rest; if I >= 160 both 1x1s have two even groups instead. CIFAR form
(`cifar`): strides of stem, stage 2 and stage 6 are 1.
Parameter order: stem, blocks (expand's parts, bn; depthwise conv, bn; project's parts, bn), head, fc.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import UnevenConv, conv_bn, gap, shuffle

COUNTS = {"1.0D": (1, 4, 6, 8, 6, 6, 1), "0.5D": (1, 2, 3, 4, 3, 3, 1)}
TABLE = [(1, 16, 1), (6, 24, 2), (6, 32, 2), (6, 64, 2), (6, 96, 1), (6, 160, 2), (6, 320, 1)]
CIFAR_STRIDES = (1, 1, 2, 2, 1, 1, 1)


def pointwise(cin: int, cout: int, even: bool) -> UnevenConv:
    if even:
        return UnevenConv([(cin // 2, cout // 2)] * 2)
    return UnevenConv([(cin // 4, cout // 4), (cin - cin // 4, cout - cout // 4)])


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, t: int) -> None:
        super().__init__()
        mid = cin * t
        self.add = stride == 1 and cin == cout
        self.expand = nn.Sequential(pointwise(cin, mid, cin >= 160), nn.BatchNorm2d(mid))
        self.depthwise = conv_bn(mid, mid, 3, stride, mid, nn.ReLU6())
        self.project = nn.Sequential(pointwise(mid, cout, cin >= 160), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(shuffle(self.expand(x), 2)))
        return x + y if self.add else y


class SeesawNet(nn.Module):
    def __init__(self, depth: str = "1.0D", cifar: bool = False, classes: int = 1000) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 1 if cifar else 2, act=nn.ReLU6())
        self.blocks = nn.Sequential()
        c = 32
        for stage, (t, cout, s) in enumerate(TABLE):
            for i in range(COUNTS[depth][stage]):
                first = CIFAR_STRIDES[stage] if cifar else s
                self.blocks.append(Block(c, cout, 1 if i else first, t))
                c = cout
        self.head = conv_bn(c, 1280, act=nn.ReLU6())
        self.fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.head(self.blocks(self.stem(x)))))

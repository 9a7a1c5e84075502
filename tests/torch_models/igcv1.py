# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""IGCV1, Zhang, Qi, Xiao, Wang 2017: interleaved group convolutions; the networks of the authors' graphs.

IGC(I to O, L, s): primary k x k conv with L groups, shuffle(L), secondary 1x1 conv with O/L groups of L
channels, shuffle(O/L) back, BN (eps 2e-5; none between the two convolutions).

| net     | stem | stage widths       | L per stage          |
|---------|------|--------------------|----------------------|
| L4M32   | 128  | 128 256 512 1024   | 4 4 4 4              |
| L16M16  | 256  | 256 512 1024 2048  | 16 16 16 16          |
| L100M2  | 100  | 200 400 800 1600   | 100 200 400 800      |

Stem 7x7 s2 p3, BN, ReLU, max 3x3 s2 p1; four stages of two blocks [IGC(s)-ReLU-IGC, plus shortcut, ReLU], s =
2 in the first block of stages 2 to 4; shortcut where the width changes: 1x1 grouped by L, stride s, BN.
Global average, FC.
CIFAR plain form: conv 3x3 to L M, BN, ReLU; three stages of (D - 2)/3 IGC-ReLU with widths L M, 2 L M, 4 L M,
L fixed, stride 2 where the width changes; global average; FC.
Parameter order: stem, blocks (main: primary, secondary, bn, twice; then the projection), fc.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import conv_bn, gap, shuffle

EPS = 2e-5
TABLE = {
    "L4M32": (128, (128, 256, 512, 1024), (4, 4, 4, 4)),
    "L16M16": (256, (256, 512, 1024, 2048), (16, 16, 16, 16)),
    "L100M2": (100, (200, 400, 800, 1600), (100, 200, 400, 800)),
}


class Igc(nn.Module):
    def __init__(self, cin: int, cout: int, parts: int, stride: int) -> None:
        super().__init__()
        self.parts, self.back = parts, cout // parts
        self.primary = nn.Conv2d(cin, cout, 3, stride, 1, groups=parts, bias=False)
        self.secondary = nn.Conv2d(cout, cout, 1, groups=self.back, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.secondary(shuffle(self.primary(x), self.parts))
        return self.bn(shuffle(x, self.back))


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, parts: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(Igc(cin, cout, parts, stride), nn.ReLU(), Igc(cout, cout, parts, 1))
        same = cin == cout
        self.shortcut = nn.Identity() if same else conv_bn(cin, cout, 1, stride, parts, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.shortcut(x)).relu()


class Igcv1(nn.Module):
    def __init__(self, net: str = "L100M2") -> None:
        super().__init__()
        c, widths, parts = TABLE[net]
        self.stem = conv_bn(3, c, 7, 2, act=nn.ReLU(), eps=EPS)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential()
        for stage, (cout, part) in enumerate(zip(widths, parts, strict=True)):
            self.blocks.append(Block(c, cout, part, 2 if stage else 1))
            self.blocks.append(Block(cout, cout, part, 1))
            c = cout
        self.fc = nn.Linear(c, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.blocks(self.pool(self.stem(x)))))


class Igcv1Cifar(nn.Module):
    def __init__(self, parts: int = 24, size: int = 2, depth: int = 20, classes: int = 10) -> None:
        super().__init__()
        c = parts * size
        self.stem = conv_bn(3, c, 3, act=nn.ReLU(), eps=EPS)
        self.blocks = nn.Sequential()
        for stage in range(3):
            cout = parts * size << stage
            for _ in range((depth - 2) // 3):
                self.blocks.append(Igc(c, cout, parts, 1 if c == cout else 2))
                self.blocks.append(nn.ReLU())
                c = cout
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(gap(self.blocks(self.stem(x))))

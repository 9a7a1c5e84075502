# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""MobileNetV2, Sandler et al. 2018, table 2.

| t | c   | n | s (first) |
|---|-----|---|-----------|
| 1 | 16  | 1 | 1         |
| 6 | 24  | 2 | 2         |
| 6 | 32  | 3 | 2         |
| 6 | 64  | 4 | 2         |
| 6 | 96  | 3 | 1         |
| 6 | 160 | 3 | 2         |
| 6 | 320 | 1 | 1         |

Stem 3x3 s2 p1 to 32, BN, ReLU6; inverted residuals; 1x1 to 1280, BN, ReLU6; global average; (dropout;) FC
with bias.
Block: 1x1 to t I, BN, ReLU6 (left out if t = 1); depthwise 3x3 s p1, BN, ReLU6; 1x1 to c, BN; add iff s = 1
and I = c. Widths by the divisible-by-8 rule; the head is 1280 for width <= 1, else rounded 1280 width.
`plain=True` is another public implementation: widths truncated, the first block expands too (32 to 32), FC
without bias.
Parameter order: stem, blocks (expand, depthwise, project; conv then bn), head, fc.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import conv_bn, divisible, gap

TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


class InvertedResidual(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, t: int, expand: bool) -> None:
        super().__init__()
        mid = cin * t
        self.add = stride == 1 and cin == cout
        self.main = nn.Sequential()
        if expand:
            self.main.add_module("expand", conv_bn(cin, mid, act=nn.ReLU6()))
        self.main.add_module("depthwise", conv_bn(mid, mid, 3, stride, mid, nn.ReLU6()))
        self.main.add_module("project", conv_bn(mid, cout))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.add else self.main(x)


class MobileNetV2(nn.Module):
    def __init__(self, width: float = 1.0, plain: bool = False) -> None:
        super().__init__()
        rounded = int if plain else divisible
        c = rounded(32 * width)
        self.stem = conv_bn(3, c, 3, 2, act=nn.ReLU6())
        self.blocks = nn.ModuleList()
        for t, out, n, s in TABLE:
            cout = rounded(out * width)
            for i in range(n):
                self.blocks.append(InvertedResidual(c, cout, 1 if i else s, t, t > 1 or plain))
                c = cout
        last = rounded(1280 * max(width, 1.0))
        self.head = conv_bn(c, last, act=nn.ReLU6())
        self.fc = nn.Linear(last, 1000, bias=not plain)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(gap(self.head(x)))

# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""ShuffleNetV1, Zhang et al. 2017, table 1 and figure 2.

| groups | stage 2 | stage 3 | stage 4 |
|--------|---------|---------|---------|
| 1      | 144     | 288     | 576     |
| 2      | 200     | 400     | 800     |
| 3      | 240     | 480     | 960     |
| 4      | 272     | 544     | 1088    |
| 8      | 384     | 768     | 1536    |

Stem 3x3 s2 p1 to 24, BN, ReLU; max 3x3 s2 p1; stages of 4, 8, 4 units (the first with s = 2); global average;
FC.
Unit I to O, mid = O/4: 1x1 g (dense in the very first unit), BN, ReLU; shuffle(g); depthwise 3x3 s p1, BN;
1x1 g to O (s = 1) or O - I (s = 2), BN; s = 1: add the input, ReLU; s = 2: concat [average 3x3 s2 p1 of the
input, divisor always 9; main], ReLU.
Choices: the paper's permutation, before the depthwise; pool first in the concat; FC with bias (`bias=False`
for the authors' released models). `width` scales stages and stem; `stem` overrides the stem.
Parameter order: stem, units (compress, depthwise, expand; conv then bn), fc.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .common import conv_bn, gap, shuffle

STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
UNITS = (4, 8, 4)


class Unit(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, groups: int, first: bool) -> None:
        super().__init__()
        mid = cout // 4
        self.groups = groups
        self.stride = stride
        self.compress = conv_bn(cin, mid, 1, groups=1 if first else groups, act=nn.ReLU())
        self.depthwise = conv_bn(mid, mid, 3, stride, mid)
        self.expand = conv_bn(mid, cout if stride == 1 else cout - cin, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(shuffle(self.compress(x), self.groups)))
        if self.stride == 1:
            return (x + y).relu()
        return torch.cat([functional.avg_pool2d(x, 3, 2, 1), y], 1).relu()


class ShuffleNetV1(nn.Module):
    def __init__(
        self, groups: int = 3, width: float = 1.0, stem: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        c = int(24 * width) if stem is None else stem
        self.stem = conv_bn(3, c, 3, 2, act=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.units = nn.ModuleList()
        for stage, count in enumerate(UNITS):
            cout = int(STAGE2[groups] * width) << stage
            for i in range(count):
                self.units.append(Unit(c, cout, 1 if i else 2, groups, stage == 0 and i == 0))
                c = cout
        self.fc = nn.Linear(c, 1000, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        for unit in self.units:
            x = unit(x)
        return self.fc(gap(x))

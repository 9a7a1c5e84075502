# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""ShuffleNetV2, Ma et al. 2018, table 5 and figure 3, with torchvision's unit and coding or the authors'.

| width | stage 2, 3, 4 | conv5 |
|-------|---------------|-------|
| 0.5   | 48, 96, 192   | 1024  |
| 1.0   | 116, 232, 464 | 1024  |
| 1.5   | 176, 352, 704 | 1024  |
| 2.0   | 244, 488, 976 | 2048  |

Stem 3x3 s2 p1 to 24, BN, ReLU; max 3x3 s2 p1; stages of 4, 8, 4 units; 1x1 to conv5, BN, ReLU; global
average; FC.
Basic unit on c channels: one half stays; the other: 1x1-BN-ReLU-depthwise 3x3-BN-1x1-BN-ReLU; concat [stays,
branch].
Down-sampling unit I to O: shortcut: depthwise s2-BN-1x1-BN-ReLU; main: 1x1-BN-ReLU-depthwise
s2-BN-1x1-BN-ReLU; concat [shortcut, main].

| `unit`        | shortcut's 1x1 | main's last 1x1 | how halves meet                               | FC bias |
|---------------|----------------|-----------------|-----------------------------------------------|---------|
| "torchvision" | I to O/2       | O/2 to O/2      | shuffle(2) after every unit, first half stays | yes     |
| "authors"     | I to I         | O/2 to O - I    | no shuffle; basic units keep even channels    | no      |

`coding` overrides the column "how halves meet" only. In the authors' coding a down-sampling unit and conv5
read the concatenation as it is. Parameter order: stem, units (shortcut first, then main; conv then bn),
conv5, fc.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import conv_bn, gap, shuffle

WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
UNITS = (4, 8, 4)


class Unit(nn.Module):
    def __init__(self, cin: int, cout: int, down: bool, unit: str, coding: str) -> None:
        super().__init__()
        self.down = down
        self.authors = coding == "authors"
        half, stride = cout // 2, 2 if down else 1
        kept = cin if unit == "authors" and down else half
        if down:
            self.shortcut = nn.Sequential(conv_bn(cin, cin, 3, 2, cin), conv_bn(cin, kept, act=nn.ReLU()))
        self.main = nn.Sequential(
            conv_bn(cin if down else half, half, act=nn.ReLU()),
            conv_bn(half, half, 3, stride, half),
            conv_bn(half, cout - kept, act=nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            stays, branch = self.shortcut(x), x
        elif self.authors:
            stays, branch = x[:, 0::2], x[:, 1::2]
        else:
            stays, branch = x.chunk(2, 1)
        y = torch.cat([stays, self.main(branch)], 1)
        return y if self.authors else shuffle(y, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, width: float = 1.0, unit: str = "torchvision", coding: str | None = None) -> None:
        super().__init__()
        *stages, last = WIDTHS[width]
        self.stem = conv_bn(3, 24, 3, 2, act=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.units = nn.ModuleList()
        c = 24
        for cout, count in zip(stages, UNITS, strict=True):
            for i in range(count):
                self.units.append(Unit(c, cout, i == 0, unit, coding or unit))
                c = cout
        self.conv5 = conv_bn(c, last, act=nn.ReLU())
        self.fc = nn.Linear(last, 1000, bias=unit == "torchvision")

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        for unit in self.units:
            x = unit(x)
        return self.fc(gap(self.conv5(x)))

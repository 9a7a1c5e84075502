"""SqueezeNet 1.0 and 1.1, Iandola et al. 2016, table 1, and the authors' repository for 1.1.

Fire(s, e1, e3): 1x1 to s, ReLU; in parallel 1x1 to e1 and 3x3 to e3, ReLU each; concat [e1, e3]. All biased,
no BN. e1 = e3 everywhere. "M" is a 3x3 max pooling, stride 2, no padding, ceil mode.

| version | stem           | then                                                            |
|---------|----------------|-----------------------------------------------------------------|
| 1.0     | 7x7 s2, 96     | M, 16/64 x2, 32/128, M, 32/128, 48/192 x2, 64/256, M, 64/256    |
| 1.1     | 3x3 s2, 64     | M, 16/64 x2, M, 32/128 x2, M, 48/192 x2, 64/256 x2              |

Head: (dropout,) 1x1 to 1000 with bias, ReLU, global average.
Parameter order: stem, fires in order (squeeze, expand1, expand3; weight then bias), head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import gap

M = (0, 0)
TABLE = {
    "1.0": [M, (16, 64), (16, 64), (32, 128), M, (32, 128), (48, 192), (48, 192), (64, 256), M, (64, 256)],
    "1.1": [M, (16, 64), (16, 64), M, (32, 128), (32, 128), M, (48, 192), (48, 192), (64, 256), (64, 256)],
}
STEM = {"1.0": (7, 96), "1.1": (3, 64)}


class Fire(nn.Module):
    def __init__(self, cin: int, s: int, e: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, s, 1)
        self.expand1 = nn.Conv2d(s, e, 1)
        self.expand3 = nn.Conv2d(s, e, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1(x).relu(), self.expand3(x).relu()], 1)


class SqueezeNet(nn.Module):
    def __init__(self, version: str = "1.1") -> None:
        super().__init__()
        kernel, c = STEM[version]
        self.stem = nn.Conv2d(3, c, kernel, 2)
        self.steps = nn.ModuleList()
        for s, e in TABLE[version]:
            self.steps.append(Fire(c, s, e) if s else nn.MaxPool2d(3, 2, ceil_mode=True))
            c = 2 * e if s else c
        self.head = nn.Conv2d(c, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for step in self.steps:
            x = step(x)
        return gap(self.head(x).relu())

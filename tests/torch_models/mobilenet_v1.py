# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""MobileNetV1, Howard et al. 2017, table 1; AMC's pruned widths (He et al. 2018); IGCV2, our definition.

Stem 3x3 s2 p1 to 32, BN, ReLU; 13 units [depthwise 3x3 (s, p1)-BN-act-1x1-BN-act]; global average; FC with
bias.

| unit | 1  | 2   | 3   | 4   | 5   | 6   | 7   | 8   | 9   | 10  | 11  | 12   | 13   |
|------|----|-----|-----|-----|-----|-----|-----|-----|-----|-----|-----|------|------|
| out  | 64 | 128 | 128 | 256 | 256 | 512 | 512 | 512 | 512 | 512 | 512 | 1024 | 1024 |
| s    | 1  | 2   | 1   | 2   | 1   | 2   | 1   | 1   | 1   | 1   | 1   | 2    | 1    |
| AMC  | 48 | 96  | 80  | 192 | 200 | 328 | 352 | 368 | 360 | 328 | 400 | 736  | 752  |

Choices: ReLU as in the paper (`relu6=True` for TensorFlow's and timm's); width rounding max(floor(c width),
8); AMC's stem is 24. IGCV2 (ours): each 1x1 from I to O becomes 1x1 with K1 inputs per group, shuffle(I /
K1), 1x1 with K2 = I / K1 inputs per group, shuffle(K1) if K1 divides O; K1 the largest divisor of I not above
its square root.
Parameter order: stem, units (depthwise conv and bn, pointwise conv and bn), fc.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .common import conv_bn, gap, shuffle

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
AMC = (48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752)


class Unit(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.depthwise = conv_bn(cin, cin, 3, stride, cin, act())
        self.pointwise = conv_bn(cin, cout, 1, act=act())

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class InterleavedUnit(nn.Module):
    """IGCV2's unit: the pointwise convolution is a product of two sparse factors."""

    def __init__(self, cin: int, cout: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.k1 = max(d for d in range(1, cin + 1) if cin % d == 0 and d * d <= cin)
        self.groups1 = cin // self.k1
        self.depthwise = conv_bn(cin, cin, 3, stride, cin, act())
        self.factor1 = nn.Conv2d(cin, cin, 1, groups=self.groups1, bias=False)
        self.factor2 = nn.Conv2d(cin, cout, 1, groups=self.k1, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        x = shuffle(self.factor1(self.depthwise(x)), self.groups1)
        x = self.factor2(x)
        return self.act(self.bn(shuffle(x, self.k1) if x.shape[1] % self.k1 == 0 else x))


class MobileNetV1(nn.Module):
    def __init__(
        self,
        width: float = 1.0,
        relu6: bool = False,
        widths: Sequence[int] = WIDTHS,
        stem: int = 32,
        unit: type[Unit | InterleavedUnit] = Unit,
    ) -> None:
        super().__init__()
        act = nn.ReLU6 if relu6 else nn.ReLU
        c = max(int(stem * width), 8)
        self.stem = conv_bn(3, c, 3, 2, act=act())
        self.units = nn.ModuleList()
        for out, s in zip(widths, STRIDES, strict=True):
            cout = max(int(out * width), 8)
            self.units.append(unit(c, cout, s, act))
            c = cout
        self.fc = nn.Linear(c, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for unit in self.units:
            x = unit(x)
        return self.fc(gap(x))


def mobilenet_v1_amc() -> nn.Module:
    return MobileNetV1(widths=AMC, stem=24)


def igcv2(width: float = 1.0) -> nn.Module:
    return MobileNetV1(width, unit=InterleavedUnit)

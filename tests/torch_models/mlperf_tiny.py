# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""MLPerf Tiny's four networks, from the benchmark's own Keras definitions (Banbury et al. 2021).

| network          | input   | definition                                                                 |
|------------------|---------|----------------------------------------------------------------------------|
| ds_cnn           | 1x49x10 | conv 10x4 s2 to 64; 4 x [depthwise 3x3; 1x1 to 64] at 25x5; average; FC 12 |
| mobilenet_v1_vww | 3x96x96 | MobileNetV1 of width 0.25 (stem 8), ReLU; average 3x3; FC 2                |
| resnet8_cifar    | 3x32x32 | conv 3x3 to 16; basic blocks 16, 32, 64 (s 1, 2, 2); average 8x8; FC 10    |
| autoencoder      | 640     | dense 128 x 4, 8, 128 x 4, each BN, ReLU; dense 640                        |

Every convolution and dense layer is biased; BN (eps 1e-3) and ReLU follow every convolution; TensorFlow's
SAME padding throughout; softmax at the end except in the autoencoder. The shortcut of resnet8's last two
blocks is a biased 1x1 s2 without BN; each block ends add, ReLU (no ReLU before the add).
Parameter order: as the table, conv then bn; in a block the main branch, then the shortcut.
"""

from __future__ import annotations

from torch import Tensor, nn

from .common import SameConv2d

VWW = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]


def step(
    cin: int, cout: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    conv = SameConv2d(cin, cout, kernel, stride, groups=groups)
    net = nn.Sequential(conv, nn.BatchNorm2d(cout, eps=1e-3))
    return net.append(nn.ReLU()) if relu else net


def head(c: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes), nn.Softmax(1))


def ds_cnn() -> nn.Module:
    net = nn.Sequential(step(1, 64, (10, 4), 2))
    for _ in range(4):
        net.append(step(64, 64, 3, groups=64))
        net.append(step(64, 64, 1))
    return net.append(head(64, 12))


def mobilenet_v1_vww() -> nn.Module:
    net = nn.Sequential(step(3, 8, 3, 2))
    c = 8
    for out, s in VWW:
        net.append(step(c, c, 3, s, groups=c))
        net.append(step(c, out, 1))
        c = out
    return net.append(head(c, 2))


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(step(cin, cout, 3, stride), step(cout, cout, 3, relu=False))
        self.shortcut = nn.Identity() if stride == 1 else SameConv2d(cin, cout, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.shortcut(x)).relu()


def resnet8_cifar(base: int = 16) -> nn.Module:
    """`base` is the width of stem and blocks 1; the benchmark's figures are for 16, 32, 64."""
    return nn.Sequential(
        step(3, base, 3),
        Block(base, base, 1),
        Block(base, 2 * base, 2),
        Block(2 * base, 4 * base, 2),
        head(4 * base, 10),
    )


def autoencoder() -> nn.Module:
    net = nn.Sequential()
    c = 640
    for out in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        net.append(nn.Sequential(nn.Linear(c, out), nn.BatchNorm1d(out, eps=1e-3), nn.ReLU()))
        c = out
    return net.append(nn.Linear(c, 640))

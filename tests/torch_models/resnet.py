# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""ResNet, He et al. 2015, table 1 and section 4.2; ResNeXt, Xie et al. 2016, form C of figure 3.

Stem 7x7 s2 p3, BN, ReLU; max 3x3 s2 p1; four stages of base widths 64, 128, 256, 512, stride 2 in the first
block of stages 2 to 4; global average; FC.

| net            | block      | blocks per stage |
|----------------|------------|------------------|
| 18, 34         | basic      | 2,2,2,2; 3,4,6,3 |
| 50, 101, 152   | bottleneck | 3,4,6,3; 3,4,23,3; 3,8,36,3 |
| CIFAR 6n+2     | basic      | n,n,n at 16, 32, 64; stem 3x3 to 16, no pooling |

basic: 3x3(s)-BN-ReLU-3x3-BN, add, ReLU. Bottleneck: 1x1-BN-ReLU-3x3(s, groups)-BN-ReLU-1x1(4n)-BN, add, ReLU.
Choices: the stride stands in the 3x3 of the bottleneck; every change of shape has a 1x1(s)-BN projection,
CIFAR too.
Parameter order: stem, blocks in order (main branch first, then the projection), fc.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .common import conv_bn, gap

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Block(nn.Module):
    """`width` is the inner width of a bottleneck; None makes a basic block."""

    def __init__(self, cin: int, cout: int, stride: int, width: int | None = None, groups: int = 1) -> None:
        super().__init__()
        if width is None:
            self.main = nn.Sequential(conv_bn(cin, cout, 3, stride, act=nn.ReLU()), conv_bn(cout, cout, 3))
        else:
            self.main = nn.Sequential(
                conv_bn(cin, width, 1, act=nn.ReLU()),
                conv_bn(width, width, 3, stride, groups, nn.ReLU()),
                conv_bn(width, cout, 1),
            )
        same = stride == 1 and cin == cout
        self.shortcut = nn.Identity() if same else conv_bn(cin, cout, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.shortcut(x)).relu()


class ResNet(nn.Module):
    def __init__(
        self,
        blocks: Sequence[int],
        bottleneck: bool = False,
        base: int = 64,
        cifar: bool = False,
        classes: int = 1000,
        groups: int = 1,
        group_width: int = 64,
    ) -> None:
        super().__init__()
        self.stem = conv_bn(3, base, 3 if cifar else 7, 1 if cifar else 2, act=nn.ReLU())
        self.pool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.ModuleList()
        c = base
        for stage, count in enumerate(blocks):
            n = base << stage
            cout = 4 * n if bottleneck else n
            width = n * group_width // 64 * groups if bottleneck else None
            for i in range(count):
                self.blocks.append(Block(c, cout, 2 if stage and not i else 1, width, groups))
                c = cout
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(gap(x))


def resnet(depth: int = 18, base: int = 64, classes: int = 1000) -> nn.Module:
    return ResNet(DEPTHS[depth], depth >= 50, base, classes=classes)


def resnet_plain_3331(classes: int = 1000) -> nn.Module:
    """The dense network that BUnit-Net calls ResNet-20: ImageNet stem, basic blocks 3,3,3,1."""
    return ResNet((3, 3, 3, 1), classes=classes)


def resnet_cifar(depth: int = 20, classes: int = 10) -> nn.Module:
    return ResNet([(depth - 2) // 6] * 3, base=16, cifar=True, classes=classes)


def resnext(depth: int = 50, groups: int = 32, group_width: int = 4) -> nn.Module:
    return ResNet(DEPTHS[depth], True, groups=groups, group_width=group_width)


def resnext29_cifar(groups: int = 32, group_width: int = 4, classes: int = 10) -> nn.Module:
    return ResNet((3, 3, 3), True, cifar=True, classes=classes, groups=groups, group_width=group_width)

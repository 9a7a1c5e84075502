"""AlexNet with two groups, Krizhevsky, Sutskever, Hinton 2012, section 3.5.

| layer      | definition                                        | output    | params       |
|------------|---------------------------------------------------|-----------|--------------|
| conv1      | 96, 11x11, s4, p0; ReLU; LRN; max 3x3 s2          | 96x27x27  |       34,944 |
| conv2      | 256, 5x5, p2, g2; ReLU; LRN; max 3x3 s2           | 256x13x13 |      307,456 |
| conv3      | 384, 3x3, p1; ReLU                                | 384x13x13 |      885,120 |
| conv4      | 384, 3x3, p1, g2; ReLU                            | 384x13x13 |      663,936 |
| conv5      | 256, 3x3, p1, g2; ReLU; max 3x3 s2                | 256x6x6   |      442,624 |
| fc6 fc7    | 4096, ReLU (dropout 0.5 in training)              | 4096      | 54.5 million |
| fc8        | 1000                                              | 1000      |    4,097,000 |

Input 3x227x227. Choices: LRN with alpha divided by the window size and k = 1 (Caffe's and PyTorch's
convention), after ReLU and before pooling; dropout is left out (identity at test time). `tower=True` is the
later single-tower network (64, 192, 384, 256, 256; no groups, no LRN, conv1 padded by 2, input 224).
Parameter order: as the table, each weight then bias.
"""

from __future__ import annotations

from torch import nn


def alexnet(groups: int = 2, tower: bool = False, ceil: bool = False) -> nn.Module:
    """`ceil` rounds the pooled size up, which only matters for inputs other than 227."""
    c1, c2, c3, c4 = (64, 192, 384, 256) if tower else (96, 256, 384, 384)
    g = 1 if tower else groups

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=ceil)

    def lrn() -> nn.Module:
        return nn.Identity() if tower else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(3, c1, 11, 4, 2 if tower else 0))
    net.add_module("step1", nn.Sequential(nn.ReLU(), lrn(), pool()))
    net.add_module("conv2", nn.Conv2d(c1, c2, 5, padding=2, groups=g))
    net.add_module("step2", nn.Sequential(nn.ReLU(), lrn(), pool()))
    net.add_module("conv3", nn.Conv2d(c2, c3, 3, padding=1))
    net.add_module("step3", nn.ReLU())
    net.add_module("conv4", nn.Conv2d(c3, c4, 3, padding=1, groups=g))
    net.add_module("step4", nn.ReLU())
    net.add_module("conv5", nn.Conv2d(c4, 256, 3, padding=1, groups=g))
    net.add_module("step5", nn.Sequential(nn.ReLU(), pool(), nn.Flatten()))
    net.add_module("fc6", nn.Linear(256 * 6 * 6, 4096))
    net.add_module("step6", nn.ReLU())
    net.add_module("fc7", nn.Linear(4096, 4096))
    net.add_module("step7", nn.ReLU())
    net.add_module("fc8", nn.Linear(4096, 1000))
    return net

"""Independent PyTorch implementations of the papers' networks, written from their layer tables: the judges.

`MODELS[name](**variant)` makes a network with PyTorch's own initialization; `INPUTS[name]` is the default
input without batch. `count_params` and `count_macs` count; `randomize` draws weights, `fill` takes them over
by order. Keys of a `state_dict` follow the order of execution; where two branches meet, the file says
which is first.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from . import (
    bunit,
    condensenet,
    darts,
    densenet,
    googlenet,
    igcv1,
    igcv3,
    mixnet,
    mlperf_tiny,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    scalenet,
    seesawnet,
    shufflenet_v1,
    shufflenet_v2,
    squeezenet,
)
from .alexnet import alexnet
from .counting import count_macs, count_params
from .flgc_mobilenet_v2 import FlgcMobileNetV2
from .lenet5 import lenet5
from .weights import fill, randomize, tensors

__all__ = ["INPUTS", "MODELS", "count_macs", "count_params", "fill", "randomize", "tensors"]

IMAGE, SMALL = (3, 224, 224), (3, 32, 32)

_TABLE: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "lenet5": (lenet5, (1, 32, 32)),
    "alexnet": (alexnet, (3, 227, 227)),
    "squeezenet": (squeezenet.SqueezeNet, IMAGE),
    "googlenet": (googlenet.GoogLeNet, IMAGE),
    "resnet": (resnet.resnet, IMAGE),
    "resnet_plain_3331": (resnet.resnet_plain_3331, IMAGE),
    "resnet_cifar": (resnet.resnet_cifar, SMALL),
    "resnext": (resnet.resnext, IMAGE),
    "resnext29_cifar": (resnet.resnext29_cifar, SMALL),
    "densenet": (densenet.DenseNet, IMAGE),
    "mobilenet_v1": (mobilenet_v1.MobileNetV1, IMAGE),
    "mobilenet_v1_amc": (mobilenet_v1.mobilenet_v1_amc, IMAGE),
    "mobilenet_v2": (mobilenet_v2.MobileNetV2, IMAGE),
    "shufflenet_v1": (shufflenet_v1.ShuffleNetV1, IMAGE),
    "shufflenet_v2": (shufflenet_v2.ShuffleNetV2, IMAGE),
    "igcv1": (igcv1.Igcv1, IMAGE),
    "igcv1_cifar": (igcv1.Igcv1Cifar, SMALL),
    "igcv2": (mobilenet_v1.igcv2, IMAGE),
    "igcv3": (igcv3.Igcv3, IMAGE),
    "seesawnet": (seesawnet.SeesawNet, IMAGE),
    "mixnet": (mixnet.MixNet, IMAGE),
    "condensenet": (condensenet.CondenseNet, IMAGE),
    "condensenet_cifar": (condensenet.condensenet_cifar, SMALL),
    "flgc_mobilenet_v2": (FlgcMobileNetV2, SMALL),
    "scalenet": (scalenet.ScaleNet, IMAGE),
    "bunit_toy": (bunit.bunit_toy, SMALL),
    "bunit_resnet": (bunit.BunitResNet, IMAGE),
    "bunit_mnist": (bunit.bunit_mnist, (1, 28, 28)),
    "darts": (darts.Darts, SMALL),
    "ds_cnn": (mlperf_tiny.ds_cnn, (1, 49, 10)),
    "mobilenet_v1_vww": (mlperf_tiny.mobilenet_v1_vww, (3, 96, 96)),
    "resnet8_cifar": (mlperf_tiny.resnet8_cifar, SMALL),
    "autoencoder": (mlperf_tiny.autoencoder, (640,)),
}
MODELS: dict[str, Callable[..., nn.Module]] = {name: make for name, (make, _) in _TABLE.items()}
INPUTS: dict[str, tuple[int, ...]] = {name: shape for name, (_, shape) in _TABLE.items()}

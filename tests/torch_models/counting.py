"""Count parameters and multiply-accumulates of a torch module, independently of the compiler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .condensenet import LearnedConv
from .lenet5 import Rbf


def count_params(model: nn.Module) -> int:
    """All trainable scalars: weights, biases, batch norm's scale and shift; no buffers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_macs(model: nn.Module, shape: Sequence[int], batch: int = 1) -> int:
    """Multiply-accumulates of convolutions, dense layers and RBF outputs for one input of `shape` (no batch).

    Runs the model where its parameters live (use the meta device) and adds up, in forward hooks, output
    elements times the inputs that each of them reads.
    """
    total = 0

    def hook(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        total += output.numel() * weight[0].numel()

    counted = (nn.Conv2d, nn.Linear, LearnedConv, Rbf)
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, counted)]
    device = next(model.parameters()).device
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(batch, *shape, device=device))
    model.train(training)
    for handle in handles:
        handle.remove()
    return total // batch

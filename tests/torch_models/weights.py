"""Give a judge weights: drawn so that values stay in range, or taken over by order and shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

NOT_WEIGHTS = ("num_batches_tracked", "index", "mask")


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and statistics in order of execution; not the channel lists and masks of some models."""
    return [(key, value) for key, value in model.state_dict().items() if not key.endswith(NOT_WEIGHTS)]


def randomize(model: nn.Module, seed: int = 0) -> None:
    """Weights scaled by He's rule, everything of batch norm at random: scale about 1, variance 0.5 to 1.5.

    Fixed patterns (buffers of other names) stay as they are.
    """
    rng = np.random.default_rng(seed)
    buffers = {name for name, _ in model.named_buffers()}
    for key, value in tensors(model):
        last = key.rpartition(".")[2]
        if key in buffers and not last.startswith("running_"):
            continue
        if value.ndim > 1:
            drawn = rng.standard_normal(value.shape) * (2 / value[0].numel()) ** 0.5
        elif last in ("bias", "running_mean"):
            drawn = rng.standard_normal(value.shape) * 0.1
        else:
            drawn = rng.uniform(0.5, 1.5, value.shape)
        value.copy_(torch.from_numpy(drawn))


def fill(model: nn.Module, arrays: Iterable[npt.NDArray[Any]]) -> None:
    """Copy `arrays` into the tensors of `model`, first to first, last to last; every shape has to fit.

    Raises ValueError with the key at the first difference of shape, or on too few or too many arrays.
    """
    given = list(arrays)
    taken = tensors(model)
    for (key, value), array in zip(taken, given, strict=False):
        if tuple(value.shape) != array.shape:
            raise ValueError(f"{key} has shape {tuple(value.shape)}, the array in its place {array.shape}")
        value.copy_(torch.from_numpy(np.array(array)))
    if len(taken) != len(given):
        raise ValueError(f"the model has {len(taken)} tensors, {len(given)} arrays were given")

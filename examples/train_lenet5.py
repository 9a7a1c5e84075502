# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""Train LeNet-5 on real handwritten digits, on one thread of a CPU, through the PyTorch module that we emit.

    python -m examples.train_lenet5      writes examples/lenet5.safetensors (about half a minute)

The network's ten outputs are squared distances to fixed patterns: the smallest is the answer. The loss is the
discriminative one of LeCun et al. 1998, equation 9: the distance to the right pattern, plus the logarithm of
the sum of e^-j and of e^-distance over all patterns, so that wrong patterns push back, the nearest ones most.
Scores of a linear output (`distances=False`) are trained with the cross entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from compactir.codegen.torch import emit_torch, load_torch
from compactir.ir.graph import Graph
from compactir.lang import elaborate, parse_file
from compactir.weights.init import draw
from compactir.weights.safetensors import write_safetensors
from examples.prepare_digits import SOURCE, read_bitmaps, read_digits, to_inputs

ARCH = Path(__file__).parent / "lenet5.arch"
WEIGHTS = ARCH.with_suffix(".safetensors")
EPOCHS = 40
BATCH = 32
RATE = 5e-3
J = 0.1  # the paper's positive constant; 10 gave the same accuracy


def initialize(model: nn.Module, seed: int) -> None:
    """Fresh values whatever the module has: weights of variance 1 / inputs, coefficients 1/4, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue  # the fixed patterns of the output
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
            else:
                p.fill_(0.0 if name.endswith("bias") else 0.25)


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image rotated, sheared, scaled and shifted a little, at random; background -0.1 outside."""
    n = len(images)
    turn, shear = (torch.randn(2, n, generator=generator) * 0.1).unbind()
    scale = torch.exp(torch.randn(2, n, generator=generator) * 0.08)
    shift = torch.randn(2, n, generator=generator) * 0.06
    rows = [scale[0] * turn.cos(), shear - turn.sin(), shift[0], turn.sin(), scale[1] * turn.cos(), shift[1]]
    grid = functional.affine_grid(
        torch.stack(rows, 1).reshape(n, 2, 3), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images + 0.1, grid, align_corners=False) - 0.1


def loss(outputs: Tensor, labels: Tensor, distances: bool) -> Tensor:
    """Equation 9 for distances (rbf), cross entropy for scores (linear)."""
    if not distances:
        return functional.cross_entropy(outputs, labels)
    right = outputs.gather(1, labels[:, None])[:, 0]
    others = torch.logsumexp(functional.pad(-outputs, (0, 1), value=-J), 1)
    return (right + others).mean()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, distances: bool = True) -> float:
    """Share of images that are read correctly."""
    with torch.no_grad():
        outputs = model(images)
    answers = outputs.argmin(1) if distances else outputs.argmax(1)
    return (answers == labels).float().mean().item()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch inside, as many as before afterwards: the same sums, and faster at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int = 0,
    distances: bool = True,
    epochs: int = EPOCHS,
) -> nn.Module:
    """Train `model` from fresh weights on images (N, 1, 32, 32) and labels (N,).

    One seed, torch version and kind of CPU: one result. LeNet-5 takes about a second per epoch.
    """
    initialize(model, seed)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(images), generator=generator), BATCH):
            outputs = model(distort(images[chosen], generator))
            optimizer.zero_grad()
            loss(outputs, labels[chosen], distances).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            optimizer.step()
            schedule.step()
    return model.eval()


def authored() -> Graph:
    """The network of examples/lenet5.arch with fresh weights; its output patterns are fixed bitmaps."""
    graph = elaborate(parse_file(ARCH), defines={})
    graph.weights = draw(graph, 0)
    graph.weights["out.centres"] = read_bitmaps()
    return graph


def main() -> None:
    """Train, read the held-out digits, write the weights."""
    graph = authored()
    model = load_torch(emit_torch(graph), graph)
    learned, held_out = read_digits()
    images, labels = torch.from_numpy(to_inputs(learned.images)), torch.from_numpy(learned.labels).long()
    train(model, images, labels)
    images, labels = torch.from_numpy(to_inputs(held_out.images)), torch.from_numpy(held_out.labels).long()
    right = round(accuracy(model, images, labels) * len(labels))
    print(f"{right} of {len(labels)} held-out digits read correctly ({right / len(labels):.2%})")
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    note = {
        "source": SOURCE,
        "network": "LeNet-5, examples/lenet5.arch",
        "trained by": "examples/train_lenet5.py",
    }
    write_safetensors(WEIGHTS, weights, note)
    print(f"{WEIGHTS.name}: {sum(w.size for w in weights.values())} numbers")


if __name__ == "__main__":
    main()

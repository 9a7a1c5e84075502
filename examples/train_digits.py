# mypy: disable-error-code="no-any-return"
# (torch types every module call as Any)
"""Train a network of examples/ on real handwritten digits, through the PyTorch module that we emit.

    python -m examples.train_digits lenet5                              (40 s, one thread)
    python -m examples.train_digits resnet8_cifar -D dataset=digits     (60 s)

The weights go where the network's `weights` line says. What the ten outputs are, its last operation says.
Squared distances to fixed patterns (`rbf`): the smallest is the answer, and the loss is the discriminative
one of LeCun et al. 1998, equation 9: the distance to the right pattern, plus the logarithm of the sum of e^-j
and of e^-distance over all patterns, so that wrong patterns push back, the nearest ones most. Probabilities
(`softmax`) and scores (anything else): the largest is the answer, the loss is the cross entropy.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from compactir.codegen.torch import emit_torch, load_torch
from compactir.ir.graph import Graph
from compactir.lang import elaborate, parse_file
from compactir.weights.init import draw
from compactir.weights.safetensors import write_safetensors
from examples.prepare_digits import SOURCE, Digits, read_bitmaps, read_digits, to_inputs

HERE = Path(__file__).parent
Answers = Literal["distances", "probabilities", "scores"]
EPOCHS = 40
BATCH = 32
RATE = 5e-3
J = 0.1  # the paper's positive constant; 10 gave the same accuracy


def initialize(model: nn.Module, seed: int) -> None:
    """Fresh values whatever the module has: weights of variance 1 / inputs, coefficients 1/4, biases 0.

    Batch norms begin as the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue  # the fixed patterns of the output
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * p[0].numel() ** -0.5)
            else:
                p.fill_(0.0 if name.endswith("bias") else 0.25)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_parameters()


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


def loss(outputs: Tensor, labels: Tensor, answers: Answers) -> Tensor:
    """Equation 9 for distances, cross entropy for probabilities and scores."""
    if answers == "probabilities":
        return functional.nll_loss(torch.log(outputs + 1e-9), labels)
    if answers == "scores":
        return functional.cross_entropy(outputs, labels)
    right = outputs.gather(1, labels[:, None])[:, 0]
    others = torch.logsumexp(functional.pad(-outputs, (0, 1), value=-J), 1)
    return (right + others).mean()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, answers: Answers) -> float:
    """Share of images that are read correctly."""
    with torch.no_grad():
        outputs = model(images)
    read = outputs.argmin(1) if answers == "distances" else outputs.argmax(1)
    return (read == labels).float().mean().item()


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
    answers: Answers,
    seed: int = 0,
    epochs: int = EPOCHS,
) -> nn.Module:
    """Train `model` from fresh weights on images (N, C, 32, 32) and labels (N,).

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
            loss(outputs, labels[chosen], answers).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            optimizer.step()
            schedule.step()
    return model.eval()


def authored(name: str, defines: dict[str, str]) -> Graph:
    """The network of examples/NAME.arch with random weights; an `rbf` output has the paper's bitmaps.

    Raises ValueError where the network names no weights file, or does not make ten numbers of a 32x32 image.
    """
    graph = elaborate(parse_file(HERE / f"{name}.arch"), defines=defines)
    if graph.weights_file is None:
        raise ValueError(f"{name} has no `weights` line: where should the weights go?")
    (image,), (output,) = graph.inputs, graph.outputs.values()
    if image.type.shape[2:] != (32, 32) or output.type.shape != (1, 10):
        raise ValueError(f"{name} makes {output.type} of {image.type}, not ten numbers of a 32x32 image")
    graph.weights = draw(graph, 0)
    for node in graph.nodes:
        if node.op.name == "rbf":
            graph.weights[node.params[0].name] = read_bitmaps()
    return graph


def answers_of(graph: Graph) -> Answers:
    """What the network's outputs are."""
    (output,) = graph.outputs.values()
    last = next(node.op.name for node in graph.nodes if node.out is output)
    return "distances" if last == "rbf" else "probabilities" if last == "softmax" else "scores"


def tensors(digits: Digits, channels: int) -> tuple[Tensor, Tensor]:
    """Images (N, channels, 32, 32), all channels equal, and labels (N,)."""
    images = torch.from_numpy(to_inputs(digits.images)).repeat(1, channels, 1, 1)
    return images, torch.from_numpy(digits.labels).long()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, read the held-out digits, write the weights."""
    parser = argparse.ArgumentParser(description="Train a network of examples/ on handwritten digits.")
    parser.add_argument("network", nargs="?", default="lenet5", help="default lenet5")
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    graph = authored(options.network, dict(define.split("=", 1) for define in options.defines))
    model, answers = load_torch(emit_torch(graph), graph), answers_of(graph)
    learned, held_out = read_digits()
    channels = graph.inputs[0].type.shape[1]
    train(model, *tensors(learned, channels), answers)
    right = round(accuracy(model, *tensors(held_out, channels), answers) * len(held_out.labels))
    share = right / len(held_out.labels)
    print(f"{right} of {len(held_out.labels)} held-out digits read correctly ({share:.2%})")
    weights = {
        key: t.numpy() for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    note = {
        "source": SOURCE,
        "network": f"examples/{options.network}.arch {' '.join(options.defines)}".rstrip(),
        "trained by": "examples/train_digits.py",
    }
    path = Path(graph.weights_file or "")
    write_safetensors(path, weights, note)
    print(f"{path.name}: {sum(w.size for w in weights.values())} numbers")


if __name__ == "__main__":
    main()

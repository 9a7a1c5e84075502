"""PyTorch modules through `torch.export`: the same function and names, no tensor operation left."""

import pytest

pytest.importorskip("torch", reason="no torch here: pip install torch")

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as f

import compactir
from compactir import driver, reference
from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph, print_graph
from compactir.ir.types import Array
from compactir.lang.write import write_arch
from compactir.ops.tensor import TensorOp
from compactir.targets import load_target
from compactir.tools.zoo import difference, run_c
from tests.torch_models import MODELS, randomize

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own


def read(module: nn.Module, *shapes: tuple[int, ...]) -> tuple[Graph, dict[str, Array], Array]:
    """The graph, random inputs, what PyTorch makes of them."""
    randomize(module, 3)
    inputs = [
        torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)
    ]
    graph = compactir.from_torch(module, tuple(inputs))
    with torch.no_grad():
        expected = module.eval()(*inputs)
    given = {value.name: x.numpy() for value, x in zip(graph.inputs, inputs, strict=True)}
    return graph, given, np.asarray(expected)


def left_over(graph: Graph) -> list[str]:
    return [repr(node) for node in graph.nodes if isinstance(node.op, TensorOp)]


@pytest.mark.slow
def test_a_network() -> None:
    """Read, printed and parsed, written as a readable file: the same function throughout."""
    module = MODELS["shufflenet_v2"]()
    graph, inputs, right = read(module, (1, 3, 64, 64))
    assert left_over(graph) == []
    assert {name for name, _ in module.named_parameters()} <= set(graph.params)
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)
    written = write_arch(graph)
    assert written.lines < 45
    written.graph.weights = written.weights
    for made in (graph, written.graph):
        given = dict(zip([v.name for v in made.inputs], inputs.values(), strict=True))
        (found,) = reference.run(made, given).values()
        assert np.abs(found.reshape(right.shape) - right).max() <= 1e-4 * np.abs(right).max()


@pytest.mark.compiler
def test_in_c() -> None:
    """A module with a shuffle, a gate, a split and uneven groups, compiled; its graph keeps its weights."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
            self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(12, 12, 1)
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
            self.head = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            n, c, h, w = x.shape
            x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
            a, b = torch.split(x, [4, 12], 1)
            y = torch.cat([self.left(a), self.right(b)], 1)
            y = y * self.gate(y) + x
            out: Tensor = self.head(f.hardswish(y).mean([2, 3]))
            return out

    graph, inputs, right = read(Small(), (1, 3, 32, 32))
    assert left_over(graph) == []
    assert [n.op.groups for n in graph.nodes if n.op.name == "shuffle"] == [4]  # type: ignore[attr-defined]  # a shuffle
    authored = driver.read(driver.Source(graph))
    assert authored.init == {"weights": "graph"}
    found = run_c(driver.plan(authored, load_target("native")), inputs)
    assert difference(dict.fromkeys(found, right), found) <= 1e-4


class Branches(nn.Module):
    """Convolutions of different kernels over overlapping parts of a value, every second one with a bias."""

    def __init__(self, kernels: tuple[int, ...], depthwise: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(5, 5, k, 1, k // 2, groups=5 if depthwise else 1, bias=i % 2 == 0)
            for i, k in enumerate(kernels)
        )
        self.norm = nn.BatchNorm2d(5 * len(kernels))

    def forward(self, x: Tensor) -> Tensor:
        parts = [conv(x[:, i : i + 5]) for i, conv in enumerate(self.convs)]
        out: Tensor = self.norm(torch.cat(parts, 1)).flip(1)
        return out


@pytest.mark.parametrize("module", [Branches((3, 1)), Branches((3, 1, 5, 3)), Branches((5, 3, 1), True)])
def test_written_apart_again(module: nn.Module) -> None:
    """What `raise-groups` joined to a convolution that the language has no word for."""
    graph, inputs, right = read(module, (1, 8, 6, 6))
    written = write_arch(graph)
    written.graph.weights = written.weights
    given = dict(zip([v.name for v in written.graph.inputs], inputs.values(), strict=True))
    (found,) = reference.run(written.graph, given).values()
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


class Calls(nn.Module):
    """A module made of a function."""

    def __init__(self, call: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *xs: Tensor) -> Tensor:
        return self.call(self, *xs)


MAP = (1, 8, 6, 6)
CASES: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...]]] = {
    "in place": (
        nn.Sequential(
            nn.Conv2d(8, 8, 1),
            nn.ReLU(inplace=True),
            nn.Hardtanh(-1, 2, inplace=True),
            nn.Dropout(inplace=True),
        ),
        (MAP,),
    ),
    "pools": (nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(2, 1, 1)), (MAP,)),
    "adaptive": (nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(1), nn.Flatten()), (MAP,)),
    "activations": (
        nn.Sequential(nn.SiLU(), nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Tanh(), nn.Softmax(1)),
        (MAP,),
    ),
    "lrn": (nn.LocalResponseNorm(3, 1e-3, 0.6, 2.0), (MAP,)),
    "same": (nn.Conv2d(8, 4, 4, padding="same", dilation=2), (MAP,)),
    "sequence": (nn.Sequential(nn.Conv1d(8, 4, 3, padding=1), nn.BatchNorm1d(4)), ((1, 8, 9),)),
    "vector": (
        nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 2, False)),
        ((3, 6),),
    ),
    "upsample": (
        nn.Sequential(nn.Upsample(scale_factor=2), nn.Upsample(size=(7, 9), mode="bilinear")),
        (MAP,),
    ),
    "shuffle": (nn.ChannelShuffle(4), (MAP,)),
    "two inputs": (Calls(lambda self, a, b: torch.cat([a + b, a * b, a - 2 * b], 1).relu_()), (MAP, MAP)),
    "picked": (Calls(lambda self, x: x[:, [3, 0, 0, 5]] + x[:, 2:6] - x[:, ::2]), (MAP,)),
    "constants": (
        Calls(
            lambda self, x: self.c(x) * torch.arange(4.0).view(1, 4, 1, 1).add(1).sqrt(), c=nn.Conv2d(8, 4, 1)
        ),
        (MAP,),
    ),
    "padding": (Calls(lambda self, x: self.c(f.pad(x, [0, 1, 2, 1])), c=nn.Conv2d(8, 4, 3)), (MAP,)),
    "chunks": (Calls(lambda self, x: torch.cat(x.chunk(4, 1)[::-1], 1)), (MAP,)),
    "unfused": (Calls(lambda self, x: x * (x + 3).clamp(0, 6) / 6), (MAP,)),
}


@pytest.mark.parametrize("case", CASES)
def test_operations(case: str) -> None:
    module, shapes = CASES[case]
    graph, inputs, right = read(module, *shapes)
    (found,) = reference.run(graph, inputs, np.float64).values()
    assert found.shape == right.shape
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


def test_the_module_stays_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(), nn.BatchNorm2d(4).eval())
    compactir.from_torch(module, torch.zeros(1, 3, 4, 4))
    assert [part.training for part in module] == [True, True, False]


def test_names() -> None:
    module = nn.Sequential()
    module.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    module.add_module("head", nn.Conv2d(4, 2, 1))
    graph = compactir.from_torch(module, torch.zeros(2, 3, 4, 4), name="mine")
    assert graph.name == "mine"
    assert graph.inputs[0].type.batch == 2
    assert set(graph.params) == {name for name in module.state_dict() if "tracked" not in name}
    assert graph.scopes["stem"].block == "Sequential"


def test_everything_unsupported_is_listed() -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        out: Tensor = self.c(x) + torch.sort(x, 1)[0]
        return out

    part = Calls(lambda self, x: torch.cumprod(x, 1))
    with pytest.raises(CompactError) as caught:
        compactir.from_torch(Calls(call, c=part), torch.zeros(MAP))
    assert caught.value.code == "CIR637"
    text = "\n".join(caught.value.notes)
    assert "aten.cumprod" in text
    assert "aten.sort" in text
    assert "in `c`" in text


@pytest.mark.parametrize(
    "module", [nn.Linear(3, 2), Calls(lambda self, x: x if x.sum() > 0 else -x), "no module"]
)
def test_what_cannot_be_recorded(module: Any) -> None:
    with pytest.raises(CompactError) as caught:
        compactir.from_torch(module, torch.zeros(MAP))
    assert caught.value.code == "CIR636"


class Written(nn.Module):
    """Calls a function on the result of a convolution."""

    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.conv(x))


def relu_half(y: Tensor) -> Tensor:
    y[:, :4].relu_()
    return y * 2


def add_parts(y: Tensor) -> Tensor:
    a, b = y.chunk(2, 1)
    a.add_(b)
    return y


def scale_flat(y: Tensor) -> Tensor:
    y.flatten(1).mul_(2)
    return y


def unpooled(y: Tensor) -> Tensor:
    z, places = f.max_pool2d(y, 2, return_indices=True)
    return f.max_unpool2d(z, places, [2, 2])


RISKY: dict[str, Callable[[Tensor], Tensor]] = {
    "a slice changed in place": relu_half,
    "a part added to in place": add_parts,
    "a view scaled in place": scale_flat,
    "bilinear by 1.7": lambda y: f.interpolate(y, scale_factor=1.7, mode="bilinear"),
    "nearest by 1.7": lambda y: f.interpolate(y, scale_factor=1.7),
    "truncated": lambda y: (y * 3).int().float(),
    "indices of a pool": unpooled,
    "one minus": lambda y: 1 - y,
    "two over": lambda y: 2 / (y * y + 1),
}


REFUSED = {"truncated", "indices of a pool"}


@pytest.mark.parametrize("case", RISKY)
def test_right_or_refused(case: str) -> None:
    """Never another function in silence."""
    if case in REFUSED:
        with pytest.raises(CompactError, match="CIR637"):
            read(Written(RISKY[case]), (1, 4, 5, 7))
        return
    graph, inputs, right = read(Written(RISKY[case]), (1, 4, 5, 7))
    (found,) = reference.run(graph, inputs, np.float64).values()
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


def test_weights_that_are_not_numbers_are_refused() -> None:
    conv = nn.Conv2d(3, 4, 3)
    module = nn.Sequential(conv)
    conv.state_dict()["bias"][2] = float("nan")
    with pytest.raises(CompactError, match=r"weights in the Sequential cannot be used: 1 wrong") as caught:
        compactir.from_torch(module, torch.zeros(1, 3, 8, 8))
    assert caught.value.code == "CIR643"
    assert list(caught.value.notes) == ["`0.bias` holds NaN in 1 place, first at [2]"]


class _OneBehindAnother(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumprod(torch.sort(x, -1)[0] + 1, 2).relu()


def test_what_cannot_be_read_behind_what_cannot_be_read_is_listed_too() -> None:
    with pytest.raises(CompactError, match="2 operations of the module cannot be read") as caught:
        compactir.from_torch(_OneBehindAnother(), torch.zeros(1, 3, 8, 8))
    listed = "\n".join(caught.value.notes)
    assert "aten.sort" in listed
    assert "aten.cumprod" in listed
    assert "aten.relu" not in listed


@pytest.mark.parametrize(
    ("kind", "words"),
    [(torch.float16, "float16, widened to float32, exactly"), (torch.float64, "float64, rounded to float32")],
)
def test_weights_of_other_types_are_said(
    caplog: pytest.LogCaptureFixture, kind: torch.dtype, words: str
) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3)).to(kind)
    with caplog.at_level("INFO", "compactir"):
        graph = compactir.from_torch(module, torch.zeros(1, 3, 8, 8, dtype=kind))
    assert f"2 tensors of the Sequential: {words}" in caplog.messages
    assert graph.weights["0.weight"].dtype == np.float32

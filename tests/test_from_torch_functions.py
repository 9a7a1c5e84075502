"""What `from_torch` writes out, function by function against PyTorch: many results of one module."""

import pytest

pytest.importorskip("torch", reason="no torch here: pip install torch")

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as f

import compactir
from compactir import reference
from compactir.diagnostics import CompactError
from tests.torch_models import randomize

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # torch.export's own

Function = Callable[[Tensor], Tensor]
MAP = (2, 8, 6, 7)


class Several(nn.Module):
    """All results of some functions and modules on one input."""

    def __init__(self, calls: dict[str, Function | nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({k: c for k, c in calls.items() if isinstance(c, nn.Module)})
        self.calls = calls

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            self.parts[name](x) if name in self.parts else call(x) for name, call in self.calls.items()
        )


def written(x: Tensor) -> Tensor:
    """Parts assigned to: constants, other parts, sums in place, by lists."""
    y = x.clone()
    y[:, 1] = 0
    y[:, :, 2:4] = x[:, :, 0:2]
    y[..., 0] += 1
    y[:, [0, 2]] = 1.5
    return y


FAMILIES: dict[str, dict[str, Function | nn.Module]] = {
    "activations": {
        "gelu": f.gelu,
        "gelu by tanh": lambda x: f.gelu(x, approximate="tanh"),
        "elu": lambda x: f.elu(x, 0.7),
        "celu": lambda x: f.celu(x, 1.3),
        "selu": f.selu,
        "mish": f.mish,
        "softplus": lambda x: f.softplus(4 * x, 2.0, 3.0),
        "softplus_1": lambda x: f.softplus(30 * x),
        "softsign": f.softsign,
        "log_sigmoid": f.logsigmoid,
        "prelu": nn.PReLU(8),
        "prelu_1": nn.PReLU(),
        "rrelu": f.rrelu,
        "hardshrink": f.hardshrink,
        "softshrink": f.softshrink,
        "tanhshrink": f.tanhshrink,
        "threshold": lambda x: f.threshold(x, 0.2, -1.0),
        "glu": lambda x: f.glu(x, 1),
        "hardswish": f.hardswish,
        "log_softmax": lambda x: f.log_softmax(x, -1),
        "softmax": lambda x: f.softmax(x, 2),
        "softmin": lambda x: f.softmin(x, 3),
        "at least": lambda x: x.clamp(min=0.1),
        "at most": lambda x: x.clamp_max(0.3),
        "between tensors": lambda x: x.clamp(x * 0 - 0.5, x * 0 + 0.25),
    },
    "elements": {
        "log1p": lambda x: torch.log1p(x.abs()),
        "expm1": torch.expm1,
        "exp2": torch.exp2,
        "log2": lambda x: torch.log2(x.abs() + 1),
        "log10": lambda x: torch.log10(x.abs() + 1),
        "square": torch.square,
        "tan": torch.tan,
        "atan": torch.atan,
        "sinh": torch.sinh,
        "round": lambda x: torch.round(3 * x),
        "trunc": lambda x: torch.trunc(3 * x),
        "sign": torch.sign,
        "compared": lambda x: torch.where(x > 0.1, x, -2 * x),
        "compared_1": lambda x: torch.where((x >= 0) & (x <= 1), x, torch.zeros_like(x)),
        "compared_2": lambda x: torch.where((x < 0) | (x != x.abs()), 3.0, x),
        "filled": lambda x: x.masked_fill(torch.ones(6, 7).tril().bool(), 0.5),
        "remainder": lambda x: torch.remainder(x, 0.3),
        "fmod": lambda x: torch.fmod(x, 0.3),
        "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
        "lerp": lambda x: torch.lerp(x, 2 * x * x, 0.3),
        "floor": lambda x: x // 0.3 + torch.div(x, 0.3, rounding_mode="trunc"),
        "rsub": lambda x: torch.rsub(x, 1, alpha=2),
    },
    "normalisations": {
        "group": nn.GroupNorm(4, 8),
        "group_plain": nn.GroupNorm(2, 8, affine=False),
        "layer": nn.LayerNorm([6, 7]),
        "layer_last": nn.LayerNorm(7, elementwise_affine=False),
        "channels last": lambda x: f.layer_norm(x.permute(0, 2, 3, 1), [8]).permute(0, 3, 1, 2),
        "instance": nn.InstanceNorm2d(8, affine=True),
        "instance_plain": nn.InstanceNorm2d(8),
        "instance_running": nn.InstanceNorm2d(8, track_running_stats=True),
        "rms": nn.RMSNorm(7),
        "normalize": lambda x: f.normalize(x, dim=1),
        "normalize_1": lambda x: f.normalize(x, p=1.0, dim=2),
        "norm of 3": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
        "largest": lambda x: torch.linalg.vector_norm(x, float("inf"), dim=(2, 3)),
        "var": lambda x: x.var((2, 3), keepdim=True),
        "std": lambda x: x.std(1, unbiased=False),
        "logsumexp": lambda x: torch.logsumexp(x, 1),
        "prod": lambda x: x.prod(3),
        "max": lambda x: x.max(2)[0],
        "min": lambda x: x.min(1, keepdim=True)[0],
        "cumsum": lambda x: torch.cumsum(x, 2),
    },
    "convolutions": {
        "transposed": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
        "transposed in groups": nn.ConvTranspose2d(8, 4, (2, 3), stride=(1, 2), groups=2, dilation=2),
        "circular": nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"),
        "reflected": nn.Conv2d(8, 4, 3, padding=(1, 2), padding_mode="reflect"),
        "replicated": nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="replicate"),
        "reflection pad": nn.ReflectionPad2d((1, 2, 0, 3)),
        "replication pad": nn.ReplicationPad2d(2),
        "circular pad": nn.CircularPad2d((1, 0, 2, 1)),
        "bilinear layer": nn.Sequential(nn.Conv2d(8, 4, 1), nn.GELU(), nn.GroupNorm(2, 4)),
    },
    "pools": {
        "holes": lambda x: f.max_pool2d(x, 2, 1, dilation=2),
        "adaptive": lambda x: f.adaptive_avg_pool2d(x, (4, 5)),
        "adaptive_max": lambda x: f.adaptive_max_pool2d(x, (4, 3)),
        "lp": lambda x: f.lp_pool2d(x.abs(), 2.0, 2),
        "rows": lambda x: f.avg_pool2d(x, (2, 1), ceil_mode=True),
    },
    "sizes": {
        "nearest by 1.7": lambda x: f.interpolate(x, scale_factor=1.7),
        "nearest to": lambda x: f.interpolate(x, (11, 3)),
        "exact": lambda x: f.interpolate(x, (11, 3), mode="nearest-exact"),
        "bilinear by 1.7": lambda x: f.interpolate(x, scale_factor=1.7, mode="bilinear"),
        "bilinear to": lambda x: f.interpolate(x, (11, 3), mode="bilinear"),
        "corners": lambda x: f.interpolate(x, (11, 13), mode="bilinear", align_corners=True),
        "corners by": lambda x: f.interpolate(x, scale_factor=2.3, mode="bilinear", align_corners=True),
        "smooth": lambda x: f.interpolate(x, (4, 3), mode="bilinear", antialias=True),
        "cubic": lambda x: f.interpolate(x, scale_factor=2, mode="bicubic"),
        "cubic corners": lambda x: f.interpolate(x, (5, 9), mode="bicubic", align_corners=True),
        "cubic smooth": lambda x: f.interpolate(x, (4, 3), mode="bicubic", antialias=True),
        "recomputed": lambda x: f.interpolate(
            x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True
        ),
    },
    "places": {
        "rolled": lambda x: torch.roll(x, (1, -2), (2, 3)),
        "rolled flat": lambda x: torch.roll(x, 5),
        "flipped": lambda x: torch.flip(x, [1, -1]),
        "repeated": lambda x: x.repeat(1, 2, 1, 3),
        "tiled": lambda x: torch.tile(x, (2, 1)),
        "each": lambda x: x.repeat_interleave(2, 1),
        "stacked": lambda x: torch.stack([x[:, 0], x[:, 3]], 1),
        "unshuffled": lambda x: f.pixel_unshuffle(x[..., :6], 2),
        "shuffled": lambda x: f.pixel_shuffle(x, 2),
        "moved": lambda x: x.movedim(1, 3),
        "swapped": lambda x: x.swapaxes(1, 2).mT,
        "picked twice": lambda x: x[:, [0, 2], [1, 5]],
        "picked as a table": lambda x: x[:, torch.tensor([[0, 2], [3, 7]])],
        "gathered": lambda x: torch.gather(x, 1, torch.tensor([3, 0]).view(1, 2, 1, 1).expand(2, 2, 6, 7)),
        "triangle": torch.tril,
        "unbound": lambda x: x.unbind(1)[2],
        "sampled": lambda x: f.grid_sample(
            x, torch.linspace(-1.1, 0.9, 24).view(1, 3, 4, 2).expand(2, 3, 4, 2), align_corners=False
        ),
        "outer": lambda x: torch.einsum("nchw,nkhw->nck", x, x[:, :3]),
        "written": written,
        "patches": lambda x: f.unfold(x, 3, padding=1),
        "windows": lambda x: x.unfold(2, 3, 2),
        "attention": lambda x: f.scaled_dot_product_attention(x, x * 0.5, x + 1, is_causal=True),
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_functions(family: str) -> None:
    """Every result in float64 as PyTorch computes it."""
    module = Several(FAMILIES[family])
    randomize(module, 5)
    x = torch.randn(MAP, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module.eval()(x)
    graph = compactir.from_torch(module, x)
    found = reference.run(graph, {graph.inputs[0].name: x.numpy()}, np.float64).values()
    for name, right, ours in zip(FAMILIES[family], expected, found, strict=True):
        assert ours.shape == tuple(right.shape), name
        wrong = float(np.abs(ours - right.numpy()).max())
        assert wrong <= 2e-5 * float(right.abs().max()), (name, wrong)


@pytest.mark.compiler
@pytest.mark.parametrize("family", FAMILIES)
def test_functions_in_c(family: str) -> None:
    """The same functions compiled, two images at once."""
    module = Several(FAMILIES[family])
    randomize(module, 5)
    x = torch.randn(MAP, generator=torch.Generator().manual_seed(1))
    graph = compactir.from_torch(module, x)
    expected = reference.run(graph, {graph.inputs[0].name: x.numpy()}, np.float64)
    with compactir.compile(graph, target="native") as compiled:
        found = compiled(x.numpy())
    for name, result in zip(FAMILIES[family], expected, strict=True):
        right, ours = expected[result], np.asarray(found[result])
        assert ours.shape == right.shape, name
        assert float(np.abs(ours - right).max()) <= 1e-4 * float(np.abs(right).max()), name


class Sequences(nn.Module):
    """What networks do with (N, C, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 6, 3, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            self.up(x),
            f.max_pool1d(x, 3, 2, 1),
            f.avg_pool1d(x, 3, 2, 1),
            f.adaptive_avg_pool1d(x, 4),
            f.interpolate(x, scale_factor=2),
            f.interpolate(x, 7, mode="linear"),
            f.pad(x, (1, 2), mode="reflect"),
        )


def test_sequences() -> None:
    module = Sequences().eval()
    x = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(1))
    graph = compactir.from_torch(module, x)
    found = reference.run(graph, {graph.inputs[0].name: x.numpy()}, np.float64).values()
    for right, ours in zip(module(x), found, strict=True):
        assert ours.shape == tuple(right.shape)
        assert float(np.abs(ours - right.detach().numpy()).max()) <= 1e-5


def test_turned_kernels_have_a_name_of_their_own() -> None:
    """A state_dict of the module may not be laid onto them, which would fit by shape."""
    module = nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3, stride=2))
    graph = compactir.from_torch(module, torch.zeros(1, 4, 5, 5))
    assert len(graph.params) == 4
    assert not set(graph.params) & set(module.state_dict())


def test_results_of_a_dict_keep_their_names() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor | None]:
            return {"box": x.relu(), "none": None, "score": x * 2}

    graph = compactir.from_torch(Named(), torch.zeros(1, 3, 4, 4))
    assert list(graph.outputs) == ["box", "score"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: x + torch.rand(4), "it draws at random"),
        (lambda x: x + f.dropout(torch.ones(4), 0.5, True), "it drops values (training)"),
        (lambda x: 3, "it returns 3, which is no tensor"),
        (lambda x: x.argmax(1), "aten.argmax.default: it has no counterpart"),
    ],
)
def test_what_is_no_function_of_floats_is_refused(call: Function, said: str) -> None:
    with pytest.raises(CompactError, match="1 operation of the module cannot be read") as caught:
        compactir.from_torch(_One(call), torch.zeros(1, 3, 4, 4))
    assert said in caught.value.notes[0]


class _One(nn.Module):
    def __init__(self, call: Function) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def test_all_that_cannot_be_read_is_listed_with_its_module() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(torch.cumprod(x, 1), 1)[0]

    module = nn.Sequential()
    module.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 1), Odd()))
    module.add_module("head", Odd())
    with pytest.raises(CompactError, match="4 operations of the module cannot be read") as caught:
        compactir.from_torch(module, torch.zeros(1, 3, 4, 4))
    listed = "\n".join(caught.value.notes)
    assert [listed.count(word) for word in ("in `stem.1`", "in `head`", "sort", "cumprod")] == [2, 2, 4, 4]


class Apart(nn.Module):
    """A region with its own arithmetic, as attention of EfficientViT has, and results with few axes."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = torch.relu(x)
        with torch.autocast("cpu", enabled=False):
            y = torch.exp(x) @ x.transpose(1, 2)
        return y * 2, x.mean(), x.sum((0, 1)), x[0, 1]


@pytest.mark.compiler
def test_regions_without_autocast_and_results_without_channels() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4) / 10 - 1
    graph = compactir.from_torch(Apart(), torch.zeros_like(x))
    with compactir.compile(graph, target="native") as compiled:
        found = compiled(x.numpy())
    assert isinstance(found, dict)
    for got, expected in zip(found.values(), Apart()(x), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5)

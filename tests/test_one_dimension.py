"""One-dimensional networks (N, C, L), from ONNX and PyTorch: maps of one row all the way, sequences outside.

`python -m tests.one_dimension --count 1000` compares more random ones with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason='no onnx here: pip install "compactir[onnx]"')
pytest.importorskip("onnxruntime", reason="no onnxruntime here: pip install onnxruntime")

import onnx

import compactir
from compactir import reference
from compactir.cli import main
from compactir.codegen.lower import lower
from compactir.codegen.onnx import export_onnx
from compactir.diagnostics import CompactError
from compactir.driver import Source, plan, read
from compactir.ir.graph import Graph
from compactir.ir.plan import Conv as Kernel
from compactir.ir.types import Array
from compactir.lang import elaborate, parse
from compactir.lang.write import write_arch
from compactir.ops.arrange import Shuffle
from compactir.ops.conv import Conv
from compactir.ops.tensor import TensorOp
from compactir.runtime.build import find_compiler
from compactir.targets import load_target
from compactir.tools.zoo import run_torch
from compactir.weights.init import draw
from compactir.weights.load import load_weights
from compactir.weights.mapping import AUTO
from tests.c.networks import AT_END, AT_START, Case, build, disagreements, generate
from tests.one_dimension import NETWORKS, TOLERANCE, Net, apart, check, drawn, keywords, read_back
from tests.onnx_models import in_runtime, saved

WORDS = {
    "keywords": {"as_map", "conv", "bn", "relu", "relu6", "add", "global_avg_pool", "flatten", "linear"},
    "lenet": {"as_map", "conv", "tanh", "relu", "max_pool", "avg_pool", "flatten", "linear"},
    "shuffled": {
        *("as_map", "conv", "bn", "relu", "add", "shuffle", "gather", "concat"),
        *("global_avg_pool", "hard_sigmoid", "mul", "as_sequence"),
    },
}
LINES = {"keywords": 26, "lenet": 10, "shuffled": 22}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> onnx.ModelProto:
    return NETWORKS[name]()


@pytest.fixture(scope="module")
def graph(model: onnx.ModelProto) -> Graph:
    return read_back(model)


def test_it_is_layers_on_maps(name: str, graph: Graph) -> None:
    assert {n.op.name for n in graph.nodes} == WORDS[name]
    outside = {*graph.inputs, *graph.outputs.values()}
    assert all(v.type.rank == 4 or v in outside or v.type.rank == 2 for v in graph.values())
    assert graph.inputs[0].type.rank == 3


def test_it_means_what_onnx_runtime_says(model: onnx.ModelProto) -> None:
    """The reference, what it is exported as, and what is written as a file."""
    assert check(model)[1] == ""


def test_it_is_the_network_and_not_another(name: str, model: onnx.ModelProto, graph: Graph) -> None:
    """Two channels of one weight change places: the comparison notices."""
    swapped = graph.clone()
    convolution = [n for n in swapped.nodes if isinstance(n.op, Conv)][len(graph.nodes) // 12]
    weight = convolution.params[0].name
    array = swapped.weights[weight].copy()
    array[[0, 1]] = array[[1, 0]]
    swapped.weights[weight] = array
    inputs = reference.random_inputs(graph)
    assert apart(list(reference.run(swapped, inputs).values()), in_runtime(model, inputs)) > 100 * TOLERANCE


def test_pytorch_module(model: onnx.ModelProto, graph: Graph, need: Callable[[str], None]) -> None:
    need("torch")
    inputs = reference.random_inputs(graph)
    assert apart(list(run_torch(graph, inputs).values()), in_runtime(model, inputs)) <= TOLERANCE


def test_a_readable_file(name: str, graph: Graph) -> None:
    written = write_arch(graph, weights=f"{name}.safetensors")
    assert written.lines <= LINES[name]
    shape = list(graph.inputs[0].type.shape[1:])
    assert f"input x: f32{shape}" in written.text
    assert len(written.graph.nodes) == len(graph.nodes)
    assert [v.type for v in written.graph.outputs.values()] == [v.type for v in graph.outputs.values()]


@pytest.mark.compiler
def test_compiled(model: onnx.ModelProto, tmp_path: Path) -> None:
    """From the file, through the driver: inputs with and without the batch, outputs as sequences."""
    with compactir.compile(saved(tmp_path, model), target="native") as module:
        shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
        assert len(shape) == 3
        x = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
        right = in_runtime(model, {"x": x})
        for given in (x, x[0]):
            assert apart([np.asarray(module(given))], right) <= TOLERANCE


def across_blocks() -> Graph:
    """Two channels that lie in two blocks, so in one step from each other, as planes would."""
    net = Net(0, 1, 8, 7)
    x = net.conv("x", 12, 3)
    x = net.same("Tanh", net.same("Add", x, net.conv(x, 12, 3)))
    ends = [net.constant(np.array([v], np.int64)) for v in (7, 9, 1)]
    x = net.same("Mul", net.add("Slice", x, *ends, shape=(1, 2, 7)), net.constant(np.ones((2, 1)) / 3))
    return read_back(net.model(net.conv(x, 4, 3)))


def test_channels_of_two_blocks_are_no_planes() -> None:
    """What reads rows of planes on Arm reads pixels that lie one beside the other."""
    target = load_target("arm")
    case = Case("across blocks", across_blocks()).optimised(target)
    kernels = [c.kernel for s in lower(case.graph, target).plan.steps for c in s.calls]
    rows = [k for k in kernels if isinstance(k, Kernel) and k.reads == "planes"]
    assert {k.x_strides[1] for k in rows} == {1, 4}
    assert "plane by plane" not in generate(case, target, "net").files.source


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.slow
def test_on_arm(tool: Callable[[str], str], tmp_path: Path) -> None:
    target = load_target("arm")
    tool(target.runner)
    cases = [Case(name, read_back(make())).optimised(target) for name, make in NETWORKS.items()]
    cases += [Case(f"random {seed}", read_back(drawn(seed))).optimised(target) for seed in range(12)]
    cases.append(Case("across blocks", across_blocks()).optimised(target))
    program = build(cases, target, find_compiler(target), tmp_path, "-O0")
    assert disagreements(program, AT_END) == {}


@pytest.mark.compiler
def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Imported and verified against ONNX Runtime; verified as a file; exported again."""
    path = saved(tmp_path, NETWORKS["shuffled"](29), "beats.onnx")
    assert main(["import", str(path), "-o", str(tmp_path / "beats.arch")]) == 0
    assert main(["verify", str(path), "--target", "native", "--against", "onnxruntime"]) == 0
    assert main(["verify", str(tmp_path / "beats.arch"), "--target", "native"]) == 0
    assert main(["export", str(tmp_path / "beats.arch"), "-o", str(tmp_path / "again.onnx")]) == 0
    x = np.random.default_rng(8).standard_normal((1, 12, 29)).astype(np.float32)
    again = onnx.load(tmp_path / "again.onnx")
    assert apart(in_runtime(again, {"x": x}), in_runtime(onnx.load(path), {"x": x})) <= TOLERANCE
    capsys.readouterr()


# -- lengths and kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_short_sequences(length: int) -> None:
    assert check(keywords(length))[1] == ""


def test_random_networks() -> None:
    wrong = {seed: check(drawn(seed))[1] for seed in range(60)}
    assert {seed: what for seed, what in wrong.items() if what} == {}


def test_random_networks_with_all_that_c_lacks() -> None:
    wrong = {seed: check(drawn(seed, others=True))[1] for seed in range(40)}
    assert {seed: what for seed, what in wrong.items() if what} == {}


def test_random_networks_in_pytorch(need: Callable[[str], None]) -> None:
    need("torch")
    for seed in range(0, 60, 4):
        graph = read_back(drawn(seed))
        inputs = reference.random_inputs(graph)
        ours = list(reference.run(graph, inputs).values())
        assert apart(list(run_torch(graph, inputs).values()), ours) <= TOLERANCE, seed


@pytest.mark.compiler
@pytest.mark.parametrize("name", ["native", pytest.param("c", marks=pytest.mark.slow)])
def test_random_networks_in_c(name: str, tmp_path: Path) -> None:
    """Every one of them has kernels; none reads or writes beyond its tensors."""
    target = load_target(name)
    cases = [Case(f"random {seed}", read_back(drawn(seed))).optimised(target) for seed in range(30)]
    program = build(cases, target, find_compiler(target), tmp_path, "-O0")
    assert disagreements(program, AT_END) == {}
    assert disagreements(program, AT_START) == {}


def test_a_shuffle_costs_nothing() -> None:
    """It goes into the tables of its neighbours, as that of a map does."""
    graph = read_back(NETWORKS["shuffled"]())
    assert [n.op.groups for n in graph.nodes if isinstance(n.op, Shuffle)] == [3, 2]
    planned = plan(read(Source(graph), warn=False), load_target("c"))
    assert not any(isinstance(n.op, Shuffle) for n in planned.graph.nodes)


def test_a_sequence_costs_nothing() -> None:
    """The caller's tensors are read and written where they are, as those of a map of one row."""
    net = Net(0, 1, 3, 40)
    graph = read_back(net.model(net.same("Relu", net.conv("x", 20, 5))))
    rows = [n for n in graph.nodes if not n.op.name.startswith("as_")]
    steps = plan(read(Source(graph), warn=False), load_target("native")).lowered.plan.steps
    assert len(rows) == 2
    assert sum(step.copied for step in steps if not step.conversion) == 0


@pytest.mark.compiler
def test_axes_that_change_places_are_loops() -> None:
    """Parts of the length, products of matrices: no layers, so tensors (`codegen/lower/tensors.py`)."""
    net = Net(0, 1, 4, 6)
    x = net.add("Transpose", net.conv("x", 4, 3), shape=(1, 6, 4), perm=[0, 2, 1])
    y = net.add("MatMul", x, net.constant(np.ones((4, 5))), shape=(1, 6, 5))
    z = net.add("Concat", y, y, shape=(1, 6, 10), axis=2)
    graph = read_back(net.model(z))
    inputs = reference.random_inputs(graph)
    right = in_runtime(net.model(z), inputs)
    assert apart(list(reference.run(graph, inputs).values()), right) <= TOLERANCE
    with compactir.compile(graph, target="native") as module:
        assert apart([np.asarray(module(*inputs.values()))], right) <= TOLERANCE


# -- PyTorch -------------------------------------------------------------------------------------------------


def test_from_torch(need: Callable[[str], None]) -> None:
    """The layers of nn with a 1 in their names, with a shuffle and a gate: names kept, nothing left over."""
    need("torch")
    import torch
    from torch import Tensor, nn

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv1d(5, 16, 7, 2, 3, bias=False), nn.BatchNorm1d(16), nn.ReLU6())
            self.pools = nn.Sequential(nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(2, 2, ceil_mode=True))
            self.mix = nn.Sequential(nn.Conv1d(16, 16, 1, groups=4), nn.BatchNorm1d(16), nn.SiLU())
            self.filter = nn.Conv1d(16, 16, 5, padding="same", groups=16)
            self.gate = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Conv1d(16, 16, 1), nn.Hardsigmoid())
            self.up, self.scores = nn.Upsample(scale_factor=2), nn.Softmax(1)
            self.head = nn.Linear(16, 6)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.mix(self.pools(self.stem(x)))
            n, c, length = x.shape
            y = x.view(n, 4, c // 4, length).transpose(1, 2).reshape(n, c, length)
            y = self.filter(y)
            y = y * self.gate(y) + x
            a, b = y.chunk(2, 1)
            return self.head(torch.cat([b, a], 1).mean(-1)), self.scores(self.up(y))

    torch.manual_seed(0)
    module, x = Small().eval(), torch.randn(2, 5, 43)
    graph = compactir.from_torch(module, (x,))
    with torch.no_grad():
        right = [y.numpy() for y in module(x)]
    assert {"stem.0.weight", "stem.1.running_mean", "gate.1.bias", "head.weight"} <= set(graph.params)
    assert [n.name for n in graph.nodes if isinstance(n.op, TensorOp)] == []
    inputs: dict[str, Array] = {"x": x.numpy()}
    assert apart(list(reference.run(graph, inputs).values()), right) <= TOLERANCE
    assert apart(list(run_torch(graph, inputs).values()), right) <= TOLERANCE
    assert apart(in_runtime(export_onnx(graph), inputs), right) <= TOLERANCE
    assert write_arch(graph).lines <= 20
    plan(read(Source(graph), warn=False), load_target("c"))


def test_weights_of_sequences(tmp_path: Path) -> None:
    """Kernels (O, I, k) onto (O, I, 1, k): under our names, under foreign ones, of the .onnx file itself."""
    model = keywords(31)
    graph = read_back(model)
    right = dict(graph.weights)
    narrow = {n: a[:, :, 0] if a.ndim == 4 and a.shape[3] > 1 else a for n, a in right.items()}
    np.savez(tmp_path / "same.npz", **narrow)  # type: ignore[arg-type]  # arrays by name
    np.savez(tmp_path / "other.npz", **{f"net.{n}": a for n, a in narrow.items()})  # type: ignore[arg-type]
    for given, map in (("same.npz", None), ("other.npz", AUTO)):
        found = load_weights(graph, tmp_path / given, map=map)
        assert all(np.array_equal(found[name], right[name]) for name in right)
    wide = right | {"conv0.weight": np.swapaxes(right["conv0.weight"], 2, 3)}
    np.savez(tmp_path / "wrong.npz", **wide)  # type: ignore[arg-type]
    with pytest.raises(CompactError, match="CIR643"):
        load_weights(graph, tmp_path / "wrong.npz")


VECTORS = """
network given {
  input x: f32[36]
  output y = x -> as_map(size=[2, 3]) -> conv(8, kernel=3) -> relu
}
network shared {
  input x: f32[40]
  a = x -> as_map(size=[1, 20]) -> conv(16, kernel=[1, 5], stride=[1, 2]) -> relu
        -> global_avg_pool -> flatten
  b = x -> linear(16) -> relu
  output y = a + b -> linear(5)
}
network made {
  input x: f32[9]
  a = x -> linear(54) -> relu -> as_map(size=[3, 3])
  output y = a -> conv(5, kernel=3) -> bn -> relu6
  output z = a
}
network picked {
  input x: f32[4, 6]
  v = x -> flatten -> gather([23, 0, 4, 8, 9, 2, 11, 1]) -> as_map(size=[1, 4])
  output y = v -> depthwise(kernel=3)
  output z = v -> as_sequence
}
network sequences {
  input x: f32[6, 5]
  (a, b) = x -> split([1/2, 1/2])
  output y = b -> as_map -> conv(4, kernel=[1, 3])
  output z = x -> flatten -> linear(7)
  output same = x -> as_map -> as_sequence
}
"""


@pytest.mark.compiler
@pytest.mark.parametrize("target", ["native", pytest.param("c", marks=pytest.mark.slow)])
def test_vectors_and_sequences_as_maps(target: str, tmp_path: Path, need: Callable[[str], None]) -> None:
    """The caller's and computed ones, shared, picked from, returned: C with planes and without, exports."""
    need("torch")
    tree, machine, cases = parse(VECTORS), load_target(target), list[Case]()
    for name in ("given", "shared", "made", "picked", "sequences"):
        graph = elaborate(tree, network=name, batch=2)
        graph.weights = draw(graph)
        inputs = reference.random_inputs(graph)
        right = list(reference.run(graph, inputs).values())
        assert apart(list(run_torch(graph, inputs).values()), right) <= TOLERANCE
        assert apart(in_runtime(export_onnx(graph), inputs), right) <= TOLERANCE
        assert write_arch(graph).graph.outputs.keys() == graph.outputs.keys()
        for planes in (None, True, False):
            cases.append(Case(f"{name} {planes}", graph, as_planes=planes).optimised(machine))
    program = build(cases, machine, find_compiler(machine), tmp_path, "-O0")
    assert disagreements(program, AT_END) == {}
    assert disagreements(program, AT_START) == {}

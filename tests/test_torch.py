"""Emitted PyTorch: every operation against the reference, files a person would sign, names that are ours."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from compactir import reference
from compactir.codegen.torch import emit_torch, load_torch
from compactir.codegen.torch.text import MODULE_NAMES
from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Family
from compactir.ir.graph import Graph, Scope, Value
from compactir.ir.types import Array, TensorType
from compactir.lang import elaborate, parse, parse_file
from compactir.ops import OPS
from compactir.ops.activation import Relu, Relu6, Tanh
from compactir.ops.arrange import Concat, Dropout, Gather, Identity, Shuffle
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv, Masked
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm
from compactir.ops.pool import GlobalAvgPool
from compactir.passes._base import run_pipeline
from compactir.passes.pipelines import pipeline
from compactir.weights.init import draw
from tests.graphs import example, graphs, one_op, random_weights

torch = pytest.importorskip("torch", reason='no torch here: pip install "compactir[torch]"')

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-4
SAMPLES = [(name, sample) for name, op in OPS.items() for sample in op.samples()]


def outputs_of(module: Any, graph: Graph, inputs: Mapping[str, Array]) -> list[Array]:
    """What the module returns for these inputs, one array per output."""
    with torch.no_grad():
        results = module(*(torch.from_numpy(inputs[v.name]) for v in graph.inputs))
    return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]


def distance(graph: Graph, seed: int = 0, source: str | None = None) -> float:
    """Largest difference between the emitted module and the reference, relative to the largest value."""
    module = load_torch(source or emit_torch(graph), graph)
    inputs = reference.random_inputs(graph, seed)
    found = outputs_of(module, graph, inputs)
    worst = 0.0
    for a, b in zip(found, reference.run(graph, inputs).values(), strict=True):
        assert a.shape == b.shape
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)))
    return worst


def elaborated(text: str) -> Graph:
    """A network from its source, with random weights."""
    graph = elaborate(parse(text, "test.arch"))
    graph.weights = draw(graph)
    return graph


def keys(module: Any) -> set[str]:
    """The names of a module's state, without PyTorch's own counter."""
    return {k for k in module.state_dict() if not k.endswith("num_batches_tracked")}


# -- the same function ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_every_op(name: str, sample: Any) -> None:
    graph = one_op(sample.op, *sample.shapes)
    assert distance(graph) <= TOLERANCE


def fused(epilogue: tuple[Any, ...], *extra: tuple[int, ...]) -> Graph:
    """A convolution with an epilogue whose further operands are inputs."""
    graph = Graph("fused")
    x = graph.input("x", TensorType.f32(2, 3, 5, 4))
    more = [graph.input(f"more{i}", TensorType.f32(*shape)) for i, shape in enumerate(extra)]
    op = Conv(Connectivity.dense(3, 6, (3, 3), (1, 1, 1, 1)), bias=True, epilogue=epilogue)
    weight = graph.param("conv1.weight", TensorType.f32(6, 3, 3, 3))
    bias = graph.param("conv1.bias", TensorType.f32(6))
    graph.outputs["y"] = graph.append(op, [x, weight, bias, *more], "conv1")
    graph.weights = random_weights(graph)
    return graph


@pytest.mark.parametrize(
    "graph",
    [
        fused((Relu(),)),
        fused((Tanh(1.7159, 2 / 3), Relu6())),
        fused((Add(), Relu()), (2, 6, 5, 4)),
        fused((Mul(), Add()), (2, 6, 1, 1), (2, 6, 5, 4)),
    ],
    ids=["relu", "tanh-relu6", "residual", "gate-residual"],
)
def test_epilogues(graph: Graph) -> None:
    assert distance(graph) <= TOLERANCE


CONNECTIVITIES = {
    "no block": Connectivity(3, 4, ()),
    "outputs out of order": Connectivity(
        3, 4, (Family(2, ChannelList.of([2, 0]), ChannelList.of([3, 0]), (1, 1)),)
    ),
    "some outputs are bias": Connectivity(
        3, 6, (Family(1, ChannelList.of([2, 0]), ChannelList.of([4, 1]), (3, 3), (1, 1, 1, 1)),)
    ),
    "asymmetric parts": Connectivity.parts([(1, 2), (2, 3)], [(2, 2), (3, 3)], [(0, 0, 1, 1), (1, 1, 1, 1)]),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CONNECTIVITIES)
def test_unusual_connectivities(name: str, bias: bool) -> None:
    connect = CONNECTIVITIES[name]
    stride = (1, 1) if connect.families else (2, 1)
    assert distance(one_op(Conv(connect, stride, bias=bias), (2, 3, 5, 4))) <= TOLERANCE


def test_masks_of_gathered_blocks() -> None:
    connect = Connectivity.dense(4, 6).reading(ChannelList.of([3, 1, 1, 0]), 5)
    assert distance(one_op(Conv(connect, masked=Masked("learned(2)")), (1, 5, 3, 3))) <= TOLERANCE


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2", "lenet5"])
def test_examples_and_the_test_can_fail(name: str) -> None:
    graph = example(name, **({} if name == "lenet5" else {"size": "64"}))
    source = emit_torch(graph)
    assert distance(graph, source=source) <= TOLERANCE
    convolutions = [n for n in graph.nodes if isinstance(n.op, Conv) and not n.op.connect.is_depthwise]
    weight = convolutions[len(convolutions) // 2].params[0].name
    swapped = graph.clone()
    swapped.weights[weight] = graph.weights[weight].copy()
    swapped.weights[weight][[0, 1]] = graph.weights[weight][[1, 0]]
    inputs = reference.random_inputs(graph)
    before, after = (outputs_of(load_torch(source, g), g, inputs)[0] for g in (graph, swapped))
    assert np.abs(before - after).max() > 100 * TOLERANCE * np.abs(before).max()


@settings(max_examples=40)
@given(graphs())
@pytest.mark.slow
def test_random_graphs_as_authored_and_after_passes(graph: Graph) -> None:
    deployed = graph.clone()
    run_pipeline(deployed, pipeline("c"))
    for one, form in ((graph, "training"), (deployed, "deployment")):
        source = emit_torch(one, form=form)  # type: ignore[arg-type]  # the two forms
        module = load_torch(source, one).double()
        assert keys(module) == set(one.params)
        state = module.state_dict()
        for name, array in one.weights.items():
            state[name].copy_(torch.from_numpy(np.asarray(array, np.float64)))
        inputs = reference.random_inputs(one)
        doubles = {n: a.astype(np.float64) for n, a in inputs.items()}
        for a, b in zip(
            outputs_of(module, one, doubles), reference.run(one, inputs, np.float64).values(), strict=True
        ):
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-9 * max(np.abs(b).max(), 1e-30)


# -- it trains -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2", "lenet5"])
def test_state_and_gradients(name: str) -> None:
    graph = example(name, **({} if name == "lenet5" else {"size": "64", "width": "0.5"}))
    module = load_torch(emit_torch(graph), graph)
    assert keys(module) == set(graph.params)
    trained = dict(module.named_parameters())
    assert set(trained) == {n for n, p in graph.params.items() if p.role == "weight"}
    assert {n for n, _ in module.named_buffers()} >= {
        n for n, p in graph.params.items() if p.role == "buffer"
    }
    module.train()
    x = torch.randn(4, *graph.inputs[0].type.shape[1:], generator=torch.Generator().manual_seed(0))

    def loss() -> Any:
        torch.manual_seed(0)  # the same units dropped
        return module(x).square().mean()

    before = loss()
    before.backward()
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    slope = sum(float(p.grad.square().sum()) for p in trained.values() if p.grad is not None)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3 / slope)  # 1e-3 down
    optimizer.step()
    assert loss() < before


def test_masked_and_split_weights_get_gradients() -> None:
    table = Connectivity.table(4, {0: [0, 1], 1: [1, 2, 3], 2: [0]}, (3, 3))
    for op in (
        Conv(Connectivity.dense(4, 6), masked=Masked("learned(2)")),
        Conv(Connectivity.parts([(1, 2), (3, 4)])),
        Conv(table, bias=True),
        Conv(Connectivity.dense(4, 6).reading(ChannelList.of([3, 1, 1, 0]), 4)),
    ):
        graph = one_op(op, (2, 4, 5, 5))
        module = load_torch(emit_torch(graph), graph)
        module(torch.randn(2, 4, 5, 5)).square().sum().backward()
        assert {n for n, p in module.named_parameters() if p.grad is not None} == {
            n for n, p in graph.params.items() if p.role == "weight"
        }


def test_dropout_drops_in_training_only() -> None:
    graph = one_op(Dropout(0.75), (1, 4000))
    module = load_torch(emit_torch(graph), graph)
    x = torch.ones(1, 4000)
    assert torch.equal(module(x), x)
    module.train()
    assert 0.65 < float((module(x) == 0).float().mean()) < 0.85


# -- the file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2", "lenet5"])
def test_golden(name: str, golden: Callable[[Path, str], None]) -> None:
    graph = elaborate(parse_file(ROOT / "examples" / f"{name}.arch"))
    golden(ROOT / "tests" / "golden" / "torch" / f"{name}.py", emit_torch(graph))


def test_every_file_names_its_weights() -> None:
    graph = elaborate(parse_file(ROOT / "examples" / "lenet5.arch"))
    assert 'load_file("lenet5.safetensors")' in emit_torch(graph)
    assert 'load_file("other.safetensors")' in emit_torch(
        graph, form="deployment", weights="other.safetensors"
    )


def test_lists_that_begin_alike_are_one_table() -> None:
    """The constants mean the same; those that do not fit stay as they are."""
    from compactir.codegen.torch.text import with_shared_rows

    rows = [list(range(start, 400, 7)) for start in range(5)]
    lists = {f"LAYER{n}_CHANNELS": [c for row in rows for c in row[:n]] for n in (6, 9, 40)}
    lists |= {"ODD": [*range(9), *range(5)], "OTHER": [3, 4, 5, 1, 2, 3]}
    plain = {name: [f"[{', '.join(map(str, values))}]"] for name, values in lists.items()}
    written = with_shared_rows(plain, lists)
    assert list(written) == ["LAYER_ROWS", *plain]
    assert written["LAYER9_CHANNELS"] == ["[c for row in LAYER_ROWS for c in row[:9]]"]
    assert (written["ODD"], written["OTHER"]) == (plain["ODD"], plain["OTHER"])
    made: dict[str, object] = {}
    exec("\n".join(f"{name} = {chr(10).join(lines)}" for name, lines in written.items()), made)
    assert {name: made[name] for name in lists} == lists
    assert all(len(line) <= 88 for lines in written.values() for line in lines)


def test_a_block_is_explained_once() -> None:
    text = emit_torch(elaborate(parse_file(ROOT / "examples" / "mobilenet_v2.arch")))
    assert text.count("Expand, filter, project") == 1
    assert '"""`InvertedResidual` with expand=1."""' in text


def test_condensenet_is_a_few_pages() -> None:
    text = emit_torch(elaborate(parse_file(ROOT / "examples" / "condensenet74.arch")))
    assert text.count("\n") < 400


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every example, some of them as deployed too, and every sample of every operation."""
    folder = tmp_path_factory.mktemp("emitted")
    for path in sorted((ROOT / "examples").glob("*.arch")):
        graph = elaborate(parse_file(path))
        (folder / f"{path.stem}.py").write_text(emit_torch(graph), encoding="utf-8")
        if path.stem not in ("lenet5", "mixnet", "seesawnet", "shufflenet_v2"):
            continue
        graph.weights = draw(graph)
        run_pipeline(graph, pipeline("c"))
        (folder / f"{path.stem}_deployed.py").write_text(
            emit_torch(graph, form="deployment"), encoding="utf-8"
        )
    for i, (name, sample) in enumerate(SAMPLES):
        text = emit_torch(one_op(sample.op, *sample.shapes))
        (folder / f"op_{name}_{i}.py").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "command", [["check"], ["format", "--diff"], ["format", "--diff", "--line-length=110"]]
)
@pytest.mark.slow
def test_ruff_has_nothing_to_say(emitted: Path, command: list[str], need: Callable[[str], None]) -> None:
    need("ruff")
    ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--quiet", str(emitted)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_files_are_narrow_and_need_pytorch_only(emitted: Path) -> None:
    for path in sorted(emitted.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert max(map(len, text.split("\n"))) <= 110, path.name
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        allowed = {"torch", "torch.nn.functional", "collections.abc", "itertools", "typing"}
        assert imported <= allowed, path.name


def test_two_interpreters_write_the_same_bytes() -> None:
    code = (
        "import sys; from compactir.lang import elaborate, parse_file;"
        "from compactir.codegen.torch import emit_torch;"
        "sys.modules['torch'] = None;"  # emitting needs no PyTorch
        "sys.stdout.write(''.join(emit_torch(elaborate(parse_file(p))) for p in sys.argv[1:]))"
    )
    paths = [str(ROOT / "examples" / f"{n}.arch") for n in ("shufflenet_v2", "lenet5")]
    texts = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code, *paths], env=environment, capture_output=True, text=True, check=True
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert texts[0] == "".join(emit_torch(elaborate(parse_file(p))) for p in paths)


def test_the_head_says_what_it_is() -> None:
    doc = ast.get_docstring(
        ast.parse(emit_torch(elaborate(parse_file(ROOT / "examples" / "mobilenet_v2.arch"))))
    )
    assert doc is not None
    facts = ["MobileNetV2", "mobilenet_v2.arch", "3,504,872", "300,774,272", "compactir", "belongs to you"]
    assert [f for f in facts if f not in " ".join(doc.split())] == []


def test_hostile_texts_stay_texts() -> None:
    graph = elaborated("network none() {\n input F: f32[3, 4, 4]\n output y = F -> relu }")
    for doc in (
        'ends with a quote"',
        "a \\ b \\",
        'x\n\n"""\nimport os\N{BELL}',
        "",
        " | a | table |\n | b |",
    ):
        graph.doc = doc
        source = emit_torch(graph)
        assert distance(graph, source=source) == 0
        assert not any(
            isinstance(n, ast.Import) and n.names[0].name == "os" for n in ast.walk(ast.parse(source))
        )


def test_load_from_a_path_and_mistakes(tmp_path: Path) -> None:
    graph = example("lenet5")
    path = tmp_path / "lenet5.py"
    path.write_text(emit_torch(graph), encoding="utf-8")
    assert keys(load_torch(path, graph)) == set(graph.params)
    other = one_op(Linear(3), (1, 4))
    with pytest.raises(CompactError, match="CIR606"):
        load_torch(path, other)
    graph.weights = {}
    with pytest.raises(CompactError, match="CIR601"):
        load_torch(path, graph)


def test_missing_pytorch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = one_op(Linear(3), (1, 4))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CompactError, match=r"CIR605.*compactir\[torch\]"):
        load_torch(emit_torch(graph), graph)


# -- names ---------------------------------------------------------------------------------------------------


def test_names_that_a_module_has_already() -> None:
    module = torch.nn.Module()
    assert {n for n in {*dir(module), *vars(module)} if not n.startswith("_")} <= MODULE_NAMES


@pytest.mark.parametrize("name", ["half", "type", "lambda", "0", "_modules", "__x", "é", 'a"b', "x y", "{x}"])
def test_any_name_is_a_key(name: str) -> None:
    graph = Graph("names")
    x = graph.input("lambda", TensorType.f32(1, 3, 4, 4))
    y = graph.apply(Conv(Connectivity.dense(3, 3)), [x], name)
    y = graph.apply(Conv(Connectivity.dense(3, 3)), [y], f"block.{name}")
    graph.outputs["y"] = graph.apply(Conv(Connectivity.dense(3, 3)), [y], f"{name}1.conv1")
    graph.weights = random_weights(graph)
    assert distance(graph) <= TOLERANCE
    assert keys(load_torch(emit_torch(graph), graph)) == set(graph.params)


@pytest.mark.parametrize("name", ["tensor", "affine", "none", "torch", "network", "conv2d", "1x", "x-y", "é"])
def test_any_block_and_network_name(name: str) -> None:
    graph = Graph(name)
    x = graph.input("x", TensorType.f32(1, 3, 4, 4))
    for i in range(3):
        graph.scopes[f"{name}{i}"] = Scope(name)
        x = graph.apply(BatchNorm(), [x], f"{name}{i}.bn1")
        x = graph.apply(Conv(Connectivity.dense(3, 3)), [x], f"{name}{i}.conv1")
    graph.outputs["y"] = x
    graph.weights = random_weights(graph)
    assert distance(graph) <= TOLERANCE


def test_shared_and_free_parameters() -> None:
    graph = Graph("shared")
    x = graph.input("x", TensorType.f32(1, 3, 4, 4))
    conv = Conv(Connectivity.dense(3, 3, (3, 3), (1, 1, 1, 1)), bias=True)
    y = graph.apply(conv, [x], "stage.conv1")
    weight, bias = graph.params["stage.conv1.weight"], graph.params["stage.conv1.bias"]
    y = graph.append(conv, [y, weight, bias], "stage.conv2")  # the same layer again
    strided = Conv(conv.connect, (2, 2), bias=True)
    y = graph.append(strided, [y, weight, bias], "other.conv3")  # its weights in another layer
    free = graph.param("w", TensorType.f32(3, 3, 1, 1))
    y = graph.append(Conv(Connectivity.dense(3, 3)), [y, free], "conv4")
    scale = graph.param("deep.scale", TensorType.f32(1, 3, 1, 1), "buffer")
    graph.outputs["y"] = graph.append(Mul(), [y, scale], "deep.mul1")
    graph.param("unused.weight", TensorType.f32(2))
    rng = np.random.default_rng(0)
    graph.weights = {n: rng.standard_normal(p.type.shape).astype(np.float32) for n, p in graph.params.items()}
    source = emit_torch(graph)
    assert source.count("nn.Conv2d(3, 3, 3") == 1
    assert distance(graph, source=source) <= TOLERANCE
    assert keys(load_torch(source, graph)) == set(graph.params)


def test_a_block_that_cannot_be_called_in_one_go_is_dissolved() -> None:
    graph = Graph("tangled")
    x = graph.input("x", TensorType.f32(1, 3, 4, 4))
    graph.scopes |= {"a": Scope("a"), "b": Scope("b")}
    y = x
    for name in ("a.conv1", "b.conv1", "a.inner.conv1", "b.conv2"):
        y = graph.apply(Conv(Connectivity.dense(3, 3)), [y], name)
    graph.outputs["y"] = y
    graph.weights = random_weights(graph)
    source = emit_torch(graph)
    assert "self.a = nn.Module()" in source
    assert distance(graph, source=source) <= TOLERANCE
    assert keys(load_torch(source, graph)) == set(graph.params)


def test_parts_of_a_split_do_not_overwrite_other_inputs() -> None:
    graph = Graph("two")
    a, b = (graph.input(name, TensorType.f32(1, 4, 2, 2)) for name in ("a", "b"))
    a, b = (graph.apply(Relu(), [v], f"relu{i}") for i, v in enumerate((a, b)))
    graph.scopes["mix1"] = Scope("mix")
    first, second = (graph.apply(Gather(ChannelList.span(c, 2)), [a], f"mix1.slice{c}") for c in (0, 2))
    y = graph.apply(Concat(), [second, graph.apply(Relu6(), [b], "mix1.relu"), first], "mix1.concat")
    graph.outputs["y"] = y
    assert distance(graph) <= TOLERANCE


def test_a_step_named_like_the_owner_of_tensors() -> None:
    graph = Graph("named")
    x = graph.input("x", TensorType.f32(1, 3, 2, 2))
    y = graph.apply(Gather(ChannelList.of([2, 0, 1])), [x], "bn1")
    scale, shift = (graph.param(f"bn1.{n}_2", TensorType.f32(3)) for n in ("weight", "bias"))
    graph.outputs["y"] = graph.append(Affine(), [y, scale, shift], "bn1")
    graph.weights = random_weights(graph)
    assert distance(graph) <= TOLERANCE
    assert keys(load_torch(emit_torch(graph), graph)) == set(graph.params)


# -- blocks --------------------------------------------------------------------------------------------------


def classes(source: str) -> dict[str, ast.ClassDef]:
    """The classes of a file by name."""
    return {n.name: n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)}


def arguments(source: str, name: str) -> list[str]:
    """Names of a class's constructor arguments."""
    init = next(n for n in classes(source)[name].body if isinstance(n, ast.FunctionDef))
    return [a.arg for a in init.args.args[1:]]


def inverted_residual(graph: Graph, x: Value, name: str, out: int, expand: int, stride: int) -> Value:
    """MobileNetV2's block, its steps labelled."""
    graph.scopes[name] = Scope(
        "inverted_residual",
        (("out", out), ("expand", expand), ("stride", stride)),
        "Expand, filter, project.",
    )
    y, hidden = x, x.type.channels * expand
    if expand != 1:
        y = graph.apply(Conv(Connectivity.dense(x.type.channels, hidden)), [y], f"{name}.expand")
        y = graph.apply(BatchNorm(), [y], f"{name}.bn1")
        y = graph.apply(Relu6(), [y], f"{name}.relu1")
    filters = Connectivity.grouped(hidden, hidden, hidden, (3, 3), (1, 1, 1, 1))
    y = graph.apply(Conv(filters, (stride, stride)), [y], f"{name}.filter")
    y = graph.apply(BatchNorm(), [y], f"{name}.bn2")
    y = graph.apply(Relu6(), [y], f"{name}.relu2")
    y = graph.apply(Conv(Connectivity.dense(hidden, out)), [y], f"{name}.project")
    y = graph.apply(BatchNorm(), [y], f"{name}.bn3")
    return graph.apply(Add(), [x, y], f"{name}.add1") if stride == 1 and out == x.type.channels else y


def test_variants_of_a_block_are_one_class_with_conditions() -> None:
    graph = Graph("net")
    x = graph.input("image", TensorType.f32(1, 8, 8, 8))
    table = [(8, 1, 1), (16, 6, 2), (16, 6, 1), (24, 6, 1), (24, 6, 1)]
    for i, (out, expand, stride) in enumerate(table, 1):
        x = inverted_residual(graph, x, f"inverted_residual{i}", out, expand, stride)
    graph.outputs["y"] = x
    graph.weights = random_weights(graph)
    source = emit_torch(graph)
    assert set(classes(source)) == {"InvertedResidual", "Net"}
    assert arguments(source, "InvertedResidual") == ["in_channels", "out", "expand", "stride"]
    for line in (
        '    """Expand, filter, project."""',
        "        hidden = in_channels * expand",
        "        self.with_expand = expand != 1",
        "        self.residual = stride == 1 and in_channels == out",
        "        y = x\n        if self.with_expand:",
        "        self.inverted_residual1 = InvertedResidual(8, 8, expand=1)",
        "        self.inverted_residual2 = InvertedResidual(8, 16, stride=2)",
        "        for i in range(2, 6):",
    ):
        assert line in source
    assert distance(graph, source=source) <= TOLERANCE


def shuffle_unit(graph: Graph, x: Value, name: str, out: int, stride: int) -> Value:
    """ShuffleNetV2's unit: two quite different blocks under one name."""
    graph.scopes[name] = Scope("unit", (("out", out), ("stride", stride)))
    counts: dict[str, int] = {}

    def step(op: Any, *xs: Value) -> Value:
        counts[op.label] = counts.get(op.label, 0) + 1
        return graph.apply(op, list(xs), f"{name}.{op.label}{counts[op.label]}")

    c, half = x.type.channels, out // 2
    if stride == 1:
        stays, y = step(Gather(ChannelList.span(0, half)), x), step(Gather(ChannelList.span(half, half)), x)
    else:
        filters = Connectivity.grouped(c, c, c, (3, 3), (1, 1, 1, 1))
        stays = step(BatchNorm(), step(Conv(filters, (2, 2)), x))
        stays, y = step(Relu(), step(Conv(Connectivity.dense(c, half)), stays)), x
    y = step(Relu(), step(BatchNorm(), step(Conv(Connectivity.dense(y.type.channels, half)), y)))
    filters = Connectivity.grouped(half, half, half, (3, 3), (1, 1, 1, 1))
    y = step(BatchNorm(), step(Conv(filters, (stride, stride)), y))
    return step(Shuffle(2), step(Concat(), stays, step(Conv(Connectivity.dense(half, half)), y)))


def test_different_structures_become_classes_that_say_how_they_differ() -> None:
    graph = Graph("net")
    x = graph.input("image", TensorType.f32(1, 6, 8, 8))
    table = [(12, 2), (12, 1), (12, 1), (12, 1), (20, 2), (20, 1)]
    for i, (out, stride) in enumerate(table, 1):
        x = shuffle_unit(graph, x, f"unit{i}", out, stride)
    graph.outputs["y"] = x
    graph.weights = random_weights(graph)
    source = emit_torch(graph)
    assert list(classes(source)) == ["Unit", "UnitStride2", "Net"]
    assert arguments(source, "Unit") == ["out"]
    assert arguments(source, "UnitStride2") == ["in_channels", "out"]
    assert "        x1, x2 = x.chunk(2, dim=1)\n" in source
    assert "        return F.channel_shuffle(torch.cat([x1, x2], dim=1), 2)\n" in source
    assert distance(graph, source=source) <= TOLERANCE


BLOCKS = """
block gate(x, shrink: int) {
  s = x -> global_avg_pool -> conv(x.channels / shrink, kernel=1, bias=true) as squeeze -> relu
        -> conv(x.channels, kernel=1, bias=true) as excite -> hard_sigmoid
  return x * s
}
block mixer(x, out: int, kernels: list[int], gated: bool) {
  y = x -> depthwise(kernel=kernels) as mix -> bn as mix_bn -> swish
  if gated { y = y -> gate(4) as gate }
  return y -> conv(out, kernel=1) as project -> bn as project_bn
}
block basic(x, out: int, stride: int = 1) {
  y = x -> conv(out, kernel=3, stride=stride) as conv1 -> bn as bn1 -> relu
        -> conv(out, kernel=3) as conv2 -> bn as bn2
  if stride != 1 or x.channels != out { x = x -> conv(out, kernel=1, stride=stride) as down -> bn as down_bn }
  return x + y -> relu
}
block uneven(x, out: int) { return x -> conv(out, kernel=1, groups=[1/4, 3/4]) as conv -> bn as bn }
block widths(x, first: int, second: int) {
  return concat(x -> conv(first, kernel=1) as a, x -> conv(second, kernel=3) as b, x -> max_pool(3, 1, pad=1))
}
block pair(x) {
  a = x -> conv(4, kernel=1)
  return (a, x -> relu)
}
network blocks() {
  input image: f32[8, 12, 12]
  input other: f32[8, 6, 6]
  x = image -> mixer(16, [3, 5], false) as mixer1 -> mixer(32, [3, 5], true) as mixer2
            -> mixer(32, [3, 5], true) as mixer3
  x = x -> basic(32) -> basic(16) -> basic(8, stride=2) -> uneven(16) -> uneven(8)
  (a, b) = concat(x, other) -> pair
  x = concat(a, b) -> widths(4, 8) -> widths(6, 2)
  output map = x
  output score = x -> global_avg_pool -> dropout(0.2) -> linear(3) -> softmax
}
"""


def test_blocks_of_the_language() -> None:
    graph = elaborated(BLOCKS)
    source = emit_torch(graph)
    assert distance(graph, source=source) <= TOLERANCE
    assert keys(load_torch(source, graph)) == set(graph.params)
    assert arguments(source, "Uneven") == ["in_channels", "out"]
    assert arguments(source, "Basic") == ["in_channels", "out", "stride"]
    assert arguments(source, "Widths") == ["in_channels", "first", "second"]
    assert arguments(source, "Mixer") == ["in_channels", "out", "gated"]
    for line in (
        "            in_channels=[in_channels // 4, in_channels * 3 // 4],",
        "        self.with_down = stride != 1 or in_channels != out",
        "        if self.with_gate:\n            x = self.gate(x)\n",
        "        return torch.cat([branch1, branch2, branch3], dim=1)",
        "        y1, y2 = self.pair1(x)\n        x = torch.cat([y1, y2], dim=1)",
        "    def forward(self, image: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:",
    ):
        assert line in source, line


def test_identities_and_passed_through_inputs() -> None:
    graph = Graph("through")
    x = graph.input("x", TensorType.f32(1, 3, 2, 2))
    graph.scopes["skip1"] = Scope("skip")
    y = graph.apply(Identity(), [graph.apply(Identity(), [x], "skip1.identity1")], "identity1")
    graph.outputs |= {"same": y, "pooled": graph.apply(GlobalAvgPool(), [y], "pool1"), "again": x}
    assert distance(graph) == 0 or distance(graph) <= TOLERANCE

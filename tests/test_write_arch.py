"""Graph → `.arch`: every example network, bare of scopes and names, comes back, in few lines."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir import driver, reference
from compactir.cli import main
from compactir.diagnostics import CompactError
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import TensorType
from compactir.lang import elaborate, parse
from compactir.lang.format import format_text
from compactir.lang.write import Written, write_arch
from compactir.ops import OPS
from compactir.ops.conv import Conv
from compactir.weights.init import draw
from compactir.weights.safetensors import read_safetensors
from tests.conftest import ROOT

LARGE = {"bunit_resnet18"}
"""bunit_toy with 2,000 operations: 364 lines, and as many seconds as all others together."""
EXAMPLES = sorted({path.stem for path in (ROOT / "examples").glob("*.arch")} - LARGE)
DEFINES = {"condensenet74": {"form": "training"}}
"""CondenseNet's index lists are data, and fill a thousand lines."""
LINES = {"darts_v2": 292, "scalenet50": 103, "bunit_toy": 82}
"""Copies over channel slices, cells of two inputs, searched widths: what has several inputs stays."""


def bare(graph: Graph) -> Graph:
    """As another program would give it: numbered names, no scopes, no places."""
    graph.scopes, graph.doc = {}, ""
    for i, node in enumerate(graph.nodes):
        node.name = node.out.name = f"v{i}"
        node.span = None
    renamed = {}
    for i, param in enumerate(graph.params.values()):
        param.name = f"p{i}"
        renamed[param.name] = param
    graph.params = renamed
    return graph


@pytest.mark.parametrize("network", EXAMPLES)
def test_examples(network: str) -> None:
    path = ROOT / "examples" / f"{network}.arch"
    graph = bare(driver.read_graph(driver.Source(path, DEFINES.get(network, {}))))
    graph.weights = {name: np.zeros(param.type.shape, np.float32) for name, param in graph.params.items()}
    written = write_arch(graph)
    assert format_text(written.text, "again") == written.text
    assert written.lines <= LINES.get(network, 42)
    assert len(written.graph.nodes) == len(graph.nodes)
    assert set(written.weights) == set(written.graph.params)


@pytest.mark.parametrize(
    ("network", "defines"),
    [
        ("lenet5", {}),
        ("ds_cnn", {}),
        ("resnet8_cifar", {}),
        ("shufflenet_v2", {"size": "64"}),
        ("seesawnet", {"form": "cifar", "depth": "0.5", "size": "16"}),
    ],
)
def test_results(network: str, defines: dict[str, str]) -> None:
    """The written file with the renamed weights computes the same, to the last bit."""
    graph = bare(driver.read_graph(driver.Source(ROOT / "examples" / f"{network}.arch", defines)))
    graph.weights = draw(graph, 4)
    written = write_arch(graph)
    written.graph.weights = written.weights
    inputs = reference.random_inputs(graph, 1)
    for right, found in zip(
        reference.run(graph, inputs).values(), reference.run(written.graph, inputs).values(), strict=True
    ):
        assert np.array_equal(right, found)


def text_of(body: str, head: str = "input x: f32[8, 16, 16]") -> str:
    return write_arch(elaborate(parse(f"network n {{\n{head}\n{body}\n}}\n"))).text


def test_residual_where_shapes_allow(golden: Callable[[Path, str], None]) -> None:
    """The inverted residuals of MobileNetV2: one block, its condition, one loop."""
    graph = bare(driver.read_graph(driver.Source(ROOT / "examples" / "mobilenet_v2.arch")))
    golden(ROOT / "tests/golden/imported_mobilenet_v2.arch", write_arch(graph).text)


def test_the_example_of_the_manual(update_golden: bool) -> None:
    """ShuffleNetV2: two blocks, the loops between the stages."""
    graph = bare(driver.read_graph(driver.Source(ROOT / "examples" / "shufflenet_v2.arch")))
    page = ROOT / "docs/models.md"
    text = page.read_text(encoding="utf-8")
    begin, end = "<!-- imported: written by `make docs` -->\n", "<!-- end -->"
    head, _, rest = text.partition(begin)
    old, _, tail = rest.partition(end)
    new = f"\n```arch\n{write_arch(graph).text}```\n\n"
    if update_golden:
        page.write_text(head + begin + new + end + tail, encoding="utf-8")
        return
    assert old == new, "run `make docs`"


def test_the_first_layer_on_a_grey_image_is_a_plain_convolution() -> None:
    """Each channel by itself, or all of one channel: the same connections."""
    head = "input x: f32[1, 16, 16]"
    assert "x -> conv(6, kernel=3)" in text_of("output y = x -> conv(6, kernel=3)", head)
    assert "x -> depthwise(kernel=3, multiplier=2)" in text_of(
        "output y = x -> depthwise(kernel=3, multiplier=2)"
    )


def test_branches_are_kept_together() -> None:
    """In whatever order an exporter lists the branches."""
    graph = elaborate(
        parse(
            "network n {\n input x: f32[8, 8, 8]\n"
            " for i in 0..3 {\n  a = x -> conv(4, kernel=1) -> relu\n  b = x -> conv(4, kernel=3) -> relu\n"
            "  x = (a, b) -> concat\n }\n output y = x\n}"
        )
    )
    convs = [n for n in graph.nodes if n.op.name == "conv"]
    mixed: list[Node] = []
    for i in range(0, len(graph.nodes), 5):
        a, ra, b, rb, c = graph.nodes[i : i + 5]
        mixed += [b, a, rb, ra, c]
    graph.nodes = mixed
    text = write_arch(graph).text
    assert len(convs) == 6
    assert "for i in 0..3 { z = z -> branches }" in text


def test_several_inputs_and_outputs() -> None:
    text = text_of(
        "(a, b) = x -> split([2, 6])\n z = (b, h) -> concat\n output first = z -> relu\n output second = a\n"
        " output third = z",
        "input x: f32[8, 16, 16]\ninput h: f32[3, 16, 16]",
    )
    again = elaborate(parse(text))
    assert list(again.outputs) == ["first", "second", "third"]
    assert [v.name for v in again.inputs] == ["x", "h"]
    assert "split([1/4, 3/4])" in text


@pytest.mark.parametrize(
    "call",
    [
        "conv(6, kernel=[3, 5], stride=[1, 2], pad=[0, 1, 2, 3], dilation=2)",
        "conv(4, kernel=1, groups=[1/4, 3/4])",
        "conv(4, kernel=3, groups=4, bias=true)",
        "conv(2, kernel=5, connect=[[0, 1, 2, 5], 3..8])",
        "conv(16, kernel=1, connect=learned(groups=4))",
        "conv(16, kernel=1, connect=learned(groups=4, condense=2))",
        "conv(16, kernel=1, connect=balanced(keep=2, of=4))",
        "conv(16, kernel=1, connect=pruned(filters=3))",
        "depthwise(kernel=[3, 5, 7], stride=2)",
        "depthwise(kernel=3, multiplier=2, bias=true)",
        'conv(8, kernel=4, pad="same")',
        "max_pool(3, stride=2, pad=1, ceil=true)",
        "avg_pool(2, stride=1, pad=[0, 0, 1, 1], count_pad=true)",
        "permute([7, 6, 5, 4, 3, 2, 1, 0])",
        "gather([0, 0, 3])",
        "slice(2, 7)",
        "bn(eps=1e-3)",
        "lrn(size=3, beta=0.5)",
        "clip(-1.5, 2)",
        "leaky_relu(0.2)",
        "tanh(scale=1.7159, slope=2/3)",
        "upsample(2)",
        'upsample(size=[20, 30], mode="bilinear")',
        "global_max_pool -> sigmoid -> flatten -> linear(7, bias=false)",
        "flatten -> rbf(3)",
        "dropout(0.2) -> identity -> softmax",
        "hard_swish -> hard_sigmoid -> swish -> relu6 -> affine",
    ],
)
def test_every_kind_of_call(call: str) -> None:
    graph = elaborate(parse(f"network n {{\n input x: f32[8, 16, 16]\n output y = x -> {call}\n}}\n"))
    written = write_arch(graph)
    assert [n.op for n in written.graph.nodes] == [n.op for n in graph.nodes]


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ("4 of [0,4,1,5,2,6,3,7]->[0..8], 1x1", "shuffle(2) -> conv(8, kernel=1, groups=4)"),
        (
            "2 of [7,6,5,4,3,2,1,0]->[0..8], 1x1",
            "permute([7, 6, 5, 4, 3, 2, 1, 0]) -> conv(8, kernel=1, groups=2)",
        ),
        ("2 of [0..8]->[0..2,4..6,2..4,6..8], 1x1", "permute([0, 1, 4, 5, 2, 3, 6, 7])"),
        ("4 of [4..8]->[0..4], 3x3, pad 1; 4 of [0..4]->[4..8], 5x5, pad 2", "depthwise(kernel=[3, 5])"),
        ("2 of [0..2,0..2]->[0..8], 1x1", "gather([0, 1, 0, 1]) -> conv(8, kernel=1, groups=2)"),
    ],
)
def test_lists_of_channels_as_passes_leave_them(lists: str, says: str) -> None:
    """A convolution over lists is written as consecutive groups between shuffles and permutations."""
    graph = Graph("n")
    x = graph.input("x", TensorType.f32(1, 8, 5, 5))
    graph.outputs["y"] = graph.apply(Conv(Connectivity.parse(f"blocks(8->8; {lists})")), [x], "mix")
    graph.weights = draw(graph, 2)
    written = write_arch(graph)
    assert says in written.text
    written.graph.weights = written.weights
    inputs = reference.random_inputs(graph, 0)
    (right,), (found,) = (reference.run(it, inputs).values() for it in (graph, written.graph))
    assert np.allclose(right, found, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (
            "6; 1 of [0..4]->[0..4], 3x3, pad 1; 1 of [0..4]->[4..6], 1x1",
            """
  z = x -> slice(0, stop=4)
  a = z -> conv(4, kernel=3, bias=true)
  z = z -> conv(2, kernel=1, bias=true)
  output y = (a, z) -> concat
""",
        ),
        (
            "6; 1 of [0..5]->[2..6], 3x3, pad 1; 1 of [3..8]->[1,0], 1x1",
            """
  z = x -> slice(3, stop=8) -> conv(2, kernel=1, bias=true)
  a = x -> slice(0, stop=5) -> conv(4, kernel=3, bias=true)
  output y = (z, a) -> concat
""",
        ),
        (
            "6; 2 of [0..4,3..7]->[0..2,4..6], 3x3, pad 1; 2 of [7,2]->[2..4], 5x5, pad 2",
            """
  z = x -> slice(0, stop=4) -> conv(2, kernel=3, bias=true)
  a = x -> gather([7, 2]) -> depthwise(kernel=5, bias=true)
  b = x -> slice(3, stop=7) -> conv(2, kernel=3, bias=true)
  output y = (z, a, b) -> concat
""",
        ),
        (
            "36; 1 of [0..4]->[0..36:2], 3x3, pad 1; 1 of [3..8]->[1..36:2], 1x1",
            """
  z = x -> slice(0, stop=4) -> conv(18, kernel=3, bias=true)
  a = x -> slice(3, stop=8) -> conv(18, kernel=1, bias=true)
  output y = (z, a) -> concat -> shuffle(2)
""",
        ),
        (
            "3; 1 of [5]->[2], 3x3, pad 1; 1 of [5]->[0], 1x3, pad 0/1/0/1; 1 of [0]->[1], 1x1",
            """
  z = x -> slice(5, stop=6)
  a = z -> conv(1, kernel=[1, 3], bias=true)
  b = x -> slice(0, stop=1) -> conv(1, kernel=1, bias=true)
  z = z -> conv(1, kernel=3, bias=true)
  output y = (a, b, z) -> concat
""",
        ),
    ],
)
def test_several_kernels_over_parts_of_a_value(lists: str, says: str) -> None:
    """No word makes them in one: slices, convolutions and a concat, in the order of the outputs."""
    graph = Graph("n")
    x = graph.input("x", TensorType.f32(1, 8, 5, 5))
    conv = Conv(Connectivity.parse(f"blocks(8->{lists})"), bias=True)
    graph.outputs["y"] = graph.apply(conv, [x], "mix")
    assert says in write_arch(graph).text
    written = computes_the_same(graph)
    assert says in written.text
    assert set(written.weights) == set(written.graph.params)


@pytest.mark.parametrize(
    "lists",
    [
        "2 of [0..8]->[0..2,4..6,2..4,6..8], 1x1",
        "5 of [7,3,5,1,0]->[0,2,4,6,7], 1x1; 3 of [0..6]->[1,3,5], 1x1",
        "4 of [4..8]->[4..8], 3x3, pad 1; 4 of [3,2,1,0]->[3,0,2,1], 5x5, pad 2",
    ],
)
def test_a_bias_goes_with_its_output(lists: str) -> None:
    """Where the order of the outputs stands behind the convolution, the bias has the other order."""
    graph = Graph("n")
    x = graph.input("x", TensorType.f32(1, 8, 5, 5))
    conv = Conv(Connectivity.parse(f"blocks(8->8; {lists})"), bias=True)
    graph.outputs["y"] = graph.apply(conv, [x], "mix")
    assert "permute(" in computes_the_same(graph).text


def test_parts_with_strides_between_other_layers() -> None:
    """Batch normalisation before and behind stays where it is, and so do stride and dilation."""
    graph = Graph("n")
    x = graph.input("x", TensorType.f32(1, 8, 9, 9))
    connect = Connectivity.parse("blocks(8->6; 1 of [0..5]->[0..4], 3x3, pad 2; 1 of [3..8]->[4..6], 1x1)")
    y = graph.apply(OPS["bn"](), [x], "before")
    y = graph.apply(Conv(connect, (2, 2), (2, 2)), [y], "mix")
    graph.outputs["y"] = graph.apply(OPS["bn"](), [graph.apply(OPS["relu"](), [y], "r")], "behind")
    text = computes_the_same(graph).text
    assert "slice(0, stop=5) -> conv(4, kernel=3, stride=2, dilation=2)" in text


def computes_the_same(graph: Graph) -> Written:
    """Write it with weights, no bias among them zero: the same results, but for the order of additions."""
    rng = np.random.default_rng(2)
    graph.weights = {
        name: rng.uniform(0.5, 1.5, param.type.shape).astype(np.float32)
        for name, param in graph.params.items()
    }
    written = write_arch(graph)
    written.graph.weights = written.weights
    inputs = reference.random_inputs(graph, 0)
    (right,), (found,) = (reference.run(it, inputs).values() for it in (graph, written.graph))
    assert np.allclose(right, found, rtol=1e-6, atol=1e-6)
    return written


def test_names_that_the_language_does_not_allow() -> None:
    graph = elaborate(parse("network n {\n input x: f32[8, 16, 16]\n output y = x -> relu\n}\n"))
    graph.name, graph.inputs[0].name, graph.doc = "torch-jit-export", "in.put", 'says "hello"'
    graph.outputs = {"1st": graph.outputs["y"]}
    text = write_arch(graph).text
    assert "network torch_jit_export()" in text
    assert "input in_put: f32[8, 16, 16]" in text
    assert re.search(r"output n1st = in_put -> relu", text)


def test_numbers_of_an_exporter_are_no_names() -> None:
    """They give way to what the tensors are; of several each has its own."""
    text = "network n {\n input x: f32[3, 8, 8]\n input b: f32[8]\n"
    text += " output y = x -> flatten -> linear(3)\n output z = b\n output v = x -> relu\n}\n"
    graph = elaborate(parse(text))
    graph.inputs[0].name, graph.inputs[1].name = "input.1", "17"
    graph.outputs = dict(zip(["536", "output_2", "2"], graph.outputs.values(), strict=True))
    assert [v.name for v in write_arch(graph).graph.inputs] == ["image", "x"]
    assert list(write_arch(graph).graph.outputs) == ["logits", "y", "y2"]
    graph.inputs[0].name, graph.outputs = "left1", {"score": graph.outputs["536"]}
    assert [v.name for v in write_arch(graph).graph.inputs] == ["left1", "x"]
    assert list(write_arch(graph).graph.outputs) == ["score"]


@pytest.mark.parametrize(
    ("network", "block"),
    [
        (
            "googlenet",
            "inception(x, out1: int, reduce3: int, out3: int, reduce5: int, out5: int, pool: int)",
        ),
        ("squeezenet", "fire(x, out: int)"),
        ("mixnet", "residual(x, out: int, squeeze: int, kernel=[3, 5], groups: int = 2)"),
    ],
)
def test_parameters_say_what_they_are(network: str, block: str) -> None:
    graph = driver.read_graph(driver.Source(ROOT / f"examples/{network}.arch"))
    assert f"block {block} {{" in write_arch(graph).text


def test_what_has_no_words_is_listed_at_once() -> None:
    graph = elaborate(
        parse("network n {\n input x: f32[8, 16, 16]\n output y = x -> flatten -> linear(3)\n}\n")
    )
    value: Value = graph.outputs["y"]
    from compactir.ops.tensor import Unary

    for i in range(2):
        value = graph.append(Unary("exp"), [value], f"exp{i}")
        value = graph.append(OPS["flatten"](), [value], f"flat{i}")
    graph.outputs = {"y": value}
    with pytest.raises(CompactError) as caught:
        write_arch(graph)
    assert caught.value.code == "CIR680"
    assert [note.partition(":")[0] for note in caught.value.notes] == ["`exp0`", "`exp1`"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (ROOT / "examples" / "lenet5.arch", ROOT / "examples" / "lenet5.safetensors")
    out = tmp_path / "mine.arch"
    assert main(["import", str(source[0]), "-o", str(out)]) == 0
    assert re.search(r"mine.arch: \d+ lines", capsys.readouterr().out)
    before, after = driver.read(driver.Source(source[0])), driver.read(driver.Source(out))
    inputs = reference.random_inputs(before.graph, 0)
    (a,), (b,) = (reference.run(it.graph, inputs).values() for it in (before, after))
    assert np.array_equal(a, b)
    assert set(read_safetensors(out.with_suffix(".safetensors"))) == set(after.graph.params)
    assert main(["import", str(out), "-o", str(out)]) == 2
    assert main(["import", str(out), "-o", str(tmp_path / "x.txt")]) == 2
    assert capsys.readouterr().err.count("CIR681") == 2
    assert main(["import", str(out), "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith('"""')


def test_light_shufflenet(tmp_path: Path, need: Callable[[str], None]) -> None:
    """The network of ONNX's own test data: 16 shuffles as reshapes, 32 group convolutions, in a page."""
    need("onnx")
    import onnx.backend.test

    model = Path(onnx.backend.test.__file__).parent / "data" / "light" / "light_shufflenet.onnx"
    out = tmp_path / "shufflenet.arch"
    assert main(["import", str(model), "-o", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.count("\n") < 40
    assert format_text(text, "again") == text
    before, after = driver.read(driver.Source(model)).graph, driver.read(driver.Source(out)).graph
    assert sum(n.op.name == "shuffle" for n in after.nodes) == 16
    stored = read_safetensors(out.with_suffix(".safetensors"))
    assert {t.dtype for t in stored.values()} == {"float32"}
    before.weights = draw(before, 3)  # the file holds one number everywhere: any mistake would pass
    written = write_arch(before)
    written.graph.weights = written.weights
    inputs = reference.random_inputs(before, 1)
    (right,), (found,) = (reference.run(it, inputs).values() for it in (before, written.graph))
    assert np.array_equal(right, found)
    assert list(written.graph.params) == list(after.params)

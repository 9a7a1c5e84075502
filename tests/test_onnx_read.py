"""Reading ONNX: operators in the forms that the backend suite leaves out, raising, names, refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='no onnx here: pip install "compactir[onnx]"')
pytest.importorskip("onnxruntime", reason="no onnxruntime here: pip install onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.driver import Source, plan
from compactir.driver import read as read_source
from compactir.frontends.onnx import read
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.targets import load_target
from tests import fuzz_onnx
from tests.onnx_models import array, in_runtime, model, saved

INTS = np.int64


def agree(graph: Graph, built: Any, tolerance: float = 1e-5) -> None:
    """The reference of what was read and ONNX Runtime agree."""
    inputs = reference.random_inputs(graph)
    ours = list(reference.run(graph, inputs).values())
    theirs = in_runtime(built, inputs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-30)


W = array(4, 3, 3, 3)
S = array(4, 3, 3)
PADS = np.array([0, 1, -2, 3, 0, 0, 3, -4], np.int64)
CASES: dict[str, tuple[str, int, dict[str, Array]]] = {
    "conv auto_pad upper": ('y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)', 11, {"w": W}),
    "conv auto_pad lower": ('y = Conv <auto_pad="SAME_LOWER", strides=[2,2]> (x, w)', 11, {"w": W}),
    "conv bias dilation": (
        "y = Conv <dilations=[2,1], pads=[2,1,2,1]> (x, w, b)",
        9,
        {"w": W, "b": array(4)},
    ),
    "conv of a padded map": ("p = Pad <pads=[0,0,1,1,0,0,0,0]> (x) y = Conv (p, w)", 10, {"w": W}),
    "transposed, grouped": (
        "y = ConvTranspose <group=3, strides=[2,2], pads=[1,0,0,1], output_padding=[1,0]> (x, w)",
        11,
        {"w": array(3, 2, 3, 3)},
    ),
    **{
        f"transposed to a shape, {name}": (
            f"y = ConvTranspose <strides=[3,2], {how} output_shape=[{shape}]> (x, w)",
            11,
            {"w": array(3, 2, 1, 4)},
        )
        for name, how, shape in [
            ("an odd row less", "", "21,15"),  # naturally it is 22 x 18
            ("an odd row less at the end", 'auto_pad="SAME_UPPER",', "21,15"),
            ("rows more, columns less", "", "24,15"),
            ("rows less, columns more", "", "19,19"),
        ]
    },
    "padding that wraps around what is left": ('y = Pad <mode="wrap"> (x, p)', 19, {"p": PADS}),
    "padding that mirrors what is left": ('y = Pad <mode="reflect"> (x, p)', 19, {"p": PADS}),
    "pools": (
        """a = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1> (x)
        y = AveragePool <kernel_shape=[2,2], auto_pad="SAME_UPPER"> (a)""",
        12,
        {},
    ),
    "dilated pool": ("y = MaxPool <kernel_shape=[2,2], dilations=[2,2]> (x)", 12, {}),
    "clip of old": ("y = Clip <min=-0.5, max=0.5> (x)", 6, {}),
    "softmax over several axes": ("y = Softmax <axis=1> (x)", 11, {}),
    "log softmax": ("y = LogSoftmax <axis=2> (x)", 13, {}),
    "slice of old": ("y = Slice <axes=[2,3], starts=[1,-4], ends=[9,-1]> (x)", 9, {}),
    "batch norm": (
        "y = BatchNormalization (x, g, b, m, v)",
        9,
        {"g": array(3), "b": array(3), "m": array(3), "v": np.abs(array(3)) + 1},
    ),
    "gemm with factors": (
        "f = Flatten (x) y = Gemm <alpha=0.5, beta=2.0> (f, w, b)",
        11,
        {"w": array(192, 4), "b": array(4)},
    ),
    "gemm transposed": (
        "f = Flatten (x) t = Transpose (f) y = Gemm <transA=1, transB=1> (t, w)",
        11,
        {"w": array(4, 192)},
    ),
    "matmul of maps": ("y = MatMul (x, w)", 13, {"w": array(8, 5)}),
    "shape arithmetic": (
        """s = Shape (x) n = Gather (s, zero) u = Unsqueeze (n, axis) r = Concat <axis=0> (u, rest)
        y = Reshape (x, r)""",
        13,
        {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1], INTS)},
    ),
    "instance norm": ("y = InstanceNormalization (x, g, b)", 9, {"g": array(3), "b": array(3)}),
    "lp norm": ("y = LpNormalization <axis=1> (x)", 11, {}),
    "resize by sizes": (
        'y = Resize <mode="linear", coordinate_transformation_mode="align_corners"> (x, , , s)',
        13,
        {"s": np.array([1, 3, 5, 11], INTS)},
    ),
    "upsample": ('y = Upsample <mode="nearest"> (x, s)', 9, {"s": np.array([1, 1, 2, 3], np.float32)}),
    "depth to space": ("c = Conv (x, w) y = DepthToSpace <blocksize=2> (c)", 13, {"w": array(8, 3, 1, 1)}),
    "where less": ("l = Less (x, t) y = Where (l, t, x)", 13, {"t": np.array(0.25, np.float32)}),
    "mish gelu elu": ("a = Mish (x) b = Gelu (a) c = Elu (b) y = Celu (c)", 20, {}),
    "float16 weights": ("h = Cast <to=1> (w) y = Conv (x, h)", 13, {"w": W.astype(np.float16)}),
    "float64 weights": ("h = Cast <to=1> (w) y = Conv (x, h)", 13, {"w": W.astype(np.float64)}),
    "tile and pad": (
        't = Tile (x, r) y = Pad <mode="reflect"> (t, p)',
        13,
        {"r": np.array([1, 1, 2, 1]), "p": np.array([0, 0, 1, 0, 0, 0, 2, 3])},
    ),
    "reductions": (
        "a = ReduceL2 <axes=[1], keepdims=1> (x) b = ReduceLogSumExp <axes=[2]> (a) y = Sum (a, b)",
        11,
        {},
    ),
    "scatter": (
        "y = ScatterND (x, i, u)",
        13,
        {"i": np.array([[0, 1], [0, 0]]), "u": array(2, 8, 8)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_mean_what_onnx_runtime_means(name: str, tmp_path: Path) -> None:
    text, opset, constants = CASES[name]
    built = model(f"g (float[1,3,8,8] x) => (float[] y) {{ {text} }}", opset, **constants)
    built.graph.output[0].type.tensor_type.ClearField("shape")
    agree(read(saved(tmp_path, built)), built)


X = array(1, 3, 8, 8)
BY_HAND: dict[str, tuple[str, int, dict[str, Array], Array]] = {
    "broadcast of old": (
        "y = Add <broadcast=1, axis=1> (x, b)",
        6,
        {"b": array(3)},
        X + array(3)[:, None, None],
    ),
    "per channel prelu of old": (
        "y = PRelu (x, s)",
        6,
        {"s": array(3)},
        np.maximum(X, 0) + np.minimum(X, 0) * array(3)[:, None, None],
    ),
    "even window": (
        "y = LRN <size=2, alpha=0.5, beta=1.0> (x)",
        13,
        {},
        X / (1 + 0.25 * (X**2 + np.pad(X**2, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, 1:])),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_operators_that_onnx_runtime_does_not_run(name: str, tmp_path: Path) -> None:
    text, opset, constants, expected = BY_HAND[name]
    built = model(f"g (float[1,3,8,8] x) => (float[1,3,8,8] y) {{ {text} }}", opset, **constants)
    ours = reference.run(read(saved(tmp_path, built)), {"x": X})["y"]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def operations(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


RAISED: dict[str, tuple[str, int, dict[str, Array], list[str]]] = {
    "shuffle": (
        "r = Reshape (x, a) t = Transpose <perm=[0,2,1,3,4]> (r) y = Reshape (t, b)",
        13,
        {"a": np.array([1, 2, 3, 8, 8]), "b": np.array([0, -1, 8, 8])},
        ["shuffle"],
    ),
    "even groups": (
        "a, b = Split <axis=1> (x) p = Conv (a, v) q = Conv (b, w) y = Concat <axis=1> (p, q)",
        11,
        {"v": array(2, 3, 1, 1), "w": array(2, 3, 1, 1, seed=1)},
        ["conv"],
    ),
    "uneven groups": (
        "a, b = Split <axis=1, split=[4, 2]> (x) p = Conv (a, v) q = Conv (b, w) y = Concat <axis=1> (p, q)",
        11,
        {"v": array(4, 4, 1, 1), "w": array(2, 2, 1, 1)},
        ["conv"],
    ),
    "channels": ("y = Gather <axis=1> (x, i)", 13, {"i": np.array([5, 0, 3])}, ["gather"]),
    "squeeze and excitation": (
        """m = ReduceMean <axes=[2,3]> (x) a = Conv (m, v) r = Relu (a) b = Conv (r, w) s = Sigmoid (b)
        y = Mul (s, x)""",
        13,
        {"v": array(2, 6, 1, 1), "w": array(6, 2, 1, 1)},
        ["global_avg_pool", "conv", "relu", "conv", "sigmoid", "mul"],
    ),
    "hard swish": (
        "a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six)",
        13,
        {"three": np.array(3, np.float32), "zero": np.array(0, np.float32), "six": np.array(6, np.float32)},
        ["hard_swish"],
    ),
    "hard swish by hard sigmoid": (
        "h = HardSigmoid <alpha=0.1666667> (x) y = Mul (x, h)",
        13,
        {},
        ["hard_swish"],
    ),
    "swish": ("s = Sigmoid (x) y = Mul (x, s)", 13, {}, ["swish"]),
    "relu6": (
        "y = Clip (x, zero, six)",
        13,
        {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)},
        ["relu6"],
    ),
    "head": (
        "m = GlobalAveragePool (x) f = Flatten (m) p = MatMul (f, w) y = Add (p, b)",
        13,
        {"w": array(6, 4), "b": array(4)},
        ["global_avg_pool", "flatten", "linear"],
    ),
    "batch norm stays": (
        "c = Conv (x, w) y = BatchNormalization (c, g, b, m, v)",
        13,
        {"w": array(4, 6, 1, 1), "g": array(4), "b": array(4), "m": array(4), "v": np.abs(array(4)) + 1},
        ["conv", "bn"],
    ),
    "scale per channel": (
        "s = Mul (x, g) y = Add (s, b)",
        13,
        {"g": array(6, 1, 1), "b": array(1, 6, 1, 1)},
        ["affine"],
    ),
    "upsample": (
        """y = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">
        (x, , s)""",
        13,
        {"s": np.array([1, 1, 2, 2], np.float32)},
        ["upsample"],
    ),
    "quantized": (
        """q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) w = DequantizeLinear (i, t, n)
        y = Conv (d, w)""",
        13,
        {
            "s": np.array(0.05, np.float32),
            "z": np.array(0, np.uint8),
            "i": np.arange(-12, 12, dtype=np.int8).reshape(4, 6, 1, 1),
            "t": np.array(0.1, np.float32),
            "n": np.array(0, np.int8),
        },
        ["clip", "conv"],
    ),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_is_spelled_out_becomes_a_layer(name: str, tmp_path: Path) -> None:
    text, opset, constants, expected = RAISED[name]
    built = model(f"g (float[1,6,8,8] x) => (float[] y) {{ {text} }}", opset, **constants)
    built.graph.output[0].type.tensor_type.ClearField("shape")
    graph = read(saved(tmp_path, built))
    assert operations(graph) == expected
    agree(graph, built, tolerance=0.05 if name == "quantized" else 1e-5)


def test_rounding_that_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Values that are quantized, each with its step; constants are exact and not spoken of."""
    text = """g (float[1,6,8,8] x) => (float[1,4,8,8] y) {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) w = DequantizeLinear (i, t, n)
        v = Conv (d, w) r = QuantizeLinear (v, t, z) y = DequantizeLinear (r, t, z) }"""
    _, opset, constants, _ = RAISED["quantized"]
    graph = read(saved(tmp_path, model(text, opset, **constants)))
    (said,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert said.getMessage().startswith("CIR638: ")
    assert "in 2 places values are clamped" in said.getMessage()
    assert "half a step (0.025 to 0.05)" in said.getMessage()
    assert operations(graph) == ["clip", "conv", "clip"]
    caplog.clear()
    only = "g (float[1,6,8,8] x) => (float[1,4,8,8] y) { w = DequantizeLinear (i, t, n) y = Conv (x, w) }"
    read(saved(tmp_path, model(only, opset, **constants)))
    assert not caplog.records
    plan(read_source(Source(graph)), load_target("c"))


def test_sequences(tmp_path: Path) -> None:
    built = model(
        "g (float[2,3,9] x) => (float[2,4,4] y) { c = Conv <pads=[1,1]> (x, w) r = Relu (c) "
        "y = MaxPool <kernel_shape=[2], strides=[2]> (r) }",
        13,
        w=S,
    )
    agree(read(saved(tmp_path, built)), built)


# -- names, shapes, the driver -------------------------------------------------------------------------------


def test_steps_are_called_after_their_weights(tmp_path: Path) -> None:
    built = model(
        """g (float[1,3,8,8] image) => (float[1,2] scores) {
        c = Conv (image, w) f = Flatten (c) s = Gemm (f, v) scores = Relu(s) }"""
    )
    for name, data, node, index in (
        ("features.0.weight", array(2, 3, 8, 8), 0, 1),
        ("w2", array(2, 2), 2, 1),
    ):
        built.graph.initializer.append(numpy_helper.from_array(data, name))
        built.graph.node[node].input[index] = name
    built.graph.node[2].name = "/classifier/Gemm"
    graph = read(saved(tmp_path, built))
    assert [n.name for n in graph.nodes] == ["features_0", "f", "classifier_Gemm", "scores"]
    assert [v.name for v in graph.inputs] == ["image"]
    assert list(graph.outputs) == ["scores"]
    assert str(graph.nodes[2].span) == "model.onnx:3:1"


def test_open_extents(tmp_path: Path) -> None:
    path = saved(tmp_path, model("g (float[n,3,height,8] x) => (float[n,3,height,8] y) { y = Relu (x) }"))
    graph = read_source(Source(path, {"height": "5"}, batch=2)).graph
    assert graph.inputs[0].type.shape == (2, 3, 5, 8)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, r"CIR634.*`height`.*is open"),
        ({"defines": {"heigth": "5", "height": "5"}}, r"CIR634.*`heigth`.*did you mean `height`"),
        ({"defines": {"height": "tall"}}, r"CIR660.*height=tall"),
        ({"network": "other"}, "CIR660.*--network"),
    ]
    for given, words in wrong:
        with pytest.raises(CompactError, match=words):
            read_source(Source(path, **given))


def test_weights_of_the_model_are_used(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = saved(tmp_path, model("g (float[1,3,8,8] x) => (float[1,4,6,6] y) { y = Conv (x, w) }", w=W))
    authored = read_source(Source(path))
    assert authored.init["weights"] == "file"
    assert authored.init["file"] == "model.onnx"
    assert np.array_equal(authored.graph.weights["y.weight"], W)
    assert not recwarn
    drawn = read_source(Source(path, seed=3))
    assert drawn.init == {"weights": "random", "seed": 3}
    assert not np.array_equal(drawn.graph.weights["y.weight"], W)


# -- refusals ------------------------------------------------------------------------------------------------


def test_everything_that_is_not_read_is_listed_at_once(tmp_path: Path) -> None:
    built = model(
        "g (float[1,3,8,8] x) => (float[] y) { a = Det (x) b = NonZero (x) c = Relu (b) y = Conv (x, x) }"
    )
    with pytest.raises(CompactError) as caught:
        read(saved(tmp_path, built))
    assert caught.value.code == "CIR633"
    assert caught.value.message == "3 nodes cannot be imported"
    listed = "\n".join(caught.value.notes)
    for words in ("`a` (Det)", "`b` (NonZero)", "`y` (Conv): the weight is computed when the network runs"):
        assert words in listed
    assert "`c`" not in listed  # not read because of `b`


def test_what_is_not_read_behind_what_is_not_read_is_listed_too(tmp_path: Path) -> None:
    built = model(
        "g (float[1,3,8,8] x) => (float[] y) { a = Det (x) b = Relu (a) c = HardSwish (b) y = Det (c) }"
    )
    built.graph.node.add(op_type="Mine", domain="com.example", input=["y"], output=["z"])
    with pytest.raises(CompactError) as caught:
        read(saved(tmp_path, built))
    assert caught.value.message == "3 nodes cannot be imported"
    listed = "\n".join(caught.value.notes)
    assert "`a` (Det)" in listed
    assert "`y` (Det)" in listed
    assert "(Mine): `com.example` is not ONNX's own domain" in listed
    assert "(Relu)" not in listed  # read, once `a` is
    assert "(HardSwish)" not in listed


def test_open_extents_are_listed_at_once(tmp_path: Path) -> None:
    path = saved(tmp_path, model("g (float[N,3,H,W] x) => (float[N,4,P,Q] y) { y = Conv (x, w) }", w=W))
    with pytest.raises(CompactError, match=r"`x`: its extents 2 \(`H`\) and 3 \(`W`\) are open") as caught:
        read(path)
    assert caught.value.code == "CIR634"
    with pytest.raises(CompactError, match=r"`x`: its extent 3 \(`W`\) is open"):
        read(path, dims={"H": 8})


def test_weights_that_are_not_numbers_are_refused_with_the_list(tmp_path: Path) -> None:
    spoiled = W.copy()
    spoiled[0, 1, 2, 0] = np.nan
    path = saved(tmp_path, model("g (float[1,3,8,8] x) => (float[1,4,6,6] y) { y = Conv (x, w) }", w=spoiled))
    with pytest.raises(CompactError, match=r"the weights in model.onnx cannot be used: 1 wrong") as caught:
        read(path)
    assert caught.value.code == "CIR643"
    assert list(caught.value.notes) == ["`y.weight` holds NaN in 1 place, first at [0, 1, 2, 0]"]


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_of_other_types_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    number = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE}
    other = helper.make_tensor("w", number[kind], W.shape, W.reshape(-1).tolist())
    exact = numpy_helper.to_array(other).astype(np.float32)
    built = model("g (float[1,3,8,8] x) => (float[1,4,6,6] y) { y = Conv (x, w) }", w=W)
    built.graph.initializer[0].CopyFrom(other)
    path = saved(tmp_path, built)
    how = "rounded to float32" if kind == "float64" else "widened to float32, exactly"
    with caplog.at_level("INFO", "compactir"):
        graph = read(path)
    assert f"model.onnx: 1 constant: {kind}, {how}" in caplog.messages
    assert np.array_equal(graph.weights["y.weight"], exact)
    caplog.clear()
    arch = tmp_path / "net.arch"
    arch.write_text("network net {\n  input x: f32[3, 8, 8]\n  output y = x -> conv(4, kernel=3, pad=0)\n}\n")
    names = tmp_path / "names"
    names.write_text("w -> conv1.weight\n")
    with caplog.at_level("INFO", "compactir"):
        loaded = read_source(Source(arch, weights=path, map=str(names))).graph
    assert f"1 tensor of model.onnx: {kind}, {how}" in caplog.messages
    assert np.array_equal(loaded.weights["conv1.weight"], exact)


def _spoiled(change: Any) -> Any:
    built = model("g (float[1,3,8,8] x) => (float[1,4,6,6] y) { c = Conv (x, w) y = Relu (c) }", w=W)
    change(built)
    return built


def _external(built: Any, location: str, length: int = 432) -> None:
    it = built.graph.initializer[0]
    it.ClearField("raw_data")
    it.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        entry = it.external_data.add()
        entry.key, entry.value = key, value


def _circle(built: Any) -> None:
    built.graph.node[0].input[0] = "y"


def _function(built: Any) -> None:
    """A function that calls itself."""
    body = [helper.make_node("f", ["a"], ["b"], domain="own")]
    built.functions.append(
        helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("own", 1)])
    )
    built.opset_import.append(helper.make_opsetid("own", 1))
    built.graph.node[1].CopyFrom(helper.make_node("f", ["c"], ["y"], domain="own"))


def _many_functions(built: Any) -> None:
    """Functions that call the next one twice: a small file, 2 to the 20 nodes."""
    for i in range(20):
        body = [helper.make_node(f"f{i + 1}", ["a"], [x], domain="own") for x in ("p", "b")]
        if i == 19:
            body = [helper.make_node("Relu", ["a"], ["b"])]
        opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)]
        built.functions.append(helper.make_function("own", f"f{i}", ["a"], ["b"], body, opsets))
    built.graph.node[1].CopyFrom(helper.make_node("f0", ["c"], ["y"], domain="own"))


HOSTILE: dict[str, tuple[Any, str]] = {
    "circle": (_circle, "CIR631.*only later nodes make"),
    "undefined": (lambda m: m.graph.node[0].input.__setitem__(0, "nothing"), "CIR631.*reads `nothing`"),
    "made twice": (lambda m: m.graph.node[1].output.__setitem__(0, "c"), "CIR631.*makes `c` again"),
    "two constants": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "CIR631.*two constants"),
    "two inputs": (lambda m: m.graph.input.append(m.graph.input[0]), "CIR631.*two inputs"),
    "no output": (lambda m: m.graph.ClearField("output"), "CIR631.*no output"),
    "no graph": (lambda m: m.ClearField("graph"), "CIR630.*no graph"),
    "claims terabytes": (
        lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 40),
        r"CIR635.*shape \[1099511627776",
    ),
    "claims less": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2), "CIR631.*holds 108.*wants 54"),
    "negative": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "CIR631.*shape"),
    "text": (lambda m: setattr(m.graph.initializer[0], "data_type", 8), "CIR631.*STRING"),
    "unknown type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "CIR631.*type 99"),
    "outside": (lambda m: _external(m, "../secret.bin"), "CIR632.*outside"),
    "absolute": (lambda m: _external(m, "/etc/passwd"), "CIR632.*outside"),
    "through a link": (lambda m: _external(m, "link/secret.bin"), "CIR632.*outside"),
    "nowhere": (lambda m: _external(m, "gone.bin"), "CIR632.*no such file"),
    "too short": (lambda m: _external(m, "short.bin"), "CIR632.*does not hold"),
    "a zero byte": (lambda m: _external(m, "a\0b"), "CIR632"),
    "groups that do not divide": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("group", 2)),
        "CIR631.*`c` \\(Conv\\)",
    ),
    "stride 0": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("strides", [0, 0])),
        "CIR631.*`c` \\(Conv\\)",
    ),
    "attribute of another type": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("strides", "two")),
        "CIR631.*`c` \\(Conv\\)",
    ),
    "negative input": (
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value"),
        "CIR634.*open",
    ),
    "too old": (lambda m: setattr(m.opset_import[0], "version", 3), "CIR633.*version 3"),
    "too new": (lambda m: setattr(m.opset_import[0], "version", 99), "CIR633.*version 99"),
    "function of itself": (_function, "CIR631.*circle"),
    "functions of functions": (_many_functions, "CIR631.*too often"),
    "foreign": (lambda m: setattr(m.graph.node[1], "domain", "com.example"), "CIR633.*com.example"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    change, words = HOSTILE[name]
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1024))
    (folder / "short.bin").write_bytes(bytes(10))
    (folder / "link").symlink_to(tmp_path)
    path = saved(folder, _spoiled(change))
    with pytest.raises(CompactError, match=words):
        read(path)


def test_external_data_inside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(W.tobytes())
    graph = read(saved(tmp_path, _spoiled(lambda m: _external(m, "data/w.bin"))))
    assert np.array_equal(graph.weights["c.weight"], W)


def test_broken_files(tmp_path: Path) -> None:
    whole = _spoiled(lambda m: None).SerializeToString()
    path = tmp_path / "broken.onnx"
    for content in (b"", b"\x00" * 100, b"text, not a model", whole[: len(whole) // 2], whole[:-3]):
        path.write_bytes(content)
        with pytest.raises(CompactError, match=r"CIR63[01]"):
            read(path)
    for other in (tmp_path / "gone.onnx", tmp_path, Path("/dev/zero")):
        with pytest.raises(CompactError, match="CIR630"):
            read(other)


def test_bytes_changed_at_random(tmp_path: Path) -> None:
    """Whatever a few wrong bytes say: read or refused, never anything else."""
    rng = np.random.default_rng(0)
    whole = np.frombuffer(_spoiled(lambda m: None).SerializeToString(), np.uint8)
    path, refused = tmp_path / "spoiled.onnx", 0
    for _ in range(400):
        spoiled = whole.copy()
        spoiled[rng.integers(len(whole), size=3)] = rng.integers(256, size=3)
        path.write_bytes(spoiled.tobytes())
        try:
            read(path)
        except CompactError:
            refused += 1
    assert 40 < refused < 400


def test_mutated_models(tmp_path: Path) -> None:
    """Wrong content in valid containers; `make onnx-suite` tries ten thousand."""
    counts = fuzz_onnx.run(400, 0, tmp_path)
    assert counts["read"] > 40
    assert counts["CIR631"] > 40
    assert [p.name for p in tmp_path.iterdir()] == ["mutated.onnx"]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, _spoiled(lambda m: None))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CompactError, match=r"CIR605.*compactir\[onnx\]"):
        read(path)

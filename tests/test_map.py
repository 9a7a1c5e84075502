"""Weights under foreign names: `--map auto` and `--map FILE`, on torchvision's and timm's names and shapes.

tests/make_state_dicts.py wrote the names and shapes, and compares with the libraries themselves on request.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compactir import driver, reference
from compactir.cli import main
from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph
from compactir.ir.types import Array
from compactir.lang import elaborate, parse
from compactir.targets import load_target
from compactir.tools.zoo import difference, run_c
from compactir.weights.init import draw
from compactir.weights.load import load_weights
from compactir.weights.safetensors import write_safetensors
from tests.conftest import ROOT

FOREIGN = sorted((ROOT / "tests" / "state_dicts").glob("*.json"))
AT64 = {"size": "64"}
JUDGE = {"squeezenet": {}, "googlenet": {"bn": True}, "shufflenet_v2": {}, "mobilenet_v2": {}, "mixnet": {}}


def foreign(network: str) -> tuple[dict[str, Array], dict[str, str]]:
    """Random values under the library's names, in its order; and our parameters of that network."""
    stored = json.loads((ROOT / "tests" / "state_dicts" / f"{network}.json").read_text())
    rng = np.random.default_rng(11)

    def drawn(name: str, shape: list[int]) -> Array:
        if len(shape) > 1:
            return rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        positive = name.endswith(("running_var", "weight"))
        return rng.uniform(0.5, 1.5, shape) if positive else rng.standard_normal(shape) * 0.1

    tensors = {
        name: np.asarray(drawn(name, shape), np.float32) if shape else np.array(0, np.int64)
        for name, shape in stored["tensors"].items()
    }
    return tensors, {name: driver.spell(value) for name, value in stored["defines"].items()}


def judged(network: str, tensors: dict[str, Array], x: Array) -> Array:
    """The independent model with the foreign tensors in their own order: no name plays a part in it."""
    import torch

    from tests.torch_models import MODELS, fill

    rest = {n: t for n, t in tensors.items() if t.ndim and not n.startswith("aux")}
    arrays: dict[str, list[Array]] = {}
    for name, array in rest.items():  # timm cuts group convolutions, the judge does not
        arrays.setdefault(re.sub(r"(conv_pwl?)\.\d+\.", r"\1.", name), []).append(array)
    model = MODELS[network](**JUDGE[network]).eval()
    fill(model, [np.concatenate(parts) for parts in arrays.values()])
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(x)))


def test_all_five_are_there() -> None:
    assert {path.stem for path in FOREIGN} == set(JUDGE)


@pytest.mark.compiler
@pytest.mark.parametrize("network", sorted(JUDGE))
@pytest.mark.slow
def test_state_dicts_of_the_libraries(network: str, tmp_path: Path, need: Callable[[str], None]) -> None:
    """Loaded by `--map auto`, in C, they agree with PyTorch; a file sorted by name is no different."""
    need("torch")
    import torch

    tensors, defines = foreign(network)
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, tmp_path / "a.pt")
    write_safetensors(tmp_path / "sorted.safetensors", tensors)
    path = ROOT / "examples" / f"{network}.arch"
    source = driver.Source(path, defines | AT64, weights=tmp_path / "a.pt", map="auto")
    authored = driver.read(source)
    again = load_weights(authored.graph, tmp_path / "sorted.safetensors", map="auto")
    assert all(np.array_equal(again[name], array) for name, array in authored.graph.weights.items())
    inputs = reference.random_inputs(authored.graph, 2)
    theirs = judged(network, tensors, next(iter(inputs.values())))
    found = run_c(driver.plan(authored, load_target("native")), inputs)
    assert difference({name: theirs.reshape(a.shape) for name, a in found.items()}, found) <= 1e-4
    assert any(
        np.abs(other - theirs).max() > 1e-2 * np.abs(theirs).max()
        for other in _swapped(network, tensors, next(iter(inputs.values())))
    )


def _swapped(network: str, tensors: dict[str, Array], x: Array) -> Iterator[Array]:
    """What comes out with two channels swapped in one weight of the middle."""
    names = [name for name, array in tensors.items() if array.ndim > 1 and "aux" not in name]
    for name in names[len(names) // 2 :][:6]:
        array = tensors[name][[1, 0, *range(2, len(tensors[name]))]]
        yield judged(network, tensors | {name: array}, x)


def test_what_plays_no_part_is_said() -> None:
    tensors, defines = foreign("googlenet")
    graph = driver.read_graph(driver.Source(ROOT / "examples/googlenet.arch", defines))
    notes = _notes(graph, tensors)
    assert any(re.search(r"18 tensors left out: `aux1`, `aux2`", note) for note in notes)
    assert any(re.search(r"59 counters of training batches", note) for note in notes)
    assert re.search(r"inception3a\.branch1\.conv +inception3a\.step1\.conv1 +64×192×1×1", notes[0])


def _notes(graph: Graph, tensors: dict[str, Array]) -> list[str]:
    from compactir.weights.auto import map_auto
    from compactir.weights.mapping import apply, table
    from compactir.weights.stored import Stored

    stored = {n: Stored(a.dtype.name, a) for n, a in tensors.items()}
    mapped = map_auto(graph, stored, "file.pt")
    notes = [table(mapped, stored)]
    apply(mapped, stored, {}, notes)
    return notes


# -- small networks ------------------------------------------------------------------------------------------

SMALL = """
network net {
  input image: f32[3, 6, 6]
  x = image -> conv(4, kernel=3, bias=true) as stem -> bn -> relu
  output y = x -> conv(4, kernel=1) as left -> conv(4, kernel=1) as right -> flatten -> linear(5) as head
}
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return elaborate(parse(SMALL))


def renamed(graph: Graph, names: dict[str, str], **changes: Any) -> dict[str, Array]:
    """The weights under other module names; `changes` replaces tensors, None leaves them out."""
    result = {}
    for name, array in draw(graph, 7).items():
        module, _, role = name.rpartition(".")
        result[f"{names.get(module, module)}.{role}"] = array
    result |= {name.replace("__", "."): array for name, array in changes.items()}
    return {name: array for name, array in result.items() if array is not None}


def refused(
    graph: Graph, tensors: dict[str, Array], tmp_path: Path, map: str | Path = "auto"
) -> CompactError:
    write_safetensors(tmp_path / "foreign.safetensors", tensors)
    with pytest.raises(CompactError) as caught:
        load_weights(graph, tmp_path / "foreign.safetensors", map=map)
    assert caught.value.help
    return caught.value


def test_equal_layers_need_names_or_numbers(graph: Graph, tmp_path: Path) -> None:
    """Two layers of one shape: numbers say which comes first, so do names of ours, others do not."""
    right = draw(graph, 7)
    for names in ({"left": "c.1", "right": "c.2"}, {}, {"left": "m.left", "right": "n.right"}):
        named = {"stem": "a.0", "bn1": "a.1", "head": "z"} | names
        write_safetensors(tmp_path / "f.safetensors", renamed(graph, named))
        loaded = load_weights(graph, tmp_path / "f.safetensors", map="auto")
        assert all(np.array_equal(loaded[name], right[name]) for name in right)
    error = refused(graph, renamed(graph, {"left": "query", "right": "key"}), tmp_path)
    assert error.code == "CIR647"
    assert "could be `key.weight` or `query.weight`" in error.notes[0]


def test_what_cannot_be_laid_is_refused_whole(graph: Graph, tmp_path: Path) -> None:
    names = {"stem": "a", "bn1": "b", "left": "c1", "right": "c2", "head": "d"}
    missing = refused(graph, renamed(graph, names, d__bias=None), tmp_path)
    assert missing.code == "CIR646"
    assert "4 of 5 layers find a partner, up to `c2.weight`" in missing.notes[0]
    extra = refused(graph, renamed(graph, names, e__weight=np.zeros((2, 2), np.float32)), tmp_path)
    assert (extra.code, extra.notes[0]) == (
        "CIR646",
        "all 5 layers find a partner, and the file holds more than these",
    )
    shape = refused(graph, renamed(graph, names, c2__weight=np.zeros((4, 3, 1, 1), np.float32)), tmp_path)
    assert "`right.weight` [4, 4, 1, 1]" in shape.notes[0]
    nan = refused(graph, renamed(graph, names, d__bias=np.full(5, np.nan, np.float32)), tmp_path)
    assert nan.code == "CIR643"
    assert "`head.bias` holds NaN in 5 places" in nan.notes[0]


def test_names_that_say_no_role_are_told(graph: Graph, tmp_path: Path) -> None:
    """As exporters leave them that fold constants."""
    bare = {f"onnx::Conv_{i}": array for i, array in enumerate(draw(graph, 7).values())}
    vectors = refused(graph, bare, tmp_path)
    assert vectors.code == "CIR647"
    assert "are vectors of one length: no name says which is weight, bias" in vectors.notes[0]
    error = refused(graph, dict(list(bare.items())[:-1]) | {"z": np.zeros(9, np.float32)}, tmp_path)
    assert error.code == "CIR647"
    error = refused(graph, dict(list(bare.items())[1:]), tmp_path)
    said = "no name of the file says what a tensor is, as `weight` and `bias` do: `onnx::Conv_"
    assert any(said in note for note in error.notes)
    named = refused(graph, {f"a.{i}.weight": array for i, array in enumerate(bare.values())}, tmp_path)
    assert not any("no name of the file" in note for note in named.notes)


def test_conversions_are_said(graph: Graph, tmp_path: Path) -> None:
    names = {"stem": "a", "bn1": "b", "left": "c1", "right": "c2", "head": "d"}
    tensors = {name: array.astype(np.float16) for name, array in renamed(graph, names).items()}
    tensors["c1.weight"] = tensors["c1.weight"].reshape(4, 4)
    tensors |= {"d.weight": tensors["d.weight"].reshape(5, 144, 1, 1)}
    write_safetensors(tmp_path / "half.safetensors", tensors)
    notes: list[str] = []
    loaded = load_weights(graph, tmp_path / "half.safetensors", notes, map="auto")
    assert loaded["left.weight"].shape == (4, 4, 1, 1)
    assert any("2 tensors taken over with other axes of length one" in note for note in notes)
    assert any("float16, widened to float32, exactly" in note for note in notes)


def test_constants_of_an_onnx_model(graph: Graph, tmp_path: Path, need: Callable[[str], None]) -> None:
    """Under our names, and under others."""
    need("onnx")
    from compactir.codegen.onnx import export_onnx

    right = draw(graph, 7)
    bound = graph.clone()
    bound.weights = right
    model = export_onnx(bound)
    (tmp_path / "ours.onnx").write_bytes(model.SerializeToString())
    for tensor in model.graph.initializer:
        other = tensor.name.replace("left", "mid.1").replace("right", "mid.2").replace("stem", "a")
        for node in model.graph.node:
            node.input[:] = [other if name == tensor.name else name for name in node.input]
        tensor.name = other
    (tmp_path / "theirs.onnx").write_bytes(model.SerializeToString())
    for name, map in (("ours", None), ("theirs", "auto")):
        bind_to = graph.clone()
        driver.bind(bind_to, tmp_path / f"{name}.onnx", map=map)
        assert all(np.array_equal(bind_to.weights[key], array) for key, array in right.items())


# -- names that say nothing ----------------------------------------------------------------------------------


def small(body: str) -> Graph:
    return elaborate(parse(f"network n {{ input x: f32[3, 8, 8]; {body} }}", "n.arch"))


PLAIN = """y = x -> conv(4, kernel=3, bias=true) as a -> relu
  l = y -> conv(4, kernel=1, bias=true) as l
  r = y -> conv(6, kernel=1, bias=true) as r
  output z = (l, r) -> concat -> conv(4, kernel=3, bias=true) as b -> conv(4, kernel=3, bias=true) as c"""


def test_flat_lists_go_by_order_and_shape(tmp_path: Path) -> None:
    """Branches in either order, numbers as numbers; never where two layers could take the same."""
    graph = small(PLAIN)
    right = draw(graph, 7)
    layers = [["a"], ["r"], ["l"], ["b"], ["c"]]
    order = [f"{layer}.{role}" for (layer,) in layers for role in ("weight", "bias")]
    np.savez(tmp_path / "f.npz", *[right[name] for name in order])  # arr_0 … arr_9
    write_safetensors(tmp_path / "f.safetensors", {f"{i + 395}": right[n] for i, n in enumerate(order)})
    for name in ("f.npz", "f.safetensors"):
        loaded = load_weights(graph, tmp_path / name, map="auto")
        assert all(np.array_equal(loaded[key], array) for key, array in right.items())
    other = small(PLAIN.replace("conv(6", "conv(4"))
    twins = {f"{i:02}": array for i, array in enumerate(draw(other, 7).values())}
    error = refused(other, twins, tmp_path)
    assert error.code == "CIR647"
    assert error.notes == ("`02` could begin `l`", "`02` could begin `r`")
    assert refused(graph, dict(list(twins.items())[:-1]), tmp_path).code == "CIR646"


def flattened(graph: Graph, path: Path, folded: bool = False) -> None:
    """The graph as an ONNX model whose constants have names that say nothing, in an order that does not."""
    from compactir.codegen.onnx import export_onnx
    from compactir.passes import parse_pipeline, run_pipeline

    if folded:
        run_pipeline(graph, parse_pipeline("fold-batchnorm,dead-code"))
    model = export_onnx(graph)
    flat = {t.name: f"onnx::X_{(i * 7919) % 10007:05}" for i, t in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = flat[tensor.name]
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{i}"
        node.input[:] = [flat.get(name, name) for name in node.input]
    tensors = sorted(model.graph.initializer, key=lambda t: t.name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("network", "folded"), [("mobilenet_v2", False), ("shufflenet_v2", True), ("mixnet", True)]
)
def test_flat_models_go_by_their_layers(
    network: str, folded: bool, tmp_path: Path, need: Callable[[str], None]
) -> None:
    """The constants of an ONNX file without names, batch norm as it is or folded: the same function."""
    need("onnx")
    source = driver.Source(ROOT / f"examples/{network}.arch", {"size": "32"}, seed=5)
    authored = driver.read(source).graph
    flattened(authored.clone(), tmp_path / "flat.onnx", folded)
    bound = driver.read_graph(source)
    driver.bind(bound, tmp_path / "flat.onnx", map="auto")
    if not folded:
        assert all(np.array_equal(bound.weights[n], array) for n, array in authored.weights.items())
        return
    x = reference.random_inputs(authored, 2)
    (right,), (found,) = reference.run(authored, x).values(), reference.run(bound, x).values()
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


def test_numbers_in_the_names_of_a_model_are_not_believed(
    tmp_path: Path, need: Callable[[str], None]
) -> None:
    """Where the model itself says which layer comes first."""
    need("onnx")
    row = " -> ".join(["conv(4, kernel=1, bias=true)"] * 6)
    graph = small(f"output y = x -> conv(4, kernel=3) -> {row}")
    graph.weights = draw(graph, 3)
    flattened(graph.clone(), tmp_path / "row.onnx")
    bound = graph.clone()
    driver.bind(bound, tmp_path / "row.onnx", map="auto")
    assert all(np.array_equal(bound.weights[n], array) for n, array in graph.weights.items())


BRANCHES = "l = x -> conv(4, kernel=3) as l; r = x -> conv(4, kernel=3) as r; output y = "


@pytest.mark.parametrize("names", [("b1", "b2"), ("l", "r")])
def test_names_of_a_model_must_not_contradict_it(
    names: tuple[str, str], tmp_path: Path, need: Callable[[str], None]
) -> None:
    """Shapes and names fit, but the model joins its branches the other way round."""
    need("onnx")
    from compactir.codegen.onnx import export_onnx

    for end, code in [("concat(r, l)", "CIR647"), ("concat(l, r)", None), ("r + l", None)]:
        theirs = small(f"{BRANCHES.replace('as l', f'as {names[0]}').replace('as r', f'as {names[1]}')}{end}")
        theirs.weights = draw(theirs, 3)
        (tmp_path / "f.onnx").write_bytes(export_onnx(theirs).SerializeToString())
        bound = small(f"{BRANCHES}{'l + r' if '+' in end else 'concat(l, r)'}")
        if code:
            with pytest.raises(CompactError, match="fit in more than one way") as caught:
                driver.bind(bound, tmp_path / "f.onnx", map="auto")
            assert caught.value.code == code
            note = f"`l` is `{names[1]}` by its place in the model, by its name it is not"
            assert note in caught.value.notes
        else:
            driver.bind(bound, tmp_path / "f.onnx", map="auto")
            pairs = zip("lr", names, strict=True)
            assert all(
                np.array_equal(bound.weights[f"{a}.weight"], theirs.weights[f"{b}.weight"]) for a, b in pairs
            )


@pytest.mark.parametrize("flat", [True, False])
def test_other_activations_are_said(
    flat: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, need: Callable[[str], None]
) -> None:
    need("onnx")
    from compactir.codegen.onnx import export_onnx

    theirs = small("output y = x -> conv(4, kernel=3) -> sigmoid -> conv(2, kernel=1) -> relu")
    theirs.weights = draw(theirs, 3)
    if flat:
        flattened(theirs.clone(), tmp_path / "f.onnx")
    else:
        (tmp_path / "f.onnx").write_bytes(export_onnx(theirs).SerializeToString())
    same, other = (
        theirs.clone(),
        small("output y = x -> conv(4, kernel=3) -> relu -> conv(2, kernel=1) -> relu"),
    )
    said = "`n` is not the network of f.onnx: it has 2 `relu` (there 1) and 0 `sigmoid` (there 1)"
    for graph, expected in [(same, False), (other, True)]:
        caplog.clear()
        with caplog.at_level("INFO", "compactir"):
            driver.bind(graph, tmp_path / "f.onnx", map="auto")
        assert (said in caplog.messages) == expected
        assert expected or not any("is not the network" in m for m in caplog.messages)


def test_two_layers_are_not_one(tmp_path: Path, need: Callable[[str], None]) -> None:
    """A sum of two equal values stands where one of them does."""
    need("onnx")
    theirs = small("output y = x -> conv(4, kernel=3) -> conv(2, kernel=1)")
    theirs.weights = draw(theirs, 3)
    flattened(theirs, tmp_path / "one.onnx")
    ours = small(
        "z = x -> conv(4, kernel=3) as a; output y = (x -> conv(4, kernel=3) as b) + z -> conv(2, kernel=1)"
    )
    with pytest.raises(CompactError, match="`a` and `b` stand where the model has one layer") as caught:
        driver.bind(ours, tmp_path / "one.onnx", map="auto")
    assert caught.value.code == "CIR646"


@pytest.mark.parametrize("outputs", [3, 8])
@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
@pytest.mark.parametrize("map", [None, "auto"])
def test_linear_layers_of_a_model_stand_either_way(
    map: str | None, op: str, outputs: int, tmp_path: Path, need: Callable[[str], None]
) -> None:
    """(inputs, outputs) of MatMul and Gemm are turned, square ones too, whose shape says nothing."""
    need("onnx")
    import onnx
    from onnx import helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((8, outputs)).astype(np.float32)
    source = f"network n() {{ input x: f32[8]; output y = x -> linear({outputs}, bias=false) as fc }}"
    ours = elaborate(parse(source, "n.arch"))
    model = helper.make_graph(
        [helper.make_node(op, ["x", "fc.weight"], ["y"])],
        "n",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, outputs])],
        [numpy_helper.from_array(weight, "fc.weight")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(model, opset_imports=opset, ir_version=8), tmp_path / "n.onnx")
    driver.bind(ours, tmp_path / "n.onnx", map=map)
    assert np.array_equal(ours.weights["fc.weight"].reshape(outputs, 8), weight.T)


TWINS = """y = x -> conv(4, kernel=3) as a -> bn as n
  l = y -> conv(4, kernel=1) as l
  r = y -> conv(4, kernel=1) as r"""


def test_layers_that_stand_alike_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, need: Callable[[str], None]
) -> None:
    """A concatenation says which is which, a sum does not; another network is no partner."""
    need("onnx")
    joined, added = (
        small(f"{TWINS}; output z = (l, r) -> {end} -> conv(5, kernel=1) as z") for end in ("concat", "add")
    )
    for graph in (joined, added):
        graph.weights = draw(graph, 3)
    flattened(joined.clone(), tmp_path / "joined.onnx", folded=True)
    flattened(added.clone(), tmp_path / "added.onnx")
    bound = joined.clone()
    with caplog.at_level("INFO", "compactir"):
        driver.bind(bound, tmp_path / "joined.onnx", map="auto")
    assert np.array_equal(bound.weights["l.weight"], joined.weights["l.weight"])
    assert np.array_equal(bound.weights["r.weight"], joined.weights["r.weight"])
    assert np.array_equal(bound.weights["n.running_mean"], np.zeros(4))
    assert any("batch norm is folded into the weights of joined.onnx: 1 batch" in m for m in caplog.messages)
    with pytest.raises(CompactError, match=r"`l` could be `\w+` or `\w+`") as caught:
        driver.bind(added.clone(), tmp_path / "added.onnx", map="auto")
    assert caught.value.code == "CIR647"
    with pytest.raises(CompactError, match=r"`z` .* is the first layer that has no partner") as caught:
        driver.bind(added.clone(), tmp_path / "joined.onnx", map="auto")
    assert caught.value.code == "CIR646"


SPREAD = """cir 1
graph g(%x: f32[1,4,6,6]) {
  param @a.weight: f32[2,4,1,1] weight he
  param @b.weight0: f32[1,1,1,1] weight he
  param @b.weight1: f32[1,2,1,1] weight he
  %a: f32[1,3,6,6] = conv(%x, @a.weight) {connect=blocks(4->3; 1 of [0..4]->[0,2], 1x1)}
  %b: f32[1,2,6,6] = conv(%a, @b.weight0, @b.weight1)
      {connect=blocks(3->2; 1 of [0]->[0], 1x1; 1 of [1..3]->[1], 1x1)}
  return y=%b
}
"""


def test_channels_in_another_order_are_no_partners(tmp_path: Path, need: Callable[[str], None]) -> None:
    """ONNX has no gaps between channels: what comes back computes the same with other weights."""
    need("onnx")
    graph = parse_graph(SPREAD)
    graph.weights = draw(graph, 3)
    flattened(graph.clone(), tmp_path / "f.onnx")
    with pytest.raises(CompactError, match=r"`a` .* is the first layer that has no partner") as caught:
        driver.bind(graph.clone(), tmp_path / "f.onnx", map="auto")
    assert caught.value.code == "CIR646"


# -- files of names ------------------------------------------------------------------------------------------


def test_patterns(graph: Graph, tmp_path: Path) -> None:
    """Holes, stars, shifted numbers, what is left out, what is joined."""
    names = {"stem": "net.stem.0", "bn1": "net.stem.1", "left": "net.block1.c", "right": "net.block2.c"}
    tensors = renamed(graph, names, old__head=np.zeros(3, np.float32))
    weight = tensors.pop("head.weight")
    tensors |= {"head.part10.weight": weight[3:], "head.part9.weight": weight[:3]}
    write_safetensors(tmp_path / "f.safetensors", tensors)
    (tmp_path / "names").write_text(
        "# ours <- theirs\n"
        "net.stem.0.{p} -> stem.{p}   # a comment\n"
        "net.stem.{i}.{p} -> bn{i}.{p}\n"
        "net.block1.c.* -> left.*\n"
        "*.block2.c.{p} -> right.{p}\n\n"
        "head.part{k}.weight -> head.weight\n"
        "old.* -> -\n"
    )
    notes: list[str] = []
    loaded = load_weights(graph, tmp_path / "f.safetensors", notes, map=tmp_path / "names")
    assert all(np.array_equal(loaded[name], array) for name, array in draw(graph, 7).items())
    assert any("1 tensor left out: `old`" in note for note in notes)
    assert any("1 tensor of ours made of several" in note for note in notes)


def test_shifted_numbers(tmp_path: Path) -> None:
    from compactir.weights.mapping import map_by_file

    (tmp_path / "names").write_text("f.{i}.{p} -> block{i-1}.{p}\ng.{i}.w -> block{i + 2}.w\n")
    mapped = map_by_file(tmp_path / "names", ["f.3.weight", "g.10.w", "other"])
    assert {part.ours for part in mapped.parts} == {"block2.weight", "block12.w", "other"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("features.0", "is no line of a file of names"),
        ("-> ours", "is no line of a file of names"),
        ("a.{i} -> b.{j}", "`{j}` stands on the right only"),
        ("a.* -> b.*.*", "more `*` on the right"),
        ("{p}.bias -> x{p+1}.bias", "shifts `bn1`, which is no number"),
    ],
)
def test_lines_that_make_no_sense(graph: Graph, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "names").write_text(f"# names\n{line}\n")
    error = refused(graph, draw(graph, 0), tmp_path, tmp_path / "names")
    assert error.code == "CIR648"
    assert message in str(error)
    assert error.span
    assert error.span.line == 2


def test_lines_that_fit_nothing_are_said(graph: Graph, tmp_path: Path) -> None:
    tensors = renamed(graph, {"stem": "net.0"})
    lines = ["aux* -> -", "net.{i}.{p} -> stem.{p}", "net.0.weight -> stem.weight"]
    (tmp_path / "names").write_text("\n".join(lines))
    write_safetensors(tmp_path / "f.safetensors", tensors)
    notes: list[str] = []
    load_weights(graph, tmp_path / "f.safetensors", notes, map=tmp_path / "names")
    wanted = [f"line {n} of names fits no name of the weights file: `{lines[n - 1]}`" for n in (1, 3)]
    assert notes == wanted
    (tmp_path / "names").write_text("\n".join([lines[0], "net.0.bias -> stem.bias"]))
    error = refused(graph, tensors, tmp_path, tmp_path / "names")
    assert error.code == "CIR643"
    assert error.notes[-1] == wanted[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("features.{i} -> x{i}\n", "no line of"), ("# none yet\n\n", "holds no patterns")],
)
def test_a_file_of_names_that_fits_nothing(graph: Graph, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names").write_text(text)
    error = refused(graph, renamed(graph, {"stem": "net.0"}), tmp_path, tmp_path / "names")
    assert error.code == "CIR648"
    assert message in error.message
    assert any("names of the weights file are `bn1.bias`, " in note for note in error.notes)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.arch").write_text(SMALL)
    graph = elaborate(parse(SMALL))
    names = {"stem": "a", "bn1": "b", "left": "c1", "right": "c2", "head": "d"}
    write_safetensors(tmp_path / "f.safetensors", renamed(graph, names))
    command = ["opt", str(tmp_path / "net.arch"), "--passes", "dead-code", "-o", str(tmp_path / "o.cir")]
    assert main([*command, "--weights", str(tmp_path / "f.safetensors"), "--map", "auto"]) == 0
    assert re.search(r"c2 +right +4×4×1×1", capsys.readouterr().err)
    assert main([*command, "--map", "auto"]) == 1
    assert "CIR661" in capsys.readouterr().err
    assert main([*command, "--weights", str(tmp_path / "f.safetensors"), "--map", "no such file"]) == 1
    assert "CIR640" in capsys.readouterr().err

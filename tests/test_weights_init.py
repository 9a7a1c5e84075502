"""Random weights: reproducible, independent of each other, and of a scale that keeps signals alive."""

import hashlib

import numpy as np
import pytest

from compactir import reference
from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph, print_graph
from compactir.ir.types import Array
from compactir.lang import elaborate, parse
from compactir.passes import run_pipeline
from compactir.weights.init import draw

MOBILE = """
block inverted_residual(x, out: int, expand: int = 6, stride: int = 1) {
  y = x
  if expand != 1 { y = y -> conv(x.channels * expand, kernel=1) -> bn -> relu6 }
  y = y -> depthwise(kernel=3, stride=stride) -> bn -> relu6 -> conv(out, kernel=1) -> bn
  if stride == 1 and x.channels == out { y = x + y }
  return y
}
network mobile {
  input image: f32[3, 32, 32]
  x = image -> conv(16, kernel=3, stride=2) -> bn -> relu6
  for (t, c, n, s) in [(1, 8, 1, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1)] {
    for i in 0..n { x = x -> inverted_residual(c, expand=t, stride=s if i == 0 else 1) }
  }
  output logits = x -> conv(64, kernel=1) -> bn -> relu6 -> global_avg_pool -> linear(10)
}
"""
RESIDUAL = """
block residual(x, out: int, stride: int = 1) {
  y = x -> conv(out, kernel=3, stride=stride) -> bn -> relu -> conv(out, kernel=3) -> bn
  if stride != 1 or x.channels != out { x = x -> conv(out, kernel=1, stride=stride) -> bn }
  z = x + y
  return z -> relu
}
network deep {
  input image: f32[3, 16, 16]
  x = image -> conv(16, kernel=3) -> bn -> relu
  for (c, n, s) in [(16, 9, 1), (32, 9, 2)] {
    for i in 0..n { x = x -> residual(c, stride=s if i == 0 else 1) }
  }
  output logits = x -> global_avg_pool -> linear(10)
}
"""
MIXED = """
block gated(x, mid: int) {
  g = x -> global_avg_pool -> conv(mid, kernel=1, bias=true) -> swish
        -> conv(x.channels, kernel=1, bias=true) -> sigmoid
  return x * g
}
block fire(x, squeeze: int, expand: int) {
  s = x -> conv(squeeze, kernel=1) -> relu
  return concat(s -> conv(expand, kernel=1) -> relu, s -> conv(expand, kernel=3) -> relu)
}
network mixed {
  input image: f32[3, 32, 32]
  x = image -> conv(32, kernel=3) -> tanh(scale=1.7159, slope=2/3) -> avg_pool(2)
  for i in 0..4 { x = x -> conv(32, kernel=3) -> bn -> swish -> gated(8) }
  x = x -> max_pool(2) -> fire(16, 24) -> max_pool(3, stride=1, pad=1) -> fire(16, 24)
  for i in 0..3 { x = concat(x, x -> bn -> relu -> conv(16, kernel=3)) }
  x = x -> conv(48, kernel=1, connect=learned(groups=4)) -> leaky_relu(0.1) -> hard_swish
  output y = x -> flatten -> linear(50)
}
"""


def build(text: str) -> Graph:
    return elaborate(parse(text))


@pytest.mark.parametrize("text", [MOBILE, RESIDUAL, MIXED], ids=["mobile", "residual", "mixed"])
@pytest.mark.parametrize("seed", [0, 5])
def test_signals_stay_alive(text: str, seed: int) -> None:
    graph = build(text)
    graph.weights = draw(graph, seed)
    rng = np.random.default_rng(seed)
    values = reference.trace(graph, {v.name: rng.standard_normal(v.type.shape) for v in graph.inputs})
    layers = [node for node in graph.nodes if node.op.name in ("conv", "linear", "add", "bn")]
    spreads = {node.name: float(values[node.out].std()) for node in layers}
    assert not {name: std for name, std in spreads.items() if not 0.1 < std < 6}


def test_the_same_everywhere() -> None:
    """Bit for bit on every machine. If this fails, every seed means something else from now on."""
    graph = build("""network n { input x: f32[8, 6, 6]
      y = x -> conv(12, kernel=3, bias=true) as a -> tanh -> avg_pool(2) -> conv(16, kernel=1) as b -> bn as c
      z = y -> relu -> max_pool(3) -> conv(8, kernel=1, connect=learned(groups=4)) as d -> swish
      output w = z -> flatten -> linear(84) as e -> sigmoid -> rbf(3) as f }""")
    weights = draw(graph, 3)
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].tobytes())
    assert digest.hexdigest()[:16] == "41400bafca0c95cb"


def test_seeds_differ() -> None:
    graph = build(RESIDUAL)
    one, two = draw(graph, 1), draw(graph, 2)
    assert all(not np.array_equal(one[name], two[name]) for name in one)
    flat = np.concatenate([w.ravel()[:1] for w in one.values()])
    assert len(np.unique(flat)) == len(flat)  # no parameter repeats another one's numbers


def test_an_edit_elsewhere_changes_nothing() -> None:
    text = """network n { input x: f32[8, 6, 6]
      y = x -> conv(8, kernel=3) as first -> bn as norm -> relu -> EXTRA conv(12, kernel=3) as second -> relu
      output z = y -> flatten -> linear(OUT) as head }"""
    before = draw(build(text.replace("EXTRA", "").replace("OUT", "10")))
    after = draw(build(text.replace("EXTRA", "conv(8, kernel=1) as extra -> relu ->").replace("OUT", "11")))
    for name in before:
        if not name.startswith("head"):
            np.testing.assert_array_equal(before[name], after[name])


def test_kinds() -> None:
    graph = build("""network n { input x: f32[64, 4, 4]
      y = x -> conv(64, kernel=1, bias=true) as c -> bn as b -> affine as a -> flatten -> linear(84) as l
      output z = y -> rbf(10) as r }""")
    weights = draw(graph, 0)
    assert all(w.dtype == np.float32 and np.isfinite(w).all() for w in weights.values())
    assert all(w.shape == graph.params[name].type.shape for name, w in weights.items())
    assert (weights["b.running_var"] > 0).all()
    assert 0.2 < weights["b.running_var"].std() / weights["b.running_var"].mean() < 0.4
    assert (weights["b.weight"] > 0.4).all()
    assert np.abs(weights["b.running_mean"]).max() > 0.05
    assert set(np.unique(weights["r.centres"])) == {-1.0, 1.0}
    assert 0.05 < np.abs(weights["c.bias"]).max() <= 0.1
    np.testing.assert_allclose(weights["c.weight"].var(), 1 / 64, rtol=0.1)


def masks(graph: Graph, weights: dict[str, Array]) -> list[Array]:
    return [weights[name][:, :, 0, 0] for name, p in graph.params.items() if p.init.startswith("learned")]


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(24, 16, 4), (7, 5, 3), (3, 8, 4), (5, 5, 1)])
def test_learned_connections_are_legal(inputs: int, outputs: int, groups: int) -> None:
    graph = build(f"""network n {{ input x: f32[{inputs}, 3, 3]
      output y = x -> conv({outputs}, kernel=1, connect=learned(groups={groups})) }}""")
    (mask,) = masks(graph, draw(graph, 1))
    assert set(np.unique(mask)) <= {0.0, 1.0}
    assert mask.any(axis=0).all()
    assert mask.any(axis=1).all()
    rows = {tuple(row) for row in mask.astype(int).tolist()}
    assert len(rows) == min(groups, inputs, outputs)
    assert np.array(sorted(rows)).sum(axis=0).max() == 1  # groups share no input
    (other,) = masks(graph, draw(graph, 2))
    assert groups == 1 or not np.array_equal(mask, other)


def test_folded_arrays_stay() -> None:
    graph = build("network n { input x: f32[4, 3, 3]; output y = x -> conv(4, kernel=1) }")
    folded = np.full((4,), 3, np.float32)
    graph.bind("folded.bias", folded)
    assert draw(graph)["folded.bias"] is folded


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    graph = build("network n { input x: f32[4, 3, 3]; output y = x -> conv(4, kernel=1) }")
    next(iter(graph.params.values())).init = "cauchy"
    with pytest.raises(ValueError, match="cauchy"):
        draw(graph)


def test_large_parameters_are_drawn_in_blocks() -> None:
    graph = build("network n { input x: f32[1200, 1, 1]; output y = x -> conv(1000, kernel=1, bias=true) }")
    weight = next(w for name, w in draw(graph).items() if name.endswith("weight"))
    assert abs(float(weight.mean())) < 1e-4
    half = weight.ravel()
    assert not np.array_equal(half[:1000], half[1 << 20 : (1 << 20) + 1000])


def test_masks_are_legal() -> None:
    graph = build("""network n { input x: f32[16, 6, 6]
      a = x -> conv(24, kernel=1, connect=learned(groups=4, condense=4)) as condensed
      b = a -> conv(16, kernel=3, connect=balanced(keep=2, of=4)) as balanced
      c = b -> conv(24, kernel=1, connect=pruned(filters=10)) as filters
      output y = c -> conv(8, kernel=1, connect=pruned(filters=8, channels=10)) as both }""")
    weights = draw(graph)
    condensed = weights["condensed.mask"][:, :, 0, 0]
    assert (condensed.sum(axis=1) == 4).all()
    assert np.array_equal(condensed[0::4], np.tile(condensed[0], (6, 1)))
    assert not np.array_equal(condensed[0], condensed[1])
    assert (weights["balanced.mask"].reshape(16, -1, 4).sum(axis=2) == 2).all()
    filters, both = weights["filters.mask"][:, :, 0, 0], weights["both.mask"][:, :, 0, 0]
    assert filters.sum() == 10 * 16
    assert both.sum() == 8 * 10
    assert np.array_equal(filters[:, 0], both[0])  # what one layer drops is what the next does not read


def test_what_passes_computed_is_not_drawn() -> None:
    """A .cir file after passes, read without its weights: a message, not random numbers."""
    graph = build("network n { input x: f32[4, 3, 3]; output y = x -> conv(4, kernel=1) -> bn }")
    graph.weights = draw(graph)
    run_pipeline(graph, "fold-batchnorm")
    again = parse_graph(print_graph(graph))
    with pytest.raises(CompactError, match=r"passes computed .* and 1 more of `n`") as error:
        draw(again)
    assert error.value.code == "CIR601"
    standing_in = draw(again, stand_in=True)  # for who looks at the graph alone
    assert {n: a.shape for n, a in standing_in.items()} == {n: a.shape for n, a in graph.weights.items()}
    again.weights = graph.weights
    assert all(array is graph.weights[name] for name, array in draw(again).items())

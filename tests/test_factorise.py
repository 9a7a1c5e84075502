"""`factorise`: what it says it loses is what is lost; it runs where it is asked for, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from compactir import cli, reference
from compactir.diagnostics import CompactError
from compactir.driver import Source, plan, read
from compactir.ir import algebra
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ir.types import TensorType
from compactir.ops.conv import Conv
from compactir.passes import PIPELINES, Log, run_pipeline
from compactir.passes._factors import Split, separable
from compactir.targets import load_target

RESNET = Path(__file__).parent.parent / "examples" / "resnet20_cifar.arch"


def layer(connect: Connectivity, seed: int = 0) -> Graph:
    """One convolution with random weights, in float64."""
    graph = Graph("one")
    x = graph.input("x", TensorType.f32(1, connect.in_channels, 9, 7))
    graph.outputs["y"] = graph.apply(Conv(connect), [x], "conv1")
    rng = np.random.default_rng(seed)
    graph.weights = {name: rng.standard_normal(p.type.shape) for name, p in graph.params.items()}
    return graph


def multiplied(graph: Graph) -> np.ndarray:
    """The dense weight that all layers of a chain come to."""
    connect: Connectivity | None = None
    weights: list[np.ndarray] = []
    for node in graph.nodes:
        assert isinstance(node.op, Conv)
        own = [graph.weights[p.name] for p in node.params]
        connect, weights = (
            algebra.product(connect, node.op.connect, weights, own) if connect else (node.op.connect, own)
        )
    assert connect
    return connect.to_dense(weights)[0]


@pytest.mark.parametrize("scheme", ["svd", "1", "2"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_stated_error_is_the_error_of_the_product(scheme: str, groups: int) -> None:
    graph = layer(Connectivity.grouped(8, 24, groups, (3, 3), (1, 1, 1, 1)))
    before = multiplied(graph)
    log = run_pipeline(graph, f"factorise{{rank=2,scheme={scheme}}}")
    [decision] = log.of("factorise", done=True)
    stated = float(re.findall(r"relative error (\S+):", decision.why)[0])
    actual = np.linalg.norm(multiplied(graph) - before) / np.linalg.norm(before)
    assert 0.1 < actual < 1
    assert stated == pytest.approx(actual, rel=0.05)
    stated_macs = int(re.findall(r": ([\d,]+) MACs, were", decision.why)[0].replace(",", ""))
    assert stated_macs == graph.macs


def test_singular_values_are_the_best_of_their_rank() -> None:
    """The error of rank K is that of the singular values left out (Eckart and Young 1936)."""
    weight = np.random.default_rng(0).standard_normal((1, 7, 5, 3, 3))
    values = np.linalg.svd(weight[0].reshape(7, 45), compute_uv=False)
    split = Split(weight, across=False)
    for rank in range(1, 8):
        left = np.sqrt((values[rank:] ** 2).sum() / (values**2).sum())
        error = split.factors(rank).error(weight)
        assert error == pytest.approx(left, abs=1e-12)
        assert split.least(left * (1 + 1e-9)) == rank


def test_scheme_1_gets_better_with_its_rank_and_ends_exact() -> None:
    weight = np.random.default_rng(1).standard_normal((1, 12, 3, 3, 3))
    errors = [separable(weight, rank).error(weight) for rank in range(1, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5
    assert errors[-1] < 1e-6
    exact = separable(np.einsum("o,i,y,x->oiyx", *(np.arange(1.0, n) for n in (6, 4, 4, 4)))[None], 1)
    assert exact.error(exact.whole) == 0
    assert np.allclose(exact.whole[0, 1, 2], 6 * np.outer([1, 2, 3], [1, 2, 3]))


def test_an_error_is_kept_by_every_layer() -> None:
    graph = read(Source(RESNET, seed=0), warn=False).graph
    before, log = graph.macs, Log()
    run_pipeline(graph, "factorise{error=0.6,layers=basic_residual*}", log=log, verify_each=True)
    stated = [float(re.findall(r"relative error (\S+):", d.why)[0]) for d in log.of("factorise", done=True)]
    assert len(stated) > 10
    assert max(stated) <= 0.6
    assert graph.macs < before


def test_no_pipeline_has_it() -> None:
    assert not any("factorise" in names for names in PIPELINES.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("scheme=3", "there is no scheme `3`"),
        ("rank=-1", "`rank` of pass `factorise` must be at least 0"),
        ("error=1.5", "an error a share between 0 and 1"),
        ("rank=2,error=0.1", "both choose the rank"),
    ],
)
def test_options_that_make_no_sense(options: str, said: str) -> None:
    with pytest.raises(CompactError, match=said) as caught:
        run_pipeline(layer(Connectivity.dense(2, 2)), f"factorise{{{options}}}")
    assert caught.value.code == "CIR404"


def test_it_is_asked_for_when_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the plan, in the manifest, in the explanation; what is compiled computes what its graph says."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.arch").write_text(
        "network tiny() {\n  input x: f32[8, 6, 6]\n  output y = x -> conv(16, kernel=3) -> bn -> relu\n}\n",
        encoding="utf-8",
    )
    also = ["--also", "factorise{rank=3,scheme=2}"]
    model = ["tiny.arch", "--init", "seed=0", *also]
    assert cli.main([*model, "--target", "c", "--emit", "c", "-o", "out"]) == 0
    said = capsys.readouterr()
    assert "factorise: conv1" in said.err
    assert "relative error 0." in said.err
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    assert manifest["also"] == also[1]
    assert [step["name"] for step in manifest["steps"]][:2] == ["conv1_vertical", "conv1"]
    assert cli.main(["explain", *model]) == 0
    assert "relative error" in capsys.readouterr().out
    authored = read(Source("tiny.arch", seed=0))
    planned = plan(authored, load_target("c"), also=also[1])
    inputs = reference.random_inputs(authored.graph, 0)
    [approximate] = reference.run(planned.graph, inputs).values()
    [exact] = reference.run(authored.graph, inputs).values()
    assert 0.01 < np.abs(approximate - exact).max() / np.abs(exact).max() < 1

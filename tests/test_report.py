"""`compactc report`: three ways of counting, the guidelines' formulas against the papers' own numbers."""

from __future__ import annotations

import json
from math import isclose
from pathlib import Path

import numpy as np
import pytest

from compactir import cli
from compactir.driver import Authored, Source, plan, read
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph
from compactir.ir.plan import Buffer, Plan, Step
from compactir.ir.types import TensorType
from compactir.ops import OPS
from compactir.ops.conv import Conv, Masked
from compactir.targets import load_target
from compactir.tools.counting import count
from compactir.tools.guidelines import advise, cost_of_groups, equal_width, pointwise_bound, pointwise_mem
from compactir.tools.metrics import MOBILENET_V1, Figures, scores
from compactir.tools.peak import find_peak
from compactir.tools.report import make_report

# The network of this file by hand, for one image of 3x8x8:
#   conv1        3x3, 3 -> 4, 8x8 pixels        108 weights      108·64 =  6,912 MACs   192 + 256 + 108
#   depthwise1   3x3, 4 channels, stride 2       36 weights       36·16 =    576 MACs   256 +  64 +  36
#   conv2        1x1, 4 -> 8                     32 weights       32·16 =    512 MACs    64 + 128 +  32
#   linear1      128 -> 3, bias                 384 + 3 weights         =    384 MACs   128 +   3 + 384
#   bn1          4 factors, 4 offsets, 8 statistics
MODEL = """\
network hand(classes: int = 3) {
  input image: f32[3, 8, 8]
  output scores = image -> conv(4, kernel=3) -> bn -> relu -> depthwise(kernel=3, stride=2)
                        -> conv(8, kernel=1) -> relu -> flatten -> linear(classes)
}
"""
PARAMS = 108 + 8 + 36 + 32 + 387
MACS = 6912 + 576 + 512 + 384
ACCESS = (192 + 256 + 108) + (256 + 64 + 36) + (64 + 128 + 32) + (128 + 3 + 384)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hand.arch"
    path.write_text(MODEL, encoding="utf-8")
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_counts_equal_those_by_hand(model: Path, batch: int) -> None:
    counts = count(read(Source(model, batch=batch), warn=False).graph)
    assert (counts.params, counts.params_stored, counts.params_formula, counts.buffers) == (
        PARAMS,
        PARAMS,
        PARAMS,
        8,
    )
    assert (counts.macs, counts.macs_formula, counts.memory_access_cost) == (MACS, MACS, ACCESS)
    assert counts.disagreements == []
    assert sum(layer.macs for layer in counts.layers) == MACS
    assert sum(layer.params for layer in counts.layers) == PARAMS


def test_counting_notices_an_array_that_is_too_large(model: Path) -> None:
    graph = read(Source(model), warn=False).graph
    clone = graph.clone()
    clone.weights["linear1.bias"] = np.zeros(4, np.float32)  # broadcasting would fail, so count only
    stored = sum(clone.weights[n].size for n, p in clone.params.items() if p.role == "weight")
    assert stored == PARAMS + 1


def test_weights_that_a_mask_removes_are_not_counted() -> None:
    graph = Graph("masked")
    x = graph.input("x", TensorType.f32(1, 4, 5, 5))
    conv = Conv(Connectivity.dense(4, 6), masked=Masked("learned4"))
    graph.outputs["y"] = graph.apply(conv, [x], "conv1")
    mask = np.zeros((6, 4, 1, 1), np.float32)
    mask[:3, :2] = 1
    graph.weights = {"conv1.weight": np.ones((6, 4, 1, 1), np.float32), "conv1.mask": mask}
    counts = count(graph)
    assert (counts.params, counts.params_stored, counts.macs, counts.macs_formula) == (6, 24, 6 * 25, 24 * 25)
    assert counts.disagreements == []


def test_report_for_programs(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "hand.arch", "--target", "c", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert said.err == ""
    assert (report["network"], report["params"], report["macs"]) == ("hand", PARAMS, MACS)
    assert (report["memory_access_cost"], report["copies"]) == (ACCESS, 0)
    assert sum(kernel["macs"] for kernel in report["kernels"]) == MACS
    assert all({"name", "op", "macs", "bytes_moved"} <= set(kernel) for kernel in report["kernels"])
    assert report["weights_bytes"] >= 4 * (PARAMS - 8) + 64  # the batch norm is folded into a bias
    assert report["workspace_bytes"] > 0


def test_report_equals_what_is_compiled(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "hand.arch", "--target", "c", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert cli.main(["hand.arch", "--target", "c", "--emit", "c,report", "-o", "out"]) == 0
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    for key in ("weights_bytes", "workspace_bytes"):
        assert report[key] == manifest[key]
    assert [k["name"] for k in report["kernels"]] == [step["name"] for step in manifest["steps"]]
    assert json.loads(Path("out/hand.report.json").read_text(encoding="utf-8")) == report


def test_report_for_people(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "hand.arch", "--target", "c", "--layers", "--top1", "70"]) == 0
    said = capsys.readouterr().out
    for figure in (PARAMS, MACS, ACCESS):
        assert f"{figure:,}" in said
    assert "TCA" in said
    assert "depthwise1" in said


def test_a_baseline_that_is_none(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "hand.arch", "--target", "c", "--top1", "70", "--baseline", "70,0,3"]) == 2
    assert "CIR663" in capsys.readouterr().err


# -- the peak of the workspace -------------------------------------------------------------------------------


def test_the_peak_and_what_would_lower_it() -> None:
    """Three steps on four buffers of 100, 300, 200 and 250 floats; `c` and `d` lie in the same place."""
    sizes = {"a": (100, 0, 0, 1), "b": (300, 128, 0, 2), "c": (200, 512, 1, 1), "d": (250, 512, 2, 2)}
    buffers = tuple(
        Buffer(name, "arena", 1, 1, 1, floats, offset, first, last)
        for name, (floats, offset, first, last) in sizes.items()
    )
    steps = tuple(Step(f"step{i}", "conv", ()) for i in range(3))
    caller = Buffer("x", "input:x", 1, 1, 1, 9999, 0, 0, 2)
    peak = find_peak(Plan("n", "c", 1, 1, (), (), (caller, *buffers), steps, arena=768))
    assert peak is not None
    assert (peak.step, peak.bytes) == ("step1", 4 * 600)
    assert peak.buffers == (("b", 1200), ("c", 800), ("a", 400))
    assert [(e.buffer, e.peak_bytes) for e in peak.edits] == [("b", 1200), ("a", 2200), ("c", 2200)]
    assert (peak.edits[0].made_by, peak.edits[0].read_last_by) == ("step0", "step2")


def test_buffers_in_one_place_count_once() -> None:
    """A result that overwrites its operand in place."""
    pair = tuple(Buffer(name, "arena", 1, 1, 1, 100, 0, i, 1) for i, name in enumerate(("a", "b")))
    steps = tuple(Step(f"step{i}", "relu", ()) for i in range(2))
    peak = find_peak(Plan("n", "c", 1, 1, (), (), pair, steps, arena=100))
    assert peak is not None
    assert (peak.bytes, peak.edits) == (400, ())


def test_no_workspace_no_peak() -> None:
    assert find_peak(Plan("n", "c", 1, 1, (), (), (), ())) is None


# -- the guidelines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c1", "c2", "macs", "mem", "bound"),
    [
        (128, 128, 12_845_056, 217_088, 217_088),
        (90, 180, 12_700_800, 227_880, 215_774),
        (52, 312, 12_719_616, 301_600, 215_946),
        (36, 432, 12_192_768, 382_464, 211_094),
    ],
)
def test_g1_formula(c1: int, c2: int, macs: int, mem: int, bound: int) -> None:
    """The channel pairs of table 1 of the ShuffleNetV2 paper, arXiv:1807.11164, at h = w = 28."""
    assert 28 * 28 * c1 * c2 == macs
    assert pointwise_mem(784, c1, c2) == mem
    assert round(pointwise_bound(784, macs)) == bound
    graph = one_convolution(Connectivity.dense(c1, c2), 28)
    found = equal_width(graph)
    if c1 == c2:
        assert found == []
    else:
        (advice,) = found
        assert (advice.guideline, advice.where, advice.numbers["mem"]) == ("G1", "conv1", mem)
        assert f"{mem:,}" in advice.text


@pytest.mark.parametrize(
    ("groups", "c", "mem"), [(1, 128, 217_088), (2, 180, 298_440), (4, 256, 417_792), (8, 360, 580_680)]
)
def test_g2_formula(groups: int, c: int, mem: int) -> None:
    """The channels of table 2 of the same paper."""
    assert pointwise_mem(784, c, c, groups) == mem
    found = cost_of_groups(one_convolution(Connectivity.grouped(c, c, groups), 28))
    assert [advice.numbers["mem"] for advice in found] == ([mem] if groups > 1 else [])
    if found:  # MEM = hw c1 + B g / c1 + B / hw, with g = 1 for the comparison
        macs = 784 * c * c // groups
        assert found[0].numbers["mem_one_group"] == 784 * c + macs // c + macs // 784


def test_g3_counts_what_stands_side_by_side() -> None:
    graph = Graph("branches")
    x = graph.input("x", TensorType.f32(1, 8, 6, 6))
    from compactir.ir.graph import Scope

    graph.scopes["mixed1"] = Scope("mixed")
    graph.scopes["plain1"] = Scope("plain")
    branches = [graph.apply(Conv(Connectivity.dense(8, 4)), [x], f"mixed1.conv{i}") for i in range(3)]
    y = graph.append(OPS["concat"](), branches, "mixed1.concat1")
    y = graph.apply(Conv(Connectivity.dense(12, 12)), [y], "plain1.conv1")
    graph.outputs["y"] = graph.apply(Conv(Connectivity.dense(12, 12)), [y], "plain1.conv2")
    (advice,) = [a for a in advise(graph) if a.guideline == "G3"]
    assert (advice.where, advice.numbers["parallel"], advice.numbers["operators"]) == ("mixed1", 3, 3)


def test_g4_sums_element_wise_work(model: Path) -> None:
    (advice,) = [a for a in advise(read(Source(model), warn=False).graph) if a.guideline == "G4"]
    # bn1: 256 + 256 + 8; relu1: 256 + 256; depthwise1: 256 + 64 + 36; relu2: 128 + 128. Offsets are biases.
    assert (advice.numbers["operators"], advice.numbers["mem"]) == (4, 516 + 512 + 356 + 256)
    heavy = ACCESS - 356
    assert isclose(advice.numbers["share"], 1640 / (1640 + heavy))


def one_convolution(connect: Connectivity, size: int) -> Graph:
    """A graph of one convolution on maps of that size."""
    graph = Graph("one")
    x = graph.input("x", TensorType.f32(1, connect.in_channels, size, size))
    graph.outputs["y"] = graph.apply(Conv(connect), [x], "conv1")
    return graph


# -- TCA and TSA ---------------------------------------------------------------------------------------------

ROWS = [
    (93.25, 92.82, 79.87, 72.90, (2.21, 2.06), (2.18, 2.04), (24.29, 18.38)),
    (95.10, 94.52, 55.02, 49.35, (1.72, 1.63), (1.69, 1.60), (8.98, 7.16)),
    (95.10, 94.87, 40.34, 32.67, (1.49, 1.38), (1.48, 1.37), (5.01, 3.69)),
    (92.20, 91.58, 38.56, 36.81, (1.46, 1.44), (1.43, 1.41), (4.64, 4.33)),
    (73.55, 72.51, 73.05, 70.26, (2.05, 1.99), (1.96, 1.91), (18.32, 16.38)),
    (55.65, 53.54, 63.42, 54.63, (1.82, 1.66), (1.62, 1.48), (12.17, 8.56)),
    (73.31, 71.51, 42.05, 35.31, (1.49, 1.39), (1.38, 1.29), (5.25, 4.01)),
    (77.09, 75.33, 43.80, 43.67, (1.51, 1.51), (1.41, 1.41), (5.64, 5.61)),
    (77.09, 77.00, 25.00, 15.54, (1.28, 1.17), (1.28, 1.16), (2.72, 1.86)),
    (94.31, 94.11, 13.35, 48.70, (1.14, 1.62), (1.13, 1.61), (1.70, 7.00)),
]
"""Accuracies before and after, FLOPs and parameters saved in percent, printed TCA and TSA for the weights
(1,1), (1,4), (4,1): rows of the BUnit-Net paper's tables."""


@pytest.mark.parametrize("row", ROWS)
def test_scores_equal_the_printed_ones(
    row: tuple[float, float, float, float, *tuple[tuple[float, float], ...]],
) -> None:
    a_b, a_n, fewer_macs, fewer_params, *printed = row
    found = scores(Figures(a_n, 1 - fewer_macs / 100, 1 - fewer_params / 100), Figures(a_b, 1.0, 1.0))
    for score, (tca, tsa) in zip(found, printed, strict=True):
        assert abs(score.tca - tca) <= 0.0051
        assert abs(score.tsa - tsa) <= 0.0051


def test_scores_against_mobilenet_v1() -> None:
    """MobileNetV2 1.0, Sandler et al. 2018: top-1 72.0 %, 300,774,272 MACs, 3,504,872 parameters."""
    found = scores(Figures(72.0, 300_774_272, 3_504_872), MOBILENET_V1)
    assert [(f"{s.tca:.3f}", f"{s.tsa:.3f}") for s in found] == [
        ("1.634", "1.211"),
        ("1.734", "1.285"),
        ("6.716", "2.028"),
    ]


def test_a_report_needs_no_compiler(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    authored: Authored = read(Source(model), warn=False)
    report = make_report(plan(authored, load_target("arm")))
    assert report.counts.macs == MACS

"""ONNX's backend suite: all that lies on disk, nodes of some operators; `make onnx-suite` runs the rest."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

pytest.importorskip("onnx", reason='no onnx here: pip install "compactir[onnx]"')

from onnx import helper

from compactir.frontends.onnx.backend import CompactBackend
from tests import onnx_suite
from tests.onnx_models import array, model

NODES = [
    "abs",
    "add",
    "argmax",
    "attention",
    "batch_normalization",
    "clip",
    "concat",
    "conv",
    "convtranspose",
    "depthtospace",
    "div",
    "dropout",
    "elu",
    "expand",
    "flatten",
    "gather",
    "gemm",
    "globalaveragepool",
    "gridsample",
    "hardsigmoid",
    "hardswish",
    "instance_normalization",
    "layernormalization",
    "leakyrelu",
    "lstm",
    "matmul",
    "maxunpool",
    "negativeloglikelihoodloss",
    "pad",
    "prelu",
    "reducemean",
    "relu",
    "reshape",
    "resize",
    "scatternd",
    "slice",
    "softmax",
    "split",
    "squeeze",
    "tile",
]
ON_DISK = ("pytorch-converted", "pytorch-operator", "simple")


@cache
def outcomes(kinds: tuple[str, ...]) -> list[onnx_suite.Outcome]:
    with np.errstate(all="ignore"):
        return [onnx_suite.judge(case) for case in onnx_suite.cases(kinds, NODES)]


def listed() -> dict[tuple[str, str], str]:
    """Kind and case -> its line on the page."""
    rows: dict[tuple[str, str], str] = {}
    kind = ""
    for line in onnx_suite.PAGE.read_text(encoding="utf-8").splitlines(keepends=True):
        if match := re.fullmatch(r"## (\S+)\n", line):
            kind = match[1]
        elif match := re.match(r"\| (test_\w+) \|", line):
            rows[kind, match[1]] = line
    return rows


@pytest.mark.parametrize("kinds", [ON_DISK, ("node",)], ids=["on disk", "nodes"])
def test_cases_end_as_the_page_says(kinds: tuple[str, ...]) -> None:
    rows = listed()
    ran = outcomes(kinds)
    known = [o for o in ran if (o.kind, o.name) in rows]  # another version of onnx has some other cases
    assert len(known) >= 0.9 * len(ran)
    for outcome in known:
        assert onnx_suite.row(outcome) == rows[outcome.kind, outcome.name], "`make onnx-suite ARGS=--write`"


def test_enough_cases_are_in_scope_and_pass() -> None:
    onnx_suite.check(outcomes(ON_DISK), {kind: onnx_suite.FLOORS[kind] for kind in ON_DISK})
    onnx_suite.check(outcomes(("node",)), {"node": 250})


def test_what_the_page_counts() -> None:
    """The page is the full run's: its numbers keep the floors, and its tables are its lists."""
    text = onnx_suite.PAGE.read_text(encoding="utf-8")
    rows = listed()
    for kind, floor in onnx_suite.FLOORS.items():
        match = re.search(rf"^\| {kind} \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
        assert match
        scope, passed, failed, out = map(int, match.groups())
        assert scope == passed + failed >= floor
        assert passed >= onnx_suite.SHARE * scope
        words = [line.split(" | ")[1] for (k, _), line in rows.items() if k == kind]
        assert [words.count(w) for w in ("passed", "failed", "out of scope")] == [passed, failed, out]


def test_the_suite_can_fail() -> None:
    case = next(c for c in onnx_suite.cases(("pytorch-converted",)) if c.name == "test_Tanh")
    assert onnx_suite.judge(case).word == "passed"
    case.model.graph.node[0].op_type = "Sin"
    assert onnx_suite.judge(case) == onnx_suite.Outcome(
        "pytorch-converted",
        case.name,
        "failed",
        "other results: Not equal to tolerance rtol=0.001, atol=1e-07",
    )
    case.model.graph.node[0].op_type = "Det"
    assert "CIR633" in onnx_suite.judge(case).why


def test_the_interface() -> None:
    assert CompactBackend.supports_device("CPU")
    assert not CompactBackend.supports_device("CUDA:0")
    x = array(1, 2, 3)
    (y,) = CompactBackend.run_node(helper.make_node("Relu", ["x"], ["y"]), [x])
    assert np.array_equal(y, np.maximum(x, 0))
    built = model("g (float[1,2,3] x, float[3] b) => (float[1,2,3] y) { y = Add (x, b) }")
    assert CompactBackend.is_compatible(built)
    results = CompactBackend.run_model(built, [x, x[0, 0]])
    assert np.array_equal(results[0], x + x[0, 0])
    by_name = CompactBackend.prepare(built).run({"b": x[0, 0], "x": x})
    assert np.array_equal(by_name[0], results[0])

"""`compactc count`: every step of a network counted, and estimated or explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import arm_page
from compactir.cli import main
from compactir.diagnostics import CompactError
from compactir.tools.count import estimate_all, llvm
from tests.conftest import ROOT

LENET = str(ROOT / "examples/lenet5.arch")
COUNT = ["count", LENET, "-D", "output=linear", "--init", "seed=0", "--target", "arm-a55"]


@pytest.fixture(scope="module")
def arm(tool: Callable[[str], str]) -> None:
    """Compiler and emulator."""
    tool("aarch64-linux-gnu-gcc")
    tool("qemu-aarch64")


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.usefixtures("arm")
@pytest.mark.slow
def test_every_step_is_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LLVM the counts are there, and the way to the estimates."""
    monkeypatch.setattr(llvm, "_VERSIONS", ())
    assert main([*COUNT, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["total"]["instructions"] == sum(layer["instructions"] for layer in said["layers"])
    assert said["total"]["cycles"] == {}
    assert "apt install llvm" in said["missing"]["help"]
    convolutions = [layer for layer in said["layers"] if layer["macs"] > 10_000]
    assert len(convolutions) >= 4
    for layer in convolutions:  # vectors are really used
        assert layer["classes"]["fma32"] >= 0.95 * layer["macs"] / 4, layer["name"]
    assert main(COUNT) == 0
    captured = capsys.readouterr()
    assert "FMA per MAC/4" in captured.out
    assert "no estimated cycles: estimating cycles needs `llvm-mc`" in captured.err


DIRECT = """network direct {
  input image: f32[16, 17, 17]
  x = image -> conv(24, kernel=3, stride=2, pad=0) -> relu -> conv(48, kernel=3, pad=0) -> relu
            -> depthwise(kernel=3, pad=0) -> relu
  output y = x -> conv(24, kernel=1) -> conv(32, kernel=1, groups=2)
}
"""


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize("cc", ["aarch64-linux-gnu-gcc", "zig"])
@pytest.mark.slow
def test_direct_convolutions_use_vectors(cc: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "direct.arch").write_text(DIRECT)
    count = ["count", str(tmp_path / "direct.arch"), "--target", "arm-a76", "--init", "seed=0", "--json"]
    assert main([*count, "--no-winograd", "--cc", cc]) == 0
    said = json.loads(capsys.readouterr().out)
    for layer in [layer for layer in said["layers"] if layer["macs"]]:
        assert layer["classes"]["fma32"] >= 0.95 * layer["macs"] / 4, layer["name"]
        assert layer["classes"]["fma32"] >= 0.25 * layer["instructions"], layer["name"]
    assert said["total"]["classes"]["fma32"] >= 0.95 * said["total"]["macs"] / 4


def test_the_page_has_the_estimates_of_the_counts() -> None:
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert page.endswith(arm_page.section(arm_page.load()))


@pytest.mark.compiler
@pytest.mark.emulator
@pytest.mark.usefixtures("arm")
def test_cycles_are_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        llvm.tool("llvm-mc")
    except CompactError as missing:
        pytest.skip(f"{missing.message}: apt-get install llvm-19")
    assert main([*COUNT, "--model", "a53", "--model", "a55", "--caches"]) == 0
    said = capsys.readouterr().out
    assert "in-order model of the Cortex-A53" in said
    assert "L1 misses" in said
    assert "lower bounds" in said


def test_other_targets_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", LENET, "--target", "x86"]) == 2
    said = capsys.readouterr().err
    assert "counting is for Arm" in said
    assert "arm-a76" in said
    assert main(["count", LENET, "--target", "arm-v7", "--model", "a53"]) == 2
    assert "leave `--model` out to count instructions" in capsys.readouterr().err


def test_nothing_to_estimate() -> None:
    assert estimate_all([], "a55") == []

"""`compactc profile`: every step with its time and its share of the peak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import compactir
from compactir.cli import main

pytestmark = pytest.mark.compiler
MODEL = """
network small() {
  input image: f32[3, 24, 24]
  output y = image -> conv(64, kernel=3) -> relu -> conv(64, kernel=1) -> global_avg_pool -> linear(10)
}
"""


FUSED = """
block cell(x) {
  return x -> conv(192, kernel=1) -> relu6 -> depthwise(kernel=3) -> relu6 -> conv(32, kernel=1)
}
network fused() {
  input image: f32[3, 112, 112]
  output y = image -> conv(32, kernel=3) -> relu -> cell -> global_avg_pool
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled for two threads."""
    path = tmp_path_factory.mktemp("profile") / "small.arch"
    path.write_text(MODEL, encoding="utf-8")
    return compactir.compile(path, out=path.parent / "out", threads=2, seed=0).folder


def test_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(folder), "--repeats", "3"]) == 0
    said = capsys.readouterr().out
    assert "of peak" in said
    assert "median of 3, 2 threads" in said
    assert "linear1" in said


@pytest.mark.parametrize("threads", [1, 2])
def test_for_programs(folder: Path, threads: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(folder), "--threads", str(threads), "--repeats", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["threads"], said["repeats"]) == (threads, 2)
    assert said["peak_gflops"] > 0
    assert sum(step["macs"] for step in said["steps"]) == said["macs"] > 0


def test_a_model_is_compiled_for_the_threads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    words = ["profile", "small.arch", "--init", "seed=0", "--threads", "2", "--repeats", "1", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["threads"] == 2


def test_more_threads_than_compiled_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(folder), "--threads", "3"]) == 1
    assert "CIR628" in capsys.readouterr().err


def test_a_fused_step_names_all_its_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fused.arch").write_text(FUSED, encoding="utf-8")
    profile = compactir.compile("fused.arch", out="out", seed=0).profile(repeats=1)
    titles = [row.step.title for row in profile.rows]
    assert "cell1: conv1, depthwise1, conv2" in titles
    assert all(
        line.startswith(title) for line, title in zip(str(profile).splitlines()[1:], titles, strict=False)
    )
    assert main(["profile", "out", "--repeats", "1", "--json"]) == 0
    step = json.loads(capsys.readouterr().out)["steps"][titles.index("cell1: conv1, depthwise1, conv2")]
    assert step["name"] == "cell1.conv2"
    assert step["nodes"] == ["cell1.conv1", "cell1.depthwise1", "cell1.conv2"]

"""`compactc profile`: every step with its time and its share of the peak."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compactir
from compactir.cli import main
from compactir.diagnostics import CompactError
from compactir.runtime import peak

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


FEW_CORES = peak.few_cores


@pytest.fixture(autouse=True)
def _cores_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads have a peak, wherever the tests run."""
    monkeypatch.setattr(peak, "few_cores", lambda threads: "")


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


class Gauge:
    """In place of the loop: it runs at 90, then at 100, then at 80 GFLOP/s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, int, str | None]] = []
        self.speeds = iter((90.0, 100.0, 80.0))
        monkeypatch.setattr("compactir.runtime.peak.find_gauge", self.find)

    def find(self, target: str, threads: int, cc: str | None) -> Callable[[], float]:
        self.asked.append((target, threads, cc))
        return lambda: next(self.speeds)


def test_python_and_command_line_measure_the_same_peak(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = compactir.load(folder, cc="mine")
    gauge = Gauge(monkeypatch)
    profile = module.profile(repeats=1, threads=1)
    assert profile.peak_gflops == 100.0  # the better one of before and after
    assert "of peak" in str(profile)
    assert gauge.asked == [(module.target, 1, "mine")]
    gauge = Gauge(monkeypatch)
    assert main(["profile", str(folder), "--repeats", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peak_gflops"] == 100.0
    assert gauge.asked == [(module.target, 2, None)]


@pytest.mark.parametrize(("given", "taken"), [(50.0, 50.0), (np.float32(2), 2.0), (0, None), (False, None)])
def test_a_peak_that_is_given_is_not_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: float, taken: float | None
) -> None:
    gauge = Gauge(monkeypatch)
    profile = compactir.load(folder).profile(repeats=1, peak_gflops=given)
    assert not gauge.asked
    assert profile.peak_gflops == profile.to_json()["peak_gflops"] == taken
    assert ("of peak" in str(profile)) == bool(taken)


@pytest.mark.parametrize("given", [-1.0, float("nan"), True, "fast"])
def test_a_peak_that_is_none(folder: Path, given: Any) -> None:
    with pytest.raises(CompactError, match="peak_gflops") as caught:
        compactir.load(folder).profile(repeats=1, peak_gflops=given)
    assert caught.value.code == "CIR678"


@pytest.mark.parametrize("given", ["x", 1.5, True, None, 0, -1])
def test_a_number_of_runs_that_is_none(folder: Path, given: Any) -> None:
    module = compactir.load(folder)
    with pytest.raises(CompactError, match=r"CIR678: `repeats` is .*whole number of at least 1"):
        module.profile(repeats=given)
    if given != 0:
        with pytest.raises(CompactError, match=r"CIR678: `warmup` is .*whole number, 0 for none"):
            module.profile(warmup=given)


def test_numbers_of_numpy_are_numbers(folder: Path) -> None:
    two: Any = np.int64(2)
    profile = compactir.load(folder).profile(repeats=two, warmup=0, peak_gflops=0)
    assert json.loads(json.dumps(profile.to_json()))["repeats"] == 2


def test_more_threads_than_cores_have_times_without_a_peak(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two threads on one core measured a peak of one, and steps of 174 % of it."""
    monkeypatch.setattr(peak, "few_cores", FEW_CORES)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    profile = compactir.load(folder).profile(repeats=1)
    assert (profile.threads, profile.peak_gflops) == (2, None)
    assert str(profile).endswith("2 threads)\nnote: 2 threads on 1 core: there is no peak to take a share of")
    assert "of peak" not in str(profile)
    assert compactir.load(folder).profile(repeats=1, peak_gflops=9).note == ""
    assert main(["profile", str(folder), "--repeats", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["peak_gflops"] is None
    assert told["note"].startswith("2 threads on 1 core")
    assert "note" not in compactir.load(folder).profile(repeats=1, threads=1, peak_gflops=0).to_json()


def test_the_loop_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For each number of threads it is measured anew, with the same library of the build cache."""
    monkeypatch.setenv("COMPACTIR_CACHE", str(tmp_path / "cache"))
    module = compactir.load(folder)
    profiles = [module.profile(repeats=1, threads=threads) for threads in (1, 2)]
    assert [profile.threads for profile in profiles] == [1, 2]
    assert all((profile.peak_gflops or 0.0) > 0.0 for profile in profiles)
    assert len(list((tmp_path / "cache").rglob("libpeak.so"))) == 1


def test_without_a_compiler_the_column_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compactir.runtime.build._usual", lambda target: iter(()))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("COMPACTIR_CC", raising=False)
    profile = compactir.load(folder).profile(repeats=1)
    assert profile.peak_gflops is None
    assert "of peak" not in str(profile)
    assert main(["profile", str(folder), "--repeats", "1"]) == 0
    assert "of peak" not in capsys.readouterr().out
    monkeypatch.setenv("COMPACTIR_CC", "no-such-compiler")
    assert compactir.load(folder).profile(repeats=1).peak_gflops is None


def test_a_compiler_that_was_asked_for_has_to_serve(folder: Path) -> None:
    with pytest.raises(CompactError) as caught:
        compactir.load(folder, cc="no-such-compiler").profile(repeats=1)
    assert caught.value.code == "CIR512"


def test_where_no_library_may_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(library: Path) -> None:
        raise OSError(f"{library}: failed to map segment from shared object")

    module = compactir.load(folder)
    monkeypatch.setattr("compactir.runtime.peak.open_loop", refuse)
    assert module.profile(repeats=1).peak_gflops is None

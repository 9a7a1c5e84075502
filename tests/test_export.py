"""`compactc export`: files for other programs, which compute the same."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir import driver, reference
from compactir.cli import main
from compactir.ir.graph import Graph
from compactir.weights.safetensors import read_safetensors
from tests.conftest import ROOT

MODEL = ROOT / "examples" / "lenet5.arch"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return driver.read(driver.Source(MODEL)).graph


def export(out: Path, *more: str) -> int:
    return main(["export", str(MODEL), "-o", str(out), *more])


def test_onnx(graph: Graph, tmp_path: Path, need: Callable[[str], None]) -> None:
    need("onnx")
    need("onnxruntime")
    import onnxruntime

    assert export(tmp_path / "net.onnx") == 0
    inputs = reference.random_inputs(graph, 3)
    (right,) = reference.run(graph, inputs).values()
    found = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).run(None, inputs)[0]
    assert np.abs(found - right).max() <= 1e-4 * np.abs(right).max()
    (again,) = reference.run(driver.read(driver.Source(tmp_path / "net.onnx")).graph, inputs).values()
    assert np.abs(again - right).max() <= 1e-5 * np.abs(right).max()


def test_weights(graph: Graph, tmp_path: Path) -> None:
    assert export(tmp_path / "net.safetensors") == 0
    stored = read_safetensors(tmp_path / "net.safetensors")
    assert set(stored) == set(graph.params)
    assert all(np.array_equal(stored[name].array, array) for name, array in graph.weights.items())


def test_text(graph: Graph, tmp_path: Path) -> None:
    assert export(tmp_path / "net.cir") == 0
    again = driver.read(driver.Source(tmp_path / "net.cir"))
    assert again.init["weights"] == "file"
    inputs = reference.random_inputs(graph, 3)
    (a,), (b,) = (reference.run(it, inputs).values() for it in (graph, again.graph))
    assert np.array_equal(a, b)


def test_torch(tmp_path: Path, need: Callable[[str], None]) -> None:
    need("torch")
    assert export(tmp_path / "net.py") == 0
    assert set(read_safetensors(tmp_path / "net.safetensors"))
    subprocess.run([sys.executable, "-m", "py_compile", str(tmp_path / "net.py")], check=True)


def test_unknown_endings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "net.onx") == 2
    assert "did you mean `.onnx`" in capsys.readouterr().err
    assert export(tmp_path / "net") == 2
    assert export(MODEL) == 2
    assert capsys.readouterr().err.count("CIR682") == 2
    assert list(tmp_path.iterdir()) == []
    assert export(tmp_path / "missing" / "net.safetensors") == 1
    assert "CIR652" in capsys.readouterr().err

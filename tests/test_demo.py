"""`make run`: its figures are computed, not printed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from examples import digits_demo

pytest.importorskip("torch", reason='pip install ".[torch]"')


@pytest.mark.parametrize(
    ("network", "defines"), [("lenet5", []), ("resnet8_cifar", ["dataset=digits"])], ids=["lenet5", "resnet8"]
)
def test_a_trained_network_in_c_reads_the_digits_as_torch_does(
    network: str, defines: list[str], tmp_path: Path
) -> None:
    digits_demo.compile_to(tmp_path / "out", "native", None, network, defines)
    found = digits_demo.read_digits_with(tmp_path / "out")
    assert found.same == len(found.labels) == 360
    assert found.right >= 0.98 * 360
    assert found.apart <= 1e-4


def test_a_weight_changed_by_hand_changes_the_figures(tmp_path: Path) -> None:
    trained = load_file(digits_demo.HERE / "lenet5.safetensors")
    weights = {name: np.array(w) for name, w in trained.items()}
    weights["f6.weight"][0] = 10.0
    save_file(weights, tmp_path / "changed.safetensors")
    digits_demo.compile_to(tmp_path / "a", "native", None)
    digits_demo.compile_to(tmp_path / "b", "native", tmp_path / "changed.safetensors")
    as_trained, changed = (digits_demo.read_digits_with(tmp_path / name) for name in "ab")
    assert not np.allclose(as_trained.c, changed.c)
    assert changed.same == 360  # PyTorch has the same changed weight


def test_one_weight_changed_in_c_alone_changes_the_agreement(tmp_path: Path) -> None:
    weights = {n: np.array(w) for n, w in load_file(digits_demo.HERE / "lenet5.safetensors").items()}
    weights["f6.weight"][0, 0] += 10.0
    save_file(weights, tmp_path / "changed.safetensors")
    digits_demo.compile_to(tmp_path / "out", "native", tmp_path / "changed.safetensors")
    shutil.copy(digits_demo.HERE / "lenet5.safetensors", tmp_path / "out" / "lenet5.safetensors")
    found = digits_demo.read_digits_with(tmp_path / "out")
    assert found.apart > 1e-2
    assert found.same < 360

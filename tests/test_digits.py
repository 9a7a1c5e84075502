"""The committed digits are what the script makes, the split is fair, and the recipe learns."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from examples import prepare_digits
from examples.prepare_digits import (
    Digits,
    held_out,
    read_bitmaps,
    read_digits,
    read_held_out,
    resize_matrix,
    to_inputs,
)
from tests.conftest import ROOT


@pytest.mark.slow
def test_committed_file_is_what_the_script_writes(need: Callable[[str], None]) -> None:
    need("sklearn")
    train, test = read_digits()
    committed = read_held_out()
    assert len(train.labels) == 1437
    np.testing.assert_array_equal(committed.images, test.images)
    np.testing.assert_array_equal(committed.labels, test.labels)
    with np.load(prepare_digits.TEST_FILE) as file:
        assert str(file["source"]) == prepare_digits.SOURCE
        assert "CC BY 4.0" in str(file["licence"])
        assert "writers" in str(file["source"])


def test_every_class_has_its_share() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), np.arange(100, 110))
    chosen = held_out(labels, 209)
    assert chosen.sum() == 209
    assert set(np.bincount(labels[chosen])) == {20, 21, 22}
    np.testing.assert_array_equal(chosen, held_out(labels, 209))
    assert (chosen != held_out(labels, 209, seed=1)).any()


def test_inputs_have_the_paper_s_range() -> None:
    inputs = to_inputs(read_held_out().images)
    assert inputs.shape == (360, 1, 32, 32)
    assert inputs.dtype == np.float32
    assert inputs.min() == np.float32(-0.1)
    assert inputs.max() == np.float32(1.175)


def test_the_network_says_how_an_image_gets_into_that_range() -> None:
    """`compactc run` reads images from 0 to 1; the model file and the help say `--mean` and `--std`."""
    for text in (
        (ROOT / "examples" / "lenet5.arch").read_text(encoding="utf-8"),
        (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"),
    ):
        found = re.search(r"--mean (0\.\d+) --std (0\.\d+)", text)
        assert found
        mean, std = map(float, found.groups())
        assert (0 - mean) / std == pytest.approx(-0.1, abs=1e-4)
        assert (1 - mean) / std == pytest.approx(1.175, abs=1e-4)


def test_bitmaps_are_ten_different_signs() -> None:
    patterns = read_bitmaps()
    assert patterns.shape == (10, 84)
    assert set(np.unique(patterns)) == {-1.0, 1.0}
    differing = ((patterns[:, None] - patterns) ** 2).sum(2) / 4
    assert differing[~np.eye(10, dtype=bool)].min() >= 16


def test_resizing_is_torch_s_bilinear() -> None:
    torch = pytest.importorskip("torch", reason="no torch here: pip install torch")
    image = np.random.default_rng(0).random((8, 8))
    batch = torch.from_numpy(image)[None, None]
    expected = torch.nn.functional.interpolate(batch, (32, 32), mode="bilinear")
    np.testing.assert_allclose(resize_matrix() @ image @ resize_matrix().T, expected[0, 0], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "defines"), [("lenet5", {}), ("resnet8_cifar", {"dataset": "digits"})], ids=["lenet5", "resnet8"]
)
def test_recipe_learns(name: str, defines: dict[str, str], need: Callable[[str], None]) -> None:
    """Three epochs on 640 digits instead of 40 on all: above chance, the same twice, every weight moved."""
    need("sklearn")
    torch = pytest.importorskip("torch", reason="no torch here: pip install torch")
    from compactir.codegen.torch import emit_torch, load_torch
    from examples.train_digits import accuracy, answers_of, authored, initialize, tensors, train

    graph = authored(name, defines)
    answers = answers_of(graph)
    learned = read_digits()[0]
    images, labels = tensors(Digits(learned.images[:640], learned.labels[:640]), 1)
    test = tensors(read_held_out(), 1)
    model, again = (
        train(load_torch(emit_torch(graph), graph), images, labels, answers, seed=1, epochs=3)
        for _ in range(2)
    )
    fresh = load_torch(emit_torch(graph), graph).eval()
    initialize(fresh, 1)
    assert accuracy(model, *test, answers) > 0.6
    assert accuracy(fresh, *test, answers) < 0.3
    for p, q, r in zip(model.parameters(), again.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not p.requires_grad or (p != r).any()


def test_a_network_without_a_weights_file_is_not_trained() -> None:
    pytest.importorskip("torch", reason="no torch here: pip install torch")
    from examples.train_digits import authored

    with pytest.raises(ValueError, match="no `weights` line"):
        authored("resnet8_cifar", {})
    with pytest.raises(ValueError, match="not ten numbers"):
        authored("resnet8_cifar", {"dataset": "digits", "size": "64"})

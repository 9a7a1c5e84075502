"""The committed digits are what the script makes, the split is fair, and the recipe learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
def test_recipe_learns(need: Callable[[str], None]) -> None:
    """Three epochs on 640 digits instead of 40 on all: above chance, the same twice, every weight moved."""
    need("sklearn")
    torch = pytest.importorskip("torch", reason="no torch here: pip install torch")
    from examples.train_lenet5 import accuracy, initialize, train
    from tests.torch_models.lenet5 import lenet5

    def tensors(digits: Digits, count: int) -> tuple[Any, Any]:
        images = torch.from_numpy(to_inputs(digits.images[:count]))
        return images, torch.from_numpy(digits.labels[:count]).long()

    images, labels = tensors(read_digits()[0], 640)
    test = tensors(read_held_out(), 360)
    model = train(lenet5(), images, labels, seed=1, epochs=3)
    again = train(lenet5(), images, labels, seed=1, epochs=3)
    fresh = lenet5()
    initialize(fresh, 1)
    assert accuracy(model, *test) > 0.6
    assert accuracy(fresh, *test) < 0.3
    for p, q, r in zip(model.parameters(), again.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)
        assert (p != r).all()

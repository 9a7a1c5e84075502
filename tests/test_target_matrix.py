"""Each example compiles for every target: the quick ones all, of the others each for one, in turn.

`make targets` walks all pairs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from compactir.targets import target_names
from tests.target_matrix import PATHS, agrees, smallest, written

QUICK = {
    "autoencoder",
    "ds_cnn",
    "lenet5",
    "lowrank_resnet20",
    "mobilenet_v1_vww",
    "resnet20_cifar",
    "resnet8_cifar",
    "squeezenet",
}
"""Planned in a tenth of a second for each target."""
OTHERS = [path.stem for path in PATHS if path.stem not in QUICK]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_example_for_every_target(path: Path) -> None:
    names = list(target_names())
    if path.stem not in QUICK:
        names = [names[OTHERS.index(path.stem) % len(names)]]
    assert [g.manifest.target for g in written(smallest(path), names)] == names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ds_cnn", "lenet5", "resnet8_cifar"])
def test_portable_c_computes_what_the_reference_does(name: str) -> None:
    authored = smallest(next(path for path in PATHS if path.stem == name))
    (generated,) = written(authored, ["c"])
    assert agrees(authored, generated)


def test_every_target_has_its_turn() -> None:
    assert len(OTHERS) >= len(target_names())
    assert {path.stem for path in PATHS} == {*QUICK, *OTHERS}

"""Input files that are no arrays: what is said about them is ours, not NumPy's advice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compactir.diagnostics import CompactError
from compactir.tools.arrays import load_arrays


def test_there_and_back(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.zeros(1))
    assert {name: list(array) for name, array in load_arrays(tmp_path / "a.npy").items()} == {"": [0, 1, 2]}
    assert sorted(load_arrays(tmp_path / "a.npz")) == ["x", "y"]


def objects(path: Path) -> None:
    np.save(path, np.array([{}]), allow_pickle=True)


def cut(path: Path) -> None:
    np.save(path, np.zeros(100))
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"1 2 3\n"), "it begins with b'1 2 3\\n', no NumPy file does"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(50)), "zip file"),
        (objects, "it holds Python objects: reading them executes code"),
        (cut, "array"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, write: object, why: str) -> None:
    assert callable(write)
    write(tmp_path / "x.npy")
    with pytest.raises(CompactError, match="CIR666") as caught:
        load_arrays(tmp_path / "x.npy")
    assert why in caught.value.notes[0]
    assert "allow_pickle" not in str(caught.value)

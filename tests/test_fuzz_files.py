"""Two seconds of tests/fuzz_files.py; `make fuzz-files` throws 10,000 files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fuzz_files

pytestmark = pytest.mark.filterwarnings("ignore")  # of NumPy and zipfile, about the seeds


def test_files(tmp_path: Path, need: Callable[[str], None]) -> None:
    need("onnx")
    tally, failure = fuzz_files.fuzz(300, 2026, tmp_path)
    assert not failure
    assert tally.past >= 0.3 * tally.files, tally
    assert tally.used >= 0.05 * tally.files, tally


def test_the_fuzzer_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[str], None]
) -> None:
    need("onnx")
    monkeypatch.setattr(fuzz_files, "read_weights", lambda path: 1 // 0)
    _, failure = fuzz_files.fuzz(50, 0, tmp_path)
    assert failure.startswith("ZeroDivisionError")
    assert len(list(tmp_path.glob("failure-*"))) == 1


def test_the_fuzzer_notices_files_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[str], None]
) -> None:
    need("onnx")
    monkeypatch.setattr(
        fuzz_files, "use", lambda path, rng: ((path.parent / "escaped").touch(), (True, True))[1]
    )
    _, failure = fuzz_files.fuzz(1, 0, tmp_path)
    assert "left escaped behind" in failure

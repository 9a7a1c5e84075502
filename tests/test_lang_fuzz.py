"""Three seconds of tests/fuzz_lang.py; `make fuzz` runs it longer."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("fuzz_lang", Path(__file__).parent / "fuzz_lang.py")
assert SPEC is not None
assert SPEC.loader is not None
fuzz_lang = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz_lang)


def test_three_seconds(tmp_path: Path) -> None:
    count, _, failure = fuzz_lang.fuzz(3, seed=2026, folder=tmp_path)
    assert not failure
    assert count > 50


def test_the_fuzzer_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_lang, "elaborate", lambda tree: 1 // 0)
    _, _, failure = fuzz_lang.fuzz(20, seed=0, folder=tmp_path)
    assert failure.startswith("ZeroDivisionError")

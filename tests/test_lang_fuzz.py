"""Three seconds of tests/fuzz_lang.py; `make fuzz` runs it longer."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("fuzz_lang", Path(__file__).parent / "fuzz_lang.py")
assert SPEC is not None
assert SPEC.loader is not None
fuzz_lang = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz_lang)


def test_three_seconds(tmp_path: Path) -> None:
    count, _, failure = fuzz_lang.fuzz(3, seed=2026, folder=tmp_path)
    assert not failure
    assert count > 50


def test_the_fuzzer_notices(tmp_path: Path) -> None:
    fuzz_lang.elaborate, kept = (lambda tree: 1 // 0), fuzz_lang.elaborate
    try:
        _, _, failure = fuzz_lang.fuzz(20, seed=0, folder=tmp_path)
    finally:
        fuzz_lang.elaborate = kept
    assert failure.startswith("ZeroDivisionError")

"""Three seconds of tests/fuzz_lang.py; `make fuzz` runs it longer."""

import random
from pathlib import Path

import pytest

from tests import fuzz_lang
from tests.fuzz_models import model


def test_three_seconds(tmp_path: Path) -> None:
    tally, failure = fuzz_lang.fuzz(3, seed=2026, folder=tmp_path)
    assert not failure
    assert tally.inputs > 5


def test_enough_inputs_get_past_the_parser(tmp_path: Path) -> None:
    """Floors of what the fuzzer reaches; of 1,000 inputs 580 parse and 250 elaborate."""
    rng, texts, tally = random.Random(1), fuzz_lang.corpus(), fuzz_lang.Tally()
    small = [text for text in texts if len(text) < 2000]
    for _ in range(80):
        fuzz_lang.check(rng.choice(fuzz_lang.DAMAGES)(rng, small), tmp_path / "fuzzed.arch", tally)
    assert tally.parsed >= 0.4 * tally.inputs, tally
    assert tally.elaborated >= 0.2 * tally.inputs, tally


def test_what_the_grammar_writes_elaborates_mostly(tmp_path: Path) -> None:
    tally = fuzz_lang.Tally()
    for seed in range(20):
        fuzz_lang.check(model(random.Random(seed)).encode(), tmp_path / "fuzzed.arch", tally)
    assert tally.elaborated >= 0.7 * tally.inputs, tally


def test_the_fuzzer_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_lang, "elaborate", lambda tree: 1 // 0)
    _, failure = fuzz_lang.fuzz(20, seed=0, folder=tmp_path)
    assert failure.startswith("ZeroDivisionError")

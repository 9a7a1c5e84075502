"""The scripts of benchmarks/ refuse words that mean nothing as any program does: no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from benchmarks import bench_calls, bench_compile, bench_sparse, layers
from compactir.targets import load_target, unsupported

FOREIGN = next(name for name in ("arm", "x86") if unsupported(load_target(name)))
WRONG = [
    (layers.main, ["nonsense"], "`nonsense` is no example; "),
    (layers.main, ["lenet"], "did you mean `lenet5`"),
    (layers.main, ["lenet5", "-D", "output"], "`output` is not NAME=VALUE"),
    (layers.main, ["lenet5", "--rounds", "0"], "`0` is not a whole number of at least 1"),
    (layers.main, ["lenet5", "--target", FOREIGN], f"`{FOREIGN}` needs "),
    (bench_compile.main, ["nonsense"], "`nonsense` is no example; "),
    (bench_calls.main, ["--target", "nonsense"], "there is no target `nonsense`; "),
    (bench_sparse.main, ["--target", "nonsense"], "there is no target `nonsense`; "),
]


@pytest.mark.parametrize(("main", "words", "said"), WRONG, ids=lambda case: "")
def test_usage_errors(
    main: Callable[[], None],
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_parameter_that_the_network_has_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["layers.py", "lenet5", "-D", "x=1"])
    with pytest.raises(SystemExit) as stopped:
        layers.main()
    assert stopped.value.code == 1
    assert "CIR118: `-D x` names no parameter" in capsys.readouterr().err

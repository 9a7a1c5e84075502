"""`--tune`: what is measured is taken, kept, and never wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compactir import driver
from compactir.cli import main
from compactir.codegen.lower import Choices, lower
from compactir.codegen.lower.tiles import Shape, Tiling, choose, fits, ranked
from compactir.driver import Authored, Generated
from compactir.ir.plan import Conv
from compactir.targets import Target, load_target
from compactir.tools import tune
from compactir.tools.verify import compare_outputs
from tests.c.networks import Case
from tests.test_winograd import network

pytestmark = pytest.mark.compiler
MODEL = """
network small() {
  input image: f32[3, 24, 24]
  x = image -> conv(16, kernel=3, stride=2) -> relu -> conv(80, kernel=1) -> relu6
  output y = x -> depthwise(kernel=3) -> conv(40, kernel=1) -> global_avg_pool -> linear(50)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.arch"
    path.write_text(MODEL, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where measurements are kept: nothing of other tests."""
    monkeypatch.setattr(tune, "_place", lambda target, cc: tmp_path / "tuning" / "store.json")
    return tmp_path / "tuning" / "store.json"


@pytest.fixture
def target() -> Target:
    return load_target("native")


@pytest.fixture
def authored(model: Path) -> Authored:
    return driver.read(driver.Source(model, seed=0))


def other_tiles_are_twice_as_fast(monkeypatch: pytest.MonkeyPatch, whole: list[float]) -> None:
    def ratios(base: object, other: object, choices: Choices, keys: set[str]) -> dict[str, float]:
        return dict.fromkeys(keys, 0.5 / choices.rank)

    monkeypatch.setattr(tune, "_ratios", ratios)
    monkeypatch.setattr(tune, "MOST", 2)
    monkeypatch.setattr(tune, "fastest", lambda runners, count, rounds: whole[: len(runners)])


@pytest.mark.parametrize("name", ["c", "x86", "x86-avx512", "arm"])
@pytest.mark.parametrize("shape", [Shape(49, 9, 96), Shape(112, 3, 27, 0), Shape(1, 63, 1280, 1280)], ids=str)
def test_the_cost_models_favourites(name: str, shape: Shape) -> None:
    found = ranked(load_target(name), shape)
    assert found[0] == choose(load_target(name), shape)
    assert len(set(found)) == len(found)
    for tiling in found:
        assert sum(b * n for b, n in tiling.panels) == shape.blocks
        assert all(fits(load_target(name), tiling.tile, b) for b, _ in tiling.panels)


def test_what_is_faster_is_taken_and_kept(
    authored: Authored, target: Target, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_tiles_are_twice_as_fast(monkeypatch, [100.0, 80.0])

    def make(choices: Choices) -> Generated:
        return driver.generate(driver.plan(authored, target, choices=choices))

    said: list[str] = []
    first = tune.tune(make, target, 600, None, said.append)
    assert first.changed
    assert first.measured > first.changed
    assert "100 to 80 µs (+20.0% faster)" in first.sentence
    assert any(line.startswith("tuning [") for line in said)
    again = tune.tune(make, target, 600, None, said.append)
    assert (again.measured, again.changed) == (0, first.changed)
    assert again.choices.measured == first.choices.measured
    kept: dict[str, dict[str, float]] = json.loads(store.read_text(encoding="utf-8"))
    assert sum(map(len, kept.values())) == first.measured
    generated = make(Choices(first.choices.measured))
    module = driver.load(driver.write_to_cache(generated, driver.build(generated)))
    assert all(c.agrees for c in compare_outputs(authored, module))


def test_what_makes_the_network_slower_is_not_taken(
    authored: Authored, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_tiles_are_twice_as_fast(monkeypatch, [100.0, 101.0])

    def make(choices: Choices) -> Generated:
        return driver.generate(driver.plan(authored, target, choices=choices))

    found = tune.tune(make, target, 600, None, lambda what: None)
    assert (found.changed, dict(found.choices.measured)) == (0, {})
    assert "no other tiles" in found.sentence


def test_the_time_is_a_limit(authored: Authored, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    other_tiles_are_twice_as_fast(monkeypatch, [100.0, 80.0])
    clock = iter(range(0, 10_000, 7))  # every look at the clock costs seven seconds
    monkeypatch.setattr(tune, "monotonic", lambda: float(next(clock)))
    said: list[str] = []
    found = tune.tune(
        lambda choices: driver.generate(driver.plan(authored, target, choices=choices)),
        target,
        10,
        None,
        said.append,
    )
    assert len(said) == 1
    assert found.measured


@pytest.mark.parametrize(
    "odd",
    [Tiling(99, ((1, 5),)), Tiling(4, ((9, 9),)), Tiling(0, ((1, 5),)), Tiling(4, ((1, 5),), True)],
    ids=str,
)
def test_tilings_that_make_no_sense_are_left(authored: Authored, target: Target, odd: Tiling) -> None:
    """A file of measurements can be damaged, or of another version."""
    plain, graph = Choices(), authored.graph
    expected = lower(graph, target, choices=plain)
    measured = {key: odd for key, tiling in plain.taken.items() if tiling.tile != 4}
    assert lower(graph, target, choices=Choices(measured)).plan == expected.plan


DAMAGED = ["", "[1, 2]", '{"a": 1}', '{"a": {"x": "y"}}', '{"a": {"4 2x3": "fast"}}', "[" * 100_000]
DAMAGED += [f'{{"a": {{"4 2x3": {time}}}}}' for time in ("null", "[1]", "NaN", "-1", "0", "Infinity")]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:30])
def test_a_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "store.json"
    path.write_text(text, encoding="utf-8")
    assert not any(tune._Store(path).times.values())


def test_the_command_line(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(model), "--init", "seed=0", "--tune", "1", "-o", str(tmp_path / "out")]) == 0
    assert "tuning: " in capfd.readouterr().err
    module = driver.load(tmp_path / "out")
    assert module(np.ones((1, 3, 24, 24), np.float32)).shape == (1, 50)


def test_what_cannot_be_kept_is_said_once(
    authored: Authored, target: Target, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_tiles_are_twice_as_fast(monkeypatch, [100.0, 80.0])
    store.parent.write_text("a file where the folder would be", encoding="utf-8")
    with pytest.warns(UserWarning, match="the next call will measure again: .*tuning") as said:
        found = tune.tune(
            lambda choices: driver.generate(driver.plan(authored, target, choices=choices)),
            target,
            600,
            None,
            lambda what: None,
        )
    assert found.changed
    assert len(said) == 1


def test_every_level_says_what_it_gained(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    budgets = []

    def tuned(make: object, target: Target, seconds: float, *rest: object) -> tune.Tuned:
        budgets.append(target.name)
        return tune.Tuned(Choices(), len(budgets), 9, 5.5, 5.4)

    monkeypatch.setattr(tune, "tune", tuned)
    command = [str(model), "--init", "seed=0", "--tune", "1", "--emit", "c", "-o", str(tmp_path / "out")]
    assert main([*command, "--target", "c,x86"]) == 0
    assert budgets == ["c", "x86"]
    said = capfd.readouterr().err.splitlines()
    assert said == [
        f"{name}: tuning: other tiles for {count} of 9 layers, 5.5 to 5.4 µs (+1.8% faster)"
        for count, name in enumerate(budgets, 1)
    ]
    assert main([*command, "--target", "c,x86", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [level["tuning"]["changed"] for level in told["by_level"].values()] == [3, 4]


def test_products_of_transformed_layers_are_measured_where_they_run() -> None:
    x86, choices, plain = load_target("x86"), Choices(rank=1), Choices()
    graph = Case("net", network(64, 28, 28, 64)).optimised(x86).graph
    plan = lower(graph, x86, choices=choices).plan
    lower(graph, x86, choices=plain)
    [key] = [key for key in choices.taken if "winograd" in key]
    [step] = [step for step in plan.steps if key in choices.steps.get(step.name, [])]
    assert step.name.endswith(".products") or step.stages
    assert any(isinstance(call.kernel, Conv) for call in step.calls)
    assert choices.taken[key] != plain.taken[key]

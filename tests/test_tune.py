"""`--tune`: what is measured is taken, kept, and never wrong."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from compactir import driver
from compactir.cli import main
from compactir.codegen.lower import Choices, lower
from compactir.codegen.lower.tiles import Shape, Tiling, choose, fits, ranked
from compactir.driver import Authored, Generated
from compactir.ir.plan import Conv
from compactir.runtime.module import Module
from compactir.runtime.profile import Runner
from compactir.targets import Target, load_target
from compactir.tools import tune
from compactir.tools.verify import compare_outputs
from tests.c.networks import Case
from tests.test_winograd import network

pytestmark = pytest.mark.compiler
PLACE = tune._place
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
    monkeypatch.setattr(tune, "_place", lambda target, cc, threads: tmp_path / "tuning" / "store.json")
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
    budgets: dict[str, float] = {}
    clock = [100.0]

    def tuned(make: object, target: Target, seconds: float, *rest: object) -> tune.Tuned:
        budgets[target.name] = seconds
        clock[0] += 3
        return tune.Tuned(Choices(), len(budgets), 9, 5.5, 5.4)

    monkeypatch.setattr(tune, "tune", tuned)
    monkeypatch.setattr("compactir.tools.compile.monotonic", lambda: clock[0])
    command = [str(model), "--init", "seed=0", "--tune", "10", "--emit", "c", "-o", str(tmp_path / "out")]
    assert main([*command, "--target", "c,x86"]) == 0
    assert budgets == {"c": 5, "x86": 7}  # half of it, and what the first level has left
    said = capfd.readouterr().err.splitlines()
    assert said == [
        f"{name}: tuning: other tiles for {count} of 9 layers, 5.5 to 5.4 µs (+1.8% faster)"
        for count, name in enumerate(budgets, 1)
    ]
    assert main([*command, "--target", "c,x86", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [level["tuning"]["changed"] for level in told["by_level"].values()] == [2, 2]


def test_all_threads_are_timed_and_kept_apart(
    authored: Authored, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, places = [], []
    timed = Module.stepper

    def stepper(self: Module, *inputs: Any, threads: int = 1) -> Runner:
        asked.append(threads)
        return timed(self, *inputs, threads=threads)

    def place(target: Target, cc: str | None, threads: int) -> Path:
        places.append(PLACE(target, cc, threads))
        return tmp_path / places[-1].name

    other_tiles_are_twice_as_fast(monkeypatch, [100.0, 80.0])
    monkeypatch.setattr(Module, "stepper", stepper)
    monkeypatch.setattr(tune, "_place", place)
    for threads in (3, 1):

        def make(choices: Choices, threads: int = threads) -> Generated:
            return driver.generate(driver.plan(authored, target, threads=threads, choices=choices))

        asked.clear()
        found = tune.tune(make, target, 600, None, lambda what: None)
        assert set(asked) == {threads}
        assert found.measured
        assert found.to_json()["threads"] == threads
        assert ("100 to 80 µs on 3 threads (" in found.sentence) == (threads == 3)
    assert len(set(places)) == 2


def test_two_that_write_at_the_same_time_lose_nothing(store: Path) -> None:
    """Both read an empty file; what one has written the other keeps, and of two times the better one."""
    one, other = tune._Store(store), tune._Store(store)
    tilings = [Tiling(tile, ((1, 5),)) for tile in (2, 3, 4)]

    def add(where: tune._Store, tiling: Tiling, **ratios: float) -> None:
        where.add(Choices(taken=dict.fromkeys(ratios, tiling)), set(ratios), ratios)

    add(one, tilings[0], a=0.9, b=0.8)
    add(other, tilings[0], a=0.7, b=0.9)
    add(one, tilings[1], a=1.1)
    add(other, tilings[2], c=0.5)
    kept = tune._Store(store)
    assert kept.times == {"a": {"2 1x5": 0.7, "3 1x5": 1.1}, "b": {"2 1x5": 0.8}, "c": {"4 1x5": 0.5}}
    assert other.has("a", tilings[1])

    def many(name: str) -> None:
        mine = tune._Store(store)
        for i in range(40):
            add(mine, tilings[0], **{f"{name}{i}": 0.5})

    threads = [Thread(target=many, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tune._Store(store).times) == 3 + 3 * 40


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

"""The networks of `examples/`: every figure in every header, form and style of the files, docs/zoo.md."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from compactir import cli, driver, reference
from compactir.ir.verify import verify
from compactir.lang import ast, parse, parse_file
from compactir.tools.zoo import Expected, counted, expectations, table
from compactir.weights.init import draw
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
PATHS = sorted(EXAMPLES.glob("*.arch"))
VARIANTS = [(path, expected) for path in PATHS for expected in expectations(path)]
LARGE = 400_000_000
"""Networks with more multiply-accumulates are counted in loops at 64x64."""
NAMES = """
    lenet5 alexnet squeezenet googlenet resnet18 resnet50 resnet20_cifar densenet121 resnext50 mobilenet_v1
    mobilenet_v2 shufflenet_v1 shufflenet_v2 igcv1 igcv2 igcv3 seesawnet mixnet condensenet74
    flgc_mobilenet_v2 scalenet50 balanced_resnet20 lowrank_resnet20 pruned_mobilenet_v1 bunit_toy
    bunit_resnet18 darts_v2 ds_cnn mobilenet_v1_vww resnet8_cifar autoencoder
"""


def name(value: object) -> str | None:
    return value.stem if isinstance(value, Path) else str(value) if isinstance(value, Expected) else None


def test_all_networks_are_there() -> None:
    assert {path.stem for path in PATHS} >= set(NAMES.split())


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_file_has_a_header(path: Path) -> None:
    """The paper, then what the file comes to as it is, then variants; short, narrow, as `fmt` leaves it."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert re.search(r"\b(19|20)\d\d\b|paper", text.partition('"""\n')[0])
    assert expectations(path)[0].defines == ()
    assert len({e.defines for e in expectations(path)}) == len(expectations(path))
    assert f"network {path.stem}" in text
    assert text.count("\n") <= 120
    assert max(map(len, text.splitlines())) <= 110
    assert cli.main(["fmt", "--check", str(path)]) == 0


@pytest.mark.parametrize(("path", "expected"), VARIANTS, ids=name)
def test_counts_equal_the_header(path: Path, expected: Expected) -> None:
    assert counted(path, expected) == expected


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_arrays_and_loops_count_the_same(path: Path) -> None:
    """Parameters are the sizes of real arrays, MACs those that the reference's loops execute."""
    expected = expectations(path)[0]
    graph = driver.read_graph(driver.Source(path))
    if expected.macs > LARGE and path.stem not in (
        "alexnet",
        "scalenet50",
        "darts_v2",
    ):  # those have one size only
        small = driver.read_graph(driver.Source(path, {"size": "64"}))
        assert [p.type for p in small.params.values()] == [p.type for p in graph.params.values()]
        graph, macs = small, small.macs
    else:
        macs = expected.macs
    verify(graph)
    graph.weights = draw(graph)
    assert (
        sum(graph.weights[n].size for n, p in graph.params.items() if p.role == "weight") == expected.stored
    )
    assert reference.counted(graph, reference.random_inputs(graph)) == macs


def test_a_wrong_figure_is_found() -> None:
    path = EXAMPLES / "flgc_mobilenet_v2.arch"
    right = expectations(path)[0]
    assert counted(path, right) == right
    for wrong in ({"params": right.params + 1}, {"macs": right.macs - 1}, {"stored": right.params}):
        assert counted(path, right) != Expected(**{**right.__dict__, **wrong})


def test_a_line_that_expects_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.arch"
    path.write_text("# expect [width=2]: params=1 macs=2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no expectation"):
        expectations(path)
    path.write_text("# expect[width=2, n=3]: params=1 macs=2 stored=4 ours\n", encoding="utf-8")
    assert expectations(path) == [Expected((("width", "2"), ("n", "3")), 1, 2, 4, True)]


def test_the_zoo_is_up_to_date() -> None:
    """What does not depend on the processor: text, networks, counts. `make examples` writes the rest."""
    lines = (ROOT / "docs/zoo.md").read_text(encoding="utf-8").splitlines()
    target = re.search(r"target `(\S+)`", " ".join(lines))
    assert target
    assert lines[: -len(PATHS)] == table([], target[1]).splitlines()
    for line, path in zip(lines[-len(PATHS) :], PATHS, strict=True):
        first, count = expectations(path)[0], len(expectations(path))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        more = f", {count} variants" if count > 1 else ""
        ours = ", ours" if first.ours else ""
        assert cells[:4] == [f"`{path.stem}`", f"{first.params:,}", f"{first.macs:,}", f"yes{more}{ours}"]
        assert "**" not in line


# -- syntax --------------------------------------------------------------------------------------------------

OF_ONE_NETWORK = {
    "Table": "C3 of LeNet-5 is the only irregular table of the papers; every channel mask can be said so",
    "Row": "a row of such a table",
}
"""Constructs that one network alone may use, and why the language has them."""


def constructs(tree: ast.File, seen: frozenset[str] = frozenset()) -> set[str]:
    """The kinds of syntax in a file, and in what it imports from the standard library."""
    found, level = set(), list[ast.Node](tree.items)
    while level:
        found |= {type(node).__name__ for node in level}
        level = [child for node in level for child in ast.children(node)]
    library = files("compactir.lang") / "std"
    for item in tree.items:
        if isinstance(item, ast.Import) and item.path.startswith("std/") and item.path not in seen:
            text = library.joinpath(item.path.removeprefix("std/")).read_text(encoding="utf-8")
            found |= constructs(parse(text, item.path), seen | {item.path})
    return found


def test_no_syntax_is_there_for_one_network_alone() -> None:
    users: Counter[str] = Counter()
    for path in sorted((ROOT / "examples").glob("*.arch")):
        users.update(constructs(parse_file(path)))
    assert {kind for kind, count in users.items() if count == 1} == set(OF_ONE_NETWORK)

"""The networks of `examples/`: every figure in every header, form and style of the files, docs/zoo.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from compactir import cli, driver, reference
from compactir.ir.verify import verify
from compactir.lang import ast, parse_file
from compactir.lang.parser import _Builder, _parser
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

OF_NO_NETWORK = {
    "a label on a call or a sum",
    "else if",
    "import as",
    "an open choice",
    "several results of a block",
    "an output that has its name already",
    "several inputs or outputs",
}
"""Constructs that no example needs; docs/language.md says of each why it is there."""

RULES = {name for name in vars(_Builder) if not name.startswith("_") and not name.endswith("_")}
"""The rules of the grammar that make nodes of the syntax tree, operators of one kind together."""


def rules(path: Path) -> Iterator[str]:
    """The rules that the text of a file needs; what it imports is not looked into."""
    for node in _parser().parse(path.read_text(encoding="utf-8"), start="file").iter_subtrees():
        yield "a label on a call or a sum" if node.data == "labelled" else str(node.data)


def forms(path: Path) -> Iterator[str]:
    """Forms of a rule that the manual describes as something of its own."""
    for node in (node for item in parse_file(path).items for node in ast.walk(item)):
        match node:
            case ast.Imported() if node.alias != node.name:
                yield "import as"
            case ast.If() if len(node.branches) > 1:
                yield "else if"
            case ast.Choice():
                yield "an open choice" if node.default is None else "a choice with a default"
            case ast.Return() if isinstance(node.value, ast.Tuple):
                yield "several results of a block"
            case ast.Output() if node.value is None:
                yield "an output that has its name already"
            case ast.Network() if sum(isinstance(s, (ast.Input, ast.Output)) for s in node.body) > 2:
                yield "several inputs or outputs"
            case ast.For() | ast.Comprehension() if node.target.items:
                yield "a loop over tuples"
            case ast.Comprehension() if node.condition:
                yield "a comprehension with a condition"
            case ast.Call() if node.function == "stack":
                yield "stack"


def test_no_construct_is_there_for_one_network_alone() -> None:
    users: Counter[str] = Counter()
    for path in PATHS:
        users.update({*rules(path), *forms(path)})
    assert "labelled" in RULES
    named = (RULES - {"labelled"}) | set(users) | OF_NO_NETWORK
    assert {what for what in named if users[what] == 1} == set()
    assert {what for what in named if users[what] == 0} == OF_NO_NETWORK


def test_the_manual_says_why_there_is_what_no_example_needs() -> None:
    manual = (ROOT / "docs/language.md").read_text(encoding="utf-8").partition("## Grammar")[2]
    assert (
        set(re.findall(r"^\| (.+?)(?:: `.*)? \| \w", manual, re.MULTILINE)) - {"construct"} == OF_NO_NETWORK
    )


def test_what_one_example_alone_would_use_is_found(tmp_path: Path) -> None:
    path = tmp_path / "n.arch"
    text = """import relu as r from "b.arch"
block b(x) { if x.size == 1 { y = x } else if x.size == 2 { y = x } else { y = x + x as z }; return (x, y) }
network n { input a: f32[1]; input b: f32[1]; choice c { d: relu }; output b }
"""
    path.write_text(text, encoding="utf-8")
    assert {*rules(path), *forms(path)} >= OF_NO_NETWORK

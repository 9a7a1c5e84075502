"""Pipelines as text, the verifier that watches them, and what an error in the middle says."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from compactir.diagnostics import CATALOGUE, CompactError
from compactir.ir.graph import Graph
from compactir.ir.text import parse_graph
from compactir.passes import PASSES, PIPELINES, Clock, Log, Pass, parse_pipeline, pipeline, run_pipeline

NETWORK = """
graph net(%x: f32[1,4,5,5]) {
  param @a.weight: f32[4,4,3,3] weight he
  %a = conv(%x, @a.weight) {connect=dense(4->4, 3x3, pad 1)}
  %b = relu(%a)
  %c = dropout(%b)
  %d = sigmoid(%c)
  return y=%d
}
"""


def network() -> Graph:
    graph = parse_graph(NETWORK)
    graph.weights["a.weight"] = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
    return graph


@dataclass(frozen=True)
class Lie(Pass):
    """relu -> nothing: wrong on purpose."""

    name: ClassVar[str] = "lie"
    times: int = 1

    def run(self, graph: Graph) -> bool:
        node = next(n for n in graph.nodes if n.op.name == "relu")
        node.op = parse_graph("graph g(%x: f32[1]) { %y = tanh(%x) return %y }").nodes[0].op
        return True


@dataclass(frozen=True)
class Stumble(Pass):
    """Raises what it was given."""

    name: ClassVar[str] = "stumble"
    error: Exception | None = None

    def run(self, graph: Graph) -> bool:
        assert self.error
        raise self.error


def test_a_pipeline_prints_as_it_reads() -> None:
    text = "drop-identity,fold-batchnorm,dead-code"
    assert ",".join(map(str, parse_pipeline(text))) == text
    assert str(Lie(times=3)) == "lie{times=3}"
    assert parse_pipeline("  ") == []


@pytest.mark.parametrize(
    ("text", "code", "help"),
    [
        ("drop-identiti", "CIR403", "did you mean `drop-identity`"),
        ("zzz", "CIR403", "passes: "),
        ("drop-identity dead-code", "CIR403", "write `pass,pass{option=value}`"),
        ("drop-identity{", "CIR403", "write `pass,pass{option=value}`"),
        ("drop-identity{fast=true}", "CIR404", "its options: none"),
    ],
)
def test_mistakes_in_a_pipeline_are_coded(text: str, code: str, help: str) -> None:
    with pytest.raises(CompactError) as caught:
        parse_pipeline(text)
    assert caught.value.code == code
    assert help in str(caught.value.help)


def test_every_pipeline_parses() -> None:
    for name in PIPELINES:
        assert [p.name for p in pipeline(name)] == [p.name for p in parse_pipeline(",".join(PIPELINES[name]))]
    with pytest.raises(CompactError, match="CIR403"):
        pipeline("klean")


def test_the_verifier_names_pass_and_node() -> None:
    graph = network()
    with pytest.raises(CompactError) as caught:
        run_pipeline(graph, [*parse_pipeline("drop-identity"), Lie()], verify_each=True)
    assert caught.value.code == "CIR402"
    assert "pass `lie` changes output `y`" in caught.value.message
    assert "made by `b`" in caught.value.message
    assert "in pass `lie` on `net`, after drop-identity" in caught.value.notes
    assert graph.weights["a.weight"].dtype == np.float32


def test_without_the_verifier_a_wrong_pass_goes_through() -> None:
    assert run_pipeline(network(), [Lie()]).changed == ["lie"]


def test_an_error_names_the_pass_and_those_before_it() -> None:
    for error in (ValueError("oops"), CompactError("CIR402", "oops")):
        with pytest.raises(type(error)) as caught:
            run_pipeline(network(), [*parse_pipeline("drop-identity,dead-code"), Stumble(error)])
        notes: list[str] = [*getattr(caught.value, "__notes__", ()), *getattr(caught.value, "notes", ())]
        assert any("in pass `stumble" in n and "after drop-identity, dead-code" in n for n in notes)


def test_dumps_and_clocks_watch_every_pass() -> None:
    seen: list[tuple[str, int]] = []
    clock = Clock()
    run_pipeline(
        network(),
        "drop-identity,dead-code",
        dump=lambda stage, graph: seen.append((stage, len(graph.nodes))),
        instruments=[clock],
    )
    assert seen == [
        ("before:drop-identity", 4),
        ("drop-identity", 3),
        ("before:dead-code", 3),
        ("dead-code", 3),
    ]
    assert [name for name, _ in clock.seconds] == ["drop-identity", "dead-code"]


def test_the_log_says_what_was_done_where() -> None:
    log = Log()
    run_pipeline(network(), "drop-identity,dead-code", log=log)
    [decision] = log.of("drop-identity", done=True)
    assert (decision.node, decision.done) == ("c", True)
    assert str(decision) == "drop-identity: c: does nothing at inference"
    assert log.changed == ["drop-identity"]
    assert not log.of("drop-identity", done=False)


def test_passes_are_documented_and_coded_errors_are_catalogued() -> None:
    for cls in PASSES.values():
        doc = cls.__doc__ or ""
        assert "Needs: " in doc
        assert "Keeps: " in doc
    assert {"CIR401", "CIR402", "CIR403", "CIR404"} <= set(CATALOGUE)

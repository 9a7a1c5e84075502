"""The verifier accepts what we build and names what is broken in what we break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compactir.diagnostics import CompactError, CompactErrors, Span
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Param, Region, Scope, Value
from compactir.ir.op import OPS
from compactir.ir.types import TensorType
from compactir.ir.verify import RULES, Rule, node_rule, verify
from compactir.ops.activation import Relu
from compactir.ops.arrange import Gather
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.passes import Pass, run_pipeline
from tests.graphs import graphs, random_weights


def small() -> Graph:
    """conv, bn and relu in a block, and a residual sum."""
    graph = Graph("small")
    graph.scopes["block1"] = Scope("residual", span=Span("small.arch", 2, 1, 2, 9))
    x = graph.input("image", TensorType.f32(1, 4, 6, 6))
    y = graph.apply(Conv(Connectivity.dense(4, 4, (3, 3), (1,) * 4)), [x], "block1.conv1", _line(3))
    y = graph.apply(BatchNorm(), [y], "block1.bn1", _line(4))
    y = graph.apply(Relu(), [y], "block1.relu1", _line(5))
    graph.outputs["sum"] = graph.apply(Add(), [x, y], "add1", _line(6))
    graph.weights = random_weights(graph)
    return graph


def _line(line: int) -> Span:
    return Span("small.arch", line, 3, line, 12)


def problems(graph: Graph) -> list[CompactError]:
    """What the verifier says."""
    try:
        verify(graph)
    except CompactErrors as errors:
        return list(errors.errors)
    return []


@dataclass(frozen=True)
class Breakage:
    """How to break `small()`, the rule that must be named, words of the message, the line in the source."""

    rule: str
    breaks: Callable[[Graph], object]
    says: str
    line: int | None = None


def _retype(value: Value, *shape: int) -> None:
    value.type = TensorType.f32(*shape)


def _swap_nodes(graph: Graph) -> None:
    graph.nodes[0], graph.nodes[1] = graph.nodes[1], graph.nodes[0]


def _region(*values: str, rows: int = 1) -> Callable[[Graph], object]:
    return lambda graph: graph.regions.append(Region(values, rows))


BREAKAGES = [
    Breakage(
        "every operand is defined before it is read", _swap_nodes, "`block1.bn1` reads %block1.conv1", 4
    ),
    Breakage(
        "every operand is defined before it is read",
        lambda g: g.nodes[3].args.__setitem__(0, Value("ghost", TensorType.f32(1, 4, 6, 6))),
        "`add1` reads %ghost",
        6,
    ),
    Breakage(
        "every operand is defined before it is read", lambda g: g.nodes.pop(0), "reads %block1.conv1", 4
    ),
    Breakage(
        "every value is made once",
        lambda g: g.nodes.append(Node(Relu(), [g.inputs[0]], g.nodes[2].out, "again", _line(9))),
        "`again` makes %block1.relu1 again",
        9,
    ),
    Breakage(
        "no two values have the same name",
        lambda g: setattr(g.nodes[1].out, "name", "image"),
        "%image occurs 2 times",
        4,
    ),
    Breakage(
        "every result has the type that its operation infers",
        lambda g: _retype(g.nodes[2].out, 1, 4, 6, 7),
        "`block1.relu1` makes f32[1,4,6,7], `relu` infers f32[1,4,6,6]",
        5,
    ),
    Breakage(
        "every result has the type that its operation infers",
        lambda g: g.nodes[0].args.append(g.inputs[0]),
        "the epilogue of `conv` reads 0 operands, it has 1",
        3,
    ),
    Breakage(
        "every result has the type that its operation infers",
        lambda g: g.nodes[3].args.pop(),
        "`add` takes (a, b), it has 1 operands",
        6,
    ),
    Breakage(
        "every result has the type that its operation infers",
        lambda g: setattr(g.nodes[2], "op", Gather(ChannelList.of([7]))),
        "channel 7 does not exist, there are 4",
        5,
    ),
    Breakage(
        "an operation's parameters are the ones it declares",
        lambda g: g.nodes[1].args.pop(),
        "`block1.bn1` has 3 parameters, `bn` owns 4",
        4,
    ),
    Breakage(
        "an operation's parameters are the ones it declares",
        lambda g: g.nodes[1].args.insert(2, g.inputs[0]),
        "`block1.bn1` reads %image where its bias belongs",
        4,
    ),
    Breakage(
        "an operation's parameters are the ones it declares",
        lambda g: _retype(g.params["block1.bn1.bias"], 5),
        "has @block1.bn1.bias of shape [5], its bias is [4]",
        4,
    ),
    Breakage(
        "an operation's parameters are the ones it declares",
        lambda g: setattr(g.params["block1.bn1.running_var"], "role", "weight"),
        "trains @block1.bn1.running_var, its running_var is a buffer",
        4,
    ),
    Breakage(
        "every parameter is declared under its name",
        lambda g: g.params.pop("block1.conv1.weight"),
        "`block1.conv1` reads @block1.conv1.weight",
        3,
    ),
    Breakage(
        "every parameter is declared under its name",
        lambda g: setattr(g.params["block1.conv1.weight"], "name", "kernel"),
        "@kernel is declared as `block1.conv1.weight`",
    ),
    Breakage(
        "every parameter is declared under its name",
        lambda g: g.nodes[0].args.__setitem__(1, Param("block1.conv1.weight", TensorType.f32(4, 4, 3, 3))),
        "`block1.conv1` reads @block1.conv1.weight",
        3,
    ),
    Breakage(
        "a parameter is a weight or a buffer",
        lambda g: setattr(g.params["block1.conv1.weight"], "role", "constant"),
        "@block1.conv1.weight is a `constant`",
    ),
    Breakage(
        "a value has at most 8 axes",
        lambda g: _retype(g.nodes[2].out, 1, 4, 36, *[1] * 6),
        "%block1.relu1 is f32[1,4,36,1,1,1,1,1,1]",
        5,
    ),
    Breakage(
        "a value has at most 8 axes",
        lambda g: _retype(g.inputs[0], *[1] * 9),
        "%image is f32[1,1,1,1,1,1,1,1,1]",
    ),
    Breakage("what is returned exists", lambda g: g.outputs.clear(), "`small` returns nothing"),
    Breakage("what is returned exists", lambda g: g.nodes.pop(), "output `sum` is %add1"),
    Breakage(
        "bound arrays fit their parameters",
        lambda g: g.weights.__setitem__("block1.bn1.bias", np.zeros(5, np.float32)),
        "the array of @block1.bn1.bias is [5], the parameter f32[4]",
    ),
    Breakage(
        "bound arrays fit their parameters",
        lambda g: g.weights.__setitem__("bn1.bias", np.zeros(4, np.float32)),
        "there is an array for `bn1.bias`",
    ),
    Breakage(
        "bound arrays fit their parameters",
        lambda g: g.weights.__setitem__("block1.bn1.bias", np.array(["a"] * 4)),
        "holds <U1",
    ),
    Breakage(
        "a dotted name lies in a scope", lambda g: g.scopes.clear(), "`block1.conv1` lies in `block1`", 3
    ),
    Breakage(
        "a dotted name lies in a scope",
        lambda g: g.scopes.__setitem__("a.b", Scope("block")),
        "`a.b` lies in `a`",
    ),
    *(
        Breakage(
            "a region is a chain whose inner values nobody else reads",
            _region(*values, rows=rows),
            says,
            line,
        )
        for values, rows, says, line in [
            (("block1.conv1", "block1.bn1"), 0, "a region has 0 rows", None),
            (("block1.conv1", "ghost"), 1, "%ghost is made by no node", None),
            (("block1.conv1", "block1.conv1"), 1, "%block1.conv1 is in several regions", None),
            (("block1.conv1", "block1.relu1"), 1, "is not read by `block1.relu1` alone", 3),
        ]
    ),
    Breakage(
        "a region is a chain whose inner values nobody else reads",
        lambda g: (_region("block1.conv1", "block1.bn1")(g), g.outputs.update(conv=g.nodes[0].out)),
        "is not read by `block1.bn1` alone",
        3,
    ),
]


def test_small_is_accepted() -> None:
    verify(small())


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda b: b.says[:40])
def test_breakage_is_named(breakage: Breakage) -> None:
    graph = small()
    breakage.breaks(graph)
    found = problems(graph)
    named = [e for e in found if e.message.startswith(f"{breakage.rule}: ") and breakage.says in e.message]
    assert named, found
    assert named[0].code == "CIR305"
    assert (named[0].span.line if named[0].span else None) == breakage.line


def test_every_rule_can_break() -> None:
    assert {b.rule for b in BREAKAGES} == {rule.name for rule in RULES}


def test_a_region_is_accepted() -> None:
    graph = small()
    graph.regions.append(Region(("block1.conv1", "block1.bn1", "block1.relu1"), 2))
    verify(graph)


def test_several_breakages_are_told_together() -> None:
    graph = small()
    graph.outputs.clear()
    graph.scopes.clear()
    _retype(graph.nodes[2].out, 1, 4, 6, 7)
    assert len({e.message.partition(":")[0] for e in problems(graph)}) >= 3


def test_a_stage_can_add_rules() -> None:
    no_norm = node_rule("no bn survives", lambda node: "is a bn" if node.op.name == "bn" else None)
    with pytest.raises(CompactErrors, match=r"no bn survives: `block1\.bn1` is a bn"):
        verify(small(), (*RULES, no_norm))
    verify(small(), (Rule("nothing", lambda graph: iter(())),))


@dataclass(frozen=True)
class Spoil(Pass):
    """Takes the first node away, whatever reads it."""

    name: ClassVar[str] = "spoil"

    def run(self, graph: Graph) -> bool:
        del graph.nodes[0]
        return True


def test_a_pass_that_breaks_a_rule_is_named() -> None:
    with pytest.raises(CompactErrors) as caught:
        run_pipeline(small(), [Spoil()])
    assert "`block1.bn1` reads %block1.conv1" in str(caught.value)
    assert any("spoil" in note for note in caught.value.notes)


@pytest.mark.parametrize("name", sorted(OPS))
def test_samples_are_accepted(name: str) -> None:
    for sample in OPS[name].samples():
        graph = Graph("g")
        xs = [graph.input(f"x{i}", TensorType.f32(*shape)) for i, shape in enumerate(sample.shapes)]
        graph.outputs["y"] = graph.apply(sample.op, xs, "y")
        verify(graph)


@settings(max_examples=100)
@given(graphs())
def test_random_graphs_are_accepted(graph: Graph) -> None:
    verify(graph)
    verify(graph.clone())


MUTATIONS: dict[str, Callable[[Graph, int], object]] = {
    "read a value of nowhere": lambda g, i: g.nodes[i].args.__setitem__(
        0, Value("ghost", g.nodes[i].args[0].type)
    ),
    "read its own result": lambda g, i: g.nodes[i].args.__setitem__(0, g.nodes[i].out),
    "make another type": lambda g, i: setattr(
        g.nodes[i].out, "type", g.nodes[i].out.type.with_channels(g.nodes[i].out.type.channels + 1)
    ),
    "make the input": lambda g, i: setattr(g.nodes[i], "out", g.inputs[0]),
    "one operand more": lambda g, i: g.nodes[i].args.append(Value("ghost", TensorType.f32(1, 1, 1, 1))),
    "no operand": lambda g, i: g.nodes[i].args.clear(),
    "the name of the input": lambda g, i: setattr(g.nodes[i].out, "name", g.inputs[0].name),
    "a scope of nowhere": lambda g, i: setattr(g.nodes[i], "name", "nowhere.step"),
    "twice": lambda g, i: g.nodes.insert(i, g.nodes[i]),
}


@settings(max_examples=100)
@given(graphs(), st.sampled_from(sorted(MUTATIONS)), st.data())
def test_random_breakages_are_refused(graph: Graph, mutation: str, data: st.DataObject) -> None:
    assume(graph.nodes)
    MUTATIONS[mutation](graph, data.draw(st.integers(0, len(graph.nodes) - 1)))
    assert problems(graph)

"""The text form: everything prints, parses back to an equal graph, and refuses what is not such a text."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from compactir.diagnostics import CompactError, Span, render
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Param, Region, Scope, Value
from compactir.ir.op import OPS, Op
from compactir.ir.text import equal, node_text, op_text, parse_graph, print_graph
from compactir.ir.types import Quantization, TensorType
from compactir.ir.verify import verify
from compactir.lang.elaborate import elaborate
from compactir.lang.parser import parse_file
from compactir.ops.activation import Clip, Relu, Relu6, Tanh
from compactir.ops.arrange import Gather, Identity
from compactir.ops.combine import Add
from compactir.ops.conv import Conv, Masked
from tests.effort import calls
from tests.graphs import graphs

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET_HEAD = """\
cir 1
graph lenet5(%image: f32[1,1,8,8]) {
  doc "LeCun et al. 1998"
  weights "lenet5.safetensors"
  param @conv1.weight: f32[6,1,5,5] weight he
  param @conv1.mask: f32[6,1,1,1] buffer "learned(4)"
  param @c3.conv1.weight0: f32[2,3,1,1] weight he
  param @c3.conv1.weight1: f32[2,3,1,1] weight he
  scope c3 = table_layer(out=4, share=1/2, names=["a", "b"], deep=true, pad=none) loc("lenet5.arch":9:3-9:40)
  %conv1: f32[1,6,4,4] = conv(%image, @conv1.weight, @conv1.mask) {connect=dense(1->6, 5x5), \
masked={init="learned(4)"}, epilogue=[relu6, tanh{scale=1.7159, slope=0.5}]} loc("lenet5.arch":4:12-4:30)
  %c3.conv1: f32[1,4,4,4] = conv(%conv1, @c3.conv1.weight0, @c3.conv1.weight1) \
{connect=blocks(6->4; 1 of [0..3]->[0..2], 1x1; 1 of [5,1,3]->[2..4], 1x1)} as c3.first
  %picked: f32[1,3,4,4] = gather(%c3.conv1) {channels=[3,1..3]}
  region %conv1, %c3.conv1 rows 2
  return digits=%picked, %conv1
}
"""


def graph_of(op: Op, shapes: tuple[tuple[int, ...], ...], name: str = "step") -> Graph:
    """A graph of one operation."""
    graph = Graph("g")
    xs = [graph.input(f"x{i}", TensorType.f32(*shape)) for i, shape in enumerate(shapes)]
    graph.outputs["y"] = graph.apply(op, xs, name, Span("g.arch", 3, 5, 3, 20))
    return graph


def round_trip(graph: Graph) -> Graph:
    """Print and parse; the texts must agree to the last character."""
    text = print_graph(graph)
    back = parse_graph(text)
    assert print_graph(back) == text
    assert equal(graph, back) is None
    return back


# -- what is written is read ---------------------------------------------------------------------------------


def test_text_is_as_it_was_written() -> None:
    graph = parse_graph(LENET_HEAD)
    assert print_graph(graph) == LENET_HEAD
    assert graph.regions == [Region(("conv1", "c3.conv1"), 2)]
    graph.regions.clear()  # %conv1 is returned: no region can keep it to itself
    verify(graph)


def test_text_means_what_it_says() -> None:
    graph = parse_graph(LENET_HEAD)
    conv1, c3, picked = graph.nodes
    assert conv1.op == Conv(
        Connectivity.dense(1, 6, (5, 5)), masked=Masked("learned(4)"), epilogue=(Relu6(), Tanh(1.7159, 0.5))
    )
    assert conv1.span == Span("lenet5.arch", 4, 12, 4, 30)
    assert (c3.name, c3.out.name, c3.span) == ("c3.first", "c3.conv1", None)
    assert picked.op == Gather(ChannelList.of([3, 1, 2]))
    assert graph.outputs == {"digits": picked.out, "conv1": conv1.out}
    assert graph.params["conv1.mask"].init == "learned(4)"
    assert (graph.doc, graph.weights_file) == ("LeCun et al. 1998", "lenet5.safetensors")
    scope = graph.scopes["c3"]
    given_args = (("out", 4), ("share", Fraction(1, 2)), ("names", ("a", "b")), ("deep", True), ("pad", None))
    assert (scope.block, scope.args, scope.span) == (
        "table_layer",
        given_args,
        Span("lenet5.arch", 9, 3, 9, 40),
    )


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_sample_round_trips(name: str) -> None:
    for sample in OPS[name].samples():
        back = round_trip(graph_of(sample.op, sample.shapes))
        assert back.nodes[0].op == sample.op


@settings(max_examples=100)
@given(graphs())
def test_random_graphs_round_trip(graph: Graph) -> None:
    back = round_trip(graph)
    assert [n.op for n in back.nodes] == [n.op for n in graph.nodes]
    assert [n.span for n in back.nodes] == [n.span for n in graph.nodes]
    assert back.scopes == graph.scopes
    assert print_graph(graph, spans=False) == print_graph(parse_graph(print_graph(graph, spans=False)))


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=12).filter(lambda t: t.isprintable()))
@example('a"b\\')
@example("inf")
@example("return")
@example("größe.1")
@example("%x")
@example("1st")
def test_any_name_round_trips(name: str) -> None:
    graph = Graph(name, doc=name, weights_file=name)
    x = graph.input(name, TensorType.f32(1, 3, 2, 2))
    graph.scopes[name] = Scope(name, ((name, name),), name, Span(name, 1, 2, 3, 4))
    graph.param(name, TensorType.f32(3), init=name)
    y = graph.append(Relu(), [x], name)
    graph.outputs[name] = y
    graph.outputs[f"{name} 2"] = graph.append(Identity(), [y], f"{name}.x")
    back = round_trip(graph)
    assert [n.name for n in back.nodes] == [name, f"{name}.x"]
    assert back.scopes == graph.scopes


@settings(max_examples=50)
@given(st.floats(), st.floats())
def test_any_float_round_trips(low: float, high: float) -> None:
    op = round_trip(graph_of(Clip(low, high), ((1, 2),))).nodes[0].op
    assert repr(op) == repr(Clip(low, high))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.arch")), ids=lambda p: p.stem)
def test_examples_round_trip(path: Path) -> None:
    graph = elaborate(parse_file(path))
    verify(graph)
    assert round_trip(graph).macs == graph.macs


def test_quantized_types_round_trip() -> None:
    graph = Graph("q")
    quant = Quantization((0.5, 0.25), (0, -3), 1)
    x = graph.input("x", TensorType("i8", (1, 2, 3, 3), quant))
    graph.outputs["y"] = graph.append(Identity(), [x], "y")
    assert round_trip(graph).inputs[0].type.quant == quant


def test_epilogue_operands_round_trip() -> None:
    graph = Graph("g")
    x = graph.input("x", TensorType.f32(1, 3, 2, 2))
    weight = graph.param("w", TensorType.f32(3, 3, 1, 1))
    op = Conv(Connectivity.dense(3, 3), epilogue=(Add(), Relu()))
    graph.outputs["y"] = graph.append(op, [x, weight, x], "y")
    assert round_trip(graph).nodes[0].args[2].name == "x"
    assert op_text(op) == "conv{connect=dense(3->3, 1x1), epilogue=[add, relu]}"


def test_default_attributes_and_types_may_be_left_out() -> None:
    text = """
    // a comment, and no `cir 1`
    graph g(%x: f32[1,4,6,6],) {
      param @w: f32[4,1,3,3]
      %a = conv(%x, @w) {connect=depthwise(4, 3x3, pad 1), stride=[2, 2],}   // a comment
      %b = max_pool(%a) {kernel=[3, 3], stride=[2, 2], ceil=true}
      return %b
    }"""
    graph = parse_graph(text)
    verify(graph)
    assert [str(n.out.type) for n in graph.nodes] == ["f32[1,4,3,3]", "f32[1,4,1,1]"]
    assert (graph.params["w"].role, graph.params["w"].init) == ("weight", "he")
    assert node_text(graph.nodes[1]) == (
        "%b: f32[1,4,1,1] = max_pool(%a) {kernel=[3, 3], stride=[2, 2], ceil=true}"
    )


# -- what differs is told apart ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A change of `LENET_HEAD`'s graph, and what the first difference must mention."""

    name: str
    make: Callable[[Graph], object]
    says: str


CHANGES = [
    Change("graph name", lambda g: setattr(g, "name", "alexnet"), "alexnet"),
    Change("doc", lambda g: setattr(g, "doc", ""), "LeCun"),
    Change("weights file", lambda g: setattr(g, "weights_file", None), "weights"),
    Change("input type", lambda g: setattr(g.inputs[0], "type", TensorType.f32(1, 1, 8, 9)), "f32[1,1,8,9]"),
    Change("input name", lambda g: setattr(g.inputs[0], "name", "picture"), "%picture"),
    Change("parameter role", lambda g: setattr(g.params["conv1.weight"], "role", "buffer"), "buffer"),
    Change("parameter draw", lambda g: setattr(g.params["conv1.mask"], "init", "he"), "learned(4)"),
    Change("one more parameter", lambda g: g.param("w", TensorType.f32(1)), "@w"),
    Change("scope", lambda g: g.scopes.clear(), "scope c3"),
    Change(
        "attribute",
        lambda g: setattr(g.nodes[0], "op", Conv(Connectivity.dense(1, 6, (5, 5)), (2, 2))),
        "stride",
    ),
    Change("operand", lambda g: g.nodes[2].args.__setitem__(0, g.nodes[0].out), "gather(%conv1)"),
    Change(
        "result type", lambda g: setattr(g.nodes[2].out, "type", TensorType.f32(1, 3, 4, 5)), "f32[1,3,4,5]"
    ),
    Change("node name", lambda g: setattr(g.nodes[1], "name", "c3.second"), "c3.second"),
    Change("span", lambda g: setattr(g.nodes[0], "span", None), "loc"),
    Change("node order", lambda g: g.nodes.reverse(), "gather"),
    Change("a node less", lambda g: g.nodes.pop(), "%picked"),
    Change("region", lambda g: g.regions.clear(), "region"),
    Change("rows", lambda g: setattr(g, "regions", [Region(("conv1", "c3.conv1"), 1)]), "rows 1"),
    Change("output name", lambda g: setattr(g, "outputs", {"d": g.nodes[2].out}), "return d=%picked"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
def test_a_change_is_the_first_difference(change: Change) -> None:
    a, b = parse_graph(LENET_HEAD), parse_graph(LENET_HEAD)
    assert equal(a, b) is None
    change.make(b)
    for first, second in ((a, b), (b, a)):
        difference = equal(first, second)
        assert difference is not None
        assert change.says in difference


def test_equal_can_ignore_spans() -> None:
    a, b = parse_graph(LENET_HEAD), parse_graph(LENET_HEAD)
    b.nodes[0].span = None
    assert equal(a, b) is not None
    assert equal(a, b, spans=False) is None


# -- what is no graph is refused -----------------------------------------------------------------------------

# a line of a body (or a whole file), line and column of the complaint (None: anywhere), words of it
WRONG: list[tuple[str, tuple[int, int] | None, str]] = [
    ("", (1, 1), "expected `graph`, found the end of the text"),
    ("cir", (1, 4), "a number"),
    ("cir 99\ngraph g() { return %x }", (1, 5), "format 99"),
    ("cir 1.5\n", (1, 5), "whole number"),
    ("cir 1\ngraph", (2, 6), "name of the graph"),
    ("graph g(%x f32[1,2]) { return %x }", (1, 12), "expected `:`"),
    ("graph g(%x: f32[1,2], %x: f32[1,2]) { return %x }", (1, 23), "`%x` is defined twice"),
    ("graph g(@x: f32[1,2]) { return @x }", (1, 9), "an input"),
    ("graph g(%x: f99[1,2]) { return %x }", (1, 13), "unknown element type `f99`"),
    ("graph g(%x: f32[1,0]) { return %x }", (1, 13), "at least 1"),
    ("graph g(%x: f32[1,-2]) { return %x }", (1, 13), "not a tensor type"),
    ("graph g(%x: f32[1,99999999999999]) { return %x }", (1, 13), "not a tensor type"),
    ("graph g(%x: f32) { return %x }", (1, 13), "a tensor type"),
    ("graph g(%x: f32[1,2]) { return %x } more", (1, 37), "end of the text"),
    ("graph g(%x: f32[1,2]) { return %x", (1, 34), "expected `}`"),
    ("graph g(%x: f32[1,2]) { return %x, %x }", (1, 36), "returned twice"),
    ("graph g(%x: f32[1,2]) { return }", (1, 32), "an output"),
    ("graph g(%x: f32[1,2]) {\n  doc 'single'\n return %x }", (2, 7), "unexpected character `'`"),
    ('graph g(%x: f32[1,2]) { doc "\\q" return %x }', (1, 29), "is not a string"),
    ('graph g(%x: f32[1,2]) { doc "open\n return %x }', (1, 29), "unexpected character"),
    ("%y = relu(%z)", (3, 13), "no value `%z`"),
    ("%y = relu(@x)", (3, 13), "no parameter `@x`"),
    ("%y = rleu(%x)", (3, 8), "no operation `rleu`"),
    ("%y = relu(%x, %x)", (3, 3), "`relu` takes (x), it has 2 operands"),
    ("%y = add(%x)", (3, 3), "`add` takes (a, b)"),
    ("%x = relu(%x)", (3, 3), "defined twice"),
    ("y = relu(%x)", (3, 3), "expected a node"),
    ("%y: f32[1,4,6,6] relu(%x)", (3, 20), "expected `=`"),
    ("%y = clip(%x) {lwo=1.0}", (3, 18), "no attribute `lwo`"),
    ("%y = clip(%x) {low=1.0, low=2.0}", (3, 27), "given twice"),
    ("%y = clip(%x) {low=[1.0]}", (3, 22), "a number"),
    ("%y = clip(%x) {low=}", (3, 22), "a number"),
    ("%y = shuffle(%x)", (3, 8), "needs the attribute `groups`"),
    ("%y = shuffle(%x) {groups=2.5}", (3, 28), "whole number"),
    ("%y = shuffle(%x) {groups=3}", (3, 3), "4 channels do not split into 3 groups"),
    ("%y = max_pool(%x) {kernel=[2], stride=[2, 2]}", (3, 29), "a list of 2, found one of 1"),
    ("%y = max_pool(%x) {kernel=[2, 2, 2], stride=[2, 2]}", (3, 29), "a list of 2, found one of 3"),
    ("%y = max_pool(%x) {kernel=2, stride=[2, 2]}", (3, 29), "expected `[`"),
    ("%y = max_pool(%x) {kernel=[2, 2], stride=[2, 2], ceil=1}", (3, 57), "`true` or `false`"),
    ("%y = gather(%x) {channels=[0..2:0]}", (3, 29), "step 0"),
    ("%y = gather(%x) {channels=[0, a]}", (3, 29), "not a run of channels"),
    ("%y = gather(%x) {channels=[0..99999999999]}", (3, 29), "not a run of channels"),
    ("%y = gather(%x) {channels=[4]}", (3, 3), "channel 4 does not exist"),
    ("%y = gather(%x) {channels=4}", (3, 29), "a list of channels"),
    ("%y = conv(%x) {connect=dense(4->4, 1x1)}", (3, 3), "needs 1 parameters"),
    ("%y = conv(%x) {connect=sparse(4->4)}", (3, 26), "not a connectivity"),
    ("%y = conv(%x) {connect=blocks(4->4; 3 of [0..4]->[0..3], 1x1)}", (3, 26), "cannot share"),
    ("%y = conv(%x) {connect=groups(3, 4->4, 1x1)}", (3, 26), "do not split"),
    ("%y = conv(%x) {connect=dense(99999999999999->4, 1x1)}", (3, 26), "not a connectivity"),
    ("%y = conv(%x) {connect=dense(4->4, 1x1, pad 1/2)}", (3, 26), "not a connectivity"),
    ("%y = conv(%x) {connect=dense(4->4, 1x1), masked={fine=true}}", None, "needs the attribute `init`"),
    ("%y = conv(%x) {connect=dense(4->4, 1x1), epilogue=[rleu]}", (3, 54), "no operation `rleu`"),
    ("%y = relu(%x) loc(3:4)", (3, 17), "not a place"),
    ("%y = relu(%x) as %y", (3, 20), "expected the name of the node"),
    ("param @w: f32[1] weight he\n  param @w: f32[1] weight he", (4, 9), "defined twice"),
    ("region %x rows 1.5", (3, 18), "whole number"),
    ("region %x, y rows 1", (3, 14), "a value"),
    ("region %x", (4, 3), "expected `rows`"),
    ("scope a = b()\n  scope a = b()", (4, 9), "defined twice"),
    ("scope a = b(c=)", (3, 17), "expected a value"),
    ("scope a = b(c=1/0)", (3, 19), "at least 1"),
    ("scope a = b(c=" + "[" * 500 + "]" * 500 + ")", None, "nested too deeply"),
    ("scope a = b(c=" + "1" * 5000 + ")", None, "a number"),
]


@pytest.mark.parametrize(("text", "place", "words"), WRONG, ids=[w[0][:40] for w in WRONG])
def test_wrong_text_is_refused(text: str, place: tuple[int, int] | None, words: str) -> None:
    whole = not text or text.startswith(("cir", "graph"))
    source = text if whole else f"cir 1\ngraph g(%x: f32[1,4,6,6]) {{\n  {text}\n  return %y\n}}\n"
    with pytest.raises(CompactError) as caught:
        parse_graph(source, "wrong.cir")
    error = caught.value
    assert words in error.message
    assert error.span is not None
    assert error.span.file == "wrong.cir"
    if place is not None:
        assert (error.span.line, error.span.column) == place
    assert render(error).startswith(f"error[{error.code}]: ")


def test_a_misspelt_name_gets_a_hint() -> None:
    for text, hint in [("rleu(%x)", "`relu`"), ("relu(%xy)", "`%x`"), ("clip(%x) {lwo=1}", "`low`")]:
        with pytest.raises(CompactError) as caught:
            parse_graph(f"graph g(%x: f32[1,4]) {{ %y = {text} return %y }}")
        assert hint in str(caught.value.help)


def test_garbage_never_ends_in_a_traceback() -> None:
    rng = random.Random(1)
    words = ["%x", "@w", "%y", *"{}()[]=,:/.", "1", "-1", "1e9", '"s"', "relu", "conv", "loc(", "as", "none"]
    words += ["scope", "param", "return", "f32[1,4]", "f32[4]", "[0..9]", 'loc("a":1:2-3:4)']
    pieces = LENET_HEAD.split(" ")
    refused = 0
    for _ in range(1500):
        if rng.random() < 0.5:
            mutated = list(pieces)
            for _ in range(rng.randint(1, 3)):
                mutated[rng.randrange(len(mutated))] = rng.choice([*words, "", rng.choice(pieces)])
            text = " ".join(mutated)
        else:
            at = rng.randrange(len(LENET_HEAD))
            text = (
                LENET_HEAD[:at]
                + rng.choice([*words, "\x00", "é", "\n"])
                + LENET_HEAD[at + rng.randint(0, 3) :]
            )
        try:
            graph = parse_graph(text)
        except CompactError:
            refused += 1
            continue
        assert equal(graph, parse_graph(print_graph(graph))) is None
        try:
            verify(graph)
        except CompactError:
            refused += 1
    assert refused > 500


def test_text_is_linear_in_the_number_of_nodes() -> None:
    def effort(count: int) -> int:
        graph = Graph("long")
        y: Value = graph.input("x", TensorType.f32(1, 4, 4, 4))
        for i in range(count):
            y = graph.apply(
                Conv(Connectivity.dense(4, 4)), [y], f"conv{i}", Span("long.arch", i + 1, 1, i + 1, 9)
            )
        graph.outputs["y"] = y
        return calls(lambda: equal(graph, parse_graph(print_graph(graph))))

    effort(10)  # fills caches
    assert effort(5_000) < 15 * effort(500)


def test_params_and_values_with_one_name_are_two_things() -> None:
    graph = Graph("g")
    x = graph.input("a", TensorType.f32(1, 3))
    w = graph.param("a", TensorType.f32(1, 3))
    graph.outputs["y"] = graph.append(Add(), [x, w], "y")
    args = round_trip(graph).nodes[0].args
    assert [isinstance(a, Param) for a in args] == [False, True]

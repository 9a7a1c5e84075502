"""Detours that change nothing: the passes must take them out again, down to the same kernel calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from compactir import reference
from compactir.codegen.lower import lower
from compactir.driver import Source, read
from compactir.ir.channels import ChannelList, divisors
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.plan import Kernel
from compactir.ops.arrange import Concat, Gather, Shuffle
from compactir.ops.conv import Conv
from compactir.passes import pipeline, run_pipeline
from compactir.passes._verify import disagreement
from compactir.targets import load_target
from tests.graphs import graphs

EXAMPLES = Path(__file__).parent.parent / "examples"
TARGET = load_target("x86")


def there_and_back(graph: Graph, node: Node, pick: int) -> None:
    """A shuffle and its inverse."""
    channels = node.out.type.channels
    groups = divisors(channels)[pick % len(divisors(channels))]
    _detour(graph, node, [(Shuffle(groups), 1), (Shuffle(channels // groups), 1)])


def apart_and_together(graph: Graph, node: Node, pick: int) -> None:
    """A split and the concat of its parts."""
    channels = node.out.type.channels
    cut = pick % channels
    if cut:
        parts = [ChannelList.span(0, cut), ChannelList.span(cut, channels - cut)]
        made = [graph.make(Gather(part), [node.out], f"part{i}") for i, part in enumerate(parts)]
        _insert(graph, node, [*made, graph.make(Concat(), [m.out for m in made], "together")])


def regrouped(graph: Graph, node: Node, pick: int) -> None:
    """A group convolution as two of half as many groups, on the halves of its operand, joined."""
    op = node.op
    if not isinstance(op, Conv) or op.masked or (op.connect.groups or 1) % 2:
        return
    [family] = op.connect.families
    if op.connect.is_depthwise:
        return  # `merge-branches` leaves halves of depthwise filters as they are: blocks of a vector each
    half = Connectivity.grouped(
        op.connect.in_channels // 2,
        op.connect.out_channels // 2,
        family.count // 2,
        family.kernel,
        family.pad,
    )
    made = []
    for i in range(2):
        size = half.in_channels
        view = graph.make(Gather(ChannelList.span(i * size, size)), [node.args[0]], f"half{i}")
        params = [
            graph.bind(f"{p.name}.half{i}", np.split(graph.weights[p.name], 2)[i], p.role)
            for p in node.params
        ]
        conv = Conv(half, op.stride, op.dilation, op.bias)
        made += [view, graph.make(conv, [view.out, *params], f"conv{i}")]
    joined = Node(Concat(), [made[1].out, made[3].out], node.out, "joined", node.span)
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = [*made, joined]
    for param in node.params:
        graph.params.pop(param.name)
        graph.weights.pop(param.name)


Detour = Callable[[Graph, Node, int], None]
DETOURS: dict[str, Detour] = {
    "shuffle": there_and_back,
    "split": apart_and_together,
    "regroup": regrouped,
}


def _detour(graph: Graph, node: Node, ops: list[tuple[Shuffle, int]]) -> None:
    made: list[Node] = []
    value = node.out
    for op, _ in ops:
        made.append(graph.make(op, [value], "detour"))
        value = made[-1].out
    _insert(graph, node, made)


def _insert(graph: Graph, node: Node, made: list[Node]) -> None:
    """Put nodes behind one, and let all others read the last of them."""
    old, new = node.out, made[-1].out

    def other(value: Value) -> Value:
        return new if value is old else value

    for reader in graph.nodes:
        reader.args = [other(v) for v in reader.args]
    graph.outputs = {name: other(v) for name, v in graph.outputs.items()}
    at = graph.nodes.index(node) + 1
    graph.nodes[at:at] = made


def compiled(graph: Graph) -> tuple[Graph, list[list[Kernel]]]:
    """The graph after the passes, and the kernels of every step."""
    graph = graph.clone()
    run_pipeline(graph, pipeline("c", TARGET))
    plan = lower(graph, TARGET).plan
    return graph, [[call.kernel for call in step.calls] for step in plan.steps]


def same(graph: Graph, other: Graph) -> None:
    """Equal kernel calls, equal results."""
    (straight, kernels), (round_about, found) = compiled(graph), compiled(other)
    assert found == kernels
    inputs = reference.random_inputs(straight, 2)
    expected = reference.run(straight, inputs, np.float64)
    for name, array in reference.run(round_about, inputs, np.float64).items():
        assert disagreement(array, expected[name]) < 1e-5  # weights are rounded in another order


NETWORKS = [
    *((name, detour) for name in ("shufflenet_v2", "squeezenet") for detour in ("shuffle", "split")),
    *((name, "regroup") for name in ("igcv3", "igcv1", "resnext50", "shufflenet_v1", "alexnet")),
]


SIZES = {"shufflenet_v1": {"size": "32", "groups": "4"}, "alexnet": {"size": "67"}}
"""Where 32 pixels are too few, or groups too odd to be halved."""


@pytest.mark.parametrize(("name", "detour"), NETWORKS)
@pytest.mark.slow
def test_detours_in_networks_leave_no_trace(name: str, detour: str) -> None:
    params = SIZES.get(name, {"size": "32"})
    graph = read(Source(EXAMPLES / f"{name}.arch", params, seed=0), warn=False).graph
    other = graph.clone()
    for pick, node in enumerate([n for n in other.nodes if n.out.type.rank == 4 and isinstance(n.op, Conv)]):
        DETOURS[detour](other, node, pick)
    assert len(other.nodes) > len(graph.nodes)
    same(graph, other)


CALM = ("dense", "conv-bn-relu", "groups", "shuffle", "bn", "activation", "branches", "separable", "max-pool")


@pytest.mark.parametrize("detour", ["shuffle", "split"])
@given(graph=graphs(steps=CALM, batches=(1,)), data=st.data())
@settings(max_examples=30)
@pytest.mark.slow
def test_detours_in_random_networks_leave_no_trace(detour: str, graph: Graph, data: st.DataObject) -> None:
    other = graph.clone()
    for node in [n for n in other.nodes if n.out.type.rank == 4]:
        if data.draw(st.booleans()):
            DETOURS[detour](other, node, data.draw(st.integers(0, 99)))
    same(graph, other)

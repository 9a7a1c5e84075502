"""`compactc explain MODEL`: of every node that could be folded or fused it says what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compactir.codegen.lower import lower
from compactir.driver import Source, optimize, plan, read
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node
from compactir.ir.types import TensorType
from compactir.ops.activation import Activation, Softmax
from compactir.ops.arrange import Concat, View
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.targets import load_target
from compactir.weights.init import draw

EXAMPLES = Path(__file__).parent.parent / "examples"


def foldable(node: Node) -> bool:
    """Shuffles, splits, indices, concats, batch norms, activations, depthwise filters."""
    depthwise = isinstance(node.op, Conv) and node.op.connect.is_depthwise
    return depthwise or isinstance(node.op, View | Concat | BatchNorm | Activation)


@pytest.mark.parametrize(
    "name",
    [
        "shufflenet_v1",
        "shufflenet_v2",
        "mobilenet_v2",
        "squeezenet",
        "densenet121",
        "condensenet74",
        "igcv3",
        "mixnet",
    ],
)
@pytest.mark.slow
def test_every_node_that_can_be_folded_is_accounted_for(name: str) -> None:
    authored = read(Source(EXAMPLES / f"{name}.arch", seed=0), warn=False)
    _, log = optimize(authored, load_target("x86"))
    nodes = {d.node for d in log.decisions}
    words = " ".join(d.why for d in log.decisions)
    wanted = [n for n in authored.graph.nodes if foldable(n)]
    assert len(wanted) > 15
    assert [n.name for n in wanted if n.name not in nodes and f"`{n.name}`" not in words] == []
    assert all(d.span and d.rule and d.why for d in log.decisions if d.node in {n.name for n in wanted})


@pytest.mark.parametrize(("target", "done"), [("c", ["c1", "c3"]), ("x86", ["c1"])])
def test_the_choice_of_planes_is_explained_with_both_estimates(target: str, done: list[str]) -> None:
    planned = plan(read(Source(EXAMPLES / "lenet5.arch", seed=0), warn=False), load_target(target))
    decisions = [d for d in planned.lowered.decisions if d.rule == "planes"]
    assert [d.node for d in decisions] == ["c1", "c3"]
    assert [d.node for d in decisions if d.done] == done
    assert all(d.span and "million cycles" in d.why and "in blocks: " in d.why for d in decisions)


@pytest.mark.parametrize("reader", [True, False])
def test_what_stands_in_the_way_of_planes_is_named(reader: bool) -> None:
    """A softmax over channels makes and reads blocks: before it nothing, after it nothing can be planes."""
    graph = Graph("narrow")
    x = graph.input("image", TensorType.f32(1, 1, 12, 12))
    y = x if reader else graph.apply(Softmax(), [x], "softmax")
    y = graph.apply(Conv(Connectivity.dense(1, 3, (3, 3))), [y], "conv")
    graph.outputs["y"] = graph.apply(Softmax(), [y], "softmax") if reader else y
    graph.weights = draw(graph, 0)
    [decision] = [d for d in lower(graph, load_target("c")).decisions if d.rule == "planes"]
    assert (decision.node, decision.done) == ("conv", False)
    assert decision.why == ("`softmax` reads blocks" if reader else "what it reads lies in blocks")
    assert "planes" not in {d.rule for d in lower(graph, load_target("c"), as_planes=False).decisions}

"""`compactc explain MODEL`: of every node that could be folded or fused it says what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compactir.driver import Source, optimize, read
from compactir.ir.graph import Node
from compactir.ops.activation import Activation
from compactir.ops.arrange import Concat, View
from compactir.ops.conv import Conv
from compactir.ops.norm import BatchNorm
from compactir.targets import load_target

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

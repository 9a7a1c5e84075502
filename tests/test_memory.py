"""Workspaces against liveness bounds: by hand, for networks of the papers; docs/memory.md is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from compactir.driver import Authored, Source, read
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Region
from compactir.ir.types import TensorType
from compactir.ops.activation import Relu
from compactir.ops.arrange import Concat, Gather
from compactir.ops.conv import Conv
from compactir.tools.memory import SHARED, WHOLE, life, measure

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
NETWORKS = (
    "mobilenet_v2",
    "shufflenet_v1",
    "shufflenet_v2",
    "igcv3",
    "condensenet74",
    "squeezenet",
    "googlenet",
)
FAST = (*NETWORKS, "densenet121", "ds_cnn", "lenet5", "seesawnet")


def chain() -> Graph:
    """X -> a (8) -> b (24) -> c depthwise -> d (8), maps of 10x10 pixels."""
    graph = Graph("chain")
    x = graph.input("x", TensorType.f32(1, 3, 10, 10))
    a = graph.apply(Conv(Connectivity.dense(3, 8)), [x], "a")
    b = graph.apply(Conv(Connectivity.dense(8, 24)), [a], "b")
    c = graph.apply(Conv(Connectivity.grouped(24, 24, 24, (3, 3), (1, 1, 1, 1))), [b], "c")
    graph.outputs["y"] = graph.apply(Conv(Connectivity.dense(24, 8)), [c], "d")
    return graph


def test_bounds_by_hand() -> None:
    graph = chain()
    assert life(graph, fused=False).most == 4 * 100 * (24 + 24)
    graph.regions = [Region(("b", "c", "d"), 1)]
    assert life(graph).most == 4 * (100 * (8 + 8) + 24 * 10 * 3 + 24 * 10)
    assert life(graph, fused=False).most == 4 * 100 * (24 + 24)


def test_channels_die_one_by_one_and_elementwise_steps_work_in_place() -> None:
    graph = Graph("split")
    x = graph.input("x", TensorType.f32(1, 3, 5, 5))
    a = graph.apply(Conv(Connectivity.dense(3, 8)), [x], "a")
    left, right = (graph.apply(Gather(ChannelList.span(at, 4)), [a], f"s{at}") for at in (0, 4))
    b = graph.apply(Relu(), [graph.apply(Conv(Connectivity.dense(4, 6)), [left], "b")], "r")
    graph.outputs["y"] = graph.apply(
        Conv(Connectivity.dense(10, 2)), [graph.apply(Concat(), [right, b], "j")], "d"
    )
    found = life(graph)
    assert found.shared
    assert found.most == 4 * 25 * (8 + 6)  # while b is made
    assert found.whole.most == 4 * 25 * (8 + 6 + 2)  # all of a until the concat is read


@pytest.mark.parametrize("name", FAST)
@pytest.mark.slow
def test_no_workspace_is_larger_than_promised(name: str) -> None:
    row = measure(read(Source(ROOT / "examples" / f"{name}.arch", seed=0), warn=False), "x86")
    assert row.good, row.cells
    assert row.ratio <= (SHARED if row.why else WHOLE)
    if name == "mobilenet_v2":
        assert row.arena <= 1.5e6
        assert row.unfused == pytest.approx(6.0e6, rel=0.01)
    if name == "condensenet74":
        assert row.arena < 4.5e6  # 10 MB where the whole pre-activation is in memory


def test_the_page_has_every_network() -> None:
    for path in (ROOT / "examples").glob("*.arch"):
        assert f"| `{path.stem}` |" in PAGE


def test_a_network_without_a_workspace() -> None:
    graph = Graph("nothing")
    graph.outputs["y"] = graph.input("x", TensorType.f32(1, 3, 4, 4))
    assert life(graph).most == 0
    assert measure(Authored(graph, {}), "c").fused == 0

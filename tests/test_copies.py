"""Nothing moves unchanged: a plan writes what its layers, pools, sums and activations produce, and no more.

Also what sparsity must save, to the last multiply-accumulate, in graph and plan.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import pytest

from compactir.driver import Planned, Source, plan, read
from compactir.ir.graph import Graph, Node
from compactir.ir.plan import Copy, Grid, Kernel, Resize, WinogradInput, WinogradOutput, WinogradRepair
from compactir.ops.activation import Activation
from compactir.ops.arrange import Concat, Flatten, Transparent, View
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import BatchNorm
from compactir.passes import pipeline, run_pipeline
from compactir.targets import load_target, target_names
from compactir.weights.init import draw

ROOT = Path(__file__).parent.parent
NETWORKS = [
    ("shufflenet_v1", {"groups": "3"}),
    ("shufflenet_v1", {"groups": "8"}),
    ("shufflenet_v2", {}),
    ("igcv1", {}),
    ("igcv3", {}),
    ("condensenet74", {}),
    ("squeezenet", {}),
    ("googlenet", {}),
    ("densenet121", {}),
]


def planned(name: str, target: str = "x86", **defines: str) -> Planned:
    """An example with random weights, as it would be compiled."""
    source = Source(ROOT / "examples" / f"{name}.arch", defines, seed=0)
    return plan(read(source, warn=False), load_target(target))


def pixels(kernel: Kernel) -> int:
    """Pixels that a call writes of each of its blocks."""
    if isinstance(kernel, Grid | Resize):
        return prod(kernel.out)
    return int(getattr(kernel, "pixels", 1)) if type(kernel).__name__ != "GlobalPool" else 1


@pytest.mark.parametrize(("name", "defines"), NETWORKS)
@pytest.mark.slow
def test_a_plan_writes_what_is_produced_and_nothing_else(name: str, defines: dict[str, str]) -> None:
    it = planned(name, **defines)
    steps = it.lowered.plan.steps
    buffers = {b.name: b for b in it.lowered.plan.buffers}
    computed = [n for n in it.graph.nodes if not isinstance(n.op, View | Concat | Transparent | Flatten)]
    live: dict[tuple[str, int], set[int]] = {}  # (buffer, block) -> lanes that carry a channel of some value
    for node in computed:
        for buffer, position in it.lowered.places[node.out.name].places:
            block, lane = divmod(position, buffers[buffer].lanes)
            live.setdefault((buffer, block), set()).add(lane)
    holding = {buffer for buffer, _ in live}
    every = [call for step in steps for call in step.calls]
    tiles = {b for call in every if isinstance(call.kernel, WinogradInput) for b in call.y.buffers}
    sums = {b for call in every if isinstance(call.kernel, WinogradOutput) for b in call.x.buffers}
    written: Counter[tuple[str, int]] = Counter()
    elements = 0
    for step in steps:
        if step.conversion:
            assert all(isinstance(call.kernel, Copy) for call in step.calls)
            assert step.name.endswith((".import", ".export")), "a conversion of the caller's tensors"
            continue
        assert step.copied == 0
        for call in step.calls:
            assert not isinstance(call.kernel, Copy)
            if isinstance(call.kernel, WinogradRepair):  # writes again what is not finite, and nothing else
                continue
            for buffer, start in call.y.places:
                place = buffer, start // buffers[buffer].block
                if buffer not in holding:  # coefficients and sums of Winograd's method, which no layer reads
                    assert buffer in tiles | sums, "im2col, borders or packing would be scratch memory too"
                    continue
                written[place] += 1
                elements += len(live[place]) * pixels(call.kernel)
    assert set(written.values()) == {1}, "no block is written twice"
    assert elements == sum(n.out.type.size // n.out.type.batch for n in computed)
    assert it.lowered.plan.copies == 0
    assert all(step.bytes_moved > 0 for step in steps)


# -- what sparsity saves -------------------------------------------------------------------------------------


@cache
def lenet(target: str) -> Planned:
    return planned("lenet5", target)


@pytest.mark.parametrize("target", ["c", *(t for t in target_names() if t.startswith("arm"))])
def test_the_table_of_lenet5_costs_its_60_links(target: str) -> None:
    """60 links of 25 taps on 100 pixels, in the graph and, as planes, in the plan: no lane is padding."""
    it = lenet(target)
    [node] = [n for n in it.graph.nodes if n.name == "c3"]
    [step] = [s for s in it.lowered.plan.steps if s.name == "c3"]
    assert node.macs == step.macs == step.executed == 150_000
    assert it.lowered.plan.copies == 0


@pytest.mark.parametrize("target", ["x86", "x86-avx512"])
def test_wide_vectors_execute_more_than_the_table_has(target: str) -> None:
    """What padding costs is shown apart."""
    [step] = [s for s in lenet(target).lowered.plan.steps if s.name == "c3"]
    assert step.macs == 150_000 < step.executed <= 16 * 6 * 25 * 100


def pruned_mobilenet(share: float, seed: int) -> tuple[Graph, list[int]]:
    """MobileNetV1 in which so many of the filters of every layer are zero, with their batch norm's shift."""
    path = ROOT / "examples" / "mobilenet_v1.arch"
    graph = read(Source(path, {"size": "32", "width": "0.5"}, seed=0), warn=False).graph
    graph.weights = draw(graph, 0)
    rng, kept = np.random.default_rng(seed), []
    makers = graph.makers()
    for node in graph.nodes:
        if isinstance(node.op, BatchNorm) and not _is_depthwise(makers[node.args[0]]):
            channels = node.out.type.channels
            dead = rng.permutation(channels)[: int(share * channels)]
            conv = makers[node.args[0]].params[0].name
            for param in (conv, node.params[1].name, node.params[2].name):  # weight; shift; mean
                array = graph.weights[param].copy()
                array[dead] = 0
                graph.weights[param] = array
            kept.append(channels - len(dead))
    for node in graph.nodes:  # a depthwise channel of zeros stays zero only without a shift of its own
        if isinstance(node.op, BatchNorm) and _is_depthwise(makers[node.args[0]]):
            for name in (p.name for p in node.params[1:3]):
                graph.weights[name] = np.zeros_like(graph.weights[name])
    return graph, kept


def _is_depthwise(node: Node) -> bool:
    return isinstance(node.op, Conv) and node.op.connect.is_depthwise


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.slow
def test_a_pruned_mobilenet_loses_what_the_formula_says(seed: int) -> None:
    """Σ 9·n·P over depthwise filters, n·m·P over 1x1 layers, 27·n·P for the stem, n·classes at the end."""
    graph, kept = pruned_mobilenet(0.4, seed)
    convs = [n for n in graph.nodes if isinstance(n.op, Conv)]
    sizes = [prod(n.out.type.spatial) for n in convs]
    left = iter(kept)
    before = next(left)
    macs = 27 * before * sizes[0]
    for node, area in zip(convs[1:], sizes[1:], strict=True):
        if _is_depthwise(node):
            macs += 9 * before * area
        else:
            after = next(left)
            macs, before = macs + before * after * area, after
    [linear] = [n for n in graph.nodes if isinstance(n.op, Linear)]
    macs += before * linear.out.type.channels
    whole = graph.macs
    run_pipeline(graph, pipeline("c", load_target("c")))
    assert graph.macs == macs
    assert macs < 0.45 * whole
    assert not any(isinstance(n.op, Activation) for n in graph.nodes)

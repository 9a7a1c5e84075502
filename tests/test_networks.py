"""Every network of `examples/` against an independent PyTorch implementation with the same weights.

The judges (`tests/torch_models`) are written from the papers' layer tables and import nothing of the
compiler. Weights go over by order; where the two sides cut them differently, a function here says how. Sizes
are reduced where the network allows; LeNet-5, MobileNetV2 and ShuffleNetV2 run at full size, in C and in the
emitted PyTorch module too (`make examples` does that for all networks).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="no torch here: pip install torch")

import torch
from torch import nn

from compactir import driver, reference
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.targets import load_target
from compactir.tools.zoo import difference, run_c, run_torch
from compactir.weights.init import draw
from tests.conftest import ROOT
from tests.torch_models import MODELS, fill
from tests.torch_models.flgc_mobilenet_v2 import random_select

TOLERANCE = {np.float32: 1e-4, np.float64: 1e-9}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks: threads only cost, and other tests run beside these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- weights from one side to the other ----------------------------------------------------------------------


def in_order(graph: Graph) -> list[Array]:
    """The arrays as they stand; a mask goes into the weight before it."""
    found: list[Array] = []
    for name in graph.params:
        if name.endswith(".mask"):
            found[-1] = found[-1] * graph.weights[name]
        else:
            found.append(graph.weights[name])
    return found


def units(graph: Graph) -> list[Array]:
    """Units side by side: neighbors of equal shape are one grouped convolution, their batch norms are one."""
    found: list[Array] = []
    for _, names in groupby(graph.params, lambda name: re.split(r"unit\d+\.", name)[0]):
        leaves = _by_leaf(graph, names, r".*\bunit\d+\.")
        for leaf, arrays in leaves.items():
            runs = [list(run) for _, run in groupby(arrays, np.shape)] if "conv" in leaf else [arrays]
            found += [np.concatenate(run) for run in runs]
    return found


def paths(graph: Graph) -> list[Array]:
    """ResNeXt's parallel paths: rows of the judge's weights; the 1x1 at their ends, in form a: columns."""
    found: list[Array] = []
    for _, names in groupby(graph.params, lambda name: name.split(".")[0]):
        leaves = _by_leaf(graph, names, r"(?<=\.path)\d+|(?<=form_a\d\.conv)\d+|(?<=form_a\d\d\.conv)\d+")
        found += [np.concatenate(leaves[leaf], axis=int(".conv." in leaf)) for leaf in leaves]
    return found


def _by_leaf(graph: Graph, names: Iterator[str], number: str) -> dict[str, list[Array]]:
    leaves: dict[str, list[Array]] = {}
    for name in names:
        leaves.setdefault(re.sub(number, "", name), []).append(graph.weights[name])
    return leaves


def products(graph: Graph) -> list[Array]:
    """A chain of low-rank factors, multiplied out to the 3x3 convolution that it stands for."""
    found: list[Array] = []
    inputs = {node.params[0].name: node.args[0].type.channels for node in graph.nodes if node.params}
    for scope, names in groupby(graph.params, lambda name: re.split(r"conv\d+\.", name)[0]):
        chain = list(names)
        factors = [graph.weights[name].astype(np.float64) for name in chain]
        is_chain = re.search(r"(svd|vertical|separable)\d+\.$", scope)
        found += [multiplied(factors, inputs[chain[0]])] if is_chain else factors
    return found


def multiplied(factors: list[Array], channels: int) -> Array:
    """The dense kernel (O, I, 3, 3) of a chain of convolutions with nothing in between."""
    first, second, *mix = factors
    if mix:  # separable filters, a column times a row for each, then 1x1
        planes = (first[:, 0] * second[:, 0]).reshape(channels, -1, 3, 3)
        dense = np.einsum("oik,ikyx->oiyx", mix[0].reshape(len(mix[0]), channels, -1), planes)
    elif second.shape[3] == 1:  # 3x3, then 1x1
        dense = np.einsum("ok,kiyx->oiyx", second[:, :, 0, 0], first)
    else:  # 3x1, then 1x3
        dense = np.einsum("okx,kiy->oiyx", second[:, :, 0], first[:, :, :, 0])
    return np.asarray(dense)


# -- judges that must be told more than weights --------------------------------------------------------------


def plain(graph: Graph, case: Case) -> tuple[nn.Module, list[Array]]:
    """The judge as its table says."""
    return MODELS[case.judge](**case.variant), case.weights(graph)


def condensed(graph: Graph, case: Case) -> tuple[nn.Module, list[Array]]:
    """CondenseNet: the index lists of its gathers, or the masks of its training form."""
    model = MODELS[case.judge](**case.variant)
    lists = [node.op.channels.array for node in graph.nodes if node.op.name == "gather"]  # type: ignore[attr-defined]  # a Gather
    masks = [graph.weights[name] for name in graph.params if name.endswith(".mask")]
    indices = [b for name, b in model.named_buffers() if name.endswith("index")]
    for buffer, channels in zip(indices, lists, strict=True):
        buffer.copy_(torch.tensor(channels))
    marked = [b for name, b in model.named_buffers() if name.endswith("mask")]
    for buffer, mask in zip(marked, masks, strict=True):
        buffer.copy_(torch.tensor(mask[: len(buffer), :, 0, 0]))
    return model, [graph.weights[name] for name in graph.params if not name.endswith(".mask")]


def selected(graph: Graph, case: Case) -> tuple[nn.Module, list[Array]]:
    """FLGC: uneven groups, some of them empty; the judge has a weight per group that is left."""
    groups, select, chosen, arrays = case.variant["groups"], random_select(1), [], []
    for name in graph.params:
        if not name.endswith(".mask"):
            arrays.append(graph.weights[name])
            continue
        outputs, inputs = graph.weights[name].shape[:2]
        s, t = (np.array(numbers) for numbers in select(inputs, outputs, groups))
        chosen.append((s.tolist(), t.tolist()))
        graph.weights[name] = (t[:, None] == s).astype(np.float32)[:, :, None, None]
        weight = arrays.pop()
        arrays += [weight[t == k][:, s == k] for k in range(groups) if (t == k).any() and (s == k).any()]
    sizes = [(t.count(k), s.count(k)) for s, t in chosen for k in range(groups)]
    assert len(set(sizes)) > 20
    assert any(0 in pair for pair in sizes)
    given = iter(chosen)
    return MODELS[case.judge](groups, lambda *_: next(given)), arrays


def even_groups(graph: Graph, case: Case) -> tuple[nn.Module, list[Array]]:
    """The judge of FLGC has a weight per group here too."""
    groups, arrays = case.variant["groups"], []
    for name in graph.params:
        parts = groups if ".project." in name else 1
        arrays += np.split(graph.weights[name], parts)
    return MODELS[case.judge](**case.variant), arrays


def smaller_alexnet(graph: Graph, case: Case) -> tuple[nn.Module, list[Array]]:
    """At 67x67 the maps before fc6 are 1x1."""
    model = MODELS[case.judge](**case.variant)
    model.fc6 = nn.Linear(256, 4096)
    return model, case.weights(graph)


# -- the networks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network under some `-D` values, and its judge."""

    network: str
    defines: dict[str, Any]
    judge: str
    variant: dict[str, Any] = field(default_factory=dict)
    weights: Callable[[Graph], list[Array]] = in_order
    build: Callable[[Graph, Case], tuple[nn.Module, list[Array]]] = plain

    def __str__(self) -> str:
        return "-".join([self.network, *(f"{k}={v}" for k, v in self.defines.items())])


AT64 = {"size": 64}
CASES = [
    Case("lenet5", {}, "lenet5"),
    Case("lenet5", {"output": "linear"}, "lenet5", {"output": "linear"}),
    Case(
        "lenet5",
        {"output": "linear", "modern": "true"},
        "lenet5",
        {"output": "linear", "sparse": False, "average": True},
    ),
    Case("lenet5", {"output": "linear", "plain": "true"}, "lenet5", {"output": "linear", "average": True}),
    Case("alexnet", {"size": 67}, "alexnet", build=smaller_alexnet),
    Case("squeezenet", AT64, "squeezenet"),
    Case("squeezenet", {"version": "1.0", **AT64}, "squeezenet", {"version": "1.0"}),
    Case("googlenet", AT64, "googlenet"),
    Case("googlenet", {"form": "bn", **AT64}, "googlenet", {"bn": True}),
    Case("resnet18", AT64, "resnet"),
    Case("resnet50", AT64, "resnet", {"depth": 50}),
    Case("resnet20_cifar", {}, "resnet_cifar"),
    Case("densenet121", AT64, "densenet"),
    Case("resnext50", AT64, "resnext"),
    Case("resnext50", {"form": "a", **AT64}, "resnext", weights=paths),
    Case("resnext50", {"form": "b", **AT64}, "resnext", weights=paths),
    Case("mobilenet_v1", AT64, "mobilenet_v1"),
    Case("mobilenet_v1", {"width": 0.25, **AT64}, "mobilenet_v1", {"width": 0.25}),
    Case("mobilenet_v2", {}, "mobilenet_v2"),
    Case("mobilenet_v2", {"width": 1.4, **AT64}, "mobilenet_v2", {"width": 1.4}),
    Case("mobilenet_v2", {"width": 0.5, **AT64}, "mobilenet_v2", {"width": 0.5}),
    *(Case("shufflenet_v1", {"groups": g, **AT64}, "shufflenet_v1", {"groups": g}) for g in (1, 2, 3, 4, 8)),
    Case(
        "shufflenet_v1",
        {"width": 0.5, "bias": "false", **AT64},
        "shufflenet_v1",
        {"width": 0.5, "bias": False},
    ),
    Case("shufflenet_v2", {}, "shufflenet_v2"),
    Case("shufflenet_v2", {"width": 0.5, **AT64}, "shufflenet_v2", {"width": 0.5}),
    Case("shufflenet_v2", {"unit": "authors", **AT64}, "shufflenet_v2", {"unit": "authors"}),
    Case("shufflenet_v2", {"coding": "authors", **AT64}, "shufflenet_v2", {"coding": "authors"}),
    Case("igcv1", AT64, "igcv1"),
    Case("igcv1", {"net": "L4M32", **AT64}, "igcv1", {"net": "L4M32"}),
    Case("igcv2", AT64, "igcv2"),
    Case("igcv3", AT64, "igcv3"),
    Case("igcv3", {"width": 0.25, **AT64}, "igcv3", {"width": 0.25}),
    Case("seesawnet", AT64, "seesawnet"),
    Case(
        "seesawnet",
        {"form": "cifar", "depth": 0.5, "size": 16},
        "seesawnet",
        {"depth": "0.5D", "cifar": True, "classes": 100},
    ),
    *(Case("mixnet", {"net": n, **AT64}, "mixnet", {"net": n}) for n in "sml"),
    Case("condensenet74", AT64, "condensenet", build=condensed),
    Case(
        "condensenet74",
        {"groups": 8, "condense": 8, **AT64},
        "condensenet",
        {"groups": 8, "condense": 8},
        build=condensed,
    ),
    Case(
        "condensenet74", {"form": "training", **AT64}, "condensenet", {"training_form": True}, build=condensed
    ),
    Case("flgc_mobilenet_v2", {"size": 16}, "flgc_mobilenet_v2", {"groups": 8}, build=selected),
    Case(
        "flgc_mobilenet_v2",
        {"form": "even", "groups": 4, "size": 16},
        "flgc_mobilenet_v2",
        {"groups": 4},
        build=even_groups,
    ),
    Case("scalenet50", {}, "scalenet"),
    Case("balanced_resnet20", {}, "resnet_cifar"),
    Case("balanced_resnet20", {"keep": 2, "of": 4}, "resnet_cifar"),
    *(
        Case("lowrank_resnet20", {"scheme": s}, "resnet_cifar", weights=products)
        for s in ("svd", "vertical", "separable")
    ),
    Case("pruned_mobilenet_v1", AT64, "mobilenet_v1_amc"),
    Case("pruned_mobilenet_v1", {"form": "masked", **AT64}, "mobilenet_v1"),
    Case("bunit_toy", {}, "bunit_toy", weights=units),
    Case("bunit_toy", {"number": 7}, "bunit_toy", {"number": 7}, units),
    Case("bunit_resnet18", AT64, "bunit_resnet", weights=units),
    Case("darts_v2", {"size": 16}, "darts"),
    Case("darts_v2", {"net": "v1", "size": 16}, "darts", {"net": "v1"}),
    Case("darts_v2", {"form": "imagenet", **AT64}, "darts", {"imagenet": True}),
    Case("ds_cnn", {}, "ds_cnn"),
    Case("mobilenet_v1_vww", {}, "mobilenet_v1_vww"),
    Case("resnet8_cifar", {}, "resnet8_cifar"),
    Case("autoencoder", {}, "autoencoder"),
]


def load(case: Case) -> Graph:
    """The graph with its weights."""
    defines = {name: driver.spell(value) for name, value in case.defines.items()}
    graph = driver.read_graph(driver.Source(ROOT / f"examples/{case.network}.arch", defines))
    graph.weights = draw(graph, 5)
    return graph


def judged(model: nn.Module, arrays: list[Array], x: Array) -> Array:
    """What the judge makes of x, in the precision of x."""
    model.to(torch.from_numpy(x).dtype).eval()
    fill(model, arrays)
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(x)))


def swaps(graph: Graph) -> Iterator[Graph]:
    """The graph with two channels swapped in one weight of its middle third: the narrowest weights first."""
    weights = [n for n, p in graph.params.items() if p.role == "weight" and len(p.type.shape) > 1]
    middle = weights[len(weights) // 3 : 2 * len(weights) // 3 + 1]
    wide = [name for name in middle if len(graph.weights[name]) > 1]
    for name in sorted(wide, key=lambda name: len(graph.weights[name]))[:12]:
        swapped = graph.clone()
        swapped.weights[name] = np.array(graph.weights[name])
        swapped.weights[name][[0, 1]] = graph.weights[name][[1, 0]]
        yield swapped


def is_seen(graph: Graph, inputs: dict[str, Array], theirs: Array) -> bool:
    """Whether two channels swapped in the middle of the network change its output by 100 tolerances."""
    results = (next(iter(reference.run(swapped, inputs).values())) for swapped in swaps(graph))
    limit = 100 * TOLERANCE[np.float32] * np.abs(theirs).max()
    return any(np.abs(found - theirs).max() > limit for found in results)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] * (str(c) == "scalenet50")) for c in CASES],
    ids=str,
)
def test_reference_equals_the_judge(case: Case) -> None:
    """In both precisions; and two channels swapped in the middle are seen."""
    graph = load(case)
    inputs = reference.random_inputs(graph, 2)
    model, arrays = case.build(graph, case)
    for dtype in (np.float64, np.float32):
        (ours,) = reference.run(graph, inputs, dtype).values()
        theirs = judged(model, arrays, next(iter(inputs.values())).astype(dtype)).reshape(ours.shape)
        assert np.isfinite(theirs).all()
        assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * np.abs(theirs).max()
    assert is_seen(graph, inputs, theirs)


@pytest.mark.compiler
@pytest.mark.parametrize("target", ["c", "native"])
@pytest.mark.parametrize(
    "network",
    ["lenet5", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mobilenet_v2", "shufflenet_v2"))],
)
def test_c_equals_the_reference(network: str, target: str) -> None:
    """At full size, through every pass; and two channels swapped in the middle are seen."""
    graph = load(Case(network, {}, network))
    inputs = reference.random_inputs(graph, 2)
    right = reference.run(graph, inputs)
    found = run_c(driver.plan(driver.Authored(graph, {}), load_target(target)), inputs)
    assert difference(right, found) <= TOLERANCE[np.float32]
    assert is_seen(graph, inputs, next(iter(found.values())))


@pytest.mark.compiler
@pytest.mark.slow
def test_uneven_and_empty_groups_in_c() -> None:
    """FLGC with selections drawn freely, as training may leave them."""
    case = next(case for case in CASES if case.build is selected)
    graph = load(case)
    selected(graph, case)  # it gives the graph its masks
    inputs = reference.random_inputs(graph, 2)
    planned = driver.plan(driver.Authored(graph, {}), load_target("native"))
    assert planned.lowered.plan.copies == 0
    assert difference(reference.run(graph, inputs), run_c(planned, inputs)) <= TOLERANCE[np.float32]


@pytest.mark.slow
def test_three_forms_of_resnext_compile_to_the_same_kernels() -> None:
    """Figure 3 of the paper: a and b are parallel paths, c is a grouped convolution."""
    made = []
    for form in "abc":
        graph = load(Case("resnext50", {"form": form, **AT64}, "resnext"))
        steps = driver.plan(driver.Authored(graph, {}), load_target("x86")).lowered.plan.steps
        made.append([(step.op, [call.kernel for call in step.calls]) for step in steps])
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("network", ["lenet5", "mobilenet_v2", "shufflenet_v2"])
def test_emitted_torch_equals_the_reference(network: str) -> None:
    """At full size; and two channels swapped in the middle are seen."""
    graph = load(Case(network, {}, network))
    inputs = reference.random_inputs(graph, 2)
    found = run_torch(graph, inputs)
    assert difference(reference.run(graph, inputs), found) <= TOLERANCE[np.float32]
    assert is_seen(graph, inputs, next(iter(found.values())))


def test_every_network_has_a_judge() -> None:
    assert {case.network for case in CASES} == {path.stem for path in (ROOT / "examples").glob("*.arch")}

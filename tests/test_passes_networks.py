"""The networks of `examples/` through the C pipeline: verified pass by pass; what must be gone is gone."""

from pathlib import Path

import pytest

from compactir.ir.graph import Graph
from compactir.lang import elaborate, parse_file
from compactir.ops.arrange import Concat, View
from compactir.ops.conv import Conv
from compactir.ops.norm import Affine, BatchNorm
from compactir.passes import Log, pipeline, run_pipeline
from compactir.weights.init import draw

EXAMPLES = Path(__file__).parent.parent / "examples"

SMALLEST = {"alexnet": 67, "googlenet": 64, "scalenet50": 128, "lenet5": 0, "autoencoder": 0, "ds_cnn": 0}
"""The least input that every pool fits into; 0 where the size is not a parameter."""
SLOW = {
    "darts_v2",
    "scalenet50",
    "resnet50",
    "resnext50",
    "densenet121",
    "bunit_resnet18",
    "igcv1",
    "alexnet",
}

VARIANTS = [
    ("condensenet74", {"form": "training"}),
    ("flgc_mobilenet_v2", {"form": "learned"}),
    ("pruned_mobilenet_v1", {"form": "masked"}),
    ("shufflenet_v1", {"groups": "8"}),
    ("shufflenet_v2", {"unit": "authors"}),
]
EXAMPLE_NAMES = sorted(path.stem for path in EXAMPLES.glob("*.arch"))
NETWORKS: list[tuple[str, dict[str, str]]] = [*((name, {}) for name in EXAMPLE_NAMES), *VARIANTS]


def network(name: str, **defines: str) -> Graph:
    """An example at a small input size, with seeded weights."""
    size = SMALLEST.get(name, 32)
    graph = elaborate(
        parse_file(EXAMPLES / f"{name}.arch"), defines={**({"size": str(size)} if size else {}), **defines}
    )
    graph.weights = draw(graph, 0)
    return graph


def piped(name: str, **defines: str) -> tuple[Graph, Log]:
    """The network after the C pipeline."""
    graph = network(name, **defines)
    return graph, run_pipeline(graph, pipeline("c"))


@pytest.mark.parametrize(
    ("name", "defines"),
    [
        pytest.param(
            name, defines, id="-".join([name, *defines.values()]), marks=[pytest.mark.slow] * (name in SLOW)
        )
        for name, defines in NETWORKS
    ],
)
def test_every_pass_keeps_the_function(name: str, defines: dict[str, str]) -> None:
    """The reference agrees before and after every pass, to 1e-9 in float64."""
    run_pipeline(network(name, **defines), pipeline("c"), verify_each=True)


@pytest.mark.parametrize(
    ("name", "defines", "left"),
    [
        ("shufflenet_v1", {}, 0),
        ("shufflenet_v1", {"groups": "8"}, 0),
        ("shufflenet_v2", {}, 2),
        ("shufflenet_v2", {"unit": "authors"}, 2),
        ("igcv1", {}, 0),
        ("igcv2", {}, 0),
        ("igcv3", {}, 0),
        ("seesawnet", {}, 0),
        ("squeezenet", {}, 0),
        ("mixnet", {}, 0),
    ],
)
def test_no_choice_of_channels_survives(name: str, defines: dict[str, str], left: int) -> None:
    """Shuffles, splits and indices are part of what computes.

    `left`: where the first unit of ShuffleNetV2's stages 3 and 4 filters channels of several values lane by
    lane, a view of distinct channels remains, which costs nothing.
    """
    graph, _ = piped(name, **defines)
    views = [n for n in graph.nodes if isinstance(n.op, View)]
    assert len(views) == left
    assert not any(isinstance(n.op, BatchNorm | Affine) for n in graph.nodes)


def test_condensenet_computes_no_dead_feature() -> None:
    before = network("condensenet74")
    graph, log = piped("condensenet74")
    assert "prune-channels" in log.changed
    assert graph.macs < before.macs
    regions = [r for r in graph.regions if len(r.values) == 2]
    assert len(regions) >= 4  # scale, shift, relu of what an index picks, with the 1x1 behind it, row by row


def test_learned_groups_become_blocks() -> None:
    """FLGC: as many multiply-accumulates as links survive, and no mask."""
    before = network("flgc_mobilenet_v2", form="learned")
    links = {
        n.name: before.weights[n.params[1].name]
        for n in before.nodes
        if isinstance(n.op, Conv) and n.op.masked
    }
    assert len(links) > 10
    expected = before.macs
    for node in before.nodes:
        if node.name in links:
            expected -= int((links[node.name] == 0).sum()) * node.out.type.shape[2] * node.out.type.shape[3]
    graph, _ = piped("flgc_mobilenet_v2", form="learned")
    assert graph.macs == expected
    assert not any(isinstance(n.op, Conv) and n.op.masked for n in graph.nodes)


def test_pruned_channels_are_gone_from_every_layer() -> None:
    """A masked MobileNetV1 becomes the network of the widths that are left."""
    masked, narrow = (
        piped("pruned_mobilenet_v1", form="masked")[0],
        piped("pruned_mobilenet_v1", form="narrow")[0],
    )
    widths = [[n.out.type.channels for n in g.nodes if isinstance(n.op, Conv)] for g in (masked, narrow)]
    assert widths[0] == widths[1]
    assert masked.macs == narrow.macs


def test_lenet5_keeps_its_sparse_layer() -> None:
    """The 60 links of C3, 25 taps, 100 pixels: nothing is padded in the graph."""
    graph, _ = piped("lenet5")
    [table] = [n for n in graph.nodes if isinstance(n.op, Conv) and n.out.type.channels == 16]
    assert table.macs == 150_000


def test_three_forms_of_resnext_are_one() -> None:
    """Paths that are summed, paths that are joined, groups: the same layers (figure 3 of the paper)."""
    shapes = []
    for form in "abc":
        graph, _ = piped("resnext50", form=form, paths="4", width="4")
        shapes.append([(n.op, n.out.type) for n in graph.nodes if not isinstance(n.op, Concat)])
    assert shapes[0] == shapes[2]
    assert shapes[1] == shapes[2]


def test_pre_activation_is_one_step_per_layer() -> None:
    """DenseNet: every bn that cannot fold is one affine that ends in its relu."""
    graph, log = piped("densenet121")
    affine = [n for n in graph.nodes if isinstance(n.op, Affine)]
    assert len(affine) == 62
    assert all([op.name for op in n.op.epilogue] == ["relu"] for n in affine if isinstance(n.op, Affine))
    assert len(log.of("fold-batchnorm", done=False)) == 62

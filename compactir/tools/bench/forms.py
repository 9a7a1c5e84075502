"""The same network in other words: engines differ in which they run fastest, and each gets its best.

written   as authored; in ONNX, uneven groups are slices, convolutions and a concat, an index is a Gather, and
          a table is an index, grouped convolutions of equal blocks, and a concat
slices    every index as slices and a concat, those of tables too, where they have few runs
padded    zeros where there are no links: an uneven, gathered or tabled convolution as a dense one (or as a
          depthwise one with the largest kernel), behind which the index has vanished
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat, Gather
from compactir.ops.conv import Conv
from compactir.passes import parse_pipeline, parts_by_family, run_pipeline, take_apart

__all__ = ["WRITTEN", "forms_of"]

WRITTEN, SLICES, PADDED = "written", "slices", "padded"
MOST_RUNS = 32
"""An index of more runs than this is not worth slices."""

_FOLDS = "drop-identity,dead-code,constant-folding,fold-batchnorm,collapse-sparse,fold-shuffle"
"""What makes indices part of convolutions, and masks blocks."""


def forms_of(graph: Graph) -> dict[str, Graph]:
    """Every form of a network with its weights; most networks have only one."""
    forms = {WRITTEN: graph}
    irregular = any(isinstance(n.op, Conv) and _is_irregular(n.op) for n in graph.nodes)
    parted = _parted(graph.clone())
    indices = [n.op.channels for n in parted.nodes if isinstance(n.op, Gather)]
    indices = [channels for channels in indices if not channels.is_plain_range]
    if indices and max(len(_ranges(channels)) for channels in indices) <= MOST_RUNS:
        forms[SLICES] = _sliced(parted)
    if irregular or indices:
        forms[PADDED] = _padded(graph.clone())
    return forms


def _is_irregular(conv: Conv) -> bool:
    """Not what other frameworks call a convolution with `groups`. A mask is: its zeros are in the weights."""
    return conv.connect.groups is None


# -- slices --------------------------------------------------------------------------------------------------


def _parted(graph: Graph) -> Graph:
    """Tables as what the exports make of them: an index, a grouped convolution per family, and a concat."""
    for at in reversed(range(len(graph.nodes))):
        node = graph.nodes[at]
        if isinstance(node.op, Conv) and _is_table(node.op):
            graph.nodes[at:at] = take_apart(graph, node, parts_by_family(node.op.connect))
    graph.drop_unused_params()
    return graph


def _is_table(conv: Conv) -> bool:
    """Blocks that make every output, and read more than ranges of channels."""
    families = conv.connect.families
    whole = sum(len(f.outputs) for f in families) == conv.connect.out_channels
    return _is_irregular(conv) and whole and any(len(_ranges(f.inputs)) > 1 for f in families)


def _sliced(graph: Graph) -> Graph:
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, Gather) and not node.op.channels.is_plain_range:
            parts = [
                graph.make(Gather(run), node.args, f"{node.name}.run") for run in _ranges(node.op.channels)
            ]
            nodes += parts
            node.op, node.args = Concat(), [part.out for part in parts]
        nodes.append(node)
    graph.nodes = nodes
    return graph


def _ranges(channels: ChannelList) -> list[ChannelList]:
    """The index as ascending runs, strided ones among them."""
    ranges: list[ChannelList] = []
    for run in channels.runs:
        if run.step > 0 or run.count == 1:
            ranges.append(ChannelList((run,)))
        else:
            ranges += [ChannelList.span(run.start + i * run.step, 1) for i in range(run.count)]
    return ranges


# -- zeros ---------------------------------------------------------------------------------------------------


def _padded(graph: Graph) -> Graph:
    run_pipeline(graph, parse_pipeline(_FOLDS))
    for node in graph.nodes:
        if isinstance(node.op, Conv) and _is_irregular(node.op):
            _fill(graph, node, node.op)
    graph.drop_unused_params()
    return graph


def _fill(graph: Graph, node: Node, conv: Conv) -> None:
    """One family of blocks instead of many, with zeros where there was nothing."""
    count = len(conv.connect.families)
    kernels, rest = node.args[1 : 1 + count], node.args[1 + count :]
    weights = [_array(graph, kernel) for kernel in kernels]
    if conv.masked:
        weights[0] = weights[0] * _array(graph, rest.pop(0))
    connect, weight = _filled(conv, weights)
    node.op = replace(conv, connect=connect, masked=None)
    node.args = [node.args[0], graph.bind(f"{node.name}.padded", weight), *rest]


def _array(graph: Graph, value: Value) -> Array:
    assert isinstance(value, Param), "kernels and masks are parameters"
    return graph.weights[value.name]


def _filled(conv: Conv, weights: list[Array]) -> tuple[Connectivity, Array]:
    connect = conv.connect
    if connect.is_depthwise:
        return _one_depthwise(conv, weights)
    dense, pad = connect.to_dense(weights, conv.dilation)
    kernel = (dense.shape[2], dense.shape[3])
    return Connectivity.dense(connect.in_channels, connect.out_channels, kernel, pad), dense


def _one_depthwise(conv: Conv, weights: list[Array]) -> tuple[Connectivity, Array]:
    """Mixed depthwise kernels, each where it lies in the largest one."""
    families, channels = conv.connect.families, conv.connect.out_channels
    taps = tuple(replace(f, count=1, inputs=_first(0), outputs=_first(i)) for i, f in enumerate(families))
    ones = [np.ones((1, 1, *f.kernel), np.float32) for f in families]
    places, pad = Connectivity(1, len(taps), taps).to_dense(ones, conv.dilation)
    kernel = (places.shape[2], places.shape[3])
    filled = np.zeros((channels, 1, *kernel), np.float32)
    for family, weight, place in zip(families, weights, places[:, 0], strict=True):
        ys, xs = np.nonzero(place)
        filled[family.outputs.array[:, None], 0, ys, xs] = weight.reshape(len(weight), -1)
    return Connectivity.grouped(channels, channels, channels, kernel, pad), filled


def _first(channel: int) -> ChannelList:
    return ChannelList.span(channel, 1)

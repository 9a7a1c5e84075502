"""A convolution of several families in ordinary words: slices, convolutions in groups, a concat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Family
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat, Gather
from compactir.ops.conv import Conv


@dataclass(frozen=True)
class Part:
    """Equal blocks that become one convolution: those of a family, or some of its rows."""

    family: Family
    of: int
    """Which family they come from."""
    rows: Array
    """Which rows of that family's weight they have."""


def parts_by_family(connect: Connectivity) -> list[Part]:
    """A part per family, in any order of outputs."""
    return [Part(f, k, np.arange(len(f.outputs))) for k, f in enumerate(connect.families)]


def parts_by_output(connect: Connectivity) -> list[Part]:
    """The fewest parts that make consecutive outputs, one behind the other."""
    runs = sorted(_runs(connect), key=lambda part: int(part.family.outputs[0]))
    return [_joined(list(same)) for _, same in groupby(runs, lambda p: (p.of, len(p.rows)))]


def _runs(connect: Connectivity) -> Iterator[Part]:
    """Every block, cut where its outputs, in ascending order, are not consecutive."""
    for k, family in enumerate(connect.families):
        for b, block in enumerate(family.blocks()):
            order = np.argsort(block.outputs.array, kind="stable")
            made = block.outputs.array[order]
            for rows in np.split(order, np.flatnonzero(np.diff(made) != 1) + 1):
                outputs = block.outputs.take(ChannelList.of(rows))
                run = Family(1, block.inputs, outputs, block.kernel, block.pad)
                yield Part(run, k, b * family.outs + rows)


def _joined(runs: list[Part]) -> Part:
    inputs = ChannelList.joined(run.family.inputs for run in runs)
    outputs = ChannelList.joined(run.family.outputs for run in runs)
    family = replace(runs[0].family, count=len(runs), inputs=inputs, outputs=outputs)
    return Part(family, runs[0].of, np.concatenate([run.rows for run in runs]))


def take_apart(graph: Graph, node: Node, parts: list[Part]) -> list[Node]:
    """Write a convolution as an index, a convolution in equal groups per part, a concat, and an order.

        %y = conv(%x, @w0, @w1)
            {connect=blocks(5->6; 1 of [0..4]->[0..4], 3x3, pad 1; 1 of [1..5]->[4..6], 1x1)}
        ->
        %a = gather(%x) {channels=[0..4]}
        %b = conv(%a, @w0) {connect=dense(4->4, 3x3, pad 1)}
        %c = gather(%x) {channels=[1..5]}
        %d = conv(%c, @w1) {connect=dense(4->2, 1x1)}
        %y = concat(%b, %d)

    A mask is multiplied into its weight. The node itself becomes the concat, or the order of channels behind
    it. Parameters that nothing reads any more stay in the graph.

    Args:
        graph: that has the node; masked convolutions need bound weights.
        node: a convolution without epilogue.
        parts: that make every output once.

    Returns:
        The nodes that belong before `node`.
    """
    conv = node.op
    assert isinstance(conv, Conv), "asked of nothing else"
    x, *params = node.args
    kernels, rest = params[: len(conv.connect.families)], params[len(conv.connect.families) :]
    if conv.masked:
        kernels[0] = graph.bind(f"{node.name}.weight", _array(graph, kernels[0]) * _array(graph, rest.pop(0)))
    made: list[Node] = []
    picked: dict[ChannelList, Value] = {ChannelList.span(0, conv.connect.in_channels): x}
    for part in parts:
        family, name = part.family, f"{node.name}.part"
        if family.inputs not in picked:
            made.append(graph.make(Gather(family.inputs), [x], f"{node.name}.inputs"))
            picked[family.inputs] = made[-1].out
        args = [picked[family.inputs], rows_of(graph, kernels[part.of], part.rows, f"{name}.weight")]
        if conv.bias:
            args.append(rows_of(graph, rest[0], family.outputs.array, f"{name}.bias"))
        ins, outs = len(family.inputs), len(family.outputs)
        connect = Connectivity.grouped(ins, outs, family.count, family.kernel, family.pad)
        made.append(graph.make(replace(conv, connect=connect, masked=None), args, name))
    _put_together(graph, node, [n for n in made if isinstance(n.op, Conv)], parts, made)
    return made


def _put_together(graph: Graph, node: Node, convs: list[Node], parts: list[Part], made: list[Node]) -> None:
    outputs = np.concatenate([part.family.outputs.array for part in parts])
    order = ChannelList.of(np.argsort(outputs, kind="stable"))
    values = [conv.out for conv in convs]
    if order.is_identity(len(outputs)):
        node.op, node.args = Concat(), values
        return
    made.append(graph.make(Concat(), values, f"{node.name}.parts"))
    node.op, node.args = Gather(order), [made[-1].out]


def rows_of(graph: Graph, param: Value, rows: Array, name: str) -> Value:
    """These rows of a parameter, as a parameter; bound where the parameter is."""
    if np.array_equal(rows, np.arange(param.type.shape[0])):
        return param
    assert isinstance(param, Param), "kernels and biases are parameters"
    if param.name in graph.weights:
        return graph.bind(name, graph.weights[param.name][rows], param.role)
    type = replace(param.type, shape=(len(rows), *param.type.shape[1:]))
    return graph.param(_free(graph, name), type, param.role, param.init)


def _free(graph: Graph, stem: str) -> str:
    name, n = stem, 1
    while name in graph.params:
        n += 1
        name = f"{stem}_{n}"
    return name


def _array(graph: Graph, value: Value) -> Array:
    return graph.weights[value.name]

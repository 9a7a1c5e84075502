"""concat(conv(slice(x)), conv(slice(x))) -> conv(x) in groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from compactir.ir.algebra import normal
from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Connectivity, Family
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Concat, View
from compactir.ops.conv import Conv
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class RaiseGroups(Pass):
    """Recognise a group convolution that is spelled as slices, convolutions and a concat.

        %a = gather(%x) {channels=[0..4]}
        %b = gather(%x) {channels=[4..6]}
        %c = conv(%a, @c.weight) {connect=dense(4->4, 1x1)}     ->      %e = conv(%x, @e.weight0, @e.weight1)
        %d = conv(%b, @d.weight) {connect=dense(2->2, 1x1)}             {connect=blocks(6->6; 1 of [0..4]->…
        %e = concat(%c, %d)

    Every operand of the concat is such a convolution, with the same stride and dilation, read by nothing
    else, and each reads some channels (or all) of the same value; equal groups become one family, uneven ones
    (SeesawNet, MixNet's kernels, LeNet-5's table) several. An order of channels behind the concat is one of
    outputs. What is spread further apart is left to `merge-branches`.
    Needs: bound weights. Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "raise-groups"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            if isinstance(node.op, Concat) and len(node.args) > 1:
                self._raise(edit, node)
        edit.sweep(n for n in graph.nodes if isinstance(n.op, View))
        return edit.finish()

    def _raise(self, edit: Edit, concat: Node) -> None:
        layers = [_layer(edit, value) for value in concat.args]
        found = [layer for layer in layers if layer is not None]
        views = [view for layer in found if (view := _view(edit, layer))]
        if len(found) < len(layers) or not views:
            return
        x = views[0].args[0]
        groups = [group for layer in found if (group := _group(edit, layer, x)) is not None]
        geometry = {(layer.op.stride, layer.op.dilation) for layer in found}  # type: ignore[attr-defined]  # Conv
        if len(groups) < len(found) or len(geometry) > 1:
            self.left(concat, "its convolutions read different values or have different strides")
            return
        [(stride, dilation)] = geometry
        connect, weights = _joined(edit, groups, x.type.channels)
        bias = _bias(edit, found)
        last = concat
        order = edit.only_reader(concat.out)
        if order is not None and isinstance(order.op, View) and _is_order(order):
            sources, last = order.op.sources(connect.out_channels), order
            connect = connect.writing(sources)
            bias = None if bias is None else bias[sources.array]
        connect, weights = normal(connect, weights)
        params = [*weights, *([] if bias is None else [bias])]
        edit.rewrite(last, Conv(connect, stride, dilation, bias is not None), [x], params)
        edit.drop(*(node for node in (*found, concat) if node is not last))
        self.did(last, f"{', '.join(f'`{layer.name}`' for layer in found)} are its groups")


Group = tuple[Node, ChannelList]
"""A convolution, and the channels of the common value that it reads."""


def _layer(edit: Edit, value: Value) -> Node | None:
    """The convolution that makes a value for nobody else."""
    layer = edit.makers.get(value)
    if layer is None or edit.only_reader(value) is None or not isinstance(layer.op, Conv):
        return None
    return None if layer.op.epilogue or layer.op.masked else layer


def _view(edit: Edit, layer: Node) -> Node | None:
    """The choice of channels that a convolution reads."""
    view = edit.makers.get(layer.args[0])
    return view if view is not None and isinstance(view.op, View) else None


def _group(edit: Edit, layer: Node, x: Value) -> Group | None:
    """The convolution as a group of x; None where it reads something else."""
    if layer.args[0] is x:
        return layer, ChannelList.span(0, x.type.channels)
    view = _view(edit, layer)
    if view is None or view.args[0] is not x:
        return None
    assert isinstance(view.op, View)
    return layer, view.op.sources(x.type.channels)


def _is_order(node: Node) -> bool:
    """True for a view that takes every channel once."""
    assert isinstance(node.op, View)
    sources = node.op.sources(node.args[0].type.channels)
    return sources.is_distinct and len(sources) == node.args[0].type.channels


def _joined(edit: Edit, groups: list[Group], channels: int) -> tuple[Connectivity, list[Array]]:
    """All blocks over the common value, one convolution's outputs behind the other's."""
    families: list[Family] = []
    weights: list[Array] = []
    start = 0
    for layer, sources in groups:
        assert isinstance(layer.op, Conv)
        moved = layer.op.connect.reading(sources, channels)
        families += [replace(f, outputs=ChannelList.of(f.outputs.array + start)) for f in moved.families]
        weights += [edit.stored(p) for p in layer.params[: len(moved.families)]]
        start += moved.out_channels
    return Connectivity(channels, start, tuple(families)), weights


def _bias(edit: Edit, layers: list[Node]) -> Array | None:
    """The biases one behind the other, zeros where there is none; None where none has one."""
    if not any(layer.op.bias for layer in layers):  # type: ignore[attr-defined]  # they are convolutions
        return None
    return np.concatenate(list(_biases(edit, layers)))


def _biases(edit: Edit, layers: list[Node]) -> Iterator[Array]:
    for layer in layers:
        assert isinstance(layer.op, Conv)
        zeros = np.zeros(layer.op.connect.out_channels, np.float32)
        yield edit.stored(layer.params[-1]) if layer.op.bias else zeros

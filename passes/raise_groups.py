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
    else, and each reads another choice of channels of the same value; equal groups become one family, uneven
    ones (SeesawNet, MixNet's kernels) several. What is spread further apart is left to `merge-branches`.
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
        if len(found) < len(layers):
            return
        sources = {view.args[0] for _, view in found}
        geometry = {(layer.op.stride, layer.op.dilation) for layer, _ in found}  # type: ignore[attr-defined]  # Conv
        if len(sources) > 1 or len(geometry) > 1:
            self.left(concat, "its convolutions read different values or have different strides")
            return
        [x], [(stride, dilation)] = sources, geometry
        connect, weights = normal(*_joined(edit, found, x.type.channels))
        bias = _bias(edit, [layer for layer, _ in found])
        params = [*weights, *([] if bias is None else [bias])]
        edit.rewrite(concat, Conv(connect, stride, dilation, bias is not None), [x], params)
        edit.drop(*(layer for layer, _ in found))
        self.did(concat, f"{', '.join(f'`{layer.name}`' for layer, _ in found)} are its groups")


def _layer(edit: Edit, value: Value) -> tuple[Node, Node] | None:
    """The convolution that makes a value for nobody else, and the choice of channels that it reads."""
    layer = edit.makers.get(value)
    if layer is None or edit.only_reader(value) is None or not isinstance(layer.op, Conv):
        return None
    if layer.op.epilogue or layer.op.masked:
        return None
    view = edit.makers.get(layer.args[0])
    return (layer, view) if view is not None and isinstance(view.op, View) else None


def _joined(edit: Edit, found: list[tuple[Node, Node]], channels: int) -> tuple[Connectivity, list[Array]]:
    """All blocks over the common value, one convolution's outputs behind the other's."""
    families: list[Family] = []
    weights: list[Array] = []
    start = 0
    for layer, view in found:
        assert isinstance(layer.op, Conv)
        assert isinstance(view.op, View)
        moved = layer.op.connect.reading(view.op.sources(channels), channels)
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

"""affine(gather(x) that repeats channels) -> gather(concat(affine(part of x), affine(part of x)))."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from compactir.ir.channels import ChannelList, Indices
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ops.arrange import Concat, Gather, View
from compactir.ops.conv import Conv
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit
from compactir.passes._flow import is_lanewise


@register
@dataclass(frozen=True)
class SplitRepeats(Pass):
    """Give every repetition of a channel a lane of its own.

        %i = gather(%x) {channels=[0, 2, 2, 3]}                 // CondenseNet's index
        %n = affine(%i, @n.weight, @n.bias)
        ->
        %i_2 = gather(%x) {channels=[0, 2..4]} as i             // each channel for the first time
        %n_2 = affine(%i_2, @n.weight, @n.bias) as n
        %i_3 = gather(%x) {channels=[2]} as i                   // for the second time
        %n_3 = affine(%i_3, @n.weight_2, @n.bias_2) as n
        %n_4 = concat(%n_2, %n_3) as n
        %n = gather(%n_4) {channels=[0, 1, 3, 2]}

    Operations that keep channels in their lanes cannot read one lane twice: without this the repeated
    channels would be copied first. With it every part reads distinct lanes, and the last gather folds into
    what reads it. A repetition with equal parameters is computed once. Whole chains of per-channel operations
    move together.
    Needs: bound weights. Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "split-repeats"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        nodes: list[Node] = []
        for node in graph.nodes:
            chain = _chain(edit, node) if isinstance(node.op, View) else []
            sources = (
                node.op.sources(node.args[0].type.channels) if isinstance(node.op, View) else ChannelList(())
            )
            if chain and not sources.is_distinct:
                nodes += self._split(edit, node, chain, sources.array)
            elif not edit.gone(node):
                nodes.append(node)
        graph.nodes = nodes
        return edit.finish()

    def _split(self, edit: Edit, view: Node, chain: list[Node], sources: Indices) -> list[Node]:
        layers, place = _layers(edit, chain, sources)
        made: list[Node] = []

        def add(op: object, args: list[Value], like: Node) -> Value:
            node = edit.graph.make(op, args, like.name, like.span)  # type: ignore[arg-type]  # an Op
            edit.add(node)
            made.append(node)
            return node.out

        ends: list[Value] = []
        for slots in layers:
            value = add(Gather(ChannelList.of(sources[slots])), [view.args[0]], view)
            for node in chain:
                params = [self._rows(edit, p, slots) for p in node.params]
                value = add(_narrow(node, len(slots)), [value, *params], node)
            ends.append(value)
        joined = add(Concat(), ends, chain[-1]) if len(ends) > 1 else ends[0]
        last = Node(Gather(ChannelList.of(place)), [joined], chain[-1].out, chain[-1].name, chain[-1].span)
        edit.drop(*reversed(chain), view)
        edit.add(last)
        self.did(
            view, f"{len(sources)} reads of {len(set(sources.tolist()))} channels in {len(layers)} parts"
        )
        return [*made, last]

    def _rows(self, edit: Edit, param: Value, slots: Indices) -> Value:
        role = param.role if isinstance(param, Param) else "weight"
        return edit.graph.bind(param.name, edit.stored(param)[slots], role)


def _chain(edit: Edit, view: Node) -> list[Node]:
    """The per-channel operations of one value behind a view, one after the other, with no other reader."""
    chain: list[Node] = []
    reader = edit.only_reader(view.out)
    while reader and is_lanewise(reader) and len(reader.values) == 1:
        chain.append(reader)
        reader = edit.only_reader(reader.out)
    return chain


def _layers(edit: Edit, chain: list[Node], sources: Indices) -> tuple[list[Indices], Indices]:
    """The slots of every part, by channel, and for every slot its place in the concat of the parts."""
    arrays = [edit.stored(p).reshape(len(sources), -1) for node in chain for p in node.params]
    rows = (
        np.concatenate([a.astype(np.float64) for a in arrays], axis=1)
        if arrays
        else np.zeros((len(sources), 0))
    )
    known: dict[tuple[int, bytes], int] = {}  # channel and parameters -> the slot that computes them
    times: dict[int, int] = defaultdict(int)
    layers: dict[int, list[int]] = defaultdict(list)
    twin = np.empty(len(sources), np.int64)
    for slot, channel in enumerate(sources.tolist()):
        key = channel, rows[slot].tobytes()
        if key not in known:
            known[key] = slot
            layers[times[channel]].append(slot)
            times[channel] += 1
        twin[slot] = known[key]
    parts = [np.array(sorted(slots, key=lambda s: int(sources[s]))) for slots in layers.values()]
    place = np.empty(len(sources), np.int64)
    place[np.concatenate(parts)] = np.arange(sum(map(len, parts)))
    return parts, place[twin]


def _narrow(node: Node, channels: int) -> object:
    """The operation for so many channels."""
    if not isinstance(node.op, Conv):
        return node.op
    [family] = node.op.connect.families
    connect = Connectivity.grouped(channels, channels, channels, family.kernel, family.pad)
    return replace(node.op, connect=connect)

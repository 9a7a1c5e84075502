"""The rewriting behind `merge-branches`: parallel layers that meet in a concat, and the one instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.connectivity import Block, Connectivity
from compactir.ir.graph import Node, Value
from compactir.ir.types import Array
from compactir.ops.activation import Activation
from compactir.ops.arrange import Concat, Gather, View
from compactir.ops.conv import Conv
from compactir.passes._blocks import Weighted, gathered, joined_rows
from compactir.passes._edit import Edit


@dataclass(frozen=True)
class Branch:
    """A convolution and the activations behind it, down to an operand of a concat."""

    index: int  # which operand
    layer: Node
    tail: tuple[Node, ...]
    x: Value
    sources: ChannelList | None  # which channels of x it reads, where a view was in between

    @property
    def kind(self) -> tuple[object, ...]:
        """What branches have in common that can be one layer."""
        op = self.layer.op
        assert isinstance(op, Conv)
        return op.stride, op.dilation, tuple(n.op for n in self.tail), self.layer.out.type.spatial

    @property
    def shape(self) -> tuple[object, ...]:
        """Beyond that: what branches on different values need."""
        op = self.layer.op
        assert isinstance(op, Conv)
        shapes = tuple((f.count, f.ins, f.outs, f.kernel, f.pad) for f in op.connect.families)
        return (*self.kind, shapes, op.connect.in_channels, self.x.type)


def branches(edit: Edit, concat: Node) -> Iterator[Branch]:
    """The branches of a concat whose layer nothing else reads."""
    if edit.gone(concat):
        return
    for index, value in enumerate(concat.args):
        tail: list[Node] = []
        reader, maker = concat, edit.makers.get(value)
        while maker and isinstance(maker.op, Activation) and edit.only_reader(maker.out) is reader:
            tail.insert(0, maker)
            reader, maker = maker, edit.makers.get(maker.args[0])
        if not maker or not isinstance(maker.op, Conv) or edit.only_reader(maker.out) is not reader:
            continue
        if not (maker.op.masked or maker.op.epilogue):
            yield Branch(index, maker, tuple(tail), *_source(edit, maker.args[0]))


def _source(edit: Edit, value: Value) -> tuple[Value, ChannelList | None]:
    """The value behind views, and which of its channels the views take."""
    sources: ChannelList | None = None
    while (maker := edit.makers.get(value)) and isinstance(maker.op, View):
        taken = maker.op.sources(maker.args[0].type.channels)
        sources = taken if sources is None else taken.take(sources)
        value = maker.args[0]
    return value, sources


class Merge:
    """One layer for a group of branches; `nodes` are the nodes to be put before the concat."""

    def __init__(self, edit: Edit, concat: Node, group: Sequence[Branch]) -> None:
        self.edit, self.concat, self.group = edit, concat, group
        self.nodes: list[Node] = []
        starts = np.cumsum([0, *(b.layer.out.type.channels for b in group)]).tolist()
        self.placed = list(
            zip(group, starts, strict=False)
        )  # every branch with its first channel of the results
        x, blocks = self.on_one() if len({b.x for b in group}) == 1 else self.on_many()
        out = self.layer(x, blocks)
        whole = len(group) == len(concat.args)
        if whole:
            edit.remake(self.nodes[-1], concat.out)
            edit.drop(concat)
        else:
            self.parts(out)

    def on_one(self) -> tuple[Value, list[Weighted]]:
        """All read the same value, perhaps through views."""
        blocks = [b for branch, at in self.placed for b in self.blocks(branch, branch.sources, at, 0)]
        return self.group[0].x, blocks

    def on_many(self) -> tuple[Value, list[Weighted]]:
        """Each reads its own value: they become one."""
        xs = [b.layer.args[0] for b in self.group]
        join = self.edit.graph.make(Concat(), xs, f"{self.group[0].layer.name}_in", self.concat.span)
        self.edit.add(join)
        self.nodes.append(join)
        starts = np.cumsum([0, *(x.type.channels for x in xs)]).tolist()
        each = zip(self.placed, starts, strict=False)
        return join.out, [b for (branch, at), start in each for b in self.blocks(branch, None, at, start)]

    def blocks(self, branch: Branch, sources: ChannelList | None, at: int, start: int) -> Iterator[Weighted]:
        """The blocks of a branch in the numbering of the merged layer."""
        assert isinstance(branch.layer.op, Conv)
        for family, param in zip(branch.layer.op.connect.families, branch.layer.params, strict=False):
            rows = self.edit.array(param).reshape(family.count, family.outs, family.ins, *family.kernel)
            for block, weight in zip(family.blocks(), rows, strict=True):
                inputs = block.inputs if sources is None else sources.take(block.inputs)
                moved = ChannelList.of(inputs.array + start), ChannelList.of(block.outputs.array + at)
                yield Block(*moved, block.kernel, block.pad), weight

    def layer(self, x: Value, blocks: list[Weighted]) -> Value:
        """The merged convolution, with its activations; returns what it makes."""
        first, edit = self.group[0], self.edit
        outs = sum(b.layer.out.type.channels for b in self.group)
        connect, weights = gathered(Connectivity(x.type.channels, outs, ()), joined_rows(blocks))
        biased = any(b.layer.op.bias for b in self.group)  # type: ignore[attr-defined]
        bias = [np.concatenate([self.bias(b.layer) for b in self.group])] if biased else []
        assert isinstance(first.layer.op, Conv)
        for branch in self.group[1:]:
            edit.drop(*reversed(branch.tail), branch.layer)
        op = replace(first.layer.op, connect=connect, bias=biased)
        edit.rewrite(first.layer, op, [x], [*weights, *bias])
        for node in (first.layer, *first.tail):
            if node is not first.layer:
                edit.rewire(node, [self.nodes[-1].out])
            edit.remake(node, Value(edit.graph.fresh(node.name), node.out.type.with_channels(outs)))
            self.nodes.append(node)
        return self.nodes[-1].out

    def bias(self, layer: Node) -> Array:
        """The bias of one layer."""
        assert isinstance(layer.op, Conv)
        return self.edit.array(layer.params[-1]) if layer.op.bias else np.zeros(layer.out.type.channels)

    def parts(self, out: Value) -> None:
        """Put the results where the concat had the branches' values: neighbours as one slice."""
        at = {branch.index: start for branch, start in self.placed}
        operands: list[Value | list[int]] = []  # a value that stays, or [first, stop) of the results
        for index, value in enumerate(self.concat.args):
            if index not in at:
                operands.append(value)
            elif operands and isinstance(operands[-1], list):
                operands[-1][1] += value.type.channels
            else:
                operands.append([at[index], at[index] + value.type.channels])
        self.edit.rewire(self.concat, [self.slice(out, *o) if isinstance(o, list) else o for o in operands])

    def slice(self, value: Value, start: int, stop: int) -> Value:
        """Consecutive channels of a value; itself where these are all."""
        if stop - start == value.type.channels:
            return value
        node = self.edit.graph.make(Gather(ChannelList.range(start, stop)), [value], f"{value.name}_part")
        self.edit.add(node)
        self.nodes.append(node)
        return node.out

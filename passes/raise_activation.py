"""relu(concat(conv(x), y)) -> concat(relu(conv(x)), relu(y))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph, Node, Value
from compactir.ir.op import Op
from compactir.ops.activation import Activation, Clip, HardSigmoid, LeakyRelu, Relu, Relu6, Sigmoid, Tanh
from compactir.ops.arrange import Concat, View
from compactir.ops.combine import Combine
from compactir.ops.conv import Conv
from compactir.ops.norm import Affine
from compactir.ops.pool import AvgPool, GlobalPool, MaxPool, Upsample
from compactir.passes._base import Pass, register
from compactir.passes._edit import Edit

Place = tuple[Node, Value]  # who reads, what
Behind = dict[Node | None, list[Node]]
"""New activations, by the node that makes what they read (None: an input of the network)."""


@register
@dataclass(frozen=True)
class RaiseActivation(Pass):
    """Move an activation up to the layer that can finish its result with it.

        %a = conv(%x, @a.weight) {connect=dense(8->8, 1x1)}
        %p = avg_pool(%r) {kernel=[3,3], stride=[2,2]}          // of what a relu made
        %c = concat(%p, %a)
        %d = relu(%c)
        ->
        %a_2 = relu(%a) as d
        %d = concat(%p, %a_2) as c

    It climbs over concat, views, nearest upsampling and (rising functions) maximum pooling, as long as each
    value has no other reader, and only if a convolution or affine waits at the end of at least one branch;
    other branches get the activation where they join, and a relu of what cannot be negative is nothing
    (ShuffleNetV1's pooled shortcut). Needs: nothing. Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "raise-activation"

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        positive = _positive(graph)
        behind: Behind = {}
        for node in graph.nodes:
            if isinstance(node.op, Relu) and node.args[0] in positive:
                edit.forward(node.out, node.args[0])
                edit.drop(node)
                self.did(node, f"{node.out} has no negative element without it")
            elif isinstance(node.op, Activation):
                self._raise(edit, node, positive, behind)
        graph.nodes = [
            *behind.get(None, []),
            *(n for node in graph.nodes for n in (node, *behind.get(node, []))),
        ]
        return edit.finish()

    def _raise(self, edit: Edit, node: Node, positive: set[Value], behind: Behind) -> None:
        x = node.args[0]
        leaves = list(dict.fromkeys(_leaves(edit, node, node, x)))
        if leaves == [(node, x)]:
            return
        waiting = [value for reader, value in leaves if _waits(edit, reader, value)]
        if not waiting:
            self.left(node, f"no layer above `{edit.makers[x].name}` could take it in")
            return
        between = _between(edit, node, node, x)
        for reader, value in leaves:
            if isinstance(node.op, Relu) and value in positive:
                continue
            act = Node(
                node.op, [value], Value(edit.graph.fresh(value.name), value.type), node.name, node.span
            )
            edit.rewire(reader, [act.out if a is value else a for a in reader.args])
            edit.add(act)
            behind.setdefault(edit.makers.get(value), []).append(act)
        for value in between[1:]:
            edit.renew(value)
        edit.drop(node)
        edit.remake(edit.makers[x], node.out)
        self.did(node, f"finishes {', '.join(f'`{edit.makers[v].name}`' for v in waiting)} instead")


def _leaves(edit: Edit, act: Node, reader: Node, value: Value) -> Iterator[Place]:
    """Where the activation could stand instead."""
    maker = edit.makers.get(value)
    if maker is None or not _climbs(edit, act, reader, maker):
        yield reader, value
        return
    above = [leaf for operand in maker.args for leaf in _leaves(edit, act, maker, operand)]
    if isinstance(maker.op, MaxPool) and not all(_waits(edit, *leaf) for leaf in above):
        yield reader, value  # more elements above, and nobody there to do them on the way
    else:
        yield from above


def _climbs(edit: Edit, act: Node, reader: Node, maker: Node) -> bool:
    """True when the activation of what this node makes may be taken of its operands instead."""
    if edit.only_reader(maker.out) is not reader:
        return False
    if isinstance(maker.op, View):
        sources = maker.op.sources(maker.args[0].type.channels)
        return sources.is_distinct and len(sources) == maker.args[0].type.channels
    if isinstance(maker.op, Upsample):
        return maker.op.mode == "nearest"  # a function of a mean is not the mean of the function
    return isinstance(maker.op, Concat) or (isinstance(maker.op, MaxPool) and _rises(act.op))


def _rises(op: Op) -> bool:
    """True for a function that keeps the order of numbers."""
    if isinstance(op, LeakyRelu):
        return op.slope >= 0
    if isinstance(op, Tanh):
        return op.scale * op.slope >= 0
    return isinstance(op, Relu | Relu6 | Clip | Sigmoid | HardSigmoid)


def _between(edit: Edit, act: Node, reader: Node, value: Value) -> list[Value]:
    """The values that the activation climbs over, the one next to it first."""
    maker = edit.makers.get(value)
    if maker is None or (reader, value) in _leaves(edit, act, reader, value):
        return []
    return [value, *(v for operand in dict.fromkeys(maker.args) for v in _between(edit, act, maker, operand))]


def _waits(edit: Edit, reader: Node, value: Value) -> bool:
    """True when a layer could finish this value with an activation."""
    maker = edit.makers.get(value)
    return bool(maker and isinstance(maker.op, Conv | Affine) and edit.only_reader(value) is reader)


def _positive(graph: Graph) -> set[Value]:
    """Values without a negative element."""
    found: set[Value] = set()
    for node in graph.nodes:
        last = node.op.epilogue[-1] if isinstance(node.op, Conv | Affine) and node.op.epilogue else node.op
        carries = View | Concat | Upsample | MaxPool | AvgPool | GlobalPool | Combine | Activation
        if (
            isinstance(last, Relu | Relu6 | Sigmoid | HardSigmoid)
            or (isinstance(last, Clip) and last.low >= 0)
            or (
                isinstance(node.op, carries)
                and not isinstance(node.op, Tanh | Clip)
                and set(node.args) <= found
            )
        ):
            found.add(node.out)
    return found

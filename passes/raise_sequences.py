"""relu(x) on a sequence (N, C, L) -> as_sequence(relu(as_map(x))) on a map of one row (N, C, 1, L)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.op import Op
from compactir.ops.activation import Activation
from compactir.ops.arrange import AsMap, AsSequence, Transparent
from compactir.ops.tensor import Binary, Choose, Expand, Join, Pad, Reduce, Reshape, Take, Transpose, Unary
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit

_ROW = 2
"""The axis of a map that its sequence does not have."""


@register
@dataclass(frozen=True)
class RaiseSequences(Pass):
    """Let what works on sequences (N, C, L) work on maps of one row (N, C, 1, L).

        %a = relu(%x)       // f32[1,8,17]      ->      %m = as_map(%x)                 // f32[1,8,1,17]
        %b = reduce(%a) {function="mean",               %a = relu(%m)
                         axes=[2]}                      %b = reduce(%a) {function="mean", axes=[2,3]}
                                                        %c = as_sequence(%b)            // f32[1,8,1]

    Axes, shapes and constants are written anew; a reshape to or from a sequence becomes one to or from its
    map, so that what follows sees chains of them. Inputs and outputs of the network stay sequences. Products
    of matrices stay as they are, and so does what combines a sequence with a value of another rank.
    Needs: bound weights (constants get an axis). Keeps: every returned value, but for the order of sums.
    """

    name: ClassVar[str] = "raise-sequences"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        lift = _Lift(Edit(graph))
        for node in graph.nodes:
            if (op := _on_maps(node)) is None:
                lift.nodes.append(node)
            else:
                lift.rewrite(node, op)
                self.did(node, "on a map of one row")
        graph.nodes = lift.nodes
        lift.edit.sweep(n for n in graph.nodes if isinstance(n.op, AsMap | AsSequence))
        return lift.edit.finish()


@dataclass
class _Lift:
    """The rewriting: `maps` has the map of every sequence that has one, constants included."""

    edit: Edit
    maps: dict[Value, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def rewrite(self, node: Node, op: Op) -> None:
        """Append the node with this operation on maps, and what makes the sequence of its result."""
        operands = [self._operand(v, node) for v in node.args]
        node.op = op
        self.edit.rewire(node, operands)
        self.nodes.append(node)
        sequence = node.out
        if sequence.type.rank != 3:
            return
        n, channels, length = sequence.type.shape
        row = Value(sequence.name, sequence.type.with_shape(n, channels, 1, length))
        stem = sequence.name.removesuffix("_sequence")
        sequence.name = self.edit.graph.fresh(f"{stem}_sequence")
        self.edit.remake(node, row)
        self.maps[sequence] = row
        back = Node(AsSequence(), [row], sequence, sequence.name, node.span)
        self.edit.add(back)
        self.nodes.append(back)

    def _operand(self, value: Value, node: Node) -> Value:
        """The map of a sequence, made where it is wanted first; other values as they are."""
        if isinstance(value, Param):
            return self._constant(value, node)
        if value.type.rank == 3 and value not in self.maps:
            made = self.edit.graph.make(AsMap(), [value], f"{value.name}_map", node.span)
            made.name = made.out.name
            self.edit.add(made)
            self.nodes.append(made)
            self.maps[value] = made.out
        return self.maps.get(value, value)

    def _constant(self, param: Param, node: Node) -> Value:
        """A constant with an axis more before its last one, where it has two or three."""
        if param.type.rank not in (2, 3):
            return param
        if param not in self.maps:
            graph, array = self.edit.graph, np.expand_dims(self.edit.stored(param), -2)
            if self.edit.readers(param) == [node] and param not in self.edit.returned:
                graph.params.pop(param.name)
            self.maps[param] = graph.bind(param.name, array, param.role)
        return self.maps[param]


# -- one operation -------------------------------------------------------------------------------------------


def _on_maps(node: Node) -> Op | None:
    """The operation that does the same on maps; None where none does, or no sequence is there."""
    op, values = node.op, [v for v in node.args if not isinstance(v, Param)]
    if not values or 3 not in (node.out.type.rank, *(v.type.rank for v in values)):
        return None
    if isinstance(op, Reshape | Expand | Reduce):
        return _reshaped(op, node, values[0].type.rank)
    if node.out.type.rank != 3 or any(v.type.rank not in (0, 1, 3) for v in values):
        return None
    if any(p.type.rank > 3 for p in node.args):
        return None
    if isinstance(op, Activation | Transparent | Unary | Binary | Choose):
        return op
    rule = _RULES.get(type(op))
    return rule(op) if rule else None


def _reshaped(op: Reshape | Expand | Reduce, node: Node, rank: int) -> Op | None:
    """What may change the number of axes."""
    shape = node.out.type.shape
    row = _with_row(shape, 1) if len(shape) == 3 else shape
    if isinstance(op, Reshape):
        return Reshape(row)
    if isinstance(op, Expand):
        return Expand(row) if rank == len(shape) == 3 else None
    if rank == 3:
        row_too = {_ROW} if not op.keep or _ROW in op.axes else set()
        return replace(op, axes=tuple(sorted({*map(_row_axis, op.axes), *row_too})))
    return replace(op, keep=True) if rank == 4 and op.axes == (_ROW,) else None


def _row_axis(axis: int) -> int:
    return axis + (axis >= _ROW)


def _with_row(numbers: Sequence[int], row: int) -> tuple[int, ...]:
    return (*numbers[:_ROW], row, *numbers[_ROW:])


_RULES: dict[type[Op], Callable[..., Op]] = {
    Join: lambda op: Join(_row_axis(op.axis)),
    Pad: lambda op: replace(op, before=_with_row(op.before, 0), after=_with_row(op.after, 0)),
    Take: lambda op: replace(op, axis=_row_axis(op.axis)),
    Transpose: lambda op: Transpose(_with_row([_row_axis(axis) for axis in op.order], _ROW)),
}
"""Operations on sequences alone whose axes have other numbers on maps."""

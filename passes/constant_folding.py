"""What is known when compiling is computed when compiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compactir.ir.graph import Graph, Node
from compactir.ir.op import Op
from compactir.ops.activation import Clip, Relu, Relu6
from compactir.ops.norm import Affine
from compactir.passes._base import Pass, need_weights, register
from compactir.passes._edit import Edit


@register
@dataclass(frozen=True)
class ConstantFolding(Pass):
    """Join clamps of clamps, and drop scales by 1 and shifts by 0.

        %a = relu(%x)                                   %b = relu6(%x)
        %b = relu6(%a)                          ->

    A clamp of a clamp is the clamp to both ranges where they meet; a clamp of what lies within its range is
    nothing. (Operations on parameters alone do not occur: every operation of the language reads a value.)
    Needs: bound weights. Keeps: every returned value but the sign of zeros.
    """

    name: ClassVar[str] = "constant-folding"

    def requires(self, graph: Graph) -> None:
        """CIR401 without weights."""
        need_weights(graph)

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:
            if node.op == Affine() and self._is_neutral(edit, node):
                edit.forward(node.out, node.args[0])
                edit.drop(node)
                self.did(node, "scales by 1 and shifts by 0")
            elif self._is_within(edit, node):
                edit.forward(node.out, node.args[0])
                edit.drop(node)
                self.did(node, "its operand lies within its range already")
            elif node.op.elementwise and (joined := self._joined(edit, node)):
                inner = edit.makers[node.args[0]]
                edit.rewire(node, inner.args)
                node.op = joined
                self.did(node, f"clamps what `{inner.name}` clamps: both at once")
        edit.sweep(graph.nodes)
        return edit.finish()

    def _is_neutral(self, edit: Edit, node: Node) -> bool:
        weight, bias = (edit.array(p) for p in node.args[1:])
        return bool(np.all(weight == 1) and np.all(bias == 0))

    def _is_within(self, edit: Edit, node: Node) -> bool:
        maker = edit.makers.get(node.args[0])
        inner, outer = (_range(maker.op) if maker else None), _range(node.op)
        return bool(inner and outer and outer[0] <= inner[0] and inner[1] <= outer[1])

    def _joined(self, edit: Edit, node: Node) -> Op | None:
        """One clamp for a clamp of a clamp, where the ranges overlap."""
        maker = edit.makers.get(node.args[0])
        inner, outer = (_range(maker.op) if maker else None), _range(node.op)
        if maker is None or inner is None or outer is None or edit.only_reader(maker.out) is not node:
            return None
        low, high = max(inner[0], outer[0]), min(inner[1], outer[1])
        return _clamp(low, high) if low <= high else None


def _range(op: Op) -> tuple[float, float] | None:
    if isinstance(op, Clip):
        return op.low, op.high
    if isinstance(op, Relu6):
        return 0.0, 6.0
    return (0.0, float("inf")) if isinstance(op, Relu) else None


def _clamp(low: float, high: float) -> Op:
    if low == 0.0 and high in (6.0, float("inf")):
        return Relu6() if high == 6.0 else Relu()
    return Clip(low, high)

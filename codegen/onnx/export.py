"""Graph -> onnx.ModelProto: names, constants, outputs; what each operation becomes stands in `lower.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import compactir
from compactir.codegen.onnx.lower import lower
from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph, Param, Value
from compactir.ir.types import Array, TensorType

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""Of 2022: every engine of interest reads it, and it has HardSwish (since 14)."""
IR_VERSION = 8
"""The one that came with the opset."""


def export_onnx(graph: Graph) -> onnx.ModelProto:
    """The network as an ONNX model that computes the same.

    Inputs and outputs keep names and shapes, parameters their names where ONNX wants them as they are. What
    ONNX cannot say is spelled out: blocks of channels as slices or gathers, convolutions and a concat; masks
    are multiplied into the weights.

    Args:
        graph: as authored or after passes, with its weights bound.

    Errors: CIR501 for an operation that has no ONNX spelling, CIR601 (no weights), CIR605 (onnx is missing).
    """
    onnx = _onnx()
    missing = [name for name in graph.params if name not in graph.weights]
    if missing:
        names = ", ".join(missing[:4])
        raise CompactError(
            "CIR601", f"`{graph.name}` has no weights for {names}", help="bind or draw them first"
        )
    model = Writer(graph).model()
    onnx.checker.check_model(model, full_check=True)
    return model


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise CompactError(
            "CIR605",
            "the package onnx is not installed",
            help='install it with `pip install "compactir[onnx]"`',
        ) from None
    return onnx


class Writer:
    """The model under construction. Tensors are known by their names."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.taken = {*graph.params}
        self.names: dict[Value, str] = {v: self.fresh(v.name) for v in graph.inputs}
        self.outputs = {name: self.fresh(name) for name in graph.outputs}
        self.node = ""

    def fresh(self, stem: str) -> str:
        """A tensor name that is not taken."""
        name, n = stem, 1
        while name in self.taken:
            n += 1
            name = f"{stem}_{n}"
        self.taken.add(name)
        return name

    # -- for lower.py ----------------------------------------------------------------------------------------

    def emit(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; returns the name of its result."""
        from onnx import helper

        out = self.fresh(f"{self.node}.{operation.lower()}")
        self.nodes.append(helper.make_node(operation, list(inputs), [out], name=out, **attributes))
        return out

    def emit_split(self, x: str, sizes: list[int]) -> list[str]:
        """Consecutive parts of the channels."""
        from onnx import helper

        if len(sizes) == 1:
            return [x]
        outs = [self.fresh(f"{self.node}.part") for _ in sizes]
        inputs = [x, self.constant(np.array(sizes, np.int64), "sizes")]
        self.nodes.append(
            helper.make_node("Split", inputs, outs, name=self.fresh(f"{self.node}.split"), axis=1)
        )
        return outs

    def constant(self, array: Array, stem: str) -> str:
        """A constant that belongs to the node being lowered."""
        name = self.fresh(f"{self.node}.{stem}")
        self.constants[name] = array
        return name

    def param(self, param: Param) -> str:
        """A parameter as it is."""
        self.constants[param.name] = self.array(param)
        return param.name

    def array(self, param: Param) -> Array:
        """The numbers of a parameter."""
        return np.ascontiguousarray(self.graph.weights[param.name], np.float32)

    # -- the whole -------------------------------------------------------------------------------------------

    def model(self) -> onnx.ModelProto:
        """All nodes, then the model around them."""
        for node in self.graph.nodes:
            self.node = node.name
            args = [a if isinstance(a, Param) else self.names[a] for a in node.args]
            self.names[node.out] = self._called(lower(self, node, args), node.out)
        return self._model()

    def _called(self, result: str, value: Value) -> str:
        """Give the last node's result the name of the value, or of the output that it is."""
        if not self.nodes or result != self.nodes[-1].output[0]:
            return result  # another tensor under a new name
        wanted = next((self.outputs[n] for n, v in self.graph.outputs.items() if v is value), None)
        name = wanted or self.fresh(value.name)
        self.nodes[-1].output[0] = name
        return name

    def _model(self) -> onnx.ModelProto:
        from onnx import helper, numpy_helper

        for name, value in self.graph.outputs.items():
            self.node = f"output.{name}"
            source = self.param(value) if isinstance(value, Param) else self.names[value]
            if source != self.outputs[name]:
                self.emit("Identity", source)
                self.nodes[-1].output[0] = self.outputs[name]
        graph = helper.make_graph(
            self.nodes,
            self.graph.name,
            [_info(self.names[v], v.type) for v in self.graph.inputs],
            [_info(self.outputs[n], v.type) for n, v in self.graph.outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
            doc_string=self.graph.doc,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="compactir",
            producer_version=compactir.__version__,
        )
        return model


def _info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, type.shape)

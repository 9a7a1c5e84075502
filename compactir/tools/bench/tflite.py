"""Graph -> .tflite for LiteRT: channels last, float32; what each operation becomes stands in `tflite_ops.py`.

The usual converter brings 45 packages, jax and transformers among them; networks here need thirty operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.types import Array, TensorType
from compactir.passes import parse_pipeline, run_pipeline

__all__ = ["Writer", "write_tflite"]

_FOLDS = "drop-identity,dead-code,constant-folding,fold-batchnorm"
_VERSION = 3
_IDENTIFIER = b"TFL3"
_FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MAX_POOL_2D", "AVERAGE_POOL_2D")
"""Operators that apply an activation. Concatenation has the field, too, and ignores it."""


def write_tflite(graph: Graph) -> bytes:
    """The network as a flat buffer, batch norms folded. Inputs and outputs that are maps are channels last.

    Errors: RuntimeError for an operation that has no spelling here.
    """
    folded = graph.clone()
    run_pipeline(folded, parse_pipeline(_FOLDS))
    return Writer(folded).write()


class Writer:
    """The model under construction. A tensor is an index; `shapes` has its dimensions, channels last."""

    def __init__(self, graph: Graph) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema: Any = schema_py_generated
        self.graph = graph
        self.shapes: list[tuple[int, ...]] = []
        self._tensors: list[Any] = []
        self._buffers = [self.schema.BufferT()]  # the first is empty by convention
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}
        self._makers: dict[int, tuple[str, Any]] = {}
        self._values: dict[Value, int] = {}
        self._readers = {value: len(users) for value, users in graph.users().items()}

    # -- for tflite_ops.py -----------------------------------------------------------------------------------

    def emit(
        self, code: str, inputs: Sequence[int], shape: Sequence[int], options: str = "", **fields: Any
    ) -> int:
        """Append an operator: `emit("ADD", [a, b], shape, "AddOptions")`; returns its result."""
        out = self._tensor(shape)
        operator = self.schema.OperatorT(
            opcodeIndex=self._codes.setdefault(code, len(self._codes)), inputs=list(inputs), outputs=[out]
        )
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")(**fields)
        self._operators.append(operator)
        self._makers[out] = code, operator.builtinOptions
        return out

    def constant(self, array: Array) -> int:
        """A constant, float32 or int32, laid out as given."""
        wide = np.issubdtype(array.dtype, np.integer)
        data = np.ascontiguousarray(array, np.int32 if wide else np.float32)
        self._buffers.append(self.schema.BufferT(data=data.reshape(-1).view(np.uint8)))
        out = self._tensor(data.shape)
        self._tensors[out].buffer = len(self._buffers) - 1
        self._tensors[out].type = self.schema.TensorType.INT32 if wide else self.schema.TensorType.FLOAT32
        return out

    def ints(self, values: Sequence[int]) -> int:
        """A vector of int32."""
        return self.constant(np.array(values, np.int32))

    def array(self, value: Value) -> Array:
        """The numbers of a parameter, as PyTorch lays them out."""
        assert isinstance(value, Param), "type rules let nothing else stand here"
        return self.graph.weights[value.name].astype(np.float32)

    def of(self, value: Value) -> int:
        """The tensor of a value; a parameter that stands as an operand becomes a constant."""
        if isinstance(value, Param) and value not in self._values:
            self._values[value] = self.constant(last(self.array(value)))
        return self._values[value]

    def fuse(self, value: Value, activation: str) -> int | None:
        """Let the operator that makes a value apply an activation, if nobody wants it without."""
        code, options = self._makers.get(self._values[value], ("", None))
        wanted = self._readers.get(value, 0) > 1 or self.graph.is_output(value)
        if wanted or code not in _FUSING or options.fusedActivationFunction:
            return None
        options.fusedActivationFunction = getattr(self.schema.ActivationFunctionType, activation)
        return self._values[value]

    # -- the whole -------------------------------------------------------------------------------------------

    def write(self) -> bytes:
        """All operators, then the flat buffer."""
        from compactir.tools.bench.tflite_ops import lower

        for value in self.graph.inputs:
            self._values[value] = self._tensor(dimensions(value.type))
        for node in self.graph.nodes:
            self._values[node.out] = lower(self, node)
            self._check(node)
        return self._packed()

    def _check(self, node: Node) -> None:
        found = self.shapes[self._values[node.out]]
        assert found == dimensions(node.out.type), f"{node.name}: {found} is not {node.out.type}"

    def _tensor(self, shape: Sequence[int]) -> int:
        self.shapes.append(tuple(int(n) for n in shape))
        name = f"t{len(self._tensors)}"
        self._tensors.append(self.schema.TensorT(shape=list(self.shapes[-1]), name=name, buffer=0))
        return len(self._tensors) - 1

    def _packed(self) -> bytes:
        import flatbuffers

        graph = self.schema.SubGraphT(
            tensors=self._tensors,
            inputs=[self._values[value] for value in self.graph.inputs],
            outputs=[self.of(value) for value in self.graph.outputs.values()],
            operators=self._operators,
            name=self.graph.name,
        )
        model = self.schema.ModelT(
            version=_VERSION,
            operatorCodes=[self._code(name) for name in self._codes],
            subgraphs=[graph],
            description="compactir",
            buffers=self._buffers,
        )
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _code(self, name: str) -> Any:
        number = getattr(self.schema.BuiltinOperator, name)
        return self.schema.OperatorCodeT(
            deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=_VERSIONS.get(name, 1)
        )


_VERSIONS = {"DEPTHWISE_CONV_2D": 2}
"""Operators whose first version cannot do what is written here: dilation."""


def dimensions(type: TensorType) -> tuple[int, ...]:
    """The shape of a value, channels last."""
    if type.rank != 4:
        return type.shape
    n, c, h, w = type.shape
    return n, h, w, c


def last(array: Array) -> Array:
    """A map with its channels last."""
    return np.transpose(array, (0, 2, 3, 1)) if array.ndim == 4 else array

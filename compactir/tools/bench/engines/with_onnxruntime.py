"""ONNX Runtime: every graph optimization, inputs and outputs bound once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case


class OnnxRuntime(Engine):
    """Microsoft's, on its own CPU kernels (MLAS)."""

    name = "onnxruntime"
    packages = ("onnxruntime",)
    modules = ("onnxruntime",)
    settings = "all graph optimizations, sequential, inputs and outputs bound once"

    def bring(self) -> None:
        """Import it."""
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The session, bound to numpy's memory."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        path = str(case.file(form, "onnx"))
        return _Session(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), case)


class _Session:
    def __init__(self, session: Any, case: Case) -> None:
        self._session, self._io = session, session.io_binding()
        self._inputs, self._outputs = case.arrays(), case.empty_outputs()
        sides = (
            (self._io.bind_input, session.get_inputs(), self._inputs),
            (self._io.bind_output, session.get_outputs(), self._outputs),
        )
        for bind, tensors, arrays in sides:
            for tensor, array in zip(tensors, arrays, strict=True):
                bind(tensor.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def run(self) -> None:
        self._session.run_with_iobinding(self._io)

    def results(self) -> list[Array]:
        return self._outputs

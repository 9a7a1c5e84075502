"""LiteRT (TensorFlow Lite): XNNPACK kernels; a model of ours with channels last, its inputs too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case


class LiteRt(Engine):
    """Google's."""

    name = "litert"
    packages = ("ai-edge-litert",)
    modules = ("ai_edge_litert",)
    settings = "XNNPACK; inputs and outputs channels last, inputs written once"

    def convert(self, case: Case, form: str) -> None:
        """Graph → .tflite by our own writer."""
        from compactir.tools.bench.tflite import write_tflite

        case.file(form, "tflite").write_bytes(write_tflite(case.graph(form)))

    def bring(self) -> None:
        """Import it."""
        import ai_edge_litert.interpreter  # noqa: F401  # the import is what is timed

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The interpreter with its tensors allocated."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(case.file(form, "tflite")), num_threads=threads)
        interpreter.allocate_tensors()
        return _Session(interpreter, case)


class _Session:
    def __init__(self, interpreter: Any, case: Case) -> None:
        self._interpreter = interpreter
        self._invoke = interpreter.invoke
        for details, array in zip(interpreter.get_input_details(), case.arrays(), strict=True):
            last = np.moveaxis(array, 1, -1) if array.ndim == 4 else array
            interpreter.set_tensor(details["index"], np.ascontiguousarray(last))
        self._outputs = [details["index"] for details in interpreter.get_output_details()]

    def run(self) -> None:
        self._invoke()

    def results(self) -> list[Array]:
        tensors = [self._interpreter.get_tensor(index) for index in self._outputs]
        return [np.moveaxis(t, -1, 1) if t.ndim == 4 else t for t in tensors]

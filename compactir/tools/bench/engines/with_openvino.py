"""OpenVINO: float32 by order (it would take bfloat16 where the CPU has it), tensors over numpy's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from compactir.tools.bench.engines.base import Engine, Session

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case


class OpenVino(Engine):
    """Intel's, on oneDNN."""

    name = "openvino"
    packages = ("openvino",)
    modules = ("openvino",)
    held: ClassVar = {"avx2": {"OV_CPU_MAX_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
    settings = "INFERENCE_PRECISION_HINT=f32, PERFORMANCE_HINT=LATENCY, NUM_STREAMS=1, no pinning of its own"

    def bring(self) -> None:
        """Import it."""
        import openvino  # noqa: F401  # the import is what is timed

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The compiled model and one request."""
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": False,  # the process is pinned already
        }
        model = openvino.Core().compile_model(str(case.file(form, "onnx")), "CPU", settings)
        return _Session(model.create_infer_request(), case, model)

    def beyond(self, session: Session, isa: str) -> str:
        """The kernels that its own report names: jit_avx512_dw and the like."""
        assert isinstance(session, _Session)
        nodes = session.model.get_runtime_model().get_ops()
        kinds = {
            str(node.get_rt_info()["primitiveType"].value)
            for node in nodes
            if "primitiveType" in node.get_rt_info()
        }
        return ", ".join(sorted(kind for kind in kinds if isa == "avx2" and "avx512" in kind))


class _Session:
    def __init__(self, request: Any, case: Case, model: Any) -> None:
        import openvino

        self._request, self.model = request, model
        self._inputs, self._outputs = case.arrays(), case.empty_outputs()
        for i, array in enumerate(self._inputs):
            request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
        for i, array in enumerate(self._outputs):
            request.set_output_tensor(i, openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        self._request.infer()

    def results(self) -> list[Array]:
        return self._outputs

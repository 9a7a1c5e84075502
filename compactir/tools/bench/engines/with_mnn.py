"""MNN: the module API at high precision; converted through its Python binding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case


class Mnn(Engine):
    """Alibaba's. Its wheel holds no AVX-512 code."""

    name = "mnn"
    packages = ("MNN",)
    modules = ("MNN",)
    held: ClassVar[dict[str, dict[str, str]]] = {"avx2": {}}  # it has nothing beyond
    settings = "precision high; the wheel has AVX2 kernels at most"

    def convert(self, case: Case, form: str) -> None:
        """ONNX → .mnn by the binding: the script `mnnconvert` around it reports usage to its makers."""
        import _tools  # a top-level module of the wheel

        files = ["--modelFile", str(case.file(form, "onnx")), "--MNNModel", str(case.file(form, "mnn"))]
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "compactir"])
        if not case.file(form, "mnn").exists():
            raise RuntimeError("mnnconvert cannot convert it")

    def bring(self) -> None:
        """Import it."""
        import MNN.expr
        import MNN.nn  # noqa: F401  # the import is what is timed

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The module."""
        import MNN

        settings = {"backend": "CPU", "precision": "high", "memory": "high", "numThread": threads}
        names = [[t.name for t in side] for side in (case.inputs, case.outputs)]
        manager = MNN.nn.create_runtime_manager((settings,))
        module = MNN.nn.load_module_from_file(str(case.file(form, "mnn")), *names, runtime_manager=manager)
        return _Session(module, manager, case)


class _Session:
    def __init__(self, module: Any, manager: Any, case: Case) -> None:
        from MNN import expr

        self._module, self._manager = module, manager
        self._arrays = case.arrays()
        self._inputs = [expr.placeholder(list(array.shape), expr.NCHW) for array in self._arrays]
        self._outputs: list[Array] = []
        self._shapes = [t.shape for t in case.outputs]

    def run(self) -> None:
        for variable, array in zip(self._inputs, self._arrays, strict=True):
            variable.write(array)  # what was written last time belongs to the engine now
        self._outputs = [variable.read() for variable in self._module.forward(self._inputs)]

    def results(self) -> list[Array]:
        return [array.reshape(shape) for array, shape in zip(self._outputs, self._shapes, strict=True)]

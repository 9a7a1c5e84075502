"""PyTorch: our emitted module, traced, frozen, with oneDNN's graph fusions where they work."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from compactir.tools.bench.engines.base import Engine, Session

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case


class Torch(Engine):
    """On oneDNN. `torch.compile` was behind this on compact networks, and needs a C++ compiler."""

    name = "torch"
    packages = ("torch",)
    modules = ("torch",)
    held: ClassVar = {"avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
    settings = "TorchScript, frozen, oneDNN graph fusion (without, where that fails), inference mode"

    def convert(self, case: Case, form: str) -> None:
        """Trace the emitted module."""
        import torch

        from compactir.codegen.torch import emit_torch, load_torch

        jit: Any = torch.jit  # without types

        graph = case.graph(form)
        module = load_torch(emit_torch(graph), graph)
        inputs = tuple(torch.from_numpy(array) for array in case.arrays())
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # TorchScript is called deprecated, and traces mention constants
            traced = jit.trace(module, inputs, check_trace=False)
            jit.save(jit.freeze(traced), str(case.file(form, "pt")))
            if _can_fuse(jit, case, form, inputs):
                case.file(form, "fusible").touch()

    def bring(self) -> None:
        """Import it."""
        import torch  # noqa: F401  # the import is what is timed

    def beyond(self, session: Session, isa: str) -> str:
        """What ATen's own kernels use; oneDNN obeys the same kind of variable and does not say."""
        import torch

        used: str = torch.backends.cpu.get_cpu_capability()
        return used if isa == "avx2" and "512" in used else ""

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The script; it compiles itself in its first two runs."""
        import torch

        jit: Any = torch.jit
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        jit.enable_onednn_fusion(case.file(form, "fusible").exists())
        return _Session(jit.load(str(case.file(form, "pt"))), case)


def _can_fuse(jit: Any, case: Case, form: str, inputs: tuple[Any, ...]) -> bool:
    """Whether oneDNN's fusions take the network: they are decided in the second run, and fail on some."""
    jit.enable_onednn_fusion(True)
    module = jit.load(str(case.file(form, "pt")))
    try:
        for _ in range(3):
            module(*inputs)
    except RuntimeError:
        return False
    return True


class _Session:
    def __init__(self, module: Any, case: Case) -> None:
        import torch

        self._module = module
        self._names = [t.name for t in case.outputs]
        self._inputs = [torch.from_numpy(array) for array in case.arrays()]
        self._outputs: Any = None
        self._mode = torch.inference_mode

    def run(self) -> None:
        with self._mode():
            self._outputs = self._module(*self._inputs)

    def results(self) -> list[Array]:
        made = self._outputs
        if isinstance(made, dict):
            made = [made[name] for name in self._names]
        made = made if isinstance(made, list | tuple) else [made]
        return [tensor.numpy() for tensor in made]

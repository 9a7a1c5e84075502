"""compactir: `load` a compiled folder, call it on arrays bound once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compactir import __version__
from compactir.tools.bench import case as cases
from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.runtime.module import Module
    from compactir.tools.bench.case import Case


class Ours(Engine):
    """Our library, compiled for as many threads as the others get."""

    name = "compactir"
    settings = "inputs and outputs bound once"
    forms = False

    def version(self) -> str:
        """Ours."""
        return __version__

    def library_bytes(self, case: Case) -> int:
        """The shared library; without the weights, as for the engines."""
        from compactir.runtime.manifest import read_manifest

        folder = case.folder / cases.OURS
        manifest = read_manifest(folder)
        inline = 0 if manifest.weights else manifest.weights_bytes
        return (folder / str(manifest.library)).stat().st_size - inline

    def bring(self) -> None:
        """What `compactir.load` needs."""
        import compactir.runtime.module  # noqa: F401  # the import is what is timed

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The module of the case's folder."""
        from compactir.runtime.module import load

        return _Session(load(case.folder / cases.OURS), case)


class _Session:
    def __init__(self, module: Module, case: Case) -> None:
        self._outputs = case.empty_outputs()
        out = self._outputs if len(self._outputs) > 1 else self._outputs[0]
        self.run = module.bind(*case.arrays(), out=out)

    def results(self) -> list[Array]:
        return self._outputs

"""ncnn: converted by pnnx without its default of half precision; one extractor per run, as its API wants."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case

_SIXTEEN_BITS = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_storage",
    "use_bf16_packed",
)


class Ncnn(Engine):
    """Tencent's, for phones; its x86 kernels have AVX-512."""

    name = "ncnn"
    packages = ("ncnn", "pnnx")
    modules = ("ncnn", "pnnx")
    settings = "converted with fp16=0; no 16-bit packing, storage or arithmetic"

    def unfit(self, case: Case) -> str:
        """It knows no batches."""
        batched = any(t.shape[0] != 1 for t in (*case.inputs, *case.outputs))
        return "it runs one image at a time" if batched else ""

    def convert(self, case: Case, form: str) -> None:
        """ONNX → .param and .bin, by the program that the package pnnx brings."""
        program = shutil.which("pnnx", path=str(Path(sys.executable).parent)) or "pnnx"
        shapes = ",".join(str(list(t.shape)).replace(" ", "") for t in case.inputs)
        onnx = case.file(form, "onnx")
        command = [program, onnx.name, "fp16=0", f"inputshape={shapes}"]
        done = subprocess.run(command, cwd=onnx.parent, capture_output=True, text=True, errors="replace")
        if done.returncode or not case.file(form, "ncnn.param").exists():
            raise RuntimeError(f"pnnx cannot convert it: {_last_line(done.stderr or done.stdout)}")
        foreign = sorted({line.split()[0] for line in _lines(case, form) if line.startswith("pnnx.")})
        if foreign:
            raise RuntimeError(f"pnnx leaves {', '.join(foreign)} unconverted")

    def bring(self) -> None:
        """Import it."""
        import ncnn  # noqa: F401  # the import is what is timed

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The net with its weights packed."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        for option in _SIXTEEN_BITS:
            setattr(net.opt, option, False)
        for load, ending in ((net.load_param, "ncnn.param"), (net.load_model, "ncnn.bin")):
            if load(str(case.file(form, ending))):
                raise RuntimeError("ncnn cannot load what pnnx made")
        return _Session(net, case)


class _Session:
    def __init__(self, net: Any, case: Case) -> None:
        import ncnn

        self._net = net
        self._arrays = [np.ascontiguousarray(array[0]) for array in case.arrays()]
        self._inputs = [(f"in{i}", ncnn.Mat(array)) for i, array in enumerate(self._arrays)]
        self._outputs = case.empty_outputs()
        self._names = [(f"out{i}", array) for i, array in enumerate(self._outputs)]

    def run(self) -> None:
        with self._net.create_extractor() as extractor:
            for name, mat in self._inputs:
                extractor.input(name, mat)
            for name, array in self._names:
                status, mat = extractor.extract(name)
                if status:
                    raise RuntimeError(f"ncnn cannot run it: error {status}")
                array[0] = mat.numpy().reshape(array.shape[1:])

    def results(self) -> list[Array]:
        return self._outputs


def _lines(case: Case, form: str) -> list[str]:
    return case.file(form, "ncnn.param").read_text(encoding="utf-8").splitlines()


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it says nothing")

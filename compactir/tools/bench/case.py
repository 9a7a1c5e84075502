"""What is compared: a folder with the network in every form that engines read, inputs, what has to come out.

Engines run in processes of their own, which know nothing but this folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from compactir.ir.graph import Graph
    from compactir.ir.types import Array

__all__ = ["OURS", "Case", "Tensor", "write_case"]

OURS = "module"
"""The folder of our compiled module, inside the case's."""

_FILE = "case.json"
_INPUTS, _EXPECTED = "inputs.npz", "expected.npz"


@dataclass(frozen=True)
class Tensor:
    """An input or an output: dense float32, channels first."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One comparison. `forms` are file stems: `FORM.onnx`, and `FORM.cir` with `FORM.safetensors`."""

    folder: Path
    network: str
    target: str
    macs: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    forms: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Case:
        """The case that `write_case` put there."""
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        for side in ("inputs", "outputs"):
            data[side] = tuple(Tensor(t["name"], tuple(t["shape"])) for t in data[side])
        return cls(folder, **data | {"forms": tuple(data["forms"])})

    def file(self, form: str, ending: str) -> Path:
        """A file of one form: `case.file("written", "onnx")`."""
        return self.folder / f"{form}.{ending}"

    def arrays(self) -> list[Array]:
        """The inputs, in order."""
        with np.load(self.folder / _INPUTS) as stored:
            return [stored[t.name] for t in self.inputs]

    def expected(self) -> list[Array]:
        """What the reference makes of them, in order."""
        with np.load(self.folder / _EXPECTED) as stored:
            return [stored[t.name] for t in self.outputs]

    def empty_outputs(self) -> list[Array]:
        """Arrays for an engine to write to. NaN, so that one that is left alone is noticed."""
        return [np.full(t.shape, np.nan, np.float32) for t in self.outputs]

    def graph(self, form: str) -> Graph:
        """One form as a graph with its weights."""
        from compactir.driver import Source, read

        weights = self.file(form, "safetensors")
        return read(Source(self.file(form, "cir"), weights=weights if weights.exists() else None)).graph


def write_case(
    folder: Path, target: str, authored: Graph, forms: Mapping[str, Graph], seed: int = 0, onnx: bool = True
) -> Case:
    """Prepare a folder: the forms on disk, seeded inputs, what the reference makes of them.

    Args:
        folder: an empty folder.
        target: what ours is compiled for.
        authored: the network as written: the judge's.
        forms: graphs that compute the same.
        seed: of the inputs.
        onnx: whether an engine reads ONNX. Errors: CIR605 without the package onnx.
    """
    from compactir import reference

    inputs = reference.random_inputs(authored, seed)
    expected = reference.run(authored, inputs)
    for form, graph in forms.items():
        _write_form(folder, form, graph, onnx)
    _save(folder / _INPUTS, inputs)
    _save(folder / _EXPECTED, expected)
    case = Case(
        folder,
        authored.name,
        target,
        authored.macs,
        inputs=_tensors(inputs),
        outputs=_tensors(expected),
        forms=tuple(forms),
    )
    data = {key: value for key, value in asdict(case).items() if key != "folder"}
    (folder / _FILE).write_text(json.dumps(data), encoding="utf-8")
    return case


def _write_form(folder: Path, form: str, graph: Graph, onnx: bool) -> None:
    from compactir.ir.text import print_graph
    from compactir.weights.safetensors import write_safetensors

    (folder / f"{form}.cir").write_text(print_graph(graph), encoding="utf-8")
    write_safetensors(folder / f"{form}.safetensors", graph.weights)
    if onnx:
        from compactir.codegen.onnx import export_onnx

        (folder / f"{form}.onnx").write_bytes(export_onnx(graph).SerializeToString())


def _tensors(arrays: Mapping[str, Array]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, array.shape) for name, array in arrays.items())


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    named: dict[str, Any] = dict(arrays)
    np.savez(path, **named)


def save_results(path: Path, case: Case, arrays: Sequence[Array]) -> None:
    """What an engine computed, for the judge."""
    _save(path, {t.name: np.asarray(a) for t, a in zip(case.outputs, arrays, strict=True)})


def read_results(path: Path, case: Case) -> list[Array]:
    """The counterpart of `save_results`."""
    with np.load(path) as stored:
        return [stored[t.name] for t in case.outputs]

"""The graph as authored: a model file, its weights bound to it, and where both come from.

read(Source("model.arch"))        the graph with its weights                       → Authored
read_graph(source)                the graph alone
bind(graph, weights)              its weights, and what the manifest says of them
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactir.diagnostics import CompactError, Span, remember_source, spell_list
from compactir.ir.graph import Graph

if TYPE_CHECKING:
    from compactir.frontends.onnx.model import Model
    from compactir.weights.stored import Stored

__all__ = ["Authored", "Source", "bind", "read", "read_graph", "spell"]

_log = logging.getLogger("compactir")


@dataclass(frozen=True)
class Source:
    """Which graph is meant. `defines` are `-D` values as written."""

    model: str | Path | Graph
    defines: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    batch: int = 1
    weights: str | Path | None = None
    seed: int | None = None
    map: str | Path | None = None
    """How names of the weights file become ours: "auto", or a file of patterns."""

    def __post_init__(self) -> None:
        """Errors, for what no file can make right: CIR641, CIR660, CIR661."""
        if self.seed is not None and self.weights is not None:
            raise CompactError(
                "CIR661", "the weights are given twice: by a file and by a seed", help="leave one of them out"
            )
        if self.seed is not None and self.map is not None:
            raise CompactError(
                "CIR661",
                "`--map` says how to read a weights file, and `--init` draws the weights",
                help="leave one of them out",
            )
        if self.weights is not None:
            from compactir.weights.load import check_ending

            check_ending(Path(self.weights), _MORE_WEIGHTS)
        _check_fixed(self)


def _check_fixed(source: Source) -> None:
    """Errors: CIR660 for an option that says what the model file has fixed already."""
    ending = "" if isinstance(source.model, Graph) else Path(source.model).suffix
    if ending == ".cir":
        fixed = {"-D": source.defines, "--batch": source.batch != 1, "--network": source.network}
        if given := next((flag for flag, value in fixed.items() if value), None):
            raise CompactError(
                "CIR660",
                f"`{given}` does not apply to `{source.model}`",
                notes=["a .cir file holds one graph, with all its shapes"],
                help=f"give it where the .arch file is compiled: `compactc MODEL.arch {given} … --emit ir`",
            )
    if ending == ".onnx":
        if source.network:
            raise CompactError(
                "CIR660",
                f"`--network` does not apply to `{source.model}`",
                notes=["an .onnx file holds one network"],
                help="leave it out",
            )
        if odd := [name for name, value in source.defines.items() if not value.isdecimal()]:
            raise CompactError(
                "CIR660",
                f"`-D {odd[0]}={source.defines[odd[0]]}` does not apply to `{source.model}`",
                notes=["of an .onnx file, `-D` gives open extents of inputs"],
                help=f"give a whole number: `-D {odd[0]}=224`",
            )


@dataclass(frozen=True)
class Authored:
    """The graph before any pass, its weights bound, and where they come from: the manifest's `init`."""

    graph: Graph
    init: Mapping[str, Any]


def read(source: Source, *, warn: bool = True, stand_in: bool = False) -> Authored:
    """Read a model and bind its weights.

    Args:
        source: what to read, and with what.
        warn: of random weights.
        stand_in: random numbers in place of arrays that passes computed and that are not there: for verbs
            that look at the graph, not at numbers.

    Errors: rooms 1xx and 2xx, CIR660, those of weights files.
    """
    graph = read_graph(source)
    if source.weights is None and source.seed is None and _has_weights(graph):
        if source.map is not None:
            raise CompactError(
                "CIR661",
                "`--map` says how to read a weights file, and the model has its weights in it",
                help="name another file: `--weights FILE`",
            )
        return Authored(graph, _own_weights(source))
    return Authored(
        graph, bind(graph, source.weights, source.seed, map=source.map, warn=warn, stand_in=stand_in)
    )


def _has_weights(graph: Graph) -> bool:
    """True for an imported network, whose weights came with it."""
    return bool(graph.params) and graph.weights.keys() >= graph.params.keys()


def _own_weights(source: Source) -> dict[str, Any]:
    """Where the weights of an imported network come from: the manifest's `init`."""
    if isinstance(source.model, Graph):
        return {"weights": "graph"}
    return {"weights": "file", "file": Path(source.model).name, "sha256": _sha256(Path(source.model))}


def read_graph(source: Source) -> Graph:
    """The graph; without weights, unless they come with it (ONNX)."""
    if isinstance(source.model, Graph):
        return source.model.clone()
    path = Path(source.model)
    if path.suffix == ".cir":
        return _read_cir(path)
    if path.suffix == ".onnx":
        return _read_onnx(path, source)
    from compactir.lang import elaborate, parse_file

    graph = elaborate(parse_file(path), defines=source.defines, batch=source.batch, network=source.network)
    _shorten_places(graph, path.parent)
    return graph


def _shorten_places(graph: Graph, folder: Path) -> None:
    """Name source files as seen from the model: what is generated must not depend on where that lies."""
    shorter: dict[str, str] = {}

    def short(span: Span | None) -> Span | None:
        if span is None or span.file.startswith("std/"):
            return span
        if span.file not in shorter:
            shorter[span.file] = name = Path(os.path.relpath(span.file, folder)).as_posix()
            with suppress(OSError, UnicodeDecodeError):
                remember_source(name, Path(span.file).read_text(encoding="utf-8"))
        return replace(span, file=shorter[span.file])

    for node in graph.nodes:
        node.span = short(node.span)
    graph.scopes = {path: replace(scope, span=short(scope.span)) for path, scope in graph.scopes.items()}


def _read_onnx(path: Path, source: Source) -> Graph:
    from compactir.frontends.onnx import read

    return read(path, dims={name: int(value) for name, value in source.defines.items()}, batch=source.batch)


def _read_cir(path: Path) -> Graph:
    import compactir.ops  # noqa: F401  # makes the operations known
    from compactir.ir.text import parse_graph
    from compactir.ir.verify import verify
    from compactir.lang.source import read_text

    graph = parse_graph(read_text(path, limit=None), str(path))
    if graph.weights_file is not None:
        graph.weights_file = str(path.parent / graph.weights_file)
    verify(graph)
    return graph


def bind(
    graph: Graph,
    weights: str | Path | None = None,
    seed: int | None = None,
    *,
    map: str | Path | None = None,
    warn: bool = True,
    stand_in: bool = False,
) -> dict[str, Any]:
    """Give a graph its weights: from the file, else from the one it names, else random with a warning.

    The graph names the file that they are from, where their names there are its own.

    Errors: CIR661 for a `map` without a file; those of `load_weights`.
    """
    from compactir.weights.init import draw
    from compactir.weights.load import load_weights

    if map is not None and not (weights or graph.weights_file):
        raise CompactError(
            "CIR661",
            "`--map` says how to read a weights file, and there is none",
            help="name it: `--weights FILE`",
        )
    if seed is None and (file := weights or graph.weights_file):
        notes: list[str] = []
        try:
            graph.weights = load_weights(graph, Path(file), notes, map, _MORE_WEIGHTS, _MODELS)
        except CompactError as error:
            error.at(None if weights is not None else graph.weights_span)
            raise
        for note in notes:
            _log.info("%s", note)
        graph.weights_file = str(file) if map is None else None
        return {"weights": "file", "file": Path(file).name, "sha256": _sha256(Path(file))}
    if seed is None and graph.params and warn:
        warnings.warn(
            f"`{graph.name}` names no weights: they are random (seed 0); `--weights FILE` binds trained ones",
            stacklevel=2,
        )
    graph.weights, graph.weights_file = draw(graph, seed or 0, stand_in=stand_in), None
    return {"weights": "random", "seed": seed or 0}


def _onnx_constants(path: Path, notes: list[str]) -> dict[str, Stored]:
    """The weights of an ONNX model by their names there, without its operators."""
    import numpy as np

    from compactir.frontends.onnx.model import load_model
    from compactir.weights.stored import Stored

    model = load_model(path)
    constants = model.constants
    kinds = {name: a.dtype.name for name, a in constants.items() if a.ndim}
    tensors = {
        name: constants[name].astype(np.float32) if kind == "bfloat16" else constants[name]
        for name, kind in kinds.items()
        if kind == "bfloat16" or constants[name].dtype.kind == "f"
    }
    if others := len(constants) - len(tensors):
        notes.append(
            f"{others} constants of {path.name} that are numbers or lists of whole ones play no part"
        )
    if turned := [name for name in _by_inputs(model) if name in tensors and tensors[name].ndim == 2]:
        tensors |= {name: np.ascontiguousarray(tensors[name].T) for name in turned}
        listed = spell_list([f"`{name}`" for name in turned], limit=4)
        notes.append(f"{listed}: rows are inputs in {path.name} (MatMul, Gemm), they become columns")
    return {name: Stored(kinds[name], array) for name, array in tensors.items()}


def _by_inputs(model: Model) -> list[str]:
    """Constants that hold a linear layer as (inputs, outputs): all that read them multiply from the right."""
    right, otherwise = dict[str, None](), set[str]()
    for node in model.nodes:
        product = node.op == "MatMul" or (node.op == "Gemm" and not node.attributes.get("transB", 0))
        for i, name in enumerate(node.inputs):
            if product and i == 1:
                right[name] = None
            else:
                otherwise.add(name)
    return [name for name in right if name not in otherwise]


def _onnx_model(path: Path) -> Graph:
    """The graph of an ONNX model; extents that it leaves open are taken as they come."""
    from compactir.frontends.onnx import read

    return read(path)


_MORE_WEIGHTS = {".onnx": _onnx_constants}
"""Files of weights that the frontends read: ending → reader."""
_MODELS = {".onnx": _onnx_model}
"""Files of weights that are whole models: ending → reader."""


def spell(value: object) -> str:
    """A Python value as `-D` spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

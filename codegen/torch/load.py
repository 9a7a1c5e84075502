"""An emitted file as a live module with the graph's weights in it."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph

if TYPE_CHECKING:
    from torch import nn

_SERIAL = count(1)


def load_torch(source: str | Path, graph: Graph) -> nn.Module:
    """The network of an emitted file, in evaluation mode, with the weights of the graph.

    Args:
        source: what `emit_torch` returned, or the path of a file that holds it.
        graph: the graph it was emitted from; its weights are copied, every name must be there on both sides.

    Errors: CIR601 (the graph has no weights), CIR605 (no PyTorch), CIR606 (names or shapes differ).
    """
    torch = _torch()
    missing = [name for name in graph.params if name not in graph.weights]
    if missing:
        names = ", ".join(missing[:4])
        raise CompactError(
            "CIR601", f"`{graph.name}` has no weights for {names}", help="bind or draw them first"
        )
    file = _run(source)
    network: nn.Module = getattr(file, file.__all__[0])()
    state = {name: torch.from_numpy(np.array(graph.weights[name], np.float32)) for name in graph.params}
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as problem:
        raise CompactError(
            "CIR606",
            f"the module does not take the weights of `{graph.name}`",
            notes=[line.strip() for line in str(problem).splitlines()[1:5]],
            help="emit the module again from this graph",
        ) from None
    return network.eval()


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise CompactError(
            "CIR605", "PyTorch is not installed", help='install it with `pip install "compactir[torch]"`'
        ) from None
    return torch


def _run(source: str | Path) -> Any:
    """Import the file under a name of its own; a text goes through a file, so that tracebacks show it."""
    if isinstance(source, Path):
        return _import(source)
    with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
        path = Path(folder) / "network.py"
        path.write_text(source, encoding="utf-8")
        module = _import(path)
        linecache.cache[str(path)] = (len(source), None, source.splitlines(keepends=True), str(path))
    return module


def _import(path: Path) -> Any:
    name = f"compactir_emitted_{next(_SERIAL)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CompactError(
            "CIR606", f"`{path}` is not a Python file", help="give the path of an emitted `.py` file"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling a module class needs it
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = bytecode
    return module

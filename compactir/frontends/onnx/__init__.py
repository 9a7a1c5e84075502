"""ONNX in: `read` makes a Graph of an .onnx file, raised to layers, with its weights.

model.py         the file: parsed within bounds, every claim checked, constants as arrays
reader.py        nodes in order, constants folded, problems listed at once
operators/       one function per operator
definitions.py   operators that ONNX defines by others
backend.py       the same for ONNX's own test suite
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from compactir.frontends.onnx.model import load_model
from compactir.frontends.onnx.reader import imported, read_model
from compactir.ir.graph import Graph
from compactir.weights.load import need_sound

__all__ = ["read"]

_log = logging.getLogger("compactir")


def read(path: str | Path, *, dims: Mapping[str, int] | None = None, batch: int = 1) -> Graph:
    """The network of an .onnx file: layers with our names for what ONNX spells out, weights bound.

    Args:
        path: the file; constants may lie in files beside it.
        dims: open extents of inputs by name.
        batch: the first extent of every input, where that is open.

    Names are those of nodes (of the weight, where it has one, without its `.weight`) as identifiers. Float16,
    bfloat16 and float64 constants become float32, which the log says. Quantized networks are read as the
    float networks that they approximate: see `operators/quantized.py`.

    Warns: CIR638, a quantized network, whose rounding is left out.

    Errors: CIR605 (onnx is missing), CIR630 to CIR635, CIR643 (weights that are NaN).
    """
    path = Path(path)
    reader = read_model(load_model(path), path.name, dims=dims, batch=batch)
    for kind, many in sorted(reader.converted.items()):
        how = "rounded to float32" if kind == "float64" else "widened to float32, exactly"
        _log.info("%s: %d constant%s: %s, %s", path.name, many, "s" if many > 1 else "", kind, how)
    if reader.steps:
        _log.warning("%s: %s", "CIR638", _unrounded(path.name, reader.steps))
    graph = imported(reader)
    need_sound(graph, path.name)
    return graph


def _unrounded(file: str, steps: Sequence[float]) -> str:
    """What is different from the quantized network."""
    places = "1 place" if len(steps) == 1 else f"{len(steps)} places"
    low, high = min(steps), max(steps)
    half = f"{low / 2:.3g}" if low == high else f"{low / 2:.3g} to {high / 2:.3g}"
    return (
        f"{file} is quantized; it is read as the float network behind it: in {places} values are clamped to "
        f"the range of the integers, and not rounded. Each rounding would change them by up to half a step "
        f"({half}); results differ by what follows from that"
    )

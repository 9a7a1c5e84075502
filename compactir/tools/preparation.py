"""Inputs from a folder, and what is usually wrong with them: range, order of colors, layout.

A folder holds `NAME.npy` per case, or `NAME.npz` with an array per input. Beside a case may lie
`NAME.expected.npy` (or `.npz`, an array per output): what another program made of it. Where that differs from
what the network makes of it, the network is asked about the same image prepared otherwise: if one of these
answers is the expected one, the network is right and the preparation differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compactir.diagnostics import CompactError, spell_list
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.tools.arrays import load_arrays

__all__ = ["PREPARATIONS", "Case", "doubts", "files_of", "read_cases"]

_EXPECTED = ".expected"


@dataclass(frozen=True)
class Case:
    """Inputs from a file, and what is expected of them, if that is known."""

    name: str
    inputs: dict[str, Array]
    expected: dict[str, Array]


def files_of(folder: Path) -> list[Path]:
    """The arrays in a folder, cases and expectations. Errors: CIR666 where there is no case."""
    files = sorted(p for p in folder.glob("*.np[yz]")) if folder.is_dir() else []
    if all(p.stem.endswith(_EXPECTED) for p in files):
        what = "holds no .npy or .npz file" if folder.is_dir() else "is not a folder"
        raise CompactError("CIR666", f"`{folder}` {what}", help="`--inputs` names a folder of input arrays")
    return files


def read_cases(folder: Path, graph: Graph) -> list[Case]:
    """Every case of a folder, as float32 arrays with the batch in front.

    Errors: CIR666 where there is none, or one cannot be read; CIR667 for another shape.
    """
    files = files_of(folder)
    cases = [p for p in files if not p.stem.endswith(_EXPECTED)]
    shapes = {v.name: v.type.shape for v in graph.inputs}
    answers = {name: v.type.shape for name, v in graph.outputs.items()}
    result = []
    for path in cases:
        inputs = _read(path, shapes)
        other = [p for p in files if p.stem == f"{path.stem}{_EXPECTED}"]
        result.append(Case(path.stem, inputs, _read(other[0], answers) if other else {}))
    return result


def _read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The arrays of a file for these names. Errors: CIR666, CIR667."""
    found = load_arrays(path)
    if "" in found:
        found = {next(iter(shapes)): found[""]}
    if set(found) != set(shapes):
        raise CompactError(
            "CIR667",
            f"`{path}` holds {spell_list([f'`{n}`' for n in found])}",
            help=f"it should hold {spell_list([f'`{n}`' for n in shapes])}: an .npz file with these names",
        )
    return {name: _fitted(found[name], shapes[name], path) for name in shapes}


def _fitted(array: Array, shape: tuple[int, ...], path: Path) -> Array:
    if array.shape == shape[1:] and shape[0] == 1:
        array = array[None]
    if array.shape != shape:
        laid = _moved(array if array.ndim == len(shape) else array[None], -1, 1)
        swapped = laid is not None and laid.shape == shape
        raise CompactError(
            "CIR667",
            f"`{path}` holds shape {list(array.shape)}, the network wants {list(shape)}",
            notes=["with its last axis moved to the front it would fit: channels come first here"]
            if swapped
            else [],
            help="`array.transpose(2, 0, 1)` puts channels first" if swapped else "save it with that shape",
        )
    if array.dtype.kind not in "fiub":
        raise CompactError("CIR667", f"`{path}` holds {array.dtype}, not numbers", help="save it as float32")
    return np.ascontiguousarray(array, np.float32)


def _moved(array: Array, source: int, target: int) -> Array | None:
    return np.moveaxis(array, source, target) if array.ndim == 4 else None


def doubts(case: Case) -> list[str]:
    """What looks wrong with the inputs of a case by themselves."""
    found = []
    for name, array in case.inputs.items():
        if (
            array.ndim == 4
            and array.size
            and np.isfinite(array).all()
            and array.max() > 16
            and array.min() >= 0
        ):
            found.append(
                f"`{case.name}`: `{name}` reaches from {array.min():.4g} to {array.max():.4g}; "
                "most networks want 0…1, or mean 0 and deviation 1"
            )
        if not np.isfinite(array).all():
            found.append(f"`{case.name}`: `{name}` holds NaN or infinities")
    return found


def _layout(x: Array) -> Array | None:
    """The map as if its memory were (H, W, C)."""
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, h, w, c).transpose(0, 3, 1, 2)) if c > 1 else None


_MEAN, _DEVIATION = (
    np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
)

PREPARATIONS: Mapping[str, Callable[[Array], Array | None]] = {
    "in the range 0…1 instead of 0…255 (divide by 255)": lambda x: x / np.float32(255),
    "in the range 0…255 instead of 0…1 (multiply by 255)": lambda x: x * np.float32(255),
    "in the range -1…1 instead of 0…1 (2·x - 1)": lambda x: 2 * x - 1,
    "in the range -1…1 instead of 0…255 (x / 127.5 - 1)": lambda x: x / np.float32(127.5) - 1,
    "with the colors in the other order (BGR and RGB)": lambda x: x[:, ::-1] if x.shape[1] == 3 else None,
    "with channels last in memory (NHWC; transpose, do not reshape)": _layout,
    "normalised by ImageNet's mean and deviation": lambda x: (
        (x - _MEAN) / _DEVIATION if x.shape[1] == 3 else None
    ),
    "normalised by ImageNet's mean and deviation, after division by 255": lambda x: (
        (x / np.float32(255) - _MEAN) / _DEVIATION if x.shape[1] == 3 else None
    ),
}
"""How expected outputs may have been made: words, and what it does to a map (None: makes no sense)."""

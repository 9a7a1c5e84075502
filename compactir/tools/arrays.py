"""Arrays from .npy and .npz files, with our own words about what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.types import Array

__all__ = ["ENDINGS", "load_arrays"]

ENDINGS = (".npy", ".npz")
_MAGIC = (b"\x93NUMPY", b"PK")


def load_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a file by name; that of a .npy file is called "". Errors: CIR666."""
    try:
        with path.open("rb") as file:
            start = file.read(6)
        if not start.startswith(_MAGIC):
            raise ValueError(f"it begins with {start!r}, no NumPy file does" if start else "it is empty")
        loaded: Any = np.load(path, allow_pickle=False)
        return {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else {"": loaded}
    except Exception as error:  # a damaged archive raises what its decompressor likes
        raise CompactError(
            "CIR666",
            f"`{path}` cannot be read as an array",
            notes=[_reason(error)],
            help="write it with `np.save`; arrays of Python objects are refused",
        ) from None


def _reason(error: Exception) -> str:
    """What NumPy says, without its advice to trust the file."""
    if "allow_pickle" in str(error):
        return "it holds Python objects: reading them executes code"
    return (str(error) or type(error).__name__).splitlines()[0]

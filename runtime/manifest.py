"""manifest.json of an output folder: what was built, for whom, and what lies where.

The compiler writes it last, so that a folder with a manifest is complete. Unknown keys are kept and ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError, spell_list, spell_nodes
from compactir.ir.signature import signature
from compactir.ir.types import DTYPES
from compactir.targets import target_names

__all__ = ["FILE", "FORMAT", "Buffer", "Manifest", "Step", "Tensor", "read_manifest"]

FORMAT = 1
FILE = "manifest.json"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Tensor:
    """An input or output: `shape` includes the batch; `dtype` is spelled as in the IR (`f32`)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Its element type."""
        return np.dtype(DTYPES[self.dtype])

    @property
    def bytes(self) -> int:
        """Its size, stored densely."""
        return prod(self.shape) * self.numpy_dtype.itemsize


@dataclass(frozen=True)
class Step:
    """One kernel call of the plan."""

    name: str
    kernel: str
    op: str
    macs: int
    bytes_moved: int
    node: str = ""
    where: str = ""
    nodes: tuple[str, ...] = ()
    """All that it runs: of a fused region more than the last one, which names it."""

    @property
    def title(self) -> str:
        """The names of all its nodes, for people."""
        return spell_nodes(self.nodes or (self.name,))


@dataclass(frozen=True)
class Buffer:
    """A stretch of the workspace that a value occupies from step `first` to step `last`, both included."""

    name: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Manifest:
    """What the runtime needs to know about a built network; `raw` is the whole file."""

    network: str
    symbol: str
    target: str
    isa: str
    cpu_features: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    workspace_bytes: int
    weights_bytes: int
    """Size of the packed weights with their 64-byte header: what NAME_bind wants."""
    align: int
    content_id: str
    library: str | None
    """The shared library; None where only C was written."""
    weights: str | None
    """The file of packed weights beside the library; None where the library holds them."""
    source: str = ""
    header: str = ""
    steps: tuple[Step, ...] = ()
    memory: tuple[Buffer, ...] = ()
    threads: int = 1
    """The most that a call runs on."""
    levels: tuple[str, ...] = ()
    """Folders beside it with the same network for better CPUs, best first."""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def ffi(self) -> str:
        """The file with the declarations for cffi."""
        return f"{self.symbol}_ffi.py"

    @property
    def built_by(self) -> str:
        """The version of the compiler that built the library, as that says it; "" where nobody knows."""
        record = self.raw.get("compiler", {})
        return str(record["version"]) if record else ""

    @property
    def signature(self) -> str:
        """What the library says about itself, if this manifest belongs to it."""
        return signature(
            self.cpu_features,
            [(t.name, t.dtype, t.shape) for t in self.inputs],
            [(t.name, t.dtype, t.shape) for t in self.outputs],
            steps=len(self.steps) if self.steps else None,
            workspace_bytes=self.workspace_bytes,
            weights_bytes=self.weights_bytes,
            align=self.align,
        )

    def to_json(self) -> str:
        """The text of the file. `parse_manifest` reads it back."""
        data: dict[str, Any] = {"format": FORMAT, **self.raw}
        for key in _FIELDS:
            data[key] = _plain(getattr(self, key))
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`.

    Raises:
        CompactError: CIR611 when the folder or the file is missing, CIR612 when it is damaged or incomplete,
            CIR613 when a newer compactir wrote it.
    """
    if not folder.is_dir():
        what = "is a file, not an output folder" if folder.exists() else "does not exist"
        raise CompactError("CIR611", f"{folder} {what}", help="give the folder that `compactc -o DIR` wrote")
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CompactError(
            "CIR611",
            f"{folder} holds no {FILE}",
            notes=["it is not an output folder, or writing it was interrupted"],
            help=f"compile the network again: `compactc MODEL.arch -o {folder}`",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(folder, f"it cannot be read: {error}") from error
    return parse_manifest(text, folder)


def parse_manifest(text: str, folder: Path) -> Manifest:
    """The manifest in a text; `folder` is for messages."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, f"it is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise _damaged(folder, "it is not a JSON object")
    _check_format(data, folder)
    _check_fields(data, folder)
    try:
        return _build(data)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"its lists are malformed: {type(error).__name__}: {error}") from error


_FIELDS: dict[str, tuple[type, ...]] = {
    "network": (str,),
    "symbol": (str,),
    "target": (str,),
    "isa": (str,),
    "cpu_features": (list,),
    "inputs": (list,),
    "outputs": (list,),
    "workspace_bytes": (int,),
    "weights_bytes": (int,),
    "align": (int,),
    "content_id": (str,),
    "library": (str, type(None)),
    "weights": (str, type(None)),
    "header": (str,),
    "source": (str,),
    "steps": (list,),
    "memory": (list,),
    "threads": (int,),
    "levels": (list,),
}
"""Keys and their types; the last six may be missing."""
_OPTIONAL = ("header", "source", "steps", "memory", "threads", "levels")


_LEAST = {"threads": 1, "workspace_bytes": 0, "weights_bytes": 0, "align": 1}
"""Keys of numbers and the smallest that makes sense."""


def _check_format(data: Json, folder: Path) -> None:
    number = data.get("format")
    if not isinstance(number, int):
        raise _damaged(folder, "the field `format` is missing")
    if number > FORMAT:
        made_by = data.get("compactir", "a newer version")
        raise CompactError(
            "CIR613",
            f"{folder} was written in format {number}, this compactir reads up to {FORMAT}",
            notes=[f"it was written by compactir {made_by}"],
            help="update compactir, or compile the network again with this version",
        )


def _check_fields(data: Json, folder: Path) -> None:
    missing = [key for key in _FIELDS if key not in data and key not in _OPTIONAL]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise _damaged(folder, f"missing field{plural}: {spell_list([f'`{key}`' for key in missing])}")
    for key, kinds in _FIELDS.items():
        if key in data and not isinstance(data[key], kinds):
            raise _damaged(folder, f"the field `{key}` has the wrong type ({type(data[key]).__name__})")
    if not all(isinstance(word, str) and re.fullmatch(r"[\w.]+", word) for word in data["cpu_features"]):
        raise _damaged(folder, "the field `cpu_features` is not a list of words")
    if not (data["symbol"].isascii() and data["symbol"].isidentifier()):
        raise _damaged(folder, "the field `symbol` is not a C identifier")
    for key in ("files", "object"):
        rows = data.get(key, [])
        if not isinstance(rows, list) or any(not isinstance(row, str) for row in rows):
            raise _damaged(folder, f"the field `{key}` is not a list of names")
    record = data.get("compiler", {})
    if not isinstance(record, dict) or (record and not isinstance(record.get("version"), str)):
        raise _damaged(folder, "the field `compiler` does not say what built the library")
    for key, least in _LEAST.items():
        if data.get(key, least) < least:
            raise _damaged(folder, f"the field `{key}` is {data[key]}")
    if data["target"] not in target_names():
        raise _damaged(
            folder, f"the field `target` is `{data['target']}`, which this compactir does not know"
        )
    for key in ("inputs", "outputs"):
        if not data[key]:
            raise _damaged(folder, f"the field `{key}` is empty")
    for level in data.get("levels", []):
        if not isinstance(level, str) or Path(level).name != level:
            raise _damaged(folder, "the field `levels` is not a list of folders in this one")
    for key in ("library", "weights", "header", "source"):
        if (name := data.get(key)) and Path(name).name != name:
            raise _damaged(folder, f"the field `{key}` names something outside the folder")


def _build(data: Json) -> Manifest:
    plain = {key: data[key] for key in _FIELDS if key in data and not isinstance(data[key], list)}
    for row in (*data.get("steps", ()), *data.get("memory", ())):
        _check_row(row)
    return Manifest(
        **plain,
        cpu_features=tuple(map(str, data["cpu_features"])),
        inputs=_tensors(data["inputs"]),
        outputs=_tensors(data["outputs"]),
        steps=tuple(_pick(Step, row) for row in data.get("steps", ())),
        memory=tuple(_pick(Buffer, row) for row in data.get("memory", ())),
        levels=tuple(data.get("levels", ())),
        raw={key: value for key, value in data.items() if key not in _FIELDS},
    )


_TEXTS = frozenset({"name", "kernel", "op", "node", "where"})
"""Fields of Step and Buffer that are text; what is no list either is a number."""
_LISTS = frozenset({"nodes"})
"""Those that are lists of text."""


def _check_row(row: Json) -> None:
    fields = (Step.__dataclass_fields__ | Buffer.__dataclass_fields__).keys() & row.keys()
    for key in sorted(fields):
        if not isinstance(row[key], list if key in _LISTS else str if key in _TEXTS else int):
            raise TypeError(f"`{key}` is {row[key]!r}")
        if key in _LISTS and not all(isinstance(word, str) for word in row[key]):
            raise TypeError(f"`{key}` is no list of names")


def _tensors(rows: Sequence[Json]) -> tuple[Tensor, ...]:
    tensors = tuple(Tensor(str(r["name"]), r["dtype"], tuple(int(n) for n in r["shape"])) for r in rows)
    if odd := [t.dtype for t in tensors if t.dtype not in DTYPES]:
        raise ValueError(f"unknown element type {odd[0]}")
    if bad := [t for t in tensors if min(t.shape, default=1) < 1]:
        raise ValueError(f"{bad[0]} has no elements")
    return tensors


def _pick(kind: type[Any], row: Json) -> Any:
    """A dataclass from a JSON object: its own fields; others are for other readers."""
    own = {key: row[key] for key in kind.__dataclass_fields__ if key in row}
    return kind(**{key: tuple(value) if key in _LISTS else value for key, value in own.items()})


def _plain(value: Any) -> Any:
    """Tuples and dataclasses as JSON knows them."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    names = getattr(value, "__dataclass_fields__", None)
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}


def _damaged(folder: Path, problem: str) -> CompactError:
    return CompactError(
        "CIR612",
        f"{folder / FILE} is damaged: {problem}",
        help=f"compile the network again: `compactc MODEL.arch -o {folder}`",
    )

"""PyTorch's own files (.pt, .pth, .bin): a pickle, in a zip file or, before PyTorch 1.6, with bytes after it.

A pickle is a program. It is read by PyTorch's restricted reader only; where that refuses, its opcodes are
looked at, never run, to tell a damaged file from one that needs code.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError, spell_list
from compactir.weights.stored import Stored

__all__ = ["read_torch"]

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PLAIN = ("torch", "torch._utils", "torch.storage", "torch.serialization", "collections")
"""The modules whose names stand in every file of tensors."""
_TRUNCATED = "it ends early, or parts of it are missing"


def read_torch(path: Path, notes: list[str]) -> dict[str, Stored]:
    """All tensors of a file, or of the state dictionary in a checkpoint, which `notes` say.

    Raises:
        CompactError: CIR642 when it is damaged or no such file, CIR643 when it holds no state dictionary,
            CIR644 when it needs code, CIR645 without PyTorch.
    """
    try:
        import torch
    except ImportError as error:
        problem = f"{path} is in PyTorch's format, and PyTorch is not installed"
        convert = "`pip install torch`, or convert the file to .safetensors where PyTorch is"
        raise CompactError("CIR645", problem, help=convert) from error
    _check_kind(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # advice on how to write it
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of a damaged pickle it can be any
        raise _refused(path) from error
    return {name: _stored(value) for name, value in _unwrapped(loaded, path, notes).items()}


def _check_kind(path: Path) -> None:
    """Errors: CIR642 for another kind of file, CIR644 for a program."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((_ZIP, _PICKLE)):
        raise _damaged(path, f"it begins with {start!r}, no PyTorch file does" if start else "it is empty")
    if start == _ZIP and any(name.endswith("/constants.pkl") for name in _names_in(path)):
        raise CompactError(
            "CIR644",
            f"{path} is a TorchScript program; reading it would execute code from the file",
            help='save its tensors: `torch.save(torch.jit.load("model.pt").state_dict(), "weights.pt")`',
        )


def _names_in(path: Path) -> list[str]:
    """The members of a zip file. Errors: CIR642."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _damaged(path, _TRUNCATED) from error


def _refused(path: Path) -> CompactError:
    """Why PyTorch does not read it: CIR644 where it names foreign code, else CIR642."""
    try:
        foreign = sorted({name for name in _calls(_pickles(path)) if name.rpartition(".")[0] not in _PLAIN})
    except Exception as broken:  # the opcodes of random bytes fail in many ways
        return _damaged(path, f"its pickle makes no sense: {broken}")
    if not foreign:
        return _damaged(path, _TRUNCATED)
    return CompactError(
        "CIR644",
        f"{path} holds more than tensors; reading it would execute code from the file",
        notes=[f"it calls {spell_list([f'`{name}`' for name in foreign], limit=6)}"],
        help='save tensors only: `torch.save(model.state_dict(), "model.pt")`, or safetensors',
    )


def _pickles(path: Path) -> bytes:
    """The bytes that begin with what was saved."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return archive.read(inside[0]) if inside else b""


def _calls(pickles: bytes) -> Iterator[str]:
    """The classes and functions that pickles name. Raises what `pickletools` does of a damaged one."""
    file = BytesIO(pickles)
    while file.tell() < len(pickles):
        texts, memo = [""], list[str]()
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif opcode.name == "MEMOIZE":
                memo.append(texts[-1])
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                texts += memo[int(argument or 0) :][:1]
            elif isinstance(argument, str):
                texts.append(argument)
        if file.getvalue()[file.tell() : file.tell() + 1] != _PICKLE:
            return  # in a file without zip the tensors' bytes follow


def _unwrapped(loaded: Any, path: Path, notes: list[str]) -> Mapping[str, Any]:
    """The state dictionary in what was saved: itself, or the one inside a checkpoint."""
    if isinstance(loaded, Mapping):
        inner = next((key for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            return {str(name): value for name, value in loaded.items()}
        others = sorted(str(key) for key in loaded if key != inner)
        rest = f"; {spell_list(others)} play no part" if others else ""
        notes.append(f"the weights are those under `{inner}` in {path.name}{rest}")
        return {str(name): value for name, value in loaded[inner].items()}
    what = f"{path} holds a {type(loaded).__name__}, not a state dictionary"
    raise CompactError("CIR643", what, help='save one: `torch.save(model.state_dict(), "model.pt")`')


def _stored(value: Any) -> Stored:
    if not hasattr(value, "detach"):
        return Stored(type(value).__name__, np.empty(0))
    kind = str(value.dtype).removeprefix("torch.")
    plain = value.detach().float() if kind == "bfloat16" else value.detach()
    return Stored(kind, plain.resolve_conj().cpu().numpy())


def _damaged(path: Path, problem: str) -> CompactError:
    return CompactError("CIR642", f"{path} is damaged: {problem}", help="copy it again, or save it again")

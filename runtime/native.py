"""A library of generated code in this process: checked, opened, bound to its weights, called.

Everything is checked before `dlopen`: a library for another CPU is refused, never tried. Nothing here is
freed while a call is under way, because the call holds a reference to all of it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError, spell_list
from compactir.ir.signature import signature_differences
from compactir.ir.types import Array
from compactir.runtime.elf import read_elf
from compactir.runtime.interface import ERRORS
from compactir.runtime.manifest import FILE, Manifest
from compactir.targets import cpu_features, cpu_name, machine

__all__ = ["Native", "check_header", "map_weights"]

_KEPT_WORKSPACES = 8
"""Workspaces kept for the next calls: as many as there were calls at the same time, but not for ever more."""

_HUGE_PAGE = 2 << 20
_MADV_POPULATE_WRITE = 23
"""Linux's number (madvise(2), since 5.14); Python has no name for it."""

_WEIGHTS_MAGIC = b"CIRW"
_CONTENT_ID = slice(24, 40)
"""Where the weights header has the id of the plan and code they were packed for."""


_FUNCTIONS = ("error", "signature", "bind", "inline_weights", "run", "run_steps")


class Native:
    """The functions of one library with its weights. Safe to call from several threads at once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        library = folder / (manifest.library or "")
        _check_library(library)
        _check_cpu(manifest)
        self._map = map_weights(folder, manifest) if manifest.weights else None
        self._ffi, self._lib = _open(folder, library, manifest)
        self._error, signature, bind, inline, self._run, self._run_steps = (
            self._function(f"{manifest.symbol}_{what}") for what in _FUNCTIONS
        )
        self._check_signature(signature)
        if manifest.threads > 1:
            self._run_threads, self._run_steps_threads = (
                self._function(f"{manifest.symbol}_{what}") for what in ("run_threads", "run_steps_threads")
            )
        self._weights = self._bind(bind, self._map or self._inline(inline))
        self._floats = self._ffi.typeof("float[]")
        self._spare: list[Any] = []

    def _check_signature(self, signature: Any) -> None:
        """The manifest's numbers, by which memory is sized, are those of the library. Errors: CIR616."""
        manifest = self._manifest
        taken = len(self._ffi.typeof(self._run).args)
        if taken != len(manifest.inputs) + len(manifest.outputs) + 2:
            raise _mixed(manifest, f"{manifest.ffi} declares `{manifest.symbol}_run` with {taken} arguments")
        found = self._ffi.string(signature()).decode(errors="replace")
        if differences := signature_differences(manifest.signature, found):
            said, compiled = differences
            raise _mixed(manifest, f"{FILE} says `{said}`, the library is compiled for `{compiled}`")

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1) -> None:
        """Run the network on C-contiguous arrays of the declared types."""
        self.runner(inputs, outputs, threads)()

    def runner(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1
    ) -> Callable[[], None]:
        """The same as a function: everything but the workspace is found once."""
        function = self._run_threads if threads > 1 else self._run
        tensors = (self._weights, *self._pointers(inputs), *self._pointers(outputs))
        more = (threads,) if threads > 1 else ()

        def run() -> None:
            workspace = self.workspace()
            status = function(*tensors, workspace, *more)
            self._keep(workspace)
            if status:
                raise self._failed(status)

        return run

    def run_steps(
        self, inputs: Sequence[Array], outputs: Sequence[Array], workspace: Any, first: int, last: int
    ) -> None:
        """Run the steps [first, last) only, in a workspace that keeps what earlier ones left."""
        tensors = (*self._pointers(inputs), *self._pointers(outputs))
        if status := self._run_steps(self._weights, *tensors, workspace, first, last):
            raise self._failed(status)

    def stepper(self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1) -> Any:
        """`f(first, last)` → status, with everything else prepared: what `profile` times."""
        tensors = (*self._pointers(inputs), *self._pointers(outputs))
        weights, workspace = self._weights, self.workspace()
        run_steps = self._run_steps_threads if threads > 1 else self._run_steps
        more = (threads,) if threads > 1 else ()

        def step(first: int, last: int, alive: Native = self) -> int:
            return int(run_steps(weights, *tensors, workspace, first, last, *more))

        return step

    def _pointers(self, arrays: Sequence[Array]) -> list[Any]:
        return [self._ffi.from_buffer(self._floats, array) for array in arrays]

    def workspace(self) -> Any:
        """A spare workspace, or a new one: page-aligned memory, given back when it is dropped."""
        try:
            return self._spare.pop()
        except IndexError:
            return self._ffi.from_buffer(_map(-1, max(self._manifest.workspace_bytes, 1)))

    def memory(self, workspace: Any) -> Array:
        """What a workspace holds, as floats, in place."""
        return np.frombuffer(self._ffi.buffer(workspace), np.float32)

    def _keep(self, workspace: Any) -> None:
        if len(self._spare) < _KEPT_WORKSPACES:
            self._spare.append(workspace)

    def _function(self, name: str) -> Any:
        try:
            return getattr(self._lib, name)
        except (AttributeError, self._ffi.error) as error:
            raise _mixed(self._manifest, f"the library has no function `{name}`") from error

    def _inline(self, inline: Any) -> Any:
        """The weights inside the library, as a buffer."""
        pointer = inline()
        if pointer == self._ffi.NULL:
            raise _mixed(self._manifest, "the library expects a weights file, the manifest names none")
        return self._ffi.buffer(pointer, self._manifest.weights_bytes)

    def _bind(self, bind: Any, data: Any) -> Any:
        """The library's own check of its weights, and the structure its functions want."""
        check_header(data, self._manifest)
        weights = self._ffi.new(f"{self._manifest.symbol}_weights *")
        if status := bind(weights, self._ffi.from_buffer(data), len(data)):
            raise _mixed(self._manifest, f"the library refuses its weights: {self._explain(status)}")
        return weights

    def _explain(self, status: int) -> str:
        said = self._error(status)
        name = ERRORS[status] if 0 <= status < len(ERRORS) else f"error {status}"
        return self._ffi.string(said).decode(errors="replace") if said else name

    def _failed(self, status: int) -> CompactError:
        return CompactError(
            "CIR626",
            f"the network `{self._manifest.network}` reports: {self._explain(status)}",
            help="compile the network again; if it happens again, it is a mistake of compactir: report it",
        )


def _map(file: int, size: int) -> mmap.mmap:
    """A file to be read, or for -1 fresh memory; on Linux with all pages at once (benchmarks/LOG.md)."""
    own = file < 0
    if not hasattr(mmap, "MAP_POPULATE"):
        return mmap.mmap(file, size, access=mmap.ACCESS_DEFAULT if own else mmap.ACCESS_READ)
    if own and size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        return _huge(size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE | (mmap.MAP_ANONYMOUS if own else 0)
    return mmap.mmap(file, size, flags=flags, prot=mmap.PROT_READ | (mmap.PROT_WRITE if own else 0))


def _huge(size: int) -> mmap.mmap:
    """Fresh memory in huge pages, where the system grants them to those that ask.

    A file's pages are not asked for: its system puts as many side by side as it can, and a copy of the
    weights in memory of our own would be slower to load and no faster to read (benchmarks/LOG.md).
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in (mmap.MADV_HUGEPAGE, _MADV_POPULATE_WRITE):
        with suppress(OSError):  # kernels without huge pages, and those before 5.14
            memory.madvise(advice)
    return memory


def map_weights(folder: Path, manifest: Manifest) -> mmap.mmap:
    """The packed weights, mapped read-only; processes that load the same file share its memory.

    Raises:
        CompactError: CIR617 when the file is missing, CIR618 when its size is wrong.
    """
    path = folder / (manifest.weights or "")
    again = f"compile the network again: `compactc MODEL.arch -o {folder}`"
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != manifest.weights_bytes:
                what = "truncated" if size < manifest.weights_bytes else "not the file that was packed"
                problem = f"{path} is {what}: it has {size:,} bytes instead of {manifest.weights_bytes:,}"
                raise CompactError("CIR618", problem, help=f"copy it again, or {again}")
            return _map(file.fileno(), size)
    except OSError as error:
        problem = f"the weights file {path} cannot be opened: {error.strerror}"
        raise CompactError("CIR617", problem, help=f"put it back beside the library, or {again}") from error


def _check_library(library: Path) -> None:
    """Errors: CIR614 without a library, CIR615 for another architecture, CIR616 for a damaged one."""
    again = f"compile the network again: `compactc MODEL.arch -o {library.parent}`"
    try:
        elf = read_elf(library)
    except OSError as error:
        problem = f"the library {library} cannot be opened: {error.strerror}"
        raise CompactError("CIR614", problem, help=again) from error
    if elf and elf.machine != machine():
        raise CompactError(
            "CIR615",
            f"{library.name} is made for {elf.machine}, this machine is {machine()}",
            help="compile it for this machine: `compactc MODEL.arch --target native`",
        )
    if elf and not elf.complete:
        raise CompactError("CIR616", f"{library} is truncated", help=f"copy it again, or {again}")


def _check_cpu(manifest: Manifest) -> None:
    """Errors: CIR615 when this CPU lacks instructions that the library may use."""
    lacking = sorted(set(manifest.cpu_features) - cpu_features()) if manifest.cpu_features else []
    if lacking:
        raise CompactError(
            "CIR615",
            f"`{manifest.network}` is compiled for `{manifest.target}`; this CPU lacks {spell_list(lacking)}",
            notes=[f"this CPU is: {cpu_name()}"],
            help="compile it with `--target native` for this machine, or with `--target c` for any",
        )


def check_header(data: Any, manifest: Manifest) -> None:
    """Errors: CIR619 for a file that holds no weights of ours, or those of another build."""
    where = manifest.weights or "the library"
    if bytes(data[:4]) != _WEIGHTS_MAGIC:
        raise CompactError(
            "CIR619",
            f"{where} does not begin like packed weights",
            notes=[f"its first bytes are {bytes(data[:4])!r}, not {_WEIGHTS_MAGIC!r}"],
            help="put the file back that was written with the library, or compile the network again",
        )
    if (found := bytes(data[_CONTENT_ID]).hex()) != manifest.content_id:
        raise CompactError(
            "CIR619",
            f"the weights in {where} were packed for another network or another target",
            notes=[f"the library wants {manifest.content_id}, the weights are for {found}"],
            help="packed weights belong to one library: copy both from the same output folder",
        )


_opened: dict[str, list[tuple[int, int, int]]] = {}


def _spelling(library: Path) -> str:
    """A path for `dlopen` that is new whenever the file is new.

    glibc compares paths before files: opening `out/libnet.so` again after it was compiled anew would
    silently give the old code. So the n-th version of a file is opened under the n-th spelling of its path
    (`out/./././libnet.so`).
    """
    path = str(library.absolute())
    info = os.stat(path)
    versions = _opened.setdefault(path, [])
    version = (info.st_dev, info.st_ino, info.st_mtime_ns)
    if version not in versions:
        versions.append(version)
    head, tail = os.path.split(path)
    dots = "".join("./" if bit == "1" else ".//" for bit in f"{versions.index(version):b}")
    return f"{head}/{dots}{tail}"


def _open(folder: Path, library: Path, manifest: Manifest) -> tuple[Any, Any]:
    """The ffi object of the declarations, and the library opened with it."""
    path = folder / manifest.ffi
    names: dict[str, Any] = {}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
        ffi = names["ffi"]
    except OSError as error:
        raise _mixed(manifest, f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a damaged file, or one of another cffi, does
        raise _mixed(manifest, f"{path} is damaged: {type(error).__name__}: {error}") from error
    try:
        return ffi, ffi.dlopen(_spelling(library))
    except OSError as error:
        raise CompactError(
            "CIR616",
            f"{library} cannot be loaded",
            notes=[str(error)],
            help="it may be damaged or made for another system: compile the network again on this one",
        ) from error


def _mixed(manifest: Manifest, problem: str) -> CompactError:
    return CompactError(
        "CIR616",
        f"the files of `{manifest.network}` do not belong together: {problem}",
        notes=["the folder may hold files of several builds, or of another version of compactir"],
        help="compile the network again into an empty folder",
    )

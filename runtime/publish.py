"""Putting a module into an output folder: an interrupt leaves the old or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError
from compactir.files import alone_in
from compactir.runtime.interface import ffi_source
from compactir.runtime.manifest import Manifest, read_manifest
from compactir.runtime.package import write_folder

__all__ = ["publish", "undisturbed"]


def publish(folder: Path, manifest: Manifest, files: Mapping[str, str | bytes | Path]) -> Path:
    """Write manifest and files into a folder; returns it. The manifest gets their names and checksums.

    A new folder appears complete, by one rename. In an older one files are replaced one by one, manifest
    last; Ctrl-C waits until that is done, and so does another compilation into the same folder: of two the
    later is there in the end, whole. What an earlier compilation left there is removed.

    Errors: CIR652 when the folder cannot be written.
    """
    files = {**files, manifest.ffi: ffi_source(manifest)}
    sums = {name: _sha256(files[name]) for name in sorted(files)}
    manifest = replace(manifest, raw={**manifest.raw, "files": list(sums), "sha256": sums})
    if not folder.exists() and _appear(folder, manifest, files):
        return folder
    with alone_in(folder), undisturbed():
        stale = _written_before(folder) - set(sums)
        write_folder(folder, manifest, files)
        for name in sorted(stale):
            with suppress(OSError):
                (folder / name).unlink()
                if (folder / name).parent != folder:
                    (folder / name).parent.rmdir()  # where that was the last file in it
    return folder


def _sha256(content: str | bytes | Path) -> str:
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _appear(folder: Path, manifest: Manifest, files: Mapping[str, str | bytes | Path]) -> bool:
    """False where another process was faster: the folder is there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise CompactError(
            "CIR652",
            f"the output folder {folder} cannot be written: {error.strerror or error}",
            help="give another folder with `-o`",
        ) from error
    try:
        write_folder(aside, manifest, files, shown=folder)
        aside.chmod(0o755)
        aside.rename(folder)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the body is done (in the main thread; others never see them)."""
    waiting: list[tuple[int, Any]] = []
    before: dict[int, Any] = {}
    with suppress(ValueError):
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            before[number] = signal.signal(number, lambda *seen: waiting.append(seen))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in waiting[:1]:
            if callable(before[number]):
                before[number](number, frame)


def _written_before(folder: Path) -> set[str]:
    """The module and the dumps of an earlier compilation; PyTorch files stay, people make them their own."""
    try:
        old = read_manifest(folder)
    except CompactError:
        return set()
    symbol = old.symbol
    module = {old.library or "", old.weights or "", old.source, old.header, old.ffi, f"lib{symbol}.a"}
    module |= {f"{symbol}.weights", f"{symbol}_weights.S"}
    below = tuple(f"{folder}/" for folder in ("ir", *old.levels))
    dumps = {name for name in old.raw.get("files", []) if str(name).startswith(below)}
    return {name for name in (module | dumps) - {""} if _is_below(Path(name))}


def _is_below(path: Path) -> bool:
    return not path.is_absolute() and ".." not in path.parts

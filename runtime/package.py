"""The output folder: the library built (or found in the cache), every file in its place, the manifest last.

A folder with a manifest is therefore complete. Where writing into an older folder is interrupted, `load`
finds that library and weights do not belong together and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError
from compactir.runtime.build import (
    FREESTANDING,
    SHARED,
    THREADS,
    Compiler,
    compile_archive,
    compile_library,
    incbin_source,
)
from compactir.runtime.cache import Cache, content_key, open_cache
from compactir.runtime.interface import ffi_source
from compactir.runtime.manifest import FILE, Manifest
from compactir.targets import Target

__all__ = ["EMBEDDED", "build_library", "built_by", "object_sources", "write_folder"]

_RECORD = "compiler.json"
"""Beside a library in the cache: who built it."""

EMBEDDED = "{symbol}_packed"
"""The constant with the packed weights where an assembler file brings them into the library."""


def build_library(
    manifest: Manifest,
    sources: Mapping[str, str],
    target: Target,
    compiler: Compiler,
    *,
    embed: bytes | None = None,
    cache: Cache | None = None,
    archive: bool = False,
) -> Path:
    """The library of generated C, in the cache: `libNAME.so`, or `libNAME.a`.

    Args:
        manifest: gives the library's file name and symbol.
        sources: file name → text; each `.c` is compiled, headers lie beside them.
        target: what to compile for.
        compiler: what to compile with.
        embed: packed weights to put into the library as the constant `EMBEDDED`.
        cache: else the user's.
        archive: the static library instead of the shared one.

    Raises:
        CompactError: CIR511 when the compiler refuses, CIR512 without an archiver, CIR651 when the cache
            cannot be written.
    """
    shared = manifest.library or f"lib{manifest.symbol}.so"
    out, make = (f"lib{manifest.symbol}.a", compile_archive) if archive else (shared, compile_library)
    files: dict[str, str | bytes] = {**sources}
    if embed is not None:
        files |= object_sources(manifest, embed)
    more: tuple[str, ...] = THREADS if manifest.threads > 1 else ()
    more += FREESTANDING if manifest.raw.get("freestanding") else ()
    movable = SHARED[1:] if archive and target.bare else SHARED
    flags = (*target.flags(compiler.family), *movable, *more)
    parts = [part for name in sorted(files) for part in (name, files[name])]
    key = content_key("library", out, *parts, *flags, compiler.identity)

    def build(aside: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="compactir-") as name:
            folder = Path(name)
            try:
                for file, content in files.items():
                    _write(folder / file, content)
            except OSError as error:
                raise CompactError(
                    "CIR674",
                    f"temporary files cannot be written to {folder.parent}: {error.strerror or error}",
                    help="free some space there, or set TMPDIR to another folder",
                ) from error
            inputs = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".S"))
            make(inputs, aside / out, target, compiler, flags=more)
            _write(aside / _RECORD, json.dumps(compiler.record(flags)))

    return (cache or open_cache()).build(key, build) / out


def built_by(library: Path) -> dict[str, Any] | None:
    """The compiler of a library that `build_library` gave, for the manifest; None for any other file."""
    try:
        found: dict[str, Any] = json.loads((library.parent / _RECORD).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found


def object_sources(manifest: Manifest, packed: bytes) -> dict[str, str | bytes]:
    """The assembler file that makes packed weights the constant `EMBEDDED`, and the file it brings in."""
    name, data = f"{manifest.symbol}_weights.S", f"{manifest.symbol}.weights"
    symbol = EMBEDDED.format(symbol=manifest.symbol)
    return {name: incbin_source(symbol, data, manifest.content_id, manifest.align), data: packed}


def write_folder(
    folder: Path,
    manifest: Manifest,
    files: Mapping[str, str | bytes | Path],
    *,
    shown: Path | None = None,
) -> None:
    """Write an output folder; the content of a file is text, bytes or a file to copy, its name may be `ir/x`.

    All files are written beside their places first, so that a full disk changes nothing. Errors call the
    folder `shown`.

    Raises:
        CompactError: CIR652 when the folder cannot be written.
    """
    everything = {manifest.ffi: ffi_source(manifest), **files, FILE: manifest.to_json()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as aside:
            for name, content in everything.items():
                _write(Path(aside) / name, content)
            (folder / FILE).unlink(missing_ok=True)
            for name in everything:  # the manifest is the last of them
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(Path(aside) / name, folder / name)
    except OSError as error:
        problem = f"the output folder {shown or folder} cannot be written: {error.strerror or error}"
        raise CompactError(
            "CIR652", problem, help="free some space, or give another folder with `-o`"
        ) from error


def _write(path: Path, content: str | bytes | Path) -> None:
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")

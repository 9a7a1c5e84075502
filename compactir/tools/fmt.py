"""`compactc fmt`: .arch files in the house's layout; comments stay, meaning stays."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.lang.format import format_text
from compactir.lang.source import read_text
from compactir.tools import terminal

STDIN = "-"


def main(args: Namespace) -> int:
    """Format files in place, or standard input; with --check exit with 1 where something would change."""
    files: list[str] = args.files or [STDIN]
    changed = [file for file in files if _one(file, args.check)]
    if args.check and changed:
        count = f"{len(changed)} file{'s' if len(changed) > 1 else ''} would change"
        terminal.note(f"{count}; `compactc fmt {' '.join(changed)}` does it")
        return 1
    return 0


def _one(file: str, check: bool) -> bool:
    """Format one file; True when its text is not the formatted one."""
    text = _stdin() if file == STDIN else read_text(file)
    name = "<stdin>" if file == STDIN else file
    formatted = format_text(text, name)
    if check:
        print(*_difference(text, formatted, name), sep="", end="")
    elif file == STDIN:
        sys.stdout.write(formatted)
    elif formatted != text:
        replace_text(Path(file), formatted)
        terminal.note(f"formatted {file}")
    return formatted != text


def _stdin() -> str:
    data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CompactError(
            "CIR102", f"standard input is not UTF-8 text: byte 0x{data[error.start]:02x}"
        ) from None


def _difference(old: str, new: str, name: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, f"{name} (formatted)")
    return [line if line.endswith("\n") else line + "\n\\ no newline at the end\n" for line in lines]


def replace_text(path: Path, text: str) -> None:
    """Write a text file aside, keep its permissions, rename it into place; devices and pipes are written to.

    Errors: CIR652.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", newline="")
            return
        path = path.resolve()
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise CompactError("CIR652", f"{path} cannot be written: {error.strerror or error}") from error
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(aside, mode)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise

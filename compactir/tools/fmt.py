"""`compactc fmt`: .arch files in the house's layout; comments stay, meaning stays."""

from __future__ import annotations

import difflib
import sys
from argparse import Namespace
from errno import EBADF
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.files import put
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
        put(Path(file), formatted)
        terminal.note(f"formatted {file}")
    return formatted != text


def _stdin() -> str:
    if sys.stdin is None:
        raise OSError(EBADF, "standard input is closed", "<stdin>")
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

"""What people see: tables on stdout, notes and progress on stderr; and JSON for programs.

rich is imported where something is printed with it, never earlier. Without a terminal there are no colors
and no progress, and tables are as wide as they need to be.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Timer
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

Say = Callable[[str], None]
"""Called with what is being done now: `compiling lenet5.c`."""

PATIENCE_S = 1.0
"""Work that takes longer shows its progress."""

_WIDEST = 200


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """A line for people beside the output, where it can be written."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], footer: Sequence[object] = ()
) -> None:
    """Print a table. Columns that end in `>` are numbers: aligned to the right, with thousands separators."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, show_footer=bool(footer), show_edge=False, pad_edge=False)
    ends = [cell(value) for value in footer] or [""] * len(columns)
    for column, end in zip(columns, ends, strict=True):
        right = column.endswith(">")
        side: Literal["left", "right"] = "right" if right else "left"
        grid.add_column(column.removesuffix(">"), Text(end), justify=side, overflow="fold", no_wrap=right)
    for row in rows:
        grid.add_row(*(Text(cell(value)) for value in row))
    out = console(sys.stdout)
    with out.capture() as captured:
        out.print(Text(title, style="bold"))
        if rows:
            out.print(grid)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), end="\n\n")


def cell(value: object) -> str:
    """A value as tables show it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def console(file: TextIO) -> Console:
    """Rich's console for a stream; a file or a pipe gets lines of any width instead of folded ones."""
    from rich.console import Console

    width = None if file.isatty() or os.environ.get("COLUMNS") else _WIDEST
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


@contextmanager
def working(what: str, quiet: bool = False) -> Iterator[Say]:
    """Show what is being done once it takes longer than a second (on a terminal); pass on warnings.

    The body calls the function it is given with every new stage.
    """
    progress = _Progress(what) if sys.stderr.isatty() and not quiet else None
    handler = _Notes()
    logger = logging.getLogger("compactir")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _show_warning
            yield progress.say if progress else _silently
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        if progress:
            progress.stop()


def _silently(what: str) -> None:
    """Nobody is looking."""


class _Progress:
    """A spinner that appears after `PATIENCE_S`."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.status: Status | None = None
        self.timer = Timer(PATIENCE_S, self._show)
        self.timer.daemon = True
        self.timer.start()

    def say(self, what: str) -> None:
        self.what = what
        if self.status:
            self.status.update(what)

    def stop(self) -> None:
        self.timer.cancel()
        if self.status:
            self.status.stop()

    def _show(self) -> None:
        self.status = console(sys.stderr).status(self.what)
        self.status.start()


class _Notes(logging.Handler):
    """What the library logs, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"{'warning' if record.levelno >= logging.WARNING else 'note'}: {record.getMessage()}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    note(f"warning: {message}")

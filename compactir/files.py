"""Files appear complete or not at all: written aside, then renamed into place. Every writer does it here.

`check_file` and `check_folder` come before the work, so that nobody waits for a path that cannot be written;
`put` and `put_all` write; `replacing` is for files that another program writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep

from compactir.diagnostics import CompactError

__all__ = ["alone_in", "check_file", "check_folder", "put", "put_all", "replacing"]

Content = str | bytes | Iterable[bytes]

_ANOTHER = "give another folder"
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_PATIENCE_S = 60.0
"""How long somebody else may write into a folder."""
_PREFIX = 40
"""Characters of the name that the file aside begins with: with the rest it may not exceed 255 bytes."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` for the body to fill; then it takes its place, or vanishes where the body failed.

    Whoever opens `path` sees the old file or the new one. Links stay, what they name is replaced.
    """
    path = path.resolve()
    aside = path.with_name(f".{path.name[:_PREFIX]}-{token_hex(4)}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def put(path: Path, content: Content) -> Path:
    """Write a file, all of it or nothing; an older one passes its permissions on. Returns `path`.

    Devices and pipes are written to; `/dev/stdout` and its like are the stream itself, wherever it leads.

    Raises:
        CompactError: CIR652 when it cannot be written.
    """
    put_all({path: content})
    return path


def put_all(files: Mapping[Path, Content]) -> None:
    """Write files that belong together: where one cannot be written, none is. Errors as of `put`.

    Another process that writes into the same folder waits, so that what lies there in the end is of one.
    """
    with ExitStack() as stack:
        for folder in sorted({path.resolve().parent for path in files}) if len(files) > 1 else ():
            stack.enter_context(alone_in(folder))
        for path, content in files.items():
            stack.enter_context(_written(path, content))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else who asks for the same folder runs the body at the same time, in any process.

    The lock is the folder's own (flock): nothing is left behind, whatever ends the process. Where there is no
    such lock (Windows, some network file systems) everybody is alone. Errors: CIR652 after a minute.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        _lock(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(flock: Callable[[int, int], None], descriptor: int, how: int, folder: Path) -> None:
    end = monotonic() + _PATIENCE_S
    while True:
        try:
            return flock(descriptor, how)
        except BlockingIOError:
            if monotonic() > end:
                raise _refused(f"another program holds the folder `{folder}`", _ANOTHER) from None
            sleep(0.01)
        except OSError:
            return None  # no locks there


@contextmanager
def _written(path: Path, content: Content) -> Iterator[None]:
    """The file lies aside while the body runs, then takes its place."""
    check_file(path)
    parts = [content.encode()] if isinstance(content, str) else content
    parts = [parts] if isinstance(parts, bytes) else parts
    try:
        if (stream := _stream(path)) is not None or (path.exists() and not path.is_file()):
            if sys.stdout:
                sys.stdout.flush()
            with open(path if stream is None else os.dup(stream), "wb") as file:
                file.writelines(parts)
            yield
            return
        with replacing(path) as aside:
            with aside.open("xb") as file:
                file.writelines(parts)
            if path.exists():
                aside.chmod(path.stat().st_mode & 0o777)
            yield
    except BrokenPipeError:  # the reader of a pipe has seen enough: no mistake
        raise
    except OSError as error:
        problem = f"`{path}` cannot be written: {error.strerror or error}"
        raise CompactError("CIR652", problem, help="free some space, or give another path") from error


def _stream(path: Path) -> int | None:
    """The descriptor behind `/dev/stdout` or `/dev/fd/3`: opened anew, a file there would be replaced."""
    name = str(path).removeprefix("/dev/fd/")
    return _STREAMS.get(name, int(name) if name.isdecimal() and name != str(path) else None)


def check_file(path: Path) -> None:
    """Errors: CIR652 where a file could not be written, as far as that can be known before."""
    if _stream(path) is not None:
        return
    folder = path.parent
    if os.path.isdir(path):
        raise _refused(f"`{path}` is a folder, a file is to be written", "give the path of a file")
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise _refused(f"`{folder}` is a file, so that nothing can lie in it", "give another path")
        raise _refused(f"the folder `{folder}` does not exist", f"`mkdir -p {folder}`, or give another path")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise _refused(f"`{path}` is write-protected", "give another path")
    if (os.path.isfile(path) or not os.path.exists(path)) and not os.access(folder.resolve(), os.W_OK):
        raise _refused(f"the folder `{folder}` is write-protected", "give another path")


def check_folder(path: Path, help: str = _ANOTHER) -> None:
    """Errors: CIR652 where a folder could not be made or written into, as far as that can be known before."""
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not os.path.isdir(there):
        kind = "a file" if os.path.isfile(there) else "no folder"
        raise _refused(f"`{there}` is {kind}, the output is a folder", help)
    if not os.access(there, os.W_OK):
        raise _refused(f"the folder `{there}` is write-protected", help)


def _refused(problem: str, help: str) -> CompactError:
    return CompactError("CIR652", problem, help=help)

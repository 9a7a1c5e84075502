"""Running code on a board that ssh does not reach: a folder to carry there, and what comes back in it.

The folder holds the program of `emulate` with its weights, `requests`, which are its standard input, and
`run.sh`, which makes `answers` of them. `Recorder` stands for the board while the requests are written,
`Answers` when they are asked again: each has to be the same as the one that was written.
"""

from __future__ import annotations

import shlex
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, cast

from compactir.diagnostics import CompactError
from compactir.files import put_all
from compactir.runtime.board import addresses
from compactir.runtime.emulate import STEPS, Emulated
from compactir.runtime.manifest import FILE, Manifest

__all__ = ["Answers", "Recorder", "commands"]

REQUESTS, ANSWERS, SCRIPT, PROGRAM = "requests", "answers", "run.sh", "program"


class Recorder(Emulated):
    """Keeps what is asked instead of running it; the answer is nothing but zeros."""

    _asked: tuple[bytes, ...] = ()

    def _check(self) -> None:
        """Nothing runs here, so no emulator is needed."""

    def _send(self, message: Sequence[bytes | memoryview]) -> IO[bytes]:
        self._asked = tuple(map(bytes, message))
        return cast(IO[bytes], _Zeros())

    def write(self, folder: Path, calls: Iterable[Callable[[], object]]) -> None:
        """Write the folder, with a request for each of the calls. Errors: CIR652."""
        weights = [Path(name) for name in self._arguments]
        manifest = replace(
            self._manifest,
            library=None,
            levels=(),
            raw={key: v for key, v in self._manifest.raw.items() if key not in ("files", "sha256")},
        )
        files: dict[str, str | Iterable[bytes]] = {
            PROGRAM: [self._program.read_bytes()],
            **{path.name: [path.read_bytes()] for path in weights},
            REQUESTS: self._requests(calls),
            SCRIPT: _script(manifest, [path.name for path in weights]),
            FILE: manifest.to_json(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ANSWERS).unlink(missing_ok=True)
        except OSError as error:
            what = f"the folder {folder} cannot be written: {error.strerror or error}"
            raise CompactError("CIR652", what, help="give another folder with `--by-hand`") from error
        put_all({folder / name: content for name, content in files.items()})
        for name in (PROGRAM, SCRIPT):
            (folder / name).chmod(0o755)

    def _requests(self, calls: Iterable[Callable[[], object]]) -> Iterator[bytes]:
        for call in calls:
            call()
            yield from self._asked


class _Zeros(RawIOBase):
    """As many as are read."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def _script(manifest: Manifest, weights: Sequence[str]) -> str:
    started = shlex.join([f"./{name}" for name in (PROGRAM, *weights)])
    return (
        f"#!/bin/sh\n# What {manifest.symbol} answers on the board. Written by compactir.\n"
        "# usage: sh run.sh [emulator]\n"
        'cd "$(dirname "$0")" || exit 1\n'
        f"chmod +x {PROGRAM}\n"
        f'"$@" {started} < {REQUESTS} > {ANSWERS}.part && mv {ANSWERS}.part {ANSWERS}\n'
    )


def commands(folder: Path, host: str, again: Sequence[str]) -> list[str]:
    """What a person types to run a written folder on a board; `again` is the command that compares."""
    here, there = str(folder), shlex.quote(folder.absolute().name)
    if here.startswith("-") or ":" in here:  # an option, or a file of another machine
        here = str(folder.absolute())
    by_ssh, by_scp = addresses(host)
    return [
        shlex.join(["scp", "-r", here, f"{by_scp}:"]),
        shlex.join(["ssh", by_ssh, f"sh {there}/{SCRIPT}"]),
        f"{shlex.join(['ssh', by_ssh, f'cat {there}/{ANSWERS}'])} > {shlex.quote(f'{folder}/{ANSWERS}')}",
        shlex.join(again),
    ]


class Answers(Emulated):
    """The answers in a folder that was on a board, given again to whoever asks the same.

    Args:
        folder: what `Recorder` has written, with the answers.
        manifest: the one in it.

    Raises:
        CompactError: CIR518 for a folder without answers, and when something else is asked.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._folder = folder
        self._lock = threading.Lock()
        try:
            self._requests = BytesIO((folder / REQUESTS).read_bytes())
            self._answers = BytesIO((folder / ANSWERS).read_bytes())
        except OSError as error:
            name = Path(str(error.filename)).name
            help = "give the folder that `compactc verify MODEL --by-hand DIR` wrote"
            if name == ANSWERS:
                help = f"run `sh {SCRIPT}` in a copy of it on the board, and copy `{ANSWERS}` from there"
            what = f"{folder} holds no file `{name}`: {error.strerror}"
            raise CompactError("CIR518", what, help=help) from error
        if (size := self._answers.getbuffer().nbytes) > (most := self._most()):
            raise CompactError(
                "CIR518",
                f"{folder / ANSWERS} has {size:,} bytes, the answers to {folder / REQUESTS} have {most:,}",
                notes=["they are answers to something else, or the board wrote more than them into the file"],
                help=f"run `sh {SCRIPT}` in a copy of it on the board, and copy `{ANSWERS}` from there",
            )

    def _most(self) -> int:
        """The bytes of the answers to all requests, where none failed."""
        manifest, asked = self._manifest, self._requests.getvalue()
        usual = 4 + sum(t.bytes for t in manifest.outputs)
        each = 12 + sum(t.bytes for t in manifest.inputs)
        heads = (struct.unpack_from("<i", asked, at)[0] for at in range(0, len(asked) - 11, each))
        return sum(usual + manifest.workspace_bytes * (head == STEPS) for head in heads)

    def _send(self, message: Sequence[bytes | memoryview]) -> IO[bytes]:
        if any(self._requests.read(len(part)) != part for part in map(bytes, message)):
            raise CompactError(
                "CIR518",
                f"the requests in {self._folder} are not those that are compared now",
                notes=["other inputs, more of them, or steps that nobody asked for then"],
                help="give the options with which the folder was written",
            )
        return self._answers

    def _died(self) -> CompactError:
        size = self._answers.getbuffer().nbytes
        return CompactError(
            "CIR518",
            f"{self._folder / ANSWERS} ends early, after {size:,} bytes",
            notes=["the program was interrupted, or the copy is not complete"],
            help=f"copy it again, or run `sh {SCRIPT}` on the board again",
        )

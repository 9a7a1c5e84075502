"""Running code on a board: the program of `emulate`, copied over and started by ssh.

What happens there: a new folder in the system's temporary folder, the program and the weights in it, one
process that answers requests until the connection closes, and then the folder is removed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.runtime.build import Compiler
from compactir.runtime.emulate import Emulated
from compactir.runtime.manifest import Manifest
from compactir.targets import Target

__all__ = ["Board"]

_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
_NAME = re.compile(r"[A-Za-z0-9_][\w.@:%\[\]-]*")
_PATIENCE = 120
"""Seconds for copying, or for making a folder."""


class Board(Emulated):
    """A network that runs in a process on another machine, which ssh reaches without asking for a password.

    Args:
        folder: an output folder with the C source.
        manifest: its manifest.
        host: what ssh and scp call the machine, such as user@board.
        target: how to compile it; else found from the manifest and the library.
        compiler: else found by the target.

    Raises:
        CompactError: CIR517 where the machine cannot be reached, CIR51x without a fitting compiler, CIR614
            without the source, CIR617…619 for wrong weights.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        host: str,
        target: Target | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        if not _NAME.fullmatch(host):
            what = f"`{host}` is no name of a machine"
            raise CompactError("CIR517", what, help="write it as for ssh: user@board")
        self.host = host
        super().__init__(folder, manifest, target, compiler)
        self._files = [str(self._program), *self._arguments]
        for tool in ("ssh", "scp"):
            if not shutil.which(tool):
                raise self._unreached(f"`{tool}` is not installed", [], "`apt install openssh-client`")
        self._place = self._do(["ssh", *_OPTIONS, host, "mktemp -d"], "make a folder").strip()
        if not self._place.startswith("/"):
            raise self._unreached(f"`mktemp -d` on {host} answers {self._place!r}", [], "a board with Linux")
        self._removal = weakref.finalize(self, _remove, host, self._place)
        self._do(["scp", "-q", *_OPTIONS, *self._files, f"{host}:{self._place}/"], "copy the program")

    @property
    def by_hand(self) -> list[str]:
        """The same as commands for people; requests and answers as `emulate` describes them."""
        names = " ".join(f"./{shlex.quote(Path(name).name)}" for name in self._files)
        return [
            f"scp {shlex.join(self._files)} {self.host}:",
            f"ssh {self.host} {shlex.quote(names)} < requests > answers",
        ]

    def _check(self) -> None:
        """Nothing runs here, so no emulator is needed."""

    def _argv(self) -> list[str]:
        there = [f"{self._place}/{Path(name).name}" for name in self._files]
        return ["ssh", *_OPTIONS, self.host, shlex.join(there)]

    def _called(self) -> str:
        return f"the program on {self.host}"

    def _do(self, command: Sequence[str], what: str) -> str:
        """Run a command that reaches the board; returns what it says."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise self._unreached(f"{self.host} does not answer (cannot {what})", [], "is it on?") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()[:6]
            help = (
                f"try `ssh {self.host} true`: it has to work without a password (`ssh-copy-id {self.host}`)"
            )
            raise self._unreached(f"cannot {what} on {self.host}", said, help)
        return done.stdout

    def _unreached(self, what: str, said: Sequence[str], help: str) -> CompactError:
        notes = [*said, *(f"by hand: {line}" for line in self.by_hand)]
        return CompactError("CIR517", what, notes=notes, help=help)


def _remove(host: str, place: str) -> None:
    """Take the folder on the board away; what fails here stays in its temporary folder."""
    command = ["ssh", *_OPTIONS, host, f"rm -r {shlex.quote(place)}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)

"""Running code on a board: the program of `emulate`, copied over and started by ssh.

What happens there: a new folder in the system's temporary folder, the program and the weights in it, one
process that answers requests until the connection closes, and then the folder is removed. Its name is chosen
here, so that it is removed too where somebody interrupts the command that makes it.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.runtime.emulate import Emulated
from compactir.runtime.manifest import Manifest
from compactir.targets import Target

__all__ = ["Board", "addresses"]

_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15")
_NAME = re.compile(r"(\w[\w.+@-]*@)?(\w[\w.-]*|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(%[\w.-]+)?\]?)", re.ASCII)
"""A user and a machine, or its IPv6 address. Neither may look like an option to ssh or to what it starts."""
_PATIENCE = 120
"""Seconds for making a folder, and for copying beside what the size takes."""
_SLOWEST = 50_000
"""Bytes per second of the slowest line that is waited for."""


class Board(Emulated):
    """A network that runs in a process on another machine, which ssh reaches without asking for a password.

    Args:
        folder: an output folder with the C source.
        manifest: its manifest.
        host: what ssh and scp call the machine, such as user@board.
        target: how to compile it; else found from the manifest and the library.
        cc: its C compiler, as `find_compiler` takes it; by default the one that built the library.

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
        cc: str | None = None,
    ) -> None:
        self.host, self._drive = addresses(host)
        super().__init__(folder, manifest, target, cc)
        # Absolute, so that none looks like an option or like a file of another machine.
        self._files = [str(Path(name).absolute()) for name in (str(self._program), *self._arguments)]
        for tool in ("ssh", "scp"):
            if not shutil.which(tool):
                raise self._unreached(f"`{tool}` is not installed", [], "`apt install openssh-client`")
        self._place = f"/tmp/compactir-{secrets.token_hex(8)}"
        self._removal = weakref.finalize(self, _remove, self.host, self._place)
        try:
            self._do(["ssh", *_OPTIONS, self.host, f"mkdir -m 700 {self._place}"], "make a folder")
        except CompactError:
            self._removal.detach()
            raise
        size = sum(Path(name).stat().st_size for name in self._files)
        copy = ["scp", "-q", *_OPTIONS, *self._files, f"{self._drive}:{self._place}/"]
        self._do(copy, "copy the program", _PATIENCE + size / _SLOWEST)

    def _check(self) -> None:
        """Nothing runs here, so no emulator is needed."""

    def _argv(self) -> list[str]:
        there = [f"{self._place}/{Path(name).name}" for name in self._files]
        return ["ssh", *_OPTIONS, self.host, shlex.join(there)]

    def _called(self) -> str:
        return f"the program on {self.host}"

    def _do(self, command: Sequence[str], what: str, patience: float = _PATIENCE) -> None:
        """Run a command that reaches the board, for so many seconds at most."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=patience
            )
        except subprocess.TimeoutExpired:
            raise self._unreached(f"{self.host} does not answer (cannot {what})", [], "is it on?") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()[:6]
            help = (
                f"try `ssh {self.host} true`: it has to work without a password (`ssh-copy-id {self.host}`)"
            )
            raise self._unreached(f"cannot {what} on {self.host}", said, help)

    def _unreached(self, what: str, said: Sequence[str], help: str) -> CompactError:
        return CompactError("CIR517", what, notes=said, help=help)


def addresses(host: str) -> tuple[str, str]:
    """What ssh calls a machine, and scp: an IPv6 address bare, or in brackets. Errors: CIR517 for no name."""
    if not _NAME.fullmatch(host):
        what = f"`{host}` is no name of a machine"
        raise CompactError("CIR517", what, help="write it as for ssh: user@board")
    bare = host.replace("[", "").replace("]", "")
    user, at, name = bare.rpartition("@")
    return bare, f"{user}{at}[{name}]" if ":" in name else bare


def _remove(host: str, place: str) -> None:
    """Take the folder on the board away; what fails here stays in its temporary folder."""
    command = ["ssh", *_OPTIONS, host, f"rm -rf {place}"]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)

"""The build cache: finished files under the hash of everything that made them.

An entry is a folder. It is written aside under a temporary name, gets a manifest with the size and hash of
each file, and is then renamed into place: readers see all of it or nothing, whatever happens to the writer.
There are no locks: two processes that build the same thing both finish, and the second drops its copy.

Layout: `ROOT/v1/KEY/…` are entries; `ROOT/v1/tmp-…` is what is being written, or was when its writer died.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from compactir.diagnostics import CompactError

__all__ = ["Cache", "CacheStats", "content_key", "default_root", "open_cache", "parse_size"]

DEFAULT_LIMIT_BYTES = 1 << 30
STALE_AFTER_S = 3 * 3600
"""A temporary folder this old belongs to a process that died: no build of ours takes hours."""
GRACE_S = 60
"""An entry used this recently is never pruned: somebody may be about to open what `get` returned."""

_LAYOUT = "v1"
_MANIFEST = "entry.json"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SETTING = "the environment variable COMPACTIR_CACHE_LIMIT"


@dataclass(frozen=True)
class CacheStats:
    """What `compactc cache` prints."""

    root: Path
    entries: int
    bytes: int
    limit_bytes: int
    unfinished: int
    """Temporary folders: builds in progress, or left behind by one that was killed."""


def content_key(*parts: str | bytes | Path) -> str:
    """Hash texts, bytes and the contents of files into a key; order and lengths count, paths do not."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        data = content.encode() if isinstance(content, str) else content
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:40]


def parse_size(text: str, origin: str = _SETTING) -> int:
    """`500M`, `1.5 GiB`, `1048576` → bytes. Errors: CIR650, naming `origin`."""
    words = text.strip().lower().removesuffix("ib").removesuffix("b").strip()
    unit = words[-1:] if words[-1:].isalpha() else ""
    try:
        size = float(words.removesuffix(unit)) * _UNITS[unit]
        if not 0 <= size < 2**63:
            raise ValueError(size)
    except (KeyError, ValueError) as error:
        raise CompactError(
            "CIR650",
            f"`{text}` is not a size",
            notes=[f"it stands in {origin}"],
            help="write a number of bytes, or one with K, M, G or T behind it: `500M`",
        ) from error
    return int(size)


def default_root() -> Path:
    """COMPACTIR_CACHE, else the XDG place, else ~/.cache; not created yet."""
    if chosen := os.environ.get("COMPACTIR_CACHE"):
        return Path(chosen).expanduser().absolute()
    if (xdg := os.environ.get("XDG_CACHE_HOME", "")) and Path(xdg).is_absolute():
        return Path(xdg) / "compactir"
    return Path(os.path.expanduser("~")).absolute() / ".cache" / "compactir"


def open_cache() -> Cache:
    """The cache of this user, or a temporary one (and one warning) where its place cannot be written."""
    limit = os.environ.get("COMPACTIR_CACHE_LIMIT")
    limit_bytes = parse_size(limit) if limit else DEFAULT_LIMIT_BYTES
    root = default_root()
    if (problem := _why_unusable(root)) is not None:
        root = _stand_in(root, problem)
    return Cache(root, limit_bytes)


def _why_unusable(root: Path) -> str | None:
    """None where files can be made and renamed under `root`; else the reason."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix="tmp-probe-", dir=root)).rmdir()
    except OSError as error:
        return error.strerror or str(error)
    return None


_stand_ins: dict[Path, Path] = {}


def _stand_in(root: Path, problem: str) -> Path:
    """A private folder in the system's temporary place; warns the first time."""
    if root not in _stand_ins:
        _stand_ins[root] = _private_folder()
        warnings.warn(
            f"the build cache {root} cannot be written ({problem}); using {_stand_ins[root]} instead; "
            "set COMPACTIR_CACHE to a folder of yours to keep what is built",
            stacklevel=3,
        )
    return _stand_ins[root]


def _private_folder() -> Path:
    """`compactir-UID` if it is ours alone, else a fresh folder: libraries from it will be executed."""
    shared = Path(tempfile.gettempdir()) / f"compactir-{os.getuid()}"
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        info = shared.lstat()
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o077:
            return shared
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="compactir-"))


class Cache:
    """Entries under `root`, at most `limit_bytes` together; the least recently used ones go first."""

    def __init__(self, root: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.root = root
        self.limit_bytes = limit_bytes
        self._folder = root / _LAYOUT

    def get(self, key: str) -> Path | None:
        """The folder of an entry that is complete and undamaged, else None; a damaged one is removed."""
        entry = self._folder / key
        if not entry.is_dir():
            return None
        if not _is_intact(entry):
            self._remove(entry)
            return None
        _touch(entry)
        return entry

    def build(self, key: str, builder: Callable[[Path], None]) -> Path:
        """The entry, made by `builder(folder)` if it is not there; the builder's own errors pass through.

        Raises:
            CompactError: CIR651 when the cache cannot be written.
        """
        if (entry := self.get(key)) is not None:
            return entry
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix="tmp-", dir=self._folder))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            builder(aside)
            entry = self._publish(aside, key)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.prune()
        return entry

    def prune(self, limit_bytes: int | None = None, grace_s: float = GRACE_S) -> int:
        """Drop what dead builds left, then the least recently used entries until the limit holds.

        Args:
            limit_bytes: instead of the cache's own limit.
            grace_s: entries used in the last seconds stay, even above the limit.

        Returns:
            How many bytes of entries went.
        """
        limit = self.limit_bytes if limit_bytes is None else limit_bytes
        now = time.time()
        for leftover in self._unfinished():
            if now - _age_mark(leftover) > STALE_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
        by_age = sorted((_age_mark(entry), entry.name, _size(entry)) for entry in self._entries())
        total = sum(size for _, _, size in by_age)
        freed = 0
        for used, name, size in by_age:
            if total - freed <= limit or now - used < grace_s:
                break
            self._remove(self._folder / name)
            freed += size
        return freed

    def clear(self) -> int:
        """Remove every entry and leftover; returns the bytes of the entries. Open libraries go on working."""
        freed = sum(_size(entry) for entry in self._entries())
        for folder in [*self._entries(), *self._unfinished()]:
            self._remove(folder)
        return freed

    def stats(self) -> CacheStats:
        """Numbers of entries and bytes, as they are now."""
        sizes = [_size(entry) for entry in self._entries()]
        return CacheStats(self.root, len(sizes), sum(sizes), self.limit_bytes, len(list(self._unfinished())))

    def _entries(self) -> Iterator[Path]:
        return (path for path in self._children() if not path.name.startswith("tmp-"))

    def _unfinished(self) -> Iterator[Path]:
        return (path for path in self._children() if path.name.startswith("tmp-"))

    def _children(self) -> list[Path]:
        try:
            return [path for path in self._folder.iterdir() if path.is_dir()]
        except OSError:
            return []

    def _publish(self, aside: Path, key: str) -> Path:
        """Seal what was built and rename it into place, unless another process was faster."""
        entry = self._folder / key
        (aside / _MANIFEST).write_text(json.dumps(_fingerprint(aside), sort_keys=True))
        aside.chmod(0o755)
        for _ in range(3):
            try:
                aside.rename(entry)
                return entry
            except OSError as error:
                if not entry.is_dir():
                    raise self._unwritable(error) from error
                if (existing := self.get(key)) is not None:  # removes a damaged one: then try again
                    return existing
        raise self._unwritable(OSError(f"{entry} cannot be replaced"))

    def _remove(self, entry: Path) -> None:
        """Rename away, then delete: nobody sees half an entry. Losing a race to another remover is fine."""
        grave = self._folder / f"tmp-gone-{os.getpid()}-{time.monotonic_ns()}-{entry.name[:8]}"
        try:
            entry.rename(grave)
        except OSError:
            return
        shutil.rmtree(grave, ignore_errors=True)

    def _unwritable(self, error: OSError) -> CompactError:
        return CompactError(
            "CIR651",
            f"the build cache {self.root} cannot be written: {error.strerror or error}",
            notes=[f"the file is {error.filename}"] if error.filename else [],
            help="free some space, or set COMPACTIR_CACHE to another folder",
        )


def _fingerprint(folder: Path) -> dict[str, dict[str, int | str]]:
    """Size and hash of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)
    return {str(f.relative_to(folder)): {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in files}


def _is_intact(entry: Path) -> bool:
    """True when every file is there, with the size and the hash it was sealed with."""
    try:
        sealed = json.loads((entry / _MANIFEST).read_text())
        sizes = all((entry / name).stat().st_size == file["bytes"] for name, file in sealed.items())
        return sizes and all(_sha256(entry / name) == file["sha256"] for name, file in sealed.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(entry: Path) -> int:
    """Bytes of an entry's files as it was sealed; 0 for one that is damaged or just went."""
    try:
        return sum(int(file["bytes"]) for file in json.loads((entry / _MANIFEST).read_text()).values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _age_mark(folder: Path) -> float:
    """When a folder was last used; `inf` where it has just gone, so that nobody tries to remove it."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return float("inf")


def _touch(entry: Path) -> None:
    """Mark as used now; a cache on a read-only disk serves all the same."""
    with suppress(OSError):
        os.utime(entry)

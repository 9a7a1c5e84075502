"""The build cache: concurrent and killed builders, damage, its limit, places that cannot be written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from compactir.diagnostics import CompactError
from compactir.runtime import cache as cache_room
from compactir.runtime.cache import STALE_AFTER_S, Cache, content_key, default_root, open_cache, parse_size

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1000)


def writes(text: str = "result", file: str = "out.txt") -> Callable[[Path], None]:
    """A builder that writes one file."""

    def build(folder: Path) -> None:
        (folder / file).write_text(text)

    return build


def never(folder: Path) -> None:
    raise AssertionError("built again")


def used_ago(entry: Path, seconds: float) -> None:
    """Let an entry look as if it was used some time ago."""
    then = time.time() - seconds
    os.utime(entry, (then, then))


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs `code` with the project on its path."""
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *arguments], stdout=pipe, stderr=pipe, text=True
    )


def test_built_once(cache: Cache) -> None:
    assert cache.get("k") is None
    entry = cache.build("k", writes())
    assert (entry / "out.txt").read_text() == "result"
    assert cache.build("k", never) == entry == cache.get("k")
    assert oct(entry.stat().st_mode & 0o777) == "0o755"


def test_a_builder_that_fails_leaves_nothing(cache: Cache) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.build("k", fails)
    assert cache.get("k") is None
    assert cache.stats().unfinished == 0
    cache.build("k", writes())


def test_damaged_entries_are_built_again(cache: Cache) -> None:
    def truncate(entry: Path) -> None:
        (entry / "out.txt").write_text("resu")

    def change(entry: Path) -> None:
        (entry / "out.txt").write_text("RESULT")  # the same size

    def remove(entry: Path) -> None:
        (entry / "out.txt").unlink()

    def empty(entry: Path) -> None:
        (entry / "entry.json").write_text("")

    def unseal(entry: Path) -> None:
        (entry / "entry.json").unlink()

    def nonsense(entry: Path) -> None:
        (entry / "entry.json").write_text("[1, 2]")

    for damage in (truncate, change, remove, empty, unseal, nonsense):
        damage(cache.build("k", writes()))
        assert cache.get("k") is None, damage.__name__
        entry = cache.build("k", writes())
        assert (entry / "out.txt").read_text() == "result"


def test_a_damaged_entry_is_replaced_while_building(cache: Cache) -> None:
    """Another process left a broken entry between our look and our rename."""

    def build(folder: Path) -> None:
        writes()(folder)
        broken = folder.parent / "k"
        broken.mkdir()
        (broken / "junk").write_text("x")

    assert (cache.build("k", build) / "out.txt").read_text() == "result"
    assert not (cache.build("k", never) / "junk").exists()


def test_another_process_was_faster(cache: Cache) -> None:
    def build(folder: Path) -> None:
        writes("mine")(folder)
        cache.build("k", writes("theirs"))

    assert (cache.build("k", build) / "out.txt").read_text() == "theirs"
    assert cache.stats().unfinished == 0


BUILDER = """
import time
from pathlib import Path
from compactir.runtime.cache import Cache

def builder(folder):
    (folder / "out.txt").write_text("half of it")
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "out.txt").write_text("all of it")

print((Cache(Path(sys.argv[1])).build("k", builder) / "out.txt").read_text())
"""


def test_two_processes_build_the_same(cache: Cache) -> None:
    processes = [python(BUILDER, str(cache.root), "0.3") for _ in range(2)]
    for process in processes:
        said, wrong = process.communicate(timeout=60)
        assert (said.splitlines()[-1], wrong) == ("all of it", "")
    stats = cache.stats()
    assert (stats.entries, stats.unfinished) == (1, 0)


def test_killed_in_the_middle(cache: Cache) -> None:
    process = python(BUILDER, str(cache.root), "60")
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.communicate()
    assert cache.get("k") is None
    assert cache.stats().unfinished == 1
    entry = cache.build("k", writes("all of it"))
    assert cache.stats().unfinished == 1  # it may still be at work, for all we know
    (leftover,) = entry.parent.glob("tmp-*")
    used_ago(leftover, STALE_AFTER_S + 1)
    cache.prune()
    assert cache.stats().unfinished == 0
    assert (entry / "out.txt").read_text() == "all of it"


def test_the_least_recently_used_go_first(cache: Cache) -> None:
    for i, key in enumerate("abc"):
        used_ago(cache.build(key, writes("x" * 300)), 4000 - i)
    assert cache.prune() == 0
    assert cache.get("a")  # now the most recently used
    cache.build("d", writes("x" * 300))
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    for key in "acd":
        used_ago(cache.root / "v1" / key, 4000)
    assert cache.prune(300) == 600
    assert cache.stats().entries == 1


def test_what_was_just_used_stays(cache: Cache) -> None:
    entries = [cache.build(key, writes("x" * 900)) for key in "abc"]
    assert all(entry.exists() for entry in entries)
    assert cache.prune(0, grace_s=0) == 2700


def test_clear_and_stats(cache: Cache) -> None:
    assert cache.stats().entries == cache.clear() == 0
    cache.build("a", writes("12345"))
    (cache.root / "v1" / "tmp-dead").mkdir()
    (cache.root / "theirs.txt").write_text("not ours")
    stats = cache.stats()
    assert (stats.root, stats.entries, stats.bytes, stats.limit_bytes, stats.unfinished) == (
        cache.root,
        1,
        5,
        1000,
        1,
    )
    assert cache.clear() == 5
    assert (cache.stats().entries, cache.stats().unfinished) == (0, 0)
    assert (cache.root / "theirs.txt").exists()


def test_removed_under_our_hands(cache: Cache) -> None:
    def build(folder: Path) -> None:
        shutil.rmtree(cache.root)

    with pytest.raises(CompactError, match="CIR651"):
        cache.build("k", build)


def test_keys(tmp_path: Path) -> None:
    keys = [
        content_key("ab", "c"),
        content_key("a", "bc"),
        content_key("abc"),
        content_key("c", "ab"),
        content_key("ab", "c", ""),
    ]
    assert len(set(keys)) == 5
    (tmp_path / "x").write_text("ab")
    assert content_key(tmp_path / "x", b"c") == keys[0]


def test_sizes() -> None:
    sizes = {
        "0": 0,
        "1000": 1000,
        "1k": 1024,
        "500M": 500 << 20,
        "1.5 GiB": 3 << 29,
        " 2 gb ": 2 << 30,
        "1T": 1 << 40,
    }
    assert {text: parse_size(text) for text in sizes} == sizes
    for wrong in ("", "lots", "1X", "-1", "nan", "inf", "1e30", "G", "1 2"):
        with pytest.raises(CompactError, match="CIR650"):
            parse_size(wrong)


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No settings, a home of its own, no memory of earlier warnings."""
    for name in ("COMPACTIR_CACHE", "COMPACTIR_CACHE_LIMIT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache_room, "_stand_ins", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return monkeypatch


def test_where_it_is(surroundings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_root() == tmp_path / "home" / ".cache" / "compactir"
    surroundings.setenv("XDG_CACHE_HOME", "relative")  # the XDG specification: to be ignored
    assert default_root() == tmp_path / "home" / ".cache" / "compactir"
    surroundings.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root() == tmp_path / "xdg" / "compactir"
    surroundings.setenv("COMPACTIR_CACHE", "~/here")
    assert default_root() == tmp_path / "home" / "here"
    surroundings.setenv("COMPACTIR_CACHE_LIMIT", "2M")
    assert (open_cache().root, open_cache().limit_bytes) == (tmp_path / "home" / "here", 2 << 20)
    surroundings.setenv("COMPACTIR_CACHE_LIMIT", "much")
    with pytest.raises(CompactError, match="COMPACTIR_CACHE_LIMIT"):
        open_cache()


def block_with_a_file(home: Path) -> None:
    home.write_text("a file where a folder should be")


def block_by_permission(home: Path) -> None:
    home.mkdir()
    home.chmod(0o555)


@pytest.mark.parametrize("block", [block_with_a_file, block_by_permission])
def test_home_that_cannot_be_written(
    surroundings: pytest.MonkeyPatch, tmp_path: Path, block: Callable[[Path], None]
) -> None:
    block(tmp_path / "home")
    if os.access(tmp_path / "home", os.W_OK) and block is block_by_permission:  # root may write everywhere
        surroundings.setattr(Path, "mkdir", read_only_below(tmp_path / "home", Path.mkdir))
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        cache = open_cache()
    assert len(caught) == 1
    assert cache.root == tmp_path / f"compactir-{os.getuid()}"
    assert cache.root.stat().st_mode & 0o777 == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns once
        assert open_cache().root == cache.root
    cache.build("k", writes())
    assert cache.get("k")


def read_only_below(place: Path, mkdir: Callable[..., None]) -> Callable[..., None]:
    """What `mkdir` does to somebody who may not write below `place`."""

    def refusing(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if place in self.parents:
            raise PermissionError(13, "Permission denied")
        mkdir(self, mode, parents, exist_ok)

    return refusing


def test_a_stand_in_that_others_can_write_is_not_trusted(
    surroundings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    block_with_a_file(tmp_path / "home")
    trap = tmp_path / f"compactir-{os.getuid()}"
    trap.mkdir()
    trap.chmod(0o777)
    with pytest.warns(UserWarning, match="cannot be written"):
        root = open_cache().root
    assert root != trap
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_can_only_be_read(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = cache.build("k", writes())

    def read_only(*args: object, **kw: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", read_only)
    monkeypatch.setattr("tempfile.mkdtemp", read_only)
    assert cache.get("k") == entry
    with pytest.raises(CompactError, match="CIR651") as caught:
        cache.build("other", never)
    assert "Read-only file system" in caught.value.message


def test_the_seal_covers_folders(cache: Cache) -> None:
    def build(folder: Path) -> None:
        (folder / "sub").mkdir()
        writes()(folder / "sub")

    entry = cache.build("k", build)
    assert list(json.loads((entry / "entry.json").read_text())) == ["sub/out.txt"]
    (entry / "sub" / "out.txt").write_text("?")
    assert cache.get("k") is None

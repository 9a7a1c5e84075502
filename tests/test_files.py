"""Writing files: the whole new one, or the old one as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from compactir.diagnostics import CompactError
from compactir.files import alone_in, check_file, check_folder, put, put_all, replacing


def parts_until_the_disk_is_full() -> Iterator[bytes]:
    yield b"half of it"
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["ü\r\n", "ü\r\n".encode(), [b"\xc3", b"\xbc\r\n"]])
def test_every_kind_of_content(tmp_path: Path, content: str | bytes | list[bytes]) -> None:
    assert put(tmp_path / "x", content).read_bytes() == "ü\r\n".encode()


def test_permissions(tmp_path: Path) -> None:
    """A new file has what the umask leaves, a replaced one what it had."""
    before = os.umask(0o027)
    try:
        path = put(tmp_path / "x", "new")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    assert put(path, "newer").stat().st_mode & 0o777 == 0o600


def test_what_a_link_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/x")
    for text in ("dangling", "not any more"):
        put(tmp_path / "link", text)
        assert (tmp_path / "folder" / "x").read_text() == text
    assert (tmp_path / "link").is_symlink()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = put(tmp_path / "x", "old")
    with pytest.raises(CompactError, match=r"CIR652.*No space left"):
        put(path, parts_until_the_disk_is_full())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_files_that_belong_together(tmp_path: Path) -> None:
    """Where one cannot be written, none is."""
    old = put(tmp_path / "old", "old")
    files = {old: "new", tmp_path / "new": "new"}
    with pytest.raises(CompactError, match="CIR652"):
        put_all({**files, tmp_path / "full": parts_until_the_disk_is_full()})
    assert os.listdir(tmp_path) == ["old"]
    assert old.read_text() == "old"
    put_all(files)
    assert [path.read_text() for path in files] == ["new", "new"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    path = put(tmp_path / "x", "old")

    def interrupted() -> None:
        with replacing(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_longest_name(tmp_path: Path) -> None:
    assert put(tmp_path / ("ü" * 127), "x").read_text() == "x"
    with pytest.raises(CompactError, match=r"CIR652.*too long"):
        put(tmp_path / ("ü" * 128), "x")


def test_pipes_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    put(tmp_path / "pipe", [b"a", b"b"])
    reader.join(10)
    assert read == [b"ab"]
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize(
    ("check", "path", "problem"),
    [
        (check_file, "folder", "`{}` is a folder, a file is to be written"),
        (check_file, "file/x", "is a file, so that nothing can lie in it"),
        (check_file, "none/x", "does not exist; help: `mkdir -p "),
        (check_folder, "file", "is a file, the output is a folder"),
        (check_folder, "file/deep/x", "is a file, the output is a folder"),
        (check_folder, "broken/x", "is no folder, the output is a folder"),
    ],
)
def test_a_place_that_cannot_be(
    tmp_path: Path, check: Callable[[Path], None], path: str, problem: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("nothing")
    with pytest.raises(CompactError, match="CIR652") as caught:
        check(tmp_path / path)
    assert problem.format(tmp_path / path) in str(caught.value)


def test_write_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere: the system's answer is replaced."""
    protected = {tmp_path / "file", tmp_path / "folder"}
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in protected)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for check, path in ((check_file, "file"), (check_file, "folder/x"), (check_folder, "folder/a/b")):
        with pytest.raises(CompactError, match="write-protected"):
            check(tmp_path / path)


def test_places_that_can_be(tmp_path: Path) -> None:
    for path in (tmp_path / "new", Path("new"), Path("/dev/null")):
        check_file(path)
    for path in (tmp_path, tmp_path / "a" / "b", Path("a/b")):
        check_folder(path)


def test_who_comes_second_waits(tmp_path: Path) -> None:
    """Sets of files go into a folder one after the other; single files need not wait."""
    files: dict[Path, str | bytes | Iterable[bytes]] = {tmp_path / "a": "new", tmp_path / "b": "new"}
    second = threading.Thread(target=put_all, args=(files,))
    with alone_in(tmp_path):
        second.start()
        second.join(0.1)
        assert second.is_alive()
        assert os.listdir(tmp_path) == []
        put(tmp_path / "c", "alone")
    second.join(30)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


def test_a_folder_that_is_held_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactir.files._PATIENCE_S", 0.0)
    with alone_in(tmp_path), pytest.raises(CompactError, match=r"CIR652.*another program holds"):
        put_all({tmp_path / "a": "x", tmp_path / "b": "x"})
    assert os.listdir(tmp_path) == []


_WRITER = """
import sys
from pathlib import Path
from compactir.files import alone_in, put_all
folder, own = Path(sys.argv[1]), sys.argv[2]
names = [folder / name for name in "abcdef"]
for round in range(150):
    put_all({name: f"{own} {round}" for name in names})
    with alone_in(folder):
        assert len({name.read_text() for name in names}) == 1
"""


def test_two_processes_never_mix(tmp_path: Path) -> None:
    """Whoever looks finds the files of one of them."""
    words = [sys.executable, "-c", _WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*words, own]) for own in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(os.listdir(tmp_path)) == 6

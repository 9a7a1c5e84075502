"""`compactc verify --host`: the program on another machine, with an ssh and an scp that stay on this one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compactir.cli import main
from tests.conftest import ROOT

pytestmark = [pytest.mark.compiler, pytest.mark.emulator]

LENET = str(Path(__file__).parent.parent / "examples" / "lenet5.arch")

SSH = """\
#!{python}
import os, subprocess, sys
words = sys.argv[1:]
while words[0] == "-o":
    words = words[2:]
host, command = words[0], words[1]
with open({log!r}, "a") as log:
    log.write(f"{{host}}: {{command}}\\n")
if host == "user@slow" and command.startswith("mkdir"):
    subprocess.run(["sh", "-c", command])
    os.kill(os.getppid(), 2)
    sys.exit(255)
if host == "user@nowhere":
    sys.exit("ssh: connect to host nowhere port 22: No route to host")
if "/program" not in command:
    sys.exit(subprocess.run(["sh", "-c", command]).returncode)
if host == "user@broken":
    sys.exit("Illegal instruction")
if host == "user@board":
    os.execvp("sh", ["sh", "-c", "exec {qemu} " + command])
child = subprocess.Popen(["sh", "-c", "exec {qemu} " + command], stdout=subprocess.PIPE)
while answer := child.stdout.read(4 + 10 * 4):
    sys.stdout.buffer.write(answer[:4] + bytes(byte ^ 64 for byte in answer[4:]))
    sys.stdout.buffer.flush()
"""
SCP = """\
#!{python}
import shutil, sys
words = [word for word in sys.argv[1:] if word not in ("-q", "-o") and "=" not in word]
for name in words[:-1]:
    shutil.copy(name, words[-1].rpartition(":")[2])
with open({log!r}, "a") as log:
    log.write(f"scp to {{words[-1].rpartition(':')[0]}}\\n")
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Callable[[str], str]) -> Path:
    """What the ssh on PATH was asked to do."""
    log = tmp_path / "log"
    log.touch()
    for name, text in {"ssh": SSH, "scp": SCP}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(python=sys.executable, log=str(log), qemu=tool("qemu-aarch64")))
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    gcc = tool("aarch64-linux-gnu-gcc")
    monkeypatch.setenv("COMPACTIR_CC", gcc)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{Path(gcc).parent}:{Path('/usr/bin')}:/bin")
    return log


def verify(host: str, *more: str) -> int:
    return main(
        ["verify", LENET, "--init", "seed=1", "--runs", "2", "--target", "arm", "--host", host, *more]
    )


def test_a_board_that_computes_right(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("user@board", "--per-layer") == 0
    out = capsys.readouterr()
    assert "agrees: every difference is at most" in out.out
    assert "emulat" not in out.err
    made, copied, started, removed = log.read_text().splitlines()
    folder = removed.removeprefix("user@board: rm -rf ")
    assert made == f"user@board: mkdir -m 700 {folder}"
    assert copied == "scp to user@board"
    assert started.startswith(f"user@board: {folder}/program")
    assert not Path(folder).exists()


def test_a_board_that_computes_something_else(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("user@wrong") == 1
    assert "does not agree: `" in capsys.readouterr().out


def test_a_board_that_cannot_run_it(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("user@broken") == 1
    err = capsys.readouterr().err
    assert "CIR515" in err
    assert "the program on user@broken ended with status 1" in err
    assert "Illegal instruction" in err


def test_a_board_that_is_not_there(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("user@nowhere") == 1
    err = capsys.readouterr().err
    assert "CIR517" in err
    assert "No route to host" in err
    assert "ssh-copy-id user@nowhere" in err


@pytest.mark.parametrize("missing", ["ssh", "scp"])
def test_without_ssh(
    missing: str, log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, **more: None if name == missing else which(name, **more))
    assert verify("user@board") == 1
    err = capsys.readouterr().err
    assert f"`{missing}` is not installed" in err
    assert "apt install openssh-client" in err
    assert "out/lenet5-board has all that it takes to run it there by hand:" in err
    assert log.read_text() == ""


@pytest.mark.parametrize(
    "host",
    [
        "",
        "-oProxyCommand=x",
        "user@-oProxyCommand=x",
        "a b",
        "user@board;ls",
        "user@board:22",
        "@b",
        "é",
    ],
)
def test_a_name_that_is_none(host: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", LENET, "--init", "seed=1", "--target", "arm", f"--host={host}"]) == 2
    assert "is no name of a machine" in capsys.readouterr().err
    assert log.read_text() == ""


@pytest.mark.parametrize("host", ["pi@fe80::1%eth0", "pi@[fe80::1%eth0]"])
def test_an_address_is_bare_for_ssh_and_in_brackets_for_scp(host: str, log: Path) -> None:
    assert verify(host) == 1  # of every board but user@board this ssh makes a wrong one
    made, copied, *_ = log.read_text().splitlines()
    assert made.startswith("pi@fe80::1%eth0: mkdir")
    assert copied == "scp to pi@[fe80::1%eth0]"


def test_an_interrupted_copy_leaves_nothing_on_the_board(log: Path) -> None:
    words = ["verify", LENET, "--init", "seed=1", "--runs", "1", "--target", "arm", "--host", "user@slow"]
    done = subprocess.run([sys.executable, "-m", "compactir", *words], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    made, removed = log.read_text().splitlines()
    folder = made.removeprefix("user@slow: mkdir -m 700 ")
    assert removed == f"user@slow: rm -rf {folder}"
    assert not Path(folder).exists()


# -- by hand -------------------------------------------------------------------------------------------------

CARRIED = {
    "ssh": 'test "$1" = user@board && cd "{home}" && exec sh -c "$2"',
    "scp": 'test "$1 $3" = "-r user@board:" && exec cp -r "$2" "{home}"',
    "compactc": 'exec {python} -m compactir "$@"',
}
"""A board whose files lie in a folder, for what people type."""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Callable[[str], str]) -> Path:
    """The home folder of the board, which has the processor of this machine; commands run in another."""
    tool("cc")
    home, work, programs = (tmp_path / name for name in ("home", "work", "programs"))
    for folder in (home, work, programs):
        folder.mkdir()
    for name, text in CARRIED.items():
        (programs / name).write_text("#!/bin/sh\n" + text.format(home=home, python=sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(work)
    return home


def typed(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True)


OPTIONS = ["-D", "output=linear", "--runs", "1", "--no-winograd", "--threads", "2"]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(["--per-layer"], id="per-layer"),
        pytest.param(OPTIONS, id="options", marks=pytest.mark.slow),
    ],
)
def test_by_hand(more: list[str], board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is typed as it stands."""
    words = ["verify", LENET, "--init", "seed=1", "--target", "c", "--by-hand", "a board", *more]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "nothing is compared yet" in said
    *carry, compare = [line.strip() for line in said.splitlines()[1:]]
    assert main(shlex.split(compare)[1:]) == 1
    assert "CIR518" in (before := capsys.readouterr().err)
    assert "run `sh run.sh` in a copy of it on the board" in before
    assert sorted(os.listdir("a board")) == ["manifest.json", "program", "requests", "run.sh"]
    for command in carry:
        done = typed(command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert not done.stderr
    after = typed(compare)
    assert after.returncode == 0, after.stdout + after.stderr
    assert "agrees: every difference is at most" in after.stdout
    data = Path("a board/answers").read_bytes()
    Path("a board/answers").write_bytes(
        bytes(byte ^ 64 * (i >= 4) for i, byte in enumerate(data[:44])) + data[44:]
    )
    assert main(shlex.split(compare)[1:]) == 1
    assert "does not agree: `" in capsys.readouterr().out
    assert main(words) == 0
    assert not Path("a board/answers").exists()  # those of another program


def test_answers_to_something_else(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verify", LENET, "--init", "seed=1"]
    assert main([*words, "--target", "c", "--by-hand", "b", "--runs", "2"]) == 0
    assert typed("sh b/run.sh env").returncode == 0  # `env` in the place of an emulator
    assert main([*words, "--answers", "b", "--runs", "1"]) == 0
    capsys.readouterr()
    for odd in (["--runs", "3"], ["--per-layer", "--runs", "2"], ["--per-layer", "--runs", "1"]):
        assert main([*words, "--answers", "b", *odd]) == 1
        assert "CIR518" in capsys.readouterr().err
    assert main(["verify", LENET, "--init", "seed=2", "--answers", "b", "--runs", "2"]) == 1
    assert "was compiled with random weights (seed 1)" in capsys.readouterr().out
    answers = Path("b/answers")
    answers.write_bytes((right := answers.read_bytes()) + b"\0")
    assert main([*words, "--answers", "b", "--runs", "2"]) == 1
    assert "has 89 bytes, the answers to b/requests have 88" in capsys.readouterr().err
    answers.write_bytes(right[:-1])
    assert main([*words, "--answers", "b", "--runs", "2"]) == 1
    assert "ends early, after 87 bytes" in capsys.readouterr().err
    answers.write_bytes(b"\3\0\0\0")
    assert main([*words, "--answers", "b"]) == 1
    assert "CIR626" in capsys.readouterr().err
    Path("b/requests").unlink()
    assert main([*words, "--answers", "b"]) == 1
    assert "`compactc verify MODEL --by-hand DIR` wrote" in capsys.readouterr().err


def test_where_ssh_fails_everything_is_there(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same four commands, with the name of the board, as notes of the error."""
    ssh = Path(shutil.which("ssh") or "")
    works = ssh.read_text()
    ssh.write_text("#!/bin/sh\necho 'Connection refused' >&2; exit 255\n")
    assert main(["verify", LENET, "--init", "seed=1", "--target", "c", "--host", "user@board"]) == 1
    err = capsys.readouterr().err
    assert "Connection refused" in err
    lines = [line.partition("note: ")[2] for line in err.splitlines() if "note: " in line]
    commands = lines[lines.index("out/lenet5-board has all that it takes to run it there by hand:") + 1 :]
    ssh.write_text(works)
    for command in commands:
        done = typed(command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert "agrees: " in done.stdout
    shutil.rmtree("out")
    Path("out").touch()
    ssh.write_text("#!/bin/sh\nexit 255\n")
    assert main(["verify", LENET, "--init", "seed=1", "--target", "c", "--host", "user@board"]) == 1
    err = capsys.readouterr().err
    assert "CIR517" in err
    assert "`--by-hand DIR` writes what it takes" in err

"""What is judged before any file is read, and which exit code it has: docs/cli.md.

The model of these commands does not exist, so that whatever is refused was judged by its words alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compactir import cli
from compactir.passes import pipeline
from compactir.targets import all_targets, machine
from compactir.tools.options import Option
from compactir.tools.usage import MEANINGS, PLACES
from compactir.tools.verbs import VERBS, Verb

FIRST = {
    "run": ["none.arch", "none.npy"],
    "diff": ["none.arch@last", "none.cir"],
    "import": ["none.cir"],
    "cache": ["prune"],
    "completion": ["bash"],
    "targets": [],
}
"""What stands before the options, where it is more than a model that does not exist."""

ALSO_GIVEN = {"baseline": ["--top1", "70"], "mean": ["none.png"], "std": ["none.png"]}
"""Options that matter only together with others."""

WRONG = {
    "define": [("width", "CIR600"), ("=3", "CIR600")],
    "batch": [("0", "CIR600"), ("-1", "CIR600"), ("1.5", "CIR600")],
    "weights": [("none.h5", "CIR641"), ("none", "CIR641")],
    "seed": [("seed=x", "CIR600"), ("-1", "CIR600")],
    "target": [("nope", "CIR502"), (",", "CIR502"), ("x86,", "CIR502"), ("torch", "CIR502")],
    "also": [("nope", "CIR403"), ("factorise{x=1}", "CIR404"), ("a;b", "CIR403")],
    "passes": [
        ("nope", "CIR403"),
        ("merge-blocks{lanes=0}", "CIR404"),
        ("fuse-separable{cache=-1}", "CIR404"),
    ],
    "threads": [("0", "CIR600"), ("100000", "CIR504"), ("two", "CIR600"), ("1,,2", "CIR600")],
    "host": [("-oProxyCommand=x", "CIR517"), ("user@board;ls", "CIR517"), ("user@board:22", "CIR517")],
    "top1": [("101", "CIR600"), ("-1", "CIR600"), ("nan", "CIR600"), ("high", "CIR600")],
    "baseline": [("1,2", "CIR663"), ("70,-1,3", "CIR663"), ("70,x,3", "CIR600"), ("inf,1,1", "CIR600")],
    "mean": [("a", "CIR600"), ("nan", "CIR600")],
    "std": [("0", "CIR668"), ("1,0,1", "CIR668")],
    "limit": [("lots", "CIR650"), ("-1", "CIR650")],
    "dump_ir": [("nope", "CIR662"), ("before:nope", "CIR662")],
    "emit": [("nope", "CIR600"), ("c,,lib", "CIR600")],
    "inline": [("nope", "CIR600")],
    "against": [("nope", "CIR600")],
    "isa": [("sse9", "CIR600")],
    "model_of_core": [("a99", "CIR600")],
    "tune": [("soon", "CIR600")],
    "top": [("0", "CIR600")],
    "repeats": [("0", "CIR600"), ("1000000", "CIR600")],
    "rounds": [("0", "CIR600"), ("1000000", "CIR600")],
    "runs": [("0", "CIR600"), ("1000000", "CIR600")],
    "input": [("none.npy", "CIR600")],
}
"""Option → values that no file can make right."""

TOGETHER = [
    ("none.arch --target x86,arm", "CIR505"),
    ("none.arch --target x86,x86", "CIR505"),
    ("none.arch --target c,cortex-m4", "CIR505"),
    ("none.arch --threads 1,2", "CIR600"),
    ("bench none.arch --threads 1,100000", "CIR504"),
    ("bench none.arch --threads 2,1,2", "CIR600"),
    ("none.arch --threads 2 --freestanding", "CIR506"),
    ("none.arch --threads 2 --target cortex-m4", "CIR506"),
    ("none.arch --target cortex-m7 --emit lib", "CIR506"),
    *((f"{verb} none.arch --target cortex-m4", "CIR506") for verb in ("run", "profile", "verify", "bench")),
    ("diff none.arch@cortex-m4 none.arch@c", "CIR506"),
    ("none.arch -o -", "CIR665"),
    ("none.arch -o - --emit c --json", "CIR665"),
    ("none.arch --weights w.npz --init seed=1", "CIR661"),
    ("none.arch --map auto --init seed=1", "CIR661"),
    ("none.cir -D width=2", "CIR660"),
    ("none.cir --batch 2", "CIR660"),
    ("none.onnx --network a", "CIR660"),
    ("none.onnx -D size=big", "CIR660"),
    ("run none.arch none.npy -o scores.txt", "CIR665"),
    ("run none.arch --input a=x.npy --input a=y.npy", "CIR600"),
    ("explain CIR999", "CIR664"),
    ("explain none.cir -D a=1", "CIR660"),
    ("verify none.arch --per-layer --against torch", "CIR671"),
    ("verify none.arch --per-layer --batch 2", "CIR671"),
    ("count none.arch --target x86", "CIR514"),
    ("diff none.arch@nope none.arch@last", "CIR675"),
    ("diff @last @authored", "CIR675"),
    ("diff none.arch none.cir -D a=1", "CIR660"),
    ("opt", "CIR672"),
    ("export none.arch -o net.tflite", "CIR682"),
    ("export none.onnx -o none.onnx", "CIR682"),
    ("import none.cir -o net.txt", "CIR681"),
    ("import none.arch", "CIR681"),
]
"""Words that are wrong together."""


def wrong_values() -> Iterator[tuple[str, str]]:
    """A command for every verb, every option of it and every wrong value; the code of the error."""
    for verb in VERBS:
        for option in verb.options:
            for value, code in WRONG.get(option.name, ()) if option.flags else ():
                first = [*FIRST.get(verb.name, ["none.arch"]), *ALSO_GIVEN.get(option.name, ())]
                yield " ".join([verb.name, *first, f"{option.flags[-1]}={value}"]), code


def test_the_passes_of_every_target_make_sense() -> None:
    """A chip without a second cache is no mistake."""
    assert all(pipeline("c", target) for target in all_targets())


def takes_one_target() -> Iterator[tuple[str, str]]:
    for verb in VERBS:
        if any(option.kind in ("target", "loaded") for option in verb.options):
            yield (
                " ".join([verb.name, *FIRST.get(verb.name, ["none.arch"]), "--target=x86,x86-avx512"]),
                "CIR502",
            )


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("command", "code"), [*wrong_values(), *takes_one_target(), *TOGETHER])
def test_words_that_no_file_makes_right(command: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command.split()) == 2
    said = capsys.readouterr()
    assert (said.err or json.loads(said.out)["errors"][0]["code"]).removeprefix("error[").startswith(code)
    assert list(Path().iterdir()) == []


def test_every_option_that_can_be_wrong_is_in_the_table() -> None:
    kinds = {o.name: o.kind for v in VERBS for o in v.options if o.flags and o.kind != "flag"}
    free = {name for name, kind in kinds.items() if kind in ("text", "file", "folder", *PLACES)}
    assert set(WRONG) == set(kinds) - free | {"weights"}


def test_every_kind_has_a_reader_or_a_meaning() -> None:
    plain = {"text", "flag", "choice", "list", "file", "folder", "model", "stage"}
    kinds = {option.kind for verb in VERBS for option in verb.options}
    assert kinds == plain | MEANINGS.keys() | PLACES.keys() | cli.READERS.keys()


def files_of(verb: Verb) -> list[str]:
    return [verb.name, *FIRST.get(verb.name, ["none.arch"])]


def outputs() -> Iterator[tuple[Verb, Option, str, str]]:
    endings = {"export": ".onnx", "import": ".arch", "run": ".npy"}
    for verb in VERBS:
        for option in verb.options:
            end = endings.get(verb.name, "")
            if option.kind == "out":
                yield verb, option, f"nodir/x{end}", "CIR652"
                yield verb, option, f"file/x{end}", "CIR652"
                yield verb, option, f"folder{end}", "CIR652"
            if option.kind == "outdir":
                yield verb, option, "file", "CIR652"
                yield verb, option, "file/x", "CIR652"


@pytest.mark.parametrize(("verb", "option", "place", "code"), list(outputs()))
def test_places_that_cannot_be_written_are_judged_before_the_work(
    verb: Verb, option: Option, place: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("precious", encoding="utf-8")
    for end in ("", ".onnx", ".arch", ".npy"):
        Path(f"folder{end}").mkdir()
    assert cli.main([*files_of(verb), option.flags[-1], place]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error[{code}]")
    assert "= help: " in said
    flags = {flag for option in verb.options for flag in option.flags}
    assert flags.issuperset(re.findall(r"`(-+\w[\w-]*)", said)), said
    assert Path("file").read_text(encoding="utf-8") == "precious"


FOREIGN = "x86" if machine() == "aarch64" else "arm"
"""A target that this machine does not run."""

MODEL = """\
network tiny(width: float = 1.0, depth: int) {
  input image: f32[3, 8, 8]
  output scores = image -> conv(round(4 * width), kernel=3) -> relu
}
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        *((" ".join(files_of(v)), "CIR") for v in VERBS if any(o.name in ("model", "a") for o in v.options)),
        ("fmt none.arch", "CIR113"),
        ("explain none.arch", "CIR113"),
        ("tiny.arch", "CIR118"),
        ("tiny.arch -D depth=1 -D widht=2", "CIR118"),
        ("tiny.arch -D depth=1 -D width=", "CIR118"),
        ("tiny.arch -D depth=1 -D width=nan", "CIR131"),
        ("tiny.arch -D depth=1 --network other", "CIR117"),
        ("tiny.arch -D depth=1 --weights none.npz", "CIR640"),
        ("run none none.npy", "CIR666"),
        ("verify none.arch --module none", "CIR611"),
        ("verify none.arch --inputs none", "CIR666"),
        *((f"{verb} none.arch --cc none", "CIR512") for verb in ("compile", "profile", "verify", "bench")),
        (f"none.arch --tune --target {FOREIGN}", "CIR627"),
        (f"profile none.arch --target {FOREIGN}", "CIR627"),
        (f"bench none.arch --target {FOREIGN}", "CIR627"),
        ("fmt --check untidy.arch", ""),
    ],
)
def test_mistakes_in_what_the_words_name(command: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.arch").write_text(MODEL, encoding="utf-8")
    Path("untidy.arch").write_text(MODEL.replace("  ", " "), encoding="utf-8")
    assert cli.main(command.split()) == 1
    assert f"error[{code}" in (said := capsys.readouterr().err) or not code
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "message", "help"),
    [
        ("width=", "`-D width=` gives `width` no value", "its default is 1.0"),
        ("width=nan", "`width` must be a number, this is the word `nan`", "its default is 1.0"),
        ("width=-inf", "unknown name `inf`", None),
    ],
)
def test_what_messages_on_defines_say(
    words: str, message: str, help: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("tiny.arch").write_text(MODEL, encoding="utf-8")
    assert cli.main(["report", "tiny.arch", "-D", words, "--json"]) == 1
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert (error["message"], error["help"]) == (message, help or error["help"])


def test_usage_mistakes_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "none.arch", "--json", "--jason"]) == 2
    said = capsys.readouterr()
    (error,) = json.loads(said.out)["errors"]
    assert error["code"] == "CIR600"
    assert said.err == ""


PIPED = [
    ("tiny.arch -D depth=1 --init 0 -o /dev/stdout", 1, "CIR652"),
    ("run tiny.arch none.npy -o /dev/stdout", 2, "CIR665"),
    ("opt tiny.arch -D depth=1 --init 0 -o /dev/stdout", 0, "cir 1\n"),
    ("opt tiny.arch -D depth=1 --init 0 -o /dev/null --save-weights /dev/stdout", 0, '{"conv1.weight":'),
    ("import tiny.arch -o /dev/stdout", 2, "CIR681"),
    ("import tiny.arch -D depth=1 -o -", 0, "network tiny("),
    ("export tiny.arch -o /dev/stdout", 2, "CIR682"),
]


def compactc(command: str) -> subprocess.CompletedProcess[bytes]:
    """The command line of a shell, its output into a pipe."""
    Path("tiny.arch").write_text(MODEL, encoding="utf-8")
    python = f'"{sys.executable}" -m compactir'
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}
    environment.pop("PYTHONUNBUFFERED", None)  # what is left when Python ends is part of the test
    return subprocess.run(["sh", "-c", f"{python} {command}"], env=environment, capture_output=True)


@pytest.mark.parametrize(("command", "code", "said"), PIPED)
def test_standard_output_as_a_file(command: str, code: int, said: str) -> None:
    """It works, or is refused with a message."""
    done = compactc(command)
    assert done.returncode == code, done.stderr
    assert said in (done.stderr if code else done.stdout).decode(errors="replace")


PRINTING = ["targets", "opt tiny.arch -D depth=1 --init 0", "--version", "help report", "report --help"]
PRINTING += ["targets --json", "report tiny.arch -D depth=1 --json"]


@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk_behind_standard_output(command: str) -> None:
    done = compactc(f"{command} > /dev/full")
    assert done.returncode == 1
    said = done.stderr.decode().splitlines()
    assert said[0] == "error[CIR674]: the system refuses: no space left on device"
    assert "where standard output goes" in said[1]
    assert len(said) == 2


def test_a_full_disk_behind_the_other_one_stops_nothing() -> None:
    done = compactc("opt tiny.arch -D depth=1 2> /dev/full")
    assert done.returncode == 0
    assert done.stdout.startswith(b"cir 1")


def test_a_mistake_that_standard_output_does_not_take() -> None:
    done = compactc("report nothing.arch --json > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error[CIR113]: there is no file")


def test_a_redirected_standard_output_is_not_replaced() -> None:
    """What is printed afterwards goes into the same file."""
    done = compactc("opt tiny.arch -D depth=1 --init 0 --save-weights /dev/stdout > kept")
    assert (done.returncode, done.stderr) == (0, b"")
    kept = Path("kept").read_bytes()
    assert kept.index(b'{"conv1.weight":') < kept.index(b"cir 1\n")

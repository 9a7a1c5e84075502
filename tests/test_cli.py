"""The command line from the outside: what is printed where, and which exit code says what."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compactir import __version__, cli, driver, reference
from compactir.tools import terminal
from compactir.tools.unused import UNUSED
from compactir.tools.verbs import BY_NAME, VERBS
from tests.conftest import MODEL

COMMAND = [sys.executable, "-m", "compactir"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}


# -- help and usage ------------------------------------------------------------------------------------------


def test_help_is_whole_and_quick() -> None:
    program = "import sys; from compactir.cli import main; main(['--help']); print(sorted(sys.modules))"
    root = str(Path(cli.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert all(f"  {verb.name} " in done.stdout for verb in VERBS)
    modules = done.stdout.splitlines()[-1]
    for heavy in ("numpy", "rich", "torch", "lark", "cffi", "jinja2", "networkx"):
        assert f"'{heavy}'" not in modules


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_explains_itself_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command, _ in BY_NAME[verb].examples)
    assert all(flag in said for option in BY_NAME[verb].options for flag in option.flags)


def test_every_example_parses() -> None:
    for verb in VERBS:
        for command, _ in verb.examples:
            words = (
                command.split("<")[0].split(">")[0].split("|")[0].replace('eval "$(', "").replace(')"', "")
            )
            if "*" not in words:
                arguments = words.replace('"', "").split()[1:]
                if "{" not in words:
                    assert cli.parse(arguments).verb.name == verb.name, command


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"compactc {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["reprot"], "did you mean `report`"),
        (["help", "reprot"], "did you mean `report`"),
        (["report", "x.arch", "--jason"], "did you mean `--json`"),
        (["--taget", "arm"], "did you mean `--target`"),
        (["x.arch", "--emit", "c,lub"], "did you mean `lib`"),
        (["cache", "prun"], "did you mean `prune`"),
        (["completion", "tcsh"], "it is one of bash, zsh, fish"),
        (["x.arch", "-D", "width"], "write NAME=VALUE"),
        (["x.arch", "--init", "seed=x"], "write --init seed=1"),
        (["x.arch", "--batch", "0"], "not a whole number of at least 1"),
        (["x.arch", "y.arch"], "`y.arch` is one argument too many"),
        (["report"], "the following arguments are required: MODEL"),
        (["run", "x.arch", "--top", "many"], "not a whole number"),
        (["--batch", "2"], "there is no model on the command line"),
        (["report", "x.arch", "--baseline", "1,b"], "`b` is not a number"),
        (["x.arch", "--target", "c", "--target", "arm"], "`--target` is given twice"),
        (["x.arch", "-D", "a=1", "-D", "b=1", "-D", "a=2"], "`-D a` is given twice"),
        (["x.arch", "--emit", "c", "--cc", "gcc"], "`--cc` changes nothing here: nothing is built"),
        (["x.arch", "--dump-ir", "all", "-o", "-", "--cc", "gcc"], "`--cc` changes nothing here"),
        (["run", ".", "a.npy", "--init", "seed=1"], "`--init` changes nothing here: the folder is compiled"),
        (["run", ".", "a.npy", "--weights", "w.npz"], "`--weights` changes nothing here"),
        (["profile", ".", "-D", "a=1"], "`--define` changes nothing here: the folder is compiled already"),
        (["run", "x.arch", "a.npy", "--mean", "0.5"], "`--mean` changes nothing here: arrays are taken"),
        (["run", "x.arch", "--input", "x=a.npz", "--std", "2"], "`--std` changes nothing here"),
        (["report", "x.arch", "--baseline", "70,1,1"], "`--baseline` changes nothing here: TCA and TSA need"),
        (["explain", "CIR203", "--target", "arm"], "`--target` changes nothing here: it belongs to a model"),
        (["explain", "203", "-D", "a=1"], "`--define` changes nothing here"),
        (["verify", "x.arch", "--module", "out", "--target", "c"], "`--target` changes nothing here"),
        (["verify", "x.arch", "--module", "out", "--cc", "gcc"], "`--cc` changes nothing here: --module"),
        (["verify", "x.arch", "--module", "out", "--no-winograd"], "`--no-winograd` changes nothing here"),
        (
            ["verify", "x.arch", "--inputs", "in", "--runs", "2"],
            "`--runs` changes nothing here: --inputs",
        ),
        (["x.arch", "-o", ""], "is empty"),
        (["diff", "a.cir", "b.cir", "--cc", "gcc"], "`--cc` changes nothing here: neither side is compiled"),
        (["diff", "a.arch@c", "@arm", "--target", "x86"], "`--target` changes nothing here"),
        (["opt", "--list", "x.cir"], "`FILE` changes nothing here: --list runs no pass"),
        (["opt", "--list", "--passes", "dead-code"], "`--passes` changes nothing here"),
        (["opt", "x.cir", "--passes", "dead-code", "--target", "c"], "`--target` changes nothing here"),
        (["cache", "--limit", "1M"], "`--limit` changes nothing here: only `cache prune` has a limit"),
        (["cache", "clear", "--limit", "foo"], "`--limit` changes nothing here"),
    ],
)
def test_usage_mistakes(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert hint in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    "words",
    [
        ["run", "x.arch", "a.npy", "b.png", "--mean", "0.5", "--init", "seed=1"],
        ["run", "x.arch", "--mean", "0.5"],
        ["explain", "x.arch", "--target", "arm"],
        ["diff", "a.arch@c", "@last", "--target", "x86", "--cc", "gcc"],
        ["diff", "a.arch", "@fold-batchnorm", "--target", "x86"],
        ["x.arch", "--emit", "c,archive", "--cc", "gcc"],
        ["report", "x.arch", "--top1", "70", "--baseline", "70,1,1"],
        ["cache", "prune", "--limit", "1M"],
    ],
)
def test_the_same_options_where_they_matter(words: list[str]) -> None:
    cli.parse(words)


def test_every_unused_option_exists() -> None:
    for verb, rules in UNUSED.items():
        names = {option.name for option in BY_NAME[verb].options}
        assert all(set(rule.options) <= names for rule in rules), verb


def test_nothing_at_all_prints_the_help_and_is_a_usage_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: compactc MODEL.arch" in capsys.readouterr().err


def test_a_folder_is_not_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tmp_path)]) == 2
    assert "compactc run" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "is a folder, not a model" in capsys.readouterr().err
    (tmp_path / "manifest.json").touch()
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "is a folder, what was compiled, not the model" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["x.arch"], ["--target", "c", "x.cir"], ["compile", "x.arch", "--json"]])
def test_a_model_among_the_words_means_compile(words: list[str]) -> None:
    args = cli.parse(words)
    assert (args.verb.name, args.model.startswith("x")) == ("compile", True)


def test_options_may_stand_between_the_files() -> None:
    args = cli.parse(["run", "x.arch", "--top", "2", "a.npy", "--target", "c", "b.npy"])
    assert (args.model, args.files, args.top, args.target) == ("x.arch", ["a.npy", "b.npy"], 2, "c")


# -- what goes wrong -----------------------------------------------------------------------------------------


def test_a_mistake_in_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_text(MODEL.replace("relu", "rellu"), encoding="utf-8")
    assert cli.main(["explain", "tiny.arch"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error[CIR1")
    assert "--> tiny.arch:3:" in said.err
    assert "did you mean `relu`" in said.err


def test_a_mistake_in_the_model_for_programs(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_text(MODEL.replace("relu", "rellu"), encoding="utf-8")
    assert cli.main(["explain", "tiny.arch", "--json"]) == 1
    said = capsys.readouterr()
    (error,) = json.loads(said.out)["errors"]
    assert error["span"]["line"] == 3
    assert said.err == ""


def test_a_missing_model_is_a_mistake_not_a_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tmp_path / "none.arch")]) == 1
    assert "CIR113" in capsys.readouterr().err


def test_a_bug_of_ours_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(args: object) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("compactir.tools.list_targets.main", broken)
    assert cli.main(["targets"]) == 70
    said = capsys.readouterr().err
    assert "a bug of ours" in said
    assert __version__ in said
    assert "Traceback" not in said
    monkeypatch.setenv("COMPACTIR_TRACEBACK", "1")
    assert cli.main(["targets"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MemoryError(), "CIR673", "the memory is full"),
        (OSError(28, "No space left on device", "/x"), "CIR674", "`/x`: no space left on device"),
    ],
)
def test_what_the_system_refuses_is_no_bug_of_ours(
    error: Exception,
    code: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(args: object) -> int:
        raise error

    monkeypatch.setattr("compactir.tools.list_targets.main", refused)
    assert cli.main(["targets"]) == 1
    printed = capsys.readouterr().err
    assert code in printed
    assert said in printed


def test_a_terminal_without_arrows(tmp_path: Path) -> None:
    (tmp_path / "ü.arch").write_text(MODEL.replace("relu", "rellu"), encoding="utf-8")
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for words in (["completion", "zsh"], ["explain", "CIR203"], ["targets"], ["explain", "ü.arch"]):
        done = subprocess.run(
            [*COMMAND, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == (1 if "ü.arch" in words else 0), done.stderr
        assert "bug of ours" not in done.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["explain CIR203", "targets", "targets --json"])
def test_closed_streams(words: str, redirection: str, tmp_path: Path) -> None:
    done = in_a_shell(f"{words} {redirection}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stream_is_no_file(tmp_path: Path) -> None:
    """What is opened next does not get its descriptor, and with it what was meant for the stream."""
    (tmp_path / "small.arch").write_text(MODEL, encoding="utf-8")
    done = in_a_shell("export small.arch --init 0 -o small.safetensors >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    whole = (tmp_path / "small.safetensors").read_bytes()
    assert in_a_shell("export small.arch --init 0 -o small.safetensors", tmp_path).stdout
    assert (tmp_path / "small.safetensors").read_bytes() == whole


def test_nothing_to_format(tmp_path: Path) -> None:
    done = in_a_shell("fmt - <&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error[CIR674]: the system refuses: `<stdin>`: standard input is closed\n"


def in_a_shell(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = f'"{sys.executable}" -m compactir {words}'
    return subprocess.run(["bash", "-c", script], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "word", ["", " ", "-", "--", "a" * 5000, "a\nb", "\ud800", "../..", "~", "-Dx", "--="]
)
def test_odd_words_are_usage_mistakes(word: str) -> None:
    assert cli.main([word]) == 2


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [*COMMAND, "completion", "bash"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as said:
        assert (process.wait(60), said.read()) == (0, b"")


SLOW_COMPILER = """\
#!/bin/sh
case "$*" in
  *--version*) echo "gcc (slow) 12"; exit 0;;
  *-dumpmachine*) echo "$(uname -m)-linux-gnu"; exit 0;;
esac
touch "$STARTED"
exec sleep 60
"""


def test_an_interrupt_while_modules_load_is_no_traceback() -> None:
    """Ctrl-C in the first tenth of a second: here it comes with the import of a module of `cli`."""
    program = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "compactir.tools.verbs":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from compactir.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was left half-written\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing_half_written(
    model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    compiler, started, cache = tmp_path / "slow-gcc", tmp_path / "started", tmp_path / "cache"
    compiler.write_text(SLOW_COMPILER, encoding="utf-8")
    compiler.chmod(0o755)
    process = subprocess.Popen(
        [*COMMAND, "tiny.arch", "-o", "built/out", "--cc", str(compiler)],
        cwd=tmp_path,
        env=ENVIRONMENT | {"STARTED": str(started), "COMPACTIR_CACHE": str(cache)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not started.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not (tmp_path / "built").exists()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


# -- the small verbs -----------------------------------------------------------------------------------------


def test_explain_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "cir203"]) == 0
    by_code = capsys.readouterr().out
    assert cli.main(["explain", "203"]) == 0
    assert capsys.readouterr().out == by_code
    assert by_code.startswith("CIR203: ")
    assert "What to do:" in by_code
    assert cli.main(["explain", "CIR203", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"] == "CIR203"


def test_explain_an_unknown_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "CIR299"]) == 2
    assert "CIR203" in capsys.readouterr().err


def test_explain_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "tiny.arch", "--json"]) == 0
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    folded = [d for d in decisions if d["rule"] == "fold-batchnorm"]
    assert [(d["node"], d["done"], d["where"]) for d in folded] == [("bn1", True, "tiny.arch:3:49")]
    assert cli.main(["explain", "tiny.arch"]) == 0
    said = capsys.readouterr()
    assert "fold-batchnorm" in said.out
    assert said.err == ""


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["targets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"c", "arm", "x86"} <= {target["name"] for target in listed["targets"]}
    assert [t["name"] for t in listed["targets"] if t["native"]] == [listed["native"]]
    assert cli.main(["targets"]) == 0
    assert f"`native` is {listed['native']}" in capsys.readouterr().out


def test_an_unknown_target(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tiny.arch", "--target", "arn"]) == 2
    assert "CIR502" in capsys.readouterr().err


def _thousand_bytes(folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * 1000)


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from compactir.runtime.cache import open_cache

    monkeypatch.setenv("COMPACTIR_CACHE", str(tmp_path / "cache"))
    open_cache().build("entry", _thousand_bytes)
    assert cli.main(["cache", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["entries"], stats["root"]) == (1, str(tmp_path / "cache"))
    assert cli.main(["cache", "prune", "--limit", "1G"]) == 0
    assert cli.main(["cache"]) == 0
    capsys.readouterr()
    assert cli.main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed_bytes"] >= 1000
    assert open_cache().stats().entries == 0
    assert cli.main(["cache", "prune", "--limit", "lots"]) == 2
    assert "--limit" in capsys.readouterr().err


def test_cache_says_as_one_line_that_its_place_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    environment = ENVIRONMENT | {"COMPACTIR_CACHE": str(tmp_path / "file" / "cache")}
    done = subprocess.run([*COMMAND, "cache"], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("warning: the build cache ")
    assert done.stderr.count("\n") == 1


UNTIDY = "network  n {\n input x:f32[1,8,8]   # an image\n output y=x->relu\n}\n"


def test_fmt_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ünordentlich.arch"
    path.write_text(UNTIDY, encoding="utf-8")
    path.chmod(0o640)
    assert cli.main(["fmt", "--check", str(path)]) == 1
    assert "+network n {" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == UNTIDY
    assert cli.main(["fmt", str(path)]) == 0
    formatted = path.read_text(encoding="utf-8")
    assert "# an image" in formatted
    assert formatted.startswith("network n {\n  input x")
    assert path.stat().st_mode & 0o777 == 0o640
    assert cli.main(["fmt", "--check", str(path)]) == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_graph_file_names_its_weights_as_seen_from_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the network while no pass has changed them, else none, or the saved ones."""
    examples = Path(cli.__file__).parent.parent / "examples"
    monkeypatch.chdir(examples)
    folder, opted, saved = tmp_path / "out", tmp_path / "opted.cir", tmp_path / "w" / "o.safetensors"
    saved.parent.mkdir()
    words = ["lenet5.arch", "--target", "c", "--emit", "ir", "--dump-ir", "all", "-o", str(folder)]
    assert cli.main(words) == 0
    assert cli.main(["opt", "lenet5.arch", "-o", str(opted), "--save-weights", str(saved)]) == 0
    monkeypatch.chdir(tmp_path)
    named = f'  weights "{os.path.relpath(examples / "lenet5.safetensors", folder)}"'
    assert named in (folder / "lenet5.cir").read_text(encoding="utf-8")
    assert "  weights " not in (folder / "lenet5.opt.cir").read_text(encoding="utf-8")
    last = sorted((folder / "ir").glob("*.cir"))[-1]
    assert "  weights " not in last.read_text(encoding="utf-8")
    assert '  weights "w/o.safetensors"' in opted.read_text(encoding="utf-8")
    right = driver.read(driver.Source(examples / "lenet5.arch")).graph
    inputs = reference.random_inputs(right, 1)
    (expected,) = reference.run(right, inputs).values()
    for file in (folder / "lenet5.cir", folder / "ir" / "00-authored.cir", opted):
        (found,) = reference.run(driver.read(driver.Source(file)).graph, inputs).values()
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_fmt_leaves_what_does_not_parse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "n.arch"
    path.write_text("network n {", encoding="utf-8")
    assert cli.main(["fmt", str(path)]) == 1
    assert path.read_text(encoding="utf-8") == "network n {"
    assert "error[CIR1" in capsys.readouterr().err


def test_fmt_as_a_filter() -> None:
    done = subprocess.run(
        [*COMMAND, "fmt"], input=UNTIDY, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("network n {\n")


def test_opt(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from compactir.ir.text import parse_graph

    words = ["opt", "tiny.arch", "--init", "seed=1", "--passes", "fold-batchnorm", "--verify-each"]
    assert cli.main([*words, "--dump-ir", "before:fold-batchnorm"]) == 0
    said = capsys.readouterr()
    assert [n.op.name for n in parse_graph(said.out).nodes] == ["conv", "relu", "global_avg_pool", "linear"]
    assert "= bn(" in said.err
    assert cli.main([*words, "-o", "opt.cir", "--save-weights", "opt.safetensors"]) == 0
    assert cli.main(["opt", "opt.cir", "--weights", "opt.safetensors", "--passes", ""]) == 0
    assert capsys.readouterr().out.count("= bn(") == 0


def test_opt_mistakes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["opt", "tiny.arch", "--passes", "fold-batchnrm"]) == 2
    assert "did you mean `fold-batchnorm`" in capsys.readouterr().err
    assert cli.main(["opt", "tiny.arch", "--init", "seed=0", "--dump-ir", "fold-batchnrm"]) == 2
    assert "did you mean `fold-batchnorm`" in capsys.readouterr().err
    assert cli.main(["opt"]) == 2
    assert "CIR672" in capsys.readouterr().err
    assert cli.main(["opt", "--list"]) == 0
    assert "fold-batchnorm" in capsys.readouterr().out


# -- diff ----------------------------------------------------------------------------------------------------


def test_diff_of_two_stages(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "tiny.arch@authored", "@fold-batchnorm", "--init", "seed=0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["agrees"]
    assert [row["name"] for row in said["outputs"]] == ["scores"]
    assert sum(line.startswith("-") and "= bn(" in line for line in said["changes"]) == 1
    assert cli.main(["diff", "tiny.arch", "tiny.arch@before:drop-identity"]) == 0
    assert "the graphs are equal" in capsys.readouterr().out


@pytest.mark.compiler
def test_diff_of_two_targets(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "tiny.arch@c", "@native", "--init", "seed=0"]) == 0
    assert "scores" in capsys.readouterr().out


def test_diff_of_two_files(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another slope changes one value and what comes after it."""
    text = MODEL.replace("relu", "leaky_relu(slope=0.5)")
    Path("a.arch").write_text(text, encoding="utf-8")
    Path("b.arch").write_text(text.replace("0.5", "0.25"), encoding="utf-8")
    assert cli.main(["diff", "a.arch", "b.arch", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["agrees"]
    first = next(row for row in said["values"] if not row["agrees"])
    assert (first["name"], first["where"]) == ("leaky_relu1", "a.arch:3:55")
    assert cli.main(["diff", "a.arch", "b.arch"]) == 1
    assert "+  %leaky_relu1" in capsys.readouterr().out


def test_diff_of_graphs_without_arrays(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What passes computed is in no file: the texts can be compared, numbers cannot."""
    for slope, out in (("0.5", "a"), ("0.25", "b")):
        model.write_text(MODEL.replace("relu", f"leaky_relu(slope={slope})"), encoding="utf-8")
        words = ["opt", "tiny.arch", "--init", "seed=0", "--passes", "fold-batchnorm"]
        assert cli.main([*words, "-o", f"{out}.cir", "--save-weights", f"{out}.safetensors"]) == 0
        text = Path(f"{out}.cir").read_text(encoding="utf-8")
        assert " folded" in text
        Path(f"{out}.cir").write_text(re.sub(r"(?m)^ *weights .*\n", "", text), encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["diff", "a.cir", "a.cir"]) == 0
    said = capsys.readouterr().out
    assert "the graphs are equal" in said
    assert "no numbers are compared:\n  a.cir: passes computed `conv1." in said
    assert cli.main(["diff", "a.cir", "a.cir@c"]) == 1  # linear-to-conv
    assert "+  %linear1_2" in capsys.readouterr().out
    assert cli.main(["diff", "a.cir", "b.cir"]) == 1
    assert "+  %leaky_relu1" in capsys.readouterr().out
    assert cli.main(["diff", "a.cir", "b.cir", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["agrees"], found["outputs"], found["values"]) == (None, [], [])
    assert found["lacking"].keys() == {"a.cir", "b.cir"}
    assert cli.main(["diff", "a.cir", "a.cir", "--weights", "a.safetensors"]) == 0
    assert "no numbers" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "exit", "code", "hint"),
    [
        (["tiny.arch@fold-batchnrm", "@last"], 2, "CIR675", "did you mean `fold-batchnorm`"),
        (["@last", "@last"], 2, "CIR675", "needs a file"),
        (["tiny.arch", "wide.arch"], 1, "CIR676", "different inputs"),
    ],
)
def test_diff_mistakes(
    model: Path, words: list[str], exit: int, code: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wide.arch").write_text(MODEL.replace("8, 8", "9, 9"), encoding="utf-8")
    assert cli.main(["diff", *words]) == exit
    said = capsys.readouterr().err
    assert code in said
    assert hint in said


# -- completion ----------------------------------------------------------------------------------------------

ASK = """
source /dev/stdin <<< "$SCRIPT"
COMP_WORDS=(compactc "$@"); COMP_CWORD=$#; COMPREPLY=()
_compactc
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rep"], {"report"}),
        (["report", "--top"], {"--top1"}),
        (["x.arch", "--target", "arm-a5"], {"arm-a53", "arm-a55"}),
        (["x.arch", "--verify"], {"--verify-each"}),
        (["cache", "cl"], {"clear"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_bash_completes(
    words: list[str], expected: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", *words],
        env={"SCRIPT": script, "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_know_every_verb_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for verb in VERBS:
        assert verb.summary in script
        for option in verb.options:
            for flag in option.flags:
                assert (
                    flag if shell == "zsh" else f"{'-l' if flag[1] == '-' else '-s'} {flag.strip('-')}"
                ) in script


# -- the terminal --------------------------------------------------------------------------------------------


class Screen:
    """A stderr that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """As asked."""
        return True

    def fileno(self) -> int:
        """Not a file."""
        raise OSError


def test_progress_appears_when_work_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.05)
    with terminal.working("counting sheep") as say:
        say("counting goats")
        deadline = time.monotonic() + 10
        while "counting goats" not in screen.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "counting goats" in screen.text


def test_no_progress_for_quick_work_and_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.working("quick"):
        pass
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    with terminal.working("counting", quiet=True):
        time.sleep(0.05)
    assert screen.text == ""


def test_tables_have_no_colors_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table("title", ("name", "count>"), [("a", 1_234_567), ("b" * 150, 2)], ("sum", 1_234_569))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "1,234,567" in said
    assert "b" * 150 in said
    assert all(line == line.rstrip() for line in said.splitlines())


def test_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        terminal.print_json({"x": float(np.nan)})
    assert capsys.readouterr().out == ""


Golden = Callable[[Path, str], None]


def test_the_manual_shows_the_help_of_every_verb(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    manual = Path(__file__).parent.parent / "docs" / "cli.md"
    text = manual.read_text(encoding="utf-8")
    sections = {"overview": cli.overview()} | {v.name: cli.make_parser(v).format_help() for v in VERBS}
    for name, said in sections.items():
        start, end = f"<!-- help {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        assert found, f"docs/cli.md has no section for {name}"
        after = rest.partition(end)[2]
        text = f"{before}{start}\n```text\n{said.rstrip()}\n```\n\n{end}{after}"
    golden(manual, text)

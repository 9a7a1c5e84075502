"""The road from a model file to a loaded module: what is written, what stays, where weights come from."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compactir
from compactir import cli, reference
from compactir.diagnostics import CompactError, render
from compactir.driver import Authored, Source, generate, plan, read, read_graph
from compactir.ir.text import print_graph
from compactir.ir.types import Array
from compactir.runtime.build import find_compiler
from compactir.runtime.publish import undisturbed
from compactir.targets import load_target, machine
from compactir.weights.safetensors import write_safetensors
from tests.conftest import MODEL, ROOT


def expected(model: Path, seed: int, x: Array) -> Array:
    """What the reference says."""
    return reference.run(read(Source(model, seed=seed)).graph, {"image": x})["scores"]


# -- weights -------------------------------------------------------------------------------------------------


def test_random_weights_are_said_once(model: Path) -> None:
    with pytest.warns(UserWarning, match=r"`tiny` names no weights: they are random \(seed 0\)"):
        authored = read(Source(model))
    assert authored.init == {"weights": "random", "seed": 0}


def test_a_seed_is_no_surprise(model: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        authored, other = read(Source(model, seed=1)), read(Source(model, seed=2))
    assert authored.init == {"weights": "random", "seed": 1}
    assert not np.array_equal(authored.graph.weights["conv1.weight"], other.graph.weights["conv1.weight"])


def test_the_order_of_weights(model: Path) -> None:
    """--weights, then the line of the network, then random numbers."""
    given, named = read(Source(model, seed=1)).graph, read(Source(model, seed=2)).graph
    write_safetensors(model.parent / "given.safetensors", given.weights)
    write_safetensors(model.parent / "named.safetensors", named.weights)
    model.write_text(MODEL.replace("  input", '  weights "named.safetensors"\n  input'), encoding="utf-8")
    by_line = read(Source(model))
    by_option = read(Source(model, weights="given.safetensors"))
    drawn = read(Source(model, seed=1))
    assert np.array_equal(by_line.graph.weights["conv1.weight"], named.weights["conv1.weight"])
    assert np.array_equal(by_option.graph.weights["conv1.weight"], given.weights["conv1.weight"])
    assert np.array_equal(drawn.graph.weights["conv1.weight"], given.weights["conv1.weight"])
    assert by_line.init["file"] == "named.safetensors"
    files = [r.graph.weights_file for r in (by_line, by_option, drawn)]  # which .cir files name
    assert files == [str(model.parent / "named.safetensors"), "given.safetensors", None]
    assert len(by_line.init["sha256"]) == 64


def test_a_weights_line_is_relative_to_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_safetensors(model.parent / "w.safetensors", read(Source(model, seed=1)).graph.weights)
    model.write_text(MODEL.replace("  input", '  weights "w.safetensors"\n  input'), encoding="utf-8")
    elsewhere = model.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read(Source("../tiny.arch")).init["file"] == "w.safetensors"


def test_a_file_and_a_seed(model: Path) -> None:
    with pytest.raises(CompactError) as caught:
        read(Source(model, weights="w.safetensors", seed=1))
    assert caught.value.code == "CIR661"


@pytest.mark.parametrize(
    ("file", "code"), [("none.safetensors", "CIR640"), ("tiny.arch", "CIR641"), ("junk.npz", "CIR642")]
)
def test_a_bad_weights_line_is_shown(file: str, code: str, model: Path) -> None:
    (model.parent / "junk.npz").write_bytes(b"no archive")
    model.write_text(MODEL.replace("  input", f'  weights "{file}"\n  input'), encoding="utf-8")
    with pytest.raises(CompactError) as caught:
        read(Source(model))
    assert caught.value.code == code
    span = caught.value.span
    assert span is not None
    line = model.read_text(encoding="utf-8").splitlines()[span.line - 1]
    assert line[span.column - 1 :].startswith("weights ")
    assert f'weights "{file}"' in render(caught.value)
    with pytest.raises(CompactError) as caught:
        read(Source(model, weights="other.safetensors"))
    assert caught.value.span is None  # the model is not at fault


def test_a_bad_weights_line_of_a_graph_in_text_form_is_shown(model: Path) -> None:
    graph = read_graph(Source(model))
    graph.weights_file = "none.safetensors"
    (model.parent / "tiny.cir").write_text(print_graph(graph), encoding="utf-8")
    with pytest.raises(CompactError) as caught:
        read(Source(model.parent / "tiny.cir"))
    assert caught.value.code == "CIR640"
    assert caught.value.span is not None
    assert '"none.safetensors"' in render(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": None}, "`model` is None; help: give the path of a .arch or .cir file, or a graph"),
        ({"model": 3}, "`model` is 3 (int)"),
        ({"model": b"x.arch"}, "(bytes)"),
        ({"target": 3}, "`target` is 3 (int); help: give a name of `compactc targets`"),
        ({"batch": 0}, "`batch` is 0; help: give a whole number of at least 1"),
        ({"batch": "2"}, "`batch` is '2' (str)"),
        ({"batch": 1.5}, "`batch` is 1.5 (float)"),
        ({"batch": True}, "`batch` is True (bool)"),
        ({"seed": "a"}, "`seed` is 'a' (str)"),
        ({"seed": -1}, "`seed` is -1; help: give a whole number of at least 0"),
        ({"weights": 3}, "`weights` is 3 (int)"),
        ({"pack": "foo"}, "`pack` is 'foo'; help: give one of auto, inline, object or file"),
        ({"cc": 3}, "`cc` is 3 (int)"),
        ({"out": 3}, "`out` is 3 (int)"),
        ({"network": 3}, "`network` is 3 (int)"),
    ],
)
def test_arguments_that_mean_nothing(arguments: dict[str, Any], said: str, model: Path) -> None:
    with pytest.raises(CompactError) as caught:
        compactir.compile(**{"model": model, **arguments})
    assert caught.value.code == "CIR678"
    assert said in str(caught.value)


@pytest.mark.parametrize("path", [3, None, b"out", ["out"]])
def test_a_path_that_is_none(path: Any) -> None:
    with pytest.raises(CompactError, match=r"CIR678.*`path` is .*the folder that `compactc -o DIR` wrote"):
        compactir.load(path)


def test_numbers_of_numpy_are_numbers(model: Path) -> None:
    batch: Any = np.int64(2)
    seed: Any = np.int32(1)
    module = compactir.compile(model, batch=batch, seed=seed)
    assert module.inputs["image"].shape[0] == 2


def test_a_missing_weights_file_is_an_error(model: Path) -> None:
    with pytest.raises(CompactError) as caught:
        read(Source(model, weights="none.safetensors"))
    assert caught.value.code == "CIR640"


# -- graphs as text ------------------------------------------------------------------------------------------


def test_a_graph_as_text_is_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tiny.arch", "--init", "seed=3", "--target", "c", "--emit", "ir", "-o", "-"]) == 0
    Path("t.cir").write_text(capsys.readouterr().out, encoding="utf-8")
    x = np.ones((1, 3, 8, 8), np.float32)
    assert np.array_equal(expected(Path("t.cir"), 3, x), expected(model, 3, x))
    with pytest.raises(CompactError) as caught:
        read(Source("t.cir", {"classes": "4"}))
    assert caught.value.code == "CIR660"


# -- what is generated ---------------------------------------------------------------------------------------


def test_generated_code_does_not_depend_on_where_the_model_lies(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "sub" / "folder ü"
    other.mkdir(parents=True)
    shutil.copy(model, other / "tiny.arch")
    here = generated("tiny.arch")
    assert generated(other / "tiny.arch") == here
    monkeypatch.chdir(other)
    assert generated("../../tiny.arch") == here
    assert generated(model) == here
    assert "tiny.arch:3:" in here[0]
    assert not any(str(tmp_path) in text for text in here)


def generated(path: str | Path) -> tuple[str, str, str]:
    """C, header and manifest."""
    result = generate(plan(read(Source(path, seed=0)), load_target("c")))
    return result.files.source, result.files.header, result.manifest.to_json()


def test_packing(model: Path) -> None:
    planned = plan(read(Source(model, seed=0)), load_target("c"))
    assert generate(planned).manifest.weights is None
    assert generate(planned, pack="inline").manifest.weights is None
    assert generate(planned, pack="file").manifest.weights == "tiny.weights"


# -- the output folder ---------------------------------------------------------------------------------------


@pytest.mark.compiler
def test_compile_and_load(model: Path) -> None:
    x = np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    module = compactir.compile("tiny.arch", target="c", seed=5)
    assert np.allclose(module(x), expected(model, 5, x), atol=1e-5)
    wider = compactir.compile("tiny.arch", target="c", seed=5, classes=7)
    assert wider(x).shape == (1, 7)


@pytest.mark.compiler
def test_compile_into_a_folder(model: Path) -> None:
    module = compactir.compile("tiny.arch", out="built/out", target="c", seed=5, batch=2)
    assert module.folder == Path("built/out")
    assert [p.name for p in Path("built").iterdir()] == ["out"]
    again = compactir.load("built/out")
    x = np.ones((2, 3, 8, 8), np.float32)
    assert np.array_equal(again(x), module(x))
    assert again.manifest.raw["init"] == {"weights": "random", "seed": 5}


@pytest.mark.compiler
def test_the_two_lines_of_the_readme(model: Path) -> None:
    assert cli.main(["tiny.arch", "--init", "seed=0", "--emit", "ir,c,lib,py", "-o", "out/"]) == 0
    program = (
        "import numpy as np, sys, compactir; m = compactir.load('out'); "
        "print(m(np.ones((1, 3, 8, 8), np.float32)).shape, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 3) False\n"


def test_what_is_emitted(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tiny.arch", "--init", "seed=0", "--target", "c", "-o", "out", "--pack", "file", "--json"]
    assert cli.main([*words, "--emit", "ir,c,py,dot,report", "--dump-ir", "all"]) == 0
    summary = json.loads(capsys.readouterr().out)
    files = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert files == {"manifest.json", *summary["files"]}
    assert {
        "tiny.c", "tiny.h", "tiny.weights", "tiny_ffi.py", "tiny.cir", "tiny.opt.cir", "tiny.plan", "tiny.py",
        "tiny.safetensors", "tiny_deployed.py", "tiny_deployed.safetensors", "tiny.dot", "tiny.opt.dot",
        "tiny.report.json", "ir/00-authored.cir",
    } <= files  # fmt: skip
    assert any(name.endswith("-fold-batchnorm.cir") for name in files)
    assert Path("out/tiny.weights").stat().st_size == summary["weights_bytes"]


def test_a_second_compilation_replaces_the_first_and_nothing_else(model: Path) -> None:
    words = ["tiny.arch", "--init", "seed=0", "--target", "c", "-o", "out"]
    assert cli.main([*words, "--emit", "c,py", "--dump-ir", "all", "--pack", "file"]) == 0
    Path("out/notes.txt").write_text("mine", encoding="utf-8")
    Path("out/tiny.py").write_text("# changed by hand", encoding="utf-8")
    assert cli.main([*words, "--emit", "c"]) == 0
    files = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert {"notes.txt", "tiny.py", "tiny.safetensors", "tiny.c"} <= files
    assert "tiny.weights" not in files
    assert not any(name.startswith("ir/") for name in files)
    assert Path("out/tiny.py").read_text(encoding="utf-8") == "# changed by hand"


@pytest.mark.parametrize("name", ["/outside", "../outside"])
def test_a_foreign_manifest_removes_nothing_outside(model: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "outside"
    victim.write_text("precious", encoding="utf-8")
    words = ["tiny.arch", "--init", "seed=0", "--target", "c", "--emit", "c", "-o", "out"]
    assert cli.main(words) == 0
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    manifest["library"] = str(victim) if name.startswith("/") else name
    Path("out/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert cli.main(words) == 0
    assert victim.read_text(encoding="utf-8") == "precious"


def test_a_folder_that_cannot_be(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("", encoding="utf-8")
    for out in ("file", "file/out"):
        assert cli.main(["tiny.arch", "--target", "c", "--emit", "c", "-o", out]) == 1
        assert "CIR652" in capsys.readouterr().err
    assert Path("file").read_text(encoding="utf-8") == ""


def test_a_failing_write_leaves_no_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise CompactError("CIR652", "the disk is full")

    monkeypatch.setattr("compactir.runtime.publish.write_folder", full)
    assert cli.main(["tiny.arch", "--target", "c", "--emit", "c", "-o", "out"]) == 1
    assert [path.name for path in Path().iterdir()] == ["tiny.arch"]


def test_ctrl_c_waits_for_the_files_of_an_older_folder() -> None:
    steps = []

    def work() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            steps.append("the last file")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["the last file"]


COMPILED = [
    (["--target", "c"], "libtiny.so", "-fPIC"),
    (["--target", "arm", "--cc", "zig"], "libtiny.so", "-mcpu=generic"),
    (["--target", "cortex-m4", "--cc", "zig"], "libtiny.a", "-ffreestanding"),
]


@pytest.mark.compiler
@pytest.mark.parametrize(("words", "library", "flag"), COMPILED)
def test_the_manifest_names_the_compiler(
    words: list[str],
    library: str,
    flag: str,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    need: Callable[[str], None],
) -> None:
    """Its own words about itself, and nothing of this machine; the same from every run."""
    if "zig" in words:
        need("ziglang")
    compiler = find_compiler(load_target(words[1]), "zig" if "zig" in words else None)
    texts = []
    for name in ("one", "two"):
        monkeypatch.setenv("COMPACTIR_CACHE", str(model.parent / f"cache-{name}"))
        assert cli.main([str(model), *words, "--init", "seed=0", "-o", name]) == 0
        texts.append((Path(name) / "manifest.json").read_text(encoding="utf-8"))
        assert (Path(name) / library).exists()
    assert texts[0] == texts[1]
    manifest = json.loads(texts[0])
    assert manifest["compactir"] == compactir.__version__
    manual = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").split("**`manifest.json`**")[1]
    table = manual.split("\n## ")[0]
    documented = {key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in row.split("`")}
    assert set(manifest) <= documented
    record = manifest["compiler"]
    assert {key: record[key] for key in ("family", "version")} == {
        "family": compiler.family,
        "version": compiler.version,
    }
    assert flag in record["flags"]
    assert not [word for word in record["flags"] if os.sep in word]
    assert cli.main([str(model), *words[:2], "--init", "seed=0", "-o", "one", "--emit", "c"]) == 0
    assert "compiler" not in json.loads(Path("one/manifest.json").read_text(encoding="utf-8"))


@pytest.mark.compiler
def test_every_level_names_its_compiler(model: Path) -> None:
    words = ["c", "x86" if machine() == "x86_64" else "arm"]
    assert cli.main([str(model), "--target", ",".join(words), "--init", "seed=0", "-o", "out"]) == 0
    for folder, target in zip(("out", f"out/{words[1]}"), words, strict=True):
        record = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))["compiler"]
        assert set(load_target(target).flags(record["family"])) <= set(record["flags"])


def test_the_manifest_names_no_library_that_is_not_there(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tiny.arch", "--init", "seed=0", "--target", "c", "-o", "out"]
    assert cli.main([*words, "--emit", "c"]) == 0
    capsys.readouterr()
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    assert manifest["library"] is None
    assert all((Path("out") / name).exists() for name in manifest["files"])
    assert cli.main(["verify", *words[:3], "--module", "out"]) == 1
    said = capsys.readouterr().err
    assert "CIR614" in said
    assert "--emit c,lib" in said
    assert cli.main(words) == 0
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    assert manifest["library"] == "libtiny.so"
    assert cli.main([*words, "--emit", "c"]) == 0
    assert not Path("out/libtiny.so").exists()


def test_printing_needs_one_thing_to_print(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tiny.arch", "-o", "-"]) == 2
    assert "CIR665" in capsys.readouterr().err
    assert cli.main(["tiny.arch", "--target", "c", "--dump-ir", "before:fold-batchnorm", "-o", "-"]) == 0
    assert "= bn(" in capsys.readouterr().out
    assert cli.main(["tiny.arch", "--target", "c", "--emit", "c", "-o", "-"]) == 0
    assert "tiny_run" in capsys.readouterr().out


def test_dot(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_text(
        "block pair(x, out: int) {\n  y = x -> conv(out, kernel=1) -> relu\n  return y\n}\n"
        "network n {\n  input x: f32[3, 4, 4]\n  y = x -> pair(4)\n  output z = y + (y -> pair(4))\n}\n",
        encoding="utf-8",
    )
    assert cli.main(["tiny.arch", "--target", "c", "--emit", "dot", "-o", "-"]) == 0
    text = capsys.readouterr().out
    assert text.startswith('digraph "n" {')
    assert 'subgraph "cluster_pair2"' in text
    assert '"pair1.relu1" -> "pair2.conv1";' in text
    assert '"return:z"' in text
    assert text.count("{") == text.count("}")


# -- run -----------------------------------------------------------------------------------------------------


@pytest.mark.compiler
def test_run_on_arrays(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    np.save("x.npy", x)
    np.savez("x.npz", image=x[0], other=x[1])
    words = ["run", "tiny.arch", "--init", "seed=5", "--target", "c"]
    assert cli.main([*words, "x.npy", "--output", "y.npy", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    y = np.load("y.npy")
    assert y.shape == (4, 3)
    assert np.allclose(y, said["outputs"]["scores"]["values"], atol=1e-6)
    for item, image in zip(y, x, strict=True):
        assert np.allclose(item, expected(model, 5, image[None]), atol=1e-5)
    assert [b[0]["class"] for b in said["outputs"]["scores"]["best"]] == y.argmax(1).tolist()
    assert cli.main([*words, "--input", "image=x.npz"]) == 0
    assert f"{y[0].max():.6g}"[:5] in capsys.readouterr().out
    assert sorted(p.name for p in Path().iterdir()) == ["tiny.arch", "x.npy", "x.npz", "y.npy"]


@pytest.mark.compiler
def test_the_best_class_of_distances_is_the_nearest(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "network near { input x: f32[4]\n  output y = x -> rbf(3)\n  output z = x -> linear(3) }"
    Path("near.arch").write_text(text, encoding="utf-8")
    np.save("x.npy", np.array([[0.5, -1.0, 2.0, 0.1]], np.float32))
    words = ["near.arch", "--init", "seed=1", "--target", "c"]
    assert cli.main([*words, "-o", "near"]) == 0
    capsys.readouterr()
    for what in (["near"], words):
        assert cli.main(["run", *what, "x.npy", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)["outputs"]
        y, z = np.array(said["y"]["values"][0]), np.array(said["z"]["values"][0])
        assert len(set(y)) > 1
        assert [row["distance"] for row in said["y"]["best"][0]] == sorted(y)
        assert said["y"]["best"][0][0]["class"] == y.argmin()
        assert said["z"]["best"][0][0] == {"class": z.argmax(), "score": z.max()}
    assert cli.main(["run", "near", "x.npy"]) == 0
    assert "distance" in capsys.readouterr().out


@pytest.mark.compiler
def test_run_on_an_image(
    model: Path, need: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    need("PIL")
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save("i.png")
    Image.fromarray(pixels).resize((16, 12)).save("large.png")
    words = ["run", "tiny.arch", "--init", "seed=5", "--target", "c", "--json"]
    assert cli.main([*words, "i.png"]) == 0
    said = json.loads(capsys.readouterr().out)
    x = (pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None]
    assert np.allclose(said["outputs"]["scores"]["values"], expected(model, 5, x), atol=1e-5)
    assert cli.main([*words, "i.png", "--mean", "0.5", "--std", "0.1,0.2,0.3"]) == 0
    said = json.loads(capsys.readouterr().out)
    scaled = (x - 0.5) / np.array([0.1, 0.2, 0.3], np.float32)[:, None, None]
    assert np.allclose(said["outputs"]["scores"]["values"], expected(model, 5, scaled), atol=1e-4)
    assert cli.main([*words, "large.png"]) == 0
    assert "resized from 16×12 to 8×8" in capsys.readouterr().err


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["none.npy"], "CIR666", "did you mean `nine.npy`"),
        (["nine.npy"], "CIR667", "takes [1, 3, 8, 8]"),
        (["last.npy"], "CIR667", "the channels come first"),
        (["pickle.npy"], "CIR666", "arrays of Python objects are refused"),
        (["text.png"], "CIR666", "cannot be read as an image"),
        (["--input", "imagee=nine.npy"], "CIR620", "did you mean `image`"),
        (["nine.npy", "nine.npy"], "CIR620", "2 files for 1 open input"),
        ([], "CIR620", "0 files for 1 open input"),
    ],
)
def test_run_mistakes(
    model: Path, words: list[str], code: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("nine.npy", np.zeros(9))
    np.save("last.npy", np.zeros((1, 8, 8, 3)))
    np.save("good.npy", np.zeros((1, 3, 8, 8)))
    np.save("pickle.npy", np.array([{}]), allow_pickle=True)
    Path("text.png").write_text("no image", encoding="utf-8")
    assert cli.main(["run", "tiny.arch", "--init", "seed=0", "--target", "c", *words]) == 1
    said = capsys.readouterr().err
    assert code in said
    assert hint in said


# -- verify --------------------------------------------------------------------------------------------------


@pytest.mark.compiler
def test_verify(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "tiny.arch", "--init", "seed=0", "--per-layer", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["agrees"]
    assert [row["name"] for row in said["outputs"]] == ["scores"] * 3
    assert said["layers"][0]["name"] == "conv1"
    assert all(row["error"] > 0 or row["scale"] >= 0 for row in said["layers"])


@pytest.mark.compiler
def test_verify_finds_two_swapped_weights(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The proof that it can fail: two floats in the middle of the packed weights change places."""
    words = ["tiny.arch", "--init", "seed=0", "--target", "c"]
    assert cli.main([*words, "--pack", "file", "-o", "out"]) == 0
    packed = Path("out/tiny.weights")
    data = np.frombuffer(packed.read_bytes(), np.float32).copy()
    filled = np.flatnonzero(data[16:])[[4, 9]] + 16
    data[filled] = data[filled[::-1]]
    packed.write_bytes(data.tobytes())
    assert cli.main(["verify", *words[:3], "--module", "out", "--per-layer"]) == 1
    said = capsys.readouterr().out
    assert "does not agree: `conv1` is the first tensor that differs" in said


@pytest.mark.compiler
def test_verify_says_that_the_weights_are_others(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest knows what was compiled in; a file under another name is the same file."""
    assert cli.main(["tiny.arch", "--init", "seed=1", "--target", "c", "-o", "out"]) == 0
    assert cli.main(["export", "tiny.arch", "--init", "seed=1", "-o", "a.safetensors"]) == 0
    words = ["verify", "tiny.arch", "--module", "out", "--runs", "1", "--json"]
    for init, said in (("seed=1", []), ("seed=0", ["random weights (seed 1), the model here has random"])):
        capsys.readouterr()
        assert cli.main([*words, "--init", init]) == len(said)
        hints = json.loads(capsys.readouterr().out)["hints"]
        assert len(hints) == len(said)
        assert all(part in hint for part, hint in zip(said, hints, strict=True))
    assert cli.main(["tiny.arch", "--weights", "a.safetensors", "--target", "c", "-o", "out"]) == 0
    Path("a.safetensors").rename("b.safetensors")
    capsys.readouterr()
    assert cli.main([*words, "--weights", "b.safetensors"]) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == []


@pytest.mark.compiler
def test_verify_refuses_a_module_of_another_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tiny.arch", "--init", "seed=0", "--target", "c"]
    assert cli.main([*words, "-o", "out"]) == 0
    assert cli.main(["verify", *words[:3], "-D", "classes=4", "--module", "out"]) == 1
    assert "CIR670" in capsys.readouterr().err
    assert cli.main(["verify", *words, "--batch", "2", "--per-layer"]) == 2
    assert "CIR671" in capsys.readouterr().err


def test_reading_a_graph_copies_it(model: Path) -> None:
    authored: Authored = read(Source(model, seed=0))
    again = read(Source(authored.graph, seed=1))
    assert again.graph is not authored.graph
    assert not np.array_equal(again.graph.weights["conv1.weight"], authored.graph.weights["conv1.weight"])

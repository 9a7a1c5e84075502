"""`compactc verify`: judges in a process of their own, inputs from a folder, hints on their preparation."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compactir import driver, reference
from compactir.cli import main
from compactir.diagnostics import CompactError
from compactir.ir.types import Array
from compactir.tools.judge import ask
from compactir.tools.preparation import PREPARATIONS, read_cases
from compactir.tools.verify import Covered, compare
from compactir.weights.init import draw
from compactir.weights.safetensors import write_safetensors

MODEL = """
network small {
  input image: f32[3, 8, 8]
  x = image -> conv(8, kernel=3, bias=true) as stem -> bn as norm -> relu6 as act
  output scores = x -> depthwise(kernel=3) as filter -> bn as norm2 -> global_avg_pool -> linear(4) as head
}
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.arch").write_text(MODEL)
    return tmp_path / "small.arch"


def verify(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["verify", "small.arch", "--init", "seed=2", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.compiler
@pytest.mark.parametrize("judge", ["onnxruntime", "torch"])
def test_judges(
    judge: str, model: Path, capsys: pytest.CaptureFixture[str], need: Callable[[str], None]
) -> None:
    need(judge)
    code, said = verify(capsys, "--against", judge, "--runs", "1")
    assert code == 0
    (row,) = said["outputs"]
    assert row["agrees"]
    assert row["cosine"] > 1 - 1e-9
    assert row["top1"] == 1
    assert 0 <= row["ulp"] < 1e4


@pytest.mark.compiler
def test_what_a_step_covers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step, mapped back to the model through what passes fused."""
    code, said = verify(capsys, "--per-layer", "--runs", "1")
    assert code == 0
    covers = {row["name"]: row["covers"] for row in said["layers"]}
    assert any({"filter", "norm2"} <= set(names) for names in covers.values())
    assert all(row["agrees"] for row in said["layers"])


def test_back_through_fusions(model: Path) -> None:
    graph = driver.read_graph(driver.Source(model))
    assert Covered(graph, ["act"]).by("act") == ("stem", "norm", "act")
    assert Covered(graph, ["act", "norm2"]).by("norm2") == ("filter", "norm2")


def test_the_judge_is_a_process_that_sees_the_model_only(model: Path, tmp_path: Path) -> None:
    """It gives what the reference gives, and imports neither passes nor code generation nor the runtime."""
    source = driver.Source(model, seed=2)
    graph = driver.read(source).graph
    inputs = reference.random_inputs(graph, 0)
    (verdict,) = ask(source, [inputs], trace=True)
    assert np.array_equal(verdict.outputs["scores"], reference.run(graph, inputs)["scores"])
    assert {node.out.name for node in graph.nodes} <= set(verdict.values)
    script = (
        "import sys; from compactir.tools import judge; from compactir.driver import Source, read\n"
        "source = Source(sys.argv[1], seed=2); graph = read(source).graph\n"
        "judge.JUDGES['reference'](graph, source, True)\n"
        "bad = [m for m in sys.modules if m.startswith(('compactir.passes', 'compactir.codegen', "
        "'compactir.runtime', 'compactir.ir.plan'))]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script, str(model)], check=True)


def test_the_judge_sees_other_weights(model: Path, tmp_path: Path) -> None:
    """Its weights are those of the source: a file in which two channels changed places is another answer."""
    graph = driver.read_graph(driver.Source(model))
    weights = draw(graph, 5)
    answers = []
    for swapped in (False, True):
        if swapped:
            weights["stem.weight"] = weights["stem.weight"][[1, 0, *range(2, 8)]]
        write_safetensors(tmp_path / "w.safetensors", weights)
        source = driver.Source(model, weights=tmp_path / "w.safetensors")
        answers.append(ask(source, [reference.random_inputs(graph, 0)])[0].outputs["scores"])
    assert not compare("scores", answers[0], answers[1]).agrees


def test_mistakes_of_the_judge_are_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CompactError) as caught:
        ask(driver.Source(model, {"nonsense": "1"}), [])
    assert caught.value.code == "CIR118"
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CompactError) as caught:
        ask(driver.Source(model), [])
    assert caught.value.code == "CIR683"


# -- a folder of inputs --------------------------------------------------------------------------------------


def image() -> Array:
    return np.random.default_rng(1).uniform(0, 1, (3, 8, 8)).astype(np.float32)


def expected_of(model: Path, x: Array) -> Array:
    graph = driver.read(driver.Source(model, seed=2)).graph
    scores: Array = reference.run(graph, {"image": x[None]})["scores"][0]
    return scores


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (lambda x: x, lambda x: x, None),
        (lambda x: x, lambda x: (x * 255).astype(np.float32), "divide by 255"),
        (lambda x: x[::-1], lambda x: x, "colors in the other order"),
        (lambda x: np.sin(40 * x), lambda x: x, "no usual preparation"),
    ],
)
def test_preparation(
    theirs: Callable[[Array], Array],
    ours: Callable[[Array], Array],
    words: str | None,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another program got the same image in another way: the hint says so, and that the network is right."""
    Path("images").mkdir()
    np.save("images/cat.npy", np.ascontiguousarray(ours(image())))
    seen = np.ascontiguousarray(theirs(image()), np.float32)
    np.save("images/cat.expected.npy", expected_of(model, seen))
    code, said = verify(capsys, "--inputs", "images")
    assert [row["input"] for row in said["outputs"]] == ["cat"]
    assert all(row["agrees"] for row in said["outputs"])
    assert code == (0 if words is None else 1)
    if words is not None:
        assert any(words in hint for hint in said["hints"])


@pytest.mark.parametrize("words", PREPARATIONS)
def test_every_preparation_is_another_image(words: str) -> None:
    """None of them is what another one is, and none leaves the image as it is."""
    x = image()[None]
    found = {other: np.asarray(prepare(x), np.float32) for other, prepare in PREPARATIONS.items()}
    assert found[words].shape == x.shape
    assert not np.allclose(found[words], x)
    assert all(other == words or not np.allclose(found[other], found[words]) for other in found)


def test_folders(model: Path, tmp_path: Path) -> None:
    graph = driver.read_graph(driver.Source(model))
    folder = tmp_path / "in"

    def refused(array: Array | bytes, ending: str = ".npy") -> CompactError:
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        if isinstance(array, bytes):
            (folder / f"a{ending}").write_bytes(array)
        else:
            np.save(folder / "a.npy", array)
        with pytest.raises(CompactError) as caught:
            read_cases(folder, graph)
        return caught.value

    with pytest.raises(CompactError, match="CIR666"):
        read_cases(tmp_path / "missing", graph)
    assert refused(b"no array").code == "CIR666"
    assert refused(b"PK\x03\x04 no archive", ".npz").code == "CIR666"
    assert refused(np.zeros((3, 9, 8))).code == "CIR667"
    assert "channels come first here" in refused(np.zeros((8, 8, 3))).notes[0]
    assert refused(np.array([["a"] * 8] * 8 * 3).reshape(3, 8, 8)).code == "CIR667"
    (folder / "a.npy").unlink()
    np.savez(folder / "b.npz", image=np.zeros((1, 3, 8, 8), np.uint8))
    (case,) = read_cases(folder, graph)
    assert case.inputs["image"].dtype == np.float32


def test_measures() -> None:
    """Of outputs: units in the last place, cosine, the share of equal best classes."""
    right = np.array([[1, 2, 4], [3, 2, 1]], np.float32)
    found = np.array([[1, 2, np.nextafter(np.float32(4), np.float32(9))], [1, 2, 3]], np.float32)
    graded = compare("y", found, right, graded=True)
    assert graded.top1 == 0.5
    assert graded.ulp == pytest.approx(2 / np.spacing(np.float32(1)))
    assert compare("y", found[:1], right[:1], graded=True).ulp == 1
    assert 0.8 < (graded.cosine or 0) < 0.9
    assert compare("y", right, right, graded=True).cosine == pytest.approx(1)
    assert compare("y", right[0], right[0], graded=True).top1 is None


@pytest.mark.compiler
def test_a_quantized_model_rounds_where_we_clamp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], need: Callable[[str], None]
) -> None:
    """The difference is one of definition, and verify says so."""
    need("onnxruntime")
    from tests import onnx_models

    text = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Conv (d, w) }"""
    constants: dict[str, Array] = {"s": np.array(0.25, np.float32), "z": np.array(0, np.int8)}
    built = onnx_models.model(text, 13, w=onnx_models.array(4, 3, 1, 1), **constants)
    path = onnx_models.saved(tmp_path, built)
    words = ["verify", str(path), "--runs", "1", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == []
    assert main([*words, "--against", "onnxruntime"]) == 1
    (hint,) = json.loads(capsys.readouterr().out)["hints"]
    assert "it rounds at 1 QuantizeLinear, where compactir clamps" in hint

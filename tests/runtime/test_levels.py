"""A module for several levels of one processor: loading takes the best that the CPU has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import compactir
from compactir import cli, targets
from compactir.diagnostics import CompactError
from compactir.runtime import module, native
from compactir.runtime.manifest import read_manifest
from compactir.runtime.module import load
from compactir.targets import load_levels, load_target, unsupported

pytestmark = pytest.mark.compiler
MODEL = """
network small() {
  input image: f32[3, 12, 12]
  output y = image -> conv(20, kernel=3) -> relu -> global_avg_pool -> linear(10)
}
"""
x86 = pytest.mark.skipif(
    bool(unsupported(load_target("x86"))), reason="needs an x86 CPU with AVX2: run it on one"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.arch"
    path.write_text(MODEL, encoding="utf-8")
    return path


@x86
def test_the_best_that_this_cpu_has(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = "x86-avx512" if not unsupported(load_target("x86-avx512")) else "x86"
    m = compactir.compile(model, out=tmp_path / "out", target="x86-avx512,x86", seed=0)
    assert (m.target, read_manifest(tmp_path / "out").levels) == (best, ("x86-avx512",))
    image = np.ones((1, 3, 12, 12), np.float32)
    results = {m.target: m(image)}
    for features, target in ((set(load_target("x86").cpu_features), "x86"), (set(), None)):
        for place in (module, native):
            monkeypatch.setattr(place, "cpu_features", lambda features=features: features)
        if target:
            m = load(tmp_path / "out")
            assert m.target == target
            results[target] = m(image)
        else:
            with pytest.raises(CompactError, match=r"this CPU lacks .*avx2") as caught:
                load(tmp_path / "out")
            assert caught.value.code == "CIR615"
    np.testing.assert_allclose(results[best], results["x86"], rtol=1e-4)


@x86
def test_an_older_folder_loses_its_levels(model: Path, tmp_path: Path) -> None:
    compactir.compile(model, out=tmp_path / "out", target="x86,x86-avx512", seed=0)
    assert (tmp_path / "out" / "x86-avx512" / "manifest.json").is_file()
    m = compactir.compile(model, out=tmp_path / "out", target="x86", seed=0)
    assert m.target == "x86"
    assert not (tmp_path / "out" / "x86-avx512").exists()


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "small.h"
#include "x86-avx512/small_x86_avx512.h"

int main(void) {
  float image[432], y[10];
  void *memory = aligned_alloc(64, (SMALL_WORKSPACE_BYTES + SMALL_X86_AVX512_WORKSPACE_BYTES + 63) / 64 * 64);
  small_x86_avx512_weights best;
  small_weights other;
  for (int i = 0; i < 432; ++i) image[i] = 1.0f;
  int code = small_x86_avx512_bind(&best, small_x86_avx512_inline_weights(), SMALL_X86_AVX512_WEIGHTS_BYTES);
  if (code != SMALL_X86_AVX512_BAD_CPU) {
    code = code ? code : small_x86_avx512_run(&best, image, y, memory);
  } else {
    code = small_bind(&other, small_inline_weights(), SMALL_WEIGHTS_BYTES);
    code = code ? code : small_run(&other, image, y, memory);
  }
  for (int i = 0; i < 10; ++i) printf("%.6g ", y[i]);
  return code;
}
"""


@x86
def test_all_levels_in_one_program(model: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    m = compactir.compile(model, out=tmp_path / "out", target="x86,x86-avx512", seed=0)
    (tmp_path / "out" / "main.c").write_text(MAIN, encoding="utf-8")
    gcc = tool("gcc")
    for name, target in (
        ("small.c", "x86"),
        ("x86-avx512/small_x86_avx512.c", "x86-avx512"),
        ("main.c", "c"),
    ):
        command = [gcc, *load_target(target).flags("gcc"), "-std=c11", "-Wall", "-Werror", "-c", name]
        subprocess.run([*command, "-o", f"{target}.o"], cwd=tmp_path / "out", check=True)
    objects = [f"{target}.o" for target in ("x86", "x86-avx512", "c")]
    subprocess.run([gcc, *objects, "-lm", "-o", "program"], cwd=tmp_path / "out", check=True)
    said = subprocess.run([tmp_path / "out" / "program"], capture_output=True, text=True, check=True).stdout
    image = np.ones((1, 3, 12, 12), np.float32)
    np.testing.assert_allclose([float(word) for word in said.split()], m(image)[0], rtol=1e-4, atol=1e-5)


def test_levels_in_order() -> None:
    names = [t.name for t in load_levels("x86-avx512, c,x86")]
    assert names == ["c", "x86", "x86-avx512"]


@pytest.mark.parametrize(("here", "elsewhere"), [("x86_64", "arm"), ("aarch64", "x86"), ("x86_64", "arm-v7")])
def test_portable_code_is_a_level_of_this_machine_only(
    here: str, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "machine", lambda: here)
    with pytest.raises(CompactError, match=f"`c` is compiled for this machine .{here}.") as caught:
        load_levels(f"c,{elsewhere}")
    assert caught.value.code == "CIR505"
    own = {"x86_64": "x86", "aarch64": "arm"}[here]
    assert [t.name for t in load_levels(f"{own},c")] == ["c", own]


@x86
def test_what_every_level_takes_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(model),
        "--init",
        "seed=0",
        "--target",
        "x86-avx512,x86",
        "--emit",
        "c",
        "-o",
        str(tmp_path / "o"),
    ]
    assert cli.main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["levels"] == list(said["by_level"]) == ["x86", "x86-avx512"]
    for name, folder in (("x86", "o"), ("x86-avx512", "o/x86-avx512")):
        manifest = read_manifest(tmp_path / folder)
        sizes = {"weights_bytes": manifest.weights_bytes, "workspace_bytes": manifest.workspace_bytes}
        assert said["by_level"][name] == sizes
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("small for x86 and x86-avx512")
    assert [line.split(":")[0].strip() for line in lines[1:4:2]] == ["x86", "x86-avx512"]
    assert all(": weights " in line and ", workspace " in line for line in lines[1:4:2])
    assert ["x86-avx512/small_x86_avx512.c" in line for line in lines] == [False] * 4 + [True]


@pytest.mark.parametrize("names", ["x86,arm", "x86,x86", "c,c", "x86,arm-a55,c"])
def test_what_are_no_levels(names: str) -> None:
    with pytest.raises(CompactError) as caught:
        load_levels(names)
    assert caught.value.code == "CIR505"


def test_a_manifest_with_odd_levels(model: Path, tmp_path: Path) -> None:
    file = compactir.compile(model, out=tmp_path / "out", seed=0).folder / "manifest.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    for levels in ("x86", [1], ["../x86"]):
        file.write_text(json.dumps(data | {"levels": levels}), encoding="utf-8")
        with pytest.raises(CompactError) as caught:
            load(file.parent)
        assert caught.value.code == "CIR612"

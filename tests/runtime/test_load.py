"""Folders that are damaged, mixed, or for another machine or version: a clear error, never a crash."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compactir
from compactir.diagnostics import CATALOGUE, CompactError
from compactir.runtime import native
from compactir.runtime.interface import cdef
from compactir.runtime.manifest import FORMAT, parse_manifest, read_manifest
from compactir.runtime.module import load
from compactir.runtime.package import write_folder
from compactir.targets import all_targets, unsupported

pytestmark = pytest.mark.compiler

Make = Callable[..., Path]


def error_of(folder: Path) -> CompactError:
    with pytest.raises(CompactError) as caught:
        load(folder)
    assert caught.value.help
    assert caught.value.code in CATALOGUE
    return caught.value


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest; None as a name of a change removes nothing, `...` removes the field."""
    path = folder / "manifest.json"
    data = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}), encoding="utf-8")


def test_no_folder(tiny: Path) -> None:
    error = error_of(tiny / "elsewhere")
    assert (error.code, "does not exist" in error.message) == ("CIR611", True)
    error = error_of(tiny / "tiny.c")
    assert (error.code, "is a file" in error.message) == ("CIR611", True)


def test_no_manifest(tiny: Path) -> None:
    (tiny / "manifest.json").unlink()
    error = error_of(tiny)
    assert error.code == "CIR611"
    assert "interrupted" in error.notes[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ('{"format": 1', "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "the field `format` is missing"),
        ('{"format": 1}', "missing fields: `network`, `symbol`"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_manifest_that_is_none(tiny: Path, text: str | bytes, problem: str) -> None:
    (tiny / "manifest.json").write_bytes(text.encode() if isinstance(text, str) else text)
    error = error_of(tiny)
    assert error.code == "CIR612"
    assert problem in error.message


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"workspace_bytes": ...}, "missing field: `workspace_bytes`"),
        ({"workspace_bytes": "256"}, "`workspace_bytes` has the wrong type (str)"),
        ({"inputs": [{"name": "image"}]}, "lists are malformed: KeyError: 'dtype'"),
        ({"inputs": [{"name": "image", "dtype": "q7", "shape": [1]}]}, "unknown element type q7"),
        ({"steps": [{"name": "a"}]}, "malformed"),
        ({"library": "../libtiny.so"}, "`library` names something outside the folder"),
        ({"symbol": "a b"}, "not a C identifier"),
        ({"inputs": []}, "the field `inputs` is empty"),
        ({"outputs": []}, "the field `outputs` is empty"),
        ({"workspace_bytes": -5}, "the field `workspace_bytes` is -5"),
        ({"align": 0}, "the field `align` is 0"),
        ({"threads": 0}, "the field `threads` is 0"),
        ({"compiler": "gcc"}, "`compiler` does not say what built the library"),
        ({"compiler": {"version": 12}}, "`compiler` does not say what built the library"),
        ({"target": "zzz"}, "the field `target` is `zzz`, which this compactir does not know"),
        ({"inputs": [{"name": "image", "dtype": "f32", "shape": [0]}]}, "image: f32[0] has no elements"),
        ({"inputs": [{"name": "image", "dtype": "f32", "shape": [1, -3, 4, 5]}]}, "has no elements"),
    ],
)
def test_damaged_manifest(tiny: Path, change: dict[str, Any], problem: str) -> None:
    edit(tiny, **change)
    error = error_of(tiny)
    assert error.code == "CIR612"
    assert problem in error.message


TENSOR = {"name": "image", "dtype": "f32", "shape": [1, 3, 4, 5]}


@pytest.mark.parametrize(
    "change",
    [
        {"workspace_bytes": 64},
        {"workspace_bytes": 1 << 20},
        {"inputs": [TENSOR | {"shape": [1, 3, 4, 4]}]},
        {"inputs": [TENSOR | {"dtype": "f64"}]},
        {"inputs": [TENSOR | {"name": "picture"}]},
        {"inputs": [TENSOR, TENSOR | {"name": "another"}]},
        {"outputs": [TENSOR | {"name": "y", "shape": [1, 3, 2, 2]}]},
        {"align": 4},
        {"cpu_features": ["sse"]},
        {"steps": [{"name": "one", "kernel": "map", "op": "relu", "macs": 0, "bytes_moved": 0}]},
    ],
    ids=str,
)
def test_a_manifest_edited_by_hand(
    tiny: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Memory is sized by these numbers: a call with smaller ones would write beyond it.
    monkeypatch.setattr(native, "_check_cpu", lambda manifest: None)
    edit(tiny, **change)
    error = error_of(tiny)
    assert error.code == "CIR616"
    assert "manifest.json says" in error.message or "arguments" in error.message


def test_every_number_of_the_manifest_is_in_the_library(tmp_path: Path) -> None:
    """The same of generated code: what the loader compares, in C."""
    model = tmp_path / "net.arch"
    model.write_text("network net { input x: f32[3, 4, 4]\n output y = x -> relu }", encoding="utf-8")
    module = compactir.compile(model, out=tmp_path / "out")
    text = (tmp_path / "out" / "net.c").read_text(encoding="utf-8")
    assert f'return "{module.manifest.signature}";' in text
    edit(tmp_path / "out", workspace_bytes=4)
    assert "workspace 4`" in error_of(tmp_path / "out").message


def test_newer_format(tiny: Path) -> None:
    edit(tiny, format=FORMAT + 1, compactir="9.9", inputs=...)
    error = error_of(tiny)
    assert error.code == "CIR613"
    assert error.notes == ("it was written by compactir 9.9",)


def test_unknown_fields_are_kept(tiny: Path) -> None:
    edit(tiny, colour="green")
    load(tiny)
    manifest = read_manifest(tiny)
    assert json.loads(manifest.to_json())["colour"] == "green"
    assert parse_manifest(manifest.to_json(), tiny) == manifest


def test_library_deleted(tiny: Path) -> None:
    (tiny / "libtiny.so").unlink()
    assert error_of(tiny).code == "CIR614"


def test_folder_deleted_while_loaded(tiny: Path, image: np.ndarray) -> None:
    m = load(tiny)
    before = m(image)
    shutil.rmtree(tiny)
    np.testing.assert_array_equal(m(image), before)
    assert error_of(tiny).code == "CIR611"


@pytest.mark.parametrize("keep", [0, 10, 200, 4000])
def test_library_truncated(tiny: Path, keep: int) -> None:
    library = tiny / "libtiny.so"
    data = library.read_bytes()
    library.unlink()
    library.write_bytes(data[: min(keep, len(data) // 2)])
    error = error_of(tiny)
    assert error.code == "CIR616"


def test_library_is_something_else(tiny: Path) -> None:
    (tiny / "libtiny.so").unlink()
    (tiny / "libtiny.so").write_text("not a library, but longer than twenty bytes")
    error = error_of(tiny)
    assert (error.code, "cannot be loaded" in error.message) == ("CIR616", True)


def test_library_of_another_network(tiny: Path, compiled: Make) -> None:
    (tiny / "libtiny.so").unlink()
    shutil.copy(compiled(name="tiny2", factor=2.0) / "libtiny2.so", tiny / "libtiny.so")
    error = error_of(tiny)
    assert error.code == "CIR616"
    assert "no function `tiny_error`" in error.message


@pytest.mark.parametrize(
    "text", [None, "", "ffi = 1 / 0", "import _cffi_backend\nffi = _cffi_backend.FFI('x', _version=7)"]
)
def test_damaged_declarations(tiny: Path, text: str | None) -> None:
    (tiny / "tiny_ffi.py").unlink()
    if text is not None:
        (tiny / "tiny_ffi.py").write_text(text)
    error = error_of(tiny)
    assert error.code == "CIR616"
    assert "tiny_ffi.py" in error.message


def test_declarations_of_another_network(tiny: Path, compiled: Make) -> None:
    shutil.copy(compiled(name="tiny2", factor=2.0) / "tiny2_ffi.py", tiny / "tiny_ffi.py")
    assert error_of(tiny).code == "CIR616"


def change_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 30, 75, 77])
def test_weights_of_another_size(tiny: Path, size: int) -> None:
    path = tiny / "tiny.weights"
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    error = error_of(tiny)
    assert error.code == "CIR618"
    assert f"it has {size} bytes instead of 76" in error.message


def test_weights_missing(tiny: Path) -> None:
    (tiny / "tiny.weights").unlink()
    assert error_of(tiny).code == "CIR617"


def test_weights_are_something_else(tiny: Path) -> None:
    (tiny / "tiny.weights").write_bytes(b"P" * 76)
    error = error_of(tiny)
    assert (error.code, "does not begin like" in error.message) == ("CIR619", True)


def test_foreign_weights(tiny: Path) -> None:
    change_byte(tiny / "tiny.weights", 30)
    error = error_of(tiny)
    assert (error.code, "for another network" in error.message) == ("CIR619", True)


def test_library_and_weights_of_different_builds(tiny: Path) -> None:
    """Manifest and weights agree, the library knows another content id: only NAME_bind can see it."""
    change_byte(tiny / "tiny.weights", 24)
    edit(tiny, content_id="01" + read_manifest(tiny).content_id[2:])
    error = error_of(tiny)
    assert error.code == "CIR616"
    assert "refuses its weights: these are not its weights" in error.message


def test_format_of_the_weights(tiny: Path) -> None:
    change_byte(tiny / "tiny.weights", 4)
    assert "another version" in error_of(tiny).message


def test_weights_named_but_inside(tiny: Path, compiled: Make) -> None:
    edit(tiny, weights=None)
    assert "the manifest names none" in error_of(tiny).message


def test_other_architecture(tiny: Path) -> None:
    library = tiny / "libtiny.so"
    data = bytearray(library.read_bytes())
    data[18:20] = (243).to_bytes(2, "little")  # RISC-V
    library.unlink()
    library.write_bytes(data)
    error = error_of(tiny)
    assert error.code == "CIR615"
    assert "riscv64" in error.message


def test_cpu_without_the_features(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the library was opened before the check")

    edit(tiny, cpu_features=["sse9", "flux"], target="x86-avx512")
    monkeypatch.setattr(native, "_open", never)
    error = error_of(tiny)
    assert error.code == "CIR615"
    assert error.message == "`tiny` is compiled for `x86-avx512`; this CPU lacks flux and sse9"


def test_every_native_target_runs_or_is_refused(compiled: Make, image: np.ndarray) -> None:
    for target in all_targets():
        if not target.is_native:
            continue
        folder = compiled(target=target.name)
        if unsupported(target):
            assert error_of(folder).code == "CIR615"
        else:
            np.testing.assert_array_equal(load(folder)(image), load(compiled())(image))


def test_compiled_anew_into_the_same_folder(tiny: Path, compiled: Make, image: np.ndarray) -> None:
    """For an equal path glibc gives the old library; the module must be the new one, and the old one stay."""
    old = load(tiny)
    before = old(image)
    newer = compiled(factor=3.0)
    write_folder(
        tiny, read_manifest(newer), {f: newer / f for f in ("tiny.c", "tiny.h", "tiny.weights", "libtiny.so")}
    )
    new = load(tiny)
    np.testing.assert_array_equal(new(image), 3 * before)
    np.testing.assert_array_equal(old(image), before)
    write_folder(tiny, read_manifest(tiny), {f: compiled() / f for f in ("tiny.weights", "libtiny.so")})
    np.testing.assert_array_equal(load(tiny)(image), before)


def test_weights_are_shared_not_copied(tiny: Path, image: np.ndarray) -> None:
    """The mapping is of the file itself: what is written into the file is what the next call reads."""
    m = load(tiny)
    before = m(image)
    with (tiny / "tiny.weights").open("r+b") as file:
        file.seek(64)
        file.write(np.array([2, -4, 1], np.float32).tobytes())
    np.testing.assert_array_equal(m(image), 2 * before)


def test_a_full_disk_changes_nothing(tiny: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(tiny)(image)
    names = sorted(os.listdir(tiny))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compactir.runtime.package._write", full)
    with pytest.raises(CompactError, match="CIR652") as caught:
        write_folder(tiny, read_manifest(tiny), {"tiny.c": ""})
    assert "No space left" in caught.value.message
    assert sorted(os.listdir(tiny)) == names
    np.testing.assert_array_equal(load(tiny)(image), before)


def test_output_folder_that_cannot_be(tiny: Path) -> None:
    with pytest.raises(CompactError, match="CIR652"):
        write_folder(tiny / "tiny.c" / "below", read_manifest(tiny), {})


def test_loading_parses_no_declarations(compiled: Make) -> None:
    """In a fresh process: neither the C parser nor cffi's Python part is imported, nor torch."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from compactir.runtime.module import load
import numpy as np
m = load({str(compiled())!r})
m(np.zeros((1, 3, 4, 5), np.float32))
print(sorted(set(sys.modules) & {{"cffi", "pycparser", "torch", "jinja2", "lark"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_declarations(compiled: Make) -> None:
    text = cdef(read_manifest(compiled()))
    assert "int tiny_run(const tiny_weights *, const float *, float *, void *);" in text
    assert "int tiny_run_steps(const tiny_weights *, const float *, float *, void *, int, int);" in text

"""Weights files onto a graph: three formats, all differences in one error, nothing executed or silent."""

import json
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.lang import elaborate, parse
from compactir.weights.init import draw
from compactir.weights.load import load_weights, match_weights, need_sound, read_weights
from compactir.weights.safetensors import read_safetensors, write_safetensors
from compactir.weights.stored import Stored

NETWORK = """
network net {
  input image: f32[3, 6, 6]
  output y = image -> conv(4, kernel=3, bias=true) as stem -> bn -> relu -> flatten -> linear(5) as head
}
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return elaborate(parse(NETWORK))


@pytest.fixture
def weights(graph: Graph) -> dict[str, Array]:
    return draw(graph, 7)


def error_of(call: Callable[[], object]) -> CompactError:
    with pytest.raises(CompactError) as caught:
        call()
    assert caught.value.help
    return caught.value


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) and a[k].dtype == np.float32 for k in a)


# -- the formats -------------------------------------------------------------------------------------------


def test_safetensors(graph: Graph, weights: dict[str, Array], tmp_path: Path) -> None:
    path, notes = tmp_path / "net.safetensors", list[str]()
    write_safetensors(path, weights)
    loaded = load_weights(graph, path, notes)
    assert same(loaded, weights)
    assert notes == []
    assert all(array.flags.writeable and array.flags.owndata for array in loaded.values())


def test_npz(graph: Graph, weights: dict[str, Array], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **cast(Any, weights))
    np.savez_compressed(tmp_path / "b.npz", **cast(Any, {k: w.astype(">f4") for k, w in weights.items()}))
    assert same(load_weights(graph, tmp_path / "a.npz"), weights)
    assert same(load_weights(graph, tmp_path / "b.npz"), weights)


@pytest.mark.parametrize("ending", ["pt", "pth", "bin"])
def test_torch(
    graph: Graph, weights: dict[str, Array], tmp_path: Path, need: Callable[[str], None], ending: str
) -> None:
    need("torch")
    import torch

    path = tmp_path / f"net.{ending}"
    torch.save({name: torch.from_numpy(w) for name, w in weights.items()}, path)
    assert same(load_weights(graph, path), weights)


def test_checkpoints_are_unwrapped(
    graph: Graph, weights: dict[str, Array], tmp_path: Path, need: Callable[[str], None]
) -> None:
    need("torch")
    import torch

    state = {f"_orig_mod.module.{name}": torch.from_numpy(w) for name, w in weights.items()}
    state["_orig_mod.module.bn1.num_batches_tracked"] = torch.tensor(17)
    torch.save({"epoch": 3, "state_dict": state, "best": 0.9}, tmp_path / "net.pt")
    notes: list[str] = []
    assert same(load_weights(graph, tmp_path / "net.pt", notes), weights)
    assert notes == [
        "the weights are those under `state_dict` in net.pt; best and epoch play no part",
        "every name in the file begins with `_orig_mod.`: left out",
        "every name in the file begins with `module.`: left out",
        "1 counter of training batches in net.pt play no part",
    ]


def test_a_torch_file_with_code_in_it(
    graph: Graph, tmp_path: Path, need: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("torch")
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"stem.weight": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), 2))
    for name in ("evil.pt", "plain.pt"):
        error = error_of(lambda name=name: load_weights(graph, tmp_path / name))  # type: ignore[misc]
        assert error.code == "CIR644"
    np.savez(tmp_path / "evil.npz", **cast(Any, {"stem.weight": np.array([Evil()], object)}))
    assert error_of(lambda: load_weights(graph, tmp_path / "evil.npz")).code == "CIR642"
    assert not (tmp_path / "executed").exists()


def torch_file(what: str, torch: Any, path: Path) -> None:
    """What people call model.pt: `nothing`, or `module, old, cut`: as PyTorch once wrote it, cut off."""
    kind, *how = what.split(", ")
    plain: dict[str, bytes] = {
        "nothing": b"",
        "text": b"hello\n",
        "bytes": bytes(range(200, 256)) * 9,
        "like a pickle": b"\x80\x02" + bytes(99),
        "like a zip": b"PK\3\4" + bytes(99),
        "arrays": pickle.dumps({"a": np.zeros(3)}),
    }
    linear = torch.nn.Linear(2, 2)
    if kind in plain:
        path.write_bytes(plain[kind])
    elif kind == "script":
        torch.jit.save(torch.jit.trace(linear, torch.zeros(1, 2)), path)
    else:
        saved = linear if kind == "module" else {"stem.weight": torch.zeros(40)}
        torch.save(saved, path, _use_new_zipfile_serialization="old" not in how)
    if "cut" in how:
        path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("nothing", "CIR642", "it is empty"),
        ("text", "CIR642", "it begins with b'hell'"),
        ("bytes", "CIR642", "it begins with"),
        ("like a pickle", "CIR642", "its pickle makes no sense"),
        ("like a zip", "CIR642", "it ends early"),
        ("tensors, cut", "CIR642", "it ends early"),
        ("tensors, old, cut", "CIR642", "it ends early"),
        ("module", "CIR644", "torch.nn.modules.linear.Linear"),
        ("module, old", "CIR644", "torch.nn.modules.linear.Linear"),
        ("arrays", "CIR644", "`numpy.dtype` and `numpy.ndarray`"),
        ("script", "CIR644", "TorchScript program"),
    ],
)
def test_damaged_files_are_told_from_those_that_need_code(
    what: str, code: str, words: str, tmp_path: Path, need: Callable[[str], None]
) -> None:
    need("torch")
    import torch

    torch_file(what, torch, tmp_path / "net.pt")
    error = error_of(lambda: read_weights(tmp_path / "net.pt"))
    assert error.code == code
    assert words in str(error)
    assert "weights_only" not in str(error)


def test_a_torch_file_without_torch(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert error_of(lambda: load_weights(graph, tmp_path / "net.pt")).code == "CIR645"


def test_what_is_no_state_dictionary(graph: Graph, tmp_path: Path, need: Callable[[str], None]) -> None:
    need("torch")
    import torch

    torch.save(torch.zeros(3), tmp_path / "net.pt")
    error = error_of(lambda: load_weights(graph, tmp_path / "net.pt"))
    assert (error.code, "holds a Tensor" in error.message) == ("CIR643", True)
    torch.save({"stem.weight": "text", 5: torch.zeros(2)}, tmp_path / "net.pt")
    error = error_of(lambda: load_weights(graph, tmp_path / "net.pt"))
    assert "`stem.weight` is str, not a floating-point number" in error.notes
    assert any("unknown: `5`" in note for note in error.notes)


def test_unknown_ending(graph: Graph, tmp_path: Path) -> None:
    for name in ("net.h5", "net"):
        (tmp_path / name).write_bytes(b"")
        error = error_of(lambda name=name: load_weights(graph, tmp_path / name))  # type: ignore[misc]
        assert error.code == "CIR641"
    assert ".safetensors" in (error.help or "")


def test_no_such_file(graph: Graph, tmp_path: Path) -> None:
    missing = tmp_path / "lenet5.safetensors"
    assert error_of(lambda: load_weights(graph, missing)).help == "correct the path"
    (tmp_path / "mobilenet.npz").write_bytes(b"")
    assert "are mobilenet.npz" in (error_of(lambda: load_weights(graph, missing)).help or "")
    (tmp_path / "lenet.safetensors").write_bytes(b"")
    assert error_of(lambda: load_weights(graph, missing)).help == "did you mean `lenet.safetensors`"
    error = error_of(lambda: load_weights(graph, tmp_path / "no" / "x.npz"))
    assert error.code == "CIR640"
    (tmp_path / "folder.npz").mkdir()
    assert "is a folder" in error_of(lambda: load_weights(graph, tmp_path / "folder.npz")).message


@pytest.mark.parametrize("keep", [0, 1, 4, 100, 600])
@pytest.mark.parametrize("ending", ["safetensors", "npz", "pt"])
def test_truncated(
    graph: Graph,
    weights: dict[str, Array],
    tmp_path: Path,
    need: Callable[[str], None],
    ending: str,
    keep: int,
) -> None:
    path = tmp_path / f"net.{ending}"
    if ending == "safetensors":
        write_safetensors(path, weights)
    elif ending == "npz":
        np.savez(path, **cast(Any, weights))
    else:
        need("torch")
        import torch

        torch.save({name: torch.from_numpy(w) for name, w in weights.items()}, path)
    path.write_bytes(path.read_bytes()[:keep])
    assert error_of(lambda: load_weights(graph, path)).code in ("CIR642", "CIR644")


# -- does it fit? ------------------------------------------------------------------------------------------


def stored(weights: dict[str, Array]) -> dict[str, Stored]:
    return {name: Stored(array.dtype.name, array) for name, array in weights.items()}


def test_all_differences_at_once(graph: Graph, weights: dict[str, Array]) -> None:
    weights["stem.weigth"] = weights.pop("stem.weight")
    weights["more.bias"] = np.zeros(3, np.float32)
    weights["head.weight"] = weights["head.weight"].T.copy()
    weights["head.bias"][2] = np.nan
    weights["bn1.running_var"][1] = -1
    weights["bn1.weight"] = np.arange(4)
    error = error_of(lambda: match_weights(graph, stored(weights), "w.npz"))
    assert error.code == "CIR643"
    assert error.message == "the weights in w.npz do not fit `net`: 1 missing, 2 unknown and 4 wrong"
    assert set(error.notes) == {
        "missing: `stem.weight` f32[4,3,3,3]",
        "unknown: `more.bias` float32[3]",
        "unknown: `stem.weigth` float32[4, 3, 3, 3]",
        "`bn1.weight` is int64, not a floating-point number",
        "`bn1.running_var` is a variance and negative at [1]",
        "`head.weight` has shape [144, 5], the network wants [5, 144]",
        "`head.bias` holds NaN in 1 place, first at [2]",
    }
    assert error.help == "is `stem.weigth` meant to be `stem.weight`? their shapes are equal"


def test_nothing_in_common(graph: Graph) -> None:
    other = {f"layer{i}": np.zeros(2, np.float32) for i in range(100)}
    error = error_of(lambda: match_weights(graph, stored(other), "w"))
    assert "saved from another network?" in (error.help or "")
    assert error.notes[-1] == "… and 60 more like these"
    assert "8 missing and 100 unknown" in error.message


def test_half_precision_is_widened_aloud(graph: Graph, weights: dict[str, Array]) -> None:
    narrow = {name: w.astype(np.float16) for name, w in weights.items()}
    notes: list[str] = []
    loaded = match_weights(graph, stored(narrow), "w.npz", notes)
    assert notes == ["8 tensors of w.npz: float16, widened to float32, exactly"]
    assert same(loaded, {name: w.astype(np.float32) for name, w in narrow.items()})


def test_bfloat16(
    graph: Graph, weights: dict[str, Array], tmp_path: Path, need: Callable[[str], None]
) -> None:
    need("torch")
    import torch
    from safetensors.torch import save_file

    brain = {name: torch.from_numpy(w).bfloat16() for name, w in weights.items()}
    save_file(brain, tmp_path / "b.safetensors")
    torch.save(brain, tmp_path / "b.pt")
    for name in ("b.safetensors", "b.pt"):
        notes: list[str] = []
        loaded = load_weights(graph, tmp_path / name, notes)
        assert notes == [f"8 tensors of {name}: bfloat16, widened to float32, exactly"]
        assert same(loaded, {k: w.float().numpy() for k, w in brain.items()})


def test_double_precision_is_rounded_aloud(graph: Graph, weights: dict[str, Array]) -> None:
    wide = {name: w.astype(np.float64) + 1e-12 for name, w in weights.items()}
    notes: list[str] = []
    loaded = match_weights(graph, stored(wide), "w.npz", notes)
    assert notes == ["8 tensors of w.npz: float64, rounded to float32"]
    assert same(loaded, {name: w.astype(np.float32) for name, w in wide.items()})
    wide["head.bias"][3] = 1e39
    error = error_of(lambda: match_weights(graph, stored(wide), "w.npz"))
    assert error.notes == ("`head.bias` is too large for float32 at [3]",)


def test_infinity_is_a_number_to_be_warned_of(
    graph: Graph, weights: dict[str, Array], caplog: pytest.LogCaptureFixture
) -> None:
    match_weights(graph, stored(weights), "w")
    assert not caplog.records
    weights["head.bias"][:2] = np.inf, -np.inf
    assert np.isinf(match_weights(graph, stored(weights), "w")["head.bias"][0])
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert said.getMessage() == "CIR649: w holds infinite weights: `head.bias` in 2 places"
    caplog.clear()
    graph.weights = weights
    need_sound(graph, "model.onnx")
    assert [r.getMessage().partition(": `")[0] for r in caplog.records] == [
        "CIR649: model.onnx holds infinite weights"
    ]


# -- safetensors in detail -----------------------------------------------------------------------------------

ARRAYS: dict[str, Array] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.float64(2.5) * np.ones(()),
    "empty": np.zeros((0, 4), np.float16),
    "ü": np.array([True, False]),
    "n": np.array([-1, 5], np.int64),
    "f": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
}


def test_as_the_package_reads_and_writes_it(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_safetensors(ours, ARRAYS, {"made by": "us"})
    read = load_file(ours)
    assert set(read) == set(ARRAYS)
    assert all(
        np.array_equal(read[name], ARRAYS[name]) and read[name].shape == ARRAYS[name].shape for name in ARRAYS
    )
    with safe_open(ours, "np") as file:
        assert file.metadata() == {"made by": "us"}
    save_file(
        {k: np.ascontiguousarray(v).astype(v.dtype.newbyteorder("=")) for k, v in ARRAYS.items()}, theirs
    )
    again = read_safetensors(theirs)
    assert all(np.array_equal(again[name].array.ravel(), ARRAYS[name].ravel()) for name in ARRAYS)
    assert (again["n"].dtype, again["ü"].dtype, again["empty"].dtype) == ("int64", "bool", "float16")


def test_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", ARRAYS)
    write_safetensors(tmp_path / "b", dict(reversed(ARRAYS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(CompactError, match="CIR652"):
        write_safetensors(tmp_path / "no" / "c", ARRAYS)


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), first: Any = 0, last: Any = 4) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "data_offsets": [first, last],
    }


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "would have 0 bytes"),
        (b"\1\2\3", "the file has 3"),
        (raw({}, length=10**15), "would have 1,000,000,000,000,000 bytes"),
        (raw(b"{not json"), "not JSON"),
        (raw(b"\xff\xfe"), "not JSON"),
        (raw(b"[" * 100_000), "not JSON"),
        (raw(b'{"a": 1, "a": 2}'), "a name occurs twice"),
        (raw([1]), "not a JSON object"),
        (raw({"a": 1}), "`a` is malformed"),
        (raw({"a": {"dtype": "F32"}}), "`a` is malformed"),
        (raw({"a": entry(shape=(-1,))}, bytes(4)), "`a` is malformed"),
        (raw({"a": entry(shape=(1.5,))}, bytes(4)), "`a` is malformed"),
        (raw({"a": entry(shape="1")}, bytes(4)), "`a` is malformed"),
        (raw({"a": entry(dtype=7)}, bytes(4)), "`a` is malformed"),
        (raw({"a": entry(first=True)}, bytes(4)), "`a` is malformed"),
        (raw({"a": entry(shape=(2,))}, bytes(4)), "has 4 bytes"),
        (raw({"a": entry(first=4, last=8)}, bytes(8)), "should begin at 0"),
        (raw({"a": entry(), "b": entry()}, bytes(4)), "should begin at 4"),
        (raw({"a": entry(first=4, last=0)}, bytes(4)), "should begin at 0"),
        (raw({"a": entry()}, bytes(3)), "is truncated"),
        (raw({"a": entry()}, bytes(5)), "belong to no tensor"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    error = error_of(lambda: read_safetensors(tmp_path / "x.safetensors"))
    assert error.code == "CIR642"
    assert problem in error.message


def test_types_that_numpy_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(raw({"a": entry("F8_E4M3", (4,))}, bytes(4)))
    graph = elaborate(parse("network n { input x: f32[2, 3, 3]; output y = x -> bn as a }"))
    tensors = read_safetensors(tmp_path / "x.safetensors")
    assert tensors["a"].dtype == "f8_e4m3"
    error = error_of(lambda: match_weights(graph, {"a.weight": tensors["a"]}, "x"))
    assert "`a.weight` is f8_e4m3, not a floating-point number" in error.notes


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.data())
def test_any_damage_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    write_safetensors(path, ARRAYS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    tensors: dict[str, Stored] = {}
    with suppress(CompactError):  # anything else, a crash above all, is the failure
        tensors = read_weights(path)
    assert all(float(np.asarray(t.array, np.float64).size) >= 0 for t in tensors.values())

"""Loaded modules: calls, their checks, several threads, closing, profile and memory."""

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from compactir.diagnostics import CompactError
from compactir.runtime.manifest import Buffer, Manifest, Step, Tensor, read_manifest
from compactir.runtime.memory import MemoryPlan
from compactir.runtime.module import Module, load
from compactir.runtime.native import Native
from compactir.runtime.profile import measure

pytestmark = pytest.mark.compiler

Make = Callable[..., Path]
Expected = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def m(compiled: Make) -> Module:
    return load(compiled())


def test_the_answer(m: Module, image: np.ndarray, expected: Expected) -> None:
    y = m(image)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected(image))
    np.testing.assert_array_equal(m(image=image), y)


def test_what_it_says_about_itself(m: Module, compiled: Make) -> None:
    assert m.inputs == {"image": Tensor("image", "f32", (1, 3, 4, 5))}
    assert m.outputs == {"y": Tensor("y", "f32", (1, 3, 4, 5))}
    assert (m.workspace_bytes, m.weights_bytes) == (256, 64 + 12)
    assert (m.name, m.target, m.folder) == ("tiny", "c", compiled())
    assert repr(m) == "<compactir module tiny (c): image: f32[1,3,4,5] -> y: f32[1,3,4,5]>"


def test_the_manifest_file_names_its_folder(compiled: Make, image: np.ndarray) -> None:
    np.testing.assert_array_equal(load(compiled() / "manifest.json")(image), load(str(compiled()))(image))


def test_weights_inside_the_library(compiled: Make, image: np.ndarray, expected: Expected) -> None:
    folder = compiled(embed=True)
    assert not list(folder.glob("*.weights"))
    np.testing.assert_array_equal(load(folder)(image), expected(image))


def test_no_batch_axis_where_it_is_one(m: Module, image: np.ndarray, expected: Expected) -> None:
    np.testing.assert_array_equal(m(image[0]), expected(image))


def test_inputs_in_place_or_copied(m: Module, image: np.ndarray, expected: Expected) -> None:
    views = [
        np.asfortranarray(image),
        image[:, :, ::-1],
        np.broadcast_to(image[:, :1], image.shape),
        np.frombuffer(b"\0" + image.tobytes(), np.uint8)[1:].view(np.float32).reshape(image.shape),
    ]
    assert not views[3].flags.aligned
    for view in views:
        np.testing.assert_array_equal(m(view), expected(view))
    frozen = image.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(m(frozen), expected(image))


def test_a_contiguous_input_is_not_copied(
    m: Module, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copies(*args: object, **kw: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(np, "require", copies)
    m(image)
    with pytest.raises(AssertionError, match="copied"):
        m(image[:, :, ::-1])


def test_out(m: Module, image: np.ndarray, expected: Expected) -> None:
    y = np.empty((1, 3, 4, 5), np.float32)
    assert m(image, out=y) is y
    np.testing.assert_array_equal(y, expected(image))
    slot = np.empty((4, 3, 4, 5), np.float32)
    m(image, out=slot[2])
    np.testing.assert_array_equal(slot[2:3], expected(image))
    named = {"y": np.empty_like(y)}
    assert m(image, out=named) is named
    np.testing.assert_array_equal(named["y"], y)


def error_of(call: Callable[[], object]) -> CompactError:
    with pytest.raises(CompactError) as caught:
        call()
    assert caught.value.help
    return caught.value


def test_bound_arrays(m: Module, image: np.ndarray, expected: Expected) -> None:
    """What they hold by then is read; what cannot be used in place is no use; a closed module says so."""
    x, y = image.copy(), np.empty((1, 3, 4, 5), np.float32)
    again = m.bind(x, out=y)
    assert again() is y
    np.testing.assert_array_equal(y, expected(image))
    x *= 2
    again()
    np.testing.assert_array_equal(y, expected(2 * image))
    named = m.bind(image=image[0], out={"y": y})()
    np.testing.assert_array_equal(named["y"], expected(image))
    assert error_of(lambda: m.bind(np.asfortranarray(image), out=y)).code == "CIR623"
    assert error_of(lambda: m.bind(image, out=image)).code == "CIR624"
    assert error_of(lambda: m.bind(out=y)).code == "CIR620"
    m.close()
    assert error_of(again).code == error_of(lambda: m.bind(x, out=y)).code == "CIR625"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x: np.empty((1, 3, 4, 6), np.float32), "its shape is [1, 3, 4, 6]"),
        (lambda x: np.empty((1, 3, 4, 5)), "its element type is float64"),
        (lambda x: np.empty((1, 3, 4, 10), np.float32)[..., ::2], "it is not C-contiguous"),
        (lambda x: np.broadcast_to(np.float32(0), (1, 3, 4, 5)), "it is read-only"),
        (lambda x: [0.0], "not as an array"),
        (lambda x: x, "overlaps"),
        (lambda x: {"z": x}, "['z']"),
        (lambda x: {}, "[]"),
    ],
)
def test_unfit_out(
    m: Module, image: np.ndarray, change: Callable[[np.ndarray], object], problem: str
) -> None:
    before = image.copy()
    error = error_of(lambda: m(image, out=change(image)))
    assert error.code == "CIR624"
    assert problem in str(error)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((1, 4, 5, 3), "`x.transpose(0, 3, 1, 2)`"),
        ((4, 5, 3), "`x.transpose(2, 0, 1)`"),
        ((8, 3, 4, 5), "compile with `--batch 8` or call it once per item"),
        ((60,), "`x.reshape(1, 3, 4, 5)`"),
        ((1, 3, 224, 224), "resize the input"),
        ((), "resize the input"),
        ((0, 3, 4, 5), "--batch"),
    ],
)
def test_wrong_shape(m: Module, shape: tuple[int, ...], hint: str) -> None:
    error = error_of(lambda: m(np.zeros(shape, np.float32)))
    assert error.code == "CIR621"
    assert str(list(shape)) in error.message
    assert hint in (error.help or "")


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "uint8", "int32", ">f4", "complex64", "object", "U3"]
)
def test_wrong_element_type(m: Module, image: np.ndarray, dtype: str) -> None:
    error = error_of(lambda: m(image.astype(dtype)))
    assert error.code == "CIR622"
    assert "astype(np.float32)" in (error.help or "")


@pytest.mark.parametrize("value", [None, 1.0, [[1.0]], "image.png", object()])
def test_not_an_array(m: Module, value: object) -> None:
    assert error_of(lambda: m(value)).code == "CIR623"


def test_wrong_number_of_inputs(m: Module, image: np.ndarray) -> None:
    calls: dict[str, Callable[[], object]] = {
        "2 inputs for `tiny`": lambda: m(image, image),
        "`tiny` needs `image`": lambda: m(),
        "no input named `imge`": lambda: m(imge=image),
        "`image` is given twice": lambda: m(image, image=image),
    }
    for message, call in calls.items():
        error = error_of(call)
        assert error.code == "CIR620"
        assert message in error.message
    assert error_of(lambda: m(imge=image)).help == "did you mean `image`"


def test_torch_in_torch_out(
    m: Module, image: np.ndarray, expected: Expected, need: Callable[[str], None]
) -> None:
    need("torch")
    import torch

    x = torch.from_numpy(image).requires_grad_()
    y = m(x)
    assert isinstance(y, torch.Tensor)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.numpy(), expected(image))
    out = torch.empty(1, 3, 4, 5)
    assert m(x, out=out) is out
    assert torch.equal(out, y)
    last = torch.from_numpy(image).to(memory_format=torch.channels_last)
    assert torch.equal(m(last), y)
    for wrong, code in [(x.double(), "CIR622"), (x.bfloat16(), "CIR622"), (x.to("meta"), "CIR623")]:
        assert error_of(partial(m, wrong)).code == code
    assert error_of(lambda: m(x.double())).help == "convert it (and scale it, if it is an image): `x.float()`"


def test_whoever_speaks_a_protocol(m: Module, image: np.ndarray, expected: Expected) -> None:
    class Lender:
        def __dlpack__(self, **kw: object) -> object:
            return image.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    class OfAnotherDevice(Lender):
        def __dlpack__(self, **kw: object) -> object:
            raise BufferError("it lies on a graphics card")

    class Interface:
        __array_interface__ = image.__array_interface__

    np.testing.assert_array_equal(m(Lender()), expected(image))
    np.testing.assert_array_equal(m(Interface()), expected(image))
    error = error_of(lambda: m(OfAnotherDevice()))
    assert error.code == "CIR623"
    assert error.notes == ("it lies on a graphics card",)


def test_eight_threads(m: Module, expected: Expected) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((1, 3, 4, 5)).astype(np.float32)
        want = expected(x)
        wrong.extend(i for i in range(500) if not np.array_equal(m(x), want))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_under_calls(compiled: Make, image: np.ndarray, expected: Expected) -> None:
    m = load(compiled())
    want, results, errors = expected(image), [], []
    started = threading.Event()

    def work() -> None:
        try:
            while True:
                results.append(np.array_equal(m(image), want))
                started.set()
        except CompactError as error:
            errors.append(error.code)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    m.close()
    for thread in threads:
        thread.join(10)
    assert errors == ["CIR625"] * 4
    assert all(results)
    assert "closed" in repr(m)
    with load(compiled()) as again:
        again(image)
    assert error_of(lambda: again(image)).code == "CIR625"
    assert error_of(again.profile).code == "CIR625"


def test_outputs_outlive_the_module(compiled: Make, image: np.ndarray, expected: Expected) -> None:
    m = load(compiled())
    y = m(image)
    del m
    gc.collect()
    np.testing.assert_array_equal(y, expected(image))


def test_two_modules(compiled: Make, image: np.ndarray, expected: Expected) -> None:
    one, two = load(compiled()), load(compiled(name="tiny2", factor=2.0))
    np.testing.assert_array_equal(two(image), 2 * one(image))
    np.testing.assert_array_equal(one(image), expected(image))


class Recorder:
    """A backend that computes something simple, for shapes of calls that the tiny network does not have."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], threads: int = 1) -> None:
        for i, out in enumerate(outputs):
            out[:] = sum(x.ravel()[0] for x in inputs) + i

    def runner(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], threads: int = 1
    ) -> Callable[[], None]:
        return partial(self.run, inputs, outputs, threads)


def test_several_inputs_and_outputs(compiled: Make) -> None:
    two = Tensor("a", "f32", (2, 2)), Tensor("b", "f32", (2, 3))
    outputs = Tensor("p", "f32", (2, 1)), Tensor("q", "f32", (2, 2))
    manifest = replace(read_manifest(compiled()), inputs=two, outputs=outputs)
    m = Module(compiled(), manifest, Recorder())
    a, b = np.full((2, 2), 1, np.float32), np.full((2, 3), 2, np.float32)
    for y in (m(a, b), m(a, b=b), m(b=b, a=a)):
        assert list(y) == ["p", "q"]
        np.testing.assert_array_equal(y["p"], np.full((2, 1), 3))
        np.testing.assert_array_equal(y["q"], np.full((2, 2), 4))
    p, q = np.empty((2, 1), np.float32), np.empty((2, 2), np.float32)
    m(a, b, out=[p, q])
    assert (p[0, 0], q[0, 0]) == (3, 4)
    assert m.bind(a, b=2 * b, out=[p, q])()[0] is p
    assert (p[0, 0], q[0, 0]) == (5, 6)
    both = np.empty((2, 2), np.float32)
    assert error_of(lambda: m(a, b, out=[p])).code == "CIR624"
    assert error_of(lambda: m(a, b, out={"p": both[:, :1], "q": both})).code == "CIR624"
    assert error_of(lambda: m(a)).message == "`tiny` needs `b`"
    assert "batches of 2: stack 2" in (error_of(lambda: m(a[0], b)).help or "")


def test_profile(m: Module, image: np.ndarray) -> None:
    profile = m.profile(image, repeats=5, peak_gflops=10.0)
    assert [row.step.name for row in profile.rows] == ["scale", "relu"]
    assert sum(row.share for row in profile.rows) == pytest.approx(1)
    assert profile.macs == 60
    assert "scale_c3" in str(profile)
    assert "of peak" in str(profile)
    assert profile.to_json()["steps"][1]["bytes_moved"] == 480
    assert m.profile().repeats == 20
    assert error_of(lambda: m.profile(image[:, :2])).code == "CIR621"


def test_profile_arithmetic(compiled: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(compiled())
    clock = [0]
    monkeypatch.setattr("compactir.runtime.profile.perf_counter_ns", lambda: clock[0])

    def run(first: int, last: int) -> int:
        clock[0] += 500 + sum([3000, 1000][first:last])  # half a microsecond for the call itself
        return 0

    profile = measure(manifest, run, repeats=3, warmup=1, peak_gflops=None)
    assert [row.time_us for row in profile.rows] == [3.0, 1.0]
    assert [row.share for row in profile.rows] == [0.75, 0.25]
    assert profile.rows[0].gflops == pytest.approx(2 * 60 / 3000)
    assert profile.rows[1].gbytes_per_s == pytest.approx(0.48)
    assert profile.total_us == 4.0
    assert [row.step.name for row in profile.slowest(1)] == ["scale"]
    assert "of peak" not in str(profile)


def test_no_steps_no_profile(compiled: Make) -> None:
    folder = compiled()
    manifest = replace(read_manifest(folder), steps=())
    m = Module(folder, manifest, Native(folder, manifest))
    assert error_of(m.profile).code == "CIR627"


def plan(*buffers: Buffer) -> MemoryPlan:
    tensors = (Tensor("x", "f32", (1,)),)
    steps = tuple(Step(name, name, name, 0, 0) for name in "abcd")
    empty = Manifest("n", "n", "c", "scalar", (), tensors, tensors, 999, 64, 64, "00", "libn.so", None)
    return MemoryPlan(replace(empty, steps=steps, memory=buffers))


def test_memory(m: Module) -> None:
    memory = m.memory()
    assert (memory.workspace_bytes, memory.peak_bytes) == (256, 240)
    assert [b.name for b in memory.at_peak] == ["t"]
    assert memory.to_json()["buffers"] == [{"name": "t", "offset": 0, "bytes": 240, "first": 0, "last": 1}]
    assert "peak 240 bytes at scale" in str(memory)


def test_memory_peak() -> None:
    big, small, late = (
        Buffer("big", 0, 100, 0, 1),
        Buffer("small", 100, 50, 1, 3),
        Buffer("late", 0, 60, 2, 3),
    )
    memory = plan(big, small, late)
    assert [memory.live_bytes(i) for i in range(4)] == [100, 150, 110, 110]
    assert (memory.peak_step, memory.peak_bytes) == (1, 150)
    assert memory.at_peak == (big, small)
    marked = [line for line in str(memory).splitlines() if line.startswith("*")]
    assert [line.split()[-1] for line in marked] == ["big", "small"]
    assert plan().peak_bytes == 0
    assert "peak 0 bytes" in str(plan())


def test_steps_under_way_go_on_when_it_is_closed(m: Module, image: np.ndarray, expected: Expected) -> None:
    begun, late = m.stepwise(image), m.stepwise(image)
    next(begun)
    m.close()
    _, outputs = next(begun)
    np.testing.assert_array_equal(outputs["y"], expected(image))
    with pytest.raises(CompactError, match="CIR625"):
        next(late)

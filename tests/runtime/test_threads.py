"""Modules for several threads: same bits, many callers, fork, several modules, nothing left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compactir
from compactir.diagnostics import CompactError
from compactir.runtime.manifest import read_manifest
from compactir.runtime.module import Module, load

pytestmark = pytest.mark.compiler
ROOT = Path(__file__).resolve().parents[2]
NETWORK = """
network small() {
  input image: f32[3, 64, 64]
  x = image -> conv(16, kernel=3, stride=2) -> relu
  x = x -> conv(96, kernel=1) -> relu6 -> depthwise(kernel=3) -> relu6 -> conv(32, kernel=1)
        -> max_pool(kernel=2) -> conv(256, kernel=1) -> relu
  output scores = x -> global_avg_pool -> linear(400)
}
"""
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc: run it on Linux")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.arch"
    path.write_text(NETWORK, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for three threads."""
    return compactir.compile(model, out=tmp_path_factory.mktemp("threads"), threads=3, seed=0).folder


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)


def running() -> int:
    return len(os.listdir("/proc/self/task"))


def eventually(holds: Callable[[], bool]) -> bool:
    """Within a second: threads vanish from /proc a moment after they were joined."""
    for _ in range(100):
        if holds():
            return True
        time.sleep(0.01)
    return holds()


def test_the_same_bits_as_with_one_thread(model: Path, folder: Path, image: np.ndarray) -> None:
    alone = compactir.compile(model, seed=0)(image)
    m = load(folder)
    assert m.threads == read_manifest(folder).threads == 3
    for threads in (None, 1, 2, 3):
        np.testing.assert_array_equal(m(image, threads=threads), alone)


def test_a_batch(model: Path, image: np.ndarray) -> None:
    m = compactir.compile(model, threads=2, batch=3, seed=0)
    images = np.concatenate([image, image * 2, image * 3])
    np.testing.assert_array_equal(m(images), m(images, threads=1))


def test_helpers_compute_in_the_mode_of_the_caller(folder: Path, image: np.ndarray) -> None:
    """Inputs so small that sums vanish where the caller's program flushes to zero."""
    torch = pytest.importorskip("torch", reason="pip install torch")
    m, tiny = load(folder), image * np.float32(1e-38)
    plain = m(tiny)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU does not flush: pip install torch on one that does")
    try:
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(m(tiny, threads=threads), m(tiny, threads=1))
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(m(tiny), plain)


@pytest.mark.parametrize("threads", [0, -1, 4, "2", 1.5, 1.0, 2.0, True, np.True_])
def test_only_as_many_as_compiled_for(folder: Path, image: np.ndarray, threads: Any) -> None:
    m = load(folder)
    for call in (m, m.profile, m.stepper, lambda x, threads: m.bind(x, out=m(x), threads=threads)):
        with pytest.raises(CompactError) as caught:
            call(image, threads=threads)
        assert caught.value.code == "CIR628"


@pytest.mark.parametrize(
    ("threads", "code"), [(0, "CIR678"), (65, "CIR504"), ("two", "CIR678"), (True, "CIR678"), (1.0, "CIR678")]
)
def test_an_odd_number_to_compile_for(model: Path, threads: Any, code: str) -> None:
    with pytest.raises(CompactError) as caught:
        compactir.compile(model, threads=threads, seed=0)
    assert caught.value.code == code


def test_eight_callers_and_two_modules(model: Path, folder: Path, image: np.ndarray) -> None:
    one, other = load(folder), compactir.compile(model, threads=2, seed=1)
    expected = {m: m(image, threads=1) for m in (one, other)}

    def call(number: int) -> bool:
        m = (one, other)[number % 2]
        threads = 1 + number % m.threads
        return all(np.array_equal(m(image, threads=threads), expected[m]) for _ in range(20))

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(call, range(16)))


@linux
def test_the_threads_end_with_the_module(folder: Path, image: np.ndarray) -> None:
    gc.collect()
    before = running()
    m = load(folder)
    m(image, threads=1)
    assert running() == before
    m(image, threads=2)
    m(image)
    assert running() == before + 2
    m.close()
    del m
    gc.collect()
    assert eventually(lambda: running() == before)


@linux
def test_threads_sleep_between_calls(folder: Path, image: np.ndarray) -> None:
    m = load(folder)
    m(image)
    time.sleep(0.05)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.1


FORK = """
import os, sys
import numpy as np, compactir
from compactir.runtime.module import load
m = load(sys.argv[1])
x = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
y = m(x)
for _ in range(6):
    child = os.fork()
    if not child:
        np.testing.assert_array_equal(m(x), y)
        grandchild = os.fork()
        if not grandchild:
            np.testing.assert_array_equal(m(x, threads=2), y)
            os._exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        sys.exit(0)
    np.testing.assert_array_equal(m(x), y)
    assert os.waitpid(child, 0)[1] == 0
print("fine")
"""


@linux
def test_fork(folder: Path) -> None:
    """A child has none of its parent's threads, and starts its own; both end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(folder)], capture_output=True, text=True, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr


def test_a_profile_of_threads(folder: Path) -> None:
    m = load(folder)
    for threads in (1, 3):
        profile = m.profile(repeats=2, warmup=1, threads=threads, peak_gflops=100.0)
        assert len(profile.rows) == len(m.manifest.steps)
        assert profile.threads == threads
        assert "of peak" in str(profile)
    with pytest.raises(CompactError, match="CIR628"):
        m.profile(threads=9)


def test_code_for_one_thread_knows_no_others(model: Path) -> None:
    m: Module = compactir.compile(model, seed=0)
    text = (m.folder / m.manifest.source).read_text(encoding="utf-8")
    assert "crew" not in text
    assert "pthread" not in text
    assert "threads" not in (m.folder / m.manifest.header).read_text(encoding="utf-8")

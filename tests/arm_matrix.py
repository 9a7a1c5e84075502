"""Every way to build for Arm, and every example network on it: `make arm`. Takes minutes.

python tests/arm_matrix.py ways        gcc static and shared, zig static (musl) and shared (gnu): 3 networks
python tests/arm_matrix.py networks    every network of examples/ verified for arm and arm-v7, by gcc
python tests/arm_matrix.py cores       3 networks, one with Winograd, on each tuned target, by zig and gcc
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compactir import reference  # noqa: E402  # runs from a checkout
from compactir.driver import Generated, Source, archive, build, generate, plan, project, read, write  # noqa: E402
from compactir.runtime.build import LIBRARIES, LINK, Compiler, find_compiler  # noqa: E402
from compactir.runtime.emulate import Emulated  # noqa: E402
from compactir.runtime.module import Module  # noqa: E402
from compactir.targets import Target, load_target  # noqa: E402
from compactir.tools.verify import compare, compare_outputs  # noqa: E402

WAYS = [("gcc", "static"), ("gcc", "shared"), ("zig", "static"), ("zig", "shared")]
NETWORKS = {"lenet5": {}, "ds_cnn": {}, "shufflenet_v2": {"size": "64"}}
SIZES = [{}, {"size": "32"}, {"size": "64"}, {"size": "96"}]
"""Smaller inputs, smallest first where the network has that parameter at all."""
TARGETS = ("arm", "arm-v7")
CORES = ("arm-a53", "arm-a55", "arm-a76")
ON_CORES = ("mobilenet_v2", "shufflenet_v2", "squeezenet")


def main(words: list[str]) -> int:
    """Run one of them; returns 1 where something is wrong."""
    warnings.simplefilter("ignore")
    wrong = 0
    for what, fine in {"ways": ways, "networks": networks, "cores": cores}[words[0]]():
        print(f"{'agrees' if fine else 'WRONG '}  {what}", flush=True)
        wrong += not fine
    return 1 if wrong else 0


def ways() -> Iterator[tuple[str, bool]]:
    """The example program of each network, linked in every way, against the reference."""
    for name, defines in NETWORKS.items():
        authored = read(Source(ROOT / "examples" / f"{name}.arch", defines, seed=0))
        inputs = reference.random_inputs(authored.graph, 0)
        expected = reference.run(authored.graph, inputs)
        for target in map(load_target, TARGETS):
            generated = generate(plan(authored, target), pack="object")
            for family, how in WAYS:
                start = time.perf_counter()
                compiler = find_compiler(target, "zig" if family == "zig" else target.cc[0])
                actual = _example(generated, target, compiler, how, list(inputs.values()), expected)
                fine = all(compare(k, actual[k], expected[k]).agrees for k in expected)
                yield f"{name} {target.name} {family} {how} ({time.perf_counter() - start:.1f} s)", fine


def _example(
    generated: Generated,
    target: Target,
    compiler: Compiler,
    how: str,
    inputs: list[np.ndarray],
    like: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """What example_main.c writes, linked with the archive and statically, or with the shared library."""
    with tempfile.TemporaryDirectory(prefix="compactir-") as name:
        folder = Path(name) / "out"
        cc = " ".join(compiler.command)
        beside: dict[str, str | bytes | Path] = {**project(generated)}
        symbol = generated.manifest.symbol
        beside[f"lib{symbol}.a"] = archive(generated, cc)
        write(generated, folder, build(generated, cc), beside)
        flags = (*target.link_flags(compiler.family, static=how == "static"), *LINK)
        library = (
            [str(folder / f"lib{symbol}.a"), "-static"] if how == "static" else [f"-L{folder}", f"-l{symbol}"]
        )
        source, program = str(folder / "example_main.c"), str(folder / "example")
        command = [*compiler.command, *flags, source, f"-I{folder}", *library, *LIBRARIES, "-o", program]
        subprocess.run(command, check=True, cwd=folder)
        files = [str(folder / f"in{i}.f32") for i in range(len(inputs))]
        for array, file in zip(inputs, files, strict=True):
            array.tofile(file)
        outs = [str(folder / f"out{i}.f32") for i in range(len(like))]
        run = target.run_command([program, *files, *outs])
        run[1:1] = ["-E", f"LD_LIBRARY_PATH={folder}"]
        subprocess.run(run, check=True, capture_output=True, env=os.environ)
        return {
            key: np.fromfile(file, np.float32).reshape(array.shape)
            for (key, array), file in zip(like.items(), outs, strict=True)
        }


def networks() -> Iterator[tuple[str, bool]]:
    """Every example at a small input, on each architecture, as `compactc verify` runs it."""
    paths = sorted((ROOT / "examples").glob("*.arch"))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(_network, paths):
            yield from found


def _network(path: Path) -> list[tuple[str, bool]]:
    """One example on each architecture."""
    from compactir.diagnostics import CompactError
    from compactir.driver import load, write_to_cache

    warnings.simplefilter("ignore")
    for defines in [*SIZES[1:], SIZES[0]]:
        try:
            authored = read(Source(path, defines, seed=0))
            planned = [plan(authored, load_target(name)) for name in TARGETS]
            break
        except CompactError:
            continue
    found = []
    for one in planned:
        generated = generate(one)
        gcc = one.target.cc[0]
        with load(write_to_cache(generated, build(generated, gcc)), gcc) as module:
            fine = all(c.agrees for c in compare_outputs(authored, module))
        said = " ".join(f"{key}={value}" for key, value in defines.items())
        found.append((f"{path.name} {said} {one.target.name}", fine))
    return found


def cores() -> Iterator[tuple[str, bool]]:
    """Kernels that are made for one core, in whole networks."""
    jobs = [(name, target) for name in ON_CORES for target in CORES]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(_on_core, jobs):
            yield from found


def _on_core(job: tuple[str, str]) -> list[tuple[str, bool]]:
    """One network on one core, from each compiler."""
    name, target = job
    warnings.simplefilter("ignore")
    authored = read(Source(ROOT / "examples" / f"{name}.arch", {"size": "32"}, seed=0))
    generated = generate(plan(authored, load_target(target)))
    if name == "squeezenet":
        assert any("winograd" in step.kernel for step in generated.manifest.steps)
    found = []
    with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
        write(generated, out := Path(folder) / "out")
        for cc in ("zig", generated.planned.target.cc[0]):
            with Module(out, generated.manifest, Emulated(out, generated.manifest, cc=cc)) as module:
                fine = all(c.agrees for c in compare_outputs(authored, module))
            found.append((f"{name}.arch size=32 {target} {cc}", fine))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

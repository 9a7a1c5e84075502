"""A generated network as a program that makes a mark before every step and after the last one."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from compactir.driver import Generated, contents
from compactir.runtime.build import Compiler, compile_program
from compactir.runtime.cache import content_key, open_cache
from compactir.runtime.emulate import PROGRAM_START
from compactir.runtime.interface import cdef
from compactir.runtime.manifest import Manifest
from compactir.tools.count.emulator import Block, Interval, run_counted

__all__ = ["count_steps", "counting_source", "joined"]


def count_steps(generated: Generated, compiler: Compiler, *, caches: bool = False) -> list[Interval]:
    """What each step of one inference executes, on random inputs, after an inference that is not counted.

    Args:
        generated: C for a target that has an emulator.
        compiler: compiles and links it into a static program.
        caches: also model the data caches.

    Returns:
        One interval per step of the manifest, in order.

    Raises:
        CompactError: CIR511 … CIR515 for what compiler and emulator complain about.
    """
    manifest, target = generated.manifest, generated.planned.target
    main = counting_source(manifest)
    flags = target.flags(compiler.family, static=True)
    key = content_key("counted", *generated.texts.values(), main, *flags, compiler.identity)

    def build(aside: Path) -> None:
        for name, text in {**generated.texts, "main_count.c": main}.items():
            (aside / name).write_text(text, encoding="utf-8")
        sources = [aside / manifest.source, aside / "main_count.c"]
        compile_program(sources, aside / "program", target, compiler)

    program = open_cache().build(key, build) / "program"
    with tempfile.TemporaryDirectory(prefix="compactir-count-") as folder:
        arguments = []
        if manifest.weights:
            packed = contents(generated)[manifest.weights]
            assert isinstance(packed, bytes)
            (Path(folder) / manifest.weights).write_bytes(packed)
            arguments.append(str(Path(folder) / manifest.weights))
        intervals, _ = run_counted([str(program), *arguments], target, caches=caches)
    return intervals[1:-1]


def joined(intervals: Sequence[Interval]) -> Interval:
    """Several intervals as one: how often every block ran in all of them."""
    runs: Counter[Block] = Counter()
    for interval in intervals:
        for block, times in interval.runs:
            runs[block] += times
    return Interval(tuple(runs.items()))


def counting_source(manifest: Manifest) -> str:
    """The C text of the program. A mark is a call of getppid()."""
    tensors = [*manifest.inputs, *manifest.outputs]
    return _PROGRAM.format(
        name=manifest.symbol,
        declarations=cdef(manifest),
        sizes=", ".join(str(t.bytes // 4) for t in tensors),
        count=len(tensors),
        inputs=len(manifest.inputs),
        arguments=", ".join(f"tensor[{i}]" for i in range(len(tensors))),
        align=manifest.align,
        weights_bytes=manifest.weights_bytes,
        workspace_bytes=max(manifest.workspace_bytes, 1),
        steps=len(manifest.steps),
    )


_PROGRAM = (
    """\
/* Runs {name} twice on random numbers, the second time with a mark before every step.
   usage: program [packed-weights] */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int getppid(void);

{declarations}
enum {{ INPUTS = {inputs}, TENSORS = {count} }};
static const size_t size[TENSORS] = {{ {sizes} }};
static float *tensor[TENSORS];

"""
    + PROGRAM_START
    + """

int main(int argc, char **argv) {{
  {name}_weights w;
  void *workspace = memory({workspace_bytes});
  uint32_t seed = 1;
  int status;
  if ((status = {name}_bind(&w, weights(argc, argv), {weights_bytes})) != 0) {{
    fprintf(stderr, "the weights do not fit: %s\\n", {name}_error(status));
    return 2;
  }}
  for (int i = 0; i < TENSORS; ++i) {{
    tensor[i] = memory(size[i] * 4);
    for (size_t j = 0; i < INPUTS && j < size[i]; ++j) {{
      seed = seed * 1664525u + 1013904223u;
      tensor[i][j] = (float)(int32_t)seed / 2147483648.0f;
    }}
  }}
  if ((status = {name}_run(&w, {arguments}, workspace)) != 0) {{
    fprintf(stderr, "the network fails: %s\\n", {name}_error(status));
    return 2;
  }}
  for (int s = 0; s < {steps}; ++s) {{
    getppid();
    {name}_run_steps(&w, {arguments}, workspace, s, s + 1);
  }}
  getppid();
  return 0;
}}
"""
)

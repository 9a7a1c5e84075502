"""Instructions and estimated cycles on Arm, beside other engines: a section of docs/performance.md.

python benchmarks/arm_page.py            counts anew; wants both compilers, qemu-user, llvm-19

The figures are kept in benchmarks/arm.json; `bench_engines.py --redraw` writes the page again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
COUNTS = ROOT / "benchmarks" / "arm.json"
NETWORKS = {
    "mobilenet_v2": "MobileNetV2",
    "shufflenet_v2": "ShuffleNetV2 1×",
    "squeezenet": "SqueezeNet 1.1",
}
CORES = ("a76", "a55", "a53")
ONE_MOVE = "a53-one-move"
"""The A53 as its other public description has it."""
COMPILERS = {"gcc": "aarch64-linux-gnu-gcc", "zig": "zig"}
ENGINES = ("ncnn", "TFLite/XNNPACK", "MNN", "ONNX Runtime")
LEAST_WIN = 0.8
"""Estimates that differ by less than this are called alike."""


def main() -> int:
    """Count, keep the figures, write the page."""
    from benchmarks.bench_engines import redraw

    text = json.dumps(count() | {"engines": load()["engines"]}, indent=1)
    COUNTS.write_text(text + "\n", encoding="utf-8")
    redraw()
    return 0


def load() -> dict[str, Any]:
    """What was counted: million instructions and million estimated cycles."""
    found: dict[str, Any] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return found


def count() -> dict[str, Any]:
    """`compactc count` of every network, core and compiler."""
    ours: dict[str, Any] = {name: {} for name in NETWORKS}
    one_move: dict[str, Any] = {name: {} for name in NETWORKS}
    versions = {}
    for name in NETWORKS:
        for core in CORES:
            for family, cc in COMPILERS.items():
                command = [sys.executable, "-m", "compactir", "count", f"examples/{name}.arch", "--json"]
                command += ["--target", f"arm-{core}", "--cc", cc, "--model", core]
                command += ["--model", ONE_MOVE] if core == "a53" else []
                said = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
                total, versions[family] = said["total"], said["compiler"]
                fmla = total["classes"]["fma32"]
                ours[name][f"{core} {family}"] = [
                    round(number / 1e6, 1) for number in (total["instructions"], total["cycles"][core], fmla)
                ]
                if ONE_MOVE in total["cycles"]:
                    one_move[name][family] = round(total["cycles"][ONE_MOVE] / 1e6, 1)
                print(name, core, family, ours[name][f"{core} {family}"], flush=True)
    return {"compilers": versions, "ours": ours, "one_move": one_move}


def section(found: dict[str, Any]) -> str:
    """What docs/performance.md says about Arm."""
    parts = [_HEAD.format(gcc=found["compilers"]["gcc"], zig=found["compilers"]["zig"])]
    for name, title in NETWORKS.items():
        parts.append(_table(title, found["ours"][name], found["engines"][name]))
    rows = [" | ".join(f"{found['one_move'][name][f]:.1f}" for f in COMPILERS) for name in NETWORKS]
    table = "\n".join(f"| {title} | {row} |" for title, row in zip(NETWORKS.values(), rows, strict=True))
    parts.append(_MOVES.format(families=" | ".join(COMPILERS), table=table))
    parts.append(_TAIL)
    return "\n".join(parts)


def _table(title: str, ours: dict[str, list[float]], engines: dict[str, list[list[float]]]) -> str:
    lines = [f"### {title}", "", "| | " + " | ".join(f"{c.upper()} i | {c.upper()} c" for c in CORES) + " |"]
    lines.append("|---|" + "---|" * (2 * len(CORES)))
    for family in COMPILERS:
        cells = (f"{ours[f'{core} {family}'][0]:.1f} | {ours[f'{core} {family}'][1]:.1f}" for core in CORES)
        lines.append(f"| **compactir, {family}** | {' | '.join(cells)} |")
    for engine in ENGINES:
        cells = (f"{instructions:.1f} | {cycles:.1f}" for instructions, cycles in engines[engine])
        lines.append(f"| {engine} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(_verdict(core, i, ours, engines) for i, core in enumerate(CORES)), ""])


def _verdict(core: str, column: int, ours: dict[str, Any], engines: dict[str, Any]) -> str:
    """What the estimates allow to say about one core."""
    cycles = {family: ours[f"{core} {family}"][1] for family in COMPILERS}
    mine = min(cycles.values())
    best = min(ENGINES, key=lambda engine: engines[engine][column][1])
    ratio = mine / engines[best][column][1]
    if ratio <= LEAST_WIN:
        winners = [family for family in COMPILERS if cycles[family] <= LEAST_WIN * engines[best][column][1]]
        said = f"with {' and '.join(winners)} fewer estimated cycles than {best}, the best of the others"
    elif ratio < 1 / LEAST_WIN:
        said = f"no difference that an estimate could show from {best}, the best of the others"
    else:
        said = f"more estimated cycles than {best}"
    return f"* {core.upper()}: {said} ({ratio:.2f} times)."


_HEAD = """\
## Arm, estimated

**Nothing here is a time, and nothing was measured on Arm.** Instructions (i, in millions) of one inference
are counted under QEMU, exactly. Cycles (c, in millions) are estimates by models of the cores: llvm-mca's
Neoverse N1 for the Cortex-A76, models of our own for the in-order Cortex-A55 and A53
(`compactir/tools/count/inorder.py`). They assume that every load hits the first cache, so they are lower
bounds: devices take 1.3 to 1.9 times as long (ncnn's published times against its estimates). Differences
below 20 % say nothing.

float32, one thread, batch 1, 224×224, random weights (seed 0). compactir: {gcc}; {zig} (clang). The
others, counted the same way in their Python packages for aarch64: ncnn 1.0.20261020, MNN 3.6.1, ONNX
Runtime 1.31.1, LiteRT 2.3.0 (TFLite with XNNPACK); half precision, which ncnn and MNN take if they may,
was off. A convolution that sums directly takes MACs / 4 multiply-adds on vectors; ncnn, MNN and
compactir take fewer for 3×3 layers (Winograd).
"""
_MOVES = """\
### What the A53 figures rest on

Our loops for the A53 bring half of what they load through integer registers, and our model of the core starts
two moves from there to vector registers in a cycle. Public sources differ: gcc's description of the core
(`cortex-a53.md`: any slot, either of two pipes) starts two, LLVM's (`AArch64SchedA53.td`: one unit) starts
one; ncnn's notes on its kernels say only that such a move starts beside a 64-bit load. Nobody measured it for
this page. With one move per cycle (`--model a53-one-move`) the same programs take, in million cycles:

| | {families} |
|---|---|---|
{table}

The engines' columns were estimated with two: ncnn and TFLite move through integer registers, too, so that
theirs would grow as well, and these figures must not be set against them.
"""
_TAIL = """\
How to count a model of your own: `compactc count MODEL.arch --target arm-a55`
([arm.md](arm.md#how-fast-will-it-be)). What was tried, and brought what:
[benchmarks/LOG.md](../benchmarks/LOG.md).
"""


if __name__ == "__main__":
    sys.exit(main())

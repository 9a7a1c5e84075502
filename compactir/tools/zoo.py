"""A folder of networks against the headers of their files: counted, compiled, compared; makes docs/zoo.md.

    python -m compactir.tools.zoo examples lenet5 mobilenet_v2                  these two, a line each
    python -m compactir.tools.zoo examples --target x86 --write docs/zoo.md     all of them, and the table

A header says what its network must come to, first as it is, then for `-D` values:

    # expect: params=3504872 macs=300774272
    # expect[width=0.5]: params=1968680 macs=97131840

`params` are trained scalars and `macs` multiply-accumulates for one image, both without what a mask removes;
`stored=` is what the arrays hold, where that is more; `ours` marks a figure that nobody has published.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf, log10
from pathlib import Path
from typing import Any

import numpy as np

from compactir import driver, reference
from compactir.ir.graph import Graph
from compactir.ir.types import Array
from compactir.ops.conv import Conv
from compactir.targets import load_target
from compactir.tools.counting import count
from compactir.tools.manage_cache import megabytes
from compactir.weights.init import draw

TOLERANCE = 1e-4
_LINE = re.compile(r"# expect(?:\[([^\]]*)\])?: (.*)")


@dataclass(frozen=True)
class Expected:
    """One `# expect` line: the figures that the network has under these `-D` values."""

    defines: tuple[tuple[str, str], ...]
    params: int
    macs: int
    stored: int
    ours: bool = False

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.defines) or "as it is"


def expectations(path: Path) -> list[Expected]:
    """What the header of a model file expects, line by line. Raises ValueError where a line says nothing."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# expect"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path.name}: `{line}` is no expectation")
        words = match[2].split()
        figures = {name: int(value) for name, _, value in (w.partition("=") for w in words) if value}
        defines = [part.strip().partition("=") for part in (match[1] or "").split(",") if part]
        found.append(
            Expected(
                tuple((name, value) for name, _, value in defines),
                figures["params"],
                figures["macs"],
                figures.get("stored", figures["params"]),
                "ours" in words,
            )
        )
    return found


def counted(path: Path, expected: Expected) -> Expected:
    """The figures of a variant, by the closed formulas; masks are drawn and counted."""
    graph = driver.read_graph(driver.Source(path, dict(expected.defines)))
    params, macs = graph.trainable, graph.macs
    masked = [node for node in graph.nodes if isinstance(node.op, Conv) and node.op.masked]
    weights = draw(graph) if masked else {}
    for node in masked:
        weight, mask = (weights[p.name] for p in node.params[:2])
        dead = weight.size - int(np.count_nonzero(np.broadcast_to(mask, weight.shape)))
        params -= dead
        macs -= node.macs // weight.size * dead
    return Expected(expected.defines, params, macs, graph.trainable, expected.ours)


@dataclass(frozen=True)
class Row:
    """A network in the table."""

    name: str
    params: int
    macs: int
    variants: int
    wrong: tuple[str, ...]
    """What differs from the header, a line each."""
    ours: bool
    torch: float
    """The largest difference of the emitted PyTorch module from the reference, over the largest output."""
    c: float
    kernels: int
    copies: int
    memory: int
    seconds: float

    @property
    def good(self) -> bool:
        """True when all figures are as expected, and PyTorch and C agree with the reference."""
        return not self.wrong and self.torch <= TOLERANCE and self.c <= TOLERANCE

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows them."""
        figures = "yes" if not self.wrong else f"no: {self.wrong[0]}"
        more = f", {self.variants} variants" if self.variants > 1 else ""
        return (
            f"`{self.name}`",
            f"{self.params:,}",
            f"{self.macs:,}",
            figures + more + (", ours" if self.ours else ""),
            _bound(self.torch),
            _bound(self.c),
            str(self.kernels),
            f"{self.copies:,}",
            megabytes(self.memory),
        )


def _bound(error: float) -> str:
    """The power of ten that an error stays below: its digits differ from one processor to the next."""
    if not error <= TOLERANCE:
        return f"**{error:.0e}**"
    return "equal" if error == 0 else f"1e{max(ceil(log10(error)), -9)}"


def measure(path: Path, target: str = "native") -> Row:
    """Count one network in its reference's loops, run it in PyTorch and in C, and compare."""
    start = time.perf_counter()
    expected = expectations(path)
    authored = driver.read(driver.Source(path), warn=False)
    counts = count(authored.graph)
    default = Expected(
        expected[0].defines, counts.params, counts.macs, counts.params_stored, expected[0].ours
    )
    found = [default, *(counted(path, e) for e in expected[1:])]
    wrong = [f"{f} is {f.params:,} / {f.macs:,}" for e, f in zip(expected, found, strict=True) if e != f]
    inputs = reference.random_inputs(authored.graph, 1)
    right = reference.run(authored.graph, inputs)
    planned = driver.plan(authored, load_target(target))
    it = planned.lowered.plan
    return Row(
        path.stem,
        counts.params,
        counts.macs,
        len(expected),
        tuple(wrong),
        default.ours,
        difference(right, run_torch(authored.graph, inputs)),
        difference(right, run_c(planned, inputs)),
        len(it.steps),
        it.copies,
        4 * it.arena,
        time.perf_counter() - start,
    )


def difference(right: dict[str, Array], found: dict[str, Array]) -> float:
    """max|a − b| / max|right| over all outputs; inf where NaN or infinities lie elsewhere."""
    worst = 0.0
    for name, a in right.items():
        b = found[name].reshape(a.shape)
        odd = ~np.isfinite(a) | ~np.isfinite(b)
        if not np.array_equal(a[odd], b[odd], equal_nan=True):
            return inf
        worst = max(
            worst, float(np.abs(a - b)[~odd].max(initial=0) / max(np.abs(a[~odd]).max(initial=0), 1e-30))
        )
    return worst


def run_torch(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """What the emitted PyTorch module makes of these inputs."""
    import torch

    from compactir.codegen.torch import emit_torch, load_torch

    with torch.no_grad():
        outputs: Any = load_torch(emit_torch(graph), graph)(*map(torch.from_numpy, inputs.values()))
    outputs = outputs.values() if isinstance(outputs, dict) else outputs
    several = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return {name: y.numpy() for name, y in zip(graph.outputs, several, strict=True)}


def run_c(planned: driver.Planned, inputs: dict[str, Array]) -> dict[str, Array]:
    """What the generated C makes of these inputs."""
    generated = driver.generate(planned)
    with driver.load(driver.write_to_cache(generated, driver.build(generated))) as module:
        outputs: Any = module(*inputs.values())
    names = list(planned.graph.outputs)
    return outputs if isinstance(outputs, dict) else {names[0]: outputs}


HEADING = ("network", "parameters", "MACs", "as expected", "PyTorch", "C", "kernels", "copies", "peak memory")
TEXT = """\
# The networks of `examples/`

Made by `python -m compactir.tools.zoo examples --target x86 --write docs/zoo.md`; do not edit.

- **parameters** are the trained scalars in the network's arrays, **MACs** those that the loops of the
  reference executor run through, both for the file as it is and without what a mask removes.
- **as expected**: equal, to the last digit, to what the header of the file says, variants included.
  *ours* marks networks of our own definition, whose figures nobody has published.
- **PyTorch**, **C**: the largest difference of any output from the reference, divided by the largest
  output, stays below this, for random weights and a random input of full size. PyTorch is the module that
  the compiler emits; `tests/test_networks.py` holds independent ones against the reference.
- **kernels** counts the steps of the plan, **copies** the elements that a kernel writes unchanged, **peak
  memory** is the workspace of one call. They, and C, are those of the target `{target}`.

| {heading} |
|---|---:|---:|---|---|---|---:|---:|---:|
"""


def table(rows: Sequence[Row], target: str) -> str:
    """docs/zoo.md."""
    text = TEXT.format(target=target, heading=" | ".join(HEADING))
    return text + "".join(f"| {' | '.join(row.cells)} |\n" for row in rows)


def walk(paths: Sequence[Path], target: str) -> Iterator[Row]:
    """Measure each, saying so."""
    for path in paths:
        row = measure(path, target)
        mark = "" if row.good else "   DIFFERS"
        print(f"{' '.join(row.cells)}   {row.seconds:.1f} s{mark}", flush=True)
        yield row


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything is as expected."""
    parser = argparse.ArgumentParser(
        prog="python -m compactir.tools.zoo", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--target", default="native", help="the machine to compile for (default: this CPU)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table here")
    args = parser.parse_args(arguments)
    paths = [p for p in sorted(args.folder.glob("*.arch")) if not args.names or p.stem in args.names]
    rows = list(walk(paths, args.target))
    if args.write:
        args.write.write_text(table(rows, args.target), encoding="utf-8")
    print(f"{sum(row.good for row in rows)} of {len(rows)} networks are as expected")
    return 0 if rows and all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

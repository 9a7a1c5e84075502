"""A folder of networks: the workspace of each against the least that its values need; makes docs/memory.md.

    python -m compactir.tools.memory examples mobilenet_v2                     these, a line each
    python -m compactir.tools.memory examples --target x86 --write docs/memory.md

The liveness bound of a graph: the most bytes of values that live at one step, channel by channel, each from
the step that makes it to the last that reads it. Views and concats move nothing, elementwise steps work in
place, the caller's tensors are not counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compactir import driver
from compactir.codegen.lower.regions import Chain, chains, rows_kept
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import AsMap, AsSequence, Concat, Flatten, Transparent, View
from compactir.targets import load_target
from compactir.tools.peak import Peak, find_peak

FLOAT = 4
WHOLE = 1.1
"""What the workspace may take of the bound where values die as a whole and fill their vectors."""
SHARED = 2.0
"""The same where channels that share a buffer die at different steps, or blocks have dead lanes."""


@dataclass(frozen=True)
class Life:
    """Of every channel that a graph computes: its bytes, the step that makes it, the last that reads it."""

    bytes: Array
    first: Array
    last: Array
    owner: Array
    """The index of the node that makes the channel."""

    @property
    def most(self) -> int:
        """Bytes alive at the worst step."""
        change = np.zeros(int(self.last.max(initial=0)) + 2, np.int64)
        np.add.at(change, self.first, self.bytes)
        np.add.at(change, self.last + 1, -self.bytes)
        return int(np.cumsum(change).max(initial=0))

    @property
    def whole(self) -> Life:
        """The same, with the channels of a value living as long as any of them."""
        until = np.zeros(int(self.owner.max(initial=0)) + 1, np.int64)
        np.maximum.at(until, self.owner, self.last)
        return Life(self.bytes, self.first, until[self.owner], self.owner)

    @property
    def shared(self) -> bool:
        """Whether channels of one value die at different steps."""
        return not np.array_equal(self.last, self.whole.last)


def life(graph: Graph, fused: bool = True) -> Life:
    """When the channels of one image live; `fused`: of values inside regions only the rows that are kept."""
    regions = chains(graph) if fused else {}
    step = {node: i for i, node in enumerate(graph.nodes)}
    when = {n: step[regions[n.out.name].nodes[-1]] if n.out.name in regions else step[n] for n in graph.nodes}
    places, owner = _places(graph)
    made = [node for node in graph.nodes if len(owner) and (owner == step[node]).any()]
    first, last, size = (np.zeros(len(owner), np.int64) for _ in range(3))
    for node in made:
        own = places[node.out]
        first[own] = last[own] = when[node]
        size[own] = FLOAT * _pixels(node, regions)
    for node in graph.nodes:
        for value in node.values:
            np.maximum.at(last, places[value], when[node])
    for value in graph.outputs.values():
        last[places[value]] = len(graph.nodes) - 1
    for node in graph.nodes:
        if node.op.elementwise and node.out.name not in regions:
            ids = places[node.args[0]]
            last[ids[(last[ids] == when[node]) & (first[ids] < when[node])]] -= 1
    return Life(size[1:], first[1:], last[1:], owner[1:])


def _pixels(node: Node, regions: Mapping[str, Chain]) -> int:
    height, width = node.out.type.spatial if node.out.type.rank == 4 else (1, 1)
    chain = regions.get(node.out.name)
    if chain and node is not chain.nodes[-1]:
        height = rows_kept(chain, chain.nodes.index(node))
    return height * width


_VIEWS = Transparent | AsMap | AsSequence | Flatten


def _places(graph: Graph) -> tuple[dict[Value, Array], Array]:
    """For every value the ids of its channels (0: the caller's), for every id the node that makes it."""
    places: dict[Value, Array] = {v: np.zeros(v.type.channels, np.int64) for v in graph.inputs}
    owner = [-1]
    for index, node in enumerate(graph.nodes):
        xs = [places[v] for v in node.values]
        if isinstance(node.op, View):
            places[node.out] = xs[0][node.op.sources(len(xs[0])).array]
        elif isinstance(node.op, Concat):
            places[node.out] = np.concatenate(xs)
        elif isinstance(node.op, _VIEWS) and len(xs[0]) == node.out.type.channels:
            places[node.out] = xs[0]
        else:
            places[node.out] = np.arange(len(owner), len(owner) + node.out.type.channels)
            owner += [index] * node.out.type.channels
    return places, np.array(owner, np.int64)


@dataclass(frozen=True)
class Row:
    """A network in the table; sizes in bytes."""

    name: str
    arena: int
    transformed: int
    """The workspace as compiled by default: the same, but where 3×3 layers go by Winograd's method."""
    unfused: int
    fused: int
    whole: int
    """The bound of the fused graph with values that die as a whole."""
    shared: bool
    working: int
    """Of the peak, what holds no value: scratch of kernels."""
    peak: Peak | None

    @property
    def ratio(self) -> float:
        """The workspace over the bound of the fused graph."""
        return self.arena / max(self.fused, 1)

    @property
    def good(self) -> bool:
        """Whether the ratio is what it should be, or that of values at most 2 for a reason in the table."""
        values = (self.arena - self.working) / max(self.fused, 1)
        return self.ratio <= WHOLE or (bool(self.why) and values <= SHARED)

    @property
    def why(self) -> str:
        """Where the rest goes, if there is more than a tenth."""
        if self.ratio <= WHOLE:
            return ""
        reasons = []
        if self.whole > WHOLE * self.fused:
            reasons.append("channels of one value die apart")
        if self.working > (WHOLE - 1) * self.fused:
            reasons.append(f"{self.working / 1e6:.3f} of working memory")
        if self.arena - self.working > WHOLE * self.whole:
            reasons.append("dead lanes: blocks are filled up to whole vectors")
        return "; ".join(reasons) or "channels that die apart and dead lanes, a little of both"

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows them."""
        sizes = [f"{n / 1e6:.3f}" for n in (self.unfused, self.fused, self.arena)]
        extra = self.transformed != self.arena
        default = (
            f"{self.transformed / 1e6:.3f} ({self.transformed / self.fused:.2f})" if extra else "the same"
        )
        alive = [f"`{name}` {size / 1e6:.3f}" for name, size in self.peak.buffers[:3]] if self.peak else []
        at = f"`{self.peak.step}`: {', '.join(alive)}" if self.peak else ""
        return f"`{self.name}`", *sizes, f"{self.ratio:.2f}", default, at, self.why


def measure(authored: driver.Authored, target: str) -> Row:
    """Plan a network and weigh its workspace, without Winograd's coefficients and with them."""
    direct = replace(load_target(target), winograd=False)
    planned = driver.plan(authored, direct)
    transformed = driver.plan(authored, load_target(target)).lowered.plan.arena
    graph, plan = planned.graph, planned.lowered.plan
    fused, peak = life(graph), find_peak(plan)
    holding = {piece.buffer for places in planned.lowered.places.values() for piece in places.pieces}
    working = sum(size for name, size in peak.buffers if name not in holding) if peak else 0
    return Row(
        graph.name,
        FLOAT * plan.arena,
        FLOAT * transformed,
        life(graph, fused=False).most,
        fused.most,
        fused.whole.most,
        fused.shared,
        working,
        peak,
    )


HEADING = (
    "network",
    "unfused bound",
    "fused bound",
    "workspace",
    "ratio",
    "by default",
    "at the peak",
    "why more",
)
TEXT = """\
# Memory

Made by `python -m compactir.tools.memory examples --target x86 --write docs/memory.md`; do not edit.

Megabytes (10⁶ bytes) of one call on one image, one thread, without the caller's tensors; target `{target}`.

- **bound**: the most bytes of values that live at one step, channel by channel, each from the step that makes
  it to the last that reads it. Views and concats are free, elementwise steps work in place. *unfused*: every
  value of the graph after the passes is whole. *fused*: of values inside fused regions only the rows that
  are needed at a time.
- **workspace**: what the generated code asks for with `--no-winograd`, **ratio**: over the fused bound. It
  can be below 1: a sum may overwrite its operand. Promised are {whole} where values die as a whole and fill
  their vectors, and {shared} elsewhere.
- **by default**: the workspace and its ratio where the cost model chose Winograd's method for 3×3 layers. It
  buys speed with memory: coefficients of a strip of tiles, up to twice the second cache. A device that has
  no room for them takes `--no-winograd`; `compactc explain` names the layers.
- **why more**: channels of one value that die at different steps share its buffer, so that concats and splits
  copy nothing (no network copies an element). A block of fewer channels than a vector has lanes is filled up
  with dead ones, and groups get blocks of their own where that executes fewer multiply-adds, for at most
  half as much memory again.
- **at the peak**: the step, and the largest buffers that live there. `compactc report` lists all, and the
  three edits that would lower the peak most.

| {heading} |
|---|---:|---:|---:|---:|---:|---|---|
"""


def table(rows: Sequence[Row], target: str) -> str:
    """docs/memory.md."""
    text = TEXT.format(target=target, heading=" | ".join(HEADING), whole=WHOLE, shared=SHARED)
    return text + "".join(f"| {' | '.join(row.cells)} |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every workspace is as small as promised."""
    parser = argparse.ArgumentParser(
        prog="python -m compactir.tools.memory", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--target", default="native", help="the machine to compile for (default: this CPU)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table here")
    args = parser.parse_args(arguments)
    rows = []
    for path in sorted(args.folder.glob("*.arch")):
        if not args.names or path.stem in args.names:
            rows.append(measure(driver.read(driver.Source(path, seed=0), warn=False), args.target))
            print(" ".join(rows[-1].cells) + ("" if rows[-1].good else "   TOO MUCH"), flush=True)
    if args.write:
        args.write.write_text(table(rows, args.target), encoding="utf-8")
    return 0 if rows and all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Fused regions: several nodes as one step whose stages run row by row, on buffers that hold a few rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compactir.codegen.lower.state import Lowering, spatial
from compactir.ir.graph import Graph, Node
from compactir.ir.plan import Call, Conv, Depthwise, Grid, Stage, Step
from compactir.ir.plan_parts import call_part
from compactir.ops.norm import Affine


@dataclass(frozen=True)
class Chain:
    """A region with its nodes: `window` is the index of the depthwise convolution or pool."""

    nodes: tuple[Node, ...]
    window: int
    rows: int

    @property
    def has_reader(self) -> bool:
        """Whether a pointwise convolution reads the window's strip."""
        return self.window + 1 < len(self.nodes)


def chains(graph: Graph, threads: int = 1) -> dict[str, Chain]:
    """The regions of a graph by the names of their values; for several threads those that they can share."""
    nodes = {n.out.name: n for n in graph.nodes}
    found: dict[str, Chain] = {}
    for region in graph.regions:
        members = tuple(nodes[name] for name in region.values)
        window = max(i for i, n in enumerate(members) if _has_window(n))
        chain: Chain | None = Chain(members, window, region.rows)
        if threads > 1:
            chain = _shareable(Chain(members, window, region.rows), threads)
        if chain:
            found.update(dict.fromkeys(region.values, chain))
    return found


_LOSS = 1.25
"""How much longer the longest band of rows may take than its share, before a region is better run apart."""


def _shareable(chain: Chain, threads: int) -> Chain | None:
    """The chain with as many rows at a time as lets threads share it evenly; None where none does."""
    height = spatial(chain.nodes[-1].out.type)[0]
    options = [replace(chain, rows=rows) for rows in range(chain.rows, 0, -1) if height % rows == 0]
    best = min(options, key=lambda option: _loss(option, height, threads))
    return best if _loss(best, height, threads) <= _LOSS else None


def _loss(chain: Chain, height: int, threads: int) -> float:
    """The longest band over an equal share; rows before the window that two bands make count half."""
    rounds = -(-height // chain.rows)
    rows = -(-rounds // threads) * chain.rows
    stride, window, _ = _reach(chain.nodes[chain.window])
    twice = max(0, window - stride) / stride if chain.window else 0.0
    return rows * threads / height * (1 + twice / rows / 2)


def _has_window(node: Node) -> bool:
    connect = getattr(node.op, "connect", None)
    return connect is None or connect.is_depthwise


def hold(state: Lowering, chain: Chain) -> None:
    """Say how many rows the buffers between the stages keep.

    Of a producer's so many that they wrap by a mask: windows ask for every row of theirs. Of the others those
    of a round, which may be 7.
    """
    for i, node in enumerate(chain.nodes[:-1]):
        needed = rows_kept(chain, i)
        state.held[node.out] = needed if i >= chain.window else 1 << (needed - 1).bit_length()


def rows_kept(chain: Chain, index: int) -> int:
    """How many rows of what a node inside a chain makes are needed at a time."""
    if index >= chain.window:
        return chain.rows
    stride, window, _ = _reach(chain.nodes[index + 1])
    return min(window + (chain.rows - 1) * stride, spatial(chain.nodes[index].out.type)[0])


def _reach(node: Node) -> tuple[int, int, int]:
    """(stride, window, pad) of a node along the rows; of blocks that differ, what holds them all."""
    op = node.op
    connect = getattr(op, "connect", None)
    if isinstance(op, Affine):
        return 1, 1, 0
    if connect is None:
        return op.stride[0], op.kernel[0], op.pad[0]  # type: ignore[attr-defined]  # a windowed pool
    pad = max(f.pad[0] for f in connect.families)
    dilation = op.dilation[0]  # type: ignore[attr-defined]  # a convolution
    below = max((f.kernel[0] - 1) * dilation + 1 - f.pad[0] for f in connect.families)
    return op.stride[0], pad + below, pad  # type: ignore[attr-defined]  # a convolution


def fuse(chain: Chain, steps: list[Step]) -> Step:
    """One step of the steps of a chain's nodes, in order."""
    stages = []
    for i, (node, step) in enumerate(zip(chain.nodes, steps, strict=True)):
        height = spatial(node.out.type)[0]
        if i > chain.window:
            stages.append(Stage(len(step.calls), height // chain.rows))
        elif i == chain.window and chain.has_reader:
            stages.append(Stage(len(step.calls), height, chain.rows, chain.rows))
        elif i == chain.window:
            stages.append(Stage(len(step.calls), height, 1, chain.rows))
        else:
            stride, window, pad = _reach(chain.nodes[i + 1])
            stages.append(Stage(len(step.calls), height, stride, window, pad))
    turned = _in_turns(chain, steps)
    if turned:
        stages[:2] = [replace(stage, calls=len(turned)) for stage in stages[:2]]
        expanded, filtered = zip(*turned, strict=True)
        calls = (*expanded, *filtered, *(call for step in steps[2:] for call in step.calls))
    else:
        calls = tuple(call for step in steps for call in step.calls)
    assert all(isinstance(c.kernel, Grid) and c.kernel.ranged for c in calls)
    inner = sum(chain.nodes[i].out.type.size // chain.nodes[i].out.type.batch for i in range(len(steps) - 1))
    return replace(
        steps[-1],
        op="+".join(step.op for step in steps),
        nodes=tuple(step.name for step in steps),
        calls=calls,
        stages=tuple(stages),
        macs=sum(s.macs for s in steps),
        executed=sum(s.executed for s in steps),
        # Values inside stay in the cache: they move no bytes of memory.
        read=sum(s.read for s in steps) - inner,
        written=steps[-1].written,
        inplace=("", ""),
        turns=bool(turned),
    )


def _in_turns(chain: Chain, steps: list[Step]) -> list[tuple[Call, Call]]:
    """Panel by panel: its expansion, and the depthwise filters of its blocks. Empty where that does not pay.

    With strides rows are read once or twice, so that what counts is to read them: a panel's rows still lie in
    the first-level cache. Without strides nothing was gained (benchmarks/LOG.md).
    """
    if len(chain.nodes) < 3 or chain.window != 1 or _reach(chain.nodes[1])[0] == 1:
        return []
    if len(steps[0].calls) != 1 or len(steps[1].calls) != 1:
        return []
    expand, window = steps[0].calls[0], steps[1].calls[0]
    k, filters = expand.kernel, window.kernel
    if not isinstance(k, Conv) or not isinstance(filters, Depthwise) or expand.y.places != window.x.places:
        return []
    return [
        (
            _cut(expand, "panels", p, 1, k.panel_floats),
            _cut(window, "blocks", p * k.vectors, k.vectors, filters.block_floats),
        )
        for p in range(k.panels)
    ]


def _cut(call: Call, axis: str, first: int, count: int, floats: int) -> Call:
    """Some panels or blocks of a call, each with so many packed weights."""
    part = call_part(replace(call, kernel=replace(call.kernel, split=axis)), first, first + count)
    assert part, "it has some"
    return replace(part, kernel=replace(part.kernel, split=""), weights=call.weights + first * floats)

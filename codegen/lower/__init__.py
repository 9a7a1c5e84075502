"""Graph to Plan: where every value lies, which kernels run on it, how their weights are packed.

One rule per operation (`state.lowers`); a rule adds buffers, steps and packed weights to the `Lowering`.
Views add nothing: they only rewrite channel maps. What works on tensors of any rank becomes loops (`nests`,
`tensors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compactir.codegen.lower import (
    convolution,
    lanewise,
    layout,
    memory,
    parts,
    planes,
    regions,
    tensors,
    views,
)
from compactir.codegen.lower.nests import Nests
from compactir.codegen.lower.pack import ALIGN
from compactir.codegen.lower.state import RULES, Lowering, spatial, tensor
from compactir.codegen.lower.tiles import Choices
from compactir.diagnostics import CompactError
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.plan import Buffer, Call, Copy, Plan, Step
from compactir.ir.types import Array
from compactir.passes import Decision
from compactir.targets import Target

__all__ = ["Choices", "Lowered", "convolution", "lanewise", "lower", "tensors", "views"]


@dataclass(frozen=True)
class Lowered:
    """A plan and the weights that its kernels read."""

    plan: Plan
    weights: Array
    places: Mapping[str, ChannelMap] = field(default_factory=dict)
    """Where each value of the graph lies: what `verify --per-layer` reads."""
    decisions: Sequence[Decision] = ()
    """Which kernels were chosen where there is a choice, and why."""


def lower(
    graph: Graph,
    target: Target,
    threads: int = 1,
    choices: Choices | None = None,
    as_planes: bool | None = None,
) -> Lowered:
    """Plan a graph whose weights are bound, for at most so many threads; `choices` has the tilings.

    Values lie as planes where `layout` expects that to be faster, or with `as_planes` wherever they can, or
    nowhere.

    Errors: CIR501 for an operation that no kernel knows, CIR601 without weights.
    """
    state = Lowering(graph, target, choices)
    nests = _by_images(state)
    for value in graph.inputs:
        if nests.given(value):
            continue
        buffer = state.buffer(
            value.name, spatial(value.type), value.type.channels, f"input:{value.name}", lanes=1
        )
        state.maps[value] = ChannelMap.whole(buffer.name, value.type.channels)
    chains = regions.chains(graph, threads)
    state.fused.update(chains)
    for chain in chains.values():
        regions.hold(state, chain)
    pending: dict[regions.Chain, list[Step]] = {}
    flat, decided = layout.planes(graph, target, chains, as_planes)
    state.decisions += decided
    for node in graph.nodes:
        if nests.takes(node):
            nests.lower(node)
            continue
        for value in node.values:
            nests.provide(value)
        rules = planes.RULES if node.out in flat and type(node.op) in planes.RULES else RULES
        rules[type(node.op)](state, node)
        state.choices.close(chains[node.out.name].nodes[-1].name if node.out.name in chains else node.name)
        if node.out.name in chains:
            chain = chains[node.out.name]
            pending.setdefault(chain, []).append(state.steps.pop())
            if node is chain.nodes[-1]:
                state.steps.append(regions.fuse(chain, pending.pop(chain)))
    for name, value in graph.outputs.items():
        if not nests.export(name, value):
            _export(state, name, value)
    steps, buffers = state.steps, list(state.buffers.values())
    if threads > 1:
        steps, buffers = parts.share(steps, buffers, threads, target)
    placed, arena = memory.place(memory.lifetimes(buffers, steps), steps, ALIGN)
    plan = Plan(
        graph.name,
        target.name,
        state.lanes,
        state.batch,
        tuple(tensor(v.name, v.type) for v in graph.inputs),
        tuple(tensor(name, v.type) for name, v in graph.outputs.items()),
        tuple(placed),
        tuple(steps),
        arena,
        state.packer.size,
        threads,
    )
    if threads > 1:
        plan = parts.with_waits(plan)
    places = {v.name: m for v, m in state.maps.items()}
    return Lowered(plan, state.packer.blob(), places, state.decisions)


def _by_images(state: Lowering) -> Nests:
    """Whether one image is lowered, for a loop around it, or all tensors are whole. Errors: CIR501."""
    graph = state.graph
    for name, value in graph.outputs.items():
        if isinstance(value, Param) or not graph.inputs:
            raise CompactError(
                "CIR501",
                f"`{name}` is a constant: nothing is left for the target `{state.target.name}` to compute",
                help="keep the numbers; there is no network in this model",
            )
    firsts = {v.type.shape[:1] for v in (*graph.inputs, *graph.outputs.values())}
    [images] = firsts.pop() or (1,) if len(firsts) == 1 else (1,)
    lacking: list[Node] = []
    for state.batch in dict.fromkeys((images, 1)):
        nests = Nests(state)
        lacking = lacking or nests.lacking()
        if not nests.lacking():
            return nests
    raise _without_kernels(lacking, state.target, graph.inputs[0].type.shape[:1] > (1,))


def _without_kernels(lacking: Sequence[Node], target: Target, several: bool) -> CompactError:
    one = "take the model for one image: of several, axes of images may change places in it; "
    what = [f"`{n.name}`: `{n.op.name}` on {n.out.type}" for n in lacking]
    first = lacking[0]
    lacks = f"`{first.op.name}` on {first.out.type}" + (f" and {len(what) - 1} more" if what[1:] else "")
    return CompactError(
        "CIR501",
        f"`{first.name}`: the target `{target.name}` has no kernel for {lacks}",
        span=first.span,
        notes=what[1:_LISTED] + ([f"and {len(what) - _LISTED} more"] if len(what) > _LISTED else []),
        help=(one if several else "") + "the reference and the PyTorch module run it",
    )


_LISTED = 32
"""So many operations are named in one message."""


def _export(state: Lowering, name: str, value: Value) -> None:
    """Write an output into the caller's dense NCHW, unless its producer has done so."""
    m = state.map(value)
    if all(state.buffers[b].region == f"output:{name}" for b in m.buffers):
        return
    height, width = spatial(value.type)
    channels = value.type.channels
    out: Buffer = state.buffer(f"{name}.out", (height, width), channels, f"output:{name}", lanes=1)
    source = state.buffers[m.buffers[0]]
    pixels = height * width
    kernel = Copy(pixels, channels, source.pixel, 1)
    y = ChannelMap.of((out.name, c * pixels) for c in range(channels))
    count = pixels * channels
    call = Call(kernel, state.elements(m), y)
    step = Step(f"{name}.export", "export", (call,), read=count, written=count, copied=count, conversion=True)
    state.steps.append(step)

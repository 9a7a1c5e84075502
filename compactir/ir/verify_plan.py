"""The rules that every plan keeps, as a table; `verify_plan` names the broken one, the step and its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from compactir.diagnostics import CompactError, CompactErrors, Span
from compactir.ir.channel_map import ChannelMap
from compactir.ir.plan import (
    Buffer,
    Call,
    Conv,
    Depthwise,
    Grid,
    Map,
    Plan,
    PlaneConv,
    PlaneGrid,
    PlanePool,
    Pool,
    Step,
    Tensor,
    WinogradRepair,
)
from compactir.ir.plan_access import (
    ALIGN,
    packed_floats,
    scratch_floats,
    table_lengths,
    touched,
)
from compactir.ir.plan_flow import Finding, Memory, overlap
from compactir.ir.plan_parts import axes, waits

Problem = tuple[str, Step | None]


@dataclass(frozen=True)
class Rule:
    """One sentence, and a search for what breaks it: each find says what, and in which step."""

    name: str
    broken: Callable[[Facts], Iterator[Problem]]


def verify_plan(plan: Plan) -> None:
    """Check that a plan stays within its memory and reads only what it wrote.

    The driver asks it of every plan: MobileNetV2 takes 0.1 s, the slowest of the examples 1.5 s.

    Raises:
        CompactErrors: every broken rule (CIR306) with the step that breaks it and the line of its node.
    """
    facts = Facts(plan)
    for rules in RULES:
        problems = [
            CompactError("CIR306", f"{rule.name}: {what}", span=_span(step))
            for rule in rules
            for what, step in rule.broken(facts)
        ]
        if problems:
            raise CompactErrors(problems)


def _span(step: Step | None) -> Span | None:
    """The place that a step remembers as text, `file:line:column`."""
    file, _, rest = (step.where if step else "").rpartition(":")
    file, _, line = file.rpartition(":")
    if not (file and line.isdigit() and rest.isdigit()):
        return None
    return Span(file, int(line), int(rest), int(line), int(rest) + 1)


@dataclass(frozen=True)
class Facts:
    """A plan, and what all rules ask about it."""

    plan: Plan

    @cached_property
    def buffers(self) -> dict[str, Buffer]:
        """By name."""
        return {b.name: b for b in self.plan.buffers}

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The caller's tensors by region."""
        return {f"input:{t.name}": t for t in self.plan.inputs} | {
            f"output:{t.name}": t for t in self.plan.outputs
        }

    @cached_property
    def calls(self) -> list[tuple[int, Step, Call]]:
        """Every call with its step."""
        return [(i, step, call) for i, step in enumerate(self.plan.steps) for call in step.calls]

    @cached_property
    def groups(self) -> dict[str, str]:
        """Buffer → the first of those that lie on top of each other in place."""
        root: dict[str, str] = {}
        for step in self.plan.steps:
            target, source = step.inplace
            if target:
                root[target] = root.get(source, source)
        return root

    @cached_property
    def flow(self) -> list[Finding]:
        """What a run on marks finds."""
        return Memory(self.plan, self.floats).run()

    def floats(self, buffer: str) -> int:
        """What may be touched: of the caller's memory just the tensor, of which a plan does one image."""
        b = self.buffers[buffer]
        return prod(self.tensors[b.region].shape) // self.plan.batch if b.region != "arena" else b.floats


def maps(call: Call) -> list[tuple[str, ChannelMap]]:
    """The address tables of a call with what they are."""
    return [("x", call.x), ("y", call.y), *((f"operand {i + 2}", m) for i, m in enumerate(call.extra))]


def _said(step: Step, what: str) -> Problem:
    return f"`{step.name}` {what}", step


# -- memory --------------------------------------------------------------------------------------------------


def _unknown_memory(facts: Facts) -> Iterator[Problem]:
    for name in [b.name for b in facts.plan.buffers]:
        region = facts.buffers[name].region
        if region != "arena" and region not in facts.tensors:
            yield f"`{name}` lies in `{region}`", None
    if len(facts.buffers) != len(facts.plan.buffers):
        yield "two buffers have the same name", None
    for _, step, call in facts.calls:
        named = [*(n for _, m in maps(call) for n in m.buffers), *([call.scratch] if call.scratch else [])]
        for name in sorted(set(named) - set(facts.buffers)):
            yield _said(step, f"uses `{name}`, which is no buffer")


def _odd_offsets(facts: Facts) -> Iterator[Problem]:
    for b in facts.plan.buffers:
        if b.region != "arena" and b.offset:
            yield f"`{b.name}` starts {b.offset} floats into the caller's tensor", None
        elif b.offset % ALIGN:
            yield f"`{b.name}` starts at float {b.offset}", None
    for _, step, call in facts.calls:
        later = step.turns and call not in (step.calls[0], step.calls[step.stages[0].calls])
        if call.weights % ALIGN and not later:  # panels of one layer follow each other without a gap
            yield _said(step, f"reads weights from float {call.weights} on")


def _outside_the_arena(facts: Facts) -> Iterator[Problem]:
    for b in facts.plan.buffers:
        if b.region == "arena" and not 0 <= b.offset <= b.offset + b.floats <= facts.plan.arena:
            yield f"`{b.name}` takes floats {b.offset} to {b.offset + b.floats} of {facts.plan.arena}", None


def _outside_the_weights(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        end = call.weights + packed_floats(call.kernel)
        if packed_floats(call.kernel) and not 0 <= call.weights <= end <= facts.plan.weights:
            yield _said(step, f"reads weights {call.weights} to {end} of {facts.plan.weights}")


def _used_when_dead(facts: Facts) -> Iterator[Problem]:
    for index, step, call in facts.calls:
        named = {n for _, m in maps(call) for n in m.buffers} | ({call.scratch} - {""})
        for b in (facts.buffers[n] for n in sorted(named)):
            if not b.first <= index <= b.last:
                yield _said(step, f"is step {index} and uses `{b.name}`, alive from {b.first} to {b.last}")


def _overlaps(facts: Facts) -> Iterator[Problem]:
    arena = [b for b in facts.plan.buffers if b.region == "arena"]
    for i, one in enumerate(arena):
        for other in arena[:i]:
            alive = one.first <= other.last and other.first <= one.last
            group = facts.groups
            together = group.get(one.name, one.name) == group.get(other.name, other.name)
            if alive and not together and overlap(one, other):
                step = facts.plan.steps[max(one.first, other.first)]
                yield _said(step, f"has `{other.name}` and `{one.name}` in the same memory")


def _wrong_in_place(facts: Facts) -> Iterator[Problem]:
    for index, step in enumerate(facts.plan.steps):
        target, source = (facts.buffers.get(name) for name in step.inplace)
        if not target or not source or not overlap(target, source):
            continue
        if target.offset != source.offset or target.first != index:
            yield _said(step, f"puts `{target.name}` halfway over `{source.name}`")
        for call in step.calls:
            here = _positions(call.y, target.name)
            if not _is_elementwise(call):
                yield _said(step, f"writes `{target.name}` over `{source.name}`, which it still reads")
            for i, m in enumerate((call.x, *call.extra)):
                spread = bool(i) and call.kernel.spread[i - 1]  # type: ignore[attr-defined]  # elementwise kernels
                if source.name in m.buffers and (spread or _positions(m, source.name) != here):
                    yield _said(step, f"reads `{source.name}` in another order than it writes over it")


def _positions(m: ChannelMap, buffer: str) -> list[int]:
    return [position if name == buffer else -1 for name, position in m.places]


def _is_elementwise(call: Call) -> bool:
    k = call.kernel
    if isinstance(k, PlaneConv):
        return k.is_pointwise and k.maps == 1 and k.x_strides == k.y_strides
    if isinstance(k, Depthwise):
        return (k.window, k.stride, k.pad, k.x_strides) == ((1, 1), (1, 1), (0, 0), k.y_strides)
    return isinstance(k, Map)


# -- calls ---------------------------------------------------------------------------------------------------


def _mixed_regions(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        for what, m in maps(call):
            if len(regions := sorted({facts.buffers[n].region for n in m.buffers})) > 1:
                yield _said(step, f"finds {what} in {' and '.join(regions)}")


def _wrong_tables(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        xs, ys = table_lengths(call.kernel)
        lengths = [*zip("xy", (call.x, call.y), (xs, ys), strict=True)]
        lengths += [(f"operand {i + 2}", m, ys) for i, m in enumerate(call.extra)]
        for what, m, wanted in lengths:
            # A convolution of nothing has a base address all the same.
            if len(m) != wanted and not (what == "x" and wanted == 0):
                yield _said(step, f"walks {wanted} addresses of {what}, it has {len(m)}")
        spread: tuple[bool, ...] = getattr(call.kernel, "spread", ())
        if len(spread) != len(call.extra):
            yield _said(step, f"has {len(call.extra)} further operands, its kernel {len(spread)}")


def _unfit_kernels(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        k = call.kernel
        if getattr(k, "lanes", facts.plan.lanes) != facts.plan.lanes:
            yield _said(step, "has a kernel for vectors of another width")
        if isinstance(k, Grid) and not 1 <= k.tile <= k.out[1]:
            yield _said(step, f"makes {k.tile} pixels at once in rows of {k.out[1]}")
        if isinstance(k, Conv) and (k.rows < 1 or not 0 <= k.tail < k.lanes or (k.tail and k.half)):
            yield _said(step, f"sweeps {k.rows} rows with a tail of {k.tail} lanes")
        if isinstance(k, PlaneGrid) and not 1 <= k.rows <= (1 if k.is_clipped(0) else k.out[0]):
            yield _said(step, f"makes {k.rows} rows at once of {k.out[0]}")
        if isinstance(k, PlaneGrid) and (k.ranged or k.x_ring or k.y_ring or k.spread):
            yield _said(step, "has planes in a fused region")
        if isinstance(k, PlaneGrid):
            names = dict.fromkeys((*call.x.buffers, *call.y.buffers))
            for name in (n for n in names if n in facts.buffers and facts.buffers[n].lanes != 1):
                yield _said(step, f"takes blocks of channels in {name} for planes")
        if isinstance(k, PlaneConv) and any(len(row) != len(k.masks) for row in k.counts):
            yield _said(step, f"has {len(k.masks)} sections, a panel of it has others")
        if isinstance(k, WinogradRepair) and len(k.origins) != k.blocks:
            yield _said(step, f"has {k.blocks} blocks, of which {len(k.origins)} come from somewhere")
        if isinstance(k, WinogradRepair) and any(
            o.head * k.lanes + k.depth > k.heads * k.lanes for o in k.origins
        ):
            yield _said(step, f"reads {k.depth} inputs beyond its {k.heads} blocks of them")
        if isinstance(k, Pool | PlanePool) and k.average and len(k.divisors) not in (1, prod(k.out)):
            yield _said(step, f"has {len(k.divisors)} divisors for {prod(k.out)} windows")


def _small_scratch(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        if wanted := scratch_floats(call.kernel):
            found = facts.buffers.get(call.scratch)
            if found is None or found.region != "arena" or found.one < wanted:
                yield _said(step, f"needs a scratch of {wanted} floats")


def _wrong_stages(facts: Facts) -> Iterator[Problem]:
    for step in facts.plan.steps:
        ranged = [isinstance(c.kernel, Grid) and c.kernel.ranged for c in step.calls]
        if not step.stages:
            ringed = any(
                isinstance(c.kernel, Grid) and (c.kernel.x_ring or c.kernel.y_ring) for c in step.calls
            )
            if any(ranged) or ringed:
                yield _said(step, "has kernels that run row by row, and no stages")
        elif sum(stage.calls for stage in step.stages) != len(step.calls) or not all(ranged):
            yield _said(step, f"has {len(step.calls)} calls, not those of its stages")
        elif step.turns and (len(step.stages) < 3 or step.stages[0].calls != step.stages[1].calls):
            yield _said(step, "has stages that cannot take turns")


def _outside_their_buffer(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        found = touched(call)
        for access in (*found.reads, *found.writes):
            low, high = access.reach
            for piece in access.map.pieces:
                ends = [
                    end for r in piece.positions.runs for end in (r.start, r.start + r.step * (r.count - 1))
                ]
                first, end, floats = min(ends) + low, max(ends) + high, facts.floats(piece.buffer)
                if first < 0 or end > floats:
                    what = f"touches floats {first} to {end} of `{piece.buffer}` ({access.what})"
                    yield _said(step, f"{what}, which has {floats}")


def _wide_addresses(facts: Facts) -> Iterator[Problem]:
    for b in facts.plan.buffers:
        if b.offset + facts.floats(b.name) >= 1 << 31:
            yield f"`{b.name}` reaches beyond what 32 bits address", None


def _input_written(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        for name in call.y.buffers:
            if facts.buffers[name].region.startswith("input:"):
                yield _said(step, f"writes into `{name}`")


def _wrong_rings(facts: Facts) -> Iterator[Problem]:
    for _, step, call in facts.calls:
        k = call.kernel
        if not isinstance(k, Grid):
            continue
        for what, ring, m in (("x", k.x_ring, call.x), ("y", k.y_ring, call.y)):
            for height in {facts.buffers[n].height for n in m.buffers if ring}:
                if ring not in (height, 1):
                    yield _said(step, f"has a ring of {ring} rows for {what}, which holds {height}")


# -- threads -------------------------------------------------------------------------------------------------


def _wrong_cuts(facts: Facts) -> Iterator[Problem]:
    for step in facts.plan.steps:
        for k in {call.kernel for call in step.calls}:
            if step.split and not step.stages and k.split not in axes(k):
                yield _said(step, f"is shared along `{k.split}`, it can be along {' or '.join(axes(k))}")
            elif k.split and (step.stages or not step.split):
                yield _said(step, f"runs as one and has a kernel cut along `{k.split}`")
        if step.split and facts.plan.threads < 2:
            yield _said(step, "is shared in a plan for one thread")


def _missing_copies(facts: Facts) -> Iterator[Problem]:
    for step in (s for s in facts.plan.steps if s.split):
        inner = step.calls[: -step.stages[-1].calls] if step.stages else ()
        needed = {n for call in inner for n in call.y.buffers} | {c.scratch for c in step.calls if c.scratch}
        for name in sorted(needed):
            if facts.buffers[name].copies < facts.plan.threads:
                yield _said(step, f"has {facts.buffers[name].copies} copies of `{name}`")
        for _, m in (each for call in step.calls for each in maps(call)):
            own = (b for b in (facts.buffers[n] for n in m.buffers))
            if len({b.stride if b.copies > 1 else 0 for b in own}) > 1:
                yield _said(step, "finds operands in copies that lie at different distances")


def _missing_waits(facts: Facts) -> Iterator[Problem]:
    if facts.plan.threads > 1:
        for step, wait in zip(facts.plan.steps, waits(facts.plan), strict=True):
            if wait and not step.wait:
                yield _said(step, "does not wait for a step that it depends on")


def _flow(kind: str) -> Callable[[Facts], Iterator[Problem]]:
    def broken(facts: Facts) -> Iterator[Problem]:
        yield from ((found.what, found.step) for found in facts.flow if found.kind == kind)

    return broken


EXISTENCE: tuple[Rule, ...] = (
    Rule("every buffer is named once, in memory that exists", _unknown_memory),
    Rule("an address table has as many addresses as its kernel walks", _wrong_tables),
    Rule("kernels fit the target and their shapes", _unfit_kernels),
    Rule("stages make up a fused step, and rings lie in one", _wrong_stages),
    Rule("a shared step is cut along axes of its kernels", _wrong_cuts),
)
PLACES: tuple[Rule, ...] = (
    Rule("buffers and weights start on cache lines", _odd_offsets),
    Rule("buffers lie in the arena", _outside_the_arena),
    Rule("packed weights lie in the packed weights", _outside_the_weights),
    Rule("addresses fit 32 bits", _wide_addresses),
    Rule("an address table stays in one region", _mixed_regions),
    Rule("the caller's inputs are only read", _input_written),
    Rule("buffers are used while they are alive", _used_when_dead),
    Rule("buffers alive at the same time do not overlap", _overlaps),
    Rule("a result lies over its operand element by element", _wrong_in_place),
    Rule("a scratch is large enough", _small_scratch),
    Rule("a ring is as high as its buffer", _wrong_rings),
    Rule("every part has its own copy of what it makes inside a step", _missing_copies),
    Rule("a step waits for what it depends on", _missing_waits),
)
ADDRESSES: tuple[Rule, ...] = (Rule("every address lies in its buffer", _outside_their_buffer),)
FLOW: tuple[Rule, ...] = (
    Rule("a fused step makes rows of its map", _flow("rows")),
    Rule("every step reads what was written before", _flow("unwritten")),
    Rule("a ring still holds the rows that are read", _flow("ring")),
    Rule("every output is written", _flow("output")),
    Rule("a part touches nothing that another part writes", _flow("parts")),
)
RULES: tuple[tuple[Rule, ...], ...] = (EXISTENCE, PLACES, ADDRESSES, FLOW)
"""In groups: the rules of a group rely on those of the groups before it."""

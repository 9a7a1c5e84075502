"""Estimated cycles: every counted block goes through a model of the core as a block that repeats.

A lower bound (each load hits the L1 cache, each branch is predicted), good for comparing code that does the
same work: on devices whose times are published, time was 1.3 to 1.9 times the estimate. A difference below
20 % is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compactir.diagnostics import CompactError
from compactir.tools.count.emulator import Block, Interval
from compactir.tools.count.inorder import cycles
from compactir.tools.count.llvm import disassemble, throughput

MODELS = {
    "a53": "in-order model of the Cortex-A53",
    "a53-one-move": "the same, with one move from integer to vector registers per cycle instead of two",
    "a55": "in-order model of the Cortex-A55",
    "a57": "llvm-mca's model of the Cortex-A57, also for the A72",
    "a76": "llvm-mca's model of the Neoverse N1, the Cortex-A76's sibling",
}
"""What estimates by each name. llvm-mca has no A76; its A53 and A55 are wrong about NEON (see `inorder`)."""

_MCA = {"a57": "cortex-a57", "a76": "neoverse-n1"}
_COVERED = 0.999
_MOST_BLOCKS = 3000


@dataclass(frozen=True)
class HotBlock:
    """A block's share of an estimate: cycles of one pass, and how often it ran."""

    block: Block
    times: int
    cycles: float
    code: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """Cycles of an interval on one core, and its blocks by what they cost, most first."""

    model: str
    cycles: float
    instructions: int
    blocks: tuple[HotBlock, ...]


def models_for(target_name: str, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The models that say something about a target: `arm-a55` has one, `arm` all of them, ARMv7 none.

    Args:
        target_name: the target.
        asked: models to take instead.

    Raises:
        CompactError: CIR514 for models of a target that they know no instruction of.
    """
    own, cores = target_name.removeprefix("arm-"), tuple(name for name in MODELS if "-" not in name)
    fitting = (own,) if own in cores else cores if target_name == "arm" else ()
    if asked and not fitting:
        raise CompactError(
            "CIR514",
            f"no model of a core reads the instructions of `{target_name}`",
            notes=["the models are of cores that run 64-bit code"],
            help="leave `--model` out to count instructions, or give `--target arm`",
        )
    return tuple(asked) or fitting


def estimate(interval: Interval, model: str) -> Estimate:
    """Cycles of an interval of AArch64 code by one of `MODELS`; see `estimate_all`."""
    return estimate_all([interval], model)[0]


def estimate_all(intervals: Sequence[Interval], model: str) -> list[Estimate]:
    """Cycles of each interval of AArch64 code by one of `MODELS`.

    The blocks that make up 99.9 % of an interval's instructions are modelled; the rest counts at their mean
    rate. Code that several intervals run goes through the model once.

    Raises:
        CompactError: CIR516 where the LLVM tools for it are missing.
    """
    chosen = [_hot(interval) for interval in intervals]
    pieces = list(dict.fromkeys(block.code for runs in chosen for block, _ in runs))
    lines = disassemble(pieces, "aarch64")
    costs: Sequence[float | None] = (
        [cycles(text, model) for text in lines]
        if model not in _MCA
        else throughput(lines, "aarch64", _MCA[model])
    )
    known = dict(zip(pieces, zip(lines, costs, strict=True), strict=True))
    return [_sum(interval, runs, known, model) for interval, runs in zip(intervals, chosen, strict=True)]


def _hot(interval: Interval) -> list[tuple[Block, int]]:
    """The blocks with most of the interval's instructions."""
    hot = sorted(merge(interval.runs), key=lambda run: -run[1] * len(run[0].code))
    total, chosen, seen = interval.instructions, [], 0
    for block, times in hot[:_MOST_BLOCKS]:
        if seen >= _COVERED * total:
            break
        chosen.append((block, times))
        seen += times * len(block.code)
    return chosen


def _sum(
    interval: Interval,
    runs: Sequence[tuple[Block, int]],
    known: Mapping[tuple[bytes, ...], tuple[list[str], float | None]],
    model: str,
) -> Estimate:
    blocks = []
    for block, times in runs:
        lines, cost = known[block.code]
        if cost is not None:
            blocks.append(HotBlock(block, times, cost, tuple(lines)))
    total = interval.instructions
    covered = sum(hot.times * len(hot.block.code) for hot in blocks)
    sum_of_all = sum(hot.times * hot.cycles for hot in blocks)
    by_cost = sorted(blocks, key=lambda hot: -hot.times * hot.cycles)
    return Estimate(model, sum_of_all * total / covered if covered else 0.0, total, tuple(by_cost))


def merge(runs: Sequence[tuple[Block, int]]) -> list[tuple[Block, int]]:
    """Join blocks that lie and run one after the other: QEMU ends a block at a page and at a length."""
    at = {block.address: (block, times) for block, times in runs}
    follows = {
        block.address: after[0].address
        for block, times in at.values()
        if (after := at.get(block.end)) and after[1] == times and len(block.code) + len(after[0].code) < 2000
    }
    joined: list[tuple[Block, int]] = []
    for start in sorted(set(at) - set(follows.values())):
        block, times = at[start]
        code, address, seen = list(block.code), start, {start}
        while (address := follows.get(address, -1)) >= 0 and address not in seen:
            seen.add(address)
            code += at[address][0].code
        joined.append((Block(start, tuple(code), block.symbol, block.machine), times))
    return joined

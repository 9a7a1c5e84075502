"""`compactc report`: what a network costs, counted three times over, and what would make it cheaper."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from compactir.diagnostics import CompactError
from compactir.driver import Planned, generate, plan, read
from compactir.tools import terminal
from compactir.tools.counting import Counts, count
from compactir.tools.footprint import Footprint, footprint
from compactir.tools.guidelines import Advice, advise
from compactir.tools.manage_cache import megabytes
from compactir.tools.metrics import MOBILENET_V1, Figures, Score, scores
from compactir.tools.peak import Peak, find_peak
from compactir.tools.source import source_of, target_of
from compactir.weights.container import HEADER_BYTES


@dataclass(frozen=True)
class Report:
    """All figures of one network for one target."""

    planned: Planned
    counts: Counts
    advice: Sequence[Advice]
    peak: Peak | None = None
    scores: Sequence[Score] = ()
    footprint: Footprint | None = None
    """Flash and RAM, for a chip without a system whose compiler is here."""

    @property
    def workspace_bytes(self) -> int:
        """What one call needs."""
        return max(4 * self.planned.lowered.plan.arena, self.planned.target.align)

    @property
    def weights_bytes(self) -> int:
        """The packed weights, header included."""
        return 4 * self.planned.lowered.plan.weights + HEADER_BYTES

    def to_json(self) -> dict[str, Any]:
        """For programs. Sizes are of one image; `memory_access_cost` and `copies` count elements."""
        counts, it = self.counts, self.planned.lowered.plan
        return {
            "network": self.planned.graph.name,
            "target": self.planned.target.name,
            "params": counts.params,
            "params_stored": counts.params_stored,
            "params_formula": counts.params_formula,
            "buffers": counts.buffers,
            "macs": counts.macs,
            "macs_formula": counts.macs_formula,
            "macs_executed": sum(step.executed for step in it.steps),
            "memory_access_cost": counts.memory_access_cost,
            "weights_bytes": self.weights_bytes,
            "workspace_bytes": self.workspace_bytes,
            "copies": it.copies,
            "bytes_moved": sum(step.bytes_moved for step in it.steps),
            "kernels": [
                {
                    "name": step.name,
                    "op": step.op,
                    "macs": step.macs,
                    "macs_executed": step.executed,
                    "bytes_moved": step.bytes_moved,
                    "copied": step.copied,
                    "conversion": step.conversion,
                    "where": step.where,
                }
                for step in it.steps
            ],
            "layers": [
                asdict(x) | {"memory_access": x.memory_access, "bytes": x.bytes} for x in counts.layers
            ],
            "peak": asdict(self.peak) if self.peak else None,
            "advice": [asdict(advice) for advice in self.advice],
            "scores": [asdict(score) for score in self.scores],
            "footprint": asdict(self.footprint) if self.footprint else None,
        }


def main(args: Namespace) -> int:
    """Print the report."""
    with terminal.working("counting", quiet=args.json) as say:
        authored = read(source_of(args), warn=False, stand_in=True)
        say(f"planning {authored.graph.name} for {args.target}")
        planned = plan(authored, target_of(args), also=args.also)
        say(f"running the reference of {authored.graph.name} to count its MACs")
        report = make_report(planned, args.top1, args.baseline)
    if args.json:
        terminal.print_json(report.to_json())
    else:
        print_report(report, args.layers)
    return 0


def check(args: Namespace) -> None:
    """Errors: CIR663 for a baseline that is not three positive numbers."""
    _baseline(args.baseline)


def make_report(
    planned: Planned, top1: float | None = None, baseline: Sequence[float] | None = None
) -> Report:
    """Count and judge a planned network.

    Args:
        planned: what `driver.plan` returned.
        top1: the network's accuracy in percent, for TCA and TSA.
        baseline: accuracy, MACs and parameters to compare with, instead of MobileNetV1's.

    Errors: CIR663 for a baseline that is not three positive numbers.
    """
    counts = count(planned.authored.graph)
    against = _baseline(baseline)
    rated = scores(Figures(top1, counts.macs, counts.params), against) if top1 is not None else ()
    advice = advise(planned.authored.graph)
    return Report(planned, counts, advice, find_peak(planned.lowered.plan), rated, _footprint(planned))


def _footprint(planned: Planned) -> Footprint | None:
    """What the code takes on a chip; None on a machine with a system, and where no compiler is found."""
    if not planned.target.bare:
        return None
    try:
        return footprint(generate(planned))
    except CompactError as error:
        if error.code != "CIR510":
            raise
        return None


def _baseline(numbers: Sequence[float] | None) -> Figures:
    if numbers is None:
        return MOBILENET_V1
    if len(numbers) != 3 or not all(number > 0 for number in numbers):
        example = f"{MOBILENET_V1.top1},{MOBILENET_V1.macs},{MOBILENET_V1.params}"
        raise CompactError(
            "CIR663", "a baseline is three positive numbers", help=f"write `--baseline {example}`"
        )
    return Figures(*numbers)


# -- for people ----------------------------------------------------------------------------------------------


def print_report(report: Report, layers: bool = False) -> None:
    """The tables."""
    counts, it = report.counts, report.planned.lowered.plan
    if layers:
        _print_layers(counts)
    terminal.table(
        f"{report.planned.graph.name} for {report.planned.target.name}",
        ("figure", "value>", "how"),
        _figures(report),
    )
    for problem in counts.disagreements:
        terminal.note(f"warning: {problem}")
    heavy = sorted(it.steps, key=lambda step: -step.bytes_moved)[:8]
    terminal.table(
        "kernels that move the most bytes",
        ("kernel", "op", "MACs>", "bytes moved>", "MACs per byte>"),
        [(s.name, s.op, s.macs, s.bytes_moved, s.macs / max(s.bytes_moved, 1)) for s in heavy],
    )
    if report.peak:
        _print_peak(report.peak)
    if report.advice:
        rows = [(a.guideline, a.where, a.text) for a in report.advice]
        terminal.table("advice (guidelines of ShuffleNetV2)", ("", "where", "what"), rows)
    if report.scores:
        rows = [(f"({s.w1}, {s.w2})", f"{s.tca:.3f}", f"{s.tsa:.3f}") for s in report.scores]
        terminal.table("scores of BUnit-Net, higher is better", ("weights", "TCA>", "TSA>"), rows)


def _print_peak(peak: Peak) -> None:
    """Who lives at the peak; those of them whose absence would lower it most, first."""
    without = {edit.buffer: edit for edit in peak.edits}
    order = [*without, *(name for name, _ in peak.buffers if name not in without)]
    sizes = dict(peak.buffers)
    rows = [
        (name, megabytes(sizes[name]), megabytes(e.peak_bytes), e.made_by, e.read_last_by)
        if (e := without.get(name))
        else (name, megabytes(sizes[name]), "", "", "")
        for name in order[:8]
    ]
    terminal.table(
        f"the workspace's peak: {megabytes(peak.bytes)} at {peak.step} {peak.where}",
        ("who lives there", "size>", "peak without it>", "made by", "last read by"),
        rows,
    )


def _figures(report: Report) -> list[tuple[str, object, str]]:
    counts, it = report.counts, report.planned.lowered.plan
    executed = sum(step.executed for step in it.steps)
    agree = "arrays and formulas agree" if not counts.disagreements else "see the warning"
    rows: list[tuple[str, object, str]] = [
        ("parameters", counts.params, f"counted in the arrays; {agree}"),
        ("MACs", counts.macs, f"counted in the reference's loops; formulas: {counts.macs_formula:,}"),
        ("MACs executed", executed, "by the kernels, padding included"),
        ("memory access cost", counts.memory_access_cost, "elements in + out + weights of conv and linear"),
        ("weights", megabytes(report.weights_bytes), "packed for the kernels"),
        ("workspace", megabytes(report.workspace_bytes), "for one call, beside inputs and outputs"),
        ("bytes moved", sum(step.bytes_moved for step in it.steps), "by all kernels"),
        ("copies", it.copies, "elements that a kernel writes unchanged"),
    ]
    if (size := report.footprint) is not None:
        parts = f"code {size.code:,}, tables {size.tables:,}, weights {size.weights:,}; {size.compiler}"
        rows += [
            ("flash", size.flash, f"bytes: {parts}"),
            ("RAM", size.ram, "bytes: workspace, beside inputs, outputs and the stack"),
        ]
    elif report.planned.target.bare:
        rows.append(("flash", "?", "no compiler: `apt install gcc-arm-none-eabi` or `pip install ziglang`"))
    if counts.params != counts.params_stored:
        rows.insert(1, ("parameters stored", counts.params_stored, "with those that a mask removes"))
    return rows


def _print_layers(counts: Counts) -> None:
    totals = [
        sum(getattr(x, key) for x in counts.layers) for key in ("params", "macs", "memory_access", "bytes")
    ]
    terminal.table(
        "layers as authored",
        ("layer", "op", "shape", "params>", "MACs>", "elements in+out+weights>", "bytes>"),
        [
            (x.name, x.op, "×".join(map(str, x.shape)), x.params, x.macs, x.memory_access, x.bytes)
            for x in counts.layers
        ],
        ("sum", "", "", *totals),
    )

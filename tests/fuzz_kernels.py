"""Random layer shapes for every family of kernels, against the reference: `python -m tests.fuzz_kernels`.

    --count 1000       layers per family that have to be counted (a layer counts whose plan has the kernel)
    --family winograd  only some, --target x86, --seed 7: the layers depend on these alone
    --seconds 500      stop then; what it says about the seed goes on from there, and counts add up
    --sanitize         with the address and undefined-behaviour sanitizers, memory from the heap

Batches of layers take the targets in turn, compiled for two threads (run by one and by two), some of them for
one thread too; tensors end, or begin, at pages that must not be touched. Tilings are random ones of those
that fit into the registers, and half of the transformations and fusions happen whether they pay or not.
Exit status 1 where an output differs from the reference by more than 1e-4 of its largest element.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np

from compactir.codegen.lower import narrow, tiles, winograd
from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList, divisors
from compactir.ir.connectivity import Connectivity, Pad
from compactir.ir.graph import Graph, Value
from compactir.ir.op import Op
from compactir.ir.plan import Conv as ConvKernel
from compactir.ir.plan import Depthwise, GlobalPool, Grouped, Nest, Plan, Pool, WinogradInput
from compactir.ir.text import print_graph
from compactir.ir.types import TensorType
from compactir.ir.verify_plan import verify_plan
from compactir.ops.activation import HardSwish, LeakyRelu, Relu, Relu6, Swish
from compactir.ops.arrange import Concat, Flatten, Gather, Shuffle
from compactir.ops.combine import Add
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.ops.norm import BatchNorm
from compactir.ops.pool import AvgPool, GlobalAvgPool, MaxPool
from compactir.runtime.build import find_compiler
from compactir.targets import Target, load_target, unsupported
from tests.c.networks import (
    AT_END,
    AT_START,
    ON_HEAP,
    Case,
    Network,
    Program,
    StoppedError,
    build,
    disagreements,
)
from tests.c.tensors import Growth, grow, is_steady
from tests.graphs import random_weights

BATCH = 48
"""Networks in one C file."""
MOST = 10
"""Times the count may be drawn before a family has too few."""
SMALL = 12
"""Sums of most tilings: large tiles are long texts, and nearly all of the time goes into compiling."""
CAREFUL = 4
"""One batch of so many is compiled with optimisation, which takes two to eight times as long."""
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
TARGETS = ("x86", "x86-avx512")


# -- layers --------------------------------------------------------------------------------------------------


@dataclass
class Drawing:
    """A graph under construction and its dice."""

    rng: np.random.Generator
    graph: Graph
    x: Value
    made: int = 0

    def one_of(self, *options: object) -> object:
        """Any of them."""
        return options[self.rng.integers(len(options))]

    def upto(self, most: int, least: int = 1) -> int:
        """A number, small ones more often."""
        return int(least + (most - least + 1) * self.rng.random() ** 1.5)

    def chance(self, share: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < share)

    def apply(self, op: Op, *xs: Value) -> Value:
        """One more node."""
        self.made += 1
        return self.graph.apply(op, list(xs), f"n{self.made}")

    def then(self, op: Op) -> None:
        """`x = x -> op`."""
        self.x = self.apply(op, self.x)

    @property
    def channels(self) -> int:
        """Of x."""
        return self.x.type.channels

    def finish(self) -> None:
        """What kernels end with: batch norm, a residual sum, an activation."""
        if self.chance(0.3):
            self.then(BatchNorm())
        if self.chance(0.3):
            other = self.apply(HardSwish(), self.x) if self.chance(0.5) else self.x
            self.x = self.apply(Add(), self.x, other)
        if self.chance(0.5):
            self.then((Relu(), Relu6(), Swish(), LeakyRelu(0.1))[self.rng.integers(4)])


def _pads(d: Drawing, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Pad:
    reach = [(k - 1) * s for k, s in zip(kernel, dilation, strict=True)]
    if d.chance(0.5):
        return reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2
    top, left, bottom, right = (int(d.rng.integers(0, reach[i % 2] + 1)) for i in range(4))
    return top, left, bottom, right


def _fits(d: Drawing, kernel: tuple[int, int], dilation: tuple[int, int], pad: Pad) -> bool:
    height, width = d.x.type.spatial
    reach = [(k - 1) * s + 1 for k, s in zip(kernel, dilation, strict=True)]
    return height + pad[0] + pad[2] >= reach[0] and width + pad[1] + pad[3] >= reach[1]


def _stride(d: Drawing) -> tuple[int, int]:
    return ((1, 1), (1, 1), (2, 2), (1, 2), (2, 1), (3, 3))[d.rng.integers(6)]


def _window(d: Drawing, most: int) -> tuple[tuple[int, int], tuple[int, int], Pad]:
    """A kernel, its dilation and padding that fit the map."""
    while True:
        kernel = (int(d.rng.integers(1, most + 1)), int(d.rng.integers(1, most + 1)))
        kernel = (kernel[0], kernel[0]) if d.chance(0.6) else kernel
        dilation = (1, 1) if d.chance(0.75) else (int(d.rng.integers(1, 4)), int(d.rng.integers(1, 4)))
        pad = _pads(d, kernel, dilation)
        if _fits(d, kernel, dilation, pad):
            return kernel, dilation, pad


def pointwise(d: Drawing) -> None:
    """1×1, any stride."""
    stride = _stride(d) if d.chance(0.2) else (1, 1)
    d.then(Conv(Connectivity.dense(d.channels, d.upto(70)), stride, bias=d.chance(0.5)))
    d.finish()


def depthwise(d: Drawing) -> None:
    """Any window, kernels that differ among channels."""
    kernel, dilation, pad = _window(d, 7)
    connect = Connectivity.grouped(d.channels, d.channels, d.channels, kernel, pad)
    if d.channels > 2 and min(d.x.type.spatial) > 2 and d.chance(0.25):
        cut = int(d.rng.integers(1, d.channels))
        sizes = [(3, 3)] * cut + [(5, 5)] * (d.channels - cut)
        pads: list[Pad] = [(k // 2,) * 4 for k, _ in sizes]
        connect, dilation = Connectivity.parts([(1, 1)] * d.channels, sizes, pads), (1, 1)
    d.then(Conv(connect, _stride(d), dilation, d.chance(0.5)))
    d.finish()


def direct(d: Drawing) -> None:
    """Dense, any window."""
    kernel, dilation, pad = _window(d, 5)
    d.then(Conv(Connectivity.dense(d.channels, d.upto(40), kernel, pad), _stride(d), dilation, d.chance(0.5)))
    d.finish()


def transformed(d: Drawing) -> None:
    """Dense 3×3 without stride, some behind gathers."""
    if d.channels > 3 and d.chance(0.2):
        d.then(Gather(ChannelList.of(d.rng.integers(0, d.channels, d.channels - 1).tolist())))
    groups = _divisor(d, d.channels) if d.chance(0.3) else 1
    pad = (1, 1, 1, 1) if d.chance(0.7) or min(d.x.type.spatial) < 3 else (0, 0, 0, 0)
    outs = groups * d.upto(max(1, 40 // groups))
    d.then(Conv(Connectivity.grouped(d.channels, outs, groups, (3, 3), pad), bias=d.chance(0.5)))
    d.finish()


def _divisor(d: Drawing, number: int) -> int:
    return int(d.rng.choice(divisors(number)))


def grouped(d: Drawing) -> None:
    """Equal and uneven groups, tables, gathers and shuffles before."""
    if d.chance(0.3):
        d.then(Shuffle(_divisor(d, d.channels)))
    elif d.chance(0.3):
        d.then(Gather(ChannelList.of(d.rng.integers(0, d.channels, d.upto(50, 2)).tolist())))
    kernel, dilation, pad = _window(d, 4) if d.chance(0.7) else ((1, 1), (1, 1), (0, 0, 0, 0))
    kind = d.rng.integers(3)
    if kind == 0 and d.channels > 1:
        groups = int(d.rng.choice([n for n in divisors(d.channels) if n > 1]))
        connect = Connectivity.grouped(d.channels, groups * d.upto(max(2, 48 // groups)), groups, kernel, pad)
    elif kind == 1 and d.channels > 2:
        first, outs = int(d.rng.integers(1, d.channels)), (d.upto(20), d.upto(20))
        sizes = [(first, outs[0]), (d.channels - first, outs[1])]
        connect = Connectivity.parts(sizes, [kernel] * 2, [pad] * 2)
    else:
        mask = d.rng.random((d.upto(40), d.channels)) < d.rng.random()
        connect = Connectivity.from_mask(mask, kernel, pad)
    d.then(Conv(connect, _stride(d), dilation, d.chance(0.5)))
    d.finish()


def lanewise(d: Drawing) -> None:
    """Groups with windows that neighboring pixels share; batch norms that read channels several times."""
    if d.chance(0.25):
        d.then(Gather(ChannelList.of(d.rng.integers(0, d.channels, d.upto(70, 2)).tolist())))
        d.then(BatchNorm())
        if d.chance(0.7):
            d.then(Relu())
        if d.chance(0.7):
            d.then(Conv(Connectivity.grouped(d.channels, d.channels, _divisor(d, d.channels))))
        return
    if d.chance(0.4):
        d.then(Shuffle(_divisor(d, d.channels)))
    kernel = (int(d.rng.integers(1, 6)), int(d.rng.integers(2, 6)))
    pad = _pads(d, kernel)
    if not _fits(d, kernel, (1, 1), pad):
        pad = (kernel[0] - 1, kernel[1] - 1, kernel[0] - 1, kernel[1] - 1)
    stride = (int(d.rng.integers(1, 3)), int(d.rng.integers(1, min(3, kernel[1]))))
    groups = _divisor(d, d.channels)
    if d.chance(0.7):
        connect = Connectivity.grouped(d.channels, groups * d.upto(max(2, 40 // groups)), groups, kernel, pad)
    else:
        mask = d.rng.random((d.upto(30), d.channels)) < d.rng.random()
        connect = Connectivity.from_mask(mask, kernel, pad)
    d.then(Conv(connect, stride, bias=d.chance(0.5)))
    d.finish()


def pooling(d: Drawing) -> None:
    """Maxima and means, of windows and of whole maps."""
    height, width = d.x.type.spatial
    if d.chance(0.2):
        d.then(GlobalAvgPool())
        return
    kernel = (int(d.rng.integers(1, min(5, height) + 1)), int(d.rng.integers(1, min(5, width) + 1)))
    pad = tuple(int(d.rng.integers(0, kernel[i % 2] // 2 + 1)) for i in range(4))
    kind = MaxPool if d.chance(0.5) else AvgPool
    d.then(kind(kernel, _stride(d), pad, d.chance(0.5)))  # type: ignore[arg-type]  # four numbers


def linear(d: Drawing) -> None:
    """Linear layers, and first layers that read the caller's picture."""
    if d.chance(0.5):
        d.then(GlobalAvgPool() if d.chance(0.3) else Flatten())
        if d.x.type.rank == 4:
            d.then(Flatten())
        d.then(Linear(d.upto(60), d.chance(0.7)))
        return
    image = d.graph.inputs[0]
    d.x = image
    kernel, dilation, pad = _window(d, 5)
    d.then(Conv(Connectivity.dense(image.type.channels, d.upto(40), kernel, pad), _stride(d), dilation))
    d.finish()


def regions(d: Drawing) -> None:
    """Separable blocks: expand, a window, project."""
    x = d.x
    if d.chance(0.6):
        d.then(Conv(Connectivity.dense(d.channels, d.upto(50, 4))))
        d.then(Relu6())
    size = int(d.one_of(3, 3, 3, 5))  # type: ignore[call-overload]  # numbers
    pad: Pad = (size // 2,) * 4
    connect = Connectivity.grouped(d.channels, d.channels, d.channels, (size, size), pad)
    d.then(Conv(connect, ((1, 1), (1, 1), (2, 2))[d.rng.integers(3)]))
    d.finish()
    outs = x.type.channels if d.chance(0.4) else d.upto(50)
    d.then(Conv(Connectivity.dense(d.channels, outs)))
    if d.x.type == x.type and d.chance(0.7):
        d.x = d.apply(Add(), x, d.x)
    elif d.x.type.spatial == x.type.spatial and d.chance(0.3):
        d.x = d.apply(Concat(), x, d.x)


# -- families ------------------------------------------------------------------------------------------------


def tensors(d: Drawing) -> None:
    """Operations on tensors of any rank, layers between them."""
    growth = Growth(d.graph, d.rng, d.x, d.x.type.batch)
    grow(growth, d.upto(9))
    d.x = growth.x


@dataclass(frozen=True)
class Family:
    """How layers are drawn, and what in a plan shows that they ran on the family's kernels."""

    draw: Callable[[Drawing], None]
    shows: Callable[[Plan], bool]
    sizes: tuple[int, int] = (1, 14)
    most: int = 64
    """Channels of the input."""


def _kernels(plan: Plan) -> Iterator[object]:
    return (call.kernel for step in plan.steps for call in step.calls)


def _has(test: Callable[[object], bool]) -> Callable[[Plan], bool]:
    return lambda plan: any(test(kernel) for kernel in _kernels(plan))


def _panel(kernel: object, window: bool) -> bool:
    return isinstance(kernel, ConvKernel) and (kernel.window != (1, 1)) == window


FAMILIES = {
    "pointwise": Family(pointwise, _has(lambda k: _panel(k, False))),
    "depthwise": Family(depthwise, _has(lambda k: isinstance(k, Depthwise))),
    "direct": Family(direct, _has(lambda k: _panel(k, True)), most=24),
    "winograd": Family(transformed, _has(lambda k: isinstance(k, WinogradInput)), (1, 18), 40),
    "grouped": Family(grouped, _has(lambda k: isinstance(k, ConvKernel | Grouped)), most=48),
    "lane by lane": Family(lanewise, _has(lambda k: isinstance(k, Grouped)), (2, 14), 40),
    "pooling": Family(pooling, _has(lambda k: isinstance(k, Pool | GlobalPool))),
    "linear": Family(linear, _has(lambda k: isinstance(k, ConvKernel)), (1, 9), 20),
    "tensors": Family(tensors, _has(lambda k: isinstance(k, Nest)), (1, 9), 12),
    "regions": Family(regions, lambda plan: any(step.stages for step in plan.steps), (9, 20), 24),
}


def drawn(name: str, number: int) -> Graph:
    """One layer, behind an activation, so that its input lies in blocks."""
    family = FAMILIES[name]
    rng = np.random.default_rng([list(FAMILIES).index(name), number])
    graph = Graph(f"{name}{number}")
    height, width = (int(n) for n in rng.integers(family.sizes[0], family.sizes[1] + 1, 2))
    channels = int(1 + family.most * rng.random() ** 1.5)
    image = graph.input("image", TensorType.f32(1 + int(rng.random() < 0.1), channels, height, width))
    d = Drawing(rng, graph, image)
    if rng.random() < 0.85:
        d.then(LeakyRelu(0.5))
    family.draw(d)
    graph.outputs["y"] = d.x
    graph.weights = random_weights(graph, number)
    return graph


# -- batches -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Layers of a family with these numbers, on one target."""

    family: str
    target: str
    numbers: range
    threads: int
    sanitize: bool


@dataclass
class Outcome:
    """How many layers ran on the family's kernels, and what was wrong."""

    counted: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def _free_choice(rng: np.random.Generator) -> Iterator[None]:
    """Tilings at random; half of the time whatever is possible is transformed, or made lane by lane."""
    choose = tiles.choose

    def any_tiling(target: Target, shape: tiles.Shape, half: bool = False) -> tiles.Tiling:
        if rng.random() < 0.25:
            return choose(target, shape, half)
        options = [t for h in sorted({False, half}) for t in tiles._tilings(target, shape, h)]
        small = [t for t in options if t.tile * t.panels[0][0] <= SMALL] or options
        return small[rng.integers(len(small))]

    with (
        mock.patch.object(tiles, "choose", any_tiling),
        mock.patch.object(winograd, "_NEARER", float(rng.choice([np.inf, 0.9]))),
        mock.patch.object(narrow, "_NEARER", float(rng.choice([np.inf, 0.0, 0.9]))),
        mock.patch.object(narrow, "DENSE", float(rng.choice([1.1, 0.75]))),
    ):
        yield


def run(batch: Batch) -> Outcome:
    """Build and compare one batch."""
    rng = np.random.default_rng([batch.numbers.start, batch.threads])
    target = load_target(batch.target)
    if rng.random() < 0.5:
        target = replace(target, l2_bytes=20_000)  # strips
    steady = [n for n in batch.numbers if batch.family != "tensors" or is_steady(drawn(batch.family, n))]
    names = {number: f"{batch.family} {number}" for number in steady}
    level = "-O0" if batch.numbers.start // BATCH % CAREFUL else "-O1"
    flags = (level, *SANITIZERS) if batch.sanitize else (level,)
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, _free_choice(rng):
        if batch.family == "winograd":
            winograd._NEARER, narrow._NEARER = np.inf, 0.0
        elif batch.family == "lane by lane":
            narrow._NEARER, narrow.DENSE = np.inf, 1.1
        cache = int(rng.integers(2)) if batch.family == "regions" else None
        cases = [Case(names[n], drawn(batch.family, n)).optimised(target, cache) for n in steady]
        try:
            program = build(cases, target, find_compiler(target), Path(folder), *flags, threads=batch.threads)
            outcome.counted = [
                n for n, net in zip(steady, program.networks, strict=True) if _shown(batch, net)
            ]
            outcome.wrong = list(_wrong(batch, program))
        except (StoppedError, AssertionError, CompactError) as error:
            outcome.wrong = [f"{batch}: {error}"]
    return outcome


def _shown(batch: Batch, network: Network) -> bool:
    verify_plan(network.lowered.plan)
    return FAMILIES[batch.family].shows(network.lowered.plan)


def _wrong(batch: Batch, program: Program) -> Iterator[str]:
    for threads in range(1, batch.threads + 1):
        program.environment = {"CREW": str(threads), "ASAN_OPTIONS": "detect_leaks=0"}
        for place in (ON_HEAP,) if batch.sanitize else (AT_END, AT_START):
            for name, error in disagreements(program, place).items():
                case = next(n.case for n in program.networks if n.case.name == name)
                text = print_graph(case.authored or case.graph)
                yield f"{name}, {batch.target}, {threads} threads: {error:.1e}\n{text}"


def batches(family: str, targets: Sequence[str], number: int, jobs: int, sanitize: bool) -> list[Batch]:
    """The next batches: each on the next target, some for one thread as well."""
    found = []
    for k in range(number, number + jobs):
        numbers, target = range(k * BATCH, (k + 1) * BATCH), targets[k % len(targets)]
        found += [
            Batch(family, target, numbers, crew, sanitize)
            for crew in ((2, 1) if k % 8 < len(targets) else (2,))
        ]
    return found


@dataclass
class Tally:
    """Of one family."""

    counted: Counter[str] = field(default_factory=Counter)
    """By target: layers that ran on the family's kernels, compiled for two threads."""
    once: int = 0
    """Of them, compiled for one thread as well."""
    drawn: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, batch: Batch, outcome: Outcome) -> None:
        """One batch more."""
        self.wrong += outcome.wrong
        if batch.threads == 1:
            self.once += len(outcome.counted)
        else:
            self.counted[batch.target] += len(outcome.counted)
            self.drawn += len(batch.numbers)

    def __str__(self) -> str:
        parts = ", ".join(f"{count} on {target}" for target, count in sorted(self.counted.items()))
        return (
            f"{self.counted.total()} layers ({parts}; {self.once} for one thread too) of {self.drawn} drawn"
        )


def main() -> int:
    """All families, until each has its count."""
    parser = argparse.ArgumentParser(description="Random layer shapes for every family of kernels.")
    parser.add_argument("--count", type=int, default=1000, help="layers per family (default 1000)")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only these")
    parser.add_argument("--target", action="append", help=f"only these, by default {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=0, help="number of the first batch (default 0)")
    parser.add_argument("--seconds", type=int, default=10**9, help="stop after so long (default: never)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default 2)")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan")
    args = parser.parse_args()
    targets = args.target or [name for name in TARGETS if not unsupported(load_target(name))]
    start, wrong, found = time.monotonic(), 0, 0
    with ProcessPoolExecutor(args.jobs) as pool:
        for family in args.family or FAMILIES:
            tally, number = Tally(), args.seed
            while tally.counted.total() < args.count and tally.drawn < MOST * args.count + BATCH:
                if time.monotonic() - start > args.seconds:
                    break
                some = batches(family, targets, number, args.jobs, args.sanitize)
                number += args.jobs
                for batch, outcome in zip(some, pool.map(run, some), strict=True):
                    tally.add(batch, outcome)
            for text in tally.wrong:
                print(text)
            minutes = (time.monotonic() - start) / 60
            print(f"{family}: {tally}; {len(tally.wrong)} wrong ({minutes:.1f} min)", flush=True)
            wrong += len(tally.wrong)
            found += tally.counted.total()
            if minutes * 60 > args.seconds:
                print(f"stopped; `--family {family!r} --seed {number}` goes on from here")
                break
            assert tally.counted.total() >= args.count, f"{family}: too few layers ran on its kernels"
    print(f"{found} layers, {f'{wrong} wrong' if wrong else 'nothing wrong'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

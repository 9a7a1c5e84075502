"""Random small networks for property tests: `graphs()` draws them, `features` says what is in one.

    from tests.graphs import graphs

    @given(graphs())
    def test_my_pass(graph: Graph) -> None: ...

A network is a chain of steps drawn from `STEPS`; each step knows when it applies. What a pass looks for
(shuffles, splits, concats, uneven groups, masks, residual sums, mixed kernels, gates, repeated and dead work)
occurs often. Everything shrinks to fewer and simpler steps, fewer channels, smaller maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np

from compactir.diagnostics import Span
from compactir.ir.channels import ChannelList, divisors, is_permutation
from compactir.ir.connectivity import Connectivity, Family, Kernel, Pad
from compactir.ir.graph import Graph, Param, Scope, Value
from compactir.ir.op import Op
from compactir.ir.types import Array, TensorType
from compactir.lang import elaborate, parse_file
from compactir.ops.activation import (
    Clip,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Relu,
    Relu6,
    Sigmoid,
    Swish,
    Tanh,
)
from compactir.ops.arrange import Concat, Dropout, Flatten, Gather, Identity, Shuffle
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv, Masked
from compactir.ops.linear import Linear
from compactir.ops.norm import Affine, BatchNorm, Lrn
from compactir.ops.pool import AvgPool, GlobalAvgPool, MaxPool, Upsample
from compactir.weights.init import draw

Draw = Callable[[st.SearchStrategy[Any]], Any]

ACTIVATIONS: tuple[Op, ...] = (
    Relu(),
    Relu6(),
    Swish(),
    HardSwish(),
    LeakyRelu(0.1),
    Tanh(1.7159, 2 / 3),
    Sigmoid(),
    Clip(-1.0, 2.0),
)


# -- weights -------------------------------------------------------------------------------------------------


def random_weights(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Float32 arrays for all parameters that keep values near 1, by the draw that each parameter names."""
    rng = np.random.default_rng(seed)
    return {name: _draw_param(param, rng).astype(np.float32) for name, param in graph.params.items()}


def _draw_param(param: Param, rng: np.random.Generator) -> Array:
    shape, kind = param.type.shape, param.init.partition("(")[0]
    if kind == "learned":
        groups = int(param.init.partition("(")[2].rstrip(")"))
        outs, ins = rng.integers(groups, size=shape[0]), rng.integers(groups, size=shape[1])
        return np.broadcast_to((outs[:, None] == ins).reshape(*shape[:2], 1, 1), shape)
    if kind == "fine":
        return rng.integers(2, size=shape)
    draws: dict[str, Callable[[], Array]] = {
        "gamma": lambda: rng.uniform(0.5, 1.5, shape),
        "variance": lambda: rng.uniform(0.5, 2, shape),
        "mean": lambda: 0.3 * rng.standard_normal(shape),
        "bias": lambda: 0.3 * rng.standard_normal(shape),
        "beta": lambda: 0.3 * rng.standard_normal(shape),
        "sign": lambda: rng.choice([-1.0, 1.0], shape),
        "he": lambda: rng.standard_normal(shape) * (2 / max(1, prod(shape[1:]))) ** 0.5,
    }
    return draws[kind]()


# -- connectivities ------------------------------------------------------------------------------------------


@st.composite
def kernels(draw: Draw, largest: int = 5) -> tuple[Kernel, Pad]:
    """A kernel and a padding that keeps the size of the map, not always symmetric."""
    sizes = [(1, 1), (3, 3), (2, 2), (1, 3), (3, 1), (5, 5), (5, 3)]
    kernel: Kernel = draw(st.sampled_from([s for s in sizes if max(s) <= largest]))
    top, left = (draw(st.integers(0, k - 1)) if k % 2 == 0 else (k - 1) // 2 for k in kernel)
    return kernel, (top, left, kernel[0] - 1 - top, kernel[1] - 1 - left)


@st.composite
def connectivities(draw: Draw, ins: int | None = None, outs: int | None = None) -> Connectivity:
    """Any connectivity of up to 8 channels: groups, uneven, masks, learned, mixed kernels, free lists."""
    ins = draw(st.integers(1, 8)) if ins is None else ins
    outs = draw(st.integers(1, 8)) if outs is None else outs
    kind = draw(st.sampled_from(["grouped", "uneven", "mask", "learned", "free"]))
    kernel, pad = draw(kernels())
    if kind == "grouped":
        groups = draw(st.sampled_from([d for d in divisors(ins) if outs % d == 0]))
        return Connectivity.grouped(ins, outs, groups, kernel, pad)
    if kind == "uneven":
        uneven: Connectivity = draw(_uneven(ins, outs))
        return uneven
    if kind == "mask":
        return Connectivity.from_mask(draw(masks(outs, ins)), kernel, pad)
    if kind == "learned":
        ids = st.integers(0, 3)
        read, made = (draw(st.lists(ids, min_size=n, max_size=n)) for n in (ins, outs))
        return Connectivity.learned(read, made, kernel, pad)
    free: Connectivity = draw(_free(ins, outs))
    return free


@st.composite
def masks(draw: Draw, outs: int, ins: int) -> Array:
    """A connection mask (O, I), bool."""
    bits = draw(st.lists(st.booleans(), min_size=outs * ins, max_size=outs * ins))
    return np.array(bits, np.bool_).reshape(outs, ins)


@st.composite
def _uneven(draw: Draw, ins: int, outs: int) -> Connectivity:
    parts = draw(st.integers(1, min(3, ins, outs)))
    sizes = list(zip(draw(_partition(ins, parts)), draw(_partition(outs, parts)), strict=True))
    shapes = [draw(kernels()) for _ in sizes]
    return Connectivity.parts(sizes, [k for k, _ in shapes], [p for _, p in shapes])


@st.composite
def _partition(draw: Draw, total: int, parts: int) -> list[int]:
    inside = st.integers(1, max(1, total - 1))
    cuts = draw(st.sets(inside, min_size=parts - 1, max_size=parts - 1))
    ends = [0, *sorted(cuts), total]
    return [b - a for a, b in pairwise(ends)]


@st.composite
def _free(draw: Draw, ins: int, outs: int) -> Connectivity:
    """Families over any lists: inputs repeat, overlap and are left out, outputs too."""
    order = list(draw(st.permutations(range(outs))))
    families: list[Family] = []
    while order and len(families) < 3:
        count, rows = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        if count * rows > len(order):
            break
        reads = count * draw(st.integers(0, 3))
        inputs = draw(st.lists(st.integers(0, ins - 1), min_size=reads, max_size=reads))
        made, order = order[: count * rows], order[count * rows :]
        families.append(Family(count, ChannelList.of(inputs), ChannelList.of(made), *draw(kernels())))
    return Connectivity(ins, outs, tuple(families))


# -- graphs --------------------------------------------------------------------------------------------------


class Maker:
    """A graph under construction: `x` is the feature map that the next step reads."""

    def __init__(self, draw: Draw, graph: Graph, x: Value) -> None:
        self.draw, self.graph, self.x = draw, graph, x
        self.path = ""
        self.counts: dict[str, int] = {}

    def name(self, stem: str) -> str:
        """`conv1`, `unit2.conv1`: numbered within the scope, as the language does."""
        key = f"{self.path}{stem}"
        self.counts[key] = self.counts.get(key, 0) + 1
        return f"{key}{self.counts[key]}"

    def span(self) -> Span:
        """One line per node."""
        line = len(self.graph.nodes) + 2
        return Span("random.arch", line, 3, line, 20)

    def apply(self, op: Op, *xs: Value) -> Value:
        """One more node."""
        return self.graph.apply(op, list(xs), self.name(op.label), self.span())

    def then(self, op: Op) -> None:
        """`x = x -> op`."""
        self.x = self.apply(op, self.x)

    @property
    def channels(self) -> int:
        """Channels of `x`."""
        return self.x.type.channels

    def conv_to(
        self, outs: int, kernel: Kernel = (1, 1), pad: Pad = (0, 0, 0, 0), bias: bool = False
    ) -> None:
        """A dense convolution to so many channels."""
        self.then(Conv(Connectivity.dense(self.channels, outs, kernel, pad), bias=bias))

    @contextmanager
    def scope(self, block: str) -> Iterator[None]:
        """Steps inside are named as inside a block."""
        outer, name = self.path, self.name(block)
        self.graph.scopes[name] = Scope(block, (("channels", self.channels),), "", self.span())
        self.path = f"{name}."
        yield
        self.path = outer


def _few(m: Maker, low: int = 1) -> int:
    return int(m.draw(st.sampled_from([c for c in (1, 2, 3, 4, 5, 6, 8, 12, 16) if c >= low])))


def _stride(m: Maker) -> Kernel:
    return (2, 2) if min(m.x.type.spatial) > 2 and m.draw(st.booleans()) else (1, 1)


def _dense(m: Maker) -> None:
    kernel, pad = m.draw(kernels())
    outs, bias = _few(m), m.draw(st.booleans())
    if m.draw(st.booleans()):
        m.then(Conv(Connectivity.dense(m.channels, outs, (3, 3), (2, 2, 2, 2)), dilation=(2, 2), bias=bias))
    else:
        m.then(Conv(Connectivity.dense(m.channels, outs, kernel, pad), _stride(m), bias=bias))


def _groups(m: Maker) -> None:
    groups = m.draw(st.sampled_from([d for d in divisors(m.channels) if d > 1]))
    outs = groups * m.draw(st.integers(1, 3))
    kernel, pad = m.draw(kernels(3))
    m.then(Conv(Connectivity.grouped(m.channels, outs, groups, kernel, pad), bias=m.draw(st.booleans())))


def _depthwise(m: Maker) -> None:
    if m.draw(st.integers(0, 2)) == 2:
        wide = Connectivity.grouped(m.channels, m.channels, m.channels, (3, 3), (2, 2, 2, 2))
        m.then(Conv(wide, dilation=(2, 2)))
        return
    kernel, pad = m.draw(kernels())
    m.then(Conv(Connectivity.grouped(m.channels, m.channels, m.channels, kernel, pad), _stride(m)))


def _mixed(m: Maker) -> None:
    cut = m.draw(st.integers(1, m.channels - 1))
    sizes = [(3, 3)] * cut + [(5, 5)] * (m.channels - cut)
    pads: list[Pad] = [(k // 2,) * 4 for k, _ in sizes]
    m.then(Conv(Connectivity.parts([(1, 1)] * m.channels, sizes, pads), _stride(m)))


def _uneven_groups(m: Maker) -> None:
    m.then(Conv(m.draw(_uneven(m.channels, _few(m, 2))), bias=m.draw(st.booleans())))


def _table(m: Maker) -> None:
    mask = m.draw(masks(_few(m), m.channels))
    m.then(Conv(Connectivity.from_mask(mask, *m.draw(kernels(3))), bias=m.draw(st.booleans())))


def _learned(m: Maker) -> None:
    ids, outs = st.integers(0, 3), _few(m)
    reads = m.draw(st.lists(ids, min_size=m.channels, max_size=m.channels))
    m.then(Conv(Connectivity.learned(reads, m.draw(st.lists(ids, min_size=outs, max_size=outs)))))


def _masked(m: Maker) -> None:
    kernel, pad = m.draw(kernels(3))
    masked = Masked("fine", fine=True) if m.draw(st.booleans()) else Masked("learned(2)")
    m.then(Conv(Connectivity.dense(m.channels, _few(m, 2), kernel, pad), masked=masked))


def _shuffle(m: Maker) -> None:
    m.then(Shuffle(m.draw(st.sampled_from([d for d in divisors(m.channels) if d > 1]))))


def _permute(m: Maker) -> None:
    m.then(Gather(ChannelList.of(m.draw(st.permutations(range(m.channels))))))


def _gather(m: Maker) -> None:
    channels = m.draw(st.lists(st.integers(0, m.channels - 1), min_size=1, max_size=m.channels + 2))
    m.then(Gather(ChannelList.of(channels)))


def _bn(m: Maker) -> None:
    m.then(BatchNorm(m.draw(st.sampled_from([1e-5, 1e-3]))))


def _affine(m: Maker) -> None:
    m.then(Affine())


def _lrn(m: Maker) -> None:
    m.then(Lrn(3, 0.5, 0.75, 2.0))


def _activation(m: Maker) -> None:
    m.then(m.draw(st.sampled_from(ACTIVATIONS)))


def _conv_bn_relu(m: Maker) -> None:
    m.conv_to(_few(m))
    _bn(m)
    m.then(Relu())


def _max_pool(m: Maker) -> None:
    _pool(m, MaxPool)


def _avg_pool(m: Maker) -> None:
    _pool(m, AvgPool)


def _pool(m: Maker, kind: type[MaxPool] | type[AvgPool]) -> None:
    ceil = m.draw(st.booleans())
    if min(m.x.type.spatial) < 2:
        m.then(kind((1, 1), (1, 1)))
    else:
        around = (1, 1, 1, 1)
        tiled, halved, kept = (
            ((2, 2), (2, 2), (0, 0, 0, 0)),
            ((3, 3), (2, 2), around),
            ((3, 3), (1, 1), around),
        )
        kernel, stride, pad = m.draw(st.sampled_from([tiled, halved, kept]))
        m.then(kind(kernel, stride, pad, ceil))


def _upsample(m: Maker) -> None:
    m.then(Upsample((m.x.type.spatial[0] + 1, m.x.type.spatial[1] * 2)))


def _transparent(m: Maker) -> None:
    for op in m.draw(st.sampled_from([(Identity(),), (Dropout(0.3),), (Dropout(0.1), Identity())])):
        m.then(op)


def _inside(m: Maker) -> None:
    """One to three steps that keep the size of the map."""
    for step in m.draw(st.lists(st.sampled_from(_KEEPING), min_size=1, max_size=3)):
        if _applies(step, m):
            STEPS[step](m)


def _residual(m: Maker) -> None:
    with m.scope("residual"):
        x = m.x
        _inside(m)
        if m.channels != x.type.channels:
            m.conv_to(x.type.channels)
        m.x = m.apply(Add(), *((x, m.x) if m.draw(st.booleans()) else (m.x, x)))
        if m.draw(st.booleans()):
            m.then(Relu())


def _split(m: Maker) -> None:
    """ShuffleNetV2's unit: split, work on one part, concat, shuffle."""
    with m.scope("split_unit"):
        cut, x = m.draw(st.integers(1, m.channels - 1)), m.x
        left = m.apply(Gather(ChannelList.span(0, cut)), x)
        m.x = m.apply(Gather(ChannelList.span(cut, x.type.channels - cut)), x)
        _inside(m)
        m.x = m.apply(Concat(), *((left, m.x) if m.draw(st.booleans()) else (m.x, left)))
        if m.channels % 2 == 0 and m.draw(st.booleans()):
            m.then(Shuffle(2))


def _branches(m: Maker) -> None:
    """Fire and Inception: parallel convolutions of one value, then concat."""
    with m.scope("branches"):
        x, made = m.x, []
        for _ in range(m.draw(st.integers(2, 3))):
            m.x = x
            kernel, pad = m.draw(kernels())
            m.conv_to(_few(m), kernel, pad, bias=m.draw(st.booleans()))
            if m.draw(st.booleans()):
                m.then(Relu())
            made.append(m.x)
        m.x = m.apply(Concat(), *made)


def _gate(m: Maker) -> None:
    """Squeeze and excitation."""
    with m.scope("gate"):
        x = m.x
        m.then(GlobalAvgPool())
        m.conv_to(max(1, x.type.channels // 2), bias=True)
        m.then(Relu())
        m.conv_to(x.type.channels, bias=True)
        m.then(m.draw(st.sampled_from([HardSigmoid(), Sigmoid()])))
        m.x = m.apply(Mul(), *((x, m.x) if m.draw(st.booleans()) else (m.x, x)))


def _twins(m: Maker) -> None:
    """The same work done twice."""
    op = m.draw(st.sampled_from([Relu(), HardSwish(), MaxPool((1, 1), (1, 1))]))
    m.x = m.apply(Add(), m.apply(op, m.x), m.apply(op, m.x))


def _index(m: Maker) -> None:
    """CondenseNet's layer: an index that repeats channels, normalised, then convolved."""
    with m.scope("index"):
        channels = m.draw(st.lists(st.integers(0, m.channels - 1), min_size=2, max_size=m.channels + 2))
        m.then(Gather(ChannelList.of([*channels, channels[0]])))
        m.then(BatchNorm())
        m.then(Relu())
        m.conv_to(_few(m))


def _sums(m: Maker) -> None:
    """Convolutions that are added: a projected shortcut, RepVGG's kernels, ResNeXt's paths."""
    with m.scope("sums"):
        x, outs, made = m.x, _few(m), []
        same = m.draw(kernels(3))
        for _ in range(m.draw(st.integers(2, 3))):
            m.x = x if m.draw(st.booleans()) else m.apply(Relu6(), x)
            kernel, pad = same if m.draw(st.booleans()) else m.draw(kernels(3))
            m.conv_to(outs, kernel, pad, m.draw(st.booleans()))
            made.append(m.x)
        m.x = made[0]
        for other in made[1:]:
            m.x = m.apply(Add(), m.x, other)


def _product(m: Maker) -> None:
    """Layers with nothing between them: low-rank factors of any rank, kx1 then 1xk, groups and a shuffle."""
    with m.scope("product"):
        outs, kind = _few(m), m.draw(st.sampled_from(["point", "rows", "groups"]))
        wide = m.channels + outs + m.draw(st.integers(-2, 4))
        if kind == "groups" and m.channels % 2 == 0:
            m.then(Conv(Connectivity.grouped(m.channels, 2 * m.channels, 2)))
            m.then(Shuffle(2))
            m.then(Conv(Connectivity.grouped(m.channels, 2, 2)))
            return
        rows = kind == "rows"
        m.conv_to(max(wide, 1), *(((3, 1), (1, 0, 1, 0)) if rows else m.draw(kernels(3))))
        kernel, pad = ((1, 3), (0, 1, 0, 1)) if rows else ((1, 1), (0, 0, 0, 0))
        m.conv_to(outs, kernel, pad, m.draw(st.booleans()))


def _separable(m: Maker) -> None:
    """MobileNet's unit, with its bn and activations."""
    with m.scope("separable"):
        kernel, pad = m.draw(kernels())
        m.then(Conv(Connectivity.grouped(m.channels, m.channels, m.channels, kernel, pad)))
        _bn(m)
        m.then(Relu())
        m.conv_to(_few(m))


def _late(m: Maker) -> None:
    """An activation behind what joins or enlarges the results of layers."""
    with m.scope("late"):
        x = m.x
        m.conv_to(_few(m))
        m.x = m.apply(Concat(), *((x, m.x) if m.draw(st.booleans()) else (m.x, x)))
        _activation(m)


def _clamps(m: Maker) -> None:
    """Clamps of clamps."""
    for op in m.draw(st.lists(st.sampled_from([Relu(), Relu6(), Clip(-1.0, 2.0)]), min_size=2, max_size=3)):
        m.then(op)


def _dead(m: Maker) -> None:
    """Work that nobody reads."""
    m.apply(BatchNorm(), m.apply(Relu(), m.x))


STEPS: dict[str, Callable[[Maker], None]] = {
    "activation": _activation,  # first: what the others shrink to
    "dense": _dense,
    "conv-bn-relu": _conv_bn_relu,
    "groups": _groups,
    "depthwise": _depthwise,
    "mixed": _mixed,
    "uneven": _uneven_groups,
    "table": _table,
    "learned": _learned,
    "masked": _masked,
    "shuffle": _shuffle,
    "permute": _permute,
    "gather": _gather,
    "bn": _bn,
    "affine": _affine,
    "lrn": _lrn,
    "max-pool": _max_pool,
    "avg-pool": _avg_pool,
    "upsample": _upsample,
    "transparent": _transparent,
    "residual": _residual,
    "split": _split,
    "branches": _branches,
    "gate": _gate,
    "twins": _twins,
    "index": _index,
    "sums": _sums,
    "product": _product,
    "separable": _separable,
    "late": _late,
    "clamps": _clamps,
    "dead": _dead,
}
_SEVERAL = {"groups", "mixed", "uneven", "shuffle", "permute", "split"}  # need more than one channel
_KEEPING = ("bn", "activation", "groups", "shuffle", "permute", "affine", "gate", "conv-bn-relu", "uneven")
_WIDEST = 48
_LARGEST = 12


def _applies(step: str, m: Maker) -> bool:
    if step == "upsample":
        return max(m.x.type.spatial) <= _LARGEST // 2
    if step in ("branches", "late"):
        return m.channels <= _WIDEST
    return m.channels > 1 or step not in _SEVERAL


@st.composite
def _step(draw: Draw, m: Maker, steps: Sequence[str]) -> str:
    """One of these steps, where it applies; a span of its own, so that shrinking takes it out as a whole."""
    outer, m.draw = m.draw, draw
    step: str = draw(st.sampled_from(list(steps)))
    if _applies(step, m):
        STEPS[step](m)
    m.draw = outer
    return step


@st.composite
def graphs(
    draw: Draw,
    steps: Sequence[str] = tuple(STEPS),
    min_steps: int = 2,
    max_steps: int = 9,
    batches: Sequence[int] = (1, 2),
    distinct: bool = False,
) -> Graph:
    """A random network with its weights bound.

    Args:
        draw: hypothesis gives it.
        steps: names of `STEPS` to choose from.
        min_steps: at least so many (fewer where one does not apply).
        max_steps: at most so many.
        batches: batch sizes to choose from.
        distinct: every step at most once, so that more kinds of them occur together.
    """
    graph = Graph("random")
    channels = draw(st.sampled_from([4, 1, 2, 3, 6, 8]))
    extent = st.integers(1, 9) | st.just(_LARGEST)
    size = draw(extent), draw(extent | st.integers(10, _LARGEST))  # wide rows are what regions look for
    x = graph.input("image", TensorType.f32(draw(st.sampled_from(list(batches))), channels, *size))
    m = Maker(draw, graph, x)
    left = list(steps)
    for _ in range(draw(st.integers(min_steps, max_steps))):
        step = draw(_step(m, left))
        if distinct:
            left.remove(step)
    _head(m)
    graph.weights = random_weights(graph, draw(st.integers(0, 9)))
    return graph


def _head(m: Maker) -> None:
    kind = m.draw(st.sampled_from(["map", "pooled", "both", "flat", "both"]))
    if kind in ("map", "both"):
        m.graph.outputs["map"] = m.x
    if kind in ("pooled", "both"):
        m.then(GlobalAvgPool())
    if kind != "map":
        m.then(Flatten())
        m.then(Linear(_few(m), m.draw(st.booleans())))
        m.graph.outputs["logits"] = m.x


# -- what is in a graph --------------------------------------------------------------------------------------


def features(graph: Graph) -> set[str]:
    """Words for what occurs in a graph, for coverage tables: operations, kinds of convolution, blocks."""
    found = {node.op.name for node in graph.nodes} | {scope.block for scope in graph.scopes.values()}
    for node in graph.nodes:
        if isinstance(node.op, Conv):
            found |= _conv_features(node.op)
        if isinstance(node.op, Gather):
            found.add(node.op.label)
            if is_permutation(node.op.channels) and not node.op.channels.is_plain_range:
                found.add("permute")
    return found | ({"two outputs"} if len(graph.outputs) > 1 else set())


def _conv_features(op: Conv) -> set[str]:
    connect = op.connect
    kinds = {(f.kernel, f.pad) for f in connect.families}
    says = {
        "dense": connect.is_dense,
        "groups": (connect.groups or 1) > 1 and not connect.is_depthwise,
        "depthwise": connect.is_depthwise,
        "blocks": connect.groups is None and not connect.is_depthwise,
        "uneven groups": len({(f.ins, f.outs) for f in connect.families}) > 1,
        "mixed kernels": len(kinds) > 1,
        "masked": op.masked is not None,
        "strided": op.stride != (1, 1),
        "dilated": op.dilation != (1, 1),
        "biased": op.bias,
        "dead outputs": sum(len(f.outputs) for f in connect.families) < connect.out_channels,
    }
    return {word for word, holds in says.items() if holds}


def one_op(op: Op, *shapes: tuple[int, ...]) -> Graph:
    """A graph of one operation."""
    graph = Graph("sample")
    xs = [graph.input(f"x{i}", TensorType.f32(*shape)) for i, shape in enumerate(shapes)]
    graph.outputs["y"] = graph.apply(op, xs, f"{op.label}1")
    graph.weights = random_weights(graph)
    return graph


def example(name: str, **defines: str) -> Graph:
    """One of the examples, with random weights."""
    graph = elaborate(parse_file(Path(__file__).parent.parent / "examples" / f"{name}.arch"), defines=defines)
    graph.weights = draw(graph)
    return graph

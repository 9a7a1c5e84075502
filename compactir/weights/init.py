"""Random weights that behave like trained ones: seeded, the same everywhere, neither fading nor exploding.

Each parameter has a generator of its own, seeded by (seed, its name), so that adding a layer does not
change what another layer draws. Numbers come from the generator's raw bits by exact arithmetic: every
version of NumPy draws the same. Hence uniform distributions, not normal ones.

Scale: He et al. 2015 (arXiv:1502.01852) take Var(w) = 2 / fan-in, because a ReLU halves the power of its
    input. Here the 2 is 1 / E[x²], where x is followed through whatever lies between two layers:
    activations, pools, sums, gates. Batch norms get the statistics that fit their input, spread widely
    enough that a pass which ignores one is found out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import prod, sqrt
from statistics import NormalDist

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.types import Array
from compactir.ops.activation import Activation
from compactir.ops.arrange import Concat
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear, Rbf
from compactir.ops.norm import BatchNorm
from compactir.ops.pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from compactir.weights.masks import density, draw_mask, is_mask

__all__ = ["draw"]


def draw(graph: Graph, seed: int = 0, *, stand_in: bool = False) -> dict[str, Array]:
    """Random values for every parameter of a graph, float32; arrays that passes have folded are kept.

    Variances are above 0; masks of learned connections are legal: every group has inputs and outputs, where
    there are enough of them.

    Args:
        graph: whose parameters are drawn.
        seed: of all numbers.
        stand_in: draw folded arrays that are not there, too, for who looks at the graph and not at numbers.

    Errors: CIR601 for a folded array that is not there: its numbers are a result, which nobody can draw.
    """
    if not stand_in and (
        lost := [n for n, p in graph.params.items() if p.init == "folded" and n not in graph.weights]
    ):
        more = f" and {len(lost) - 1} more" if lost[1:] else ""
        raise CompactError(
            "CIR601",
            f"passes computed `{lost[0]}`{more} of `{graph.name}`, and the arrays are not there",
            help="give them with `--weights FILE`: `compactc opt … --save-weights FILE` writes them",
        )
    spread = _distributions(graph)
    users: dict[Param, Node] = {}
    for node in graph.nodes:
        for param in node.params:
            users.setdefault(param, node)
    return {
        name: graph.weights[name]
        if param.init == "folded" and name in graph.weights
        else _draw(param, users.get(param), spread, seed)
        for name, param in graph.params.items()
    }


# -- one parameter -------------------------------------------------------------------------------------------


def _draw(param: Param, node: Node | None, spread: dict[Value, Array], seed: int) -> Array:
    """Every kind of `init`: uniform numbers u in (−1, 1), shifted and scaled."""
    if is_mask(param.init):
        return draw_mask(param.init, param.type.shape, param.name, seed, _uniform)
    u = _uniform(param.type.shape, f"{seed}:{param.name}")
    one = np.float32(1)
    mean, variance = _moments(spread[node.args[0]]) if node else (0.0, 1.0)
    rules: dict[str, Callable[[], Array]] = {
        "he": lambda: u * np.float32(_he_bound(param, node, mean * mean + variance)),
        "bias": lambda: u * np.float32(0.1),
        "beta": lambda: u * np.float32(0.1),
        "gamma": lambda: (
            np.float32(0.9224) + u * np.float32(0.4224)
        ),  # E[γ²] E[1 / var] = 1, all in [0.5, 1.3448]
        "mean": lambda: np.float32(mean) + u * np.float32(0.1 * sqrt(variance)),
        "variance": lambda: np.float32(variance) * (one + u * np.float32(0.5)),
        "sign": lambda: np.where(u < 0, -one, one),
    }
    if param.init == "folded":
        return rules["he" if len(param.type.shape) > 1 else "bias"]()
    if param.init not in rules:
        raise ValueError(f"{param.name}: nobody knows how to draw {param.init!r}")
    return rules[param.init]()


def _uniform(shape: tuple[int, ...], key: str) -> Array:
    """Float32 numbers of (−1, 1), symmetric around 0, each exactly an odd multiple of 2⁻²⁴."""
    entropy = int.from_bytes(hashlib.sha256(key.encode()).digest(), "little")
    bits = np.random.PCG64(np.random.SeedSequence(entropy))
    values = np.empty(prod(shape), np.float32)
    for start in range(
        0, values.size, 1 << 20
    ):  # 61 million 64-bit integers at once would be half a gigabyte
        block = values[start : start + (1 << 20)]
        block[:] = (bits.random_raw(block.size) >> 40).astype(np.int32) * 2 + (1 - (1 << 24))
    values *= np.float32(2.0**-24)
    return values.reshape(shape)


def _he_bound(param: Param, node: Node | None, power: float) -> float:
    """The bound of a uniform distribution with variance 1 / (fan-in · power of the input)."""
    fan_in = float(prod(param.type.shape[1:]))
    if node and isinstance(node.op, Conv) and node.op.masked:
        mask = next(p for p in node.params if p.init == node.op.masked.init)
        fan_in *= density(mask.init, mask.type.shape)
    return sqrt(3 / (max(fan_in, 1.0) * max(power, 1e-6)))


# -- what flows between the layers ---------------------------------------------------------------------------

_SHARES = (np.arange(256) + 0.5) / 256
_NORMAL = np.array([NormalDist().inv_cdf(share) for share in _SHARES])
"""A distribution is the vector of its quantiles, in ascending order; this is N(0, 1)."""


_SHARED = 0.5
"""Of the variance of what a global mean reads, the share that all pixels of a channel have in common."""


def _distributions(graph: Graph) -> dict[Value, Array]:
    """How the elements of every value are roughly distributed, for inputs of N(0, 1).

    Elements count as independent, layers and batch norms as producing N(0, 1): they are drawn to do so.
    """
    spread: dict[Value, Array] = dict.fromkeys(graph.inputs, _NORMAL)
    for node in graph.nodes:
        spread[node.out] = _after(node, [spread[value] for value in node.values])
    return spread


def _after(node: Node, xs: list[Array]) -> Array:
    """The distribution of a node's result, given those of its operands."""
    op = node.op
    if isinstance(op, (Conv, Linear, BatchNorm, Rbf)) or not xs:
        return _NORMAL
    if isinstance(op, Activation):
        return np.sort(np.asarray(op.reference(xs[0])))
    if isinstance(op, Add):
        return _normal(sum(_moments(x)[0] for x in xs), sum(_moments(x)[1] for x in xs))
    if isinstance(op, Mul):
        mean = prod(_moments(x)[0] for x in xs)
        return _normal(mean, prod(float(np.mean(x * x)) for x in xs) - mean * mean)
    if isinstance(op, Concat):
        return _mixed(xs, [value.type.channels for value in node.values])
    if isinstance(op, (MaxPool, GlobalMaxPool)):
        return np.interp(_SHARES ** (1 / _window(node)), _SHARES, xs[0])
    if isinstance(op, (AvgPool, GlobalAvgPool)):
        mean, shared = float(xs[0].mean()), _SHARED if isinstance(op, GlobalAvgPool) else 0.0
        narrowed: Array = mean + (xs[0] - mean) * sqrt(shared + (1 - shared) / _window(node))
        return narrowed
    return xs[0]


def _window(node: Node) -> int:
    """How many elements a pool looks at."""
    return prod(getattr(node.op, "kernel", node.args[0].type.spatial))


def _mixed(xs: list[Array], counts: list[int]) -> Array:
    """The distribution of a mixture, `counts[i]` parts of `xs[i]`."""
    points = np.concatenate(xs)
    weights = np.repeat(np.array(counts) / (len(_SHARES) * sum(counts)), len(_SHARES))
    order = np.argsort(points, kind="stable")
    shares = np.cumsum(weights[order]) - weights[order] / 2
    mixed: Array = np.interp(_SHARES, shares, points[order])
    return mixed


def _normal(mean: float, variance: float) -> Array:
    scaled: Array = mean + sqrt(max(variance, 0.0)) * _NORMAL
    return scaled


def _moments(x: Array) -> tuple[float, float]:
    """Mean and variance, to three digits: what a last bit of some machine's `exp` cannot change."""
    return float(f"{x.mean():.3g}"), float(f"{x.var():.3g}")

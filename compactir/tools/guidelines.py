"""The four guidelines of the ShuffleNetV2 paper as advice, with their formulas' numbers for each layer.

Memory access cost (MEM) of a convolution, caches assumed to hold everything: in + out + weights, in elements.
Source: Ma et al. 2018, arXiv:1807.11164, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt

from compactir.ir.graph import Graph, Node
from compactir.ops.conv import Conv
from compactir.ops.pool import AvgPool, MaxPool
from compactir.tools.counting import WEIGHTED, layer

SHOWN = 3
"""How many layers each guideline names: the worst."""
NEAR_ENOUGH = 1.05
"""A layer this near to its bound needs no advice."""


@dataclass(frozen=True)
class Advice:
    """One finding: which guideline, where, what, and the numbers behind it."""

    guideline: str
    where: str
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def advise(graph: Graph) -> list[Advice]:
    """What the guidelines say about a network as authored, the worst layers of each."""
    found = [equal_width(graph), cost_of_groups(graph), fragmentation(graph)]
    return [advice for group in found for advice in group[:SHOWN]] + element_wise(graph)


def equal_width(graph: Graph) -> list[Advice]:
    """G1: for given MACs B, a 1×1 convolution has MEM ≥ 2√(hw·B) + B/hw, equal iff c1 = c2."""
    found = []
    for node, conv in _convolutions(graph):
        if conv.connect.is_dense and conv.connect.kernel == (1, 1) and conv.stride == (1, 1):
            c1, c2, hw = conv.connect.in_channels, conv.connect.out_channels, _pixels(node)
            mem, bound = pointwise_mem(hw, c1, c2), pointwise_bound(hw, hw * c1 * c2)
            text = (
                f"{c1} → {c2} channels at hw = {hw}: MEM {mem:,} is {mem / bound:.2f} × its bound "
                f"{bound:,.0f}; c1 = c2 reaches it"
            )
            numbers = {
                "c1": c1,
                "c2": c2,
                "hw": hw,
                "macs": hw * c1 * c2,
                "mem": mem,
                "bound": bound,
                "ratio": mem / bound,
            }
            found.append(Advice("G1", node.name, text, numbers))
    return _worst(found)


def pointwise_mem(hw: int, c1: int, c2: int, groups: int = 1) -> int:
    """Hw (c1 + c2) + c1 c2 / g: elements that a 1×1 convolution reads and writes."""
    return hw * (c1 + c2) + c1 * c2 // groups


def pointwise_bound(hw: int, macs: int) -> float:
    """2 √(hw B) + B / hw: the least MEM of a 1×1 convolution of B MACs."""
    return 2 * sqrt(hw * macs) + macs / hw


def cost_of_groups(graph: Graph) -> list[Advice]:
    """G2: for given input and B, MEM = hw·c1 + B·g/(k²·c1) + B/hw grows with the number of groups g."""
    found = []
    for node, conv in _convolutions(graph):
        groups = conv.connect.groups
        if groups and groups > 1 and not conv.connect.is_depthwise:
            it, (kh, kw) = layer(node, node.out.type.batch), conv.connect.kernel
            c1 = conv.connect.in_channels
            plain = it.read + it.macs // (kh * kw * c1) + it.weights
            ratio = it.memory_access / plain
            text = (
                f"{groups} groups: MEM {it.memory_access:,} is {ratio:.2f} × that of one group "
                f"with the same input and MACs ({plain:,})"
            )
            numbers = {"groups": groups, "macs": it.macs, "mem": it.memory_access, "mem_one_group": plain}
            found.append(Advice("G2", node.name, text, numbers | {"ratio": ratio}))
    return _worst(found)


def fragmentation(graph: Graph) -> list[Advice]:
    """G3: many small operators per block, in a row or side by side, leave less to do in parallel."""
    found = []
    for path, inside in _blocks(graph).items():
        wide = _side_by_side(inside)
        if wide > 1:
            operators = [n for n in inside if isinstance(n.op, _OPERATORS)]
            macs = sum(n.macs // n.out.type.batch for n in operators) // len(operators)
            text = (
                f"{len(operators)} operators, up to {wide} side by side, {macs:,} MACs each on average: "
                "fewer, larger ones run faster"
            )
            numbers = {"operators": len(operators), "parallel": wide, "macs_each": macs, "ratio": wide}
            found.append(Advice("G3", path, text, numbers))
    return _worst(found)


def element_wise(graph: Graph) -> list[Advice]:
    """G4: ReLU, add, batch norm (the paper counts depthwise too) have few MACs and much memory access."""
    layers = [(node, layer(node, node.out.type.batch)) for node in graph.nodes]
    heavy = [it for node, it in layers if isinstance(node.op, WEIGHTED) and not _is_depthwise(node)]
    light = [
        it
        for node, it in layers
        if node.op.elementwise or node.op.name in _ELEMENT_WISE or _is_depthwise(node)
    ]
    mem, rest = sum(it.memory_access for it in light), sum(it.memory_access for it in heavy)
    if not mem:
        return []
    macs, share = sum(it.macs for it in light), mem / (mem + rest)
    text = (
        f"{len(light)} element-wise and depthwise operators make {share:.0%} of the memory access "
        f"({mem:,} elements) with {macs:,} MACs; fusion removes most of it"
    )
    numbers = {"operators": len(light), "mem": mem, "macs": macs, "share": share}
    return [Advice("G4", graph.name, text, numbers)]


_OPERATORS = (Conv, MaxPool, AvgPool)
_ELEMENT_WISE = frozenset({"bn", "affine", "add", "mul"})


def _convolutions(graph: Graph) -> Iterable[tuple[Node, Conv]]:
    return ((node, node.op) for node in graph.nodes if isinstance(node.op, Conv))


def _is_depthwise(node: Node) -> bool:
    return isinstance(node.op, Conv) and node.op.connect.is_depthwise


def _pixels(node: Node) -> int:
    height, width = node.out.type.spatial
    return height * width


def _worst(found: list[Advice]) -> list[Advice]:
    return sorted((a for a in found if a.numbers["ratio"] > NEAR_ENOUGH), key=lambda a: -a.numbers["ratio"])


def _blocks(graph: Graph) -> dict[str, list[Node]]:
    """The nodes of every block, those of the blocks inside it included."""
    blocks: dict[str, list[Node]] = {}
    for node in graph.nodes:
        path = node.name.rpartition(".")[0]
        while path:
            if path in graph.scopes:
                blocks.setdefault(path, []).append(node)
            path = path.rpartition(".")[0]
    return blocks


def _side_by_side(inside: list[Node]) -> int:
    """The largest number of operators that stand equally far from the block's start."""
    level: dict[str, int] = {}
    count: dict[int, int] = {}
    for node in inside:
        before = max((level.get(v.name, 0) for v in node.values), default=0)
        is_operator = isinstance(node.op, _OPERATORS)
        level[node.out.name] = before + is_operator
        if is_operator:
            count[before + 1] = count.get(before + 1, 0) + 1
    return max(count.values(), default=0)

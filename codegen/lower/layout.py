"""Which values lie as planes, which in blocks of channels: whatever is estimated to be faster.

Planes cost no multiplication for lanes that carry no channel, nor for a link that a table of connections does
not have; in return weights are loaded one by one, and windows with a stride are put together. Values that one
operation carries over, channel by channel, lie alike: they are a component. A component can lie as planes
where every convolution that makes it reads planes, and every reader can.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from math import prod

from compactir.codegen.lower import plane_tiles, tiles
from compactir.codegen.lower.plane_tiles import finishing
from compactir.codegen.lower.planes import RULES, links, plain_kernel, pool_kernel
from compactir.codegen.lower.state import natural, spatial
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.op import Op
from compactir.ops.activation import Activation
from compactir.ops.arrange import AsMap, AsSequence, Concat, Flatten, Transparent, View
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear, Rbf
from compactir.ops.norm import Affine, BatchNorm
from compactir.ops.pool import AvgPool, MaxPool
from compactir.ops.tensor import Unary
from compactir.passes import Decision
from compactir.targets import Target

_WORTH = 0.1
"""Share of a component's time that planes must save: the estimate is no better than that."""
_STRIDED = 1.4
"""How much longer portable C takes to broadcast neighbouring pixels of one channel (gcc 12 on Zen 5)."""
_TRANSFORMED = 0.4
"""Share of the direct method's time that Winograd's takes, about; it reads blocks."""
_WASTED = 1.1
"""A component in blocks whose convolutions execute no more than this much of their links is left alone."""


@dataclass(eq=False)
class Component:
    """Values that lie alike."""

    values: set[Value] = field(default_factory=set)
    makers: list[Node] = field(default_factory=list)
    """Convolutions whose results lie in it."""
    carriers: list[Node] = field(default_factory=list)
    """Operations from one of its values to another."""
    readers: list[Node] = field(default_factory=list)
    """All other nodes that read it."""
    parents: set[Component] = field(default_factory=set)
    """What its makers read."""

    @property
    def nodes(self) -> list[Node]:
        """What makes its values."""
        return [*self.makers, *self.carriers]

    @property
    def is_given(self) -> bool:
        """Whether it is a tensor of the caller's alone, whose planes cost nothing."""
        return not self.makers and all(isinstance(n.op, AsMap) for n in self.carriers)

    @property
    def joins_given(self) -> bool:
        """Whether a tensor of the caller's may be joined with another map: it has to be brought in then."""
        made = {node.out for node in self.nodes}
        return not self.values <= made and any(isinstance(n.op, Concat) for n in self.carriers)


def planes(
    graph: Graph, target: Target, fused: Container[str], wanted: bool | None = None
) -> tuple[set[Value], list[Decision]]:
    """The values that lie as planes, without the caller's; what was chosen by time, or could not be.

    Args:
        graph: what is lowered.
        target: for which machine.
        fused: names of the values in fused regions, which lie in blocks.
        wanted: all that can for True, none for False; by estimated time for None.
    """
    if wanted is False:
        return set(), []
    found = _components(graph)
    able: set[Component] = set()
    for component in found:  # in the order in which they are made
        if not _obstacle(component, fused) and component.parents <= able:
            able.add(component)
    chosen, decisions = able, []
    if wanted is None:
        chosen = _faster(able, found, target)
        decisions = [d for c in found for d in _explained(c, target, fused, c in able, chosen)]
    return {value for c in chosen for value in c.values} - set(graph.inputs), decisions


def _components(graph: Graph) -> list[Component]:
    of: dict[Value, Component] = {}
    given = set(graph.inputs)
    for value in graph.inputs:
        of[value] = Component({value})
    for node in graph.nodes:
        sources = list(dict.fromkeys(of[v] for v in node.values))
        if not _carries(node) and not _shows_given(node, given):
            of[node.out] = Component({node.out}, [node], parents=set(sources))
            for source in sources:
                source.readers.append(node)
            continue
        home = sources[0]
        for other in sources[1:]:
            _join(home, other, of)
        home.values.add(node.out)
        home.carriers.append(node)
        of[node.out] = home
    for component in of.values():
        component.parents = {of[v] for node in component.makers for v in node.values}
    return list(dict.fromkeys(of.values()))


def _shows_given(node: Node, given: Container[Value]) -> bool:
    """Whether the result is a tensor of the caller's, seen as maps of another size."""
    return isinstance(node.op, AsMap) and node.args[0] in given


def _join(home: Component, other: Component, of: dict[Value, Component]) -> None:
    home.values |= other.values
    for name in ("makers", "carriers", "readers"):
        getattr(home, name).extend(getattr(other, name))
    of.update(dict.fromkeys(other.values, home))


def _carries(node: Node) -> bool:
    """Whether the result lies as the operand does, channel by channel."""
    if isinstance(node.op, Conv):
        return node.op.connect.is_depthwise and node.op.connect.in_channels > 1
    if isinstance(node.op, Flatten):
        return spatial(node.args[0].type) == (1, 1)
    return type(node.op) in RULES or isinstance(node.op, View | Concat | Transparent | AsSequence)


def _obstacle(component: Component, fused: Container[str]) -> str:
    """What makes or reads it and has no kernel on planes, or nothing."""
    convolutions = [n for n in component.nodes if isinstance(n.op, Conv)]
    inside = [n for n in component.nodes if n.out.name in fused]
    other = [n for n in component.makers if not isinstance(n.op, Conv)]
    mixed = [n for n in convolutions if not _is_plain(n)]
    readers = [n for n in component.readers if not _reads_planes(n, component) or n.out.name in fused]
    reasons = (
        (inside, "runs row by row in a fused region, in blocks"),
        (other, "makes blocks"),
        (mixed, "has windows of several sizes, or another operand in its epilogue"),
        (readers, "reads blocks"),
    )
    for nodes, why in reasons:
        if nodes:
            return f"`{nodes[0].name}` {why}"
    return "a tensor of the caller's is joined with other maps" if component.joins_given else ""


def _is_plain(node: Node) -> bool:
    """Whether all links of a convolution have one window, and nothing but its result enters its epilogue."""
    op = node.op
    assert isinstance(op, Conv)
    windows = {(f.kernel, f.pad) for f in op.connect.families}
    return len(windows) == 1 and len(node.values) == 1


def _reads_planes(node: Node, component: Component) -> bool:
    """A convolution in blocks of outputs broadcasts its inputs from wherever they lie."""
    x = node.args[0]
    if isinstance(node.op, Conv):
        return x in component.values and not any(v in component.values for v in node.values[1:])
    return isinstance(node.op, Linear | Rbf)


# -- which are faster ----------------------------------------------------------------------------------------


def _faster(able: set[Component], found: Iterable[Component], target: Target) -> set[Component]:
    """Of those that can, what saves time together with what it lets follow it."""
    order = [c for c in found if c in able]
    saved: dict[Component, float] = {}
    for component in reversed(order):
        follow = sum(max(0.0, saved[c]) for c in order if c.parents == {component})
        saved[component] = follow + _saved(component, target, follow > 0)
    chosen: set[Component] = set()
    for component in order:
        if component.parents <= chosen and (component.is_given or saved[component] > 0):
            chosen.add(component)
    return chosen


def _saved(component: Component, target: Target, wanted: bool) -> float:
    """Cycles that a component saves as planes, where what it reads are planes already.

    Nothing where blocks execute about what there is to execute, unless `wanted` by others.
    """
    if component.is_given or not (wanted or _wastes(component, target)):
        return 0.0
    blocked, new = _estimates(component, target)
    return (1 - _WORTH) * blocked - new


def _wastes(component: Component, target: Target) -> bool:
    """Whether blocks execute more than there is to execute."""
    makers = [n for n in component.nodes if isinstance(n.op, Conv)]
    macs = sum(n.macs // n.out.type.batch for n in makers)
    return _executed(makers, target.lanes) > _WASTED * macs


def _estimates(component: Component, target: Target) -> tuple[float, float]:
    """Cycles of all that makes and reads it: in blocks, as planes."""
    blocked = sum(_in_blocks(n, target, True) for n in component.makers)
    blocked += sum(_carried(n, target) for n in component.carriers)
    blocked += sum(_in_blocks(n, target, False) for n in component.readers)
    new = sum(_as_planes(n, target) for n in component.nodes)
    new += sum(_in_blocks(n, target, True) for n in component.readers)
    return blocked, new


def _explained(
    component: Component, target: Target, fused: Container[str], able: bool, chosen: Container[Component]
) -> list[Decision]:
    """Of the convolutions of a component that is planes, or whose blocks have lanes that carry nothing."""
    makers = [n for n in component.makers if isinstance(n.op, Conv) and spatial(n.out.type) != (1, 1)]
    done = component in chosen
    if not makers or not (done or _wastes(component, target)):
        return []
    why = _obstacle(component, fused)
    if not why and not all(parent in chosen for parent in component.parents):
        why = "what it reads lies in blocks"
    if able and not why:
        blocked, new = _estimates(component, target)
        why = f"about {new / 1e6:.3f} million cycles, readers included; in blocks: {blocked / 1e6:.3f}"
        if done and (1 - _WORTH) * blocked <= new:
            why += "; what follows saves more"
    return [Decision("planes", n.name, n.span, done, why) for n in makers]


def _executed(nodes: Iterable[Node], lanes: int) -> float:
    """Multiply-accumulates of convolutions in blocks of channels."""
    return sum(
        lanes * prod(spatial(n.out.type)) * sum(depth for depth, _ in _panels(n, lanes)) for n in nodes
    )


def _panels(node: Node, lanes: int) -> list[tuple[int, bool]]:
    """For every block of outputs: the inputs it reads times the taps, and whether it is half empty."""
    if not isinstance(node.op, Conv):
        ins, outs = node.args[0].type.channels, node.out.type.channels
        return [(ins, max(row[lanes // 2 :]) < 0) for row in natural(outs, lanes)]
    connect = node.op.connect
    if connect.is_depthwise and connect.in_channels > 1:
        return [(prod(connect.families[0].kernel), False)] * -(-connect.out_channels // lanes)
    taps = prod(connect.families[0].kernel) if connect.families else 0
    return [
        (int(connect.mask[[c for c in row if c >= 0]].any(axis=0).sum()) * taps, max(row[lanes // 2 :]) < 0)
        for row in natural(connect.out_channels, lanes)
    ]


def _in_blocks(node: Node, target: Target, from_planes: bool) -> float:
    """Cycles of a node that makes blocks of channels, reading such or planes."""
    panels = _panels(node, target.lanes)
    height, width = spatial(node.out.type)
    if _windows(node) <= {(1, 1)}:
        height, width = 1, height * width
    total = 0.0
    vector = (height, width) == (1, 1)  # of planes the taps lie one after the other
    for depth in {depth for depth, _ in panels}:
        same = [half for each, half in panels if each == depth]
        shape = tiles.Shape(width, len(same), depth, 0 if from_planes and not vector else depth)
        half = same[-1] and target.isa in ("avx2", "avx512") and width > 1
        total += height * tiles.cost(target, shape, tiles.choose(target, shape, half))
    total *= _factor(node, target, from_planes and not vector)
    return total + height * width * len(panels) * finishing(_epilogue(node))


def _windows(node: Node) -> set[tuple[int, int]]:
    """The windows of a convolution or a pool."""
    if isinstance(node.op, Conv):
        return {f.kernel for f in node.op.connect.families}
    return {node.op.kernel} if isinstance(node.op, MaxPool | AvgPool) else {(1, 1)}


def _factor(node: Node, target: Target, from_planes: bool) -> float:
    """What the tilings' cost model does not know."""
    if from_planes:
        single = node.args[0].type.channels == 1
        return _STRIDED if target.isa == "scalar" and not single else 1.0
    op = node.op
    if not isinstance(op, Conv) or not target.winograd:
        return 1.0
    plain = op.stride == op.dilation == (1, 1) and _windows(node) == {(3, 3)}
    return _TRANSFORMED if plain else 1.0


def _carried(node: Node, target: Target) -> float:
    """Cycles of a carrier in blocks of channels."""
    if type(node.op) not in RULES:
        return 0.0
    blocks, pixels = -(-node.out.type.channels // target.lanes), prod(spatial(node.out.type))
    return blocks * pixels * (max(map(prod, _windows(node))) + 2 + finishing(_epilogue(node)))


def _as_planes(node: Node, target: Target) -> float:
    """Cycles of a maker or a carrier that makes planes."""
    if type(node.op) not in RULES:
        return 0.0
    if isinstance(node.op, MaxPool | AvgPool):
        return plane_tiles.cycles(target, pool_kernel(node, target.lanes))
    if isinstance(node.op, Conv | Affine | BatchNorm):
        _, kernels = plane_tiles.choose(target, plain_kernel(node, target.lanes), links(node))
        return sum(plane_tiles.cycles(target, k) for k in kernels)
    vectors = node.out.type.size / node.out.type.batch / target.lanes
    return vectors * (2 + finishing(_epilogue(node)))


def _epilogue(node: Node) -> tuple[Op, ...]:
    """The functions that follow a node's sums; of a function itself that one."""
    if isinstance(node.op, Conv | Affine):
        return node.op.epilogue
    return (node.op,) if isinstance(node.op, Activation | Unary) else ()

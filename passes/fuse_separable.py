"""Mark expand -> depthwise -> project (or a part of it) as a region that runs row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compactir.ir.graph import Graph, Node, Region, Value
from compactir.ops.conv import Conv
from compactir.ops.norm import Affine
from compactir.ops.pool import AvgPool, MaxPool
from compactir.passes._base import Pass, register
from compactir.passes._edit import Edit

_FLOAT = 4
_SMALL = 10
"""Below this width a row is too short to fill a tile: the whole map stays in cache anyway."""
_MOST = 8
"""Rows at a time, and in a ring: of more a first-level cache does not hold those of one block of channels."""


@register
@dataclass(frozen=True)
class FuseSeparable(Pass):
    """Let a depthwise convolution feed its pointwise convolution row by row, and be fed so where that pays.

        %a = conv(%x, @a.weight) {connect=dense(24->144, 1x1)}
        %b = conv(%a, @b.weight) {connect=depthwise(144, 3x3, pad 1)}
        %c = conv(%b, @c.weight) {connect=dense(144->24, 1x1)}
        ->  the same nodes, and
        region %a, %b, %c rows 4

    A chain starts at a window (a depthwise convolution or a pool). Its pointwise reader joins, so that the
    filtered rows never leave the cache; its producer joins, keeping a ring of rows, where its whole result
    would take more than half of the second-level cache (`cache` bytes), unless lowering is going to transform
    its 3×3 filters (`winograd`), which works on whole maps. An affine (pre-activation: DenseNet, CondenseNet)
    joins the pointwise convolution that reads it: scale, shift and ReLU of a few rows at a time.
    Values inside have one reader and are not returned.
    Every round makes up to 8 rows, a divisor of the map's height: the more, the fewer rounds read the
    pointwise weights again, and the more windows find their rows in the first-level cache. A producer's ring
    holds at most 8 rows as well; with strides windows have few in common, and rounds make one row. So they do
    where there is no second-level cache (`cache=0`): there memory counts.
    Needs: nothing. Keeps: every value, bit for bit; only the order of rows changes.
    Source: measured in benchmarks/LOG.md; the idea of row-wise fusion is Alwani et al. 2016, "Fused-layer
    CNN".
    """

    name: ClassVar[str] = "fuse-separable"
    cache: int = 1 << 20
    winograd: bool = False

    def run(self, graph: Graph) -> bool:
        """Mark the regions."""
        edit = Edit(graph)
        makers = graph.makers()
        taken = {name for region in graph.regions for name in region.values}
        found: list[Region] = []
        for node in graph.nodes:
            if not _is_window(node) or node.out.name in taken:
                continue
            chain = self._chain(edit, makers, node)
            if len(chain) > 1 and not taken & {n.out.name for n in chain}:
                found.append(Region(tuple(n.out.name for n in chain), self._rows(chain, node)))
                taken |= {n.out.name for n in chain}
                self.did(
                    node, f"runs row by row with {', '.join(f'`{n.name}`' for n in chain if n is not node)}"
                )
        graph.regions += found
        return bool(found)

    def _chain(self, edit: Edit, makers: dict[Value, Node], window: Node) -> list[Node]:
        """Producer, window, pointwise reader: those of the three that pay."""
        chain = [window]
        reader = edit.only_reader(window.out)
        if _width(window.out) < _SMALL:
            self.left(window, f"its map is {_width(window.out)} wide: the whole of it stays in the cache")
            return chain
        filters = isinstance(window.op, Conv | Affine)
        if reader and _is_pointwise(reader) and reader.args[0] is window.out and filters:
            chain.append(reader)
        if isinstance(window.op, Affine):
            return chain if len(chain) > 1 else []
        producer = makers.get(window.args[0])
        if (
            producer is None
            or not isinstance(producer.op, Conv)
            or edit.only_reader(producer.out) is not window
        ):
            return chain
        size = producer.out.type.size // producer.out.type.batch * _FLOAT
        if size <= self.cache // 2:
            self.left(producer, f"its {size} bytes fit into half of the {self.cache} bytes of cache")
        elif self.winograd and _is_filtered(producer.op):
            self.left(producer, "its 3×3 filters are transformed, on the whole map")
        elif producer.op.connect.is_depthwise or len(producer.op.epilogue) != _own(producer):
            self.left(producer, "it reads further whole maps")
        else:
            chain.insert(0, producer)
        return chain

    def _rows(self, chain: list[Node], window: Node) -> int:
        """Rows of the window's map that every round makes: a divisor of its height."""
        most = _MOST
        if not self.cache:
            most = 1
        elif isinstance(window.op, Affine):
            most = 2 if _width(window.out) < 2 * _SMALL else 1
        elif chain[0] is not window:
            most = 1 + _MOST - _reach(window) if window.op.stride == (1, 1) else 1  # type: ignore[attr-defined]
        height = window.out.type.shape[2]
        return max(rows for rows in range(1, max(most, 1) + 1) if height % rows == 0)


def _reach(window: Node) -> int:
    """Rows of input that one row of output sees."""
    op = window.op
    if isinstance(op, Conv):
        return max((f.kernel[0] - 1) * op.dilation[0] + 1 for f in op.connect.families)
    reach: int = op.kernel[0]  # type: ignore[attr-defined]  # a windowed pool
    return reach


def _is_window(node: Node) -> bool:
    op = node.op
    if isinstance(op, MaxPool | AvgPool | Affine):
        return True
    return isinstance(op, Conv) and op.connect.is_depthwise and op.connect.in_channels > 1


def _is_pointwise(node: Node) -> bool:
    op = node.op
    return (
        isinstance(op, Conv)
        and op.connect.is_identity_kernel
        and not op.connect.is_depthwise
        and op.stride == (1, 1)
        and op.dilation == (1, 1)
    )


def _is_filtered(op: Conv) -> bool:
    """Whether dense 3×3 filters are worth transforming: more of them than a vector or two."""
    plain = op.stride == op.dilation == (1, 1)
    return plain and any(f.kernel == (3, 3) and f.ins >= 8 and f.outs >= 16 for f in op.connect.families)


def _own(node: Node) -> int:
    """Epilogue operations that read nothing but the result."""
    assert isinstance(node.op, Conv)
    return sum(op.elementwise for op in node.op.epilogue)


def _width(value: Value) -> int:
    return value.type.shape[3] if value.type.rank == 4 else 1

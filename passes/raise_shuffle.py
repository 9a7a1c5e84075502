"""reshape(transpose(reshape(x))) -> shuffle(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compactir.ir.channels import ChannelList
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.ops.arrange import Gather, Shuffle, View
from compactir.ops.tensor import Reshape, Take, Transpose
from compactir.passes._base import Pass, register
from compactir.passes._edit import Edit

_MOVES = Reshape | Transpose | Take
_LARGEST = 1 << 25
"""Elements of a tensor at most whose way is followed: beyond that, looking would cost more than it saves."""


@register
@dataclass(frozen=True)
class RaiseShuffle(Pass):
    """Recognise a choice of channels that is spelled as operations on tensors of more axes.

        %a = reshape(%x) {shape=[1, 4, 2, 3, 3]}
        %b = transpose(%a) {order=[0, 2, 1, 3, 4]}      ->      %c = shuffle(%x) {groups=4}
        %c = reshape(%b) {shape=[1, 8, 3, 3]}

    Any chain of reshapes, transposes and takes counts whose effect is that output channel c is input channel
    s(c), whatever axes it goes through: numbers are sent along the chain to see where they come out. An order
    that is no shuffle becomes a gather (an identity vanishes). Operands between may have other readers: they
    stay for those. Needs: nothing. Keeps: every returned value, bit for bit.
    """

    name: ClassVar[str] = "raise-shuffle"

    def run(self, graph: Graph) -> bool:
        """Rewrite the graph."""
        edit = Edit(graph)
        for node in graph.nodes:  # in order: a slice of what was shuffled is a slice, not another order
            if isinstance(node.op, _MOVES) and not edit.gone(node):
                self._raise(edit, node)
        return edit.finish()

    def _raise(self, edit: Edit, last: Node) -> None:
        chain = _chain(edit, last)
        for start in range(len(chain) - 1):  # at least two operations, the longest chain first
            x = chain[start].args[0]
            sources = _sources(x, chain[start:])
            if sources is None:
                continue
            self.did(last, f"{len(chain) - start} operations choose channels of {x}")
            if np.array_equal(sources, np.arange(x.type.channels)):
                edit.forward(last.out, x)
                edit.sweep(chain[start:])
                return
            edit.rewrite(last, _choice(sources, x.type.channels), [x], [])
            edit.sweep(chain[start:-1])
            return


def _chain(edit: Edit, last: Node) -> list[Node]:
    """The moves that end in this one, first to last."""
    chain = [last]
    while (maker := edit.makers.get(chain[0].args[0])) and isinstance(maker.op, _MOVES):
        chain.insert(0, maker)
    return chain


def _sources(x: Value, chain: list[Node]) -> Array | None:
    """The source of every channel at the end of the chain; None where more happens than a choice of them."""
    y = chain[-1].out
    if x.type.rank not in (2, 4) or y.type.rank != x.type.rank or x.type.size > _LARGEST:
        return None
    if (x.type.batch, x.type.spatial) != (y.type.batch, y.type.spatial):
        return None
    where: Array = np.arange(x.type.size).reshape(x.type.shape)
    for node in chain:
        where = node.op.reference(where)
    channel = np.arange(x.type.size).reshape(x.type.shape)
    first = where.reshape(*y.type.shape[:2], -1)[0, :, 0]
    sources = first // int(np.prod(x.type.spatial, dtype=np.int64))
    return sources if np.array_equal(where, channel[:, sources % x.type.channels]) else None


def _choice(sources: Array, channels: int) -> View:
    """A shuffle where the order is one."""
    if len(sources) == channels and channels > 1:
        step = int(sources[1]) - int(sources[0])
        if step > 1 and channels % step == 0:
            shuffle = Shuffle(channels // step)
            if np.array_equal(shuffle.sources(channels).array, sources):
                return shuffle
    return Gather(ChannelList.of(sources))

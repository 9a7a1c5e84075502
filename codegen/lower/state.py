"""The state of a lowering: where every value lies so far, the buffers, the steps, the packed weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compactir.codegen.lower.pack import Packer
from compactir.codegen.lower.tiles import Choices
from compactir.diagnostics import CompactError
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.op import Op
from compactir.ir.plan import Buffer, Call, Copy, Step, Tensor
from compactir.ir.types import Array, TensorType
from compactir.passes import Decision
from compactir.targets import Target

Rows = list[list[int]]
"""For every physical block the logical channel in each lane, −1 where the lane is dead."""


_SHOWN = ("flatten", "as_sequence")
"""Operations whose result is the operand's elements in the same order, where planes or 1×1 maps lie."""

Block = tuple[str, int]
"""A buffer and the number of a block in it."""


@dataclass(frozen=True)
class Geometry:
    """Where pixels of a value lie: the same for all its channels."""

    size: tuple[int, int]
    row: int
    pixel: int


class Lowering:
    """What the rules of `codegen/lower` read and extend, one node after the other."""

    def __init__(self, graph: Graph, target: Target, choices: Choices | None = None) -> None:
        self.graph = graph
        self.target = target
        self.choices = choices or Choices()
        self.lanes = target.lanes
        self.batch = 1
        """How many images a call makes, one after the other: the first extent of every value."""
        self.maps: dict[Value, ChannelMap] = {}
        self.buffers: dict[str, Buffer] = {}
        self.steps: list[Step] = []
        self.packer = Packer()
        self.decisions: list[Decision] = []
        self.fused: set[str] = set()
        """Names of the values that fused regions make."""
        self.held: dict[Value, int] = {}
        """Rows kept of the values inside fused regions."""
        self.users = graph.users()
        self._blocked: dict[Value, ChannelMap] = {}

    # -- buffers ---------------------------------------------------------------------------------------------

    def buffer(
        self, stem: str, size: tuple[int, int], blocks: int, region: str = "arena", lanes: int = 0
    ) -> Buffer:
        """A new buffer named after what it holds."""
        name, n = stem, 1
        while name in self.buffers:
            n += 1
            name = f"{stem}~{n}"
        self.buffers[name] = Buffer(name, region, lanes or self.lanes, *size, blocks)
        return self.buffers[name]

    def result(self, value: Value, rows: Rows, direct: bool = False) -> tuple[Buffer, ChannelMap]:
        """A buffer for a value whose lanes carry these channels, and its map (recorded).

        `direct`: the kernel can end inside a vector, so that it may write into the caller's own memory.
        """
        region = self._output_region(value, rows) if direct else "arena"
        height, width = spatial(value.type)
        buffer = self.buffer(value.name, (self.held.get(value, height), width), len(rows), region)
        places = [("", 0)] * value.type.channels
        for block, lanes in enumerate(rows):
            for lane, channel in enumerate(lanes):
                if channel >= 0:
                    places[channel] = (buffer.name, block * self.lanes + lane)
        self.maps[value] = ChannelMap.of(places)
        return buffer, self.maps[value]

    def planes(self, value: Value) -> tuple[Buffer, ChannelMap]:
        """A buffer for a value as planes, one channel each, and its map (recorded)."""
        channels = value.type.channels
        region = self._output_region(value, [[c] for c in range(channels)], planes=True)
        buffer = self.buffer(value.name, spatial(value.type), channels, region, lanes=1)
        self.maps[value] = ChannelMap.whole(buffer.name, channels)
        return buffer, self.maps[value]

    def _output_region(self, value: Value, rows: Rows, planes: bool = False) -> str:
        """The caller's own memory where the value lies as the caller wants it, and nothing else reads it."""
        names = [name for name, out in self.graph.outputs.items() if self._shown_as(value, out)]
        plain = [c for lanes in rows for c in lanes if c >= 0] == list(range(value.type.channels))
        full = all(min(lanes) >= 0 for lanes in rows[:-1])
        only = len(names) == 1 and not self._real_users(value)
        dense = planes or spatial(value.type) == (1, 1)
        return f"output:{names[0]}" if only and plain and full and dense else "arena"

    def _shown_as(self, value: Value, out: Value) -> bool:
        """Whether `out` is this value, its flattened 1×1 map or its row."""
        if out is value:
            return True
        return any(n.out is out and n.op.name in _SHOWN for n in self.users.get(value, []))

    def _real_users(self, value: Value) -> list[Node]:
        users = []
        for node in self.users.get(value, []):
            users += self.users.get(node.out, []) if node.op.name in _SHOWN else [node]
        return users

    def geometry(self, m: ChannelMap) -> Geometry | None:
        """The common geometry of all pieces, None where they differ."""
        found = {
            (b.region if b.region != "arena" else "", Geometry((b.height, b.width), b.row, b.pixel))
            for b in (self.buffers[name] for name in m.buffers)
        }
        return found.pop()[1] if len(found) == 1 else None

    # -- maps ------------------------------------------------------------------------------------------------

    def map(self, value: Value) -> ChannelMap:
        """Where a value lies."""
        return self.maps[value]

    def blocked(self, value: Value) -> ChannelMap:
        """Where a value lies in blocks of the target's lanes: the caller's tensors are brought in once."""
        m = self.maps[value]
        if all(self.buffers[name].lanes == self.lanes for name in m.buffers):
            return m
        if value not in self._blocked:
            given = all(self.buffers[name].region.startswith("input:") for name in m.buffers)
            rows = natural(len(m), self.lanes)
            self._blocked[value] = self.copied(value, rows, "import", conversion=given)
        return self._blocked[value]

    def copied(self, value: Value, rows: Rows, why: str, conversion: bool = False) -> ChannelMap:
        """The value once more, with these channels in its lanes: an honest copy, counted as one."""
        m = self.maps[value]
        source = self.buffers[m.buffers[0]]
        buffer = self.buffer(f"{value.name}.{why}", spatial(value.type), len(rows))
        channels = [
            (c, b * self.lanes + lane)
            for b, lanes in enumerate(rows)
            for lane, c in enumerate(lanes)
            if c >= 0
        ]
        y = ChannelMap.of((buffer.name, position) for _, position in channels)
        x = m.take(np.array([c for c, _ in channels], np.int64))
        pixels = buffer.height * buffer.width
        kernel = Copy(pixels, len(channels), source.pixel, buffer.pixel)
        count = pixels * len(channels)
        call = Call(kernel, self.elements(x), self.elements(y))
        self.steps.append(
            Step(
                f"{value.name}.{why}",
                why,
                (call,),
                read=count,
                written=count,
                copied=count,
                conversion=conversion,
            )
        )
        places = dict(zip((c for c, _ in channels), y.places, strict=True))
        return ChannelMap.of(places[c] for c in range(len(m)))

    def layers(self, m: ChannelMap) -> tuple[list[Block], Rows]:
        """The blocks a map lies in, and which logical channel each of their lanes carries.

        A block is listed once more for every further channel that shares a lane: a gather repeats channels.
        """
        blocks: list[Block] = []
        rows: Rows = []
        listed: dict[Block, list[int]] = {}
        for channel, (buffer, position) in enumerate(m.places):
            block, lane = (buffer, position // self.lanes), position % self.lanes
            free = next((i for i in listed.get(block, []) if rows[i][lane] < 0), None)
            if free is None:
                free = len(blocks)
                listed.setdefault(block, []).append(free)
                blocks.append(block)
                rows.append([-1] * self.lanes)
            rows[free][lane] = channel
        return blocks, rows

    def rows(self, m: ChannelMap) -> Rows | None:
        """Which logical channel lies in which lane of a map's blocks; None where two share a lane."""
        blocks, rows = self.layers(m)
        return rows if len(set(blocks)) == len(blocks) else None

    def aligned(self, value: Value, rows: Rows) -> ChannelMap:
        """The value's map with exactly these lanes per block, by a copy where it lies otherwise."""
        m = self.blocked(value)
        if self.rows(m) == rows:
            return m
        return self.copied(value, rows, "align")

    def elements(self, m: ChannelMap) -> ChannelMap:
        """Lanes as element offsets within their buffers."""
        return ChannelMap.of(
            (buffer, self.buffers[buffer].element(position)) for buffer, position in m.places
        )

    def starts(self, blocks: Sequence[Block]) -> ChannelMap:
        """The element offset of every block."""
        return ChannelMap.of((buffer, block * self.buffers[buffer].block) for buffer, block in blocks)

    # -- steps -----------------------------------------------------------------------------------------------

    def step(
        self,
        node: Node,
        calls: Sequence[Call],
        *,
        executed: int = 0,
        reads: Sequence[Value] = (),
        **more: object,
    ) -> None:
        """Record what a node runs; reads are counted in elements of live channels, weights included."""
        parameters = sum(a.type.size for a in node.params)
        one = self.batch
        step = Step(
            node.name,
            node.op.name,
            tuple(calls),
            macs=node.macs // one,
            executed=executed,
            read=sum(v.type.size for v in reads or node.values) // one + parameters,
            written=node.out.type.size // one,
            where=str(node.span) if node.span else "",
        )
        self.steps.append(replace(step, **more))  # type: ignore[arg-type]  # fields of Step

    def weight(self, value: Value) -> Array:
        """The bound array of a parameter."""
        if not isinstance(value, Param) or value.name not in self.graph.weights:
            raise CompactError(
                "CIR601",
                f"`{self.graph.name}` has no weights for {value.name}",
                help="bind or draw them first",
            )
        return self.graph.weights[value.name]


Rule = Callable[[Lowering, Node], None]
RULES: dict[type[Op], Rule] = {}


def lowers(*ops: type[Op]) -> Callable[[Rule], Rule]:
    """Register the rule that lowers these operations."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


def spatial(type: TensorType) -> tuple[int, int]:
    """(H, W); a feature vector is a 1×1 map, a sequence a map of one row."""
    height, width = (1, 1, *type.spatial)[-2:]
    return height, width


def natural(channels: int, lanes: int) -> Rows:
    """Channels in order, the last block filled up with dead lanes."""
    padded = list(range(channels)) + [-1] * (-channels % lanes)
    return [padded[i : i + lanes] for i in range(0, len(padded), lanes)]


def tensor(name: str, type: TensorType) -> Tensor:
    """A network's input or output as the plan lists it."""
    return Tensor(name, type.shape)

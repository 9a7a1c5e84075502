"""Where the logical channels of a value physically lie: concat, split, shuffle are edits of these lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compactir.ir.channels import ChannelList, Indices


@dataclass(frozen=True)
class Piece:
    """Consecutive logical channels that lie in one buffer, at these positions."""

    buffer: str
    positions: ChannelList


@dataclass(frozen=True)
class ChannelMap:
    """Logical channel -> (buffer, position).

    For values a position is a physical lane: lane l of block b in a layout of v lanes is b·v + l. In a
    kernel's address tables it is an offset in elements from the start of the buffer.
    """

    pieces: tuple[Piece, ...]

    @classmethod
    def whole(cls, buffer: str, channels: int) -> ChannelMap:
        """Channels 0, 1, … at positions 0, 1, … of one buffer."""
        return cls((Piece(buffer, ChannelList.span(0, channels)),))

    @classmethod
    def of(cls, places: Iterable[tuple[str, int]]) -> ChannelMap:
        """From a list of places; neighbours in one buffer share a piece."""
        pieces: list[tuple[str, list[int]]] = []
        for buffer, position in places:
            if pieces and pieces[-1][0] == buffer:
                pieces[-1][1].append(position)
            else:
                pieces.append((buffer, [position]))
        return cls(tuple(Piece(buffer, ChannelList.of(positions)) for buffer, positions in pieces))

    @classmethod
    def joined(cls, maps: Sequence[ChannelMap]) -> ChannelMap:
        """The concat of values."""
        return cls.of(place for m in maps for place in m.places)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(len(p.positions) for p in self.pieces)

    @cached_property
    def places(self) -> tuple[tuple[str, int], ...]:
        """All places in logical order."""
        return tuple((p.buffer, position) for p in self.pieces for position in p.positions)

    @property
    def buffers(self) -> tuple[str, ...]:
        """The buffers it touches, in order of first use."""
        return tuple(dict.fromkeys(p.buffer for p in self.pieces))

    def take(self, channels: ChannelList | Indices) -> ChannelMap:
        """The map of a view whose channel c is channel `channels[c]` of this one."""
        places = self.places
        return ChannelMap.of(
            places[c] for c in (channels if isinstance(channels, ChannelList) else channels.tolist())
        )

    def blocks(self, lanes: int) -> list[tuple[str, int]]:
        """The (buffer, block) pairs that hold live lanes, in order of first use."""
        return list(dict.fromkeys((buffer, position // lanes) for buffer, position in self.places))

    def moved(self, targets: dict[tuple[str, int], tuple[str, int]], lanes: int) -> ChannelMap:
        """The same lanes of other blocks: where a step that keeps lanes leaves its result."""

        def target(buffer: str, position: int) -> tuple[str, int]:
            other, block = targets[buffer, position // lanes]
            return other, block * lanes + position % lanes

        return ChannelMap.of(target(*place) for place in self.places)

    def offsets(self, bases: dict[str, int]) -> Indices:
        """Positions as one array, each shifted by where its buffer starts."""
        if not self.pieces:
            return np.empty(0, np.int64)
        return np.concatenate([bases[p.buffer] + p.positions.array for p in self.pieces])

    def __str__(self) -> str:
        return " ".join(f"{p.buffer}[{p.positions}]" for p in self.pieces)

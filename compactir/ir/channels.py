"""Lists of channels, kept as runs so that a range of a thousand costs what a range of two costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from compactir.diagnostics import CompactError

Indices = npt.NDArray[np.int64]
# At most seven digits: no text may ask for more channels than memory holds.
_RUN = re.compile(r"(\d{1,7})(?:\.\.(\d{1,7})(?::(-?\d{1,7}))?|\*(\d{1,7}))?")


@dataclass(frozen=True)
class Run:
    """`count` channels from `start` in steps of `step` (0 repeats one channel)."""

    start: int
    count: int
    step: int = 1

    def __str__(self) -> str:
        if self.count == 1:
            return str(self.start)
        if self.count == 2 and self.step != 1:
            return f"{self.start},{self.start + self.step}"
        if self.step == 0:
            return f"{self.start}*{self.count}"
        # An exclusive bound below zero cannot be written, so a descending run names its last channel itself.
        stop = self.start + self.step * (self.count - 1) + (1 if self.step > 0 else 0)
        return f"{self.start}..{stop}" + ("" if self.step == 1 else f":{self.step}")


@dataclass(frozen=True)
class ChannelList:
    """An ordered list of channels as the shortest greedy sequence of runs; equal lists are equal objects.

    Text: `0..58` (half open), `1..116:2` (strided; a descending run includes its bound, `3..0:-1` is 3 2 1
    0), `5*3` (repeated), `7`, joined by commas.
    """

    runs: tuple[Run, ...]

    @classmethod
    def range(cls, start: int, stop: int, step: int = 1) -> ChannelList:
        """The channels of `range(start, stop, step)`."""
        return cls.of(np.arange(start, stop, step)) if step != 1 else cls.span(start, max(0, stop - start))

    @classmethod
    def span(cls, start: int, count: int) -> ChannelList:
        """`count` consecutive channels."""
        return cls((Run(start, count),) if count else ())

    @classmethod
    def of(cls, channels: Iterable[int] | Indices) -> ChannelList:
        """Compress any sequence of non-negative channel numbers."""
        values = np.asarray(channels if isinstance(channels, np.ndarray) else list(channels), dtype=np.int64)
        if values.size and values.min() < 0:
            raise CompactError("CIR302", f"channel {int(values.min())} is negative")
        return _compressed(values.tobytes())

    @classmethod
    def joined(cls, lists: Iterable[ChannelList]) -> ChannelList:
        """One list after the other."""
        given = list(lists)
        if len(given) == 1:
            return given[0]
        arrays = [each.array for each in given]
        return cls.of(np.concatenate(arrays) if arrays else ())

    @classmethod
    def parse(cls, text: str) -> ChannelList:
        """Read back what `str` wrote."""
        parts: list[Indices] = []
        for part in filter(None, (p.strip() for p in text.split(","))):
            match = _RUN.fullmatch(part)
            if not match:
                raise CompactError(
                    "CIR301",
                    f"`{part}` is not a run of channels",
                    help="write `4`, `0..8`, `1..9:2` or `5*3`",
                )
            start, stop, step, times = (
                int(g or default) for g, default in zip(match.groups(), "0011", strict=True)
            )
            if step == 0:
                raise CompactError(
                    "CIR301", f"the run `{part}` has step 0", help="write a repeated channel as `5*3`"
                )
            if match[2] is None:
                parts.append(np.full(times, start, np.int64))
            else:
                parts.append(np.arange(start, stop if step > 0 else stop - 1, step, dtype=np.int64))
        return cls.of(np.concatenate(parts) if parts else ())

    def __str__(self) -> str:
        return ",".join(map(str, self.runs))

    @cached_property
    def array(self) -> Indices:
        """All channels in order, (n,) int64."""
        if not self.runs:
            return np.empty(0, np.int64)
        return np.concatenate([r.start + r.step * np.arange(r.count, dtype=np.int64) for r in self.runs])

    def __len__(self) -> int:
        return sum(run.count for run in self.runs)

    def __iter__(self) -> Iterator[int]:
        return iter(self.array.tolist())

    def __getitem__(self, index: int) -> int:
        return int(self.array[index])

    @property
    def top(self) -> int:
        """The highest channel, −1 for an empty list."""
        return max((max(r.start, r.start + r.step * (r.count - 1)) for r in self.runs), default=-1)

    @property
    def is_plain_range(self) -> bool:
        """True for consecutive ascending channels (or none)."""
        return not self.runs or (len(self.runs) == 1 and self.runs[0].step == 1)

    @property
    def is_distinct(self) -> bool:
        """True where no channel occurs twice."""
        return self.is_plain_range or len(np.unique(self.array)) == len(self)

    def is_identity(self, channels: int) -> bool:
        """True when this is 0, 1, … channels − 1."""
        return self == ChannelList.span(0, channels)

    def take(self, positions: Sequence[int] | Indices | ChannelList) -> ChannelList:
        """The channels at these positions: `self[positions[0]], self[positions[1]], …`."""
        index = (
            positions.array if isinstance(positions, ChannelList) else np.asarray(positions, dtype=np.int64)
        )
        return ChannelList.of(self.array[index])

    def slices(self, count: int) -> list[ChannelList]:
        """Cut into `count` consecutive equal parts."""
        return [ChannelList.of(part) for part in self.array.reshape(count, -1)]


@lru_cache(maxsize=4096)  # networks repeat their blocks: the same lists come again and again
def _compressed(data: bytes) -> ChannelList:
    values = np.frombuffer(data, np.int64)
    runs: list[Run] = []
    steps = np.diff(values)
    turns = [*(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]  # where another step begins
    turn = at = 0
    while at < len(values):
        if at + 1 == len(values):
            runs.append(Run(int(values[at]), 1))
            break
        while turns[turn] <= at:
            turn += 1
        count = turns[turn] - at + 1
        # A run of two that is not a plain step steals the start of the next run: one channel by itself.
        if count == 2 and steps[at] != 1 and at + 2 < len(values):
            count = 1
        runs.append(Run(int(values[at]), count, int(steps[at]) if count > 1 else 1))
        at += count
    result = ChannelList(tuple(runs))
    result.__dict__["array"] = values  # read-only, as every caller has to treat it
    return result


def shuffle(channels: int, groups: int) -> ChannelList:
    """The sources of a channel shuffle: output c reads (c mod g)·n + ⌊c/g⌋ with n = channels / groups.

    Errors: CIR203 when the groups do not divide the channels.
    Source: Zhang et al. 2018 (ShuffleNet), arXiv:1707.01083, figure 1: reshape (g, n), transpose, flatten.
    """
    if groups < 1 or channels % groups:
        raise CompactError(
            "CIR203",
            f"{channels} channels do not split into {groups} groups",
            help=f"groups that divide {channels} are {' '.join(map(str, divisors(channels)))}",
        )
    return ChannelList.of(np.arange(channels).reshape(groups, channels // groups).T.reshape(-1))


def inverse(permutation: ChannelList) -> ChannelList:
    """The permutation that undoes this one."""
    return ChannelList.of(np.argsort(permutation.array, kind="stable"))


def is_permutation(channels: ChannelList) -> bool:
    """True when every channel 0 … n − 1 occurs once."""
    return bool(np.array_equal(np.sort(channels.array), np.arange(len(channels))))


def divisors(n: int) -> list[int]:
    """All divisors, ascending."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})

"""Operations that only say which channel is which: none of them computes, and none should move a byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import prod
from typing import ClassVar

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList, is_permutation
from compactir.ir.channels import shuffle as shuffled
from compactir.ir.op import Op, Sample, need_map, register, spelling
from compactir.ir.types import Array, TensorType
from compactir.ops.conv import Size, pair, shares


class View(Op):
    """Base of operations whose output channel c is input channel `sources(C)[c]`, untouched."""

    def sources(self, channels: int) -> ChannelList:
        """The source of every output channel, for an input of so many channels."""
        raise TypeError(f"{type(self).__name__} does not declare its sources")

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        if x.rank not in (2, 3, 4):
            raise CompactError("CIR205", f"`{self.name}` needs channels, its operand is {x}")
        return x.with_channels(len(self.sources(x.channels)))

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x[:, self.sources(x.shape[1]).array]


@register
@dataclass(frozen=True)
class Shuffle(View):
    """Channel shuffle: reshape (g, n), transpose, flatten.

    Shapes: x (N, C, H, W) -> as x; output c reads (c mod g)·n + ⌊c / g⌋ with n = C / g.
    Cost:   none: folded into the weights or the address tables of its neighbours.
    Errors: CIR203 when the groups do not divide the channels.
    Source: Zhang et al. 2018 (ShuffleNet), arXiv:1707.01083.
    """

    name: ClassVar[str] = "shuffle"
    groups: int

    def sources(self, channels: int) -> ChannelList:
        """(c mod g)·n + ⌊c / g⌋."""
        return shuffled(channels, self.groups)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Two and three groups, the identity, one channel per group."""
        return [Sample(cls(g), ((1, c, 2, 3),)) for g, c in [(2, 8), (3, 24), (1, 5), (7, 7), (4, 40)]]


@register
@dataclass(frozen=True)
class Gather(View):
    """Pick channels: permute, repeat, drop. `slice` and `permute` are spellings of it.

    Shapes: x (N, C, H, W) -> (N, len(channels), H, W); output c reads channels[c].
    Cost:   none.
    Errors: CIR209 when a channel does not exist.
    Source: CondenseNet's index layer, Huang et al. 2018, arXiv:1711.09224.
    """

    name: ClassVar[str] = "gather"
    channels: ChannelList

    def sources(self, channels: int) -> ChannelList:
        """The list itself."""
        if len(self.channels) == 0:
            raise CompactError("CIR209", "a list of channels must not be empty")
        if (top := int(self.channels.array.max())) >= channels:
            raise CompactError(
                "CIR209",
                f"channel {top} does not exist, there are {channels}",
                help=f"channels are 0 to {channels - 1}",
            )
        return self.channels

    @property
    def label(self) -> str:
        """`slice` for a range, `permute` for a permutation."""
        if self.channels.is_plain_range:
            return "slice"
        return "permute" if is_permutation(self.channels) else "gather"

    @classmethod
    def samples(cls) -> list[Sample]:
        """A slice, a permutation, repeats; of a sequence."""
        lists = [range(2, 5), [4, 0, 3, 1, 2], [1, 1, 0, 4, 4, 4], range(0, 5, 2)]
        maps = [Sample(cls(ChannelList.of(c)), ((1, 5, 3, 2),)) for c in lists]
        return [*maps, Sample(cls(ChannelList.of([3, 0, 3])), ((2, 5, 7),))]


@register
@dataclass(frozen=True)
class Concat(Op):
    """Put channels one after the other.

    Shapes: values (N, C_i, H, W) -> (N, Σ C_i, H, W).
    Cost:   none.
    Errors: CIR210 when the sizes of the maps differ.
    Source: none needed.
    """

    name: ClassVar[str] = "concat"

    def infer(self, *xs: TensorType) -> TensorType:
        """The type rule."""
        if not xs:
            raise CompactError("CIR210", "`concat` needs at least one operand")
        first = xs[0]
        for i, x in enumerate(xs):
            if (x.rank, x.batch, x.spatial) != (first.rank, first.batch, first.spatial):
                raise CompactError(
                    "CIR210",
                    f"`concat` cannot join {first} and {x}",
                    notes=[f"operand {i} has maps of {_size(x)}, operand 0 of {_size(first)}"],
                    help="give the branches the same stride and padding",
                )
        return first.with_channels(sum(x.channels for x in xs))

    def reference(self, *xs: Array) -> Array:
        """The meaning."""
        return np.concatenate(xs, axis=1)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Two, three, one operand; maps and vectors."""
        return [
            Sample(cls(), ((1, 3, 2, 2), (1, 20, 2, 2))),
            Sample(cls(), ((2, 1, 3, 3), (2, 2, 3, 3), (2, 17, 3, 3))),
            Sample(cls(), ((1, 5, 1, 1),)),
            Sample(cls(), ((1, 5), (1, 4))),
        ]


@register
@dataclass(frozen=True)
class Flatten(Op):
    """Make a feature vector of a map: element (c, y, x) becomes feature c·H·W + y·W + x.

    Shapes: x (N, C, H, W) -> (N, C·H·W); x (N, C, L) -> (N, C·L).
    Cost:   none.
    Errors: none.
    Source: none needed.
    """

    name: ClassVar[str] = "flatten"

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        return x.with_shape(x.batch, prod(x.shape[1:]))

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x.reshape(x.shape[0], -1)

    @classmethod
    def samples(cls) -> list[Sample]:
        """Maps of several sizes, a vector, a sequence."""
        return [
            Sample(cls(), (shape,))
            for shape in [(1, 5, 2, 3), (2, 18, 1, 1), (1, 7), (2, 3, 4, 4), (2, 5, 3)]
        ]


@register
@dataclass(frozen=True)
class AsMap(Op):
    """Make a map of what is none: of a feature vector, 1×1 or of another size, or of a sequence, one row.

    Feature c·H·W + y·W + x of a vector becomes element (c, y, x), as `flatten` has it.

    Shapes: x (N, F) -> (N, F / (H·W), H, W) with (H, W) = size; x (N, C, L) -> (N, C, 1, L).
    Cost:   none of 1×1 and of one row.
    Errors: CIR205 when the operand is a map already, or does not divide into maps of that size.
    Source: none needed.
    """

    name: ClassVar[str] = "as_map"
    size: tuple[int, int] = (1, 1)

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        if x.rank == 3 and self.size == (1, 1):
            return x.with_shape(*x.shape[:2], 1, x.shape[2])
        if x.rank != 2:
            raise CompactError(
                "CIR205", f"`as_map` needs a vector (N, F) or a sequence (N, C, L), its operand is {x}"
            )
        pixels = prod(self.size)
        if min(self.size) < 1 or x.channels % pixels:
            raise CompactError(
                "CIR205", f"{x.channels} features do not divide into maps of {'x'.join(map(str, self.size))}"
            )
        return x.with_shape(x.batch, x.channels // pixels, *self.size)

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x.reshape(self.infer(TensorType.f32(*x.shape)).shape)

    @classmethod
    def samples(cls) -> list[Sample]:
        """One vector, a batch, larger maps; sequences."""
        plain = [Sample(cls(), (shape,)) for shape in [(1, 7), (3, 20), (1, 5, 7), (2, 17, 1)]]
        sized = [((1, 9), (1, 9)), ((2, 3), (2, 18)), ((2, 1), (1, 40))]
        return [*plain, *(Sample(cls(size), (shape,)) for size, shape in sized)]


@register
@dataclass(frozen=True)
class AsSequence(Op):
    """Make a sequence of a map of one row: how a one-dimensional network returns one.

    Shapes: x (N, C, 1, L) -> (N, C, L).
    Cost:   none.
    Errors: CIR205 when the operand is no map of one row.
    Source: none needed.
    """

    name: ClassVar[str] = "as_sequence"

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        if x.rank != 4 or x.shape[2] != 1:
            raise CompactError(
                "CIR205", f"`as_sequence` needs a map of one row (N, C, 1, L), its operand is {x}"
            )
        return x.with_shape(x.batch, x.channels, x.shape[3])

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x[:, :, 0]

    @classmethod
    def samples(cls) -> list[Sample]:
        """Several columns, one."""
        return [Sample(cls(), (shape,)) for shape in [(1, 5, 1, 7), (2, 18, 1, 1)]]


class Transparent(Op):
    """Base of operations that do nothing at inference."""

    elementwise: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        """The type rule."""
        return x

    def reference(self, x: Array) -> Array:
        """The meaning."""
        return x

    @classmethod
    def samples(cls) -> list[Sample]:
        """A map and a vector."""
        return [Sample(cls(), ((1, 3, 2, 2),)), Sample(cls(), ((2, 5),))]


@register
@dataclass(frozen=True)
class Dropout(Transparent):
    """Nothing at inference; the emitted PyTorch module drops with probability `p` in training.

    Source: Srivastava et al. 2014.
    """

    name: ClassVar[str] = "dropout"
    p: float = 0.5


@register
@dataclass(frozen=True)
class Identity(Transparent):
    """The value itself."""

    name: ClassVar[str] = "identity"


def _size(x: TensorType) -> str:
    return "x".join(map(str, x.spatial)) or "1x1"


@spelling
def shuffle(x: TensorType, groups: int) -> Shuffle:
    """Channel shuffle with `groups` groups."""
    op = Shuffle(groups)
    need_map(op, x)
    op.sources(x.channels)
    return op


@spelling
def permute(x: TensorType, order: list[int]) -> Gather:
    """Reorder the channels: output c is input order[c]; every channel once."""
    channels = _channels(order)
    if not is_permutation(channels) or len(channels) != x.channels:
        raise CompactError(
            "CIR209",
            f"`permute` must name each of the {x.channels} channels once",
            help="`gather` may repeat and drop",
        )
    return Gather(channels)


@spelling
def gather(x: TensorType, channels: list[int]) -> Gather:
    """Pick channels in any order; they may repeat and be left out."""
    op = Gather(_channels(channels))
    op.sources(x.channels)
    return op


@spelling
def slice_(x: TensorType, start: int, stop: int) -> Gather:
    """Channels start … stop − 1."""
    if not 0 <= start < stop <= x.channels:
        raise CompactError("CIR209", f"channels {start}..{stop} are not within the {x.channels} channels")
    return Gather(ChannelList.range(start, stop))


@spelling
def split(x: TensorType, sizes: list[Fraction | int]) -> list[Gather]:
    """Cut the channels into consecutive parts, by counts or by fractions that sum to 1."""
    counts = shares(x.channels, sizes, "input")
    if min(counts, default=0) < 1:
        raise CompactError("CIR209", "every part of a `split` must have at least one channel")
    starts = np.cumsum([0, *counts]).tolist()
    return [Gather(ChannelList.range(a, b)) for a, b in pairwise(starts)]


@spelling
def concat(*xs: TensorType) -> Concat:
    """Put channels one after the other."""
    return Concat()


@spelling
def flatten(x: TensorType) -> Flatten:
    """Make a feature vector of a map."""
    return Flatten()


@spelling
def as_map(x: TensorType, size: Size = 1) -> AsMap:
    """Make a map of one row of a sequence, maps of a size (by default 1×1) of a vector."""
    return AsMap(pair(size, "size"))


@spelling
def as_sequence(x: TensorType) -> AsSequence:
    """Make a sequence of a map of one row."""
    return AsSequence()


@spelling
def dropout(x: TensorType, p: float = 0.5) -> Dropout:
    """Nothing at inference; drops with probability p in training."""
    if not 0 <= p < 1:
        raise CompactError("CIR208", f"`p` must be at least 0 and below 1, it is {p}")
    return Dropout(p)


@spelling
def identity(x: TensorType) -> Identity:
    """The value itself."""
    return Identity()


def _channels(numbers: Sequence[int]) -> ChannelList:
    if not numbers or min(numbers) < 0:
        raise CompactError("CIR209", "a list of channels needs numbers from 0 on")
    return ChannelList.of(numbers)

"""The one idea: a convolution is a set of dense blocks over lists of channels.

A `Connectivity` holds *families* of equal blocks, so that 960 depthwise filters are one object. Everything
that the compact-network papers do to a convolution (groups, shuffles, tables, masks, mixed kernels, pruning)
is a rewrite of these lists; nothing here touches a tensor except `to_dense` and `from_dense`, which define
what the lists mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from compactir.diagnostics import CompactError
from compactir.ir.channels import ChannelList, divisors
from compactir.ir.types import Array

Kernel = tuple[int, int]
Pad = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class Block:
    """One dense block: every output channel reads every input channel through one kernel."""

    inputs: ChannelList
    outputs: ChannelList
    kernel: Kernel
    pad: Pad


@dataclass(frozen=True)
class Family:
    """`count` blocks of equal shape; block b owns the b-th equal slice of both lists.

    Its weight is one array (count · outs, ins, kh, kw), rows in the order of `outputs`: PyTorch's layout of a
    group convolution.
    """

    count: int
    inputs: ChannelList
    outputs: ChannelList
    kernel: Kernel
    pad: Pad = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if self.count < 1 or len(self.inputs) % self.count or len(self.outputs) % self.count:
            raise CompactError(
                "CIR303",
                f"{self.count} equal blocks cannot share {len(self.inputs)} inputs and {len(self.outputs)} outputs",
            )

    @property
    def ins(self) -> int:
        """Input channels of one block."""
        return len(self.inputs) // self.count

    @property
    def outs(self) -> int:
        """Output channels of one block."""
        return len(self.outputs) // self.count

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(count · outs, ins, kh, kw)."""
        return (len(self.outputs), self.ins, *self.kernel)

    def blocks(self) -> Iterator[Block]:
        """The blocks one by one."""
        for inputs, outputs in zip(
            self.inputs.slices(self.count), self.outputs.slices(self.count), strict=True
        ):
            yield Block(inputs, outputs, self.kernel, self.pad)


@dataclass(frozen=True)
class Connectivity:
    """Which output channel reads which input channels, and through which kernel.

    Output channels are produced by at most one block; one that no block produces is its bias alone. Input
    lists may overlap, repeat, drop channels and be empty.
    """

    in_channels: int
    out_channels: int
    families: tuple[Family, ...]

    def __post_init__(self) -> None:
        produced = (
            np.concatenate([f.outputs.array for f in self.families])
            if self.families
            else np.empty(0, np.int64)
        )
        read = (
            np.concatenate([f.inputs.array for f in self.families])
            if self.families
            else np.empty(0, np.int64)
        )
        for name, channels, limit in (
            ("input", read, self.in_channels),
            ("output", produced, self.out_channels),
        ):
            if channels.size and channels.max() >= limit:
                raise CompactError(
                    "CIR303", f"{name} channel {int(channels.max())} does not exist, there are {limit}"
                )
        if len(np.unique(produced)) != len(produced):
            twice = int(np.flatnonzero(np.bincount(produced) > 1)[0])
            raise CompactError("CIR303", f"output channel {twice} is produced by two blocks")

    # -- spellings -------------------------------------------------------------------------------------------

    @classmethod
    def dense(cls, ins: int, outs: int, kernel: Kernel = (1, 1), pad: Pad = (0, 0, 0, 0)) -> Connectivity:
        """Every output reads every input."""
        return cls.grouped(ins, outs, 1, kernel, pad)

    @classmethod
    def grouped(
        cls, ins: int, outs: int, groups: int, kernel: Kernel = (1, 1), pad: Pad = (0, 0, 0, 0)
    ) -> Connectivity:
        """Equal consecutive groups; `groups = ins` is depthwise. Errors: CIR203 when the groups do not divide."""
        for channels in (ins, outs):
            if groups < 1 or channels % groups:
                common = [d for d in divisors(ins) if outs % d == 0]
                raise CompactError(
                    "CIR203",
                    f"{channels} channels do not split into {groups} groups",
                    help=f"groups that divide {' and '.join(map(str, dict.fromkeys((ins, outs))))} are "
                    + " ".join(map(str, common)),
                )
        family = Family(groups, ChannelList.span(0, ins), ChannelList.span(0, outs), kernel, pad)
        return cls(ins, outs, (family,))

    @classmethod
    def parts(
        cls,
        sizes: Sequence[tuple[int, int]],
        kernels: Sequence[Kernel] | None = None,
        pads: Sequence[Pad] | None = None,
    ) -> Connectivity:
        """Uneven groups: part k reads its `sizes[k][0]` consecutive inputs and makes `sizes[k][1]` outputs."""
        families = []
        at_in = at_out = 0
        for k, (ins, outs) in enumerate(sizes):
            if outs:
                families.append(
                    Family(
                        1,
                        ChannelList.span(at_in, ins),
                        ChannelList.span(at_out, outs),
                        kernels[k] if kernels else (1, 1),
                        pads[k] if pads else (0, 0, 0, 0),
                    )
                )
            at_in, at_out = at_in + ins, at_out + outs
        return cls(at_in, at_out, tuple(families)).merged()

    @classmethod
    def table(
        cls, ins: int, rows: Mapping[int, Sequence[int]], kernel: Kernel, pad: Pad = (0, 0, 0, 0)
    ) -> Connectivity:
        """LeNet-5's way: for every output the list of its inputs. Source: LeCun et al. 1998, table I."""
        families = tuple(
            Family(1, ChannelList.of(rows[o]), ChannelList.span(o, 1), kernel, pad) for o in sorted(rows)
        )
        return cls(ins, max(rows, default=-1) + 1, families).merged()

    @classmethod
    def from_mask(cls, mask: Array, kernel: Kernel = (1, 1), pad: Pad = (0, 0, 0, 0)) -> Connectivity:
        """Blocks of a connection mask (O, I): outputs with the same inputs share a block. Exact, no padding."""
        rows: dict[bytes, list[int]] = {}
        present = np.asarray(mask) != 0
        for o, row in enumerate(present):
            if row.any():
                rows.setdefault(row.tobytes(), []).append(o)
        families = tuple(
            Family(1, ChannelList.of(np.flatnonzero(present[outs[0]])), ChannelList.of(outs), kernel, pad)
            for outs in rows.values()
        )
        return cls(present.shape[1], present.shape[0], families).merged()

    # -- what it says ----------------------------------------------------------------------------------------

    @property
    def weight_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """One weight array per family."""
        return tuple(f.weight_shape for f in self.families)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(shape)) for shape in self.weight_shapes)

    @property
    def groups(self) -> int | None:
        """G where this is a plain group convolution (1 for dense), else None."""
        if len(self.families) != 1:
            return None
        family = self.families[0]
        plain = family.inputs.is_identity(self.in_channels) and family.outputs.is_identity(self.out_channels)
        return family.count if plain else None

    @property
    def is_dense(self) -> bool:
        """True when every output reads every input in order."""
        return self.groups == 1

    @property
    def is_depthwise(self) -> bool:
        """True when output c reads input c and nothing else, whatever the kernel of each channel."""
        if (
            self.in_channels != self.out_channels
            or sum(len(f.outputs) for f in self.families) != self.out_channels
        ):
            return False
        return all(f.ins == 1 and f.outs == 1 and f.inputs == f.outputs for f in self.families)

    @property
    def kernel(self) -> Kernel:
        """The smallest kernel that holds every family's kernel around one common centre."""
        top, left, bottom, right = self._reach
        return (top + bottom + 1, left + right + 1)

    @property
    def _reach(self) -> Pad:
        """How far any family's taps reach up, left, down, right from the tap that lies on the output's own pixel.

        A family with pad (t, l, b, r) has that tap at row t and column l; rows below it: kh − 1 − t.
        """
        tops = [f.pad[0] for f in self.families] or [0]
        lefts = [f.pad[1] for f in self.families] or [0]
        downs = [f.kernel[0] - 1 - f.pad[0] for f in self.families] or [0]
        rights = [f.kernel[1] - 1 - f.pad[1] for f in self.families] or [0]
        return (max(tops), max(lefts), max(downs), max(rights))

    @cached_property
    def mask(self) -> Array:
        """The connection mask (O, I), bool."""
        mask = np.zeros((self.out_channels, self.in_channels), np.bool_)
        for family in self.families:
            outs = family.outputs.array.reshape(family.count, -1, 1)
            ins = family.inputs.array.reshape(family.count, 1, -1)
            mask[outs, ins] = True
        return mask

    @property
    def is_identity_kernel(self) -> bool:
        """True when every block is 1×1 without padding."""
        return all(f.kernel == (1, 1) and f.pad == (0, 0, 0, 0) for f in self.families)

    def out_size(self, size: Sequence[int], stride: Kernel, dilation: Kernel) -> tuple[int, int]:
        """(H', W') for an input of (H, W). Errors: CIR204 when families disagree or the kernel does not fit.

        H' = ⌊(H + top + bottom − dilation·(kh − 1) − 1) / stride⌋ + 1.
        """
        sizes = {
            tuple(
                (size[a] + f.pad[a] + f.pad[a + 2] - dilation[a] * (f.kernel[a] - 1) - 1) // stride[a] + 1
                for a in (0, 1)
            )
            for f in self.families
        } or {((size[0] - 1) // stride[0] + 1, (size[1] - 1) // stride[1] + 1)}
        if len(sizes) > 1:
            raise CompactError(
                "CIR204", f"the blocks of one convolution disagree about its output size: {sorted(sizes)}"
            )
        height, width = sizes.pop()
        if height < 1 or width < 1:
            f = self.families[0]
            raise CompactError(
                "CIR204",
                f"a {f.kernel[0]}x{f.kernel[1]} kernel with dilation {dilation[0]} does not fit into a "
                f"{size[0]}x{size[1]} map padded by {list(f.pad)}",
                help="use a smaller kernel, more padding or a larger input",
            )
        return height, width

    # -- the algebra -----------------------------------------------------------------------------------------

    def reading(self, sources: ChannelList, in_channels: int) -> Connectivity:
        """This convolution read through `y[c] = x[sources[c]]`: the same outputs, straight from x of `in_channels`.

        `sources` may permute, repeat and drop channels of x (a shuffle, a slice, CondenseNet's index).
        Weights stay.
        """
        families = tuple(replace(f, inputs=sources.take(f.inputs)) for f in self.families)
        return Connectivity(in_channels, self.out_channels, families)

    def writing(self, sources: ChannelList) -> Connectivity:
        """This convolution followed by `z[c] = y[sources[c]]` with a permutation `sources`. Weights stay as they are."""
        place = np.argsort(sources.array, kind="stable")
        families = tuple(replace(f, outputs=ChannelList.of(place[f.outputs.array])) for f in self.families)
        return Connectivity(self.in_channels, self.out_channels, families)

    def merged(self) -> Connectivity:
        """Join neighbouring families of equal block shape: the form in which equal connectivities print alike."""
        merged: list[Family] = []
        for family in self.families:
            last = merged[-1] if merged else None
            same = last is not None and (last.ins, last.outs, last.kernel, last.pad) == (
                family.ins,
                family.outs,
                family.kernel,
                family.pad,
            )
            if last is not None and same:
                merged[-1] = Family(
                    last.count + family.count,
                    ChannelList.of(np.concatenate([last.inputs.array, family.inputs.array])),
                    ChannelList.of(np.concatenate([last.outputs.array, family.outputs.array])),
                    family.kernel,
                    family.pad,
                )
            else:
                merged.append(family)
        return Connectivity(self.in_channels, self.out_channels, tuple(merged))

    # -- what the lists mean ---------------------------------------------------------------------------------

    def to_dense(self, weights: Sequence[Array]) -> tuple[Array, Pad]:
        """The dense weight (O, I, KH, KW) that computes the same, and its padding; absent links are zero.

        A repeated input channel adds up. Smaller kernels sit in the common kernel where their padding puts
        them.
        """
        top, left, bottom, right = self._reach
        dtype = weights[0].dtype if weights else np.float32
        dense = np.zeros((self.out_channels, self.in_channels, top + bottom + 1, left + right + 1), dtype)
        for family, weight in zip(self.families, weights, strict=True):
            y, x = top - family.pad[0], left - family.pad[1]
            kh, kw = family.kernel
            blocks = weight.reshape(family.count, family.outs, family.ins, kh, kw)
            outs = family.outputs.array.reshape(family.count, -1)
            ins = family.inputs.array.reshape(family.count, -1)
            for b in range(family.count):
                for j, channel in enumerate(ins[b]):
                    dense[outs[b], channel, y : y + kh, x : x + kw] += blocks[b, :, j]
        pads = {
            (
                top,
                left,
                f.pad[2] + (bottom - (f.kernel[0] - 1 - f.pad[0])),
                f.pad[3] + (right - (f.kernel[1] - 1 - f.pad[1])),
            )
            for f in self.families
        }
        return dense, pads.pop() if len(pads) == 1 else (top, left, bottom, right)

    def from_dense(self, dense: Array) -> list[Array]:
        """Pick each family's weight out of a dense one (O, I, KH, KW) of the common kernel; the rest is dropped."""
        top, left, _, _ = self._reach
        weights = []
        for family in self.families:
            y, x = top - family.pad[0], left - family.pad[1]
            kh, kw = family.kernel
            outs = family.outputs.array.reshape(family.count, -1, 1)
            ins = family.inputs.array.reshape(family.count, 1, -1)
            picked = dense[outs, ins, y : y + kh, x : x + kw]
            weights.append(picked.reshape(family.weight_shape))
        return weights

    # -- text ------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        if (groups := self.groups) is not None:
            return self._short(groups)
        families = "; ".join(_family_text(f) for f in self.families)
        return f"blocks({self.in_channels}->{self.out_channels}; {families})"

    def _short(self, groups: int) -> str:
        family = self.families[0]
        tail = f", {family.kernel[0]}x{family.kernel[1]}{_pad_text(family.pad)})"
        if groups == 1:
            return f"dense({self.in_channels}->{self.out_channels}{tail}"
        if groups == self.in_channels == self.out_channels:
            return f"depthwise({groups}{tail}"
        return f"groups({groups}, {self.in_channels}->{self.out_channels}{tail}"

    @classmethod
    def parse(cls, text: str) -> Connectivity:
        """Read back what `str` wrote."""
        for pattern, build in _SHORT_FORMS:
            if match := pattern.fullmatch(text.strip()):
                return build(match)
        match = _BLOCKS.fullmatch(text.strip())
        if not match:
            raise CompactError("CIR301", f"`{text}` is not a connectivity")
        families = tuple(_parse_family(part) for part in match[3].split(";") if part.strip())
        return cls(int(match[1]), int(match[2]), families)


def same_padding(size: Sequence[int], kernel: Kernel, stride: Kernel, dilation: Kernel) -> Pad:
    """TensorFlow's "SAME": total padding max((⌈H/s⌉ − 1)·s + d·(k − 1) + 1 − H, 0), the smaller half first.

    Source: TensorFlow documentation, tf.nn "Notes on padding".
    """
    total = [
        max((-(-size[a] // stride[a]) - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1 - size[a], 0)
        for a in (0, 1)
    ]
    return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)


def _pad_text(pad: Pad) -> str:
    if pad == (0, 0, 0, 0):
        return ""
    return f", pad {pad[0]}" if len(set(pad)) == 1 else ", pad " + "/".join(map(str, pad))


def _family_text(f: Family) -> str:
    return f"{f.count} of [{f.inputs}]->[{f.outputs}], {f.kernel[0]}x{f.kernel[1]}{_pad_text(f.pad)}"


_TAIL = r"(?P<kh>\d+)x(?P<kw>\d+)(?:,\s*pad\s+(?P<pad>[\d/]+))?"
_FAMILY = re.compile(
    r"\s*(?P<count>\d+)\s+of\s+\[(?P<ins>[^\]]*)\]\s*->\s*\[(?P<outs>[^\]]*)\]\s*,\s*" + _TAIL + r"\s*"
)
_BLOCKS = re.compile(r"blocks\(\s*(\d+)\s*->\s*(\d+)\s*;(.*)\)", re.DOTALL)


def _kernel_pad(match: re.Match[str]) -> tuple[Kernel, Pad]:
    numbers = [int(n) for n in (match["pad"] or "0").split("/")]
    top, left, bottom, right = numbers * 4 if len(numbers) == 1 else numbers
    return (int(match["kh"]), int(match["kw"])), (top, left, bottom, right)


def _parse_family(text: str) -> Family:
    match = _FAMILY.fullmatch(text)
    if not match:
        raise CompactError(
            "CIR301",
            f"`{text.strip()}` is not a family of blocks",
            help="write `2 of [0..8]->[0..4], 3x3, pad 1`",
        )
    kernel, pad = _kernel_pad(match)
    return Family(
        int(match["count"]), ChannelList.parse(match["ins"]), ChannelList.parse(match["outs"]), kernel, pad
    )


_SHORT_FORMS = [
    (
        re.compile(r"dense\(\s*(\d+)\s*->\s*(\d+)\s*,\s*" + _TAIL + r"\s*\)"),
        lambda m: Connectivity.dense(int(m[1]), int(m[2]), *_kernel_pad(m)),
    ),
    (
        re.compile(r"depthwise\(\s*(\d+)\s*,\s*" + _TAIL + r"\s*\)"),
        lambda m: Connectivity.grouped(int(m[1]), int(m[1]), int(m[1]), *_kernel_pad(m)),
    ),
    (
        re.compile(r"groups\(\s*(\d+)\s*,\s*(\d+)\s*->\s*(\d+)\s*,\s*" + _TAIL + r"\s*\)"),
        lambda m: Connectivity.grouped(int(m[2]), int(m[3]), int(m[1]), *_kernel_pad(m)),
    ),
]

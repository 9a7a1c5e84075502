"""The one idea: a convolution is a set of dense blocks over lists of channels.

A `Connectivity` holds *families* of equal blocks, so that 960 depthwise filters are one object. Everything
that the compact-network papers do to a convolution (groups, shuffles, tables, masks, mixed kernels, pruning)
is a rewrite of these lists; nothing here touches a tensor except `to_dense` and `from_dense`, which define
what the lists mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

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
                f"{self.count} equal blocks cannot share {len(self.inputs)} inputs "
                f"and {len(self.outputs)} outputs",
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
        for family in self.families:
            for what, channels, limit in (
                ("input", family.inputs, self.in_channels),
                ("output", family.outputs, self.out_channels),
            ):
                if channels.top >= limit:
                    message = f"{what} channel {channels.top} does not exist, there are {limit}"
                    raise CompactError("CIR303", message)
        produced = ChannelList.joined(f.outputs for f in self.families)
        if not produced.is_distinct:
            twice = int(np.flatnonzero(np.bincount(produced.array) > 1)[0])
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
        """Equal consecutive groups; `groups = ins` is depthwise. Errors: CIR203 when they do not divide."""
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
        """Uneven groups: part k reads its `sizes[k][0]` consecutive inputs, makes `sizes[k][1]` outputs."""
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
    def learned(
        cls,
        input_groups: Sequence[int],
        output_groups: Sequence[int],
        kernel: Kernel = (1, 1),
        pad: Pad = (0, 0, 0, 0),
    ) -> Connectivity:
        """Learned groups: input i joins output o where `input_groups[i] == output_groups[o]`.

        The two lists are the rows' argmax of FLGC's selection matrices S and T. A group without inputs leaves
        its outputs to their bias, one without outputs leaves its inputs unread.
        Source: Wang et al. 2019, arXiv:1904.00346, section 3.2.
        """
        chosen, chosen_by = np.asarray(input_groups, np.int64), np.asarray(output_groups, np.int64)
        families = tuple(
            Family(1, ChannelList.of(ins), ChannelList.of(outs), kernel, pad)
            for group in np.unique(chosen_by)
            if (outs := np.flatnonzero(chosen_by == group)).size
            and (ins := np.flatnonzero(chosen == group)).size
        )
        return cls(len(chosen), len(chosen_by), families).merged()

    @classmethod
    def from_mask(cls, mask: Array, kernel: Kernel = (1, 1), pad: Pad = (0, 0, 0, 0)) -> Connectivity:
        """Blocks of a connection mask (O, I): outputs with the same inputs share a block. Exact, no zeros."""
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
        """The smallest kernel that holds every family's kernel where its padding puts it (dilation 1)."""
        rows, columns = self._extent(0, 1)[1], self._extent(1, 1)[1]
        return rows, columns

    def _extent(self, axis: int, dilation: int) -> tuple[int, int]:
        """How far the first tap of any family lies before the output's own pixel, and the taps from there.

        A family has taps at d·r − pad for r = 0 … k − 1. Errors: CIR303 when no grid of step d holds all.
        """
        before = max((f.pad[axis] for f in self.families), default=0)
        if any((before - f.pad[axis]) % dilation for f in self.families):
            raise CompactError(
                "CIR303", f"the paddings of the blocks do not differ by multiples of the dilation {dilation}"
            )
        last = max((dilation * (f.kernel[axis] - 1) - f.pad[axis] for f in self.families), default=0)
        return before, (before + last) // dilation + 1

    def _places(self, dilation: Kernel) -> tuple[Kernel, list[Kernel]]:
        """The common kernel, and for each family the tap of it on which the family's first tap lies."""
        (top, rows), (left, columns) = self._extent(0, dilation[0]), self._extent(1, dilation[1])
        first = [((top - f.pad[0]) // dilation[0], (left - f.pad[1]) // dilation[1]) for f in self.families]
        return (rows, columns), first

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
        whole = ((size[0] - 1) // stride[0] + 1, (size[1] - 1) // stride[1] + 1)
        sizes = set() if self.families else {whole}
        for f in self.families:
            height, width = (
                (size[a] + f.pad[a] + f.pad[a + 2] - dilation[a] * (f.kernel[a] - 1) - 1) // stride[a] + 1
                for a in (0, 1)
            )
            if height < 1 or width < 1:
                raise CompactError(
                    "CIR204",
                    f"a {f.kernel[0]}x{f.kernel[1]} kernel with dilation {dilation[0]} does not fit into a "
                    f"{size[0]}x{size[1]} map padded by {list(f.pad)}",
                    help="use a smaller kernel, more padding or a larger input",
                )
            sizes.add((height, width))
        if len(sizes) > 1:
            raise CompactError(
                "CIR204", f"the blocks of one convolution disagree about its output size: {sorted(sizes)}"
            )
        height, width = sizes.pop()
        return height, width

    # -- the algebra -----------------------------------------------------------------------------------------

    def reading(self, sources: ChannelList, in_channels: int) -> Connectivity:
        """This convolution read through `y[c] = x[sources[c]]`: the same outputs, straight from x.

        `sources` may permute, repeat and drop the `in_channels` of x (a shuffle, a slice, CondenseNet's
        index). Weights stay as they are.
        """
        families = tuple(replace(f, inputs=sources.take(f.inputs)) for f in self.families)
        return Connectivity(in_channels, self.out_channels, families)

    def writing(self, sources: ChannelList) -> Connectivity:
        """This convolution followed by the permutation `z[c] = y[sources[c]]`. Weights stay as they are."""
        place = np.argsort(sources.array, kind="stable")
        families = tuple(replace(f, outputs=ChannelList.of(place[f.outputs.array])) for f in self.families)
        return Connectivity(self.in_channels, self.out_channels, families)

    def merged(self) -> Connectivity:
        """Join neighbouring families of equal block shape; their weights follow one another as before."""
        merged = []
        for (_, _, kernel, pad), group in groupby(self.families, _shape):
            same = list(group)
            inputs = same[0].inputs if len(same) == 1 else ChannelList.joined(f.inputs for f in same)
            outputs = same[0].outputs if len(same) == 1 else ChannelList.joined(f.outputs for f in same)
            merged.append(Family(sum(f.count for f in same), inputs, outputs, kernel, pad))
        return Connectivity(self.in_channels, self.out_channels, tuple(merged))

    # -- what the lists mean ---------------------------------------------------------------------------------

    def to_dense(self, weights: Sequence[Array], dilation: Kernel = (1, 1)) -> tuple[Array, Pad]:
        """The dense weight (O, I, KH, KW) that computes the same, and its padding; absent links are zero.

        A repeated input channel adds up. Smaller kernels sit in the common kernel where their padding puts
        them. Errors: CIR303 when the blocks' taps share no grid of this dilation.
        """
        size, places = self._places(dilation)
        dtype = weights[0].dtype if weights else np.float32
        dense = np.zeros((self.out_channels, self.in_channels, *size), dtype)
        for family, weight, (y, x) in zip(self.families, weights, places, strict=True):
            kh, kw = family.kernel
            blocks = weight.reshape(family.count, family.outs, family.ins, kh, kw)
            outs = family.outputs.array.reshape(family.count, -1)
            ins = family.inputs.array.reshape(family.count, -1)
            for b in range(family.count):
                for j, channel in enumerate(ins[b]):
                    dense[outs[b], channel, y : y + kh, x : x + kw] += blocks[b, :, j]
        return dense, self._common_pad(dilation)

    def _common_pad(self, dilation: Kernel) -> Pad:
        """Padding of the common kernel that gives the output size on which the families agree."""
        if not self.families:
            return (0, 0, 0, 0)
        size, _ = self._places(dilation)
        one = self.families[0]
        before = [max(f.pad[axis] for f in self.families) for axis in (0, 1)]
        after = [
            one.pad[axis]
            + one.pad[axis + 2]
            + dilation[axis] * (size[axis] - one.kernel[axis])
            - before[axis]
            for axis in (0, 1)
        ]
        return (before[0], before[1], after[0], after[1])

    def from_dense(self, dense: Array, dilation: Kernel = (1, 1)) -> list[Array]:
        """Each family's weight out of a dense one (O, I, KH, KW) of the common kernel; the rest is dropped.

        Where a block repeats an input channel, the first place takes the weight, the others are zero.
        """
        weights = []
        for family, (y, x) in zip(self.families, self._places(dilation)[1], strict=True):
            kh, kw = family.kernel
            outs = family.outputs.array.reshape(family.count, -1, 1)
            ins = family.inputs.array.reshape(family.count, 1, -1)
            picked = dense[outs, ins, y : y + kh, x : x + kw]  # (count, outs, ins, kh, kw)
            picked[~np.broadcast_to(_first_places(ins[:, 0])[:, None], picked.shape[:3])] = 0
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


def _shape(family: Family) -> tuple[int, int, Kernel, Pad]:
    return (family.ins, family.outs, family.kernel, family.pad)


def _first_places(rows: Array) -> Array:
    """Where each row of numbers holds one that did not occur before in that row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ranked = np.take_along_axis(rows, order, axis=1)
    fresh = np.ones(rows.shape, np.bool_)
    np.put_along_axis(fresh, order[:, 1:], ranked[:, 1:] != ranked[:, :-1], axis=1)
    return fresh


def _pad_text(pad: Pad) -> str:
    if pad == (0, 0, 0, 0):
        return ""
    return f", pad {pad[0]}" if len(set(pad)) == 1 else ", pad " + "/".join(map(str, pad))


def _family_text(f: Family) -> str:
    return f"{f.count} of [{f.inputs}]->[{f.outputs}], {f.kernel[0]}x{f.kernel[1]}{_pad_text(f.pad)}"


# At most seven digits: no text may ask for more channels than memory holds.
_N = r"(\d{1,7})"
_TAIL = r"(?P<kh>\d{1,7})x(?P<kw>\d{1,7})(?:,\s*pad\s+(?P<pad>-?\d{1,7}(?:(?:/-?\d{1,7}){3})?))?"
_FAMILY = re.compile(
    r"\s*(?P<count>\d{1,7})\s+of\s+\[(?P<ins>[^\]]*)\]\s*->\s*\[(?P<outs>[^\]]*)\]\s*,\s*" + _TAIL + r"\s*"
)
_BLOCKS = re.compile(rf"blocks\(\s*{_N}\s*->\s*{_N}\s*;(.*)\)", re.DOTALL)


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


_SHORT_FORMS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Connectivity]]] = [
    (
        re.compile(rf"dense\(\s*{_N}\s*->\s*{_N}\s*,\s*" + _TAIL + r"\s*\)"),
        lambda m: Connectivity.dense(int(m[1]), int(m[2]), *_kernel_pad(m)),
    ),
    (
        re.compile(rf"depthwise\(\s*{_N}\s*,\s*" + _TAIL + r"\s*\)"),
        lambda m: Connectivity.grouped(int(m[1]), int(m[1]), int(m[1]), *_kernel_pad(m)),
    ),
    (
        re.compile(rf"groups\(\s*{_N}\s*,\s*{_N}\s*->\s*{_N}\s*,\s*" + _TAIL + r"\s*\)"),
        lambda m: Connectivity.grouped(int(m[2]), int(m[3]), int(m[1]), *_kernel_pad(m)),
    ),
]

"""What runs: kernel calls with shapes, tiles, strides, address tables, on buffers with offsets and lifetimes.

A plan is data alone; `plan_text` prints and parses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from math import prod

from compactir.ir.channel_map import ChannelMap
from compactir.ir.op import Op
from compactir.ir.stretches import Stretch, stretches

WORD = 4
"""Weights that a kernel for planes loads at once, V_X of the vocabulary."""


@dataclass(frozen=True)
class Buffer:
    """Memory for maps of one size, as blocks of `lanes` channels.

    Element (c, y, x) lies at (c // lanes)·block + y·row + x·pixel + c % lanes, with pixel = lanes,
    row = W·lanes, block = H·row; rows count modulo `height` where a fused step keeps only some of them.
    `region` is "arena" (the workspace), "input:NAME" or "output:NAME" (the caller's dense NCHW: lanes = 1).
    `offset` counts floats from the start of the region; steps first … last use it. With `copies` every part
    of a step that several threads share has one of its own, `stride` floats after the one before.
    """

    name: str
    region: str
    lanes: int
    height: int
    width: int
    blocks: int
    offset: int = 0
    first: int = 0
    last: int = 0
    copies: int = 1

    @property
    def pixel(self) -> int:
        """Distance of neighbouring pixels of a row, in floats."""
        return self.lanes

    @property
    def row(self) -> int:
        """Distance of neighbouring rows, in floats."""
        return self.width * self.lanes

    @property
    def block(self) -> int:
        """Distance of neighbouring blocks, in floats."""
        return self.height * self.row

    @property
    def one(self) -> int:
        """Size of one copy, in floats."""
        return self.blocks * self.block

    @property
    def stride(self) -> int:
        """Distance of neighbouring copies, in floats: whole cache lines."""
        return -(-self.one // 16) * 16

    @property
    def floats(self) -> int:
        """Size in floats."""
        return (self.copies - 1) * self.stride + self.one

    def element(self, position: int) -> int:
        """The offset of pixel (0, 0) of the channel at this position."""
        return position // self.lanes * self.block + position % self.lanes


@dataclass(frozen=True)
class Kernel:
    """What a C function of the generated file is specialised to. Equal kernels share one function.

    With `split` it makes a range of its units only, as the last two arguments of a call say; `plan_parts`
    says what the units of each axis are.
    """

    split: str = field(default="", kw_only=True)

    @property
    def kind(self) -> str:
        """The name of its template."""
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()


@dataclass(frozen=True)
class Grid(Kernel):
    """A kernel that slides a window: the geometry that convolutions, depthwise filters and pools share.

    Sizes and strides in floats; `pad` is (top, left): the far sides follow from the sizes.
    """

    lanes: int
    size: tuple[int, int]
    out: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    x_strides: tuple[int, int]  # row, pixel
    y_strides: tuple[int, int]
    tile: int  # pixels at once
    x_ring: int = 0  # rows that the input's buffer holds at a time, 0 for all of them
    y_ring: int = 0
    ranged: bool = False  # runs on the output rows from … to − 1 that it is called with
    epilogue: tuple[Op, ...] = ()
    spread: tuple[bool, ...] = ()  # for every further operand: one vector per block instead of one per pixel


@dataclass(frozen=True)
class Conv(Grid):
    """Panels of `vectors` output blocks, each over a list of `depth` inputs: a direct convolution.

    `reads`: "blocks" (consecutive lanes of consecutive blocks `x_block` apart), "planes" (one channel per
    plane, `x_block` apart), "table" (every input has its own address, but the first `words` inputs come as
    words of `word` neighboring ones). `shared`: all panels read the same
    inputs. `tail`: lanes to store of the last vector, 0 for all. `rows`: output rows per sweep over the
    panels.
    """

    vectors: int = 1
    panels: int = 1
    depth: int = 1
    reads: str = "blocks"
    x_block: int = 0
    words: int = 0
    word: int = 1
    shared: bool = True
    tail: int = 0
    rows: int = 1
    prefetch: bool = False
    half: bool = False  # the last vector holds half a block of two pixels each
    distance: bool = False  # Σ (x − w)² instead of Σ x·w: radial basis functions

    @property
    def panel_floats(self) -> int:
        """Packed size of one panel: its bias, then one row of vectors per tap and input."""
        return (1 + prod(self.window) * self.depth) * self.vectors * self.lanes

    @property
    def executed(self) -> int:
        """Multiply-accumulates of one panel for one output pixel, lanes that nobody reads included."""
        lanes = self.vectors * self.lanes - (self.lanes // 2 if self.half else 0)
        return prod(self.window) * self.depth * lanes


@dataclass(frozen=True)
class Depthwise(Grid):
    """Every lane through its own filter: `blocks` blocks."""

    blocks: int = 1

    @property
    def block_floats(self) -> int:
        """Packed size of one block: its bias, then one vector per tap."""
        return (1 + prod(self.window)) * self.lanes


@dataclass(frozen=True)
class Grouped(Grid):
    """Narrow groups, lane by lane: every lane of a block sums what it needs of `terms` blocks of the input.

    Lane l of term t of block b reads lane `sources[uses[b·terms + t]][l]` of the t-th block that b's entries
    of the table name. `half`: the upper half carries further terms of the lower half, and is added to it.
    """

    blocks: int = 1
    terms: int = 1
    half: bool = False
    sources: tuple[tuple[int, ...], ...] = ()
    uses: tuple[int, ...] = ()

    @property
    def block_floats(self) -> int:
        """Packed size of one block: its bias, then one vector per term and tap."""
        return (1 + self.terms * prod(self.window)) * self.lanes

    @property
    def executed(self) -> int:
        """Multiply-accumulates of one block for one output pixel, lanes that nobody reads included."""
        return self.terms * prod(self.window) * self.lanes


@dataclass(frozen=True)
class PlaneGrid(Grid):
    """A kernel on planes, buffers of one lane: neighbouring pixels of a row are the lanes of a vector.

    It makes `rows` rows of the output at once, of each as many vectors as `tile` pixels fill. The last rows
    may be made twice, so that a sweep has `rows` of them always.
    """

    rows: int = 1

    @property
    def sweeps(self) -> int:
        """How often it goes over the row, `rows` rows at a time."""
        return -(-self.out[0] // self.rows)

    @property
    def tiles(self) -> list[list[Stretch]]:
        """The vectors of a row, those that are made at once together."""
        found = stretches(self.out[1], self.lanes, self._in_pairs, self.is_pointwise)
        count = -(-len(found) // -(-self.tile // self.lanes))
        return [found[len(found) * i // count : len(found) * (i + 1) // count] for i in range(count)]

    def is_clipped(self, axis: int) -> bool:
        """Whether some window reaches over the border before or after the rows (0) or columns (1)."""
        first = -self.pad[axis]
        last = (self.out[axis] - 1) * self.stride[axis] + (self.window[axis] - 1) * self.dilation[axis]
        return first < 0 or first + last >= self.size[axis]

    @property
    def _in_pairs(self) -> bool:
        """Whether half a vector of one row and half of the next one may share a vector."""
        return not (self.is_clipped(0) or self.is_clipped(1)) and self.rows % 2 == 0 and self.stride[1] == 1

    @property
    def is_pointwise(self) -> bool:
        """Whether every pixel depends on the one at its place alone."""
        return self.window == self.stride == (1, 1) and self.pad == (0, 0)

    @property
    def vectors(self) -> int:
        """Vectors that it makes of one output plane."""
        row = [stretch for tile in self.tiles for stretch in tile]
        return self.sweeps * sum(self.rows // 2 if s.halves else self.rows for s in row)


@dataclass(frozen=True)
class PlaneConv(PlaneGrid):
    """Convolution of planes, link by link: panels of `maps` outputs at once.

    A panel's inputs lie in sections: those of section s are read by the outputs m with bit m in `masks[s]`,
    and panel p has `counts[p][s]` of them. No other link is executed.
    """

    maps: int = 1
    masks: tuple[int, ...] = (1,)
    counts: tuple[tuple[int, ...], ...] = ((1,),)

    @property
    def panels(self) -> int:
        """How many panels it has."""
        return len(self.counts)

    @property
    def links(self) -> list[int]:
        """How many pairs of an input and an output each panel has."""
        return [
            sum(n * mask.bit_count() for n, mask in zip(row, self.masks, strict=False)) for row in self.counts
        ]

    @property
    def panel_starts(self) -> list[tuple[int, int]]:
        """The first input and the first weight of every panel, and where the last one ends.

        Packed are its biases, then of every input the weights of its outputs, [ky][kx][output].
        """
        starts = [(0, 0)]
        for row, links in zip(self.counts, self.links, strict=True):
            inputs, floats = starts[-1]
            starts.append((inputs + sum(row), floats + self.maps + prod(self.window) * links))
        return starts

    @property
    def packed_floats(self) -> int:
        """Size of all panels, and of what a load of several weights may take after them."""
        return self.panel_starts[-1][1] + WORD - 1

    @property
    def executed(self) -> int:
        """Multiply-accumulates, pixels that are made twice included."""
        return prod(self.window) * sum(self.links) * self.vectors * self.lanes


@dataclass(frozen=True)
class PlanePool(PlaneGrid):
    """Windowed maximum or mean of planes; `divisors` as those of `Pool`."""

    blocks: int = 1
    average: bool = False
    divisors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pool(Grid):
    """Windowed maximum or mean; `divisors`: one number for all windows, else one per output pixel."""

    blocks: int = 1
    average: bool = False
    divisors: tuple[int, ...] = ()


@dataclass(frozen=True)
class WinogradInput(Grid):
    """6×6 inputs of every 4×4 outputs of a 3×3 convolution, to 36 coefficients.

    `out` counts tiles. Places of y: for every block of x those of its 36 coefficients' maps. A ranged one
    is called with strips of `strip` rows of tiles.
    """

    blocks: int = 1
    strip: int = 1


@dataclass(frozen=True)
class WinogradOutput(Grid):
    """36 sums per tile back to 4×4 outputs; `size` counts tiles, strips as above.

    Places of x: 36 for every block of y. The scratch gets one vector per block and row of tiles of a strip:
    a sum that is finite in every lane only if all sums of that row are.
    """

    blocks: int = 1
    strip: int = 1

    @property
    def block_floats(self) -> int:
        """Packed size of one block: its bias."""
        return self.lanes

    @property
    def scratch_floats(self) -> int:
        """What the scratch holds."""
        return self.blocks * (self.strip if self.ranged else self.size[0]) * self.lanes


@dataclass(frozen=True)
class Origin:
    """What one block of outputs is computed from: its packed weights, as offsets in floats, and its inputs.

    Its bias; the first vector of its 36 transformed filters, how far the next of the 36 lies, and the next
    input's. `head`: its first block of inputs. `lanes`: those that count.
    """

    bias: int
    filters: int
    point: int
    depth: int
    head: int
    lanes: int


@dataclass(frozen=True)
class WinogradRepair(Grid):
    """Rows of tiles that `WinogradOutput` has marked in the scratch once more, as the direct sum has them.

    The filters are computed back from the transformed ones. Every block reads `depth` inputs, lanes of
    consecutive ones of the `heads` blocks of x, but for those in `unread`, lanes counted from the first head.
    Strips as above; they count rows of tiles.
    """

    blocks: int = 1
    strip: int = 1
    depth: int = 1
    heads: int = 1
    origins: tuple[Origin, ...] = ()
    unread: tuple[int, ...] = ()

    @property
    def tile_rows(self) -> int:
        """Rows of tiles in all."""
        return -(-self.out[0] // 4)

    @property
    def packed_floats(self) -> int:
        """Up to where it reads packed weights: the biases are the last."""
        return max(origin.bias for origin in self.origins) + self.lanes

    @property
    def scratch_floats(self) -> int:
        """As much as `WinogradOutput` writes."""
        return self.blocks * (self.strip if self.ranged else self.tile_rows) * self.lanes


@dataclass(frozen=True)
class Map(Kernel):
    """y = epilogue(x), element by element; `tail` floats more than `pixels` vectors."""

    lanes: int
    pixels: int
    blocks: int
    epilogue: tuple[Op, ...] = ()
    spread: tuple[bool, ...] = ()
    tail: int = 0


@dataclass(frozen=True)
class GlobalPool(Kernel):
    """One number per channel."""

    lanes: int
    pixels: int
    blocks: int
    average: bool


@dataclass(frozen=True)
class Column(Kernel):
    """A function of all channels of a pixel (softmax), in a scratch column."""

    lanes: int
    pixels: int
    channels: int
    op: Op
    x_pixel: int = 0
    y_pixel: int = 0


@dataclass(frozen=True)
class Across(Kernel):
    """A function of neighbouring channels (local response normalisation), which lie in order in the blocks.

    The scratch holds the squares of `together` pixels at once, with zeros around the channels.
    """

    lanes: int
    pixels: int
    channels: int
    op: Op
    together: int = 8

    @property
    def blocks(self) -> int:
        """Vectors per pixel."""
        return -(-self.channels // self.lanes)

    @property
    def margin(self) -> int:
        """Zeros before the squares of a pixel, in floats: whole vectors."""
        size: int = self.op.size  # type: ignore[attr-defined]  # Lrn
        return -(-size // self.lanes) * self.lanes

    @property
    def column(self) -> int:
        """Floats of scratch per pixel."""
        return self.blocks * self.lanes + 2 * self.margin


@dataclass(frozen=True)
class Resize(Kernel):
    """Enlargement, `mode` "nearest" or "bilinear"."""

    lanes: int
    size: tuple[int, int]
    out: tuple[int, int]
    blocks: int
    mode: str = "nearest"


@dataclass(frozen=True)
class Copy(Kernel):
    """Channel by channel from one layout to another: the caller's tensors in and out, and honest copies."""

    pixels: int
    channels: int
    x_pixel: int
    y_pixel: int


@dataclass(frozen=True)
class Walk:
    """How many floats further a tensor's element lies with every step along the loops of a nest.

    `packed`: the tensor is a constant, `start` floats after the first packed one of the call. `picks`: along
    the loop `along`, whose stride is 0, the elements are these many floats away.
    """

    strides: tuple[int, ...]
    packed: bool = False
    start: int = 0
    picks: tuple[int, ...] = ()
    along: int = 0

    def offsets(self, extents: tuple[int, ...]) -> tuple[int, int]:
        """The lowest offset that loops of these extents reach, and the highest."""
        ends = [(0, (e - 1) * s) for e, s in zip(extents, self.strides, strict=True)]
        ends += [(min(self.picks), max(self.picks))] if self.picks else []
        return self.start + sum(map(min, ends)), self.start + sum(map(max, ends))

    def part(self, first: int, last: int) -> Walk:
        """The walk of steps first … last − 1 of the first loop; the address of a constant moves here."""
        picks = self.picks[first:last] if self.along == 0 else self.picks
        return replace(self, picks=picks, start=self.start + first * self.strides[0] if self.packed else 0)


@dataclass(frozen=True)
class Nest(Kernel):
    """Loops over tensors of any rank: each element of y is a function of elements of the operands.

    Loops of `extents` make y; those of `reduced` join the first operands for each element as `core` says:
    "" takes the first alone, "sum", "mean", "max", "min", "prod" join its elements, "dot" sums the products
    of the first two. Each further operand is one of the epilogue's. y's stride along the last loop is 1.
    With `along` vectors lie along the last of the reduced loops, and the last of the extents is 1; else they
    lie along the last of the extents. `rows`: so many steps of the last loop but one are made at once.
    """

    lanes: int
    extents: tuple[int, ...]
    y: tuple[int, ...]  # strides
    operands: tuple[Walk, ...]
    reduced: tuple[int, ...] = ()
    core: str = ""
    along: bool = False
    rows: int = 1
    epilogue: tuple[Op, ...] = ()

    @property
    def joined(self) -> int:
        """How many operands the core takes."""
        return 2 if self.core == "dot" else 1

    @property
    def moving(self) -> tuple[Walk, ...]:
        """The operands that are no constants, in the order of the call's x and further operands."""
        return tuple(w for w in self.operands if not w.packed)

    @property
    def spread(self) -> tuple[bool, ...]:
        """One entry for every further operand of a call: none is one vector per block."""
        return (False,) * (len(self.moving) - 1)

    @property
    def elements(self) -> int:
        """How many elements the core reads of an operand, all repetitions counted."""
        return prod(self.extents) * prod(self.reduced)

    @property
    def packed_floats(self) -> int:
        """Up to where it reads constants."""
        sizes = (*self.extents, *self.reduced)
        return max((1 + max(w.offsets(sizes)) for w in self.operands if w.packed), default=0)


@dataclass(frozen=True)
class Call:
    """A kernel on its data: address tables in elements, weights as an offset in floats."""

    kernel: Kernel
    x: ChannelMap
    y: ChannelMap
    weights: int = 0
    extra: tuple[ChannelMap, ...] = ()
    scratch: str = ""


@dataclass(frozen=True)
class Stage:
    """Part of a fused step: `calls` calls of it, which make `height` rows in all.

    To let the next stage make its rows up to e, this one must have made
    min(height, (e − 1)·stride − pad + window), and at least none.
    """

    calls: int
    height: int
    stride: int = 1
    window: int = 1
    pad: int = 0


@dataclass(frozen=True)
class Step:
    """What one node (or fused region) of the graph runs.

    `macs` are those of the graph, `executed` those of the kernels with their padding. `copied` counts
    elements that the step writes as it read them; `conversion` marks the caller's tensors going in or out.
    With `stages` the calls are those of one stage after the other, and all run row by row in turn; with
    `turns` the first two stages have equally many calls, and these alternate.
    `split`: several threads share it (plan_parts). `wait`: it starts when all earlier steps are done; in a
    plan for several threads those without it may run at the same time as the ones before.
    `nodes`: of a fused region, the names of all its nodes; `name` is that of the last.
    """

    name: str
    op: str
    calls: tuple[Call, ...]
    stages: tuple[Stage, ...] = ()
    macs: int = 0
    executed: int = 0
    read: int = 0
    written: int = 0
    copied: int = 0
    conversion: bool = False
    where: str = ""
    inplace: tuple[str, str] = ("", "")
    split: bool = False
    wait: bool = False
    nodes: tuple[str, ...] = ()
    turns: bool = False

    @property
    def bytes_moved(self) -> int:
        """Activations read and written plus weights, in bytes."""
        return 4 * (self.read + self.written)


@dataclass(frozen=True)
class Tensor:
    """An input or output of the network as the caller sees it: dense, batch first."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A network ready to be written as C: one image at a time, the batch is a loop around it.

    At most `threads` threads share its steps.
    """

    name: str
    target: str
    lanes: int
    batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    arena: int = 0  # floats
    weights: int = 0  # floats
    threads: int = 1

    @property
    def copies(self) -> int:
        """Elements copied, without the caller's tensors."""
        return sum(s.copied for s in self.steps if not s.conversion)

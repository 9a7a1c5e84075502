"""Loops over tensors of any rank: which nodes are lowered to them, where their values lie, how they walk.

What has no channels in blocks lies as the caller's tensors do, the last axis innermost. A transposed, sliced,
expanded or reshaped tensor is the same elements with other strides (`strides.View`), and a run of functions
of one element is one kernel (`ir.plan.Nest`). Layers that can work on maps do so, except those that only join
elements (activations, sums, means of whole axes) and read tensors: they go on where these come from. The
rules for each operation are in `tensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from compactir.codegen.lower.lanewise import has_kernel
from compactir.codegen.lower.state import RULES, Lowering, spatial
from compactir.codegen.lower.strides import Loops, Shape, View, constant, merged
from compactir.ir.channel_map import ChannelMap
from compactir.ir.graph import Node, Param, Value
from compactir.ir.op import Op
from compactir.ir.plan import Call, Copy, Nest, Step, Walk
from compactir.ops import pool, tensor
from compactir.ops.arrange import AsMap, AsSequence, Flatten, Transparent
from compactir.ops.arrange import View as Rename
from compactir.ops.combine import Add, Mul
from compactir.ops.conv import Conv
from compactir.ops.linear import Linear
from compactir.targets import Target

_LONG = 4096
"""A single loop of so many elements is cut in two, so that threads can share it."""
_ON_SEQUENCES = (AsMap, AsSequence, Flatten, Transparent, Rename)
"""What takes or makes a sequence as it is; all other layers work on a map of one row of it."""
_Y, _MARK, _FIRST = 0, 1, 2
"""Whose steps stand where in the loops of a call: y's, the mark's, then every operand's."""
_COMMUTE = frozenset({"add", "mul", "max", "min", "equal", "and", "or", "xor"})

Rule = Callable[["Nests", Node], None]
LOOPS: dict[type[Op], Rule] = {}
"""How a node is lowered whose operands or result are no maps."""
FUNCTIONS: set[type[Op]] = set()
"""Operations whose loops can go on with a value that is not in memory."""


def loops(*ops: type[Op], functions: bool = False) -> Callable[[Rule], Rule]:
    """Register the rule that makes loops of these operations; of `functions` of one element in one run."""

    def register(rule: Rule) -> Rule:
        LOOPS.update(dict.fromkeys(ops, rule))
        FUNCTIONS.update(ops if functions else ())
        return rule

    return register


@dataclass(frozen=True)
class Work:
    """What makes the elements of a value: the operands that `core` joins, then those of the epilogue."""

    shape: Shape
    operands: tuple[View, ...]
    core: str = ""
    reduced: Shape = ()
    epilogue: tuple[Op, ...] = ()
    nodes: tuple[Node, ...] = ()

    def then(self, node: Node, ops: Sequence[Op], further: Sequence[View]) -> Work:
        """Also these functions of every element."""
        spread = tuple(v.expanded(self.shape) for v in further)
        return replace(
            self,
            operands=(*self.operands, *spread),
            epilogue=(*self.epilogue, *ops),
            nodes=(*self.nodes, node),
        )


class Nests:
    """Lowers the nodes that work on tensors; remembers where these lie."""

    def __init__(self, state: Lowering) -> None:
        self.state = state
        self.batch = state.batch
        self.outputs = set(state.graph.outputs.values())
        self.views: dict[Value, View] = {}
        """Tensors that this has made, and the caller's that are no maps."""
        self.begun: dict[Value, Work] = {}
        """What the one operation that reads it goes on with."""
        self._dense: dict[Value, View] = {}
        self._packs: dict[bytes, int] = {}
        """Where constants lie that some call reads: those of a recurrence serve all its steps."""

    # -- which nodes -----------------------------------------------------------------------------------------

    def lacking(self) -> list[Node]:
        """The nodes that nothing lowers."""
        return [n for n in self.state.graph.nodes if not self.is_mapped(n) and not self.is_able(n)]

    def is_mapped(self, node: Node) -> bool:
        """Whether a rule for maps and vectors can lower it: all values are such, of the network's images."""
        ranks = (2, 3, 4) if isinstance(node.op, _ON_SEQUENCES) else (2, 4)
        whole = all(v.type.rank in ranks and v.type.batch == self.batch for v in (*node.values, node.out))
        return whole and type(node.op) in RULES and has_kernel(node)

    def is_able(self, node: Node) -> bool:
        """Whether it can be loops over tensors, of several images over those of one; both may hold."""
        if type(node.op) not in LOOPS or not node.values:
            return False
        if isinstance(node.op, pool.MaxPool | pool.AvgPool) and not _whole(node):
            return False
        if isinstance(node.op, Conv) and not _is_linear(node):
            return False
        return self.batch == 1 or _by_image(node, self.batch)

    def takes(self, node: Node) -> bool:
        """Whether to lower a node here: nothing else can, or its operands are here and it joins elements."""
        if node.out.name in self.state.fused or not self.is_able(node):
            return False
        here = all(v in self.views or v in self.begun for v in node.values)
        return not self.is_mapped(node) or (here and not isinstance(node.op, Linear | Conv))

    # -- where values lie ------------------------------------------------------------------------------------

    def given(self, value: Value) -> bool:
        """Record an input that is no map; False where it is one."""
        if _is_map(value, self.batch):
            return False
        shape = self.shape(value)
        buffer = self.state.buffer(value.name, (1, prod(shape)), 1, f"input:{value.name}", lanes=1)
        self.views[value] = View.dense(shape, buffer.name)
        return True

    def shape(self, value: Value) -> Shape:
        """Of one image."""
        shape = value.type.shape
        return shape if self.batch == 1 or isinstance(value, Param) else (shape[0] // self.batch, *shape[1:])

    def view(self, value: Value) -> View:
        """The elements of a value, brought into order where it lies in blocks."""
        if isinstance(value, Param):
            return constant(self.state.weight(value))
        if value in self.begun:
            self._finish(value)
        if value in self.views:
            return self.views[value]
        if value not in self._dense:
            self._dense[value] = self._from_map(value)
        return self._dense[value]

    def _from_map(self, value: Value) -> View:
        state, m = self.state, self.state.map(value)
        places, pixels = state.elements(m), prod(spatial(value.type))
        [(buffer, first), *_] = places.places
        source = state.buffers[buffer]
        steps = [(buffer, first + c * pixels) for c in range(len(m))]
        if list(places.places) == steps and (pixels == 1 or source.pixel == 1):
            return View.dense(self.shape(value), buffer, first)
        dense = state.buffer(f"{value.name}.tensor", spatial(value.type), len(m), lanes=1)
        y = state.elements(ChannelMap.whole(dense.name, len(m)))
        count = pixels * len(m)
        call = Call(Copy(pixels, len(m), source.pixel, 1), places, y)
        state.steps.append(Step(dense.name, "tensor", (call,), read=count, written=count, copied=count))
        return View.dense(self.shape(value), dense.name)

    def provide(self, value: Value) -> None:
        """See to it that a rule for maps finds a value as one."""
        if value in self.state.maps or isinstance(value, Param):
            return
        view = self.view(value)
        if value not in self.state.maps:
            self._copy(view, self.place(value), f"{value.name}.map", "map")

    def export(self, name: str, value: Value) -> bool:
        """Write an output that is no map to the caller; False where it is one."""
        if value in self.state.maps:
            return False
        view = self.view(value)
        if view.buffer and self.state.buffers[view.buffer].region == f"output:{name}":
            return True
        if value in self.state.maps:
            return False
        size = prod(view.shape)
        buffer = self.state.buffer(f"{name}.out", (1, size), 1, f"output:{name}", lanes=1)
        self._copy(view, View.dense(view.shape, buffer.name), f"{name}.export", "export", conversion=True)
        return True

    def place(self, value: Value) -> View:
        """Memory for a value: planes for a map, so that layers can read it."""
        shape = self.shape(value)
        if _is_map(value, self.batch):
            return View.dense(shape, self.state.planes(value)[0].name)
        names = [name for name, out in self.state.graph.outputs.items() if out is value]
        alone = len(names) == 1 and not self.state.users.get(value)
        region = f"output:{names[0]}" if alone else "arena"
        buffer = self.state.buffer(value.name, (1, prod(shape)), 1, region, lanes=1)
        return View.dense(shape, buffer.name)

    def aside(self, name: str, shape: Shape) -> View:
        """Memory for what a node needs on the way."""
        return View.dense(shape, self.state.buffer(name, (1, prod(shape)), 1, lanes=1).name)

    # -- steps -----------------------------------------------------------------------------------------------

    def lower(self, node: Node) -> None:
        """Lower a node, or leave it to the one that reads it."""
        LOOPS[type(node.op)](self, node)

    def make(self, node: Node, work: Work) -> None:
        """Make a value now, or where the one function of its elements that reads it is made."""
        self.begun[node.out] = replace(work, nodes=work.nodes or (node,))
        users = self.state.users.get(node.out, [])
        if len(users) != 1 or node.out in self.outputs or not self._goes_on(users[0], node.out):
            self._finish(node.out)

    def _goes_on(self, user: Node, value: Value) -> bool:
        """Whether a node's loops can go on with a value that is not in memory."""
        shape = self.begun[value].shape
        if type(user.op) not in FUNCTIONS or not shape == self.shape(user.out) == self.shape(value):
            return False
        if not self.is_able(user) or list(user.args).count(value) > 1 or _leading(user, value) is None:
            return False
        others = [v for v in user.values if v is not value]
        return not self.is_mapped(user) or all(v in self.views or v in self.begun for v in others)

    def _finish(self, value: Value) -> None:
        work = self.begun.pop(value)
        self.views[value] = self.place(value)
        y = self.views[value].reshaped(work.shape)  # a vector's product has no axis for it
        assert y is not None
        last = work.nodes[-1]
        names = tuple(n.name for n in work.nodes) if work.nodes[1:] else ()
        call = self.call(work, y)
        made = {n.out for n in work.nodes}
        reads = [v for n in work.nodes for v in n.values if v not in made]
        macs = sum(n.macs for n in work.nodes) // self.batch
        assert isinstance(call.kernel, Nest)
        executed = call.kernel.elements if macs else 0
        self.state.step(last, [call], reads=reads, nodes=names, macs=macs, executed=executed)

    def _copy(self, x: View, y: View, name: str, why: str, conversion: bool = False) -> None:
        count = prod(x.shape)
        call = self.call(Work(x.shape, (x,)), y)
        step = Step(name, why, (call,), read=count, written=count, copied=count, conversion=conversion)
        self.state.steps.append(step)

    def aside_step(self, work: Work, y: View) -> None:
        """Make what a node needs on the way."""
        count = prod(work.shape)
        call = self.call(work, y)
        read = count * prod(work.reduced)
        self.state.steps.append(Step(y.buffer, work.core or "aside", (call,), read=read, written=count))

    def in_order(self, view: View, name: str) -> View:
        """The elements once more, one after the other."""
        if view.constant is not None:
            flat = view.constant.reshape(-1)[view.start :]
            steps = [flat.itemsize * s for s in view.strides]
            return constant(np.ascontiguousarray(as_strided(flat, view.shape, steps)))
        y = self.aside(name, view.shape)
        self._copy(view, y, name, "order")
        return y

    def shaped(self, view: View, shape: Shape, name: str) -> View:
        """The elements under another shape, where no strides say that brought into order."""
        found = view.reshaped(shape) or self.in_order(view, name).reshaped(shape)
        assert found is not None  # dense elements have strides for every shape
        return found

    def moved(self, node: Node, calls: Sequence[Call], y: View) -> None:
        """Record a node that only moves elements."""
        self.views[node.out] = y
        self.state.step(node, calls, copied=prod(y.shape))

    def call(self, work: Work, y: View, picks: tuple[int, Shape] | None = None) -> Call:
        """The kernel for some elements; `picks`: an axis, and how far the first operand's are along it."""
        outer = len(work.shape)
        axis, numbers = picks or (-1, ())
        mark = tuple(int(i == axis) for i in range(outer))  # keeps that axis alone
        outs = merged(work.shape, [y.strides, mark, *(v.strides[:outer] for v in work.operands)])
        joined = [v for v in work.operands if len(v.shape) > outer]
        ins = merged(work.reduced, [v.strides[outer:] for v in joined])
        along = _is_along(work, outs, ins)
        if along or not outs or outs[-1][1][_Y] != 1:
            outs.append((1, [1] + [0] * (len(work.operands) + 1)))
        if len(outs) == 1:
            outs = _cut(outs[0], self.state.lanes)
        rows, operands = 1, list(work.operands)
        if work.core == "dot" and not along and outs[-2][1][_FIRST + 1] == 0:
            rows = min(_rows(self.state.target), outs[-2][0])
            outs, ins, operands[1] = _in_panels(outs, ins, operands[1], 2 * self.state.lanes)
        packed, at = self._packed(operands)
        walks = []
        for i, view in enumerate(operands):
            strides = [steps[_FIRST + i] for _, steps in outs]
            strides += [steps[i] for _, steps in ins] if i < len(joined) else [0] * len(ins)
            walk = Walk(tuple(strides), view.constant is not None, packed[i])
            marked = [j for j, (_, steps) in enumerate(outs) if steps[_MARK]] if i == 0 else []
            walks.append(replace(walk, picks=numbers, along=marked[0]) if marked else walk)
        kernel = Nest(
            self.state.lanes,
            tuple(extent for extent, _ in outs),
            tuple(steps[_Y] for _, steps in outs),
            tuple(walks),
            tuple(extent for extent, _ in ins),
            work.core,
            along,
            rows,
            work.epilogue,
        )
        moving = [ChannelMap.of([(v.buffer, v.start)]) for v in operands if v.constant is None]
        x, *extra = moving or [ChannelMap(())]
        return Call(kernel, x, ChannelMap.of([(y.buffer, y.start)]), at, tuple(extra))

    def _packed(self, operands: Sequence[View]) -> tuple[list[int], int]:
        """Where each constant starts among those of a call, and where these start."""
        starts, pieces, size = [], [], 0
        for view in operands:
            starts.append(size + view.start if view.constant is not None else 0)
            if view.constant is not None:
                pieces.append(view.constant.astype(np.float32).reshape(-1))
                size += pieces[-1].size
        if not pieces:
            return starts, 0
        whole = np.concatenate(pieces)
        key = blake2b(whole.tobytes()).digest()
        if key not in self._packs:
            self._packs[key] = self.state.packer.add(whole)
        return starts, self._packs[key]


def _is_along(work: Work, outs: Loops, ins: Loops) -> bool:
    """Whether vectors lie along what is joined: there the elements are neighbours, and not along y."""
    if work.core not in ("sum", "mean", "max", "dot") or not ins:
        return False
    inner = outs[-1][1][_FIRST : _FIRST + len(ins[-1][1])] if outs else [2]
    return all(step == 1 for step in ins[-1][1]) and not all(step in (0, 1) for step in inner)


def _cut(loop: tuple[int, list[int]], lanes: int) -> Loops:
    """One loop as two: threads can share the outer one of a long loop."""
    extent, steps = loop
    for parts in (16, 12, 8, 6, 4, 3, 2) if extent >= _LONG and not steps[_MARK] else ():
        if extent % (parts * lanes) == 0:
            inner = extent // parts
            return [(parts, [inner * step for step in steps]), (inner, steps)]
    return [(1, [0] * len(steps)), loop]


def _rows(target: Target) -> int:
    """Rows of two vectors whose sums stay in registers: they share what is loaded of the second matrix."""
    return min(8, (target.registers - 3) // 2)


def _in_panels(outs: Loops, ins: Loops, b: View, width: int) -> tuple[Loops, Loops, View]:
    """A constant second matrix panel by panel, each of so many columns: what a tile reads lies in one run."""
    if b.constant is None or b.constant.ndim != 2 or len(outs) != 2 or len(ins) != 1:
        return outs, ins, b
    depth, columns = b.constant.shape
    (rows, row_steps), (_, steps) = outs
    second = _FIRST + 1
    found = (outs[1][0], row_steps[second], steps[second], ins[0][0], ins[0][1][1], b.start)
    plain = found == (columns, 0, 1, depth, columns, 0)
    if not plain or columns % width or columns == width:
        return outs, ins, b
    panels = np.ascontiguousarray(b.constant.reshape(depth, -1, width).swapaxes(0, 1))
    panel_steps = [width * step for step in steps]
    panel_steps[second] = depth * width
    outs = [(columns // width, panel_steps), (rows, row_steps), (width, steps)]
    return outs, [(depth, [ins[0][1][0], width])], replace(b, constant=panels)


def _is_map(value: Value, batch: int) -> bool:
    return value.type.rank in (2, 3, 4) and value.type.batch == batch


def _whole(node: Node) -> bool:
    """Whether the window of a pool is all of an axis, or one pixel of it."""
    op = node.op
    assert isinstance(op, pool.MaxPool | pool.AvgPool)
    sizes = zip(op.kernel, op.stride, spatial(node.args[0].type), spatial(node.out.type), strict=True)
    return op.pad == (0, 0, 0, 0) and all(
        k == size or (k == s == 1 and size == out) for k, s, size, out in sizes
    )


def _is_linear(node: Node) -> bool:
    """Whether a convolution is a linear layer: of every pixel, or of whole maps."""
    op = node.op
    assert isinstance(op, Conv)
    windows = {(family.kernel, family.pad) for family in op.connect.families}
    if len(windows) > 1:
        return False
    kernel, pad = windows.pop() if windows else ((1, 1), (0, 0, 0, 0))
    pixel = kernel == op.stride == (1, 1)
    return pad == (0, 0, 0, 0) and (pixel or kernel == spatial(node.args[0].type))


def _by_image(node: Node, batch: int) -> bool:
    """Whether a node makes each image of its own image alone: one after the other along the first axis."""
    values = (*node.values, node.out)
    if any(v.type.rank == 0 or v.type.shape[0] % batch for v in values):
        return False
    if len({v.type.rank for v in values}) > 1 and isinstance(node.op, _BROADCASTING):
        return False
    if any(p.type.rank == node.out.type.rank and p.type.shape[0] > 1 for p in node.params):
        return isinstance(node.op, Linear | Conv)  # of the others a constant has rows for every image
    match node.op:
        case tensor.Transpose(order):
            return order[0] == 0
        case tensor.Reduce(_, axes):
            return 0 not in axes
        case tensor.Take(axis) | tensor.Join(axis):
            return axis != 0
        case tensor.Pad(before, after):
            return before[0] == after[0] == 0
        case tensor.MatMul():
            return all(v.type.rank > 2 for v in node.values)
    return True


_BROADCASTING = (tensor.Binary, tensor.Choose, tensor.Expand, tensor.MatMul, Add, Mul)


def _leading(node: Node, value: Value) -> int | None:
    """Which operand of a function a value is, where the loops can begin with that one."""
    if node.args[0] is value:
        return 0
    name = node.op.function if isinstance(node.op, tensor.Binary) else node.op.name
    return 1 if name in _COMMUTE and node.args[1:] and node.args[1] is value else None

"""RNN, GRU and LSTM, unrolled: the number of steps is static. Source: Operators.md, their equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compactir.frontends.build import LARGEST_INDEX, Builder, Tensor, bounded, shape_of
from compactir.frontends.onnx.reader import Call, operator
from compactir.ir.types import Array
from compactir.ops.activation import Relu, Sigmoid, Tanh

_ACTIVATIONS = {"relu": Relu(), "sigmoid": Sigmoid(), "tanh": Tanh()}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
Function = Callable[[Tensor], Tensor]


@dataclass
class _Direction:
    """What one direction computes with; (H, …) per gate, gates one behind the other."""

    w: Tensor
    r: Tensor
    bias_w: Tensor | None
    bias_r: Tensor | None
    functions: list[Function]
    peephole: list[Tensor] | None
    gates: int
    reset_after: bool

    def gate(self, b: Builder, x: Tensor, weight: Tensor, bias: Tensor | None, i: int) -> Tensor:
        """The sum x · weightᵀ + bias for one gate."""
        size = shape_of(weight)[0] // self.gates
        part = b.take(weight, 0, range(i * size, (i + 1) * size))
        y = b.matmul(x, b.transpose(part, [1, 0]))
        return y if bias is None else b.binary("add", y, b.take(bias, 0, range(i * size, (i + 1) * size)))

    def both(self, b: Builder, x: Tensor, h: Tensor, i: int) -> Tensor:
        """What a gate sums up."""
        return b.binary(
            "add", self.gate(b, x, self.w, self.bias_w, i), self.gate(b, h, self.r, self.bias_r, i)
        )


@operator(*_GATES)
def _recurrent(c: Call) -> list[Tensor | None]:
    b, layout = c.b, int(c.attribute("layout", 0))
    x = b.transpose(c[0], [1, 0, 2]) if layout else c[0]
    steps, batch, _ = shape_of(x)
    hidden = shape_of(c[2])[2]
    bounded((steps,), LARGEST_INDEX >> 12)  # every step is some twenty operations
    lengths = c.known_or(4, "the lengths")
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[
        c.attribute("direction", "forward")
    ]
    every: list[Tensor] = []
    last_h: list[Tensor] = []
    last_c: list[Tensor] = []
    for d, backwards in enumerate(ways):
        state = [_initial(c, index, d, (batch, hidden), layout) for index in (5, 6)]
        made: dict[int, Tensor] = {}
        direction = _direction(c, d, len(ways))
        for t in reversed(range(steps)) if backwards else range(steps):
            now = b.reshape(b.take(x, 0, [t]), shape_of(x)[1:])
            new = _STEPS[c.node.op](b, direction, now, state)
            made[t] = new[0]
            if lengths is not None and np.any(lengths <= t):
                alive = (lengths.reshape(-1, 1) > t).astype(np.float32)
                made[t] = b.choose(alive, new[0], b.scalar(0, new[0]))
                new = [b.choose(alive, a, old) for a, old in zip(new, state, strict=True)]
            state = new
        every.append(b.join([b.reshape(made[t], [1, 1, batch, hidden]) for t in range(steps)], 0))
        last_h.append(b.reshape(state[0], [1, batch, hidden]))
        last_c.append(b.reshape(state[1], [1, batch, hidden]))
    y = b.join(every, 1)
    ends = [b.join(last_h, 0), b.join(last_c, 0)]
    if layout:
        y, ends = b.transpose(y, [2, 0, 1, 3]), [b.transpose(e, [1, 0, 2]) for e in ends]
    made_all: list[Tensor | None] = [y, *ends]
    return made_all[: len(c.node.outputs)]


def _initial(c: Call, index: int, d: int, shape: tuple[int, int], layout: int) -> Tensor:
    given = c.get(index)
    if given is None or (index == 6 and c.node.op != "LSTM"):
        zeros: Array = np.zeros(shape, np.float32)
        return zeros
    return c.b.reshape(c.b.take(given, 1 if layout else 0, [d]), shape)


def _direction(c: Call, d: int, ways: int) -> _Direction:
    b, gates = c.b, _GATES[c.node.op]

    def part(index: int) -> Tensor | None:
        given = c.get(index)
        return None if given is None else b.reshape(b.take(given, 0, [d]), shape_of(given)[1:])

    w, r, bias = part(1), part(2), part(3)
    assert w is not None
    assert r is not None
    size = shape_of(w)[0]
    halves = (
        [None, None] if bias is None else [b.take(bias, 0, range(i * size, (i + 1) * size)) for i in range(2)]
    )
    names = list(c.attribute("activations", _DEFAULTS[c.node.op] * ways))
    own = names[d * len(names) // ways : (d + 1) * len(names) // ways]
    peephole = part(7) if c.node.op == "LSTM" else None
    hidden = size // gates
    return _Direction(
        w,
        r,
        halves[0],
        halves[1],
        [_function(c, name) for name in own],
        None
        if peephole is None
        else [b.take(peephole, 0, range(i * hidden, (i + 1) * hidden)) for i in range(3)],
        gates,
        bool(c.attribute("linear_before_reset", 0)),
    )


def _function(c: Call, name: str) -> Function:
    if name.lower() not in _ACTIVATIONS or c.attribute("clip", 0.0) or c.attribute("input_forget", 0):
        raise c.refuse(f"`{name}`, `clip` or `input_forget` of a recurrent layer")
    op = _ACTIVATIONS[name.lower()]
    return lambda x: c.b.activation(op, x)


def _rnn(b: Builder, it: _Direction, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    return [it.functions[0](it.both(b, x, state[0], 0)), state[1]]


def _gru(b: Builder, it: _Direction, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    h = state[0]
    f, g = it.functions
    update, reset = f(it.both(b, x, h, 0)), f(it.both(b, x, h, 1))
    own = it.gate(b, x, it.w, it.bias_w, 2)
    if it.reset_after:
        other = b.binary("mul", reset, it.gate(b, h, it.r, it.bias_r, 2))
    else:
        other = it.gate(b, b.binary("mul", reset, h), it.r, it.bias_r, 2)
    new = g(b.binary("add", own, other))
    kept = b.binary("mul", update, h)
    return [b.binary("add", b.binary("mul", b.scaled(update, -1.0, 1.0), new), kept), state[1]]


def _lstm(b: Builder, it: _Direction, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    h, cell = state
    f, g, k = it.functions
    i, o, forget, c = (it.both(b, x, h, n) for n in range(4))
    if it.peephole:
        i = b.binary("add", i, b.binary("mul", cell, it.peephole[0]))
        forget = b.binary("add", forget, b.binary("mul", cell, it.peephole[2]))
    new = b.binary("add", b.binary("mul", f(forget), cell), b.binary("mul", f(i), g(c)))
    if it.peephole:
        o = b.binary("add", o, b.binary("mul", new, it.peephole[1]))
    return [b.binary("mul", f(o), k(new)), new]


_STEPS = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}

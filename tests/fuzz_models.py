"""Random model files that mean something: written by the grammar, with sizes that mostly fit.

`model(rng)` is one file. It keeps count of the channels and the size of its tensors, so that most of what it
writes elaborates; now and then it writes a number that may not fit (`ODD`), which is where errors are found.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

ODD = 0.015
"""How often a number is any number."""
# fmt: off
ACTIVATIONS = [
    "relu", "relu6", "sigmoid", "tanh", "swish", "hard_sigmoid", "hard_swish", "identity", "bn", "affine",
    "dropout(0.2)", "lrn(size=3)", "leaky_relu(0.1)", "clip(-1,2)", "tanh(1.7,2/3)", "bn(eps=1e-3)",
]
# fmt: on
BLOCKS = """\
block twice(x, step_: step = relu) { return x -> step_ -> step_ }
block residual(x, out: int, k=3) {
  y = x -> conv(out, kernel=k) as "k{k}" -> bn -> relu
  if x.channels == out { y = y + x } else { y = y -> relu }
  return y
}
block halves(x) { (a, b) = x -> split([1/2, 1/2]); return (b, a) }
def even(v: int) -> int { return max(2, v // 2 * 2) }
"""


@dataclass
class Map:
    """A name in the text, and what it is believed to hold."""

    name: str
    channels: int
    size: int


@dataclass
class Writer:
    """The text so far."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    names: int = 0
    labels: int = 0

    def fresh(self) -> str:
        self.names += 1
        return f"t{self.names}"

    def number(self, value: int) -> str:
        """The number, spelled somehow; rarely another one."""
        rng = self.rng
        if rng.random() < ODD:
            return str(
                rng.choice([-1, 0, 1, 2, 3, 7, 10**6, 10**15, "0.5", "1/3", '"a"', "[1]", "true", "x"])
            )
        forms = [f"{value}", f"{value}", f"{value}", f"2 * {value} // 2", f"({value} + 1 - 1)"]
        forms += [f"max(1, {value})", f"[{value}][0]", f"{value} if {value} > 0 else 1", f"half({2 * value})"]
        forms += [f"{value // 2} * 2"] if value % 2 == 0 else []
        return str(rng.choice(forms))

    def any_of(self, values: list[int]) -> int:
        return self.rng.choice(values)

    def divisor(self, n: int) -> int:
        return self.any_of([d for d in range(1, n + 1) if n % d == 0])

    def label(self) -> str:
        if self.rng.random() > 0.1:
            return ""
        self.labels += 1
        return f" as l{self.labels}"

    # -- steps: text, channels and size afterwards

    def step(self, c: int, s: int) -> tuple[str, int, int]:
        write = self.rng.choice(STEPS)
        text, c, s = write(self, c, s)
        return text + ("" if text.startswith("split") else self.label()), c, s

    def chain(self, c: int, s: int, most: int) -> tuple[str, int, int]:
        """`-> a -> b …`."""
        steps = []
        for _ in range(self.rng.randrange(1, most + 1)):
            text, c, s = self.step(c, s)
            steps.append(f"-> {text}")
        return " ".join(steps), c, s

    # -- statements

    def statement(self, at: Map, indent: str, depth: int) -> Map:
        """One or several lines; the map that goes on."""
        write = self.rng.choice(STATEMENTS if depth < 2 else STATEMENTS[:4])
        return write(self, at, indent, depth)

    def line(self, indent: str, text: str) -> None:
        comment = "  # " + self.rng.choice(["why", "x -> y", '"', "{"]) if self.rng.random() < 0.04 else ""
        self.lines.append(f"{indent}{text}{comment}")


def _conv(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    out, k, stride = w.any_of([1, 2, 4, 8, 12]), w.any_of([1, 3, 5]), w.any_of([1, 1, 1, 2])
    groups = w.any_of([g for g in range(1, c + 1) if c % g == 0 and out % g == 0])
    more = f", stride={w.number(stride)}" if stride > 1 else ""
    more += f", groups={w.number(groups)}" if groups > 1 else ""
    more += w.rng.choice(["", "", "", ", bias=true", ', pad="same"', f", pad={k // 2}"])
    return f"conv({w.number(out)}, kernel={w.number(k)}{more})", out, -(-s // stride)


def _shares(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    if c % 4:
        return _conv(w, c, s)
    return f"conv({c}, kernel={w.any_of([1, 3])}, groups=[1/2, 1/4, 1/4])", c, s


def _listed(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    out = w.any_of([1, 2, 3])
    rows = [sorted(w.rng.sample(range(c), w.rng.randrange(1, min(c, 4) + 1))) for _ in range(out)]
    return f"conv({out}, kernel=3, connect={rows})", out, s


def _masked(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    if c % 2:
        return _conv(w, c, s)
    masks = ["learned(groups=2)", "learned(2, condense=2)", "balanced(1, 2)", f"pruned(2, {c})"]
    return f"conv(4, kernel={w.any_of([1, 3])}, connect={w.rng.choice(masks)})", 4, s


def _depthwise(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    stride = w.any_of([1, 1, 2])
    kernel = "[3, 5]" if c > 1 and w.rng.random() < 0.3 else w.number(w.any_of([3, 5]))
    return f"depthwise(kernel={kernel}, stride={w.number(stride)})", c, -(-s // stride)


def _activation(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    return w.rng.choice(ACTIVATIONS), c, s


def _arrange(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    order = list(range(c))
    w.rng.shuffle(order)
    some = w.rng.randrange(1, c + 1)
    texts = [
        (f"shuffle(groups={w.number(w.divisor(c))})", c),
        (f"permute({order})", c),
        (f"gather({order[:some]})", some),
        (f"slice(0, {w.number(some)})", some),
        ("split([1/2, 1/2]) -> concat" if c % 2 == 0 else f"split([{c}]) -> concat", c),
        (f"stack(conv(2, kernel=1), count={w.divisor(c)})", 0),
    ]
    text, channels = w.rng.choice(texts)
    if not channels:
        channels = 2 * int(text.rpartition("=")[2].rstrip(")"))
    return text, channels, s


def _pool(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    if s < 4:
        return "upsample(2)", c, 2 * s
    text = w.rng.choice(["max_pool(2, stride=2)", "avg_pool(2, stride=2, ceil=true)", "upsample(scale=2)"])
    size = 2 * s if text.startswith("up") else s // 2 if "ceil" not in text else -(-s // 2)
    return text, c, size


def _block(w: Writer, c: int, s: int) -> tuple[str, int, int]:
    out = w.any_of([c, 4])
    texts = [
        (f"residual({w.number(out)})", out),
        (f"residual(out={out}, k={w.any_of([1, 3])})", out),
        ("twice", c),
        (f"twice({w.rng.choice(ACTIVATIONS)})", c),
        ("halves -> concat" if c % 2 == 0 else "twice(relu -> bn)", c),
    ]
    text, channels = w.rng.choice(texts)
    return text, channels, s


STEPS: list[Callable[[Writer, int, int], tuple[str, int, int]]] = [
    _conv,
    _conv,
    _shares,
    _listed,
    _masked,
    _depthwise,
    _activation,
    _activation,
    _activation,
    _arrange,
    _pool,
    _block,
]


def _assign(w: Writer, at: Map, indent: str, depth: int) -> Map:
    text, c, s = w.chain(at.channels, at.size, 3)
    w.line(indent, f"{at.name} = {at.name} {text}")
    return Map(at.name, c, s)


def _branches(w: Writer, at: Map, indent: str, depth: int) -> Map:
    """Two ways that are added, multiplied or joined."""
    a, b = w.fresh(), w.fresh()
    w.line(indent, f"{a} = {at.name} -> conv({at.channels}, kernel=3) -> bn")
    w.line(indent, f"({b}, _) = ({at.name} -> relu, {w.number(1)})")
    how = w.rng.choice([f"{a} + {b}", f"{a} * {b} -> relu", f"concat({a}, {b})", f"({b}, {a}) -> concat"])
    w.line(indent, f"{at.name} = {how}")
    return Map(at.name, at.channels * (2 if "concat" in how else 1), at.size)


def _gate(w: Writer, at: Map, indent: str, depth: int) -> Map:
    c = w.number(at.channels)
    w.line(indent, f"g = {at.name} -> global_avg_pool -> conv({c}, kernel=1, bias=true) -> sigmoid")
    w.line(indent, f"{at.name} = {at.name} * g")
    return at


def _arithmetic(w: Writer, at: Map, indent: str, depth: int) -> Map:
    texts = [
        f"v = {w.number(3)} + {w.number(4)} * {w.number(2)}",
        f"v = [i * 2 for i in 0..{w.number(4)} if i % 2 == 0]",
        f'assert {at.name}.channels == {at.channels} or true, "why"',
        f"v = len({at.name}.shape) - {at.name}.size + sum([1, 2, {w.number(3)}])",
        f"v = even({w.number(5)}) ** {w.number(2)} / 3",
        f"v = not {at.name}.height > 4 and {at.name}.width in [1, 2, 4]",
        "(v, u) = (1, [2, 3]); v = u[-1]",
    ]
    w.line(indent, w.rng.choice(texts))
    return at


def _loop(w: Writer, at: Map, indent: str, depth: int) -> Map:
    """A body that keeps the channels, however often it runs."""
    w.line(indent, f"for {w.rng.choice(['i', '(i, j)'])} in {{}} {{{{")
    head = w.lines[-1]
    pairs = "(i, j)" in head
    values = "[(1, 2), (3, 4)]" if pairs else w.rng.choice(["0..2", f"0..{w.number(2)}", "[3, 1]"])
    w.lines[-1] = head.replace("{}", values).replace("{{", "{").split("  #")[0]
    inner = w.statement(at, indent + "  ", depth + 1)
    if (inner.channels, inner.size) != (at.channels, at.size):
        if inner.size > at.size:
            w.line(
                indent + "  ",
                f"{at.name} = {at.name} -> avg_pool({inner.size // at.size}, stride={inner.size // at.size})",
            )
        elif inner.size < at.size:
            w.line(indent + "  ", f"{at.name} = {at.name} -> upsample(size={at.size})")
        w.line(indent + "  ", f"{at.name} = {at.name} -> conv({at.channels}, kernel=1)")
    w.line(indent, "}")
    return at


def _condition(w: Writer, at: Map, indent: str, depth: int) -> Map:
    conditions = [
        f"{at.name}.channels == {at.channels}",
        f"{w.number(3)} < 4",
        "wide",
        "not wide",
        "half(4) > 1",
    ]
    w.line(indent, f"if {w.rng.choice(conditions)} {{".split("  #")[0])
    w.lines[-1] = w.lines[-1].split("  #")[0]
    w.line(indent + "  ", f"{at.name} = {at.name} -> conv({w.number(4)}, kernel=1) -> bn")
    w.line(indent, "} else {")
    w.lines[-1] = w.lines[-1].split("  #")[0]
    w.line(indent + "  ", f"{at.name} = {at.name} -> conv(4, kernel=3) -> {w.rng.choice(ACTIVATIONS)}")
    w.line(indent, "}")
    return Map(at.name, 4, at.size)


STATEMENTS: list[Callable[[Writer, Map, str, int], Map]] = [
    _assign,
    _assign,
    _branches,
    _arithmetic,
    _gate,
    _loop,
    _condition,
]


def model(rng: random.Random) -> str:
    """A whole file."""
    w = Writer(rng)
    channels, size = rng.choice([1, 3, 4, 8]), rng.choice([4, 7, 8, 16])
    head = ['"""A random model."""'] if rng.random() < 0.5 else []
    if rng.random() < 0.3:
        head.append('import round_channels from "std/rounding.arch"')
    head += ["def half(v: int) -> int { return v // 2 }", BLOCKS]
    w.lines += head
    width = f"width: float = {w.number(1)}"
    w.line("", f"network random_{rng.randrange(9)}({width}, wide: bool = {rng.choice(['true', 'false'])}) {{")
    w.lines[-1] = w.lines[-1].split("  #")[0]
    w.line("  ", f"input x: f32[{w.number(channels)}, {w.number(size)}, {w.number(size)}]")
    at = Map("x", channels, size)
    for _ in range(rng.randrange(1, 7)):
        at = w.statement(at, "  ", 0)
    if rng.random() < 0.2:
        w.line("  ", f"output map = {at.name} -> identity")
    ends = [
        "global_avg_pool -> linear(3)",
        "global_max_pool -> linear(2) -> softmax",
        "flatten -> linear(2)",
        "relu",
    ]
    w.line("  ", f"output y = {at.name} -> {rng.choice(ends)}")
    return "\n".join([*w.lines, "}"]) + "\n"

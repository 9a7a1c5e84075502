"""A plan as one C file and one header: C99, the target's vector vocabulary, no library."""

from __future__ import annotations

import hashlib
import keyword
import re
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from itertools import accumulate, pairwise
from math import isfinite, prod
from typing import Any

import numpy as np

from compactir import __version__
from compactir.codegen.c.cpu import cpu_check
from compactir.codegen.c.finish import special
from compactir.codegen.c.render import (
    environment,
    has_weights,
    minus,
    name_kernel,
    render_kernel,
    times,
    wrapped,
)
from compactir.codegen.c.vocabulary import on_demand
from compactir.codegen.lower import Lowered
from compactir.diagnostics import spell_nodes
from compactir.ir.channel_map import ChannelMap
from compactir.ir.plan import Buffer, Call, Conv, Kernel, Plan, Step
from compactir.ir.plan_parts import bands, units
from compactir.ir.plan_text import print_plan
from compactir.ir.signature import signature
from compactir.targets import Target

HEADER_BYTES = 64
INLINE_LIMIT = 256 * 1024
"""Bytes of weights up to which they are part of the C text unless told otherwise."""

_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int
    long register restrict return short signed sizeof static struct switch typedef union unsigned void
    volatile while alignas alignof and and_eq asm bitand bitor bool catch char8_t char16_t char32_t
    class compl concept const_cast consteval constexpr constinit co_await co_return co_yield decltype
    delete dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public reinterpret_cast requires static_assert static_cast
    template this thread_local throw true try typeid typename typeof using virtual wchar_t xor xor_eq
    linux unix main ws w first last image workspace part parts threads crew
"""
_C_WORDS = frozenset(_WORDS.split())
"""Keywords of C and C++, what gcc defines outside of strict modes, names of the generated code."""

_FOREIGN = """
    assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic
    stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
    cpuid immintrin arm_neon pthread sched unistd malloc memory strings features endian elf poll
    c m rt dl util gcc gcc_s torch
"""
_FOREIGN_FILES = frozenset(_FOREIGN.split())
"""NAME.h, libNAME.so or NAME.py would be found in place of these headers, libraries and modules."""


@dataclass(frozen=True)
class CFiles:
    """The generated text; `symbol` prefixes every public name, `content_id` ties packed weights to it."""

    symbol: str
    source: str
    header: str
    content_id: bytes
    weights: str
    """Where they are: "inline" in the C, in an "object" file of their own, or in a "file"."""
    workspace_bytes: int
    weights_bytes: int
    freestanding: bool = False
    """It brings what compilers call in any code, and needs no library at all."""


def symbol_for(name: str) -> str:
    """A C identifier for a network's name, whatever the name: `int` -> `int_`, `3 Netze` -> `n3_Netze`.

    It names the files as well, and leaves headers and libraries of the system their names: `math` -> `math_`.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    word = re.sub(r"\W+", "_", plain).strip("_") or "network"
    word = f"n{word}" if word[0].isdigit() else word
    taken = word in _C_WORDS or word in _FOREIGN_FILES or keyword.iskeyword(word)
    return f"{word}_" if taken else word


def macro_prefix(symbol: str) -> str:
    """What the macros of a network begin with: NET for `net`, and another prefix for every other symbol.

    Names that differ in case alone (`net`, `Net`, `NET`) keep apart: mixed case stays, capitals become small.
    """
    if symbol == symbol.lower():
        return symbol.upper()
    return symbol.lower() if symbol == symbol.upper() else symbol


def emit_c(
    lowered: Lowered,
    target: Target,
    *,
    symbol: str | None = None,
    pack: str = "auto",
    freestanding: bool = False,
) -> CFiles:
    """Write a plan as C.

    Args:
        lowered: the plan with its packed weights.
        target: what it was planned for.
        symbol: prefix of the public names; by default made from the network's name.
        pack: where the weights go: into the C text ("inline"), into an object file that is linked ("object":
            the C refers to the constant SYMBOL_packed), into a file ("file"); "auto" puts at most
            `INLINE_LIMIT` bytes into the text and more into a file.
        freestanding: supply memcpy and its like, so that nothing has to be linked.
    """
    plan = lowered.plan
    if pack == "auto":
        pack = "inline" if plan.weights * 4 <= INLINE_LIMIT else "file"
    inlined = pack == "inline"
    writer = _Writer(plan, target)
    prefix = symbol or symbol_for(plan.name)
    names = _Names(plan)
    steps = [writer.step(index, names) for index in range(len(plan.steps))]
    body = [text for _, text in writer.functions.values()]
    digest = hashlib.sha256("".join([print_plan(plan), target.name, *body]).encode())
    digest.update(lowered.weights.tobytes() if inlined else b"")
    content_id = digest.digest()[:16]
    workspace = max(plan.arena * 4, target.align)
    context: dict[str, Any] = {
        "plan": plan,
        "target": target,
        "symbol": prefix,
        "upper": macro_prefix(prefix),
        "version": __version__,
        "workspace_bytes": workspace,
        "weights_bytes": HEADER_BYTES + plan.weights * 4,
        "parameters": "".join(f", {p}" for p in names.parameters),
    }
    source = (
        environment()
        .get_template("network.c.j2")
        .render(
            **context,
            vocabulary=vocabulary(target, plan.threads, freestanding=freestanding, used="".join(body)),
            tables=[(name, wrapped(list(text))) for text, name in writer.tables.items()],
            functions=body,
            steps=steps,
            content_id=", ".join(f"0x{byte:02x}" for byte in content_id),
            cpu=_cpu_text(target),
            signature=signature(
                target.cpu_features,
                [(t.name, "f32", t.shape) for t in plan.inputs],
                [(t.name, "f32", t.shape) for t in plan.outputs],
                steps=len(plan.steps),
                workspace_bytes=workspace,
                weights_bytes=context["weights_bytes"],
                align=target.align,
            ),
            object=pack == "object",
            inline=wrapped([_number(x) for x in lowered.weights.tolist()] or ["0.0f"]) if inlined else "",
            null_checks="".join(f" || !{n}" for n in names.ordered),
            arguments="".join(f", {n}" for n in names.ordered),
            advances=names.advances,
            members=names.parameters,
            kinds=wrapped([str(step["split"] + 2 * step["wait"]) for step in steps] or ["0"]),
        )
    )
    header = environment().get_template("network.h.j2").render(**context)
    weights_bytes = HEADER_BYTES + plan.weights * 4
    return CFiles(prefix, source, header, content_id, pack, workspace, weights_bytes, freestanding)


def _cpu_text(target: Target) -> str:
    """The function `cpu_fits`, where the target needs more than every CPU of its kind has."""
    check = cpu_check(target)
    template = environment().get_template("cpu.c.j2")
    return template.render(features=" ".join(target.cpu_features), **check) if check else ""


def _number(x: float) -> str:
    """A weight as C text: nine digits give every float32 back."""
    text = f"{x:.9g}"
    if not isfinite(x):
        return special(x)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def vocabulary(target: Target, threads: int = 1, *, freestanding: bool = False, used: str = "") -> str:
    """The words of the target's kernels, also rarer ones that are `used`; threads, and memcpy if asked."""
    folder = files("compactir.codegen.c") / "simd"
    before = f"#define V_LANES {target.lanes}\n" if target.isa == "scalar" else ""
    if freestanding and target.isa.startswith("avx"):
        before += _NO_MALLOC
    names = ["words.h", f"{target.isa}.h", "elementary.h"]
    names += ["threads.h"] if threads > 1 else []
    names += ["freestanding.h"] if freestanding else []
    names += on_demand(used)
    texts = [(folder / name).read_text(encoding="utf-8") for name in names]
    return before + "\n".join(texts)


_NO_MALLOC = "#define _MM_MALLOC_H_INCLUDED /* else gcc's immintrin.h asks for stdlib.h */\n"


def sweep(step: Step, calls: list[tuple[str, list[str]]]) -> list[str]:
    """A fused step: each round makes the next rows of the last stage, first what they need of the others."""
    last = len(step.stages) - 1
    final = step.stages[last]
    lines = _band(step) if step.split else []
    starts = ", ".join(f"r{i} = {f'f{i}' if step.split else 0}" for i in range(last + 1))
    end = "end" if step.split else f"{final.height}"
    lines.append(f"int {starts}; /* rows made so far, stage by stage */")
    lines.append(
        f"for (int e{last} = {f'f{last} + ' if step.split else ''}{final.window}; r{last} < {end}; "
        f"e{last} += {final.window}) {{"
    )
    for i in range(last - 1, -1, -1):
        s = step.stages[i]
        need = f"{_times(f'(e{i + 1} - 1)', s.stride)} + {s.window - s.pad}"
        inside = f"n{i} < {s.height} ? n{i} : {s.height}"
        least = f"n{i} < 0 ? 0 : " if s.pad > s.window else ""  # windows that lie above the map
        lines.append(f"  const int n{i} = {need}, e{i} = {least}{inside};")
    groups = [
        [f"  {function}({', '.join([*arguments, f'r{i}', f'e{i}'])});" for function, arguments in group]
        for i, group in enumerate(_by_stage(step, calls))
    ]
    if step.turns:
        # What a call of the first stage writes still lies in the first-level cache for one of the second.
        lines += [line for pair in zip(*groups[:2], strict=True) for line in pair]
        groups[:2] = [], []
    for i, group in enumerate(groups):
        lines += [*group, f"  r{i} = e{i};"]
    return [*lines, "}"]


def _by_stage(step: Step, calls: list[tuple[str, list[str]]]) -> list[list[tuple[str, list[str]]]]:
    ends = list(accumulate(stage.calls for stage in step.stages))
    return [calls[start:end] for start, end in pairwise([0, *ends])]


def _band(step: Step) -> list[str]:
    """The first row of every stage for the band of rows that is this part's, and where the band ends."""
    last, final, rounds = len(step.stages) - 1, step.stages[-1], bands(step)
    first, end = (f"{rounds} * {units} / parts" for units in ("part", "(part + 1)"))
    if final.window > 1:
        first, end = (f"({text}) * {final.window}" for text in (first, end))
    lines = [f"const int f{last} = {first};"]
    if rounds * final.window > final.height:
        end = f"part + 1 < parts ? {end} : {final.height}"
    lines.append(f"const int end = {end};")
    for i in range(last - 1, -1, -1):
        s = step.stages[i]
        first = f"{_times(f'f{i + 1}', s.stride)}{minus(s.pad)}"
        if s.pad:
            first = f"{first} < 0 ? 0 : {first}"
        lines.append(f"const int f{i} = {first};")
    return lines


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"


_PASSED = {"w": "w->data", "part": "part, parts"}
"""What the parameters of a step are called where it is called."""


class _Names:
    """The C names of the caller's tensors."""

    def __init__(self, plan: Plan) -> None:
        taken: set[str] = set()
        self.of: dict[str, str] = {}
        self.parameters: list[str] = []
        self.advances: list[tuple[str, int]] = []
        for side, tensors in (("input", plan.inputs), ("output", plan.outputs)):
            for tensor in tensors:
                # The prefix of the side keeps words of our own (v_load, x_load, t12, step_3) free.
                stem = name = f"{'in' if side == 'input' else 'out'}_{symbol_for(tensor.name).rstrip('_')}"
                while name in taken:
                    name = f"{stem}_{len(taken)}"
                taken.add(name)
                self.of[f"{side}:{tensor.name}"] = name
                self.parameters.append(f"{'const ' if side == 'input' else ''}float *{name}")
                self.advances.append((name, prod(tensor.shape) // plan.batch))
        self.ordered = list(self.of.values())


class _Writer:
    """Collects functions and tables; equal ones are written once."""

    def __init__(self, plan: Plan, target: Target) -> None:
        self.plan = plan
        self.target = target
        self.buffers = {b.name: b for b in plan.buffers}
        self.bases = {b.name: b.offset for b in plan.buffers}
        self.functions: dict[Kernel, tuple[str, str]] = {}
        self.tables: dict[tuple[str, ...], str] = {}

    def function(self, kernel: Kernel) -> str:
        if kernel not in self.functions:
            name = name_kernel(kernel, len(self.functions))
            self.functions[kernel] = (name, render_kernel(kernel, name, self.target))
        return self.functions[kernel][0]

    def table(self, m: ChannelMap) -> str:
        text = tuple(map(str, m.offsets(self.bases).tolist())) or ("0",)
        return self.tables.setdefault(text, f"t{len(self.tables)}")

    def heads(self, call: Call) -> str:
        """The table of x: of a word of several inputs only the first."""
        k = call.kernel
        offsets = call.x.offsets(self.bases)
        if isinstance(k, Conv) and k.words:
            panels = offsets.reshape(-1, k.depth)
            offsets = np.concatenate([panels[:, : k.words : k.word], panels[:, k.words :]], axis=1).reshape(
                -1
            )
        text = tuple(map(str, offsets.tolist())) or ("0",)
        return self.tables.setdefault(text, f"t{len(self.tables)}")

    def base(self, m: ChannelMap, names: _Names) -> str:
        if not m.pieces:
            return "ws"
        buffer = self.buffers[m.buffers[0]]
        return self.own(buffer) if buffer.region == "arena" else names.of[buffer.region]

    def own(self, buffer: Buffer) -> str:
        """The workspace, moved to the copy of a part where a buffer has copies."""
        return f"ws + part{times(buffer.stride)}" if buffer.copies > 1 else "ws"

    def step(self, index: int, names: _Names) -> dict[str, Any]:
        step = self.plan.steps[index]
        calls = [(self.function(call.kernel), self.arguments(call, names)) for call in step.calls]
        used = {a.split(" ")[0] for _, arguments in calls for a in arguments}
        parameters = {"w": "const float *w", "ws": "float *ws"}
        parameters |= dict(zip(names.ordered, names.parameters, strict=True))
        needed = [n for n in parameters if n in used]
        parameters["part"] = "int part, int parts"
        needed += ["part"] if step.split else []
        return {
            "title": spell_nodes(step.nodes or (step.name,)),
            "op": step.op,
            "where": step.where,
            "lines": sweep(step, calls) if step.stages else [f"{f}({', '.join(a)});" for f, a in calls],
            "parameters": ", ".join(parameters[n] for n in needed) or "void",
            "arguments": ", ".join(_PASSED.get(n, n) for n in needed),
            "split": step.split,
            "wait": step.wait,
        }

    def arguments(self, call: Call, names: _Names) -> list[str]:
        arguments = [self.base(call.x, names)]
        if has_weights(call):
            arguments.append(f"w + {call.weights}")
        arguments += [self.base(call.y, names), self.heads(call), self.table(call.y)]
        for extra in call.extra:
            arguments += [self.base(extra, names), self.table(extra)]
        if call.scratch:
            arguments.append(f"{self.own(self.buffers[call.scratch])} + {self.bases[call.scratch]}")
        if call.kernel.split:
            count = units(call.kernel)
            arguments += [f"{_times('part', count)} / parts", f"{_times('(part + 1)', count)} / parts"]
        return arguments

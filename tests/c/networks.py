"""Cases for the C side, and many generated networks as one program that answers requests (see driver.c).

    program = build(cases, load_target("x86"), folder)
    outputs = program.run([Request("relu 0", inputs)])

The generated files are put into one translation unit, since each of them brings the vector vocabulary and
compiling that a hundred times would take longer than all tests together; `static` names get a suffix.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compactir import reference
from compactir.codegen.c.emit import CFiles, emit_c, macro_prefix, vocabulary
from compactir.codegen.lower import Lowered, lower
from compactir.ir.graph import Graph
from compactir.ir.op import Op, Sample
from compactir.ir.types import TensorType
from compactir.ops import OPS
from compactir.ops.tensor import BINARY, UNARY, Binary, Unary
from compactir.passes import pipeline, run_pipeline
from compactir.passes.fuse_separable import FuseSeparable
from compactir.runtime.build import LINK, Compiler
from compactir.targets import Target
from compactir.weights.container import pack
from tests.graphs import random_weights

Array = npt.NDArray[np.float32]
HERE = Path(__file__).resolve().parent
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-pedantic")
AT_END, AT_START, ON_HEAP = range(3)
TOLERANCE = 1e-4
"""Of the largest magnitude of the reference's tensor: the agreement that is promised."""


# -- cases ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A named graph with its weights; `authored`: the graph before passes, which says what is right.

    `as_planes`: see `lower`.
    """

    name: str
    graph: Graph
    authored: Graph | None = None
    as_planes: bool | None = None

    @cached_property
    def inputs(self) -> dict[str, Array]:
        """Seeded inputs."""
        return {k: v.astype(np.float32) for k, v in reference.random_inputs(self.graph, 1).items()}

    def optimised(self, target: Target, cache_bytes: int | None = None) -> Case:
        """The case after the C pipeline; with a cache of 0 bytes every region that can be fused is.

        With one of 1 byte too, in rounds of several rows.
        """
        graph = self.graph.clone()
        passes = pipeline("c", target)
        if cache_bytes is not None:
            passes = [FuseSeparable(cache_bytes) if isinstance(p, FuseSeparable) else p for p in passes]
        run_pipeline(graph, passes)
        return replace(self, graph=graph, authored=self.authored or self.graph)

    @cached_property
    def expected(self) -> dict[str, npt.NDArray[np.float64]]:
        """What the reference makes of them in float64."""
        results = reference.run(self.authored or self.graph, self.inputs, np.float64)
        return {name: result.astype(np.float64) for name, result in results.items()}


def op_graph(op: Op, shapes: Sequence[Sequence[int]]) -> Graph:
    """One operation on inputs of these shapes, weights drawn."""
    graph = Graph("sample")
    inputs = [graph.input(f"x{i}", TensorType.f32(*shape)) for i, shape in enumerate(shapes)]
    graph.outputs["y"] = graph.apply(op, inputs, "node1")
    graph.weights = random_weights(graph, 0)
    return graph


Shapes = list[tuple[int, ...]]
MAP: tuple[int, ...] = (1, 19, 3, 4)
VECTOR: tuple[int, ...] = (1, 7)
GATE: tuple[int, ...] = (1, 19, 1, 1)
FUNCTIONS = [
    *(Sample(Unary(f), (shape,)) for f in sorted(UNARY) for shape in (MAP, VECTOR)),
    *(
        Sample(Binary(f), shapes)
        for f in sorted(BINARY)
        for shapes in ((MAP, MAP), (MAP, GATE), (VECTOR, VECTOR))
    ),
]
"""Every function of tensor operations, where it lies in blocks."""


def op_cases(batches: Sequence[int] = (1, 2)) -> list[Case]:
    """Every sample of every operation, and every function, for each batch size."""
    samples = [(f"{name} {i}", s) for name, op in OPS.items() for i, s in enumerate(op.samples())]
    samples += [(f"{s.op.label} {i}", s) for i, s in enumerate(FUNCTIONS)]
    return [
        Case(f"{name} batch {batch}", op_graph(s.op, [(batch, *shape[1:]) for shape in s.shapes]))
        for batch in batches
        for name, s in samples
    ]


# -- programs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A case as generated for a target."""

    case: Case
    lowered: Lowered
    files: CFiles

    @property
    def blob(self) -> bytes:
        """The packed weights as the network's file holds them."""
        return pack(self.lowered.weights, self.files.content_id)


def generate(case: Case, target: Target, symbol: str, threads: int = 1) -> Network:
    """Lower and emit, the weights beside the code."""
    lowered = lower(case.graph, target, threads, as_planes=case.as_planes)
    return Network(case, lowered, emit_c(lowered, target, symbol=symbol, pack="file"))


@dataclass(frozen=True)
class Request:
    """One run of a case: other inputs or weights than the usual ones where given."""

    name: str
    inputs: Mapping[str, Array] | None = None
    blob: bytes | None = None
    placement: int = AT_END
    times: int = 1
    threads: int = 1


class StoppedError(AssertionError):
    """The program ended early; the text says in which network and where."""


@dataclass
class Program:
    """A built program with its networks."""

    path: Path
    target: Target
    networks: list[Network]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {n.case.name: i for i, n in enumerate(self.networks)}

    def run(self, requests: Sequence[Request]) -> list[dict[str, Array]]:
        """The outputs of every request; of a request with threads, those of each thread in turn."""
        said = self.ask(b"".join(map(self._request, requests)))
        answers, at = [], 0
        for request in requests:
            for _ in range(request.threads):
                answer, at = self._answer(self.networks[self.index[request.name]], said, at)
                answers.append(answer)
        assert at == len(said)
        return answers

    def ask(self, data: bytes) -> bytes:
        """Run the program on bytes as driver.c reads them."""
        command = self.target.run_command([str(self.path)])
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=300, env=self.environment or None
        )
        if done.returncode:
            raise StoppedError(
                f"exit status {done.returncode}: {done.stderr.decode(errors='replace')[:4000]}"
            )
        return done.stdout

    def _request(self, request: Request) -> bytes:
        number = self.index[request.name]
        network = self.networks[number]
        inputs = request.inputs or network.case.inputs
        head = struct.pack("<iiii", number, request.placement, request.times, request.threads)
        arrays = [np.ascontiguousarray(inputs[v.name], "<f4") for v in network.case.graph.inputs]
        return head + (request.blob or network.blob) + b"".join(a.tobytes() for a in arrays)

    def _answer(self, network: Network, data: bytes, at: int) -> tuple[dict[str, Array], int]:
        (code,) = struct.unpack_from("<i", data, at)
        assert code == 0, f"{network.case.name}: code {code}"
        at += 4
        outputs = {}
        for name, value in network.case.graph.outputs.items():
            outputs[name] = np.frombuffer(data, "<f4", value.type.size, at).reshape(value.type.shape)
            at += outputs[name].nbytes
        return outputs, at


def build(
    cases: Sequence[Case], target: Target, compiler: Compiler, folder: Path, *flags: str, threads: int = 1
) -> Program:
    """Generate, compile with warnings as errors and link statically where an emulator will run it.

    Code for several threads runs on as many as the environment variable CREW of the program says.
    """
    networks = [generate(case, target, f"net{i}", threads) for i, case in enumerate(cases)]
    (folder / "all.c").write_text(one_file(networks, target))
    (folder / "networks.c").write_text(table(networks))
    for network in networks:
        (folder / f"{network.files.symbol}.h").write_text(network.files.header)
    shutil.copy(HERE / "driver.h", folder)
    static = not target.is_native
    machine = target.flags(compiler.family, static=static)
    program = folder / "program"
    common = [*compiler.command, *machine, *WARNINGS, *flags]
    for source in (folder / "all.c", folder / "networks.c", HERE / "driver.c"):
        made = [f"-I{folder}", "-c", str(source), "-o", str(folder / f"{source.stem}.o")]
        compile_quietly([*common, *made])
    objects = [str(folder / f"{stem}.o") for stem in ("all", "networks", "driver")]
    linking = target.link_flags(compiler.family, static=static)
    if compiler.family == "zig":  # flags as compactc has them: for others it builds its C library again
        link = [*compiler.command, *linking, *LINK, *(flag for flag in flags if not flag.startswith("-O"))]
    else:
        link = [*compiler.command, *linking, *flags]
    compile_quietly([*link, *objects, *(["-static"] if static else []), "-pthread", "-o", str(program)])
    return Program(program, target, networks)


def compile_quietly(command: Sequence[str]) -> None:
    """Run a compiler that must have nothing to say."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    assert not done.stderr, done.stderr[:4000]


_STATIC = re.compile(
    r"^(?:static|V_KERNEL) [^=;{(]*?\b(\w+)(?=\(|\[)|^\} (packed_header|shared_call);|^(packed) = \{", re.M
)
_KERNEL = re.compile(r"^V_KERNEL void (\w+)(\(.*?^\}\n)", re.M | re.S)
_CREW = re.compile(r"#ifndef _POSIX_C_SOURCE\n.*?#define CREW_STEPS (\d+)\n", re.S)


def one_file(networks: Sequence[Network], target: Target) -> str:
    """The C texts one after the other, the vocabulary once, equal kernels once, other names kept apart."""
    threads = networks[0].lowered.plan.threads if networks else 1
    words = vocabulary(target, threads)
    rarer = vocabulary(target, threads, used=" ".join(n.files.source for n in networks)).removeprefix(words)
    steps = max((len(n.lowered.plan.steps) for n in networks), default=1)
    crew = f"#define _POSIX_C_SOURCE 200809L\n#define CREW_THREADS {threads}\n#define CREW_STEPS {steps}\n"
    parts = [crew + words + rarer if threads > 1 else words + rarer]
    kernels: dict[str, str] = {}
    for number, network in enumerate(networks):
        text = network.files.source
        assert text.count(words) == 1
        own = vocabulary(target, threads, used=text).removeprefix(words)
        text = _CREW.sub("", text.replace(words + own, ""))
        renamed = {name: f"{name}_of{number}" for match in _STATIC.findall(text) for name in match if name}
        known = {name: kernels[body] for name, body in _KERNEL.findall(text) if body in kernels}
        text = _KERNEL.sub(partial(_unless_known, known), text)
        kernels |= {body: renamed[name] for name, body in _KERNEL.findall(text)}
        renamed |= known
        pattern = re.compile(rf"\b({'|'.join(sorted(renamed))})\b")
        parts.append(pattern.sub(partial(_renamed, renamed), text))
    return "\n".join(parts)


def _unless_known(known: Mapping[str, str], kernel: re.Match[str]) -> str:
    return "" if kernel[1] in known else kernel[0]


def _renamed(names: Mapping[str, str], word: re.Match[str]) -> str:
    return names[word[1]]


def table(networks: Sequence[Network]) -> str:
    """The networks as the driver sees them."""
    lines = ["#include <stdlib.h>", '#include "driver.h"']
    lines += ["static int crew(void) {", '  const char *said = getenv("CREW");']
    lines += ["  return said ? atoi(said) : 1;", "}", "extern int (*const threads_of)(void);"]
    lines += ["int (*const threads_of)(void) = crew;"]
    rows = []
    for i, network in enumerate(networks):
        symbol, plan = network.files.symbol, network.lowered.plan
        tensors = [*plan.inputs, *plan.outputs]
        arguments = ", ".join(f"t[{k}]" for k in range(len(tensors)))
        sizes = ", ".join(str(4 * int(np.prod(t.shape))) for t in tensors)
        names = ", ".join(quoted(t.name) for t in tensors)
        lines += [
            f'#include "{symbol}.h"',
            f"static int bind{i}(const float **w, const void *data, size_t size) {{",
            f"  {symbol}_weights v = {{ 0 }};",
            f"  const int code = {symbol}_bind(&v, data, size);",
            "  *w = v.data;",
            "  return code;",
            "}",
            f"static int run{i}(const float *w, float *const *t, void *ws) {{",
            f"  const {symbol}_weights v = {{ w }};",
            f"  return {symbol}_run_threads(&v, {arguments}, ws, threads_of());"
            if plan.threads > 1
            else f"  return {symbol}_run(&v, {arguments}, ws);",
            "}",
            f"static const size_t bytes{i}[] = {{ {sizes} }};",
            f"static const char *const names{i}[] = {{ {names} }};",
        ]
        upper = macro_prefix(symbol)
        rows.append(
            f"  {{ {quoted(network.case.name)}, {len(plan.inputs)}, {len(plan.outputs)}, bytes{i}, names{i}, "
            f"{upper}_WEIGHTS_BYTES, {upper}_WORKSPACE_BYTES, bind{i}, run{i} }},"
        )
    return "\n".join([*lines, "const network networks[] = {", *rows, "};", ""])


def quoted(text: str) -> str:
    """A C string."""
    escaped = "".join(c if (c.isalnum() and c.isascii()) or c in " _." else "_" for c in text)
    return f'"{escaped}"'


# -- what is inside ------------------------------------------------------------------------------------------

INSERTED = frozenset({"memcpy", "memset", "memmove", "memcmp"})
"""What gcc and clang may call in any code, freestanding too: their manuals ask for these everywhere."""


def undefined(program: Program, nm: str) -> set[str]:
    """The symbols that the generated code of a program wants from elsewhere."""
    done = subprocess.run(
        [nm, "-u", str(program.path.parent / "all.o")], capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in done.stdout.splitlines()}


# -- agreement -----------------------------------------------------------------------------------------------


def distance(got: Array, expected: npt.NDArray[np.floating]) -> float:
    """max|a − b| / max|b| over finite numbers; infinite where NaN or Inf differ in place."""
    odd = ~np.isfinite(expected)
    if not np.array_equal(got[odd], expected[odd].astype(np.float32), equal_nan=True):
        return float("inf")
    if not np.isfinite(got[~odd]).all():
        return float("inf")
    if odd.all():
        return 0.0
    exact = expected[~odd].astype(np.float64)
    difference = np.abs(got[~odd].astype(np.float64) - exact).max()
    scale = np.abs(exact).max()
    return float(difference / scale) if scale else float(difference)


def worst(outputs: Mapping[str, Array], expected: Mapping[str, npt.NDArray[np.floating]]) -> float:
    """The largest distance over all outputs."""
    assert set(outputs) == set(expected)
    return max(distance(outputs[name], expected[name]) for name in expected)


def swapped(graph: Graph, name: str) -> Graph:
    """The graph with the first two output channels of one weight exchanged."""
    other = graph.clone()
    array = graph.weights[name].copy()
    array[[0, 1]] = array[[1, 0]]
    other.weights = {**graph.weights, name: array}
    return other


def disagreements(program: Program, placement: int = AT_END) -> dict[str, float]:
    """The cases whose outputs are not what the reference says, with their distances."""
    cases = [n.case for n in program.networks]
    answers = program.run([Request(case.name, placement=placement) for case in cases])
    found = {c.name: worst(a, c.expected) for c, a in zip(cases, answers, strict=True)}
    return {name: error for name, error in found.items() if not error <= TOLERANCE}

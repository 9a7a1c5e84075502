"""The options of `compactc` as data; those that several verbs share are declared once, here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Option:
    """One argument; `flags` are empty for a positional one. `kind` says how it is read and completed."""

    name: str
    help: str
    flags: tuple[str, ...] = ()
    metavar: str = ""
    kind: str = "text"
    """text, flag, choice, list; number, threads, counts, percent, floats, size; define, init; target, loaded,
    targets, host, passes, stage (of `--dump-ir`); read: model, file, folder; written: out, outdir;
    compiler"""
    choices: tuple[str, ...] = ()
    default: Any = None
    count: str = ""
    """"?", "*" for positional ones; "+" for options that may be repeated, "?" where the value may lack"""
    most: int = 0
    """The largest number that makes sense, where there is one."""
    alone: Any = None
    """The value of an option that is given without one."""


MODEL = Option("model", "a .arch, .cir or .onnx file", metavar="MODEL", kind="model")
DEFINE = Option(
    "define",
    "a parameter of the network or a choice; may be repeated",
    ("-D", "--define"),
    metavar="NAME=VALUE",
    kind="define",
    count="+",
)
WEIGHTS = Option(
    "weights",
    "take the weights from this file (.safetensors, .npz, .pt, .onnx), not from the one of the network",
    ("--weights",),
    metavar="FILE",
    kind="file",
)
MAP = Option(
    "map",
    "names of the weights file that are not ours: auto (by order and shape, shown as a table), or a file "
    "of lines THEIRS -> OURS",
    ("--map",),
    metavar="auto|FILE",
    kind="file",
)
INIT = Option(
    "seed",
    "draw the weights at random from this seed; the default where no file is named, with seed 0",
    ("--init",),
    metavar="seed=N",
    kind="init",
)
BATCH = Option(
    "batch",
    "how many images one call takes (default 1)",
    ("--batch",),
    metavar="N",
    kind="number",
    default=1,
)
THREADS = Option(
    "threads",
    "on how many threads a call can run (default 1): the results are the same bits",
    ("--threads",),
    metavar="N",
    kind="threads",
    default=1,
)
NO_WINOGRAD = Option(
    "no_winograd",
    "sum up 3×3 convolutions directly: slower, with smaller rounding errors (docs/numerics.md)",
    ("--no-winograd",),
    kind="flag",
)
NETWORK = Option("network", "which network of the file", ("--network",), metavar="NAME")
TARGET = Option(
    "target",
    "the machine to compile for, of those that `compactc targets` lists (default: native, this CPU)",
    ("--target",),
    metavar="NAME",
    kind="target",
    default="native",
)
TARGETS = replace(
    TARGET,
    help="the machine to compile for, of those that `compactc targets` lists (default: native, "
    "this CPU), or levels of one processor, of which loading takes the best: x86,x86-avx512",
    kind="targets",
)
LOADED = replace(TARGET, kind="loaded")
"""Of the verbs that load the library."""
CC = Option(
    "cc",
    "the C compiler: gcc, clang, zig or a path (default: the system's; for another machine zig's, from pip)",
    ("--cc",),
    metavar="CC",
    kind="compiler",
)
JSON = Option("json", "print one JSON object, for programs; mistakes too", ("--json",), kind="flag")
DUMP = Option(
    "dump_ir",
    "the graph as text after every pass, after one, or before one; may be repeated",
    ("--dump-ir",),
    metavar="all|PASS|before:PASS",
    kind="stage",
    count="+",
)
VERIFY_EACH = Option(
    "verify_each",
    "run the reference before and after every pass on random inputs, stop at the first difference",
    ("--verify-each",),
    kind="flag",
)

ALSO = Option(
    "also",
    "passes to run before all others, such as factorise{error=0.1}: those that only run when asked for",
    ("--also",),
    metavar="PASSES",
    kind="passes",
    default="",
)

WHICH = (DEFINE, NETWORK, BATCH, WEIGHTS, MAP, INIT)
"""What says, beside the file, which graph is meant."""


def out_option(help: str, metavar: str = "FILE", kind: str = "out") -> Option:
    """Where a verb writes."""
    return Option("out", help, ("-o", "--output"), metavar=metavar, kind=kind)

"""`compactc export`: a model for other programs; the ending of the file says which."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.driver import read
from compactir.files import Content, put_all
from compactir.ir.graph import Graph
from compactir.tools import terminal
from compactir.tools.graph_text import graph_text
from compactir.tools.manage_cache import megabytes
from compactir.tools.source import named, source_of
from compactir.weights.safetensors import safetensors

Files = dict[Path, Content]


def main(args: Namespace) -> int:
    """Write the file, or the files."""
    out = _out(args)
    with terminal.working(f"reading {args.model}") as say:
        graph = read(source_of(args)).graph
        say(f"writing {out.name}")
        written = KINDS[out.suffix.lower()](graph, out)
        put_all(written)
    for path in written:
        print(f"{named(path)}: {graph.name}, {megabytes(path.stat().st_size)}")
    return 0


def check(args: Namespace) -> None:
    """Errors: CIR682 where the file does not say what to write, or is the model."""
    out = _out(args)
    if (kind := out.suffix.lower()) not in KINDS:
        near = did_you_mean(kind, KINDS) or f"the endings are {spell_list(list(KINDS), 'or')}"
        raise CompactError("CIR682", f"`{out}` does not say what to export", help=near)
    if out.resolve() == Path(args.model).resolve():
        raise CompactError("CIR682", f"`{out}` is the model itself", help="give another file: `-o FILE`")


def _out(args: Namespace) -> Path:
    return Path(args.out or Path(args.model).with_suffix(".onnx").name)


def _onnx(graph: Graph, out: Path) -> Files:
    """The model as ONNX, checked by ONNX's own checker, its weights inside."""
    from compactir.codegen.onnx import export_onnx

    return {out: export_onnx(graph).SerializeToString()}


def _safetensors(graph: Graph, out: Path) -> Files:
    """The weights alone, under our names."""
    return {out.with_suffix(".safetensors"): safetensors(graph.weights)}


def _torch(graph: Graph, out: Path) -> Files:
    """The PyTorch module as authored, and its weights beside it."""
    from compactir.codegen.torch import emit_torch

    weights = _safetensors(graph, out)
    return {out: emit_torch(graph, weights=next(iter(weights)).name), **weights}


def _cir(graph: Graph, out: Path) -> Files:
    """The graph as text, and its weights beside it, which it names."""
    weights = _safetensors(graph, out)
    return {out: graph_text(graph, out.parent, next(iter(weights))), **weights}


KINDS: Mapping[str, Callable[[Graph, Path], Files]] = {
    ".onnx": _onnx,
    ".safetensors": _safetensors,
    ".py": _torch,
    ".cir": _cir,
}
"""The ending of the file → what is written."""

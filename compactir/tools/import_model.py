"""`compactc import`: any model as a readable .arch file, with a weights file that holds only tensors."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.driver import read
from compactir.files import Content, put_all
from compactir.lang.write import write_arch
from compactir.tools import terminal
from compactir.tools.manage_cache import megabytes
from compactir.tools.source import named, source_of
from compactir.tools.usage import STDOUT
from compactir.weights.safetensors import safetensors

_NAMELESS = {"main_graph", "main", "graph", "torch_jit", "torch_jit_export", "network", "model", "g"}
"""What exporters call any network: the file's name says more."""


def main(args: Namespace) -> int:
    """Write the file and, where there are weights, the weights beside it."""
    out = _out(args)
    with terminal.working(f"reading {args.model}") as say:
        authored = read(source_of(args), warn=False)
        bound = authored.init.get("weights") != "random"
        weights = out.with_suffix(".safetensors")
        say("looking for what repeats")
        name = out.stem if authored.graph.name in _NAMELESS else None
        written = write_arch(authored.graph, name=name, weights=weights.name if bound else None)
        if args.out == STDOUT:
            print(written.text, end="")
            return 0
        files: dict[Path, Content] = {weights: safetensors(written.weights)} if bound else {}
        put_all({**files, out: written.text})
    blocks = sum(line.startswith("block ") for line in written.text.splitlines())
    print(
        f"{named(out)}: {written.lines} lines, {blocks} block{'' if blocks == 1 else 's'}, "
        f"{len(written.graph.nodes)} operations"
    )
    if bound:
        print(f"{named(weights)}: {len(written.weights)} tensors, {megabytes(weights.stat().st_size)}")
    else:
        terminal.note("note: the model comes without weights, so there is no weights file")
    if (batch := authored.graph.inputs[0].type.batch) != 1:
        terminal.note(
            f"note: its inputs hold {batch} images; a .arch file leaves that out: `--batch {batch}`"
        )
    return 0


def _out(args: Namespace) -> Path:
    """The file, or with `-o -` the one whose name the text would have."""
    return Path(args.out) if args.out not in (None, STDOUT) else Path(args.model).with_suffix(".arch")


def check(args: Namespace) -> None:
    """Errors: CIR681 where the result would replace the model, or is no .arch file."""
    if args.out == STDOUT:
        return
    out, model = _out(args), Path(args.model)
    if out.suffix != ".arch":
        raise CompactError(
            "CIR681",
            f"`{out}` would not be read as a model file again",
            help=f"name it `{out.stem}.arch`, or print it: `-o -`",
        )
    if out.resolve() == model.resolve():
        raise CompactError(
            "CIR681",
            f"`{out}` is the model itself",
            help="give another file: `-o NAME.arch`, or `-o -` to look",
        )

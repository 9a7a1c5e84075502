"""`compactc opt`: passes on a graph in text form."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.driver import read
from compactir.files import Content, put_all
from compactir.passes import PASSES, Pass, parse_pipeline, pipeline, run_pipeline
from compactir.tools import terminal
from compactir.tools.dumps import Dumps, check_stages
from compactir.tools.graph_text import graph_text, weights_of
from compactir.tools.source import source_of, target_of
from compactir.tools.usage import STDOUT
from compactir.weights.safetensors import safetensors


def main(args: Namespace) -> int:
    """Run the passes, print or write the graph."""
    if args.list:
        terminal.table(
            "passes", ("pass", "options", "what it does"), [_row(PASSES[name]) for name in sorted(PASSES)]
        )
        return 0
    steps = _steps(args)
    dumps = Dumps(args.dump_ir)
    with terminal.working(f"running passes on {args.model}"):
        graph = read(source_of(args)).graph
        dumps.authored(graph)
        before = dict(graph.weights)
        run_pipeline(graph, steps, verify_each=args.verify_each, dump=dumps)
    for name, text in dumps.texts.items():
        terminal.note(f"// ----- {name}\n{text}")
    files: dict[Path, Content] = {}
    to_file = bool(args.out) and args.out != STDOUT
    if args.save_weights:
        files[Path(args.save_weights)] = safetensors(graph.weights)
    weights = args.save_weights or weights_of(graph, before)
    text = graph_text(graph, Path(args.out).parent if to_file else None, weights)
    if to_file:
        files[Path(args.out)] = text
    put_all(files)
    if not to_file:
        print(text, end="")
    return 0


def check(args: Namespace) -> None:
    """Errors: CIR662, CIR672."""
    if args.model is None and not args.list:
        raise CompactError(
            "CIR672", "there is no graph to run passes on", help="`compactc opt FILE.cir`, or `--list`"
        )
    check_stages(args.dump_ir, _steps(args))


def _steps(args: Namespace) -> list[Pass]:
    return pipeline("c", target_of(args)) if args.passes is None else parse_pipeline(args.passes)


def _row(cls: type[Pass]) -> tuple[str, str, str]:
    options = [f"{f.name.replace('_', '-')}={f.default}" for f in fields(cls)]  # type: ignore[arg-type]  # a dataclass
    return cls.name, " ".join(options), (cls.__doc__ or "").strip().splitlines()[0]

"""`compactc bench`: compile, prepare, race, print."""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from compactir.diagnostics import CompactError
from compactir.driver import Source, build, contents, generate, plan, read
from compactir.runtime.build import find_compiler
from compactir.runtime.package import write_folder
from compactir.runtime.peak import build_loop, loop_target
from compactir.targets import Target, load_target
from compactir.tools import terminal
from compactir.tools.bench import case as cases
from compactir.tools.bench.engines import ENGINES, OURS
from compactir.tools.bench.engines.peak import LIBRARY
from compactir.tools.bench.figures import Result
from compactir.tools.bench.forms import WRITTEN, forms_of
from compactir.tools.bench.race import Record, Say, Settings, race
from compactir.tools.bench.tables import print_result
from compactir.tools.source import check_runs_here, source_of, target_of

__all__ = ["LEVELS", "bench", "main"]

LEVELS = {"avx2": "x86"}
"""What engines can be held to -> our target for it."""


def main(args: Namespace) -> int:
    """A race for every number of threads, printed; 1 where an output was wrong, or ours did not run."""
    check_runs_here(target_of(args))
    races = [Settings(threads, args.rounds, isa=args.isa or "") for threads in args.threads]
    for settings in races:
        check_cores(settings)
    target = load_target(LEVELS[args.isa]) if args.isa and args.target == "native" else target_of(args)
    results = []
    for settings in races:
        with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
            results.append(bench(source_of(args), target, args.against or ENGINES, settings, args.cc, say))
        if not args.json:
            print_result(results[-1])
    if args.json:
        terminal.print_json({"races": [result.to_json() for result in results]})
    entries = [entry for result in results for entry in result.entries]
    return 1 if any(entry.wrong or (entry.engine == OURS and not entry.times) for entry in entries) else 0


def check_cores(settings: Settings) -> None:
    """Errors: CIR677 where there are fewer cores than threads."""
    if len(cores := settings.pinned()) < settings.threads:
        raise CompactError(
            "CIR677",
            f"{settings.threads} threads do not fit on {len(cores)} core" + "s" * (len(cores) != 1),
            help=f"write `--threads {len(cores)}`",
        )


def bench(
    source: Source, target: Target, engines: Sequence[str], settings: Settings, cc: str | None, say: Say
) -> Result:
    """Compile a network and race it against engines; everything lies in a folder that vanishes.

    Errors: those of compiling; CIR677 where there are fewer cores than threads.
    """
    check_cores(settings)
    authored = read(source, warn=False)
    generated = generate(plan(authored, target, threads=settings.threads))
    with tempfile.TemporaryDirectory(prefix="compactir-bench-") as name:
        folder = Path(name)
        library = build(generated, cc)
        write_folder(folder / cases.OURS, generated.manifest, contents(generated, library))
        say(f"{authored.graph.name}: running the reference, writing the model for the engines")
        vectors = loop_target(target)
        shutil.copyfile(build_loop(vectors), folder / LIBRARY)
        forms = forms_of(authored.graph) if engines else {WRITTEN: authored.graph}
        case = cases.write_case(folder, target.name, authored.graph, forms, onnx=bool(engines))
        compiler = find_compiler(target, cc)
        moved = sum(step.bytes_moved for step in generated.manifest.steps)
        record = Record(compiler.version, target.flags(compiler.family), vectors, source.batch, moved)
        return race(case, engines, settings, record, say)

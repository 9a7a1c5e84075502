"""`compactc MODEL.arch`: the road of the driver with everything that the command line adds to it."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from compactir.codegen.c.emit import symbol_for
from compactir.diagnostics import CompactError, spell_list
from compactir.driver import (
    Planned,
    archive,
    build,
    check_freestanding,
    generate,
    level_symbol,
    leveled,
    plan,
    project,
    read,
    with_level,
    write,
)
from compactir.passes import parse_pipeline, pipeline
from compactir.runtime.manifest import Manifest, read_manifest
from compactir.targets import unsupported
from compactir.tools import terminal
from compactir.tools.dumps import Dumps, check_stages
from compactir.tools.emit import extras, printable
from compactir.tools.footprint import footprint
from compactir.tools.manage_cache import megabytes
from compactir.tools.source import check_runs_here, levels_of, named, source_of
from compactir.tools.usage import STDOUT

if TYPE_CHECKING:
    from compactir.codegen.lower import Choices
    from compactir.driver import Authored, Generated
    from compactir.targets import Target
    from compactir.tools.tune import Tuned

DEFAULT_EMIT = ("c", "lib")
ELSEWHERE = (*DEFAULT_EMIT, "archive", "project")
"""For another machine than this one: there it goes into a program of somebody else's."""
WITHOUT_SYSTEM = ("c", "archive", "project")
"""Where nothing loads a library."""


def main(args: Namespace) -> int:
    """Compile, write the folder, say where everything is."""
    target, *above = levels_of(args)
    kinds = _kinds(args, target)
    dumps = Dumps(args.dump_ir)
    if args.tune:
        check_runs_here(target)
    with terminal.working(f"reading {args.model}", quiet=args.json) as say:
        authored = read(source_of(args))
        out = Path(args.out or f"out/{symbol_for(authored.graph.name)}")
        dumps.folder = None if args.out == STDOUT else out / "ir"
        dumps.authored(authored.graph)
        say(f"compiling {authored.graph.name} for {target.name}")
        dump = dumps if args.dump_ir else None
        tuner = _Tuner(args, authored, say, [target, *above])
        tuned = {target.name: tuner(target)} if args.tune else {}
        planned = plan(
            authored,
            target,
            also=args.also,
            threads=args.threads,
            choices=tuned[target.name].choices if tuned else None,
            verify_each=args.verify_each,
            dump=dump,
        )
        _admit(planned)
        generated = generate(planned, pack=args.inline, freestanding=args.freestanding)
        if args.out == STDOUT:
            print(printable(generated, kinds, dumps), end="")
            return 0
        say(f"building {generated.manifest.library}")
        library = build(generated, args.cc) if "lib" in kinds else None
        beside: dict[str, str | bytes | Path] = {**extras(planned, kinds, dumps, out)}
        if "archive" in kinds:
            say(f"building lib{generated.manifest.symbol}.a")
            beside[f"lib{generated.manifest.symbol}.a"] = archive(generated, args.cc)
        size = footprint(generated, args.cc) if target.bare and "archive" in kinds else None
        if "project" in kinds:
            beside |= project(generated)
        for level in above:
            say(f"building the level {level.name}")
            if args.tune and not unsupported(level):
                tuned[level.name] = tuner(level)
            choices = tuned[level.name].choices if level.name in tuned else None
            higher = generate(
                plan(authored, level, also=args.also, threads=args.threads, choices=choices),
                pack=args.inline,
                symbol=level_symbol(generated, level),
                freestanding=args.freestanding,
            )
            beside |= with_level(higher, build(higher, args.cc) if "lib" in kinds else None)
        generated = leveled(generated, above)
        folder = write(generated, out, library, beside)
    if args.json:
        said = summary(folder)
        for name, found in tuned.items():
            said["by_level"][name]["tuning"] = said["tuning"] = found.to_json()
        terminal.print_json(said | ({"footprint": asdict(size)} if size else {}))
    else:
        for name, found in tuned.items():
            terminal.note(f"{name}: {found.sentence}" if above else found.sentence)
        print(sentence(folder, "lib" in kinds))
        if size:
            print(f"  {size}")
    return 0


class _Tuner:
    """Tunes one level after another; together they have the time of `--tune`."""

    def __init__(self, args: Namespace, authored: Authored, say: terminal.Say, levels: list[Target]) -> None:
        self._args, self._authored, self._say = args, authored, say
        self._left = float(args.tune or 0)
        self._waiting = sum(not unsupported(level) for level in levels)

    def __call__(self, target: Target) -> Tuned:
        """The level has an equal share of what is left: what one does not need the next ones may use."""
        from compactir.tools.tune import tune

        args, start = self._args, monotonic()

        def make(choices: Choices) -> Generated:
            return generate(
                plan(self._authored, target, also=args.also, threads=args.threads, choices=choices)
            )

        found = tune(make, target, self._left / max(self._waiting, 1), args.cc, self._say)
        self._waiting -= 1
        self._left = max(self._left - (monotonic() - start), 0.0)
        return found


def _kinds(args: Namespace, target: Target) -> tuple[str, ...]:
    """What --emit names, or what is usual for the target."""
    usual: tuple[str, ...] = DEFAULT_EMIT if target.is_native else ELSEWHERE
    if args.freestanding or target.bare:
        usual = WITHOUT_SYSTEM
    return args.emit or (() if args.out == STDOUT and args.dump_ir else usual)


def check(args: Namespace) -> None:
    """Errors: CIR506, CIR662; CIR665 where standard output cannot hold what is asked for."""
    target = levels_of(args)[0]
    kinds = _kinds(args, target)
    if args.freestanding or target.bare:
        check_freestanding(target, threads=args.threads, library="lib" in kinds)
    check_stages(args.dump_ir, [*parse_pipeline(args.also), *pipeline("c", target)])
    built = {"lib", "archive", "project"} & set(kinds)
    if args.out == STDOUT and (args.json or built):
        what = f"`--emit {','.join(sorted(built))}`" if built else "the summary of --json"
        raise CompactError(
            "CIR665",
            f"{what} cannot go to standard output together with what `-o -` prints",
            help="say what to print: `--emit c`, `--emit ir`, `--emit py`, `--emit dot`, `--dump-ir PASS`",
        )


def _admit(planned: Planned) -> None:
    """Say what passes that approximate have lost, layer by layer."""
    for name in (step.name for step in parse_pipeline(planned.also) if step.lossy):
        for decision in planned.log.of(name, done=True):
            terminal.note(f"note: {decision}")


def summary(folder: Path) -> dict[str, Any]:
    """What was written, for programs."""
    manifest = read_manifest(folder)
    tensors = {
        side: [{"name": t.name, "shape": list(t.shape)} for t in getattr(manifest, side)]
        for side in ("inputs", "outputs")
    }
    return {
        "network": manifest.network,
        "target": manifest.target,
        "levels": [manifest.target, *reversed(manifest.levels)],
        "threads": manifest.threads,
        "folder": str(folder),
        "files": {name: (folder / name).stat().st_size for name in manifest.raw["files"]},
        **tensors,
        "weights_bytes": manifest.weights_bytes,
        "workspace_bytes": manifest.workspace_bytes,
        "by_level": {
            level.target: {"weights_bytes": level.weights_bytes, "workspace_bytes": level.workspace_bytes}
            for level in _levels(folder, manifest)
        },
        "init": manifest.raw["init"],
    }


def sentence(folder: Path, loads: bool) -> str:
    """What was written, for people: of several levels, what each of them takes."""
    manifest = read_manifest(folder)
    levels, files = _levels(folder, manifest), manifest.raw["files"]
    head = f"{named(folder)}: {manifest.network} for {spell_list([level.target for level in levels])}"
    own = " ".join(name for name in files if "/" not in name)
    if len(levels) == 1:
        lines = [f"{head}, {_takes(manifest)}", f"  {own}"]
    else:
        lines = [head, f"  {manifest.target}: {_takes(manifest)}", f"    {own}"]
    for level in levels[1:]:
        beside = " ".join(name for name in files if name.startswith(f"{level.target}/"))
        lines += [f"  {level.target}: {_takes(level)}", f"    {beside}"]
    return "\n".join([*lines, f'  python: m = compactir.load("{named(folder)}")'] if loads else lines)


def _levels(folder: Path, lowest: Manifest) -> list[Manifest]:
    """What is in the folder, lowest level first."""
    return [lowest, *(read_manifest(folder / name) for name in reversed(lowest.levels))]


def _takes(level: Manifest) -> str:
    return f"weights {megabytes(level.weights_bytes)}, workspace {megabytes(level.workspace_bytes)}"

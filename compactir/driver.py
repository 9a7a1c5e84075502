"""The road on one page: model file → Graph → passes → Plan → C → library → loaded module.

    module = compactir.compile("model.arch", target="native", width=0.5)
    module = compactir.load("out")

The steps are functions of their own, because every tool walks some part of the road:

    read(Source("model.arch"))        the graph as authored, with its weights          → Authored
    plan(authored, target)            passes, then lowering: what will run             → Planned
    generate(planned)                 C text, packed weights, manifest                 → Generated
    build(generated)                  the library, in the cache                        → Path
    write(generated, folder)          everything into an output folder, or nothing
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactir import __version__
from compactir.authored import Authored, Source, bind, read, read_graph, spell
from compactir.diagnostics import CompactError, check_argument, spell_list
from compactir.ir.graph import Graph
from compactir.targets import Target, load_levels

if TYPE_CHECKING:
    from compactir.codegen.c.emit import CFiles
    from compactir.codegen.lower import Choices, Lowered
    from compactir.ir.plan import Plan
    from compactir.passes import Log
    from compactir.runtime.manifest import Manifest
    from compactir.runtime.module import Module

__all__ = [
    "Authored",
    "Generated",
    "Planned",
    "Source",
    "bind",
    "build",
    "compile",
    "generate",
    "load",
    "plan",
    "read",
    "read_graph",
    "spell",
    "write",
]

MOST_THREADS = 64
"""More threads than this have nothing to share in a compact network."""

Dump = Callable[[str, Graph], None]


def compile(
    model: str | Path | Graph,
    *,
    out: str | Path | None = None,
    target: str = "native",
    network: str | None = None,
    batch: int = 1,
    weights: str | Path | None = None,
    map: str | Path | None = None,
    seed: int | None = None,
    also: str = "",
    threads: int = 1,
    winograd: bool = True,
    pack: str = "auto",
    freestanding: bool = False,
    cc: str | None = None,
    **defines: object,
) -> Module:
    """Compile a network and load it.

    Args:
        model: a .arch, .cir or .onnx file, or a graph.
        out: the output folder; by default one in the build cache.
        target: a name of `compactc targets`; `native` is the best one that this CPU runs. Several levels of
            one processor, `x86,x86-avx512`: the best that the CPU has is chosen when the module is loaded.
        network: which network of the file, where it has several.
        batch: N of every input.
        weights: a .safetensors, .npz, .onnx or PyTorch file, instead of the one that the network names.
        map: names of that file that are not ours: "auto" by order and shape, or a file of patterns.
        seed: draw the weights at random.
        also: passes that run before those of the pipeline, such as `factorise{error=0.1}`.
        threads: on how many threads a call runs, unless it asks for fewer.
        winograd: let dense 3×3 convolutions take fewer multiplications, and round more.
        pack: where the weights go: "auto", "inline" (into the C), "object" (linked), "file".
        freestanding: bring memcpy and its like, so that the C needs no library at all.
        cc: the C compiler, by default the first that is found.
        **defines: parameters of the network and choices, such as `width=0.5`.

    Raises:
        CompactError: what is wrong with the model, its weights or the toolchain, and what to do; CIR678
            for an argument of a kind that means nothing here.
    """
    _check_arguments(
        model=model,
        out=out,
        target=target,
        network=network,
        batch=batch,
        weights=weights,
        map=map,
        seed=seed,
        also=also,
        threads=threads,
        winograd=winograd,
        pack=pack,
        freestanding=freestanding,
        cc=cc,
    )
    spelled = {name: spell(value) for name, value in defines.items()}
    number = None if seed is None else int(seed)
    source = Source(model, spelled, network, int(batch), weights, number, map)
    authored = read(source)
    lowest, *above = (replace(t, winograd=t.winograd and winograd) for t in load_levels(target))
    generated = generate(
        plan(authored, lowest, also=also, threads=threads), pack=pack, freestanding=freestanding
    )
    library = build(generated, cc)
    more: dict[str, str | bytes | Path] = {}
    for level in above:
        symbol = level_symbol(generated, level)
        planned = plan(authored, level, also=also, threads=threads)
        higher = generate(planned, pack=pack, symbol=symbol, freestanding=freestanding)
        more |= with_level(higher, build(higher, cc))
    generated = leveled(generated, above)
    folder = (
        write(generated, Path(out), library, more)
        if out is not None
        else write_to_cache(generated, library, more)
    )
    return load(folder, cc)


_PATH = (str, os.PathLike)
_PACKS = ("auto", "inline", "object", "file")


_ARGUMENTS: dict[str, tuple[tuple[type, ...], str, Callable[[Any], bool] | None]] = {
    "model": ((*_PATH, Graph), "the path of a .arch or .cir file, or a graph", None),
    "out": ((*_PATH, type(None)), "the path of a folder", None),
    "target": ((str,), "a name of `compactc targets`, or `native`", None),
    "network": ((str, type(None)), "the name of a network in the file", None),
    "batch": ((Integral,), "a whole number of at least 1", lambda n: n >= 1),
    "weights": ((*_PATH, type(None)), "the path of a .safetensors file", None),
    "map": ((*_PATH, type(None)), '"auto", or the path of a file of patterns', None),
    "seed": ((Integral, type(None)), "a whole number of at least 0", lambda n: (n or 0) >= 0),
    "also": ((str,), "a list of passes such as `factorise{error=0.1}`", None),
    "threads": ((Integral,), "a whole number of at least 1", lambda n: n >= 1),
    "winograd": ((bool,), "True or False", None),
    "pack": ((str,), f"one of {spell_list(_PACKS, 'or')}", lambda word: word in _PACKS),
    "freestanding": ((bool,), "True or False", None),
    "cc": ((str, type(None)), "the name or path of a C compiler", None),
}
"""Argument of `compile` -> its kinds, what the help says, what else must hold."""


def _check_arguments(**given: object) -> None:
    """Errors: CIR678."""
    for name, value in given.items():
        kinds, wanted, fits = _ARGUMENTS[name]
        check_argument(name, value, kinds, wanted, fits)


def load(path: str | Path, cc: str | None = None) -> Module:
    """The module of an output folder. Errors: room 6xx, each naming the file and the way out.

    Args:
        path: the folder.
        cc: the C compiler for code that an emulator runs, by default the one that built the library.
    """
    from compactir.runtime.module import load as load_module

    return load_module(path, cc)


# -- from the graph to C -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """What will run: the graph after the passes, and the plan with its packed weights."""

    authored: Authored
    graph: Graph
    target: Target
    lowered: Lowered
    log: Log
    also: str = ""
    """The passes that were asked for beside those of the pipeline."""


@dataclass(frozen=True)
class Generated:
    """The C text and everything that lies beside it."""

    planned: Planned
    files: CFiles
    manifest: Manifest

    @property
    def texts(self) -> dict[str, str]:
        """File name → text of the C files."""
        return {self.manifest.source: self.files.source, self.manifest.header: self.files.header}


def optimize(
    authored: Authored,
    target: Target,
    *,
    also: str = "",
    verify_each: bool = False,
    dump: Dump | None = None,
) -> tuple[Graph, Log]:
    """The graph after the passes of the C pipeline, and what they decided; the authored one stays.

    `also` names passes of no pipeline, as `compactc opt --passes` spells them; they run first.
    """
    from compactir.passes import parse_pipeline, run_pipeline
    from compactir.passes.pipelines import pipeline

    graph, steps = authored.graph.clone(), [*parse_pipeline(also), *pipeline("c", target)]
    return graph, run_pipeline(graph, steps, verify_each=verify_each, dump=dump)


def check_threads(threads: int) -> None:
    """Errors: CIR504 for a number that nobody could want."""
    if not 1 <= threads <= MOST_THREADS:
        raise CompactError(
            "CIR504",
            f"a call cannot run on {threads} threads",
            help=f"give a number from 1 to {MOST_THREADS}, at best that of the cores it will have",
        )


def check_freestanding(target: Target, *, threads: int = 1, library: bool = False) -> None:
    """What code without an operating system cannot do. Errors: CIR506."""
    if threads > 1:
        raise CompactError(
            "CIR506",
            "freestanding code starts no threads",
            notes=["threads come from an operating system"],
            help="leave `--threads` out",
        )
    if library and target.bare:
        raise CompactError(
            "CIR506",
            f"`{target.name}` has no operating system that loads a shared library",
            help="`--emit c,archive,project` writes C and a static library; `--target c` tries it here",
        )


def plan(
    authored: Authored,
    target: Target,
    *,
    also: str = "",
    threads: int = 1,
    choices: Choices | None = None,
    verify_each: bool = False,
    dump: Dump | None = None,
) -> Planned:
    """Passes and lowering, for calls on at most so many threads; `choices` are those of tuning.

    Errors: room 4xx; CIR501 for an operation that the target has no kernel for, CIR504 for an odd number of
    threads, CIR306 where a bug of ours would make code that reads what was not written, or its like.
    """
    from compactir.codegen.lower import lower

    check_threads(threads)
    graph, log = optimize(authored, target, also=also, verify_each=verify_each, dump=dump)
    lowered = lower(graph, target, threads, choices)
    _check(lowered.plan)
    return Planned(authored, graph, target, lowered, log, also)


def _check(plan: Plan) -> None:
    """Refuse what would be a wrong result or a wild access in C. Errors: CIR306."""
    from compactir.ir.verify_plan import verify_plan

    try:
        verify_plan(plan)
    except CompactError as error:
        first, *others = error.parts()
        more = [f"{len(others)} more of its places break a rule"] if others else []
        ours = (
            f"this is a bug of ours (compactir {__version__}), not a mistake in your file; nothing is written"
        )
        raise CompactError(
            first.code,
            first.message,
            span=first.span,
            notes=[*more, ours],
            help="please report it with the command and the model",
        ) from error


def generate(
    planned: Planned, *, pack: str = "auto", symbol: str | None = None, freestanding: bool = False
) -> Generated:
    """The C text, with the weights where `pack` says: "auto", "inline", "object", "file" (see `emit_c`).

    Errors: CIR506 for threads where no system starts them.
    """
    from compactir.codegen.c.emit import emit_c

    freestanding = freestanding or planned.target.bare
    if freestanding:
        check_freestanding(planned.target, threads=planned.lowered.plan.threads)
    files = emit_c(planned.lowered, planned.target, pack=pack, symbol=symbol, freestanding=freestanding)
    return Generated(planned, files, _manifest(planned, files))


def _manifest(planned: Planned, files: CFiles) -> Manifest:
    from compactir.runtime.manifest import Buffer, Manifest, Step, Tensor

    target, it, symbol = planned.target, planned.lowered.plan, files.symbol
    return Manifest(
        network=planned.graph.name,
        symbol=symbol,
        target=target.name,
        isa=target.isa,
        cpu_features=target.cpu_features,
        inputs=tuple(Tensor(t.name, "f32", t.shape) for t in it.inputs),
        outputs=tuple(Tensor(t.name, "f32", t.shape) for t in it.outputs),
        workspace_bytes=files.workspace_bytes,
        weights_bytes=files.weights_bytes,
        align=target.align,
        content_id=files.content_id.hex(),
        library=f"lib{symbol}.so",
        weights=f"{symbol}.weights" if files.weights == "file" else None,
        source=f"{symbol}.c",
        header=f"{symbol}.h",
        steps=tuple(
            Step(
                s.name,
                "+".join(dict.fromkeys(c.kernel.kind for c in s.calls)),
                s.op,
                s.macs,
                s.bytes_moved,
                s.name,
                s.where,
                s.nodes or (s.name,),
            )
            for s in it.steps
        ),
        memory=tuple(
            Buffer(b.name, 4 * b.offset, 4 * b.floats, b.first, b.last)
            for b in it.buffers
            if b.region == "arena"
        ),
        threads=it.threads,
        raw={
            "compactir": __version__,
            "init": dict(planned.authored.init),
            **({"also": planned.also} if planned.also else {}),
            **({} if target.winograd else {"winograd": False}),
            **({"freestanding": True} if files.freestanding else {}),
            "distances": _distances(planned.authored.graph),
            **({"object": [f"{symbol}_weights.S", f"{symbol}.weights"]} if files.weights == "object" else {}),
        },
    )


def _distances(graph: Graph) -> list[str]:
    """The outputs whose smallest element is the answer: `compactc run` sorts by that."""
    makers = graph.makers()
    return [name for name, value in graph.outputs.items() if value in makers and makers[value].op.distance]


# -- from C to a folder --------------------------------------------------------------------------------------


def build(generated: Generated, cc: str | None = None) -> Path:
    """The shared library, in the cache. Errors: room 5xx; CIR506 where no system could load one."""
    from compactir.runtime.build import find_compiler
    from compactir.runtime.package import build_library

    target, embed = generated.planned.target, _embedded(generated)
    check_freestanding(target, library=True)
    return build_library(generated.manifest, generated.texts, target, find_compiler(target, cc), embed=embed)


def archive(generated: Generated, cc: str | None = None) -> Path:
    """The static library, in the cache. Errors: room 5xx."""
    from compactir.runtime.build import find_compiler
    from compactir.runtime.package import build_library

    target, embed = generated.planned.target, _embedded(generated)
    compiler = find_compiler(target, cc)
    return build_library(generated.manifest, generated.texts, target, compiler, embed=embed, archive=True)


def project(generated: Generated) -> dict[str, str]:
    """An example that runs, CMakeLists.txt, a pkg-config file: file name → text."""
    from compactir.codegen.c.project import project_files

    planned = generated.planned
    return project_files(planned.lowered.plan, generated.files, planned.target)


def _packed(generated: Generated) -> bytes:
    from compactir.weights.container import pack

    return pack(generated.planned.lowered.weights, generated.files.content_id)


def _embedded(generated: Generated) -> bytes | None:
    return _packed(generated) if generated.files.weights == "object" else None


def contents(generated: Generated, library: Path | None = None) -> dict[str, str | bytes | Path]:
    """File name → content of everything that a module consists of, without the manifest."""
    from compactir.runtime.package import object_sources

    manifest = generated.manifest
    files: dict[str, str | bytes | Path] = dict(generated.texts)
    if library and manifest.library:
        files[manifest.library] = library
    if manifest.weights:
        files[manifest.weights] = _packed(generated)
    elif (packed := _embedded(generated)) is not None:
        files |= object_sources(manifest, packed)
    return files


def write(
    generated: Generated,
    folder: Path,
    library: Path | None = None,
    extra: Mapping[str, str | bytes | Path] | None = None,
) -> Path:
    """Put a module (and more files) into an output folder, all or nothing; returns the folder.

    Errors: CIR652 when the folder cannot be written.
    """
    from compactir.runtime.publish import publish

    files = contents(generated, library) | dict(extra or {})
    return publish(folder, _final_manifest(generated, library, files), files)


def _final_manifest(
    generated: Generated, library: Path | None, files: Mapping[str, str | bytes | Path]
) -> Manifest:
    """The manifest of what was built, with its compiler; the static library's where there is no other."""
    from compactir.runtime.package import built_by

    manifest = generated.manifest if library else replace(generated.manifest, library=None)
    built = library or files.get(f"lib{manifest.symbol}.a")
    record = built_by(built) if isinstance(built, Path) else None
    return replace(manifest, raw={**manifest.raw, "compiler": record}) if record else manifest


def level_symbol(lowest: Generated, level: Target) -> str:
    """The prefix of a further level's public names: all levels can be linked into one program."""
    return f"{lowest.files.symbol}_{level.name.replace('-', '_')}"


def with_level(generated: Generated, library: Path | None) -> dict[str, str | bytes | Path]:
    """A further level of a module: all its files, in a folder of the target's name."""
    from compactir.runtime.interface import ffi_source
    from compactir.runtime.manifest import FILE

    files = contents(generated, library)
    manifest = _final_manifest(generated, library, files)
    files |= {manifest.ffi: ffi_source(manifest), FILE: manifest.to_json()}
    return {f"{manifest.target}/{name}": content for name, content in files.items()}


def leveled(generated: Generated, above: Sequence[Target]) -> Generated:
    """The lowest level of a module, whose manifest names those above it, best first."""
    names = [target.name for target in reversed(above)]
    return replace(generated, manifest=replace(generated.manifest, levels=tuple(names)))


def write_to_cache(
    generated: Generated, library: Path, extra: Mapping[str, str | bytes | Path] | None = None
) -> Path:
    """The module (and more files) as an entry of the build cache."""
    from compactir.runtime.cache import content_key, open_cache
    from compactir.runtime.package import write_folder

    files = contents(generated, library) | dict(extra or {})
    manifest = _final_manifest(generated, library, files)
    parts = [part for name in sorted(files) for part in (name, files[name])]
    key = content_key("module", manifest.to_json(), *parts)
    return open_cache().build(key, lambda aside: write_folder(aside, manifest, files))

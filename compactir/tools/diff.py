"""`compactc diff A B`: two graphs, stages of a pipeline, or targets, as text and in numbers.

compactc diff net.arch@authored @fold-batchnorm        two stages of one model
compactc diff net.arch@c @arm                          compiled for two targets
compactc diff old.cir new.cir                          two files
"""

from __future__ import annotations

import difflib
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compactir import reference
from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.driver import (
    Authored,
    build,
    check_freestanding,
    generate,
    load,
    optimize,
    plan,
    read,
    write_to_cache,
)
from compactir.ir.graph import Graph
from compactir.ir.text import print_graph
from compactir.ir.types import Array
from compactir.passes import pipeline
from compactir.targets import load_target, target_names
from compactir.tools import terminal
from compactir.tools.dumps import BEFORE
from compactir.tools.source import source_of, target_of
from compactir.tools.verify import Comparison, compare

AUTHORED, LAST = "authored", "last"


@dataclass
class Side:
    """One of the two: a graph, and every value of it (or the outputs of the compiled module).

    `lacking`: what keeps it from being run; arrays that passes computed, and that no file holds.
    """

    name: str
    graph: Graph
    lacking: str = ""
    outputs: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)


def main(args: Namespace) -> int:
    """Print the differences; 1 where the numbers disagree, or the texts where there are no numbers."""
    first, second = (operand(word) for word in (args.a, args.b))
    second = second if second[0] else (first[0], second[1])
    with terminal.working(f"reading {args.a}", quiet=args.json) as say:
        left, right = side(*first, args), side(*second, args)
        if runs := not (left.lacking or right.lacking):
            say("running both")
            _evaluate(left, right)
    changes = structure(left, right)
    outputs, values = numbers(left, right) if runs else ([], [])
    if args.json:
        terminal.print_json(_json(left, right, changes, outputs, values))
    else:
        _print(left, right, changes, outputs, values)
    return 0 if (all(c.agrees for c in outputs) if runs else not changes) else 1


def check(args: Namespace) -> None:
    """Errors: CIR675 for an operand without a file, or with an unknown stage."""
    for word in (args.a, args.b):
        file, what = operand(word)
        if file:
            source_of(args, file)
        elif word == args.a:
            raise CompactError(
                "CIR675", "the first of the two needs a file", help="`compactc diff FILE@STAGE @STAGE`"
            )
        _check_stage(what, args)
        if what in (*target_names(), "native"):
            check_freestanding(load_target(what), library=True)


def _check_stage(what: str, args: Namespace) -> None:
    passes = dict.fromkeys(step.name for step in pipeline("c", target_of(args)))
    stages = [AUTHORED, *passes, LAST]
    if what not in ("", *stages, *(BEFORE + name for name in passes), *target_names(), "native"):
        raise CompactError(
            "CIR675",
            f"`{what}` is neither a stage nor a target",
            notes=[f"the stages are {spell_list(stages, limit=99)}; `before:PASS` is one too"],
            help=did_you_mean(what, [*stages, *target_names()]),
        )


def operand(word: str) -> tuple[str, str]:
    """`net.arch@arm` → file and what of it; `@arm` has no file; a file with that name is a file."""
    if Path(word).is_file():
        return word, ""
    file, at, what = word.rpartition("@")
    return (file, what) if at else (word, "")


def side(file: str, what: str, args: Namespace) -> Side:
    """The graph that an operand names: as authored, at a stage, or after the passes for a target."""
    authored, lacking = _read(file, args)
    name = f"{file}@{what}" if what else file
    if what in ("", AUTHORED):
        return Side(name, authored.graph, lacking)
    if what in (*target_names(), "native"):
        outputs = {} if lacking else _compiled(authored, what, args)
        return Side(name, optimize(authored, load_target(what))[0], lacking, outputs)
    return Side(name, _stage(authored, what, args), lacking)


def _read(file: str, args: Namespace) -> tuple[Authored, str]:
    """The graph of a file, and what is lacking, so that only its text says anything."""
    source = source_of(args, file)
    try:
        return read(source, warn=False), ""
    except CompactError as error:
        if error.code != "CIR601":
            raise
        return read(source, warn=False, stand_in=True), error.message


def _compiled(authored: Authored, target: str, args: Namespace) -> dict[str, Array]:
    """The outputs of the module for a target, on the inputs that everybody gets."""
    generated = generate(plan(authored, load_target(target)))
    module = load(write_to_cache(generated, build(generated, args.cc)), args.cc)
    inputs = reference.random_inputs(authored.graph)
    result = module(*(inputs[name] for name in module.inputs))
    return result if isinstance(result, dict) else {next(iter(module.outputs)): result}


def _stage(authored: Authored, what: str, args: Namespace) -> Graph:
    """The graph after a pass, before one, or after the last."""
    kept: dict[str, Graph] = {}

    def keep(stage: str, graph: Graph) -> None:
        if stage == what:
            kept[stage] = graph.clone()

    last, _ = optimize(authored, target_of(args), dump=keep)
    return last if what == LAST else kept[what]


def _evaluate(left: Side, right: Side) -> None:
    """Run the reference on both graphs, with the same inputs. Errors: CIR676 where those differ."""
    shapes = [{v.name: v.type.shape for v in s.graph.inputs} for s in (left, right)]
    if shapes[0] != shapes[1] or set(left.graph.outputs) != set(right.graph.outputs):
        raise CompactError(
            "CIR676",
            "the two have different inputs or outputs",
            notes=[_takes_and_gives(it) for it in (left, right)],
            help="give two forms of one network, with the same `-D` and `--batch`",
        )
    for it in (left, right):
        results = reference.trace(it.graph, reference.random_inputs(it.graph))
        it.values = {value.name: array for value, array in results.items()}
        it.outputs = it.outputs or {name: results[value] for name, value in it.graph.outputs.items()}


def _takes_and_gives(it: Side) -> str:
    takes = spell_list([f"`{v.name}` {list(v.type.shape)}" for v in it.graph.inputs])
    return f"{it.name} takes {takes} and returns {spell_list([f'`{name}`' for name in it.graph.outputs])}"


def structure(left: Side, right: Side) -> list[str]:
    """The unified difference of the two texts."""
    old, new = (print_graph(s.graph, spans=False).splitlines() for s in (left, right))
    return list(difflib.unified_diff(old, new, left.name, right.name, lineterm=""))


def numbers(left: Side, right: Side) -> tuple[list[Comparison], list[Comparison]]:
    """Outputs, and the values that have the same name on both sides, in the order of the first."""
    outputs = [compare(name, right.outputs[name], left.outputs[name]) for name in left.outputs]
    where = {n.out.name: f"{n.span}" if n.span else "" for n in left.graph.nodes}
    common = [n.out.name for n in left.graph.nodes if n.out.name in right.values]
    return outputs, [compare(name, right.values[name], left.values[name], where[name]) for name in common]


# -- showing it ----------------------------------------------------------------------------------------------


def _print(
    left: Side, right: Side, changes: list[str], outputs: list[Comparison], values: list[Comparison]
) -> None:
    print("\n".join(changes) if changes else "the graphs are equal", end="\n\n")
    if lacking := [f"{it.name}: {it.lacking}" for it in (left, right) if it.lacking]:
        print("no numbers are compared:", *lacking, sep="\n  ")
        print("  `compactc opt … --save-weights FILE` writes them, `--weights FILE` gives them")
        return
    wrong = [c for c in values if not c.agrees]
    rows = [
        (kind, c.name, f"{c.error:.3g}", f"{c.scale:.4g}", f"{c.relative:.1e}", c.agrees, c.where)
        for kind, found in (("value", wrong[:8]), ("output", outputs))
        for c in found
    ]
    columns = ("", "name", "max|difference|>", "max|first|>", "relative>", "agrees", "where")
    same = f"{len(values) - len(wrong)} of {len(values)} values with a common name agree"
    terminal.table(f"{left.name} and {right.name}: {same}", columns, rows)


def _json(
    left: Side, right: Side, changes: list[str], outputs: list[Comparison], values: list[Comparison]
) -> dict[str, Any]:
    def rows(found: list[Comparison]) -> list[dict[str, Any]]:
        return [{"name": c.name, "relative": c.relative, "agrees": c.agrees, "where": c.where} for c in found]

    return {
        "a": left.name,
        "b": right.name,
        "changes": changes,
        "agrees": None if left.lacking or right.lacking else all(c.agrees for c in outputs),
        "lacking": {it.name: it.lacking for it in (left, right) if it.lacking},
        "outputs": rows(outputs),
        "values": rows(values),
    }

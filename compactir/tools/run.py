"""`compactc run`: files through a compiled network."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.driver import build, generate, load, plan, read, write_to_cache
from compactir.files import put
from compactir.ir.types import Array
from compactir.tools import terminal
from compactir.tools.images import Normalization, check_there, read_input
from compactir.tools.source import source_of, target_of

if TYPE_CHECKING:
    from compactir.runtime.module import Module

MANY = 1000
"""Outputs with more elements are not printed into JSON."""


def main(args: Namespace) -> int:
    """Run a model or an output folder on files."""
    for file in (*args.files, *dict(args.input).values()):
        check_there(Path(file))
    with terminal.working(f"compiling {args.model}", quiet=args.json) as say:
        module = module_of(args)
        say(f"running {module.name}")
        named = files_by_input(module, args.files, dict(args.input))
        normalize = _normalization(args)
        if args.out:
            _check_out(Path(args.out), len(module.outputs))
        inputs = {
            name: read_input(Path(file), module.inputs[name], normalize) for name, file in named.items()
        }
        outputs, seconds = run(module, inputs)
    if args.out:
        save(Path(args.out), outputs)
    if args.json:
        terminal.print_json(_json(module, outputs, seconds, args.top))
    else:
        _print(module, outputs, seconds, args.top)
    return 0


def module_of(args: Namespace) -> Module:
    """The module of a folder, or of a model, which is compiled into the cache."""
    if Path(args.model).is_dir():
        return load(args.model)
    generated = generate(plan(read(source_of(args)), target_of(args)))
    return load(write_to_cache(generated, build(generated, args.cc)), args.cc)


def files_by_input(module: Module, files: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Input name → file. Errors: CIR620 where files and inputs do not match."""
    names = list(module.inputs)
    for name in named:
        if name not in names:
            hint = did_you_mean(name, names) or f"the inputs are {spell_list([f'`{n}`' for n in names])}"
            raise CompactError("CIR620", f"`{module.name}` has no input named `{name}`", help=hint)
    open_names = [name for name in names if name not in named]
    if len(files) != len(open_names):
        what = spell_list([f"`{name}`" for name in open_names]) or "no more"
        raise CompactError(
            "CIR620",
            f"{_count(len(files), 'file')} for {_count(len(open_names), 'open input')} of `{module.name}`",
            help=f"it takes {what}: one file each, or `--input NAME=FILE`",
        )
    return dict(named) | dict(zip(open_names, files, strict=True))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def run(module: Module, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], float]:
    """Every output over all batches, and the seconds of all calls. Errors: CIR667 for unequal lengths."""
    lengths = {name: len(array) // module.inputs[name].shape[0] for name, array in inputs.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"`{name}`: {count}" for name, count in lengths.items())
        raise CompactError("CIR667", f"the inputs hold different numbers of batches: {counts}")
    results: list[dict[str, Array]] = []
    seconds = 0.0
    for k in range(next(iter(lengths.values()), 1)):
        batch = [_slice(inputs[name], k, t.shape[0]) for name, t in module.inputs.items()]
        start = perf_counter()
        result = module(*batch)
        seconds += perf_counter() - start
        results.append(result if isinstance(result, dict) else {next(iter(module.outputs)): result})
    return {name: np.concatenate([r[name] for r in results]) for name in module.outputs}, seconds


def _slice(array: Array, k: int, size: int) -> Array:
    return array[k * size : (k + 1) * size]


def check(args: Namespace) -> None:
    """Errors: CIR665 for a file that no array is written to, CIR668."""
    _normalization(args)
    if args.out:
        _check_out(Path(args.out), 1)


def _normalization(args: Namespace) -> Normalization:
    return Normalization(args.mean or (), args.std or ())


def _check_out(path: Path, outputs: int) -> None:
    """Errors: CIR665 for an ending that does not fit so many outputs."""
    if path.suffix not in (".npy", ".npz") or (path.suffix == ".npy" and outputs > 1):
        ending = ".npz" if outputs > 1 else ".npy"
        raise CompactError(
            "CIR665", f"outputs cannot be written to `{path}`", help=f"give it the ending `{ending}`"
        )


def save(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write .npy (one output) or .npz. Errors: CIR652."""
    content = BytesIO()
    if path.suffix == ".npy":
        np.save(content, next(iter(outputs.values())))
    else:
        named: dict[str, Any] = dict(outputs)
        np.savez(content, **named)
    put(path, content.getvalue())


# -- showing what came out -----------------------------------------------------------------------------------


def best(scores: Array, top: int, distance: bool) -> list[tuple[int, float]]:
    """The classes with the highest scores or the smallest distances, best first; NaN counts as the worst."""
    badness = scores if distance else -scores
    order = np.argsort(np.nan_to_num(badness, nan=np.inf, posinf=np.inf, neginf=-np.inf), kind="stable")[:top]
    return [(int(i), float(scores[i])) for i in order]


def _print(module: Module, outputs: Mapping[str, Array], seconds: float, top: int) -> None:
    for name, array in outputs.items():
        title = f"{module.name}.{name}: {list(array.shape)}, {1e3 * seconds / len(array):.3g} ms per item"
        if array.ndim == 2:
            what = _measure(module, name)
            items = enumerate(array[:MANY])
            rows = [(k, i, f"{s:.6g}") for k, item in items for i, s in best(item, top, what == "distance")]
            if len(array) == 1:
                terminal.table(title, ("class>", f"{what}>"), [row[1:] for row in rows])
            else:
                terminal.table(title, ("item>", "class>", f"{what}>"), rows)
        else:
            figures = [(f.__name__, f"{f(array):.6g}") for f in (np.min, np.mean, np.max)]
            terminal.table(title, ("", "value>"), figures)


def _measure(module: Module, output: str) -> str:
    """What the elements of an output say about their classes."""
    return "distance" if output in module.manifest.raw.get("distances", ()) else "score"


def _json(module: Module, outputs: Mapping[str, Array], seconds: float, top: int) -> dict[str, Any]:
    return {
        "network": module.name,
        "target": module.target,
        "seconds": seconds,
        "outputs": {name: _output(array, top, _measure(module, name)) for name, array in outputs.items()},
    }


def _output(array: Array, top: int, what: str) -> dict[str, Any]:
    """Shape, values unless there are many, and the best classes; NaN and infinities are null in JSON."""
    result: dict[str, Any] = {"shape": list(array.shape)}
    if array.size <= MANY:
        values = array.astype(object)
        values[~np.isfinite(array)] = None
        result["values"] = values.tolist()
    if array.ndim == 2:
        result["best"] = [
            [{"class": i, what: _finite(s)} for i, s in best(item, top, what == "distance")] for item in array
        ]
    return result


def _finite(score: float) -> float | None:
    return score if np.isfinite(score) else None

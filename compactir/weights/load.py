"""Weights from a file onto a graph: read by its ending, matched by name, checked before any is used.

    notes: list[str] = []
    graph.weights = load_weights(graph, Path("lenet5.safetensors"), notes)

Nothing here executes what a file holds: .pt files go through PyTorch's restricted reader only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.ir.graph import Graph, Param
from compactir.ir.types import Array
from compactir.weights.align import by_graph
from compactir.weights.auto import map_auto
from compactir.weights.mapping import AUTO, Mapped, apply, map_by_file, table
from compactir.weights.npz import read_npz
from compactir.weights.safetensors import read_safetensors
from compactir.weights.stored import Stored
from compactir.weights.torch_file import read_torch

__all__ = ["ENDINGS", "check_ending", "load_weights", "match_weights", "read_weights"]

_log = logging.getLogger("compactir")

Reader = Callable[[Path, list[str]], dict[str, Stored]]
"""Everything that a file holds, by name; notes get lines."""

ModelReader = Callable[[Path], Graph]
"""A model as a graph with weights."""

_WIDENED = {"float16", "bfloat16"}
_ROUNDED = {"float64"}
_COUNTERS = ".num_batches_tracked"
"""PyTorch's batch norms count their training batches; nothing reads it afterwards."""
_LISTED = 40
"""Lines per kind of problem: more than anybody reads, less than fills a terminal's memory."""


def load_weights(
    graph: Graph,
    path: Path,
    notes: list[str] | None = None,
    map: str | Path | None = None,
    more: Mapping[str, Reader] | None = None,
    models: Mapping[str, ModelReader] | None = None,
) -> dict[str, Array]:
    """The arrays for all parameters of a graph, float32, in memory of their own.

    Args:
        graph: whose `params` name what is needed; its `weights` are not touched.
        path: a .safetensors, .npz or PyTorch file (.pt, .pth, .bin).
        notes: gets a line for everything that is not exactly as in the file.
        map: how names of the file become ours: "auto" (by order and shape), or a file of patterns.
        more: readers of further kinds of files, by ending.
        models: for files that are whole models, what reads them as graphs: "auto" goes by the layers there,
            and by names between layers that stand alike.

    Raises:
        CompactError: CIR640…642, 644, 645 when the file cannot be used; CIR643, listing every difference,
            when it does not fit; CIR646…648 when names cannot be mapped.
    """
    said = notes if notes is not None else []
    tensors = read_weights(path, said, more)
    if map is None:
        return match_weights(graph, tensors, path.name, said)
    model = (models or {}).get(path.suffix.lower())
    if map == AUTO and model is not None:
        mapped, tensors = _by_model(graph, path, model, tensors, said)
    else:
        mapped = map_auto(graph, tensors, path.name) if map == AUTO else map_by_file(Path(map), list(tensors))
    if map == AUTO:
        said.append(f"--map auto lays {path.name} onto `{graph.name}`:\n{table(mapped, tensors)}")
    shapes = {name: param.type.shape for name, param in graph.params.items()}
    try:
        return match_weights(graph, apply(mapped, tensors, shapes, said), path.name, said)
    except CompactError as error:
        raise error.at(None, *mapped.unused) from None


def _by_model(
    graph: Graph, path: Path, model: ModelReader, tensors: dict[str, Stored], notes: list[str]
) -> tuple[Mapped, dict[str, Stored]]:
    """By the layers of a model, which names must not contradict; by names where it has other layers.

    Numbers in names count only there: the model itself says what comes first.
    """
    wanting: CompactError | None = None
    try:
        by_names = map_auto(graph, tensors, path.name, flat=False)
    except CompactError as error:
        wanting = error
    named = None
    if wanting is None:
        shapes = {name: param.type.shape for name, param in graph.params.items()}
        stored = apply(by_names, tensors, shapes, [])
        named = {name: np.asarray(tensor.array, np.float32) for name, tensor in stored.items()}
    try:
        theirs = model(path)
    except CompactError as reason:
        why = f"its layers cannot be compared: {reason.code}: {reason.message}"
        if wanting is not None:
            raise wanting.at(None, why) from None
        notes.append(f"the tensors of {path.name} go by their names alone; {why}")
        return by_names, tensors
    try:
        mapped, found, said = by_graph(graph, theirs, path.name, named)
    except CompactError as error:
        if wanting is not None or error.code != "CIR646":
            raise
        notes.append(f"the tensors of {path.name} go by their names alone: {'; '.join(error.notes)}")
        return by_names, tensors
    notes += said
    return (mapped, found) if named is None else (by_names, tensors)


def read_weights(
    path: Path, notes: list[str] | None = None, more: Mapping[str, Reader] | None = None
) -> dict[str, Stored]:
    """Everything that a weights file holds, by name. Arguments and errors as `load_weights`."""
    said = notes if notes is not None else []
    reader = check_ending(path, more)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CompactError("CIR640", f"the weights file {path} {what}", help=_nearby(path))
    return _without_prefix(reader(path, said), said)


def check_ending(path: Path, more: Mapping[str, Reader] | None = None) -> Reader:
    """Who reads a file of that name. Errors: CIR641."""
    readers = _READERS | dict(more or {})
    reader = readers.get(path.suffix.lower())
    if reader is None:
        ending = f"`{path.suffix}`" if path.suffix else "no ending"
        raise CompactError(
            "CIR641",
            f"{path} has {ending}, which says nothing about how to read it",
            help=f"the endings are {spell_list(list(readers), 'or')}; safetensors is the best of them",
        )
    return reader


def match_weights(
    graph: Graph, tensors: Mapping[str, Stored], origin: str, notes: list[str] | None = None
) -> dict[str, Array]:
    """Check tensors against the parameters of a graph, all of them, and convert them to float32.

    A kernel of a sequence, (O, I, k), is one of a map of one row, (O, I, 1, k).

    Args:
        graph: whose parameters they are for.
        tensors: by name.
        origin: the file's name, for messages.
        notes: gets a line for each kind of conversion.

    Warns: CIR649 of infinite weights.

    Raises:
        CompactError: CIR643 with a note per difference.
    """
    said = notes if notes is not None else []
    counters = {name for name in tensors if name.endswith(_COUNTERS) and name not in graph.params}
    missing = [name for name in graph.params if name not in tensors]
    extra = [name for name in tensors if name not in graph.params and name not in counters]
    common = {n: (param, _on_map(tensors[n], param)) for n, param in graph.params.items() if n in tensors}
    wrong = {name: p for name, (param, tensor) in common.items() if (p := _problem(param, tensor))}
    if missing or extra or wrong:
        raise _misfit(graph, tensors, origin, missing, extra, wrong)
    if counters:
        said.append(f"{_count(len(counters), 'counter')} of training batches in {origin} play no part")
    _say_conversions(common, origin, said)
    loaded = {name: np.array(tensor.array, np.float32) for name, (_, tensor) in common.items()}
    _warn_of_infinities(loaded, origin)
    return loaded


def _on_map(tensor: Stored, param: Param) -> Stored:
    """A tensor as it is, a kernel of a sequence with the axis that a map has more."""
    array = tensor.array
    if array.ndim != 3 or param.type.shape != (*array.shape[:2], 1, array.shape[2]):
        return tensor
    return Stored(tensor.dtype, array[:, :, None])


def need_sound(graph: Graph, origin: str) -> None:
    """For weights that came with their network, in `origin`.

    Warns: CIR649 of infinite ones. Errors: CIR643 with a note per wrong tensor.
    """
    stored = {name: Stored("float32", graph.weights[name]) for name in graph.params if name in graph.weights}
    wrong = {name: p for name, tensor in stored.items() if (p := _problem(graph.params[name], tensor))}
    if wrong:
        raise CompactError(
            "CIR643",
            f"the weights in {origin} cannot be used: {len(wrong)} wrong",
            notes=_cut(list(wrong.values())),
            help="was the training broken off, or has a number overflowed?",
        )
    trained = (
        name for name in stored if graph.params[name].init != "folded"
    )  # others are masks of the network's
    _warn_of_infinities({name: graph.weights[name] for name in trained}, origin)


def _warn_of_infinities(weights: Mapping[str, Array], origin: str) -> None:
    """Warns: CIR649. They are numbers, and a bias of minus infinity has its uses; most are damage."""
    found = {name: np.isinf(array) for name, array in weights.items()}
    places = [f"`{name}` in {_count(int(at.sum()), 'place')}" for name, at in found.items() if at.any()]
    if places:
        listed = spell_list(places, limit=4)
        _log.warning("%s: %s holds infinite weights: %s", "CIR649", origin, listed)


# -- does it fit? --------------------------------------------------------------------------------------------


def _problem(param: Param, tensor: Stored) -> str | None:
    """What is wrong with the tensor of one parameter."""
    if tensor.dtype not in {"float32", *_WIDENED, *_ROUNDED}:
        return f"`{param.name}` is {tensor.dtype}, not a floating-point number"
    array = tensor.array
    if array.shape != param.type.shape:
        return f"`{param.name}` has shape {list(array.shape)}, the network wants {list(param.type.shape)}"
    if count := int(np.isnan(array).sum()):
        return f"`{param.name}` holds NaN in {_count(count, 'place')}, first at {_first(np.isnan(array))}"
    if param.init == "variance" and (array < 0).any():
        return f"`{param.name}` is a variance and negative at {_first(array < 0)}"
    if tensor.dtype in _ROUNDED:
        with np.errstate(over="ignore"):
            lost = np.isinf(array.astype(np.float32)) & ~np.isinf(array)
        if lost.any():
            return f"`{param.name}` is too large for float32 at {_first(lost)}"
    return None


def _misfit(
    graph: Graph,
    tensors: Mapping[str, Stored],
    origin: str,
    missing: list[str],
    extra: list[str],
    wrong: Mapping[str, str],
) -> CompactError:
    """One error with all differences."""
    counts = {"missing": len(missing), "unknown": len(extra), "wrong": len(wrong)}
    summary = spell_list([f"{n} {what}" for what, n in counts.items() if n])
    wanted = [f"missing: `{name}` {graph.params[name].type}" for name in missing]
    unknown = [f"unknown: `{name}` {tensors[name].dtype}{list(tensors[name].array.shape)}" for name in extra]
    notes = [line for lines in (wanted, unknown, list(wrong.values())) for line in _cut(lines)]
    return CompactError(
        "CIR643",
        f"the weights in {origin} do not fit `{graph.name}`: {summary}",
        notes=notes,
        help=_misfit_help(graph, tensors, missing, extra),
    )


def _misfit_help(graph: Graph, tensors: Mapping[str, Stored], missing: list[str], extra: list[str]) -> str:
    """A misspelt name if there is one, else where names come from."""
    for name in missing:
        shape = graph.params[name].type.shape
        fitting = [other for other in extra if tensors[other].array.shape == shape]
        if near := get_close_matches(name, fitting, n=1, cutoff=0.8):
            return f"is `{near[0]}` meant to be `{name}`? their shapes are equal"
    if missing and len(missing) == len(graph.params):
        return (
            "no name is common to both: were they saved from another network? Names of another "
            "program are taken over by `--map auto` (by order and shape) or `--map FILE`"
        )
    if missing or extra:
        return (
            "parameters are named after block, operation and position, or labels: `compactc MODEL --emit ir` "
            "shows them; `--map auto` takes others over by order and shape"
        )
    return "were they saved from this network, with the same parameters (`-D`)?"


def _say_conversions(common: Mapping[str, tuple[Param, Stored]], origin: str, notes: list[str]) -> None:
    for kinds, how in ((_WIDENED, "widened to float32, exactly"), (_ROUNDED, "rounded to float32")):
        for kind in sorted(kinds):
            count = sum(tensor.dtype == kind for _, tensor in common.values())
            notes += [f"{_count(count, 'tensor')} of {origin}: {kind}, {how}"] if count else []


def _first(mask: Array) -> list[int]:
    """The index of the first true element."""
    return [int(i) for i in np.argwhere(mask)[0]]


def _cut(lines: list[str]) -> list[str]:
    return (
        lines
        if len(lines) <= _LISTED
        else [*lines[:_LISTED], f"… and {len(lines) - _LISTED} more like these"]
    )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


# -- reading the formats -------------------------------------------------------------------------------------


def _read_safetensors(path: Path, notes: list[str]) -> dict[str, Stored]:
    return read_safetensors(path)


def _read_npz(path: Path, notes: list[str]) -> dict[str, Stored]:
    return read_npz(path)


def _without_prefix(tensors: dict[str, Stored], notes: list[str]) -> dict[str, Stored]:
    """`torch.nn.DataParallel` puts `module.` before every name, `torch.compile` `_orig_mod.`."""
    for prefix in ("module.", "_orig_mod."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            notes.append(f"every name in the file begins with `{prefix}`: left out")
            return _without_prefix({name.removeprefix(prefix): t for name, t in tensors.items()}, notes)
    return tensors


_READERS: dict[str, Reader] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": read_torch,
}

ENDINGS = tuple(_READERS)
"""The endings of files that can be read."""


def _nearby(path: Path) -> str:
    """Weights files in the same folder whose name is near, or all of them."""
    there = sorted(_files_of(path.parent))
    known = f"the weights files there are {spell_list(there)}" if there else "correct the path"
    return did_you_mean(path.name, there) or known


def _files_of(folder: Path) -> Iterable[str]:
    try:
        return [p.name for p in folder.iterdir() if p.suffix.lower() in _READERS]
    except OSError:
        return []

"""PyTorch in: a module through `torch.export`, ATen operation by operation, raised to layers.

    graph = compactir.from_torch(module, torch.zeros(1, 3, 224, 224))
    network = compactir.compile(graph)

`torch.export` runs the module once on the example and records what it did: shapes, loops and conditions are
fixed by then. Here every recorded operation becomes one of ours; what depends on constants only is computed
by PyTorch itself. Layers are called by their modules, so parameters keep their dotted names.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compactir.diagnostics import CompactError
from compactir.frontends.build import raised
from compactir.frontends.torch import operators as _operators  # noqa: F401  # what is read registers itself
from compactir.frontends.torch.reader import HANDLERS, Reader
from compactir.ir.graph import Graph, Scope
from compactir.weights.load import need_sound

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch"]

_log = logging.getLogger("compactir")
_LISTED = 40


def from_torch(module: torch.nn.Module, example: Any, *, name: str | None = None) -> Graph:
    """The network of a PyTorch module, with its weights.

    Args:
        module: as it is used for inference; it is exported in `eval` mode, and left as it was.
        example: an input, or a tuple of inputs, of the shapes to compile for, batch included.
        name: of the network; by default the module's class.

    Raises:
        CompactError: CIR645 without PyTorch; CIR636 where `torch.export` cannot record the module; CIR637
            with every operation that cannot be read; CIR643 for weights that are NaN.
    """
    try:
        import torch
    except ImportError as error:
        raise CompactError("CIR645", "PyTorch is not installed", help="`pip install torch`") from error
    if not isinstance(module, torch.nn.Module):
        raise CompactError(
            "CIR636", f"a {type(module).__name__} is no PyTorch module", help="give a `torch.nn.Module`"
        )
    examples = example if isinstance(example, tuple) else (example,)
    program = _exported(module, examples)
    if _writes_through_views(program):
        program = program.run_decompositions({})  # nothing changes in place any more
    called = name or type(module).__name__
    reader = Reader(program, called)
    if reader.refused:  # some operations are known only when taken apart
        readers = [reader]
        tables: list[Any] = [{}, _decompositions()]  # what changes tensors in place; then what is not known
        for table in tables:
            apart = program.run_decompositions(table)
            readers.append(Reader(apart, called))
            if not readers[-1].refused:
                return _finished(readers[-1], module)
        raise _unsupported(min((r.refused for r in readers), key=len))  # nearest to what is readable
    return _finished(reader, module)


_ALIASES = {
    *("slice", "select", "narrow", "view", "reshape", "flatten", "unflatten", "chunk", "split", "unbind"),
    *("split_with_sizes", "transpose", "permute", "t", "squeeze", "unsqueeze", "expand", "alias", "detach"),
    *("getitem", "contiguous", "to", "_reshape_alias", "unsafe_chunk", "unsafe_split"),
}


def _called(node: Any) -> str:
    """ATen's name without overload."""
    text = str(node.target)
    return text.split(".")[1] if text.startswith("aten.") else getattr(node.target, "__name__", text)


def _writes_through_views(program: Any) -> bool:
    """Whether something is changed in place that is a part of a tensor, or that has parts."""
    for node in program.graph.nodes:
        word = _called(node)
        if node.op == "call_function" and word.endswith("_") and not word.endswith("__"):
            changed = node.args[0]
            if _called(changed) in _ALIASES or any(_called(user) in _ALIASES for user in changed.users):
                return True
    return False


def _finished(reader: Reader, module: torch.nn.Module) -> Graph:
    """The graph, raised, with a scope for every module that has a part in it."""
    graph = reader.builder.graph
    kinds = {path: type(part).__name__ for path, part in module.named_modules()}
    paths = {node.name.rpartition(".")[0] for node in graph.nodes} - {""}
    every = {".".join(words[: k + 1]) for words in (p.split(".") for p in paths) for k in range(len(words))}
    graph.scopes = {path: Scope(kinds.get(path, "part")) for path in sorted(every)}
    done = raised(graph)
    used = {node.name.rpartition(".")[0] for node in done.nodes}
    done.scopes = {
        path: scope
        for path, scope in done.scopes.items()
        if any(name == path or name.startswith(f"{path}.") for name in used)
    }
    for kind, many in sorted(reader.converted.items()):
        if many:
            how = "rounded to float32" if kind == "float64" else "widened to float32, exactly"
            tensors = "1 tensor" if many == 1 else f"{many} tensors"
            _log.info("%s of the %s: %s, %s", tensors, type(module).__name__, kind, how)
    need_sound(done, f"the {type(module).__name__}")
    return done


def _decompositions() -> Any:
    """How PyTorch takes apart what has no counterpart here."""
    from torch.export import default_decompositions

    table = default_decompositions()
    for op in list(table):
        if str(op).split(".")[1].rstrip("_") in HANDLERS:
            del table[op]
    return table


def _exported(module: torch.nn.Module, examples: tuple[Any, ...]) -> Any:
    import torch

    with _evaluating(module), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, examples)
        except Exception as error:  # whatever the user's forward raises, and torch's own
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CompactError(
                "CIR636",
                f"`torch.export` cannot record {type(module).__name__}: {first.strip()}",
                notes=[f"the example has {', '.join(_described(e) for e in examples)}"],
                help="`torch.export.export(module, example)` shows where; conditions on values stop it",
            ) from error


def _described(example: Any) -> str:
    return f"shape {list(example.shape)}" if hasattr(example, "shape") else f"a {type(example).__name__}"


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """`eval` mode for a while."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _unsupported(refused: Sequence[tuple[str, str, str]]) -> CompactError:
    lines = [f"`{name}`: {what}" + (f" in `{where}`" if where else "") for name, what, where in refused]
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return CompactError(
        "CIR637",
        f"{len(lines)} operation{'s' if len(lines) > 1 else ''} of the module cannot be read",
        notes=[*lines[:_LISTED], *more],
        help="write them with convolutions, pools and arithmetic, or leave that part to the caller",
    )

"""What can be said about a file without running it: names, properties, types and statements in their places.

Elaboration follows one way through a file, the one that its parameters choose. A misspelt operation in a
branch that is not taken today is found here. All problems of a file are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from compactir.diagnostics import CompactError, did_you_mean
from compactir.lang import ast
from compactir.lang.evaluate import BUILTINS, PROPERTIES
from compactir.lang.modules import Module
from compactir.lang.spelled import unknown_step
from compactir.ops import SPELLINGS

TYPES = ("int", "float", "bool", "str", "list", "tensor", "step")
_WORDS = frozenset({*BUILTINS, *SPELLINGS, "stack"})
_ONLY_IN: dict[type[ast.Statement], tuple[tuple[type[ast.Declaration], ...], str, str]] = {
    ast.Input: ((ast.Network,), "cannot declare inputs", "make it a parameter"),
    ast.Output: ((ast.Network,), "has no outputs", "write `return y`"),
    ast.Weights: ((ast.Network,), "cannot name a weights file", "name it in the network"),
    ast.Choice: ((ast.Network, ast.Block), "cannot declare a choice", "declare it in a block or network"),
    ast.Return: ((ast.Block, ast.Function), "returns nothing", "write `output y = ...`"),
}
"""Statement -> where it may stand, what is wrong elsewhere, and what to do."""


def check(module: Module) -> Iterator[CompactError]:
    """The problems of a loaded file: CIR110 to CIR112, CIR139, CIR140."""
    for item in module.file.items:
        if isinstance(item, ast.Declaration):
            names = _bound(item)
            for node in ast.walk(item):
                yield from _check_node(node, item, names, module)


def _bound(declaration: ast.Declaration) -> set[str]:
    """All names that the declaration gives a value somewhere."""
    named = (ast.Target, ast.Input, ast.Output, ast.Choice, ast.Parameter)
    return {node.name for node in ast.walk(declaration) if isinstance(node, named) and node.name is not None}


def _check_node(
    node: ast.Node, declaration: ast.Declaration, names: set[str], module: Module
) -> Iterator[CompactError]:
    known = {*names, *module.constants, *module.declared}
    if isinstance(node, ast.Call) and node.function not in known | _WORDS:
        yield unknown_step(node.function, node.name_span, sorted({*known, *BUILTINS, "stack"}))
    elif isinstance(node, ast.Name) and node.id not in known | _WORDS:
        help = did_you_mean(node.id, known)
        yield CompactError("CIR110", f"unknown name `{node.id}`", span=node.span, help=help)
    elif isinstance(node, ast.Attribute) and node.name not in PROPERTIES:
        listed = ", ".join(f"`.{p}`" for p in PROPERTIES)
        help = did_you_mean(node.name, PROPERTIES) or f"tensors have {listed}"
        yield CompactError("CIR139", f"there is no property `.{node.name}`", span=node.name_span, help=help)
    elif isinstance(node, ast.Type) and (node.name not in TYPES or (node.item and node.name != "list")):
        help = did_you_mean(node.name, TYPES) or f"types are {', '.join(TYPES)} and `list[int]`"
        yield CompactError("CIR110", f"unknown type `{node}`", span=node.span, help=help)
    elif isinstance(node, ast.Statement) and type(node) in _ONLY_IN:
        places, message, help = _ONLY_IN[type(node)]
        if not isinstance(declaration, places):
            kind = type(declaration).__name__.lower()
            message = f"{kind} `{declaration.name}` {message}"
            yield CompactError("CIR140", message, span=node.span, help=help)
    elif isinstance(node, ast.Declaration):
        yield from _check_parameters(node)


def _check_parameters(declaration: ast.Declaration) -> Iterator[CompactError]:
    seen = set()
    for parameter in declaration.parameters:
        if parameter.name in seen:
            message = f"there are two parameters named `{parameter.name}`"
            yield CompactError("CIR112", message, span=parameter.span)
        seen.add(parameter.name)

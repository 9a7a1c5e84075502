"""Files and what they declare: loading, imports, the standard library."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError, Span, did_you_mean, spell_list
from compactir.lang import ast
from compactir.lang.parser import parse
from compactir.lang.source import read_text

STANDARD = "std/"


@dataclass(eq=False)
class Module:
    """A loaded file: its declarations, and its constants once they are evaluated."""

    file: ast.File
    declared: dict[str, tuple[Module, ast.Declaration]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Span] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Everything that can be used or imported."""
        return sorted({*self.declared, *self.constants})


class Loader:
    """Loads each file once; `evaluate` gives constants their values as soon as a file's imports are there."""

    def __init__(self, reserved: frozenset[str], evaluate: Any) -> None:
        self.reserved = reserved
        self.evaluate = evaluate
        self.loaded: dict[str, Module] = {}
        self.loading: list[tuple[str, str]] = []

    def load(self, file: ast.File) -> Module:
        """The module of a parsed file, its imports followed. Errors: CIR112 to CIR115."""
        key = _key(file.path)
        module = Module(file)
        self.loading.append((key, file.path))
        for item in file.items:
            if isinstance(item, ast.Import):
                self._import(module, item)
            elif isinstance(item, ast.Declaration):
                self._declare(module, item.name, item.name_span)
                module.declared[item.name] = (module, item)
            elif isinstance(item, ast.Assign):
                self.evaluate(module, item)
        self.loading.pop()
        self.loaded[key] = module
        return module

    def _declare(self, module: Module, name: str, span: Span) -> None:
        if name in module.places:
            earlier = module.places[name]
            raise CompactError(
                "CIR112",
                f"`{name}` is declared twice",
                span=span,
                notes=[f"first at line {earlier.line} of {earlier.file}"],
            )
        if name in self.reserved:
            raise CompactError(
                "CIR112",
                f"`{name}` is a word of the language",
                span=span,
                help=f"call it something else: `my_{name}`",
            )
        module.places[name] = span

    def declare_constant(self, module: Module, name: str, value: Any, span: Span) -> None:
        """Give a file's constant its value. Errors: CIR112 when the name is taken."""
        self._declare(module, name, span)
        module.constants[name] = value

    def _import(self, module: Module, item: ast.Import) -> None:
        source = self._open(module, item)
        for imported in item.names:
            if imported.name not in source.declared and imported.name not in source.constants:
                raise CompactError(
                    "CIR115",
                    f"`{item.path}` declares no `{imported.name}`",
                    span=imported.span,
                    help=did_you_mean(imported.name, source.names)
                    or f"it declares {spell_list([f'`{n}`' for n in source.names], limit=20)}",
                )
            self._declare(module, imported.alias, imported.span)
            if imported.name in source.constants:
                module.constants[imported.alias] = source.constants[imported.name]
                continue
            owner, declaration = source.declared[imported.name]
            if isinstance(declaration, ast.Network):
                raise CompactError(
                    "CIR115",
                    f"`{imported.name}` is a network, only blocks, functions and constants can be imported",
                    span=imported.span,
                    help="move its body into a block that both files use",
                )
            module.declared[imported.alias] = (owner, declaration)

    def _open(self, module: Module, item: ast.Import) -> Module:
        path = self._locate(module, item)
        key = _key(path)
        if key in self.loaded:
            return self.loaded[key]
        chain = [k for k, _ in self.loading]
        if key in chain:
            names = [name for _, name in self.loading[chain.index(key) :]]
            circle = " -> ".join([*names, path])
            raise CompactError(
                "CIR114",
                f"the imports go round in a circle: `{item.path}` is being loaded already",
                span=item.path_span,
                notes=[circle],
                help="move what both files need into a third one",
            )
        if path.startswith(STANDARD):
            return self.load(
                parse(_library().joinpath(path.removeprefix(STANDARD)).read_text(encoding="utf-8"), path)
            )
        try:
            text = read_text(path)
        except CompactError as problem:
            raise problem.at(item.path_span) from None
        return self.load(parse(text, path))

    def _locate(self, module: Module, item: ast.Import) -> str:
        if not item.path.startswith(STANDARD):
            return str(Path(module.file.path).parent / item.path)
        found = sorted(STANDARD + f.name for f in _library().iterdir() if f.name.endswith(".arch"))
        if item.path not in found:
            raise CompactError(
                "CIR113",
                f"the standard library has no file `{item.path}`",
                span=item.path_span,
                help=did_you_mean(item.path, found)
                or f"its files are {spell_list([f'`{f}`' for f in found])}",
            )
        return item.path


def in_library(name: str) -> str | None:
    """The file of the standard library that declares a name, such as `std/blocks.arch`."""
    for path in sorted(_library().iterdir(), key=lambda p: p.name):
        file = (
            parse(path.read_text(encoding="utf-8"), STANDARD + path.name)
            if path.name.endswith(".arch")
            else None
        )
        if file and any(isinstance(item, ast.Declaration) and item.name == name for item in file.items):
            return file.path
    return None


def _library() -> Traversable:
    return resources.files("compactir.lang").joinpath("std")


def _key(path: str) -> str:
    if path.startswith(STANDARD):
        return path
    try:
        return str(Path(path).resolve())
    except (OSError, ValueError, RuntimeError):
        return path

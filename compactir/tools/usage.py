"""What no file can make right: a command line is judged as a whole before any file is read.

What is wrong with the words ends with exit code 2, what comes later with 1 (docs/cli.md). Reading an option's
value is `cli`'s, options that change nothing are `unused`'s; here is what the values mean.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from compactir.files import check_file, check_folder

if TYPE_CHECKING:
    from compactir.tools.options import Option
    from compactir.tools.verbs import Verb

STDOUT = "-"


def _threads(count: int) -> None:
    from compactir.driver import check_threads

    check_threads(count)


def _counts(counts: Sequence[int]) -> None:
    for count in counts:
        _threads(count)


def _target(name: str) -> None:
    from compactir.targets import load_target

    load_target(name)


def _loaded(name: str) -> None:
    from compactir.driver import check_freestanding
    from compactir.targets import load_target

    check_freestanding(load_target(name), library=True)


def _targets(names: str) -> None:
    from compactir.targets import load_levels

    load_levels(names)


def _host(name: str) -> None:
    from compactir.runtime.board import addresses

    addresses(name)


def _passes(text: str) -> None:
    from compactir.passes import parse_pipeline

    parse_pipeline(text)


def _size(text: str) -> None:
    from compactir.runtime.cache import parse_size

    parse_size(text, "--limit")


MEANINGS: Mapping[str, Callable[[Any], None]] = {
    "threads": _threads,
    "counts": _counts,
    "target": _target,
    "loaded": _loaded,
    "targets": _targets,
    "host": _host,
    "passes": _passes,
    "size": _size,
}
"""Kind of an option → who refuses values that mean nothing."""


def _compiler(cc: str) -> None:
    from compactir.runtime.build import check_compiler

    check_compiler(cc)


def _folder(path: str, option: Option) -> None:
    prints = "; `-o -` prints to the terminal" if option.name == "out" else ""
    check_folder(Path(path), f"give another folder with `{option.flags[0]}`{prints}")


PLACES: Mapping[str, Callable[[str, Option], None]] = {
    "out": lambda path, _: check_file(Path(path)),
    "outdir": _folder,
    "compiler": lambda cc, _: _compiler(cc),
}
"""Kind of an option → who refuses paths that cannot be written, and compilers that do not run."""


def judge(verb: Verb, args: Namespace) -> None:
    """Errors: those of words that nothing can make right."""
    for option in verb.options:
        value = getattr(args, option.name)
        if option.kind in MEANINGS and value is not None:
            MEANINGS[option.kind](value)
    if hasattr(args, "define") and getattr(args, "model", None) is not None:
        from compactir.tools.source import source_of

        source_of(args)
    if check := getattr(module_of(verb), "check", None):
        check(args)


def check_places(verb: Verb, args: Namespace) -> None:
    """Errors: CIR652 where what it writes cannot be written, CIR512 for a compiler that does not run."""
    for option in verb.options:
        value = getattr(args, option.name)
        if option.kind in PLACES and value not in (None, STDOUT):
            PLACES[option.kind](value, option)


def module_of(verb: Verb) -> ModuleType:
    """The module of `compactir.tools` that does what the verb says."""
    return import_module(f"compactir.tools.{verb.run.partition(':')[0]}")

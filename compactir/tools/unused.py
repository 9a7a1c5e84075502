"""Options that would change nothing: giving them is a mistake, never passed over in silence."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["UNUSED", "Unused", "unused_options"]


@dataclass(frozen=True)
class Unused:
    """`options` (names of `Option`s) change nothing where `when` holds, because of `why`."""

    options: tuple[str, ...]
    when: Callable[[Namespace], bool]
    why: str


SOURCE = ("define", "network", "batch", "weights", "map", "seed")
BUILT = {"lib", "archive"}


def _builds_nothing(args: Namespace) -> bool:
    return args.out == "-" or (args.emit is not None and not BUILT & set(args.emit))


def _reads_arrays(args: Namespace) -> bool:
    files = [*args.files, *(file for _, file in args.input)]
    return bool(files) and all(file.lower().endswith((".npy", ".npz")) for file in files)


def _stages(args: Namespace) -> Iterator[str]:
    """What the operands of `diff` name after the @."""
    return (word.rpartition("@")[2] for word in (args.a, args.b) if "@" in word)


def _is_target(stage: str) -> bool:
    from compactir.targets import target_names

    return stage in (*target_names(), "native")


UNUSED: dict[str, tuple[Unused, ...]] = {
    "compile": (Unused(("cc",), _builds_nothing, "nothing is built by a compiler here"),),
    "run": (
        Unused((*SOURCE, "target", "cc"), lambda a: os.path.isdir(a.model), "the folder is compiled already"),
        Unused(("mean", "std"), _reads_arrays, "arrays are taken as they are, only images are scaled"),
    ),
    "profile": (
        Unused((*SOURCE, "target"), lambda a: os.path.isdir(a.model), "the folder is compiled already"),
    ),
    "report": (Unused(("baseline",), lambda a: a.top1 is None, "TCA and TSA need `--top1` too"),),
    "explain": (
        Unused(
            (*SOURCE, "target", "also"),
            lambda a: re.fullmatch(r"(?i)(CIR)?\d+", a.what) is not None,
            "it belongs to a model, this is an error code",
        ),
    ),
    "verify": (
        Unused(("runs",), lambda a: a.inputs is not None, "--inputs says what it runs on"),
        Unused(
            ("target", "cc", "threads", "no_winograd"),
            lambda a: a.module is not None,
            "--module is compiled already",
        ),
        Unused(
            ("target", "cc", "threads", "no_winograd", "module", "host", "by_hand"),
            lambda a: a.answers is not None,
            "--answers are those of a board that has run it already",
        ),
    ),
    "diff": (
        Unused(("cc",), lambda a: not any(map(_is_target, _stages(a))), "neither side is compiled"),
        Unused(
            ("target",),
            lambda a: all(s == "authored" or _is_target(s) for s in _stages(a)),
            "neither side is a stage of the passes for a target",
        ),
    ),
    "opt": (
        Unused(
            (*SOURCE, "model", "passes", "out", "save_weights", "dump_ir", "verify_each", "target"),
            lambda a: a.list,
            "--list runs no pass",
        ),
        Unused(("target",), lambda a: a.passes is not None, "--passes says which passes run"),
    ),
    "cache": (Unused(("limit",), lambda a: a.action != "prune", "only `cache prune` has a limit"),),
}
"""Verb → what is of no use there, and when."""


def unused_options(verb: Any, args: Namespace) -> Iterator[tuple[str, str]]:
    """The flags (or names) of options that were given in vain, each with the reason."""
    by_name = {option.name: option for option in verb.options}
    for rule in UNUSED.get(verb.name, ()):
        given = [by_name[name] for name in rule.options if _is_given(by_name[name], args)]
        if given and rule.when(args):
            yield from ((option.flags[-1] if option.flags else option.metavar, rule.why) for option in given)


def _is_given(option: Any, args: Namespace) -> bool:
    value = getattr(args, option.name)
    return value != option.default and value not in (None, False) and value != []

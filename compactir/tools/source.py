"""From the options of the command line to a graph: what most verbs begin with."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from compactir.diagnostics import CompactError, spell_list
from compactir.driver import Source
from compactir.targets import Target, load_levels, load_target, unsupported

__all__ = ["check_runs_here", "levels_of", "named", "source_of", "target_of"]


def source_of(args: Namespace, model: str | None = None) -> Source:
    """The model that MODEL, -D, --network, --batch, --weights, --map and --init describe."""
    chosen = args.model if model is None else model
    return Source(chosen, dict(args.define), args.network, args.batch, args.weights, args.seed, args.map)


def target_of(args: Namespace) -> Target:
    """What --target names. Errors: CIR502."""
    return _as_wanted(load_target(args.target), args)


def levels_of(args: Namespace) -> tuple[Target, ...]:
    """What --target names, lowest level first. Errors: CIR502, CIR505."""
    return tuple(_as_wanted(target, args) for target in load_levels(args.target))


def _as_wanted(target: Target, args: Namespace) -> Target:
    """With --no-winograd, where the verb has it."""
    return replace(target, winograd=target.winograd and not getattr(args, "no_winograd", False))


def check_runs_here(target: Target) -> None:
    """Errors: CIR627 where code for a target cannot be timed on this machine."""
    if lacking := unsupported(target):
        raise CompactError(
            "CIR627",
            f"code for `{target.name}` cannot be timed on this machine",
            notes=[f"it takes {spell_list(lacking)}; under an emulator times mean nothing"],
            help="time it on the machine that it is for",
        )


def named(path: str | Path) -> str:
    """A path as messages spell it: relative to here where it lies below."""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

"""From the options of the command line to a graph: what most verbs begin with."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from compactir.driver import Source
from compactir.targets import Target, load_levels, load_target

__all__ = ["levels_of", "named", "source_of", "target_of"]


def source_of(args: Namespace, model: str | None = None) -> Source:
    """The model that MODEL, -D, --network, --batch, --weights, --map and --init describe."""
    chosen = model or args.model
    return Source(chosen, dict(args.define), args.network, args.batch, args.weights, args.seed, args.map)


def target_of(args: Namespace) -> Target:
    """What --target names. Errors: CIR502."""
    return load_target(args.target)


def levels_of(args: Namespace) -> tuple[Target, ...]:
    """What --target names, lowest level first. Errors: CIR502, CIR505."""
    return load_levels(args.target)


def named(path: str | Path) -> str:
    """A path as messages spell it: relative to here where it lies below."""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)

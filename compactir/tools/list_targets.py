"""`compactc targets`: the machines to compile for, and what this one can run."""

from __future__ import annotations

import shutil
from argparse import Namespace
from dataclasses import asdict

from compactir.targets import Target, all_targets, cpu_name, load_target, unsupported
from compactir.tools import terminal


def main(args: Namespace) -> int:
    """Print the list."""
    native = load_target("native").name
    if args.json:
        rows = [asdict(t) | {"runs_here": runs_here(t), "native": t.name == native} for t in all_targets()]
        terminal.print_json({"cpu": cpu_name(), "native": native, "targets": rows})
        return 0
    terminal.table(
        f"{cpu_name()}: `native` is {native}",
        ("target", "vector", "lanes>", "runs here", "what it is"),
        [(t.name, t.isa, t.lanes, runs_here(t), t.description) for t in all_targets()],
    )
    return 0


def runs_here(target: Target) -> str:
    """How this machine runs the target's code: `yes`, under an emulator, or what is missing."""
    lacking = unsupported(target)
    if not lacking:
        return "yes"
    if target.is_native:
        return f"no: lacks {', '.join(lacking)}"
    if target.runner and shutil.which(target.runner):
        return f"under {target.runner}"
    return f"with {target.runner}" if target.runner else "no"

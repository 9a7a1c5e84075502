"""The vector vocabulary as text: pasted at the top of a generated C file, one text per instruction set."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def vocabulary(isa: str) -> str:
    """The vocabulary of one instruction set, compilable on its own: meanings, words, elementary functions.

    Args:
        isa: one of `compactir.targets.ISAS`, a Target's `isa`.
    """
    folder = files("compactir.codegen.c") / "simd"
    parts = ("words.h", f"{isa}.h", "elementary.h")
    return "\n".join((folder / part).read_text(encoding="utf-8") for part in parts)

"""The vector vocabulary as text: pasted at the top of a generated C file, one text per instruction set."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

ON_DEMAND = ("tensor.h", "rare.h")
"""Headers that are part of a file only where a kernel uses one of their words."""


@cache
def vocabulary(isa: str, more: tuple[str, ...] = ON_DEMAND) -> str:
    """The vocabulary of one instruction set, compilable on its own: meanings, words, elementary functions.

    Args:
        isa: one of `compactir.targets.ISAS`, a Target's `isa`.
        more: of the headers that are pasted on demand these.
    """
    folder = files("compactir.codegen.c") / "simd"
    parts = ("words.h", f"{isa}.h", "elementary.h", *more)
    return "\n".join((folder / part).read_text(encoding="utf-8") for part in parts)


def on_demand(text: str) -> list[str]:
    """The headers whose words, as their first comments list them, occur in C text."""
    used = set(_WORD.findall(text))
    return [name for name in ON_DEMAND if used & _listed(name)]


_WORD = re.compile(r"\bv_\w+")


@cache
def _listed(name: str) -> frozenset[str]:
    text = (files("compactir.codegen.c") / "simd" / name).read_text(encoding="utf-8")
    return frozenset(_WORD.findall(text.split("*/")[0]))

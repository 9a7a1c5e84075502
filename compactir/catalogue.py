"""The catalogue of error codes: what each means, why it is an error, an example, and what to do.

Rooms: 1xx syntax and language, 2xx shapes and types, 3xx IR rules, 4xx passes, 5xx targets and toolchain, 6xx runtime,
weights and files. Append in the right room and keep the codes sorted; `compactc explain CODE` prints an entry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """One kind of error. The texts are sentences; the example is a few lines that produce it."""

    code: str
    title: str
    what: str
    why: str
    example: str
    fix: str


_ENTRIES = [
    # ---------------------------------------------------------------- 1xx: syntax and language
    Code(
        "CIR101",
        "the file says nothing",
        "The file is empty, or holds only blanks and comments.",
        "A model file has to declare a network; an empty one is usually the wrong path or an interrupted copy.",
        "# only a comment",
        "Give the path of the model file, or write `network NAME { input ...  output ... }`.",
    ),
    # ---------------------------------------------------------------- 2xx: shapes and types
    Code(
        "CIR203",
        "channels do not split into the groups",
        "A channel count is not a multiple of the number of groups it is to be split into.",
        "Equal groups need equal channel counts on both sides. A width factor that breaks this is reported where it "
        "breaks, not as a shape mismatch ten layers later.",
        "y = x -> conv(60, kernel=1, groups=8)",
        "Use a number of groups that divides both channel counts (the help line lists them), change the channel count, "
        "or say uneven shares: `groups=[1/2, 1/4, 1/4]`.",
    ),
    # ---------------------------------------------------------------- 5xx: targets and toolchain
    Code(
        "CIR502",
        "unknown target",
        "The target that was asked for has no description.",
        "Instruction set, vector width, compilers and flags come from the target's description; without one nothing can be "
        "generated, and a near name may mean another processor.",
        "compactc lenet5.arch --target avx2",
        "Use a name that `compactc targets` lists, or `native` for the best one that this machine runs.",
    ),
]

CATALOGUE: dict[str, Code] = {entry.code: entry for entry in _ENTRIES}

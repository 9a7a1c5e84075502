"""What a compiled network says about itself in one line: the loader compares it with the manifest.

    compactir 1; cpu avx2 fma; in image f32[1,3,32,32]; out scores f32[1,10]; steps 9; workspace 62720; …

Generated code has it as a constant (`NAME_signature`), so that a manifest that was edited, or belongs to
another build, is noticed before memory is sized by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

__all__ = ["SIGNATURE_FORMAT", "signature", "signature_differences"]

SIGNATURE_FORMAT = 1

Tensor = tuple[str, str, Sequence[int]]
"""Name, element type, shape with the batch."""


def signature(
    cpu_features: Iterable[str],
    inputs: Iterable[Tensor],
    outputs: Iterable[Tensor],
    *,
    steps: int | None,
    workspace_bytes: int,
    weights_bytes: int,
    align: int,
) -> str:
    """The line; without `steps` where that is None.

    Names in it consist of letters, digits and `_.-~%`, whatever the network calls its inputs and outputs.
    """
    parts = [
        f"compactir {SIGNATURE_FORMAT}",
        f"cpu {' '.join(cpu_features) or 'any'}",
        *(f"in {_spell(t)}" for t in inputs),
        *(f"out {_spell(t)}" for t in outputs),
        *([] if steps is None else [f"steps {steps}"]),
        f"workspace {workspace_bytes}",
        f"weights {weights_bytes}",
        f"align {align}",
    ]
    return "; ".join(parts)


def signature_differences(expected: str, found: str) -> tuple[str, str] | None:
    """What only one of two signatures says, each as text; None where they agree.

    The number of steps counts where both say it.
    """
    left, right = expected.split("; "), found.split("; ")
    if not any(part.startswith("steps ") for part in left):
        right = [part for part in right if not part.startswith("steps ")]
    if left == right:
        return None
    only_left = [part for part in left if part not in right]
    only_right = [part for part in right if part not in left]
    return "; ".join(only_left or left), "; ".join(only_right or right)


def _spell(tensor: Tensor) -> str:
    name, dtype, shape = tensor
    return f"{quote(name, safe='')} {dtype}[{','.join(map(str, shape))}]"

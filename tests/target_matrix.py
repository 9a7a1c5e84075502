"""Every network of examples/ for every target of `compactc targets`: `make targets`. Takes minutes.

python tests/target_matrix.py    plans and writes C for each pair; what target `c` makes runs and is compared

Sizes are the smallest that the network can have.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compactir.diagnostics import CompactError  # noqa: E402  # runs from a checkout
from compactir.driver import (  # noqa: E402
    Authored,
    Generated,
    Source,
    build,
    generate,
    load,
    plan,
    read,
    write_to_cache,
)
from compactir.targets import load_target, target_names  # noqa: E402
from compactir.tools.verify import compare_outputs  # noqa: E402

PATHS = tuple(sorted((ROOT / "examples").glob("*.arch")))
SIZES = ("16", "32", "64", "96", "")


def smallest(path: Path) -> Authored:
    """The network at the smallest size that it can have, with random weights."""
    for size in SIZES:
        try:
            return read(Source(path, {"size": size} if size else {}, seed=0))
        except CompactError as problem:
            if not size:
                raise problem from None
    raise AssertionError("the last size is the network's own")


def written(authored: Authored, names: Sequence[str]) -> Iterator[Generated]:
    """The C of each target, with what every one must have."""
    for name in names:
        target = load_target(name)
        generated = generate(plan(authored, target))
        text = generated.files.source
        assert f"{generated.manifest.symbol}_run(" in text, name
        assert generated.manifest.target == name
        assert generated.manifest.steps, name
        yield generated


def agrees(authored: Authored, generated: Generated) -> bool:
    """Whether the built library computes what the reference does."""
    with load(write_to_cache(generated, build(generated))) as module:
        return all(c.agrees for c in compare_outputs(authored, module))


def _network(path: Path) -> tuple[str, bool]:
    warnings.simplefilter("ignore")
    authored = smallest(path)
    names = ["c", *(name for name in target_names() if name != "c")]
    every = list(written(authored, names))
    return f"{path.stem} for {len(every)} targets, run for c", agrees(authored, every[0])


def main() -> int:
    """Walk all of them; returns 1 where something is wrong."""
    wrong = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for what, fine in pool.map(_network, PATHS):
            print(f"{'agrees' if fine else 'WRONG '}  {what}", flush=True)
            wrong += not fine
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

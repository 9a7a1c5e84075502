"""N:M sparsity: found in weights, decided by figures that docs/sparsity.md has measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from compactir.driver import Source, optimize, read
from compactir.passes._regular import GATHERED, LANES, MEASURED, choice, regular
from compactir.targets import load_target

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"\| `x86` \| 256 \| 14×14 \| (\d+) of (\d+) \| ([\d.]+) \| ([\d.]+) ")


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 2), (4, 16), (2, 5)])
def test_patterns_are_found_whatever_places_they_take(keep: int, of: int) -> None:
    rng = np.random.default_rng(0)
    runs = [rng.permutation([True] * keep + [False] * (of - keep)) for _ in range(6 * 3)]
    live = np.concatenate(runs).reshape(6, 3 * of, 1, 1)
    assert regular(live) == (keep, of)
    live[0, 0] ^= True
    assert regular(live) != (keep, of)


def test_a_vector_executes_what_any_of_its_rows_reads() -> None:
    live = np.zeros((2 * LANES, 32, 1, 1), np.bool_)
    live[:LANES, :4] = True
    live[LANES:, np.arange(0, 32, 8)] = True
    said = choice(live, 4, 32)
    assert f"dense, {2 * LANES * 4:,} multiply-adds" in said
    assert f"the time of {GATHERED * 2 * LANES * 4:,}" in said


def test_the_figures_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "sparsity.md").read_text(encoding="utf-8")
    rows = {(int(n), int(m)): (float(d), float(g)) for n, m, d, g in ROW.findall(page)}
    assert rows.keys() == MEASURED.keys()
    for pattern, times in rows.items():
        assert MEASURED[pattern] == pytest.approx(times, rel=0.25)
    dense, gathered = rows[2, 4]
    assert 2 * gathered / dense == pytest.approx(GATHERED, rel=0.25)  # half as many multiply-adds


def test_every_layer_of_a_balanced_network_is_explained() -> None:
    authored = read(Source(ROOT / "examples" / "balanced_resnet20.arch", seed=0), warn=False)
    _, log = optimize(authored, load_target("c"))
    said = [d for d in log.of("collapse-sparse") if "4 of every 16 weights: dense" in d.why]
    assert len({d.node for d in said}) == 20
    assert all("us dense" in d.why for d in said)

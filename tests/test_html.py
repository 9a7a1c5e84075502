"""Pictures of connections, drawings of graphs, the page of `--emit html`."""

from __future__ import annotations

import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from compactir import cli
from compactir.driver import Planned, Source, plan, read
from compactir.ir.connectivity import Connectivity
from compactir.targets import load_target
from compactir.tools.drawing import layout, memory_svg
from compactir.tools.html import html
from compactir.tools.matrix import LARGEST, PALETTE, kernels, labels, png, shrunk

MODEL = """\
\"\"\"Branches & a "quoted" name < > of things.\"\"\"
block branch(x, groups: int) {
  y = x -> conv(8, kernel=1, groups=groups) -> shuffle(groups=groups)
  return y
}
network page {
  input x: f32[8, 6, 6]
  a = x -> branch(2)
  b = x -> depthwise(kernel=[3, 5])
  output y = a + b -> relu
}
"""


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """A small network with branches, groups and mixed kernels, planned for `c`."""
    path = tmp_path / "page.arch"
    path.write_text(MODEL, encoding="utf-8")
    return plan(read(Source(path, seed=0)), load_target("c"))


@pytest.mark.parametrize(
    "connect",
    [
        Connectivity.dense(3, 5),
        Connectivity.grouped(12, 8, 4),
        Connectivity.grouped(6, 6, 6, (3, 3)),
        Connectivity.table(4, {0: [0, 1], 1: [2], 2: [1, 3]}, (5, 5), (0, 0, 0, 0)),
    ],
)
def test_labels_are_the_mask(connect: Connectivity) -> None:
    assert np.array_equal(labels(connect) > 0, np.asarray(connect.mask) > 0)
    assert labels(connect).max() <= len(kernels(connect))


def test_mixed_kernels_have_a_color_each(planned: Planned) -> None:
    mixed = next(n.op.connect for n in planned.authored.graph.nodes if n.name == "depthwise1")  # type: ignore[attr-defined]  # a Conv
    assert kernels(mixed) == [(3, 3), (5, 5)]
    assert labels(mixed).diagonal().tolist() == [1] * 4 + [2] * 4


def test_a_mask_removes_connections() -> None:
    mask = np.zeros((2, 3, 1, 1), np.float32)
    mask[1, 2] = 1
    assert labels(Connectivity.dense(3, 2), mask).tolist() == [[0, 0, 0], [0, 0, 1]]


def test_large_pictures_shrink_without_losing_what_is_thin() -> None:
    picture = labels(Connectivity.grouped(960, 960, 960))
    small = shrunk(picture)
    assert max(small.shape) <= LARGEST
    assert np.array_equal(small, np.eye(small.shape[0], dtype=np.uint8))
    assert shrunk(small) is small


def test_png(need: Callable[[str], None]) -> None:
    need("PIL")
    from PIL import Image

    picture = np.arange(24, dtype=np.uint8).reshape(4, 6) % len(PALETTE)
    with Image.open(io.BytesIO(png(picture))) as image:
        assert image.size == (6, 4)
        seen = np.asarray(image.convert("RGB"))
    assert np.array_equal(seen, np.array(PALETTE, np.uint8)[picture])


def test_layout_never_puts_two_nodes_in_one_place_or_above_their_operands(planned: Planned) -> None:
    for graph in (planned.authored.graph, planned.graph):
        places = layout(graph)
        assert len({(p.row, p.column) for p in places.values()}) == len(places)
        for node in graph.nodes:
            assert all(places[v].row < places[node.out].row for v in node.values)


class Checker(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it, and what it points at."""
        given = dict(attrs)
        self.names.add(given.get("data-name") or "")
        self.links += [v for k, v in attrs if k in ("href", "src") and v]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        """It closes the innermost one."""
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(planned: Planned) -> None:
    page = html(planned)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert {n.name for g in (planned.authored.graph, planned.graph) for n in g.nodes} <= checker.names
    assert {step.name for step in planned.lowered.plan.steps} <= checker.names
    assert len(checker.links) == 2  # the pictures of the group convolution and of the mixed depthwise one
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert "3×3" in page
    assert "5×5" in page
    assert "&quot;quoted&quot; name &lt; &gt;" in page
    assert page == html(planned)


def test_memory_over_time_shows_every_buffer(planned: Planned) -> None:
    picture = memory_svg(planned.lowered.plan)
    arena = [b for b in planned.lowered.plan.buffers if b.region == "arena"]
    assert arena
    assert all(f"{b.name}: {4 * b.floats:,} bytes" in picture for b in arena)
    largest = max(arena, key=lambda b: b.floats * (b.last + 1 - b.first))
    assert f'class="inside">{largest.name}</text>' in picture


def test_emit_html(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["page.arch", "--init", "seed=0", "--target", "c", "--emit", "html", "-o", "out"]) == 0
    assert Path("out/page.html").read_text(encoding="utf-8") == html(planned)

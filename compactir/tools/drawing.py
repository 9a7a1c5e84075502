"""A graph and a plan as SVG: nodes from top to bottom by their distance from the inputs, memory over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from compactir.ir.graph import Graph, Node, Value
from compactir.ir.plan import Plan
from compactir.ir.text import op_text

WIDTH, HEIGHT, GAP_X, GAP_Y = 190, 34, 16, 22
_LONGEST = 27

COLORS: Mapping[str, str] = {
    "conv": "#cfe2f3",
    "linear": "#cfe2f3",
    "rbf": "#cfe2f3",
    "add": "#fff2cc",
    "mul": "#fff2cc",
    "concat": "#d9ead3",
    "gather": "#d9ead3",
    "shuffle": "#d9ead3",
    "flatten": "#d9ead3",
    "max_pool": "#ead1dc",
    "avg_pool": "#ead1dc",
    "global_avg_pool": "#ead1dc",
    "global_max_pool": "#ead1dc",
}
"""By operation; others are white."""


@dataclass(frozen=True)
class Place:
    """Row and column of a value."""

    row: int
    column: int

    @property
    def x(self) -> int:
        """Left edge."""
        return GAP_X + self.column * (WIDTH + GAP_X)

    @property
    def y(self) -> int:
        """Upper edge."""
        return GAP_Y + self.row * (HEIGHT + GAP_Y)


def layout(graph: Graph) -> dict[Value, Place]:
    """Rows by the longest path from an input; columns near those of the operands."""
    places: dict[Value, Place] = {}
    taken: dict[int, set[int]] = {}
    for value in graph.inputs:
        places[value] = _free(taken, 0, 0)
    for node in graph.nodes:
        above = [places[v] for v in node.values]
        row = 1 + max((p.row for p in above), default=0)
        places[node.out] = _free(taken, row, min((p.column for p in above), default=0))
    return places


def _free(taken: dict[int, set[int]], row: int, column: int) -> Place:
    """The first free column of a row from `column` on."""
    used = taken.setdefault(row, set())
    while column in used:
        column += 1
    used.add(column)
    return Place(row, column)


def graph_svg(graph: Graph) -> str:
    """The graph; nodes have the class `node` and their name in `data-name`, for the page's script."""
    places = layout(graph)
    fused = {name for region in graph.regions for name in region.values}
    columns = 1 + max((p.column for p in places.values()), default=0)
    rows = 2 + max((p.row for p in places.values()), default=0)
    width = GAP_X + columns * (WIDTH + GAP_X) + GAP_X
    height = GAP_Y + rows * (HEIGHT + GAP_Y)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" class="graph">']
    lines += [_edge(places[v], places[n.out]) for n in graph.nodes for v in n.values]
    lines += [_box(places[v], v.name, str(v.type), "#eeeeee", "input", False) for v in graph.inputs]
    lines += [_node(places[n.out], n, n.out.name in fused) for n in graph.nodes]
    lines += [_label(places[v], name) for name, v in graph.outputs.items()]
    return "\n".join([*lines, "</svg>"])


def _node(place: Place, node: Node, fused: bool) -> str:
    extra = [op.name for op in getattr(node.op, "epilogue", ())]
    what = f"{node.op.label} {'+ ' + ' + '.join(extra) if extra else ''}".strip()
    where = f" {node.span}" if node.span else ""
    title = f"{node.name}\n{op_text(node.op)}\n{node.out.type}{where}"
    return _box(
        place, node.name, f"{what}  {_shape(node.out)}", COLORS.get(node.op.name, "#ffffff"), title, fused
    )


def _shape(value: Value) -> str:
    return "×".join(map(str, value.type.shape[1:]))


def _box(place: Place, name: str, below: str, color: str, title: str, fused: bool) -> str:
    frame = 'stroke="#b03030" stroke-width="2"' if fused else 'stroke="#888888" stroke-width="1"'
    return (
        f'<g class="node" data-name="{escape(name)}"><title>{escape(title)}</title>'
        f'<rect x="{place.x}" y="{place.y}" width="{WIDTH}" height="{HEIGHT}" fill="{color}" {frame}/>'
        f'<text x="{place.x + 7}" y="{place.y + 14}">{escape(_end(name))}</text>'
        f'<text x="{place.x + 7}" y="{place.y + 28}" class="small">{escape(_start(below))}</text></g>'
    )


def _label(place: Place, name: str) -> str:
    x, y = place.x + WIDTH // 2, place.y + HEIGHT
    return (
        f'<path d="M{x} {y}v{GAP_Y - 6}" class="edge"/>'
        f'<text x="{x + 6}" y="{y + GAP_Y - 6}" class="small">→ {escape(name)}</text>'
    )


def _edge(a: Place, b: Place) -> str:
    """Straight down to the next row; around the right side of what lies between, otherwise."""
    x0, y0, x1, y1 = a.x + WIDTH // 2, a.y + HEIGHT, b.x + WIDTH // 2, b.y
    if b.row == a.row + 1:
        middle = (y0 + y1) // 2
        return f'<path d="M{x0} {y0}C{x0} {middle} {x1} {middle} {x1} {y1}" class="edge"/>'
    side = max(a.x, b.x) + WIDTH + GAP_X // 2
    return (
        f'<path d="M{x0} {y0}C{x0} {y0 + GAP_Y} {side} {y0} {side} {y0 + HEIGHT}'
        f'V{y1 - HEIGHT}C{side} {y1} {x1} {y1 - GAP_Y} {x1} {y1}" class="edge skip"/>'
    )


def _start(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _end(text: str) -> str:
    """Of a dotted name the end says more."""
    return text if len(text) <= _LONGEST else "…" + text[1 - _LONGEST :]


# -- memory over time ----------------------------------------------------------------------------------------

_TINTS = ("#7fa8d1", "#e2a76f", "#8fc08f", "#c79bc9", "#d1c27f", "#7fc4c4", "#c98f8f", "#a8a8a8")


_LETTER = 6.5
"""The width of a letter inside a rectangle."""


def memory_svg(plan: Plan, width: int = 1000, height: int = 260) -> str:
    """Who lies where in the workspace and when: steps from left to right, offsets from the bottom up."""
    arena = [b for b in plan.buffers if b.region == "arena"]
    top = max((b.offset + b.floats for b in arena), default=1)
    steps = max(len(plan.steps), 1)
    view = f'viewBox="0 0 {width} {height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {view} class="memory">']
    for k, b in enumerate(sorted(arena, key=lambda b: (b.first, b.offset))):
        x, y = b.first * width / steps, height * (1 - (b.offset + b.floats) / top)
        w, h = (b.last + 1 - b.first) * width / steps, height * b.floats / top
        title = f"{b.name}: {4 * b.floats:,} bytes at {4 * b.offset:,}, steps {b.first} to {b.last}"
        tint = _TINTS[k % len(_TINTS)]
        lines.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}" fill="{tint}" '
            f'stroke="#ffffff" stroke-width="0.6"><title>{escape(title)}</title></rect>'
        )
        letters = int(w / _LETTER) - 1
        if h >= 2 * _LETTER and letters >= 4:
            name = b.name if len(b.name) <= letters else f"…{b.name[1 - letters :]}"
            lines.append(
                f'<text x="{x + 4:.2f}" y="{y + h / 2 + 3.5:.2f}" class="inside">{escape(name)}</text>'
            )
    return "\n".join([*lines, *_marks(plan, width, height), "</svg>"])


def _marks(plan: Plan, width: int, height: int) -> Iterator[str]:
    """An invisible strip per step that names it."""
    strip = width / max(len(plan.steps), 1)
    for k, step in enumerate(plan.steps):
        title = escape(f"step {k}: {step.name}")
        yield (
            f'<rect x="{k * strip:.2f}" y="{height - 5}" width="{strip:.2f}" height="5" fill="#00000018">'
            f"<title>{title}</title></rect>"
        )

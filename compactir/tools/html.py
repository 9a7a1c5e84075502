"""`--emit html`: one page without any other file: graph before and after, connections, memory, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from compactir import __version__
from compactir.driver import Planned
from compactir.ir.connectivity import Connectivity
from compactir.ir.graph import Graph, Node
from compactir.ops.conv import Conv
from compactir.tools.drawing import graph_svg, memory_svg
from compactir.tools.manage_cache import megabytes
from compactir.tools.matrix import PALETTE, data_url, kernels, labels, shrunk
from compactir.tools.peak import find_peak

_CAPTION = 120
"""Letters of a connectivity under its picture."""
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 1.2em 2em; color: #222; }}
h1 {{ font-size: 1.5em; margin: 0; }} h2 {{ font-size: 1.15em; margin: 1.6em 0 .5em; }}
.pair {{ display: flex; gap: 1em; }}
.pane {{ flex: 1; min-width: 0; overflow: auto; max-height: 80vh; border: 1px solid #ddd; }}
.pane h3 {{ position: sticky; top: 0; left: 0; margin: 0; padding: .3em .7em; background: #f4f4f4; }}
svg text {{ font: 12px system-ui, sans-serif; }} svg .small {{ font-size: 10.5px; fill: #555; }}
svg .inside {{ font-size: 10px; pointer-events: none; }}
.edge {{ fill: none; stroke: #999; }} .edge.skip {{ stroke: #5b84b1; stroke-dasharray: 4 2; }}
.node {{ cursor: pointer; }} .node.chosen rect {{ stroke: #d00; stroke-width: 3; }}
.memory {{ width: 100%; max-width: 1400px; height: auto; border: 1px solid #ddd; background: #fafafa; }}
.matrices {{ display: flex; flex-wrap: wrap; gap: 1.1em; }}
figure {{ margin: 0; max-width: 230px; }} figcaption {{ font-size: 11.5px; overflow-wrap: anywhere; }}
figure img {{ image-rendering: pixelated; border: 1px solid #bbb; min-width: 64px; max-width: 220px; }}
table {{ border-collapse: collapse; font-size: 12.5px; }} td, th {{ padding: .15em .7em; text-align: left; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
tr:nth-child(even) {{ background: #f7f7f7; }}
tr.chosen {{ background: #ffe3e3; }}
.key {{ display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .5em; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<h2>Graph</h2>
<p>Click a node to see it on both sides and in the table. Red frames: regions that run row by row.</p>
<div class="pair"><div class="pane"><h3>as authored: {before_count} nodes</h3>{before}</div>
<div class="pane"><h3>after the passes: {after_count} nodes</h3>{after}</div></div>
<h2>Connections</h2>
<p>Rows are output channels, columns input channels; only convolutions that are not dense.</p>
<div class="matrices">{matrices}</div>
<h2>Memory over time</h2>
<p>{memory_summary}</p>
{memory}
<h2>Steps</h2>
{steps}
<script>
function choose(name) {{
  document.querySelectorAll(".chosen").forEach(e => e.classList.remove("chosen"));
  document.querySelectorAll("[data-name]").forEach(e => {{
    if (e.dataset.name !== name) return;
    e.classList.add("chosen");
    const pane = e.closest(".pane");
    if (!pane) return;
    const box = e.getBoundingClientRect(), frame = pane.getBoundingClientRect();
    pane.scrollBy({{ top: box.top - frame.top - frame.height / 2, left: box.left - frame.left - 40 }});
  }});
}}
document.addEventListener("click", event => {{
  const named = event.target.closest("[data-name]");
  if (named) choose(named.dataset.name);
}});
</script>
</body></html>
"""


def html(planned: Planned) -> str:
    """The page; the same text for the same network, target and version."""
    before, after, it = planned.authored.graph, planned.graph, planned.lowered.plan
    peak = find_peak(it)
    at = f"peak {megabytes(peak.bytes)} at {peak.step}; " if peak else ""
    return _PAGE.format(
        title=escape(f"{before.name} for {planned.target.name}"),
        summary=escape(_summary(planned)),
        before_count=len(before.nodes),
        after_count=len(after.nodes),
        before=graph_svg(before),
        after=graph_svg(after),
        matrices="\n".join(_matrices(before)) or "<p>Every convolution is dense.</p>",
        memory_summary=escape(
            f"{at}workspace {megabytes(4 * it.arena)}, {len(it.steps)} steps from left to right."
        ),
        memory=memory_svg(it),
        steps=_steps(planned),
    )


def _summary(planned: Planned) -> str:
    graph, it = planned.authored.graph, planned.lowered.plan
    doc = f"{graph.doc.strip().splitlines()[0]} " if graph.doc.strip() else ""
    return (
        f"{doc}{graph.trainable:,} parameters, {graph.macs:,} MACs, weights {megabytes(4 * it.weights)}, "
        f"{it.copies:,} elements copied. compactir {__version__}."
    )


# -- connections ---------------------------------------------------------------------------------------------


def _sparse(graph: Graph) -> list[tuple[Node, Conv]]:
    found = [(node, node.op) for node in graph.nodes if isinstance(node.op, Conv)]
    return [(node, op) for node, op in found if op.masked or not op.connect.is_dense]


def _matrices(graph: Graph) -> Iterable[str]:
    """One picture per kind of connectivity, with the names of all convolutions that have it."""
    pictures: dict[str, tuple[str, Connectivity, list[str]]] = {}
    for node, conv in _sparse(graph):
        mask = next(
            (graph.weights[p.name] for p in node.params if conv.masked and p.name.endswith(".mask")), None
        )
        key = f"{conv.connect} {node.name if mask is not None else ''}"
        if key not in pictures:
            pictures[key] = (data_url(shrunk(labels(conv.connect, mask))), conv.connect, [])
        pictures[key][2].append(node.name)
    for url, connect, names in pictures.values():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text = str(connect)
        text = text if len(text) <= _CAPTION else f"{text[:_CAPTION].rpartition(',')[0]}, …"
        caption = f"<b>{escape(', '.join(names[:3]) + more)}</b><br>{escape(text)}"
        caption += _sizes(connect)
        yield f'<figure><img src="{url}" alt="{escape(names[0])}"><figcaption>{caption}</figcaption></figure>'


def _sizes(connect: Connectivity) -> str:
    """The kernel sizes in their colors, where there are several."""
    sizes = kernels(connect)
    if len(sizes) < 2:
        return ""
    marks = (
        f'<span class="key" style="background: rgb{PALETTE[min(k, len(PALETTE) - 1)]}"></span>{kh}×{kw}'
        for k, (kh, kw) in enumerate(sizes, 1)
    )
    return "<br>" + "".join(marks)


# -- numbers -------------------------------------------------------------------------------------------------


def _steps(planned: Planned) -> str:
    columns = ("step", "op", "MACs", "MACs executed", "bytes moved", "MACs per byte", "copied", "where")
    rows = [
        (s.name, s.op, s.macs, s.executed, s.bytes_moved, s.macs / max(s.bytes_moved, 1), s.copied, s.where)
        for s in planned.lowered.plan.steps
    ]
    head = "".join(f"<th{_number(name in _NUMBERS)}>{name}</th>" for name in columns)
    body = "\n".join(f'<tr data-name="{escape(row[0])}">{_cells(row)}</tr>' for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


_NUMBERS = frozenset({"MACs", "MACs executed", "bytes moved", "MACs per byte", "copied"})


def _cells(row: Sequence[object]) -> str:
    return "".join(f"<td{_number(not isinstance(value, str))}>{escape(_text(value))}</td>" for value in row)


def _number(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""`--emit dot`: the graph as Graphviz text, blocks as boxes around their steps.

compactc net.arch --emit dot -o - | dot -Tsvg > net.svg
"""

from __future__ import annotations

from collections.abc import Iterator

from compactir.ir.graph import Graph, Node, Value
from compactir.ir.text import op_text
from compactir.tools.drawing import COLORS


def dot(graph: Graph) -> str:
    """The graph in the language of Graphviz; the same text for the same graph."""
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif", fontsize=10];',
        '  edge [fontname="sans-serif", fontsize=9, color="#555555"];',
    ]
    lines += [f"  {_id(v)} [label={_quoted(v.name, str(v.type))}, shape=ellipse];" for v in graph.inputs]
    lines += [f"  {line}" for line in _clusters(graph)]
    lines += [f"  {line}" for line in _edges(graph)]
    return "\n".join([*lines, "}", ""])


def _clusters(graph: Graph) -> Iterator[str]:
    """The nodes, scope by scope: a tree of subgraphs."""
    tree: dict[str, list[Node]] = {}
    for node in graph.nodes:
        tree.setdefault(_scope(graph, node.name), []).append(node)
    paths = sorted(
        {prefix for path in tree for prefix in _prefixes(graph, path)} | {""}, key=lambda p: (p.count("."), p)
    )
    children: dict[str, list[str]] = {}
    order = {path: i for i, path in enumerate(graph.scopes)}
    for path in sorted((p for p in paths if p), key=lambda p: order.get(p, 0)):
        children.setdefault(_scope(graph, path), []).append(path)
    yield from _cluster(graph, "", tree, children, 0)


def _cluster(
    graph: Graph, path: str, tree: dict[str, list[Node]], children: dict[str, list[str]], depth: int
) -> Iterator[str]:
    pad = "  " * depth
    for node in tree.get(path, []):
        color = COLORS.get(node.op.name, "white")
        label = _quoted(node.name.removeprefix(path + "."), op_text(node.op), str(node.out.type))
        yield f'{pad}{_id(node.out)} [label={label}, fillcolor="{color}"];'
    for child in children.get(path, []):
        yield f"{pad}subgraph {_quoted('cluster_' + child)} {{"
        yield f'{pad}  label={_quoted(child)}; color="#bbbbbb"; fontname="sans-serif"; fontsize=10;'
        yield from _cluster(graph, child, tree, children, depth + 1)
        yield f"{pad}}}"


def _edges(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        for value in node.values:
            yield f"{_id(value)} -> {_id(node.out)};"
    for name, value in graph.outputs.items():
        out = _quoted(f"return:{name}")
        yield f"{out} [label={_quoted(name, str(value.type))}, shape=ellipse];"
        yield f"{_id(value)} -> {out};"


def _scope(graph: Graph, name: str) -> str:
    """The innermost scope around a dotted name."""
    path = name.rpartition(".")[0]
    while path and path not in graph.scopes:
        path = path.rpartition(".")[0]
    return path


def _prefixes(graph: Graph, path: str) -> Iterator[str]:
    while path:
        yield path
        path = _scope(graph, path)


def _id(value: Value) -> str:
    return _quoted(value.name)


_LONGEST = 60


def _quoted(*lines: str) -> str:
    short = (line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…" for line in lines)
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in short) + '"'

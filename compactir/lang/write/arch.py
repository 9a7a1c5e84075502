"""A whole file: blocks, the network, and the proof that it says what the graph says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compactir.diagnostics import CompactError
from compactir.ir.graph import Graph, Node, Value
from compactir.ir.types import Array
from compactir.lang.elaborate import elaborate
from compactir.lang.format import format_text
from compactir.lang.parser import parse
from compactir.lang.write.blocks import Block, find_blocks
from compactir.lang.write.items import Item, items_of, sorted_nodes
from compactir.lang.write.respell import respelled
from compactir.lang.write.text import Body, declaration
from compactir.ops import SPELLINGS

__all__ = ["Written", "write_arch"]

_KEYWORDS = (
    "and as assert block def else false for from if import in network not or return true "
    "input output weights choice stack min max sum len floor ceil round abs"
)
_WORDS = frozenset(_KEYWORDS.split())
_NUMBERED = re.compile(r"(input|output|n|x|y|data|onnx|tensor|args?)?_?\d+", re.IGNORECASE)
"""Names that exporters count up: they say nothing."""


@dataclass(frozen=True)
class Written:
    """A model file, the graph that it elaborates to, and its weights under the names of that graph."""

    text: str
    graph: Graph
    weights: dict[str, Array]

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return self.text.count("\n")


def write_arch(graph: Graph, *, name: str | None = None, weights: str | None = None) -> Written:
    """The model file of a graph.

    Args:
        graph: as authored or imported, before the passes for a target.
        name: of the network; by default the graph's.
        weights: the name of the weights file that it will mention.

    Raises:
        CompactError: CIR680 with every operation that the language has no words for.
    """
    graph = respelled(graph)
    items = items_of(sorted_nodes(graph))
    network = _identifier(name or graph.name)
    taken = {*_WORDS, *SPELLINGS, network}
    structured, blocks = find_blocks(items, list(graph.outputs.values()), set(taken))
    for found, declared in ((structured, blocks), (items, [])):
        text = format_text(_file(graph, network, weights, found, declared, taken), "<imported>")
        try:
            made = elaborate(parse(text, "<imported>"), batch=graph.inputs[0].type.batch)
        except CompactError:
            if not declared:
                raise
            continue  # the plain list of steps says it too
        if same(made, [node for item in found for node in item.nodes]):
            return Written(text, made, _weights(graph, made, found))
    raise CompactError("CIR680", f"the text of `{graph.name}` would say something else than its graph")


def _file(
    graph: Graph,
    network: str,
    weights: str | None,
    items: Sequence[Item],
    blocks: Sequence[Block],
    taken: set[str],
) -> str:
    by_name = {block.name: block for block in blocks}
    words = taken | set(by_name)
    inputs, outputs = _public_names(graph)
    reserved = words | set(inputs) | {name for name, _ in outputs}
    parts = [f'"""{_doc(graph)}"""'] if _doc(graph) else []
    parts += [declaration(block, by_name, words) for block in blocks]
    body = Body(items, [value for _, value in outputs], by_name, reserved)
    for value, own in zip(graph.inputs, inputs, strict=True):
        body.name(value, own)
    at_end = len(outputs) == 1 and bool(items) and items[-1].results == [outputs[0][1]]
    lines = [f'weights "{weights}"'] if weights else []
    lines += [
        f"input {own}: f32[{', '.join(map(str, v.type.shape[1:]))}]"
        for v, own in zip(graph.inputs, inputs, strict=True)
    ]
    lines += body.write(f"output {outputs[0][0]} =" if at_end else None)
    if not at_end:
        lines += [f"output {own} = {body.names[v]}" for own, v in outputs]
    inside = "\n".join(f"  {line}" for line in lines)
    return "\n\n".join([*parts, f"network {network}() {{\n{inside}\n}}"]) + "\n"


def _public_names(graph: Graph) -> tuple[list[str], list[tuple[str, Value]]]:
    """What inputs and outputs are called; numbers of an exporter give way to what the tensors are."""
    makers, taken = graph.makers(), set[str]()

    def unique(name: str) -> str:
        stem, n = name, 1
        while name in taken:
            n += 1
            name = f"{stem}{n}"
        taken.add(name)
        return name

    def named(name: str, otherwise: str) -> str:
        return unique(otherwise if _NUMBERED.fullmatch(_identifier(name)) else _identifier(name))

    inputs = [
        named(v.name, "image" if v.type.rank == 4 and v.type.channels in (1, 3) else "x")
        for v in graph.inputs
    ]
    ends = {"linear": "logits", "softmax": "probabilities"}
    outputs = []
    for name, value in graph.outputs.items():
        maker = makers.get(value)
        outputs.append((named(name, ends.get(maker.op.name, "y") if maker else "y"), value))
    return inputs, outputs


def _doc(graph: Graph) -> str:
    first = graph.doc.strip().partition("\n")[0]
    return first.replace('"', "'").replace("\\", "/")


def same(made: Graph, nodes: Sequence[Node]) -> bool:
    """Whether a graph has these operations, in this order, on corresponding values."""
    if len(made.nodes) != len(nodes):
        return False
    twin = {node.out: other.out for node, other in zip(nodes, made.nodes, strict=True)}
    for node, other in zip(nodes, made.nodes, strict=True):
        values = [twin.get(v) for v in node.values]
        inputs = [v for v in other.values if v in made.inputs]
        if type(node.op) is not type(other.op) or node.out.type != other.out.type:
            return False
        if [p.type.shape for p in node.params] != [p.type.shape for p in other.params]:
            return False
        if len(values) != len(other.values):
            return False
        if any(v is not None and v is not w for v, w in zip(values, other.values, strict=True)):
            return False
        if sum(v is None for v in values) != len(inputs):
            return False
    return True


def _weights(graph: Graph, made: Graph, items: Sequence[Item]) -> dict[str, Array]:
    """The weights under the names that elaboration gives."""
    nodes = [node for item in items for node in item.nodes]
    result = {}
    for node, other in zip(nodes, made.nodes, strict=True):
        for theirs, ours in zip(node.params, other.params, strict=True):
            if theirs.name in graph.weights:
                result[ours.name] = graph.weights[theirs.name]
    return result


def _identifier(name: str) -> str:
    """A name as the language allows it."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "net"
    plain = f"n{plain}" if plain[0].isdigit() else plain
    return f"{plain}_" if plain in _WORDS or plain in SPELLINGS else plain

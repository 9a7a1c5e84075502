"""`--emit`: what can be written beside the C and the library, one function per kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compactir.codegen.c.emit import symbol_for
from compactir.driver import Generated, Planned
from compactir.ir.plan_text import print_plan
from compactir.tools.dot import dot
from compactir.tools.dumps import Dumps
from compactir.tools.graph_text import graph_text, weights_of
from compactir.weights.safetensors import safetensors

Files = dict[str, str | bytes]


def emit_ir(planned: Planned, folder: Path | None = None) -> Files:
    """The graph as authored and after the passes, and the plan, for this folder."""
    name, authored = symbol_for(planned.graph.name), planned.authored.graph
    return {
        f"{name}.cir": graph_text(authored, folder, authored.weights_file),
        f"{name}.opt.cir": graph_text(planned.graph, folder, weights_of(planned.graph, authored.weights)),
        f"{name}.plan": print_plan(planned.lowered.plan),
    }


def emit_py(planned: Planned) -> Files:
    """The PyTorch module as authored, to train, and as deployed, after the passes; each with its weights."""
    from compactir.codegen.torch import emit_torch

    name = symbol_for(planned.graph.name)
    return {
        f"{name}.py": emit_torch(planned.authored.graph, weights=f"{name}.safetensors"),
        f"{name}.safetensors": b"".join(safetensors(planned.authored.graph.weights)),
        f"{name}_deployed.py": emit_torch(
            planned.graph, form="deployment", weights=f"{name}_deployed.safetensors"
        ),
        f"{name}_deployed.safetensors": b"".join(safetensors(planned.graph.weights)),
    }


def emit_dot(planned: Planned) -> Files:
    """The graph as authored and after the passes, for Graphviz."""
    name = symbol_for(planned.graph.name)
    return {f"{name}.dot": dot(planned.authored.graph), f"{name}.opt.dot": dot(planned.graph)}


def emit_report(planned: Planned) -> Files:
    """The figures of `compactc report --json`."""
    from compactir.tools.report import make_report

    text = json.dumps(make_report(planned).to_json(), indent=2, ensure_ascii=False)
    return {f"{symbol_for(planned.graph.name)}.report.json": text + "\n"}


def emit_html(planned: Planned) -> Files:
    """Graphs, connections, memory and numbers on one page."""
    from compactir.tools.html import html

    return {f"{symbol_for(planned.graph.name)}.html": html(planned)}


EMITTERS: Mapping[str, Callable[[Planned], Files]] = {
    "ir": emit_ir,
    "py": emit_py,
    "dot": emit_dot,
    "report": emit_report,
    "html": emit_html,
}
"""Kinds that need the plan alone; `c` and `lib` are the driver's."""


def extras(planned: Planned, kinds: Sequence[str], dumps: Dumps, folder: Path) -> Files:
    """Everything that is to lie beside the module, in this folder."""
    files: Files = {f"ir/{name}": text for name, text in dumps.texts.items()}
    for kind in kinds:
        if kind == "ir":
            files |= emit_ir(planned, folder)
        elif kind in EMITTERS:
            files |= EMITTERS[kind](planned)
    return files


def printable(generated: Generated, kinds: Sequence[str], dumps: Dumps) -> str:
    """What `-o -` prints: the texts in the order in which they were asked for."""
    texts: list[str] = list(dumps.texts.values())
    for kind in kinds:
        if kind == "c":
            texts += [generated.files.header, generated.files.source]
        elif kind in EMITTERS:
            texts.append(str(next(iter(EMITTERS[kind](generated.planned).values()))))
    return "\n".join(texts)

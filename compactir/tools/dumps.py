"""`--dump-ir`: the graph as text between the passes, as files that sort in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError, did_you_mean, spell_list
from compactir.ir.graph import Graph
from compactir.passes import Pass
from compactir.tools.graph_text import graph_text, weights_of

ALL, BEFORE = "all", "before:"


@dataclass
class Dumps:
    """Keeps the texts that the selectors ask for. Give it to a pipeline as `dump`."""

    selectors: Sequence[str]
    texts: dict[str, str] = field(default_factory=dict)
    """`07-fold-batchnorm.cir` → text."""
    ran: list[str] = field(default_factory=list)
    folder: Path | None = None
    """Where the texts will be files."""
    before: dict[str, Any] = field(default_factory=dict)
    """The weights as bound."""

    def __call__(self, stage: str, graph: Graph) -> None:
        name = stage.removeprefix(BEFORE)
        if stage.startswith(BEFORE):
            self.ran.append(name)
        if stage in self.selectors or (ALL in self.selectors and not stage.startswith(BEFORE)):
            self.texts[f"{len(self.ran):02}-{stage.replace(':', '-')}.cir"] = graph_text(
                graph, self.folder, weights_of(graph, self.before)
            )

    def authored(self, graph: Graph) -> None:
        """The graph before the first pass belongs to `all`."""
        self.before = dict(graph.weights)
        if ALL in self.selectors:
            self.texts["00-authored.cir"] = graph_text(graph, self.folder, graph.weights_file)


def check_stages(selectors: Sequence[str], steps: Sequence[Pass]) -> None:
    """Errors: CIR662 for a selector that none of these passes answers to."""
    names = list(dict.fromkeys(step.name for step in steps))
    for name in (selector.removeprefix(BEFORE) for selector in selectors):
        if name not in (ALL, *names):
            raise CompactError(
                "CIR662",
                f"no pass called `{name}` runs",
                notes=[f"these do: {spell_list(names, limit=99)}"] if names else ["the pipeline is empty"],
                help=did_you_mean(name, names) or "`--dump-ir all` dumps after every pass",
            )

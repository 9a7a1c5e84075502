"""A graph as a `.cir` file somewhere: it names its weights as seen from there, and only where they fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

from compactir.ir.graph import Graph
from compactir.ir.text import print_graph


def graph_text(graph: Graph, folder: Path | None, weights: str | Path | None) -> str:
    """The text of a file in this folder whose weights are in the file `weights`, or in none.

    `.cir` files name their weights relative to themselves. Without a folder, as for a terminal, the path
    stays as it is.
    """
    named = copy(graph)
    named.weights_file = None if weights is None else str(weights)
    if weights is not None and folder is not None:
        named.weights_file = os.path.relpath(weights, folder)
    return print_graph(named)


def weights_of(graph: Graph, before: Mapping[str, Any]) -> str | None:
    """The weights file that the graph names, while its arrays are those of `before`; passes make new ones."""
    same = graph.weights.keys() == before.keys() and all(graph.weights[k] is before[k] for k in before)
    return graph.weights_file if same else None

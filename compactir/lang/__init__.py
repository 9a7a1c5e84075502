"""The .arch language: text to syntax tree, syntax tree to graph, formatting."""

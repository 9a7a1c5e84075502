"""The .arch language: text -> syntax tree -> Graph, and its formatter."""

from compactir.lang.elaborate import elaborate
from compactir.lang.parser import parse, parse_file

__all__ = ["elaborate", "parse", "parse_file"]

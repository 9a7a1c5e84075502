"""Graph to graph: one file per pass, and the pipelines that order them.

A pass that is defined in a file beside this one is registered.
"""

from importlib import import_module
from pkgutil import iter_modules

from compactir.passes._apart import Part, parts_by_family, parts_by_output, rows_of, take_apart
from compactir.passes._base import (
    PASSES,
    Clock,
    Decision,
    Instrument,
    Log,
    Pass,
    parse_pipeline,
    register,
    run_pipeline,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

from compactir.passes.pipelines import PIPELINES, pipeline  # noqa: E402  # needs every pass registered

__all__ = [
    "PASSES",
    "PIPELINES",
    "Clock",
    "Decision",
    "Instrument",
    "Log",
    "Part",
    "Pass",
    "parse_pipeline",
    "parts_by_family",
    "parts_by_output",
    "pipeline",
    "register",
    "rows_of",
    "run_pipeline",
    "take_apart",
]

"""What a C project wants beside the code: an example that runs, CMakeLists.txt, a pkg-config file."""

from __future__ import annotations

from math import prod
from typing import Any

from compactir import __version__
from compactir.codegen.c.emit import CFiles, macro_prefix
from compactir.codegen.c.render import environment
from compactir.ir.plan import Plan
from compactir.targets import Target

__all__ = ["project_files"]


def project_files(plan: Plan, files: CFiles, target: Target) -> dict[str, str]:
    """File name → text. All of it is plain text that no compiler is needed for."""
    symbol = files.symbol
    context: dict[str, Any] = {
        "plan": plan,
        "target": target,
        "symbol": symbol,
        "upper": macro_prefix(symbol),
        "version": __version__,
        "weights_file": files.weights == "file",
        "weights_object": files.weights == "object",
        "sources": [f"{symbol}.c", *([f"{symbol}_weights.S"] if files.weights == "object" else [])],
        "flags": (*target.cflags, *(["-ffreestanding"] if files.freestanding else [])),
    }
    templates = {
        "example_main.c": "example_bare.c.j2" if files.freestanding else "example_main.c.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
        f"{symbol}.pc": "package.pc.j2",
    }
    engine = environment().overlay()
    engine.filters = {**engine.filters, "product": prod}
    return {name: engine.get_template(file).render(**context) for name, file in templates.items()}

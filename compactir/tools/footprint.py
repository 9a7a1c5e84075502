"""How much flash and RAM a network takes on a chip: sections of the compiled code, the plan's workspace."""

from __future__ import annotations

from dataclasses import dataclass

from compactir.driver import Generated, archive
from compactir.runtime.build import find_compiler
from compactir.runtime.elf import member_sizes

__all__ = ["Footprint", "footprint"]


@dataclass(frozen=True)
class Footprint:
    """Bytes; inputs, outputs and the stack are the program's own and not counted."""

    compiler: str
    code: int
    tables: int
    weights: int
    """Packed for the kernels, with their header."""
    variables: int
    workspace: int

    @property
    def flash(self) -> int:
        """What stays: code, tables, weights. A linker that drops unused sections makes it less."""
        return self.code + self.tables + self.weights

    @property
    def ram(self) -> int:
        """What changes."""
        return self.variables + self.workspace

    def __str__(self) -> str:
        return (
            f"flash {self.flash:,} bytes (code {self.code:,}, tables {self.tables:,}, weights "
            f"{self.weights:,}), RAM {self.ram:,} bytes (workspace), compiled by {self.compiler}"
        )


def footprint(generated: Generated, cc: str | None = None) -> Footprint:
    """Compile and measure. Errors: room 5xx."""
    manifest = generated.manifest
    compiler = find_compiler(generated.planned.target, cc)
    sizes = member_sizes(archive(generated, cc))
    constants = sizes.constants + sizes.data
    weights = manifest.weights_bytes
    tables = constants - weights if generated.files.weights != "file" else constants
    return Footprint(
        compiler.version, sizes.code, tables, weights, sizes.data + sizes.zeroed, manifest.workspace_bytes
    )

"""The loop of multiply-adds as one more runner: what the others are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compactir.runtime.peak import Loop
from compactir.tools.bench.engines.base import Engine

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case

LIBRARY = "libpeak.so"
"""In the case's folder."""


class Peak(Engine):
    """Not an engine: it runs no network."""

    name = "peak"
    forms = False

    def version(self) -> str:
        """It has none."""
        return ""

    def library_bytes(self, case: Case) -> int:
        """It is not installed."""
        return 0

    def bring(self) -> None:
        """Nothing to import."""

    def load(self, case: Case, form: str, threads: int) -> _Session:
        """The loop, on so many threads."""
        return _Session(case.folder / LIBRARY, threads)


class _Session(Loop):
    def results(self) -> list[Array]:
        return []

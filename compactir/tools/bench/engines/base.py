"""What every engine has to say: where it comes from, how a model is brought to it, how it is run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from compactir.ir.types import Array
    from compactir.tools.bench.case import Case


class Session(Protocol):
    """A loaded network with its inputs in place."""

    def run(self) -> None:
        """One inference, called as a program in Python would: this is what is timed."""

    def results(self) -> Sequence[Array]:
        """The outputs of the last run, channels first, in the order of the case."""


class Engine(ABC):
    """One way to run a network. Nothing is imported before `bring`."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """What pip installs; the first is the engine, the others convert models for it."""
    modules: ClassVar[tuple[str, ...]] = ()
    """What Python imports, in the same order."""
    settings: ClassVar[str] = ""
    """How it is driven, for whoever reads the figures."""
    held: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Instruction set -> the environment in which it takes none beyond; absent where nothing holds it."""
    forms: ClassVar[bool] = True
    """Whether it tries the other forms of a network: our own compiler gets what was written."""

    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        here = zip(self.packages, self.modules, strict=True)
        return tuple(package for package, module in here if find_spec(module) is None)

    def version(self) -> str:
        """Of the engine's package; "" where nothing says it (built from source, on a path)."""
        package = self._package()
        return package.version if package else ""

    def _package(self) -> metadata.Distribution | None:
        """What is installed, under another name too: onnxruntime-gpu brings `onnxruntime`."""
        with suppress(metadata.PackageNotFoundError):
            return metadata.distribution(self.packages[0])
        names = metadata.packages_distributions().get(self.modules[0])
        return metadata.distribution(names[0]) if names else None

    def library_bytes(self, case: Case) -> int:
        """What the engine's package takes on disk, 0 where nothing says it; converters are not counted."""
        package = self._package()
        files = (package.files if package else None) or ()
        paths = {Path(str(file.locate())) for file in files if not str(file).endswith(".pyc")}
        return sum(path.stat().st_size for path in paths if path.is_file())

    def unfit(self, case: Case) -> str:
        """Why it cannot run this network, "" where it can."""
        return ""

    def convert(self, case: Case, form: str) -> None:  # noqa: B027  # most engines read ONNX as it is
        """Write what `load` reads. Runs in a process of its own, before and apart from everything timed."""

    def beyond(self, session: Session, isa: str) -> str:
        """After a run: what it ran beyond what it was held to, "" where nothing is known."""
        return ""

    @abstractmethod
    def bring(self) -> None:
        """Import the engine."""

    @abstractmethod
    def load(self, case: Case, form: str, threads: int) -> Session:
        """Load the network and put the inputs into place."""

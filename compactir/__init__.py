"""compactir: a compiler for compact convolutional networks.

    import compactir

    module = compactir.compile("model.arch", target="native")
    module = compactir.load("out")                # one that was built before
    graph = compactir.from_torch(torch_module, example)     # for compile, or for `compactc import`

Attributes load on first use, so that importing the package costs milliseconds and never imports torch.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compactir.driver import compile, load
    from compactir.frontends.torch import from_torch

__version__ = "0.1.0"

PUBLIC = {
    "compile": "compactir.driver",
    "from_torch": "compactir.frontends.torch",
    "load": "compactir.runtime.module",
}
"""Public name -> the module that defines it."""

__all__ = ["__version__", "compile", "from_torch", "load"]

# A checkout that lost the links to passes/, codegen/ and runtime/ (Windows without core.symlinks)
# finds them one level up.
if not (Path(__file__).parent / "passes").is_dir():
    __path__.append(str(Path(__file__).parent.parent))


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(PUBLIC[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})

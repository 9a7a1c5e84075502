"""The operations: one file per family, one class per operation. Defining one here is registering it."""

from importlib import import_module
from pkgutil import iter_modules

from compactir.ir.op import OPS, SPELLINGS, Op, Sample, signature

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["OPS", "SPELLINGS", "Op", "Sample", "signature"]

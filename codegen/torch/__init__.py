"""PyTorch source from a graph: `emit_torch` writes a file, `load_torch` makes it a module with weights."""

from compactir.codegen.torch.emit import emit_torch
from compactir.codegen.torch.load import load_torch

__all__ = ["emit_torch", "load_torch"]

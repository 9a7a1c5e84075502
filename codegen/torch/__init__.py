"""PyTorch source from a graph: `emit_torch` writes the file, `load_torch` makes a module with weights of it."""

from compactir.codegen.torch.emit import emit_torch
from compactir.codegen.torch.load import load_torch

__all__ = ["emit_torch", "load_torch"]

"""ONNX from a graph: `export_onnx` makes the model, with our weights in it."""

from compactir.codegen.onnx.export import export_onnx

__all__ = ["export_onnx"]

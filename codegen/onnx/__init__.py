"""Graph to an ONNX model."""

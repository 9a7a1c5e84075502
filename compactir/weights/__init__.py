"""Weights in and out: safetensors, PyTorch state dictionaries, ONNX initializers, seeded random values."""

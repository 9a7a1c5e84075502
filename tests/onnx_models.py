"""Small ONNX models for tests: from text, with seeded constants; and what ONNX Runtime makes of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from compactir.ir.types import Array


def model(text: str, opset: int = 17, **constants: Array) -> onnx.ModelProto:
    """A model from the body of a graph in ONNX's text form; names that it does not define are constants."""
    version = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    built = parser.parse_model(f"{version} {text}")
    built.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in constants.items())
    return built


def saved(folder: Path, built: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(built.SerializeToString())
    return path


def in_runtime(built: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes, with its own rewrites switched off; inputs by position."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    results: list[Any] = session.run(None, dict(zip(names, inputs.values(), strict=True)))
    return [np.asarray(r) for r in results]


def array(*shape: int, seed: int = 0) -> Array:
    """Seeded standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

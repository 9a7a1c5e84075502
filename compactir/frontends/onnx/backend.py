"""ONNX's own backend interface, so that ONNX's own test suite can judge what we read.

    from compactir.frontends.onnx.backend import CompactBackend
    CompactBackend.prepare(model).run([x])

Models run on the reference, in float64 (scores near 10^10 have to be equal in the suite's networks): what
is judged is the reading of a model and the meaning of our operations; that C means the same is what the
tests of C show. Shapes, axes and weights that a case passes as inputs are taken as constants when it runs:
whole numbers always, floats where an operation needs them when it is compiled (the weight of a
convolution). Everything else flows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from compactir import reference
from compactir.frontends.onnx.model import Model, check_model
from compactir.frontends.onnx.reader import imported, read_model
from compactir.ir.types import Array

__all__ = ["CompactBackend", "Prepared"]


class Prepared(BackendRep):
    """A model that is read when the first inputs come."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """One array per output.

        Args:
            inputs: arrays in the order of the model's inputs, or by name.
            kwargs: what ONNX's interface allows and nobody uses.

        Errors: those of `frontends.onnx.read`.
        """
        names = [i.name for i in self.model.inputs]
        arrays = inputs if isinstance(inputs, dict) else dict(zip(names, inputs, strict=False))
        given = {name: np.asarray(a) for name, a in arrays.items()}
        reader = read_model(self.model, self.model.name, given=given)
        flowing = {value.name: given[name] for value, name in reader.named.items()}
        results = reference.run(imported(reader), flowing, np.float64)
        return namedtupledict("Outputs", self.model.outputs)(
            *(r.astype(np.float32) for r in results.values())
        )


class CompactBackend(Backend):
    """Runs ONNX models through our Graph."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """True unless the file itself is out of the question."""
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Check a model; constants may lie in files of `folder`. Errors: those of `frontends.onnx.read`."""
        folder = kwargs.get("folder")
        return Prepared(check_model(model, Path(folder) if folder else None))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Run one node on arrays."""
        from onnx import helper

        arrays = [np.asarray(x) for x in inputs]
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in zip(filter(None, node.input), arrays, strict=False)
        ]
        outs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "node", infos, outs)
        version = min(onnx.defs.onnx_opset_version(), 23)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
        return cls.prepare(model, device).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The processor, nothing else."""
        return device.partition(":")[0] == "CPU"

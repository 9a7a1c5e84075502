"""Operators that ONNX defines by other operators: their bodies, from the package's own schemas.

Source: onnx.defs; "Functions" in IR.md: a function body is the meaning of its operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compactir.frontends.onnx.model import Function, Node, need_onnx

Kind = tuple[np.dtype[Any], tuple[int, ...]] | None
"""Element type and extents of an operand; None where it is left out."""


def definition(node: Node, kinds: Sequence[Kind], version: int) -> Function | None:
    """The body of an operator for these operands, or None where it has none."""
    onnx = need_onnx()
    try:
        schema = onnx.defs.get_schema(node.op, version, "")
    except onnx.defs.SchemaError:
        return None
    if schema.has_context_dependent_function:
        proto = onnx.FunctionProto.FromString(_dependent(schema, node, kinds, version))
    elif schema.has_function:
        proto = _plain(schema, version)
    else:
        return None
    if not proto.node:
        return None
    versions = {"": next((o.version for o in proto.opset_import if not o.domain), version)}
    attributes = frozenset([*proto.attribute, *(a.name for a in proto.attribute_proto)])
    defaults = {name: a.default_value for name, a in schema.attributes.items()}
    for name in attributes:
        if name not in node.attributes and name in defaults and defaults[name].type:
            node.attributes[name] = onnx.helper.get_attribute_value(defaults[name])
    return Function(tuple(proto.input), tuple(proto.output), attributes, tuple(proto.node), versions)


def is_defined(op: str, version: int) -> bool:
    """Whether ONNX defines an operator by others, for some operands at least."""
    onnx = need_onnx()
    try:
        schema = onnx.defs.get_schema(op, version, "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_context_dependent_function or schema.has_function)


def _plain(schema: Any, version: int) -> Any:
    """The body for the newest version of operators that is not newer than the model's."""
    bodies = [v for v in schema.function_opset_versions if v <= version]
    if not bodies:
        return schema.function_body
    return need_onnx().FunctionProto.FromString(schema.get_function_with_opset_version(max(bodies)))


def _dependent(schema: Any, node: Node, kinds: Sequence[Kind], version: int) -> bytes:
    """The body for operands of these types."""
    onnx = need_onnx()
    types = []
    for kind in kinds:
        type = onnx.TypeProto()
        if kind is not None:
            number = onnx.helper.np_dtype_to_tensor_dtype(kind[0])
            type = onnx.helper.make_tensor_type_proto(number, kind[1])
        types.append(type.SerializeToString())
    attributes = {k: v for k, v in node.attributes.items() if not isinstance(v, np.ndarray)}
    proto = onnx.helper.make_node(node.op, node.inputs, node.outputs, **attributes)
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    body: bytes = schema.get_context_dependent_function_with_opset_version(
        max(versions, default=schema.since_version), proto.SerializeToString(), types
    )
    return body

"""An .onnx file as checked data: parsed within bounds, constants as arrays, nothing trusted.

Sources: onnx.proto3 of the onnx package (fields and their meaning), "Open Neural Network Exchange
Intermediate Representation Specification" (IR.md: names, order of nodes, external data).
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.frontends.build import bounded
from compactir.ir.types import Array

if TYPE_CHECKING:
    import onnx

LONGEST_FILE = (1 << 31) - 1
"""Bytes of a file at most: protobuf knows no longer message."""
MOST_NODES = 1 << 17
"""Nodes at most, those of called functions included: functions of functions multiply."""
DOMAINS = ("", "ai.onnx")
"""The two spellings of ONNX's own operators."""


def need_onnx() -> Any:
    """The package onnx. Errors: CIR605."""
    try:
        import onnx
    except ImportError:
        raise CompactError(
            "CIR605",
            "the package onnx is not installed",
            help='install it with `pip install "compactir[onnx]"`',
        ) from None
    return onnx


@dataclass(frozen=True)
class Input:
    """An input: its extents (a number, or the name of an open one) and the number of its element type."""

    name: str
    shape: tuple[int | str, ...] | None
    elem: int


@dataclass(frozen=True)
class Node:
    """A node: operator, names of operands and results (empty where left out), attributes as Python data."""

    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    name: str


@dataclass(frozen=True)
class Function:
    """An operator that the model defines by others."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: frozenset[str]
    nodes: tuple[onnx.NodeProto, ...]
    versions: dict[str, int]


@dataclass
class Model:
    """What a file says, before anybody knows what its operators mean."""

    name: str
    doc: str
    versions: dict[str, int]
    inputs: list[Input]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Array]
    functions: dict[tuple[str, str], Function] = field(default_factory=dict)


class Subgraph:
    """Stands for an attribute that holds nodes: control flow, which is not read."""


# -- the file ------------------------------------------------------------------------------------------------


def load_model(path: Path) -> Model:
    """Read and check a file. Errors: CIR605, CIR630, CIR631, CIR632, CIR635."""
    onnx = need_onnx()
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise _unreadable(path, "it is no ordinary file")
        if not 0 < info.st_size <= LONGEST_FILE:
            raise _unreadable(path, f"it has {info.st_size} bytes")
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from None
    except CompactError:
        raise
    except Exception as error:  # protobuf has several of its own, different ones per implementation
        raise _unreadable(path, str(error).splitlines()[0][:120] if str(error) else "no protobuf") from None
    if not _is_text(proto):
        raise _unreadable(path, "one of its names is not UTF-8 text")
    return check_model(proto, path.parent, path.stem)


def _is_text(message: Any) -> bool:
    """Whether every name in a message is text: protobuf hands out bytes where it is not."""
    for known, value in message.ListFields():
        several = value if hasattr(value, "append") or hasattr(value, "add") else [value]
        if known.type == known.TYPE_STRING and any(isinstance(one, bytes) for one in several):
            return False
        if known.type == known.TYPE_MESSAGE and not all(map(_is_text, several)):
            return False
    return True


def _unreadable(path: Path, why: str) -> CompactError:
    return CompactError("CIR630", f"`{path}` is not an ONNX model", notes=[why])


def check_model(proto: onnx.ModelProto, folder: Path | None = None, name: str = "") -> Model:
    """The same for a model in memory; constants in other files lie in `folder`. Errors: as `load_model`."""
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise CompactError(
            "CIR630", f"`{name or 'the model'}` is not an ONNX model", notes=["it has no graph"]
        )
    versions = {"" if o.domain in DOMAINS else o.domain: int(o.version) for o in proto.opset_import}
    versions.setdefault("", 1)
    graph = proto.graph
    constants = Constants(folder)
    if graph.sparse_initializer:
        raise _broken(f"`{graph.sparse_initializer[0].values.name}` is a sparse constant, which is not read")
    known: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in known or not tensor.name:
            raise _broken(f"there are two constants named `{tensor.name}`")
        known[tensor.name] = constants.array(tensor)
    model = Model(
        graph.name or name,
        graph.doc_string,
        versions,
        [Input(*_declared(v)) for v in graph.input if v.name not in known],
        [v.name for v in graph.output],
        list(_nodes(graph.node, constants)),
        known,
        {(f.domain, f.name): _function(f) for f in proto.functions},
    )
    _check_names(model)
    return model


def _broken(*messages: str) -> CompactError:
    notes = [f"and {len(messages) - 12} more"] if len(messages) > 12 else []
    return CompactError(
        "CIR631",
        f"the model breaks ONNX's own rules: {messages[0]}",
        notes=[*messages[1:12], *notes],
        help="`onnx.checker.check_model` says more",
    )


def _declared(info: onnx.ValueInfoProto) -> tuple[str, tuple[int | str, ...] | None, int]:
    if not info.type.HasField("tensor_type"):
        return info.name, None, 0
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return info.name, None, tensor.elem_type
    shape: list[int | str] = []
    for i, d in enumerate(tensor.shape.dim):
        shape.append(int(d.dim_value) if d.HasField("dim_value") else d.dim_param or f"dim{i}")
    return info.name, tuple(shape), tensor.elem_type


def _nodes(protos: Sequence[onnx.NodeProto], constants: Constants) -> Iterator[Node]:
    if len(protos) > MOST_NODES:
        raise _broken(f"it has {len(protos)} nodes")
    for proto in protos:
        yield node_of(proto, constants)


def node_of(proto: onnx.NodeProto, constants: Constants) -> Node:
    """A node as data. Errors: CIR631 for an attribute without a type, those of constants."""
    attributes = {a.name: _attribute(proto, a, constants) for a in proto.attribute}
    domain = "" if proto.domain in DOMAINS else proto.domain
    made = next((o for o in proto.output if o), "")
    return Node(
        proto.op_type, domain, tuple(proto.input), tuple(proto.output), attributes, proto.name or made
    )


def _attribute(node: onnx.NodeProto, a: onnx.AttributeProto, constants: Constants) -> Any:
    kinds = type(a)
    if a.ref_attr_name:
        return Reference(a.ref_attr_name)
    readers: dict[int, Any] = {
        kinds.FLOAT: lambda: float(a.f),
        kinds.INT: lambda: int(a.i),
        kinds.STRING: lambda: a.s.decode("utf-8", "replace"),
        kinds.TENSOR: lambda: constants.array(a.t),
        kinds.FLOATS: lambda: [float(f) for f in a.floats],
        kinds.INTS: lambda: [int(i) for i in a.ints],
        kinds.STRINGS: lambda: [s.decode("utf-8", "replace") for s in a.strings],
        kinds.GRAPH: Subgraph,
        kinds.GRAPHS: Subgraph,
    }
    if a.type not in readers:
        raise _broken(f"attribute `{a.name}` of `{node.name or node.op_type}` has a type that is not read")
    return readers[a.type]()


@dataclass(frozen=True)
class Reference:
    """An attribute that takes the value of its function's attribute."""

    name: str


def _function(proto: onnx.FunctionProto) -> Function:
    versions = {"" if o.domain in DOMAINS else o.domain: int(o.version) for o in proto.opset_import}
    names = frozenset([*proto.attribute, *(a.name for a in proto.attribute_proto)])
    return Function(tuple(proto.input), tuple(proto.output), names, tuple(proto.node), versions)


def _check_names(model: Model) -> None:
    """Every tensor is made once, before it is read: that is what rules out circles."""
    wrong: list[str] = []
    known = {"", *model.constants}
    for given in model.inputs:
        if given.name in known:
            wrong.append(f"there are two inputs or constants named `{given.name}`")
        known.add(given.name)
    made_later = {o for n in model.nodes for o in n.outputs}
    for node in model.nodes:
        for name in node.inputs:
            if name not in known:
                why = (
                    "only later nodes make (or itself, in a circle)"
                    if name in made_later
                    else "nothing makes"
                )
                wrong.append(f"`{node.name}` ({node.op}) reads `{name}`, which {why}")
        for name in filter(None, node.outputs):
            if name in known:
                wrong.append(f"`{node.name}` ({node.op}) makes `{name}` again")
            known.add(name)
    wrong += [f"nothing makes the output `{name}`" for name in model.outputs if name not in known or not name]
    if not model.outputs:
        wrong.append("it has no output")
    if len(set(model.outputs)) < len(model.outputs):
        wrong.append("two outputs have the same name")
    if wrong:
        raise _broken(*wrong)


# -- constants -----------------------------------------------------------------------------------------------


class Constants:
    """Reads constants; `notes` say aloud what was converted."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.converted: dict[str, int] = {}

    def array(self, tensor: onnx.TensorProto) -> Array:
        """The elements of a constant. Errors: CIR631 (form), CIR632 (external data), CIR635 (size)."""
        from onnx import TensorProto, helper, numpy_helper

        name = tensor.name or "a constant"
        if tensor.data_type not in _READ:
            raise _broken(f"`{name}` has elements of type {_type_name(tensor.data_type)}, which are not read")
        if any(d < 0 for d in tensor.dims):
            raise _broken(f"`{name}` has the shape {list(tensor.dims)}")
        shape = bounded(tensor.dims)
        count = math.prod(shape)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if tensor.data_location == TensorProto.EXTERNAL:
            return np.frombuffer(self._external(tensor, count * dtype.itemsize), dtype).reshape(shape)
        stored = (
            len(tensor.raw_data) // max(dtype.itemsize, 1) if tensor.HasField("raw_data") else _items(tensor)
        )
        odd = tensor.HasField("raw_data") and len(tensor.raw_data) != count * dtype.itemsize
        if stored != count or odd:
            raise _broken(f"`{name}` holds {stored} elements, its shape {list(shape)} wants {count}")
        try:
            return np.asarray(numpy_helper.to_array(tensor)).reshape(shape)
        except Exception as error:
            raise _broken(f"`{name}` cannot be read: {str(error)[:100]}") from None

    def _external(self, tensor: onnx.TensorProto, size: int) -> bytes:
        entries = {e.key: e.value for e in tensor.external_data}
        location, name = entries.get("location", ""), tensor.name
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        except ValueError:
            raise _outside(name, location, "its offset or length is no number") from None
        if self.folder is None:
            raise _outside(name, location, "the model is not a file, so it has no folder")
        folder = self.folder.resolve()
        try:
            path = (folder / location).resolve()
            if not location or not path.is_relative_to(folder) or Path(location).is_absolute():
                raise _outside(name, location, "it lies outside of the model's folder")
            if not path.is_file():
                raise _outside(name, location, "there is no such file")
            if length != size or offset < 0 or offset + size > path.stat().st_size:
                raise _outside(name, location, f"it does not hold {size} bytes at {offset}")
            with path.open("rb") as file:
                file.seek(offset)
                data: bytes = file.read(size)
                return data
        except (OSError, ValueError, RuntimeError) as error:
            raise _outside(name, location, str(error)[:100]) from None


def _outside(name: str, location: str, why: str) -> CompactError:
    return CompactError(
        "CIR632",
        f"the weights of `{name}` cannot be read from `{location[:100]}`",
        notes=[why],
        help="put the data file beside the model, or save the model in one file",
    )


def _items(tensor: onnx.TensorProto) -> int:
    """How many elements the typed field holds."""
    fields = {
        1: "float_data",
        7: "int64_data",
        11: "double_data",
        12: "uint64_data",
        13: "uint64_data",
    }  # the others are packed into int32_data
    return len(getattr(tensor, fields.get(tensor.data_type, "int32_data")))


_READ = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16}
"""float, (u)int8, (u)int16, int32, int64, bool, float16, double, uint32, uint64, bfloat16."""


def _type_name(number: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(number)) if number in TensorProto.DataType.values() else str(number)

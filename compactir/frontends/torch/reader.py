"""The operations that `torch.export` recorded, each by its handler, or refused with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError
from compactir.frontends.build import Builder, is_known
from compactir.ir.graph import Value
from compactir.ir.types import Array
from compactir.ops.norm import Lrn

Handler = Callable[["Step"], Any]
HANDLERS: dict[str, Handler] = {}
"""ATen's name, without overload and without the `_` of operations in place → how it is built."""
_IDENTITY = {
    "clone",
    "contiguous",
    "detach",
    "alias",
    "lift_fresh_copy",
    "to",
    "_to_copy",
    "identity",
    "_assert_tensor_metadata",
}


class Refused(Exception):  # noqa: N818  # not an error of its own: it is listed with others
    """An operation that cannot be read, with the reason."""


class Step:
    """One recorded operation: its arguments by name, values in place of nodes."""

    def __init__(self, reader: Reader, node: Any) -> None:
        self.b = reader.builder
        self.reader = reader
        self.node = node
        schema = node.target._schema
        names: list[str] = [a.name for a in schema.arguments]
        self.first = names[0]
        """The name of the first argument."""
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        usual = {a.name: a.default_value for a in schema.arguments if a.name not in given}
        self.raw: dict[str, Any] = usual | given
        self.args = {name: reader.resolve(value) for name, value in self.raw.items()}

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        value = self.args.get(name, otherwise)
        return otherwise if value is None else value

    def value(self, name: str) -> Value:
        """An operand that flows."""
        x: Any = self.args[name]
        if is_known(x):
            return self.b._operand(x, self.b._name())
        return x  # type: ignore[no-any-return]  # what is not an array is a value

    def known(self, name: str) -> Array:
        """A constant operand."""
        x = self.args[name]
        if not is_known(x):
            raise Refused(f"its {name} is computed, not constant")
        return x

    def layer_name(self, role: str = "weight") -> str:
        """The module that owns a parameter."""
        target = self.reader.targets.get(str(self.raw.get(role)), "")
        return target.rpartition(".")[0] or self.b.stem


class Reader:
    """Builds the graph of an exported program. `refused` lists (node, reason, module)."""

    def __init__(self, program: Any, name: str) -> None:
        self.builder = Builder(name)
        self.structure = program.call_spec.out_spec
        self.builder.graph.doc = f"{name}, from PyTorch."
        self.refused: list[tuple[str, str, str]] = []
        signature = program.graph_signature
        self.targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.env: dict[Any, Any] = {}
        self.poisoned: set[Any] = set()
        self.converted: Counter[str] = Counter()
        """Tensors that became float32, by the type that they had."""
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, program)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._outputs(node)

    def resolve(self, value: Any) -> Any:
        """Nodes as what they are here."""
        if type(value).__name__ == "Node":
            return self.env[value]
        if isinstance(value, (list, tuple)):
            return [self.resolve(v) for v in value]
        return value

    def _placeholder(self, node: Any, program: Any) -> None:
        target = self.targets.get(node.name)
        if target is None:
            self.env[node] = self.builder.input(node.name, list(node.meta["val"].shape))
            return
        stored = program.state_dict.get(target)
        tensor = stored if stored is not None else program.constants[target]
        array = tensor.detach().cpu()
        kind = str(array.dtype).removeprefix("torch.")
        self.converted[kind] += array.is_floating_point() and kind != "float32"
        self.env[node] = array.float().numpy() if array.is_floating_point() else array.numpy()

    def _outputs(self, node: Any) -> None:
        """Those of a dict have its keys as names; None is no output."""
        results = node.args[0]
        shaped = self.structure.unflatten(range(len(results))) if self.structure else None
        several = "output" if sum(result is not None for result in results) == 1 else ""
        names = {i: several or f"output{i + 1}" for i in range(len(results))}
        if isinstance(shaped, dict) and all(isinstance(place, int) for place in shaped.values()):
            names |= {place: str(key) for key, place in shaped.items()}
        for i, result in enumerate(results):
            if result is None or (type(result).__name__ == "Node" and result in self.poisoned):
                continue
            if type(result).__name__ != "Node":
                self.refused.append((names[i], f"it returns {result!r:.40}, which is no tensor", ""))
                continue
            self.builder.output(names[i], self.resolve(result))

    def _call(self, node: Any) -> None:
        if str(node.target) == "aten.div.Tensor" and (found := _local_response(node)) is not None:
            x, op, parts = found
            self.builder.at(node.name)
            self.env[node] = self.builder.place(op, self.env[x])
            self.refused = [entry for entry in self.refused if entry[0] not in parts]
            return
        module = list((node.meta.get("nn_module_stack") or {"": ("",)}).values())[-1][0]
        word = str(node.target).split(".")[1] if str(node.target).startswith("aten.") else str(node.target)
        in_place = word.endswith("_") and not word.endswith("__")
        word = word.rstrip("_") if in_place else word
        if any(n in self.poisoned for n in node.all_input_nodes):
            self.poisoned.add(node)
            if str(node.target).startswith("aten.") and word not in HANDLERS and word not in _IDENTITY:
                self.refused.append((node.name, f"{node.target}: it has no counterpart", module))
            return
        if getattr(node.target, "__name__", "") == "getitem":
            found = self.env[node.args[0]][node.args[1]]
            if found is None:
                self.refused.append((node.name, f"{node.args[0].target}: nothing here makes its indices", ""))
                self.poisoned.add(node)
            self.env[node] = found
            return
        self.builder.at(f"{module}.{word}" if module else word)
        try:
            self.env[node] = self._made(node, word)
            if in_place:
                self.env[node.args[0]] = self.env[node]
        except (Refused, CompactError, ValueError, TypeError, LookupError) as problem:
            text = problem.message if isinstance(problem, CompactError) else str(problem)
            self.refused.append((node.name, f"{node.target}: {text}", module))
            self.poisoned.add(node)

    def _made(self, node: Any, word: str) -> Any:
        if "nondeterministic_seeded" in map(_tag, getattr(node.target, "tags", ())):
            if word not in HANDLERS:
                raise Refused("it draws at random")
            return HANDLERS[word](Step(self, node))  # dropout and its like, which say when they do
        if all(is_known(self.env[n]) for n in node.all_input_nodes):
            return _computed(self, node)
        if word in _IDENTITY:
            made = node.meta.get("val")
            if made is not None and not made.dtype.is_floating_point:
                raise Refused("whole numbers lose what comes after the point")
            return self.env[node.all_input_nodes[0]]
        if word not in HANDLERS:
            raise Refused("it has no counterpart")
        return HANDLERS[word](Step(self, node))


def _tag(tag: Any) -> str:
    return str(tag).rpartition(".")[2]


def _computed(reader: Reader, node: Any) -> Any:
    """What depends on constants only, by PyTorch."""
    import torch

    def tensor(value: Any) -> Any:
        if type(value).__name__ == "Node":
            return torch.from_numpy(np.array(reader.env[value]))
        return type(value)(tensor(v) for v in value) if isinstance(value, (list, tuple)) else value

    given = {k: torch.device("cpu") if k == "device" else v for k, v in node.kwargs.items()}
    result = node.target(*map(tensor, node.args), **{k: tensor(v) for k, v in given.items()})
    several = result if isinstance(result, (list, tuple)) else [result]
    if result is None:  # a check that has passed
        return None
    arrays = [r.float().numpy() if r.is_floating_point() else r.numpy() for r in several]
    return arrays if isinstance(result, (list, tuple)) else arrays[0]


def handles(*words: str) -> Callable[[Handler], Handler]:
    """Make a function the handler of ATen operations."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(words, handler))
        return handler

    return register


_VIEWS = ("view", "squeeze", "unsqueeze", "_unsafe_view", "clone")


def _local_response(node: Any) -> tuple[Any, Lrn, set[str]] | None:
    """torch.nn.functional.local_response_norm is Python: x / (k + alpha · mean of x²)^beta.

    Returns what it reads, the operation, and the names of the nodes that it consists of.
    """
    found: dict[str, Any] = {}
    parts: set[str] = set()
    x, at = node.args
    for word in ("pow", "add", "mul", "avg_pool3d", "pad", "mul"):
        while _aten(at) in _VIEWS:
            parts.add(at.name)
            at = at.args[0]
        if _aten(at) != word:
            return None
        parts.add(at.name)
        found[f"{word}2" if word in found else word] = at
        at = at.args[0]
    if at is not x or found["mul2"].args[1] is not x:
        return None
    size, scale = int(found["avg_pool3d"].args[1][0]), float(found["mul"].args[1])
    return x, Lrn(size, scale, float(found["pow"].args[1]), float(found["add"].args[1])), parts


def _aten(node: Any) -> str | None:
    """ATen's name of a recorded operation."""
    words = str(getattr(node, "target", "")).split(".")
    return words[1] if len(words) > 1 and words[0] == "aten" else None

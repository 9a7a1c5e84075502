"""Graph -> the text of a PyTorch module, as a person would write it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import Literal

import compactir
from compactir.codegen.torch.arguments import CannotNameError, Constructor, Flag, Written
from compactir.codegen.torch.classes import RESERVED, Block, groups, merge, name_classes, variants
from compactir.codegen.torch.forward import RESERVED as RESERVED_NAMES
from compactir.codegen.torch.forward import Forward, numbered
from compactir.codegen.torch.layer import is_long, me
from compactir.codegen.torch.structure import Instance, Step, TensorRef, build
from compactir.codegen.torch.text import (
    INDENT,
    WIDTH,
    class_name,
    constant,
    docstring,
    identifier,
    is_plain_name,
    literal,
    signature,
    statement,
    unused,
    with_shared_rows,
)
from compactir.ir.channels import ChannelList
from compactir.ir.graph import Graph
from compactir.ir.types import TensorType

Form = Literal["training", "deployment"]

_MANY = 8
"""So many equal blocks in a row are made in a loop."""

_IMPORTS = [
    (r"\bSequence\[", "from collections.abc import Sequence"),
    (r"\bgroupby\(", "from itertools import groupby"),
    (r"\bAny\b", "from typing import Any"),
    (r"\btorch\.", "import torch"),
    (r"\bF\.", "import torch.nn.functional as F"),
    (r"", "from torch import Tensor, nn"),
]


def emit_torch(graph: Graph, *, form: Form = "training", weights: str | None = None) -> str:
    """The source of a PyTorch module for this network.

    Args:
        graph: as authored, or after passes. Weights need not be bound: none are written into the file.
        form: what the file says about itself: "training" of a graph as authored, "deployment" after passes.
        weights: the file of weights that it says to load, by default NAME.safetensors.

    Returns:
        A file of classes that needs PyTorch only. The last class is the network, the only name in `__all__`;
        the keys of its `state_dict` are the names of the graph's parameters (batch norm adds PyTorch's own
        `num_batches_tracked`).

    Errors: CIR501 for an operation that has no PyTorch spelling.
    """
    return _Emitter(graph, form, weights or f"{_file_stem(graph.name)}.safetensors").text()


class _Emitter:
    def __init__(self, graph: Graph, form: Form, weights: str) -> None:
        self.graph, self.form, self.weights = graph, form, weights
        self.root = build(graph)
        self.classes: dict[int, Block] = {}
        self.constructors: list[Constructor] = []
        self.constants: dict[str, list[str]] = {}
        self.lists: dict[str, list[int]] = {}
        self.taken = {class_name(graph.name, RESERVED)}
        self.network = next(iter(self.taken))

    def text(self) -> str:
        """The whole file."""
        for block, instances in groups(self.root):
            self._add(block, instances)
        parts = [self._class(c) for c in self.constructors]
        helpers = _helpers({h for c in self.constructors for layer in c.layers for h in layer.helpers})
        written = with_shared_rows(self.constants, self.lists)
        constants = ["\n".join([f"{n} = {first}", *rest]) for n, (first, *rest) in written.items()]
        code = "\n\n\n".join([*helpers, *(["\n".join(constants)] if constants else []), *parts])
        exported = f'__all__ = ["{self.network}"]'
        top = "\n".join(docstring(0, self._about()))
        return f"{top}\n\n{_imports(code)}\n\n{exported}\n\n\n{code}\n"

    # -- classes ---------------------------------------------------------------------------------------------

    def _add(self, block: str, instances: Sequence[Instance]) -> None:
        """Decide the classes of one block, joining variants where the result can be said."""
        pool = variants(block, instances, self.classes)
        done: list[Block] = []
        while pool:
            whole = pool.pop(0)
            rest = []
            for other in pool:
                joined = merge(whole, other, self.classes)
                if joined is not None and self._constructor(joined) is not None:
                    whole = joined
                else:
                    rest.append(other)
            pool = rest
            done.append(whole)
        if instances[0] is self.root:
            done[0].name = self.network
        else:
            name_classes(done, self.taken)
        for one in done:
            for instance in one.instances:
                self.classes[id(instance)] = one
        for one in sorted(done, key=lambda b: -len(b.instances)):
            constructor = self._constructor(one)
            assert constructor is not None, "a class of one structure can always be written"
            one.arguments = constructor.arguments
            self.constructors.append(constructor)

    def _constructor(self, block: Block) -> Constructor | None:
        prefix = "" if block.instances[0] is self.root else block.name + "_"

        def written(value: object, hint: str) -> str:
            return self._literal(value, prefix + hint) if block.name else literal(value)

        try:
            return Constructor(block, self.classes, written)
        except CannotNameError:
            return None

    def _literal(self, value: object, hint: str) -> str:
        """A constant; a long list of numbers becomes a named one above the classes."""
        if is_long(value):
            assert isinstance(value, (list, ChannelList))
            lines = constant(value)
            known = next((name for name, others in self.constants.items() if others == lines), None)
            stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", hint)
            name = known or unused(identifier(stem).upper(), self.constants)
            self.constants[name] = lines
            if len(lines) > 1 and isinstance(value, ChannelList):
                self.lists[name] = [int(c) for c in value.array]
            return name
        if isinstance(value, list) and any(is_long(v) or isinstance(v, ChannelList) for v in value):
            return f"[{', '.join(self._literal(v, f'{hint}{i}') for i, v in enumerate(value))}]"
        return literal(value)

    def _class(self, constructor: Constructor) -> str:
        block = constructor.block
        is_root = block.instances[0] is self.root
        lines = [
            f"class {block.name}(nn.Module):",
            *docstring(1, self._network_doc() if is_root else _doc(block)),
            "",
        ]
        lines += _init(constructor)
        taken: set[str] = {*RESERVED, *RESERVED_NAMES, *self.taken, *self.constants}
        inputs: list[str] = []
        for i, value in enumerate(block.instances[0].inputs):
            plain = "x" if len(block.inputs) == 1 else f"x{i + 1}"
            inputs.append(identifier(value.name if is_root else plain, {*taken, *inputs}))
        count = len(block.results)
        many = ", ".join(["Tensor"] * count) if count <= 4 else "Tensor, ..."
        result = "Tensor" if count == 1 else f"tuple[{many}]"
        lines += signature(1, "forward", ["self", *(f"{n}: Tensor" for n in inputs)], result)
        return "\n".join(lines + Forward(constructor, inputs, is_root).write())

    # -- what the file says about itself ---------------------------------------------------------------------

    def _about(self) -> str:
        graph = self.graph
        batch = graph.inputs[0].type.batch if graph.inputs else 1
        spans = [n.span.file for n in graph.nodes if n.span]
        trained = [p for p in graph.params.values() if p.role == "weight"]
        kept = sum(p.type.size for p in graph.params.values()) - sum(p.type.size for p in trained)
        forms = {"training": "for training, as authored", "deployment": "for deployment, after optimization"}
        facts = {
            "Network": f"{graph.name}, {forms[self.form]}",
            "Source": PurePath(spans[0]).name if spans else "",
            "Input": ", ".join(f"{v.name} {_shape(v.type)}" for v in graph.inputs),
            "Output": ", ".join(f"{n} {_shape(v.type)}" for n, v in graph.outputs.items()),
            "Parameters": f"{graph.trainable:,} trained, {kept:,} in buffers",
            "MACs": f"{graph.macs // batch:,} for one input",
        }
        table = "\n".join(f"{name + ':':<12}{fact}" for name, fact in facts.items() if fact)
        usage = (
            f"    model = {self.network}()\n"
            f'    weights = safetensors.torch.load_file("{self.weights}")\n'
            "    model.load_state_dict(weights)"
        )
        return (
            f"{graph.doc.strip() or f'The network {graph.name}.'}\n\n{table}\n\n"
            f"Generated by compactir {compactir.__version__}. This file needs PyTorch and nothing else, and "
            f"belongs to you: use, change and license it as you like.\n\n{usage}"
        )

    def _network_doc(self) -> str:
        takes = ", ".join(f"{v.name} {_shape(v.type)}" for v in self.graph.inputs)
        gives = ", ".join(f"{n} {_shape(v.type)}" for n, v in self.graph.outputs.items())
        return f"{takes} -> {gives}."


def _file_stem(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _shape(type: TensorType) -> str:
    return f"({', '.join(['N', *map(str, type.shape[1:])])})"


def _doc(block: Block) -> str:
    scope = block.instances[0].scope
    if scope and scope.doc.strip():
        return block.variant or scope.doc  # what the author says about the block stands there once
    names = sorted((".".join(i.path) for i in block.instances), key=_natural)
    used = ", ".join(names) if len(names) <= 4 else f"{names[0]} to {names[-1]}, {len(names)} in all"
    return f"The block `{block.block}`: {used}."


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts `unit2` before `unit10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _imports(code: str) -> str:
    needed = [line for pattern, line in _IMPORTS if re.search(pattern, code)]
    standard = [line for line in needed if "torch" not in line]
    rest = [line for line in needed if "torch" in line]
    if "Tensor" not in code:
        rest[-1] = "from torch import nn"
    return "\n".join([*standard, *([""] if standard else []), *rest])


def _helpers(names: set[str]) -> list[str]:
    """The source of the helper classes and functions of these names, in the order of their file."""
    source = files("compactir.codegen.torch").joinpath("helpers.py").read_text(encoding="utf-8")
    found = [
        n
        for n in ast.parse(source).body
        if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name in names
    ]
    return [ast.get_source_segment(source, node) or "" for node in found]


# -- __init__ ------------------------------------------------------------------------------------------------


def _init(constructor: Constructor) -> list[str]:
    """The constructor, empty where the class holds nothing."""
    body = _init_body(constructor)
    if not body:
        return []
    parameters = ["self"]
    for argument in constructor.arguments:
        default = f" = {literal(argument.default)}" if argument.has_default else ""
        parameters.append(f"{argument.name}: {argument.annotation}{default}")
    return [*signature(1, "__init__", parameters, "None"), f"{INDENT * 2}super().__init__()", *body, ""]


def _init_body(constructor: Constructor) -> list[str]:
    block = constructor.block
    lines: list[str] = []
    for name, text in constructor.locals.items():
        lines += statement(2, f"{name} = ", text)
    for name, text in constructor.stored.items():
        lines += statement(2, f"self.{name} = ", text)
    for one_flag in constructor.flags:
        lines += statement(2, f"self.{one_flag.name} = ", one_flag.test)
    lines += [f"{INDENT * 2}{me(name)} = nn.Module()" for name in block.containers]
    lines += _rolled(list(_layers(constructor)))
    for tensor, shape in block.tensors:
        lines += _register(tensor, shape)
    return lines


def _layers(constructor: Constructor) -> Iterator[tuple[str, list[str]]]:
    """The layers that the constructor makes: name (empty for other lines) and lines."""
    open_flag: Flag | None = None
    body = zip(constructor.block.body, constructor.written, constructor.conditions, strict=True)
    for one, written, flag in body:
        if not written.make or (isinstance(one.first, Step) and one.first.repeated):
            continue
        if flag is not None and flag is not open_flag:
            yield "", [f"{INDENT * 2}if self.{flag.name}:"]
        open_flag = flag
        indent = 2 if flag is None else 3
        before = f"{me(one.name)} = "
        lines = statement(indent, before, _call(written, WIDTH - len(INDENT * indent + before)))
        plain = flag is None and one.name.isidentifier() and len(lines) == 1
        yield one.name if plain else "", lines


def _rolled(layers: Sequence[tuple[str, list[str]]]) -> list[str]:
    """Lines that make many equal blocks of consecutive numbers, as a loop."""
    lines: list[str] = []
    at = 0
    while at < len(layers):
        name, made = layers[at]
        stem, first = numbered(name)
        value = made[0].partition(" = ")[2]
        count = 0
        while at + count < len(layers) and first >= 0:
            one = f"{stem}{first + count}"
            if layers[at + count] != (one, [f"{INDENT * 2}{me(one)} = {value}"]):
                break
            count += 1
        if count >= _MANY:
            lines.append(f"{INDENT * 2}for i in range({first}, {first + count}):")
            lines += statement(3, "", f'self.add_module(f"{stem}{{i}}", {value})')
        else:
            count = 1
            lines += made
        at += count
    return lines


def _call(written: Written, room: int) -> str:
    """The call that makes a layer; stride and padding lose their names where that saves lines."""
    call = f"{written.make}({', '.join(written.arguments)})"
    if len(call) <= room or written.make != "nn.Conv2d":
        return call
    values = [re.sub(r"^(stride|padding)=", "", a) for a in written.arguments]
    names = [a.partition("=")[0] for a in written.arguments[3:5]]
    short = f"{written.make}({', '.join(values)})"
    return short if names == ["stride", "padding"] and len(short) <= room else call


def _register(tensor: TensorRef, shape: tuple[int, ...]) -> list[str]:
    home, _, leaf = tensor.name.rpartition(".")
    sizes = ", ".join(map(str, shape))
    if tensor.role == "weight":
        target = f"{me(home)}.{leaf}" if is_plain_name(leaf) else f"{me(home)}._parameters[{literal(leaf)}]"
        return statement(2, f"{target} = ", f"nn.Parameter(torch.zeros({sizes}))")
    if is_plain_name(leaf):
        return statement(2, "", f"{me(home)}.register_buffer({literal(leaf)}, torch.zeros({sizes}))")
    return statement(2, f"{me(home)}._buffers[{literal(leaf)}] = ", f"torch.zeros({sizes})")

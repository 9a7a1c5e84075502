"""From a checked model to a Graph: every node through the table of operators, all problems in one list.

Shapes are static: open extents come from `--batch` and `-D`, and whatever does not depend on a float input is
folded. So `Shape`, `Gather`, `Concat` and `Reshape` chains vanish here, in whichever order they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compactir.diagnostics import CompactError, Span, did_you_mean, remember_source, spell_list
from compactir.frontends.build import Builder, Tensor, identifier, is_known, raised, shape_of
from compactir.frontends.onnx.model import (
    MOST_NODES,
    Constants,
    Function,
    Input,
    Model,
    Node,
    Reference,
    Subgraph,
    node_of,
)
from compactir.ir.graph import Graph, Value
from compactir.ir.types import Array

OPSETS = range(6, 24)
"""Versions of ONNX's operators that are read."""
_DEEPEST = 24
"""Functions may call functions so deep."""
_FLOATS = (np.float16, np.float64)
_FLOAT = 1
"""The number of float32 in ONNX."""

Result = Tensor | list[Tensor | None]
Rule = Callable[["Call"], Result]
OPERATORS: dict[str, Rule] = {}
"""One entry per operator: what `operators/` fills."""


def operator(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the meaning of these operators."""

    def add(rule: Rule) -> Rule:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"operator {name} is there twice")
            OPERATORS[name] = rule
        return rule

    return add


class Unsupported(Exception):  # noqa: N818  # no error of a program: a reason, collected with others
    """This node, or this form of it, is not read; the text says why."""


class NeedsValue(Exception):  # noqa: N818  # a request, answered by reading again
    """An input whose elements have to be known; its name."""


_LEFT_OUT = object()
"""Stands for what an unsupported node would have made."""
Environment = dict[str, Any]


@dataclass
class Call:
    """One node with its operands, as the function of its operator sees it."""

    reader: Reader
    node: Node
    operands: list[Tensor | None]
    version: int

    @property
    def b(self) -> Builder:
        """The graph under construction."""
        return self.reader.builder

    def __len__(self) -> int:
        return len(self.operands)

    def __getitem__(self, index: int) -> Tensor:
        """An operand that must be there."""
        x = self.get(index)
        if x is None:
            raise ValueError(f"operand {index} is missing")
        return x

    def get(self, index: int) -> Tensor | None:
        """An operand that may be left out."""
        return self.operands[index] if index < len(self.operands) else None

    @property
    def all(self) -> list[Tensor]:
        """All operands of a variadic operator."""
        return [self[i] for i in range(len(self.operands))]

    def known(self, index: int, what: str) -> Array:
        """An operand whose elements are needed now: shapes, axes, weights."""
        x = self[index]
        return x if is_known(x) else self.reader.need(x, f"{what} is computed when the network runs")

    def known_or(self, index: int, what: str) -> Array | None:
        """The same for an operand that may be left out."""
        return None if self.get(index) is None else self.known(index, what)

    def ints(self, index: int, what: str) -> list[int]:
        """An operand that is a list of whole numbers."""
        return [int(i) for i in self.known(index, what).reshape(-1)]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, of the type of the default where there is one."""
        value = self.node.attributes.get(name, default)
        if isinstance(value, Subgraph):
            raise Unsupported("it holds nodes of its own (control flow)")
        if value is not None and default is not None and not isinstance(value, _kinds(default)):
            raise ValueError(f"attribute `{name}` is of the wrong type")
        return value

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, counted from the front."""
        return normal_axis(int(self.attribute("axis", default)), rank)

    def returns(self, index: int) -> bool:
        """True when somebody named this result."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    def refuse(self, why: str) -> Unsupported:
        """To be raised."""
        return Unsupported(why)

    def truth(self, x: Tensor) -> Tensor:
        """Remember that a value holds ones and zeros that mean true and false."""
        if isinstance(x, Value):
            self.reader.truths.add(x)
        return x


def _kinds(default: Any) -> Any:
    return (int, float) if isinstance(default, float) else type(default)


def normal_axis(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises ValueError where there is none."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"there is no axis {axis} of {rank}")
    return axis % max(rank, 1)


@dataclass
class Reader:
    """Reads one model into one graph."""

    model: Model
    file: str
    dims: Mapping[str, int] = field(default_factory=dict)
    batch: int = 1
    given: Mapping[str, Array] = field(default_factory=dict)
    """Elements of inputs, where they are known: whole numbers are always taken from here."""
    fixed: frozenset[str] = frozenset()
    """Float inputs that are taken from `given` too."""

    def __post_init__(self) -> None:
        self.builder = Builder(self.model.name, self.model.doc)
        self.truths: set[Value] = set()
        self.quantized: set[Value] = set()
        self.steps: list[float] = []
        """Where values of the network would be rounded: the distance of neighbouring results."""
        self.named: dict[Value, str] = {}
        """Inputs by value."""
        self.where: dict[int, str] = {}
        """Names of the model's own constants, by the identity of their arrays."""
        self.unsupported: list[str] = []
        self.malformed: list[str] = []
        self.visited = 0
        self.converted: Counter[str] = Counter()
        """Constants that became float32, by the type that they had."""

    # -- the whole -------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """The graph as written, not raised. Errors: CIR631, CIR633, CIR634, CIR635."""
        _need_version(self.model.versions)
        known = {name: self._single(a) for name, a in self.model.constants.items()}
        self.where = {id(a): name for name, a in known.items()}
        env: Environment = {"": None, **known, **self._inputs()}
        remember_source(self.file, "\n".join(map(_listed, self.model.nodes)))
        self._walk(self.model.nodes, env, self.model.versions, 0)
        self._report()
        for name in self.model.outputs:
            if env.get(name) is None:
                raise CompactError("CIR631", f"nothing makes the output `{name}`")
            if 0 in shape_of(env[name]):
                raise CompactError("CIR631", f"the output `{name}` is empty: {list(shape_of(env[name]))}")
            self.builder.output(name, env[name])
        return self.builder.graph

    def _single(self, array: Array) -> Array:
        """Floating-point constants as float32."""
        if array.dtype in _FLOATS or array.dtype.name == "bfloat16":
            self.converted[array.dtype.name] += 1
            with np.errstate(over="ignore"):
                return array.astype(np.float32)
        return array

    def _inputs(self) -> Environment:
        env: Environment = {}
        problems: list[str] = []
        open_dims: set[str] = set()
        for it in self.model.inputs:
            if it.name in self.given and (it.elem != _FLOAT or it.name in self.fixed):
                env[it.name] = np.asarray(self.given[it.name])
                continue
            try:
                shape = self._shape(it, open_dims)
                value = self.builder.input(it.name, shape)
            except (ValueError, CompactError) as error:
                problems.append(f"`{it.name}`: {error}")
                continue
            env[it.name] = value
            self.named[value] = it.name
        if unknown := sorted(set(self.dims) - open_dims):
            problems.append(f"no input has an open extent `{unknown[0]}`")
        if problems:
            raise CompactError(
                "CIR634",
                problems[0],
                notes=problems[1:],
                help=did_you_mean(unknown[0], open_dims)
                if unknown
                else "give open extents by name, such as `-D height=224`; `--batch` is the first one",
            )
        return env

    def _shape(self, it: Input, open_dims: set[str]) -> list[int]:
        """The extents, open ones filled in."""
        if it.elem != _FLOAT:
            raise ValueError("its elements are not float32, so it must be a constant")
        if it.shape is None:
            if it.name in self.given:
                return list(self.given[it.name].shape)
            raise ValueError("it has no shape")
        shape: list[int] = []
        left: list[str] = []
        for axis, extent in enumerate(it.shape):
            name = extent if isinstance(extent, str) else f"dim{axis}"
            if isinstance(extent, int) and extent > 0:
                shape.append(extent)
                continue
            open_dims.add(name)
            if name in self.dims:
                shape.append(self.dims[name])
            elif it.name in self.given and self.given[it.name].ndim == len(it.shape):
                shape.append(self.given[it.name].shape[axis])
            elif axis == 0:
                shape.append(self.batch)
            else:
                left.append(f"{axis} (`{name}`)")
        if left:
            raise ValueError(
                f"its extent {left[0]} is open"
                if len(left) == 1
                else f"its extents {spell_list(left)} are open"
            )
        if self.batch != 1 and shape and shape[0] != self.batch:
            raise ValueError(f"its batch is fixed to {shape[0]}, `--batch` says {self.batch}")
        return shape

    # -- nodes -----------------------------------------------------------------------------------------------

    def _walk(self, nodes: Iterable[Node], env: Environment, versions: Mapping[str, int], depth: int) -> None:
        for line, node in enumerate(nodes, 1):
            self.visited += 1
            if self.visited > MOST_NODES:
                raise CompactError("CIR631", "the model's functions call each other too often")
            if not depth:
                length = len(_listed(node)) + 1
                self.span = Span(self.file, line, 1, line, length)
                self.builder.at(self._stem(node, env), self.span)
            self._node(node, env, versions, depth)

    def _stem(self, node: Node, env: Environment) -> str:
        """What the step is called: as its weight, else as the node, else as its operator."""
        for name in node.inputs[1:]:
            home, dot, leaf = name.rpartition(".")
            if (
                dot
                and home
                and leaf.startswith(("weight", "gamma", "scale"))
                and name in self.model.constants
            ):
                return identifier(home, "layer")
        stem = re.sub(r"^(/?)(?=.)", "", node.name)
        return identifier(stem, node.op.lower()) if stem else identifier(node.op.lower(), "step")

    def _node(self, node: Node, env: Environment, versions: Mapping[str, int], depth: int) -> None:
        operands = [env.get(name) for name in node.inputs]
        results: Sequence[Any]
        if any(x is _LEFT_OUT for x in operands):
            if reason := self._never_read(node, versions):
                self.unsupported.append(f"`{node.name}` ({node.op}): {reason}")
            results = [_LEFT_OUT] * len(node.outputs)
        else:
            results = self._results(node, operands, versions, depth)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                env[name] = result
        for name in node.outputs[len(results) :]:
            if name:
                self.unsupported.append(f"`{node.name}` ({node.op}): its result `{name}` is not made")
                env[name] = _LEFT_OUT

    def _results(
        self, node: Node, operands: list[Tensor | None], versions: Mapping[str, int], depth: int
    ) -> Sequence[Any]:
        """What a node makes; problems are noted, and what it would have made is left out."""
        try:
            return self._apply(node, operands, versions, depth)
        except Unsupported as reason:
            self.unsupported.append(f"`{node.name}` ({node.op}): {reason}")
        except CompactError as error:
            if error.code in ("CIR631", "CIR633", "CIR635"):
                raise error.at(None, f"in `{node.name}` ({node.op})") from None
            self.malformed.append(f"`{node.name}` ({node.op}): {error.message}")
        except MemoryError:
            raise CompactError(
                "CIR635", f"`{node.name}` ({node.op}) needs more memory than there is"
            ) from None
        except _ODD as error:
            self.malformed.append(f"`{node.name}` ({node.op}): {str(error)[:160] or type(error).__name__}")
        return [_LEFT_OUT] * len(node.outputs)

    def _apply(
        self, node: Node, operands: list[Tensor | None], versions: Mapping[str, int], depth: int
    ) -> Sequence[Any]:
        function = self.model.functions.get((node.domain, node.op))
        rule = OPERATORS.get(node.op) if not node.domain else None
        version = versions.get("", self.model.versions[""])
        if function is None and rule is not None:
            with np.errstate(all="ignore"):
                result = rule(Call(self, node, operands, version))
            made = result if isinstance(result, list) else [result]
            return [np.asarray(x) if isinstance(x, np.generic) else x for x in made]  # NumPy's scalars
        function = function or self._defined(node, operands, version)
        if function is None:
            raise Unsupported(self._never_read(node, versions) or "the operator is not read")
        if depth >= _DEEPEST:
            raise CompactError("CIR631", "functions call each other in a circle, or too deep")
        return self._called(function, node, operands, depth)

    def _never_read(self, node: Node, versions: Mapping[str, int]) -> str:
        """Why a node is not read whatever its operands are, as those of an unsupported node are not known."""
        known = node.op in OPERATORS and not node.domain
        if (node.domain, node.op) in self.model.functions or known:
            return ""
        if node.domain:
            return f"`{node.domain}` is not ONNX's own domain"
        from compactir.frontends.onnx.definitions import is_defined

        version = versions.get("", self.model.versions[""])
        return "" if is_defined(node.op, version) else "the operator is not read"

    def _called(
        self, function: Function, node: Node, operands: list[Tensor | None], depth: int
    ) -> Sequence[Any]:
        """The results of a function's nodes on these operands."""
        env: Environment = {"": None, **dict.fromkeys(function.inputs)}
        env |= dict(zip(function.inputs, operands, strict=False))
        constants = Constants(None)
        body: list[Node] = []
        for proto in function.nodes:
            inner = node_of(proto, constants)
            attributes = {
                key: node.attributes.get(value.name) if isinstance(value, Reference) else value
                for key, value in inner.attributes.items()
            }
            kept = {key: value for key, value in attributes.items() if value is not None}
            name = f"{node.name}.{inner.name}"
            body.append(Node(inner.op, inner.domain, inner.inputs, inner.outputs, kept, name))
        self._walk(body, env, {**self.model.versions, **function.versions}, depth + 1)
        return [env.get(name, _LEFT_OUT) for name in function.outputs]

    def _defined(self, node: Node, operands: list[Tensor | None], version: int) -> Function | None:
        """The function by which ONNX itself defines an operator, if it does."""
        from compactir.frontends.onnx.definitions import definition

        if node.domain:
            return None
        kinds = [None if x is None else (self.dtype(x), shape_of(x)) for x in operands]
        return definition(node, kinds, version)

    # -- for the functions of operators ----------------------------------------------------------------------

    def dtype(self, x: Tensor) -> np.dtype[Any]:
        """The element type that ONNX would see."""
        if is_known(x):
            return x.dtype
        return np.dtype(np.bool_ if x in self.truths else np.float32)

    def need(self, x: Value, why: str) -> Array:
        """The elements of an input of the network, where they are given; else Unsupported."""
        name = self.named.get(x)
        if name is not None and name in self.given:
            raise NeedsValue(name)
        raise Unsupported(why)

    # -- problems --------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """All problems at once."""
        if self.malformed:
            raise _list(
                "CIR631",
                "nodes break the rules of their operators",
                self.malformed,
                "`onnx.checker` says more",
            )
        if self.unsupported:
            many = len(self.unsupported)
            what = f"{many} node{'s' if many > 1 else ''} cannot be imported"
            raise _list("CIR633", what, self.unsupported, "docs/onnx-support.md lists what is read")


_ODD = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    AssertionError,
)
"""What functions of operators raise on nodes whose operands or attributes do not have the declared form."""
_LISTED = 64


def _list(code: str, message: str, lines: list[str], help: str) -> CompactError:
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return CompactError(code, message, notes=[*lines[:_LISTED], *more], help=help)


def _need_version(versions: Mapping[str, int]) -> None:
    if versions[""] not in OPSETS:
        raise CompactError(
            "CIR633",
            f"the model uses version {versions['']} of ONNX's operators",
            notes=[f"versions {OPSETS[0]} to {OPSETS[-1]} are read"],
            help=f"convert it: `onnx.version_converter.convert_version(model, {OPSETS[-1]})`",
        )


def _listed(node: Node) -> str:
    """A node as a line of text: what messages about it quote."""
    made, read = (", ".join(names[:6]) for names in (node.outputs, node.inputs))
    return re.sub(r"\s+", " ", f"{made} = {node.op}({read})")[:200]


def read_model(
    model: Model,
    file: str,
    *,
    dims: Mapping[str, int] | None = None,
    batch: int = 1,
    given: Mapping[str, Array] | None = None,
) -> Reader:
    """Read a model, and again with another input known as long as one has to be.

    Returns: the reader, whose builder holds the graph as written. Errors: as `Reader.graph`.
    """
    import compactir.frontends.onnx.operators  # noqa: F401  # fills the table

    fixed: frozenset[str] = frozenset()
    while True:
        reader = Reader(model, file, dims or {}, batch, given or {}, fixed)
        try:
            reader.graph()
        except NeedsValue as request:
            fixed = fixed | {str(request)}
            continue
        return reader


def imported(reader: Reader) -> Graph:
    """The graph of a reader, raised to layers."""
    return raised(reader.builder.graph)

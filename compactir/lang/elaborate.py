"""Syntax tree -> Graph: runs the network's statements once, with every number known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError, CompactErrors, Span, did_you_mean, spell_list
from compactir.ir.graph import Graph, Value
from compactir.ir.types import TensorType
from compactir.lang import ast
from compactir.lang.check import check
from compactir.lang.evaluate import BUILTINS, Frame, Loop, StepValue, assigned_in, source_text
from compactir.lang.modules import Loader, Module
from compactir.lang.parser import parse_expression
from compactir.lang.steps import Returned, Stepper
from compactir.lang.values import Items, Word, kind, show
from compactir.ops import SPELLINGS


def elaborate(
    file: ast.File,
    *,
    defines: Mapping[str, str] | None = None,
    batch: int = 1,
    network: str | None = None,
) -> Graph:
    """The graph of a network.

    Args:
        file: what `parse` or `parse_file` returned; imports are looked up beside it.
        defines: `-D` values as written: network parameters and choices.
        batch: N of every input.
        network: which network, where the file has several.

    Raises:
        CompactError: rooms 1xx (the language) and 2xx (what the operations say).
    """
    try:
        return _Elaborator(file, dict(defines or {}), batch).run(network)
    except RecursionError:
        raise CompactError(
            "CIR106", "the blocks and expressions are nested too deeply", span=_start(file)
        ) from None


def _start(file: ast.File) -> Span:
    return file.items[0].span if file.items else Span(file.path, 1, 1, 1, 2)


class _Elaborator(Stepper):
    def __init__(self, file: ast.File, defines: dict[str, str], batch: int) -> None:
        super().__init__()
        self.defines = defines
        self.used_defines: set[str] = set()
        self.batch = batch
        self.loader = Loader(frozenset({*BUILTINS, *SPELLINGS, "stack"}), self._constant)
        self.module = self.loader.load(file)
        problems = [p for module in reversed(self.loader.loaded.values()) for p in check(module)]
        if problems:
            raise CompactErrors(problems) if len(problems) > 1 else problems[0]

    # -- files and networks --------------------------------------------------------------------------------

    def _constant(self, module: Module, item: ast.Assign) -> None:
        frame = Frame(module, "file", module.file.path)
        self.bind(item.target, self.eval(item.value, frame), frame)
        for name, value in frame.names.items():
            self.loader.declare_constant(module, name, value, item.target.span)

    def run(self, name: str | None) -> Graph:
        chosen = self._choose(name)
        docs = dict.fromkeys(doc for doc in (self.module.file.doc, chosen.doc) if doc)
        self.graph = Graph(chosen.name, doc="\n\n".join(docs))  # the paper's title before notes on parameters
        title = f"network `{chosen.name}`"
        frame = Frame(self.module, "network", title, assigned=assigned_in(chosen.body))
        self._parameters(chosen, frame)
        self.body(chosen.body, frame)
        if not self.graph.inputs or not self.graph.outputs:
            missing = "outputs" if self.graph.inputs else "inputs"
            example = "output y = x -> ..." if self.graph.inputs else "input image: f32[3, 224, 224]"
            raise CompactError(
                "CIR141",
                f"network `{chosen.name}` has no {missing}",
                span=chosen.name_span,
                help=f"add `{example}`",
            )
        self._check_defines(chosen)
        return self.graph

    def _choose(self, name: str | None) -> ast.Network:
        networks = {n: d for n, (m, d) in self.module.declared.items() if isinstance(d, ast.Network)}
        listed = spell_list([f"`{n}`" for n in networks])
        if name is not None and name not in networks:
            raise CompactError(
                "CIR117",
                f"the file declares no network `{name}`",
                help=did_you_mean(name, networks) or (f"it declares {listed}" if networks else None),
            )
        if not networks:
            raise CompactError(
                "CIR117",
                "the file declares no network",
                span=_start(self.module.file),
                help="blocks alone cannot be compiled: add `network name { input ...  output ... }`",
            )
        if name is None and len(networks) > 1:
            second = list(networks.values())[1]
            raise CompactError(
                "CIR117",
                "the file declares several networks",
                span=second.name_span,
                help=f"choose one of {listed}",
            )
        return networks[name or next(iter(networks))]

    def _parameters(self, network: ast.Network, frame: Frame) -> None:
        for parameter in network.parameters:
            if parameter.name in self.defines:
                self.used_defines.add(parameter.name)
                value = self._defined(parameter, self.defines[parameter.name], frame)
            elif parameter.default is not None:
                value = self.typed(parameter, self.eval(parameter.default, frame), parameter.default.span)
            else:
                raise CompactError(
                    "CIR118",
                    f"parameter `{parameter.name}` has no value",
                    span=parameter.span,
                    help=f"give it one: `-D {parameter.name}=...`, or a default",
                )
            frame.names[parameter.name] = value

    def _defined(self, parameter: ast.Parameter, text: str, frame: Frame) -> Any:
        """The value of `-D name=text`: a string parameter takes the text as it is."""
        default = None if parameter.default is None else self.eval(parameter.default, frame)
        if isinstance(default, str) or (parameter.type is not None and parameter.type.name == "str"):
            return text
        option = f"-D {parameter.name}"
        try:
            if not text:
                raise CompactError("CIR118", f"`{option}=` gives `{parameter.name}` no value")
            expr = parse_expression(text, option)
            if isinstance(expr, ast.Name):  # it can name nothing: let the type say what is wrong with it
                given: Any = Word(expr.id)
            else:
                given = self.eval(expr, Frame(frame.module, "file", option))
            value = self.typed(parameter, given, expr.span)
            if parameter.type is None and default is not None and kind(value) != kind(default):
                message = f"`{parameter.name}` must be {kind(default)}, this is {kind(value)}"
                raise CompactError("CIR131", message)
        except CompactError as problem:
            notes = [*problem.notes, f"given as `{option}={text}`"]
            usual = None if default is None else f"its default is {show(default)}"
            span, help = parameter.span, problem.help or usual
            raise CompactError(problem.code, problem.message, span=span, notes=notes, help=help) from None
        return value

    def _check_defines(self, network: ast.Network) -> None:
        items = (item for module in self.loader.loaded.values() for item in module.file.items)
        choices = {n.name for item in items for n in ast.walk(item) if isinstance(n, ast.Choice)}
        known = {p.name for p in network.parameters} | choices | self.used_defines
        for name in self.defines:
            if name not in known:
                listed = (
                    f"there are {spell_list([f'`{n}`' for n in sorted(known)])}"
                    if known
                    else "there are none"
                )
                raise CompactError(
                    "CIR118",
                    f"`-D {name}` names no parameter and no choice of network `{network.name}`",
                    span=network.name_span,
                    help=did_you_mean(name, known) or listed,
                )

    # -- statements ----------------------------------------------------------------------------------------

    def body(self, statements: Sequence[ast.Statement], frame: Frame) -> Returned | None:
        for statement in statements:
            self.spend(statement.span)
            method = getattr(self, "_do_" + type(statement).__name__.lower())
            returned: Returned | None = method(statement, frame)
            if returned:
                return returned
        return None

    def _do_assign(self, statement: ast.Assign, frame: Frame) -> None:
        self.bind(statement.target, self.eval(statement.value, frame), frame)

    def _do_if(self, statement: ast.If, frame: Frame) -> Returned | None:
        for branch in statement.branches:
            if self.truth(branch.condition, frame):
                return self.body(branch.body, frame)
        return self.body(statement.otherwise or (), frame)

    def _do_for(self, statement: ast.For, frame: Frame) -> Returned | None:
        with Loop(self, statement.target, frame):
            for element in self.items(statement.iterable, frame):
                self.spend(statement.target.span)
                self.bind(statement.target, element, frame)
                returned = self.body(statement.body, frame)
                if returned:
                    return returned
        return None

    def _do_return(self, statement: ast.Return, frame: Frame) -> Returned:
        return Returned(self.eval(statement.value, frame))

    def _do_assert(self, statement: ast.Assert, frame: Frame) -> None:
        if not self.truth(statement.condition, frame):
            text = source_text(statement.condition, frame)
            raise CompactError(
                "CIR144",
                statement.message or f"`{text}` does not hold",
                span=statement.condition.span,
                notes=self.origin(statement.condition, False, frame),
            )

    def _do_input(self, statement: ast.Input, frame: Frame) -> None:
        if any(v.name == statement.name for v in self.graph.inputs):
            raise CompactError(
                "CIR112", f"there are two inputs named `{statement.name}`", span=statement.span
            )
        shape = statement.shape
        if shape.dtype != "f32":
            raise CompactError(
                "CIR201", f"an input holds f32, not `{shape.dtype}`", span=shape.span, help="write `f32[...]`"
            )
        if not 1 <= len(shape.extents) <= 3:
            raise CompactError(
                "CIR131",
                "an input has 1 extent (features), 2 (channels, length) or 3 (channels, height, width), "
                f"not {len(shape.extents)}",
                span=shape.span,
                help="the batch is left out: `--batch N` sets it",
            )
        extents = [self.number(e, frame, "an extent") for e in shape.extents]
        for extent, expr in zip(extents, shape.extents, strict=True):
            if extent < 1:
                notes = self.origin(expr, extent, frame)
                raise CompactError(
                    "CIR202", f"an extent must be at least 1, this is {extent}", span=expr.span, notes=notes
                )
        try:
            type = TensorType(shape.dtype, (self.batch, *extents))
        except CompactError as error:
            raise error.at(shape.span) from None
        frame.names[statement.name] = self.graph.input(statement.name, type)

    def _do_output(self, statement: ast.Output, frame: Frame) -> None:
        if statement.name in self.graph.outputs:
            raise CompactError(
                "CIR112", f"there are two outputs named `{statement.name}`", span=statement.span
            )
        expr = statement.value or ast.Name(statement.span, statement.name)
        value = self.eval(expr, frame)
        if not isinstance(value, Value):
            raise CompactError(
                "CIR131",
                f"an output must be one tensor, this is {kind(value)}",
                span=expr.span,
                help="name them one by one: `(a, b) = ...`, then `output a` and `output b`"
                if isinstance(value, Items)
                else None,
            )
        self.graph.outputs[statement.name] = frame.names[statement.name] = value

    def _do_weights(self, statement: ast.Weights, frame: Frame) -> None:
        if self.graph.weights_file is not None:
            raise CompactError("CIR112", "the network names two weights files", span=statement.span)
        self.graph.weights_file = str(Path(frame.module.file.path).parent / statement.path)
        self.graph.weights_span = statement.span

    def _do_choice(self, statement: ast.Choice, frame: Frame) -> None:
        alternatives: dict[str, ast.Expr] = {}
        for one in statement.alternatives:
            if one.name in alternatives:
                raise CompactError(
                    "CIR112", f"`{statement.name}` has two alternatives `{one.name}`", span=one.span
                )
            alternatives[one.name] = one.value
        chosen, span = self._chosen(statement, frame)
        if chosen not in alternatives:
            shown = f"`{chosen}`" if isinstance(chosen, str) else show(chosen)
            raise CompactError(
                "CIR120",
                f"the choice `{statement.name}` has no alternative {shown}",
                span=span,
                help=did_you_mean(str(chosen), alternatives) or f"it has {_options(statement)}",
            )
        frame.names[statement.name] = StepValue(alternatives[chosen], frame, f"choice `{statement.name}`")

    def _chosen(self, statement: ast.Choice, frame: Frame) -> tuple[Any, Span]:
        """What `-D` says for this scope, or for all, or the default. Errors: CIR119 where nothing does."""
        own = frame.dotted(statement.name)
        for key in (own, statement.name):
            if key in self.defines:
                self.used_defines.add(key)
                return self.defines[key], statement.span
        if statement.default is not None:
            return self.eval(statement.default, frame), statement.default.span
        first = statement.alternatives[0].name
        raise CompactError(
            "CIR119",
            f"the choice `{statement.name}` is not fixed: {_options(statement)}",
            span=statement.span,
            help=f"fix it with `-D {statement.name}={first}`"
            + (f", or here alone with `-D {own}={first}`" if frame.path else ""),
        )


def _options(statement: ast.Choice) -> str:
    return spell_list([f"`{one.name}`" for one in statement.alternatives], "or")

"""Syntax tree -> Graph: runs the network's statements once, with every number known, and records the operations.

Operations are not wired in here: a step is a choice, a block, or a spelling of `compactir.ops`, looked up in that order.
Names: a labelled step is called by its label, others by operation and count (`conv1`, `conv2`) within their scope; a
block instance is a scope (`fire3.conv1`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError, Span, did_you_mean, spell_list
from compactir.ir.graph import Graph, Scope, Value
from compactir.ir.op import Op
from compactir.ir.types import DTYPES, TensorType
from compactir.lang import ast
from compactir.lang.evaluate import BUILTINS, Evaluator, Frame, Loop, StepValue, exact, source_text
from compactir.lang.modules import Loader, Module
from compactir.lang.parser import parse_expression
from compactir.lang.spelled import Given, bind_spelling, converted, quoted, to_blame, unknown_step
from compactir.lang.values import Items, Mismatch, convert, is_number, kind, show, wanted
from compactir.ops import SPELLINGS

MAX_NODES = 100_000
MAX_BLOCK_DEPTH = 32
_TYPES: dict[str, Any] = {"int": int, "float": Fraction, "bool": bool, "str": str}
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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


@dataclass(frozen=True)
class _Returned:
    value: Any


class _Elaborator(Evaluator):
    def __init__(self, file: ast.File, defines: dict[str, str], batch: int) -> None:
        super().__init__()
        self.defines = defines
        self.used_defines: set[str] = set()
        self.batch = batch
        self.active: list[ast.Declaration] = []
        self.loader = Loader(frozenset({*BUILTINS, *SPELLINGS, "stack"}), self._constant)
        self.module = self.loader.load(file)
        self.graph = Graph("")

    # -- files and networks --------------------------------------------------------------------------------------

    def _constant(self, module: Module, item: ast.Assign) -> None:
        frame = Frame(module, "file", module.file.path)
        self.bind(item.target, self.eval(item.value, frame), frame)
        for name, value in frame.names.items():
            self.loader.declare_constant(module, name, value, item.target.span)

    def run(self, name: str | None) -> Graph:
        chosen = self._choose(name)
        self.graph = Graph(chosen.name, doc=chosen.doc or self.module.file.doc)
        frame = Frame(self.module, "network", f"network `{chosen.name}`")
        self._parameters(chosen, frame)
        self._body(chosen.body, frame)
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
            self._new_parameter(parameter, frame)
            if parameter.name in self.defines:
                self.used_defines.add(parameter.name)
                value = self._defined(parameter, self.defines[parameter.name], frame)
            elif parameter.default is not None:
                value = self._typed(parameter, self.eval(parameter.default, frame), parameter.default.span)
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
        file = f"-D {parameter.name}"
        if parameter.type is not None and parameter.type.name == "str":
            return text
        if parameter.type is None and isinstance(parameter.default, ast.String):
            return text
        expr = parse_expression(text, file)
        try:
            return self._typed(parameter, self.eval(expr, Frame(frame.module, "file", file)), expr.span)
        except CompactError as problem:
            raise problem.at(expr.span, f"the parameter is declared at {parameter.span}") from None

    def _check_defines(self, network: ast.Network) -> None:
        choices = {c.name for m in self.loader.loaded.values() for c in _choices(m.file)}
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

    # -- statements ----------------------------------------------------------------------------------------------

    def _body(self, statements: Sequence[ast.Statement], frame: Frame) -> _Returned | None:
        for statement in statements:
            self.spend(statement.span)
            method = getattr(self, "_do_" + type(statement).__name__.lower())
            returned: _Returned | None = method(statement, frame)
            if returned:
                return returned
        return None

    def _do_assign(self, statement: ast.Assign, frame: Frame) -> None:
        self.bind(statement.target, self.eval(statement.value, frame), frame)

    def _do_if(self, statement: ast.If, frame: Frame) -> _Returned | None:
        for branch in statement.branches:
            if self.truth(branch.condition, frame):
                return self._body(branch.body, frame)
        return self._body(statement.otherwise or (), frame)

    def _do_for(self, statement: ast.For, frame: Frame) -> _Returned | None:
        with Loop(self, statement.target, frame):
            for element in self.items(statement.iterable, frame):
                self.spend(statement.target.span)
                self.bind(statement.target, element, frame)
                returned = self._body(statement.body, frame)
                if returned:
                    return returned
        return None

    def _do_return(self, statement: ast.Return, frame: Frame) -> _Returned:
        if frame.sort == "network":
            raise CompactError(
                "CIR140", "a network returns nothing", span=statement.span, help="write `output y = ...`"
            )
        return _Returned(self.eval(statement.value, frame))

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
        if frame.sort != "network":
            raise CompactError(
                "CIR140",
                f"{frame.title} cannot declare inputs",
                span=statement.span,
                help="make it a parameter",
            )
        if any(v.name == statement.name for v in self.graph.inputs):
            raise CompactError(
                "CIR112", f"there are two inputs named `{statement.name}`", span=statement.span
            )
        shape = statement.shape
        if shape.dtype not in DTYPES:
            raise CompactError(
                "CIR131",
                f"unknown element type `{shape.dtype}`",
                span=shape.span,
                help=did_you_mean(shape.dtype, DTYPES) or f"known types are {' '.join(DTYPES)}",
            )
        if len(shape.extents) not in (1, 3):
            raise CompactError(
                "CIR131",
                f"an input has 1 extent (features) or 3 (channels, height, width), not {len(shape.extents)}",
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
        frame.names[statement.name] = self.graph.input(
            statement.name, TensorType(shape.dtype, (self.batch, *extents))
        )

    def _do_output(self, statement: ast.Output, frame: Frame) -> None:
        if frame.sort != "network":
            raise CompactError(
                "CIR140", f"{frame.title} has no outputs", span=statement.span, help="write `return y`"
            )
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
        if frame.sort != "network":
            raise CompactError("CIR140", f"{frame.title} cannot name a weights file", span=statement.span)
        if self.graph.weights_file is not None:
            raise CompactError("CIR112", "the network names two weights files", span=statement.span)
        self.graph.weights_file = str(Path(frame.module.file.path).parent / statement.path)

    def _do_choice(self, statement: ast.Choice, frame: Frame) -> None:
        if not frame.builds:
            raise CompactError("CIR140", f"{frame.title} cannot declare a choice", span=statement.span)
        alternatives: dict[str, ast.Expr] = {}
        for one in statement.alternatives:
            if one.name in alternatives:
                raise CompactError(
                    "CIR112", f"`{statement.name}` has two alternatives `{one.name}`", span=one.span
                )
            alternatives[one.name] = one.value
        options = spell_list([f"`{n}`" for n in alternatives], "or")
        keys = [frame.dotted(statement.name), statement.name]
        key = next((k for k in keys if k in self.defines), None)
        if key is None:
            first = next(iter(alternatives))
            raise CompactError(
                "CIR119",
                f"the choice `{statement.name}` is not fixed: {options}",
                span=statement.span,
                help=f"fix it with `-D {statement.name}={first}`"
                + (f", or here alone with `-D {keys[0]}={first}`" if frame.path else ""),
            )
        self.used_defines.add(key)
        chosen = self.defines[key]
        if chosen not in alternatives:
            raise CompactError(
                "CIR120",
                f"the choice `{statement.name}` has no alternative `{chosen}`",
                span=statement.span,
                help=did_you_mean(chosen, alternatives) or f"it has {options}",
            )
        frame.names[statement.name] = StepValue(alternatives[chosen], frame, f"choice `{statement.name}`")

    # -- pipes and calls -----------------------------------------------------------------------------------------

    def _pipe(self, expr: ast.Pipe, frame: Frame) -> Any:
        source = self.eval(expr.source, frame)
        operands = _operands(source)
        if operands is None:
            raise CompactError(
                "CIR131", f"only tensors go through `->`, this is {kind(source)}", span=expr.source.span
            )
        return self._steps(expr.steps, operands, frame)

    def _steps(self, steps: Sequence[ast.Step], operands: list[Value], frame: Frame) -> Any:
        result: Any = Items.of(operands)
        for step in steps:
            flowing = _operands(result)
            if flowing is None:
                raise CompactError(
                    "CIR131", f"only tensors go through `->`, this is {kind(result)}", span=step.span
                )
            result = self._apply(step.call, flowing, step.label, frame)
        return result

    def _call(self, expr: ast.Call, frame: Frame) -> Any:
        return self._apply(expr, [], None, frame)

    def _labelled(self, expr: ast.Labelled, frame: Frame) -> Any:
        if isinstance(expr.value, ast.Call):
            return self._apply(expr.value, [], expr.label, frame)
        if isinstance(expr.value, ast.Binary):
            a, b = self.eval(expr.value.left, frame), self.eval(expr.value.right, frame)
            if isinstance(a, Value) and isinstance(b, Value) and expr.value.op in ("+", "*"):
                return self.combine(expr.value, a, b, frame, expr.label)
        raise CompactError("CIR142", "only a step can have a label", span=expr.label.span)

    def combine(
        self, expr: ast.Binary, a: Value, b: Value, frame: Frame, label: ast.Label | None = None
    ) -> Value:
        word = "add" if expr.op == "+" else "mul"
        call = ast.Call(expr.span, word, None, expr.span)
        return self._operation(call, [a, b], (), label, frame)  # type: ignore[no-any-return]  # one operation, one value

    def _apply(self, call: ast.Call, piped: list[Value], label: ast.Label | None, frame: Frame) -> Any:
        """What a call or a step makes: local steps come first, then declarations, functions, operations."""
        name = call.function
        local = frame.names.get(name)
        try:
            if isinstance(local, StepValue):
                return self._run_step(call, local, piped, label, frame)
            if name in frame.module.declared:
                return self._declared(call, piped, label, frame)
            if name == "stack":
                return self._stack(call, piped, label, frame)
            if name in BUILTINS:
                return self._builtin(call, piped, frame)
            if name in SPELLINGS:
                given = [Given(arg, self.eval(arg.value, frame)) for arg in call.arguments]
                return self._operation(call, piped, given, label, frame)
        except CompactError as problem:
            raise problem.at(call.span) from None
        if local is not None or name in frame.module.constants:
            what = kind(local if local is not None else frame.module.constants[name])
            raise CompactError(
                "CIR111", f"`{name}` is {what}, not an operation or block", span=call.name_span
            )
        steps = [n for n, v in frame.names.items() if isinstance(v, StepValue)]
        raise unknown_step(name, call.name_span, [*steps, *frame.module.declared, *BUILTINS, "stack"])

    def _builtin(self, call: ast.Call, piped: list[Value], frame: Frame) -> Any:
        fewest, most, function = BUILTINS[call.function]
        if piped:
            raise CompactError(
                "CIR111",
                f"`{call.function}` works on numbers, tensors cannot go through it",
                span=call.name_span,
            )
        for arg in call.arguments:
            if arg.name is not None:
                raise CompactError("CIR130", f"`{call.function}` has no argument `{arg.name}`", span=arg.span)
        values = [self.eval(arg.value, frame) for arg in call.arguments]
        if not fewest <= len(values) <= most:
            wants = "one value" if most == 1 else "values"
            raise CompactError(
                "CIR130", f"`{call.function}` needs {wants}, it is given {len(values)}", span=call.span
            )
        for arg, value in zip(call.arguments, values, strict=True):
            if isinstance(value, (Value, str, bool)):
                raise CompactError(
                    "CIR131", f"`{call.function}` works on numbers, this is {kind(value)}", span=arg.span
                )
            self.spend(call.span, len(value) if isinstance(value, (Items, range)) else 1)
        return function(*values)

    # -- operations ----------------------------------------------------------------------------------------------

    def _operation(
        self,
        call: ast.Call,
        piped: list[Value],
        given: Sequence[Given],
        label: ast.Label | None,
        frame: Frame,
    ) -> Any:
        bound = bind_spelling(call, piped, given)
        if bound.operands and not frame.builds:
            raise CompactError(
                "CIR140", f"{frame.title} computes numbers, it cannot use `{call.function}`", span=call.span
            )
        try:
            made = SPELLINGS[call.function](*(v.type for v in bound.operands), **bound.attributes)
            ops = made if isinstance(made, list) else [made]
            if not all(isinstance(op, Op) for op in ops):
                return made
            name = self._name_step(call.function, label, frame)
            several = isinstance(made, list)
            values = []
            for i, op in enumerate(ops):
                if len(self.graph.nodes) >= MAX_NODES:
                    raise CompactError(
                        "CIR121", f"the network has more than {MAX_NODES} operations", span=call.span
                    )
                full = frame.dotted(f"{name}_{i + 1}" if several else name)
                values.append(self.graph.apply(op, bound.operands, full, call.span))
        except CompactError as problem:
            raise self._explained(problem, call, bound, frame) from None
        return Items.of(values) if several else values[0]

    def _explained(self, problem: CompactError, call: ast.Call, bound: Any, frame: Frame) -> CompactError:
        """An operation's complaint with its place, where its numbers come from, and how we got there."""
        blamed = to_blame(problem, bound)
        notes = [
            note for one in quoted(problem, bound) for note in self.origin(one.node.value, one.value, frame)
        ]
        if bound.operands and not any(str(v.type) in problem.message for v in bound.operands):
            types = spell_list([f"`{v.type}`" for v in bound.operands], limit=4)
            notes.append(f"`{call.function}` reads {types}")
        return problem.at(blamed.node.value.span if blamed and blamed.node else call.span, *notes)

    def _name_step(self, word: str, label: ast.Label | None, frame: Frame) -> str:
        if label is None:
            stem = word + "_" if word[-1].isdigit() else word  # relu6_1, not relu61
            frame.counts[stem] = frame.counts.get(stem, 0) + 1
            while f"{stem}{frame.counts[stem]}" in frame.taken:
                frame.counts[stem] += 1
            name = f"{stem}{frame.counts[stem]}"
            frame.taken.add(name)
            return name
        name = self._label_text(label, frame)
        if name in frame.taken:
            raise CompactError(
                "CIR142",
                f"the name `{name}` is taken in {frame.title}",
                span=label.span,
                help='in a loop, give each step its own: `as "unit{i}"`, or put the loop\'s body into a block',
            )
        frame.taken.add(name)
        return name

    def _label_text(self, label: ast.Label, frame: Frame) -> str:
        def fill(match: re.Match[str]) -> str:
            name = match[1]
            value = frame.names.get(name, frame.module.constants.get(name))
            if not (
                isinstance(value, (int, str)) or (isinstance(value, Fraction) and value.denominator == 1)
            ):
                raise CompactError(
                    "CIR142", f"`{name}` is not a number or string that a label could hold", span=label.span
                )
            return str(value)

        text = re.sub(r"\{\s*(\w+)\s*\}", fill, label.text) if label.is_template else label.text
        if not _LABEL.fullmatch(text):
            raise CompactError(
                "CIR142",
                f"`{text}` cannot be a label",
                span=label.span,
                help="use the letters a to z, digits and `_`",
            )
        return text

    # -- blocks, functions, steps --------------------------------------------------------------------------------

    def _declared(self, call: ast.Call, piped: list[Value], label: ast.Label | None, frame: Frame) -> Any:
        module, declaration = frame.module.declared[call.function]
        if isinstance(declaration, ast.Network):
            raise CompactError("CIR111", f"`{call.function}` is a network, not a block", span=call.name_span)
        if declaration in self.active:
            names = [d.name for d in self.active[self.active.index(declaration) :]]
            raise CompactError(
                "CIR116",
                f"`{declaration.name}` uses itself",
                span=call.span,
                notes=[" -> ".join([*names, declaration.name])],
                help="repeat with `for`, which always ends",
            )
        if isinstance(declaration, ast.Function):
            return self._function(call, module, declaration, piped, label, frame)
        if not frame.builds:
            raise CompactError(
                "CIR140", f"{frame.title} computes numbers, it cannot use a block", span=call.span
            )
        return self._block(call, module, declaration, piped, label, frame)

    def _function(
        self,
        call: ast.Call,
        module: Module,
        function: ast.Function,
        piped: list[Value],
        label: ast.Label | None,
        frame: Frame,
    ) -> Any:
        if piped or label:
            raise CompactError(
                "CIR111", f"`{call.function}` computes a number, it is not a step", span=call.name_span
            )
        inner = Frame(module, "function", f"function `{function.name}`", called_at=call.span, caller=frame)
        self._arguments(call, function, [], frame, inner)
        value = self._run(function, inner)
        if function.returns is None:
            return value
        hint = self._hint(function.returns)
        try:
            return convert(value, hint, f"what `{function.name}` returns")
        except Mismatch:
            message = f"`{function.name}` must return {wanted(hint)}, it returns {kind(value)}"
            raise CompactError("CIR131", message, span=function.returns.span) from None
        except CompactError as problem:
            raise problem.at(function.returns.span, f"called at {call.span}") from None

    def _block(
        self,
        call: ast.Call,
        module: Module,
        block: ast.Block,
        piped: list[Value],
        label: ast.Label | None,
        frame: Frame,
    ) -> Any:
        if len(self.active) >= MAX_BLOCK_DEPTH:
            raise CompactError(
                "CIR106", f"blocks are nested more than {MAX_BLOCK_DEPTH} deep", span=call.span
            )
        inner = Frame(module, "block", f"block `{block.name}`", called_at=call.span, caller=frame)
        self._arguments(call, block, piped, frame, inner)
        name = self._name_step(call.function, label, frame)
        inner.path = frame.dotted(name)
        args = tuple((n, exact(v)) for n, v in inner.names.items() if not isinstance(v, (Value, StepValue)))
        self.graph.scopes[inner.path] = Scope(block.name, args, block.doc, call.span)
        try:
            return self._run(block, inner)
        except CompactError as problem:
            raise problem.at(call.span, f"in `{inner.path}`, used at {call.span}") from None

    def _run(self, declaration: ast.Declaration, inner: Frame) -> Any:
        self.active.append(declaration)
        returned = self._body(declaration.body, inner)
        self.active.pop()
        if returned is None:
            raise CompactError(
                "CIR138",
                f"{inner.title} ends without `return`",
                span=declaration.name_span,
                help="end it with `return y`",
            )
        return returned.value

    def _arguments(
        self, call: ast.Call, declaration: ast.Declaration, piped: list[Value], frame: Frame, inner: Frame
    ) -> None:
        """Give the parameters of a block or function their values, in the order of declaration."""
        parameters = declaration.parameters
        names = [p.name for p in parameters]
        given: dict[str, ast.Argument | Value] = dict(zip(names, piped, strict=False))
        if len(piped) > len(names):
            message = f"`{call.function}` takes {_count(len(names), 'value')}, {len(piped)} tensors reach it"
            raise CompactError("CIR130", message, span=call.span)
        for arg in call.arguments:
            self._place_argument(call, arg, names, given)
        for parameter in parameters:
            self._new_parameter(parameter, inner)
            one = given.get(parameter.name)
            if isinstance(one, Value):
                value = self._typed(parameter, one, call.span)
            elif one is not None:
                value = self._argument(parameter, one, frame)
            elif parameter.default is not None:
                value = self._typed(parameter, self.eval(parameter.default, inner), parameter.default.span)
            else:
                is_first_tensor = parameter is parameters[0] and isinstance(declaration, ast.Block)
                help = (
                    f"write `x -> {call.function}(...)`" if is_first_tensor else f"add `{parameter.name}=...`"
                )
                raise CompactError(
                    "CIR130", f"`{call.function}` needs `{parameter.name}`", span=call.span, help=help
                )
            inner.names[parameter.name] = value

    def _place_argument(
        self, call: ast.Call, arg: ast.Argument, names: list[str], given: dict[str, ast.Argument | Value]
    ) -> None:
        listed = (
            f"its parameters are {spell_list([f'`{n}`' for n in names])}" if names else "it has no parameters"
        )
        name = arg.name
        if name is None:
            name = next((n for n in names if n not in given), None)
            if name is None:
                raise CompactError(
                    "CIR130", f"`{call.function}` is given too many values", span=arg.span, help=listed
                )
        elif name not in names:
            help = did_you_mean(name, names) or listed
            raise CompactError(
                "CIR130", f"`{call.function}` has no parameter `{name}`", span=arg.span, help=help
            )
        elif name in given:
            raise CompactError("CIR130", f"`{name}` of `{call.function}` is given twice", span=arg.span)
        given[name] = arg

    def _argument(self, parameter: ast.Parameter, arg: ast.Argument, frame: Frame) -> Any:
        if parameter.type is not None and parameter.type.name == "step":
            return self._as_step(arg.value, frame)
        value = self.eval(arg.value, frame)
        try:
            return self._typed(parameter, value, arg.value.span)
        except CompactError as problem:
            raise problem.at(
                arg.value.span, *(self.origin(arg.value, value, frame) if is_number(value) else ())
            ) from None

    def _new_parameter(self, parameter: ast.Parameter, frame: Frame) -> None:
        if parameter.name in frame.names:
            raise CompactError(
                "CIR112", f"there are two parameters named `{parameter.name}`", span=parameter.span
            )
        if parameter.type is not None:
            self._hint(parameter.type)

    def _hint(self, type: ast.Type) -> Any:
        if type.name == "list":
            return list[self._hint(type.item)] if type.item else list[Any]  # type: ignore[misc]  # built at run time
        if type.name in ("tensor", "step") and type.item is None:
            return {"tensor": Value, "step": StepValue}[type.name]
        if type.name in _TYPES and type.item is None:
            return _TYPES[type.name]
        known = [*_TYPES, "list", "tensor", "step"]
        raise CompactError(
            "CIR110",
            f"unknown type `{type}`",
            span=type.span,
            help=did_you_mean(type.name, known) or f"types are {', '.join(known)} and `list[int]`",
        )

    def _typed(self, parameter: ast.Parameter, value: Any, span: Span) -> Any:
        """The value as the parameter's type wants it: lists stay `Items`, a float parameter holds a fraction."""
        if parameter.type is None:
            return value
        hint = self._hint(parameter.type)
        try:
            result = convert(value, hint, f"`{parameter.name}`")
        except Mismatch:
            names = {Value: "a tensor", StepValue: "a step"}
            needs = names.get(hint) or wanted(hint).replace("a fraction", "a number")
            raise CompactError(
                "CIR131", f"`{parameter.name}` must be {needs}, this is {kind(value)}", span=span
            ) from None
        except CompactError as problem:
            raise problem.at(span) from None
        return _frozen(result)

    # -- steps as values -----------------------------------------------------------------------------------------

    def _as_step(self, expr: ast.Expr, frame: Frame) -> StepValue:
        if isinstance(expr, ast.Name) and isinstance(frame.names.get(expr.id), StepValue):
            return frame.names[expr.id]  # type: ignore[no-any-return]  # it was just checked
        return StepValue(expr, frame, f"`{source_text(expr, frame, 40)}`")

    def _run_step(
        self, call: ast.Call, step: StepValue, piped: list[Value], label: ast.Label | None, frame: Frame
    ) -> Any:
        """Run a choice's alternative or a step that came as an argument; its steps belong to this scope."""
        if call.arguments:
            raise CompactError("CIR130", f"{step.title} takes no arguments", span=call.arguments[0].span)
        if not frame.builds:
            raise CompactError(
                "CIR140", f"{frame.title} computes numbers, tensors cannot go through it", span=call.span
            )
        return self._pipeline(step, piped, label, frame)

    def _pipeline(self, step: StepValue, piped: list[Value], label: ast.Label | None, frame: Frame) -> Any:
        names = replace(
            step.frame, path=frame.path, counts=frame.counts, taken=frame.taken, title=frame.title
        )
        steps = _as_steps(step.expr)
        if label is not None:
            steps = [*steps[:-1], replace(steps[-1], label=label)]
        return self._steps(steps, piped, names)

    def _stack(self, call: ast.Call, piped: list[Value], label: ast.Label | None, frame: Frame) -> Any:
        """`stack(unit, count=8)`: independent copies over equal channel slices; `stack([a, b], sizes=[2, 3])`: uneven."""
        if len(piped) != 1 or not frame.builds:
            raise CompactError(
                "CIR130", f"`stack` takes one tensor, it is given {len(piped)}", span=call.span
            )
        units, sizes = self._stack_arguments(call, piped[0], frame)
        inner = replace(
            frame, path=frame.dotted(self._name_step("stack", label, frame)), counts={}, taken=set()
        )
        self.graph.scopes[inner.path] = Scope("stack", (("sizes", sizes),), "", call.span)
        names = {
            "split": ast.Call(call.span, "split", (), call.name_span),
            "concat": ast.Call(call.span, "concat", None, call.name_span),
        }
        parts = [piped[0]]
        if len(units) > 1:
            parts = list(self._operation(names["split"], piped, [_given_sizes(call, sizes)], None, inner))
        results = [
            self._copy(unit, part, i, inner, call)
            for i, (unit, part) in enumerate(zip(units, parts, strict=True))
        ]
        return results[0] if len(results) == 1 else self._operation(names["concat"], results, (), None, inner)

    def _copy(self, unit: StepValue, part: Value, i: int, frame: Frame, call: ast.Call) -> Value:
        steps = _as_steps(unit.expr)
        is_block = len(steps) == 1 and steps[0].call.function in unit.frame.module.declared
        scope = (
            frame if is_block else replace(frame, path=frame.dotted(f"copy{i + 1}"), counts={}, taken=set())
        )
        result = self._pipeline(unit, [part], None, scope)
        if not isinstance(result, Value):
            raise CompactError("CIR138", "a unit of `stack` must return one tensor", span=call.span)
        return result

    def _stack_arguments(self, call: ast.Call, x: Value, frame: Frame) -> tuple[list[StepValue], list[int]]:
        args = {
            arg.name or ("unit", "count", "sizes")[min(i, 2)]: arg for i, arg in enumerate(call.arguments)
        }
        for name, arg in args.items():
            if name not in ("unit", "count", "sizes"):
                help = "its arguments are `unit`, `count` and `sizes`; a unit takes its own: `stack(unit(16), count=8)`"
                raise CompactError("CIR130", f"`stack` has no argument `{name}`", span=arg.span, help=help)
        if "unit" not in args or len(args) < len(call.arguments):
            raise CompactError(
                "CIR130", "`stack` needs a unit", span=call.span, help="write `stack(unit, count=8)`"
            )
        expr = args["unit"].value
        listed = expr.items if isinstance(expr, ast.List) else None
        count = len(listed) if listed is not None else 1
        if "count" in args:
            count = self.number(args["count"].value, frame, "`count` of `stack`")
        sizes = [Fraction(x.type.channels, max(count, 1))] * count
        if "sizes" in args:
            sizes = converted(
                "stack", "sizes", list[int], Given(args["sizes"], self.eval(args["sizes"].value, frame))
            )
            count = len(sizes) if "count" not in args and listed is None else count
        where = args["sizes" if "sizes" in args else "count" if "count" in args else "unit"].value.span
        if count < 1 or (listed is not None and len(listed) != count) or len(sizes) != count:
            raise CompactError("CIR130", "`stack` needs as many sizes as units, at least one", span=where)
        if any(Fraction(s).denominator != 1 or s < 1 for s in sizes) or sum(sizes) != x.type.channels:
            raise _does_not_stack(x, count, sizes, where)
        units = [self._as_step(e, frame) for e in (listed if listed is not None else [expr] * count)]
        return units, [int(s) for s in sizes]


def _does_not_stack(x: Value, count: int, sizes: Sequence[Any], where: Span) -> CompactError:
    from compactir.diagnostics import divisors

    channels = x.type.channels
    if len(set(sizes)) == 1:
        counts = " ".join(map(str, divisors(channels)))
        message = f"{channels} channels do not split into {count} equal slices"
        return CompactError("CIR203", message, span=where, help=f"counts that divide {channels} are {counts}")
    return CompactError(
        "CIR203", f"the sizes sum to {show(sum(sizes))}, there are {channels} channels", span=where
    )


def _given_sizes(call: ast.Call, sizes: Sequence[int]) -> Given:
    return Given(ast.Argument(call.span, None, ast.List(call.span, ())), Items.of(sizes))


def _as_steps(expr: ast.Expr) -> list[ast.Step]:
    """A pipeline without a source: its first step stands where the source would."""
    if isinstance(expr, ast.Pipe):
        return [*_as_steps(expr.source), *expr.steps]
    if isinstance(expr, ast.Labelled):
        return [replace(_as_steps(expr.value)[0], label=expr.label)]
    if isinstance(expr, ast.Call):
        return [ast.Step(expr.span, expr, None)]
    if isinstance(expr, ast.Name):
        return [ast.Step(expr.span, ast.Call(expr.span, expr.id, None, expr.span), None)]
    raise CompactError(
        "CIR131", "a step is needed here", span=expr.span, help="write `conv(8, kernel=3) -> bn -> relu`"
    )


def _operands(value: Any) -> list[Value] | None:
    if isinstance(value, Value):
        return [value]
    return (
        list(value)
        if isinstance(value, Items) and value and all(isinstance(v, Value) for v in value)
        else None
    )


def _frozen(value: Any) -> Any:
    return Items.of(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _choices(file: ast.File) -> list[ast.Choice]:
    found = []
    stack: list[ast.Node] = list(file.items)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Choice):
            found.append(node)
        elif isinstance(node, (ast.Declaration, ast.If, ast.For, ast.Branch)):
            stack.extend(ast.children(node))
            if isinstance(node, ast.If) and node.otherwise:
                stack.extend(node.otherwise)
    return found

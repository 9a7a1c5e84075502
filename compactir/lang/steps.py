"""Pipes and calls: operations by their spellings, blocks, functions, steps as values, `stack`.

Operations are not wired in: a step is a local step (a choice, a `step` parameter), a declaration of the file,
or a spelling of `compactir.ops`, looked up in that order. A labelled step is called by its label, others by
operation and count (`conv1`, `conv2`) within their scope; a block instance is a scope (`fire3.conv1`).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from compactir.diagnostics import CompactError, Span, did_you_mean, divisors, spell_list
from compactir.ir.graph import Graph, Scope, Value
from compactir.ir.op import Op
from compactir.lang import ast
from compactir.lang.evaluate import (
    BUILTINS,
    Evaluator,
    Frame,
    StepValue,
    assigned_in,
    exact,
    source_text,
)
from compactir.lang.modules import Module
from compactir.lang.spelled import Bound, Given, bind_spelling, converted, quoted, to_blame, unknown_step
from compactir.lang.values import Items, Mismatch, convert, is_number, kind, show, wanted
from compactir.ops import SPELLINGS

MAX_NODES = 100_000
MAX_BLOCK_DEPTH = 32
MAX_TRACE = 4
_TYPES: dict[str, Any] = {
    "int": int,
    "float": Fraction,
    "bool": bool,
    "str": str,
    "tensor": Value,
    "step": StepValue,
}
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Returned:
    """A body came to its `return`."""

    value: Any


class Stepper(Evaluator):
    """Evaluates pipes and calls into the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph("")
        self.active: list[ast.Declaration] = []

    @abstractmethod
    def body(self, statements: Sequence[ast.Statement], frame: Frame) -> Returned | None:
        """Run statements; what they returned, if they did."""

    # -- pipes and calls -----------------------------------------------------------------------------------

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

    # -- operations ----------------------------------------------------------------------------------------

    def _operation(
        self,
        call: ast.Call,
        piped: list[Value],
        given: Sequence[Given],
        label: ast.Label | None,
        frame: Frame,
    ) -> Any:
        try:
            bound = bind_spelling(call, piped, given)
        except CompactError as problem:
            wrong = [g for g in given if g.node.value.span == problem.span and is_number(g.value)]
            raise problem.at(
                None, *(n for g in wrong for n in self.origin(g.node.value, g.value, frame))
            ) from None
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

    def _explained(self, problem: CompactError, call: ast.Call, bound: Bound, frame: Frame) -> CompactError:
        """An operation's complaint with its place, where its numbers come from, and how we got there."""
        if problem.code.startswith("CIR1"):
            return problem.at(call.span)
        row = _row_to_blame(problem, bound)
        blamed = to_blame(problem, bound)
        notes = [
            note for one in quoted(problem, bound) for note in self.origin(one.node.value, one.value, frame)
        ]
        if bound.operands and not any(str(v.type) in problem.message for v in bound.operands):
            types = spell_list([f"`{v.type}`" for v in bound.operands], limit=4)
            notes.append(f"`{call.function}` reads {types}")
        return problem.at(row or (blamed.node.value.span if blamed else call.span), *notes)

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
                help='in a loop give each step its own, `as "unit{i}"`, or put the body into a block',
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

    # -- blocks, functions, steps --------------------------------------------------------------------------

    def _declared(self, call: ast.Call, piped: list[Value], label: ast.Label | None, frame: Frame) -> Any:
        module, declaration = frame.module.declared[call.function]
        if isinstance(declaration, ast.Network):
            raise CompactError("CIR111", f"`{call.function}` is a network, not a block", span=call.name_span)
        self.spend(call.span, 20)  # about what a call costs beside its body
        self._check_recursion(call, declaration)
        if len(self.active) >= MAX_BLOCK_DEPTH:
            message = f"blocks and functions are nested more than {MAX_BLOCK_DEPTH} deep"
            raise CompactError("CIR106", message, span=call.span)
        if isinstance(declaration, ast.Function):
            return self._function(call, module, declaration, piped, label, frame)
        if not frame.builds or not isinstance(declaration, ast.Block):
            message = f"{frame.title} computes numbers, it cannot use a block"
            raise CompactError("CIR140", message, span=call.span)
        return self._block(call, module, declaration, piped, label, frame)

    def _check_recursion(self, call: ast.Call, declaration: ast.Declaration) -> None:
        """CIR116 where a block or function is being evaluated already."""
        depth = next((i for i, active in enumerate(self.active) if active is declaration), None)
        if depth is not None:
            circle = [active.name for active in self.active[depth:]] + [declaration.name]
            raise CompactError(
                "CIR116",
                f"`{declaration.name}` uses itself",
                span=call.span,
                notes=[" -> ".join(circle)] if len(circle) > 2 else [],
                help="repeat with `for`, which always ends",
            )

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
        inner = Frame(module, "function", f"function `{function.name}`", assigned=assigned_in(function.body))
        self._arguments(call, function, [], frame, inner)
        try:
            value = self._run(function, inner)
            return value if function.returns is None else self._returned(function, function.returns, value)
        except CompactError as problem:
            raise self._traced(problem, call, function.name) from None

    def _returned(self, function: ast.Function, type: ast.Type, value: Any) -> Any:
        hint = self._hint(type)
        try:
            return _frozen(convert(value, hint, f"what `{function.name}` returns"))
        except Mismatch:
            message = f"`{function.name}` must return {_needs(hint)}, it returns {kind(value)}"
            raise CompactError("CIR131", message, span=type.span) from None
        except CompactError as problem:
            raise problem.at(type.span) from None

    def _traced(self, problem: CompactError, call: ast.Call, path: str) -> CompactError:
        """The error with a note on how we got there; the innermost few."""
        if sum(note.startswith("in `") for note in problem.notes) >= MAX_TRACE:
            return problem.at(call.span)
        path = path if len(path) < 60 else "..." + path[-57:]
        return problem.at(call.span, f"in `{path}`, used at {call.span}")

    def _block(
        self,
        call: ast.Call,
        module: Module,
        block: ast.Block,
        piped: list[Value],
        label: ast.Label | None,
        frame: Frame,
    ) -> Any:
        inner = Frame(module, "block", f"block `{block.name}`", assigned=assigned_in(block.body))
        self._arguments(call, block, piped, frame, inner)
        name = self._name_step(call.function, label, frame)
        inner.path = frame.dotted(name)
        args = tuple((n, exact(v)) for n, v in inner.names.items() if not isinstance(v, (Value, StepValue)))
        self.graph.scopes[inner.path] = Scope(block.name, args, block.doc, call.span)
        try:
            return self._run(block, inner)
        except CompactError as problem:
            raise self._traced(problem, call, inner.path) from None

    def _run(self, declaration: ast.Declaration, inner: Frame) -> Any:
        self.active.append(declaration)
        returned = self.body(declaration.body, inner)
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
            one = given.get(parameter.name)
            if isinstance(one, Value):
                value = self.typed(parameter, one, call.span)
            elif one is not None:
                value = self._argument(parameter, one, frame)
            elif parameter.default is not None:
                value = self._default(parameter, parameter.default, inner)
            else:
                is_first_tensor = parameter is parameters[0] and isinstance(declaration, ast.Block)
                help = (
                    f"write `x -> {call.function}(...)`" if is_first_tensor else f"add `{parameter.name}=...`"
                )
                raise CompactError(
                    "CIR130", f"`{call.function}` needs `{parameter.name}`", span=call.span, help=help
                )
            inner.names[parameter.name] = value

    def _default(self, parameter: ast.Parameter, default: ast.Expr, inner: Frame) -> Any:
        if parameter.type is not None and parameter.type.name == "step":
            return self._as_step(default, inner)
        return self.typed(parameter, self.eval(default, inner), default.span)

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
            return self.typed(parameter, value, arg.value.span)
        except CompactError as problem:
            raise problem.at(
                arg.value.span, *(self.origin(arg.value, value, frame) if is_number(value) else ())
            ) from None

    def _hint(self, type: ast.Type) -> Any:
        """The Python type of a declared one; check.py has refused unknown names."""
        if type.name == "list":
            return list[self._hint(type.item)] if type.item else list[Any]  # type: ignore[misc]  # made at run time
        return _TYPES[type.name]

    def typed(self, parameter: ast.Parameter, value: Any, span: Span) -> Any:
        """The value as the parameter's type wants it; a float parameter holds a fraction."""
        if parameter.type is None:
            return value
        hint = self._hint(parameter.type)
        try:
            result = convert(value, hint, f"`{parameter.name}`")
        except Mismatch:
            needs = _needs(hint)
            raise CompactError(
                "CIR131", f"`{parameter.name}` must be {needs}, this is {kind(value)}", span=span
            ) from None
        except CompactError as problem:
            raise problem.at(span) from None
        return _frozen(result)

    # -- steps as values -----------------------------------------------------------------------------------

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
        """`stack(unit, count=8)`: copies over equal channel slices; `stack([a, b], sizes=[2, 3])`: uneven."""
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
        if len(steps) > 1 or steps[0].call.function not in unit.frame.module.declared:
            frame = replace(frame, path=frame.dotted(f"copy{i + 1}"), counts={}, taken=set())
            self.graph.scopes[frame.path] = Scope("copy", (), "", unit.expr.span)
        result = self._pipeline(unit, [part], None, frame)
        if not isinstance(result, Value):
            raise CompactError("CIR138", "a unit of `stack` must return one tensor", span=call.span)
        return result

    def _stack_arguments(self, call: ast.Call, x: Value, frame: Frame) -> tuple[list[StepValue], list[int]]:
        args = {
            arg.name or ("unit", "count", "sizes")[min(i, 2)]: arg for i, arg in enumerate(call.arguments)
        }
        for name, arg in args.items():
            if name not in ("unit", "count", "sizes"):
                help = "it has `unit`, `count` and `sizes`; a unit takes its own: `stack(unit(16), count=8)`"
                raise CompactError("CIR130", f"`stack` has no argument `{name}`", span=arg.span, help=help)
        if "unit" not in args or len(args) < len(call.arguments):
            raise CompactError(
                "CIR130", "`stack` needs a unit", span=call.span, help="write `stack(unit, count=8)`"
            )
        expr = args["unit"].value
        listed = self._listed_units(expr, frame)
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
        units = listed if listed is not None else [self._as_step(expr, frame)] * count
        return units, [int(s) for s in sizes]

    def _listed_units(self, expr: ast.Expr, frame: Frame) -> list[StepValue] | None:
        """The steps of a list or a comprehension; each sees its own loop variables."""
        if isinstance(expr, ast.List):
            return [self._as_step(one, frame) for one in expr.items]
        if isinstance(expr, ast.Comprehension):
            turns = self.turns(expr, frame)
            return [self._as_step(expr.item, replace(frame, names=dict(frame.names))) for _ in turns]
        return None


def _row_to_blame(problem: CompactError, bound: Bound) -> Span | None:
    """The element of `connect=[…]` for the output that the message names first."""
    number = re.search(r"output (\d+)", problem.message)
    given = bound.given.get("connect")
    if number and given and isinstance(given.node.value, ast.List):
        return given.node.value.items[int(number[1])].span
    return None


def _does_not_stack(x: Value, count: int, sizes: Sequence[Any], where: Span) -> CompactError:
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


def _needs(hint: Any) -> str:
    """What a declared type asks for, in words."""
    names = {Value: "a tensor", StepValue: "a step"}
    return names.get(hint) or wanted(hint).replace("a fraction", "a number")


def _frozen(value: Any) -> Any:
    return Items.of(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")

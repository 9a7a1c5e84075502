"""The rules that every graph keeps before and after every pass, as a table; `verify` names the broken one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compactir.diagnostics import CompactError, CompactErrors, Span
from compactir.ir.graph import Graph, Node, Param, Value
from compactir.ir.op import result_type

Problem = tuple[str, Span | None]
_MOST_AXES = 8
"""Layers have (N, F) or (N, C, H, W), and their type rules say so; tensor operations go through others."""


@dataclass(frozen=True)
class Rule:
    """One sentence, and a search for what breaks it: each find says what, and where in the source."""

    name: str
    broken: Callable[[Graph], Iterator[Problem]]


def verify(graph: Graph, rules: Sequence[Rule] | None = None) -> None:
    """Check a graph in time linear in its size.

    Args:
        graph: the graph; it is not changed.
        rules: more rules for a later stage go here as `(*RULES, Rule(…))`; by default `RULES`.

    Raises:
        CompactErrors: every broken rule (CIR305) with the node that breaks it and the line it was written on.
    """
    problems = [
        CompactError("CIR305", f"{rule.name}: {what}", span=span)
        for rule in (RULES if rules is None else rules)
        for what, span in rule.broken(graph)
    ]
    if problems:
        raise CompactErrors(problems)


def node_rule(name: str, check: Callable[[Node], str | None]) -> Rule:
    """A rule about single nodes: `check` returns what is wrong with one, or None."""

    def broken(graph: Graph) -> Iterator[Problem]:
        for node in graph.nodes:
            if what := check(node):
                yield f"`{node.name}` {what}", node.span

    return Rule(name, broken)


def _undefined_operands(graph: Graph) -> Iterator[Problem]:
    defined: set[Value] = {*graph.inputs, *graph.params.values()}
    for node in graph.nodes:
        for arg in node.args:
            if arg not in defined:
                yield f"`{node.name}` reads {arg}", node.span
        defined.add(node.out)


def _made_twice(graph: Graph) -> Iterator[Problem]:
    made: set[Value] = set(graph.inputs)
    for node in graph.nodes:
        if node.out in made or isinstance(node.out, Param):
            yield f"`{node.name}` makes {node.out} again", node.span
        made.add(node.out)


def _values_named_alike(graph: Graph) -> Iterator[Problem]:
    named = [(v, None) for v in graph.inputs] + [(n.out, n.span) for n in graph.nodes]
    times = Counter(value.name for value, _ in named)
    for name, span in {value.name: span for value, span in named}.items():
        if times[name] > 1:
            yield f"%{name} occurs {times[name]} times", span


def _wrong_type(node: Node) -> str | None:
    try:
        inferred = result_type(node.op, node.types)
    except CompactError as error:
        return f"has no type: {error.message}"
    return None if node.out.type == inferred else f"makes {node.out.type}, `{node.op.name}` infers {inferred}"


def _wrong_parameters(node: Node) -> str | None:
    if not node.args:
        return None  # the type rule says so
    leading = next((i for i, arg in enumerate(node.args) if i and isinstance(arg, Param)), len(node.args))
    try:
        specs = node.op.params(*node.types[:leading])
    except CompactError as error:
        return f"has no parameters: {error.message}"
    given = node.args[leading : leading + len(specs)]
    if len(given) < len(specs):
        return f"has {len(given)} parameters, `{node.op.name}` owns {len(specs)}"
    for spec, param in zip(specs, given, strict=True):
        if not isinstance(param, Param):
            return f"reads {param} where its {spec.name} belongs"
        if param.type.shape != spec.shape:
            return f"has {param} of shape {list(param.type.shape)}, its {spec.name} is {list(spec.shape)}"
        if spec.role == "buffer" and param.role != "buffer":
            return f"trains {param}, its {spec.name} is a buffer"
    return None


def _foreign_parameters(graph: Graph) -> Iterator[Problem]:
    for name, param in graph.params.items():
        if param.name != name:
            yield f"{param} is declared as `{name}`", None
    for node in graph.nodes:
        for param in node.params:
            if graph.params.get(param.name) is not param:
                yield f"`{node.name}` reads {param}", node.span


def _odd_roles(graph: Graph) -> Iterator[Problem]:
    for param in graph.params.values():
        if param.role not in ("weight", "buffer"):
            yield f"{param} is a `{param.role}`", None


def _odd_ranks(graph: Graph) -> Iterator[Problem]:
    places = [(v, None) for v in graph.inputs] + [(n.out, n.span) for n in graph.nodes]
    for value, span in places:
        if value.type.rank > _MOST_AXES:
            yield f"{value} is {value.type}", span


def _missing_outputs(graph: Graph) -> Iterator[Problem]:
    known: set[Value] = {*graph.inputs, *graph.params.values(), *(n.out for n in graph.nodes)}
    if not graph.outputs:
        yield f"`{graph.name}` returns nothing", None
    for name, value in graph.outputs.items():
        if value not in known:
            yield f"output `{name}` is {value}", None


def _unfit_weights(graph: Graph) -> Iterator[Problem]:
    for name, array in graph.weights.items():
        if name not in graph.params:
            yield f"there is an array for `{name}`, which is no parameter", None
        elif array.shape != graph.params[name].type.shape:
            yield (
                f"the array of @{name} is {list(array.shape)}, the parameter {graph.params[name].type}",
                None,
            )
        elif not np.issubdtype(array.dtype, np.number):
            yield f"the array of @{name} holds {array.dtype}", None


def _unknown_scopes(graph: Graph) -> Iterator[Problem]:
    named = [(node.name, node.span) for node in graph.nodes]
    named += [(path, scope.span) for path, scope in graph.scopes.items()]
    known = {*graph.scopes, *(node.name for node in graph.nodes)}  # `conv1.map` may stand beside `conv1`
    for name, span in named:
        around = name.rpartition(".")[0]
        if around and around not in known:
            yield f"`{name}` lies in `{around}`", span


def _broken_regions(graph: Graph) -> Iterator[Problem]:
    if not graph.regions:
        return
    makers = {node.out.name: node for node in graph.nodes}
    users, taken = graph.users(), Counter(name for region in graph.regions for name in region.values)
    for region in graph.regions:
        if region.rows < 1:
            yield f"a region has {region.rows} rows", None
        for name in region.values:
            if name not in makers or taken[name] > 1:
                yield f"%{name} is {'in several regions' if name in makers else 'made by no node'}", None
        chain = [makers[name] for name in region.values if name in makers]
        for node, reader in pairwise(chain):
            if users.get(node.out) != [reader] or graph.is_output(node.out):
                yield f"%{node.out.name} is not read by `{reader.name}` alone", node.span


RULES: tuple[Rule, ...] = (
    Rule("every operand is defined before it is read", _undefined_operands),
    Rule("every value is made once", _made_twice),
    Rule("no two values have the same name", _values_named_alike),
    node_rule("every result has the type that its operation infers", _wrong_type),
    node_rule("an operation's parameters are the ones it declares", _wrong_parameters),
    Rule("every parameter is declared under its name", _foreign_parameters),
    Rule("a parameter is a weight or a buffer", _odd_roles),
    Rule(f"a value has at most {_MOST_AXES} axes", _odd_ranks),
    Rule("what is returned exists", _missing_outputs),
    Rule("bound arrays fit their parameters", _unfit_weights),
    Rule("a dotted name lies in a scope", _unknown_scopes),
    Rule("a region is a chain whose inner values nobody else reads", _broken_regions),
)

"""Which instances of a block become one class, and which steps of a class are there only under a condition.

Instances with the same steps, wired alike, are one class whatever their numbers are. Where one variant of a
block is another without some steps (no residual, no expansion), both become one class with an `if`; other
variants become classes of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from compactir.codegen.torch.layers import kind
from compactir.codegen.torch.structure import Instance, Ref, Step, TensorRef, Use
from compactir.codegen.torch.text import class_name
from compactir.ir.types import TensorType

RESERVED = (
    *(
        "Tensor",
        "Affine",
        "BlockConv2d",
        "GatherConv2d",
        "MaskedConv2d",
        "PickChannels",
        "Rbf",
        "SplitConv2d",
    ),
    *("TableConv2d", "None", "True", "False"),
)
"""Names of an emitted file that no block may take."""


@dataclass
class Statement:
    """One step of a class: what it is in every instance, None where it is left out."""

    name: str
    args: tuple[Ref, ...]
    items: list[Step | Use | None]
    instead: dict[int, Ref] = field(default_factory=dict)
    """Which value stands in for result k where the step is left out."""

    @property
    def first(self) -> Step | Use:
        """The step in some instance that has it."""
        return next(i for i in self.items if i is not None)

    @property
    def present(self) -> tuple[bool, ...]:
        """Which instances have it."""
        return tuple(i is not None for i in self.items)


@dataclass
class Block:
    """A class of the emitted file."""

    block: str
    instances: list[Instance]
    body: list[Statement]
    results: list[Ref]
    name: str = ""
    variant: str = ""
    """How it differs from the class that has the block's own name, where it is not that one."""
    arguments: list[Any] = field(default_factory=list)
    """Constructor arguments, `arguments.Argument`, once they are found."""

    @property
    def tensors(self) -> list[tuple[TensorRef, tuple[int, ...]]]:
        """Parameters that belong to no layer."""
        return self.instances[0].tensors

    @property
    def containers(self) -> list[str]:
        """Names that hold layers without being a block."""
        return self.instances[0].containers

    @property
    def inputs(self) -> list[TensorType]:
        """Types of the inputs in the first instance."""
        return [v.type for v in self.instances[0].inputs]


Classes = dict[int, Block]
"""id of an instance -> its class."""


def groups(root: Instance) -> Iterator[tuple[str, list[Instance]]]:
    """All uses of each block together, blocks before those that use them; the network last."""
    found: dict[tuple[str, int], list[Instance]] = {}
    calls = nx.DiGraph()
    for instance in root.walk():
        calls.add_node(instance.block)
        calls.add_edges_from((s.instance.block, instance.block) for s in instance.body if isinstance(s, Use))
    layered = not nx.is_directed_acyclic_graph(calls)
    order = {} if layered else {b: i for i, b in enumerate(nx.topological_sort(calls))}
    heights: dict[int, int] = {}
    for instance in root.walk():
        below = [heights[id(s.instance)] for s in instance.body if isinstance(s, Use)]
        heights[id(instance)] = height = 1 + max(below, default=0)
        if instance is not root:
            found.setdefault((instance.block, height if layered else order[instance.block]), []).append(
                instance
            )
    for (block, _), instances in sorted(found.items(), key=lambda item: item[0][1]):
        yield block, instances
    yield root.block, [root]


def variants(block: str, instances: Sequence[Instance], classes: Classes) -> list[Block]:
    """The different structures among the instances of a block, largest first."""
    found: dict[object, list[Instance]] = {}
    for instance in instances:
        found.setdefault(_signature(instance, classes), []).append(instance)
    blocks = []
    for group in found.values():
        bodies = zip(*(i.body for i in group), strict=True)
        body = [Statement(items[0].name, items[0].args, list(items)) for items in bodies]
        blocks.append(Block(block, group, body, group[0].results))
    return sorted(blocks, key=lambda b: -len(b.body))


def _signature(instance: Instance, classes: Classes) -> object:
    body = tuple((_key(s, classes), s.name if is_named(s) else "", s.args) for s in instance.body)
    return (
        body,
        len(instance.inputs),
        tuple(instance.results),
        tuple(instance.tensors),
        tuple(instance.containers),
    )


def _key(statement: Step | Use, classes: Classes) -> object:
    if isinstance(statement, Use):
        return id(classes[id(statement.instance)]), len(statement.outs)
    return kind(statement), len(statement.outs)


def is_named(statement: Step | Use) -> bool:
    """True where the name is part of the keys of the state_dict."""
    return isinstance(statement, Use) or statement.owns


# -- variants that differ by steps left out ------------------------------------------------------------------


def merge(large: Block, small: Block, classes: Classes) -> Block | None:
    """One class for both, where `small` is `large` without some steps; None where it is not."""
    a, b = large.instances[0], small.instances[0]
    if len(a.inputs) != len(b.inputs) or large.tensors or small.tensors or len(a.results) != len(b.results):
        return None
    if a.containers != b.containers:
        return None
    found = _Alignment(large, small, classes).find()
    if found is None:
        return None
    kept, instead = found
    body = []
    for i, statement in enumerate(large.body):
        added = small.body[kept[i]].items if i in kept else [None] * len(small.instances)
        stand_in = {k: ref for (j, k), ref in instead.items() if j == i} if i not in kept else {}
        if any(statement.instead.get(k, ref) != ref for k, ref in stand_in.items()):
            return None
        items = [*statement.items, *added]
        body.append(Statement(statement.name, statement.args, items, statement.instead | stand_in))
    return Block(large.block, [*large.instances, *small.instances], body, large.results)


class _Alignment:
    """Searches for the steps of `large` that are the steps of `small`, in order and wired alike."""

    def __init__(self, large: Block, small: Block, classes: Classes) -> None:
        self.large, self.small, self.classes = large, small, classes
        self.tries = 2000

    def find(self) -> tuple[dict[int, int], dict[tuple[int, int], Ref]] | None:
        """(kept statement of large -> statement of small, result left out -> what stands in for it)."""
        return self._from(0, 0, {}, {})

    def _from(
        self, i: int, j: int, kept: dict[int, int], instead: dict[tuple[int, int], Ref]
    ) -> tuple[dict[int, int], dict[tuple[int, int], Ref]] | None:
        self.tries -= 1
        large, small = self.large.body, self.small.body
        if self.tries < 0 or len(large) - i < len(small) - j:
            return None
        if i == len(large):
            wired = self._wire(self.large.results, self.small.results, kept, instead)
            return None if wired is None else (kept, wired)
        if j < len(small) and self._alike(large[i], small[j]):
            wired = self._wire(large[i].args, small[j].args, kept, instead)
            if wired is not None and (found := self._from(i + 1, j + 1, {**kept, i: j}, wired)):
                return found
        return self._from(i + 1, j, kept, instead)

    def _alike(self, a: Statement, b: Statement) -> bool:
        one, other = a.first, b.first
        same = type(one) is type(other) and _key(one, self.classes) == _key(other, self.classes)
        return same and (a.name == b.name or not is_named(one))

    def _wire(
        self,
        large: Sequence[Ref],
        small: Sequence[Ref],
        kept: dict[int, int],
        instead: dict[tuple[int, int], Ref],
    ) -> dict[tuple[int, int], Ref] | None:
        """Operands must be the same values, or one that is left out and what stands in for it."""
        back = {j: i for i, j in kept.items()}
        if len(large) != len(small):
            return None
        for a, b in zip(large, small, strict=True):
            if isinstance(a, TensorRef) or isinstance(b, TensorRef):
                if a != b:
                    return None
                continue
            seen: Ref = b if b[0] < 0 else (back[b[0]], b[1])
            if a[0] >= 0 and a[0] not in kept:
                if instead.get(a, seen) != seen:
                    return None
                instead = {**instead, a: seen}
            elif a != seen:
                return None
        return instead


# -- names ---------------------------------------------------------------------------------------------------


def name_classes(blocks: Sequence[Block], taken: set[str]) -> None:
    """The most used variant has the block's own name, others say by which argument they differ."""
    ranked = sorted(blocks, key=lambda b: -len(b.instances))
    for rank, block in enumerate(ranked):
        others = [o for o in blocks if o is not block]
        tail, says = _difference(block, others) if rank else ("", "")
        block.name = class_name(block.block + tail, {*taken, *RESERVED})
        block.variant = f"`{ranked[0].name}` {says or 'in another form'}." if rank else ""
        taken.add(block.name)


def _difference(block: Block, others: Sequence[Block]) -> tuple[str, str]:
    """By what it differs from the others: for its name, `_expand_1`, and its docstring, `with expand=1`."""
    values = _shared_args(block)
    distinct = {
        n: {str(dict(i.scope.args).get(n)) for o in [block, *others] for i in o.instances if i.scope}
        for n in values
    }
    for name, value in sorted(values.items(), key=lambda item: len(distinct[item[0]])):
        seen = [dict(i.scope.args).get(name) for o in others for i in o.instances if i.scope]
        if not isinstance(value, (bool, int, str)) or value in seen:
            continue
        told = f"with {name}={str(value).lower() if isinstance(value, bool) else value}"
        if isinstance(value, bool):
            return (f"_{name}" if value else f"_not_{name}"), told
        return f"_{name}_{value}", told
    here, there = _operations(block), sum((_operations(o) for o in others), Counter())
    new = [op for op in here if op not in there]
    return (f"_with_{new[0]}", f"with a {new[0]}") if new else ("", "")


def _shared_args(block: Block) -> dict[str, object]:
    """Arguments with one value in all instances."""
    scopes = [dict(i.scope.args) for i in block.instances if i.scope]
    if len(scopes) < len(block.instances):
        return {}
    return {n: v for n, v in scopes[0].items() if all(n in s and s[n] == v for s in scopes)}


def _operations(block: Block) -> Counter[str]:
    return Counter(s.first.op.label for s in block.body if isinstance(s.first, Step) and s.first.op.name)

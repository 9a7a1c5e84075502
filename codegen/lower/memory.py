"""plan-memory: offsets for the buffers of the arena, by lifetime, with in-place reuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from compactir.ir.plan import Buffer, Step


def lifetimes(buffers: Iterable[Buffer], steps: list[Step]) -> list[Buffer]:
    """Fill in the first and the last step that touches each buffer."""
    seen: dict[str, tuple[int, int]] = {}
    for index, step in enumerate(steps):
        for name in touched(step):
            first, _ = seen.get(name, (index, index))
            seen[name] = (first, index)
    return [replace(b, first=seen[b.name][0], last=seen[b.name][1]) for b in buffers if b.name in seen]


def touched(step: Step) -> list[str]:
    """The buffers that a step reads or writes."""
    names = [n for c in step.calls for m in (c.x, c.y, *c.extra) for n in m.buffers]
    return list(dict.fromkeys(names + [c.scratch for c in step.calls if c.scratch]))


def place(buffers: list[Buffer], steps: list[Step], align: int) -> tuple[list[Buffer], int]:
    """Offsets for all buffers of the arena: largest first, each at the lowest offset free for its lifetime.

    A step marked in-place may write over a buffer that dies with it. Returns the placed buffers and the
    arena's size, both in floats, offsets aligned to `align` floats.
    """
    over = _merged(buffers, steps)
    placed: list[Buffer] = []
    alive: list[list[Buffer]] = [[] for _ in steps]  # of those placed, by step: nobody else is in the way
    arena = (b for b in buffers if b.region == "arena" and b.name not in over)
    for buffer in sorted(arena, key=lambda b: (-b.floats, b.first, b.name)):
        offset = 0
        life = slice(buffer.first, buffer.last + 1)
        others = {other.name: other for there in alive[life] for other in there}
        for other in sorted(others.values(), key=lambda b: b.offset):
            if offset + buffer.floats > other.offset:
                offset = max(offset, -(-(other.offset + other.floats) // align) * align)
        placed.append(replace(buffer, offset=offset))
        for there in alive[life]:
            there.append(placed[-1])
    offsets = {b.name: b.offset for b in placed}
    size = max((b.offset + b.floats for b in placed), default=0)
    result = []
    for buffer in buffers:
        root = buffer.name
        while root in over:
            root = over[root]
        result.append(replace(buffer, offset=offsets.get(root, buffer.offset)))
    return result, -(-size // align) * align


def _merged(buffers: list[Buffer], steps: list[Step]) -> dict[str, str]:
    """Buffers that lie on top of the one they are computed from; the roots' lifetimes grow in `buffers`."""
    index = {b.name: i for i, b in enumerate(buffers)}
    over: dict[str, str] = {}
    roots: dict[str, str] = {}
    for number, step in enumerate(steps):
        target, source = step.inplace
        if target not in index or source not in index:
            continue
        new, old = buffers[index[target]], buffers[index[source]]
        root = roots.get(source, source)
        base = buffers[index[root]]
        fits = (
            new.region == old.region == "arena"
            and new.floats <= base.floats
            and old.last == base.last == number
        )
        if fits and new.first == number:
            over[target] = root
            roots[target] = root
            buffers[index[root]] = replace(base, last=new.last)
    return over

"""Loops over tensors in C: what the template asks about a `Nest`, loop by loop and operand by operand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from compactir.codegen.c.finish import chain, literal
from compactir.ir.plan import Nest, Walk

_VECTORS = 2
"""Vectors of a row that are made at once where products are summed."""
_TERMS = 256
"""So many elements are summed before their sum is added to the others: rounding grows with the terms."""
_FIRST = {"max": float("-inf"), "min": float("inf"), "prod": 1.0}
_JOIN = {
    "sum": "v_add({a}, {x})",
    "mean": "v_add({a}, {x})",
    "max": "v_max_nan({a}, {x})",
    "min": "v_min_nan({a}, {x})",
    "prod": "v_mul({a}, {x})",
    "dot": "v_fma({x}, {y}, {a})",
}
_WHOLE = {"sum": "v_sum", "mean": "v_sum", "dot": "v_sum", "max": "v_max_all"}


@dataclass(frozen=True)
class Nested:
    """The C of one kernel's loops."""

    k: Nest

    @property
    def inner(self) -> int:
        """The number of the loop that vectors lie along."""
        return len(self.k.extents) - 1

    def loops(self, last: int) -> list[str]:
        """The heads of the loops up to this number."""
        heads = []
        for i, extent in enumerate(self.k.extents[:last]):
            if i == 0 and self.k.split:
                heads.append("for (int i0 = from; i0 < to; ++i0) {")
            elif extent > 1:
                heads.append(f"for (int i{i} = 0; i{i} < {extent}; ++i{i}) {{")
        return heads

    def at(self, strides: tuple[int, ...], loops: range, name: str = "i") -> str:
        """` + i0 * 5 + i1`: how far the loops of these numbers are from their beginning."""
        terms = []
        for i in loops:
            runs = self.k.extents[i] > 1 or (i == 0 and bool(self.k.split))
            if strides[i] and runs:
                terms.append(f"{name}{i}" + ("" if strides[i] == 1 else f" * {strides[i]}"))
        return "".join(f" + {term}" for term in terms)

    def pointers(self) -> list[str]:
        """Where every operand and y begin inside the outer loops."""
        outer, lines, moved = range(self.inner), [], 0
        for number, walk in enumerate(self.k.operands):
            if walk.packed:
                base = f"w + {walk.start}" if walk.start else "w"
            else:
                base, moved = ("x + xt[0]" if not moved else f"e{moved - 1} + e{moved - 1}t[0]"), moved + 1
            picked = f" + at[i{walk.along}]" if walk.picks and walk.along < self.inner else ""
            lines.append(f"const float *p{number} = {base}{self.at(walk.strides, outer)}{picked};")
        return [*lines, f"float *q = y + yt[0]{self.at(self.k.y, outer)};"]

    def load(self, number: int, i: str, count: int, row: int = 0) -> str:
        """An operand of the epilogue, or the only one, at pixel i of the inner loop."""
        walk = self.k.operands[number]
        return self._load(walk, f"p{number}{_plus(row * self._row(walk.strides))}", i, count)

    def _row(self, strides: tuple[int, ...]) -> int:
        return strides[self.inner - 1] if self.inner else 0

    def _load(self, walk: Walk, base: str, i: str, count: int) -> str:
        step, lanes = walk.strides[self.inner], self.k.lanes
        if walk.picks and walk.along == self.inner:
            return f"v_load_at({base}, at{_term(i)}, {count})"
        if step == 0 or self.k.extents[-1] == 1:
            return f"v_set1(*({base}))" if " " in base else f"v_set1(*{base})"
        here = base + _term(i if step == 1 else _times(i, step))
        if step != 1:
            return f"v_load_each({here}, {step}, 0, {count}, v_zero())"
        return f"v_load({here})" if count == lanes else f"v_load_n({here}, {count})"

    def joined(self, i: str, count: int, rows: int, vectors: int) -> list[str]:
        """The core of some elements: rows times vectors of sums, a0 …."""
        k, sums = self.k, rows * vectors
        first = "v_zero()" if k.core not in _FIRST else f"v_set1({literal(_FIRST[k.core])})"
        lines = ["vf32 " + ", ".join(f"a{s} = {first}" for s in range(sums)) + ";"]
        *outer, last = range(len(k.reduced)) if k.reduced else [0]
        lines += [f"for (int j{j} = 0; j{j} < {k.reduced[j]}; ++j{j})" for j in outer]
        depth = k.reduced[last] if k.reduced else 1
        step = k.lanes if k.along else 1
        full = depth // step * step
        body = self._body(i, count, rows, vectors, f"j{last}", k.lanes if k.along else 0)
        block = self._steps(f"j{last}", full, step, [*body]) if full else []
        if depth > full:
            rest = self._body(i, count, rows, vectors, str(full), depth - full)
            block += ["{", *(f"  {line}" for line in rest), "}"]
        if outer and len(block) and (full and depth > full):
            block = ["{", *(f"  {line}" for line in block), "}"]
        lines += block
        if k.along:
            lines.append(f"a0 = v_set1({_WHOLE[k.core]}(a0));")
        if k.core == "mean":
            lines += [f"a{s} = v_div(a{s}, v_set1({literal(prod(k.reduced))}));" for s in range(sums)]
        return lines

    def _steps(self, j: str, full: int, step: int, body: list[str]) -> list[str]:
        """The innermost of the reduced loops; a long sum is one of shorter sums."""
        long = self.k.core in ("sum", "mean") and prod(self.k.reduced) > _TERMS * step
        if not long:
            return [f"for (int {j} = 0; {j} < {full}; {j} += {step}) {{", *_indented(body), "}"]
        most = _TERMS * step
        heads, first, stop = ["{"], "0", str(full)
        if full > most:
            heads = [f"for (int part = 0; part < {full}; part += {most}) {{"]
            first, stop = "part", "stop"
            heads.append(f"  const int stop = part + {most} < {full} ? part + {most} : {full};")
        loop = [f"for (int {j} = {first}; {j} < {stop}; {j} += {step}) {{", *_indented(body), "}"]
        lines = ["const vf32 others = a0;", "a0 = v_zero();", *loop, "a0 = v_add(others, a0);"]
        return [*heads, *_indented(lines), "}"]

    def _body(self, i: str, count: int, rows: int, vectors: int, j: str, along: int) -> Iterator[str]:
        """One step of the innermost of the reduced loops."""
        loaded: dict[str, str] = {}
        for number in range(self.k.joined):
            for row in range(rows):
                for vector in range(vectors):
                    text = self._term(number, i, count, row, vector, j, along)
                    if text not in loaded:
                        loaded[text] = f"{'xyz'[number]}{len(loaded)}"
                        yield f"const vf32 {loaded[text]} = {text};"
        for s in range(rows * vectors):
            row, vector = divmod(s, vectors)
            names = [
                loaded[self._term(number, i, count, row, vector, j, along)] for number in range(self.k.joined)
            ]
            words = dict(zip("xy", names, strict=False))
            yield f"a{s} = {_JOIN[self.k.core].format(a=f'a{s}', **words)};"

    def _term(self, number: int, i: str, count: int, row: int, vector: int, j: str, along: int) -> str:
        walk = self.k.operands[number]
        outs = len(self.k.extents)
        base = f"p{number}{_plus(row * self._row(walk.strides))}"
        for n, step in enumerate(walk.strides[outs:]):
            name = j if n == len(self.k.reduced) - 1 else f"j{n}"
            base += _term(_times(name, step)) if step else ""
        if along:
            if along == self.k.lanes:
                return f"v_load({base})"
            return f"v_load_each({base}, 1, 0, {along}, v_set1({literal(_FIRST.get(self.k.core, 0.0))}))"
        moves = walk.strides[self.inner] and vector
        return self._load(walk, base, f"{i}{_plus(vector * self.k.lanes)}" if moves else i, count)

    def finished(self, i: str, count: int, row: int, a: str) -> list[str]:
        """The epilogue of a vector, and its store."""
        k = self.k
        loads = [self.load(n, i, count, row) for n in range(k.joined, len(k.operands))]
        to = f"q{_plus(row * self._row(k.y))}{_term(i)}"
        store = f"v_store({to}, {a});" if count == k.lanes else f"v_store_n({to}, {a}, {count});"
        return [*chain(k.epilogue, a, loads), store]

    def tile(self, i: str, count: int, rows: int = 1, vectors: int = 1) -> list[str]:
        """Some vectors of some rows, from pixel i on."""
        if not self.k.core:
            return [f"vf32 a = {self.load(0, i, count)};", *self.finished(i, count, 0, "a")]
        lines = self.joined(i, count, rows, vectors)
        for s in range(rows * vectors):
            row, vector = divmod(s, vectors)
            lines += self.finished(_shifted(i, vector * self.k.lanes), count, row, f"a{s}")
        return lines

    def pixels(self, rows: int = 1) -> list[str]:
        """The innermost loop: some vectors at once, then the vectors and the pixels that are left."""
        k, lines, done = self.k, [], 0
        count = k.extents[-1]
        for vectors in (_VECTORS, 1) if k.core == "dot" and not k.along else (1,):
            step = vectors * k.lanes
            end = done + (count - done) // step * step
            if end - done == step:
                lines += ["{", *_indented(self.tile(str(done), k.lanes, rows, vectors)), "}"]
            elif end > done:
                head = f"for (int i = {done}; i < {end}; i += {step}) {{"
                lines += [head, *_indented(self.tile("i", k.lanes, rows, vectors)), "}"]
            done = end
        if done < count:
            lines += ["{", *_indented(self.tile(str(done), count - done, rows)), "}"]
        return lines

    def body(self) -> list[str]:
        """All loops."""
        k = self.k
        if k.rows == 1:
            return _nested(self.loops(self.inner), [*self.pointers(), *self.pixels()])
        row, count = self.inner - 1, k.extents[self.inner - 1]
        first, last = ("from", "to") if row == 0 and k.split else ("0", str(count))
        ahead = f"i{row} + {k.rows} <= {last}"
        single = [*self.pointers(), *self.pixels()]
        several = [*self.pointers(), *self.pixels(k.rows)]
        lines = [
            f"int i{row} = {first};",
            f"for (; {ahead}; i{row} += {k.rows}) {{",
            *_indented(several),
            "}",
        ]
        if count % k.rows or first == "from":
            lines += [f"for (; i{row} < {last}; ++i{row}) {{", *_indented(single), "}"]
        return _nested(self.loops(row), lines)


def _nested(heads: list[str], lines: list[str]) -> list[str]:
    for head in reversed(heads):
        lines = [head, *_indented(lines), "}"]
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _plus(n: int) -> str:
    return f" + {n}" if n > 0 else f" - {-n}" if n else ""


def _times(name: str, step: int) -> str:
    if name.isdigit():
        return str(int(name) * step)
    return name if step == 1 else f"({name}) * {step}" if " " in name else f"{name} * {step}"


def _term(text: str) -> str:
    """` + text`; nothing for 0."""
    return "" if text == "0" else f" - {text[1:]}" if text.startswith("-") else f" + {text}"


def _shifted(i: str, floats: int) -> str:
    return str(int(i) + floats) if i.isdigit() else f"{i}{_plus(floats)}"


def nest(k: Nest) -> dict[str, Any]:
    """What the template asks."""
    picks = [w.picks for w in k.operands if w.picks]
    what = f"{k.core} over {'x'.join(map(str, k.reduced))}" if k.core else "element by element"
    return {
        "what": what,
        "picks": [str(n) for n in picks[0]] if picks else [],
        "lines": Nested(k).body(),
        "constants": any(w.packed for w in k.operands),
        "moving": bool(k.moving),
    }

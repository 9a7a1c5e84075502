"""Foreign names onto ours: a mapping as data, read from a file of patterns, applied to the tensors.

    # torchvision's MobileNetV2
    features.0.0.{p}          -> conv1.{p}
    features.{i}.conv.0.0.{p} -> inverted_residual{i}.conv1.{p}
    classifier.1.{p}          -> linear1.{p}
    aux*                      -> -

`{name}` stands for one word between dots (or a part of one), `*` for anything; on the right the same names,
where a number may be shifted: `{i+1}`. The first line that fits a name counts; a name that fits none stays
as it is. `-` leaves tensors out. Several tensors with one name of ours are joined along their first axis, in
the order of their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compactir.diagnostics import CompactError, Span, remember_source, spell_list
from compactir.weights.stored import Stored

__all__ = ["AUTO", "Mapped", "Part", "apply", "map_by_file", "table"]

AUTO = "auto"
_HOLE = re.compile(r"\{([A-Za-z_]\w*)\}|\*")
_SHIFTED = re.compile(r"\{([A-Za-z_]\w*)\s*(?:([+-])\s*(\d+))?\}|\*")
_ARROW = "->"


@dataclass(frozen=True)
class Part:
    """A parameter of ours, and the tensors of the file that make it, one after the other."""

    ours: str
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class Mapped:
    """A whole mapping, and the names that play no part."""

    parts: tuple[Part, ...]
    dropped: tuple[str, ...]
    unused: tuple[str, ...] = ()
    """What is said about lines of the file of patterns that no name fits."""
    made: Mapping[str, Stored] = field(default_factory=dict)
    """Tensors of ours that are in no file."""


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    result: str
    line: int
    text: str


def map_by_file(path: Path, names: Sequence[str]) -> Mapped:
    """The mapping that a file of patterns says.

    Args:
        path: the file.
        names: of the tensors.

    Raises:
        CompactError: CIR640 when it cannot be read; CIR648 for a line that makes no sense, or where no line
            fits any name.
    """
    rules = _rules(path)
    parts: dict[str, list[str]] = {}
    dropped, idle = [], list(rules)
    for name in sorted(names, key=_natural):
        rule = next((rule for rule in rules if rule.pattern.fullmatch(name)), None)
        if rule in idle:
            idle.remove(rule)
        if (ours := _fill(rule, name, path) if rule else name) == "-":
            dropped.append(name)
        else:
            parts.setdefault(ours, []).append(name)
    unused = [f"line {r.line} of {path.name} fits no name of the weights file: `{r.text}`" for r in idle]
    if len(idle) == len(rules):
        names = [f"`{name}`" for name in sorted(names, key=_natural)]
        raise CompactError(
            "CIR648",
            f"no line of {path} fits a name of the weights file" if rules else f"{path} holds no patterns",
            notes=[*unused[:8], f"names of the weights file are {spell_list(names, limit=4)}"],
            help=_HOW if not rules else "the left side of a line is a name of the weights file",
        )
    pairs = tuple(Part(ours, tuple(theirs)) for ours, theirs in parts.items())
    return Mapped(pairs, tuple(dropped), tuple(unused))


def apply(
    mapped: Mapped, tensors: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]], notes: list[str]
) -> dict[str, Stored]:
    """The tensors under our names; `notes` gets a line for everything that is more than a new name.

    Args:
        mapped: which is which.
        tensors: by their names.
        shapes: of our parameters, by our names.
        notes: gets lines.
    """
    result, joined, reshaped = dict(mapped.made), 0, 0
    for part in mapped.parts:
        tensor, shape = _join([tensors[name] for name in part.theirs]), shapes.get(part.ours)
        joined += len(part.theirs) > 1
        if shape is not None and tensor.array.shape != shape and _only_ones(tensor.array.shape, shape):
            tensor, reshaped = Stored(tensor.dtype, tensor.array.reshape(shape)), reshaped + 1
        result[part.ours] = tensor
    if joined:
        notes.append(f"{_tensors(joined)} of ours made of several each, joined along the output channels")
    if reshaped:
        notes.append(
            f"{_tensors(reshaped)} taken over with other axes of length one (linear layers, 1×1 convolutions)"
        )
    if others := [name for name in mapped.dropped if not name.endswith("num_batches_tracked")]:
        heads = sorted({name.rpartition(".")[0].partition(".")[0] or name for name in others})
        notes.append(f"{_tensors(len(others))} left out: {', '.join(f'`{h}`' for h in heads)} (--map)")
    if counters := len(mapped.dropped) - len(others):
        notes.append(f"{counters} counters of training batches play no part")
    notes += mapped.unused
    return result


def table(mapped: Mapped, tensors: Mapping[str, Stored]) -> str:
    """The mapping for people: one line per layer."""
    rows: dict[tuple[str, str], list[str]] = {}
    for part in mapped.parts:
        key = (_module(part.theirs), part.ours.rpartition(".")[0])
        shapes = [spelled(tensors[name].array.shape) for name in part.theirs]
        rows.setdefault(key, []).append("+".join(shapes))
    lines = [("theirs", "ours", "shapes"), *((a, b, _brief(s)) for (a, b), s in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    return "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in lines)


def spelled(shape: tuple[int, ...]) -> str:
    """`32×3×3×3`."""
    return "×".join(map(str, shape)) or "scalar"


def _module(names: tuple[str, ...]) -> str:
    prefixes = [name.rpartition(".")[0] for name in names]
    if len(prefixes) == 1:
        return prefixes[0] or names[0]
    stem, _, first = prefixes[0].rpartition(".")
    return f"{stem}.{first}…{prefixes[-1].rpartition('.')[2]}"


def _brief(shapes: list[str]) -> str:
    first = list(dict.fromkeys(shapes))
    return ", ".join(f"{shapes.count(s)} of {s}" if shapes.count(s) > 1 else s for s in first)


def _join(pieces: list[Stored]) -> Stored:
    """Arrays that do not fit together stay apart: what has the wrong shape is said by who compares shapes."""
    if len(pieces) == 1 or len({(p.array.ndim, p.array.shape[1:], p.dtype) for p in pieces}) > 1:
        return pieces[0]
    if pieces[0].array.ndim == 0:
        return pieces[0]
    return Stored(pieces[0].dtype, np.concatenate([piece.array for piece in pieces]))


def _only_ones(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return [n for n in shape if n != 1] == [n for n in wanted if n != 1]


def _tensors(n: int) -> str:
    return f"{n:,} tensor" if n == 1 else f"{n:,} tensors"


# -- the file ------------------------------------------------------------------------------------------------


def _rules(path: Path) -> list[_Rule]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompactError(
            "CIR640",
            f"the file of names {path} cannot be read: {error.strerror}",
            help="correct the path, or `--map auto`",
        ) from error
    except UnicodeDecodeError as error:
        raise CompactError(
            "CIR648", f"{path} is not a file of names: it is not UTF-8 text", help=_HOW
        ) from error
    remember_source(str(path), text)
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if content := line.partition("#")[0].strip():
            rules.append(_rule(content, Span(str(path), number, 1, number, len(line) + 1)))
    return rules


_HOW = "a line is `THEIRS -> OURS`, such as `features.{i}.conv.{p} -> block{i}.conv1.{p}`"


def _rule(content: str, span: Span) -> _Rule:
    theirs, arrow, ours = (word.strip() for word in content.partition(_ARROW))
    if not arrow or not theirs or not ours or " " in theirs:
        raise CompactError("CIR648", f"`{content}` is no line of a file of names", span=span, help=_HOW)
    stars, names, pattern, at = 0, list[str](), "", 0
    for hole in _HOLE.finditer(theirs):
        pattern += re.escape(theirs[at : hole.start()])
        if name := hole[1]:
            pattern += f"(?P={name})" if name in names else f"(?P<{name}>[^.]+?)"
            names.append(name)
        else:
            pattern += f"(?P<star{stars}>.*)"
            stars += 1
        at = hole.end()
    pattern += re.escape(theirs[at:])
    wanted = [hole[1] for hole in _SHIFTED.finditer(ours) if hole[1]]
    if unknown := [name for name in wanted if name not in names]:
        raise CompactError(
            "CIR648",
            f"`{{{unknown[0]}}}` stands on the right only",
            span=span,
            help="name it on the left as well",
        )
    if ours.count("*") > stars:
        raise CompactError("CIR648", "there are more `*` on the right than on the left", span=span, help=_HOW)
    return _Rule(re.compile(pattern), ours, span.line, content)


def _fill(rule: _Rule, name: str, path: Path) -> str:
    """Our name, by a rule that fits."""
    match, star = rule.pattern.fullmatch(name), iter(range(9))
    assert match is not None

    def value(hole: re.Match[str]) -> str:
        if not hole[1]:
            return match[f"star{next(star)}"]
        text = match[hole[1]]
        if not hole[2]:
            return text
        if not text.isdigit():
            raise CompactError(
                "CIR648",
                f"`{hole[0]}` shifts `{text}`, which is no number",
                span=Span(str(path), rule.line, 1, rule.line, 2),
                notes=[f"the name is `{name}`"],
                help="write `{…}` without a shift, or a pattern that only numbers fit",
            )
        return str(int(text) + int(hole[2] + hole[3]))

    return _SHIFTED.sub(value, rule.result)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", name)]

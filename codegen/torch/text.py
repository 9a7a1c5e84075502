"""Laying out Python source so that `ruff format` has nothing to change, at 88 columns and at more.

What fits on a line stays on it; what does not is opened with one element per line and a trailing comma, which
a formatter keeps. Long lists of numbers go several to a line under `# fmt: skip`.
"""

from __future__ import annotations

import ast
import keyword
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from os.path import commonprefix

import numpy as np

from compactir.ir.channels import ChannelList, Run, divisors

WIDTH = 88
INDENT = "    "
MODULE_NAMES = {
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile",
    "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer",
    "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules",
    "mtia", "named_buffers", "named_children", "named_modules", "named_parameters", "parameters",
    "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_", "set_extra_state",
    "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train", "training", "type", "xpu",
    "zero_grad",
}  # fmt: skip
"""What every `nn.Module` has already; a test compares this with PyTorch."""

LONG_LIST = 16
"""A list of more numbers than this becomes a named constant, several numbers to a line."""

_SHARED = 3
"""So many lists that begin alike are written as one table and beginnings of its rows."""

LONG_TEXT = 60
"""The same for the text of a list of channels, where runs are short."""


def statement(indent: int, before: str, expression: str, after: str = "") -> list[str]:
    """The lines of `before` + expression + `after`, such as `x = ` and a call, so many steps of four in."""
    line = INDENT * indent + before + expression + after
    if len(line) <= WIDTH:
        return [line]
    opened = _opened(expression)
    if opened is None:
        return [line]
    start, elements, stop = opened
    lines = [INDENT * indent + before + start]
    for element in elements:
        keyword_, value = _keyword(element)
        lines += statement(indent + 1, keyword_, value, ",")
    return [*lines, INDENT * indent + stop + after]


def _opened(expression: str) -> tuple[str, list[str], str] | None:
    """A call or display as what stands before its elements, the elements, and what closes it."""
    node = ast.parse(expression, mode="eval").body

    def source(part: ast.AST) -> str:
        return ast.get_source_segment(expression, part) or ""

    if isinstance(node, ast.Call) and (node.args or node.keywords):
        elements = [source(a) for a in node.args] + [f"{k.arg}={source(k.value)}" for k in node.keywords]
        return source(node.func) + "(", elements, ")"
    if isinstance(node, (ast.List, ast.Tuple)) and node.elts:
        brackets = "[]" if isinstance(node, ast.List) else "()"
        return brackets[0], [source(e) for e in node.elts], brackets[1]
    return None


def _keyword(element: str) -> tuple[str, str]:
    match = re.match(r"[A-Za-z_]\w*=(?!=)", element)
    return (match[0], element[match.end() :]) if match else ("", element)


def signature(indent: int, name: str, parameters: Sequence[str], result: str) -> list[str]:
    """A `def` line, opened with one parameter per line where it is too long."""
    line = f"{INDENT * indent}def {name}({', '.join(parameters)}) -> {result}:"
    if len(line) <= WIDTH:
        return [line]
    inner = INDENT * (indent + 1)
    return [
        f"{INDENT * indent}def {name}(",
        *(f"{inner}{p}," for p in parameters),
        f"{INDENT * indent}) -> {result}:",
    ]


def docstring(indent: int, text: str) -> list[str]:
    """A docstring; paragraphs are wrapped, lines of tables and indented examples are kept."""
    width = WIDTH - len(INDENT * indent)
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        body = textwrap.dedent(paragraph) if not lines else paragraph
        first = not lines
        if lines:
            lines.append("")
        if re.search(r"^[ |]|\n[ |]", body):
            lines += [line.rstrip() for line in body.split("\n")]
        else:
            room = width - 3 if first else width
            written = body.split("\n")
            if any(len(line) > room for line in written):  # else the author's own lines are kept
                written = textwrap.wrap(
                    " ".join(written), room, break_long_words=False, break_on_hyphens=False
                )
            lines += written
    lines = [escaped(line) for line in lines] or [""]
    if len(lines) == 1 and len(lines[0]) + 6 > width:
        lines = textwrap.wrap(lines[0], width - 6, break_long_words=False, break_on_hyphens=False)
    if len(lines) == 1 and not lines[0].endswith('"'):
        return [f'{INDENT * indent}"""{lines[0]}"""']
    filled = [INDENT * indent + '"""' + lines[0], *(INDENT * indent + s if s else "" for s in lines[1:])]
    return [*filled, INDENT * indent + '"""']


def escaped(text: str) -> str:
    """Text that may stand inside a docstring as it is."""
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def constant(value: Sequence[object] | ChannelList) -> list[str]:
    """A list of numbers, or of lists of numbers, for the module's level: as many to a line as fit."""
    if isinstance(value, ChannelList) and (text := _comprehension(value)):
        return [text]
    lines = [INDENT]
    for text in _runs(value) if isinstance(value, ChannelList) else map(str, value):
        if len(f"{lines[-1]}{text}, ") > WIDTH + 1:
            lines.append(INDENT)
        lines[-1] += f"{text}, "
    return ["[", *(line.rstrip() for line in lines), "]  # fmt: skip"]


def with_shared_rows(
    constants: Mapping[str, list[str]], lists: Mapping[str, Sequence[int]]
) -> dict[str, list[str]]:
    """Constants of which several are the beginnings of the same rows: those are written once.

    Args:
        constants: name -> its lines.
        lists: the lists of numbers among them. One that rises several times, each time as often, is read as
            rows: what the groups of a convolution pick, where a layer of more channels picks more.
    """
    rows = {name: _rising(values) for name, values in lists.items()}
    families: dict[int, list[str]] = {}
    for name in sorted(rows, key=lambda name: len(lists[name])):
        families.setdefault(len(rows[name]), []).append(name)
    shared: dict[str, list[str]] = {}
    replaced: dict[str, list[str]] = {}
    for count, names in families.items():
        longest = rows[names[-1]]
        cut = {name: len(rows[name][0]) for name in names} if count > 1 else {}
        fitting = [n for n in cut if [row[: cut[n]] for row in longest] == rows[n]]
        if len(fitting) < _SHARED:
            continue
        stem = commonprefix(fitting).rstrip("_")  # noqa: RUF071  # of names, not of paths
        home = unused(f"{stem}_ROWS".lstrip("_"), [*constants, *shared])
        shared[home] = _table(longest)
        replaced |= {name: [f"[c for row in {home} for c in row[:{cut[name]}]]"] for name in fitting}
    return shared | {name: replaced.get(name, lines) for name, lines in constants.items()}


def _rising(values: Sequence[int]) -> list[list[int]]:
    """The list cut where it falls, if that makes rows of one length; else one row."""
    falls = [i for i in range(1, len(values)) if values[i] <= values[i - 1]]
    cut = [list(values[a:b]) for a, b in pairwise([0, *falls, len(values)])]
    return cut if len({len(row) for row in cut}) == 1 else [list(values)]


def _table(rows: Sequence[Sequence[int]]) -> list[str]:
    """A list of lists of numbers for the module's level: each from a line of its own."""
    lines = ["["]
    for row in rows:
        numbers = textwrap.wrap(", ".join(map(str, row)) + ",", WIDTH - 2 * len(INDENT))
        lines += [f"{INDENT}[", *(f"{2 * INDENT}{line}" for line in numbers), f"{INDENT}],"]
    return [*lines, "]  # fmt: skip"]


def literal(value: object) -> str:
    """A constant as a person writes it: 2 / 3 rather than 0.6666666666666666, channels as ranges."""
    if isinstance(value, ChannelList):
        return _channels(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, tuple):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return '"' + escaped(value).replace('"', '\\"') + '"' if isinstance(value, str) else repr(value)


def _float(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    text = repr(value)
    if len(text) > 10:
        fraction = Fraction(value).limit_denominator(64)
        if float(fraction) == value and fraction.denominator > 1:
            return f"{fraction.numerator} / {fraction.denominator}"
    return text


def _channels(channels: ChannelList) -> str:
    if len(channels.runs) == 1 and len(channels) > 2 and channels.runs[0].step > 0:
        return _range(channels.runs[0])
    plain = f"[{', '.join(_runs(channels))}]"
    return plain if len(plain) <= LONG_TEXT else _comprehension(channels) or plain


def _comprehension(channels: ChannelList) -> str:
    """Equal runs at equal distances, such as a shuffle's, as a comprehension; empty for other lists."""
    values = channels.array
    for length in divisors(len(values))[1:-1]:
        rows = values.reshape(-1, length)
        step, stride = int(rows[0, 1] - rows[0, 0]), int(rows[1, 0] - rows[0, 0])
        even = np.add.outer(stride * np.arange(len(rows)), step * np.arange(length)) + rows[0, 0]
        if step > 0 and stride > 0 and np.array_equal(rows, even):
            starts = _range(Run(int(rows[0, 0]), len(rows), stride))
            stop = f"k + {step * (length - 1) + 1}" + (f", {step}" if step > 1 else "")
            return f"[c for k in {starts} for c in range(k, {stop})]"
    return ""


def _runs(channels: ChannelList) -> list[str]:
    """The elements of a list display: numbers, and `*range(8, 24)` for longer runs."""
    elements: list[str] = []
    for run in channels.runs:
        if run.count > 4 and run.step:
            elements.append(f"*{_range(run)}")
        else:
            elements += [str(run.start + k * run.step) for k in range(run.count)]
    return elements


def _range(run: Run) -> str:
    stop = run.start + run.step * (run.count - 1) + (1 if run.step > 0 else -1)
    if run.step != 1:
        return f"range({run.start}, {stop}, {run.step})"
    return f"range({run.start}, {stop})" if run.start else f"range({stop})"


def is_plain_name(name: str) -> bool:
    """True for what can be written after `self.` and means that name: no keyword, no module's method."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and not keyword.iskeyword(name)
    return bool(plain) and name not in MODULE_NAMES


def identifier(text: str, taken: Iterable[str] = ()) -> str:
    """A Python name for any text, different from the ones that are taken."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text).strip("_") or "x"
    if name[0].isdigit():
        name = "x" + name
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in ("l", "O", "I"):
        name += "_"  # PEP 8: a trailing underscore avoids a keyword; E741: l, O and I look like digits
    return unused(name, taken)


def unused(name: str, taken: Iterable[str]) -> str:
    """The name, or the name and the first number that makes it new."""
    used = set(taken)
    if name not in used:
        return name
    n = 2
    while f"{name}{n}" in used:
        n += 1
    return f"{name}{n}"


def class_name(text: str, taken: Iterable[str] = ()) -> str:
    """CamelCase of a name: `inverted_residual` is `InvertedResidual`."""
    words = [w for w in re.split(r"[^A-Za-z0-9]+", text) if w]
    name = "".join(w[0].upper() + w[1:] for w in words) or "Network"
    name = name if name[0].isalpha() else "Net" + name
    return unused(name + "_" if keyword.iskeyword(name) else name, taken)

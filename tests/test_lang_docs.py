"""docs/language.md tells the truth: its examples compile, its tables are those of the code."""

import inspect
import re
from importlib import resources
from pathlib import Path

import pytest

from compactir.diagnostics import CATALOGUE, CompactError
from compactir.lang import elaborate, evaluate, parse, parser, source, steps, values
from compactir.lang.ast import Block, Declaration, Function
from compactir.lang.format import format_text
from compactir.lang.spelled import FOREIGN
from compactir.lang.values import wanted
from compactir.ops import SPELLINGS, signature

PAGE = Path(__file__).parent.parent / "docs" / "language.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```arch *(.*?)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LIBRARY = resources.files("compactir.lang").joinpath("std")


def whole(example: str) -> str:
    if re.search(r"^network ", example, re.MULTILINE):
        return example
    return f"network example {{\ninput x: f32[8, 16, 16]\n{example}output y\n}}\n"


@pytest.mark.parametrize(("info", "example"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(info: str, example: str) -> None:
    defines = dict(word.split("=") for word in info.split())
    code = defines.pop("error", None)
    if code is None:
        assert elaborate(parse(whole(example)), defines=defines).nodes
        return
    with pytest.raises(CompactError) as caught:
        elaborate(parse(whole(example)), defines=defines)
    assert caught.value.code == code


def test_every_construct_is_shown() -> None:
    """Each node of the syntax tree occurs in some example."""
    from compactir.lang import ast

    seen: set[str] = set()
    nodes: list[ast.Node] = [item for _, text in EXAMPLES for item in parse(whole(text)).items]
    while nodes:
        node = nodes.pop()
        seen.add(type(node).__name__)
        nodes.extend(ast.children(node))
    abstract = {"Node", "Expr", "Statement", "Declaration"}
    all_nodes = {c.__name__ for c in vars(ast).values() if inspect.isclass(c) and issubclass(c, ast.Node)}
    assert seen == all_nodes - abstract


def test_limits() -> None:
    section = TEXT.split("## Limits")[1].split("## Grammar")[0]
    stated = [int(n.replace(",", "")) for n in re.findall(r"(?<=[ |])\d[\d,]*(?=[ ,|])", section)]
    assert stated == [
        source.MAX_CHARACTERS,
        source.MAX_NESTING,
        2 * source.MAX_NESTING,
        steps.MAX_BLOCK_DEPTH,
        parser.MAX_DIGITS,
        parser.MAX_EXPONENT,
        values.MAX_BITS,
        values.MAX_ITEMS,
        evaluate.MAX_WORK,
        steps.MAX_NODES,
    ]
    assert set(re.findall(r"CIR\d{3}", TEXT)) <= set(CATALOGUE)


def test_builtins_are_listed() -> None:
    section = TEXT.split("Functions of the language:")[1].split("## Statements")[0]
    assert set(re.findall(r"`(\w+)\(", section)) == set(evaluate.BUILTINS)


def test_foreign_names_lead_somewhere() -> None:
    assert set(FOREIGN.values()) <= set(SPELLINGS)
    assert not set(FOREIGN) & set(SPELLINGS)


def operations() -> str:
    """One row per spelling: how it is written, and the first line of its docstring."""
    rows = ["| operation | meaning |", "|---|---|"]
    for name in sorted(SPELLINGS):
        declared = signature(name)
        arguments = [
            n if p.default is inspect.Parameter.empty else f"{n}={shown(p.default)}"
            for n, p in declared.attributes.items()
        ]
        usage = f"{name}({', '.join(arguments)})" if arguments else name
        tensors = "" if len(declared.operands) == 1 and not declared.variadic else "several tensors: "
        tensors = tensors if declared.operands else "a value for `connect`: "
        meaning = (inspect.getdoc(SPELLINGS[name]) or "").split("\n")[0]
        rows.append(f"| `{usage}` | {tensors}{meaning} |")
    return "\n".join(rows)


def shown(default: object) -> str:
    words = {None: "...", True: "true", False: "false"}
    if default is None or isinstance(default, bool):
        return words[default]
    if isinstance(default, str):
        return f'"{default}"'
    return f"{default:g}" if isinstance(default, float) else str(default)


def library() -> str:
    """One table per file of the standard library."""
    parts = []
    for path in sorted(LIBRARY.iterdir(), key=lambda p: p.name):
        file = parse(path.read_text(encoding="utf-8"), f"std/{path.name}")
        parts += [f"**`std/{path.name}`**: {file.doc}\n", "| name | meaning |", "|---|---|"]
        for item in file.items:
            if isinstance(item, (Block, Function)):
                head = format_text(heading(item)).split(" {")[0]
                parts.append(
                    f"| `{head.removeprefix('block ').removeprefix('def ')}` | {one_line(item.doc)} |"
                )
        parts.append("")
    return "\n".join(parts).strip()


def heading(item: Declaration) -> str:
    text = LIBRARY.joinpath(Path(item.span.file).name).read_text(encoding="utf-8")
    lines = text.split("\n")[item.span.line - 1 :]
    return "\n".join(lines).split(" {\n")[0] + " { }"


def one_line(doc: str) -> str:
    return " ".join(doc.split())


@pytest.mark.parametrize(("name", "make"), [("operations", operations), ("library", library)])
def test_generated_section(name: str, make: object, update_golden: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by `make docs` -->\n", "<!-- end -->"
    head, rest = text.split(begin)
    old, tail = rest.split(end, 1)
    new = f"\n{make()}\n\n"  # type: ignore[operator]  # one of the two functions above
    if update_golden:
        PAGE.write_text(head + begin + new + end + tail, encoding="utf-8")
        return
    assert old == new, "run `make docs`"


def test_every_type_of_an_operation_has_words() -> None:
    for name in SPELLINGS:
        for parameter in signature(name).attributes.values():
            assert "<" not in wanted(parameter.annotation), (name, parameter)


def test_names_in_c() -> None:
    """The table of network names and C symbols."""
    from compactir.codegen.c.emit import macro_prefix, symbol_for

    rows = re.findall(r"^\| (.*?) \| (`\S*_run`.*?) \|", TEXT, re.MULTILINE)
    quoted = [[re.findall("`(.*?)`", cell) for cell in row] for row in rows]
    pairs = [pair for names, symbols in quoted for pair in zip(names, symbols, strict=True)]
    assert len(pairs) > 10
    assert all(f"{symbol_for(name)}_run" == symbol for name, symbol in pairs)
    assert [macro_prefix(name) for name in ("Net", "NET", "net")] == ["Net", "net", "NET"]

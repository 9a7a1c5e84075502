"""The pages tell the truth: commands run and print what is shown, dumps are the compiler's, links resolve.

`make docs` writes anew what is generated: the parts of docs/architecture.md between `<!-- NAME: written by …`
and `<!-- end -->`, all of docs/passes.md and docs/operations.md. In the pages of `PLAYED` a comment before
every fenced block of commands says what happens to it:

    <!-- file NAME -->       the block is a file
    <!-- run -->             its lines are run in a fresh folder, in the page's order; they must succeed
    <!-- prints -->          what the last run printed; `…` stands for anything
    <!-- not run: why -->    it is shown only
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from compactir.codegen.c.emit import emit_c
from compactir.codegen.lower import Lowered, lower
from compactir.codegen.torch import emit_torch
from compactir.diagnostics import CATALOGUE
from compactir.ir.graph import Graph
from compactir.ir.plan_text import print_plan
from compactir.ir.text import print_graph
from compactir.ir.types import TensorType
from compactir.lang import elaborate, parse
from compactir.ops import OPS, SPELLINGS, signature
from compactir.passes import PASSES, PIPELINES, pipeline, run_pipeline
from compactir.targets import Target, load_target
from compactir.tools.verbs import VERBS
from tests.graphs import random_weights

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PLAYED = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/numerics.md",
    "docs/arm.md",
    "benchmarks/README.md",
)
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *DOCS.glob("**/*.md"), *(ROOT / "benchmarks").glob("*.md"))
)
COMMANDS = ("sh", "python", "c", "arch")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# -- the small network of docs/architecture.md ---------------------------------------------------------------


@cache
def small() -> Graph:
    """The network as authored, with the weights that `--init seed=0` draws."""
    from compactir.weights.init import draw

    [text] = re.findall(
        r"<!-- file small.arch -->\n```arch\n(.*?)```", page("docs/architecture.md"), re.DOTALL
    )
    graph = elaborate(parse(text, "small.arch"))
    graph.weights = draw(graph, 0)
    return graph


@cache
def target() -> Target:
    return load_target("x86")


@cache
def optimised() -> tuple[Graph, dict[str, Graph]]:
    """The graph after the passes, and copies of it after each."""
    graph = small().clone()
    stages: dict[str, Graph] = {"authored": graph.clone()}

    def keep(stage: str, now: Graph) -> None:
        if not stage.startswith("before:"):
            stages[stage] = now.clone()

    run_pipeline(graph, pipeline("c", target()), dump=keep)
    return graph, stages


@cache
def lowered() -> Lowered:
    return lower(optimised()[0], target())


@cache
def source() -> str:
    return emit_c(lowered(), target()).source


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def graph_section() -> str:
    return fenced(print_graph(small(), spans=False), "cir")


WRITTEN = (
    ("conv(16, kernel=3)", 8),
    ("conv(16, kernel=1, groups=4)", 8),
    ("conv(16, kernel=1, groups=[1/2, 1/4, 1/4])", 8),
    ("depthwise(kernel=3)", 8),
    ("depthwise(kernel=[3, 5])", 8),
    ("conv(3, kernel=5, pad=0, connect=[[0, 1, 2], [1, 2, 3], [0, 2, 3]])", 4),
    ("conv(16, kernel=1, connect=learned(groups=4))", 8),
)
"""How the language spells connectivities, and the input channels to show them on."""


def connectivity_section() -> str:
    """Spellings, and how they print."""
    rows = ["| in the model file | in the Graph |", "|---|---|"]
    for spelled, channels in WRITTEN:
        graph = elaborate(
            parse(f"network n {{\ninput x: f32[{channels}, 9, 9]\noutput y = x -> {spelled}\n}}")
        )
        [attributes] = re.findall(r"\{(.*)\}$", str(print_graph(graph, spans=False).splitlines()[-3]))
        rows.append(f"| `{spelled}` | `{attributes}` |")
    return "\n".join(rows)


def nodes(graph: Graph) -> list[str]:
    """The text of a graph without its parameters."""
    return [
        line[2:]
        for line in print_graph(graph, spans=False).splitlines()
        if line.startswith("  ") and not line.startswith(("  param", "  doc", "  scope"))
    ]


def passes_section() -> str:
    """What every pass changes, as a difference of texts; the passes that change nothing."""
    before, parts, idle = small(), [], []
    for name, after in list(optimised()[1].items())[1:]:
        lines = [
            line
            for line in difflib.unified_diff(nodes(before), nodes(after), n=0, lineterm="")
            if not line.startswith(("---", "+++", "@@"))
        ]
        summary = (inspect.getdoc(PASSES[name]) or "").splitlines()[0]
        if lines:
            parts.append(f"**{name}**: {summary}\n\n{fenced(chr(10).join(lines), 'diff')}")
        else:
            idle.append(f"`{name}`")
        before = after
    return "\n\n".join([*parts, f"Nothing to do here for {', '.join(idle)}."])


def plan_section() -> str:
    """The plan, long lines wrapped."""
    lines = [
        wrapped
        for line in print_plan(lowered().plan).splitlines()
        for wrapped in textwrap.wrap(
            line.strip(), 130, initial_indent="  " if line[:1] == " " else "", subsequent_indent=" " * 6
        )
    ]
    return fenced("\n".join(lines))


UNIT = """network unit {
  input image: f32[3, 32, 32]
  x = image -> conv(16, kernel=3, stride=2) as stem
  (keep, work) = x -> split([1/2, 1/2])
  work = work -> conv(8, kernel=1) as first -> depthwise(kernel=3) as filter -> conv(8, kernel=1) as last
  y = concat(keep, work) -> shuffle(groups=2)
  output scores = y -> conv(4, kernel=1) as head -> global_avg_pool
}
"""


def unit_section() -> str:
    """A unit of ShuffleNetV2 and where its values lie."""
    graph = elaborate(parse(UNIT))
    graph.weights = random_weights(graph, 0)
    found = lower(graph, target())
    assert found.plan.copies == 0
    rows = [
        f"%{node.out.name:<{max(len(n.out.name) for n in graph.nodes)}}  {found.places[node.out.name]}"
        for node in graph.nodes
    ]
    return f"{fenced(UNIT, 'arch')}\n\n{fenced(chr(10).join(rows))}"


def step_function(name: str) -> str:
    """The C function of a step, with the comment above it."""
    [text] = re.findall(rf"(/\* step \d+: {re.escape(name)} .*?^\}}\n)", source(), re.DOTALL | re.MULTILINE)
    return str(text)


def sweep_section() -> str:
    return fenced(step_function("residual1: expand, filter, project"), "c")


def kernel_section() -> str:
    """The kernel that the last step calls, with the comment above it."""
    [name] = re.findall(r"^  (\w+)\(", step_function("linear1"), re.MULTILINE)
    text = source()
    at = text.index(f"V_KERNEL void {name}(")
    start = text.rindex("/*", 0, at)
    return fenced(text[start : text.index("\n}\n", at) + 2], "c")


def interface_section() -> str:
    """The header without its frame."""
    header = emit_c(lowered(), target()).header
    start, end = header.index("enum {"), header.rindex("#ifdef __cplusplus")
    return fenced(header[start:end], "c")


def module_section() -> str:
    return fenced(emit_torch(small()), "python")


SECTIONS: dict[str, Callable[[], str]] = {
    "graph": graph_section,
    "connectivity": connectivity_section,
    "passes": passes_section,
    "plan": plan_section,
    "unit": unit_section,
    "sweep": sweep_section,
    "kernel": kernel_section,
    "interface": interface_section,
    "module": module_section,
}


@pytest.mark.parametrize("name", SECTIONS)
def test_what_the_compiler_makes_of_the_small_network(name: str, update_golden: bool) -> None:
    path = DOCS / "architecture.md"
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by `make docs` -->\n", "<!-- end -->"
    head, found, rest = text.partition(begin)
    assert found, f"docs/architecture.md has no part {name}"
    old, _, tail = rest.partition(end)
    new = f"\n{SECTIONS[name]()}\n\n"
    if update_golden:
        path.write_text(head + begin + new + end + tail, encoding="utf-8")
        return
    assert old == new, "run `make docs`"


def test_every_part_has_its_place() -> None:
    written = re.findall(r"<!-- (\w+): written by", page("docs/architecture.md"))
    assert sorted(written) == sorted(SECTIONS)


# -- docs/passes.md and docs/operations.md -------------------------------------------------------------------


PASSES_HEAD = """\
# Passes

Written from the docstrings by `make docs`. A pass rewrites a Graph in place; `compactc opt` runs chosen ones,
`--dump-ir` shows what each leaves, `--verify-each` checks it, and `compactc explain MODEL` lists what was
done, what was not, and why. Each begins with its rewrite, before `->` after. How to write one:
[CONTRIBUTING.md](../CONTRIBUTING.md)."""

OPERATIONS_HEAD = """\
# Operations

Written from the docstrings by `make docs`. Shapes have the batch in front; a MAC is a multiply-accumulate.
`y = x -> relu` applies an operation ([language.md](language.md)); what it computes is its `reference`
method in [compactir/ops](../compactir/ops), a few lines of NumPy."""


def passes_page() -> str:
    """The pipelines, then every pass with its docstring."""
    parts = [
        PASSES_HEAD,
        "## Pipelines",
        *(
            f"**`{name}`**: {' → '.join(f'[{p}](#{p})' for p in passes) or 'nothing'}"
            for name, passes in PIPELINES.items()
        ),
    ]
    for name in sorted(PASSES):
        module = sys.modules[PASSES[name].__module__]
        parts += [
            f"## {name}",
            f"`{(module.__doc__ or '').splitlines()[0]}`",
            re.sub(r"\s+Needs: ", "\n\nNeeds: ", inspect.getdoc(PASSES[name]) or ""),
        ]
        options = [
            f"`{f.name.replace('_', '-')}={f.default}`".replace("=True", "=true").replace("=False", "=false")
            for f in dataclasses.fields(PASSES[name])  # type: ignore[arg-type]  # every pass is a dataclass
        ]
        if options:
            parts.append(f"Options, with their defaults: {', '.join(options)}.")
    return "\n\n".join(parts) + "\n"


def spellings_of(op: type) -> list[str]:
    """How the language writes an operation."""
    found = []
    for name, function in SPELLINGS.items():
        made = typing.get_type_hints(function).get("return")
        if op in (made, *typing.get_args(made)):
            declared = signature(name).attributes.values()
            arguments = ", ".join(
                p.name if p.default is inspect.Parameter.empty else f"{p.name}={written(p.default)}"
                for p in declared
            )
            found.append(f"`{name}({arguments})`" if arguments else f"`{name}`")
    return found


def written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return {None: "…"}.get(default, f"{default}") if not isinstance(default, str) else f'"{default}"'  # type: ignore[call-overload]  # a default is hashable


def operations_page() -> str:
    """Every operation by family: its docstring, how it is written, what it owns."""
    parts = [OPERATIONS_HEAD]
    families: dict[str, list[str]] = {}
    for name, op in OPS.items():
        families.setdefault(op.__module__, []).append(name)
    for module, names in sorted(families.items()):
        parts.append(f"## {module.rpartition('.')[2]}")
        parts.append((sys.modules[module].__doc__ or "").splitlines()[0])
        for name in names:
            text = inspect.getdoc(OPS[name]) or ""
            body = re.sub(r"^(Shapes|Cost|Errors|Source): +", r"* \1: ", text, flags=re.MULTILINE)
            body = re.sub(r"\n {8,}", "\n  ", body)
            lines = [
                f"* Written: {', '.join(spellings_of(OPS[name])) or 'not in the language, passes make it'}"
            ]
            sample = OPS[name].samples()[0]
            types = [TensorType.f32(*shape) for shape in sample.shapes]
            if owned := [f"`{p.name}`" for p in sample.op.params(*types)]:
                lines.append(f"* Owns: {', '.join(owned)}")
            listed = "* Shapes:" in body
            parts += [f"### {name}", body + ("\n" if listed else "\n\n") + "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


@pytest.mark.parametrize(("name", "make"), [("passes.md", passes_page), ("operations.md", operations_page)])
def test_written_pages(name: str, make: Callable[[], str], golden: Callable[[Path, str], None]) -> None:
    golden(DOCS / name, make())


def test_every_pass_and_operation_says_enough() -> None:
    """A pass: the rewrite, an example, what it needs and keeps. An operation: one sentence at least."""
    for name, cls in PASSES.items():
        text = inspect.getdoc(cls) or ""
        assert "->" in (sys.modules[cls.__module__].__doc__ or "") + text, name
        assert re.search(r"\n    \S", text), f"{name} shows no example"
        assert "Needs: " in text, name
        assert "Keeps: " in text, name
    for op in OPS.values():
        assert (inspect.getdoc(op) or "").strip(), op
    for function in SPELLINGS.values():
        assert (inspect.getdoc(function) or "").strip(), function


def test_every_code_is_catalogued_and_used() -> None:
    used: set[str] = set()
    for package in ("compactir", "passes", "codegen", "runtime"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "catalogue.py":
                used |= set(re.findall(r"\bCIR\d{3}\b", path.read_text(encoding="utf-8")))
    assert used - set(CATALOGUE) == set(), "codes without an entry in the catalogue"
    assert set(CATALOGUE) - used == set(), "entries of the catalogue that nothing raises"
    for code, entry in CATALOGUE.items():
        assert all(text.strip() for text in (entry.title, entry.what, entry.why, entry.example, entry.fix)), (
            code
        )
    for name in PAGES:
        assert set(re.findall(r"\bCIR\d{3}\b", page(name))) <= set(CATALOGUE), name


# -- links ---------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```$|^    .*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    )


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_links(name: str) -> None:
    broken = []
    for link in re.findall(r"\[[^]]*\]\(([^)\s]+)\)", without_code(page(name))):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        path = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, frontier = set(), ["README.md"]
    while frontier:
        name = frontier.pop()
        if name in reached or name not in PAGES:
            continue
        reached.add(name)
        for link in re.findall(r"\[[^]]*\]\(([^)\s#]+)[^)]*\)", without_code(page(name))):
            path = ((ROOT / name).parent / link).resolve()
            if path.is_dir() and (path / "README.md").exists():
                path /= "README.md"
            if path.is_relative_to(ROOT):
                frontier.append(path.relative_to(ROOT).as_posix())
    assert sorted(set(PAGES) - reached) == []


# -- commands ------------------------------------------------------------------------------------------------

BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(name: str) -> Iterator[tuple[str, str, str]]:
    """(note, language, body) of the fenced blocks of a page, without the generated parts."""
    text = re.sub(r"<!-- \w+: written by .*?<!-- end -->", "", page(name), flags=re.DOTALL)
    for match in BLOCK.finditer(text):
        yield match["note"] or "", match["language"], match["body"]


def says(shown: str, printed: str) -> bool:
    """Whether a text with `…` for anything is what was printed."""
    pattern = ".*?".join(map(re.escape, shown.strip().split("…")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("name", PLAYED)
def test_every_command_is_run_or_says_why_not(name: str) -> None:
    for note, language, body in blocks(name):
        if language in COMMANDS:
            assert re.match(r"file \S+$|run$|not run: .+", note), f"{name}: nothing is said about\n{body}"


@pytest.mark.compiler
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "docs/arm.md"))
        for name in PLAYED
        if "<!-- run -->" in page(name)
    ],
)
def test_commands(name: str, tmp_path: Path, need: Callable[[str], None]) -> None:
    """A page's files and commands, in its order, in a fresh folder."""
    if not shutil.which("cc"):
        need("ziglang")
    printed = ""
    (tmp_path / "work").mkdir()
    for note, language, body in blocks(name):
        if note.startswith("file "):
            (tmp_path / "work" / note.removeprefix("file ")).write_text(body, encoding="utf-8")
        elif note == "run":
            environment = make_environment(
                tmp_path / "bin", re.search(r"^cc ", body, re.MULTILINE) is not None
            )
            command = [sys.executable, "-c", body] if language == "python" else ["bash", "-euc", body]
            done = subprocess.run(
                command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=900
            )
            assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
            printed = done.stdout
        elif note == "prints":
            assert says(body, printed), f"shown:\n{body}\nprinted:\n{printed}"


def make_environment(folder: Path, compile_c: bool) -> dict[str, str]:
    """`compactc` and `python` are those of this checkout, `cc` is zig's where there is none."""
    folder.mkdir(exist_ok=True)
    commands = {"python": sys.executable, "compactc": f"{sys.executable} -m compactir"}
    if compile_c and not shutil.which("cc"):
        commands["cc"] = f"{sys.executable} -m ziglang cc"
    for name, command in commands.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_what_is_shown_is_compared() -> None:
    assert says("a … c", "a b c\n")
    assert not says("a … c", "a b d\n")


def test_make_targets_that_are_named_exist() -> None:
    known = set(re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE))
    for name in PAGES:
        named = {
            word
            for command in re.findall(r"`make ([a-z ]+)[`=A-Z\"]|^ *make ([a-z ]+)", page(name), re.MULTILINE)
            for word in " ".join(command).split()
        }
        assert named <= known, f"{name}: {sorted(named - known)}"


def test_the_readme_names_every_verb() -> None:
    section = page("README.md").split("## Command line")[1].split("\n## ")[0]
    named = set(re.findall(r"`compactc ([a-z]+)\b", section))
    assert named == {verb.name for verb in VERBS} - {"compile"}, (
        "`compactc MODEL.arch` is the usual form of compile"
    )

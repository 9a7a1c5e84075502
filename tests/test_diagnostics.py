"""The renderers, the helpers of error messages, and the catalogue."""

import pickle
import re
from pathlib import Path

import pytest

from compactir.catalogue import _ENTRIES
from compactir.diagnostics import (
    CATALOGUE,
    CompactError,
    CompactErrors,
    Span,
    did_you_mean,
    divisors,
    explain,
    remember_source,
    render,
    render_json,
    spell_list,
)

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [p for d in ("compactir", "passes", "codegen", "runtime") for p in sorted((ROOT / d).rglob("*.py"))]


def error(source: str, line: int, column: int, width: int, **more: object) -> CompactError:
    remember_source("model.arch", source)
    span = Span("model.arch", line, column, line, column + width)
    return CompactError("CIR203", "60 channels do not split into 8 groups", span=span, **more)  # type: ignore[arg-type]  # notes and help


def test_rendered_like_rustc() -> None:
    source = "\n" * 6 + "  y = x -> conv(60, kernel=1, groups=8) -> bn\n"
    shown = error(
        source, 7, 17, 2, notes=["60 = round_channels(240 * width / 4)"], help="groups are 1 2 3\nor 4"
    )
    assert render(shown) == (
        "error[CIR203]: 60 channels do not split into 8 groups\n"
        " --> model.arch:7:17\n"
        "  |\n"
        "7 |   y = x -> conv(60, kernel=1, groups=8) -> bn\n"
        "  |                 ^^\n"
        "  |\n"
        "  = note: 60 = round_channels(240 * width / 4)\n"
        "  = help: groups are 1 2 3\n"
        "          or 4"
    )


def test_gutter_grows_with_the_line_number() -> None:
    lines = render(error("a\n" * 1000, 123, 1, 1)).split("\n")
    assert lines[1:] == ["   --> model.arch:123:1", "    |", "123 | a", "    | ^"]


def carets(source: str, column: int, width: int) -> tuple[str, str]:
    text, marks = render(error(source, 1, column, width)).split("\n")[3:5]
    return text[4:], marks[4:]


def test_carets_stand_under_wide_characters_and_tabs() -> None:
    assert carets("\tx = 变量 + e\u0301y", 6, 2) == ("    x = 变量 + e\u0301y", " " * 8 + "^^^^")
    assert carets("e\u0301y z", 3, 1) == ("e\u0301y z", " ^")


def test_nothing_moves_the_terminals_cursor() -> None:
    text, marks = carets("a \x1b[2J\x07 z\u202e", 9, 1)
    assert text == "a \\x1b[2J\\x07 z\\u202e"
    assert marks.index("^") == text.index("z")
    assert "\x1b" not in render(CompactError("CIR104", "bad \x1b[31m name"))


def test_a_long_line_is_cut_around_the_place() -> None:
    text, marks = carets("x" * 5000 + "HERE" + "y" * 5000, 5001, 4)
    assert len(text) <= 120
    assert text[marks.index("^") : marks.rindex("^") + 1] == "HERE"
    assert text.startswith("...")
    assert text.endswith("...")
    _, marks = carets("z" * 10_000, 1, 10_000)
    assert len(marks) <= 120


def test_a_span_over_lines_is_marked_to_the_end_of_its_first() -> None:
    remember_source("model.arch", "ab {\n  c\n}\n")
    shown = render(CompactError("CIR104", "no", span=Span("model.arch", 1, 4, 3, 2)))
    assert shown.split("\n")[4] == "  |    ^"


@pytest.mark.parametrize(
    "span", [Span("gone.arch", 3, 1, 3, 2), Span("\0", 1, 1, 1, 2), Span("model.arch", 99, 1, 99, 2)]
)
def test_without_its_source_an_error_still_shows(span: Span) -> None:
    remember_source("model.arch", "one line")
    assert render(CompactError("CIR104", "no", span=span, help="do")).endswith("= help: do")


def test_the_source_is_read_from_the_file_when_nobody_parsed_it(tmp_path: Path) -> None:
    path = tmp_path / "a b.arch"
    path.write_text("first\r\nsecond\r\n", encoding="utf-8")
    shown = render(CompactError("CIR104", "no", span=Span(str(path), 2, 1, 2, 7)))
    assert shown.split("\n")[3:5] == ["2 | second", "  | ^^^^^^"]


def test_color_adds_only_escapes() -> None:
    one = error("x = 1", 1, 1, 1, notes=["why"], help="do")
    assert re.sub(r"\x1b\[[\d;]*m", "", render(one, color=True)) == render(one)


def test_several_errors() -> None:
    one, two = CompactError("CIR104", "first"), CompactError("CIR203", "second", help="do")
    both = CompactErrors([one, CompactErrors([two])])
    assert both.parts() == (one, two)
    assert (both.code, both.message) == ("CIR104", "first")
    assert render(both) == render(one) + "\n\n" + render(two)
    assert [e["code"] for e in render_json(both)["errors"]] == ["CIR104", "CIR203"]
    assert str(both) == "CIR104: first\nCIR203: second; help: do"


def test_json() -> None:
    record = render_json(error("x", 1, 1, 1, notes=["why"]))["errors"][0]
    assert record == {
        "code": "CIR203",
        "title": "channels do not split into the groups",
        "message": "60 channels do not split into 8 groups",
        "span": {"file": "model.arch", "line": 1, "column": 1, "end_line": 1, "end_column": 2},
        "notes": ["why"],
        "help": None,
    }


def test_errors_cross_process_borders() -> None:
    for one in (error("x", 1, 1, 1, notes=["a"], help="b"), CompactErrors([CompactError("CIR104", "no")])):
        assert str(pickle.loads(pickle.dumps(one))) == str(one)


def test_a_place_is_filled_in_once() -> None:
    here, there = Span("a", 1, 1, 1, 2), Span("b", 1, 1, 1, 2)
    one = CompactError("CIR104", "no").at(here, "first").at(there, "first", "second")
    assert one.span == here
    assert one.notes == ("first", "second")
    assert here.until(Span("a", 4, 5, 6, 7)) == Span("a", 1, 1, 6, 7)


def test_sources_are_not_kept_for_ever() -> None:
    for i in range(200):
        remember_source(f"{i}.arch", "text")
    assert "1 | text" not in render(CompactError("CIR104", "no", span=Span("0.arch", 1, 1, 1, 2)))
    assert "1 | text" in render(CompactError("CIR104", "no", span=Span("199.arch", 1, 1, 1, 2)))


def test_helpers() -> None:
    assert did_you_mean("widht", ["width", "height"]) == "did you mean `width`"
    assert did_you_mean("qqq", ["width"]) is None
    assert divisors(60) == [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60]
    assert [n for n in range(1, 200) if divisors(n) != [d for d in range(1, n + 1) if n % d == 0]] == []
    assert spell_list(["a"]) == "a"
    assert spell_list(["a", "b", "c"], "or") == "a, b or c"
    assert spell_list(list("abcd"), limit=2) == "a, b and 2 more"
    assert spell_list([]) == ""


# -- the catalogue -------------------------------------------------------------------------------------------


def test_the_catalogue_is_sorted_and_whole() -> None:
    codes = [entry.code for entry in _ENTRIES]
    assert codes == sorted(set(codes))
    for entry in _ENTRIES:
        assert re.fullmatch(r"CIR[1-6]\d\d", entry.code)
        assert not entry.title.endswith(".")
        assert entry.example
        for text in (entry.what, entry.why, entry.fix):
            assert text.endswith((".", "`.", ")", "`")), entry


def test_every_code_that_is_raised_is_in_the_catalogue_and_the_other_way_round() -> None:
    raised: dict[str, str] = {}
    for path in SOURCES:
        if path.name != "catalogue.py":
            for code in re.findall(r'"(CIR\d{3})"', path.read_text(encoding="utf-8")):
                raised.setdefault(code, path.name)
    assert {c: where for c, where in raised.items() if c not in CATALOGUE} == {}
    assert [c for c in CATALOGUE if c not in raised] == []


def test_explain() -> None:
    text = explain("cir203")
    assert text is not None
    assert text.startswith("CIR203: channels do not split into the groups\n")
    assert "    network n {" in text
    assert explain("CIR999") is None

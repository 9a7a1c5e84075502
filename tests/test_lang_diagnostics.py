"""Literate cases: each `tests/diagnostics/*.arch` says on the offending line which error it gives.

`# error: [CIR203] words` expects the code on that line, and the words in the message, a note or the help. A
line `# define: name=value` is a `-D`. Files under `lib/` are what the cases import.
"""

import re
from functools import cache
from pathlib import Path

import pytest

from compactir.diagnostics import CATALOGUE, CompactError, render, render_json
from compactir.lang import elaborate, parse, parse_file

CASES = sorted((Path(__file__).parent / "diagnostics").glob("*.arch"))
EXPECTED = re.compile(r"# error: \[(CIR\d{3})\](.*)")
FROM_OUTSIDE = {"CIR102": "bytes", "CIR109": "size", "CIR206": "text form", "CIR207": "text form"}
"""Codes of rooms 1xx and 2xx that no .arch file kept here can show, and what it takes."""


@cache
def error_of(path: Path) -> CompactError:
    text = path.read_text(encoding="utf-8")
    defines = dict(re.findall(r"^# define: (\w+)=(.*)$", text, re.MULTILINE))
    with pytest.raises(CompactError) as caught:
        elaborate(parse_file(path), defines=defines)
    return caught.value


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    error = error_of(path)
    text = render(error)
    assert error.span is not None, text
    line = Path(error.span.file).read_text(encoding="utf-8").split("\n")[error.span.line - 1]
    marked = EXPECTED.search(line)
    assert marked, f"the error is on a line without a mark:\n{text}"
    assert error.code == marked[1], text
    assert marked[2].strip() in "\n".join([error.message, *error.notes, error.help or ""])
    assert path.stem.startswith(error.code.lower()), "the file is called after its code"


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_rendering(path: Path) -> None:
    error = error_of(path)
    text = render(error)
    assert text.startswith(f"error[{error.code}]: ")
    assert "^" in text.split("\n")[4]
    assert error.message[0] == error.message[0].lower() or error.message[0] in "`0123456789-"
    assert not error.message.endswith(".")
    [record] = render_json(error)["errors"]
    assert record["code"] == error.code
    assert record["span"]["line"] == error.span.line  # type: ignore[union-attr]  # test_case shows that there is one
    assert "\x1b[" in render(error, color=True)
    assert "\x1b" not in text


def test_one_line_has_one_mark() -> None:
    for path in CASES:
        assert len(EXPECTED.findall(path.read_text(encoding="utf-8"))) <= 1, path


def test_every_code_has_a_case() -> None:
    shown = {path.stem[:6].upper() for path in CASES}
    ours = {code for code in CATALOGUE if code[3] in "12"}
    assert shown | set(FROM_OUTSIDE) == ours


@pytest.mark.parametrize(
    "code", [c for c in CATALOGUE if c[3] in "12" and not CATALOGUE[c].example.startswith("$")]
)
def test_catalogue_example(code: str) -> None:
    with pytest.raises(CompactError) as caught:
        elaborate(parse(CATALOGUE[code].example, "example.arch"))
    assert caught.value.code == code

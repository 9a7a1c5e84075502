"""`compactc fmt`: idempotent; keeps the syntax tree and every comment; one layout, at most 110 columns."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactir.diagnostics import CompactError
from compactir.lang import parse
from compactir.lang.format import WIDTH, format_text
from compactir.lang.source import scan

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("compactir/lang/std", "examples", "tests/diagnostics")
FILES = [path for name in FOLDERS for path in sorted((ROOT / name).glob("*.arch"))]


def parses(text: str) -> bool:
    try:
        parse(text)
    except CompactError:
        return False
    return True


TEXTS = [text for path in FILES if parses(text := path.read_text(encoding="utf-8"))]

UGLY = '''"""Title\x20\x20
  more
  """
import a,b as c from "x.arch"#hello
network n(width:float=1.0,classes : int=10,
  size:int = 3, k=3) {   # behind
  """One."""


  # about x
  input x:f32[3,size , size]; y=x
     -> conv( 3,kernel = 1 , pad=-1)->bn   # trailing
       # inner comment
     -> relu

  z = y->conv(3,kernel=3,connect=[[0,1 ,2],
   1 .. 3,
   # row comment
   [3 ],
   [3 ],[ 5]]) as z
  if a==-1 and not b{ y=x }
  else if c { y = x -> conv(3) ; z = 3 } else {

    y = 3
    # end comment
  }
  choice m=a+1{ k3:conv(3)->bn k5 :  conv(5)
    skip: identity
      -> relu }
  w = [
    1, 2,
    1/2
  ]
  w = [1,2,
   3 ,a[ 2 ],-x.channels** - 2]
  for i in 0..3 { }
}
def f(a) { return a }
# end
'''
TIDY = '''"""Title
more
"""
import a, b as c from "x.arch"  # hello
network n(width: float = 1.0, classes: int = 10,
          size: int = 3, k=3) {  # behind
  """One."""

  # about x
  input x: f32[3, size, size]
  y = x
      -> conv(3, kernel=1, pad=-1) -> bn  # trailing
      # inner comment
      -> relu

  z = y -> conv(3, kernel=3, connect=[[0, 1, 2],
                                      1..3,
                                      # row comment
                                      [3],
                                      [3], [5]]) as z
  if a == -1 and not b { y = x } else if c { y = x -> conv(3); z = 3 } else {
    y = 3
    # end comment
  }
  choice m = a + 1 {
    k3: conv(3) -> bn  k5: conv(5)
    skip: identity
        -> relu
  }
  w = [
    1, 2,
    1/2
  ]
  w = [1, 2,
       3, a[2], -x.channels ** -2]
  for i in 0..3 { }
}

def f(a) { return a }
# end
'''


def test_the_layout() -> None:
    assert format_text(UGLY) == TIDY


def test_long_lines_break_at_arrows_commas_and_braces() -> None:
    step = "conv(out, kernel=3, stride=stride) -> bn -> relu6"
    text = f"block b(x, out: int) {{\n  y = x -> {step} -> {step} -> {step}\n"
    text += f"  if out == 3 {{ y = y -> {step} -> {step} }}\n"
    text += "  w = [" + ", ".join(f"({i}, {i * i})" for i in range(0, 40, 2)) + "]\n  return y\n}\n"
    tidy = format_text(text)
    assert tidy == (
        "block b(x, out: int) {\n"
        f"  y = x -> {step} -> conv(out, kernel=3, stride=stride) -> bn\n"
        f"        -> relu6 -> {step}\n"
        "  if out == 3 {\n"
        f"    y = y -> {step} -> conv(out, kernel=3, stride=stride) -> bn\n"
        "          -> relu6\n"
        "  }\n"
        "  w = [(0, 0), (2, 4), (4, 16), (6, 36), (8, 64), (10, 100), (12, 144), (14, 196), (16, 256), "
        "(18, 324),\n"
        "       (20, 400), (22, 484), (24, 576), (26, 676), (28, 784), (30, 900), (32, 1024), (34, 1156), "
        "(36, 1296),\n"
        "       (38, 1444)]\n"
        "  return y\n}\n"
    )


def test_comments_before_a_closing_bracket_belong_to_the_contents() -> None:
    text = """\
network t {
  input x: f32[3, 8, 8]
  T = [
    [0, 1],  # first
    [1, 2]
    # last
  ]
  U = [0,
       # short
      ]
  output y = x -> conv(3, kernel=1, connect=[
    [0], [1], [2]
    # all
  ])
}
"""
    assert format_text(text) == text


def test_a_comment_too_long_for_its_line_moves_above() -> None:
    text = f"a = 1  # {'why ' * 30}\n"
    assert format_text(text) == f"# {('why ' * 30).strip()}\na = 1\n"


def test_text_that_does_not_parse_is_refused() -> None:
    with pytest.raises(CompactError, match="CIR104"):
        format_text("network n { y = }")


@pytest.mark.parametrize("path", [p for p in FILES if "diagnostics" not in str(p)], ids=lambda p: p.stem)
def test_our_own_files_are_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_text(text) == text, f"run `compactc fmt {path.relative_to(ROOT)}`"


def check(text: str) -> None:
    tidy = format_text(text)
    assert format_text(tidy) == tidy
    assert parse(tidy) == parse(text)
    assert [bare(c.text) for c in scan(tidy, "t")] == [bare(c.text) for c in scan(text, "t")]
    assert not re.search(r"[ \t]$", tidy, re.MULTILINE)
    code = re.sub(r'"""(?:[^"]|"(?!""))*"""|#.*', "", tidy)
    assert max(map(len, code.split("\n"))) <= WIDTH


def bare(comment: str) -> str:
    return comment.removeprefix("#").strip()


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_properties(text: str) -> None:
    check(text)


TOKEN = re.compile(
    r'"""(?:[^"]|"(?!""))*"""|"[^"\n]*"|#[^\n]*|\n|->|\.\.|\*\*|//|[<>=!]=|\d[\d._]*(?:e-?\d+)?|\w+|[^\s]'
)


def respaced(text: str, rng: random.Random) -> str:
    """The same program with blanks, line ends and comments scattered wherever they mean nothing."""
    out = ""
    nesting: list[str] = []
    for token in TOKEN.findall(text.replace("..", " .. ")):
        free = bool(nesting) and nesting[-1] in "(["
        if token in "([{":
            nesting.append(token)
        elif token in ")]}" and nesting:
            nesting.pop()
        comment = f"  #{rng.choice(['', ' '])}note {rng.randrange(99)}\n"
        gaps = ["", " ", "   "] if token == "\n" else [" ", " ", "  "]
        if free and token == "{":
            gaps += ["\n"]
        elif free:
            gaps += ["\n", "\n\n  ", comment]
        if token == "->":
            gaps += ["\n ", comment, "\n\n"]
        if token == "\n" and rng.random() < 0.2:
            gaps += [comment]
        out += rng.choice(gaps) + token
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([*TEXTS, UGLY]))
def test_properties_of_scattered_texts(seed: int, text: str) -> None:
    scattered = respaced(text, random.Random(seed))
    assert parse(scattered) == parse(text)
    check(scattered)

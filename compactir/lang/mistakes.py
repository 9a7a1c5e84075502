"""Typical mistakes and what to say about them: examples to compare an error with, and words for tokens."""

from __future__ import annotations

from collections.abc import Iterable

EXAMPLES: dict[str, list[str]] = {
    "two values stand side by side | put `->`, an operator, a comma or a line end between them": [
        "network n { y = x conv(3) }",
        "network n { y = x 3 }",
        "network n { y = 3 4 }",
        "network n { y = x -> bn relu }",
        "network n { y = x -> conv(3) relu }",
        'network n { y = x "same" }',
        "network n { y = x -> conv(3) 4 }",
        "network n { y = x -> conv(3 4) }",
    ],
    "arguments stand side by side | separate them with commas; a named one is `name=value`": [
        "network n { y = x -> conv(3 stride=2) }",
        "network n { y = x -> conv(3, stride 2) }",
        "network n { y = x -> conv(3, stride true) }",
    ],
    "list elements stand side by side | separate them with commas": [
        "network n { y = [1 2] }",
        "network n { y = [1, 2 3] }",
        "network n { y = [a b] }",
    ],
    "`=` gives a name a value | compare with `==`": [
        "network n { if a = 3 { } }",
        "network n { if a.b = 3 { } }",
        "network n { if a == 2 and b = 3 { } }",
        "network n { y = 1 if a = 3 else 2 }",
    ],
    "`:=` and `y: type =` do not exist | write `y = value`": [
        "network n { y := 3 }",
        "network n { y: int = 3 }",
    ],
    "`+=` and its like do not exist | write `c = c + 1`": [
        "network n { y += 3 }",
        "network n { y -= 3 }",
        "network n { y *= 3 }",
    ],
    "the value is not kept | write `y = x -> ...`": [
        "network n { x -> conv(3) }",
        "network n { y = 3\n x -> conv(3) }",
        "network n { relu(x) }",
        "network n { y = 3\n relu(x) }",
        "network n { x.channels }",
        "network n { x }",
        "network n { y = 3\n x\n }",
    ],
    "`->` must be followed by a step | a step is an operation, block or choice with its arguments": [
        "network n { y = x -> }",
        "network n { y = x ->\n }",
        "network n { y = x -> 3 }",
        "network n { y = x -> -> relu }",
        "network n { y = x -> (conv) }",
        "network n { y = x -> [conv] }",
        "network n { y = x -> if }",
        'network n { y = x -> "relu" }',
    ],
    "`.` reads a property, it does not call | a step is written `x -> conv(8, kernel=3)`": [
        "network n { y = x.conv(3) }",
        "network n { y = x.conv(3).relu(4) }",
    ],
    "a body stands in braces | write `{ ... }`, without a colon": [
        "network n:\n",
        "network n(a: int):\n",
        "block n(x):\n",
        "def f(x: int):\n",
        "def f(x: int) -> int:\n",
        "network n { if a: }",
        "network n { for i in 0..3: }",
        "network n { if a { } else: }",
    ],
    "a body in braces must follow": [
        "network n\n",
        "network n(a: int)\n",
        "block b(x)\n",
        "def f(x) -> int\n",
        "network n { if a\n y = 3 }",
        "network n { for i in 0..3\n y = 3 }",
        "network n { for i in 0..3 y = 3 }",
        "network n { if a y = 3 }",
    ],
    "a block names no result type | its tensors know their shapes: remove `-> ...`": [
        "block b(x) -> tensor { }",
        "block b(x: int) -> int { }",
    ],
    "a name must follow": [
        "network { }",
        "network 3 { }",
        "block (x) { }",
        "block 3(x) { }",
        "def (x) { }",
        "network for { }",
        "block if(x) { }",
    ],
    "a block lists its parameters in brackets | write `block name(x) { ... }`": [
        "block b { }",
        "def f { }",
    ],
    "a parameter is `name`, `name: type` or `name: type = default`": [
        "block b(x int) { }",
        "block b(3) { }",
        "block b(x: 3) { }",
        "block b(x: int int) { }",
        "block b(x = ) { }",
        "block b(x: int = ) { }",
        "network n(x: ) { }",
        'block b("x") { }',
        "network n(x: int = 3 y: int) { }",
    ],
    "an input is `input name: f32[channels, height, width]`": [
        "network n { input x }",
        "network n { input x\n y = 3 }",
        "network n { input x = 3 }",
        "network n { input x: f32 }",
        "network n { input x: f32\n y = 3 }",
        "network n { input x: [3] }",
        "network n { input x: f32[] }",
        "network n { input x: 3 }",
        "network n { input x: f32(3) }",
        "network n { input x, y: f32[3] }",
    ],
    "`else` belongs to no `if` | it follows the closing brace of an `if`": [
        "network n { else { } }",
        "network n { y = 3\n else { } }",
        "network n { y = 3 else 4 }",
    ],
    "a conditional value needs an `else` | write `a if condition else b`": [
        "network n { y = 3 if a }",
        "network n { y = 3 if a\n z = 3 }",
        "network n { y = f(3 if a) }",
        "network n { y = f(3 if a, 4) }",
    ],
    "comparisons do not chain | write `a < b and b < c`": [
        "network n { y = a < b < c }",
        "network n { if a == b == c { } }",
    ],
    "`not in` does not exist | write `not (a in b)`": [
        "network n { y = a not in b }",
    ],
    "a value must follow": [
        "network n { y = }",
        "network n { y = \n}",
        "network n { y = 3 + }",
        "network n { y = 3 * }",
        "network n { y = 3 ** }",
        "network n { y = 3.. }",
        "network n { y = a == }",
        "network n { y = a and }",
        "network n { y = not }",
        "network n { y = - }",
        "network n { if { } }",
        "network n { for i in { } }",
        "network n { y = f(, 3) }",
        "network n { y = f(a=) }",
        "network n { y = f(a=, 3) }",
        "network n { y = [, 3] }",
        "network n { output y = }",
        "network n { y = 3 if else 4 }",
        "network n { y = 3 if a else }",
        "network n { assert }",
        "network n { y = a[] }",
        "network n { y = () }",
    ],
    "`return` must name what it returns": [
        "block b(x) { return }",
        "block b(x) { return\n }",
        "block b(x) { return\n y = 3 }",
    ],
    'an import is `import name, other from "file.arch"`': [
        'import "std/blocks.arch"',
        "import a",
        "import a\nnetwork n { }",
        "import a from b",
        "import a.b",
        'from "a" import b',
        "from a import b",
        'import a, from "b"',
        'import a as 3 from "b"',
        'import (a) from "b"',
        'import * from "b"',
    ],
    "networks and blocks stand at the top of the file, not inside each other": [
        "network n { network m { } }",
        "network n { block b(x) { } }",
        "network n { def f(x) { } }",
        'network n { import a from "b" }',
        "block a(x) { y = 3\n block b(x) { } }",
    ],
    "this statement belongs inside a network or block": [
        "for i in 0..3 { }",
        "if a { }",
        "input x: f32[3]",
        "output y = 3",
        "return 3",
        'weights "a"',
        "choice a { b: c }",
        "assert a",
        "{ }",
    ],
    'a choice is `choice name = "first" { first: step -> step  second: step }`': [
        "network n { choice c = { } }",
        "network n { choice c { } }",
        "network n { choice c { a } }",
        "network n { choice c { a: } }",
        "network n { choice c { conv(3) } }",
        "network n { choice c { a: b, c: d } }",
    ],
    "several names or values stand in brackets: `(a, b)`": [
        "network n { a, b = c }",
        "network n { a = b, c }",
        "network n { a = b -> c, d }",
        "network n { a = 3, 4 }",
        "network n { for a, b in c { } }",
        "block n(x) { return x, x }",
        "block n(x) { return x -> c, x }",
    ],
    'a label is `as name` or `as "name{i}"`': [
        "network n { y = x -> conv(3) as }",
        "network n { y = x -> conv(3) as 3 }",
        "network n { y = x -> conv(3) as for }",
        "network n { y = x as }",
    ],
    "a loop is `for name in values { ... }`": [
        "network n { for { } }",
        "network n { for i { } }",
        "network n { for i = 3 { } }",
        "network n { for 3 in a { } }",
        "network n { for (i) in a { } }",
    ],
    "braces hold statements | a list is written `[a, b]`": [
        "network n { y = { } }",
        "network n { y = {a: 3} }",
        "network n { y = f({}) }",
    ],
}
"""`message | help` -> texts that make this mistake; the parser's state and token at the error decide."""

ENDS_VALUE = frozenset({"NAME", "INT", "FLOAT", "STRING", "TRUE", "FALSE", "RPAR", "RSQB"})
_BEGINS_VALUE = frozenset({"NAME", "INT", "FLOAT", "STRING", "TRUE", "FALSE", "LSQB", "LPAR"})
_NEEDS_VALUE = frozenset(
    {
        "PLUS",
        "MINUS",
        "TIMES",
        "POWER",
        "COMPARE",
        "AND",
        "OR",
        "NOT",
        "EQUAL",
        "_DOTS",
        "IN",
        "RETURN",
        "COMMA",
    }
)

PAIRS: list[tuple[frozenset[str], frozenset[str] | None, str]] = [
    (
        frozenset({"_ARROW"}),
        None,
        "`->` must be followed by a step | a step is an operation, block or choice with its arguments",
    ),
    (
        ENDS_VALUE,
        _BEGINS_VALUE,
        "two values stand side by side | put `->`, an operator, a comma or a line end between them",
    ),
    (ENDS_VALUE, frozenset({"EQUAL"}), "`=` gives a name a value | compare with `==`"),
    (_NEEDS_VALUE, None, "a value must follow"),
    (frozenset({"AS"}), None, 'a label is `as name` or `as "name{i}"`'),
]
"""Token before, token at the error (None: any) -> `message | help`, where no example fits."""

WORDS = {
    "elif": "`else if` is two words",
    "elseif": "`else if` is two words",
    "while": "`while` does not exist | a loop always ends: `for i in 0..n { ... }`",
    "let": "`let` does not exist | write `y = value`",
    "var": "`var` does not exist | write `y = value`",
    "lambda": "`lambda` does not exist | declare a function: `def name(v: int) -> int { return ... }`",
    "class": "`class` does not exist | a piece of a network is `block name(x) { ... }`",
    "fn": "`fn` does not exist | write `def` for a function of numbers, `block` for a piece of a network",
    "func": "`func` does not exist | write `def` for a function of numbers, `block` for a piece of a network",
}
"""Words of other languages -> `message | help`."""

TOKEN_NAMES = {
    "NAME": "a name",
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "a string",
    "DOCSTRING": "a docstring",
    "_NL": "a line end",
    "SEMICOLON": "`;`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "DOT": "`.`",
    "_ARROW": "`->`",
    "_DOTS": "`..`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "TIMES": "`*`",
    "POWER": "`**`",
    "COMPARE": "a comparison",
    "_INPUT": "`input`",
    "_OUTPUT": "`output`",
    "_CHOICE": "`choice`",
    "_WEIGHTS": "`weights`",
    "$END": "the end of the file",
}

_INSTEAD = {
    "'": 'strings stand in double quotes: `"same"`',
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or `!=` to compare",
    "=>": "an arrow is `->`",
    "/": "a comment begins with `#`",
    "^": "a power is written `**`",
    "\u2192": "an arrow is written `->`",
    "\u00d7": "a product is written `*`",
    "\u2212": "a minus is written `-`",
    "\u2026": "a range is written `a..b`",
    "\u201c": 'a string stands in straight double quotes: `"same"`',
    "\u201d": 'a string stands in straight double quotes: `"same"`',
}


def unexpected_character(character: str) -> tuple[str, str | None]:
    """Message and help for a character that begins nothing."""
    shown = f"`{character}`" if character.isprintable() else f"the character U+{ord(character):04X}"
    help = _INSTEAD.get(character)
    if help is None and character.isalpha():
        help = "names are written with the letters a to z, digits and `_`"
    return f"{shown} has no meaning here", help


def one_of(expected: Iterable[str]) -> str:
    """Words for the tokens that could have stood there; empty when there are too many."""
    words = sorted({TOKEN_NAMES.get(name, f"`{name.lower()}`") for name in expected if name != "SEMICOLON"})
    return f"expected {', '.join(words)}" if len(words) <= 6 else ""

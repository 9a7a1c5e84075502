"""What the scripts here take on their command lines; a word that means nothing ends with exit code 2."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

from compactir.diagnostics import CompactError, did_you_mean
from compactir.targets import load_target, unsupported

__all__ = ["a_count", "a_definition", "a_target", "a_target_that_runs", "an_example"]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def an_example(name: str) -> str:
    """The name of a model in examples/."""
    known = sorted(path.stem for path in EXAMPLES.glob("*.arch"))
    if name not in known:
        raise ArgumentTypeError(f"`{name}` is no example; {did_you_mean(name, known) or ', '.join(known)}")
    return name


def a_target(name: str) -> str:
    """The name of a target."""
    try:
        load_target(name)
    except CompactError as error:
        raise ArgumentTypeError(f"{error.message}; {error.help}") from None
    return name


def a_target_that_runs(name: str) -> str:
    """The name of a target whose code this machine runs."""
    if why := unsupported(load_target(a_target(name))):
        raise ArgumentTypeError(f"`{name}` needs {', '.join(why)}, which this machine has not")
    return name


def a_definition(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"`{text}` is not NAME=VALUE")
    return name, value


def a_count(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"`{text}` is not a whole number of at least 1")
    return int(text)

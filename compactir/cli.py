"""`compactc`: reads the command line, calls the verb's function, turns what goes wrong into messages.

Exit codes: 0 fine, 1 a mistake in what was given, 2 in the command line, 70 a bug of ours, 130 interrupted.
Until the words are judged every mistake is one of the command line; from then on it is one of the files.
Nothing heavy is imported before a verb runs, so that `compactc --help` answers at once.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from compactir.tools.options import Option
from compactir.tools.usage import check_places, judge, module_of
from compactir.tools.verbs import BY_NAME, VERBS, Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

FINE, MISTAKE, USAGE, OURS, INTERRUPTED = 0, 1, 2, 70, 130
TRACEBACK = "COMPACTIR_TRACEBACK"
PATHS = ("file", "folder", "model", "out", "outdir", "compiler")
MODEL_ENDINGS = (".arch", ".cir", ".onnx")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_what_is_closed()
    _write_any_character()
    try:
        return _main(words)
    finally:
        _leave_nothing_to_write()


def _main(words: Sequence[str]) -> int:
    wrong = USAGE
    try:
        with _terminable():
            try:
                args = parse(words)
                judge(args.verb, args)
                wrong = MISTAKE
                code = _run(args)
            except SystemExit as stop:  # --help, --version
                code = stop.code if isinstance(stop.code, int) else FINE
            if sys.stdout:
                sys.stdout.flush()
            return code
    except SystemExit as stop:  # SIGTERM while that was written
        return stop.code if isinstance(stop.code, int) else FINE
    except KeyboardInterrupt:
        _complain("interrupted: nothing was left half-written")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough: `compactc report net.arch | head`
        _drop(sys.stdout)
        return FINE
    except Exception as error:
        if os.environ.get(TRACEBACK):
            import traceback

            traceback.print_exc()
        return _report(error, wrong, "--json" in words)


# -- reading the command line --------------------------------------------------------------------------------


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command as a namespace: `verb` and its options. Errors: CIR600; SystemExit after `--help`."""
    if not words or words[0] in ("-h", "--help", "help"):
        return _help(words)
    if words[0] in ("-V", "--version"):
        from compactir import __version__

        print(f"compactc {__version__}")
        raise SystemExit(FINE)
    name, rest = _verb(words)
    verb = BY_NAME[name]
    parser = make_parser(verb)
    args, unknown = parser.parse_known_intermixed_args(rest)
    if unknown:
        parser.error(_unknown(unknown[0], verb))
    args.verb = verb
    _check_use(parser, args)
    return args


def _check_use(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Usage error for an option that changes nothing, or a value that another one replaces."""
    from compactir.tools.unused import unused_options

    for option, why in unused_options(args.verb, args):
        parser.error(f"`{option}` changes nothing here: {why}")
    for option in args.verb.options:
        if (
            option.kind in ("file", "folder", "model", "out", "outdir")
            and getattr(args, option.name, None) == ""
        ):
            parser.error(f"`{option.flags[-1] if option.flags else option.metavar}` is empty")
    for option in args.verb.options:
        names = [name for name, _ in getattr(args, option.name)] if option.kind == "define" else []
        if twice := [name for name in names if names.count(name) > 1]:
            parser.error(f"`{option.flags[0]} {twice[0]}` is given twice")


def _verb(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The verb and what follows; a model among the words means `compile`."""
    first = words[0]
    if first in BY_NAME:
        return first, words[1:]
    if any(_is_model(word) for word in (words if first.startswith("-") else words[:1])):
        return "compile", words
    if first.startswith("-"):
        known = [flag for option in BY_NAME["compile"].options for flag in option.flags]
        if first.partition("=")[0] in known:
            _usage_error("there is no model on the command line", "`compactc MODEL.arch` compiles a model")
        _usage_error(f"unknown option `{first}`", _near(first, known))
    if os.path.isdir(first):
        _usage_error(
            f"`{first}` is a folder, not a model",
            f"`compactc run {first} FILE` runs what was compiled into it",
        )
    _usage_error(f"`{first}` is neither a verb nor a file", _near(first, [*BY_NAME, *_models_here()]))


def _is_model(word: str) -> bool:
    return not word.startswith("-") and (word.endswith(MODEL_ENDINGS) or os.path.isfile(word))


def _models_here() -> list[str]:
    return [path.name for ending in MODEL_ENDINGS for path in Path().glob(f"*{ending}")]


def make_parser(verb: Verb) -> argparse.ArgumentParser:
    """The parser of one verb."""
    parser = _Parser(
        prog=f"compactc {verb.name}",
        description=verb.about,
        epilog=_examples(verb),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    for option in verb.options:
        _add(parser, option)
    return parser


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    settings: dict[str, Any] = {"help": option.help}
    if option.kind == "flag":
        settings["action"] = "store_true"
    else:
        settings |= {"metavar": option.metavar or None, "default": option.default, "type": _reader(option)}
    if not option.flags:
        count: dict[str, Any] = {"nargs": option.count} if option.count else {}
        parser.add_argument(option.name, **settings, **count)
        return
    if option.count == "+":
        settings |= {"action": "append", "default": []}
    elif option.kind != "flag":
        settings["action"] = _Once
    if option.count == "?":
        settings |= {"nargs": "?", "const": option.alone}
    parser.add_argument(*option.flags, dest=option.name, **settings)


def _reader(option: Option) -> Callable[[str], Any]:
    """How the text of an option becomes a value."""
    if option.kind == "choice":
        return lambda text: _one_of(text, option.choices)
    if option.kind == "list":
        return lambda text: _distinct([_one_of(word.strip(), option.choices) for word in text.split(",")])
    if option.most:
        return lambda text: _at_most(_count(text), option.most)
    return READERS.get(option.kind, str)


def _distinct(words: Sequence[str]) -> tuple[str, ...]:
    for word in words:
        if words.count(word) > 1:
            raise argparse.ArgumentTypeError(f"it names `{word}` twice")
    return tuple(words)


def _one_of(text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        hint = _near(text, choices) or f"it is one of {', '.join(choices)}"
        raise argparse.ArgumentTypeError(f"`{text}` is not known; {hint}")
    return text


def _define(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        lacks = "has no name before the `=`" if equals else "has no `=`"
        raise argparse.ArgumentTypeError(f"`{text}` {lacks}; write NAME=VALUE")
    return name.strip(), value.strip()


def _seed(text: str) -> int:
    number = text.removeprefix("seed=")
    if not (number.isascii() and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"`{text}` is no seed; write --init seed=1")
    return int(number)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is not a whole number of at least 1")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(_count(word.strip()) for word in text.split(","))
    if len(set(counts)) < len(counts):
        raise argparse.ArgumentTypeError(f"`{text}` names a number twice")
    return counts


def _at_most(number: int, most: int) -> int:
    if number > most:
        raise argparse.ArgumentTypeError(f"`{number}` is more than {most:,}")
    return number


def _decimal(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"`{text}` is not a number")
    return number


def _percent(text: str) -> float:
    number = _decimal(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"`{text}` is not a percentage, from 0 to 100")
    return number


def _decimals(text: str) -> tuple[float, ...]:
    return tuple(_decimal(word) for word in text.split(","))


READERS: dict[str, Callable[[str], Any]] = {
    "define": _define,
    "init": _seed,
    "number": _count,
    "threads": _count,
    "counts": _counts,
    "percent": _percent,
    "floats": _decimals,
}
"""Kind of an option → how its text is read; other kinds are texts."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (?:\S+/)?(\S+): ", r"`\1`: ", message)
        _usage_error(message, f"`{self.prog} --help` shows how it is used")

    def print_help(self, file: Any = None) -> None:
        """As argparse does, but what the system refuses is an error."""
        print(self.format_help(), end="", file=file)


class _Once(argparse.Action):
    """Stores a value; a second one is a mistake, not a replacement."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given: set[str] = vars(namespace).setdefault("given_once", set())
        if self.dest in given:
            parser.error(f"`{option_string}` is given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Help(argparse.RawDescriptionHelpFormatter):
    """argparse's help with a wider column for the options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def _usage_error(message: str, help: str | None) -> NoReturn:
    from compactir.diagnostics import CompactError

    raise CompactError("CIR600", message, help=help)


def _unknown(word: str, verb: Verb) -> str:
    if not word.startswith("-"):
        return f"`{word}` is one argument too many"
    near = _near(word.partition("=")[0], [flag for option in verb.options for flag in option.flags])
    return f"unknown option `{word}`" + (f"; {near}" if near else "")


def _near(word: str, known: Sequence[str]) -> str | None:
    from compactir.diagnostics import did_you_mean

    return did_you_mean(word, known)


# -- help ----------------------------------------------------------------------------------------------------


def _help(words: Sequence[str]) -> NoReturn:
    """`compactc --help`, `compactc help`, `compactc help VERB`; without any words it is a usage error."""
    if len(words) > 1 and words[0] == "help":
        if words[1] not in BY_NAME:
            near = _near(words[1], list(BY_NAME))
            _usage_error(f"there is no verb `{words[1]}`", near or "`compactc --help` lists them")
        make_parser(BY_NAME[words[1]]).print_help()
        raise SystemExit(FINE)
    print(overview(), end="", file=sys.stdout if words else sys.stderr)
    raise SystemExit(FINE if words else USAGE)


def overview() -> str:
    """What `compactc --help` prints."""
    width = max(len(verb.name) for verb in VERBS)
    verbs = "\n".join(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS)
    examples = _examples(*VERBS[:3], limit=2)
    return (
        "usage: compactc MODEL.arch [options]\n"
        "       compactc VERB [options]\n\n"
        "Compile compact convolutional networks to plain C and PyTorch.\n\n"
        f"verbs:\n{verbs}\n\n{examples}\n"
        "`compactc VERB --help` explains a verb; `compactc compile --help` has the options of compiling.\n"
        "Exit codes: 0 fine, 1 a mistake in what was given, 2 in the command line,\n"
        "            70 a bug of ours, 130 interrupted.\n"
    )


def _examples(*verbs: Verb, limit: int = 9) -> str:
    rows = [example for verb in verbs for example in verb.examples[:limit]]
    width = max(len(command) for command, _ in rows)
    return "examples:\n" + "".join(
        f"  {command:<{width}}  {comment}".rstrip() + "\n" for command, comment in rows
    )


# -- running, and what goes wrong ----------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    check_places(args.verb, args)
    run: Callable[[argparse.Namespace], int] = getattr(module_of(args.verb), args.verb.run.partition(":")[2])
    return run(args)


def _report(error: Exception, code: int, as_json: bool) -> int:
    """Print an error; returns the exit code: `code`, unless it is the system's or a bug of ours.

    With --json it goes to standard output, or where nothing can be written there to the other one.
    """
    from compactir.diagnostics import BUGS, CompactError, render, render_json

    if isinstance(error, OSError | MemoryError):
        error, code = _of_the_system(error), MISTAKE
    if not isinstance(error, CompactError):
        return _our_bug(error)
    if not (as_json and _printed(render_json(error))):
        _complain(render(error, color=_colorful()))
    return OURS if error.code in BUGS else code


def _printed(error: Any) -> bool:
    """Whether standard output takes it, all of it."""
    import json

    try:
        print(json.dumps(error, indent=2, ensure_ascii=False), flush=True)
    except BrokenPipeError:  # nobody reads it any more
        return True
    except OSError:
        return False
    return True


def _of_the_system(error: OSError | MemoryError) -> Exception:
    """A full disk, a folder without permission, no memory left: what no verb expected, and no bug either."""
    from compactir.diagnostics import CompactError

    if isinstance(error, MemoryError):
        return CompactError("CIR673", "the memory is full", help="try a smaller `--batch`, or input size")
    reason = (error.strerror or str(error)).lower()
    where = f"`{error.filename}`: " if error.filename else ""
    help = None if where else "look at where standard output goes, and temporary files (TMPDIR)"
    return CompactError("CIR674", f"the system refuses: {where}{reason}", help=help)


def _our_bug(error: Exception) -> int:
    from compactir import __version__

    _complain(
        f"compactc: {type(error).__name__}: {error}\n"
        f"  note: this is a bug of ours (compactir {__version__}), not a mistake in your file\n"
        f"  help: {TRACEBACK}=1 shows the traceback: please report it with the command and the model"
    )
    return OURS


def _colorful() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _complain(text: str) -> None:
    if sys.stderr:
        with suppress(OSError):
            print(text, file=sys.stderr)


def _open_what_is_closed() -> None:
    """A stream that is closed (`>&-`) leads nowhere, as if it were /dev/null; there is nothing to read.

    Its descriptor is taken too: the next file that is opened would get it, and what compilers print with it.
    """
    with suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _drop(stream: Any) -> None:
    """Let nothing be written any more when Python ends; a captured stream has no file descriptor."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave_nothing_to_write() -> None:
    """What a full disk did not take Python would try again at its end, with a traceback and exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop(stream)


def _write_any_character() -> None:
    """Where the terminal knows no arrows, it gets question marks instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds like an exception, so that temporary files are removed; only in the main thread."""

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

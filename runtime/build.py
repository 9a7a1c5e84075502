"""C compilers: finding one, asking what it is, letting it build a library or a program. No shell is involved.

    compiler = find_compiler(load_target("x86"))
    compile_library([Path("net.c")], Path("libnet.so"), load_target("x86"), compiler)

Sources are compiled from within their own folder under their bare name, so that no path gets into what is
built and an assembler file can say `.incbin "net.weights"`. Results are moved into place when complete.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compactir.diagnostics import CompactError, spell_list
from compactir.files import replacing
from compactir.runtime.cache import open_cache
from compactir.targets import Target, machine

__all__ = [
    "Compiler",
    "check_compiler",
    "compile_archive",
    "compile_library",
    "compile_program",
    "find_compiler",
    "incbin_source",
    "replace_file",
]

LANGUAGE = ("-std=c99",)
SHARED = ("-fPIC", "-fvisibility=hidden")
THREADS = ("-pthread",)
"""For code that is compiled for several threads."""
FREESTANDING = (
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)
"""For code without a library. A linker script can place each function, and drop what nobody calls."""
LINK = ("-Wl,-S",)
"""Drops the debug information of zig's own support code (760 KB on Arm); function names stay. What is linked
without it takes another build of zig's C library."""
LINK_SHARED = ("-shared", "-fPIC", "-Wl,-Bsymbolic", "-Wl,--no-undefined")
"""-Bsymbolic: a library calls its own functions, even where the program around it has others of that name."""
LIBRARIES = ("-Wl,--as-needed", "-lm")
"""libm only where the compiler made a call of it (`sqrtf` of a negative number, without -fno-math-errno)."""

_PATIENCE_S = 5
_EXCERPT_LINES = 12
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "i386": "i686", "i486": "i686", "i586": "i686"}
_log = logging.getLogger("compactir")


@dataclass(frozen=True)
class Compiler:
    """A C compiler that answered."""

    command: tuple[str, ...]
    """The start of its command line: `("/usr/bin/gcc",)`, `("…/zig", "cc")`."""
    family: str
    """How it spells machine flags: "gcc", "clang" or "zig"."""
    version: str
    """The first line it says about itself."""
    machine: str
    """What it makes code for unless told otherwise: `x86_64`, `aarch64`, …; "" for any (zig, clang)."""
    stamp: str = ""
    """Size and time of its program file: another build of the same version counts as another compiler."""

    @property
    def identity(self) -> str:
        """Everything that may change what it produces; part of every cache key."""
        return "\0".join([*self.command, self.family, self.version, self.machine, self.stamp])

    def record(self, flags: Sequence[str]) -> dict[str, Any]:
        """What a manifest says about the compiler of a library; nothing about where it lies."""
        given = [word for word in self.command[1:] if word.startswith("-")]
        return {"family": self.family, "version": self.version, "flags": [*given, *flags]}

    @property
    def name(self) -> str:
        """Its name for messages: `gcc`, `zig cc`."""
        return " ".join([Path(self.command[0]).name, *self.command[1:]])


# -- finding one ---------------------------------------------------------------------------------------------


def find_compiler(target: Target, cc: str | None = None, *, like: str = "") -> Compiler:
    """The compiler for a target.

    In this order: `cc` (the option --cc), COMPACTIR_CC, CC (where it makes code for the target at all: people
    set it for their own machine), what `Target.compilers` names: for this machine its own compiler, for
    another one zig. Of the last, one whose version is `like` comes before the others.

    Raises:
        CompactError: CIR510 when there is none; CIR512 when one that was asked for does not run; CIR513 when
            it makes code for another machine.
    """
    for origin, wanted in (("--cc", cc), ("COMPACTIR_CC", os.environ.get("COMPACTIR_CC"))):
        if wanted and wanted.strip():
            return _demanded(wanted, origin, target)
    if (wanted := os.environ.get("CC", "").strip()) and (found := _demanded_or_foreign(wanted, target)):
        return found
    usual = (compiler for compiler in _usual(target) if _makes_code_for(compiler, target))
    if (first := next(usual, None)) is None:
        raise _none_found(target)
    if not like or first.version == like:
        return first
    return next((compiler for compiler in usual if compiler.version == like), first)


def check_compiler(cc: str, origin: str = "--cc") -> Compiler:
    """The compiler that the user named, whatever it makes code for. Errors: CIR512 where it does not run."""
    if (compiler := _ask(_command(cc))) is None:
        raise CompactError(
            "CIR512",
            f"the compiler `{cc}` cannot be run",
            notes=[f"it was asked for by {origin}"],
            help="give the name or the full path of a C compiler, or leave it out and let compactc find one",
        )
    return compiler


def _demanded(cc: str, origin: str, target: Target) -> Compiler:
    """The compiler that the user named, or the error why not."""
    compiler = check_compiler(cc, origin)
    if not _makes_code_for(compiler, target):
        raise CompactError(
            "CIR513",
            f"`{compiler.name}` compiles for {compiler.machine}, not for {target.machine} (`{target.name}`)",
            notes=[f"it was asked for by {origin}"],
            help=f"use {spell_list([f'`{name}`' for name in target.compilers()], 'or')}",
        )
    return compiler


def _demanded_or_foreign(cc: str, target: Target) -> Compiler | None:
    """The compiler of CC; None where it is for another machine than the target."""
    try:
        return _demanded(cc, "CC", target)
    except CompactError as error:
        if error.code == "CIR513":
            return None
        raise


def _usual(target: Target) -> Iterator[Compiler]:
    """What is installed, best first; each is asked only when its turn comes."""
    for name in target.compilers():
        if (compiler := _ask(_command(name))) is not None:
            yield compiler


def _command(cc: str) -> tuple[str, ...]:
    """`ccache gcc` → two words, a path with blanks → one; `zig` → the zig that pip installed, and `cc`."""
    words = [cc] if Path(cc).is_file() else _words(cc)
    if Path(words[0]).name in ("zig", "python-zig"):
        program = shutil.which(words[0]) if words[0] != "zig" else _pip_zig() or shutil.which("zig")
        return (program or words[0], "cc", *(word for word in words[1:] if word != "cc"))
    return (shutil.which(words[0]) or words[0], *words[1:])


def _words(cc: str) -> list[str]:
    """At least one: what is blank, or lacks a closing quotation, is the name of nothing."""
    try:
        return shlex.split(cc) or [cc]
    except ValueError:
        return [cc]


def _pip_zig() -> str | None:
    """The program inside the pip package ziglang; the package itself is a launcher that is not needed."""
    spec = find_spec("ziglang")
    places = [Path(folder) / "zig" for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((str(program) for program in places if os.access(program, os.X_OK)), None)


def _ask(command: tuple[str, ...]) -> Compiler | None:
    """What kind of compiler this is; None where it does not run."""
    try:
        info = Path(command[0]).stat()
    except OSError:
        return None
    return _ask_once(command, f"{info.st_size} {info.st_mtime_ns}")


@cache
def _ask_once(command: tuple[str, ...], stamp: str) -> Compiler | None:
    if "cc" in command[1:] and (version := _answer((command[0], "version"))):
        return Compiler(command, "zig", f"zig {version}", "", stamp)
    said = _said((*command, "--version"))
    if not (version := said.partition("\n")[0]):
        return None
    if _is_zig(said):
        return Compiler(command, "zig", f"zig, which says: {version}", "", stamp)
    if "clang" in version:
        return Compiler(command, "clang", version, "", stamp)
    return Compiler(command, "gcc", version, _machine_of(_answer((*command, "-dumpmachine"))), stamp)


def _is_zig(said: str) -> bool:
    """Whether a "clang" is zig by another name: `zig` stands beside it, or it has a version of the kernel."""
    if (folder := _installed(said)) and (folder / "zig").is_file():
        return True
    return re.search(r"^Target: .*-linux\d+\.\d+.*-", said, re.MULTILINE) is not None


def _installed(said: str) -> Path | None:
    """The folder that a clang says it lives in."""
    found = re.search(r"^InstalledDir: (.+)$", said, re.MULTILINE)
    return Path(found[1]) if found else None


def _answer(argv: tuple[str, ...]) -> str:
    """The first line a program prints, "" where it fails."""
    return _said(argv).partition("\n")[0]


def _said(argv: tuple[str, ...]) -> str:
    """What a program prints, "" where it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=60, env=_environment())
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def _machine_of(triple: str) -> str:
    """`x86_64-linux-gnu` → `x86_64`, `armv7l-…` and `arm-…` → `arm`."""
    first = triple.partition("-")[0].lower()
    return "arm" if first.startswith("arm") and first != "arm64" else _MACHINES.get(first, first)


def _makes_code_for(compiler: Compiler, target: Target) -> bool:
    return not target.machine or compiler.machine in ("", target.machine)


def _none_found(target: Target) -> CompactError:
    package = "gcc" if target.is_native else f"gcc-{target.triple.replace('_', '-')}"
    names = spell_list([f"`{name}`" for name in target.compilers() if name != "zig"])
    looked = f"{names} are not on the PATH, and" if "and" in names else f"{names} is not on the PATH, and"
    ways = ['`pip install "compactir[toolchain]"`', f"`apt install {package}`"]
    first, second = reversed(ways) if target.is_native or target.bare else ways
    return CompactError(
        "CIR510",
        f"no C compiler for target `{target.name}`",
        notes=[f"{looked} the Python package ziglang is not installed"],
        help=f"{first} or {second}; `--emit c` needs no compiler",
    )


# -- building ------------------------------------------------------------------------------------------------


def compile_library(
    sources: Sequence[Path], out: Path, target: Target, compiler: Compiler, *, flags: Sequence[str] = ()
) -> Path:
    """Build a shared library from .c and .S files (several compile side by side); returns `out`.

    Raises:
        CompactError: CIR511 with the first lines of what the compiler said.
    """
    machine_flags = target.flags(compiler.family)
    with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
        objects = _objects(sources, Path(folder), compiler, [*machine_flags, *SHARED, *flags])
        linking = (*target.link_flags(compiler.family), *LINK)
        how = [*linking, *LINK_SHARED, *flags, f"-Wl,-soname,{out.name}"]
        return _link(objects, Path(folder), out, compiler, how)


def compile_archive(
    sources: Sequence[Path], out: Path, target: Target, compiler: Compiler, *, flags: Sequence[str] = ()
) -> Path:
    """Build a static library, `libNAME.a`; returns `out`. Its code may be linked into libraries, too.

    Raises:
        CompactError: CIR511 with what compiler or archiver said, CIR512 without an archiver.
    """
    machine_flags = target.flags(compiler.family)
    archiver = _archiver(compiler)
    with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
        movable = SHARED[1:] if target.bare else SHARED
        objects = _objects(sources, Path(folder), compiler, [*machine_flags, *movable, *flags])
        _run(archiver, ["rcsD", out.name, *objects], Path(folder), out.name)  # D: no times, no owners
        return replace_file(Path(folder) / out.name, out)


def _archiver(compiler: Compiler) -> Compiler:
    """The `ar` that belongs to a compiler. Errors: CIR512."""
    if compiler.family == "zig" and (zig := _zig_of(compiler)):
        return replace(compiler, command=(zig, "ar"))
    names = ("llvm-ar", "ar") if compiler.family == "clang" else ("ar",)
    asked = (_answer((*compiler.command, f"-print-prog-name={name}")) for name in names)
    if (found := next((path for name in asked if (path := shutil.which(name))), None)) is None:
        raise CompactError(
            "CIR512",
            f"`{compiler.name}` has no archiver for static libraries",
            notes=["neither `llvm-ar` nor `ar` is on the PATH"] if len(names) > 1 else ["there is no `ar`"],
            help="`apt install binutils` brings `ar`, or use `--cc zig`; `--emit c,lib` needs none",
        )
    return replace(compiler, command=(found,))


def _zig_of(compiler: Compiler) -> str | None:
    """The program `zig` itself, also where it was called by another name; None where nobody knows."""
    if "cc" in compiler.command[1:]:
        return compiler.command[0]
    folder = _installed(_said((*compiler.command, "--version")))
    beside = str(folder / "zig") if folder else ""
    return beside if os.path.isfile(beside) else _pip_zig() or shutil.which("zig")


def compile_program(
    sources: Sequence[Path], out: Path, target: Target, compiler: Compiler, *, flags: Sequence[str] = ()
) -> Path:
    """Build a static program (it needs no library of its system) for an emulator or a board; returns `out`.

    Raises:
        CompactError: CIR511 with the first lines of what the compiler said.
    """
    machine_flags = target.flags(compiler.family, static=True)
    with tempfile.TemporaryDirectory(prefix="compactir-") as folder:
        objects = _objects(sources, Path(folder), compiler, [*machine_flags, *flags])
        how = [*target.link_flags(compiler.family, static=True), *LINK, "-static", *flags]
        return _link(objects, Path(folder), out, compiler, how)


def replace_file(built: Path, out: Path) -> Path:
    """Copy a finished file to its place in one step, with its permissions; returns `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as aside:
        shutil.copyfile(built, aside)
        aside.chmod(built.stat().st_mode & 0o777)
    return out


def incbin_source(symbol: str, file: str, content_id: str, align: int = 64) -> str:
    """An assembler file (.S) that makes a packed weights file the constant `const unsigned char symbol[]`.

    The weights `file` stands beside it. The content id is in the text because zig caches by the text alone.
    """
    quoted = file.replace("\\", "\\\\").replace('"', '\\"')
    return _INCBIN.format(symbol=symbol, file=quoted, content_id=content_id, align=align)


_INCBIN = """\
/* {file} ({content_id}) as a constant of the library; written by compactir, belongs to its user. */
#if defined(__APPLE__)
  .section __TEXT,__const
  .private_extern _{symbol}
  .globl _{symbol}
  .balign {align}
_{symbol}:
  .incbin "{file}"
#else
  .section .rodata
  .hidden {symbol}
  .globl {symbol}
  .balign {align}
{symbol}:
  .incbin "{file}"
  .section .note.GNU-stack,"",%progbits
#endif
"""


def _objects(sources: Sequence[Path], folder: Path, compiler: Compiler, flags: Sequence[str]) -> list[str]:
    """Compile every source to an object file in `folder`, as many at once as there are cores."""
    names = [f"{i}-{source.stem}.o" for i, source in enumerate(sources)]
    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(partial(_compile, source.absolute(), folder / name, compiler, flags, running))
            for source, name in zip(sources, names, strict=True)
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:  # Ctrl-C above all: the pool would wait for its compilers
            for job in jobs:
                job.cancel()
            for process in list(running):
                _stop(process)
            raise
    return names


def _link(objects: Sequence[str], folder: Path, out: Path, compiler: Compiler, flags: Sequence[str]) -> Path:
    """Link the objects in `folder`, then put the result in its place."""
    _run(compiler, [*flags, *objects, *LIBRARIES, "-o", out.name], folder, out.name)
    return replace_file(folder / out.name, out)


def _compile(
    source: Path,
    out: Path,
    compiler: Compiler,
    flags: Sequence[str],
    running: set[subprocess.Popen[bytes]],
) -> None:
    language = LANGUAGE if source.suffix == ".c" else ()
    arguments = [*flags, *language, "-c", source.name, "-o", str(out)]
    _run(compiler, arguments, source.parent, source.name, running)


def _run(
    compiler: Compiler,
    arguments: Sequence[str],
    folder: Path,
    what: str,
    running: set[subprocess.Popen[bytes]] | None = None,
) -> None:
    """Run the compiler in `folder`; says so (once per process) when it takes longer than a few seconds.

    It gets a process group of its own, because gcc and clang start further processes: `_stop` ends them all.
    While it runs it is in `running`, for whoever has to stop it from another thread.
    """
    argv = [*compiler.command, *arguments]
    _log.debug("%s", shlex.join(argv))
    with tempfile.TemporaryDirectory(
        prefix="compactir-"
    ) as scratch:  # gcc, killed, would leave its own files
        _run_in(scratch, compiler, argv, folder, what, running)


def _run_in(
    scratch: str,
    compiler: Compiler,
    argv: Sequence[str],
    folder: Path,
    what: str,
    running: set[subprocess.Popen[bytes]] | None,
) -> None:
    environment = _environment() | {"TMPDIR": scratch}
    try:
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        process = subprocess.Popen(
            argv, cwd=folder, stdout=pipe, stderr=both, env=environment, process_group=0
        )
    except OSError as error:
        problem = f"the compiler `{compiler.name}` cannot be run: {error.strerror}"
        raise CompactError(
            "CIR512", problem, help="install it again, or name another one with `--cc`"
        ) from error
    watched = running if running is not None else set()
    watched.add(process)
    with process:
        try:
            said = _answer_of(process, compiler, what)
        except BaseException:
            _stop(process)
            raise
        finally:
            watched.discard(process)
    if process.returncode:
        raise _failed(compiler, what, process.returncode, said.decode(errors="replace"))


def _answer_of(process: subprocess.Popen[bytes], compiler: Compiler, what: str) -> bytes:
    """What the compiler prints until it ends."""
    try:
        return process.communicate(timeout=_PATIENCE_S)[0]
    except subprocess.TimeoutExpired:
        _log.info("%s is still working on %s%s", compiler.name, what, _why_slow(compiler, process.args))
        return process.communicate()[0]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a compiler and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _why_slow(compiler: Compiler, arguments: Any) -> str:
    """What zig does when it links for a target the first time."""
    if compiler.family != "zig" or "-c" in arguments:
        return ""
    if "-static" in arguments:
        return " (the first time for a target, zig builds its C library: about a minute, once)"
    return " (the first time for a target, zig builds parts of its C library: seconds, once)"


def _failed(compiler: Compiler, what: str, status: int, said: str) -> CompactError:
    lines = [line.rstrip() for line in said.strip().splitlines() if line.strip()]
    cut = [f"… and {len(lines) - _EXCERPT_LINES} more lines"] if len(lines) > _EXCERPT_LINES else []
    how = f"was killed by signal {-status}" if status < 0 else "failed"
    return CompactError(
        "CIR511",
        f"`{compiler.name}` {how} on {what}",
        notes=[f"compiler: {compiler.version}", *lines[:_EXCERPT_LINES], *cut],
        help=_advice(said, status, compiler.machine),
    )


_ADVICE = {
    "crt0.o": "this compiler is for chips without an operating system: try `--cc zig`",
    "No such file or directory": "the C library's headers are missing: `apt install {library}`",
    "file not found": "the C library's headers for this machine are missing: try `--cc zig`",
    "cannot find -lc": "the static C library is missing: `apt install {library}`, or `--cc zig`",
    "No space left": "free some space, or point TMPDIR to another disk",
    "unrecognized command": "this compiler is too old for the target: use gcc 9, clang 9 or zig",
    "unknown value": "this compiler is too old for the target: use gcc 9, clang 9 or zig",
    "bad value": "this compiler is too old for the target: use gcc 9, clang 9 or zig",
}


_CROSS = {"aarch64": "libc6-dev-arm64-cross", "arm": "libc6-dev-armhf-cross"}
"""The C library of another machine, as Debian calls it."""


def _advice(said: str, status: int, made_for: str) -> str:
    """The remedy for what a sound installation never says; else another compiler is the way to go on."""
    library = "libc6-dev" if made_for == machine() else _CROSS.get(made_for, "libc6-dev")
    if status < 0:
        return "the memory may have run out: close other programs, or compile with another compiler (`--cc`)"
    known = (remedy.format(library=library) for words, remedy in _ADVICE.items() if words in said)
    return next(
        known, "try another compiler with `--cc`; if the C itself is wrong, that is our mistake: report it"
    )


def _environment() -> dict[str, str]:
    """Messages in English; a place for zig's own cache where the home folder cannot be written."""
    environment = {**os.environ, "LC_ALL": "C"}
    if "ZIG_GLOBAL_CACHE_DIR" not in environment and not _home_is_writable():
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(open_cache().root / "zig")
    return environment


@cache
def _home_is_writable() -> bool:
    """Whether zig could make its cache where it wants to."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache")
    while not place.exists() and place != place.parent:
        place = place.parent
    try:  # permissions say too little: root may write, and /proc takes nothing; there zig would try for ever
        os.rmdir(tempfile.mkdtemp(prefix=".compactir-", dir=place))
    except OSError:
        return False
    return True

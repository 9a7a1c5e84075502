"""Running code of another processor: a small static program around the network, under an emulator.

The program reads requests from its standard input and answers on its standard output, so that it serves a
process that calls it again and again, a pair of files, and a board at the other end of a remote shell
alike:

    request   int32 command, first, last;  then every input, dense
    answer    int32 status;                then every output, dense;  for STEPS also the whole workspace

RUN ignores `first` and `last`; STEPS runs the steps [first, last) in the workspace that earlier requests
left. Numbers are little-endian, as on every target we have.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from compactir.diagnostics import CompactError
from compactir.ir.types import Array
from compactir.runtime.build import THREADS, Compiler, compile_program, find_compiler
from compactir.runtime.cache import Cache, content_key, open_cache
from compactir.runtime.elf import read_elf
from compactir.runtime.interface import ERRORS, cdef
from compactir.runtime.manifest import Manifest
from compactir.runtime.native import check_header, map_weights
from compactir.targets import Target, all_targets, load_target, machine

__all__ = ["RUN", "STEPS", "Emulated", "build_program", "program_source", "request"]

RUN, STEPS = 0, 1

_PACKAGES = {"qemu-aarch64": "qemu-user", "qemu-arm": "qemu-user", "qemu-x86_64": "qemu-user"}


class Emulated:
    """A network that runs in a process of its own, which is started with the first call and kept.

    Args:
        folder: an output folder with the C source.
        manifest: its manifest.
        target: how to compile and run it; else found from the manifest and the library.
        cc: its C compiler, as `find_compiler` takes it; by default the one that built the library.

    Raises:
        CompactError: CIR514 without an emulator, CIR51x without a fitting compiler, CIR614 without the
            source, CIR617…619 for wrong weights.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, target: Target | None = None, cc: str | None = None
    ) -> None:
        self._manifest = manifest
        self._target = target or _target_of(folder, manifest)
        self._check()
        self._arguments = [str(folder / manifest.weights)] if manifest.weights else []
        if manifest.weights:
            with map_weights(folder, manifest) as data:
                check_header(data, manifest)
        compiler = find_compiler(self._target, cc, like=manifest.built_by)
        self._program = build_program(folder, manifest, self._target, compiler)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def _check(self) -> None:
        """Whether what runs it is here; a warning that it is not the processor it is made for."""
        _check_runner(self._target, self._manifest)
        _say_so_once(self._manifest, self._target)

    def _argv(self) -> list[str]:
        """The command that starts the program."""
        return self._target.run_command([str(self._program), *self._arguments])

    def _called(self) -> str:
        """What errors call who runs the program."""
        return self._target.run_command(["the program"])[0]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1) -> None:
        """Run the network on C-contiguous arrays of the declared types, on one thread whatever is asked for.

        Several threads that call take turns.
        """
        with self._lock:
            answers = self._ask(request(RUN, 0, 0, inputs))
            self._fill(outputs, answers)

    def runner(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int = 1
    ) -> Callable[[], None]:
        """The same as a function."""
        return lambda: self.run(inputs, outputs, threads)

    def run_steps(self, inputs: Sequence[Array], outputs: Sequence[Array], first: int, last: int) -> bytes:
        """Run the steps [first, last) in the workspace as it is; returns what the workspace holds then."""
        with self._lock:
            answers = self._ask(request(STEPS, first, last, inputs))
            self._fill(outputs, answers)
            return self._read(answers, self._manifest.workspace_bytes)

    def _ask(self, message: Sequence[bytes | memoryview]) -> IO[bytes]:
        """Send a request; the stream with the rest of the answer once the status was read, and was 0."""
        answers = self._send(message)
        (status,) = struct.unpack("<i", self._read(answers, 4))
        if status:
            name = ERRORS[status] if 0 < status < len(ERRORS) else f"error {status}"
            what = f"the network `{self._manifest.network}` reports: {name}"
            raise CompactError("CIR626", what, help="compile it again; if that changes nothing, report it")
        return answers

    def _send(self, message: Sequence[bytes | memoryview]) -> IO[bytes]:
        """Send a request; the stream with the answer."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for part in message:
                process.stdin.write(part)
            process.stdin.flush()
        except OSError as error:
            raise self._died() from error
        return process.stdout

    def _fill(self, outputs: Sequence[Array], answers: IO[bytes]) -> None:
        for array in outputs:
            array.reshape(-1).view("u1")[:] = memoryview(self._read(answers, array.nbytes))

    def _read(self, stream: IO[bytes], size: int) -> bytes:
        data = stream.read(size)
        if len(data) != size:
            raise self._died()
        return data

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(self._argv(), stdin=pipe, stdout=pipe, stderr=pipe)
        weakref.finalize(self, _stop, process)
        return process

    def _died(self) -> CompactError:
        """The error for a process that went away; the next call starts a new one."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stderr is not None
        process.kill()
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
        status = process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return CompactError(
            "CIR515",
            f"{self._called()} {how} while it ran `{self._manifest.network}`",
            notes=said[:8],
            help="`compactc verify MODEL` finds the layer, if the code is at fault",
        )


def request(command: int, first: int, last: int, inputs: Sequence[Array]) -> list[bytes | memoryview]:
    """A request as it goes over the wire, without copying the arrays."""
    return [struct.pack("<3i", command, first, last), *(array.data.cast("B") for array in inputs)]


def build_program(
    folder: Path,
    manifest: Manifest,
    target: Target,
    compiler: Compiler | None = None,
    cache: Cache | None = None,
) -> Path:
    """The static program around the C source of an output folder, from the cache if it was built before.

    Raises:
        CompactError: CIR614 without the source, CIR51x when it cannot be compiled.
    """
    compiler = compiler or find_compiler(target, like=manifest.built_by)
    try:
        source = (folder / manifest.source).read_text(encoding="utf-8")
        header = (folder / manifest.header).read_text(encoding="utf-8") if manifest.header else ""
    except OSError as error:
        raise CompactError(
            "CIR614",
            f"the C source {folder / manifest.source} cannot be read: {error.strerror}",
            notes=[
                f"code for {target.machine or 'another machine'} is compiled into a program to run it here"
            ],
            help=f"compile the network again: `compactc MODEL.arch --target {target.name} -o {folder}`",
        ) from error
    main = program_source(manifest)
    more = THREADS if manifest.threads > 1 else ()
    flags = (*target.flags(compiler.family, static=True), *more)
    files = {manifest.source: source.encode(), "main_program.c": main.encode()}
    if header:
        files[manifest.header] = header.encode()
    files |= {name: (folder / name).read_bytes() for name in manifest.raw.get("object", ())}
    parts = [part for name in sorted(files) for part in (name, files[name])]
    key = content_key("program", *parts, *flags, compiler.identity)

    def build(aside: Path) -> None:
        for name, content in files.items():
            (aside / name).write_bytes(content)
        sources = [aside / name for name in files if name.endswith((".c", ".S"))]
        compile_program(sources, aside / "program", target, compiler, flags=more)

    return (cache or open_cache()).build(key, build) / "program"


def program_source(manifest: Manifest) -> str:
    """The C text of the program."""
    name = manifest.symbol
    tensors = [*manifest.inputs, *manifest.outputs]
    sizes = ", ".join(str(t.bytes) for t in tensors)
    arguments = ", ".join(f"(void *)tensor[{i}]" for i in range(len(tensors)))
    return _PROGRAM.format(
        name=name,
        declarations=cdef(manifest),
        sizes=sizes,
        count=len(tensors),
        inputs=len(manifest.inputs),
        arguments=arguments,
        align=manifest.align,
        weights_bytes=manifest.weights_bytes,
        workspace_bytes=max(manifest.workspace_bytes, 1),
        signature=f'"{manifest.signature}"' if manifest.steps else f"{name}_signature()",
    )


PROGRAM_START = """\
static void *memory(size_t bytes) {{
  unsigned char *p = malloc(bytes + {align});
  if (!p) {{ fputs("out of memory\\n", stderr); exit(3); }}
  return p + ({align} - (uintptr_t)p % {align}) % {align};
}}

static const void *weights(int argc, char **argv) {{
  if (argc < 2) return {name}_inline_weights();
  FILE *file = fopen(argv[1], "rb");
  unsigned char *data = memory({weights_bytes});
  if (!file || fread(data, 1, {weights_bytes}, file) != {weights_bytes}) return NULL;
  fclose(file);
  return data;
}}"""
"""Of every such program: aligned memory, and the packed weights out of a file or the library."""

_PROGRAM = (
    """\
/* Runs {name} for whoever writes requests to the standard input and reads answers from the standard output.
   usage: program [packed-weights] <requests >answers */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

{declarations}
enum {{ INPUTS = {inputs}, TENSORS = {count}, RUN = 0, STEPS = 1 }};
static const size_t size[TENSORS] = {{ {sizes} }};
static unsigned char *tensor[TENSORS];

"""
    + PROGRAM_START
    + """

int main(int argc, char **argv) {{
  {name}_weights w;
  unsigned char *workspace = memory({workspace_bytes});
  int32_t head[3];
  int status;
  const void *packed;
  if (strcmp({name}_signature(), {signature})) {{
    fprintf(stderr, "the manifest is of another build; compiled for: %s\\n", {name}_signature());
    return 2;
  }}
  packed = weights(argc, argv);
  if (!packed) {{ fputs("the packed weights cannot be read\\n", stderr); return 2; }}
  if ((status = {name}_bind(&w, packed, {weights_bytes})) != 0) {{
    fprintf(stderr, "the weights do not fit: %s\\n", {name}_error(status));
    return 2;
  }}
  for (int i = 0; i < TENSORS; ++i) tensor[i] = memory(size[i]);
  while (fread(head, sizeof head, 1, stdin) == 1) {{
    for (int i = 0; i < INPUTS; ++i)
      if (fread(tensor[i], 1, size[i], stdin) != size[i]) return fputs("an input ends early\\n", stderr), 2;
    status = head[0] == STEPS ? {name}_run_steps(&w, {arguments}, workspace, head[1], head[2])
                              : {name}_run(&w, {arguments}, workspace);
    int32_t answer = status;
    fwrite(&answer, sizeof answer, 1, stdout);
    if (!status) {{
      for (int i = INPUTS; i < TENSORS; ++i) fwrite(tensor[i], 1, size[i], stdout);
      if (head[0] == STEPS) fwrite(workspace, 1, {workspace_bytes}, stdout);
    }}
    fflush(stdout);
  }}
  return 0;
}}
"""
)


def _target_of(folder: Path, manifest: Manifest) -> Target:
    """The target to run the folder's code with: its own, or the general one of the library's processor."""
    target = load_target(manifest.target)
    if target.machine:
        return target
    elf = read_elf(folder / manifest.library) if manifest.library else None
    built_for = elf.machine if elf else "another system"
    general = [t for t in all_targets() if t.machine == built_for and not t.cpu_parts]
    if not general:
        what = f"{manifest.library} is made for {built_for}, this machine is {machine()}"
        raise CompactError("CIR615", what, help="compile it for this machine: `--target native`")
    return min(general, key=lambda t: t.native_rank)


def _check_runner(target: Target, manifest: Manifest) -> None:
    if target.is_native or (target.runner and shutil.which(target.runner)):
        return
    what = f"`{manifest.network}` is made for {target.machine}, this machine is {machine()}"
    package = _PACKAGES.get(target.runner, "qemu-user")
    install = (
        f"`apt install {package}` brings `{target.runner}`"
        if target.runner
        else "there is none for this target"
    )
    raise CompactError(
        "CIR514",
        f"{what}, and there is no emulator",
        help=f"{install}; or compile it for this machine: `compactc MODEL.arch --target native`",
    )


_said = False


def _say_so_once(manifest: Manifest, target: Target) -> None:
    global _said
    if _said or target.is_native:
        return
    _said = True
    warnings.warn(
        f"`{manifest.network}` is compiled for {target.machine} and runs under {target.runner} here: "
        "the results are right, the times mean nothing",
        stacklevel=6,  # who calls compactir.load
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours that nobody can reach any more."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()

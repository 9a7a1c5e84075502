"""Compilers: which one is taken, what is said where there is none, what comes out."""

import ctypes
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compactir.diagnostics import CompactError
from compactir.runtime import build as build_room
from compactir.runtime.build import (
    _CROSS,
    _advice,
    check_compiler,
    compile_archive,
    compile_library,
    compile_program,
    find_compiler,
    incbin_source,
    replace_file,
)
from compactir.targets import load_target, machine

pytestmark = pytest.mark.compiler

Sources = Callable[[], dict[str, str]]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH with one empty folder, and no settings: what stands there can be found, nothing else."""
    for name in ("CC", "COMPACTIR_CC"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(build_room, "_pip_zig", lambda: None)
    return folder


def fake(folder: Path, name: str, version: str, machine: str = "x86_64-linux-gnu", status: int = 0) -> str:
    """A program that answers like a compiler."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"print({machine!r} if '-dumpmachine' in sys.argv else {version!r})\nsys.exit({status})\n"
    )
    path.chmod(0o755)
    return str(path)


def error_of(call: Callable[[], object]) -> CompactError:
    with pytest.raises(CompactError) as caught:
        call()
    assert caught.value.help
    return caught.value


HOST = f"{machine()}-linux-gnu"
OTHER = "arm" if machine() == "aarch64" else "aarch64"
FOREIGN = "arm" if machine() != "aarch64" else "x86"


def test_none_at_all(bare: Path) -> None:
    error = error_of(lambda: find_compiler(load_target("c")))
    assert error.code == "CIR510"
    assert "`gcc`, `clang` and `cc` are not on the PATH" in error.notes[0]
    assert "`apt install gcc`" in (error.help or "")
    assert 'pip install "compactir[toolchain]"' in (error.help or "")
    if machine() == "x86_64":
        error = error_of(lambda: find_compiler(load_target("arm")))
        assert "`aarch64-linux-gnu-gcc` is not on the PATH" in error.notes[0]
        assert "`apt install gcc-aarch64-linux-gnu`" in (error.help or "")


def test_order(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("c")
    zig = fake(bare, "zig", "0.17.1")
    assert find_compiler(target).family == "zig"
    assert find_compiler(target).command == (zig, "cc")
    fake(bare, "cc", "cc (Some) 1.0", HOST)
    assert find_compiler(target).family == "gcc"
    fake(bare, "clang", "Debian clang version 14", HOST)
    assert (find_compiler(target).family, find_compiler(target).version) == (
        "clang",
        "Debian clang version 14",
    )
    gcc = fake(bare, "gcc", "gcc (Debian) 12.2.0", HOST)
    assert find_compiler(target).command == (gcc,)
    mine = fake(bare, "my cc", "gcc (Mine) 9", HOST)
    monkeypatch.setenv("CC", mine)
    assert find_compiler(target).command == (mine,)
    monkeypatch.setenv("COMPACTIR_CC", "clang -m64")
    assert find_compiler(target).command == (str(bare / "clang"), "-m64")
    assert find_compiler(target, "cc").command == (str(bare / "cc"),)
    assert find_compiler(target, "zig").command == (zig, "cc")
    assert find_compiler(target, "zig cc").name == "zig cc"


def test_a_broken_one_is_passed_over(bare: Path) -> None:
    fake(bare, "gcc", "gcc 12", HOST, status=1)
    fake(bare, "cc", "cc 1", HOST)
    assert find_compiler(load_target("c")).command == (str(bare / "cc"),)


@pytest.mark.parametrize("name", ["no-such-cc", "/no/such/cc", "no such cc", "zig", "/", "it's"])
def test_asked_for_and_not_there(bare: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fake(bare, "gcc", "gcc 12", HOST)
    error = error_of(lambda: find_compiler(load_target("c"), name))
    assert error.code == "CIR512"
    assert name in error.message
    assert error.notes == ("it was asked for by --cc",)
    for setting in ("COMPACTIR_CC", "CC"):
        monkeypatch.setenv(setting, name)
        assert error_of(lambda: find_compiler(load_target("c"))).notes == (f"it was asked for by {setting}",)
        monkeypatch.delenv(setting)


def test_for_another_machine(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target(FOREIGN)
    fake(bare, "gcc", "gcc 12", HOST)
    error = error_of(lambda: find_compiler(target, "gcc"))
    assert error.code == "CIR513"
    assert f"compiles for {machine()}, not for {target.machine}" in error.message
    assert target.cc[0] in (error.help or "")
    monkeypatch.setenv("CC", "gcc")  # meant for this machine: not an error, and not used
    assert error_of(lambda: find_compiler(target)).code == "CIR510"
    cross = fake(bare, target.cc[0], "gcc (cross) 12", target.triple)
    assert find_compiler(target).command == (cross,)
    monkeypatch.setenv("COMPACTIR_CC", "gcc")
    assert error_of(lambda: find_compiler(target)).code == "CIR513"


def test_zig_is_the_usual_one_for_another_machine(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target(FOREIGN)
    cross = fake(bare, target.cc[0], "gcc (cross) 12", target.triple)
    zig = fake(bare, "zig", "0.17.1")
    assert find_compiler(target).command == (zig, "cc")
    assert find_compiler(target, target.cc[0]).command == (cross,)
    assert find_compiler(target, like="gcc (cross) 12").command == (cross,)  # that built the library
    for known in ("zig 0.17.1", "gcc (cross) 11"):
        assert find_compiler(target, like=known).command == (zig, "cc")
    for setting in ("CC", "COMPACTIR_CC"):
        monkeypatch.setenv(setting, target.cc[0])
        assert find_compiler(target).command == (cross,)
        assert find_compiler(target, like="zig 0.17.1").command == (cross,)
        monkeypatch.delenv(setting)
    own = fake(bare, "gcc", "gcc 12", HOST)
    assert find_compiler(load_target("c")).command == (own,)
    chip = load_target("cortex-m4")
    assert find_compiler(chip).command == (zig, "cc")
    bare_metal = fake(bare, chip.cc[0], "arm-none-eabi-gcc 12", chip.triple)
    assert find_compiler(chip).command == (bare_metal,)


ZIG_SAYS = "clang version 22.1.8\\nTarget: x86_64-unknown-linux6.18.44-gnu2.36.0\\nInstalledDir: /nowhere"
CLANG_SAYS = "Debian clang version 14.0.6\\nTarget: x86_64-pc-linux-gnu\\nInstalledDir: /usr/bin"


def test_zig_under_the_name_of_another(bare: Path) -> None:
    """It speaks like clang, but spells machine flags its own way."""
    for name, text, family in (("cc", ZIG_SAYS, "zig"), ("clang", CLANG_SAYS, "clang")):
        path = bare / name
        path.write_text(f"#!/bin/sh\nprintf '{text}\\n'\n")
        path.chmod(0o755)
        assert find_compiler(load_target("c"), str(path)).family == family


def test_a_wrapper_around_zig_builds(
    tmp_path: Path, need: Callable[[str], None], tiny_sources: Sources
) -> None:
    need("ziglang")
    zig = build_room._pip_zig()
    wrapper = tmp_path / "cc"
    wrapper.write_text(f'#!/bin/sh\nexec "{zig}" cc "$@"\n')
    wrapper.chmod(0o755)
    target = load_target("native")
    compiler = find_compiler(target, str(wrapper))
    assert (compiler.family, compiler.command) == ("zig", (str(wrapper),))
    for name, text in tiny_sources().items():
        (tmp_path / name).write_text(text)
    library = compile_library([tmp_path / "tiny.c"], tmp_path / "libtiny.so", target, compiler)
    assert ctypes.CDLL(str(library)).tiny_bind(None, None, 0) == 1
    archive = compile_archive([tmp_path / "tiny.c"], tmp_path / "libtiny.a", target, compiler)
    assert archive.read_bytes().startswith(b"!<arch>")


def test_another_build_is_another_compiler(bare: Path) -> None:
    gcc = Path(fake(bare, "gcc", "gcc 12", HOST))
    before = find_compiler(load_target("c")).identity
    assert find_compiler(load_target("c")).identity == before
    os.utime(gcc, (1, 1))
    assert find_compiler(load_target("c")).identity != before


def written(folder: Path, files: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in sorted(files) if not name.endswith(".h")]


PARTS = {
    "a.c": "int twice(int);\n"
    '__attribute__((visibility("default"))) int quad(int x) { return twice(twice(x)); }\n',
    "b.c": "int twice(int);\nint twice(int x) { return 2 * x; }\n",
}


@pytest.mark.parametrize("cc", ["gcc", "clang", "zig"])
def test_a_library_of_several_files(
    cc: str, tmp_path: Path, tool: Callable[[str], str], need: Callable[[str], None]
) -> None:
    need("ziglang") if cc == "zig" else tool(cc)
    target = load_target("c")
    compiler = find_compiler(target, cc)
    sources = written(tmp_path / "a folder ü", PARTS)
    out = compile_library(sources, tmp_path / "new" / "libquad.so", target, compiler)
    library = ctypes.CDLL(str(out))
    assert library.quad(5) == 20
    with pytest.raises(AttributeError):
        _ = library.twice  # hidden
    assert os.listdir(out.parent) == ["libquad.so"]
    again = compile_library(
        written(tmp_path / "elsewhere", PARTS), tmp_path / "libquad.so", target, find_compiler(target, cc)
    )
    assert again.read_bytes() == out.read_bytes()  # no path gets into it


@pytest.mark.parametrize("cc", ["gcc", "clang", "zig"])
def test_weights_by_assembler(
    cc: str, tmp_path: Path, tool: Callable[[str], str], need: Callable[[str], None]
) -> None:
    need("ziglang") if cc == "zig" else tool(cc)
    target = load_target("c")
    code = (
        "extern const unsigned char blob[];\n"
        '__attribute__((visibility("default"))) const void *get(void);\n'
        "const void *get(void) { return blob; }\n"
    )
    sources = written(tmp_path, {"net.c": code, "blob.S": incbin_source("blob", 'we "ights', "id1", 64)})
    for content in (b"first", b"other"):
        (tmp_path / 'we "ights').write_bytes(content)
        (tmp_path / "blob.S").write_text(incbin_source("blob", 'we "ights', content.hex(), 64))
        out = compile_library(
            sources, tmp_path / f"lib{content.decode()}.so", target, find_compiler(target, cc)
        )
        library = ctypes.CDLL(str(out))
        library.get.restype = ctypes.c_void_p
        address = library.get()
        assert address % 64 == 0
        assert ctypes.string_at(address, 5) == content


def test_a_program(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("gcc")
    target = load_target("c")
    sources = written(tmp_path, {"m.c": '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n'})
    out = compile_program(sources, tmp_path / "m", target, find_compiler(target, "gcc"))
    assert subprocess.run([out], capture_output=True, text=True).stdout == "hello\n"


def test_what_the_compiler_says(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("gcc")
    target = load_target("c")
    bad = "\n".join(f"int f{i}(void) {{ return missing{i}; }}" for i in range(30))
    sources = written(tmp_path, {"good.c": "int g(void) { return 1; }\n", "bad.c": bad})
    out = tmp_path / "lib.so"
    out.write_text("the old one")
    error = error_of(lambda: compile_library(sources, out, target, find_compiler(target, "gcc")))
    assert error.code == "CIR511"
    assert error.message == "`gcc` failed on bad.c"
    assert error.notes[0].startswith("compiler: gcc")
    assert "missing0" in "\n".join(error.notes)
    assert len(error.notes) == 14
    assert error.notes[-1].startswith("… and ")
    assert out.read_text() == "the old one"
    assert sorted(os.listdir(tmp_path)) == ["bad.c", "good.c", "lib.so"]


@pytest.mark.parametrize(
    ("code", "flags", "help"),
    [
        ("#include <not/there.h>", (), "headers are missing"),
        ("int x;", ("-march=unheard-of",), "too old"),
        ("int f(void);\nint g(void);\nint g(void) { return f(); }", (), "report it"),
    ],
)
def test_advice(
    tmp_path: Path, code: str, flags: tuple[str, ...], help: str, tool: Callable[[str], str]
) -> None:
    tool("gcc")
    target = load_target("c")
    (source,) = written(tmp_path, {"x.c": code + "\n"})
    compiler = find_compiler(target, "gcc")
    error = error_of(lambda: compile_library([source], tmp_path / "x.so", target, compiler, flags=flags))
    assert help in (error.help or "")


@pytest.mark.parametrize("name", ["", " ", "'"])
def test_the_name_of_nothing(name: str) -> None:
    assert error_of(lambda: check_compiler(name)).code == "CIR512"


@pytest.mark.parametrize(
    ("said", "made_for", "advice"),
    [
        ("stdint.h: No such file or directory", machine(), "`apt install libc6-dev`"),
        ("stdint.h: No such file or directory", OTHER, f"`apt install {_CROSS[OTHER]}`"),
        ("cannot find -lc", OTHER, f"`apt install {_CROSS[OTHER]}`, or `--cc zig`"),
        ("ld: cannot find crt0.o: No such file or directory", "arm", "chips without an operating system"),
    ],
)
def test_advice_for_what_a_compiler_lacks(said: str, made_for: str, advice: str) -> None:
    assert advice in _advice(said, 1, made_for)


def test_a_compiler_that_is_killed(bare: Path, tmp_path: Path) -> None:
    gcc = bare / "gcc"
    gcc.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint('gcc 12')\n'-c' in sys.argv and os.kill(os.getpid(), 9)\n"
    )
    gcc.chmod(0o755)
    compiler = find_compiler(load_target("c"))
    (source,) = written(tmp_path, {"x.c": "int x;\n"})
    error = error_of(lambda: compile_library([source], tmp_path / "x.so", load_target("c"), compiler))
    assert error.message == "`gcc` was killed by signal 9 on x.c"
    assert "memory" in (error.help or "")
    gcc.unlink()
    error = error_of(lambda: compile_library([source], tmp_path / "x.so", load_target("c"), compiler))
    assert error.code == "CIR512"


def test_patience(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    zig = bare / "zig"
    zig.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        "if 'version' in sys.argv: print('0.17.1'); sys.exit()\n"
        "time.sleep(0.3)\nopen(sys.argv[sys.argv.index('-o') + 1], 'w').close()\n"
    )
    zig.chmod(0o755)
    monkeypatch.setattr(build_room, "_PATIENCE_S", 0.05)
    (source,) = written(tmp_path, {"x.c": "int x;\n"})
    with caplog.at_level(logging.INFO, "compactir"):
        compile_library([source], tmp_path / "x.so", load_target("c"), find_compiler(load_target("c")))
        compile_program([source], tmp_path / "x", load_target("c"), find_compiler(load_target("c")))
    said = [record.getMessage().partition("working on ")[2] for record in caplog.records]
    libraries = "(the first time for a target, zig builds"
    assert [text for text in said if text] == [
        "x.c",
        f"x.so {libraries} parts of its C library: seconds, once)",
        "x.c",
        f"x {libraries} its C library: about a minute, once)",
    ]


def test_zig_where_home_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_room, "_home_is_writable", lambda: False)
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    monkeypatch.setenv("COMPACTIR_CACHE", str(tmp_path))
    assert build_room._environment()["ZIG_GLOBAL_CACHE_DIR"] == str(tmp_path / "zig")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "/theirs")
    assert build_room._environment()["ZIG_GLOBAL_CACHE_DIR"] == "/theirs"


def test_a_home_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where permissions allow it and the file system does not; zig would try for ever."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc")
    build_room._home_is_writable.cache_clear()
    try:
        assert not build_room._home_is_writable()
    finally:
        build_room._home_is_writable.cache_clear()


def test_a_static_program_of_the_portable_target_by_zig(tmp_path: Path, need: Callable[[str], None]) -> None:
    need("ziglang")
    (tmp_path / "hello.c").write_text('#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n')
    target = load_target("c")
    compiler = find_compiler(target, "zig")
    program = compile_program([tmp_path / "hello.c"], tmp_path / "hello", target, compiler)
    assert subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout == "hello\n"


def test_a_compiler_leaves_no_files_of_its_own(bare: Path, tmp_path: Path) -> None:
    """Killed, gcc does not remove what it wrote to TMPDIR: that is a folder of ours."""
    path = bare / "gcc"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "if '-c' in sys.argv:\n    open(os.environ['TMPDIR'] + '/cc1.s', 'w')\n"
        "    print(os.environ['TMPDIR']); sys.exit(1)\n"
        f"print({HOST!r})\n"
    )
    path.chmod(0o755)
    (tmp_path / "a.c").write_text("int a;\n")
    target = load_target("c")
    error = error_of(
        lambda: compile_library([tmp_path / "a.c"], tmp_path / "a.so", target, find_compiler(target))
    )
    scratch = Path(error.notes[1])
    assert scratch.name.startswith("compactir-")
    assert not scratch.exists()


def test_replacing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    new.write_text("new")
    out.write_text("old")

    def fails(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fails)
    with pytest.raises(OSError, match="No space"):
        replace_file(new, out)
    assert out.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["new", "out"]

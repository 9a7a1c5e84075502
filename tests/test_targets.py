"""Target descriptions: complete, consistent with the vocabulary, honest about this machine."""

from __future__ import annotations

import platform

import pytest

from compactir.diagnostics import CompactError
from compactir.targets import (
    ISAS,
    Target,
    _cpu,
    all_targets,
    cache_bytes,
    cpu_features,
    cpu_name,
    load_target,
    machine,
    parse_target,
    target_names,
    unsupported,
)

ALL = all_targets()


def test_the_targets_of_the_design_are_there() -> None:
    assert set(target_names()) >= {"c", "x86", "x86-avx512", "arm", "arm-a53", "arm-a55", "arm-a76", "arm-v7"}
    assert set(target_names()) >= {"cortex-m4", "cortex-m7"}


@pytest.mark.parametrize("target", ALL, ids=lambda t: t.name)
def test_contraction_and_level_are_explicit(target: Target) -> None:
    assert "-ffp-contract=off" in target.cflags
    assert "-ffast-math" not in target.cflags
    assert not target.machine or any(f.startswith(("-march=", "-mcpu=")) for f in target.cflags)


@pytest.mark.parametrize("target", ALL, ids=lambda t: t.name)
def test_numbers_make_sense(target: Target) -> None:
    assert target.isa in ISAS
    assert target.lanes == {"scalar": 4, "avx2": 8, "avx512": 16, "neon": 4}[target.isa]
    assert target.align % (target.lanes * 4) == 0
    assert target.fma == (target.isa != "scalar")
    sizes = [size for size in (target.l1_bytes, target.l2_bytes, target.l3_bytes) if size]
    assert sizes == sorted(sizes)
    assert all(size % 1024 == 0 for size in sizes)
    assert bool(target.machine) == bool(target.triple) == bool(target.cpu_features)
    assert target.triple.startswith(target.machine)


@pytest.mark.parametrize("target", ALL, ids=lambda t: t.name)
def test_every_family_of_compilers_gets_the_flags_it_understands(target: Target) -> None:
    zig = target.flags("zig")
    assert f"-mcpu={target.zig_cpu}" in zig
    assert not any(flag.startswith("-march") for flag in zig)
    assert "-ffp-contract=off" in zig
    linking = target.link_flags("zig")
    assert not any(flag.startswith(("-mcpu=", "-fno-")) for flag in linking)
    assert linking[:2] == zig[:2] if target.zig_target else "-target" not in linking
    assert target.link_flags("gcc") == target.flags("gcc")
    assert target.flags("gcc") == target.cflags
    assert (f"--target={target.triple}" in target.flags("clang")) == (not target.is_native)


def test_zig_links_static_programs_against_musl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactir.targets.machine", lambda: "x86_64")
    arm = load_target("arm")
    assert "aarch64-linux-musl" in arm.flags("zig", static=True)
    assert any("musl" in flag for flag in load_target("c").flags("zig", static=True))
    assert "aarch64-linux-gnu" in arm.flags("zig")


def test_native_is_the_best_that_this_machine_runs() -> None:
    native = load_target("native")
    assert unsupported(native) == ()
    better = [t for t in ALL if t.native_rank > native.native_rank and not t.cpu_parts]
    assert all(unsupported(t) for t in better)


@pytest.mark.parametrize(
    ("machine", "features", "parts", "expected"),
    [
        ("x86_64", "sse2", [], "c"),
        ("x86_64", "abm avx avx2 bmi1 bmi2 f16c fma movbe", [], "x86"),
        (
            "x86_64",
            "abm avx avx2 bmi1 bmi2 f16c fma movbe avx512f avx512bw avx512cd avx512dq avx512vl",
            [],
            "x86-avx512",
        ),
        ("aarch64", "fp asimd", ["0xd03"], "arm-a53"),
        ("aarch64", "fp asimd asimddp asimdhp fphp", ["0xd05"], "arm-a55"),
        ("aarch64", "fp asimd asimddp asimdhp fphp", ["0xd0b"], "arm-a76"),
        ("aarch64", "fp asimd asimddp asimdhp fphp", ["0xd05", "0xd0b"], "arm"),
        ("arm", "half thumb neon vfpv4", ["0xc07"], "arm-v7"),
        ("arm", "half thumb neon", ["0xc09"], "c"),
        ("riscv64", "", [], "c"),
    ],
)
def test_native_on_other_machines(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: str, parts: list[str], expected: str
) -> None:
    monkeypatch.setattr("compactir.targets.machine", lambda: machine)
    monkeypatch.setattr("compactir.targets.cpu_features", lambda: frozenset(features.split()))
    monkeypatch.setattr("compactir.targets.cpu_parts", lambda: frozenset(parts))
    load_target.cache_clear()
    try:
        assert load_target("native").name == expected
    finally:
        load_target.cache_clear()


def test_unsupported_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactir.targets.machine", lambda: "x86_64")
    old = frozenset(load_target("x86").cpu_features) - {"avx2", "fma"}
    monkeypatch.setattr("compactir.targets.cpu_features", lambda: old)
    assert unsupported(load_target("x86")) == ("avx2", "fma")
    assert unsupported(load_target("arm")) == ("aarch64",)
    assert unsupported(load_target("c")) == ()


def test_the_host_compiler_is_only_used_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactir.targets.machine", lambda: "x86_64")
    assert load_target("x86").compilers()[0] == "gcc"
    assert load_target("arm").compilers() == ("zig", "aarch64-linux-gnu-gcc")
    assert load_target("cortex-m4").compilers() == ("arm-none-eabi-gcc", "zig")
    monkeypatch.setattr("compactir.targets.machine", lambda: "aarch64")
    assert load_target("arm").compilers() == ("gcc", "clang", "cc", "aarch64-linux-gnu-gcc", "zig")
    assert load_target("x86").compilers() == ("zig", "x86_64-linux-gnu-gcc")
    assert load_target("c").compilers() == ("gcc", "clang", "cc", "zig")


def test_a_foreign_program_runs_in_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactir.targets.machine", lambda: "x86_64")
    assert load_target("arm").run_command(["./a.out", "1"])[0] == "qemu-aarch64"
    assert load_target("arm").run_command(["./a.out", "1"])[-2:] == ["./a.out", "1"]
    assert load_target("x86").run_command(["./a.out"]) == ["./a.out"]
    monkeypatch.setattr("compactir.targets.machine", lambda: "aarch64")
    assert load_target("arm").run_command(["./a.out"]) == ["./a.out"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("x68", "did you mean `x86`"), ("avx", "the targets are arm, "), ("torch", "write `--emit py`")],
)
def test_an_unknown_name_is_an_error_with_a_way_out(name: str, hint: str) -> None:
    with pytest.raises(CompactError) as caught:
        load_target(name)
    assert caught.value.code == "CIR502"
    assert f"`{name}`" in caught.value.message
    assert caught.value.help is not None
    assert caught.value.help.startswith(hint)


def _description(**changes: str) -> str:
    keys = {
        "description": '"d"', "isa": '"scalar"', "lanes": "4", "registers": "16", "fma": "false",
        "x_step": "4", "issue_width": "4.0", "fma_per_cycle": "2.0", "loads_per_cycle": "2.0",
        "load_stall": "0.0",
        "word_loads": '"whole"', "l1_bytes": "1024", "l2_bytes": "0", "l3_bytes": "0", "align": "64",
        "native_rank": "0", "machine": '""', "triple": '""', "zig_target": '""',
        "zig_target_static": '""', "zig_cpu": '"baseline"', "cc": "[]",
        "cflags": '["-O2"]', "cpu_features": "[]", "cpu_parts": "[]", "runner": '""', "runner_args": "[]",
        "sysroots": "[]", "winograd": "true", "notes": '""',
    }  # fmt: skip
    return "\n".join(f"{key} = {value}" for key, value in {**keys, **changes}.items() if value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"lanes": '"four"'}, "lanes"),
        ({"lanes": "true"}, "lanes"),
        ({"cflags": '"-O2"'}, "cflags"),
        ({"isa": '"sse"'}, "isa"),
        ({"isa": ""}, "isa"),
        ({"word_loads": '"thirds"'}, "word_loads"),
        ({"colour": '"red"'}, "colour"),
    ],
)
def test_a_wrong_description_says_what_is_wrong(changes: dict[str, str], complaint: str) -> None:
    assert parse_target("mine", _description()).name == "mine"
    with pytest.raises(ValueError, match=complaint):
        parse_target("mine", _description(**changes))


def test_features_of_cpuinfo_are_those_of_every_core() -> None:
    text = "processor\t: 0\nflags\t\t: sse2 avx2 fma\n\nprocessor\t: 1\nflags\t\t: sse2 avx2\n"
    assert _cpu.features_of_cpuinfo(text) == {"sse2", "avx2"}
    assert _cpu.features_of_cpuinfo("Features\t: fp asimd\n") == {"fp", "asimd"}
    assert _cpu.features_of_cpuinfo("") == frozenset()


def test_features_of_macos_get_the_names_of_linux() -> None:
    intel = {
        "machdep.cpu.features": "FPU FMA MOVBE AVX1.0 F16C",
        "machdep.cpu.leaf7_features": "BMI1 AVX2 BMI2",
        "machdep.cpu.extfeatures": "LZCNT EM64T",
    }
    assert set(load_target("x86").cpu_features) <= _cpu.features_of_sysctl(intel)
    apple = {
        "hw.optional.AdvSIMD": "1",
        "hw.optional.arm.FEAT_FP16": "1",
        "hw.optional.arm.FEAT_DotProd": "0",
    }
    assert _cpu.features_of_sysctl(apple) == {"asimd", "asimdhp", "fphp"}


def test_names_of_cpus() -> None:
    assert _cpu.name_of_cpuinfo("processor : 0\nmodel name\t: Some CPU 3000\n") == "Some CPU 3000"
    assert _cpu.name_of_cpuinfo("CPU part\t: 0xd05\nCPU part\t: 0xd0b\n") == "Cortex-A55 + Cortex-A76"
    assert _cpu.name_of_cpuinfo("CPU part : 0xfff\n") == "Arm part 0xfff"
    assert _cpu.name_of_cpuinfo("") == ""


@pytest.mark.parametrize(
    ("reported", "bits", "expected"),
    [("x86_64", 64, "x86_64"), ("AMD64", 64, "x86_64"), ("x86_64", 32, "i686"), ("arm64", 64, "aarch64"),
     ("aarch64", 32, "arm"), ("armv7l", 32, "arm"), ("riscv64", 64, "riscv64")],
)  # fmt: skip
def test_names_of_machines(reported: str, bits: int, expected: str) -> None:
    assert _cpu.machine_of(reported, bits) == expected


def test_this_machine() -> None:
    assert cpu_name()
    assert all(size >= 1024 for size in cache_bytes().values())
    if platform.system() == "Linux" and machine() in ("x86_64", "aarch64"):
        assert cpu_features() & {"sse2", "asimd"}

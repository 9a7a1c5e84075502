"""What the CPU of this machine is: architecture, name, features, caches; read from what the system says."""

from __future__ import annotations

import platform
import re
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

# Other spellings -> the names of Linux's /proc/cpuinfo, which target descriptions use.
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "x86": "i686"}
_MACOS_X86 = {"avx1.0": "avx", "lzcnt": "abm"}
_MACOS_ARM = {
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_FHM": "asimdfhm",
    "hw.optional.arm.FEAT_LSE": "atomics",
}
_ARM_PARTS = {
    "0xc07": "Cortex-A7", "0xc08": "Cortex-A8", "0xc09": "Cortex-A9", "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1", "0xd40": "Neoverse V1", "0xd41": "Cortex-A78",
}  # fmt: skip


@cache
def machine() -> str:
    """The architecture this process runs as: `x86_64`, `aarch64`, `arm`, `i686` or the platform's own."""
    return machine_of(platform.machine(), struct.calcsize("P") * 8)


def machine_of(reported: str, pointer_bits: int) -> str:
    """The architecture of a process with such pointers on a kernel of that name (`armv7l`, `AMD64`)."""
    name = _MACHINES.get(reported.lower(), reported.lower())
    if name.startswith("armv") or (name == "aarch64" and pointer_bits == 32):
        return "arm"
    return "i686" if name == "x86_64" and pointer_bits == 32 else name


@cache
def cpu_features() -> frozenset[str]:
    """Features of this CPU that programs may use, as Linux spells them (`avx2`, `fma`, `asimd`, ...).

    Empty where the system does not say (Windows, the BSDs): there only the portable target is supported.
    """
    if platform.system() == "Darwin":
        return features_of_sysctl(_sysctl())
    return features_of_cpuinfo(_cpuinfo())


@cache
def cpu_name() -> str:
    """The CPU as people call it, such as `AMD EPYC 9554` or `Cortex-A55 + Cortex-A76`."""
    if platform.system() == "Darwin":
        return _sysctl().get("machdep.cpu.brand_string", machine())
    return name_of_cpuinfo(_cpuinfo()) or platform.processor() or machine()


@cache
def cpu_parts() -> frozenset[str]:
    """Arm's part numbers of the cores of this machine (`0xd05`); empty on other architectures."""
    return frozenset(re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)", _cpuinfo(), re.MULTILINE))


@cache
def cache_bytes() -> Mapping[int, int]:
    """Sizes of the data caches that core 0 sees, level -> bytes; empty where the system does not say."""
    sizes: dict[int, int] = {}
    for index in sorted(_CACHES.glob("index*")):
        try:
            kind, level, size = ((index / f).read_text().strip() for f in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[int(level)] = int(size[:-1]) * 1024
    return sizes


def features_of_cpuinfo(text: str) -> frozenset[str]:
    """The features that every core of a /proc/cpuinfo has (`flags` on x86, `Features` on Arm)."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset.intersection(*(frozenset(line.split()) for line in lines)) if lines else frozenset()


def features_of_sysctl(values: Mapping[str, str]) -> frozenset[str]:
    """The features in the output of macOS's `sysctl`, under Linux's names."""
    lists = (values.get(f"machdep.cpu.{key}", "") for key in ("features", "leaf7_features", "extfeatures"))
    x86 = {_MACOS_X86.get(name, name) for name in " ".join(lists).lower().split()}
    arm = {name for key, name in _MACOS_ARM.items() if values.get(key) == "1"}
    return frozenset(x86 | arm | ({"fphp"} if "asimdhp" in arm else set()))


def name_of_cpuinfo(text: str) -> str:
    """The CPU's name in a /proc/cpuinfo, or "" where it has none."""
    if model := re.search(r"^(?:model name|Model)\s*:\s*(\S.*)$", text, re.MULTILINE):
        return model[1].strip()
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)", text, re.MULTILINE)))
    return " + ".join(_ARM_PARTS.get(part, f"Arm part {part}") for part in parts)


@cache
def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(errors="replace")
    except OSError:
        return ""


@cache
def _sysctl() -> Mapping[str, str]:
    import subprocess  # macOS only, and 4 ms to import

    command = ["sysctl", "machdep.cpu", "hw.optional"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split(": ", 1) for line in out.stdout.splitlines() if ": " in line)

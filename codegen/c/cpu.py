"""Whether the CPU has the instructions that the code uses, asked in C: the condition behind NAME_BAD_CPU.

Only what the system says counts, so that an operating system that does not save wide registers is heard, too.
Where nobody can be asked without a library the answer is yes: on Arm, whose programs cannot read what the CPU
is, and with other compilers than gcc, clang and zig.
"""

from __future__ import annotations

from compactir.targets import Target

# Feature as Linux spells it -> leaf of CPUID, register, bit (Intel SDM, volume 2A, CPUID).
_X86 = {
    "fma": (1, "c", 12),
    "movbe": (1, "c", 22),
    "avx": (1, "c", 28),
    "f16c": (1, "c", 29),
    "bmi1": (7, "b", 3),
    "avx2": (7, "b", 5),
    "bmi2": (7, "b", 8),
    "avx512f": (7, "b", 16),
    "avx512dq": (7, "b", 17),
    "avx512cd": (7, "b", 28),
    "avx512bw": (7, "b", 30),
    "avx512vl": (7, "b", 31),
    "abm": (0x80000001, "c", 5),
}
_OSXSAVE = 1 << 27
_AVX_STATE, _AVX512_STATE = 0x06, 0xE6
"""Bits of XCR0: the system keeps the registers of SSE and AVX, and those of AVX-512."""


def cpu_check(target: Target) -> dict[str, str] | None:
    """What the template of the check needs; None where there is nothing to ask, or nobody."""
    if target.machine != "x86_64" or not target.cpu_features:
        return None
    masks = {(leaf, register): 0 for leaf, register, _ in _X86.values()}
    for name in target.cpu_features:
        leaf, register, bit = _X86[name]
        masks[leaf, register] |= 1 << bit
    wide = any(name.startswith("avx512") for name in target.cpu_features)
    return {
        "leaf1": f"0x{masks[1, 'c'] | _OSXSAVE:08x}u",
        "leaf7": f"0x{masks[7, 'b']:08x}u",
        "extended": f"0x{masks[0x80000001, 'c']:08x}u",
        "state": f"0x{_AVX512_STATE if wide else _AVX_STATE:02x}u",
    }

"""What kind of work an instruction is, read off its 32-bit encoding: tables of masks, first match wins.

Source: Arm Architecture Reference Manual (A-profile), the encoding indexes of A64 (C4) and A32 (F4).
"""

from __future__ import annotations

from functools import cache

CLASSES = (
    "fma32",
    "fma16",
    "dot8",
    "mla_int",
    "simd_other",
    "load_vector",
    "store_vector",
    "load_integer",
    "store_integer",
    "integer",
    "branch",
    "sve",
    "other",
)
"""`fma32` is what a convolution should consist of: multiply-adds on vectors of floats (FMLA, VFMA, VMLA)."""

Row = tuple[int, int, str]

A64: tuple[Row, ...] = (
    (0x1E000000, 0x04000000, "sve"),
    (0xBF60FC00, 0x0E20CC00, "fma32"),  # fmla, fmls .2s .4s
    (0xBFC0F400, 0x0F801000, "fma32"),  # fmla by element
    (0xBFC0F400, 0x0F805000, "fma32"),  # fmls by element
    (0xBF60FC00, 0x0E400C00, "fma16"),
    (0xBFC0F400, 0x0F001000, "fma16"),
    (0xBFC0F400, 0x0F005000, "fma16"),
    (0x9FE0FC00, 0x0E809400, "dot8"),  # sdot, udot
    (0x9FC0F400, 0x0F80E000, "dot8"),  # the same by element
    (0xFFE0F400, 0x4E80A400, "dot8"),  # smmla, usmmla
    (0xFFE0FC00, 0x6E80A400, "dot8"),  # ummla
    (0x9F20DC00, 0x0E208000, "mla_int"),  # smlal, umlal, smlsl, umlsl
    (0x9F20FC00, 0x0E20C000, "mla_int"),  # smull, umull
    (0x9F20FC00, 0x0E209400, "mla_int"),  # mla, mls
    (0x9F00B400, 0x0F002000, "mla_int"),  # by element: smlal, smlsl
    (0x9F00F400, 0x0F00A000, "mla_int"),  # by element: smull
    (0x3F000000, 0x1C000000, "load_vector"),  # from the literal pool
    (0x3F000000, 0x18000000, "load_integer"),
    (0x0E400000, 0x0C400000, "load_vector"),
    (0x0E400000, 0x0C000000, "store_vector"),
    (0x3EC00000, 0x38000000, "store_integer"),  # a single register: opc = 0 stores, all others load
    (0x3E000000, 0x38000000, "load_integer"),
    (0x0E400000, 0x08400000, "load_integer"),
    (0x0E400000, 0x08000000, "store_integer"),
    (0x1C000000, 0x14000000, "branch"),
    (0x0E000000, 0x0E000000, "simd_other"),
    (0x1C000000, 0x10000000, "integer"),
    (0x0E000000, 0x0A000000, "integer"),
)

A32: tuple[Row, ...] = (
    (0xFFB00F10, 0xF2000D10, "fma32"),  # vmla.f32, vmls.f32
    (0xFFB00F10, 0xF2000C10, "fma32"),  # vfma.f32, vfms.f32
    (0xFE800F50, 0xF2800140, "fma32"),  # vmla by scalar
    (0xFFB00F00, 0xFC200D00, "dot8"),
    (0xFF300000, 0xF4200000, "load_vector"),
    (0xFF300000, 0xF4000000, "store_vector"),
    (0xFE000000, 0xF2000000, "simd_other"),
    (0xFE000000, 0xFA000000, "branch"),  # blx
    (0xF0000000, 0xF0000000, "other"),
    (0x0E000000, 0x0A000000, "branch"),
    (0x0E1000F0, 0x001000B0, "load_integer"),  # halfwords, signed bytes
    (0x0E1000F0, 0x001000D0, "load_integer"),
    (0x0E1000F0, 0x001000F0, "load_integer"),
    (0x0E1000F0, 0x000000B0, "store_integer"),
    (0x0E1000F0, 0x000000D0, "load_integer"),  # ldrd
    (0x0E1000F0, 0x000000F0, "store_integer"),  # strd
    (0x0E000010, 0x06000010, "integer"),  # media
    (0x0C100000, 0x04100000, "load_integer"),
    (0x0C100000, 0x04000000, "store_integer"),
    (0x0E100000, 0x08100000, "load_integer"),  # ldm
    (0x0E100000, 0x08000000, "store_integer"),
    (0x0FE00000, 0x0C400000, "simd_other"),  # vmov between two core registers and a vector register
    (0x0E100000, 0x0C100000, "load_vector"),
    (0x0E100000, 0x0C000000, "store_vector"),
    (0x0F000000, 0x0F000000, "other"),  # svc
    (0x0E000000, 0x0E000000, "simd_other"),
    (0x0C000000, 0x00000000, "integer"),
)


@cache
def class_of(code: bytes, machine: str) -> str:
    """The class of an instruction, given its bytes in memory; Thumb and what is not Arm's is `other`."""
    if len(code) != 4 or machine not in ("aarch64", "arm"):
        return "other"
    word = int.from_bytes(code, "little")
    rows = A64 if machine == "aarch64" else A32
    return next((name for mask, value, name in rows if word & mask == value), "other")

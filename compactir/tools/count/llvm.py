"""The LLVM tools: disassembly of counted blocks, and llvm-mca's models of out-of-order cores."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache

from compactir.diagnostics import CompactError

_VERSIONS = ("", *(f"-{n}" for n in range(30, 13, -1)))
_NEEDS = {"neoverse-n1": 17}
"""Models that older versions lack: they answer with another core's numbers and do not say so."""
_TRIPLE = {"aarch64": "aarch64-linux-gnu", "arm": "armv7a-linux-gnueabihf"}
_FEATURES = {
    "aarch64": "+v8.6a,+fullfp16,+fp16fml,+dotprod,+i8mm,+bf16,+aes,+sha2,+sve,+sve2",
    "arm": "+neon,+vfp4",
}


def tool(name: str, least: int = 0) -> str:
    """The path of an LLVM tool, the newest version that is installed.

    Raises:
        CompactError: CIR516 where there is none, or only older ones than version `least`.
    """
    found = [path for suffix in _VERSIONS if (path := shutil.which(name + suffix))]
    newest = max(found, key=_version, default=None)
    if newest is None or _version(newest) < least:
        raise CompactError(
            "CIR516",
            f"estimating cycles needs `{name}`" + (f" of LLVM {least} or later" if least else ""),
            notes=[f"{newest} is of LLVM {_version(newest)}"] if newest else (),
            help=f"`apt install llvm-{max(least, 19)}` brings it; counting alone needs no LLVM",
        )
    return newest


@cache
def _version(path: str) -> int:
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    number = re.search(r"version (\d+)", said)
    return int(number[1]) if number else 0


def disassemble(blocks: Sequence[Sequence[bytes]], machine: str) -> list[list[str]]:
    """Assembly of each block, one line per instruction; what the disassembler does not know is a `nop`."""
    words = [" ".join(f"0x{byte:02x}" for byte in code) for block in blocks for code in block]
    command = [
        tool("llvm-mc"),
        "--disassemble",
        f"--triple={_TRIPLE[machine]}",
        f"--mattr={_FEATURES[machine]}",
    ]
    done = subprocess.run(command, input="\n".join(words), capture_output=True, text=True)
    unknown = {
        int(n) - 1 for n in re.findall(r"^<stdin>:(\d+):\d+: warning: invalid", done.stderr, re.MULTILINE)
    }
    known = (line.strip() for line in done.stdout.splitlines() if line.strip() and line.strip()[0] != ".")
    lines: Iterator[str] = iter(["nop" if i in unknown else next(known, "nop") for i in range(len(words))])
    return [[next(lines) for _ in block] for block in blocks]


def throughput(
    code: Sequence[Sequence[str]], machine: str, model: str, passes: int = 50
) -> list[float | None]:
    """Cycles of one pass over each piece of code when it repeats, by llvm-mca; None for what it cannot judge.

    Args:
        code: lines of assembly per piece.
        machine: "aarch64" or "arm".
        model: llvm-mca's name of the core, such as `neoverse-n1`.
        passes: how often each piece runs in the model.
    """
    pieces = [
        line for i, lines in enumerate(code) for line in (f"# LLVM-MCA-BEGIN {i}", *lines, "# LLVM-MCA-END")
    ]
    command = [
        tool("llvm-mca", _NEEDS.get(model, 0)),
        f"-mtriple={_TRIPLE[machine]}",
        f"-mattr={_FEATURES[machine]}",
        f"-mcpu={model}",
    ]
    command += [f"-iterations={passes}", "-noalias", "-json", "-"]
    since_19 = ["-call-latency=1", "-skip-unsupported-instructions=any"]
    for more in (since_19, []):
        done = subprocess.run([*command, *more], input="\n".join(pieces), capture_output=True, text=True)
        if done.returncode == 0:
            break
    else:
        raise CompactError(
            "CIR516",
            f"llvm-mca cannot use its model of {model}",
            notes=done.stderr.strip().splitlines()[:4],
            help="a newer one may: `apt install llvm-19`",
        )
    summaries = {int(r["Name"]): r["SummaryView"] for r in json.loads(done.stdout)["CodeRegions"]}
    found = (summaries.get(i) for i in range(len(code)))
    return [s["TotalCycles"] / s["Iterations"] if s else None for s in found]

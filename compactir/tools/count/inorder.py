"""A small model of the two-way in-order cores Cortex-A53 and Cortex-A55 for loops of AArch64 code.

llvm-mca's own models of these cores miss what matters most in NEON kernels: its A55 starts two 128-bit FMLA
per cycle (the core has two 64-bit pipes: one per cycle), its A53 does not forward accumulators (10 cycles per
dependent FMLA), and in neither does a 128-bit load take two cycles. The rules here are those publicly
documented (Arm's optimization notes; the ncnn project's notes on its A53 and A55 kernels):

    both   two instructions per cycle, in order; one load or store per cycle; 128-bit arithmetic takes both
           64-bit pipes for its cycle; an FMLA that waits for another's accumulator waits 4 cycles; a 128-bit
           load takes the load unit for 2 cycles, and no vector arithmetic starts with it
    A53    a 64-bit vector load does not start beside vector arithmetic either, a 64-bit integer load does;
           the result of an FMLA can be used otherwise than as accumulator after 8 cycles
    A55    a 64-bit vector load can start beside vector arithmetic

Two moves from integer to vector registers start in a cycle here, one in each 64-bit pipe. Public sources
differ about that on the A53: gcc's `cortex-a53.md` (f_mcr, neon_from_gp: any slot, either pipe) starts two,
LLVM's `AArch64SchedA53.td` (one unit for all vector arithmetic but multiplications) one, and ncnn's notes say
only that such a move starts beside a 64-bit load. The core "a53-one-move" is the A53 with one of them per
cycle. Neither lets a move start beside a vector load.

All other latencies are assumed round values; every load hits the L1 cache and every branch is predicted. So
the result is a lower bound, good for comparing code, not for stating times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

_REGISTER = re.compile(r"\b([vqdshbwx])(\d+)\b|\b(sp)\b")
_BYTES = {"q": 16, "d": 8, "s": 4, "h": 2, "b": 1, "x": 8, "w": 4}
_FULL = re.compile(r"\.(16b|8h|4s|2d)\b")
_LANE = re.compile(r"\.\w+\[\d+\]|\.[bhsd]\[")

_COMPARE = {"cmp", "cmn", "tst", "ccmp", "ccmn"}
_SETS_FLAGS = _COMPARE | {"adds", "subs", "ands", "bics", "fcmp", "fcmpe"}
_TAKES_FLAGS = {
    "csel",
    "cset",
    "csinc",
    "csinv",
    "csneg",
    "csetm",
    "cinc",
    "fcsel",
    "ccmp",
    "ccmn",
    "adc",
    "sbc",
}
_JUMPS = {"b", "bl", "br", "blr", "ret"}
_TESTS = {"cbz", "cbnz", "tbz", "tbnz"}
_NOTHING = {"nop", "hint", "bti", "dmb", "isb"}
_MOVES = {"movi", "dup", "mov", "ins", "ext", "zip1", "zip2", "uzp1", "uzp2", "trn1", "trn2", "rev64"}

_ACCUMULATES = re.compile(
    r"fmla|fmls|mla|mls|[su]mlal|[su]mlsl|[su]dot|usdot|[su]mmla|fmlal|fmlsl|bfdot|bfmmla"
)
_ALSO_READS = re.compile(r"bit|bif|bsl|ins|[su]sra|sli|sri|[su]aba|[su]adalp|tbx|movk")
_SLOW = re.compile(r"f|mla|mls|mul|[su]ml|[su]mul|[su]dot|usdot|[su]mmla|scvt|ucvt|sq|uq")
_INTEGER_MULTIPLIES = {"madd", "mul", "msub", "smull", "umull", "smaddl", "umaddl", "umulh", "smulh"}


@dataclass(frozen=True)
class Instruction:
    """What the model has to know of an instruction. Registers are `v0`, `x0`, `sp`; a w is an x, a q a v."""

    name: str
    kind: str  # alu, simd, load, store, vector load, vector store, branch, nothing
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    accumulator: tuple[str, ...] = ()
    latency: int = 1
    bytes: int = 0  # that a load or store moves
    pipes: int = 0  # of the two 64-bit vector pipes
    moved_base: str | None = None  # the address register that it also changes
    from_integer: bool = False  # a vector register from an integer one
    sets_flags: bool = False
    takes_flags: bool = False


@dataclass
class Core:
    """The state of the core while instructions issue."""

    is_a53: bool
    most_moves: int = 2
    """From integer to vector registers, in one cycle."""
    now: int = 0
    issued: int = 0
    pipes_used: int = 0
    moves: int = 0
    branched: bool = False
    memory_free: int = 0
    vectors_free: int = -1
    flags_ready: int = 0
    ready: dict[str, int] = field(default_factory=dict)
    accumulator_ready: dict[str, int] = field(default_factory=dict)

    def next_cycle(self, cycle: int) -> None:
        """Go on to a later cycle, in which nothing has issued yet."""
        self.now, self.issued, self.pipes_used, self.moves, self.branched = cycle, 0, 0, 0, False

    def operands_ready(self, i: Instruction) -> int:
        """The first cycle in which the instruction's operands are there."""
        times = [self.ready.get(r, 0) for r in i.reads]
        times += [self.accumulator_ready.get(r, self.ready.get(r, 0)) for r in i.accumulator]
        return max([*times, self.flags_ready if i.takes_flags else 0], default=0)

    def blocks_arithmetic(self, i: Instruction) -> bool:
        """Whether it is a load that no vector arithmetic starts beside."""
        return i.kind == "vector load" and (i.bytes >= 16 or self.is_a53)

    def can_issue(self, i: Instruction) -> bool:
        """Whether the instruction finds a place in this cycle."""
        if self.issued >= 2:
            return False
        if i.from_integer and self.moves >= self.most_moves:
            return False
        if i.kind == "simd":
            return self.pipes_used + i.pipes <= 2 and self.now >= self.vectors_free
        if i.kind == "branch":
            return not self.branched
        if "load" in i.kind or "store" in i.kind:
            return self.now >= self.memory_free and not (self.blocks_arithmetic(i) and self.pipes_used)
        return True

    def issue(self, i: Instruction) -> None:
        """Start the instruction in the first cycle that it fits in, and note when its results are there."""
        if (first := self.operands_ready(i)) > self.now:
            self.next_cycle(first)
        while not self.can_issue(i):
            self.next_cycle(self.now + 1)
        self.issued += 1
        self.pipes_used += i.pipes
        self.moves += i.from_integer
        latency = self.occupy(i)
        for register in i.writes:
            self.ready[register] = self.now + latency
            self.accumulator_ready.pop(register, None)
        for register in i.accumulator:
            self.accumulator_ready[register] = self.now + 4
            self.ready[register] = self.now + (8 if self.is_a53 else 4)
        if i.moved_base:
            self.ready[i.moved_base] = self.now + 1
        if i.sets_flags:
            self.flags_ready = self.now + 1
        if i.name in _JUMPS - {"b"}:
            self.issued = 2

    def occupy(self, i: Instruction) -> int:
        """Take the unit that the instruction works in; returns its latency."""
        if i.kind == "branch":
            self.branched = True
        if i.kind in ("alu", "simd", "branch", "nothing"):
            return i.latency
        words = max(1, -(-i.bytes // (8 if i.kind == "vector load" else 16)))
        self.memory_free = self.now + words
        if i.kind in ("load", "store"):
            return 3
        if self.blocks_arithmetic(i):
            self.vectors_free = self.now + words
        return 2 + words + self.is_a53


def cycles(code: Sequence[str], core: str, passes: int = 12, warm: int = 4) -> float:
    """Cycles of one pass over the instructions when they repeat.

    Args:
        code: lines of assembly as llvm-mc prints them.
        core: "a53", "a53-one-move" or "a55".
        passes: how often they run in the model.
        warm: passes that are not counted.
    """
    instructions = [parse(line) for line in code]
    state = Core(core.startswith("a53"), most_moves=1 if core == "a53-one-move" else 2)
    start = 0
    for number in range(passes):
        if number == warm:
            start = state.now
        for instruction in instructions:
            state.issue(instruction)
    return (state.now - start) / (passes - warm)


@cache
def parse(line: str) -> Instruction:
    """What a line of assembly does, as far as the model cares."""
    name, _, rest = line.strip().partition("\t" if "\t" in line.strip() else " ")
    name, operands = name.lower(), rest.split("//")[0].strip()
    if name in _NOTHING:
        return Instruction(name, "nothing", takes_flags=False)
    if re.match(r"ld|st|prfm", name):
        return _memory(name, operands)
    if name in _JUMPS | _TESTS or name.startswith("b."):
        return _branch(name, operands)
    if re.search(r"\bv\d+\.|\b[qdsh]\d+\b", operands):
        return _vector(name, operands)
    return _integer(name, operands)


def _memory(name: str, operands: str) -> Instruction:
    """A load, store or prefetch; with write-back or post-index the base register changes, too."""
    listed = "{" in operands
    opens = operands.find("[", operands.rindex("}") if listed else 0)
    data = operands[:opens] if opens >= 0 else operands
    address = re.search(r"\[([^\]]*)\](!?)(.*)$", operands[len(data) :])
    reads = _registers(address[1]) if address else ()
    base = None
    if address and (address[2] == "!" or address[3].strip(" ,")):
        base = reads[0] if reads else None
        reads += _registers(address[3])
    registers, size = _list_of(name, operands, data) if listed else _pair_of(data)
    vector = bool(re.search(r"\b[qdshbv]\d+", data))
    store, prefetch = name.startswith("st"), name.startswith("prfm")
    if prefetch:
        registers, size, vector = (), 8, False
    one_lane = listed and bool(re.search(r"\}\s*\[", operands))
    return Instruction(
        name,
        f"{'vector ' if vector else ''}{'store' if store else 'load'}",
        writes=() if store or prefetch else registers,
        reads=reads + (registers if store or one_lane else ()),
        bytes=size,
        moved_base=base,
    )


def _pair_of(data: str) -> tuple[tuple[str, ...], int]:
    registers = _registers(data)
    first = re.match(r"\s*([qdshbxw])", data)
    return registers, _BYTES[first[1]] * len(registers) if first else 8


def _list_of(name: str, operands: str, data: str) -> tuple[tuple[str, ...], int]:
    """The registers of ld1 ... st4 and the bytes moved; a single lane, or element, counts as 8 bytes."""
    inside = operands[operands.index("{") + 1 : operands.index("}")]
    if span := re.match(r"\s*v(\d+)\.\w+\s*-\s*v(\d+)", inside):
        low, high = int(span[1]), int(span[2])
        registers = tuple(f"v{(low + k) % 32}" for k in range((high - low) % 32 + 1))
    else:
        registers = _registers(inside)
    one_lane = bool(re.search(r"\}\s*\[", operands))
    return registers, len(registers) * (16 if _FULL.search(data) and not one_lane and name[-1] != "r" else 8)


def _branch(name: str, operands: str) -> Instruction:
    tested = operands.rsplit(",", 1)[0] if name in _TESTS else operands if name in ("br", "blr") else ""
    return Instruction(name, "branch", reads=_registers(tested), takes_flags=name.startswith("b."))


def _vector(name: str, operands: str) -> Instruction:
    first, *others = (part.strip() for part in operands.split(","))
    writes = _registers(first)[:1]
    reads = _registers(",".join(others)) if name not in ("movi", "mvni") else ()
    accumulates = bool(_ACCUMULATES.match(name))
    if not accumulates and (_ALSO_READS.match(name) or re.match(r"v\d+\.\w+\[", first)):
        reads += writes
    wide = bool(_FULL.search(first)) or (not first.startswith("v") and bool(_LANE.search(operands)))
    return Instruction(
        name,
        "simd",
        writes,
        reads,
        accumulator=writes if accumulates else (),
        latency=_vector_latency(name),
        pipes=2 if wide else 1,
        sets_flags=name in _SETS_FLAGS,
        takes_flags=name in _TAKES_FLAGS,
        from_integer=any(r.startswith("v") for r in writes) and any(r.startswith("x") for r in reads),
    )


def _vector_latency(name: str) -> int:
    if name in ("umov", "smov", "fmov"):
        return 3
    if name in _MOVES:
        return 2
    if name.startswith(("fdiv", "fsqrt")):
        return 20
    return 4 if _SLOW.match(name) else 2


def _integer(name: str, operands: str) -> Instruction:
    first, _, others = operands.partition(",")
    writes = () if name in _COMPARE else _registers(first)[:1]
    reads = _registers(operands if name in _COMPARE else others)
    return Instruction(
        name,
        "alu",
        writes,
        reads + (writes if name == "movk" else ()),
        latency=3 if name in _INTEGER_MULTIPLIES else 12 if name in ("sdiv", "udiv") else 1,
        sets_flags=name in _SETS_FLAGS,
        takes_flags=name in _TAKES_FLAGS,
    )


def _registers(text: str) -> tuple[str, ...]:
    """The registers named in a text, in order; the zero register is none."""
    found = []
    for kind, number, stack in _REGISTER.findall(text):
        if stack:
            found.append("sp")
        elif kind in "vqdshb":
            found.append(f"v{number}")
        elif number != "31":
            found.append(f"x{number}")
    return tuple(found)

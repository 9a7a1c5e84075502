"""Judging Arm code without Arm hardware: instructions by class, exactly; cycles, estimated.

    intervals, output = run_counted(["./program"], load_target("arm-a55"))
    intervals[1].classes()                  # between the first two marks: {"fma32": ..., "load_vector": ...}
    estimate(intervals[1], "a55").cycles

The program makes a mark by calling `getppid()`, before and after what is to be counted. Counts of one thread
repeat to the instruction. Estimates need LLVM's tools and are lower bounds, for comparing only (`estimate`).
"""

from compactir.tools.count.emulator import Accesses, Block, Interval, build_plugin, run_counted
from compactir.tools.count.encodings import CLASSES
from compactir.tools.count.estimate import MODELS, Estimate, HotBlock, estimate, estimate_all, models_for

__all__ = [
    "CLASSES",
    "MODELS",
    "Accesses",
    "Block",
    "Estimate",
    "HotBlock",
    "Interval",
    "build_plugin",
    "estimate",
    "estimate_all",
    "models_for",
    "run_counted",
]

"""How long one call of a compiled network takes, from Python, on this machine: the figures of the README.

    python benchmarks/bench_calls.py [--runs 300] [--target NAME]…

Networks and targets take turns, so that a busy moment of a shared machine hits all of them. Random weights,
since no kernel here is faster or slower for certain values.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

NETWORKS = ("mobilenet_v2", "shufflenet_v2", "lenet5")
ROUNDS = 10


def main() -> None:
    """Compile, call in turns, print the fastest and the median call."""
    import compactir
    from benchmarks.arguments import a_count, a_target_that_runs
    from compactir.targets import cpu_name, load_target, unsupported

    parser = argparse.ArgumentParser(description="Time calls of compiled networks.")
    parser.add_argument(
        "--runs", type=a_count, default=300, help="calls of each network and target (default 300)"
    )
    parser.add_argument(
        "--target",
        type=a_target_that_runs,
        action="append",
        help="default: the vector targets of this machine",
    )
    options = parser.parse_args()
    usual = [name for name in ("x86", "x86-avx512", "arm") if not unsupported(load_target(name))]
    targets = options.target or usual or ["native"]
    warnings.simplefilter("ignore")  # that weights are random
    modules = {
        (name, target): compactir.compile(ROOT / f"examples/{name}.arch", target=target)
        for name in NETWORKS
        for target in targets
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in modules}
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for key, module in modules.items():
            inputs = [rng.standard_normal(t.shape).astype(np.float32) for t in module.inputs.values()]
            out = module(*inputs)  # warm
            for _ in range(max(1, options.runs // ROUNDS)):
                start = perf_counter()
                module(*inputs, out=out)
                times[key].append(perf_counter() - start)
    print(f"{cpu_name()}; {options.runs} calls each, batch 1, one thread")
    print("network         target        fastest us   median us   workspace bytes   weights bytes")
    for (name, target), seconds in times.items():
        module = modules[name, target]
        fastest, middle = (1e6 * f(seconds) for f in (min, median))
        sizes = f"{module.workspace_bytes:17,} {module.weights_bytes:15,}"
        print(f"{name:<15} {target:<12} {fastest:11.1f} {middle:11.1f} {sizes}")


if __name__ == "__main__":
    main()

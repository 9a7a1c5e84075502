"""How long the compiler takes from each example's file to C: the graph, all passes, the Plan, the text.

    python benchmarks/bench_compile.py [--target x86-avx512] [--rounds 3] [NETWORK]…

Processor time of one process, the best round; packing the weights (most of AlexNet's time) is in it, drawing
them and the C compiler are not. Networks take turns, so that a busy moment hits all of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import process_time

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Compile in turns, print the best time of each network, slowest first."""
    from benchmarks.arguments import a_count, a_target, an_example
    from compactir.codegen.c.emit import emit_c
    from compactir.codegen.lower import lower
    from compactir.driver import Source, read_graph
    from compactir.passes import pipeline, run_pipeline
    from compactir.targets import load_target
    from compactir.weights.init import draw

    parser = argparse.ArgumentParser(description="Time the compiler on the examples.")
    parser.add_argument(
        "networks", nargs="*", type=an_example, metavar="NETWORK", help="default: all of examples/"
    )
    parser.add_argument("--target", type=a_target, default="x86-avx512", help="default x86-avx512")
    parser.add_argument("--rounds", type=a_count, default=3, help="default 3")
    options = parser.parse_args()
    target = load_target(options.target)
    names = options.networks or sorted(path.stem for path in (ROOT / "examples").glob("*.arch"))
    best: dict[str, float] = {}
    nodes: dict[str, int] = {}
    for _ in range(options.rounds):
        for name in names:
            start = process_time()
            graph = read_graph(Source(ROOT / f"examples/{name}.arch"))
            read = process_time() - start
            nodes[name] = len(graph.nodes)
            graph.weights = draw(graph, 0)
            start = process_time()
            run_pipeline(graph, pipeline("c", target))
            emit_c(lower(graph, target), target, pack="file")
            best[name] = min(best.get(name, read + process_time() - start), read + process_time() - start)
    print("network               nodes   seconds")
    for name, seconds in sorted(best.items(), key=lambda item: -item[1]):
        print(f"{name:<20} {nodes[name]:>6} {seconds:9.2f}")


if __name__ == "__main__":
    main()

"""Other engines against ours on all networks: measures, then writes docs/performance.md and its charts.

    python benchmarks/bench_engines.py [--rounds 20] [--only mobilenet_v2,lenet5_dense] [--against openvino,…]
    python benchmarks/bench_engines.py --threads 1,2   the tables of one thread and of two
    python benchmarks/bench_engines.py --isa avx2      the table of AVX2: ours, and engines held to it
    python benchmarks/bench_engines.py --redraw        the page again, from the figures that are there

Figures are kept in benchmarks/engines.json after every race; `--only` replaces those of some networks, and
makes a run in parts. Races on a busy machine are marked on the page. `compactc bench` does one race.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FIGURES = ROOT / "benchmarks" / "engines.json"

NETWORKS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mobilenet_v1": ("MobileNetV1", "mobilenet_v1", {}),
    "mobilenet_v2": ("MobileNetV2", "mobilenet_v2", {}),
    "shufflenet_v2": ("ShuffleNetV2 1×", "shufflenet_v2", {}),
    "shufflenet_v2_half": ("ShuffleNetV2 0.5×", "shufflenet_v2", {"width": "0.5"}),
    "shufflenet_v1_g3": ("ShuffleNetV1, 3 groups", "shufflenet_v1", {}),
    "shufflenet_v1_g8": ("ShuffleNetV1, 8 groups", "shufflenet_v1", {"groups": "8"}),
    "squeezenet": ("SqueezeNet 1.1", "squeezenet", {}),
    "igcv3": ("IGCV3-D", "igcv3", {}),
    "mixnet": ("MixNet-S", "mixnet", {}),
    "condensenet74": ("CondenseNet-74", "condensenet74", {}),
    "googlenet": ("GoogLeNet, batch norms", "googlenet", {"form": "bn"}),
    "densenet121": ("DenseNet-121", "densenet121", {}),
    "resnext50": ("ResNeXt-50 32×4d", "resnext50", {}),
    "alexnet": ("AlexNet, 2 groups", "alexnet", {}),
    "lenet5_dense": ("LeNet-5, dense", "lenet5", {"output": "linear", "modern": "true"}),
    "lenet5_table": ("LeNet-5, table", "lenet5", {"output": "linear", "plain": "true"}),
}
"""Key -> title, model, definitions. LeNet-5 with plain pooling and a linear head: engines have no other."""

THREADS = ("1", "2")
RACES = {
    (1, ""): "races",
    (2, ""): "races of two threads",
    (1, "avx2"): "races of avx2",
    (2, "avx2"): "races of avx2, two threads",
}
"""Threads and what engines are held to -> the key of their races."""
READ_MB = (0.6, 12.0, 256.0)
"""Sizes that lie in the second cache, in the third, in memory: the roofs of the chart."""


def main() -> None:
    """Measure what is asked for, keep it, write the page."""
    from compactir.tools.bench.engines import ENGINES

    parser = argparse.ArgumentParser(description="Race other engines, write docs/performance.md.")
    parser.add_argument("--rounds", type=int, default=20, help="turns of everybody (default 20)")
    parser.add_argument("--only", type=_names(NETWORKS), default=list(NETWORKS), help="networks, a list")
    parser.add_argument("--against", type=_names(ENGINES), default=list(ENGINES), help="engines, a list")
    parser.add_argument("--threads", type=_names(THREADS), default=["1"], help="1, 2 or 1,2 (default 1)")
    parser.add_argument("--isa", choices=("avx2",), default="", help="hold ours and the engines to it")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, write the page again")
    options = parser.parse_args()
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {"races": {}}
    if not options.redraw:
        print(f"load average {os.getloadavg()[0]:.2f}; races are only final on a quiet machine")
        known["reads"] = _reads()
        for threads in map(int, options.threads):
            races = known.setdefault(RACES[threads, options.isa], {})
            for key in options.only:
                races[key] = _race(key, threads, options)
                FIGURES.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not known["races"]:
        parser.error("there are no figures to draw yet: run it without --redraw")
    _write(known)


def redraw() -> None:
    """The page from the figures as they are."""
    _write(json.loads(FIGURES.read_text(encoding="utf-8")))


def _names(known: Any) -> Any:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if wrong := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: not one of {', '.join(known)}")
        return names

    return read


def _race(key: str, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    from compactir.driver import Source
    from compactir.targets import load_target
    from compactir.tools.bench.command import LEVELS, bench
    from compactir.tools.bench.race import Settings
    from compactir.tools.bench.tables import print_result

    _, model, defines = NETWORKS[key]
    source = Source(ROOT / f"examples/{model}.arch", defines, seed=0)
    settings = Settings(threads, options.rounds, isa=options.isa)
    target = load_target(LEVELS.get(options.isa, "native"))
    result = bench(source, target, options.against, settings, None, lambda what: None)
    print_result(result)
    print(flush=True)
    return result.to_json()


def _reads() -> dict[str, float]:
    """GB/s of one core by the megabytes that it reads again and again."""
    from compactir.runtime.peak import build_loop, read_speed
    from compactir.targets import load_target

    library = build_loop(load_target("native"))
    return {str(size): read_speed(library, size) for size in READ_MB}


def _write(known: dict[str, Any]) -> None:
    """The page, and the charts where matplotlib is installed."""
    from benchmarks import arm_page
    from benchmarks.performance_page import page

    titles = {key: title for key, (title, _, _) in NETWORKS.items() if key in known["races"]}
    charts: list[str] = []
    try:
        from benchmarks.performance_charts import draw
    except ImportError:
        print('no charts: `pip install "compactir[plot]"` brings matplotlib')
    else:
        charts = draw(known, titles, ROOT / "docs")
    path = ROOT / "docs" / "performance.md"
    text = page(known, titles, charts) + "\n" + arm_page.section(arm_page.load())
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""What engines reached before, as shares of the multiply-add peak: a guard against driving one badly.

Measured in November 2026 on two cores of a Zen 5 (AVX-512, 1 MiB of L2 each, 32 MiB of L3), batch 1, float32,
fastest run, on a machine with other work on it: 5 to 14 % pessimistic for the best engine of a network.
onnxruntime 1.31.1, openvino 2026.4.1, mnn 3.6.1, ncnn 1.0.20261020, ai-edge-litert 2.3.0 (LiteRT's models
through litert-torch), torch 2.13.0 (TorchScript with oneDNN graph). There are shares for that kind of core
only: others have other ratios of cache and memory speed to arithmetic.
"""

from __future__ import annotations

__all__ = ["known_share"]

_PEAK = {1: 242.0, 2: 467.0}
"""GFLOP/s, by threads."""
_ISA = "avx512"
_CLOSE = 0.03
"""A network of that name with MACs within this is the one that was measured."""

_ENGINES = ("onnxruntime", "openvino", "mnn", "ncnn", "litert", "torch")

# Network and its MACs: milliseconds of every engine, with one thread and with two; 0 where there is none.
_MS: dict[tuple[str, int], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("mobilenet_v2", 300_774_272): (
        (4.08, 3.65, 7.50, 4.77, 3.66, 4.17),
        (2.06, 1.96, 3.99, 2.77, 2.13, 3.40),
    ),
    ("mobilenet_v1", 568_740_352): (
        (5.64, 5.64, 12.26, 6.97, 5.68, 6.70),
        (2.86, 2.90, 6.25, 3.60, 2.88, 3.78),
    ),
    ("shufflenet_v2", 144_907_992): (
        (2.32, 2.58, 3.51, 2.63, 2.09, 4.51),
        (1.35, 1.39, 2.17, 1.68, 1.29, 3.04),
    ),
    ("shufflenet_v2", 40_476_448): (
        (0.755, 0.936, 1.14, 0.848, 0.807, 1.43),
        (0.544, 1.20, 0.804, 0.632, 0.586, 0),
    ),
    ("shufflenet_v1", 137_460_672): (
        (2.10, 2.17, 3.72, 2.39, 2.38, 3.24),
        (1.39, 1.23, 2.65, 1.73, 1.41, 3.02),
    ),
    ("shufflenet_v1", 138_365_952): ((2.46, 2.42, 5.19, 3.69, 2.86, 4.47), (1.40, 1.39, 4.36, 2.75, 1.74, 0)),
    ("squeezenet", 349_151_936): ((3.46, 3.39, 5.19, 4.24, 3.73, 4.25), (1.74, 1.82, 3.08, 2.27, 1.96, 2.51)),
    ("igcv3", 312_970_176): ((8.31, 11.53, 11.05, 7.32, 6.87, 17.49), (4.75, 6.77, 7.25, 5.18, 3.89, 0)),
    ("mixnet", 239_173_360): (
        (8.62, 6.07, 12.24, 10.98, 11.83, 17.93),
        (6.12, 3.54, 8.00, 8.86, 6.66, 15.81),
    ),
    ("condensenet74", 516_640_576): (
        (20.19, 19.32, 26.29, 0, 20.87, 108),
        (12.01, 11.79, 21.45, 0, 11.71, 76.16),
    ),
    ("alexnet", 724_406_816): (
        (25.36, 13.23, 19.23, 16.29, 27.68, 22.00),
        (15.08, 9.42, 14.39, 9.90, 23.42, 0),
    ),
    ("googlenet", 1_498_376_192): (
        (15.03, 15.24, 20.97, 16.03, 15.02, 16.51),
        (7.86, 7.89, 12.85, 8.84, 7.89, 0),
    ),
    ("resnext50", 4_230_479_872): (
        (47.33, 44.12, 99.02, 60.53, 46.77, 43.25),
        (29.32, 26.13, 55.66, 36.46, 24.41, 25.39),
    ),
    ("densenet121", 2_834_161_664): (
        (30.52, 29.41, 51.73, 32.92, 32.11, 36.19),
        (16.09, 16.46, 28.63, 17.69, 17.80, 0),
    ),
    ("lenet5", 416_520): ((0.029, 0.034, 0.040, 0.054, 0.017, 0), (0.027, 0.030, 0.043, 0.064, 0.014, 0)),
}


def known_share(network: str, macs: int, engine: str, threads: int, isa: str) -> float | None:
    """The share of the peak, 0…1, that an engine reached on this network; None where nobody knows."""
    near = [key for key in _MS if key[0] == network and abs(key[1] / macs - 1) < _CLOSE]
    if not near or isa != _ISA or threads not in _PEAK or engine not in _ENGINES:
        return None
    key = min(near, key=lambda key: abs(key[1] - macs))
    ms = _MS[key][threads - 1][_ENGINES.index(engine)]
    return 2e-6 * key[1] / ms / _PEAK[threads] if ms else None

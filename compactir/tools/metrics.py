"""BUnit-Net's scores of a compressed network against a baseline: accuracy, computation and size.

    TCA = exp(w1 (f_b - f_n) / f_b) / exp(w2 (a_b - a_n) / a_b)        f: MACs (or FLOPs: only ratios enter)
    TSA = exp(w1 (p_b - p_n) / p_b) / exp(w2 (a_b - a_n) / a_b)        p: parameters, a: top-1 in percent

Source: BUnit-Net, IEEE TPAMI, equation 9, with its three pairs of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

WEIGHT_PAIRS = ((1, 1), (1, 4), (4, 1))
"""(w1, w2) as the paper uses them."""


@dataclass(frozen=True)
class Figures:
    """A network as the scores see it."""

    top1: float
    macs: float
    params: float


MOBILENET_V1 = Figures(70.6, 568_740_352, 4_231_976)
"""The usual baseline: MobileNetV1 1.0, 224², Howard et al. 2017, arXiv:1704.04861."""


@dataclass(frozen=True)
class Score:
    """TCA and TSA for one pair of weights."""

    w1: int
    w2: int
    tca: float
    tsa: float


def scores(network: Figures, baseline: Figures = MOBILENET_V1) -> list[Score]:
    """The scores for the paper's pairs of weights."""
    fewer_macs = (baseline.macs - network.macs) / baseline.macs
    fewer_params = (baseline.params - network.params) / baseline.params
    loss = (baseline.top1 - network.top1) / baseline.top1
    return [
        Score(w1, w2, exp(w1 * fewer_macs) / exp(w2 * loss), exp(w1 * fewer_params) / exp(w2 * loss))
        for w1, w2 in WEIGHT_PAIRS
    ]

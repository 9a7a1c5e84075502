"""Where the coefficients of elementary.h come from: minimax polynomials, rounded to float32 one by one.

Run it (NumPy is all it needs) to print the C lines. Each fit minimizes the largest relative error of the
*function* on a dense grid in float64 by Lawson's reweighted least squares; then the lowest free coefficient
is rounded to float32 and the rest fitted again, so that higher ones make up for the rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, pi, sqrt

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Approximate f by head + factor * polynomial(variable), both functions of x on [low, high]."""

    name: str
    f: Callable[[F64], F64]
    head: Callable[[F64], F64]
    factor: Callable[[F64], F64]
    variable: Callable[[F64], F64]
    terms: int
    low: float
    high: float


LN2 = float(np.log(2.0))
C0 = np.float64(np.float32(2 / LN2)) + np.float64(np.float32(2 / LN2 - np.float64(np.float32(2 / LN2))))

FITS = [
    Fit("exp", np.exp, lambda r: 1 + r, lambda r: r * r, lambda r: r, 5, -0.34660, 0.34660),
    Fit("exp2", np.exp2, np.ones_like, lambda r: r, lambda r: r, 6, -0.5001, 0.5001),
    Fit(
        "log2",
        lambda s: (np.log1p(s) - np.log1p(-s)) / LN2,
        lambda s: C0 * s,
        lambda s: s**3,
        lambda s: s * s,
        4,
        1e-3,
        0.17158,
    ),
]


RATIOS: list[tuple[str, Callable[[F64], F64], int, float]] = [
    ("tanh", np.tanh, 4, 9.02),
    ("erf sqrt(pi) / 2", lambda x: np.vectorize(erf)(x) * sqrt(pi) / 2, 5, 3.92),
]
"""Odd functions: the name, the function, the terms of p and of q, the largest argument."""


def minimax(matrix: F64, target: F64) -> F64:
    """The x that (nearly) minimizes max |matrix @ x - target|, by Lawson's algorithm.

    Shapes: matrix (points, terms), target (points,) -> (terms,)
    """
    weight = np.full(len(target), 1.0 / len(target))
    scale = np.abs(matrix).max(axis=0)
    best, least = np.zeros(matrix.shape[1]), np.inf
    for _ in range(400):
        root = np.sqrt(weight)[:, None]
        x = np.linalg.lstsq(matrix / scale * root, target * root[:, 0], rcond=None)[0] / scale
        error = np.abs(matrix @ x - target)
        if error.max() < least:
            best, least = x, error.max()
        weight = weight * (error + 1e-30)
        weight /= weight.sum()
    return best


def coefficients(fit: Fit) -> tuple[list[np.float32], float]:
    """The float32 coefficients, lowest power first, and the largest relative error that they leave."""
    x = (fit.low + fit.high) / 2 + (fit.high - fit.low) / 2 * np.cos(np.linspace(0, np.pi, 4001))
    x = x[np.abs(x) > 1e-6]
    truth = fit.f(x)
    columns = np.stack([fit.factor(x) * fit.variable(x) ** k / truth for k in range(fit.terms)], axis=1)
    rest = (truth - fit.head(x)) / truth
    rounded: list[np.float32] = []
    for k in range(fit.terms):
        rounded.append(np.float32(minimax(columns[:, k:], rest)[0]))
        rest = rest - columns[:, k] * np.float64(rounded[-1])
    return rounded, float(np.abs(rest).max())


def ratio(
    f: Callable[[F64], F64], terms: int, high: float
) -> tuple[list[np.float32], list[np.float32], float]:
    """P and q of f(x) / x = (1 + z p(z)) / (1 + z q(z)), z = x², lowest power first, and the error left.

    f is odd, with slope 1 at 0; x goes up to `high`.

    The residual 1 + z p - f (1 + z q) is linear in both; dividing it by the last denominator makes it the
    relative error (Sanathanan and Koerner 1963). Coefficients are rounded in turn, the lowest first.
    """
    x = high / 2 * (1 - np.cos(np.linspace(1e-3, np.pi, 4001)))
    z, truth = x * x, f(x) / x
    powers = np.stack([z ** (k + 1) for k in range(terms)], axis=1)
    columns = np.concatenate([powers, -truth[:, None] * powers], axis=1)
    fixed = np.zeros(2 * terms)
    free = [i for k in range(terms) for i in (k, terms + k)]
    while free:
        weight, denominator, least, best = np.ones(len(x)), np.ones(len(x)), np.inf, fixed
        for _ in range(150):
            root = np.sqrt(weight) / (truth * denominator)
            scale = np.abs(columns[:, free]).max(axis=0)
            rest = (truth - 1 - columns @ fixed) * root
            found = fixed.copy()
            found[free] = (
                np.linalg.lstsq(columns[:, free] / scale * root[:, None], rest, rcond=None)[0] / scale
            )
            denominator = 1 + powers @ found[terms:]
            error = np.abs((1 + powers @ found[:terms]) / denominator / truth - 1)
            if error.max() < least:
                least, best = float(error.max()), found
            weight = np.maximum(weight * error / (weight * error).sum(), 1e-12)
        fixed[free[0]] = np.float32(best[free[0]])
        free = free[1:]
    error = np.abs((1 + powers @ fixed[:terms]) / (1 + powers @ fixed[terms:]) / truth - 1)
    halves = (fixed[:terms], fixed[terms:])
    p, q = ([np.float32(c) for c in half] for half in halves)
    return p, q, float(error.max())


if __name__ == "__main__":
    for fit in FITS:
        values, error = coefficients(fit)
        print(f"/* {fit.name}: largest relative error {error:.2e} = 2^{np.log2(error):.1f} */")
        print("  " + ", ".join(f"{float(value).hex()}f" for value in values))
    for name, f, terms, high in RATIOS:
        p, q, error = ratio(f, terms, high)
        print(f"/* {name}: largest relative error {error:.2e} = 2^{np.log2(error):.1f} */")
        for values in (p, q):
            print("  " + ", ".join(f"{float(value).hex()}f" for value in values))

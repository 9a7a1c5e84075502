"""The arithmetic behind `factorise`: the weights of one layer as a product of smaller ones.

Weights are (G, O, I, kh, kw): G blocks of equal shape. Factors are the stages in the order in which they run,
and what they come to as one weight again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compactir.ir.types import Array

ROUNDS = 60
"""Of alternating least squares, for scheme 1: more change the error by less than a hundredth of itself."""


@dataclass(frozen=True)
class Factors:
    """Stages (G·groups, outs, ins, kh, kw) of a layer, and the weight that they make together."""

    stages: tuple[Array, ...]
    whole: Array

    def error(self, weight: Array) -> float:
        """The Frobenius norm of what is lost, over that of the weight."""
        scale = np.linalg.norm(weight)
        return float(np.linalg.norm(self.whole - weight) / scale) if scale else 0.0


class Split:
    """A weight cut in two by its singular values: kh×kw to K channels, then 1×1.

    With `across` it is kh×1 to K, then 1×kw: scheme 2 of Jaderberg et al.
    Source: Denton et al. 2014, arXiv:1404.0736; Jaderberg et al. 2014, arXiv:1405.3866.
    """

    def __init__(self, weight: Array, across: bool) -> None:
        self.shape, self.across = weight.shape, across
        g, o, i, kh, kw = weight.shape
        matrix = (
            weight.transpose(0, 2, 3, 1, 4).reshape(g, i * kh, o * kw)
            if across
            else weight.transpose(0, 2, 3, 4, 1).reshape(g, i * kh * kw, o)
        )
        self.u, self.s, self.v = np.linalg.svd(matrix, full_matrices=False)

    @property
    def ranks(self) -> int:
        """The largest rank that says anything."""
        return int(self.s.shape[1])

    def least(self, error: float) -> int:
        """The smallest rank whose relative error is at most this."""
        squares = (self.s**2).sum(axis=0)
        lost = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
        return max(1, int(np.argmax(lost <= squares.sum() * max(error, _EXACT) ** 2)))

    def factors(self, rank: int) -> Factors:
        """The stages of this rank."""
        g, o, i, kh, kw = self.shape
        root = np.sqrt(self.s[:, :rank])
        first, last = self.u[:, :, :rank] * root[:, None], self.v[:, :rank] * root[:, :, None]
        whole = first @ last
        if self.across:
            stages = (
                first.reshape(g, i, kh, 1, rank).transpose(0, 4, 1, 2, 3),
                last.reshape(g, rank, o, 1, kw).transpose(0, 2, 1, 3, 4),
            )
            return Factors(stages, whole.reshape(g, i, kh, o, kw).transpose(0, 3, 1, 2, 4))
        stages = (
            first.reshape(g, i, kh, kw, rank).transpose(0, 4, 1, 2, 3),
            last.reshape(g, rank, o, 1, 1).transpose(0, 2, 1, 3, 4),
        )
        return Factors(stages, whole.reshape(g, i, kh, kw, o).transpose(0, 4, 1, 2, 3))


_EXACT = 1e-12
"""An error of 0 is not reached in floating point."""


def separable(weight: Array, rank: int) -> Factors:
    """Scheme 1 of Jaderberg et al.: per input channel `rank` filters kh×1, behind each 1×kw, then 1×1.

    For each input channel W[o, y, x] ≈ Σ_m a[o, m] v[m, y] h[m, x], by alternating least squares from the
    singular vectors of the channel's filters.
    """
    g, o, i, kh, kw = weight.shape
    w = weight.transpose(0, 2, 1, 3, 4).reshape(g * i, o, kh, kw)  # one problem per input channel
    v, h = _start(w, rank)
    for _ in range(ROUNDS):
        a = np.einsum("cnm,coyx,cmy,cmx->con", _inverse(_gram(v) * _gram(h)), w, v, h, optimize=True)
        v = np.einsum("cnm,coyx,com,cmx->cny", _inverse(_gram(_rows(a)) * _gram(h)), w, a, h, optimize=True)
        h = np.einsum("cnm,coyx,com,cmy->cnx", _inverse(_gram(_rows(a)) * _gram(v)), w, a, v, optimize=True)
    a = np.einsum("cnm,coyx,cmy,cmx->con", _inverse(_gram(v) * _gram(h)), w, v, h, optimize=True)
    whole = np.einsum("com,cmy,cmx->coyx", a, v, h, optimize=True).reshape(g, i, o, kh, kw)
    stages = (
        v.reshape(g * i, rank, 1, kh, 1),
        h.reshape(g * i * rank, 1, 1, 1, kw),
        a.reshape(g, i, o, rank).transpose(0, 2, 1, 3).reshape(g, o, i * rank, 1, 1),
    )
    return Factors(stages, whole.transpose(0, 2, 1, 3, 4))


def _start(w: Array, rank: int) -> tuple[Array, Array]:
    """The strongest separable parts of each channel's principal filters: v (C, M, kh), h (C, M, kw)."""
    c, o, kh, kw = w.shape
    _, s, filters = np.linalg.svd(w.reshape(c, o, kh * kw), full_matrices=False)
    u, t, v = np.linalg.svd(filters.reshape(c, -1, kh, kw), full_matrices=False)
    strength = (s[:, :, None] * t).reshape(c, -1)
    chosen = np.argsort(-strength, axis=1, kind="stable")[:, :rank]
    columns = np.take_along_axis(u.transpose(0, 1, 3, 2).reshape(c, -1, kh), chosen[:, :, None], 1)
    rows = np.take_along_axis(v.reshape(c, -1, kw), chosen[:, :, None], 1)
    return columns, rows


def _rows(a: Array) -> Array:
    return a.transpose(0, 2, 1)


def _gram(x: Array) -> Array:
    """(C, M, M) of (C, M, n)."""
    return x @ x.transpose(0, 2, 1)


def _inverse(gram: Array) -> Array:
    inverse: Array = np.linalg.pinv(gram, rcond=_EXACT, hermitian=True)
    return inverse

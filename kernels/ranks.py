"""Ranks of responses with ties, and rank-sum statistics, for every unit.

Wilcoxon 1945 (Biometrics Bulletin 1), Mann & Whitney 1947 (Ann. Math. Statist. 18), with the normal
approximation corrected for ties (Lehmann 1975, Nonparametrics). The area under the ROC curve is
U / (n_a n_b) (Hanley & McNeil 1982, Radiology 143).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


class RankSum(NamedTuple):
    """``u`` of the first side, ``auc``, and ``p`` by the normal approximation, per unit."""

    u: Floats
    auc: Floats
    p: Floats


def average_ranks(x: NDArray[Any]) -> tuple[Floats, Floats]:
    """Ranks ``[row, unit]`` from 1, tied values sharing their mean rank, and ``ties [unit]``.

    ``ties`` is the sum of t^3 - t over groups of t equal values. Both are NaN for units with NaN.
    """
    rows = len(x)
    order = np.argsort(x, axis=0, kind="stable")
    ordered = np.take_along_axis(x, order, axis=0)
    begins = np.ones(x.shape, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    places = np.arange(rows)[:, np.newaxis]
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=0)
    ends = np.ones(x.shape, bool)
    ends[:-1] = begins[1:]
    last = np.minimum.accumulate(np.where(ends, places, rows)[::-1], axis=0)[::-1]
    equals = (last - first + 1).astype(np.float64)
    ties = (equals * equals - 1).sum(axis=0)
    ranks = np.empty(x.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    unknown = np.isnan(x).any(axis=0)
    ranks[:, unknown] = ties[unknown] = np.nan
    return ranks, ties


def rank_sum(ranks: Floats, ties: Floats, first: NDArray[np.bool_], sides: int = 1) -> RankSum:
    """Mann-Whitney test of the rows in ``first [row]`` against all others, for every unit.

    p tests whether the first side is larger or, with 2 ``sides``, whether they differ. It is
    corrected for ties and continuity, as in ``scipy.stats.mannwhitneyu(method="asymptotic")``. For
    a constant unit p is 1 and the area 1/2.
    """
    n, n_a = len(ranks), int(first.sum())
    n_b = n - n_a
    u = ranks[first].sum(axis=0) - n_a * (n_a + 1) / 2
    pairs = n_a * n_b
    larger = np.maximum(u, pairs - u) if sides == 2 else u
    spread = np.sqrt(pairs / 12 * ((n + 1) - ties / (n * (n - 1))))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (larger - pairs / 2 - 0.5) / spread
    p = np.minimum(sides * special.ndtr(-z), 1.0)
    return RankSum(u, u / pairs, p)

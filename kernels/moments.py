"""Count, mean and M2: the formulas, for numpy arrays and torch tensors alike.

M2 is the sum of squared deviations from the mean. A group of stimuli is accumulated about a pivot
fixed at its start (see :mod:`.cpu` and :mod:`.device`). Groups combine by the pairwise update of
Chan, Golub & LeVeque (1979, "Updating formulae and a pairwise algorithm for computing sample
variances", Stanford STAN-CS-79-773). The state never holds a variance: see :func:`variance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = Any  # numpy array or torch tensor: the formulas need only arithmetic and `clip`


class Moments(NamedTuple):
    """Sufficient statistics of one set of stimuli, or of several sets at once.

    ``mean`` and ``m2`` are float64 arrays of the same shape. ``count``, the number of stimuli, is a
    number or broadcasts against them (``[category, 1]`` for ``[category, unit]``).
    """

    count: Any
    mean: Array
    m2: Array


def rows_of_groups(groups: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Groups in ``groups [stimulus]`` and their rows, both ascending."""
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    return zip(present.tolist(), np.split(order, starts)[1:], strict=True)


def read_out(count: Any, pivot: Array, s1: Array, s2: Array) -> Moments:
    """Moments of ``count`` samples from ``s1 = sum(x - pivot)`` and ``s2 = sum((x - pivot)**2)``.

    ``mean = pivot + s1 / n`` and ``M2 = s2 - s1**2 / n``: the shifted form of Chan, Golub & LeVeque
    (1983), "Algorithms for computing the sample variance", The American Statistician 37(3). M2 is
    clipped at 0, as rounding could make it slightly negative. NaN stays NaN.
    """
    return Moments(count, pivot + s1 / count, (s2 - s1 * (s1 / count)).clip(0))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets of stimuli (Chan, Golub & LeVeque 1979).

    ``mean = mean_a + d n_b / n`` and ``M2 = M2_a + M2_b + d**2 n_a n_b / n`` with
    ``d = mean_b - mean_a``. Neither side may be empty.
    """
    count = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    return Moments(count, mean, a.m2 + b.m2 + delta * delta * (a.count * b.count / count))


def folds_of(moments: Moments) -> list[Moments]:
    """The moments of every fold, from those of all folds, ``[fold, ...]``."""
    return [Moments(*fold) for fold in zip(*moments, strict=True)]


def variance(moments: Moments, ddof: int = 1) -> Array:
    """``M2 / (n - ddof)``: the unbiased sample variance for ``ddof = 1``."""
    return moments.m2 / (moments.count - ddof)

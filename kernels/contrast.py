"""From moments to test statistics and indices (numba; p-values from scipy). Float64 throughout.

The moments of all categories come as ``count [category]``, ``mean`` and ``m2 [category, unit]``.

Constant units follow one rule everywhere: no difference and no variance gives t = 0 and p = 1; a
difference without variance gives t = +-inf, and p = 0 on its side. NaN in, NaN out.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.special import stdtr

from .jit import inner, parallel

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Units that a thread takes at a time, so that the rows of its categories stay in cache.
_TILE = 1024
# Values that a thread takes at a time where scipy does the work.
_CHUNK = 65_536
# Pairs of a unit's category and another that are looked at together: 8 MiB for each column.
_PAIRS = 2**20


@inner
def _squared_error(m2: float, count: float) -> float:
    """Squared standard error of a mean: the unbiased variance over n."""
    return m2 / (count - 1) / count


@inner
def welch_t(difference: float, squared_error: float) -> float:
    """Welch's t: a difference of means over its standard error."""
    if squared_error == 0 and difference == 0:
        return 0.0
    return float(difference / np.sqrt(squared_error))


@inner
def welch_df(error_a: float, count_a: float, error_b: float, count_b: float) -> float:
    """Welch-Satterthwaite degrees of freedom; NaN where neither side varies.

    ``error`` is a side's squared standard error, variance / n. Written with the share of each side
    in their sum: the textbook form, but without squares that could under- or overflow.
    """
    share_a = error_a / (error_a + error_b)
    share_b = error_b / (error_a + error_b)
    return 1 / (share_a * share_a / (count_a - 1) + share_b * share_b / (count_b - 1))


@inner
def _merge(count_a: float, mean_a: float, m2_a: float, count_b: float, mean_b: float, m2_b: float
           ) -> tuple[float, float, float]:  # fmt: skip
    # Chan, Golub & LeVeque (1979), as in `moments.merge`, for one unit.
    count = count_a + count_b
    delta = mean_b - mean_a
    mean = mean_a + delta * (count_b / count)
    return count, mean, m2_a + m2_b + delta * delta * (count_a * count_b / count)


@parallel
def against_rest(count: Counts, mean: Floats, m2: Floats, t: Floats, df: Floats) -> None:
    """Welch's t and its degrees of freedom, every category against all others pooled (``rest``).

    Welch (1947), Biometrika 34(1/2); Satterthwaite (1946), Biometrics Bulletin 2(6). Fills ``t``
    and ``df [category, unit]``. The moments of the rest come from merging the categories before and
    those after the target, never from subtraction. Every category needs two stimuli or more.
    """
    categories, units = mean.shape
    for tile in prange((units + _TILE - 1) // _TILE):
        after = np.zeros((categories + 1, 3))  # moments of the categories from an index on
        for u in range(tile * _TILE, min(units, (tile + 1) * _TILE)):
            for k in range(categories - 1, 0, -1):
                after[k, 0], after[k, 1], after[k, 2] = count[k], mean[k, u], m2[k, u]
                if k < categories - 1:
                    n, m, s = _merge(
                        count[k], mean[k, u], m2[k, u],
                        after[k + 1, 0], after[k + 1, 1], after[k + 1, 2],
                    )  # fmt: skip
                    after[k, 0], after[k, 1], after[k, 2] = n, m, s
            before_n, before_mean, before_m2 = 0.0, 0.0, 0.0
            for k in range(categories):
                n, m, s = before_n, before_mean, before_m2
                if k == 0:
                    n, m, s = after[1, 0], after[1, 1], after[1, 2]
                elif k < categories - 1:
                    n, m, s = _merge(n, m, s, after[k + 1, 0], after[k + 1, 1], after[k + 1, 2])
                error = _squared_error(m2[k, u], count[k])
                rest = _squared_error(s, n)
                t[k, u] = welch_t(mean[k, u] - m, error + rest)
                df[k, u] = welch_df(error, count[k], rest, n)
                if k == 0:
                    before_n, before_mean, before_m2 = count[0], mean[0, u], m2[0, u]
                else:
                    before_n, before_mean, before_m2 = _merge(
                        before_n, before_mean, before_m2, count[k], mean[k, u], m2[k, u]
                    )


@parallel
def against_each(count: Counts, mean: Floats, m2: Floats, t: Floats) -> None:
    """The smallest Welch t of every category against each other category (``each``).

    The statistic of a conjunction: large only if every single t is (minimum statistic compared to
    the conjunction null: Nichols et al. 2005, NeuroImage 25(3)). Fills ``t [category, unit]``.
    """
    categories, units = mean.shape
    for tile in prange((units + _TILE - 1) // _TILE):
        for u in range(tile * _TILE, min(units, (tile + 1) * _TILE)):
            for k in range(categories):
                t[k, u] = np.inf
            for i in range(categories):
                error = _squared_error(m2[i, u], count[i])
                for j in range(i + 1, categories):
                    other = _squared_error(m2[j, u], count[j])
                    value = welch_t(mean[i, u] - mean[j, u], error + other)
                    if value < t[i, u] or np.isnan(value):
                        t[i, u] = value
                    if -value < t[j, u] or np.isnan(value):
                        t[j, u] = -value


@inner
def _pair(count: Counts, mean: Floats, m2: Floats, target: int, other: int, unit: int) -> Any:
    """Welch's t and degrees of freedom of one category against another, for one unit."""
    error = _squared_error(m2[target, unit], count[target])
    rest = _squared_error(m2[other, unit], count[other])
    t = welch_t(mean[target, unit] - mean[other, unit], error + rest)
    return t, welch_df(error, count[target], rest, count[other])


@inner
def _pairs_that_decide(
    count: Counts, mean: Floats, m2: Floats, target: int, unit: int, t: Floats, df: Floats
) -> int:
    """Fill ``t`` and ``df`` with the pairs of which one has the largest p; return their number.

    That is the pair with the smallest t, and those with fewer degrees of freedom than it: where t
    is above 0, p falls with t and with the degrees of freedom.
    """
    smallest, smallest_df = np.inf, np.nan
    for other in range(len(count)):
        if other != target:
            value, freedom = _pair(count, mean, m2, target, other, unit)
            if value < smallest or (value == smallest and not freedom >= smallest_df):
                smallest, smallest_df = value, freedom
    t[0], df[0] = smallest, smallest_df
    found = 1
    for other in range(len(count)):
        if other != target:
            value, freedom = _pair(count, mean, m2, target, other, unit)
            if freedom < smallest_df:
                t[found], df[found] = value, freedom
                found += 1
    return found


@parallel
def _deciding_pairs(
    count: Counts, mean: Floats, m2: Floats, units: Counts, targets: Counts,
    found: Counts, t: Floats, df: Floats,
) -> None:  # fmt: skip
    """:func:`_pairs_that_decide` of every one of ``units``: ``t``, ``df [unit, other]``."""
    for index in prange(len(units)):
        found[index] = _pairs_that_decide(
            count, mean, m2, targets[index], units[index], t[index], df[index]
        )


def p_each(count: Counts, mean: Floats, m2: Floats, t: Floats, at_least: float = 0.0) -> Floats:
    """One-sided p of the conjunction, ``[category, unit]``: the largest p of its single tests.

    ``t`` is that of :func:`against_each`. p is computed where t is above ``at_least`` (0 or more)
    and 1 elsewhere: at t <= 0 it would be 0.5 or more, and at most one category of a unit has t
    above 0. Of its single tests only those are asked that could have the largest p.
    """
    p = np.where(np.isnan(t), np.nan, 1.0)
    others = len(count) - 1
    targets, units = np.nonzero(t > at_least)
    at_once = max(1, _PAIRS // max(1, others))
    for start in range(0, len(units) if others else 0, at_once):
        part = slice(start, start + at_once)
        shape = len(units[part]), others
        found, single, df = np.empty(shape[0], np.int64), np.empty(shape), np.empty(shape)
        _deciding_pairs(count, mean, m2, units[part], targets[part], found, single, df)
        asked = np.arange(others) < found[:, np.newaxis]
        tails = np.zeros(shape)
        tails[asked] = upper_tail(single[asked], df[asked])
        p[targets[part], units[part]] = tails.max(axis=1)
    return p


def upper_tail(t: Floats, df: Floats) -> Floats:
    """One-sided p, ``P(T >= t)``, on all cores. scipy's ``stdtr`` costs ten times what t does."""
    p = np.empty_like(t)
    flat_t, flat_df, flat_p = t.ravel(), df.ravel(), p.ravel()

    def work(start: int) -> None:
        part = slice(start, start + _CHUNK)
        tail = stdtr(flat_df[part], -flat_t[part])
        constant = np.isnan(flat_df[part]) & ~np.isnan(flat_t[part])
        flat_p[part] = np.where(constant, np.where(flat_t[part] > 0, 0.0, 1.0), tail)

    starts = range(0, t.size, _CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, starts))
    return p


@parallel
def selectivity_index(mean: Floats, csi: Floats) -> None:
    """The Category Selectivity Index of every category, in [-1, 1]. Fills ``csi [category, unit]``.

    ``CSI = (m_t - m_o) / (|m_t| + |m_o|)`` with ``m_o`` the mean of the other categories' means:
    the usual contrast ratio (a - b) / (a + b) where responses are not negative, bounded everywhere,
    and 0 where both are 0.
    """
    categories, units = mean.shape
    for tile in prange((units + _TILE - 1) // _TILE):
        for u in range(tile * _TILE, min(units, (tile + 1) * _TILE)):
            for k in range(categories):
                total = 0.0
                for other in range(categories):
                    if other != k:
                        total += mean[other, u]
                others = total / (categories - 1)
                size = abs(mean[k, u]) + abs(others)
                csi[k, u] = 0.0 if size == 0 else (mean[k, u] - others) / size


def benjamini_hochberg(p: Floats) -> Floats:
    """q-values of a family of p-values ``[unit]``; NaN is not part of the family and stays NaN.

    Benjamini & Hochberg (1995), J. R. Statist. Soc. B 57(1), step-up:
    ``q_(i) = min over j >= i of p_(j) m / j``.
    """
    family = np.count_nonzero(~np.isnan(p))
    q = np.where(np.isnan(p), np.nan, 1.0)
    below = np.flatnonzero(p < 1)  # those with p = 1 come last, and have q = 1
    order = below[np.argsort(p[below], kind="stable")]
    scaled = p[order] * (family / np.arange(1, order.size + 1))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q

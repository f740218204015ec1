"""Moments to t and degrees of freedom (numba). Float64 throughout.

Moments of all categories are ``count [category]``, ``mean`` and ``m2 [category, unit]``.

One rule for constant units: no difference and no variance gives t = 0 and p = 1; a difference
without variance gives t = +-inf. NaN in, NaN out.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from .jit import inner, parallel

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Values per tile and thread, and fewest and most units: its rows of all categories stay in cache.
_TILE_VALUES, _LEAST, TILE = 8192, 8, 1024


@inner
def tile_size(categories: int) -> int:
    """Units per tile, a multiple of a cache line."""
    return max(_LEAST, min(TILE, _TILE_VALUES // categories // _LEAST * _LEAST))


@inner
def squared_error(m2: float, count: float) -> float:
    """Squared standard error of a mean: unbiased variance over n."""
    return m2 / (count - 1) / count


@inner
def fill_errors(count: Counts, m2: Floats, error: Floats) -> None:
    """Fill the squared standard errors ``[category, unit]`` of the means of a tile."""
    categories, units = m2.shape
    for k in range(categories):
        n = count[k]
        for u in range(units):
            error[k, u] = squared_error(m2[k, u], n)


@inner
def welch_t(difference: float, error: float) -> float:
    """Welch's t: ``difference`` of means over its standard error; ``error`` is that squared."""
    if error == 0 and difference == 0:
        return 0.0
    return float(difference / np.sqrt(error))


@inner
def welch_df(error_a: float, count_a: float, error_b: float, count_b: float) -> float:
    """Welch-Satterthwaite degrees of freedom; NaN if neither side varies.

    ``error`` is a side's squared standard error, variance / n. The textbook form, written with each
    side's share of their sum, so that no square can underflow or overflow.
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


@inner
def pool_tile(count: Counts, mean: Floats, m2: Floats, others: Floats, others_m2: Floats) -> None:
    """Fill the pooled moments ``[category, unit]`` of all other categories, for units of a tile.

    They are merged from the categories before and after each, never subtracted.
    """
    categories, units = mean.shape
    last = categories - 1
    # Each loop is over few arrays: only then does the compiler turn it into vector instructions.
    pooled = np.empty(units)
    pooled_m2 = np.empty(units)
    for u in range(units):
        pooled[u], pooled_m2[u] = mean[last, u], m2[last, u]
    n = float(count[last])
    for k in range(last - 1, -1, -1):  # those after each, last to first
        for u in range(units):
            others[k, u], others_m2[k, u] = pooled[u], pooled_m2[u]
        for u in range(units):
            _, pooled[u], pooled_m2[u] = _merge(
                count[k], mean[k, u], m2[k, u], n, pooled[u], pooled_m2[u]
            )
        n += count[k]
    before = float(count[0])
    for u in range(units):
        pooled[u], pooled_m2[u] = mean[0, u], m2[0, u]
    for k in range(1, last):  # and those before
        after = n - before - count[k]
        for u in range(units):
            _, others[k, u], others_m2[k, u] = _merge(
                before, pooled[u], pooled_m2[u], after, others[k, u], others_m2[k, u]
            )
        for u in range(units):
            _, pooled[u], pooled_m2[u] = _merge(
                before, pooled[u], pooled_m2[u], count[k], mean[k, u], m2[k, u]
            )
        before += count[k]
    for u in range(units):
        others[last, u], others_m2[last, u] = pooled[u], pooled_m2[u]


@parallel
def against_rest(count: Counts, mean: Floats, m2: Floats, t: Floats, df: Floats) -> None:
    """Welch's t and degrees of freedom of every category against the pooled ``rest``.

    Welch (1947), Biometrika 34(1/2); Satterthwaite (1946), Biometrics Bulletin 2(6). Fills ``t``
    and ``df [category, unit]``. Needs at least two categories, each of at least two stimuli.
    """
    categories, units = mean.shape
    size, total = tile_size(categories), count.sum()
    for tile in prange((units + size - 1) // size):
        start, stop = tile * size, min(units, (tile + 1) * size)
        others = np.empty((categories, stop - start))
        others_m2 = np.empty((categories, stop - start))
        pool_tile(count, mean[:, start:stop].copy(), m2[:, start:stop].copy(), others, others_m2)
        for k in range(categories):
            n = float(total - count[k])
            for u in range(start, stop):
                error = squared_error(m2[k, u], count[k])
                rest = squared_error(others_m2[k, u - start], n)
                t[k, u] = welch_t(mean[k, u] - others[k, u - start], error + rest)
                df[k, u] = welch_df(error, count[k], rest, n)


@parallel
def pool(
    count: Counts, mean: Floats, m2: Floats, before: Counts, after: Counts,
    pooled_mean: Floats, pooled_m2: Floats,
) -> None:  # fmt: skip
    """Pooled moments of the categories ``before`` and ``after``; either may be empty.

    Merges ``before`` first to last, ``after`` last to first, then both: for the categories before
    and after a target, the same bits as :func:`against_rest`. Fills ``pooled_mean`` and
    ``pooled_m2 [unit]``.
    """
    for u in prange(len(pooled_mean)):
        n, m, s = 0.0, 0.0, 0.0
        for i in range(len(before)):
            k = before[i]
            if i == 0:
                n, m, s = float(count[k]), mean[k, u], m2[k, u]
            else:
                n, m, s = _merge(n, m, s, count[k], mean[k, u], m2[k, u])
        n_after, m_after, s_after = 0.0, 0.0, 0.0
        for i in range(len(after) - 1, -1, -1):
            k = after[i]
            if i == len(after) - 1:
                n_after, m_after, s_after = float(count[k]), mean[k, u], m2[k, u]
            else:
                n_after, m_after, s_after = _merge(
                    count[k], mean[k, u], m2[k, u], n_after, m_after, s_after
                )
        if n == 0:
            n, m, s = n_after, m_after, s_after
        elif n_after > 0:
            n, m, s = _merge(n, m, s, n_after, m_after, s_after)
        pooled_mean[u], pooled_m2[u] = m, s


@parallel
def pool_others(
    count: Counts, mean: Floats, m2: Floats, pooled_mean: Floats, pooled_m2: Floats
) -> None:
    """Pooled moments of all other categories, for every category: :func:`pool` in linear time.

    Fills ``pooled_mean`` and ``pooled_m2 [category, unit]``, with the same bits. Needs at least two
    categories.
    """
    categories, units = mean.shape
    size = tile_size(categories)
    for tile in prange((units + size - 1) // size):
        start, stop = tile * size, min(units, (tile + 1) * size)
        others = np.empty((categories, stop - start))
        others_m2 = np.empty((categories, stop - start))
        pool_tile(count, mean[:, start:stop].copy(), m2[:, start:stop].copy(), others, others_m2)
        pooled_mean[:, start:stop], pooled_m2[:, start:stop] = others, others_m2


@inner
def mean_of_others_in(mean: Floats, first: int, start: int, stop: int, others: Floats) -> None:
    """:func:`mean_of_others` for the units from ``start`` to ``stop``."""
    categories = len(mean)
    after = np.zeros(categories + 1)  # sums from an index on
    for u in range(start, stop):
        if first == 0:
            total = 0.0
            for k in range(categories - 1, 1, -1):
                total += mean[k, u] - mean[1, u]
            others[0, u] = mean[1, u] + total / (categories - 1)
        for k in range(categories - 1, first, -1):
            after[k] = after[k + 1] + (mean[k, u] - mean[0, u])
        before = 0.0
        for k in range(1, first + len(others)):
            if k >= first:
                others[k - first, u] = mean[0, u] + (before + after[k + 1]) / (categories - 1)
            before += mean[k, u] - mean[0, u]


@parallel
def mean_of_others(mean: Floats, first: int, others: Floats) -> None:
    """Mean of the other categories' means, for the categories from ``first`` on.

    Fills ``others [row, unit]`` from ``mean [category, unit]``. Categories before the target are
    summed first to last, those after it last to first, as differences from the first of the others:
    equal means give exactly that mean.
    """
    units = mean.shape[1]
    for tile in prange((units + TILE - 1) // TILE):
        mean_of_others_in(mean, first, tile * TILE, min(units, (tile + 1) * TILE), others)


@parallel
def welch(
    count_a: int, mean_a: Floats, m2_a: Floats, count_b: int, mean_b: Floats, m2_b: Floats,
    t: Floats, df: Floats,
) -> None:  # fmt: skip
    """Welch's t and degrees of freedom of a against b. Fills ``t`` and ``df [unit]``.

    Welch (1947), Biometrika 34(1/2); Satterthwaite (1946), Biometrics Bulletin 2(6).
    """
    for u in prange(len(t)):
        error_a, error_b = squared_error(m2_a[u], count_a), squared_error(m2_b[u], count_b)
        t[u] = welch_t(mean_a[u] - mean_b[u], error_a + error_b)
        df[u] = welch_df(error_a, count_a, error_b, count_b)


@parallel
def student(
    count_a: int, mean_a: Floats, m2_a: Floats, count_b: int, mean_b: Floats, m2_b: Floats,
    t: Floats, df: Floats,
) -> None:  # fmt: skip
    """Student's t of a against b, with pooled variance. Fills ``t`` and ``df [unit]``.

    Student (1908), Biometrika 6(1). Assumes equal variances; n_a + n_b - 2 degrees of freedom.
    """
    freedom = count_a + count_b - 2
    for u in prange(len(t)):
        pooled = (m2_a[u] + m2_b[u]) / freedom
        t[u] = welch_t(mean_a[u] - mean_b[u], pooled / count_a + pooled / count_b)
        df[u] = freedom if pooled > 0 else np.nan


@parallel
def weighted(
    weight: Floats, count: Counts, mean: Floats, m2: Floats, t: Floats, df: Floats
) -> None:
    """Test of a weighted sum of category means; ``weight [category]`` sums to 0.

    ``t = sum w m / sqrt(sum w**2 v / n)``, with the degrees of freedom of Satterthwaite (1946,
    Biometrics Bulletin 2(6)) for a weighted sum of variances. Means are taken relative to the first
    weighted category's, so that equal means give exactly 0. Fills ``t`` and ``df [unit]``.
    """
    members = np.flatnonzero(weight)
    for u in prange(len(t)):
        effect, error, spread = 0.0, 0.0, 0.0
        for k in members:
            effect += weight[k] * (mean[k, u] - mean[members[0], u])
            error += weight[k] * weight[k] * squared_error(m2[k, u], count[k])
        for k in members:
            share = weight[k] * weight[k] * squared_error(m2[k, u], count[k]) / error
            spread += share * share / (count[k] - 1)
        t[u] = welch_t(effect, error)
        df[u] = 1 / spread


@parallel
def glm(
    weight: Floats, count: Counts, mean: Floats, residual: Floats, t: Floats, df: Floats
) -> None:
    """Test of a weighted sum of category means with one residual variance over all categories.

    ``t = sum w m / sqrt(s2 sum w**2 / n)`` with ``s2 = residual / (N - K)`` for N stimuli of K
    categories: ordinary least squares with an indicator per category, as in localizers of fMRI
    (Friston et al. 1994, Hum. Brain Mapp. 2(4)). ``residual [unit]`` is the sum of all categories'
    M2. Means are taken as in :func:`weighted`. Fills ``t`` and ``df [unit]``.
    """
    members = np.flatnonzero(weight)
    freedom, scale = count.sum() - len(count), 0.0
    for k in members:
        scale += weight[k] * weight[k] / count[k]
    for u in prange(len(t)):
        effect = 0.0
        for k in members:
            effect += weight[k] * (mean[k, u] - mean[members[0], u])
        t[u] = welch_t(effect, residual[u] / freedom * scale)
        df[u] = freedom if residual[u] > 0 else np.nan

"""Every category against all others, in one pass over the moments (numba).

Moments are ``count [fold, category]``, ``mean`` and ``m2 [fold, category, unit]``. A sample is all
stimuli or, if there are several folds, the stimuli of one fold: sample 0 is all of them, the others
follow. The moments of a tile of units are read once, and everything about it is computed in cache.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from .contrast import (
    Counts,
    Floats,
    fill_errors,
    mean_of_others_in,
    pool_tile,
    squared_error,
    tile_size,
    welch_df,
    welch_t,
)
from .each import FEW, against_each_tile
from .jit import exact, inner, parallel
from .pvalues import is_rival, may_be_rival, rival_bound
from .student import upper_tail_of

Flags = NDArray[np.bool_]


@parallel
def every_category(
    count: Counts, mean: Floats, m2: Floats, share: float, least: Floats,
    stored: NDArray[np.float32], preferred: NDArray[np.int32], p: Floats, flags: Flags,
) -> None:  # fmt: skip
    """Evaluate every category against all others, on all stimuli and on every fold.

    Parameters
    ----------
    count, mean, m2 : moments of two or more categories, each of two or more stimuli
    share : weight of each of the other categories but one in their mean
    least : t ``[sample]``, 0 or more, up to which p is not computed but 1
    stored : filled with Welch's t against the pooled rest, the smallest t against each other
        category, and CSI ``[3, category, unit]`` on all stimuli; not if it is empty
    preferred : filled with the category with the largest mean ``[sample, unit]``, the first of ties
    p : filled with the preferred category's p against each other category, the largest of all
        tests ``[sample, unit]``; NaN if a t is. No other category has a p below 0.5
    flags : filled with whether a unit is constant over all stimuli, and whether it is not finite
        ``[2, unit]``
    """
    folds, categories, units = mean.shape
    size = tile_size(categories)
    for tile in prange((units + size - 1) // size):
        start, stop = tile * size, min(units, (tile + 1) * size)
        own = np.empty((categories, stop - start))
        own_m2 = np.empty((categories, stop - start))
        error = np.empty((categories, stop - start))
        n = np.empty(categories, np.int64)
        for sample in range(len(least)):
            _take_fold(n, own, own_m2, count, mean, m2, max(sample - 1, 0), start)
            for fold in range(1, folds if sample == 0 else 1):
                _add_fold(n, own, own_m2, count, mean, m2, fold, start)
            fill_errors(n, own_m2, error)
            if sample == 0:
                _total(n, own, own_m2, flags, start)
            if sample == 0 and len(stored):
                _store(n, own, own_m2, error, share, stored, start)
            _conjunction(
                n, own, error, least[sample], preferred[sample, start:stop], p[sample, start:stop]
            )


@inner
def _take_fold(n: Counts, own: Floats, own_m2: Floats, count: Counts, mean: Floats, m2: Floats,
               fold: int, start: int) -> None:  # fmt: skip
    """Copy a fold's moments of the units from ``start`` on."""
    categories, units = own.shape
    for k in range(categories):
        n[k] = count[fold, k]
        for u in range(units):
            own[k, u] = mean[fold, k, start + u]
        for u in range(units):
            own_m2[k, u] = m2[fold, k, start + u]


@exact
def _merged(
    count_a: int, mean_a: float, m2_a: float, count_b: int, mean_b: float, m2_b: float
) -> tuple[float, float]:
    # Chan, Golub & LeVeque (1979), with the bits of `moments.merge`.
    count = count_a + count_b
    delta = mean_b - mean_a
    return (
        mean_a + delta * (count_b / count),
        m2_a + m2_b + delta * delta * (count_a * count_b / count),
    )


@inner
def _add_fold(n: Counts, own: Floats, own_m2: Floats, count: Counts, mean: Floats, m2: Floats,
              fold: int, start: int) -> None:  # fmt: skip
    """Merge a fold's moments of the units from ``start`` on."""
    categories, units = own.shape
    for k in range(categories):
        before, more = n[k], count[fold, k]
        for u in range(units):
            own[k, u], own_m2[k, u] = _merged(
                before, own[k, u], own_m2[k, u], more, mean[fold, k, start + u],
                m2[fold, k, start + u],
            )  # fmt: skip
        n[k] += more


@inner
def _total(count: Counts, mean: Floats, m2: Floats, flags: Flags, start: int) -> None:
    """Whether the units are constant over all categories, and whether they are not finite."""
    categories, units = mean.shape
    total = np.empty(units)
    spread = np.empty(units)
    for u in range(units):
        total[u], spread[u] = mean[0, u], m2[0, u]
    n = count[0]
    for k in range(1, categories):
        more = count[k]
        for u in range(units):
            total[u], spread[u] = _merged(n, total[u], spread[u], more, mean[k, u], m2[k, u])
        n += more
    for u in range(units):
        flags[0, start + u] = spread[u] == 0
        flags[1, start + u] = not np.isfinite(spread[u])


@inner
def _store(
    count: Counts, mean: Floats, m2: Floats, error: Floats, share: float,
    stored: NDArray[np.float32], start: int,
) -> None:  # fmt: skip
    """Fill t against the rest, the smallest t against each, and CSI of a tile."""
    categories, units = mean.shape
    others = np.empty((categories, units))
    others_m2 = np.empty((categories, units))
    pool_tile(count, mean, m2, others, others_m2)
    for k in range(categories):
        n = count.sum() - count[k]
        for u in range(units):
            rest = squared_error(others_m2[k, u], n)
            stored[0, k, start + u] = welch_t(mean[k, u] - others[k, u], error[k, u] + rest)
    against_each_tile(mean, error, others)
    for k in range(categories):
        for u in range(units):
            stored[1, k, start + u] = others[k, u]
    if categories > FEW:
        mean_of_others_in(mean, 0, 0, units, others)
    else:
        _mean_of_others(mean, share, others)
    for k in range(categories):
        for u in range(units):
            stored[2, k, start + u] = _contrast_ratio(mean[k, u], others[k, u])


@exact
def _mean_of_others(mean: Floats, share: float, others: Floats) -> None:
    """Fill the mean of the other categories' means, by deviations from the first of them."""
    categories, units = mean.shape
    for k in range(categories):
        first = 1 if k == 0 else 0
        for u in range(units):
            others[k, u] = 0.0
        for other in range(first + 1, categories):
            if other != k:
                for u in range(units):
                    others[k, u] += share * (mean[other, u] - mean[first, u])
        for u in range(units):
            others[k, u] += mean[first, u]


@inner
def _contrast_ratio(a: float, b: float) -> float:
    # As `indices.contrast_ratio`.
    size = abs(a) + abs(b)
    return (a - b) / size if size > 0 else size


@inner
def _conjunction(
    count: Counts, mean: Floats, error: Floats, least: float, preferred: NDArray[np.int32],
    p: Floats,
) -> None:  # fmt: skip
    """Fill the preferred category of the units of a tile, and its p against each other."""
    categories, units = mean.shape
    t = np.empty((categories, units))
    df = np.empty((categories, units))
    best = np.empty(units)
    best_error = np.empty(units)
    best_n = np.empty(units)
    smallest = np.empty(units)
    smallest_df = np.empty(units)
    has_rivals = np.zeros(units, np.bool_)
    for u in range(units):
        best[u], preferred[u], smallest[u], smallest_df[u] = mean[0, u], 0, np.inf, np.inf
    # Each loop is over few arrays: only then does the compiler turn it into vector instructions.
    for k in range(1, categories):
        for u in range(units):
            better = mean[k, u] > best[u]
            best[u] = mean[k, u] if better else best[u]
            preferred[u] = k if better else preferred[u]
    for u in range(units):
        best_error[u], best_n[u] = error[preferred[u], u], count[preferred[u]]
    for k in range(categories):
        for u in range(units):
            t[k, u] = welch_t(best[u] - mean[k, u], best_error[u] + error[k, u])
        n = count[k]
        for u in range(units):
            df[k, u] = welch_df(best_error[u], best_n[u], error[k, u], n)
        for u in range(units):
            value = t[k, u]
            smaller = preferred[u] != k and (value < smallest[u] or np.isnan(value))
            smallest[u] = value if smaller else smallest[u]
    for k in range(categories):
        for u in range(units):
            tied = preferred[u] != k and t[k, u] == smallest[u]
            fewer = tied and not df[k, u] >= smallest_df[u]
            smallest_df[u] = df[k, u] if fewer else smallest_df[u]
    bound = best  # its means are not needed any more
    for u in range(units):
        bound[u] = rival_bound(smallest[u], smallest_df[u])
    for k in range(categories):
        for u in range(units):
            rival = may_be_rival(t[k, u], df[k, u], smallest_df[u], bound[u])
            has_rivals[u] |= preferred[u] != k and rival
    for u in range(units):
        p[u] = np.nan if np.isnan(smallest[u]) else 1.0
        if smallest[u] > least:
            p[u] = upper_tail_of(smallest[u], smallest_df[u])
            for k in range(categories if has_rivals[u] else 0):
                if k != preferred[u] and is_rival(t[k, u], df[k, u], smallest[u], smallest_df[u]):
                    p[u] = max(p[u], upper_tail_of(t[k, u], df[k, u]))

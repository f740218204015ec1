"""Smallest Welch t of every category against each other category (numba), by two algorithms.

Moments are ``count [category]``, ``mean`` and ``m2 [category, unit]``; constant units follow the
rule of :mod:`.contrast`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .contrast import Counts, Floats, fill_errors, squared_error, tile_size, welch_t
from .jit import inner, parallel

# Up to this many categories, comparing all pairs is faster: benchmarks/results/categories.md.
FEW = 48
# Units at a time of the other algorithm: one cache line per category.
_LINE = 8
# Means and errors up to here can be added and subtracted without overflow.
_LARGE = 1e300
# How far below a line between two rivals a third must lie, as a share of the range of means, and
# the smallest such distance: rounding of t is far smaller.
_BELOW, _LEAST_BELOW = 1e-12, 1e-150


@inner
def _keep_smaller(
    mean_a: Floats, error_a: Floats, mean_b: Floats, error_b: Floats, t_a: Floats, t_b: Floats
) -> None:
    """Lower ``t_a`` and ``t_b`` to Welch's t of a against b and of b against a; NaN stays."""
    for u in range(len(t_a)):
        value = welch_t(mean_a[u] - mean_b[u], error_a[u] + error_b[u])
        unknown = np.isnan(value)
        t_a[u] = value if unknown or value < t_a[u] else t_a[u]
        t_b[u] = -value if unknown or -value < t_b[u] else t_b[u]


@inner
def pairs_of_tile(mean: Floats, error: Floats, t: Floats) -> None:
    """Compare all pairs, many units at a time: fast for few categories."""
    categories, units = mean.shape
    for k in range(categories):
        for u in range(units):
            t[k, u] = np.inf
    for i in range(categories):
        for j in range(i + 1, categories):
            _keep_smaller(mean[i], error[i], mean[j], error[j], t[i], t[j])


@inner
def rivals_of_tile(mean: Floats, error: Floats, t: Floats) -> None:
    """Same bits as :func:`pairs_of_tile`, from a few pairs per category."""
    categories, units = mean.shape
    means = np.empty((_LINE, categories))
    errors = np.empty((_LINE, categories))
    smallest = np.empty((_LINE, categories))
    rival_mean, rival_error = np.empty(categories), np.empty(categories)
    for start in range(0, units, _LINE):
        stop = min(units, start + _LINE)
        for k in range(categories):
            for u in range(start, stop):
                means[u - start, k], errors[u - start, k] = mean[k, u], error[k, u]
        for u in range(stop - start):
            if _is_ordinary(means[u], errors[u]):
                rivals = find_rivals(means[u], errors[u], rival_mean, rival_error)
                rivals = keep_hull(means[u], rival_mean, rival_error, rivals)
                _among_rivals(
                    means[u], errors[u], rival_mean[:rivals], rival_error[:rivals], smallest[u]
                )
            else:
                _in_turn_of_all(means[u], errors[u], smallest[u])
        for k in range(categories):
            for u in range(start, stop):
                t[k, u] = smallest[u - start, k]


@inner
def against_each_tile(mean: Floats, error: Floats, t: Floats) -> None:
    """:func:`against_each` for the units of a tile, from squared standard errors."""
    if len(mean) > FEW:
        rivals_of_tile(mean, error, t)
    else:
        pairs_of_tile(mean, error, t)


@inner
def _is_ordinary(mean: Floats, error: Floats) -> bool:
    """Whether no t of the unit can be NaN and no difference or sum can overflow."""
    ordinary = True
    for k in range(len(mean)):
        ordinary &= abs(mean[k]) <= _LARGE and 0 <= error[k] <= _LARGE
    return ordinary


@inner
def find_rivals(mean: Floats, error: Floats, rival_mean: Floats, rival_error: Floats) -> int:
    """Find the rivals of a unit, the categories against which a t can be smallest; return how many.

    A rival is not dominated: no other category has as large a mean and as small an error. Fills
    ``rival_mean`` and ``rival_error`` in descending order of both.
    """
    found = 0
    for k in range(len(mean)):
        low, high = 0, found  # bisects for its position
        while low < high:
            middle = (low + high) // 2
            if rival_mean[middle] > mean[k]:
                low = middle + 1
            else:
                high = middle
        if low > 0 and rival_error[low - 1] <= error[k]:
            continue
        if low < found and rival_mean[low] == mean[k] and rival_error[low] <= error[k]:
            continue
        stop = low  # it dominates the rivals from low to here
        while stop < found and rival_error[stop] >= error[k]:
            stop += 1
        if stop == low:
            for i in range(found, low, -1):
                rival_mean[i], rival_error[i] = rival_mean[i - 1], rival_error[i - 1]
        else:
            for i in range(stop, found):
                place = low + 1 + i - stop
                rival_mean[place], rival_error[place] = rival_mean[i], rival_error[i]
        found += 1 - (stop - low)
        rival_mean[low], rival_error[low] = mean[k], error[k]
    return found


@inner
def keep_hull(mean: Floats, rival_mean: Floats, rival_error: Floats, found: int) -> int:
    """Keep the rivals that no line between two others passes above; return how many.

    For a category of mean m and error e, let t be the smallest over the rivals kept. A rival of
    mean M and error E gives a smaller one only if ``f(M, E) = M + t sqrt(e + E)`` is above m. As t
    is negative, f is convex: on a line between two rivals it is largest at one of them, at most m.
    A rival that lies d below the line has ``f <= m - d``. Its t is larger by at least ``d / sqrt(e
    + E)``, which rounding cannot make up for.
    """
    lowest = np.inf
    for k in range(len(mean)):
        lowest = min(lowest, mean[k])
    margin = _BELOW * (rival_mean[0] - lowest)
    if not margin > _LEAST_BELOW:
        return found
    kept = 0
    for i in range(found):
        while kept >= 2:
            rise = rival_mean[kept - 2] - rival_mean[i]
            along = (rival_mean[kept - 2] - rival_mean[kept - 1]) / rise
            across = (rival_error[kept - 2] - rival_error[kept - 1]) / (
                rival_error[kept - 2] - rival_error[i]
            )
            if not rise * (along - across) > margin:
                break
            kept -= 1
        rival_mean[kept], rival_error[kept] = rival_mean[i], rival_error[i]
        kept += 1
    return kept


@inner
def _among_rivals(
    mean: Floats, error: Floats, rival_mean: Floats, rival_error: Floats, smallest: Floats
) -> None:
    """Fill ``smallest [category]``, the smallest t of each category of an ordinary unit.

    A category other than the preferred one has its negative t's against larger means. Its t against
    b is at least that against a rival with as large a mean and as small an error. Rounded
    subtraction, addition, square root and division are monotone (IEEE 754), so this holds for the
    computed numbers too: the minimum over the rivals is the minimum over all, to the bit. A
    category may be its own rival: that t is 0. Those that :func:`keep_hull` drops give larger ones.

    The preferred category, alone with the largest mean, is compared with all others. Only the sign
    of a 0 depends on the order of pairs: it is that of the first.
    """
    preferred = 0
    for k in range(len(mean)):
        smallest[k] = np.inf
        preferred += mean[k] == rival_mean[0]
    for rival in range(len(rival_mean)):
        for k in range(len(mean)):
            value = welch_t(mean[k] - rival_mean[rival], error[k] + rival_error[rival])
            smallest[k] = value if value < smallest[k] else smallest[k]
    for k in range(len(mean)):
        if mean[k] == rival_mean[0] and preferred == 1:
            smallest[k] = _in_turn(mean, error, k, np.nan)
        elif smallest[k] == 0:
            smallest[k] = _in_turn(mean, error, k, 0.0)


@inner
def _in_turn(mean: Floats, error: Floats, target: int, least: float) -> float:
    """Smallest t of a category against the others in order; stops at a t equal to ``least``."""
    smallest = np.inf
    for k in range(len(mean)):
        if k < target:
            value = -welch_t(mean[k] - mean[target], error[k] + error[target])
        elif k > target:
            value = welch_t(mean[target] - mean[k], error[target] + error[k])
        else:
            continue
        if value < smallest or np.isnan(value):
            smallest = value
        if value == least:
            break
    return smallest


@inner
def _in_turn_of_all(mean: Floats, error: Floats, smallest: Floats) -> None:
    """Fill ``smallest [category]`` of any unit: NaN for all categories if one is NaN."""
    unknown = False
    for k in range(len(mean)):
        unknown |= np.isnan(mean[k]) or np.isnan(error[k])
    for k in range(len(mean)):
        smallest[k] = np.nan if unknown else _in_turn(mean, error, k, np.nan)


@parallel
def against_each(count: Counts, mean: Floats, m2: Floats, t: Floats) -> None:
    """Smallest Welch t of every category against each other category (``each``).

    The statistic of a conjunction: large only if every single t is (minimum statistic compared to
    the conjunction null: Nichols et al. 2005, NeuroImage 25(3)). Fills ``t [category, unit]``. Both
    algorithms give the same bits: see :func:`_among_rivals`.
    """
    categories, units = mean.shape
    size = tile_size(categories)
    for tile in prange((units + size - 1) // size):
        start, stop = tile * size, min(units, (tile + 1) * size)
        error = np.empty((categories, stop - start))
        smallest = np.empty((categories, stop - start))
        fill_errors(count, m2[:, start:stop].copy(), error)
        against_each_tile(mean[:, start:stop].copy(), error, smallest)
        t[:, start:stop] = smallest


@inner
def _smallest(count: Counts, mean: Floats, m2: Floats, target: int, u: int) -> float:
    """Smallest t of category ``target`` against each other category, for unit ``u``; NaN stays."""
    error = squared_error(m2[target, u], count[target])
    smallest = np.inf
    for k in range(len(count)):
        if k != target:
            other = squared_error(m2[k, u], count[k])
            value = welch_t(mean[target, u] - mean[k, u], error + other)
            if value < smallest or np.isnan(value):
                smallest = value
    return smallest


@parallel
def one_against_each(count: Counts, mean: Floats, m2: Floats, target: int, t: Floats) -> None:
    """The row of :func:`against_each` for category ``target``. Fills ``t [unit]``."""
    for u in prange(len(t)):
        t[u] = _smallest(count, mean, m2, target, u)


@parallel
def preferred_against_each(
    count: Counts, mean: Floats, m2: Floats, category: Counts, t: Floats
) -> None:
    """Category with the largest mean and its t of :func:`against_each`, for every unit.

    No other category of the unit can have a t above 0. Fills ``category`` and ``t [unit]`` in time
    linear in the number of categories.
    """
    categories, units = mean.shape
    for u in prange(units):
        best = 0
        for k in range(1, categories):
            if mean[k, u] > mean[best, u]:
                best = k
        category[u], t[u] = best, _smallest(count, mean, m2, best, u)

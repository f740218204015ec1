"""Every category against each other one: the smallest of its Welch t's (numba), by two ways.

The moments of all categories come as ``count [category]``, ``mean`` and ``m2 [category, unit]``;
constant units follow the rule of :mod:`.contrast`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .contrast import TILE, Counts, Floats, squared_error, welch_t
from .jit import inner, parallel

# Up to so many categories all pairs are quicker: benchmarks/results/categories.md.
FEW = 48
# Units that a thread takes at a time where it takes one by one: a cache line of every category.
_LINE = 8
# Twice as much of a mean, or of an error, is still far from the largest double.
_LARGE = 1e300


@inner
def _keep_smaller(
    mean_a: Floats, error_a: Floats, mean_b: Floats, error_b: Floats, t_a: Floats, t_b: Floats
) -> None:
    """Lower ``t_a`` and ``t_b`` to Welch's t of a against b, and of b against a; NaN stays."""
    for u in range(len(t_a)):
        value = welch_t(mean_a[u] - mean_b[u], error_a[u] + error_b[u])
        unknown = np.isnan(value)
        t_a[u] = value if unknown or value < t_a[u] else t_a[u]
        t_b[u] = -value if unknown or -value < t_b[u] else t_b[u]


@parallel
def _of_pairs(count: Counts, mean: Floats, m2: Floats, t: Floats) -> None:
    """All pairs, in the order of the categories: quick for few, many units at a time."""
    categories, units = mean.shape
    for tile in prange((units + TILE - 1) // TILE):
        start, stop = tile * TILE, min(units, (tile + 1) * TILE)
        error = np.empty((categories, stop - start))
        for k in range(categories):
            t[k, start:stop] = np.inf
            for u in range(start, stop):
                error[k, u - start] = squared_error(m2[k, u], count[k])
        for i in range(categories):
            for j in range(i + 1, categories):
                _keep_smaller(
                    mean[i, start:stop], error[i], mean[j, start:stop], error[j],
                    t[i, start:stop], t[j, start:stop],
                )  # fmt: skip


@parallel
def _of_rivals(count: Counts, mean: Floats, m2: Floats, t: Floats) -> None:
    """As :func:`_of_pairs`, to the bit, from a few pairs of every category."""
    categories, units = mean.shape
    for tile in prange((units + _LINE - 1) // _LINE):
        start, stop = tile * _LINE, min(units, (tile + 1) * _LINE)
        means, errors, smallest = (
            np.empty((_LINE, categories)), np.empty((_LINE, categories)),
            np.empty((_LINE, categories)),
        )  # fmt: skip
        rival_mean, rival_error = np.empty(categories), np.empty(categories)
        for k in range(categories):
            for u in range(start, stop):
                means[u - start, k] = mean[k, u]
                errors[u - start, k] = squared_error(m2[k, u], count[k])
        for u in range(stop - start):
            if _is_ordinary(means[u], errors[u]):
                rivals = find_rivals(means[u], errors[u], rival_mean, rival_error)
                _among_rivals(
                    means[u], errors[u], rival_mean[:rivals], rival_error[:rivals], smallest[u]
                )
            else:
                _in_turn_of_all(means[u], errors[u], smallest[u])
        for k in range(categories):
            for u in range(start, stop):
                t[k, u] = smallest[u - start, k]


@inner
def _is_ordinary(mean: Floats, error: Floats) -> bool:
    """Whether no t of a unit can be NaN, and no difference or sum is too large for a double."""
    ordinary = True
    for k in range(len(mean)):
        ordinary &= abs(mean[k]) <= _LARGE and 0 <= error[k] <= _LARGE
    return ordinary


@inner
def find_rivals(mean: Floats, error: Floats, rival_mean: Floats, rival_error: Floats) -> int:
    """The categories of a unit with which others can have their smallest t, and their number.

    Those to which no other is superior, with as large a mean and as small an error. Fills
    ``rival_mean`` and ``rival_error`` from the largest mean and error to the smallest.
    """
    found = 0
    for k in range(len(mean)):
        low, high = 0, found  # where it would stand
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
        stop = low  # up to here it is superior to those that stood there
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
def _among_rivals(
    mean: Floats, error: Floats, rival_mean: Floats, rival_error: Floats, smallest: Floats
) -> None:
    """Fill ``smallest [category]``, the smallest t of an ordinary unit's categories.

    A category that is not the preferred one has a t below 0, and only against larger means. Against
    b it is at least that against a rival with as large a mean and as small an error: rounded
    subtraction, addition, square root and division are monotone (IEEE 754), so that this holds of
    the numbers as they are computed, not only of what they stand for, and the smallest of few is
    that of all, to the bit. That a category may be a rival of itself does no harm: that t is 0.

    The preferred category, alone with the largest mean, is compared with all. Only the sign of a 0
    depends on the order of pairs: it is that of the first.
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
    """The smallest t of a category against one after the other, up to one that is ``least``."""
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
    """Fill ``smallest [category]`` of any unit: NaN for all where a category has it."""
    unknown = False
    for k in range(len(mean)):
        unknown |= np.isnan(mean[k]) or np.isnan(error[k])
    for k in range(len(mean)):
        smallest[k] = np.nan if unknown else _in_turn(mean, error, k, np.nan)


def against_each(count: Counts, mean: Floats, m2: Floats, t: Floats) -> None:
    """The smallest Welch t of every category against each other category (``each``).

    The statistic of a conjunction: large only if every single t is (minimum statistic compared to
    the conjunction null: Nichols et al. 2005, NeuroImage 25(3)). Fills ``t [category, unit]``. The
    bits do not depend on how many categories there are: see :func:`_among_rivals`.
    """
    if len(count) > FEW:
        _of_rivals(count, mean, m2, t)
    else:
        _of_pairs(count, mean, m2, t)


@inner
def _smallest(count: Counts, mean: Floats, m2: Floats, target: int, u: int) -> float:
    """The smallest t of category ``target`` against each other one, for unit ``u``; NaN stays."""
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
    """The row of :func:`against_each` that belongs to category ``target``. Fills ``t [unit]``."""
    for u in prange(len(t)):
        t[u] = _smallest(count, mean, m2, target, u)


@parallel
def preferred_against_each(
    count: Counts, mean: Floats, m2: Floats, category: Counts, t: Floats
) -> None:
    """The category with the largest mean, and its t of :func:`against_each`, for every unit.

    No other category of the unit can have a t above 0. Fills ``category`` and ``t [unit]``, in time
    that is linear in the number of categories.
    """
    categories, units = mean.shape
    for u in prange(units):
        best = 0
        for k in range(1, categories):
            if mean[k, u] > mean[best, u]:
                best = k
        category[u], t[u] = best, _smallest(count, mean, m2, best, u)

"""Rank correlation of vectors with ties, exact in the ranks (numba).

Vectors are reduced to *doubled ranks*: twice the average rank, a whole number however many values
are tied. Both coefficients follow from them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from .contrast import Floats
from .jit import inner, parallel

Ranks = NDArray[np.int32]
# Ranks at a time of a product of vectors, over all of them; values sorted by insertion.
_AT_ONCE, _FEW = 2**20, 8


def doubled_ranks(values: Floats) -> Ranks:
    """Twice the rank of every value, from 1, tied values sharing their mean rank; no NaN."""
    ranks = np.empty(len(values), np.int32)
    _fill_ranks(values, np.argsort(values), ranks)
    return ranks


def spearman(first: Ranks, second: Ranks) -> Floats:
    """Spearman's rho ``[row, row]`` between the rows of two tables of doubled ranks.

    Pearson's r of the ranks (Spearman 1904, Am. J. Psychol. 15), as one product in tiles. NaN for
    a row whose values are all tied.
    """
    items = first.shape[1]
    centre = np.float64(items + 1)  # of ranks from 1 to n, doubled
    products = np.zeros((len(first), len(second)))
    squares = [np.zeros(len(one)) for one in (first, second)]
    step = max(1, _AT_ONCE // max(len(first), len(second), 1))
    for start in range(0, items, step):
        parts = [one[:, start : start + step] - centre for one in (first, second)]
        products += parts[0] @ parts[1].T
        for square, part in zip(squares, parts, strict=True):
            square += np.einsum("ij,ij->i", part, part)
    sizes = [np.sqrt(np.where(square > 0, square, np.nan)) for square in squares]
    return np.asarray((products / sizes[0][:, np.newaxis] / sizes[1]).clip(-1, 1))


def kendall(first: Ranks, second: Ranks | None = None) -> Floats:
    """Kendall's tau-b ``[row, row]`` between the rows of two tables of doubled ranks, or of one.

    Tau-b accounts for ties (Kendall 1945, Biometrika 33). Discordant pairs are counted by merge
    sort (Knight 1966, J. Am. Stat. Assoc. 61), so that n values take n log n steps. NaN for a row
    whose values are all tied.
    """
    others = first if second is None else second
    items = first.shape[1]
    own, other = (
        np.array([_tied(np.sort(row)) for row in table], np.int64) for table in (first, others)
    )
    both, discordant = np.zeros((2, len(first), len(others)), np.int64)
    step = max(1, _AT_ONCE // max(items, 1))
    for start in range(0, len(first), step):
        rows = first[start : start + step]
        orders = np.argsort(rows, axis=1).astype(np.int32)
        wanted = np.ones((len(rows), len(others)), np.bool_)
        pairs = np.argwhere(np.triu(wanted, start) if second is None else wanted)
        part = slice(start, start + step)
        _count_pairs(rows, orders, others, pairs, get_num_threads(), both[part], discordant[part])
    if second is None:
        both, discordant = (np.triu(table) + np.triu(table, 1).T for table in (both, discordant))
    all_pairs = items * (items - 1) // 2
    surplus = all_pairs - own[:, np.newaxis] - other + both - 2 * discordant
    sizes = [np.sqrt(np.where(tied < all_pairs, all_pairs - tied, np.nan)) for tied in (own, other)]
    return np.asarray((surplus / sizes[0][:, np.newaxis] / sizes[1]).clip(-1, 1))


@inner
def _fill_ranks(values: Floats, order: NDArray[Any], ranks: Ranks) -> None:
    """Doubled ranks of the values, whose sorted ``order`` is given."""
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in range(start, stop):
            ranks[order[place]] = start + stop + 1
        start = stop


@parallel
def _count_pairs(
    rows: Ranks,
    orders: Ranks,
    others: Ranks,
    pairs: NDArray[np.int64],
    threads: int,
    both: NDArray[np.int64],
    discordant: NDArray[np.int64],
) -> None:
    """For ``pairs`` of a row and another: pairs of items tied in both, and discordant ones.

    ``orders`` sort the rows.
    """
    items = rows.shape[1]
    for thread in prange(threads):
        own, spare = np.empty(items, np.int32), np.empty(items, np.int32)
        for pair in range(thread, len(pairs), threads):
            i, j = pairs[pair]
            row, order = rows[i], orders[i]
            for place in range(items):
                own[place] = others[j, order[place]]
            start = 0
            for stop in range(1, items + 1):
                if stop == items or row[order[stop]] != row[order[start]]:
                    if stop - start > 1:
                        _sort(own[start:stop], spare[start:stop])
                        both[i, j] += _tied(own[start:stop])
                    start = stop
            discordant[i, j] = _sort(own, spare)


@inner
def _tied(ordered: Ranks) -> int:
    """Number of pairs of equal values."""
    pairs, equal = 0, 0
    for place in range(1, len(ordered)):
        equal = equal + 1 if ordered[place] == ordered[place - 1] else 0
        pairs += equal
    return pairs


@inner
def _sort(values: Ranks, spare: Ranks) -> int:
    """Sort in place; the number of pairs that were in descending order."""
    items, swapped = len(values), 0
    for start in range(0, items, _FEW):
        for place in range(start + 1, min(items, start + _FEW)):
            value, before = values[place], place
            while before > start and values[before - 1] > value:
                values[before] = values[before - 1]
                before -= 1
            values[before] = value
            swapped += place - before
    length = _FEW
    source, target = values, spare
    while length < items:
        for start in range(0, items, 2 * length):
            middle = min(items, start + length)
            swapped += _merge(source, target, start, middle, min(items, middle + length))
        source, target = target, source
        length *= 2
    if source is not values:
        values[:] = source
    return swapped


@inner
def _merge(source: Ranks, target: Ranks, start: int, middle: int, stop: int) -> int:
    """Merge two sorted parts; the number of pairs in which the second has the smaller value."""
    first, second, place, swapped = start, middle, start, 0
    while first < middle and second < stop:
        one, other = source[first], source[second]
        less = other < one  # no branch: half of them would be mispredicted
        target[place] = other if less else one
        swapped += (middle - first) * less
        first += not less
        second += less
        place += 1
    while first < middle:
        target[place] = source[first]
        first, place = first + 1, place + 1
    while second < stop:
        target[place] = source[second]
        second, place = second + 1, place + 1
    return swapped

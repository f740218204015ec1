"""Spatial statistics of maps and counts (numpy): Moran's I, entropy, the Gini coefficient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contrast import Floats

# Half of the neighbours of a location, as steps; the other half are the opposite steps.
NEIGHBOURS: dict[str, tuple[tuple[int, int], ...]] = {
    "rook": ((0, 1), (1, 0)),
    "queen": ((0, 1), (1, 0), (1, 1), (1, -1)),
}


def morans_i(maps: Floats, known: NDArray[np.bool_], neighbours: str) -> Floats:
    """Moran's I of ``maps [..., y, x]``: the spatial autocorrelation of neighbours.

    ``(N / W) sum_ij w_ij z_i z_j / sum_i z_i**2``, where z are deviations from the map's mean
    (Moran 1950, Biometrika 37(1/2)), over the N locations that are ``known [y, x]``. w is 1 for
    neighbours (``rook``: a shared edge; ``queen``: an edge or a corner) and W is their number, each
    pair counted from both sides. NaN if all locations are equal or none has a neighbour.
    """
    z = np.where(known, maps, 0.0)
    mean = z.sum(axis=(-2, -1), keepdims=True) / max(known.sum(), 1)
    z = np.where(known, z - mean, 0.0)
    square = (z * z).sum(axis=(-2, -1))
    together, pairs = np.zeros_like(square), 0
    for down, right in NEIGHBOURS[neighbours]:
        here, there = _shifted(down, right)
        together += (z[..., *here] * z[..., *there]).sum(axis=(-2, -1))
        pairs += int((known[here] & known[there]).sum())
    # Rounding errors of equal values do not count as variation.
    scale = np.abs(np.where(known, maps, 0.0)).max(axis=(-2, -1)) * np.finfo(np.float64).eps
    varies = square > known.sum() * (4 * scale) ** 2
    quotient = together / np.where(varies, square, np.nan)
    return np.asarray(quotient * (known.sum() / pairs) if pairs else np.full_like(square, np.nan))


def _shifted(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of all locations with a neighbour this many steps away, and of those neighbours."""
    rows = slice(None, -down or None), slice(down, None)
    if right < 0:
        columns = slice(-right, None), slice(None, right)
    else:
        columns = slice(None, -right or None), slice(right, None)
    return (rows[0], columns[0]), (rows[1], columns[1])


def normalised_entropy(counts: NDArray[Any]) -> Floats:
    """Entropy of ``counts [..., location]``, from 0 (all in one location) to 1 (evenly spread).

    ``-sum s log s / log P`` of the shares s in P locations: Shannon (1948), Bell Syst. Tech. J. 27,
    over its maximum (Pielou 1966, J. Theor. Biol. 13). NaN if all counts are 0 or P is 1.
    """
    counts = np.asarray(counts, np.float64)
    locations, total = counts.shape[-1], counts.sum(axis=-1)
    total = np.where((total > 0) & (locations > 1), total, np.nan)
    # With c = s T this is log T - sum c log c / T; no count lies between 0 and 1.
    inside = (counts * np.log(np.maximum(counts, 1))).sum(axis=-1) / total
    return np.asarray(((np.log(total) - inside) / np.log(max(locations, 2))).clip(0, 1))


def gini(counts: NDArray[Any]) -> Floats:
    """Gini coefficient of ``counts [..., location]``: 0 if all are equal.

    ``sum (2 i - P - 1) c_(i) / (P sum c)`` with c sorted and i from 1 (Gini 1912): half the mean
    difference between two locations, over the mean. It is 1 - 1/P if one location has everything,
    NaN if all counts are 0.
    """
    ordered = np.sort(np.asarray(counts, np.float64), axis=-1)
    locations = ordered.shape[-1]
    ranks = 2 * np.arange(1, locations + 1) - locations - 1
    total = np.where(ordered[..., -1] > 0, ordered.sum(axis=-1), np.nan)
    return np.asarray((ranks * ordered).sum(axis=-1) / (locations * total))


def share_of_numbers(_: Floats, numbers: Floats, locations: int) -> Floats:
    """Share of locations with a count above 0, from ``numbers [..., value]`` of them.

    The first argument of this and the following are the counts above 0 that occur, ``[value]``,
    ascending.
    """
    return np.asarray(numbers.sum(axis=-1) / locations)


def entropy_of_numbers(values: Floats, numbers: Floats, locations: int) -> Floats:
    """:func:`normalised_entropy`, from the numbers of locations as in :func:`share_of_numbers`."""
    total = (numbers * values).sum(axis=-1)
    total = np.where((total > 0) & (locations > 1), total, np.nan)
    inside = (numbers * (values * np.log(values))).sum(axis=-1) / total
    return np.asarray(((np.log(total) - inside) / np.log(max(locations, 2))).clip(0, 1))


def gini_of_numbers(values: Floats, numbers: Floats, locations: int) -> Floats:
    """:func:`gini`, from the numbers of locations as in :func:`share_of_numbers`."""
    ends = locations - numbers.sum(axis=-1, keepdims=True) + numbers.cumsum(axis=-1)
    total = (numbers * values).sum(axis=-1)
    # The sum of 2 i - P - 1 over the ranks i of equal counts.
    ranked = (numbers * values * (2 * ends - numbers - locations)).sum(axis=-1)
    return np.asarray(ranked / (locations * np.where(total > 0, total, np.nan)))

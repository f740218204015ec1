"""Similarity of response patterns, from sums over units alone (numpy).

The patterns of a layer, one per category, are reduced to two matrices ``[category, category]``,
summed over chunks of units: no array is as large as the layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .contrast import Floats


class Patterns(NamedTuple):
    """Sufficient statistics of patterns ``[category, unit]``.

    ``units`` is their number, ``mean [category]`` the mean over units. Sums over units of products
    ``[category, category]``: ``products`` of deviations from that mean, ``gram`` of deviations from
    the unit's own mean over categories.
    """

    units: int
    mean: Floats
    products: Floats
    gram: Floats


def patterns_of(means: Floats) -> Patterns:
    """Statistics of the patterns ``means [category, unit]``."""
    categories, units = means.shape
    mean = means.mean(axis=1) if units else np.zeros(categories)
    over_units = means - mean[:, np.newaxis]
    over_categories = means - means.mean(axis=0)
    return Patterns(units, mean, over_units @ over_units.T, over_categories @ over_categories.T)


def join(a: Patterns, b: Patterns) -> Patterns:
    """Merge two sets of units: co-moments merge like moments (Chan, Golub & LeVeque 1979)."""
    units = a.units + b.units
    if not a.units or not b.units:
        return b if b.units else a
    delta = b.mean - a.mean
    products = a.products + b.products + np.outer(delta, delta) * (a.units * b.units / units)
    return Patterns(units, a.mean + delta * (b.units / units), products, a.gram + b.gram)


def correlation_distances(patterns: Patterns) -> Floats:
    """``1 - r`` between patterns, ``[category, category]``, with Pearson's r over units.

    Kriegeskorte, Mur & Bandettini (2008), Front. Syst. Neurosci. 2. NaN for a constant pattern.
    """
    square = np.diag(patterns.products)
    # Rounding errors of equal means do not count as variation.
    varies = square > patterns.units * (4 * np.finfo(np.float64).eps * patterns.mean) ** 2
    size = np.sqrt(np.where(varies, square, np.nan))
    distances = 1 - (patterns.products / np.outer(size, size)).clip(-1, 1)
    np.fill_diagonal(distances, np.where(varies, 0.0, np.nan))
    return np.asarray(distances)


def euclidean_distances(patterns: Patterns) -> Floats:
    """``sqrt(sum_u (a_u - b_u)**2)`` between patterns, ``[category, category]``."""
    square = np.diag(patterns.gram)
    squares = square[:, np.newaxis] + square - 2 * patterns.gram
    np.fill_diagonal(squares, 0)
    return np.asarray(np.sqrt(squares.clip(0)))


def linear_cka(gram: Floats, other: Floats) -> float:
    """``<K, L> / (|K| |L|)`` of two centred Gram matrices ``[category, category]``.

    Centred kernel alignment with linear kernels: Kornblith et al. (2019), ICML. 1 for patterns that
    differ by a rotation and scaling only. NaN if all categories of either have the same pattern.
    """
    size = np.linalg.norm(gram) * np.linalg.norm(other)
    return min(float((gram * other).sum() / size), 1.0) if size > 0 else float("nan")

"""Similarity of response patterns, from sums over units alone (numpy).

The patterns of a layer, one per category, are reduced to two matrices ``[category, category]``,
summed over chunks of units: no array is as large as the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .contrast import Floats

# Values of a matrix that is computed as a whole; larger ones in tiles of rows.
_WHOLE, _TILE = 2**23, 2**22


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


def extend(patterns: Patterns, means: Floats) -> Patterns:
    """:func:`join` with ``means [category, unit]`` of more units, in the memory of ``patterns``."""
    categories, units = means.shape
    if not units:
        return patterns
    mean = means.mean(axis=1)
    own, delta = means - mean[:, np.newaxis], mean - patterns.mean
    total = patterns.units + units
    weight = patterns.units * units / total
    for part in _tiles(categories):
        patterns.products[part] += own[part] @ own.T + np.outer(delta[part], delta) * weight
    own = means - means.mean(axis=0)
    for part in _tiles(categories):
        patterns.gram[part] += own[part] @ own.T
    return patterns._replace(units=total, mean=patterns.mean + delta * (units / total))


class Symmetric:
    """A symmetric matrix ``[category, category]``, as it is or as ``factor @ factor.T``.

    The factor ``[category, unit]`` is smaller if there are fewer units than categories.
    """

    def __init__(self, whole: Floats | None = None, factor: Floats | None = None) -> None:
        self.whole, self.factor = whole, factor

    def __len__(self) -> int:
        return len(self.factor if self.whole is None else self.whole)  # type: ignore[arg-type]

    @property
    def diagonal(self) -> Floats:
        """The diagonal ``[category]``."""
        if self.whole is not None:
            return np.asarray(np.diag(self.whole))
        assert self.factor is not None
        return np.asarray(np.einsum("ij,ij->i", self.factor, self.factor))

    def rows(self, part: slice) -> Floats:
        """Some rows ``[category, category]``."""
        if self.whole is not None:
            return self.whole[part]
        assert self.factor is not None
        return np.asarray(self.factor[part] @ self.factor.T)

    def inner(self, other: Symmetric) -> float:
        """The sum of the products of two matrices' entries."""
        if self.factor is not None and other.factor is not None:
            across = self.factor.T @ other.factor
            return float(np.vdot(across, across))
        parts = _tiles(len(self))
        return sum(float(np.vdot(self.rows(part), other.rows(part))) for part in parts)


def correlation_distances(patterns: Patterns) -> Floats:
    """``1 - r`` between patterns, ``[category, category]``, with Pearson's r over units.

    Kriegeskorte, Mur & Bandettini (2008), Front. Syst. Neurosci. 2. NaN for a constant pattern.
    """
    size = _sizes(patterns.units, patterns.mean, np.diag(patterns.products))
    distances = _correlation(patterns.products, size, size)
    np.fill_diagonal(distances, np.where(np.isnan(size), np.nan, 0.0))
    return distances


def euclidean_distances(patterns: Patterns) -> Floats:
    """``sqrt(sum_u (a_u - b_u)**2)`` between patterns, ``[category, category]``."""
    square = np.diag(patterns.gram)
    distances = _euclidean(patterns.gram, square, square)
    np.fill_diagonal(distances, 0)
    return distances


def correlation_triangle(units: int, mean: Floats, products: Symmetric) -> tuple[Floats, Floats]:
    """:func:`correlation_distances` above the diagonal, row by row, and on it."""
    size = _sizes(units, mean, products.diagonal)
    found = _triangle(products, lambda rows, part: _correlation(rows, size[part], size))
    return found, np.where(np.isnan(size), np.nan, 0.0)


def euclidean_triangle(gram: Symmetric) -> tuple[Floats, Floats]:
    """:func:`euclidean_distances` above the diagonal, row by row, and on it."""
    square = gram.diagonal
    found = _triangle(gram, lambda rows, part: _euclidean(rows, square[part], square))
    return found, np.zeros(len(square))


def linear_cka(gram: Floats, other: Floats) -> float:
    """``<K, L> / (|K| |L|)`` of two centred Gram matrices ``[category, category]``.

    Centred kernel alignment with linear kernels: Kornblith et al. (2019), ICML. 1 for patterns that
    differ by a rotation and scaling only. NaN if all categories of either have the same pattern.
    """
    return float(alignments([Symmetric(gram)], [Symmetric(other)])[0, 0])


def alignments(
    first: Sequence[Symmetric], second: Sequence[Symmetric], unbiased: bool = False
) -> Floats:
    """:func:`linear_cka` ``[row, row]`` between all of ``first`` and all of ``second``.

    ``unbiased`` takes the estimator of HSIC of Song, Smola, Gretton, Bedo & Borgwardt (2012),
    J. Mach. Learn. Res. 13, in numerator and denominator (Nguyen, Raghu & Kornblith 2021, ICLR). It
    leaves out the diagonals K_ii, which grow with the number of units. For the n rows of centred K
    and L, whose rows sum to 0, it is in proportion to ``<K, L> - n / (n - 2) sum K_ii L_ii + sum
    K_ii sum L_ii / ((n - 1) (n - 2))``. Its values lie between -1 and 1; NaN for fewer than 4 rows.
    """
    if all(one.whole is not None for one in (*first, *second)):
        inner = _products(first, second)
    else:
        inner = np.array([[one.inner(other) for other in second] for one in first])
    squares = [np.array([one.inner(one) for one in side]) for side in (first, second)]
    if unbiased:
        diagonals = [np.array([one.diagonal for one in side]) for side in (first, second)]
        inner = inner - _from_diagonals(*diagonals)
        squares = [_unbiased(*own) for own in zip(squares, diagonals, strict=True)]
    size = np.sqrt(np.outer(*squares))
    return np.asarray((inner / np.where(size > 0, size, np.nan)).clip(-1, 1))


def _from_diagonals(one: Floats, other: Floats) -> Floats:
    """The part of inner products that is due to the diagonals ``[matrix, row]``."""
    n = one.shape[1]
    if n < 4:
        return np.full((len(one), len(other)), np.nan)
    traces = np.outer(one.sum(axis=1), other.sum(axis=1))
    return np.asarray(n / (n - 2) * (one @ other.T) - traces / ((n - 1) * (n - 2)))


def _unbiased(square: Floats, diagonal: Floats) -> Floats:
    """Squared norms without the part of the diagonals; 0 where nothing but rounding is left."""
    found = square - _from_diagonals(diagonal, diagonal).diagonal()
    noise = 8 * diagonal.shape[1] * np.finfo(np.float64).eps * square
    return np.where(found > noise, found, 0)


def _products(first: Sequence[Symmetric], second: Sequence[Symmetric]) -> Floats:
    """Inner products of matrices, as one product in tiles."""
    found = np.zeros((len(first), len(second)))
    values = len(first[0]) ** 2
    step = max(1, _TILE // max(len(first), len(second)))
    for start in range(0, values, step):
        tiles = [
            np.stack(
                [
                    one.whole.reshape(-1)[start : start + step]
                    for one in side
                    if one.whole is not None
                ]
            )
            for side in (first, second)
        ]
        found += tiles[0] @ tiles[1].T
    return found


def _sizes(units: int, mean: Floats, square: Floats) -> Floats:
    """The norm of every pattern's deviations from its mean; NaN if it is constant."""
    # Rounding errors of equal means do not count as variation.
    varies = square > units * (4 * np.finfo(np.float64).eps * mean) ** 2
    return np.sqrt(np.where(varies, square, np.nan))


def _correlation(products: Floats, own: Floats, others: Floats) -> Floats:
    return np.asarray(1 - (products / np.outer(own, others)).clip(-1, 1))


def _euclidean(gram: Floats, own: Floats, others: Floats) -> Floats:
    return np.asarray(np.sqrt((own[:, np.newaxis] + others - 2 * gram).clip(0)))


def _triangle(matrix: Symmetric, distances: Callable[[Floats, slice], Floats]) -> Floats:
    """Distances above the diagonal, row by row, from tiles of rows of a matrix."""
    rows, place = len(matrix), 0
    if matrix.factor is not None and rows * rows <= _WHOLE:
        matrix = Symmetric(matrix.rows(slice(None)))
    found = np.empty(rows * (rows - 1) // 2)
    for part in _tiles(rows):
        for row, own in enumerate(distances(matrix.rows(part), part), part.start + 1):
            found[place : place + rows - row] = own[row:]
            place += rows - row
    return found


def _tiles(rows: int) -> Iterator[slice]:
    step = max(1, _TILE // max(rows, 1))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))

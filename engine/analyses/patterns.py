"""Category means of a layer's units, reduced to what is smaller: the means, or sums over units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...kernels.contrast import Floats
from ...kernels.similarity import (
    Patterns,
    Symmetric,
    correlation_triangle,
    euclidean_triangle,
    extend,
    patterns_of,
)


class CategoryMeans:
    """Patterns ``[category, unit]`` of the category means of one sample of the stimuli.

    As long as there are no more units than categories the means are kept, which take less memory
    than matrices of categories; otherwise :class:`Patterns`, whose size does not depend on units.
    """

    def __init__(self, categories: int) -> None:
        self._categories = categories
        self._parts = [np.zeros((categories, 0))]
        self._sums: Patterns | None = None

    def add(self, means: Floats) -> None:
        """Add units."""
        if self._sums is None:
            self._parts.append(means)
            if self.units > self._categories:
                self._sums, self._parts = self.sums, []
        else:
            self._sums = extend(self._sums, means)

    @property
    def units(self) -> int:
        """Number of units."""
        return self._sums.units if self._sums else sum(part.shape[1] for part in self._parts)

    @property
    def sums(self) -> Patterns:
        """Sums over units ``[category, category]``."""
        return self._sums or patterns_of(np.concatenate(self._parts, axis=1))

    def triangle(self, distance: str) -> tuple[Floats, Floats]:
        """Distances between categories above the diagonal, row by row, and on the diagonal."""
        return _TRIANGLES[distance](self)

    def gram(self) -> Symmetric:
        """Inner products of categories, deviations from each unit's mean over categories."""
        if self._sums:
            return Symmetric(self._sums.gram)
        means = np.concatenate(self._parts, axis=1)
        return Symmetric(factor=means - means.mean(axis=0))

    def correlations(self) -> tuple[Floats, Floats]:
        """:func:`.correlation_triangle` of the means."""
        if self._sums:
            units, mean, products, _ = self._sums
            return correlation_triangle(units, mean, Symmetric(products))
        means = np.concatenate(self._parts, axis=1)
        units = means.shape[1]
        mean = means.mean(axis=1) if units else np.zeros(len(means))
        means -= mean[:, np.newaxis]
        return correlation_triangle(units, mean, Symmetric(factor=means))


_TRIANGLES: dict[str, Callable[[CategoryMeans], tuple[Floats, Floats]]] = {
    "correlation": CategoryMeans.correlations,
    "euclidean": lambda means: euclidean_triangle(means.gram()),
}
DISTANCES = tuple(_TRIANGLES)

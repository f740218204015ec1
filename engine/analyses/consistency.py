"""Category dissimilarity matrices of layers, and how consistent they are between layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ...kernels.concordance import Ranks, doubled_ranks, kendall, spearman
from ...kernels.similarity import Symmetric, alignments
from ..errors import UserError
from .census import Census
from .patterns import DISTANCES
from .resampling import Floats, or_none

Distance = Literal["correlation", "euclidean"]
Similarity = Literal["spearman", "kendall", "cka", "cka_unbiased"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)
Matrix = tuple[tuple[float | None, ...], ...]
# Values of all layers' dissimilarity matrices that are given as Python's numbers, at 32 bytes each.
MOST_VALUES = 2**23


@dataclass(frozen=True)
class Dissimilarity:
    """The dissimilarity matrix of a layer over its living units.

    Attributes
    ----------
    layer : str
        Name of the layer.
    units : int
        Number of living units.
    rdm : tuple of tuple, [category][category], or None
        The matrix; None if the matrices of all layers have more than 8 million values: ask for
        fewer layers.
    reliability : float or None
        Spearman's correlation between the matrices of two folds, averaged over all pairs of folds;
        None for one fold.
    """

    layer: str
    units: int
    rdm: Matrix | None
    reliability: float | None


@dataclass(frozen=True)
class Consistency:
    """Dissimilarity matrices of layers, and similarities between layers ``[layer][layer]``.

    A value is None if a layer has no living units or all its distances are equal, as with fewer
    than three categories (four for ``cka_unbiased``). A matrix is None if it was not requested.

    Attributes
    ----------
    distance : str
        Distance between the patterns of two categories.
    categories : tuple of str
        The categories.
    layers : tuple of str
        Names of the layers.
    rdms : tuple of Dissimilarity
        The matrix of each layer.
    spearman, kendall : tuple of tuple, or None
        Spearman's and Kendall's (tau-b) correlation of the upper triangles of two layers' matrices,
        on all stimuli.
    cka, cka_unbiased : tuple of tuple, or None
        Linear CKA of two layers' category means, and by an unbiased estimator, on all stimuli.
    spearman_folds, kendall_folds, cka_folds, cka_unbiased_folds : tuple of tuple, or None
        The same of a layer on one fold and a layer on another, averaged over all ordered pairs of
        folds: their diagonal is the reliability of a layer. None for one fold.
    """

    distance: str
    categories: tuple[str, ...]
    layers: tuple[str, ...]
    rdms: tuple[Dissimilarity, ...]
    spearman: Matrix | None
    kendall: Matrix | None
    cka: Matrix | None
    cka_unbiased: Matrix | None
    spearman_folds: Matrix | None
    kendall_folds: Matrix | None
    cka_folds: Matrix | None
    cka_unbiased_folds: Matrix | None


def consistency(
    censuses: Iterable[Census],
    distance: Distance = "correlation",
    similarities: Sequence[str] = SIMILARITIES,
) -> Consistency:
    """Dissimilarity matrices of categories, and similarities between layers.

    Parameters
    ----------
    censuses : censuses of layers of one store
    distance : ``correlation`` (1 - Pearson's r over units) or ``euclidean``
    similarities : some of ``spearman``, ``kendall``, ``cka`` and ``cka_unbiased``

    Raises
    ------
    UserError : ``distance`` or a similarity is unknown
    """
    taken = list(censuses)
    found = LayerGeometries(len(taken), distance, similarities)
    for census in taken:
        found.add(census)
    return found.compared()


class LayerGeometries:
    """Collects what is compared between layers, layer by layer, in as few bytes as possible.

    A layer and sample of the stimuli takes 2 bytes per pair of categories for the ranks of its
    distances, and its category means or their inner products for CKA.
    """

    def __init__(
        self, layers: int, distance: str = "correlation", similarities: Sequence[str] = SIMILARITIES
    ) -> None:
        if distance not in DISTANCES:
            raise UserError(f"a distance is {' or '.join(DISTANCES)}; got {distance!r}: choose one")
        for one in similarities:
            if one not in SIMILARITIES:
                raise UserError(
                    f"layers are compared by {', '.join(SIMILARITIES)}; got {one!r}: choose some"
                )
        self._layers, self._distance, self._similarities = layers, distance, similarities
        self._aligns = any(one.startswith("cka") for one in similarities)
        self._censuses: list[tuple[str, int, Matrix | None]] = []
        self._categories: tuple[str, ...] = ()
        self._samples: list[_Sample] = []

    def add(self, census: Census) -> None:
        """Add a layer."""
        samples = [census.means, *census.fold_means]
        if not self._censuses:
            self._categories = census.categories
            self._samples = [_Sample(self._layers) for _ in samples]
        keeps = self._layers * len(census.categories) ** 2 <= MOST_VALUES
        rdm = None
        for number, (sample, means) in enumerate(zip(self._samples, samples, strict=True)):
            triangle, diagonal = means.triangle(self._distance)
            if keeps and number == 0:
                rdm = _matrix(_square(triangle, diagonal))
            sample.add(triangle, means.gram() if self._aligns else None)
        self._censuses.append((census.layer.name, census.means.units, rdm))

    def compared(self) -> Consistency:
        """The comparison of all layers that were added."""
        whole, *folds = self._samples
        matrices: dict[str, Matrix | None] = {}
        for name in SIMILARITIES:
            asked = name in self._similarities
            matrices[name] = _matrix(whole.compared(name)) if asked else None
            matrices[f"{name}_folds"] = _matrix(_across(name, folds)) if asked and folds else None
        across = _across("spearman", folds).diagonal() if folds else [np.nan] * self._layers
        return Consistency(
            distance=self._distance,
            categories=self._categories,
            layers=tuple(layer for layer, *_ in self._censuses),
            rdms=tuple(
                Dissimilarity(layer, units, rdm, or_none(float(reliability)))
                for (layer, units, rdm), reliability in zip(self._censuses, across, strict=True)
            ),
            **matrices,
        )


class _Sample:
    """The distances and Gram matrices of all layers on a sample of the stimuli."""

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._number = 0
        self.ranks: Ranks = np.empty((0, 0), np.int32)
        self.grams: list[Symmetric] = []

    def add(self, triangle: Floats, gram: Symmetric | None) -> None:
        """Add a layer."""
        if not self._number:
            self.ranks = np.empty((self._layers, len(triangle)), np.int32)
        # Where there is nothing to correlate, all ranks are tied.
        known = np.isfinite(triangle).all()
        self.ranks[self._number] = doubled_ranks(triangle) if known else len(triangle) + 1
        self._number += 1
        if gram is not None:
            self.grams.append(gram)

    def compared(self, similarity: str, other: _Sample | None = None) -> Floats:
        """A similarity ``[layer, layer]`` with another sample, or with itself."""
        second = other or self
        if similarity.startswith("cka"):
            return alignments(self.grams, second.grams, unbiased=similarity == "cka_unbiased")
        if similarity == "kendall":
            return kendall(self.ranks, other.ranks if other else None)
        return spearman(self.ranks, second.ranks)


def _across(similarity: str, folds: Sequence[_Sample]) -> Floats:
    """A similarity of layers on different folds, averaged over all ordered pairs of folds."""
    found = [
        one.compared(similarity, other)
        for number, one in enumerate(folds)
        for other in folds[number + 1 :]
    ]
    return np.asarray(np.mean([(one + one.T) / 2 for one in found], axis=0))


def _square(triangle: Floats, diagonal: Floats) -> Floats:
    """A symmetric matrix from the entries above its diagonal and on it."""
    found = np.diag(diagonal)
    upper = np.triu_indices(len(diagonal), 1)
    found[upper] = triangle
    found.T[upper] = triangle
    return found


def _matrix(values: Floats) -> Matrix:
    known = np.isfinite(values)
    rows = values if known.all() else np.where(known, values, None)  # type: ignore[call-overload]
    return tuple(map(tuple, rows.tolist()))

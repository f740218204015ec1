"""Category dissimilarity matrices of layers, and how consistent they are between layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...kernels.similarity import (
    Patterns,
    correlation_distances,
    euclidean_distances,
    linear_cka,
)
from ..errors import UserError
from .census import Census
from .resampling import Floats, or_none

Distance = Literal["correlation", "euclidean"]
Matrix = tuple[tuple[float | None, ...], ...]
_DISTANCES: dict[str, Callable[[Patterns], Floats]] = {
    "correlation": correlation_distances,
    "euclidean": euclidean_distances,
}


@dataclass(frozen=True)
class Dissimilarity:
    """The dissimilarity matrix ``rdm [category][category]`` of a layer over its living ``units``.

    ``reliability`` is Spearman's correlation between the matrices of two folds, averaged over all
    pairs of folds; None for one fold.
    """

    layer: str
    units: int
    rdm: Matrix
    reliability: float | None


@dataclass(frozen=True)
class Consistency:
    """Dissimilarity matrices of layers, and similarities between layers ``[layer][layer]``.

    ``spearman`` and ``kendall`` (tau-b) compare the upper triangles of two layers' matrices, and
    ``cka`` is the linear CKA of their category means, all on all stimuli. ``*_folds`` compare a
    layer on one fold with a layer on another fold, averaged over all ordered pairs of folds: their
    diagonal is the reliability of a layer. They are None for one fold. A value is None if a layer
    has no living units or all its distances are equal, as with fewer than three categories.
    """

    distance: str
    categories: tuple[str, ...]
    layers: tuple[str, ...]
    rdms: tuple[Dissimilarity, ...]
    spearman: Matrix
    kendall: Matrix
    cka: Matrix
    spearman_folds: Matrix | None
    kendall_folds: Matrix | None
    cka_folds: Matrix | None


def consistency(censuses: Iterable[Census], distance: Distance = "correlation") -> Consistency:
    """Dissimilarity matrices of categories, and similarities between layers.

    Parameters
    ----------
    censuses : censuses of layers of one store
    distance : ``correlation`` (1 - Pearson's r over units) or ``euclidean``

    Raises
    ------
    UserError : ``distance`` is neither
    """
    if distance not in _DISTANCES:
        raise UserError(f"a distance is {' or '.join(_DISTANCES)}; got {distance!r}: choose one")
    taken = list(censuses)
    folds = range(len(taken[0].fold_patterns))
    samples = [
        _Sample([_DISTANCES[distance](one) for one in patterns], [one.gram for one in patterns])
        for patterns in (
            [census.patterns for census in taken],
            *([census.fold_patterns[fold] for census in taken] for fold in folds),
        )
    ]
    whole = _compared(samples[0], samples[0])
    pairs = [(a, b) for a in samples[1:] for b in samples[1:] if a is not b]
    across = np.mean([_compared(a, b) for a, b in pairs], axis=0) if pairs else None
    spearman, kendall, cka = map(_matrix, whole)
    by_folds = [None] * len(whole) if across is None else [_matrix(one) for one in across]
    return Consistency(
        distance=distance,
        categories=taken[0].categories,
        layers=tuple(census.layer.name for census in taken),
        rdms=tuple(
            Dissimilarity(
                layer=census.layer.name,
                units=census.patterns.units,
                rdm=_matrix(rdm),
                reliability=None if across is None else or_none(float(across[0, index, index])),
            )
            for index, (census, rdm) in enumerate(zip(taken, samples[0].rdms, strict=True))
        ),
        spearman=spearman,
        kendall=kendall,
        cka=cka,
        spearman_folds=by_folds[0],
        kendall_folds=by_folds[1],
        cka_folds=by_folds[2],
    )


class _Sample:
    """Dissimilarity and Gram matrices of all layers on a sample of the stimuli."""

    def __init__(self, rdms: list[Floats], grams: list[Floats]) -> None:
        self.rdms, self.grams = rdms, grams
        upper = np.triu_indices(len(rdms[0]), 1)
        self.triangles = [np.asarray(rdm[upper]) for rdm in rdms]
        self.ranks = [_ranks(triangle) for triangle in self.triangles]


def _compared(one: _Sample, other: _Sample) -> Floats:
    """Spearman, Kendall and CKA between every layer of one sample and every layer of the other."""
    layers = range(len(one.rdms))
    found = np.empty((3, len(layers), len(layers)))
    for i in layers:
        for j in layers:
            found[0, i, j] = float(np.sum(one.ranks[i] * other.ranks[j]).clip(-1, 1))
            found[1, i, j] = _kendall(one.triangles[i], other.triangles[j])
            found[2, i, j] = linear_cka(one.grams[i], other.grams[j])
    return found


def _ranks(values: Floats) -> Floats:
    """Centred ranks of length 1, whose product is Spearman's rho (1904, Am. J. Psychol. 15)."""
    from scipy.stats import rankdata

    if not _varies(values):
        return np.full(len(values), np.nan)
    ranks = rankdata(values)
    deviations = ranks - ranks.mean()
    return np.asarray(deviations / np.linalg.norm(deviations))


def _kendall(a: Floats, b: Floats) -> float:
    """Tau-b, which accounts for ties (Kendall 1945, Biometrika 33)."""
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic) if _varies(a) and _varies(b) else np.nan


def _varies(values: Floats) -> bool:
    return bool(len(values) > 1 and np.isfinite(values).all() and values.min() < values.max())


def _matrix(values: Floats) -> Matrix:
    return tuple(tuple(map(or_none, row)) for row in values.tolist())

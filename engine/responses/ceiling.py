"""Split-half reliability of tuning and geometry between folds.

A network responds without noise, so its reliability is limited by the choice of images. Folds hold
different images of the same categories: the correlation of category means between folds estimates
how well another sample of images of the same size would reproduce them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ...kernels.similarity import correlation_distances, euclidean_distances, patterns_of
from ..errors import UserError
from .geometry import Distance, refuse_distance, upper
from .recording import Recording
from .tuning import tuning

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ceiling:
    """The reliability of one layer.

    ``tuning_r`` is Pearson's r between a unit's category means on two folds, averaged over the
    units that vary in both (``units`` of ``of``); ``geometry_r`` is Pearson's r between the
    dissimilarities of the categories' mean patterns. Both are averaged over all pairs of folds.
    ``tuning`` and ``geometry`` extrapolate them to all stimuli by the formula of Spearman (1910)
    and Brown (1910), F r / (1 + (F - 1) r) for F folds; None if r is not positive or unknown.
    """

    layer: str
    of: int
    units: int
    categories: int
    folds: int
    tuning_r: float | None
    tuning: float | None
    distance: str
    geometry_r: float | None
    geometry: float | None


def ceilings(
    recording: Recording, layers: str | Sequence[str] = "*", distance: Distance = "correlation"
) -> list[Ceiling]:
    """Split-half reliability of every layer's tuning and of its geometry of categories.

    Raises
    ------
    UserError : the recording has one fold, or fewer than three categories; a layer was projected
    """
    refuse_distance(distance)
    if recording.folds < 2:
        raise UserError(
            f"reliability needs at least two folds; {recording.path} has one: record with `folds=2`"
        )
    if len(recording.categories) < 3:
        raise UserError(
            f"reliability needs at least three categories; {recording.path} has "
            f"{len(recording.categories)}"
        )
    rows = []
    for found in tuning(recording, layers):
        pairs = list(combinations(range(recording.folds), 2))
        means = found.fold_mean
        by_unit = np.mean([correlation(means[a], means[b]) for a, b in pairs], axis=0)
        varying = by_unit[np.isfinite(by_unit)]
        tuning_r = float(varying.mean()) if len(varying) else None
        rdms = [upper(category_distances(one, distance))[:, None] for one in means]
        mean_r = np.mean([correlation(rdms[a], rdms[b])[0] for a, b in pairs])
        geometry_r = float(mean_r) if np.isfinite(mean_r) else None
        folds = recording.folds
        rows.append(
            Ceiling(
                layer=found.layer,
                of=len(found.units),
                units=len(varying),
                categories=len(found.categories),
                folds=folds,
                tuning_r=tuning_r,
                tuning=spearman_brown(tuning_r, folds),
                distance=distance,
                geometry_r=geometry_r,
                geometry=spearman_brown(geometry_r, folds),
            )
        )
    return rows


def spearman_brown(r: float | None, parts: int) -> float | None:
    """Reliability of ``parts`` parts together, from the correlation ``r`` between two of them.

    None if ``r`` is None or not positive.
    """
    return parts * r / (1 + (parts - 1) * r) if r is not None and r > 0 else None


def correlation(one: Floats, other: Floats) -> Floats:
    """Pearson's r ``[unit]`` over the rows of ``[row, unit]``; NaN if one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (x - x.mean(axis=0) for x in (one, other))
        # Deviations of a constant are rounding errors.
        for x, whole in ((a, one), (b, other)):
            x[:, (x**2).sum(axis=0) <= 1e-24 * (whole**2).sum(axis=0)] = np.nan
        r = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray(r)


def category_distances(means: Floats, distance: Distance) -> Floats:
    """Dissimilarity ``[category, category]`` of mean patterns ``[category, unit]``."""
    patterns = patterns_of(means[:, np.isfinite(means).all(axis=0)])
    if distance == "correlation":
        return correlation_distances(patterns)
    return euclidean_distances(patterns)

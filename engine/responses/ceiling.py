"""Split-half reliability between folds: how much of tuning and geometry other stimuli repeat.

A network without noise gives the same response to the same image: what limits its reliability is
which images stand for a category. Folds hold different images of the same categories, so what is
compared between them are category means, and what is told is how far another sample of images as
large would give the same.
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

    ``tuning_r`` is Pearson's r over categories between the category means of two folds, a unit's,
    averaged over the units that vary in both (``units`` of ``of``); ``geometry_r`` that between the
    dissimilarities of the categories' mean patterns. With more than two folds they are means over
    all pairs of folds. ``tuning`` and ``geometry`` are what all stimuli together would have, by the
    formula of Spearman (1910) and Brown (1910), F r / (1 + (F - 1) r) for F folds; None where r is
    not positive or not known.
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
            f"reliability is between folds; {recording.path} has one: record with --folds 2"
        )
    if len(recording.categories) < 3:
        raise UserError(
            f"reliability is over three categories or more; {recording.path} has "
            f"{len(recording.categories)}"
        )
    rows = []
    for found in tuning(recording, layers):
        pairs = list(combinations(range(recording.folds), 2))
        means = found.fold_mean
        by_unit = np.mean([correlation(means[a], means[b]) for a, b in pairs], axis=0)
        varying = by_unit[np.isfinite(by_unit)]
        tuned = float(varying.mean()) if len(varying) else None
        apart = [upper(category_distances(one, distance)) for one in means]
        alike = np.mean([correlation(apart[a][:, None], apart[b][:, None])[0] for a, b in pairs])
        shape = float(alike) if np.isfinite(alike) else None
        parts = recording.folds
        rows.append(
            Ceiling(
                layer=found.layer,
                of=len(found.units),
                units=len(varying),
                categories=len(found.categories),
                folds=parts,
                tuning_r=tuned,
                tuning=spearman_brown(tuned, parts),
                distance=distance,
                geometry_r=shape,
                geometry=spearman_brown(shape, parts),
            )
        )
    return rows


def spearman_brown(r: float | None, parts: int) -> float | None:
    """The reliability of ``parts`` parts together, of which two correlate by ``r``.

    None where ``r`` is not positive: then nothing repeats.
    """
    return parts * r / (1 + (parts - 1) * r) if r is not None and r > 0 else None


def correlation(one: Floats, other: Floats) -> Floats:
    """Pearson's r ``[unit]`` over rows of ``[row, unit]``; NaN where one does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (x - x.mean(axis=0) for x in (one, other))
        # What is left of a constant is rounding.
        for x, whole in ((a, one), (b, other)):
            x[:, (x**2).sum(axis=0) <= 1e-24 * (whole**2).sum(axis=0)] = np.nan
        r = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray(r)


def category_distances(means: Floats, distance: Distance) -> Floats:
    """Dissimilarity ``[category, category]`` of mean patterns ``[category, unit]``."""
    patterns = patterns_of(means[:, np.isfinite(means).all(axis=0)])
    of = correlation_distances if distance == "correlation" else euclidean_distances
    return of(patterns)

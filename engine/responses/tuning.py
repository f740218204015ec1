"""Tuning: a unit's mean response to every category, and how few stimuli drive it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...kernels.indices import lifetime_sparseness
from .recording import Recording

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tuning:
    """The tuning curves of a layer's recorded units, and their sparseness.

    ``units [unit]`` are indices in the flattened layer. ``mean`` and ``sd [category, unit]`` are
    over the ``count [category]`` stimuli of a category (sd with n - 1; NaN if there are too few),
    ``fold_mean [fold, category, unit]`` over those of a fold. ``lifetime_sparseness [unit]`` is
    over all stimuli (Rolls & Tovee 1995, Vinje & Gallant 2000): 0 if a unit responds alike to all,
    1 if to a single one; negative responses count as 0.
    """

    layer: str
    categories: tuple[str, ...]
    count: NDArray[np.int64]
    units: NDArray[np.int64]
    mean: Floats
    sd: Floats
    fold_mean: Floats
    lifetime_sparseness: Floats


def tuning(recording: Recording, layers: str | Sequence[str] = "*") -> Iterator[Tuning]:
    """Category means, standard deviations and sparseness of every recorded unit, layer by layer.

    Raises
    ------
    UserError : a layer is unknown or was projected
    """
    for layer in recording.layers_named(layers):
        recording.require_units(layer.name)
        yield _of_layer(recording, layer.name)


def _of_layer(recording: Recording, layer: str) -> Tuning:
    units, categories = recording.units(layer), len(recording.categories)
    mean, sd = (np.full((categories, len(units)), np.nan) for _ in range(2))
    fold_mean = np.full((recording.folds, categories, len(units)), np.nan)
    sparseness, shown = np.full(len(units), np.nan), np.flatnonzero(recording.shown)
    rows = [recording.rows_of([k]) for k in range(categories)]
    by_fold = [
        [recording.rows_of([k], fold) for k in range(categories)] for fold in range(recording.folds)
    ]
    for columns in recording.blocks(layer):
        values = recording.part(layer, columns).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            if len(shown):
                sparseness[columns] = lifetime_sparseness(values[shown])
            for k, own in enumerate(rows):
                if len(own):
                    mean[k, columns] = values[own].mean(axis=0)
                if len(own) > 1:
                    sd[k, columns] = values[own].std(axis=0, ddof=1)
                for fold, parts in enumerate(by_fold):
                    if len(parts[k]):
                        fold_mean[fold, k, columns] = values[parts[k]].mean(axis=0)
    count = np.array([len(own) for own in rows], np.int64)
    return Tuning(layer, recording.categories, count, units, mean, sd, fold_mean, sparseness)

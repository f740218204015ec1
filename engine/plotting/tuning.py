"""Tuning curves of selective units: held-out mean responses to every category, and chance levels.

For the composed figure alone, which needs more of a store than the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..analyses.analyse import Analysis
from ..contrasts.chance import chance
from ..contrasts.evaluate import samples_of
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import Criterion
from ..contrasts.select import select_slabs
from ..contrasts.summary import held_out_sample
from ..layer import Layer
from ..store.store_reader import StoreReader
from .axes import FEW


def details(
    store: StoreReader, found: Analysis, criterion: Criterion, layers: Sequence[str]
) -> dict[str, Any]:
    """Parts of the composed figure that are not on the page.

    ``tuning`` has for every layer the curves ``[contrast][category]`` and that of all living units
    ``[category]``, standardised as in :mod:`..analyses.strength`; ``rdm`` its matrix of categories.
    ``chance`` has for every layer of the analysis the share of units that 5 % of the shuffles
    reach for any contrast; None if the scan shuffled no labels.
    """
    scale = {row.layer: (row.layer_mean, row.layer_sd) for row in found.strength}
    rdms = {one.layer: one.rdm for one in found.consistency.rdms} if found.consistency else {}
    shown = {}
    for layer in map(store.layer, layers):
        curves = None
        mean, sd = scale.get(layer.name, (None, None))
        if store.folds > 1 and mean is not None and sd:
            curves = [
                _plain((values - mean) / sd)
                for values in _responses(store, layer, criterion, found.contrasts)
            ]
        shown[layer.name] = {"tuning": curves, "rdm": rdms.get(layer.name)}
    return {
        "categories": list(found.categories),
        "contrasts": list(found.contrasts),
        "layers": shown,
        "chance": _chance(store, found, criterion) if store.shuffles else None,
    }


def _plain(values: NDArray[np.float64]) -> Any:
    """Values as lists, None for NaN."""
    return np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload]


def _responses(
    store: StoreReader, layer: Layer, criterion: Criterion, contrasts: Sequence[str]
) -> tuple[Any, Any]:
    """Mean responses ``[contrast, category]`` of selective units, and ``[category]`` of living."""
    parsed = parse_contrasts(contrasts, store.categories)
    sums = np.zeros((len(parsed), len(store.categories)))
    units = np.zeros((len(parsed), 1), np.int64)
    every, living = np.zeros(len(store.categories)), 0
    for _, slabs in select_slabs(store, criterion, parsed, [layer]):
        for (slab, _), chosen in zip(store.slabs(layer), slabs, strict=True):
            moments = store.moments(layer, slab)
            for index, fold in np.argwhere(chosen.selective_fold.any(axis=-1)):
                own = chosen.selective_fold[index, fold]
                sums[index] += held_out_sample(moments, int(fold), own).mean.sum(axis=1)
                units[index] += int(own.sum())
            alive = ~(chosen.dead | chosen.nonfinite)
            every += samples_of(moments)[0].mean[:, alive].sum(axis=1)
            living += int(alive.sum())
    with np.errstate(all="ignore"):
        return np.where(units < FEW, np.nan, sums / units), every / living


def _chance(store: StoreReader, found: Analysis, criterion: Criterion) -> list[float]:
    parsed = parse_contrasts(found.contrasts, store.categories)
    layers = [store.layer(name) for name in found.layers]
    return [
        float(np.quantile(shares, 0.95, axis=1).max())
        for _, shares in chance(store, criterion, parsed, layers)
    ]

"""The table that answers the first question: what is selective, per layer and category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ...kernels.contrast import selectivity_index
from ...kernels.moments import merge
from ..spec import Criterion, Layer
from ..store import Store
from .select import DEFAULT, Selection, select


@dataclass(frozen=True)
class Row:
    """One layer and category.

    ``units`` of the layer; how many are ``dead`` (constant over all stimuli) or ``nonfinite``; how
    many are ``selective`` on all stimuli. ``replicated`` is the share of the units selected on one
    fold that pass again on another, and ``csi`` the mean CSI of the units selected on one fold,
    measured on the others; both averaged over the folds that select, None where none does or there
    is but one fold.
    """

    layer: str
    category: str
    units: int
    dead: int
    nonfinite: int
    selective: int
    replicated: float | None
    csi: float | None

    @property
    def share(self) -> float:
        """Selective units as a share of all units of the layer."""
        return self.selective / self.units


def summarise(
    store: Store, criterion: Criterion = DEFAULT, layers: Sequence[str] = ("*",)
) -> list[Row]:
    """The summary of a store under a criterion, a row per layer and category.

    ``layers`` are names or globs.

    Raises
    ------
    UserError : the scan that fills the store has not finished, or no layer has such a name
    """
    for pattern in layers:
        if not any(fnmatchcase(layer.name, pattern) for layer in store.layers):
            store.layer(pattern)  # says which are nearest
    rows = []
    for layer in store.layers:
        if not any(fnmatchcase(layer.name, pattern) for pattern in layers):
            continue
        chosen = select(store, layer, criterion)
        csi = _held_out_csi(store, layer, chosen.selective_fold)
        for index, category in enumerate(store.categories):
            rows.append(
                Row(
                    layer.name,
                    category,
                    layer.units,
                    int(chosen.dead.sum()),
                    int(chosen.nonfinite.sum()),
                    int(chosen.selective[index].sum()),
                    replication(chosen, index),
                    csi[index],
                )
            )
    return rows


def replication(chosen: Selection, category: int) -> float | None:
    """Share of the units selected on one fold that pass again on another, averaged over pairs."""
    folds = chosen.selective_fold[category]
    rates = [
        (folds[one] & folds[other]).sum() / folds[one].sum()
        for one in range(len(folds))
        for other in range(len(folds))
        if one != other and folds[one].any()
    ]
    return float(np.mean(rates)) if rates else None


def _held_out_csi(store: Store, layer: Layer, selected: NDArray[np.bool_]) -> list[float | None]:
    """Mean CSI per category of units ``selected [category, fold, unit]``, on the other folds."""
    if store.folds == 1:
        return [None] * len(store.categories)
    total = np.zeros((len(store.categories), store.folds))
    for slab, units in store.slabs(layer):
        folds = store.moments(layer, slab)
        for fold in range(store.folds):
            others = folds[:fold] + folds[fold + 1 :]
            with np.errstate(invalid="ignore", over="ignore"):
                mean = reduce(merge, others).mean
            csi = np.empty_like(mean)
            selectivity_index(mean, csi)
            total[:, fold] += np.where(selected[:, fold, units], csi, 0).sum(axis=1)
    counts = selected.sum(axis=-1)
    return [
        float(np.mean(sums[selecting > 0] / selecting[selecting > 0])) if selecting.any() else None
        for sums, selecting in zip(total, counts, strict=True)
    ]

"""What is selective, per layer and contrast, and what is left of it on held-out stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..spec import Layer
from ..store.reading import Store
from .examine import Selection
from .language.contrast import Contrast, every_category, parse_contrast
from .language.criterion import DEFAULT, Criterion
from .measures import Measured, Sample
from .select import chance, select

_MEASURED = ("csi", "d_prime", "response")


@dataclass(frozen=True)
class HeldOut:
    """The units ``selected`` on one fold, measured on the others.

    ``replicated`` is the share that pass again on another fold alone (the mean over the others);
    ``csi``, ``d_prime`` and ``response`` (to the target) are means over the units, on all other
    stimuli together; units whose d' is infinite are left out of its mean. None where no unit is
    selected, or none has a finite value.
    """

    fold: int
    selected: int
    replicated: float | None
    csi: float | None
    d_prime: float | None
    response: float | None


@dataclass(frozen=True)
class Row:
    """One layer and contrast.

    ``units`` of the layer; how many are ``dead`` (constant over all stimuli) or ``nonfinite``; how
    many are ``selective`` on all stimuli. ``held_out`` has an entry for every fold, or none where
    there is but one. ``chance`` is the share selected under shuffled labels, and ``chance_95`` the
    share that 5 % of the shuffles reach; None where the scan had none.
    """

    layer: str
    contrast: str
    units: int
    dead: int
    nonfinite: int
    selective: int
    held_out: tuple[HeldOut, ...]
    chance: float | None
    chance_95: float | None

    @property
    def share(self) -> float:
        """Selective units as a share of all units of the layer."""
        return self.selective / self.units

    @property
    def replicated(self) -> float | None:
        """Share replicated, averaged over the folds that select."""
        return self._average("replicated")

    @property
    def csi(self) -> float | None:
        """Held-out CSI, averaged over the folds that select."""
        return self._average("csi")

    @property
    def d_prime(self) -> float | None:
        """Held-out d', averaged over the folds that select."""
        return self._average("d_prime")

    @property
    def response(self) -> float | None:
        """Held-out response to the target, averaged over the folds that select."""
        return self._average("response")

    def _average(self, name: str) -> float | None:
        values = [getattr(fold, name) for fold in self.held_out]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


def summarise(
    store: Store,
    criterion: Criterion = DEFAULT,
    layers: Sequence[str] = ("*",),
    contrasts: Sequence[str] | None = None,
) -> list[Row]:
    """The summary of a store under a criterion, a row per layer and contrast.

    Parameters
    ----------
    layers : names or globs
    contrasts : as :mod:`.language.contrast` reads them; by default every category

    Raises
    ------
    UserError : the scan that fills the store has not finished, no layer has such a name, a contrast
        cannot be read or does not fit the criterion
    """
    parsed = None
    if contrasts is not None:
        parsed = [parse_contrast(contrast, store.categories) for contrast in contrasts]
    asked = every_category(store.categories) if parsed is None else parsed
    wanted = store.layers_named(layers)
    by_chance: dict[str, NDArray[np.float64]] = {}
    if store.shuffles:
        by_chance = {
            layer.name: shares for layer, shares in chance(store, criterion, parsed, wanted)
        }
    rows = []
    for layer, chosen in select(store, criterion, parsed, wanted):
        held_out = _held_out(store, layer, criterion, asked, chosen)
        for index, contrast in enumerate(asked):
            shares = by_chance[layer.name][index] if by_chance else None
            rows.append(
                Row(
                    layer.name,
                    contrast.text,
                    layer.units,
                    int(chosen.dead.sum()),
                    int(chosen.nonfinite.sum()),
                    int(chosen.selective[index].sum()),
                    held_out[index],
                    None if shares is None else float(shares.mean()),
                    None if shares is None else float(np.quantile(shares, 0.95, method="higher")),
                )
            )
    return rows


def _held_out(
    store: Store,
    layer: Layer,
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    chosen: Selection,
) -> list[tuple[HeldOut, ...]]:
    """For every contrast an entry per fold; none where there is but one."""
    if store.folds == 1:
        return [()] * len(contrasts)
    sums = np.zeros((len(contrasts), store.folds, len(_MEASURED)))
    finite = np.zeros_like(sums)
    for slab, units in store.slabs(layer):
        selected = chosen.selective_fold[:, :, units]
        if not selected.any():
            continue
        moments = store.moments(layer, slab)
        for contrast, fold in zip(*np.nonzero(selected.any(axis=2)), strict=True):
            others = [part for index, part in enumerate(moments) if index != fold]
            own = selected[contrast, fold]
            parts = [Moments(part.count, part.mean[:, own], part.m2[:, own]) for part in others]
            with np.errstate(all="ignore"):
                measured = Measured(Sample(reduce(merge, parts)), contrasts[contrast], criterion)
                for index, name in enumerate(_MEASURED):
                    values = measured.measure(name)
                    known = np.isfinite(values)
                    sums[contrast, fold, index] += values[known].sum()
                    finite[contrast, fold, index] += np.count_nonzero(known)
    return [
        tuple(
            HeldOut(
                fold,
                int(selected[fold].sum()),
                _replication(selected, fold),
                *(
                    float(total / count) if count else None
                    for total, count in zip(sums[index, fold], finite[index, fold], strict=True)
                ),
            )
            for fold in range(store.folds)
        )
        for index, selected in enumerate(chosen.selective_fold)
    ]


def _replication(selected: NDArray[np.bool_], fold: int) -> float | None:
    """Share of the units selected on ``fold`` that pass again on another, averaged over them."""
    own = selected[fold]
    if not own.any():
        return None
    again = [selected[other][own].mean() for other in range(len(selected)) if other != fold]
    return float(np.mean(again))

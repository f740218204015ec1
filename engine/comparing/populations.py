"""Response profiles and RDMs of a layer's selective units, on held-out stimuli.

Units selected by one fold are measured on the others, and every fold selects in turn. A scan with
one fold measures units on the stimuli that selected them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ...kernels.similarity import correlation_distances
from ..analyses.patterns import CategoryMeans
from ..contrasts.language.contrast import Contrast
from ..contrasts.language.criterion import Criterion
from ..contrasts.sample import Sample
from ..contrasts.select import select_slabs
from ..contrasts.summary import held_out_sample
from ..layer import Layer
from ..store.store_reader import StoreReader

# Correlations over two units are 1 or -1.
_FEWEST_UNITS = 3
EVERY_UNIT = "all units"


@dataclass(frozen=True)
class Population:
    """Units of a layer: those that a contrast selects, or all that vary.

    ``units`` is their number, averaged over the selecting folds. ``profile [category]`` averages
    responses over units, each standardised over all stimuli; NaN without units. ``means`` are their
    mean responses to the categories.
    """

    layer: str
    name: str
    units: float
    profile: NDArray[np.float64]
    means: CategoryMeans

    @property
    def rdm(self) -> NDArray[np.float64]:
        """1 - Pearson's correlation over units between the responses to two categories.

        ``[category, category]``; NaN with too few units or constant responses.
        """
        rdm = correlation_distances(self.means.sums)
        return np.full_like(rdm, np.nan) if self.means.units < _FEWEST_UNITS else rdm


def populations(
    store: StoreReader,
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    layers: Sequence[Layer],
) -> Iterator[Population]:
    """Each layer's units selected by each contrast, and all its units; reads slab by slab."""
    names = [*(contrast.text for contrast in contrasts), EVERY_UNIT]
    for layer, slabs in select_slabs(store, criterion, contrasts, layers):
        sums = [_Sums(len(store.categories)) for _ in names]
        for (slab, _), chosen in zip(store.slabs(layer), slabs, strict=True):
            moments = store.moments(layer, slab)
            living = ~(chosen.dead | chosen.nonfinite)
            for fold in range(store.folds):
                masks = (*chosen.selective_fold[:, fold], np.ones_like(living))
                for own, mask in zip(sums, masks, strict=True):
                    if (units := mask & living).any():
                        own.add(_measured(moments, fold, units))
        for name, own in zip(names, sums, strict=True):
            yield own.population(layer.name, name, store.folds)


def _measured(moments: Sequence[Moments], fold: int, units: NDArray[np.bool_]) -> Sample:
    """Units on the stimuli of all other folds, or of the only fold."""
    if len(moments) > 1:
        return held_out_sample(moments, fold, units)
    count, mean, m2 = moments[0]
    return Sample(Moments(count, mean[:, units], m2[:, units]))


class _Sums:
    """Running sums over the units of a population."""

    def __init__(self, categories: int) -> None:
        self._scores = np.zeros(categories)
        self._means = CategoryMeans(categories)

    def add(self, sample: Sample) -> None:
        """Add living units; those that are constant on these stimuli are skipped."""
        varies = sample.total.m2 > 0
        mean, total = sample.mean[:, varies], sample.total
        spread = np.sqrt(total.m2[varies] / (total.count - 1))
        self._scores = self._scores + ((mean - total.mean[varies]) / spread).sum(axis=1)
        self._means.add(mean)

    def population(self, layer: str, name: str, folds: int) -> Population:
        """The population of all units added."""
        units = self._means.units
        profile = self._scores / units if units else np.full_like(self._scores, np.nan)
        return Population(layer, name, units / folds, profile, self._means)

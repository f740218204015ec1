"""Response profiles and RDMs of a layer's selective units, on held-out stimuli.

Units selected by one fold are measured on the others, and every fold selects in turn. A scan with
one fold measures units on the stimuli that selected them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....kernels.moments import Moments
from ....kernels.similarity import correlation_distances
from ...analyses.patterns import CategoryMeans
from ...contrasts.language.contrast import Contrast
from ...contrasts.language.criterion import Criterion
from ...contrasts.sample import Floats, Sample
from ...contrasts.select import select_slabs
from ...contrasts.summary import held_out_sample
from ...layer import Layer
from ...store.store_reader import StoreReader

# Correlations over two units are 1 or -1.
_FEWEST_UNITS = 3
EVERY_UNIT = "all units"


@dataclass(frozen=True)
class Population:
    """Units of a layer: those that a contrast selects, all others, or all; all of them vary.

    ``sizes`` are their numbers, by the fold that selects. ``profile [category]`` averages responses
    over units, each standardised over all stimuli; NaN without units. ``means`` are their mean
    responses to the categories, None if they were not asked for.
    """

    layer: str
    name: str
    sizes: tuple[int, ...]
    profile: Floats
    means: CategoryMeans | None

    @property
    def units(self) -> float:
        """Their number, averaged over the selecting folds."""
        return sum(self.sizes) / len(self.sizes)

    @property
    def rdm(self) -> Floats:
        """1 - Pearson's correlation over units between the responses to two categories.

        ``[category, category]``; NaN with too few units or constant responses.
        """
        assert self.means is not None
        rdm = correlation_distances(self.means.sums)
        return np.full_like(rdm, np.nan) if self.means.units < _FEWEST_UNITS else rdm


class Measured(NamedTuple):
    """Living units of a slab that vary on the stimuli of all other folds, or of the only fold.

    ``place [unit]`` is theirs in the slab, ``means [category, unit]`` their mean responses, and
    ``scores`` the same in standard deviations from the mean over all these stimuli.
    """

    place: NDArray[np.int64]
    means: Floats
    scores: Floats

    @classmethod
    def of(cls, moments: Sequence[Moments], fold: int, living: NDArray[np.bool_]) -> Measured:
        """``living [unit]`` units, from the moments of each fold."""
        if len(moments) > 1:
            sample = held_out_sample(moments, fold, living)
        else:
            count, mean, m2 = moments[0]
            sample = Sample(Moments(count, mean[:, living], m2[:, living]))
        total = sample.total
        varies = total.m2 > 0
        means = sample.mean[:, varies]
        spread = np.sqrt(total.m2[varies] / (total.count - 1))
        scores = (means - total.mean[varies]) / spread
        return cls(np.flatnonzero(living)[varies], means, scores)


class Sums:
    """Running sums over the units of a population; their means for RDMs only."""

    def __init__(self, store: StoreReader, rdms: bool) -> None:
        self._scores = np.zeros(len(store.categories))
        self._sizes = [0] * store.folds
        self._means = CategoryMeans(len(store.categories)) if rdms else None

    def add(self, measured: Measured, fold: int, units: Any) -> None:
        """Add some of the units measured, a mask or places, that ``fold`` selected."""
        scores = measured.scores[:, units]
        if scores.shape[1]:
            self._scores = self._scores + scores.sum(axis=1)
            self._sizes[fold] += scores.shape[1]
            if self._means is not None:
                self._means.add(measured.means[:, units])

    def population(self, layer: str, name: str) -> Population:
        """The population of all units added."""
        units = sum(self._sizes)
        profile = self._scores / units if units else np.full_like(self._scores, np.nan)
        return Population(layer, name, tuple(self._sizes), profile, self._means)


class Selected(NamedTuple):
    """A population that a contrast selects, and all other units of the layer that vary."""

    own: Population
    others: Population | None


def populations(
    store: StoreReader,
    criterion: Criterion,
    contrasts: Sequence[Contrast],
    layers: Sequence[Layer],
    rdms: bool = True,
    others: bool = False,
) -> Iterator[tuple[list[Selected], Population]]:
    """Each layer's units selected by each contrast, and all its units; reads slab by slab.

    Parameters
    ----------
    rdms : whether RDMs will be asked for, which take memory for pairs of categories
    others : whether the other units of each contrast are measured too
    """
    for layer, slabs in select_slabs(store, criterion, contrasts, layers):
        every = Sums(store, rdms)
        own = [Sums(store, rdms) for _ in contrasts]
        rest = [Sums(store, rdms) for _ in contrasts] if others else []
        for (slab, _), chosen in zip(store.slabs(layer), slabs, strict=True):
            moments = store.moments(layer, slab)
            living = ~(chosen.dead | chosen.nonfinite)
            for fold in range(store.folds):
                measured = Measured.of(moments, fold, living)
                every.add(measured, fold, slice(None))
                masks = chosen.selective_fold[:, fold, measured.place]
                for sums, of in ((own, masks), (rest, ~masks)):
                    for one, mask in zip(sums, of, strict=False):
                        one.add(measured, fold, mask)
        selected = [
            Selected(
                own[place].population(layer.name, contrast.text),
                rest[place].population(layer.name, contrast.text) if others else None,
            )
            for place, contrast in enumerate(contrasts)
        ]
        yield selected, every.population(layer.name, EVERY_UNIT)

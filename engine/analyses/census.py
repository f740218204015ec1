"""Census of a layer: the counts that all its analyses need, taken in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ...kernels.similarity import Patterns, join, patterns_of
from ..contrasts.evaluate import samples_of
from ..contrasts.language.contrast import Contrast, parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..contrasts.measures import Measured
from ..contrasts.select import select_slabs
from ..contrasts.slab import Selection
from ..contrasts.summary import held_out_sample
from ..layer import Layer
from ..store.chunking import Slab
from ..store.store_reader import StoreReader
from .maps import Maps

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """A measure of units selected on one fold and measured on all others, for all folds.

    A unit counts once for every fold that selects it. Only finite values are kept: ``values`` holds
    a float32 array per contrast, in the order of folds and units; ``number`` and ``total [contrast,
    channel]`` are their count and sum by feature map.
    """

    values: tuple[NDArray[np.float32], ...]
    number: Counts
    total: Floats


@dataclass(frozen=True)
class Census:
    """Counts of one layer under one criterion.

    Feature maps are indices along the dimension ``channel``; without it, every unit is a map of its
    own. *Living* units are neither dead nor nonfinite.

    Parameters
    ----------
    categories, folds : of the store
    contrasts : contrasts as written by the user
    channel_units, channel_living : units of every feature map ``[channel]``
    by_channel : units selective on all stimuli ``[contrast, channel]``
    place_living, by_place : the same by position, ``[y, x]`` or ``[token]``, after ``contrast``;
        None for a layer without positions
    csi, d_prime, preferred, others : held-out CSI, d', and responses to target and baseline, of
        units selected on one fold and measured on the others; empty for one fold
    response : moments of the responses of all living units to all stimuli
    both : units selective for two contrasts ``[contrast, contrast]``
    confusion : living units by preferred category on one fold and on a later one ``[category,
        category]``, over all pairs of folds; units with ties are left out. None for one fold
    patterns : patterns of the category means of living units, on all stimuli
    fold_patterns : the same for every fold; empty for one fold
    """

    layer: Layer
    categories: tuple[str, ...]
    folds: int
    contrasts: tuple[str, ...]
    channel_units: Counts
    channel_living: Counts
    by_channel: Counts
    place_living: Counts | None
    by_place: Counts | None
    csi: HeldOut
    d_prime: HeldOut
    preferred: HeldOut
    others: HeldOut
    response: Moments
    both: Counts
    confusion: Counts | None
    patterns: Patterns
    fold_patterns: tuple[Patterns, ...]

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.channel_units.sum())

    @property
    def living(self) -> int:
        """Number of living units."""
        return int(self.channel_living.sum())

    @property
    def selective(self) -> Counts:
        """Number of units selective on all stimuli ``[contrast]``."""
        return np.asarray(self.by_channel.sum(axis=1))


def take_census(
    store: StoreReader,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
) -> Iterator[Census]:
    """Count the units of a store under a criterion, layer by layer.

    Masks are read if the scan stored them, else computed from the moments. Memory holds a slab and
    a :class:`Census`.

    Parameters
    ----------
    layers : names or globs of layers
    contrasts : as :mod:`..contrasts.language.contrast` reads them; by default every category

    Raises
    ------
    UserError : the scan has not finished, a layer is unknown, or a contrast cannot be parsed or
        does not fit the criterion
    """
    parsed = parse_contrasts(contrasts, store.categories)
    named = store.layers_named(layers)
    for layer, slabs in select_slabs(store, criterion, parsed, named):
        counter = _Counter(store, layer, criterion, parsed)
        for (slab, flat), chosen in zip(store.slabs(layer), slabs, strict=True):
            counter.add(slab, flat, chosen)
        yield counter.census()


_MEASURES = {"csi": "csi", "d_prime": "d_prime", "preferred": "response",
             "others": "baseline_response"}  # fmt: skip


class _Counter:
    """A census in progress, filled slab by slab."""

    def __init__(
        self, store: StoreReader, layer: Layer, criterion: Criterion, contrasts: Sequence[Contrast]
    ) -> None:
        self._store, self._layer = store, layer
        self._criterion, self._contrasts = criterion, contrasts
        self._maps = maps = Maps(layer)
        number, categories = len(contrasts), len(store.categories)
        self._units, self._living = np.zeros((2, 1, maps.number), np.int64)
        self._by_channel = np.zeros((number, maps.number), np.int64)
        self._place_living = self._by_place = None
        if maps.shape:
            self._place_living = np.zeros((1, *maps.shape), np.int64)
            self._by_place = np.zeros((number, *maps.shape), np.int64)
        self._held_out = {name: _HeldOut(number, maps.number) for name in _MEASURES}
        self._response: Moments | None = None
        self._both = np.zeros((number, number), np.int64)
        self._confusion = np.zeros((categories, categories), np.int64)
        samples = store.folds + 1 if store.folds > 1 else 1
        none = np.zeros((categories, categories))
        self._patterns = [Patterns(0, np.zeros(categories), none, none)] * samples

    def add(self, slab: Slab, flat: slice, chosen: Selection) -> None:
        """Count the units of a slab."""
        maps, living = self._maps, ~(chosen.dead | chosen.nonfinite)
        maps.count(self._units, np.ones((1, len(living)), np.bool_), slab, flat)
        maps.count(self._living, living[np.newaxis], slab, flat)
        maps.count(self._by_channel, chosen.selective, slab, flat)
        if self._place_living is not None and self._by_place is not None:
            maps.count_places(self._place_living, living[np.newaxis], slab)
            maps.count_places(self._by_place, chosen.selective, slab)
        masks = chosen.selective[:, chosen.selective.any(axis=0)].astype(np.float64)
        self._both += (masks @ masks.T).astype(np.int64)  # exact: the counts are small
        moments = self._store.moments(self._layer, slab)
        if self._store.folds > 1:
            self._measure(slab, flat, chosen, moments)
        if living.any():
            self._describe(
                moments if living.all() else [_of_units(part, living) for part in moments]
            )

    def census(self) -> Census:
        """The census of all slabs added."""
        nothing = Moments(0, np.nan, np.nan)
        several = self._store.folds > 1
        return Census(
            layer=self._layer,
            categories=tuple(self._store.categories),
            folds=self._store.folds,
            contrasts=tuple(contrast.text for contrast in self._contrasts),
            channel_units=self._units[0],
            channel_living=self._living[0],
            by_channel=self._by_channel,
            place_living=None if self._place_living is None else self._place_living[0],
            by_place=self._by_place,
            **{name: held_out.joined() for name, held_out in self._held_out.items()},
            response=nothing if self._response is None else self._response,
            both=self._both,
            confusion=self._confusion if several else None,
            patterns=self._patterns[0],
            fold_patterns=tuple(self._patterns[1:]),
        )

    def _measure(
        self, slab: Slab, flat: slice, chosen: Selection, moments: Sequence[Moments]
    ) -> None:
        """Measure the units selected on each fold on all other folds together."""
        for index, fold in np.argwhere(chosen.selective_fold.any(axis=-1)):
            own = chosen.selective_fold[index, fold]
            channels = self._maps.of(np.flatnonzero(own), slab, flat)
            with np.errstate(all="ignore"):
                sample = held_out_sample(moments, int(fold), own)
                measured = Measured(sample, self._contrasts[index], self._criterion)
                for name, measure in _MEASURES.items():
                    values = measured.measure(measure)
                    self._held_out[name].add(int(index), int(fold), channels, values)

    def _describe(self, moments: Sequence[Moments]) -> None:
        """Add responses, patterns and preferred categories of living units."""
        groups = (
            _of_all_units(Moments(int(count[0]), mean, m2))
            for fold in moments
            for count, mean, m2 in zip(*fold, strict=True)
        )
        response = reduce(merge, groups)
        self._response = response if self._response is None else merge(self._response, response)
        for index, sample in enumerate(samples_of(moments)):
            self._patterns[index] = join(self._patterns[index], patterns_of(sample.mean))
        largest = [_preferred(fold.mean) for fold in moments]
        for first, (one, single) in enumerate(largest):
            for other, also_single in largest[first + 1 :]:
                known = single & also_single
                pairs = one[known] * len(self._confusion) + other[known]
                counted = np.bincount(pairs, minlength=self._confusion.size)
                self._confusion += counted.reshape(self._confusion.shape)


class _HeldOut:
    """Accumulates a held-out measure."""

    def __init__(self, contrasts: int, maps: int) -> None:
        self._values: list[dict[int, list[NDArray[np.float32]]]] = [{} for _ in range(contrasts)]
        self._number = np.zeros((contrasts, maps), np.int64)
        self._total = np.zeros((contrasts, maps))

    def add(self, contrast: int, fold: int, channels: Counts, values: Floats) -> None:
        """Add the finite ``values [unit]`` of units in the feature maps ``channels``."""
        known = np.isfinite(values)
        kept, own = values[known], channels[known]
        self._values[contrast].setdefault(fold, []).append(kept.astype(np.float32))
        np.add.at(self._number[contrast], own, 1)
        np.add.at(self._total[contrast], own, kept)

    def joined(self) -> HeldOut:
        """All values, fold by fold, independent of the slabs."""
        none = np.empty(0, np.float32)
        values = tuple(
            np.concatenate([none, *(part for fold in sorted(folds) for part in folds[fold])])
            for folds in self._values
        )
        return HeldOut(values, self._number, self._total)


def _of_units(moments: Moments, own: NDArray[np.bool_]) -> Moments:
    return Moments(moments.count, moments.mean[:, own], moments.m2[:, own])


def _of_all_units(moments: Moments) -> Moments:
    """Moments of the responses of all units together, from those of each ``[unit]``."""
    units, mean = len(moments.mean), moments.mean.mean()
    between = moments.count * ((moments.mean - mean) ** 2).sum()
    return Moments(moments.count * units, float(mean), float(moments.m2.sum() + between))


def _preferred(mean: Floats) -> tuple[Counts, NDArray[np.bool_]]:
    """The category with the largest ``mean [category, unit]``, and whether it has no tie."""
    category = mean.argmax(axis=0)
    return category, (mean == mean.max(axis=0)).sum(axis=0) == 1

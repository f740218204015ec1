"""Units of one network under two localizers: counts and measures, slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..analyses.maps import Maps, maps_of
from ..contrasts.evaluate import samples_of
from ..contrasts.language.contrast import Contrast
from ..contrasts.language.criterion import Criterion
from ..contrasts.measures import Measured
from ..contrasts.sample import Sample
from ..contrasts.select import select_slabs
from ..contrasts.slab import Mask, Selection
from ..contrasts.summary import held_out_sample
from ..layer import Layer
from ..store.store_reader import StoreReader

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
# Measures of a unit on stimuli that did not select it, beside whether they select it again.
INDICES = ("csi", "d_prime", "auc_normal")
MEASURED = ("replicated", *INDICES)


class Means:
    """Means of values, by contrast and feature map: ``sums`` and ``numbers [contrast, map]``."""

    def __init__(self, contrasts: int, maps: int) -> None:
        self.sums, self.numbers = np.zeros((2, contrasts, maps))

    def add(self, contrast: int, maps: Counts, values: NDArray[np.generic]) -> None:
        """Add the finite ``values [unit]`` of units in some feature ``maps [unit]``."""
        values = np.asarray(values, np.float64)
        known = np.isfinite(values)
        np.add.at(self.sums[contrast], maps[known], values[known])
        np.add.at(self.numbers[contrast], maps[known], 1)

    def add_to_one(self, contrast: int, values: NDArray[np.generic]) -> None:
        """Add the finite ``values [unit]`` to the first map, which is faster."""
        known = np.asarray(values[np.isfinite(values)], np.float64)
        self.sums[contrast, 0] += known.sum()
        self.numbers[contrast, 0] += len(known)

    @property
    def means(self) -> Floats:
        """The mean over all feature maps ``[contrast]``; NaN for none."""
        with np.errstate(all="ignore"):
            return np.asarray(self.sums.sum(axis=1) / self.numbers.sum(axis=1))


class Localizer(NamedTuple):
    """A store, its contrasts, and the layers to compare."""

    store: StoreReader
    contrasts: Sequence[Contrast]
    layers: Sequence[Layer]


@dataclass
class Crossed:
    """A layer under two localizers; contrasts correspond, ``channel`` counts feature maps.

    Parameters
    ----------
    channel_units : units of every feature map
    living : units ``[channel]`` that live under both localizers
    selective : units ``[localizer, contrast, channel]`` that each selects on all its stimuli
    possible : those of them that live under both
    both : units ``[contrast, channel]`` that both select
    across : of units that a localizer selects, measures on the other's stimuli, by localizer
    within : of units that a fold of a localizer selects, measures on its other folds
    every : measures of all living units on a localizer's stimuli
    """

    layer: Layer
    channel_units: Counts
    living: Counts
    selective: Counts
    possible: Counts
    both: Counts
    across: tuple[dict[str, Means], ...]
    within: tuple[dict[str, Means], ...]
    every: tuple[dict[str, Means], ...]

    @classmethod
    def empty(cls, layer: Layer, contrasts: int) -> Crossed:
        """A layer before any of its units is added."""
        maps = Maps(layer).number

        def counts(*leading: int) -> Counts:
            return np.zeros((*leading, maps), np.int64)

        def means(size: int) -> tuple[dict[str, Means], ...]:
            return tuple({name: Means(contrasts, size) for name in MEASURED} for _ in range(2))

        return cls(
            layer=layer,
            channel_units=np.full(maps, layer.units // maps),
            living=counts(),
            selective=counts(2, contrasts),
            possible=counts(2, contrasts),
            both=counts(contrasts),
            across=means(maps),
            within=means(maps),
            every=means(1),
        )


class _Part(NamedTuple):
    """Consecutive units of a layer under one localizer: their slice, selection and moments."""

    flat: slice
    chosen: Selection
    folds: Sequence[Moments]

    def between(self, flat: slice) -> _Part:
        """Some of the units."""
        own = slice(flat.start - self.flat.start, flat.stop - self.flat.start)
        masks = {name: mask[..., own] for name, mask in vars(self.chosen).items()}
        folds = [Moments(one.count, one.mean[:, own], one.m2[:, own]) for one in self.folds]
        return _Part(flat, Selection(**masks), folds)

    @property
    def living(self) -> Mask:
        return np.asarray(~(self.chosen.dead | self.chosen.nonfinite))


def cross(first: Localizer, other: Localizer, criterion: Criterion) -> Iterator[Crossed]:
    """Count and measure the units of every layer; a slab of each store is in memory at a time.

    Raises
    ------
    UserError : see :func:`..contrasts.select.select_slabs`
    """
    streams = [
        select_slabs(one.store, criterion, one.contrasts, one.layers) for one in (first, other)
    ]
    contrasts = first.contrasts, other.contrasts
    for (layer, own), (its_layer, its) in zip(*streams, strict=True):
        found = Crossed.empty(layer, len(first.contrasts))
        parts = _parts(first.store, layer, own), _parts(other.store, its_layer, its)
        for pair in _in_step(*parts):
            maps = maps_of(layer, pair[0].flat)
            _count(found, pair, maps)
            with np.errstate(all="ignore"):
                for side in (0, 1):
                    _measure(found, pair, side, contrasts[side], criterion, maps)
        yield found


def _parts(store: StoreReader, layer: Layer, chosen: Iterator[Selection]) -> Iterator[_Part]:
    for (slab, flat), own in zip(store.slabs(layer), chosen, strict=True):
        yield _Part(flat, own, store.moments(layer, slab))


def _in_step(first: Iterator[_Part], other: Iterator[_Part]) -> Iterator[tuple[_Part, _Part]]:
    """The same units of two localizers, whose slabs may differ in size."""
    own, its = next(first, None), next(other, None)
    start = 0
    while own is not None and its is not None:
        flat = slice(start, min(own.flat.stop, its.flat.stop))
        yield own.between(flat), its.between(flat)
        start = flat.stop
        ends = own.flat.stop == start, its.flat.stop == start
        own = next(first, None) if ends[0] else own
        its = next(other, None) if ends[1] else its


def _count(found: Crossed, pair: tuple[_Part, _Part], maps: Counts) -> None:
    living = pair[0].living & pair[1].living
    masks = [part.chosen.selective for part in pair]
    np.add.at(found.living, maps[living], 1)
    for contrast, both in enumerate(masks[0] & masks[1]):
        np.add.at(found.both[contrast], maps[both], 1)
        for side, mask in enumerate(masks):
            np.add.at(found.selective[side, contrast], maps[mask[contrast]], 1)
            np.add.at(found.possible[side, contrast], maps[mask[contrast] & living], 1)


def _measure(
    found: Crossed,
    pair: tuple[_Part, _Part],
    side: int,
    contrasts: Sequence[Contrast],
    criterion: Criterion,
    maps: Counts,
) -> None:
    """Measure on one localizer what the other selects, what its own folds select, and all units."""
    part, by = pair[side], pair[1 - side].chosen
    sample, living = Sample(samples_of(part.folds)[0]), part.living
    for index, contrast in enumerate(contrasts):
        measured = Measured(sample, contrast, criterion)
        values = {name: measured.measure(name) for name in INDICES}
        values["replicated"] = part.chosen.selective[index]
        for name, own in values.items():
            selected = by.selective[index]
            found.across[1 - side][name].add(index, maps[selected], own[selected])
            found.every[side][name].add_to_one(index, own[living])
        folds = part.chosen.selective_fold[index]
        chose = np.flatnonzero(folds.any(axis=1)).tolist() if len(part.folds) > 1 else []
        for fold in chose:
            selected = folds[fold]
            held_out = Measured(held_out_sample(part.folds, fold, selected), contrast, criterion)
            others = np.delete(folds, fold, axis=0)[:, selected]
            again = {name: held_out.measure(name) for name in INDICES}
            again["replicated"] = others.mean(axis=0)
            for name, own in again.items():
                found.within[side][name].add(index, maps[selected], own)

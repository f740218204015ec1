"""Counts of a layer's units, slab by slab."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..contrasts.evaluate import samples_of
from ..contrasts.language.contrast import Contrast
from ..contrasts.language.criterion import Criterion
from ..contrasts.measures import Measured
from ..contrasts.slab import Selection
from ..contrasts.summary import held_out_sample
from ..layer import Layer
from ..store.chunking import Slab
from ..store.store_reader import StoreReader
from .held_out import Counts, Floats, HeldOutValues
from .maps import Maps
from .patterns import CategoryMeans

# What a census may leave out; its fields are then empty.
PARTS = ("held_out", "replicated", "both", "confusion", "means")
_MEASURES = {"csi": "csi", "d_prime": "d_prime", "preferred": "response",
             "others": "baseline_response"}  # fmt: skip
# Values of means that are squared at a time.
_AT_ONCE = 2**20


class LayerCounter:
    """The fields of a census in progress, filled slab by slab."""

    def __init__(
        self,
        store: StoreReader,
        layer: Layer,
        criterion: Criterion,
        contrasts: Sequence[Contrast],
        parts: Collection[str] = PARTS,
    ) -> None:
        self._store, self._layer = store, layer
        self._criterion, self._contrasts = criterion, contrasts
        self._parts = parts
        self._maps = maps = Maps(layer)
        number, categories = len(contrasts), len(store.categories)
        self._units, self._living = np.zeros((2, 1, maps.number), np.int64)
        self._by_channel = np.zeros((number, maps.number), np.int64)
        self._place_living = self._by_place = None
        if maps.shape:
            self._place_living = np.zeros((1, *maps.shape), np.int64)
            self._by_place = np.zeros((number, *maps.shape), np.int64)
        self._held_out = {name: HeldOutValues(number, maps.number) for name in _MEASURES}
        folds = store.folds if "replicated" in parts and store.folds > 1 else 0
        self._by_fold, self._again = np.zeros((2, number, folds, maps.number), np.int64)
        self._response = Moments(0, np.nan, np.nan)
        self._both = np.zeros((number, number) if "both" in parts else (0, 0), np.int64)
        self._confusion: Counts | None = None
        if "confusion" in parts and store.folds > 1:
            self._confusion = np.zeros((categories, categories), np.int64)
        samples = store.folds + 1 if store.folds > 1 else 1
        self._means = [CategoryMeans(categories) for _ in range(samples)]

    def add(self, slab: Slab, flat: slice, chosen: Selection) -> None:
        """Count the units of a slab."""
        maps, living = self._maps, ~(chosen.dead | chosen.nonfinite)
        maps.count(self._units, np.ones((1, len(living)), np.bool_), slab, flat)
        maps.count(self._living, living[np.newaxis], slab, flat)
        maps.count(self._by_channel, chosen.selective, slab, flat)
        if self._place_living is not None and self._by_place is not None:
            maps.count_places(self._place_living, living[np.newaxis], slab)
            maps.count_places(self._by_place, chosen.selective, slab)
        if self._by_fold.size:
            self._count_folds(slab, flat, chosen.selective_fold)
        if "both" in self._parts:
            self._count_both(chosen.selective)
        if not {"held_out", "confusion", "means"} & set(self._parts):
            return
        moments = self._store.moments(self._layer, slab)
        if "held_out" in self._parts and self._store.folds > 1:
            self._measure(slab, flat, chosen, moments)
        if living.any():
            self._describe(
                moments if living.all() else [_of_units(part, living) for part in moments]
            )

    def counted(self) -> dict[str, Any]:
        """The fields of a census of all slabs added."""
        return {
            "channel_units": self._units[0],
            "channel_living": self._living[0],
            "by_channel": self._by_channel,
            "place_living": None if self._place_living is None else self._place_living[0],
            "by_place": self._by_place,
            "by_fold": self._by_fold,
            "again": self._again,
            **{name: held_out.joined() for name, held_out in self._held_out.items()},
            "response": self._response,
            "both": self._both,
            "confusion": self._confusion,
            "means": self._means[0],
            "fold_means": tuple(self._means[1:]),
        }

    def _count_folds(self, slab: Slab, flat: slice, selective: NDArray[np.bool_]) -> None:
        """Count the units selected on every fold, and how often other folds select them again."""
        times = selective.sum(axis=1, dtype=np.int16)
        for fold in range(self._store.folds):
            own = selective[:, fold]
            self._maps.count(self._by_fold[:, fold], own, slab, flat)
            self._maps.count(self._again[:, fold], (times - 1) * own, slab, flat)

    def _count_both(self, selective: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(selective.any(axis=1))
        masks = selective[rows][:, selective.any(axis=0)].astype(np.float64)
        # Exact: the counts are small.
        self._both[np.ix_(rows, rows)] += (masks @ masks.T).astype(np.int64)

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
        if "held_out" in self._parts:
            own = _of_all_units(moments)
            self._response = merge(self._response, own) if self._response.count else own
        if "means" in self._parts:
            for means, sample in zip(self._means, samples_of(moments), strict=True):
                means.add(sample.mean)
        if self._confusion is None:
            return
        largest = [_preferred(fold.mean) for fold in moments]
        for first, (one, single) in enumerate(largest):
            for other, also_single in largest[first + 1 :]:
                known = single & also_single
                np.add.at(self._confusion, (one[known], other[known]), 1)


def _of_units(moments: Moments, own: NDArray[np.bool_]) -> Moments:
    return Moments(moments.count, moments.mean[:, own], moments.m2[:, own])


def _of_all_units(moments: Sequence[Moments]) -> Moments:
    """Moments of the responses of all units to all stimuli."""
    counts = np.concatenate([fold.count.ravel() for fold in moments])
    units = moments[0].mean.shape[1]
    means = np.concatenate([fold.mean.mean(axis=1) for fold in moments])
    mean = float((counts * means).sum() / counts.sum())
    m2 = 0.0
    for fold in moments:
        step = max(1, _AT_ONCE // units)
        for start in range(0, len(fold.mean), step):
            part = slice(start, start + step)
            between = ((fold.mean[part] - mean) ** 2).sum(axis=1)
            m2 += float((fold.count.ravel()[part] * between).sum() + fold.m2[part].sum())
    return Moments(int(counts.sum()) * units, mean, m2)


def _preferred(mean: Floats) -> tuple[Counts, NDArray[np.bool_]]:
    """The category with the largest ``mean [category, unit]``, and whether it has no tie."""
    category = mean.argmax(axis=0)
    return category, (mean == mean.max(axis=0)).sum(axis=0) == 1

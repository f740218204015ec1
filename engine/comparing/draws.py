"""Measures of a layer's selective units, and their draws over feature maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.spatial import (
    entropy_of_numbers,
    gini,
    gini_of_numbers,
    normalised_entropy,
    share_of_numbers,
)
from ..analyses.census import Census, take_census
from ..analyses.resampling import generator, held_out_means, ratios, resampled
from ..analyses.spread import share_with_any
from ..contrasts.language.criterion import Criterion
from ..store.store_reader import StoreReader

Floats = NDArray[np.float64]
# Feature maps drawn at a time.
_DRAWN = 2**22

# Measures as ratios of sums, means of held-out values, or statistics of the counts, over feature
# maps.
_RATIOS: dict[str, tuple[str, str]] = {
    "share": ("selective", "units"),
    "share_of_living": ("selective", "living"),
}
_HELD_OUT = ("csi", "d_prime")
# Parts of a census that measures need, beside counts by feature map.
_PARTS = {"csi": "held_out", "d_prime": "held_out", "replicated": "replicated"}
_STATISTICS: dict[str, tuple[Callable[..., Floats], Callable[[Floats, Floats, int], Floats]]] = {
    "share_with_any": (share_with_any, share_of_numbers),
    "entropy": (normalised_entropy, entropy_of_numbers),
    "gini": (gini, gini_of_numbers),
}
MEASURED: dict[str, str] = {
    "share": "share of selective units",
    "share_of_living": "share of selective among living units",
    "replicated": "share of the units selected on one fold that another selects again",
    "csi": "held-out CSI of selective units",
    "d_prime": "held-out d' of selective units",
    "share_with_any": "share of feature maps with a selective unit",
    "entropy": "evenness of selective units over feature maps, normalised entropy",
    "gini": "unevenness of selective units over feature maps, Gini",
}
SHARES = frozenset({"share", "share_of_living", "share_with_any", "replicated"})


class Drawn(NamedTuple):
    """A layer's measures: values ``[contrast]`` and draws ``[resample, contrast]``."""

    layer: str
    contrasts: tuple[str, ...]
    measures: dict[str, tuple[Floats, Floats]]


class Draws:
    """Draws the layers of a store in its order, one at a time.

    ``names`` are those of another network's layers and of their counterparts in the store.
    """

    def __init__(
        self,
        censuses: Iterator[Census],
        names: Mapping[str, str],
        measures: Sequence[str],
        resamples: int,
        seed: int,
    ) -> None:
        self._censuses, self._names, self._measures = censuses, names, measures
        self._resamples, self._seed = resamples, seed
        self._asked = Counter(names.values())
        self._kept: Drawn | None = None

    def of(self, layer: str) -> Drawn | None:
        """The counterpart of the next layer; None if it has none.

        One that is the counterpart of several layers is kept in the meantime.
        """
        if layer not in self._names:
            return None
        name = self._names[layer]
        found, self._kept = self._kept, None  # two at a time would take twice the memory
        if found is None:
            found = _draw(next(self._censuses), self._measures, self._resamples, self._seed)
        self._asked[name] -= 1
        if self._asked[name]:
            self._kept = found
        return found


def censuses(
    store: StoreReader,
    criterion: Criterion,
    layers: Iterable[str],
    contrasts: str | Sequence[str] | None,
    measures: Sequence[str],
) -> Iterator[Census]:
    """The censuses that measures need. Between two layers of a store nothing is in memory.

    A criterion that spans the model needs the whole store at once.
    """
    parts = {_PARTS[name] for name in measures if name in _PARTS}
    if criterion.spans_model:
        yield from take_census(store, criterion, list(layers), contrasts, parts)
        return
    for layer in layers:
        yield next(take_census(store, criterion, [layer], contrasts, parts))


def _draw(census: Census, measures: Sequence[str], resamples: int, seed: int) -> Drawn:
    """Measures of a layer, and their values over draws of its feature maps.

    A layer with one feature map has no draws; a store with one fold has no held-out values.
    """
    several = resamples if len(census.channel_units) > 1 else 0
    contrasts, channels = census.by_channel.shape
    counts = {
        "selective": census.by_channel,
        "units": np.broadcast_to(census.channel_units, (contrasts, channels)),
        "living": np.broadcast_to(census.channel_living, (contrasts, channels)),
    }
    found: dict[str, tuple[Floats, Floats]] = {}
    for name in measures:
        if name in _HELD_OUT:
            own = getattr(census, name)
            with np.errstate(all="ignore"):
                value = own.sums / own.units
            draws = np.full((several, contrasts), np.nan)
            known, (draws[:, known],) = held_out_means(census, [own], several, seed)
            found[name] = value, draws
        elif name in _RATIOS:
            above, below = (counts[part] for part in _RATIOS[name])
            with np.errstate(all="ignore"):
                value = above.sum(axis=1) / below.sum(axis=1)
            found[name] = value, ratios(census, above, below, several, seed)
        elif name == "replicated":
            found[name] = _draw_replicated(census, several, seed)
        else:
            found[name] = _draw_spread(census, name, several, seed)
    return Drawn(census.layer.name, census.contrasts, found)


def _draw_replicated(census: Census, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """The share of selected units that another fold selects, and its draws.

    Averaged over the other folds, and then over the folds that select any; NaN for one fold.
    """
    contrasts, folds, channels = census.by_fold.shape
    counts = np.stack([census.by_fold, census.again]).reshape(2 * contrasts * folds, channels)

    def averaged(sums: NDArray[np.generic]) -> Floats:
        selected, again = np.moveaxis(sums.reshape(len(sums), 2, contrasts, folds), 1, 0)
        with np.errstate(all="ignore"):
            shares = again / (selected * (folds - 1.0))
            return np.asarray(np.nansum(shares, axis=-1) / np.count_nonzero(selected, axis=-1))

    (value,) = averaged(counts.sum(axis=1)[np.newaxis])
    return value, averaged(resampled(census, counts.T, resamples, seed))


def _draw_spread(census: Census, name: str, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """A statistic of the numbers of selective units per feature map, and its draws.

    Drawn maps are counted by their number of selective units, of which there are few kinds.
    """
    statistic, of_numbers = _STATISTICS[name]
    rng, channels = generator(seed, census), len(census.channel_units)
    values = statistic(census.by_channel)
    draws = np.empty((resamples, len(census.contrasts)))
    draws[:] = statistic(np.zeros(channels, np.int64))
    kinds = [(row, *_by_count(census.by_channel[row])) for row in np.flatnonzero(census.selective)]
    step = max(1, _DRAWN // channels)
    for start in range(0, resamples, step):
        part = draws[start : start + step]
        drawn = rng.integers(channels, size=(len(part), channels))
        drawn += np.arange(0, drawn.size, channels)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        for row, counts, maps, begins in kinds:
            numbers = np.add.reduceat(times[:, maps], begins, axis=1)
            part[:, row] = of_numbers(counts, numbers.astype(np.float64), channels)
    return values, draws


def _by_count(counts: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Counts above 0 that occur; the maps that have any, by count; where each count begins."""
    maps = np.flatnonzero(counts)
    maps = maps[np.argsort(counts[maps], kind="stable")]
    values, begins = np.unique(counts[maps], return_index=True)
    return values.astype(np.float64), maps, begins

"""Spread of selective units over feature maps, compared with random units."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.spatial import gini, normalised_entropy
from .census import Census
from .resampling import Chance, Floats, chance_levels, generator


@dataclass(frozen=True)
class Spread:
    """Selective units of one layer and contrast over its feature maps.

    Values are None if no unit is selective or there is one map; ``random`` also if maps have one
    unit.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    channels : int
        Number of feature maps.
    selective : int
        Number of selective units.
    with_any : int
        Number of maps with at least one.
    share_with_any : float
        Their share.
    per_channel_median, per_channel_largest : float, int
        Median and largest number of selective units in a map, over all maps.
    entropy : float or None
        1 if all maps have equally many, 0 if one has all.
    gini : float or None
        0 if all maps have equally many, 1 - 1/channels if one has all.
    random : dict of str to Chance, or None
        Chance levels of ``share_with_any``, ``entropy`` and ``gini``, by name, for as many units
        drawn at random from the living ones.
    """

    layer: str
    contrast: str
    channels: int
    selective: int
    with_any: int
    share_with_any: float
    per_channel_median: float
    per_channel_largest: int
    entropy: float | None
    gini: float | None
    random: dict[str, Chance] | None


def spread(censuses: Iterable[Census], resamples: int = 1000, seed: int = 0) -> list[Spread]:
    """The spread over feature maps, a row per layer and contrast."""
    return [row for census in censuses for row in _of_layer(census, resamples, seed)]


def share_with_any(counts: NDArray[Any]) -> Floats:
    """The share of feature maps with any of ``counts [..., channel]``."""
    return np.asarray((counts > 0).mean(axis=-1))


_STATISTICS: dict[str, Callable[[NDArray[Any]], Floats]] = {
    "share_with_any": share_with_any, "entropy": normalised_entropy, "gini": gini,
}  # fmt: skip


def _of_layer(census: Census, resamples: int, seed: int) -> list[Spread]:
    channels, by_channel = len(census.channel_units), census.by_channel
    with_any, totals = np.count_nonzero(by_channel, axis=1), by_channel.sum(axis=1).tolist()
    largest, medians = by_channel.max(axis=1).tolist(), np.zeros(len(by_channel))
    half = 2 * with_any >= channels  # the median of others is 0
    medians[half] = np.median(by_channel[half], axis=1)
    rows = []
    for index, (contrast, counts) in enumerate(zip(census.contrasts, by_channel, strict=True)):
        selective = totals[index]
        random, found = None, dict.fromkeys(_STATISTICS)
        if selective and channels > 1:
            found = {name: float(statistic(counts)) for name, statistic in _STATISTICS.items()}
            rng = generator(seed, census, contrast)
            random = chance_levels(selective, census.channel_living, _STATISTICS, resamples, rng)
        rows.append(
            Spread(
                layer=census.layer.name,
                contrast=contrast,
                channels=channels,
                selective=selective,
                with_any=int(with_any[index]),
                share_with_any=float(with_any[index] / channels),
                per_channel_median=float(medians[index]),
                per_channel_largest=largest[index],
                entropy=found["entropy"],
                gini=found["gini"],
                random=random,
            )
        )
    return rows

"""Shares of selective units, with intervals over feature maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .census import Census
from .resampling import intervals, resampled


@dataclass(frozen=True)
class Share:
    """Selective units of one layer and contrast, as shares of all units and of the living ones.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    units : int
        Number of units.
    living : int
        Number of living units.
    selective : int
        Number of selective units.
    share : float
        ``selective`` / ``units``.
    low, high : float or None
        Middle 95 % of the share over draws of whole feature maps; None for a single map.
    share_of_living : float or None
        ``selective`` / ``living``; None if none lives.
    living_low, living_high : float or None
        Middle 95 % of that.
    """

    layer: str
    contrast: str
    units: int
    living: int
    selective: int
    share: float
    low: float | None
    high: float | None
    share_of_living: float | None
    living_low: float | None
    living_high: float | None


def shares(censuses: Iterable[Census], resamples: int = 1000, seed: int = 0) -> list[Share]:
    """Shares of selective units, a row per layer and contrast."""
    return [row for census in censuses for row in _of_layer(census, resamples, seed)]


def _of_layer(census: Census, resamples: int, seed: int) -> list[Share]:
    several = len(census.channel_units) > 1
    # All maps have the same number of units, so only the counts of units not living are drawn.
    columns = np.vstack([census.by_channel, census.channel_units - census.channel_living])
    drawn = resampled(census, columns.T, resamples if several else 0, seed)
    selective, living = drawn[:, :-1], census.units - drawn[:, -1:]
    living[living == 0] = np.nan
    of_all, of_living = intervals(selective / census.units), intervals(selective / living)
    rows = []
    for index, (contrast, number) in enumerate(
        zip(census.contrasts, census.selective.tolist(), strict=True)
    ):
        (low, high), (living_low, living_high) = of_all[index], of_living[index]
        rows.append(
            Share(
                layer=census.layer.name,
                contrast=contrast,
                units=census.units,
                living=census.living,
                selective=number,
                share=number / census.units,
                low=low,
                high=high,
                share_of_living=number / census.living if census.living else None,
                living_low=living_low,
                living_high=living_high,
            )
        )
    return rows

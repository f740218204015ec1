"""Held-out response strength of selective units, standardised by layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .census import Census
from .resampling import held_out_means, intervals


@dataclass(frozen=True)
class Strength:
    """Mean response of units selected on one fold to the other folds, as (response - M) / S.

    M and S are mean and standard deviation of the responses of all living units of the layer to
    all stimuli. Intervals are the middle 95 % over draws of whole feature maps. Values are None if
    there are no units, or one fold.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    units : int
        Number of units, once for every fold that selects them.
    preferred, preferred_low, preferred_high : float or None
        Response to the target.
    others, others_low, others_high : float or None
        Response to the baseline.
    difference, difference_low, difference_high : float or None
        Their difference.
    layer_mean : float or None
        M.
    layer_sd : float or None
        S.
    """

    layer: str
    contrast: str
    units: int
    preferred: float | None
    preferred_low: float | None
    preferred_high: float | None
    others: float | None
    others_low: float | None
    others_high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    layer_mean: float | None
    layer_sd: float | None


def strength(censuses: Iterable[Census], resamples: int = 1000, seed: int = 0) -> list[Strength]:
    """Standardised held-out responses, a row per layer and contrast."""
    return [row for census in censuses for row in _of_layer(census, resamples, seed)]


def _of_layer(census: Census, resamples: int, seed: int) -> list[Strength]:
    several = len(census.channel_units) > 1
    sides = census.preferred, census.others
    known, drawn = held_out_means(census, sides, resamples if several else 0, seed)
    count, centre, m2 = census.response
    sd = float(np.sqrt(m2 / (count - 1))) if count > 1 else 0.0
    with np.errstate(all="ignore"):
        draws = [(values - centre) / sd for values in drawn]
        draws.append((drawn[0] - drawn[1]) / sd)
    ends = [dict(zip(known.tolist(), intervals(values), strict=True)) for values in draws]
    rows = []
    for index, contrast in enumerate(census.contrasts):
        units = int(sides[0].units[index])
        found: dict[str, float | None] = {}
        if units and sd > 0:
            means = [side.sums[index] / side.units[index] for side in sides]
            found["preferred"], found["others"] = (float((mean - centre) / sd) for mean in means)
            found["difference"] = float((means[0] - means[1]) / sd)
            for name, own in zip(_NAMES, ends, strict=True):
                found[f"{name}_low"], found[f"{name}_high"] = own[index]
        rows.append(
            Strength(
                layer=census.layer.name,
                contrast=contrast,
                units=units,
                **{name: found.get(name) for name in _FIELDS},
                layer_mean=float(centre) if count else None,
                layer_sd=sd if count > 1 else None,
            )
        )
    return rows


_NAMES = ("preferred", "others", "difference")
_FIELDS = [f"{name}{end}" for name in _NAMES for end in ("", "_low", "_high")]

"""Held-out response strength of selective units, standardised by layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .census import Census
from .resampling import interval, ratios


@dataclass(frozen=True)
class Strength:
    """Mean response of units selected on one fold to the other folds, as (response - M) / S.

    M (``layer_mean``) and S (``layer_sd``) are mean and standard deviation of the responses of all
    living units of the layer to all stimuli. ``preferred`` is the response to the target,
    ``others`` to the baseline, and ``difference`` their difference, each with the middle 95 % over
    draws of whole feature maps. ``units`` count once for every fold that selects them. Values are
    None if there are no units, or one fold.
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
    drawn = ratios(
        census, resamples if several else 0, seed, *((side.total, side.number) for side in sides)
    )
    count, centre, m2 = census.response
    sd = float(np.sqrt(m2 / (count - 1))) if count > 1 else 0.0
    rows = []
    for index, contrast in enumerate(census.contrasts):
        units = int(sides[0].number[index].sum())
        found: dict[str, float | None] = {}
        if units and sd > 0:
            means = [side.total[index].sum() / side.number[index].sum() for side in sides]
            found["preferred"], found["others"] = (float((mean - centre) / sd) for mean in means)
            found["difference"] = float((means[0] - means[1]) / sd)
            draws = [(values[:, index] - centre) / sd for values in drawn]
            draws.append((drawn[0][:, index] - drawn[1][:, index]) / sd)
            for name, values in zip(_NAMES, draws, strict=True):
                found[f"{name}_low"], found[f"{name}_high"] = interval(values)
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

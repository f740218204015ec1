"""Bootstrap intervals over feature maps, and chance levels of random units.

Units of a feature map share weights, and neighbours most of their input: they are not independent.
Feature maps are therefore resampled whole (the cluster bootstrap: Davison & Hinkley 1997, Bootstrap
Methods and their Application, 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .census import Census

Floats = NDArray[np.float64]
_TAILS = (0.025, 0.975)
# Up to this number, feature maps are drawn one by one.
_MANY = 2**14
# Values drawn at a time.
_VALUES = 2**20


def generator(seed: int, census: Census, contrast: str = "") -> np.random.Generator:
    """Random numbers of a layer and contrast, independent of the others that are analysed."""
    return np.random.default_rng([seed, *f"{census.layer.name}\n{contrast}".encode()])


def resample(maps: NDArray[np.generic], resamples: int, rng: np.random.Generator) -> Floats:
    """Sums ``[resample, column]`` of ``maps [channel, column]`` drawn with replacement.

    If there are many maps, as when every unit is a map, maps that are zero in all columns are drawn
    together, which is faster but gives other random numbers.
    """
    some = maps.any(axis=1) | (len(maps) <= _MANY)
    rows = maps[some].astype(np.float64)
    sums = np.zeros((resamples, maps.shape[1]))
    for drawn in sums if len(rows) else ():
        hits = rng.binomial(len(maps), len(rows) / len(maps))
        times = np.bincount(rng.integers(len(rows), size=hits), minlength=len(rows))
        drawn[:] = times @ rows
    return sums


def ratios(census: Census, resamples: int, seed: int, *pairs: Sequence[NDArray[np.generic]]
           ) -> list[Floats]:  # fmt: skip
    """Resampled ratios ``[resample, contrast]`` of sums over feature maps, for each of the pairs.

    A pair is a numerator and a denominator ``[contrast, channel]``. All pairs share the draws. NaN
    if the denominator is 0.
    """
    columns = np.concatenate([part for pair in pairs for part in pair]).T
    sums = resample(columns, resamples, generator(seed, census))
    parts = np.split(sums, 2 * len(pairs), axis=1)
    with np.errstate(all="ignore"):
        return [above / np.where(below, below, np.nan)
                for above, below in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip


def interval(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95 % of ``values``, ignoring NaN; None and None if none is left."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, _TAILS).tolist()
    return low, high


@dataclass(frozen=True)
class Chance:
    """A statistic of randomly placed units: its mean over draws, and their middle 95 %."""

    mean: float
    low: float
    high: float


def chance_levels(
    units: int,
    living: NDArray[np.int64],
    statistics: Mapping[str, Callable[[NDArray[np.int64]], Floats]],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Chance] | None:
    """Statistics of ``units`` drawn at random from the ``living [place]`` ones.

    Units are drawn without replacement and with equal probability, so that the counts of places
    follow a multivariate hypergeometric distribution. ``statistics`` take counts ``[draw, place]``.
    None if no place has more than one living unit.
    """
    if living.max() <= 1:
        return None
    found: dict[str, list[Floats]] = {name: [] for name in statistics}
    for counts in _random_counts(units, living, resamples, rng):
        for name, statistic in statistics.items():
            found[name].append(statistic(counts))
    values = {name: np.concatenate(parts) for name, parts in found.items()}
    return {
        name: Chance(float(own.mean()), *np.quantile(own, _TAILS).tolist())
        for name, own in values.items()
    }


def _random_counts(
    units: int, living: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    step = max(1, _VALUES // len(living))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield rng.multivariate_hypergeometric(living, units, size=size, method="marginals")


def or_none(value: float) -> float | None:
    """A finite number, or None."""
    return float(value) if np.isfinite(value) else None

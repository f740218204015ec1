"""Intervals by drawing whole feature maps anew, and what chance would give.

Units of one feature map share their weights, and neighbours most of their input: they are no
independent sample. Feature maps are drawn with all their units (the cluster bootstrap: Davison &
Hinkley 1997, Bootstrap Methods and their Application, 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .census import Census

Floats = NDArray[np.float64]
# The tails of an interval.
_TAILS = (0.025, 0.975)
# Values that are thrown at a time.
_VALUES = 2**20


def generator(seed: int, census: Census, contrast: str = "") -> np.random.Generator:
    """Random numbers for a layer, and a contrast: the same whichever others are asked for."""
    return np.random.default_rng([seed, *f"{census.layer.name}\n{contrast}".encode()])


def resample(maps: NDArray[np.generic], resamples: int, rng: np.random.Generator) -> Floats:
    """Sums ``[resample, column]`` over as many feature maps, drawn with replacement.

    Of ``maps [channel, column]``. Those with nothing in any column are drawn together.
    """
    some = maps.any(axis=1)
    rows = maps[some].astype(np.float64)
    sums = np.zeros((resamples, maps.shape[1]))
    for drawn in sums if len(rows) else ():
        hits = rng.binomial(len(maps), len(rows) / len(maps))
        times = np.bincount(rng.integers(len(rows), size=hits), minlength=len(rows))
        drawn[:] = times @ rows
    return sums


def ratios(census: Census, resamples: int, seed: int, *pairs: Sequence[NDArray[np.generic]]
           ) -> list[Floats]:  # fmt: skip
    """Resampled ``[resample, contrast]`` of sums over feature maps, for each of several pairs.

    A pair is a numerator and a denominator ``[contrast, channel]``. All are of the same draws.
    NaN where the maps that were drawn have nothing to divide by.
    """
    columns = np.concatenate([part for pair in pairs for part in pair]).T
    sums = resample(columns, resamples, generator(seed, census))
    parts = np.split(sums, 2 * len(pairs), axis=1)
    with np.errstate(all="ignore"):
        return [above / np.where(below, below, np.nan)
                for above, below in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip


def interval(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95 % of ``values``, NaN aside; None and None where there are none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, _TAILS).tolist()
    return low, high


@dataclass(frozen=True)
class Thrown:
    """What a statistic comes to by chance: its mean over throws, and their middle 95 %."""

    mean: float
    low: float
    high: float


def throw(
    units: int,
    living: NDArray[np.int64],
    statistics: Mapping[str, Callable[[NDArray[np.int64]], Floats]],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Thrown] | None:
    """Statistics of so many units thrown at random into the ``living [place]`` ones.

    Without replacement, every living unit as likely as any other: the numbers that places get
    follow a multivariate hypergeometric distribution. ``statistics`` take ``[throw, place]``. None
    where no place has more than one living unit: all throws are alike.
    """
    if living.max() <= 1:
        return None
    found: dict[str, list[Floats]] = {name: [] for name in statistics}
    for counts in _thrown(units, living, resamples, rng):
        for name, statistic in statistics.items():
            found[name].append(statistic(counts))
    values = {name: np.concatenate(parts) for name, parts in found.items()}
    return {
        name: Thrown(float(own.mean()), *np.quantile(own, _TAILS).tolist())
        for name, own in values.items()
    }


def _thrown(
    units: int, living: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    step = max(1, _VALUES // len(living))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield rng.multivariate_hypergeometric(living, units, size=size, method="marginals")


def or_none(value: float) -> float | None:
    """A number, or None where it is none."""
    return float(value) if np.isfinite(value) else None

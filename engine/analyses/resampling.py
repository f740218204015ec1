"""Bootstrap intervals over feature maps, and chance levels of random units.

Units of a feature map share weights, and neighbours most of their input: they are not independent.
Feature maps are therefore resampled whole (the cluster bootstrap: Davison & Hinkley 1997, Bootstrap
Methods and their Application, 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import local
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..layer import Layer
from .held_out import Counts, HeldOut

Floats = NDArray[np.float64]
_TAILS = (0.025, 0.975)
# Up to this number, feature maps are drawn one by one.
_MANY = 2**14
# Drawing the number of units at a place takes as long as drawing so many units one by one.
_UNITS_PER_PLACE = 8
# Values drawn at a time; draws of a layer that are kept for all its measures.
_VALUES, _KEPT = 2**20, 2**22
_latest = local()


class Mapped(Protocol):
    """A layer and the units of its feature maps ``[channel]``, such as a census."""

    @property
    def layer(self) -> Layer:
        """The layer."""

    @property
    def channel_units(self) -> Counts:
        """The units of every feature map."""


def generator(seed: int, census: Mapped, contrast: str = "") -> np.random.Generator:
    """Random numbers of a layer and contrast, independent of the others that are analysed."""
    return _generator(seed, census.layer.name, contrast)


def _generator(seed: int, layer: str, contrast: str = "") -> np.random.Generator:
    return np.random.default_rng([seed, *f"{layer}\n{contrast}".encode()])


def resample(maps: NDArray[np.generic], resamples: int, rng: np.random.Generator) -> Floats:
    """Sums ``[resample, column]`` of ``maps [channel, column]`` drawn with replacement.

    If there are many maps, as when every unit is a map, maps that are zero in all columns are drawn
    together, which is faster but gives other random numbers.
    """
    some = _some(maps)
    return _summed(
        maps[some], resamples, lambda: _drawn(len(maps), int(some.sum()), resamples, rng)
    )


def _some(maps: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Maps ``[channel]`` that are drawn one by one."""
    return np.asarray(maps.any(axis=1) | (len(maps) <= _MANY))


def resampled(census: Mapped, columns: NDArray[np.generic], resamples: int, seed: int) -> Floats:
    """:func:`resample` of a census's feature maps, with draws that all its measures share."""
    some = _some(columns)
    number = int(some.sum())
    return _summed(columns[some], resamples, lambda: _draws_of(census, number, resamples, seed))


def _draws_of(census: Mapped, some: int, resamples: int, seed: int) -> Iterable[Floats]:
    """:func:`_drawn` for ``some`` of a census's feature maps."""
    maps = len(census.channel_units)
    if some < maps or maps * resamples > _KEPT:
        return _drawn(maps, some, resamples, generator(seed, census))
    return [_kept_draws(census.layer.name, maps, resamples, seed)]


def _kept_draws(layer: str, maps: int, resamples: int, seed: int) -> Floats:
    """All draws of a layer that has few maps; a thread keeps those of its latest layer."""
    asked = layer, maps, resamples, seed
    if getattr(_latest, "asked", None) != asked:
        _latest.asked, start = None, 0  # an interrupt must not leave other draws under a name
        _latest.draws = np.empty((resamples, maps))
        for times in _drawn(maps, maps, resamples, _generator(seed, layer)):
            _latest.draws[start : start + len(times)] = times
            start += len(times)
        _latest.asked = asked
    draws: Floats = _latest.draws
    return draws


def _drawn(maps: int, some: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How many times each of ``some`` of all maps is drawn ``[resample, map]``, in blocks."""
    step = max(1, _VALUES // max(some, 1))
    for start in range(0, resamples, step):
        number = min(step, resamples - start)
        times = np.zeros((number, some))
        if some == maps:
            drawn = np.empty((number, maps), np.int64)
            for own in drawn:
                rng.random()  # where some maps are left out, it draws how many of the others
                own[:] = rng.integers(maps, size=maps)
            drawn += np.arange(0, number * maps, maps)[:, np.newaxis]
            counts = np.bincount(drawn.ravel(), minlength=times.size)
            times[:] = counts.reshape(times.shape)
        else:
            for row in times if some else ():
                hits = rng.binomial(maps, some / maps)
                row[:] = np.bincount(rng.integers(some, size=hits), minlength=some)
        yield times


def _summed(
    maps: NDArray[np.generic], resamples: int, draws: Callable[[], Iterable[Floats]]
) -> Floats:
    """Sums of drawn maps ``[resample, column]``. Columns of zeros, which may be many, need none."""
    sums = np.zeros((resamples, maps.shape[1]))
    columns = np.flatnonzero(maps.any(axis=0))
    if not len(columns):
        return sums
    rows, start = maps[:, columns].astype(np.float64), 0
    for times in draws():
        sums[start : start + len(times), columns] = times @ rows
        start += len(times)
    return sums


def ratios(
    census: Mapped,
    above: NDArray[np.generic],
    below: NDArray[np.generic],
    resamples: int,
    seed: int,
) -> Floats:
    """Resampled ratios ``[resample, contrast]`` of sums over feature maps, NaN where 0 is below.

    Numerator and denominator are ``[contrast, channel]``.
    """
    sums = resampled(census, np.concatenate([above, below]).T, resamples, seed)
    return _ratios(*np.split(sums, 2, axis=1))


def held_out_means(
    census: Mapped, measures: Sequence[HeldOut], resamples: int, seed: int
) -> tuple[NDArray[np.int64], list[Floats]]:
    """Resampled means ``[resample, contrast]`` of held-out measures, which share the draws.

    Also returns the contrasts: those with a value in any of the measures. NaN where no value is
    drawn.
    """
    from scipy.sparse import csr_array

    contrasts = np.unique(np.concatenate([one.contrast for one in measures]))
    found = [np.empty((resamples, len(contrasts))) for _ in measures]
    if not len(contrasts):
        return contrasts, found
    maps = np.arange(len(census.channel_units))
    if len(maps) > _MANY:
        maps = np.unique(np.concatenate([one.channel for one in measures]))
    sides = []
    for one in measures:
        contrast, channel, number, total = one.cells
        places = np.searchsorted(contrasts, contrast), np.searchsorted(maps, channel)
        shape = len(contrasts), len(maps)
        sides.append([csr_array((values, places), shape) for values in (total, number + 0.0)])
    start = 0
    for times in _draws_of(census, len(maps), resamples, seed):
        for means, (sums, numbers) in zip(found, sides, strict=True):
            means[start : start + len(times)] = _ratios(sums @ times.T, numbers @ times.T).T
        start += len(times)
    return contrasts, found


def _ratios(above: Floats, below: Floats) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(above / np.where(below, below, np.nan))


def interval(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95 % of ``values``, ignoring NaN; None and None if none is left."""
    return intervals(values[:, np.newaxis])[0]


def intervals(values: Floats) -> list[tuple[float | None, float | None]]:
    """:func:`interval` of every column of ``values [draw, column]``."""
    found: list[tuple[float | None, float | None]] = [(None, None)] * values.shape[1]
    if not len(values):
        return found
    known = np.isfinite(values)
    whole = known.all(axis=0)
    # Contrasts without selective units, which may be many, have the same value in all draws.
    constant = whole & (values == values[0]).all(axis=0)
    for column in np.flatnonzero(constant):
        found[column] = float(values[0, column]), float(values[0, column])
    varied = np.flatnonzero(whole & ~constant)
    ends = np.quantile(values[:, varied], _TAILS, axis=0).T if len(varied) else ()
    for column, (low, high) in zip(varied, ends, strict=True):
        found[column] = float(low), float(high)
    for column in np.flatnonzero(known.any(axis=0) & ~whole):
        low, high = np.quantile(values[known[:, column], column], _TAILS).tolist()
        found[column] = low, high
    return found


@dataclass(frozen=True)
class Chance:
    """A statistic of randomly placed units.

    Attributes
    ----------
    mean : float
        Mean over draws.
    low, high : float
        Their middle 95 %.
    """

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
    step, every = min(max(1, _VALUES // len(living)), resamples), int(living.sum())
    # Either the units are drawn one by one, or those left out, or the number of every place. The
    # first needs a list of all living units.
    listed = every / step if every <= _KEPT else np.inf
    few = min(units, every - units) + listed < _UNITS_PER_PLACE * len(living)
    method: Literal["count", "marginals"] = "count" if few else "marginals"
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield rng.multivariate_hypergeometric(living, units, size=size, method=method)


def chance_of_both(
    living: Counts, first: Counts, other: Counts, resamples: int, rng: np.random.Generator
) -> Chance | None:
    """Units in both of two random sets: the exact mean, and the middle 95 % of the draws.

    Each set keeps its number of units at every place: ``first`` and ``other [place]`` of the
    ``living`` ones there, at random and apart from each other. The number in both is hypergeometric
    at every place, with mean ``first * other / living``. None if no place has more than one living
    unit.
    """
    if not len(living) or living.max() <= 1:
        return None
    shared = np.flatnonzero((first > 0) & (other > 0))
    living, first, other = living[shared], first[shared], other[shared]
    both = np.zeros(resamples, np.int64)
    step = max(1, _VALUES // max(len(shared), 1))
    for start in range(0, resamples if len(shared) else 0, step):
        part = both[start : start + step]
        drawn = rng.hypergeometric(first, living - first, other, size=(len(part), len(shared)))
        part[:] = drawn.sum(axis=1)
    return Chance(float((first * (other / living)).sum()), *np.quantile(both, _TAILS).tolist())


def or_none(value: float) -> float | None:
    """A finite number, or None."""
    return float(value) if np.isfinite(value) else None

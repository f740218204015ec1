"""Correlations between layers and brain regions, with permutation tests and noise ceilings.

Correlations are computed per subject and averaged. p is the share of permutations of the region's
categories (or stimuli) with an average at least as large (Mantel 1967 for matrices); all
permutations are used where they are few. Over a network's layers, p is corrected by the maximum of
each permutation (Westfall & Young 1993; Nichols & Holmes 2002).

A population responds most to its own target by construction. Outside the target, all is computed
again without the target's categories (or stimuli).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from .best_layers import BestLayer, Splits, best_layer
from .regions import FEWEST_ITEMS, Region, Regions
from .standard import Correlation, Floats, among, noise_ceiling, standard

# Permuted values in memory at a time.
_AT_ONCE = 2**22
# Ends of the middle 95 %.
_ENDS = (0.025, 0.975)


class Controls(NamedTuple):
    """Values of a layer's units outside a population, and of random units ``[draw, ...]``."""

    other_units: Floats
    random_units: Floats


class Values(NamedTuple):
    """A population of a layer, with its profile ``[item]`` or RDM ``[pair]``.

    ``target`` holds the places of the items that the population was selected for.
    """

    population: str
    layer: str
    units: float
    values: Floats
    target: frozenset[int] = frozenset()
    controls: Controls | None = None


@dataclass(frozen=True)
class LayerCorrelation:
    """The correlation between a region and a population of a layer.

    Values are None if the population has too few units or does not vary; controls are None unless
    they were asked for.

    Attributes
    ----------
    region : str
        The region.
    layer : str
        Name of the layer.
    population : str
        The population of units.
    units : float
        Size of the population.
    correlation : float or None
        The correlation, a mean over subjects.
    p : float or None
        Probability of one as large by chance.
    p_corrected : float or None
        Probability of one as large in any layer.
    outside_target, outside_target_p, outside_target_p_corrected : float or None
        The same without the categories or stimuli that the population was selected for; None for a
        population without a target, or with fewer than 3 others.
    other_units : float or None
        Correlation of all other units of the layer.
    random_units, random_units_low, random_units_high : float or None
        Correlation of as many random units: mean over draws, and their middle 95 %.
    ceiling_low, ceiling_high : float or None
        Bounds of the correlation that any model could reach; None for one subject, unless the table
        gives them.
    """

    region: str
    layer: str
    population: str
    units: float
    correlation: float | None
    p: float | None
    p_corrected: float | None
    outside_target: float | None
    outside_target_p: float | None
    outside_target_p_corrected: float | None
    other_units: float | None
    random_units: float | None
    random_units_low: float | None
    random_units_high: float | None
    ceiling_low: float | None
    ceiling_high: float | None


def correlate(
    regions: Regions,
    populations: Sequence[Values],
    correlation: Correlation,
    permutations: int,
    seed: int,
    folds: NDArray[np.int64] | None = None,
) -> Iterator[LayerCorrelation | BestLayer]:
    """Correlate every region with every population of every layer, and find the best layers.

    Parameters
    ----------
    populations : the populations of every layer, with values in the order of the table's items
    permutations : number of permutations to draw if there are more
    folds : of the table's stimuli, to choose layers on other stimuli; None for categories

    Raises
    ------
    UserError : a region responds to all items equally
    """
    everywhere = np.ones(len(regions.items), bool)
    every = dict(enumerate(populations))
    whole = _Test(regions, every, everywhere, correlation, permutations, seed)
    outside = []
    for target in {one.target: None for one in populations if one.target}:
        items = everywhere.copy()
        items[[*target]] = False
        if items.sum() >= FEWEST_ITEMS:
            aimed = {place: one for place, one in every.items() if one.target == target}
            outside.append(_Test(regions, aimed, items, correlation, permutations, seed))
    splits = Splits(folds, correlation, regions.are_rdms)
    for region in regions.regions:
        own = standard(region.values, correlation)
        if not np.isfinite(own).all():
            raise UserError(
                f"responses of a region must vary; those of {region.name} in {regions.source} are "
                "constant for a subject: leave the region out"
            )
        ceiling = region.ceiling or noise_ceiling(region.values, correlation)
        found = whole.of(region)
        others = {place: values for test in outside for place, values in test.of(region).items()}
        for place, one in every.items():
            controls = _of_controls(own.mean(axis=0), one.controls, correlation)
            yield LayerCorrelation(
                region.name, one.layer, one.population, one.units, *found.get(place, _UNKNOWN),
                *others.get(place, _UNKNOWN), *controls, *ceiling,
            )  # fmt: skip
        yield from _best_layers(region, whole.columns, splits)


def permuted(items: int, most: int, seed: int) -> NDArray[np.int64]:
    """Permutations ``[order, item]``: all of them, or ``most`` drawn at random.

    The first is the identity, which counts as one of them (Phipson & Smyth 2010).
    """
    if math.factorial(items) <= most:
        return np.array(list(itertools.permutations(range(items))))
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(items) for _ in range(most - 1)]
    return np.stack([np.arange(items), *drawn])


# Tests that differ in their items share orders; a table of stimuli has large ones.
_orders = lru_cache(2)(permuted)


class _Test:
    """The correlations of populations on some ``items [item]``, with permutations of these.

    ``columns`` are the populations whose values are known and vary.
    """

    def __init__(
        self,
        regions: Regions,
        populations: Mapping[int, Values],
        items: NDArray[np.bool_],
        correlation: Correlation,
        permutations: int,
        seed: int,
    ) -> None:
        self._items, self._correlation, self._are_rdms = items, correlation, regions.are_rdms
        values = np.array([one.values for one in populations.values()])
        values = standard(among(values, items, self._are_rdms), correlation)
        known = np.asarray(np.isfinite(values).all(axis=1))
        self._places = [
            place for place, is_known in zip(populations, known, strict=True) if is_known
        ]
        self.columns, self._values = [populations[place] for place in self._places], values[known]
        self._groups = [*_by_population(self.columns).values()]
        self._drawn = int(items.sum()), permutations, seed

    def of(self, region: Region) -> dict[int, Sequence[float | None]]:
        """Correlation, p and corrected p by the place of the population, where they are known."""
        own = standard(among(region.values, self._items, self._are_rdms), self._correlation)
        mean = own.mean(axis=0)
        if not np.isfinite(mean).all():  # a subject's responses are constant
            return {}
        r = self._values @ mean
        chance = _chance(mean, self._values, r, self._groups, _orders(*self._drawn), self._are_rdms)
        return dict(zip(self._places, np.stack([r, *chance]).T.tolist(), strict=True))


_UNKNOWN: Sequence[float | None] = (None, None, None)


def _by_population(columns: Sequence[Values]) -> dict[str, NDArray[np.int64]]:
    """Places of the columns of every population."""
    names = list(dict.fromkeys(one.population for one in columns))
    return {name: np.flatnonzero([one.population == name for one in columns]) for name in names}


def _of_controls(
    region: Floats, controls: Controls | None, correlation: Correlation
) -> tuple[float | None, ...]:
    """Correlation of the other units; of random units the mean over draws, and the middle 95 %."""
    if controls is None:
        return None, None, None, None
    other = standard(controls.other_units[np.newaxis], correlation) @ region
    drawn = standard(controls.random_units, correlation) @ region
    drawn = drawn[np.isfinite(drawn)]
    random = [drawn.mean(), *np.quantile(drawn, _ENDS)] if len(drawn) else [np.nan] * 3
    return tuple(None if np.isnan(one) else float(one) for one in (*other, *random))


def _best_layers(region: Region, columns: Sequence[Values], splits: Splits) -> Iterator[BestLayer]:
    """The best layer of every population, if subjects or stimuli can be left out."""
    over = splits.over(len(region.subjects))
    if not over or not columns:
        return
    parts = splits.correlations(region, np.array([one.values for one in columns]))
    for name, group in _by_population(columns).items():
        layers = [columns[place].layer for place in group]
        yield best_layer((region.name, name, over), layers, *(part[:, group] for part in parts))


def _chance(
    region: Floats,
    values: Floats,
    found: Floats,
    groups: Sequence[NDArray[np.int64]],
    orders: NDArray[np.int64],
    are_rdms: bool,
) -> tuple[Floats, Floats]:
    """P and corrected p ``[column]``: shares of permutations with a correlation as large as found.

    The corrected p compares with the largest correlation of the column's group. ``region`` is the
    mean of the subjects' standardised values: its product with a column is their mean correlation.
    """
    items = orders.shape[1]
    first, second = np.triu_indices(items, 1)
    square = np.zeros((items, items))
    if are_rdms:
        square[first, second] = region
        square += square.T
    own, of_group = np.zeros(len(values)), np.zeros(len(values))
    least = found - 1e-12  # sums in another order differ by rounding
    step = max(1, _AT_ONCE // len(region))
    for start in range(0, len(orders), step):
        part = orders[start : start + step]
        moved = square[part[:, first], part[:, second]] if are_rdms else region[part]
        by_chance = moved @ values.T  # [order, column]
        own += (by_chance >= least).sum(axis=0)
        for group in groups:
            largest = by_chance[:, group].max(axis=1, keepdims=True)
            of_group[group] += (largest >= least[group]).sum(axis=0)
    return own / len(orders), of_group / len(orders)

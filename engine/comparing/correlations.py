"""Correlations between layers and brain regions, with permutation tests and noise ceilings.

Correlations are computed per subject and averaged. p is the share of permutations of the region's
categories (or stimuli) with an average at least as large (Mantel 1967 for matrices); all
permutations are used where they are few. Over a network's layers, p is corrected by the maximum of
each permutation (Westfall & Young 1993; Nichols & Holmes 2002). The noise ceiling follows Nili et
al. (2014).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..errors import UserError
from .regions import Region, Regions

Correlation = Literal["pearson", "spearman"]
Floats = NDArray[np.float64]
# Permuted values in memory at a time.
_AT_ONCE = 2**22


class Values(NamedTuple):
    """A population of a layer, with its profile ``[item]`` or RDM ``[pair]``."""

    population: str
    layer: str
    units: float
    values: Floats


@dataclass(frozen=True)
class LayerCorrelation:
    """The correlation between a region and a population of a layer.

    ``correlation`` is the mean over subjects; ``p`` is the probability of one as large by chance,
    ``p_corrected`` of one as large in any layer. ``ceiling_low`` and ``ceiling_high`` bound the
    correlation that any model could reach given the differences between subjects; they are None
    for one subject. ``units`` is the size of the population. ``correlation`` and p are None if the
    population has too few units or does not vary.
    """

    region: str
    layer: str
    population: str
    units: float
    correlation: float | None
    p: float | None
    p_corrected: float | None
    ceiling_low: float | None
    ceiling_high: float | None


@dataclass(frozen=True)
class BestLayer:
    """The layer that fits a region best, chosen with leave-one-subject-out cross-validation.

    For every subject, the layer with the largest mean correlation over the other subjects is
    chosen, and its correlation with the left-out subject is measured; ``correlation`` is the mean
    over subjects. ``layer`` is the layer chosen most often, ``chosen`` the number of subjects it
    was chosen for.
    """

    region: str
    population: str
    layer: str
    chosen: int
    subjects: int
    correlation: float


def correlate(
    regions: Regions,
    populations: Sequence[Values],
    correlation: Correlation,
    permutations: int,
    seed: int,
) -> Iterator[LayerCorrelation | BestLayer]:
    """Correlate every region with every population of every layer, and find the best layers.

    Parameters
    ----------
    populations : the populations of every layer, with values in the order of the table's items
    permutations : number of permutations to draw if there are more

    Raises
    ------
    UserError : a region responds to all items equally
    """
    orders = permuted(len(regions.items), permutations, seed)
    values = _standard(np.array([one.values for one in populations]), correlation)
    known = np.asarray(np.isfinite(values).all(axis=1))
    columns = [one for one, is_known in zip(populations, known, strict=True) if is_known]
    names = list(dict.fromkeys(one.population for one in columns))
    groups = [np.array([one.population == name for one in columns]) for name in names]
    for region in regions.regions:
        own = _standard(region.values, correlation)
        if not np.isfinite(own).all():
            raise UserError(
                f"responses of a region must vary; those of {region.name} in {regions.source} are "
                "constant for a subject: leave the region out"
            )
        by_subject = own @ values[known].T  # [subject, column]
        found = by_subject.mean(axis=0)
        chance = _chance(own.mean(axis=0), values[known], found, groups, orders, regions.are_rdms)
        numbers = iter(np.stack([found, *chance]).T.tolist())
        ceiling = noise_ceiling(region.values, correlation)
        for one, is_known in zip(populations, known, strict=True):
            correlation_and_p = next(numbers) if is_known else (None, None, None)
            yield LayerCorrelation(
                region.name, one.layer, one.population, one.units, *correlation_and_p, *ceiling
            )
        for name, group in zip(names, groups, strict=True):
            if len(region.subjects) > 1:
                layers = [one.layer for one in columns if one.population == name]
                yield _best_layer(region, name, layers, by_subject[:, group])


def permuted(items: int, most: int, seed: int) -> NDArray[np.int64]:
    """Permutations ``[order, item]``: all of them, or ``most`` drawn at random.

    The first is the identity, which counts as one of them (Phipson & Smyth 2010).
    """
    if math.factorial(items) <= most:
        return np.array(list(itertools.permutations(range(items))))
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(items) for _ in range(most - 1)]
    return np.stack([np.arange(items), *drawn])


def noise_ceiling(
    values: Floats, correlation: Correlation
) -> tuple[float, float] | tuple[None, None]:
    """Bounds of the correlation that the best model could reach, for ``values [subject, item]``.

    Low: the mean correlation of a subject with the mean of the other subjects; high: with the mean
    of all. Subjects are standardised (or ranked) before they are averaged (Nili et al. 2014, PLoS
    Computational Biology 10(4)).
    """
    if len(values) < 2:
        return None, None
    own = _standard(values, correlation)
    total = own.sum(axis=0)

    def mean_correlation(models: Floats) -> float:
        return float(np.mean((own * _standard(models, "pearson")).sum(axis=1)))

    return mean_correlation(total - own), mean_correlation(np.broadcast_to(total, own.shape))


def _standard(values: Floats, correlation: Correlation) -> Floats:
    """Rows, or their ranks for Spearman's, with mean 0 and length 1: products are correlations."""
    if correlation == "spearman":
        ranked = rankdata(values, axis=1)
        values = np.where(np.isfinite(values), ranked, np.nan)
    centred = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    # The mean of equal numbers may differ from them by rounding.
    constant = np.ptp(values, axis=1, keepdims=True) == 0
    with np.errstate(all="ignore"):
        return np.asarray(np.where(constant, np.nan, centred / length))


def _chance(
    region: Floats,
    values: Floats,
    found: Floats,
    groups: Sequence[NDArray[np.bool_]],
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


def _best_layer(
    region: Region, population: str, layers: Sequence[str], by_subject: Floats
) -> BestLayer:
    others = by_subject.sum(axis=0) - by_subject
    best = others.argmax(axis=1)
    votes = np.bincount(best, minlength=len(layers))
    layer = int(votes.argmax())
    held_out = by_subject[np.arange(len(best)), best]
    return BestLayer(
        region.name, population, layers[layer], int(votes[layer]), len(best), float(held_out.mean())
    )

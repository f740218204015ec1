"""How alike the responses of layers and of brain regions are, and how surely.

Correlations are those of every subject, averaged; p is the share of rearrangements of the region's
categories (or stimuli) that give as large an average (Mantel 1967 for matrices), all of them where
they are few. Over the layers of a network p is corrected by the largest of each rearrangement
(Westfall & Young 1993; Nichols & Holmes 2002). The noise ceiling is that of Nili et al. (2014).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..errors import UserError
from .regions import Region, Regions

Correlation = Literal["pearson", "spearman"]
Floats = NDArray[np.float64]
# Rearranged values that are in memory at a time.
_AT_ONCE = 2**22


class Values(NamedTuple):
    """What a population of a layer gives: a profile ``[item]``, or an RDM ``[pair]``."""

    population: str
    layer: str
    units: float
    values: Floats


@dataclass(frozen=True)
class Likeness:
    """A region and a population of a layer.

    ``correlation`` is the mean over subjects of the correlation with the population; ``p`` that it
    is as large by chance, ``p_corrected`` that the largest over the layers is. ``ceiling_low`` and
    ``ceiling_high`` bound what any model could reach, given how subjects differ; None with one.
    ``units`` are those of the population. Where the population's responses do not vary, or it has
    too few units, ``correlation`` and p are None.
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
    """The layer that fits a region best, chosen without the subjects that it is measured on.

    For every subject the layer of the largest mean correlation with all others is taken;
    ``correlation`` is the mean of what it has with the subject itself, ``chosen`` how many subjects
    it was chosen for, ``layer`` that which was chosen most often.
    """

    region: str
    population: str
    layer: str
    chosen: int
    subjects: int
    correlation: float


def likeness(
    regions: Regions,
    populations: Sequence[Values],
    correlation: Correlation,
    rearrangements: int,
    seed: int,
) -> Iterator[Likeness | BestLayer]:
    """Compare every region with every population of every layer; then say which layer is best.

    Parameters
    ----------
    populations : of every layer, in the order of the table's items
    rearrangements : how many are drawn where there are more

    Raises
    ------
    UserError : a region responds to all items alike
    """
    orders = rearranged(len(regions.items), rearrangements, seed)
    values = _standard(np.array([one.values for one in populations]), correlation)
    known = np.asarray(np.isfinite(values).all(axis=1))
    columns = [one for one, is_known in zip(populations, known, strict=True) if is_known]
    names = list(dict.fromkeys(one.population for one in columns))
    groups = [np.array([one.population == name for one in columns]) for name in names]
    for region in regions.regions:
        own = _standard(region.values, correlation)
        if not np.isfinite(own).all():
            raise UserError(
                f"responses of a region differ; those of {region.name} in {regions.source} are all "
                "the same for a subject: leave it out"
            )
        by_subject = own @ values[known].T  # [subject, column]
        found = by_subject.mean(axis=0)
        chance = _chance(own.mean(axis=0), values[known], found, groups, orders, regions.are_rdms)
        numbers = iter(np.stack([found, *chance]).T.tolist())
        ceiling = noise_ceiling(region.values, correlation)
        for one, is_known in zip(populations, known, strict=True):
            correlation_and_p = next(numbers) if is_known else (None, None, None)
            yield Likeness(
                region.name, one.layer, one.population, one.units, *correlation_and_p, *ceiling
            )
        for name, group in zip(names, groups, strict=True):
            if len(region.subjects) > 1:
                layers = [one.layer for one in columns if one.population == name]
                yield _best_layer(region, name, layers, by_subject[:, group])


def rearranged(items: int, most: int, seed: int) -> NDArray[np.int64]:
    """Orders of ``items`` ``[order, item]``: all there are, or ``most`` that are drawn.

    The first is the one that there is, which counts as one that chance has brought about (Phipson &
    Smyth 2010).
    """
    if math.factorial(items) <= most:
        return np.array(list(permutations(range(items))))
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(items) for _ in range(most - 1)]
    return np.stack([np.arange(items), *drawn])


def noise_ceiling(
    values: Floats, correlation: Correlation
) -> tuple[float, float] | tuple[None, None]:
    """What the best model could reach with subjects that differ, ``values [subject, item]``.

    Low: the mean correlation of a subject with the mean of the others; high: with the mean of all,
    itself among them. Subjects are standardised (or ranked) before they are averaged (Nili et al.
    2014, PLoS Computational Biology 10(4)).
    """
    if len(values) < 2:
        return None, None
    own = _standard(values, correlation)
    total = own.sum(axis=0)

    def mean_correlation(models: Floats) -> float:
        return float(np.mean((own * _standard(models, "pearson")).sum(axis=1)))

    return mean_correlation(total - own), mean_correlation(np.broadcast_to(total, own.shape))


def _standard(values: Floats, correlation: Correlation) -> Floats:
    """Rows of mean 0 and length 1, of their ranks for Spearman's: products are correlations."""
    if correlation == "spearman":
        ranked = rankdata(values, axis=1)
        values = np.where(np.isfinite(values), ranked, np.nan)
    centred = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    # Equal numbers may have a mean that is a rounding away from them.
    flat = np.ptp(values, axis=1, keepdims=True) == 0
    with np.errstate(all="ignore"):
        return np.asarray(np.where(flat, np.nan, centred / length))


def _chance(
    region: Floats,
    values: Floats,
    found: Floats,
    groups: Sequence[NDArray[np.bool_]],
    orders: NDArray[np.int64],
    are_rdms: bool,
) -> tuple[Floats, Floats]:
    """The share of rearrangements with as large a correlation as was found ``[column]``.

    Of the column alone, and of the largest of its group. ``region`` is the mean of the subjects'
    standard values: its product with a column is the mean of their correlations.
    """
    items = orders.shape[1]
    first, second = np.triu_indices(items, 1)
    square = np.zeros((items, items))
    if are_rdms:
        square[first, second] = region
        square += square.T
    own, of_group = np.zeros(len(values)), np.zeros(len(values))
    least = found - 1e-12  # the same sum in another order
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
    best = others.argmax(axis=1)  # of equals the first
    layer, chosen = max(
        ((place, int((best == place).sum())) for place in range(len(layers))),
        key=lambda item: item[1],
    )
    held_out = by_subject[np.arange(len(best)), best]
    return BestLayer(
        region.name, population, layers[layer], chosen, len(best), float(held_out.mean())
    )

"""Two localizers on one network: overlap of the units they select, and cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..analyses.resampling import (
    Chance,
    chance_of_both,
    generator,
    intervals,
    or_none,
    ratios,
)
from ..contrasts.language.criterion import DEFAULT, Criterion, require_criterion
from ..errors import UserError, nearest
from ..limits import refuse_numbers, refuse_seed
from ..results import Result
from ..store.reader import require_complete
from ..store.store_reader import StoreReader
from ..table import Table
from ..values import listed
from . import frames
from .crossing import MEASURED, Crossed, Floats, Localizer, Means, cross
from .matching import (
    Given,
    Pair,
    match_categories,
    match_contrasts,
    same_layers,
    same_network,
    same_stimuli,
)

_ALLOWED = ("preprocessing",)


@dataclass(frozen=True)
class LocalizerOverlap:
    """Overlap of the units that two localizers select in a layer, for corresponding contrasts.

    Intervals are the middle 95 % over draws. Values are None where nothing is selected, and those
    of ``map_chance`` without several units in a map.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        Contrast in categories of the first store.
    other_contrast : str
        Contrast in categories of the second.
    units : int
        Number of units of the layer.
    living : int
        Number of units that live under both localizers.
    selective, other_selective : int
        Numbers of units that each selects on all its stimuli.
    both : int
        Number of units that both select.
    jaccard, jaccard_low, jaccard_high : float or None
        ``both`` / either, over draws of whole feature maps.
    dice, dice_low, dice_high : float or None
        2 ``both`` / (``selective`` + ``other_selective``), over draws of whole feature maps.
    chance, chance_low, chance_high : float or None
        ``both`` if the selected units of each localizer lay at random among all living units.
    map_chance, map_chance_low, map_chance_high : float or None
        ``both`` if they lay at random within their feature maps, of which each keeps its number.
    """

    layer: str
    contrast: str
    other_contrast: str
    units: int
    living: int
    selective: int
    other_selective: int
    both: int
    jaccard: float | None
    jaccard_low: float | None
    jaccard_high: float | None
    dice: float | None
    dice_low: float | None
    dice_high: float | None
    chance: float | None
    chance_low: float | None
    chance_high: float | None
    map_chance: float | None
    map_chance_low: float | None
    map_chance_high: float | None


@dataclass(frozen=True)
class CrossValidation:
    """Units that one localizer selects on all its stimuli, measured on the stimuli of the other.

    Intervals are the middle 95 % over draws of whole feature maps. Values are None where there is
    nothing to measure.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        Contrast in categories of the first store.
    other_contrast : str
        Contrast in categories of the second.
    selecting, measuring : int
        Numbers of the localizers, 1 or 2.
    measure : str
        ``replicated`` (the share that the measuring one selects too), ``csi``, ``d_prime`` or
        ``auc_normal``.
    units : int
        Number of units with a finite value.
    value, low, high : float or None
        Mean over the units, and its interval.
    within, within_low, within_high : float or None
        The same on the selecting localizer: units that one of its folds selects, measured on its
        other folds.
    all_units : float or None
        Mean of all living units on the measuring localizer.
    """

    layer: str
    contrast: str
    other_contrast: str
    selecting: int
    measuring: int
    measure: str
    units: int
    value: float | None
    low: float | None
    high: float | None
    within: float | None
    within_low: float | None
    within_high: float | None
    all_units: float | None


@dataclass(frozen=True, repr=False)
class LocalizerComparison(Result):
    """Result of :func:`fusiform.compare_localizers`: two localizers on one network.

    Attributes
    ----------
    stores : tuple of str
        Paths of the two stores.
    provenance : tuple of mapping
        Attributes of each root.
    criterion : str
        The criterion in words.
    matched : tuple of tuple of str
        Categories that correspond.
    unmatched : tuple of tuple of str
        Categories of each store that have no counterpart.
    labels : mapping of str to str
        Short names of contrasts of the first store.
    resamples : int
        Number of random draws.
    seed : int
        Their seed.
    warnings : tuple of str
        Stimuli in common, allowed differences, and layers of one store alone.
    overlap : tuple of LocalizerOverlap
        Units that both localizers select.
    cross_validation : tuple of CrossValidation
        Units that one localizer selects, measured on the other.
    """

    stores: tuple[str, str]
    provenance: tuple[Mapping[str, Any], Mapping[str, Any]]
    criterion: str
    matched: tuple[tuple[str, str], ...]
    unmatched: tuple[tuple[str, ...], tuple[str, ...]]
    labels: Mapping[str, str]
    resamples: int
    seed: int
    warnings: tuple[str, ...]
    overlap: tuple[LocalizerOverlap, ...]
    cross_validation: tuple[CrossValidation, ...]

    _drawn_by = "fusiform.plot.localizers(comparison)"

    def tables(self) -> Iterator[Table]:
        """All values in long form, see :mod:`.frames`."""
        return frames.localizers(self)


def compare_localizers(
    stores: StoreReader | Path | str | Sequence[StoreReader | Path | str],
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    *,
    categories: Given | None = None,
    allow: str | Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> LocalizerComparison:
    """Compare the units that two localizers select in one network.

    ``docs/reference/definitions.md`` has the formulas: Jaccard's and Dice's coefficients with
    their chance levels, and cross-validation in both directions.

    Parameters
    ----------
    stores : sequence of Store, str or path
        Two stores of one network, or their paths, each scanned with a stimulus set of its own.
    criterion : Criterion, optional
        The criterion that selects units in both.
    layers : str or sequence of str, default "*"
        Names or globs of layers of the first store.
    contrasts : str or sequence of str, optional
        In categories of the first store; by default every matched category against all other
        matched ones.
    categories : str or mapping, optional
        Categories to compare, as ``faces``, or ``places=houses`` if the second store calls them
        otherwise; or a mapping; by default all of the same name.
    allow : str or sequence of str, optional
        Differences to allow: ``preprocessing``.
    resamples : int, default 1000
        Number of draws of feature maps, and of random units.
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    LocalizerComparison
        Overlap and cross-validation, layer by layer.

    Raises
    ------
    UserError
        The stores are not two, or not of one network; fewer than two categories correspond; a
        contrast has none in the other store; a scan has not finished.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> stores = ["r18.zarr", "r18-other.zarr"]
    >>> found = fusiform.compare_localizers(stores, top, "layer4.1", "faces", resamples=20)
    >>> overlap = found.overlap[0]
    >>> overlap.selective, overlap.other_selective, 0 <= overlap.dice <= 1
    (20, 20, True)
    """
    require_criterion(criterion)
    refuse_seed(seed)
    refuse_numbers(resamples=resamples)
    allow = listed(allow)
    opened = [StoreReader.of(store) for store in listed(stores)]
    _require_valid(opened, allow, resamples)
    first, other = opened
    warnings = same_network(first, other, allow) + same_stimuli(first, other)
    paired, alone = same_layers(first, other, layers)
    matched = match_categories(first, other, categories)
    pairs = match_contrasts(first, other, matched, contrasts)
    sides = [Localizer(store, [pair[k] for pair in pairs], [pair[k] for pair in paired])
             for k, store in enumerate(opened)]  # fmt: skip
    overlap: list[LocalizerOverlap] = []
    measures: list[CrossValidation] = []
    for crossed in cross(sides[0], sides[1], criterion):
        overlap += _overlap(crossed, pairs, resamples, seed)
        measures += _cross_validation(crossed, pairs, resamples, seed)
    names = [[store.categories[pair[k]] for pair in matched] for k, store in enumerate(opened)]
    return LocalizerComparison(
        stores=(str(first.path), str(other.path)),
        provenance=(first.provenance, other.provenance),
        criterion=str(criterion),
        matched=tuple(zip(*names, strict=True)),
        unmatched=(_others(first, names[0]), _others(other, names[1])),
        labels={
            pair.own.text: names[0][k] if contrasts is None else pair.own.text
            for k, pair in enumerate(pairs)
        },
        resamples=resamples,
        seed=seed,
        warnings=(*warnings, *alone),
        overlap=tuple(overlap),
        cross_validation=tuple(measures),
    )


def _require_valid(stores: Sequence[StoreReader], allow: Sequence[str], resamples: int) -> None:
    if len(stores) != 2:
        raise UserError(
            f"two localizers are two stores of one network; got {len(stores)}: name two"
        )
    for name in allow:
        if name not in _ALLOWED:
            raise UserError(
                f"allow of two localizers: {', '.join(_ALLOWED)}; got {name!r}: "
                f"{nearest(name, _ALLOWED)}"
            )
    if resamples < 1:
        raise UserError(f"resamples is a number of random draws, at least 1; got {resamples}")
    for store in stores:
        require_complete(store)


def _others(store: StoreReader, matched: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in store.categories if name not in matched)


def _overlap(
    crossed: Crossed, pairs: Sequence[Pair], resamples: int, seed: int
) -> Iterator[LocalizerOverlap]:
    """A row per contrast."""
    several = resamples if len(crossed.channel_units) > 1 else 0  # or there are no intervals
    either = crossed.selective.sum(axis=0) - crossed.both
    drawn = ratios(crossed, crossed.both, either, several, seed)
    of_jaccard, of_dice = intervals(drawn), intervals(2 * drawn / (1 + drawn))
    selective, both = crossed.selective.sum(axis=2), crossed.both.sum(axis=1)
    for index, pair in enumerate(pairs):
        number, total = int(both[index]), int(either[index].sum())
        own, its = crossed.possible[:, index]
        rng = generator(seed, crossed, pair.own.text)
        living, first, other = (np.array([one.sum()]) for one in (crossed.living, own, its))
        chance = chance_of_both(living, first, other, resamples, rng)
        by_map = chance_of_both(crossed.living, own, its, resamples, rng)
        jaccard = number / total if total else None
        yield LocalizerOverlap(
            layer=crossed.layer.name,
            contrast=pair.own.text,
            other_contrast=pair.its.text,
            units=crossed.layer.units,
            living=int(crossed.living.sum()),
            selective=int(selective[0, index]),
            other_selective=int(selective[1, index]),
            both=number,
            jaccard=jaccard,
            dice=None if jaccard is None else 2 * jaccard / (1 + jaccard),
            **_interval("jaccard", of_jaccard[index]),
            **_interval("dice", of_dice[index]),
            **_level("chance", chance if total else None),
            **_level("map_chance", by_map if total else None),
        )


def _interval(name: str, ends: tuple[float | None, float | None]) -> dict[str, float | None]:
    return dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))


def _level(name: str, level: Chance | None) -> dict[str, float | None]:
    """A level of chance and its interval, as fields."""
    if level is None:
        return {name: None, **_interval(name, (None, None))}
    return {name: level.mean, **_interval(name, (level.low, level.high))}


def _cross_validation(
    crossed: Crossed, pairs: Sequence[Pair], resamples: int, seed: int
) -> Iterator[CrossValidation]:
    """A row per contrast, selecting localizer and measure."""
    rows: dict[tuple[int, int, str], CrossValidation] = {}
    for side in (0, 1):
        for name in MEASURED:
            across, within = (of[side][name] for of in (crossed.across, crossed.within))
            found = [_drawn(crossed, one, resamples, seed) for one in (across, within)]
            every = crossed.every[1 - side][name].means
            for index, pair in enumerate(pairs):
                values = [one[index] for one in found]
                rows[index, side, name] = CrossValidation(
                    crossed.layer.name,
                    pair.own.text,
                    pair.its.text,
                    1 + side,
                    2 - side,
                    name,
                    int(across.numbers[index].sum()),
                    *values[0],
                    *values[1],
                    or_none(every[index]),
                )
    yield from (rows[key] for key in sorted(rows, key=lambda key: (key[0], key[1])))


def _drawn(
    crossed: Crossed, means: Means, resamples: int, seed: int
) -> list[tuple[float | None, float | None, float | None]]:
    """The mean of every contrast, and the middle 95 % over draws of feature maps."""
    several = resamples if len(crossed.channel_units) > 1 else 0
    draws: Floats = ratios(crossed, means.sums, means.numbers, several, seed)
    return [
        (or_none(value), *ends) for value, ends in zip(means.means, intervals(draws), strict=True)
    ]

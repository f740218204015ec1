"""Census of a layer: the counts that all its analyses need, taken in one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..contrasts.language.contrast import Contrast, parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..contrasts.language.exclusion import are_opposed, exceeds_each
from ..contrasts.select import select_slabs
from ..layer import Layer
from ..store.store_reader import StoreReader
from .counting import PARTS, LayerCounter
from .held_out import Counts, HeldOut
from .patterns import CategoryMeans


@dataclass(frozen=True)
class Census:
    """Counts of one layer under one criterion.

    Feature maps are indices along the dimension ``channel``; without it, every unit is a map of its
    own. *Living* units are neither dead nor nonfinite.

    Parameters
    ----------
    categories, folds : of the store
    contrasts : contrasts as written by the user
    channel_units, channel_living : units of every feature map ``[channel]``
    by_channel : units selective on all stimuli ``[contrast, channel]``
    place_living, by_place : the same by position, ``[y, x]`` or ``[token]``, after ``contrast``;
        None for a layer without positions
    by_fold, again : units selected on each fold, and how many times the other folds select them
        again ``[contrast, fold, channel]``; empty for one fold
    csi, d_prime, preferred, others : held-out CSI, d', and responses to target and baseline, of
        units selected on one fold and measured on the others; empty for one fold
    response : moments of the responses of all living units to all stimuli
    both : units selective for two contrasts ``[contrast, contrast]``
    exclusive : pairs of contrasts ``[contrast, contrast]`` that no unit can be selective for
    confusion : living units by preferred category on one fold and on a later one ``[category,
        category]``, over all pairs of folds; units with ties are left out. None for one fold
    means : category means of living units, on all stimuli
    fold_means : the same for every fold; empty for one fold
    """

    layer: Layer
    categories: tuple[str, ...]
    folds: int
    contrasts: tuple[str, ...]
    channel_units: Counts
    channel_living: Counts
    by_channel: Counts
    place_living: Counts | None
    by_place: Counts | None
    by_fold: Counts
    again: Counts
    csi: HeldOut
    d_prime: HeldOut
    preferred: HeldOut
    others: HeldOut
    response: Moments
    both: Counts
    exclusive: NDArray[np.bool_]
    confusion: Counts | None
    means: CategoryMeans
    fold_means: tuple[CategoryMeans, ...]

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.channel_units.sum())

    @property
    def living(self) -> int:
        """Number of living units."""
        return int(self.channel_living.sum())

    @property
    def selective(self) -> Counts:
        """Number of units selective on all stimuli ``[contrast]``."""
        return np.asarray(self.by_channel.sum(axis=1))


def take_census(
    store: StoreReader,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    parts: Collection[str] = PARTS,
) -> Iterator[Census]:
    """Count the units of a store under a criterion, layer by layer.

    Masks are read if the scan stored them, else computed from the moments, which are read only if
    they are needed. Memory holds a slab and a :class:`Census`.

    Parameters
    ----------
    layers : names or globs of layers
    contrasts : as :mod:`..contrasts.language.contrast` reads them; by default every category
    parts : what to count beside units by feature map and position: ``held_out`` measures and the
        responses of all units, ``replicated`` ones, ``both``, ``confusion``, ``means``. Fields
        of others are empty

    Raises
    ------
    UserError : the scan has not finished, a layer is unknown, or a contrast cannot be parsed or
        does not fit the criterion
    """
    parsed = parse_contrasts(contrasts, store.categories)
    named = store.layers_named(layers)
    apart = _exclusive(criterion, parsed if "both" in parts else [])
    for layer, slabs in select_slabs(store, criterion, parsed, named):
        counter = LayerCounter(store, layer, criterion, parsed, parts)
        for (slab, flat), chosen in zip(store.slabs(layer), slabs, strict=True):
            counter.add(slab, flat, chosen)
        yield Census(
            layer=layer,
            categories=tuple(store.categories),
            folds=store.folds,
            contrasts=tuple(contrast.text for contrast in parsed),
            exclusive=apart,
            **counter.counted(),
        )


def _exclusive(criterion: Criterion, contrasts: Sequence[Contrast]) -> NDArray[np.bool_]:
    """Pairs ``[contrast, contrast]`` of :mod:`..contrasts.language.exclusion`."""
    found = np.zeros((len(contrasts), len(contrasts)), bool)
    if exceeds_each(criterion):
        for i, j in combinations(range(len(contrasts)), 2):
            found[i, j] = found[j, i] = are_opposed(contrasts[i], contrasts[j])
    return found

"""All analyses of a store in one call, and one pass over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..contrasts.language.criterion import DEFAULT, Criterion, preset
from ..errors import UserError, nearest
from ..limits import refuse_numbers, refuse_seed
from ..store.reading import Store
from ..values import listed
from .agreement import Agreement, agreement
from .census import Census, HeldOut, take_census
from .consistency import Consistency, Distance, consistency
from .localisation import Localisation, Neighbours, localisation
from .overlap import Confusion, Overlap, confusion, overlap
from .shares import Share, shares
from .specificity import Specificity, specificity
from .spread import Spread, spread
from .strength import Strength, strength


@dataclass(frozen=True)
class Analysis:
    """The rows of every analysis of one store under one criterion.

    ``store`` is its path, ``provenance`` the attributes of its root, ``criterion`` in words. An
    analysis that was not asked for has no rows; ``consistency`` is then None. ``agreement`` is that
    with other criteria, where some were given. ``nameless`` layers have dimensions of which it is
    not known what they are: they have no places, or no feature maps, until they are given names.
    """

    store: str
    provenance: Mapping[str, Any]
    criterion: str
    contrasts: tuple[str, ...]
    categories: tuple[str, ...]
    folds: int
    layers: tuple[str, ...]
    resamples: int
    seed: int
    shares: tuple[Share, ...]
    specificity: tuple[Specificity, ...]
    spread: tuple[Spread, ...]
    localisation: tuple[Localisation, ...]
    strength: tuple[Strength, ...]
    overlap: tuple[Overlap, ...]
    confusion: tuple[Confusion, ...]
    consistency: Consistency | None
    agreement: tuple[Agreement, ...] = ()
    nameless: tuple[str, ...] = ()


ANALYSES: dict[str, str] = {
    "shares": "share of selective units, of all and of living ones",
    "specificity": "CSI and d' of the selected, on held-out stimuli",
    "spread": "selective units over feature maps, against as many thrown at random",
    "localisation": "where on the map they lie, entropy over places, Moran's I",
    "strength": "held-out responses to preferred and other categories, on the layer's scale",
    "overlap": "units selective for two contrasts",
    "confusion": "preferred category on one fold and on another",
    "consistency": "dissimilarity of categories, and its likeness between layers",
}


def analyse(
    store: Store | Path | str,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    analyses: str | Iterable[str] = tuple(ANALYSES),
    *,
    resamples: int = 1000,
    seed: int = 0,
    neighbours: Neighbours = "rook",
    distance: Distance = "correlation",
    against: str | Criterion | Sequence[str | Criterion] = (),
) -> Analysis:
    """Analyse a store under a criterion; see ``docs/definitions.md`` for what each analysis is.

    Layer by layer: no more is held than a slab, a layer's census, and the rows.

    Parameters
    ----------
    store : the result of a scan, or its path
    layers : names or globs, one or several
    contrasts : as :mod:`..contrasts.language.contrast` reads them; by default every category
    analyses : some of :data:`ANALYSES`; by default all
    resamples : draws of feature maps, random throws and random orders
    seed : of all that is drawn at random
    neighbours : on a map, for Moran's I: ``rook`` or ``queen``
    distance : of two categories' patterns: ``correlation`` or ``euclidean``
    against : other criteria, or names of presets, whose selective units are compared with those of
        ``criterion``

    Raises
    ------
    UserError : there is no such analysis, layer, contrast, distance or kind of neighbours; the scan
        that fills the store has not finished
    """
    store = Store.of(store)
    asked = list(dict.fromkeys(listed(analyses)))
    for name in asked:
        if name not in ANALYSES:
            raise UserError(f"there is no analysis {name!r}: {nearest(name, ANALYSES)}")
    refuse_numbers(resamples=resamples)
    refuse_seed(seed)
    if resamples < 1:
        raise UserError(f"resamples are a number of random draws, 1 or more; got {resamples}")
    drawn = {"resamples": resamples, "seed": seed}
    of_layer: dict[str, Callable[[list[Census]], list[Any]]] = {
        "shares": lambda one: shares(one, **drawn),
        "specificity": lambda one: specificity(one, **drawn),
        "spread": lambda one: spread(one, **drawn),
        "localisation": lambda one: localisation(one, **drawn, neighbours=neighbours),
        "strength": lambda one: strength(one, **drawn),
        "overlap": overlap,
        "confusion": confusion,
    }
    rows: dict[str, list[Any]] = {name: [] for name in of_layer}
    others = [preset(one) if isinstance(one, str) else one for one in listed(against)]
    taken = []
    for census in take_census(store, criterion, layers, contrasts):
        for name in asked:
            if name in of_layer:
                rows[name] += of_layer[name]([census])
        taken.append(_light(census))
    return Analysis(
        store=str(store.path),
        provenance=store.provenance,
        criterion=str(criterion),
        contrasts=taken[0].contrasts,
        categories=taken[0].categories,
        folds=store.folds,
        layers=tuple(census.layer.name for census in taken),
        resamples=resamples,
        seed=seed,
        **{name: tuple(found) for name, found in rows.items()},
        consistency=consistency(taken, distance) if "consistency" in asked else None,
        agreement=tuple(agreement(store, [criterion, *others], layers, contrasts))
        if others
        else (),
        nameless=tuple(census.layer.name for census in taken if census.layer.is_nameless),
    )


def _light(census: Census) -> Census:
    """A census with its patterns, and without all that is as long as a layer has feature maps."""
    counts = np.zeros((0, 0), np.int64)
    none = HeldOut((), counts, counts.astype(np.float64))
    return replace(
        census, channel_units=counts, channel_living=counts, by_channel=counts, place_living=None,
        by_place=None, csi=none, d_prime=none, preferred=none, others=none,
    )  # fmt: skip

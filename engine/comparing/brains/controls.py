"""Controls of a population: the other units of its layer, and as many units drawn at random.

A region may resemble any units of a layer, whatever they prefer. Every draw takes, for each fold,
as many of the layer's units that vary as the fold selects, without replacement, and is measured as
the population is: on the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...layer import Layer
from ...store.store_reader import StoreReader
from .populations import Measured, Population, Sums

DRAWS = 100


def random_populations(
    store: StoreReader,
    layer: Layer,
    selected: Sequence[Population],
    every: Population,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[list[Population]]:
    """Draws for each of the populations ``selected``; reads the layer once, slab by slab.

    Parameters
    ----------
    every : all units of the layer that vary
    seed : of the draws, with the place of the layer
    """
    rdms = every.means is not None
    rng = np.random.default_rng([seed, store.layers.index(layer)])
    sums = [[Sums(store, rdms) for _ in range(draws)] for _ in selected]
    # Units still to be drawn [fold, population, draw], and units still to come [fold].
    wanted = np.array([[[one.sizes[fold]] * draws for one in selected]
                       for fold in range(store.folds)], np.int64)  # fmt: skip
    coming = list(every.sizes)
    for slab, _ in store.slabs(layer):
        dead, nonfinite = (store.read_slab(layer, name, slab) for name in ("dead", "nonfinite"))
        moments, living = store.moments(layer, slab), ~(dead | nonfinite)
        for fold in range(store.folds):
            measured = Measured.of(moments, fold, living)
            here = len(measured.place)
            coming[fold] -= here
            # Of units drawn from all, those that fall into this slab.
            numbers = rng.hypergeometric(here, coming[fold], wanted[fold])
            wanted[fold] -= numbers
            for own, row in zip(sums, numbers, strict=True):
                for one, number in zip(own, row, strict=True):
                    if number:
                        one.add(measured, fold, rng.choice(here, number, replace=False))
    return [[one.population(layer.name, population.name) for one in own]
            for own, population in zip(sums, selected, strict=True)]  # fmt: skip

"""Chance level of a criterion: the share of units that it selects under shuffled labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments
from ..layer import Layer
from ..store.reader import require_complete
from ..store.store_reader import StoreReader
from .evaluate import Evaluation, samples_of
from .language.contrast import Contrast, every_category
from .language.criterion import DEFAULT, Criterion, require_criterion
from .select import evaluation_of, require_shuffles
from .slab import SlabValues

Shares = NDArray[np.float64]


def chance(
    store: StoreReader,
    criterion: Criterion = DEFAULT,
    contrasts: Sequence[Contrast] | None = None,
    layers: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, Shares]]:
    """The share of units that a criterion selects under shuffled labels, ``[contrast, shuffle]``.

    Shares are over the units that the scan drew from every layer. These, or those of all layers,
    form the family for correction.

    Raises
    ------
    UserError : the scan had no shuffled labels
    """
    require_complete(store)
    require_criterion(criterion)
    require_shuffles(store)
    contrasts = every_category(store.categories) if contrasts is None else contrasts
    layers = store.layers if layers is None else layers
    decider = Evaluation(criterion, contrasts)
    if not decider.needs_model:
        for layer in layers:
            shuffles = _shuffles(store, layer, evaluation_of(store, layer, decider))
            yield layer, _shares(decider, [shuffles])[0]
        return
    by_layer = [
        _shuffles(store, layer, evaluation_of(store, layer, decider)) for layer in store.layers
    ]
    shares = _shares(decider, by_layer)
    yield from (pair for pair in zip(store.layers, shares, strict=True) if pair[0] in layers)


def reached(shares: Shares) -> Shares:
    """The share ``[contrast]`` that 5 % of the shuffles reach, of ``[contrast, shuffle]``."""
    return np.asarray(np.quantile(shares, 0.95, axis=1, method="higher"))


def _shuffles(store: StoreReader, layer: Layer, evaluation: Evaluation) -> list[SlabValues]:
    """The drawn units of a layer on all stimuli, evaluated for every shuffle."""
    count, mean, m2 = samples_of(store.shuffled_moments(layer))[0]
    units = mean.shape[1] // store.shuffles
    parts = [slice(start, start + units) for start in range(0, mean.shape[1], units)]
    folds = (Moments(count[None], mean[None, :, own], m2[None, :, own]) for own in parts)
    return [evaluation.evaluate(moments) for moments in folds]


def _shares(evaluation: Evaluation, layers: Sequence[Sequence[SlabValues]]) -> list[Shares]:
    """The share selected ``[contrast, shuffle]`` in each of the layers of a family."""
    shares: list[list[Shares]] = [[] for _ in layers]
    for shuffle in zip(*layers, strict=True):
        if evaluation.needs_family:
            evaluation.settle([[layer] for layer in shuffle], sum(one.units for one in shuffle))
        for found, layer in zip(shares, shuffle, strict=True):
            found.append(evaluation.decide(layer).selection.selective.mean(axis=1))
    return [np.stack(found, axis=1) for found in shares]

"""Agreement between criteria: units that several of them select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np

from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import Criterion
from ..contrasts.select import select_slabs
from ..store.store_reader import StoreReader


@dataclass(frozen=True)
class Agreement:
    """Units of a layer selective for a contrast by two criteria.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    criterion, other : str
        The criteria in words.
    selective, other_selective : int
        Numbers of units selective by each.
    both : int
        Number of units selective by both.
    either : int
        Number of units selective by either.
    jaccard : float or None
        Their ratio; None if no unit is selective.
    """

    layer: str
    contrast: str
    criterion: str
    other: str
    selective: int
    other_selective: int
    both: int
    either: int
    jaccard: float | None


def agreements(
    store: StoreReader,
    criteria: Sequence[Criterion],
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
) -> list[Agreement]:
    """Compare criteria on all stimuli, a row per layer, contrast and pair of criteria.

    See :func:`.census.take_census` for the parameters. A slab of masks per criterion is in memory.

    Raises
    ------
    UserError : see :func:`.census.take_census`
    """
    parsed = parse_contrasts(contrasts, store.categories)
    named = store.layers_named(layers)
    rows = []
    for streams in zip(*(select_slabs(store, c, parsed, named) for c in criteria), strict=True):
        layer = streams[0][0]
        # Units selected by a criterion and a later one [contrast, criterion, criterion].
        both = np.zeros((len(parsed), len(criteria), len(criteria)), np.int64)
        for selections in zip(*(slabs for _, slabs in streams), strict=True):
            for i, j in combinations_with_replacement(range(len(criteria)), 2):
                masks = selections[i].selective & selections[j].selective
                both[:, i, j] += np.count_nonzero(masks, axis=1)
        rows += [
            _row(layer.name, contrast.text, criteria, counts, i, j)
            for contrast, counts in zip(parsed, both.tolist(), strict=True)
            for i, j in combinations(range(len(criteria)), 2)
        ]
    return rows


def _row(
    layer: str, contrast: str, criteria: Sequence[Criterion], both: list[list[int]], i: int, j: int
) -> Agreement:
    either = both[i][i] + both[j][j] - both[i][j]
    return Agreement(
        layer=layer,
        contrast=contrast,
        criterion=str(criteria[i]),
        other=str(criteria[j]),
        selective=both[i][i],
        other_selective=both[j][j],
        both=both[i][j],
        either=either,
        jaccard=both[i][j] / either if either else None,
    )

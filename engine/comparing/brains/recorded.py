"""Mean responses and RDMs of a recording's units to the stimuli of a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ....kernels.similarity import correlation_distances, extend, patterns_of
from ...contrasts.language.contrast import parse_contrast
from ...errors import UserError
from ...layer import Layer
from ...responses.geometry import products
from ...responses.recording import Recording
from .correlations import Values
from .regions import Regions
from .standard import Floats

RECORDED = "recorded units"
# The choice that is all units recorded.
_ALL = "all"
# Correlations over two units are 1 or -1.
_FEWEST_UNITS = 3


def recorded(
    recording: Recording, layer: Layer, regions: Regions, rows: NDArray[np.int64]
) -> Iterator[Values]:
    """The units of every choice, and all recorded units, of a layer.

    Units count whose responses to these stimuli are finite and vary. Responses are standardised for
    each unit, and averaged over units; dissimilarities are 1 - Pearson's r over units.

    Parameters
    ----------
    rows : the rows of the table's stimuli in the recording, in the order of the table

    Raises
    ------
    UserError : the layer was projected, and the table has responses
    """
    if regions.are_rdms and recording.recorded(layer.name).projected:
        found = products(recording, layer.name)
        place = np.searchsorted(found.stimuli, rows)
        yield Values(RECORDED, layer.name, found.units, upper(found.distances(), place))
        return
    recording.require_units(layer.name)
    chosen = dict(zip(recording.choices, recording.chosen(layer.name), strict=True))
    masks = {name: mask for name, mask in chosen.items() if name != _ALL}
    if len(masks) != 1:
        masks[RECORDED] = np.ones(recording.recorded(layer.name).units, bool)
    sums = {name: _Sums(len(rows), regions.are_rdms) for name in masks}
    for columns in recording.blocks(layer.name):
        values = recording.part(layer.name, columns)[rows].astype(np.float64)
        varies = np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0)
        for name, mask in masks.items():
            sums[name].add(values[:, mask[columns] & varies])
    labels = recording.labels[rows]
    for name, own in sums.items():
        target = _target(name, recording.categories)
        places = frozenset(np.flatnonzero(np.isin(labels, target)).tolist())
        yield Values(name, layer.name, own.units, own.values(), places)


def upper(matrix: Floats, rows: NDArray[np.int64]) -> Floats:
    """The pairs among some rows of a dissimilarity matrix, in the order of the rows."""
    return np.asarray(matrix[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)])


class _Sums:
    """Sums over units of standardised responses, or the patterns of a dissimilarity matrix."""

    def __init__(self, stimuli: int, are_rdms: bool) -> None:
        self._scores, self._number = np.zeros(stimuli), 0
        self._patterns = patterns_of(np.empty((stimuli, 0))) if are_rdms else None

    @property
    def units(self) -> int:
        """Number of units."""
        return self._number

    def add(self, values: Floats) -> None:
        """Add responses ``[stimulus, unit]``."""
        self._number += values.shape[1]
        if self._patterns is not None:
            self._patterns = extend(self._patterns, values)
        else:
            scores = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
            self._scores += scores.sum(axis=1)

    def values(self) -> Floats:
        """The mean response ``[stimulus]``, or dissimilarities ``[pair]``; NaN without units."""
        if self._patterns is None:
            found, fewest = self._scores / max(self._number, 1), 1
        else:
            stimuli = np.arange(len(self._scores))
            found, fewest = upper(correlation_distances(self._patterns), stimuli), _FEWEST_UNITS
        return found if self._number >= fewest else np.full_like(found, np.nan)


def _target(choice: str, categories: tuple[str, ...]) -> list[int]:
    """The categories that units were selected for; none if these are not of the recording."""
    try:
        return list(parse_contrast(choice, categories).target)
    except UserError:
        return []

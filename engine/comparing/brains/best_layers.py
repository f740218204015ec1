"""The layer that fits a region best, chosen and measured on different subjects or stimuli."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .regions import FEWEST_ITEMS, Region
from .standard import Correlation, Floats, among, standard


@dataclass(frozen=True)
class BestLayer:
    """The layer that fits a region best, chosen with cross-validation.

    For every subject and fold of the stimuli (a split), the layer with the largest correlation is
    chosen: the mean over the other subjects, on the stimuli of the other folds. It is measured on
    the subject and fold left out.

    Attributes
    ----------
    region : str
        The region.
    population : str
        The population of units.
    over : str
        What was left out in turn: ``subjects``, ``stimuli`` or ``subjects and stimuli``.
    layer : str
        The layer chosen most often.
    chosen : int
        Number of splits it was chosen for.
    splits : int
        Number of splits.
    correlation : float or None
        Mean over splits; None if a response is constant in one.
    """

    region: str
    population: str
    over: str
    layer: str
    chosen: int
    splits: int
    correlation: float | None


class Splits:
    """How subjects and stimuli are left out; ``folds [item]`` are None for categories."""

    def __init__(
        self, folds: NDArray[np.int64] | None, correlation: Correlation, are_rdms: bool
    ) -> None:
        self._folds, self._correlation, self._are_rdms = folds, correlation, are_rdms

    def over(self, subjects: int) -> str:
        """The name of what is left out; empty if nothing can be."""
        named = ["subjects"] * (subjects > 1) + ["stimuli"] * (self._folds is not None)
        return " and ".join(named)

    def correlations(self, region: Region, values: Floats) -> tuple[Floats, Floats]:
        """Of each column, by which the layer is chosen, and held out; both ``[split, column]``."""
        chosen_by, held_out = [], []
        for own, others in self._parts():
            left_out = self._by_subject(region, values, own)
            rest = left_out if others is None else self._by_subject(region, values, others)
            if len(rest) > 1:
                rest = (rest.sum(axis=0) - rest) / (len(rest) - 1)
            chosen_by.append(rest)
            held_out.append(left_out)
        return np.concatenate(chosen_by), np.concatenate(held_out)

    def _parts(self) -> Iterator[tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]]:
        """The items measured and those by which the layer is chosen; None for all."""
        if self._folds is None:
            yield None, None
            return
        for fold in np.unique(self._folds):
            yield self._folds == fold, self._folds != fold

    def _by_subject(
        self, region: Region, values: Floats, items: NDArray[np.bool_] | None
    ) -> Floats:
        """Correlations ``[subject, column]`` on some items."""
        own, columns = region.values, values
        if items is not None:
            own, columns = (among(part, items, self._are_rdms) for part in (own, columns))
        first, second = (standard(part, self._correlation) for part in (own, columns))
        return np.asarray(first @ second.T)


def usable_folds(folds: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Folds of the table's stimuli; None with fewer than two, or fewer than 3 stimuli in one."""
    names, counts = np.unique(folds, return_counts=True)
    return folds if len(names) > 1 and names[0] >= 0 and counts.min() >= FEWEST_ITEMS else None


def best_layer(
    names: tuple[str, str, str], layers: Sequence[str], chosen_by: Floats, held_out: Floats
) -> BestLayer:
    """The best layer of a region and population.

    Parameters
    ----------
    names : the region, the population and what is left out
    chosen_by, held_out : see :meth:`Splits.correlations`, of the population's ``layers``
    """
    best = np.where(np.isnan(chosen_by), -np.inf, chosen_by).argmax(axis=1)
    votes = np.bincount(best, minlength=len(layers))
    layer = int(votes.argmax())
    found = float(held_out[np.arange(len(best)), best].mean())
    mean = None if np.isnan(found) else found
    return BestLayer(*names, layers[layer], int(votes[layer]), len(best), mean)

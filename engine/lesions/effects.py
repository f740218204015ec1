"""Effects of lesions: mean changes by category, with intervals over resampled stimuli.

Every stimulus is shown with and without each lesion, so that changes are paired. Stimuli are drawn
with replacement within their category (the stratified bootstrap: Davison & Hinkley 1997, Bootstrap
Methods and their Application, 3.2), the same ones for all lesions; silenced units stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..analyses.resampling import Floats, interval, resample
from .result import Effect, LesionDifference


class Outcomes:
    """Values of the readout for every stimulus, intact and under every lesion.

    Takes 8 bytes for each stimulus, quantity and lesion (and the intact network), however often
    units are drawn.

    Attributes
    ----------
    labels : category of every stimulus ``[stimulus]``
    draws : number of draws of every lesion, by name
    intact : values ``[stimulus, quantity]``; NaN for stimuli that were not measured
    changes : lesioned less intact, means over draws ``[lesion, stimulus, quantity]``
    """

    def __init__(
        self, labels: NDArray[np.int32], categories: int, draws: Mapping[str, int], quantities: int
    ) -> None:
        self.labels, self.draws = labels, dict(draws)
        self.intact = np.full((len(labels), quantities), np.nan)
        self.changes = np.zeros((len(draws), len(labels), quantities))
        shape = categories, quantities
        self._sums = [np.zeros((number, *shape)) for number in draws.values()]

    def add_intact(self, stimuli: NDArray[np.int64], values: Floats) -> None:
        """Add intact values ``[row, quantity]`` of ``stimuli [row]``, each the part of a mean."""
        self.intact[stimuli] = np.nan_to_num(self.intact[stimuli]) + values

    def add(self, lesion: str, draw: int, stimuli: NDArray[np.int64], changes: Floats) -> None:
        """Add changes ``[row, quantity]`` by one draw of a lesion, each the part of a mean."""
        place = list(self.draws).index(lesion)
        self.changes[place, stimuli] += changes / self.draws[lesion]
        np.add.at(self._sums[place][draw], self.labels[stimuli], changes)

    @property
    def measured(self) -> int:
        """Number of stimuli that were measured."""
        return int((~np.isnan(self.intact[:, 0])).sum())

    def of(self, category: int, resamples: int, rng: np.random.Generator) -> _Measured | None:
        """Means of a category, and draws of its stimuli; None if none was measured."""
        rows = np.flatnonzero((self.labels == category) & ~np.isnan(self.intact[:, 0]))
        if not len(rows):
            return None
        intact = self.intact[rows]
        changes = np.moveaxis(self.changes[:, rows], 1, 0)
        drawn = resample(changes.reshape(len(rows), -1), resamples, rng) / len(rows)
        by_draw = [own[:, category] / len(rows) for own in self._sums]
        return _Measured(
            len(rows),
            intact.mean(axis=0),
            changes.mean(axis=0),
            drawn.reshape(resamples, *changes.shape[1:]),
            by_draw,
        )


@dataclass(frozen=True)
class _Measured:
    """Values of a category, or of categories times weights.

    ``intact [quantity]``, and changes: ``change [lesion, quantity]``, ``drawn [resample, lesion,
    quantity]`` and, for every lesion, ``by_draw [draw, quantity]``.
    """

    stimuli: int
    intact: Floats
    change: Floats
    drawn: Floats
    by_draw: Sequence[Floats]

    def __mul__(self, weight: float) -> _Measured:
        return _Measured(
            self.stimuli,
            weight * self.intact,
            weight * self.change,
            weight * self.drawn,
            [weight * one for one in self.by_draw],
        )

    def __add__(self, other: _Measured) -> _Measured:
        return _Measured(
            self.stimuli + other.stimuli,
            self.intact + other.intact,
            self.change + other.change,
            self.drawn + other.drawn,
            [own + its for own, its in zip(self.by_draw, other.by_draw, strict=True)],
        )

    def effect(self, quantity: str, place: int, category: str, lesion: int, name: str) -> Effect:
        """The row of one lesion; ``place`` is that of the quantity."""
        low, high = _interval(self.drawn[:, lesion, place])
        draws = self.by_draw[lesion][:, place].tolist()
        several = len(draws) > 1
        intact, change = float(self.intact[place]), float(self.change[lesion, place])
        return Effect(
            quantity, name, category, self.stimuli, intact, intact + change, change, low, high,
            min(draws) if several else None, max(draws) if several else None,
        )  # fmt: skip

    def difference(
        self, quantity: str, place: int, category: str, control: int, name: str
    ) -> LesionDifference:
        """The first lesion less another one."""
        value = float(self.change[0, place] - self.change[control, place])
        low, high = _interval(self.drawn[:, 0, place] - self.drawn[:, control, place])
        return LesionDifference(quantity, name, category, value, low, high)


@dataclass(frozen=True)
class Contrasted:
    """The contrast of a lesion as a row beside those of categories: its name and weights."""

    name: str
    weights: Mapping[int, float]


def effects_of(
    outcomes: Outcomes,
    quantities: Sequence[str],
    categories: Sequence[str],
    contrasted: Contrasted | None,
    resamples: int,
    seed: int,
) -> tuple[tuple[Effect, ...], tuple[LesionDifference, ...]]:
    """Effects of every lesion, and how the first one differs from the others.

    Rows are in the order of quantities, categories and lesions, the contrast last. ``seed`` draws
    the ``resamples`` of stimuli.
    """
    effects: list[Effect] = []
    differences: list[LesionDifference] = []
    for category, one in _measured(outcomes, categories, contrasted, resamples, seed):
        for place, quantity in enumerate(quantities):
            about = quantity, place, category
            for lesion, name in enumerate(outcomes.draws):
                effects.append(one.effect(*about, lesion, name))
                if lesion:
                    differences.append(one.difference(*about, lesion, name))
    order = {quantity: place for place, quantity in enumerate(quantities)}
    return (
        tuple(sorted(effects, key=lambda row: order[row.quantity])),
        tuple(sorted(differences, key=lambda row: order[row.quantity])),
    )


def _measured(
    outcomes: Outcomes,
    categories: Sequence[str],
    contrasted: Contrasted | None,
    resamples: int,
    seed: int,
) -> Iterator[tuple[str, _Measured]]:
    """Every category that was measured, one at a time in memory, then the contrast."""
    whole: _Measured | None = None
    known = set()
    for number, category in enumerate(categories):
        rng = np.random.default_rng([seed, *category.encode()])
        one = outcomes.of(number, resamples, rng)
        if one is None:
            continue
        known.add(number)
        yield category, one
        if contrasted and number in contrasted.weights:
            part = one * contrasted.weights[number]
            whole = part if whole is None else whole + part
    if contrasted and whole and contrasted.weights.keys() <= known:
        yield contrasted.name, whole


def _interval(values: Floats) -> tuple[float, float]:
    low, high = interval(values)
    assert low is not None
    assert high is not None
    return low, high

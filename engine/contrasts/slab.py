"""Values of a slab's units under a criterion, and the decisions that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .language.criterion import Test
from .language.rule import Condition
from .sample import Floats

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """The units of a flattened layer that meet a criterion.

    ``selective [contrast, unit]`` is on all stimuli, ``selective_fold [contrast, fold, unit]`` on
    the stimuli of each fold. ``dead [unit]`` are constant over all stimuli; ``nonfinite [unit]``
    gave NaN or infinity for some stimulus and are never selective.
    """

    selective: Mask
    selective_fold: Mask
    dead: Mask
    nonfinite: Mask


class StoredMeasure(NamedTuple):
    """A measure on all stimuli to store as ``variable``, with its own test."""

    variable: str
    test: Test
    measure: str


class SmallPValues(NamedTuple):
    """The p-values below a level of every test on every sample; all others count as 1.

    ``units`` and their ``p`` are concatenated over tests and samples, each ending at its ``stops
    [sample, test]``; ``tested [sample, test]`` is the number of units tested.
    """

    units: NDArray[np.int32]
    p: Floats
    stops: NDArray[np.int64]
    tested: NDArray[np.int64]

    def bounds(self, sample: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and stop ``[test]`` of every test's part on one sample."""
        stops = self.stops[sample]
        first = self.stops[sample - 1, -1] if sample else 0
        return np.concatenate([[first], stops[:-1]]), stops

    def of(self, sample: int) -> Iterator[tuple[int, NDArray[np.int32], Floats]]:
        """Every test that has any on one sample, with their units and p."""
        starts, stops = self.bounds(sample)
        for test in np.flatnonzero(stops > starts).tolist():
            part = slice(starts[test], stops[test])
            yield test, self.units[part], self.p[part]


@dataclass
class SlabValues:
    """Values of a slab's units for every sample of the stimuli and every test.

    ``columns [sample, test, unit]`` hold a mask for each condition, or the values for a top.
    ``small_p`` turns from p to q, and values into masks, when the family is settled; of the top of
    the model, ``leading [sample, test]`` then lists the units. ``stored`` measures are ``[contrast,
    unit]``.
    """

    columns: dict[Condition, NDArray[Any]]
    small_p: SmallPValues | None
    stored: dict[str, NDArray[Any]]
    dead: Mask
    nonfinite: Mask
    samples: int
    leading: dict[Condition, dict[tuple[int, ...], NDArray[np.int64]]] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.dead)


class Decision(NamedTuple):
    """The outcome for a slab: its selection, and q ``[contrast, unit]`` if it is stored."""

    selection: Selection
    q: NDArray[np.float32] | None

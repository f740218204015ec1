"""Held-out measures: units selected on one fold and measured on all others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """A measure of units selected on one fold and measured on all others, for all folds.

    A unit counts once for every fold that selects it. Only finite values are kept, in the order of
    contrasts, folds and units: ``measured [value]``, each with its ``contrast`` and ``channel``
    (its feature map). ``shape`` is the number of contrasts and of feature maps.
    """

    shape: tuple[int, int]
    contrast: Counts
    channel: Counts
    measured: Floats

    @cached_property
    def values(self) -> tuple[NDArray[np.float32], ...]:
        """The values of every contrast."""
        ends = np.cumsum(self.units)[:-1]
        return tuple(np.split(self.measured.astype(np.float32), ends))

    @cached_property
    def units(self) -> Counts:
        """Number of values ``[contrast]``."""
        return np.asarray(np.bincount(self.contrast, minlength=self.shape[0]), np.int64)

    @cached_property
    def sums(self) -> Floats:
        """Sum of the values ``[contrast]``."""
        contrast, _, _, total = self.cells
        return np.asarray(np.bincount(contrast, total, self.shape[0]))

    @cached_property
    def cells(self) -> tuple[Counts, Counts, Counts, Floats]:
        """Contrasts and feature maps with values: their number and sum, each ``[cell]``."""
        keys = self.contrast * self.shape[1] + self.channel
        cells, place = np.unique(keys, return_inverse=True)
        number = np.asarray(np.bincount(place, minlength=len(cells)), np.int64)
        total = np.asarray(np.bincount(place, self.measured, len(cells)), np.float64)
        return cells // self.shape[1], cells % self.shape[1], number, total


class HeldOutValues:
    """Accumulates a held-out measure."""

    def __init__(self, contrasts: int, maps: int) -> None:
        self._shape = contrasts, maps
        self._parts: list[tuple[tuple[int, int], Counts, Floats]] = []

    def add(self, contrast: int, fold: int, channels: Counts, values: Floats) -> None:
        """Add the finite ``values [unit]`` of units in the feature maps ``channels``."""
        known = np.isfinite(values)
        self._parts.append(((contrast, fold), channels[known], values[known]))

    def joined(self) -> HeldOut:
        """All values, contrast by contrast and fold by fold, independent of the slabs."""
        parts = sorted(self._parts, key=lambda part: part[0])
        contrasts = [np.full(len(values), contrast) for (contrast, _), _, values in parts]
        none = np.empty(0)
        return HeldOut(
            self._shape,
            np.concatenate([none, *contrasts]).astype(np.int64),
            np.concatenate([none, *(channels for _, channels, _ in parts)]).astype(np.int64),
            np.concatenate([none, *(values for *_, values in parts)]),
        )

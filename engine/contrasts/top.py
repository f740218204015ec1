"""The largest values of a layer or a model; the first of ties win."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .language.rule import Top
from .sample import Floats
from .slab import SlabValues

Places = NDArray[np.int64]


def largest(values: Floats, size: int) -> Places:
    """Indices, in order, of the ``size`` largest values; NaN is never among them."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) <= size:
        return known
    own = values[known]
    least = np.partition(own, len(own) - size)[len(own) - size] if size else np.inf
    chosen = own > least
    tied = np.flatnonzero(own == least)
    chosen[tied[: size - np.count_nonzero(chosen)]] = True
    return known[chosen]


class Leaders:
    """The ``size`` largest of values that are added part by part.

    Holds about twice as many values at most: those that cannot be among the largest are dropped.
    """

    def __init__(self, size: int) -> None:
        self._size, self._added, self._held = size, 0, 0
        self._parts: list[tuple[Places, Floats]] = [(np.empty(0, np.int64), np.empty(0))]
        # Later values must exceed this one: those up to here already lead.
        self._least: float | None = None

    def add(self, values: Floats) -> None:
        """Add values; NaN is never among the largest."""
        new = np.flatnonzero(~np.isnan(values) if self._least is None else values > self._least)
        self._parts.append((self._added + new, values[new]))
        self._added += len(values)
        self._held += len(new)
        if self._held > 2 * self._size:
            self._drop()

    def places(self) -> Places:
        """Indices of the largest, in the order in which values were added."""
        self._drop()
        return self._parts[0][0]

    def _drop(self) -> None:
        """Keep the largest values only."""
        places, values = map(np.concatenate, zip(*self._parts, strict=True))
        kept = largest(values, self._size)
        self._parts, self._held = [(places[kept], values[kept])], len(kept)
        if len(kept) == self._size:
            self._least = float(values[kept].min(initial=np.inf))


def find_top(layer: Sequence[SlabValues], top: Top) -> None:
    """Turn values into masks of a layer's largest values."""
    stops = np.cumsum([slab.units for slab in layer])
    masks = [np.zeros(slab.columns[top].shape, np.bool_) for slab in layer]
    for row in np.ndindex(masks[0].shape[:2]):
        chosen = np.zeros(stops[-1], np.bool_)
        values = np.concatenate([_ranked(slab, top, row) for slab in layer])
        chosen[largest(values, top.of(len(values)))] = True
        for mask, own in zip(masks, np.split(chosen, stops[:-1]), strict=True):
            mask[row] = own
    for slab, mask in zip(layer, masks, strict=True):
        slab.columns[top] = mask


class TopOfModel:
    """The top of the ``units`` of all layers, whose slabs are added in order."""

    def __init__(self, top: Top, units: int) -> None:
        self._top, self._size = top, top.of(units)
        self._leaders: dict[tuple[int, ...], Leaders] = {}

    def add(self, slab: SlabValues) -> None:
        """Take the values out of a slab; those that may be among the largest are kept here."""
        for row in np.ndindex(slab.columns[self._top].shape[:2]):
            leaders = self._leaders.setdefault(row, Leaders(self._size))
            leaders.add(_ranked(slab, self._top, row))
        del slab.columns[self._top]

    def settle(self, slabs: Sequence[SlabValues]) -> None:
        """List the units of the top in each of the slabs that were added."""
        stops = np.cumsum([slab.units for slab in slabs])
        for slab in slabs:
            slab.leading[self._top] = {}
        for row, leaders in self._leaders.items():
            places = leaders.places()
            parts = np.split(places, np.searchsorted(places, stops[:-1]))
            for slab, stop, own in zip(slabs, stops, parts, strict=True):
                slab.leading[self._top][row] = own - (stop - slab.units)


def _ranked(slab: SlabValues, top: Top, row: tuple[int, ...]) -> Floats:
    """The values of a sample and test, NaN for units that are never selective."""
    return np.where(slab.nonfinite, np.nan, slab.columns[top][row])

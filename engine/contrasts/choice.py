"""Choices of units: selected by a criterion, ranked by a measure, or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..errors import UserError, nearest
from ..layer import Layer
from ..limits import refuse_numbers
from ..registry import MEASURES
from ..store.store_reader import StoreReader
from .language.contrast import Contrast, parse_contrasts
from .language.criterion import DEFAULT, Criterion
from .measures import Measured
from .sample import Sample
from .select import select_slabs
from .slab import Selection

# Measures that cannot rank units: they depend on other units, or have no order.
_NO_ORDER = ("q", "p_null", "preferred_category")
# Measures ranked from the smallest value.
_ASCENDING = ("p", "log10_p", "p_f")

Units = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """Units of layers, chosen in one or several named ways.

    ``units [unit]`` by layer are sorted indices in the flattened layer; ``chosen [choice, unit]``
    marks the units of each of ``names``.
    """

    names: tuple[str, ...]
    units: Mapping[str, Units]
    chosen: Mapping[str, NDArray[np.bool_]]

    def within(self, layers: Sequence[str]) -> Choice:
        """The choice restricted to some layers."""
        own = [name for name in self.units if name in layers]
        return replace(
            self,
            units={name: self.units[name] for name in own},
            chosen={name: self.chosen[name] for name in own},
        )


def joined(choices: Sequence[tuple[str, Mapping[str, Units]]]) -> Choice:
    """The union of several choices; layers without chosen units are left out."""
    names = tuple(name for name, _ in choices)
    layers = dict.fromkeys(layer for _, units in choices for layer in units)
    units, chosen = {}, {}
    nothing = np.empty(0, np.int64)
    for layer in layers:
        parts = [own.get(layer, nothing) for _, own in choices]
        together = np.unique(np.concatenate(parts))
        if len(together):
            units[layer] = together
            chosen[layer] = np.stack([np.isin(together, part) for part in parts])
    return Choice(names, units, chosen)


def choose_units(
    store: StoreReader,
    contrasts: str | Sequence[str] | None = None,
    criterion: Criterion | None = DEFAULT,
    top: int | None = None,
    by: str = "t",
    layers: str | Sequence[str] = "*",
) -> list[tuple[str, dict[str, Units]]]:
    """The units that a criterion selects for each contrast, by layer, or the top of them.

    Parameters
    ----------
    contrasts : see :mod:`.language.contrast`; by default every category
    criterion : applied to all stimuli; None for all units that are neither dead nor nonfinite
    top : keep this many units per layer and contrast, those with the largest measure; the first of
        ties
    by : the measure, computed by the criterion's test
    layers : names or globs of layers

    Raises
    ------
    UserError : the scan has not finished; a layer, measure or category is unknown
    """
    refuse_numbers(top=top)
    if top is not None and top < 1:
        raise UserError(f"the top is at least 1 unit of a layer; got {top}")
    if by not in MEASURES or by in _NO_ORDER:
        known = [name for name in MEASURES if name not in _NO_ORDER]
        raise UserError(f"units are ranked by a measure of the unit alone; got {by!r}: "
                        f"{nearest(by, known)}")  # fmt: skip
    parsed = parse_contrasts(contrasts, store.categories)
    named = store.layers_named(layers)
    rule = criterion or DEFAULT
    found: list[dict[str, Units]] = [{} for _ in parsed]
    for layer, slabs in select_slabs(store, rule, parsed, named):
        rankings = [_Ranking(contrast, rule, top, by) for contrast in parsed]
        for (slab, flat), selection in zip(store.slabs(layer), slabs, strict=True):
            for index, ranking in enumerate(rankings):
                pool = _pool(selection, index if criterion else None)
                if pool.any():
                    ranking.add(store.moments(layer, slab) if top else [], pool, flat.start)
        for own, ranking in zip(found, rankings, strict=True):
            own[layer.name] = ranking.units
    return [(contrast.text, own) for contrast, own in zip(parsed, found, strict=True)]


def draw_units(layers: Sequence[Layer], number: int, seed: int) -> dict[str, Units]:
    """``number`` random units of every layer, or all if it has fewer.

    They depend on ``seed``, and on the name and number of units of the layer.

    Raises
    ------
    UserError : the number is not at least 1
    """
    refuse_numbers(random=number)
    if number < 1:
        raise UserError(f"a random choice has at least 1 unit of every layer; got {number}")
    drawn = {}
    for layer in layers:
        rng = np.random.default_rng([seed, layer.units, *layer.name.encode()])
        size = min(number, layer.units)
        drawn[layer.name] = np.sort(rng.choice(layer.units, size, replace=False)).astype(np.int64)
    return drawn


def _pool(selection: Selection, index: int | None) -> NDArray[np.bool_]:
    if index is None:
        return ~(selection.dead | selection.nonfinite)
    return np.asarray(selection.selective[index])


class _Ranking:
    """The top units of a layer by a measure, among those added slab by slab."""

    def __init__(self, contrast: Contrast, criterion: Criterion, top: int | None, by: str) -> None:
        self._contrast, self._criterion, self._top, self._by = contrast, criterion, top, by
        self._units: Units = np.empty(0, np.int64)
        self._keys = np.empty(0)

    def add(self, moments: Sequence[Moments], pool: NDArray[np.bool_], first: int) -> None:
        """Add the units of a slab whose first unit is ``first``."""
        units = np.flatnonzero(pool)
        self._units = np.concatenate([self._units, first + units])
        if self._top is None:
            return
        parts = [Moments(part.count, part.mean[:, pool], part.m2[:, pool]) for part in moments]
        with np.errstate(all="ignore"):
            sample = Sample(reduce(merge, parts))
            values = Measured(sample, self._contrast, self._criterion).measure(self._by)
        keys = np.concatenate([self._keys, values if self._by in _ASCENDING else -values])
        best = np.argsort(keys, kind="stable")[: self._top]  # NaN comes last
        best = best[~np.isnan(keys[best])]
        self._units, self._keys = self._units[best], keys[best]

    @property
    def units(self) -> Units:
        """Sorted indices of the units in the flattened layer."""
        return np.sort(self._units)

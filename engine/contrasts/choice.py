"""Choosing units of a store: those that a criterion selects, or that have most of a measure."""

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
from ..store.reading import Store
from ..variables import MEASURES
from .evaluate import Selection
from .language.contrast import Contrast, parse_contrasts
from .language.criterion import DEFAULT, Criterion
from .measures import Measured, Sample
from .select import select_slabs

# Measures by which units cannot be ranked: they depend on others, or have no order.
_NO_ORDER = ("q", "p_null", "preferred_category")
# Of p the least counts as most.
_LEAST = ("p", "log10_p", "p_f")

Units = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """Units of layers, chosen by one or several things with a name.

    ``units [unit]`` by layer are places in the flat layer, in its order; ``chosen [choice, unit]``
    says which of ``names`` has chosen each.
    """

    names: tuple[str, ...]
    units: Mapping[str, Units]
    chosen: Mapping[str, NDArray[np.bool_]]

    def within(self, layers: Sequence[str]) -> Choice:
        """What is chosen of some layers."""
        own = [name for name in self.units if name in layers]
        return replace(
            self,
            units={name: self.units[name] for name in own},
            chosen={name: self.chosen[name] for name in own},
        )


def joined(choices: Sequence[tuple[str, Mapping[str, Units]]]) -> Choice:
    """The units of several choices together; layers of which none has any are left out."""
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
    store: Store,
    contrasts: str | Sequence[str] | None = None,
    criterion: Criterion | None = DEFAULT,
    top: int | None = None,
    by: str = "t",
    layers: str | Sequence[str] = "*",
) -> list[tuple[str, dict[str, Units]]]:
    """The units that a criterion selects for each contrast, by layer; or those with most of them.

    Parameters
    ----------
    contrasts : as :mod:`.language.contrast` reads them; by default every category
    criterion : of all stimuli; None for all units that are neither dead nor nonfinite
    top : so many of each layer and contrast, with the most of a measure, of equals the first
    by : the measure, by the criterion's test
    layers : names or globs

    Raises
    ------
    UserError : the scan has not finished, there is no such layer, measure or category
    """
    refuse_numbers(top=top)
    if top is not None and top < 1:
        raise UserError(f"the top is at least 1 unit of a layer; got {top}")
    if by not in MEASURES or by in _NO_ORDER:
        known = [name for name in MEASURES if name not in _NO_ORDER]
        raise UserError(f"units are ranked by a measure of their own; got {by!r}: "
                        f"{nearest(by, known)}")  # fmt: skip
    asked = parse_contrasts(contrasts, store.categories)
    wanted = store.layers_named(layers)
    rule = criterion or DEFAULT
    found: list[dict[str, Units]] = [{} for _ in asked]
    for layer, slabs in select_slabs(store, rule, asked, wanted):
        ranked = [_Ranked(contrast, rule, top, by) for contrast in asked]
        for (slab, flat), selection in zip(store.slabs(layer), slabs, strict=True):
            for index, one in enumerate(ranked):
                pool = _pool(selection, index if criterion else None)
                if pool.any():
                    one.add(store.moments(layer, slab) if top else [], pool, flat.start)
        for own, one in zip(found, ranked, strict=True):
            own[layer.name] = one.units
    return [(contrast.text, own) for contrast, own in zip(asked, found, strict=True)]


def draw_units(layers: Sequence[Layer], number: int, seed: int) -> dict[str, Units]:
    """So many units of every layer, or all it has, drawn at random before anything is seen.

    Those of a layer depend on ``seed``, its name and its number of units.

    Raises
    ------
    UserError : the number is none
    """
    refuse_numbers(random=number)
    if number < 1:
        raise UserError(f"at least 1 unit of every layer is drawn; got {number}")
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


class _Ranked:
    """The units of a layer with the most of a measure, of those that were added slab by slab."""

    def __init__(self, contrast: Contrast, criterion: Criterion, top: int | None, by: str) -> None:
        self._contrast, self._criterion, self._top, self._by = contrast, criterion, top, by
        self._units: Units = np.empty(0, np.int64)
        self._keys = np.empty(0)

    def add(self, moments: Sequence[Moments], pool: NDArray[np.bool_], first: int) -> None:
        """Add the units of a slab that begins with unit ``first``."""
        units = np.flatnonzero(pool)
        self._units = np.concatenate([self._units, first + units])
        if self._top is None:
            return
        parts = [Moments(part.count, part.mean[:, pool], part.m2[:, pool]) for part in moments]
        with np.errstate(all="ignore"):
            sample = Sample(reduce(merge, parts))
            values = Measured(sample, self._contrast, self._criterion).measure(self._by)
        keys = np.concatenate([self._keys, values if self._by in _LEAST else -values])
        best = np.argsort(keys, kind="stable")[: self._top]  # NaN comes last
        best = best[~np.isnan(keys[best])]
        self._units, self._keys = self._units[best], keys[best]

    @property
    def units(self) -> Units:
        """Their places in the flat layer, in its order."""
        return np.sort(self._units)

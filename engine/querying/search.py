"""Search for units that meet a rule, chunk by chunk.

Chunks whose extremes exclude a match are not read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..contrasts.language.rule import PROBABILITIES, Comparison, Condition, Rule, Top
from ..layer import Layer
from ..store.reader import map_ahead
from ..store.store_reader import Extremes, StoreReader
from .chunks import Chunk, Part, QueriedContrast, Source, Units, parts_of

T = TypeVar("T")
U = TypeVar("U")
# Threads that read chunks; the codecs have their own.
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Matches:
    """The matching ``units`` of a chunk, as indices in it, under one contrast."""

    chunk: Chunk
    contrast: QueriedContrast
    units: Units


class Search:
    """Search of a rule in units of ``layers`` under contrasts; ``parts`` are their chunks."""

    def __init__(
        self,
        store: StoreReader,
        layers: Sequence[Layer],
        source: Source,
        contrasts: Sequence[QueriedContrast],
        rule: Rule,
    ) -> None:
        self._store, self._source = store, source
        self._layers, self._contrasts, self._rule = layers, contrasts, rule
        self._dims = {dim for layer in layers for dim in layer.dims}

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All chunks of the layers."""
        return tuple(parts_of(self._store, self._layers))

    def map(self, parts: Iterable[Part], function: Callable[[Matches], T]) -> Iterator[T]:
        """``function`` of the matches in every chunk and contrast, in order; threads read ahead."""

        def search(part: Part) -> list[T]:
            possible = [c for c in self._contrasts if self._possible(self._bounds(part, c))]
            chunk = Chunk(self._store, self._source, part, len(possible))
            found = [Matches(chunk, one, self._matching(chunk, one)) for one in possible]
            return [function(one) for one in found if len(one.units)]

        for results in map_ahead(search, parts, _THREADS):
            yield from results

    def best(self, size: int, by: str) -> list[Matches]:
        """The ``size`` matching units with the largest measure (p and q: the smallest), singly.

        Chunks are visited in the order of their extremes, until none can hold a better unit.
        """
        sign = 1.0 if by in PROBABILITIES else -1.0
        best = np.empty((0, 4))  # signed value, part, contrast, unit
        chunks: dict[float, Chunk] = {}
        pairs = list(product(range(len(self.parts)), self._contrasts))
        bounds = [self._least(self.parts[number], one, by, sign) for number, one in pairs]
        for index in np.argsort(bounds, kind="stable"):
            worst = best[-1, 0] if len(best) == size else np.inf
            if bounds[index] > worst or bounds[index] == np.inf:
                break
            number, contrast = pairs[index]
            chunk = chunks.get(number) or Chunk(self._store, self._source, self.parts[number], 1)
            units = self._matching(chunk, contrast)
            if not len(units):
                continue
            values = sign * chunk.values(by, contrast, units)
            units, values = units[values <= worst], values[values <= worst]  # drops NaN
            own = np.empty((len(units), 4))
            own[:, 0], own[:, 1:3], own[:, 3] = values, (number, contrast.number), units
            best = np.concatenate([best, own])
            best = best[np.lexsort(best.T[::-1])][:size]
            chunks[number] = chunk
            chunks = {kept: chunks[kept] for kept in best[:, 1]}
        return [
            Matches(chunks[number], self._contrasts[int(k)], np.array([int(unit)]))
            for _, number, k, unit in best
        ]

    def mask(self, part: Part) -> NDArray[np.bool_]:
        """Whether each unit of a chunk matches ``[contrast, *its dims]``."""
        mask = np.zeros((len(self._contrasts), part.units.stop - part.units.start), np.bool_)
        for found in self.map([part], lambda found: found):
            mask[found.contrast.number, found.units] = True
        return mask.reshape(len(mask), *(one.stop - one.start for one in part.slab))

    def _matching(self, chunk: Chunk, contrast: QueriedContrast) -> Units:
        """Indices of the matching units of a chunk."""
        found = self._filter(None, self._rule, chunk, contrast)
        return np.arange(chunk.size) if found is None else found

    def _filter(
        self, chosen: Units | None, part: Rule | Condition, chunk: Chunk, contrast: QueriedContrast
    ) -> Units | None:
        """The ``chosen`` units (None for all) that meet a rule.

        Conditions of an ``and`` are evaluated for the units that met the previous ones.
        """
        if chosen is not None and not len(chosen):
            return chosen  # nothing needs to be read
        if not isinstance(part, Rule):
            assert not isinstance(part, Top)  # not in the vocabulary
            if part.measure in self._dims and part.measure not in chunk.layer.dims:
                return np.empty(0, np.int64)
            met = np.flatnonzero(part.holds(chunk.values(part.measure, contrast, chosen)))
            return met if chosen is None else chosen[met]
        if part.joined_by == "and":
            for one in part.parts:
                chosen = self._filter(chosen, one, chunk, contrast)
            return chosen
        ways = [self._filter(chosen, one, chunk, contrast) for one in part.parts]
        return ways[0] if len(ways) == 1 else np.unique(np.concatenate(ways))  # type: ignore[arg-type]

    def _possible(self, bounds: _Bounds, part: Rule | Condition | None = None) -> bool:
        """Whether a unit within these bounds could match."""
        part = self._rule if part is None else part
        if isinstance(part, Rule):
            ways = (self._possible(bounds, one) for one in part.parts)
            return all(ways) if part.joined_by == "and" else any(ways)
        known = bounds.of(part.measure)
        if known is None or not isinstance(part, Comparison):
            return True
        low, high = known
        if part.sign == "==":
            return bool(low <= part.value <= high)
        return bool(part.holds(high if part.sign in (">", ">=") else low))

    def _bounds(self, part: Part, contrast: QueriedContrast) -> _Bounds:
        return _Bounds(self._extremes[part.layer], part, contrast)

    @cached_property
    def _extremes(self) -> dict[Layer, Extremes]:
        saved = self._source.saved
        return {layer: self._store.extremes(layer, saved) for layer in self._layers}

    def _least(self, part: Part, contrast: QueriedContrast, by: str, sign: float) -> float:
        """The best signed value that a unit of a chunk could have; infinite if none can match."""
        bounds = self._bounds(part, contrast)
        if not self._possible(bounds):
            return np.inf
        known = bounds.of(by)
        if known is None:
            return -np.inf
        return float(min(sign * known[0], sign * known[1]))


class _Bounds:
    """Bounds on the values of a chunk's units, from stored extremes."""

    def __init__(self, extremes: Extremes, part: Part, contrast: QueriedContrast) -> None:
        self._extremes = extremes if contrast.stored else {}
        self._part = part
        self._index = (part.number,) if contrast.row is None else (contrast.row, part.number)

    def of(self, name: str) -> tuple[Any, Any] | None:
        """The smallest and largest value, in the type of the comparison.

        NaN if there are no values; None if the extremes are unknown.
        """
        layer, slab = self._part.layer, self._part.slab
        if name in layer.dims:
            axis = layer.dims.index(name)
            return slab[axis].start, slab[axis].stop - 1
        if name not in self._extremes:
            return None
        low, high = self._extremes[name]
        return low[self._index], high[self._index]

"""Looking for units that meet a rule, chunk by chunk.

A chunk whose extremes say that none of its units can match is not read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..contrasts.language.rule import PROBABILITIES, Comparison, Condition, Rule, Top
from ..layer import Layer
from ..store.reading import Extremes, Store
from .chunks import Asked, Chunk, Part, Source, Units, parts_of

T = TypeVar("T")
U = TypeVar("U")
# Readers at work; what decodes uses threads of its own.
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Found:
    """Units of a chunk that match, counted from the chunk's first, under one contrast."""

    chunk: Chunk
    asked: Asked
    units: Units


class Search:
    """A rule on units of ``layers`` under contrasts; ``parts`` are the chunks to go through."""

    def __init__(
        self,
        store: Store,
        layers: Sequence[Layer],
        source: Source,
        asked: Sequence[Asked],
        rule: Rule,
    ) -> None:
        self._store, self._source = store, source
        self._layers, self._asked, self._rule = layers, asked, rule
        self._dims = {dim for layer in layers for dim in layer.dims}

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All chunks of the layers."""
        return tuple(parts_of(self._store, self._layers))

    def found(self, parts: Iterable[Part], result: Callable[[Found], T]) -> Iterator[T]:
        """``result`` of what matches in every chunk and contrast, in order, some at work ahead."""

        def search(part: Part) -> list[T]:
            possible = [a for a in self._asked if self._possible(self._bounds(part, a))]
            chunk = Chunk(self._store, self._source, part, len(possible))
            found = [Found(chunk, asked, self._matching(chunk, asked)) for asked in possible]
            return [result(one) for one in found if len(one.units)]

        for results in _ahead(search, parts):
            yield from results

    def best(self, size: int, by: str) -> list[Found]:
        """The matching units with the most of a measure (of p and q: the least), one by one.

        Chunks are gone through in the order of their extremes, as far as they can hold one of them.
        """
        sign = 1.0 if by in PROBABILITIES else -1.0
        best = np.empty((0, 4))  # signed value, part, contrast, unit
        chunks: dict[float, Chunk] = {}
        pairs = list(product(range(len(self.parts)), self._asked))
        least = [self._least(self.parts[number], asked, by, sign) for number, asked in pairs]
        for place in np.argsort(least, kind="stable"):
            worst = best[-1, 0] if len(best) == size else np.inf
            if least[place] > worst or least[place] == np.inf:
                break  # nor can any that follows hold one
            number, asked = pairs[place]
            chunk = chunks.get(number) or Chunk(self._store, self._source, self.parts[number], 1)
            units = self._matching(chunk, asked)
            if not len(units):
                continue
            values = sign * chunk.values(by, asked, units)
            units, values = units[values <= worst], values[values <= worst]  # NaN is not
            own = np.empty((len(units), 4))
            own[:, 0], own[:, 1:3], own[:, 3] = values, (number, asked.number), units
            best = np.concatenate([best, own])
            best = best[np.lexsort(best.T[::-1])][:size]
            chunks[number] = chunk
            chunks = {kept: chunks[kept] for kept in best[:, 1]}
        return [
            Found(chunks[number], self._asked[int(k)], np.array([int(unit)]))
            for _, number, k, unit in best
        ]

    def mask(self, part: Part) -> NDArray[np.bool_]:
        """Where units of a chunk match ``[contrast, *its dims]``."""
        mask = np.zeros((len(self._asked), part.units.stop - part.units.start), np.bool_)
        for found in self.found([part], lambda found: found):
            mask[found.asked.number, found.units] = True
        return mask.reshape(len(mask), *(one.stop - one.start for one in part.slab))

    def _matching(self, chunk: Chunk, asked: Asked) -> Units:
        """The units of a chunk that match, counted from its first."""
        found = self._among(None, self._rule, chunk, asked)
        return np.arange(chunk.size) if found is None else found

    def _among(
        self, chosen: Units | None, part: Rule | Condition, chunk: Chunk, asked: Asked
    ) -> Units | None:
        """Those of ``chosen`` units (None for all) that meet a rule.

        What comes later in an ``and`` is looked at only for units that met what came before.
        """
        if chosen is not None and not len(chosen):
            return chosen  # without reading anything
        if not isinstance(part, Rule):
            assert not isinstance(part, Top)  # not in the vocabulary
            if part.measure in self._dims and part.measure not in chunk.layer.dims:
                return np.empty(0, np.int64)
            met = np.flatnonzero(part.holds(chunk.values(part.measure, asked, chosen)))
            return met if chosen is None else chosen[met]
        if part.joined_by == "and":
            for one in part.parts:
                chosen = self._among(chosen, one, chunk, asked)
            return chosen
        ways = [self._among(chosen, one, chunk, asked) for one in part.parts]
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

    def _bounds(self, part: Part, asked: Asked) -> _Bounds:
        return _Bounds(self._extremes[part.layer], part, asked)

    @cached_property
    def _extremes(self) -> dict[Layer, Extremes]:
        saved = self._source.saved
        return {layer: self._store.extremes(layer, saved) for layer in self._layers}

    def _least(self, part: Part, asked: Asked, by: str, sign: float) -> float:
        """The best signed value that a unit of a chunk could have; infinite if none can match."""
        bounds = self._bounds(part, asked)
        if not self._possible(bounds):
            return np.inf
        known = bounds.of(by)
        if known is None:
            return -np.inf
        return float(min(sign * known[0], sign * known[1]))


class _Bounds:
    """Between what values the units of a chunk lie, as far as that is known without reading it."""

    def __init__(self, extremes: Extremes, part: Part, asked: Asked) -> None:
        self._extremes = extremes if asked.stored else {}
        self._part = part
        self._place = (part.number,) if asked.row is None else (asked.row, part.number)

    def of(self, name: str) -> tuple[Any, Any] | None:
        """The least and the largest value, of the type in which units are compared.

        NaN where there is none; None where it is not known.
        """
        layer, slab = self._part.layer, self._part.slab
        if name in layer.dims:
            axis = layer.dims.index(name)
            return slab[axis].start, slab[axis].stop - 1
        if name not in self._extremes:
            return None
        low, high = self._extremes[name]
        return low[self._place], high[self._place]


def _ahead(work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """``work`` of every item, in order, with as many under way as there are threads."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="query") as pool:
        under_way: deque[Future[U]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > _THREADS:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

"""Search for units that meet a rule, block by block.

Contrasts that the extremes of a chunk exclude are not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..blocks import block_of
from ..contrasts.language.rule import PROBABILITIES, Comparison, Condition, Rule, Top
from ..layer import Layer
from ..store.reader import map_ahead
from ..store.store_reader import Extremes, StoreReader
from .block import Block, Chunk, Pairs
from .chunks import CONDITIONS, Part, QueriedContrast, Source, parts_of

T = TypeVar("T")
Mask = NDArray[np.bool_]
# Stands for a column per category, with the mean response to it.
MEANS = "means"
# Bytes of a pair while a rule is evaluated.
_EVALUATED = 32
# Bytes per category and unit of a chunk: a stored variable; moments of a fold; those of all stimuli
# and of the other categories, and what is computed from them.
_STORED, _FOLD, _COMPUTED = 4, 16, 64
# Layers whose extremes are kept, and bytes of the chunks with the best units so far.
_KEPT, _KEPT_BYTES = 64, 64 * 2**20


@dataclass(frozen=True)
class Matches:
    """The matching ``pairs`` of a block, ascending."""

    block: Block
    pairs: Pairs

    @property
    def contrasts(self) -> NDArray[np.int32]:
        """The number of every pair's contrast."""
        return self.block.contrasts(self.pairs)

    @property
    def units(self) -> NDArray[np.int64]:
        """Index in the chunk of every pair's unit."""
        return self.pairs % self.block.size

    def values(self, name: str) -> NDArray[Any]:
        """A measure, flag or coordinate of every pair."""
        return self.block.values(name, self.pairs)


class Search:
    """Search of a rule in units of ``layers`` under contrasts."""

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
        self._placed = store.coordinates
        self._extremes: dict[Layer, Extremes] = {}

    def knows(self, layer: Layer, name: str) -> bool:
        """Whether a layer has a dimension or coordinate, or the name is of neither."""
        if name in self._source.coordinates:
            return name in self._placed.get(layer.name, ())
        return name not in self._dims or name in layer.dims

    def parts(self, layers: Sequence[Layer] | None = None) -> Iterator[Part]:
        """The chunks of some layers, by default all."""
        return parts_of(self._store, self._layers if layers is None else layers)

    def map(
        self,
        parts: Iterable[Part],
        function: Callable[[Matches], T],
        names: Sequence[str] = (),
        row: int = 0,
    ) -> Iterator[T]:
        """``function`` of the matches in every block, in order; threads work ahead.

        ``names`` are the values that the function asks for, and ``row`` the bytes of a pair in its
        result.
        """

        def search(block: Block) -> list[T]:
            found = Matches(block, self._matching(block))
            return [function(found)] if len(found.pairs) else []

        pairs, workers = self._divided(names, row)
        blocks = (block for part in parts for block in self._blocks(part, pairs))
        for results in map_ahead(search, blocks, workers):
            yield from results

    def top(
        self, size: int, by: str, function: Callable[[Matches], T], names: Sequence[str], row: int
    ) -> tuple[list[T], NDArray[np.int64]]:
        """``function`` of the ``size`` matching pairs with the largest measure (p: the smallest).

        Also the order, best first, of all pairs in the results. Chunks are visited in the order of
        their extremes, until none can hold a better unit.
        """
        parts = list(self.parts())
        best, chunks = self._best(parts, size, by)
        order = np.lexsort(best.T[::-1])
        best = best[order]

        def found(number: int) -> Matches:
            own = best[best[:, 0] == number]
            numbers, rows = np.unique(own[:, 1], return_inverse=True)
            chunk = chunks.pop(number, None)
            chunk = chunk or Chunk(self._store, self._source, parts[number], len(numbers))
            block = Block(chunk, [self._contrasts[k] for k in numbers])
            return Matches(block, rows * block.size + own[:, 2])

        workers = self._divided([by, *names], row)[1]
        tables = map_ahead(lambda k: function(found(k)), np.unique(best[:, 0]), workers)
        return list(tables), np.argsort(order)

    def _best(
        self, parts: Sequence[Part], size: int, by: str
    ) -> tuple[NDArray[np.int64], dict[int, Chunk]]:
        """The best pairs ``[part, contrast, unit]``, best first, and some chunks that hold them."""
        sign = 1.0 if by in PROBABILITIES else -1.0
        best = np.empty((0, 4))  # signed value, part, contrast, unit
        bounds = np.array([self._least(part, by, sign).min() for part in parts])
        pairs, _ = self._divided([by], 2 * best.itemsize * best.shape[1])
        chunks: dict[int, Chunk] = {}
        for number in np.argsort(bounds, kind="stable"):
            part, worst = parts[number], best[-1, 0] if len(best) == size else np.inf
            if bounds[number] > worst or bounds[number] == np.inf:
                break
            least = self._least(part, by, sign)
            for block in self._blocks(part, pairs, (least <= worst) & (least < np.inf)):
                found = Matches(block, self._matching(block))
                if not len(found.pairs):
                    continue
                values = sign * found.values(by)
                better = np.flatnonzero(values <= worst)  # drops NaN
                own = np.empty((len(better), 4))
                own[:, 0], own[:, 1] = values[better], number
                own[:, 2] = found.contrasts[better]
                own[:, 3] = found.pairs[better] % block.size
                best = np.concatenate([best, own])
                best = best[np.lexsort(best.T[::-1])][:size]
                worst = best[-1, 0] if len(best) == size else np.inf
                chunks[number] = block.chunk
            chunks = {k: chunks[k] for k in chunks if k in best[:, 1]}
            while sum(one.nbytes for one in chunks.values()) > _KEPT_BYTES:
                chunks.popitem()
        return best[:, 1:].astype(np.int64), chunks

    def mask(self, part: Part) -> Mask:
        """Whether each unit of a chunk matches ``[contrast, *its dims]``."""
        mask = np.zeros((len(self._contrasts), part.size), np.bool_)
        for found in self.map([part], lambda found: found):
            mask[found.contrasts, found.units] = True
        return mask.reshape(len(mask), *(one.stop - one.start for one in part.slab))

    def _divided(self, names: Iterable[str], row: int) -> tuple[int, int]:
        """Pairs of a block, and the blocks that are worked on at a time."""
        units = max(math.prod(self._store.chunk_shape(layer)) for layer in self._layers)
        asked = {*names, *(condition.measure for condition in self._rule.conditions())}
        stored = asked & {*self._source.stored, *CONDITIONS, *self._source.coordinates}
        value = _STORED * len(stored)
        if asked - stored - self._dims:
            value += _FOLD * self._store.folds + _COMPUTED
        # A result may wait while the next one is computed. A block has at least one contrast.
        pair = _EVALUATED + 2 * row
        fixed = units * len(self._store.categories) * value
        blocks = block_of(units * pair, fixed, len(self._contrasts))
        return blocks.items * units, blocks.workers

    def _blocks(self, part: Part, pairs: int, possible: Mask | None = None) -> Iterator[Block]:
        """The blocks of a chunk, each of some ``pairs``, without the contrasts excluded."""
        chosen = np.flatnonzero(self._possible(part, self._rule) if possible is None else possible)
        chunk, step = None, max(1, pairs // part.size)
        for start in range(0, len(chosen), step):
            chunk = chunk or Chunk(self._store, self._source, part, len(chosen))
            yield Block(chunk, [self._contrasts[k] for k in chosen[start : start + step]])

    def _matching(self, block: Block) -> Pairs:
        """The matching pairs of a block."""
        found = self._filter(None, self._rule, block)
        return block.pairs if found is None else found

    def _filter(self, chosen: Pairs | None, part: Rule | Condition, block: Block) -> Pairs | None:
        """The ``chosen`` pairs (None for all) that meet a rule.

        Conditions of an ``and`` are evaluated for the pairs that met the previous ones.
        """
        if chosen is not None and not len(chosen):
            return chosen  # nothing needs to be read
        if not isinstance(part, Rule):
            assert not isinstance(part, Top)  # not in the vocabulary
            if not self.knows(block.layer, part.measure):
                return np.empty(0, np.int64)
            met = np.flatnonzero(part.holds(block.values(part.measure, chosen)))
            return met if chosen is None else chosen[met]
        if part.joined_by == "and":
            for one in part.parts:
                chosen = self._filter(chosen, one, block)
            return chosen
        ways = [self._filter(chosen, one, block) for one in part.parts]
        return ways[0] if len(ways) == 1 else np.unique(np.concatenate(ways))  # type: ignore[arg-type]

    def _possible(self, part: Part, rule: Rule | Condition) -> Mask:
        """Whether a unit of a chunk could match, by its extremes ``[contrast]``."""
        every = np.ones(len(self._contrasts), np.bool_)
        if isinstance(rule, Rule):
            join = np.logical_and if rule.joined_by == "and" else np.logical_or
            ways = [self._possible(part, one) for one in rule.parts]
            return reduce(join, ways) if ways else every
        known = self._bounds(part, rule.measure)
        if known is None or not isinstance(rule, Comparison):
            return every
        low, high = known
        if rule.sign == "==":
            met = (low <= rule.value) & (rule.value <= high)
        else:
            met = rule.holds(high if rule.sign in (">", ">=") else low)
        return np.asarray(every & met)

    def _least(self, part: Part, by: str, sign: float) -> NDArray[np.float64]:
        """The best signed value that a unit of a chunk could have ``[contrast]``.

        Infinite if none can match, or all are NaN.
        """
        possible, known = self._possible(part, self._rule), self._bounds(part, by)
        if known is None:
            return np.where(possible, -np.inf, np.inf)
        least = np.minimum(sign * known[0], sign * known[1])
        return np.where(possible & ~np.isnan(least), least, np.inf).astype(np.float64)

    def _bounds(self, part: Part, name: str) -> tuple[Any, Any] | None:
        """The smallest and largest value ``[contrast]`` in a chunk, in the type of the comparison.

        NaN if there are no values; None if the extremes are unknown.
        """
        layer = part.layer
        if name in layer.dims:
            place = part.slab[layer.dims.index(name)]
            return place.start, place.stop - 1
        if not self._contrasts[0].stored:
            return None
        extremes = self._extremes.get(layer)
        if extremes is None:
            if len(self._extremes) >= _KEPT:
                self._extremes.clear()
            extremes = self._extremes[layer] = self._store.extremes(layer, self._source.saved)
        if name not in extremes:
            return None
        low, high = extremes[name]
        index = (part.number,) if low.ndim == 1 else (self._rows, part.number)
        return low[index], high[index]

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """Rows of the contrasts in stored variables."""
        return np.array([one.row for one in self._contrasts], np.int64)

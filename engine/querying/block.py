"""Values of a block: the units of one chunk under some contrasts, read or computed from moments.

Stored variables are read as they are (float32); other measures are computed from the moments over
all stimuli. A unit under a contrast is a pair, numbered contrast by contrast: the pairs of a block
are evaluated together, however many contrasts there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..store.store_reader import StoreReader
from .chunks import CONDITIONS, Part, QueriedContrast, Source, Units

if TYPE_CHECKING:
    from ..contrasts.sample import Sample

Pairs = NDArray[np.int64]
# Chunks of a variable over all categories, at most.
_CHUNKS = 12
# Measures that do not depend on the contrast.
_OF_A_UNIT = (
    "f", "p_f", "eta_squared", "class_selectivity", "category_sparseness", "margin",
    "preferred_category",
)  # fmt: skip


class Chunk:
    """The arrays that the blocks of a chunk share: one is read once, for whichever asks first.

    ``contrasts`` is the number of contrasts that will be asked for.
    """

    def __init__(self, store: StoreReader, source: Source, part: Part, contrasts: int) -> None:
        self.part, self.source = part, source
        self._store = store
        # Reading all rows at once is cheaper than reading most of them, chunk by chunk.
        self._at_once = 2 * contrasts > min(len(store.categories), _CHUNKS)
        self._read: dict[tuple[str, int | None], NDArray[Any]] = {}
        self._folds: list[Moments] = []
        self._whole: Sample | None = None
        self._lock = RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of all that was read."""
        moments = [self._whole.moments] if self._whole else self._folds
        held = [*self._read.values(), *(values for one in moments for values in one[1:])]
        return sum(values.nbytes for values in held)

    def rows(self, name: str, rows: Sequence[int | None]) -> NDArray[Any]:
        """Rows of a stored variable ``[row, unit]``; the only one if it has no categories."""
        if self._at_once or None in rows:
            values = self._stored(name, None)
            return values[np.newaxis] if values.ndim == 1 else values[_run(rows)]
        return np.stack([self._stored(name, row) for row in rows])

    def _stored(self, name: str, row: int | None) -> NDArray[Any]:
        with self._lock:
            if (name, row) not in self._read:
                key, part = self.source.key(name), self.part
                self._read[name, row] = self._store.read_slab(part.layer, key, part.slab, row)
            return self._read[name, row]

    def sample(self, units: Units) -> tuple[Sample, Units]:
        """Moments of some of the units over all stimuli, and the place of each unit in them."""
        from ..contrasts.sample import Sample

        asked = np.zeros(self.part.size, np.bool_)
        asked[units] = True
        own = np.flatnonzero(asked)
        with self._lock:
            if self._whole is None:
                part = self.part
                self._folds = self._folds or self._store.moments(part.layer, part.slab)
                if 2 * len(own) < len(asked):
                    some = (Moments(n, m[:, own], s[:, own]) for n, m, s in self._folds)
                    return Sample(reduce(merge, some)), (np.cumsum(asked) - 1)[units]
                self._whole, self._folds = Sample(reduce(merge, self._folds)), []
            return self._whole, units

    def others(self, sample: Sample) -> Moments:
        """Pooled moments ``[category, unit]`` of all other categories, computed once."""
        with self._lock:
            return sample.others


class Block:
    """The units of a chunk under some contrasts; a pair is ``contrast * size + unit``.

    If there are several contrasts, each is a category against all others.
    """

    def __init__(self, chunk: Chunk, queried: Sequence[QueriedContrast]) -> None:
        self.layer, self.size = chunk.part.layer, chunk.part.size
        self.queried = queried
        self.chunk = chunk

    @property
    def pairs(self) -> Pairs:
        """All pairs."""
        return np.arange(len(self.queried) * self.size)

    def contrasts(self, pairs: Pairs) -> NDArray[np.int32]:
        """The number, in the query, of the contrast of every pair."""
        numbers = np.array([one.number for one in self.queried], np.int32)
        return numbers[pairs // self.size]

    def values(self, name: str, chosen: Pairs | None = None) -> NDArray[Any]:
        """A measure, flag or coordinate of the ``chosen`` pairs, ascending; by default of all."""
        if self.queried[0].stored and name in self.chunk.source.stored:
            values = self.chunk.rows(name, [one.row for one in self.queried])
            if chosen is None:
                return values.reshape(-1)
            return np.asarray(values[chosen // self.size, chosen % self.size])
        chosen = self.pairs if chosen is None else chosen
        if name in self.layer.dims:
            flat = chosen % self.size + self.chunk.part.units.start
            axis = self.layer.dims.index(name)
            return np.asarray(np.unravel_index(flat, self.layer.shape)[axis])
        if name in CONDITIONS or name in self.chunk.source.coordinates:
            return np.asarray(self.chunk.rows(name, [None])[0, chosen % self.size])
        return self._computed(name, chosen)

    def means(self, chosen: Pairs) -> NDArray[np.float64]:
        """Mean responses ``[category, pair]``."""
        sample, units = self.chunk.sample(chosen % self.size)
        return sample.mean[:, units]

    def _computed(self, name: str, chosen: Pairs) -> NDArray[Any]:
        from ..contrasts.measures import POOLED, Measured

        criterion = replace(self.chunk.source.criterion, where="t > 0")
        if name.endswith("_each"):
            name, criterion = name.removesuffix("_each"), replace(criterion, test="each")
        sample, units = self.chunk.sample(chosen % self.size)
        several, rows = len(self.queried) > 1, chosen // self.size
        with np.errstate(all="ignore"):  # constant units divide by 0, by the rules of the kernels
            if several and name in POOLED:
                others, k = self.chunk.others(sample), self._categories()[rows]
                own = Moments(sample.count[k], sample.mean[k, units], sample.m2[k, units])
                rest = Moments(others.count[k], others.mean[k, units], others.m2[k, units])
                return POOLED[name](own, rest)
            measured = (Measured(sample, one.contrast, criterion, shared=several)
                        for one in self.queried)  # fmt: skip
            if not several or name in _OF_A_UNIT:
                return next(measured).measure(name)[units]
            stops = np.searchsorted(rows, np.arange(1, len(self.queried)))
            parts = zip(measured, np.split(units, stops), strict=True)
            return np.concatenate([one.measure(name)[part] for one, part in parts if len(part)])

    def _categories(self) -> NDArray[np.int64]:
        return np.array([one.contrast.category for one in self.queried], np.int64)


def _run(rows: Sequence[Any]) -> Any:
    """An index for some rows: a slice, which copies nothing, where they follow one another."""
    first, stop = rows[0], rows[-1] + 1
    return slice(first, stop) if stop - first == len(rows) else list(rows)

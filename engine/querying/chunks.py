"""Values of the units of one chunk: read from the store where they lie there, else computed.

What was materialised is read as it is (float32); anything else comes from the moments of all
stimuli, of only those units for which it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...kernels.moments import Moments, merge
from ..contrasts.language.contrast import Contrast, every_category, parse_contrast
from ..contrasts.language.criterion import Criterion
from ..errors import UserError, nearest
from ..layer import Layer
from ..store.cuts import Slab
from ..store.reading import Store
from ..store.schema import shown
from ..variables import MEASURES, VARIABLES

if TYPE_CHECKING:
    from ..contrasts.measures import Sample

Units = NDArray[np.int64]
# What depends on other units is known only where it was written.
_OF_A_FAMILY = ("q", "p_null")
_CONDITIONS = ("dead", "nonfinite")


@dataclass(frozen=True)
class Source:
    """Where values are looked up: what the scan materialised, or a contrast saved under a name.

    ``stored`` are the variables there; ``criterion`` says how measures are computed that are not.
    """

    saved: str
    stored: tuple[str, ...]
    criterion: Criterion

    @property
    def measures(self) -> tuple[str, ...]:
        """What units can be compared by."""
        numbers = [name for name in self.stored if name != "selective"]
        computed = [name for name in MEASURES if name not in (*numbers, *_OF_A_FAMILY)]
        return (*numbers, *computed)

    @property
    def flags(self) -> tuple[str, ...]:
        """What units are or are not."""
        return ("selective", *_CONDITIONS, "preferred")

    def key(self, variable: str) -> str:
        """Where a variable lies in its layer."""
        within = self.saved and variable not in _CONDITIONS
        return f"{self.saved}/{variable}" if within else variable


def source_of(store: Store, saved: str | None) -> Source:
    """What the scan left, by the pooled rest, or what was saved under a name.

    Raises
    ------
    UserError : nothing was saved under the name, or with a criterion that cannot be read
    """
    if saved is None:
        numbers = [n for n, v in VARIABLES.items() if v.leading == ("category",)]
        return Source("", tuple(numbers), Criterion("rest"))
    if saved not in store.saved:
        known = nearest(saved, store.saved) if store.saved else "nothing is saved in it"
        raise UserError(f"{store.path} has no saved contrast {saved!r}: {known}")
    record = store.saved[saved]
    criterion = criterion_of(record["criterion"])
    return Source(saved, (*record["measures"], "selective"), criterion)


def criterion_of(record: Any) -> Criterion:
    """A criterion as it stands in a store, which may come from a stranger.

    Raises
    ------
    UserError : it is none
    """
    try:
        return Criterion(**record)
    except (TypeError, AttributeError, ValueError, RecursionError):
        raise UserError(
            f"a criterion has the fields and values of a Criterion; in the store is "
            f"{shown(record)}: save the contrast again"
        ) from None


@dataclass(frozen=True)
class Asked:
    """The ``number``-th contrast of a query; ``stored`` if variables were written of it.

    ``row`` is its category there: None where they are of this contrast alone.
    """

    number: int
    contrast: Contrast
    row: int | None
    stored: bool


def asked_of(store: Store, source: Source, text: str | None, stop: int | None) -> list[Asked]:
    """The contrast that a text names, or all that ``source`` has.

    Raises
    ------
    UserError : it cannot be read, or is not the one that was saved
    """
    every = every_category(store.categories)
    if source.saved and not store.saved[source.saved]["each_category"]:
        own = parse_contrast(store.saved[source.saved]["contrasts"][0], store.categories)
        if text is not None and not parse_contrast(text, store.categories, stop).is_same_as(own):
            raise UserError(
                f"what is saved as {source.saved} is of {own.text!r}; got {text[:stop]!r}"
            )
        return [Asked(0, own, None, stored=True)]
    if text is None:
        return [Asked(row, contrast, row, stored=True) for row, contrast in enumerate(every)]
    contrast = parse_contrast(text, store.categories, stop)
    row = contrast.row_in(every)
    if row is not None:
        return [Asked(0, every[row], row, stored=True)]
    if source.saved:
        raise UserError(f"{source.saved} is saved of every category; got {contrast.text!r}")
    return [Asked(0, contrast, None, stored=False)]


class Part(NamedTuple):
    """The ``number``-th chunk of a layer: slices of its dimensions, and of its flat units."""

    layer: Layer
    number: int
    slab: Slab
    units: slice


def parts_of(store: Store, layers: Sequence[Layer]) -> Iterator[Part]:
    """The chunks of layers, in order."""
    for layer in layers:
        for number, (slab, units) in enumerate(store.slabs(layer)):
            yield Part(layer, number, slab, units)


class Chunk:
    """What has been read of a part of a layer, ``rows`` of whose categories will be asked."""

    def __init__(self, store: Store, source: Source, part: Part, rows: int) -> None:
        self.layer, self.slab, self.units = part.layer, part.slab, part.units
        self._store, self._source = store, source
        # Reading all at once is cheaper than reading most.
        self._at_once = 2 * rows > len(store.categories)
        self._read: dict[tuple[str, int | None], NDArray[Any]] = {}
        self._folds: list[Moments] = []

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.units.stop - self.units.start)

    def values(self, name: str, asked: Asked, chosen: Units | None = None) -> NDArray[Any]:
        """A measure, flag or coordinate of ``chosen`` units, counted from the chunk's first."""
        if name in self.layer.dims:
            return self._place(name, chosen)
        if asked.stored and name in self._source.stored:
            values = self._stored(name, asked.row)
        elif name in _CONDITIONS:
            values = self._stored(name, None)
        else:
            return self._computed(name, asked.contrast, chosen)
        return values if chosen is None else values[chosen]

    def responses(self, chosen: Units) -> NDArray[np.float64]:
        """Mean responses ``[category, unit]``."""
        return self._sample(chosen).mean

    def _stored(self, name: str, row: int | None) -> NDArray[Any]:
        whole = row is None or self._at_once
        key = (name, None if whole else row)
        if key not in self._read:
            where = self._source.key(name)
            self._read[key] = self._store.read_slab(self.layer, where, self.slab, key[1])
        values = self._read[key]
        return values[row] if values.ndim == 2 else values

    def _place(self, dim: str, chosen: Units | None) -> Units:
        flat = np.arange(self.size) if chosen is None else chosen
        axis = self.layer.dims.index(dim)
        return np.asarray(np.unravel_index(flat + self.units.start, self.layer.shape)[axis])

    def _computed(self, name: str, contrast: Contrast, chosen: Units | None) -> NDArray[Any]:
        from ..contrasts.measures import Measured

        test = "each" if name.endswith("_each") else self._source.criterion.test
        criterion = replace(self._source.criterion, test=test, where="t > 0")
        with np.errstate(all="ignore"):  # constant units divide by 0, by the rules of the kernels
            measured = Measured(self._sample(chosen), contrast, criterion)
            return measured.measure(name.removesuffix("_each"))

    def _sample(self, chosen: Units | None) -> Sample:
        from ..contrasts.measures import Sample

        self._folds = self._folds or self._store.moments(self.layer, self.slab)
        own: Any = slice(None) if chosen is None else chosen
        return Sample(reduce(merge, (Moments(n, m[:, own], s[:, own]) for n, m, s in self._folds)))


def places(layer: Layer) -> dict[str, Units]:
    """The coordinates of a layer: dimension -> its places."""
    return {dim: np.arange(size) for dim, size in zip(layer.dims, layer.shape, strict=True)}

"""The parts of a store that a query reads: the source of its values, its contrasts, its chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contrasts.language.contrast import Contrast, every_category, parse_contrast
from ..contrasts.language.criterion import Criterion
from ..errors import UserError, nearest
from ..layer import Layer
from ..registry import MEASURES, PLACED, VARIABLES
from ..store.attributes import brief
from ..store.chunking import Slab
from ..store.store_reader import StoreReader

Units = NDArray[np.int64]
# Measures that depend on other units: available only if they were stored.
_OF_A_FAMILY = ("q", "p_null")
CONDITIONS = ("dead", "nonfinite")


@dataclass(frozen=True)
class Source:
    """The variables of a query: those that the scan stored, or those of a saved contrast.

    ``coordinates`` are those of units of any layer. Measures that are not ``stored`` are computed
    by the ``criterion``'s test.
    """

    saved: str
    stored: tuple[str, ...]
    criterion: Criterion
    coordinates: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of measures."""
        numbers = [name for name in self.stored if name != "selective"]
        computed = [name for name in MEASURES if name not in (*numbers, *_OF_A_FAMILY)]
        return (*numbers, *computed)

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of boolean properties."""
        return ("selective", *CONDITIONS, "preferred")

    def key(self, variable: str) -> str:
        """Path of a variable within its layer."""
        if variable in self.coordinates:
            return f"{PLACED}/{variable}"
        within = self.saved and variable not in CONDITIONS
        return f"{self.saved}/{variable}" if within else variable


def source_of(store: StoreReader, saved: str | None) -> Source:
    """The source of the scan's own contrasts, against the pooled rest, or of a saved contrast.

    Raises
    ------
    UserError : no contrast was saved under the name, or its criterion is invalid
    """
    placed = tuple(dict.fromkeys(name for own in store.coordinates.values() for name in own))
    if saved is None:
        numbers = [n for n, v in VARIABLES.items() if v.leading == ("category",)]
        return Source("", tuple(numbers), Criterion("rest"), placed)
    if saved not in store.saved:
        known = nearest(saved, store.saved) if store.saved else "nothing is saved in it"
        raise UserError(f"{store.path} has no saved contrast {saved!r}: {known}")
    record = store.saved[saved]
    criterion = read_criterion(record["criterion"])
    return Source(saved, (*record["measures"], "selective"), criterion, placed)


def read_criterion(record: Any) -> Criterion:
    """The criterion recorded in a store, which may be untrusted.

    Raises
    ------
    UserError : the record is not a valid criterion
    """
    try:
        return Criterion(**record)
    except (TypeError, AttributeError, ValueError, RecursionError):
        raise UserError(
            f"a stored criterion has the fields and values of a Criterion; got {brief(record)}: "
            "save the contrast again"
        ) from None


@dataclass(frozen=True)
class QueriedContrast:
    """The ``number``-th contrast of a query; ``stored`` if the source has variables of it.

    ``row`` is its row in these variables, None if they have no dimension of contrasts.
    """

    number: int
    contrast: Contrast
    row: int | None
    stored: bool


def queried_contrasts(
    store: StoreReader, source: Source, text: str | None, stop: int | None
) -> list[QueriedContrast]:
    """The contrast that a text names, or all contrasts of ``source``.

    Raises
    ------
    UserError : the text cannot be parsed, or is not the saved contrast
    """
    if source.saved and not store.saved[source.saved]["each_category"]:
        own = parse_contrast(store.saved[source.saved]["contrasts"][0], store.categories)
        if text is not None and not parse_contrast(text, store.categories, stop).is_same_as(own):
            raise UserError(
                f"{source.saved} is the saved contrast {own.text!r}; got {text[:stop]!r}"
            )
        return [QueriedContrast(0, own, None, stored=True)]
    if text is None:
        every = every_category(store.categories)
        return [QueriedContrast(row, one, row, stored=True) for row, one in enumerate(every)]
    contrast = parse_contrast(text, store.categories, stop)
    row = contrast.category
    if row is not None:
        own = replace(contrast, text=store.categories[row].strip())
        return [QueriedContrast(0, own, row, stored=True)]
    if source.saved:
        raise UserError(f"{source.saved} was saved for every category; got {contrast.text!r}")
    return [QueriedContrast(0, contrast, None, stored=False)]


class Part(NamedTuple):
    """The ``number``-th chunk of a layer: slices of its dimensions and of its flattened units."""

    layer: Layer
    number: int
    slab: Slab
    units: slice

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.units.stop - self.units.start)


def parts_of(store: StoreReader, layers: Sequence[Layer]) -> Iterator[Part]:
    """The chunks of layers, in order."""
    for layer in layers:
        for number, (slab, units) in enumerate(store.slabs(layer)):
            yield Part(layer, number, slab, units)


def coordinates(layer: Layer) -> dict[str, Units]:
    """The indices of a layer by dimension."""
    return {dim: np.arange(size) for dim, size in zip(layer.dims, layer.shape, strict=True)}

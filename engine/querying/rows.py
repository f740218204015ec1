"""A row for each unit that matches a query: its layer, contrast and place, and columns of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..layer import Layer
from ..table import NOWHERE, Labels, Table
from .chunks import QueriedContrast, Source
from .search import MEANS, Matches


class Rows:
    """Tables of the units of ``layers`` under ``contrasts``.

    ``dims`` are the dimensions of any of the layers; ``categories`` those of ``means``; ``placed``
    are layers and the coordinates of their units.
    """

    def __init__(
        self,
        source: Source,
        layers: Sequence[Layer],
        contrasts: Sequence[QueriedContrast],
        categories: Sequence[str],
        placed: Mapping[str, Sequence[str]],
    ) -> None:
        self._source, self._categories, self._placed = source, categories, placed
        self._stored = contrasts[0].stored
        self._layers = tuple(layer.name for layer in layers)
        self._contrasts = tuple(one.contrast.text for one in contrasts)
        self._index = {layer: index for index, layer in enumerate(layers)}
        self.dims = tuple(dict.fromkeys(dim for layer in layers for dim in layer.dims))

    def of(self, found: Matches, columns: Sequence[str]) -> Table:
        """A row for every match, with the named columns."""
        layer = found.block.layer
        table: dict[str, Any] = {
            "layer": Labels(np.full(len(found.pairs), self._index[layer], np.int32), self._layers),
            "contrast": Labels(found.contrasts, self._contrasts),
        }
        for dim in self.dims:
            known = dim in layer.dims
            places = found.values(dim) if known else np.full(len(found.pairs), NOWHERE)
            table[dim] = places.astype(np.int32)
        for name in self._source.coordinates:
            known = name in self._placed.get(layer.name, ())
            table[name] = found.values(name) if known else np.full(len(found.pairs), np.nan)
        for name, dtype in self._types(columns).items():
            if name == MEANS:
                means = found.block.means(found.pairs)
                table |= dict(zip(self._mean_names(), means, strict=True))
            else:
                table[name] = found.values(name).astype(dtype)
        return Table(table)

    def none(self, columns: Sequence[str]) -> Table:
        """The table without rows."""
        nothing = np.empty(0, np.int32)
        table: dict[str, Any] = {
            "layer": Labels(nothing, self._layers),
            "contrast": Labels(nothing, self._contrasts),
            **dict.fromkeys(self.dims, nothing),
            **dict.fromkeys(self._source.coordinates, np.empty(0)),
        }
        for name, dtype in self._types(columns).items():
            names = self._mean_names() if name == MEANS else [name]
            table |= dict.fromkeys(names, np.empty(0, dtype))
        return Table(table)

    def bytes_per_row(self, columns: Sequence[str]) -> int:
        """Bytes of a row, at most."""
        means = len(self._categories) if MEANS in columns else 0
        places = len(self.dims) + len(self._source.coordinates)
        return 8 * (2 + places + len(columns) + means)

    def _types(self, columns: Sequence[str]) -> dict[str, Any]:
        """The columns that are no dimensions or coordinates, and their types."""
        shown = {*self.dims, *self._source.coordinates}
        return {name: self._dtype(name) for name in columns if name not in shown}

    def _dtype(self, name: str) -> type:
        if name in self._source.flags:
            return np.bool_
        return np.float32 if name in self._source.stored and self._stored else np.float64

    def _mean_names(self) -> list[str]:
        return [f"mean {category}" for category in self._categories]

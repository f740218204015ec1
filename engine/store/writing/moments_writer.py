"""Moments of finished groups, which wait until their file is full, and are then written."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore

from ....kernels.moments import Moments
from ...layer import Layer
from ...registry import MOMENTS
from ..chunking import Grid, Shape, slabs
from ..reader import Reader
from .array_writer import padded, write_file
from .commits import Bytes

# Key of waiting moments in a commit; no layer's name begins so.
_WAITING = "/waiting/"
# Category and fold.
Group = tuple[int, int]
# Mean and M2 ``[*layer dims]``.
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


class MomentsWriter:
    """Writes the moments of groups, several to a file; groups come in any order.

    Those that wait for others of their file are saved with the commits of a scan.
    """

    def __init__(self, store: ZarrStore, reader: Reader) -> None:
        self._store, self._reader = store, reader
        self._waiting: dict[tuple[str, Shape], dict[Group, Pair]] = {}

    def add(self, layer: Layer, group: Group, moments: Moments) -> None:
        """Add the moments of a group, ``mean, m2 [*layer dims]``; the last of a file writes it."""
        place = self.place_of(layer, group)
        waiting = self._waiting.setdefault((layer.name, place), {})
        waiting[group] = moments.mean, moments.m2
        if len(waiting) == len(self.groups_of(layer, place)):
            del self._waiting[layer.name, place]
            self._write(layer, place, waiting)

    def groups_of(self, layer: Layer, place: Sequence[int]) -> list[Group]:
        """The groups of a file, by its place in the grid of files."""
        ranges = (range(part.start, part.stop) for part in self.region_of(layer, place))
        return [(category, fold) for category, fold in product(*ranges)]

    def place_of(self, layer: Layer, group: Group) -> Shape:
        """The place of a group's file in the grid of files."""
        categories, folds = self.rows(layer)
        return group[0] // categories, group[1] // folds

    def places(self, layer: Layer, left: Collection[Group] = ()) -> list[Shape]:
        """The files without any group that is ``left``."""
        grid = self._grid(layer)
        sizes = zip(grid.shape[:2], grid.file, strict=False)
        skipped = {self.place_of(layer, group) for group in left}
        every = product(*(range(math.ceil(size / length)) for size, length in sizes))
        return [place for place in every if place not in skipped]

    def rows(self, layer: Layer) -> Shape:
        """Numbers of categories and folds in a file."""
        return self._grid(layer).file[:2]

    def region_of(self, layer: Layer, place: Sequence[int]) -> tuple[slice, ...]:
        """Categories and folds of a file."""
        grid = self._grid(layer)
        return tuple(
            slice(at * length, min((at + 1) * length, size))
            for at, length, size in zip(place, grid.file, grid.shape[:2], strict=False)
        )

    def waiting(self) -> dict[str, Bytes]:
        """The bytes of moments that wait, for a commit."""
        return {
            f"{_WAITING}{name}/{category}/{fold}/{moment}": values.reshape(-1).view(np.uint8)
            for (name, _), groups in self._waiting.items()
            for (category, fold), pair in groups.items()
            for moment, values in zip(MOMENTS, pair, strict=True)
        }

    def resume(self, contents: Mapping[str, Bytes]) -> None:
        """Take over the moments that waited at a commit."""
        self._waiting = {}
        pairs: dict[tuple[str, Group], list[NDArray[Any]]] = {}
        for key, content in contents.items():
            if key.startswith(_WAITING):
                name, category, fold, _ = key.removeprefix(_WAITING).rsplit("/", 3)
                own = pairs.setdefault((name, (int(category), int(fold))), [])
                own.append(content.view(np.float64))
        layers = {layer.name: layer for layer in self._reader.layers}
        for (name, group), (mean, m2) in pairs.items():
            layer = layers[name]
            waiting = self._waiting.setdefault((name, self.place_of(layer, group)), {})
            waiting[group] = mean.reshape(layer.shape), m2.reshape(layer.shape)

    def _grid(self, layer: Layer) -> Grid:
        return self._reader.arrays.opened(f"{layer.name}/{MOMENTS[0]}").grid

    def _write(self, layer: Layer, place: Shape, groups: Mapping[Group, Pair]) -> None:
        grid = self._grid(layer)
        dtype = np.dtype(f"f{grid.itemsize}")
        for number, moment in enumerate(MOMENTS):
            key = f"{layer.name}/{moment}"
            own = {group: pair[number] for group, pair in groups.items()}
            chunks = _chunks(grid, layer, place, own, dtype)
            write_file(self._store, key, grid, (*place, *(0 for _ in layer.shape)), chunks)


def _chunks(
    grid: Grid, layer: Layer, place: Shape, groups: Mapping[Group, NDArray[Any]], dtype: Any
) -> Iterator[NDArray[Any]]:
    """The chunks of a file of moments, in order."""
    rows, cut = grid.chunk[:2], grid.chunk[2:]
    starts = (
        range(at * length, (at + 1) * length, step)
        for at, length, step in zip(place, grid.file, rows, strict=False)
    )
    for category, fold in product(*starts):
        ranges = range(category, category + rows[0]), range(fold, fold + rows[1])
        there = [group for group in product(*ranges) if group in groups]
        for slab, _ in slabs(layer.shape, cut):
            if rows == (1, 1) and there:
                yield padded(groups[there[0]][slab][None, None].astype(dtype, copy=False), grid)
                continue
            chunk = np.full(grid.chunk, np.nan, dtype)
            for group in there:
                values = groups[group][slab]
                own = chunk[group[0] - category, group[1] - fold]
                own[tuple(map(slice, values.shape))] = values
            yield chunk

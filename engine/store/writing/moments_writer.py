"""Moments of finished groups, which wait until their file is full, and are then written."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore

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
Values = NDArray[np.float64]


class _Stretch(NamedTuple):
    """Consecutive groups: the number of the first, and ``mean, m2 [group, *layer dims]``."""

    first: int
    moments: tuple[Values, Values]


class _Waiting:
    """Stretches that wait for the others of their file."""

    def __init__(self) -> None:
        self.stretches: list[_Stretch] = []
        self.groups = 0

    def add(self, stretch: _Stretch) -> None:
        self.stretches.append(stretch)
        self.groups += len(stretch.moments[0])


class MomentsWriter:
    """Writes the moments of groups, several to a file; groups come in any order, each once.

    Groups are numbered category by category, fold by fold. Those that wait for others of their file
    are saved with the commits of a scan.
    """

    def __init__(self, store: ZarrStore, reader: Reader) -> None:
        self._store, self._reader, self._folds = store, reader, reader.folds
        self._waiting: dict[tuple[str, Shape], _Waiting] = {}

    def add(self, layer: Layer, first: int, mean: Values, m2: Values) -> None:
        """Add moments of consecutive groups; the last group of a file writes it."""
        done = 0
        while done < len(mean):
            group = first + done
            place = self.place_of(layer, divmod(group, self._folds))
            start, stop = self._numbers(layer, place)
            own = slice(done, done + min(len(mean) - done, stop - group))
            waiting = self._waiting.setdefault((layer.name, place), _Waiting())
            waiting.add(_Stretch(group, (mean[own], m2[own])))
            if waiting.groups == stop - start:
                del self._waiting[layer.name, place]
                self._write(layer, place, sorted(waiting.stretches, key=lambda one: one.first))
            done = own.stop

    def groups_of(self, layer: Layer, place: Sequence[int]) -> list[Group]:
        """The groups of a file, by its place in the grid of files."""
        return [divmod(group, self._folds) for group in range(*self._numbers(layer, place))]

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
            f"{_WAITING}{name}/{one.first}/{moment}": values.reshape(-1).view(np.uint8)
            for (name, _), waiting in self._waiting.items()
            for one in waiting.stretches
            for moment, values in zip(MOMENTS, one.moments, strict=True)
        }

    def resume(self, contents: Mapping[str, Bytes]) -> None:
        """Take over the moments that waited at a commit."""
        self._waiting = {}
        found: dict[tuple[str, int], dict[str, Values]] = {}
        for key, content in contents.items():
            if key.startswith(_WAITING):
                name, first, moment = key.removeprefix(_WAITING).rsplit("/", 2)
                found.setdefault((name, int(first)), {})[moment] = content.view(np.float64)
        layers = {layer.name: layer for layer in self._reader.layers}
        for (name, number), moments in found.items():
            layer = layers[name]
            self.add(layer, number, *(moments[one].reshape(-1, *layer.shape) for one in MOMENTS))

    def _numbers(self, layer: Layer, place: Sequence[int]) -> tuple[int, int]:
        """The first group of a file, and the one after its last."""
        categories, folds = self.region_of(layer, place)
        last = (categories.stop - 1) * self._folds + folds.stop
        return categories.start * self._folds + folds.start, last

    def _grid(self, layer: Layer) -> Grid:
        return self._reader.arrays.opened(f"{layer.name}/{MOMENTS[0]}").grid

    def _write(self, layer: Layer, place: Shape, stretches: Sequence[_Stretch]) -> None:
        grid = self._grid(layer)
        for number, moment in enumerate(MOMENTS):
            parts = [(one.first, one.moments[number]) for one in stretches]
            chunks = _chunks(grid, layer.shape, place, parts)
            whole = (*place, *(0 for _ in layer.shape))
            write_file(self._store, f"{layer.name}/{moment}", grid, whole, chunks)


def _chunks(
    grid: Grid, shape: Shape, place: Shape, parts: Sequence[tuple[int, Values]]
) -> Iterator[NDArray[Any]]:
    """The chunks of a file of moments, in order, from ``parts``: first group and values."""
    dtype, (categories, folds) = np.dtype(f"f{grid.itemsize}"), grid.chunk[:2]
    starts = (
        range(at * length, (at + 1) * length, step)
        for at, length, step in zip(place, grid.file, grid.chunk[:2], strict=False)
    )
    for category, fold in product(*starts):
        # A chunk of several categories has all folds: its groups are consecutive.
        start = category * grid.shape[1] + fold
        stop = start + categories * folds
        own = [(first, values) for first, values in parts
               if first < stop and start < first + len(values)]  # fmt: skip
        for slab, _ in slabs(shape, grid.chunk[2:]):
            if grid.chunk[:2] == (1, 1) and own and fold < grid.shape[1]:
                ((first, values),) = own
                units = values[start - first][slab][np.newaxis, np.newaxis]
                yield padded(units.astype(dtype, copy=False), grid)
                continue
            chunk = np.full((categories * folds, *grid.chunk[2:]), np.nan, dtype)
            for first, values in own:
                begin, end = max(first, start), min(first + len(values), stop)
                units = values[(slice(begin - first, end - first), *slab)]
                chunk[(slice(begin - start, end - start), *map(slice, units.shape[1:]))] = units
            yield chunk.reshape(grid.chunk)

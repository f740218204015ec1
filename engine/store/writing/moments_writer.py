"""Moments of finished groups, which wait until their file is full, and are then written."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, product
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore

from ...layer import Layer, columns
from ...registry import MOMENTS
from ..chunking import Grid, Shape, slabs
from ..reader import Reader
from .array_writer import padded, write_file
from .commits import Bytes

# Key of waiting moments in a commit; no layer's name begins so.
_WAITING = "/waiting/"
# Category and fold.
Group = tuple[int, int]
# Name of a layer, and place of a file in the grid of its files.
Key = tuple[str, Shape]
Values = NDArray[np.float64]


class _Waiting:
    """The groups of a file that have come so far: ``values [moment, group, unit]``.

    Layers that are divided alike share it, with their units side by side. Pages of their own hold
    the values, which go back to the system when the file is written: pieces of the heap, which a
    scan keeps, would not fit what comes next.
    """

    def __init__(self, layers: Sequence[Layer], groups: int) -> None:
        whole = len(MOMENTS), groups, sum(layer.units for layer in layers)
        pages = mmap(-1, math.prod(whole) * np.dtype(np.float64).itemsize)
        self.values = np.frombuffer(pages, np.float64).reshape(whole)
        self.groups = 0

    def add(self, moments: Sequence[Values]) -> bool:
        """Add the next groups; whether these were the last ones."""
        stop = self.groups + len(moments[0])
        for own, values in zip(self.values, moments, strict=True):
            own[self.groups : stop] = values
        self.groups = stop
        return stop == self.values.shape[1]


class FilePart(NamedTuple):
    """Consecutive groups of one file, for layers that are divided alike.

    ``layers`` have the ``units`` of a bundle, and the file the ``groups`` of those given; it holds
    ``size`` groups. ``place`` is its place in the grid of files.
    """

    layers: Sequence[Layer]
    units: slice
    place: Shape
    groups: slice
    size: int


class MomentsWriter:
    """Writes the moments of groups, several to a file; the groups of a file come in order.

    Groups are numbered category by category, fold by fold. Those that wait for others of their file
    are saved with the commits of a scan.
    """

    def __init__(self, store: ZarrStore, reader: Reader) -> None:
        self._store, self._reader, self._folds = store, reader, reader.folds
        self._waiting: dict[Key, _Waiting] = {}
        # What waited at the commit that this scan continues from, until its next groups come.
        self._resumed: dict[Key, list[Values]] = {}
        self._alike: dict[tuple[str, str], list[tuple[Sequence[Layer], slice]]] = {}

    def add(self, layers: Sequence[Layer], first: int, mean: Values, m2: Values) -> None:
        """Add moments ``[group, unit]`` of consecutive groups, with the layers' units side by side.

        The last group of a file writes it.
        """
        for part in self.files_of(layers, first, len(mean)):
            own = part.groups, part.units
            self._add(part, (mean[own], m2[own]))

    def files_of(self, layers: Sequence[Layer], first: int, groups: int) -> Iterator[FilePart]:
        """The files of consecutive groups of a bundle of layers."""
        if first + groups > len(self._reader.categories) * self._folds:
            raise IndexError(f"there are no groups {first} to {first + groups - 1}")
        for alike, units in self._divided(layers):
            done = 0
            while done < groups:
                place = self.place_of(alike[0], divmod(first + done, self._folds))
                start, stop = self._numbers(alike[0], place)
                own = slice(done, min(groups, stop - first))
                yield FilePart(alike, units, place, own, stop - start)
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
        """The bytes of moments that wait, for a commit; the first of several layers names them."""
        come = {key: [*own.values[:, : own.groups]] for key, own in self._waiting.items()}
        return {
            f"{_WAITING}{name}/{place[0]}/{place[1]}/{moment}": values.reshape(-1).view(np.uint8)
            for (name, place), moments in {**self._resumed, **come}.items()
            for moment, values in zip(MOMENTS, moments, strict=True)
        }

    def resume(self, contents: Mapping[str, Bytes]) -> None:
        """Take over the moments that waited at a commit."""
        self._waiting, self._resumed = {}, {}
        for key, content in contents.items():
            if key.startswith(_WAITING):
                name, category, fold, _ = key.removeprefix(_WAITING).rsplit("/", 3)
                # A copy: the contents are views into the whole commit.
                values = content.view(np.float64).copy()
                place: Shape = int(category), int(fold)
                self._resumed.setdefault((name, place), []).append(values)

    def _divided(self, layers: Sequence[Layer]) -> list[tuple[Sequence[Layer], slice]]:
        """Neighbours whose files hold the same groups, and their units in the bundle."""
        key = layers[0].name, layers[-1].name  # the bundles of a scan stay the same
        if key not in self._alike:
            self._alike[key] = []
            for _, some in groupby(columns(layers), lambda one: self.rows(one[0])):
                alike, units = zip(*some, strict=True)
                self._alike[key].append((alike, slice(units[0].start, units[-1].stop)))
        return self._alike[key]

    def _add(self, part: FilePart, moments: Sequence[Values]) -> None:
        """Add the next groups of a file."""
        layers, place = part.layers, part.place
        if len(moments[0]) == part.size:  # a whole file waits for none
            self._write(layers, place, moments)
            return
        key = layers[0].name, place
        if key not in self._waiting:
            self._waiting[key] = waiting = _Waiting(layers, part.size)
            if key in self._resumed:
                earlier = self._resumed.pop(key)
                waiting.add([values.reshape(-1, waiting.values.shape[-1]) for values in earlier])
        if self._waiting[key].add(moments):
            self._write(layers, place, list(self._waiting.pop(key).values))

    def _numbers(self, layer: Layer, place: Sequence[int]) -> tuple[int, int]:
        """The first group of a file, and the one after its last."""
        categories, folds = self.region_of(layer, place)
        last = (categories.stop - 1) * self._folds + folds.stop
        return categories.start * self._folds + folds.start, last

    def _grid(self, layer: Layer) -> Grid:
        return self._reader.arrays.opened(f"{layer.name}/{MOMENTS[0]}").grid

    def _write(self, layers: Sequence[Layer], place: Shape, moments: Sequence[Values]) -> None:
        for layer, units in columns(layers):
            grid, whole = self._grid(layer), (*place, *(0 for _ in layer.shape))
            first, _ = self._numbers(layer, place)
            for name, values in zip(MOMENTS, moments, strict=True):
                own = values[:, units].reshape(-1, *layer.shape)
                chunks = _chunks(grid, layer.shape, place, first, own)
                write_file(self._store, f"{layer.name}/{name}", grid, whole, chunks)


def _chunks(
    grid: Grid, shape: Shape, place: Shape, first: int, values: Values
) -> Iterator[NDArray[Any]]:
    """The chunks of a file of moments, in order, from the ``values [group, *layer dims]``."""
    dtype, (categories, folds) = np.dtype(f"f{grid.itemsize}"), grid.chunk[:2]
    starts = (
        range(at * length, (at + 1) * length, step)
        for at, length, step in zip(place, grid.file, grid.chunk[:2], strict=False)
    )
    for category, fold in product(*starts):
        # A chunk of several categories has all folds: its groups are consecutive.
        start = category * grid.shape[1] + fold - first
        own = values[start : start + categories * folds] if fold < grid.shape[1] else values[:0]
        for slab, _ in slabs(shape, grid.chunk[2:]):
            units = own[(slice(None), *slab)]
            if grid.chunk[:2] == (1, 1) and len(own):
                yield padded(units[np.newaxis].astype(dtype, copy=False), grid)
                continue
            chunk = np.full((categories * folds, *grid.chunk[2:]), np.nan, dtype)
            chunk[tuple(map(slice, units.shape))] = units
            yield chunk.reshape(grid.chunk)

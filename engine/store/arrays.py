"""The arrays of a store, opened and read when they are asked for, and only if they are sound.

Stores come from strangers, and disks fail: an array that is not what the schema says, a file that
is missing or too small for what it has to hold, is refused before it is decoded. So the memory that
reading takes is bounded by the bytes that are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore

from .files import fault_of_chunks, fault_of_file
from .metadata import (
    ARRAY_BYTES,
    GROUP_KEYS,
    ROOT_BYTES,
    Cut,
    Misfit,
    Opened,
    cut_of,
    gathered_in,
    open_array,
    read_json,
    refusing,
)
from .places import Place
from .schema import RootSchema, shown
from .zarr_internals import read_with_zarrs, sync

# Chunks of which it is remembered that their checksum fits: of 1,000 categories there are millions.
_MOST_COMPARED = 100_000
# The metadata of every group and array, by its name, as JSON.
Gathered = Mapping[str, Any]


class Arrays:
    """The arrays of the store at ``place``, which lies in ``store``.

    ``gathered`` are the metadata that its root has gathered; where it has not, arrays have theirs.

    Raises
    ------
    Misfit : from all methods, where an array is missing, or is not what it has to be
    """

    def __init__(
        self, place: Place, store: ZarrStore, schema: RootSchema, gathered: Gathered | None
    ) -> None:
        self._place, self._store = place, store
        self._folder = place if isinstance(place, Path) else None
        self._schema, self._gathered = schema, gathered
        self._known: dict[str, Opened] = {}
        self._agreeing: set[str] = set()
        self._sound: set[tuple[str, tuple[int, ...]]] = set()
        self._compared: set[tuple[str, tuple[int, ...], int]] = set()

    def opened(self, key: str) -> Opened:
        """An array that is what the schema says, and encoded as fusiform does."""
        if key not in self._known:
            with refusing(Misfit):
                expected = self._schema.expected(key)
                document: Any = (self._gathered or {}).get(key)
                if self._gathered is None:
                    document = self.own_metadata(key)
                if expected is None or not isinstance(document, dict):
                    raise Misfit("is missing")
                opened = open_array(self._store, key, document, expected)
                # It knows local files only, and numbers.
                if self._folder is not None and opened.cut.itemsize:
                    read_with_zarrs(opened.array)
            self._known[key] = opened
        return self._known[key]

    def part(self, key: str, selection: tuple[int | slice, ...] = ()) -> NDArray[Any]:
        """Part of an array. A file that is missing zarr would read as missing values."""
        opened = self.opened(key)
        for file in files_of(opened.array, selection):
            self.require_file(key, file)
        if self._folder is not None and self._gathered is not None:
            self.require_own(key)
        with refusing(Misfit):
            # Of a file that it reads in part, compiled code compares no checksums.
            if self._folder is not None and opened.cut.sharded and selection:
                self._require_chunks(key, selection, self._folder)
            return np.asarray(opened.array[selection or ...])

    def require_file(self, key: str, file: tuple[int, ...]) -> None:
        """Refuse a file of an array that is missing, or cannot be whole."""
        if (key, file) not in self._sound:
            opened = self.opened(key)
            with refusing(Misfit):
                fault = fault_of_file(opened, file, self._folder)
            if fault:
                raise Misfit(fault)
            self._sound.add((key, file))

    def faults(self, key: str) -> Iterator[str]:
        """What is wrong with the files of an array, as far as that is seen without decoding."""
        for file in files_of(self.opened(key).array):
            try:
                self.require_file(key, file)
            except Misfit as misfit:
                yield str(misfit)

    def _require_chunks(self, key: str, selection: Sequence[int | slice], folder: Path) -> None:
        """Refuse chunks that have another checksum than was written beside them."""
        opened = self.opened(key)
        for file, chunks in chunks_of(opened.cut, selection).items():
            unknown = [chunk for chunk in chunks if (key, file, chunk) not in self._compared]
            if unknown:
                fault = fault_of_chunks(opened, file, unknown, folder)
                if fault:
                    raise Misfit(fault)
                if len(self._compared) > _MOST_COMPARED:
                    self._compared.clear()
                self._compared.update((key, file, chunk) for chunk in unknown)

    def own_metadata(self, key: str) -> dict[str, Any]:
        """What lies in an array's own place, beside what the root has gathered of it."""
        try:
            document = read_json(self._store, f"{key}/zarr.json", ARRAY_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise Misfit("is missing") from None
        if document.get("node_type") != "array":
            raise Misfit("has no metadata that can be read (they are not of an array)")
        return document

    def require_own(self, key: str) -> None:
        """Refuse an array whose own metadata are not those that the root has gathered of it.

        Whoever reads a folder does. Behind a URL every array would have to be asked for once more:
        there only ``check`` does.
        """
        if key in self._agreeing:
            return
        with refusing(Misfit):
            own = self.own_metadata(key)
        if self._gathered is not None and self._gathered.get(key) != own:
            raise Misfit("has other metadata than the root has gathered of it")
        self._agreeing.add(key)

    def require_sound(self) -> None:
        """Refuse what a reader who trusts what is written had better not open.

        Such a reader takes the coordinates into memory at once, and the rest when it is asked for.
        """
        with refusing(Misfit):
            gathered = self._gathered
            if gathered is None:  # of a draft that has come to its end
                gathered = gathered_in(read_json(self._store, "zarr.json", ROOT_BYTES))
            if gathered is None:
                raise Misfit("it has not gathered the metadata of its arrays")
            coordinates = [key for key, one in gathered.items() if self._is_coordinate(key, one)]
        for key in coordinates:
            self.require_file(key, (0,))
        if self._folder is not None:
            for key, one in gathered.items():
                if one.get("node_type") != "group":
                    self.require_own(key)

    def _is_coordinate(self, key: str, document: Any) -> bool:
        if not isinstance(document, dict):
            raise Misfit(f"{shown(key)} is none")
        if document.get("node_type") == "group":
            empty = not document.get("attributes") and not gathered_in(document)
            if not empty or not document.keys() <= GROUP_KEYS:
                raise Misfit(f"{shown(key)} is a group that no scan makes")
            return False
        expected = self._schema.expected(key)
        if expected is None:
            raise Misfit(f"{shown(key)} is no array of a store")
        cut_of(document, expected)
        return expected.dims == (key.rpartition("/")[2],)


def files_of(
    array: zarr.Array[Any], selection: Sequence[int | slice] = ()
) -> Iterator[tuple[int, ...]]:
    """The files that hold ``selection`` of an array, by their place in its grid."""
    sizes = array.shards or array.chunks
    chosen = [*selection, *[slice(None)] * (array.ndim - len(selection))]
    ranges = []
    for one, length, size in zip(chosen, array.shape, sizes, strict=True):
        start, stop, _ = (slice(one, one + 1) if isinstance(one, int) else one).indices(length)
        ranges.append(range(start // size, math.ceil(stop / size)))
    yield from product(*ranges)


def chunks_of(cut: Cut, selection: Sequence[int | slice]) -> dict[tuple[int, ...], list[int]]:
    """The chunks that a part of an array lies in: for every file their numbers in it."""
    chosen = [*selection, *[slice(None)] * (len(cut.shape) - len(selection))]
    ranges = []
    for one, length, size in zip(chosen, cut.shape, cut.chunk, strict=True):
        start, stop, _ = (slice(one, one + 1) if isinstance(one, int) else one).indices(length)
        ranges.append(range(start // size, math.ceil(stop / size)))
    grid = tuple(file // chunk for file, chunk in zip(cut.file, cut.chunk, strict=True))
    found: dict[tuple[int, ...], list[int]] = {}
    for place in product(*ranges):
        file = tuple(one // size for one, size in zip(place, grid, strict=True))
        within = tuple(one % size for one, size in zip(place, grid, strict=True))
        found.setdefault(file, []).append(int(np.ravel_multi_index(within, grid)))
    return found


def present(array: zarr.Array[Any], file: tuple[int, ...]) -> bool:
    """Whether a file of an array is there, and not empty."""
    path = array.store_path / array.metadata.encode_chunk_key(file)
    try:
        return sync(path.store.getsize(path.path)) > 0
    except FileNotFoundError:
        return False

"""Reading arrays, after checking that their metadata, files and chunks are sound.

Stores come from strangers, and disks fail: an array unlike the schema, or a file that is missing or
too small, is refused before it is decoded. So memory is bounded by the bytes on the disk. Numbers
on local disks are read by :mod:`.shards`; texts, and everything behind a URL, by zarr.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype

from . import shards
from .attributes import brief
from .chunking import Grid, Shape
from .files.archive import Archive
from .files.memory import Memory, MemoryFiles
from .files.raw import FolderFiles, RawFiles
from .location import Location
from .metadata import (
    ARRAY_BYTES,
    CHECKSUM,
    CHUNK_BYTES,
    GROUP_FIELDS,
    ROOT_BYTES,
    Misfit,
    Opened,
    consolidated_in,
    grid_of,
    least_bytes,
    parse_json,
    read_json,
    refusing,
)
from .schema import RootSchema
from .shards import Region, files_of, key_of
from .zarr_internals import sync

# Metadata of every group and array, by key.
Consolidated = Mapping[str, Any]
Selection = Sequence[int | slice]


class Arrays:
    """The arrays of a store.

    Parameters
    ----------
    location, store : where the store lies, and what reads it
    consolidated : metadata from the root; None where every array has its own

    Raises
    ------
    Misfit : by all methods, if an array is missing or is not as it must be
    """

    def __init__(
        self,
        location: Location,
        store: ZarrStore,
        schema: RootSchema,
        consolidated: Consolidated | None,
    ) -> None:
        self._store, self._schema, self._consolidated = store, schema, consolidated
        self._files: RawFiles | None = None
        if isinstance(location, Path):
            self._files = FolderFiles(location)
        elif isinstance(location, Archive):
            self._files = location.files
        elif isinstance(location, Memory):
            self._files = MemoryFiles(location.files)
        self._opened: dict[str, Opened] = {}
        self._consistent: set[str] = set()
        self._sound: set[tuple[str, Shape]] = set()

    def opened(self, key: str) -> Opened:
        """An array that matches the schema and is encoded as fusiform does."""
        if key not in self._opened:
            with refusing(Misfit):
                expected = self._schema.expected(key)
                document: Any = (self._consolidated or {}).get(key)
                if self._consolidated is None:
                    document = self.own_metadata(key)
                if expected is None or not isinstance(document, dict):
                    raise Misfit("is missing")
                grid = grid_of(document, expected)
            self._opened[key] = Opened(self._store, key, document, grid)
        return self._opened[key]

    def part(
        self, key: str, selection: Selection = (), out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Read part of an array; missing files are an error, not missing values as for zarr.

        Parameters
        ----------
        selection : indices, and slices of step 1, along the first dimensions
        out : an array for the result, if it has no indices
        """
        opened = self.opened(key)
        region = region_of(opened.grid, selection)
        self.require_files(key, selection)
        if self._files and self._consolidated is not None:
            self.require_consistent(key)
        with refusing(Misfit):
            if self._files and opened.grid.itemsize and sys.byteorder == "little":
                if out is None:
                    out = np.empty([one.stop - one.start for one in region], opened.dtype)
                shards.read(self._files, key, opened.grid, opened.dtype, region, out)
                return out[tuple(0 if isinstance(one, int) else slice(None) for one in selection)]
            if out is None:
                return np.asarray(opened.array[tuple(selection) or ...])
            out[...] = np.asarray(opened.array[tuple(selection) or ...])
            return out

    def require_files(self, key: str, selection: Selection = ()) -> None:
        """Raise if a file that holds a part of an array is missing or cannot be whole."""
        grid = self.opened(key).grid
        for place in files_of(grid, region_of(grid, selection)):
            self.require_file(key, place)

    def require_file(self, key: str, place: Shape) -> None:
        """Raise if a file of an array is missing or cannot be whole."""
        if (key, place) not in self._sound:
            opened = self.opened(key)
            with refusing(Misfit):
                fault = self._fault(opened, place)
            if fault:
                raise Misfit(fault)
            self._sound.add((key, place))

    def faults(self, key: str) -> Iterator[str]:
        """The faults of an array's files, as far as they show without decoding."""
        grid = self.opened(key).grid
        for place in files_of(grid, region_of(grid)):
            try:
                self.require_file(key, place)
            except Misfit as misfit:
                yield str(misfit)

    def own_metadata(self, key: str) -> dict[str, Any]:
        """The metadata beside an array, which the root's consolidated ones repeat."""
        try:
            document = self._document(f"{key}/zarr.json")
        except (FileNotFoundError, NotADirectoryError):
            raise Misfit("is missing") from None
        if document.get("node_type") != "array":
            raise Misfit("has unreadable metadata (not an array's)")
        return document

    def _document(self, key: str) -> dict[str, Any]:
        if not self._files:
            return read_json(self._store, key, ARRAY_BYTES)
        with self._files.open(key) as file:
            return parse_json(file.read(0, ARRAY_BYTES + 1), ARRAY_BYTES)

    def require_consistent(self, key: str) -> None:
        """Raise if an array's own metadata differ from those consolidated in the root.

        Readers of a folder always check this; behind a URL, where it takes one more request for
        every array, only ``check`` does.
        """
        if key in self._consistent:
            return
        with refusing(Misfit):
            own = self.own_metadata(key)
        if self._consolidated is not None and self._consolidated.get(key) != own:
            raise Misfit("has metadata that differ from those consolidated in the root")
        self._consistent.add(key)

    def require_sound(self) -> None:
        """Raise unless a reader that trusts the store, such as xarray, can open it safely.

        Such a reader loads coordinates at once, and everything else on demand.
        """
        with refusing(Misfit):
            consolidated = self._consolidated
            if consolidated is None:  # a draft, just completed
                consolidated = consolidated_in(read_json(self._store, "zarr.json", ROOT_BYTES))
            if consolidated is None:
                raise Misfit("has no consolidated metadata")
            coordinates = [key for key, one in consolidated.items() if self._coordinate(key, one)]
        for key in coordinates:
            self.require_file(key, (0,))
        if self._files:
            for key, one in consolidated.items():
                if one.get("node_type") != "group":
                    self.require_consistent(key)

    def _coordinate(self, key: str, document: Any) -> bool:
        """Whether consolidated metadata, which are checked here, are those of a coordinate."""
        if not isinstance(document, dict):
            raise Misfit(f"{brief(key)} has no metadata")
        if document.get("node_type") == "group":
            empty = not document.get("attributes") and not consolidated_in(document)
            if not empty or not document.keys() <= GROUP_FIELDS:
                raise Misfit(f"{brief(key)} is a group that no scan makes")
            return False
        expected = self._schema.expected(key)
        if expected is None:
            raise Misfit(f"{brief(key)} is no array of a store")
        grid_of(document, expected)
        return expected.dims == (key.rpartition("/")[2],)

    def _fault(self, opened: Opened, place: Shape) -> str | None:
        """Why a file must not be decoded; None if it may be. Nothing is decoded."""
        grid, key = opened.grid, key_of(place)
        path = f"{opened.key}/{key}"
        size = self._size(path)
        if not size:
            return f"file {key} is missing or empty"
        if size < (least := least_bytes(grid)):
            return f"file {key} is cut short: it has {size:,} bytes, of at least {least:,}"
        if not grid.itemsize:
            return self._text_fault(path, key, size, math.prod(grid.shape))
        if not self._files:
            return None
        if not grid.sharded:
            longer = size > grid.chunk_bytes + CHECKSUM
            return f"file {key} has {size:,} bytes, more than {least:,}" if longer else None
        with self._files.open(path) as file:
            return shards.index_fault(file, key, grid)

    def _text_fault(self, path: str, key: str, size: int, number: int) -> str | None:
        if size > CHUNK_BYTES:
            return f"file {key} has {size:,} bytes; texts have at most {CHUNK_BYTES:,}"
        found = sync(self._store.get(path, default_buffer_prototype(), RangeByteRequest(0, 4)))
        held = 0 if found is None else int.from_bytes(found.to_bytes(), "little")
        return (
            None if held == number else f"file {key} says it holds {held:,} texts, not {number:,}"
        )

    def _size(self, path: str) -> int:
        if self._files:
            return self._files.size(path)
        try:
            return int(sync(self._store.getsize(path)))
        except FileNotFoundError:
            return 0


def region_of(grid: Grid, selection: Selection = ()) -> Region:
    """A selection as a slice along every dimension."""
    chosen = [*selection, *[slice(None)] * (len(grid.shape) - len(selection))]
    return tuple(
        slice(*(slice(one, one + 1) if isinstance(one, int) else one).indices(size)[:2])
        for one, size in zip(chosen, grid.shape, strict=True)
    )

"""Reading arrays, after checking that their metadata, files and chunks are sound.

Stores come from strangers, and disks fail: an array unlike the schema, or a file that is missing or
too small, is refused before it is decoded. So memory is bounded by the bytes on the disk.
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
from zarr.abc.store import RangeByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import StorePath

from .attributes import brief
from .location import Location
from .metadata import (
    ARRAY_BYTES,
    CHUNK_BYTES,
    GROUP_FIELDS,
    ROOT_BYTES,
    Grid,
    Misfit,
    Opened,
    consolidated_in,
    grid_of,
    open_array,
    read_json,
    refusing,
)
from .schema import RootSchema
from .shards import chunk_fault, decode_rows, is_a_chunk_per_row, shard_fault
from .zarr_internals import read_with_zarrs, sync

# Chunks with a verified checksum to remember: with 1,000 categories there are millions.
_MAX_VERIFIED = 100_000
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
        self._folder = location if isinstance(location, Path) else None
        self._opened: dict[str, Opened] = {}
        self._consistent: set[str] = set()
        self._sound: set[tuple[str, tuple[int, ...]]] = set()
        self._verified: set[tuple[str, tuple[int, ...], int]] = set()

    def opened(self, key: str) -> Opened:
        """Open an array that matches the schema and is encoded as fusiform does."""
        if key not in self._opened:
            with refusing(Misfit):
                expected = self._schema.expected(key)
                document: Any = (self._consolidated or {}).get(key)
                if self._consolidated is None:
                    document = self.own_metadata(key)
                if expected is None or not isinstance(document, dict):
                    raise Misfit("is missing")
                opened = open_array(self._store, key, document, expected)
                # zarrs reads numbers from local files only.
                if self._folder is not None and opened.grid.itemsize:
                    read_with_zarrs(opened.array)
            self._opened[key] = opened
        return self._opened[key]

    def part(
        self,
        key: str,
        selection: tuple[int | slice, ...] = (),
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Read part of an array; missing files are an error, not missing values as for zarr."""
        opened = self.opened(key)
        for file in files_of(opened.array, selection):
            self.require_file(key, file)
        if self._folder is not None and self._consolidated is not None:
            self.require_consistent(key)
        with refusing(Misfit):
            if out is not None and self._folder and is_a_chunk_per_row(opened.grid, selection):
                files = {
                    _path(opened, file, self._folder): (_key(opened, file), chunks)
                    for file, chunks in _chunks_of(opened.grid, selection).items()
                }
                decode_rows(files, opened.grid, out)
                return out
            # zarrs verifies no checksums in a file that it reads in part.
            if self._folder is not None and opened.grid.sharded and selection:
                self._require_chunks(key, selection, self._folder)
            if out is None:
                return np.asarray(opened.array[selection or ...])
            into = default_buffer_prototype().nd_buffer.from_numpy_array(out)
            opened.array.get_basic_selection(selection or ..., out=into)
            return out

    def require_file(self, key: str, file: tuple[int, ...]) -> None:
        """Raise if a file of an array is missing or cannot be whole."""
        if (key, file) not in self._sound:
            opened = self.opened(key)
            with refusing(Misfit):
                fault = _file_fault(opened, file, self._folder)
            if fault:
                raise Misfit(fault)
            self._sound.add((key, file))

    def faults(self, key: str) -> Iterator[str]:
        """The faults of an array's files, as far as they show without decoding."""
        for file in files_of(self.opened(key).array):
            try:
                self.require_file(key, file)
            except Misfit as misfit:
                yield str(misfit)

    def own_metadata(self, key: str) -> dict[str, Any]:
        """The metadata beside an array, which the root's consolidated ones repeat."""
        try:
            document = read_json(self._store, f"{key}/zarr.json", ARRAY_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise Misfit("is missing") from None
        if document.get("node_type") != "array":
            raise Misfit("has unreadable metadata (not an array's)")
        return document

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
        if self._folder is not None:
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

    def _require_chunks(self, key: str, selection: Selection, folder: Path) -> None:
        """Raise if a chunk differs from the checksum stored beside it."""
        opened = self.opened(key)
        for file, chunks in _chunks_of(opened.grid, selection).items():
            unknown = [chunk for chunk in chunks if (key, file, chunk) not in self._verified]
            if unknown:
                path = _path(opened, file, folder)
                fault = chunk_fault(path, _key(opened, file), opened.grid, unknown)
                if fault:
                    raise Misfit(fault)
                if len(self._verified) > _MAX_VERIFIED:
                    self._verified.clear()
                self._verified.update((key, file, chunk) for chunk in unknown)


def files_of(array: zarr.Array[Any], selection: Selection = ()) -> Iterator[tuple[int, ...]]:
    """The files that hold ``selection`` of an array, by their index in the grid of files."""
    yield from product(*_ranges(selection, array.shape, array.shards or array.chunks))


def _key(opened: Opened, file: tuple[int, ...]) -> str:
    return opened.array.metadata.encode_chunk_key(file)


def _path(opened: Opened, file: tuple[int, ...], folder: Path) -> Path:
    return folder / opened.array.store_path.path / _key(opened, file)


def _chunks_of(grid: Grid, selection: Selection) -> dict[tuple[int, ...], list[int]]:
    """The chunks that hold ``selection`` of an array: their numbers in every file."""
    inside = tuple(file // chunk for file, chunk in zip(grid.file, grid.chunk, strict=True))
    found: dict[tuple[int, ...], list[int]] = {}
    for index in product(*_ranges(selection, grid.shape, grid.chunk)):
        file = tuple(one // size for one, size in zip(index, inside, strict=True))
        within = tuple(one % size for one, size in zip(index, inside, strict=True))
        found.setdefault(file, []).append(int(np.ravel_multi_index(within, inside)))
    return found


def _ranges(selection: Selection, shape: Sequence[int], sizes: Sequence[int]) -> list[range]:
    """The parts, of ``sizes``, that ``selection`` touches along every dimension."""
    chosen = [*selection, *[slice(None)] * (len(shape) - len(selection))]
    ranges = []
    for one, length, size in zip(chosen, shape, sizes, strict=True):
        start, stop, _ = (slice(one, one + 1) if isinstance(one, int) else one).indices(length)
        ranges.append(range(start // size, math.ceil(stop / size)))
    return ranges


def _file_fault(opened: Opened, file: tuple[int, ...], folder: Path | None) -> str | None:
    """Why a file must not be decoded; None if it may be. Nothing is decoded.

    Inside a ``folder`` its index and the heads of its chunks are checked, too.
    """
    array, grid = opened.array, opened.grid
    key = array.metadata.encode_chunk_key(file)
    path = array.store_path / key
    try:
        size = sync(path.store.getsize(path.path))
    except FileNotFoundError:
        size = 0
    if not size:
        return f"file {key} is missing or empty"
    if size < grid.least_bytes:
        return f"file {key} is cut short: it has {size:,} bytes, of at least {grid.least_bytes:,}"
    if not grid.itemsize:
        return _text_fault(path, key, size, math.prod(grid.shape))
    if folder is None or not grid.sharded:
        return None
    return shard_fault(folder / path.path, key, size, grid)


def _text_fault(path: StorePath, key: str, size: int, number: int) -> str | None:
    if size > CHUNK_BYTES:
        return f"file {key} has {size:,} bytes; texts have at most {CHUNK_BYTES:,}"
    found = sync(path.store.get(path.path, default_buffer_prototype(), RangeByteRequest(0, 4)))
    held = 0 if found is None else int.from_bytes(found.to_bytes(), "little")
    return None if held == number else f"file {key} says it holds {held:,} texts, not {number:,}"

"""Writing arrays: small ones at once, variables of a layer slab by slab, and a background thread.

Files are encoded here, in the order of the array, because zarr takes a millisecond per chunk and
ten per array. A file is written whole, and replaces a torn one of an earlier run.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, VLenUTF8
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore

from ...layer import Layer
from ...registry import EXTREMES, STIMULUS_COLUMNS
from ..chunking import Grid, Shape, Slab, slabs, variable_grid, whole_grid
from ..location import write
from ..shards import key_of
from .documents import GROUP, array_document, as_bytes


def create_group(store: ZarrStore, key: str) -> None:
    """Write the metadata of a group without attributes."""
    write(store, f"{key}/zarr.json", [as_bytes(GROUP)])


def create_array(
    store: ZarrStore,
    key: str,
    grid: Grid,
    dtype: str,
    dims: Sequence[str],
    attributes: Mapping[str, Any],
) -> None:
    """Write the metadata of an array."""
    document = array_document(grid, dtype, dims, attributes)
    write(store, f"{key}/zarr.json", [as_bytes(document)])


def put(
    store: ZarrStore,
    key: str,
    values: NDArray[Any],
    dims: Sequence[str],
    long_name: str,
    **attributes: Any,
) -> None:
    """Write a small array as one chunk; an array of objects holds text."""
    text = values.dtype == object
    grid = whole_grid(values.shape, 0 if text else values.dtype.itemsize)
    dtype = "string" if text else values.dtype.name
    create_array(store, key, grid, dtype, dims, {"long_name": long_name, **attributes})
    content: Any = bytes(VLenUTF8().encode(values)) if text else _encoded(values)
    write(store, f"{key}/{key_of((0,) * values.ndim)}", [content, _checksum(content)])


def put_count(store: ZarrStore, counts: NDArray[np.int64]) -> None:
    """Write the number of stimuli ``[category, fold]``."""
    put(store, "count", counts, ("category", "fold"), "number of stimuli")


def put_column(store: ZarrStore, column: str, values: Sequence[Any] | NDArray[Any]) -> None:
    """Write a column ``[stimulus]`` of the stimulus table."""
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    put(store, column, array, ("stimulus",), STIMULUS_COLUMNS[column])


class SlabWriter:
    """Writes variables ``[*leading, *layer dims]`` from slabs ``[*leading, unit]`` in order.

    Parameters
    ----------
    group : key of the group that they lie in
    chunk : shape of a slab
    saved : name of the saved contrast, if it writes one
    """

    def __init__(
        self, store: ZarrStore, group: str, layer: Layer, chunk: Shape, saved: str = ""
    ) -> None:
        self._store, self._group, self._layer = store, group, layer
        self._chunk, self._saved = chunk, saved
        self._slabs = [slab for slab, _ in slabs(layer.shape, chunk)]
        self._open: dict[str, _File] = {}
        self._extremes: dict[str, NDArray[np.float32]] = {}

    def write(
        self,
        number: int,
        variable: str,
        values: NDArray[Any],
        leading: Mapping[str, int],
        attributes: Mapping[str, Any],
    ) -> None:
        """Add the ``number``-th slab of a variable; a file is written when it is full."""
        if number == 0:
            self._open[variable] = self._created(variable, values.dtype, leading, attributes)
        self._open[variable].add(self._slabs[number], values.reshape(*leading.values(), -1))
        if values.dtype.kind == "f":
            if number == 0:
                shape = (2, *leading.values(), len(self._slabs))
                self._extremes[variable] = np.empty(shape, np.float32)
            for bound, reduce in enumerate((np.fmin.reduce, np.fmax.reduce)):  # NaN aside
                self._extremes[variable][bound, ..., number] = reduce(values, axis=-1)

    def finish(self) -> None:
        """Write the smallest and largest value of every slab, after the last slab."""
        if not self._extremes:
            return
        found = np.stack(list(self._extremes.values()))
        leading = ("category",) if found.ndim == 4 else ()
        put(
            self._store,
            f"{self._group}/{EXTREMES}",
            found,
            # xarray wants one length for a dimension in nested groups: names must differ.
            (f"{self._saved}_variable" if self._saved else "variable", "bound", *leading, "chunk"),
            "smallest and largest value in every chunk of a variable",
            variables=list(self._extremes),
        )

    def _created(
        self,
        variable: str,
        dtype: np.dtype[Any],
        leading: Mapping[str, int],
        attributes: Mapping[str, Any],
    ) -> _File:
        sizes = tuple(leading.values())
        compress = dtype == np.bool_
        grid = variable_grid(self._layer, sizes, self._chunk, dtype.itemsize, compress)
        dims, key = (*leading, *self._layer.dims), f"{self._group}/{variable}"
        create_array(self._store, key, grid, dtype.name, dims, attributes)
        return _File(self._store, key, grid, len(leading), dtype)


class _File:
    """The file of a variable that is being filled slab by slab, and then the next one."""

    def __init__(
        self, store: ZarrStore, key: str, grid: Grid, leading: int, dtype: np.dtype[Any]
    ) -> None:
        self._store, self._key, self._grid, self._dtype = store, key, grid, dtype
        self._leading = leading
        self._held: list[tuple[Slab, NDArray[Any]]] = []

    def add(self, slab: Slab, values: NDArray[Any]) -> None:
        """Add a slab ``[*leading, unit]``; the last one of a file writes it."""
        self._held.append((slab, values))
        sizes = (part[self._leading :] for part in (self._grid.shape, self._grid.file))
        if all(
            part.stop == size or part.stop % length == 0
            for part, size, length in zip(slab, *sizes, strict=True)
        ):
            self._write()

    def _write(self) -> None:
        grid, leading = self._grid, self._leading
        cut, file = grid.chunk[leading:], grid.file[leading:]
        inside = tuple(f // c for f, c in zip(file, cut, strict=True))
        places = [
            int(
                np.ravel_multi_index(
                    [p.start % f // c for p, f, c in zip(slab, file, cut, strict=True)], inside
                )
            )
            for slab, _ in self._held
        ]
        fill = padded(np.empty((0,) * len(grid.chunk), self._dtype), grid)
        chunks: list[NDArray[Any]] = []
        for rows, _ in slabs(grid.shape[:leading], grid.chunk[:leading]):
            own = [fill] * math.prod(inside)
            for place, (slab, values) in zip(places, self._held, strict=True):
                part = values[rows]
                lengths = (part.stop - part.start for part in slab)
                own[place] = padded(part.reshape(*part.shape[:-1], *lengths), grid)
            chunks += own
        first = self._held[0][0]
        at = tuple(part.start // f for part, f in zip(first, file, strict=True))
        self._held = []
        write_file(self._store, self._key, grid, (*(0 for _ in range(leading)), *at), chunks)


class BackgroundWriter:
    """Calls functions in a thread, one at a time, in the order they are given.

    At most ``pending`` calls are under way or waiting. After an error no further call is made: a
    commit that waits behind a failed write would count what is not there.
    """

    def __init__(self, pool: ThreadPoolExecutor, pending: int) -> None:
        self._pool, self._most = pool, pending
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def __call__(self, write: Any, *arguments: Any, **named: Any) -> None:
        """Have ``write`` called, after waiting for earlier calls if too many are pending."""
        self._wait(self._most - 1)
        self._pending.append(self._pool.submit(self._call, write, *arguments, **named))

    def wait(self) -> None:
        """Wait for all calls. An error of one is raised here, and again by every later call."""
        self._wait(0)

    def _call(self, write: Any, *arguments: Any, **named: Any) -> None:
        if self._failed:
            return
        try:
            write(*arguments, **named)
        except BaseException:
            self._failed = True
            raise

    def _wait(self, left: int) -> None:
        while self._pending and (len(self._pending) > left or self._pending[0].done()):
            self._pending[0].result()
            self._pending.popleft()


@contextmanager
def background_writer(pending: int = 1) -> Iterator[BackgroundWriter]:
    """Give a :class:`BackgroundWriter`; leaving the context waits for its last call.

    The next call waits while ``pending`` are under way, so one more than these is held in memory.
    An error is raised by the next call that waits, or at the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
        writer = BackgroundWriter(pool, pending)
        yield writer
        writer.wait()


def write_file(
    store: ZarrStore, key: str, grid: Grid, place: Shape, chunks: Iterable[NDArray[Any]]
) -> None:
    """Write a file of an array, by its place in the grid of files, from its chunks in order."""
    blosc = Blosc("lz4", 1, Blosc.SHUFFLE)
    parts: list[Any] = []
    index, start = [], 0
    for chunk in chunks:
        content = bytes(blosc.encode(_little(chunk))) if grid.compressed else _encoded(chunk)
        parts += [content, _checksum(content)]
        index += [start, len(content) + 4]
        start += len(content) + 4
    encoded = np.array(index, "<u8").tobytes()
    parts += [encoded, _checksum(encoded)]
    write(store, f"{key}/{key_of(place)}", parts)


def padded(values: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Values of a chunk, filled up to a whole one at the end of an array."""
    if values.shape == grid.chunk:
        return values
    whole = np.full(grid.chunk, np.nan if values.dtype.kind == "f" else 0, values.dtype)
    whole[tuple(map(slice, values.shape))] = values
    return whole


def _encoded(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of numbers, the lowest first."""
    return _little(values).reshape(-1).view(np.uint8)


def _little(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def _checksum(content: Any) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(4, "little")

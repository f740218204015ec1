"""Writing arrays: codecs, files, variables of a layer slab by slab, and a background thread.

Measurements of the layout: ``benchmarks/results/layout.md``. Files of moments hold one category and
fold, so that each can be written when it is finished; other files hold as many slabs as fit into
memory. Files of layers are encoded here in zarr's ``sharding_indexed`` format, because zarr takes a
millisecond per chunk, and 1,000 categories have millions. Chunks lie in the order of the array. A
file is written whole, and replaces a torn one of an earlier run.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec, Crc32cCodec

from ...layer import COORDINATES, Layer
from ...registry import EXTREMES, STIMULUS_COLUMNS
from ..chunking import Shape, Slab, file_shape, slabs
from ..location import DurableFolder
from ..zarr_internals import sync

# A missing chunk is damage, even one of fill values.
WRITE_ALL: Any = {"write_empty_chunks": True}
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def create_array(
    group: zarr.Group,
    variable: str,
    layer: Layer,
    leading: Mapping[str, int],
    dtype: str,
    attributes: Mapping[str, Any],
    *,
    shapes: tuple[Shape, Shape],
    one_file: bool,
) -> zarr.Array[Any]:
    """Create an array ``[*leading, *layer dims]``.

    Parameters
    ----------
    shapes : of a chunk and of a file, along the layer's dimensions
    one_file : whether a file holds all of ``leading``, or one entry
    """
    sizes, ones = tuple(leading.values()), (1,) * len(leading)
    chunk, file = shapes
    return group.create_array(
        variable,
        shape=(*sizes, *layer.shape),
        dtype=dtype,
        chunks=(*ones, *chunk),
        shards=(*(sizes if one_file else ones), *file),
        # Queries read uncompressed numbers a quarter faster; compression saves only an eighth.
        compressors=_codecs(compress=dtype == "bool" or not one_file),
        fill_value=np.nan if dtype.startswith("float") else False if dtype == "bool" else 0,
        dimension_names=(*leading, *layer.dims),
        attributes=dict(attributes),
        config=WRITE_ALL,
        overwrite=True,
    )


def create_coordinates(group: zarr.Group, layer: Layer) -> None:
    """Write the coordinates of a layer: indices along every dimension."""
    for dim, size in zip(layer.dims, layer.shape, strict=True):
        long_name = COORDINATES.get(dim, f"place along {dim}")  # axis_0, ... of odd outputs
        put(group, dim, np.arange(size, dtype=np.int32), (dim,), long_name)


def put(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    long_name: str,
    **attributes: Any,
) -> None:
    """Write a small array as one chunk; an array of objects holds text."""
    dtype = str if values.dtype == object else values.dtype
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=dtype,
        chunks=tuple(max(size, 1) for size in values.shape),
        # Texts, too: zarr's compressor for them could expand without bound in a stranger's store.
        compressors=[Crc32cCodec()],
        dimension_names=dims,
        attributes={"long_name": long_name, **attributes},
        config=WRITE_ALL,
        overwrite=True,
    )
    array[...] = values


def put_count(root: zarr.Group, counts: NDArray[np.int64]) -> None:
    """Write the number of stimuli ``[category, fold]``."""
    put(root, "count", counts, ("category", "fold"), "number of stimuli")


def put_column(root: zarr.Group, column: str, values: Sequence[Any] | NDArray[Any]) -> None:
    """Write a column ``[stimulus]`` of the stimulus table."""
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    put(root, column, array, ("stimulus",), STIMULUS_COLUMNS[column])


def put_moments(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> None:
    """Write moments ``[category, fold, ...]``, a chunk for each category and fold."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, 1, *values.shape[2:]),
        shards=values.shape,
        compressors=_codecs(compress=True),
        dimension_names=dims,
        attributes=dict(attributes),
        config=WRITE_ALL,
        overwrite=True,
    )
    array[...] = values


def consolidate(root: zarr.Group) -> None:
    """Copy the metadata of all arrays into the root, where one read finds them."""
    with warnings.catch_warnings():
        # zarr warns that other readers may not know consolidated metadata: they do without.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(root.store)


class SlabWriter:
    """Writes variables ``[*leading, *layer dims]`` from slabs ``[*leading, unit]`` in order.

    Parameters
    ----------
    chunk : shape of a slab
    saved : name of the saved contrast, if it writes one
    """

    def __init__(self, group: zarr.Group, layer: Layer, chunk: Shape, saved: str = "") -> None:
        self._group, self._layer, self._chunk, self._saved = group, layer, chunk, saved
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
            self._open[variable] = self._created(variable, values.dtype.name, leading, attributes)
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
            self._group,
            EXTREMES,
            found,
            # xarray wants one length for a dimension in nested groups: names must differ.
            (f"{self._saved}_variable" if self._saved else "variable", "bound", *leading, "chunk"),
            "smallest and largest value in every chunk of a variable",
            variables=list(self._extremes),
        )

    def _created(
        self, variable: str, dtype: str, leading: Mapping[str, int], attributes: Mapping[str, Any]
    ) -> _File:
        shapes = self._chunk, file_shape(self._layer, self._chunk, leading.get("category", 1))
        array = create_array(
            self._group, variable, self._layer, leading, dtype, attributes,
            shapes=shapes, one_file=True,
        )  # fmt: skip
        return _File(array, len(leading), self._layer.shape, *shapes)


class _File:
    """The file of a variable that is being filled slab by slab, and then the next one."""

    def __init__(
        self, array: zarr.Array[Any], leading: int, shape: Shape, chunk: Shape, file: Shape
    ) -> None:
        self._array, self._leading, self._shape, self._chunk = array, leading, shape, chunk
        self._file = file
        self._held: list[tuple[Slab, NDArray[Any]]] = []

    def add(self, slab: Slab, values: NDArray[Any]) -> None:
        """Add a slab ``[*leading, unit]``; the last one of a file writes it."""
        self._held.append((slab, values))
        if all(
            part.stop == size or part.stop % length == 0
            for part, size, length in zip(slab, self._shape, self._file, strict=True)
        ):
            self._write()

    def _write(self) -> None:
        rows = self._array.shape[: self._leading]
        grid = tuple(f // c for f, c in zip(self._file, self._chunk, strict=True))
        size = math.prod(self._chunk)
        fill = np.broadcast_to(self._array.dtype.type(self._array.fill_value), size)
        contents: list[list[Any]] = [[fill] * math.prod(grid) for _ in np.ndindex(*rows)]
        for slab, values in self._held:
            index = tuple(
                part.start % file // chunk
                for part, file, chunk in zip(slab, self._file, self._chunk, strict=True)
            )
            within = int(np.ravel_multi_index(index, grid))
            for row, units in enumerate(values.reshape(math.prod(rows), -1)):
                contents[row][within] = padded(units, slab, self._chunk, fill)
        first = self._held[0][0]
        file = tuple(part.start // f for part, f in zip(first, self._file, strict=True))
        self._held = []
        chunks = (chunk for row in contents for chunk in row)
        write_file(self._array, (*(0 for _ in rows), *file), chunks)


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
    array: zarr.Array[Any], file: tuple[int, ...], chunks: Iterable[NDArray[Any]]
) -> None:
    """Write a file of an array, by its index in the grid of files, from its chunks in order."""
    compress = _compressor(array)
    parts: list[Any] = []
    index, start = [], 0
    for chunk in chunks:
        content = compress(np.ascontiguousarray(chunk, array.dtype))
        parts += [content, _checksum(content)]
        index += [start, len(content) + 4]
        start += len(content) + 4
    encoded = np.array(index, "<u8").tobytes()
    parts += [encoded, _checksum(encoded)]
    key = array.store_path / array.metadata.encode_chunk_key(file)
    if isinstance(key.store, DurableFolder):
        key.store.write(key.path, parts)
    else:
        sync(key.set(default_buffer_prototype().buffer.from_bytes(b"".join(parts))))


def padded(units: NDArray[Any], slab: Slab, chunk: Shape, fill: NDArray[Any]) -> NDArray[Any]:
    """The units of a slab, padded to a whole chunk at the end of a layer."""
    if units.size == fill.size:
        return units
    whole = fill.reshape(chunk).copy()
    lengths = tuple(part.stop - part.start for part in slab)
    whole[tuple(slice(0, length) for length in lengths)] = units.reshape(lengths)
    return whole.ravel()


def _codecs(compress: bool) -> list[Any]:
    compressors = [BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")] if compress else []
    return [*compressors, Crc32cCodec()]


def _compressor(array: zarr.Array[Any]) -> Callable[[NDArray[Any]], Any]:
    """The encoder of a chunk, ahead of its checksum: the array's ``blosc``, if it has it.

    It gives bytes, or the chunk's own memory as an array of bytes.
    """
    for codec in array.compressors:
        if isinstance(codec, BloscCodec):
            # From the metadata: the types of the fields differ between releases of zarr.
            given: Any = codec.to_dict()["configuration"]
            blosc = Blosc(
                given["cname"], given["clevel"], _SHUFFLES[given["shuffle"]], given["blocksize"]
            )
            return lambda chunk: bytes(blosc.encode(chunk))
    return lambda chunk: chunk.reshape(-1).view(np.uint8)


def _checksum(content: Any) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(4, "little")

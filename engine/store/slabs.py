"""Variables of a layer are written slab by slab: what is held is a file at a time, not a layer.

Files are encoded here, not by zarr, which takes a millisecond for a chunk: with 1,000 categories
there are millions. They are what zarr's ``sharding_indexed`` is (chunks, then their places), but
that chunks lie in the order of the array. A file is whole, or written anew: a torn one of an
earlier run is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec

from ..layer import Layer
from ..variables import EXTREMES
from .cuts import Shape, Slab, file_shape, slabs
from .layout import create_array, put
from .zarr_internals import sync

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class SlabWriter:
    """Variables ``[*leading, *layer dims]`` of a group, given as ``[*leading, unit]`` of a slab.

    Every variable's slabs come in order. :meth:`finish` writes the smallest and largest value of
    every slab, of the variables that can be compared. ``saved`` is the name of a saved contrast.
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
        """Write the ``number``-th slab of a variable; its file is written when it is full."""
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
        """Write the extremes, when all slabs of all variables are there."""
        if not self._extremes:
            return
        found = np.stack(list(self._extremes.values()))
        leading = ("category",) if found.ndim == 4 else ()
        put(
            self._group,
            EXTREMES,
            found,
            # Groups inside each other have one length for a dimension of one name.
            (f"{self._saved}_variable" if self._saved else "variable", "bound", *leading, "chunk"),
            "smallest and largest value in every chunk of a variable",
            variables=list(self._extremes),
        )

    def _created(
        self, variable: str, dtype: str, leading: Mapping[str, int], attributes: Mapping[str, Any]
    ) -> _File:
        categories = leading.get("category", 1)
        file = file_shape(self._layer, self._chunk, categories)
        array = create_array(
            self._group, variable, self._layer, leading, dtype, attributes,
            chunk=self._chunk, file=file, one_file=True,
        )  # fmt: skip
        return _File(array, len(leading), self._layer.shape, self._chunk, file)


class _File:
    """The file of a variable that is being filled, slab by slab; then the next one."""

    def __init__(
        self, array: zarr.Array[Any], leading: int, shape: Shape, chunk: Shape, file: Shape
    ) -> None:
        self._array, self._leading, self._shape, self._chunk = array, leading, shape, chunk
        self._file = file
        self._held: list[tuple[Slab, NDArray[Any]]] = []

    def add(self, slab: Slab, values: NDArray[Any]) -> None:
        """Take a slab ``[*leading, unit]``; write the file if it is the last one of it."""
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
        fill = np.full(size, self._array.fill_value, self._array.dtype)
        contents: list[list[Any]] = [[fill] * math.prod(grid) for _ in np.ndindex(*rows)]
        for slab, values in self._held:
            place = tuple(
                part.start % file // chunk
                for part, file, chunk in zip(slab, self._file, self._chunk, strict=True)
            )
            within = int(np.ravel_multi_index(place, grid))
            for row, units in enumerate(values.reshape(math.prod(rows), -1)):
                contents[row][within] = filled_up(units, slab, self._chunk, fill)
        first = self._held[0][0]
        file = tuple(part.start // f for part, f in zip(first, self._file, strict=True))
        self._held = []
        chunks = (chunk for row in contents for chunk in row)
        write_file(self._array, (*(0 for _ in rows), *file), chunks)


def write_file(
    array: zarr.Array[Any], file: tuple[int, ...], chunks: Iterable[NDArray[Any]]
) -> None:
    """Write a file of an array, by its place in the grid of files, from all its chunks in order."""
    compress = _compressor(array)
    parts, places, start = [], [], 0
    for chunk in chunks:
        flat = np.ascontiguousarray(chunk, array.dtype)
        content = compress(flat)
        parts += [content, _checksum(content)]
        places += [start, len(content) + 4]
        start += len(content) + 4
    index = np.array(places, "<u8").tobytes()
    whole = b"".join([*parts, index, _checksum(index)])
    key = array.store_path / array.metadata.encode_chunk_key(file)
    sync(key.set(default_buffer_prototype().buffer.from_bytes(whole)))


def filled_up(units: NDArray[Any], slab: Slab, chunk: Shape, fill: NDArray[Any]) -> NDArray[Any]:
    """The units of a slab as a chunk, which at the end of a layer is larger."""
    if units.size == fill.size:
        return units
    whole = fill.reshape(chunk).copy()
    lengths = tuple(part.stop - part.start for part in slab)
    whole[tuple(slice(0, length) for length in lengths)] = units.reshape(lengths)
    return whole.ravel()


def _compressor(array: zarr.Array[Any]) -> Callable[[NDArray[Any]], bytes]:
    """What encodes a chunk, before its checksum: the array's own ``blosc``, if it has it."""
    for codec in array.compressors:
        if isinstance(codec, BloscCodec):
            # As it stands in the metadata: zarr has had several types for the fields themselves.
            given: Any = codec.to_dict()["configuration"]
            blosc = Blosc(
                given["cname"], given["clevel"], _SHUFFLES[given["shuffle"]], given["blocksize"]
            )
            return lambda chunk: bytes(blosc.encode(chunk))
    return lambda chunk: chunk.tobytes()


def _checksum(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(4, "little")

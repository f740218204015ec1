"""Files of chunks, as :mod:`.writing.array_writer` encodes them: read, checked and decoded by us.

A file holds chunks one after the other, each with its checksum, and then an index of them, as
zarr's ``sharding_indexed`` does. A small array is a file of one chunk, without an index. zarr takes
a millisecond for each array and chunk, and thousands of categories and layers have many.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from .chunking import Grid, Shape
from .files.raw import RawFile, RawFiles
from .metadata import CHECKSUM, INDEX_ENTRY, Misfit

# Head of a compressed chunk: flags, decoded bytes, size of a block, encoded bytes.
_HEADER = struct.Struct("<2xBxIII")
# The compressor in the upper three bits of the flags, by which the decoder is chosen.
_LZ4 = 1
Region = tuple[slice, ...]


@dataclass(frozen=True)
class Piece:
    """A chunk and what is wanted of it: its number in a file, and where the values go."""

    number: int
    inside: Region
    outside: Region


def index_fault(file: RawFile, key: str, grid: Grid) -> str | None:
    """The fault of a file whose chunks do not lie in it, or are of the wrong size."""
    index = _index(file, key, grid)
    start, length = index[:, 0], index[:, 1]
    end = file.size - len(index) * INDEX_ENTRY - CHECKSUM
    if ((start > end) | (length > end) | (start + length > end)).any():
        return f"file {key} lacks a chunk, or its index points outside of it"
    if length.sum(dtype=np.float64) > end:
        return f"file {key} has overlapping chunks"
    if not grid.compressed and (length != grid.chunk_bytes + CHECKSUM).any():
        return f"file {key} has chunks of the wrong size"
    return None


def read(
    files: RawFiles, prefix: str, grid: Grid, dtype: Any, region: Region, out: NDArray[Any]
) -> None:
    """Read a region of an array of numbers into ``out``; files are sound, checksums are compared.

    Parameters
    ----------
    prefix : key of the array
    region : a slice, of step 1, along every dimension

    Raises
    ------
    Misfit : a chunk is not what was written
    """
    whole = np.empty(0, dtype)
    for place, pieces in pieces_of(grid, region):
        key = key_of(place)
        with files.open(f"{prefix}/{key}") as file:
            index = _index(file, key, grid) if grid.sharded else None
            for piece in pieces:
                content = _content(file, key, index, piece.number)
                target = out[piece.outside]
                if not grid.compressed:
                    values = np.frombuffer(content, dtype).reshape(grid.chunk)
                    target[...] = values[piece.inside]
                    continue
                _require_header(content, key, grid)
                if target.shape == grid.chunk and target.flags.c_contiguous:
                    Blosc().decode(content, target)
                else:
                    if not whole.size:
                        whole = np.empty(grid.chunk, dtype)
                    Blosc().decode(content, whole)
                    target[...] = whole[piece.inside]


def pieces_of(grid: Grid, region: Region) -> Iterator[tuple[Shape, Iterator[Piece]]]:
    """The files that hold a region, by their place in the grid of files, and the pieces in each."""
    for place in files_of(grid, region):
        yield place, _pieces(grid, region, place)


def files_of(grid: Grid, region: Region) -> Iterator[Shape]:
    """The files that hold a region, by their place in the grid of files."""
    yield from product(*_ranges(region, grid.file))


def key_of(place: Sequence[int]) -> str:
    """Name of a file of an array."""
    return ".".join(("c", *map(str, place)))


def _pieces(grid: Grid, region: Region, place: Shape) -> Iterator[Piece]:
    """The chunks of a file that hold a part of a region."""
    inside_file = [file // chunk for file, chunk in zip(grid.file, grid.chunk, strict=True)]
    own = tuple(
        slice(max(part.start, at * file), min(part.stop, (at + 1) * file))
        for part, at, file in zip(region, place, grid.file, strict=True)
    )
    for chunk in product(*_ranges(own, grid.chunk)):
        number = 0
        inside, outside = [], []
        for at, blocks, length, part in zip(chunk, inside_file, grid.chunk, region, strict=True):
            number = number * blocks + at % blocks
            first = at * length
            start, stop = max(part.start, first), min(part.stop, first + length)
            inside.append(slice(start - first, stop - first))
            outside.append(slice(start - part.start, stop - part.start))
        yield Piece(number, tuple(inside), tuple(outside))


def _ranges(region: Region, sizes: Shape) -> list[range]:
    """The parts, of ``sizes``, that a region touches along every dimension."""
    return [
        range(part.start // size, math.ceil(part.stop / size))
        for part, size in zip(region, sizes, strict=True)
    ]


def _content(
    file: RawFile, key: str, index: NDArray[np.uint64] | None, number: int
) -> NDArray[np.uint8]:
    """A chunk, encoded, after comparing it with its checksum."""
    start, length = (0, file.size) if index is None else index[number].tolist()
    whole = file.read(start, length)
    content = np.frombuffer(whole, np.uint8, len(whole) - CHECKSUM)  # no copy
    checksum = int.from_bytes(whole[-CHECKSUM:], "little")
    if len(whole) < length or google_crc32c.value(content) != checksum:
        raise Misfit(f"chunk {number} of file {key} is not what was written: its checksum differs")
    return content


def _require_header(content: NDArray[np.uint8], key: str, grid: Grid) -> None:
    """Raise unless a compressed chunk declares what fusiform writes, before it is decoded."""
    head = content[: _HEADER.size].tobytes().ljust(_HEADER.size, b"\0")
    flags, declared, _, held = _HEADER.unpack(head)
    if flags >> 5 != _LZ4:
        raise Misfit(f"file {key} has a chunk that is not compressed by lz4")
    if (declared, held) != (grid.chunk_bytes, len(content)):
        raise Misfit(
            f"file {key} has a chunk that declares {declared:,} bytes, not {grid.chunk_bytes:,}"
        )


def _index(file: RawFile, key: str, grid: Grid) -> NDArray[np.uint64]:
    """The index of a file: first byte and number of bytes of every chunk."""
    length = grid.chunks * INDEX_ENTRY
    whole = file.read(file.size - length - CHECKSUM, length + CHECKSUM)
    if len(whole) < length + CHECKSUM:
        raise Misfit(f"file {key} is cut short")
    content = np.frombuffer(whole, np.uint8, length)
    if google_crc32c.value(content) != int.from_bytes(whole[length:], "little"):
        raise Misfit(f"file {key} has an index that is not what was written: its checksum differs")
    return content.view("<u8").reshape(-1, 2)

"""Files of chunks, as :mod:`.writing.array_writer` encodes them: checked and decoded by chunk.

A file holds chunks one after the other, each with its checksum, and then an index of them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from .metadata import CHECKSUM, INDEX_ENTRY, Grid, Misfit

# Head of a compressed chunk: flags, decoded bytes, size of a block, encoded bytes.
_HEADER = struct.Struct("<2xBxIII")
# The compressor in the upper three bits of the flags, by which the decoder is chosen.
_LZ4 = 1


def shard_fault(path: Path, key: str, size: int, grid: Grid) -> str | None:
    """The fault of a file whose chunks do not lie in it, or are of the wrong size."""
    with path.open("rb", buffering=0) as file:
        index = _index(file, size, grid)
        start, length = index[:, 0], index[:, 1]
        end = size - len(index) * INDEX_ENTRY - CHECKSUM
        if ((start > end) | (length > end) | (start + length > end)).any():
            return f"file {key} lacks a chunk, or its index points outside of it"
        if length.sum(dtype=np.float64) > end:
            return f"file {key} has overlapping chunks"
        if not grid.compressed:
            fits = (length == grid.chunk_bytes + CHECKSUM).all()
            return None if fits else f"file {key} has chunks of the wrong size"
        for first, encoded in index.tolist():
            header = _read(file, first, _HEADER.size).ljust(_HEADER.size, b"\0")
            flags, declared, _, held = _HEADER.unpack(header)
            if flags >> 5 != _LZ4:
                return f"file {key} has a chunk that is not compressed by lz4"
            if (declared, held) != (grid.chunk_bytes, encoded - CHECKSUM):
                return (
                    f"file {key} has a chunk that declares {declared:,} bytes, "
                    f"not {grid.chunk_bytes:,}"
                )
    return None


def chunk_fault(path: Path, key: str, grid: Grid, chunks: Sequence[int]) -> str | None:
    """The first of some chunks of a sound file that differs from its checksum."""
    try:
        for _ in _contents(path, key, grid, chunks):
            pass
    except Misfit as misfit:
        return str(misfit)
    return None


def is_a_chunk_per_row(grid: Grid, selection: Sequence[int | slice]) -> bool:
    """Whether a selection is one compressed chunk for every entry of the first axis."""
    if sys.byteorder != "little" or not (grid.sharded and grid.compressed):
        return False
    if len(selection) < len(grid.shape) or selection[0] != slice(None) or grid.chunk[0] != 1:
        return False
    return all(
        one % size == 0
        if isinstance(one, int)
        else one.start % size == 0 and one.stop == min(one.start + size, length)
        for one, size, length in zip(selection[1:], grid.chunk[1:], grid.shape[1:], strict=True)
    )


def decode_rows(
    files: Mapping[Path, tuple[str, Sequence[int]]], grid: Grid, out: NDArray[Any]
) -> None:
    """Decode a chunk into every row of ``out``, in one pass with its checksum; zarrs takes two.

    ``files`` are sound; each has its key and the numbers of its chunks. Checksums are compared.

    Raises
    ------
    Misfit : a chunk is not what was written
    """
    decode, row = Blosc().decode, 0
    for path, (key, chunks) in files.items():
        for content in _contents(path, key, grid, chunks):
            if out[row].nbytes == grid.chunk_bytes:
                decode(content, out[row])
            else:  # the last one of a layer is padded
                whole = np.empty(grid.chunk, out.dtype)
                decode(content, whole)
                lengths = out.shape[1:]
                padded = whole.reshape(grid.chunk[-len(lengths) :])
                out[row] = padded[tuple(slice(0, length) for length in lengths)]
            row += 1


def _contents(path: Path, key: str, grid: Grid, chunks: Sequence[int]) -> Iterator[bytes]:
    """Some chunks of a sound file, encoded, each compared with its checksum."""
    with path.open("rb", buffering=0) as source:
        index = _index(source, source.seek(0, 2), grid)
        for chunk in chunks:
            start, length = index[chunk].tolist()
            content = _read(source, start, length - CHECKSUM)
            checksum = int.from_bytes(source.read(CHECKSUM) or b"", "little")
            if google_crc32c.value(content) != checksum:
                raise Misfit(
                    f"chunk {chunk} of file {key} is not what was written: its checksum differs"
                )
            yield content


def _index(file: FileIO, size: int, grid: Grid) -> NDArray[np.uint64]:
    """The index of a file: first byte and number of bytes of every chunk."""
    length = grid.chunks * INDEX_ENTRY
    content = _read(file, size - length - CHECKSUM, length)
    if len(content) < length:
        raise Misfit("has a file that is cut short")
    return np.frombuffer(content, "<u8").reshape(-1, 2)


def _read(file: FileIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length) or b""

"""The files of an array: whether they can be whole, seen without decoding any."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import StorePath

from .metadata import CHECKSUM, CHUNK_BYTES, INDEX_ENTRY, Cut, Misfit, Opened
from .zarr_internals import sync

# What stands at the head of a compressed chunk: flags, decoded bytes, size of a block, bytes.
_HEADER = struct.Struct("<2xBxIII")
# The compressor, in the three upper bits of the flags: the decoder goes by them.
_LZ4 = 1


def fault_of_file(opened: Opened, file: tuple[int, ...], folder: Path | None) -> str | None:
    """What makes a file of an array one that must not be decoded; None if it may be.

    ``folder`` is where the store lies, if it is a folder: there, what the file says of its chunks
    is looked at, too. Nothing is decoded.
    """
    array, cut = opened.array, opened.cut
    key = array.metadata.encode_chunk_key(file)
    path = array.store_path / key
    try:
        size = sync(path.store.getsize(path.path))
    except FileNotFoundError:
        size = 0
    if not size:
        return f"file {key} is missing or empty"
    if size < cut.least_bytes:
        return f"file {key} is cut short: it has {size:,} bytes, of at least {cut.least_bytes:,}"
    if not cut.itemsize:
        return _fault_of_texts(path, key, size, math.prod(cut.shape))
    if folder is None or not cut.sharded:
        return None
    return _fault_of_shard(folder / path.path, key, size, cut)


def _fault_of_texts(path: StorePath, key: str, size: int, number: int) -> str | None:
    if size > CHUNK_BYTES:
        return f"file {key} has {size:,} bytes; texts have at most {CHUNK_BYTES:,}"
    found = sync(path.store.get(path.path, default_buffer_prototype(), RangeByteRequest(0, 4)))
    held = 0 if found is None else int.from_bytes(found.to_bytes(), "little")
    return None if held == number else f"file {key} says it holds {held:,} texts, not {number:,}"


def fault_of_chunks(
    opened: Opened, file: tuple[int, ...], chunks: Sequence[int], folder: Path
) -> str | None:
    """Which of some chunks of a sound file has another checksum than the one beside it."""
    key = opened.array.metadata.encode_chunk_key(file)
    with (folder / opened.array.store_path.path / key).open("rb", buffering=0) as source:
        places = _index(source, source.seek(0, 2), opened.cut)
        for chunk in chunks:
            start, length = places[chunk].tolist()
            content = _read(source, start, length - CHECKSUM)
            checksum = int.from_bytes(source.read(CHECKSUM) or b"", "little")
            if google_crc32c.value(content) != checksum:
                return f"chunk {chunk} of file {key} is not what was written: its checksum differs"
    return None


def _fault_of_shard(path: Path, key: str, size: int, cut: Cut) -> str | None:
    """Whether the chunks of a file lie in it, and are as large as they have to be."""
    with path.open("rb", buffering=0) as file:
        places = _index(file, size, cut)
        start, length = places[:, 0], places[:, 1]
        end = size - len(places) * INDEX_ENTRY - CHECKSUM
        if ((start > end) | (length > end) | (start + length > end)).any():
            return f"file {key} lacks a chunk, or has an index of places that are not in it"
        if length.sum(dtype=np.float64) > end:
            return f"file {key} has chunks that lie in each other"
        if not cut.compressed:
            fits = (length == cut.chunk_bytes + CHECKSUM).all()
            return None if fits else f"file {key} has chunks of another size than they have"
        for place, encoded in places.tolist():
            header = _read(file, place, _HEADER.size).ljust(_HEADER.size, b"\0")
            flags, declared, _, held = _HEADER.unpack(header)
            if flags >> 5 != _LZ4:
                return f"file {key} has a chunk that is not compressed by lz4"
            if (declared, held) != (cut.chunk_bytes, encoded - CHECKSUM):
                return (
                    f"file {key} has a chunk of {declared:,} bytes by what it says of itself, "
                    f"not {cut.chunk_bytes:,}"
                )
    return None


def _index(file: FileIO, size: int, cut: Cut) -> NDArray[np.uint64]:
    """Where the chunks of a file lie in it: their first byte, and their number of bytes."""
    length = cut.chunks * INDEX_ENTRY
    content = _read(file, size - length - CHECKSUM, length)
    if len(content) < length:
        raise Misfit("has a file that is cut short")
    return np.frombuffer(content, "<u8").reshape(-1, 2)


def _read(file: FileIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length) or b""

"""The metadata of arrays, validated before zarr sees them.

Stores come from strangers: only what fusiform writes is accepted. Other codecs can expand a few
bytes without bound. Of those accepted, lz4 gives at most 255 bytes for one, and the others as many
as they take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore, StorePath

from ..errors import UserError, first_line, is_resource_limit
from .attributes import brief, is_integer_in
from .chunking import Grid, is_contiguous, min_file_values
from .files.memory import MemoryFiles, MemoryFolder
from .files.raw import FolderFiles, RawFiles
from .schema import Expected, RootSchema, describe_array
from .zarr_internals import sync

# Most bytes of a root's metadata, which include those of all arrays; and of one array's.
ROOT_BYTES, ARRAY_BYTES = 64 * 2**20, 2**20
# Most numbers, texts and lists in a root: each takes some hundred bytes of memory.
_MAX_VALUES = 4_000_000
# Documents of a store behind a URL that are asked for at a time.
_REQUESTS = 16
# Most decoded bytes of a chunk, and of an array of texts.
CHUNK_BYTES = 2**30
# Most decoded bytes per encoded byte: 255 by lz4, and some for its frame.
_EXPANSION = 300
CHECKSUM, INDEX_ENTRY = 4, 16
_TYPES = {"float64": 8, "float32": 4, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "bool": 1}
# Files named c.0.1.2: a folder for every category and fold would take time, and count in quotas.
_KEYS = {"name": "default", "configuration": {"separator": "."}}
# Fields of the metadata of arrays and groups.
_ARRAY_FIELDS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("fill_value", "codecs", "attributes", "dimension_names", "storage_transformers"),
}
GROUP_FIELDS = {"zarr_format", "node_type", "attributes", "consolidated_metadata"}


class Misfit(Exception):
    """Part of a store is not as it must be; the message completes a sentence about it."""


@dataclass(frozen=True)
class Opened:
    """An array that matches the schema, and its grid."""

    store: ZarrStore
    key: str
    document: Mapping[str, Any]
    grid: Grid

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The array as zarr reads it; opening it takes zarr longer than reading a small one."""
        opened: Any = zarr.AsyncArray.from_dict(
            StorePath(self.store, self.key), dict(self.document)
        )
        return zarr.Array(opened)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes of the array."""
        found: Mapping[str, Any] = self.document.get("attributes", {})
        return found

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers."""
        found: np.dtype[Any] = np.dtype(self.document["data_type"])
        return found


def read_json(store: ZarrStore, key: str, most: int) -> dict[str, Any]:
    """Read a JSON object from a file of at most ``most`` bytes.

    Raises
    ------
    FileNotFoundError : the file is missing
    Misfit : it holds no JSON object, or is too large
    """
    size = sync(store.getsize(key))
    while True:
        if not 0 < size <= most:
            raise Misfit(f"has a zarr.json of {size:,} bytes, which is not from 1 to {most:,}")
        found = sync(store.get(key, default_buffer_prototype(), RangeByteRequest(0, size)))
        if found is None:
            raise FileNotFoundError(key)
        try:
            return parse_json(found.to_bytes(), most)
        except Misfit:
            before, size = size, sync(store.getsize(key))
            if size == before:
                raise
            # A longer file took its place, and half of that was read: read again.


def parse_json(text: bytes, most: int) -> dict[str, Any]:
    """Parse a JSON object of at most ``most`` bytes.

    Raises
    ------
    Misfit : the text is none, or too large
    """
    if len(text) > most:
        raise Misfit(f"has a zarr.json of {len(text):,} bytes, more than {most:,}")
    if sum(text.count(mark) for mark in (b"{", b"[", b",")) > _MAX_VALUES:
        raise Misfit(f"has a zarr.json of more than {_MAX_VALUES:,} values")
    try:
        document = json.loads(text)
    except RecursionError:  # worded differently by every Python
        raise Misfit("has unreadable metadata (values nested too deep)") from None
    except ValueError as error:
        raise Misfit(f"has unreadable metadata ({first_line(error)})") from None
    if not isinstance(document, dict):
        raise Misfit("has unreadable metadata (not a JSON object)")
    return document


def consolidated_in(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The consolidated metadata of a group, by key; None if it has none.

    Raises
    ------
    Misfit : they are not what zarr writes
    """
    found = document.get("consolidated_metadata")
    if found is None:
        return None
    consolidated = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(consolidated, dict) or found.get("kind") != "inline":
        raise Misfit("has consolidated metadata that are none")
    return consolidated


def documents_in(
    store: ZarrStore, schema: RootSchema, known: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The metadata of all arrays of a schema, by key; those that are ``known`` are not read.

    Raises
    ------
    Misfit : one is missing or damaged
    """
    keys = [*schema.of_root(), *(key for layer in schema.layers for key in schema.of_layer(layer))]
    files: RawFiles | None = None
    if isinstance(store, LocalStore):
        files = FolderFiles(store.root)
    elif isinstance(store, MemoryFolder):
        files = MemoryFiles(store.files)
    missing = [key for key in keys if not known.get(key)]
    # Behind a URL every document is a request, which waits for its answer.
    with ThreadPoolExecutor(1 if files else _REQUESTS, thread_name_prefix="documents") as pool:
        read = pool.map(lambda key: _own(store, files, f"{key}/zarr.json"), missing)
        found = dict(zip(missing, read, strict=True))
    return {key: known.get(key) or found[key] for key in keys}


def _own(store: ZarrStore, files: RawFiles | None, key: str) -> dict[str, Any]:
    if files is None:
        return read_json(store, key, ARRAY_BYTES)
    with files.open(key) as file:
        return parse_json(file.read(0, ARRAY_BYTES + 1), ARRAY_BYTES)


def grid_of(document: Mapping[str, Any], expected: Expected) -> Grid:
    """The grid of the array that ``document`` describes.

    Raises
    ------
    Misfit : it is not the expected one, or not encoded as fusiform does
    """
    if document.get("node_type") != "array" or document.get("zarr_format") != 3:
        raise Misfit("has unreadable metadata (not an array's)")
    shape, dims, dtype = (document.get(n) for n in ("shape", "dimension_names", "data_type"))
    if not _is_expected(shape, dims, dtype, expected):
        raise Misfit(f"must be {expected}; got {_found(shape, dims, dtype)}")
    fill, chunks = document.get("fill_value"), document.get("chunk_grid")
    if (
        document.get("chunk_key_encoding") != _KEYS
        or document.get("storage_transformers")
        or not document.keys() <= _ARRAY_FIELDS
        or fill not in ("NaN", "", 0, False)
        or not _are_attributes(document.get("attributes", {}))
    ):
        raise Misfit("has fields, file names or missing values that fusiform does not write")
    if not isinstance(chunks, dict) or chunks.get("name") != "regular":
        raise Misfit("has chunks off a regular grid")
    grid = _encoded(document.get("codecs"), shape, _sizes(chunks, len(shape)), dtype)  # type: ignore[arg-type]
    if grid.chunk_bytes > CHUNK_BYTES:
        raise Misfit(f"has chunks of {grid.chunk_bytes:,} bytes, more than {CHUNK_BYTES:,}")
    if not _is_divided(grid, expected):
        raise Misfit(f"is divided into files of {list(grid.file)}, which fusiform does not write")
    return grid


def least_bytes(grid: Grid) -> int:
    """Fewest bytes of a whole file."""
    if not grid.itemsize:  # texts: their number, and the length of each
        return 4 + 4 * math.prod(grid.shape) + CHECKSUM
    inside = -(-grid.chunk_bytes // _EXPANSION) if grid.compressed else grid.chunk_bytes
    index = grid.chunks * INDEX_ENTRY + CHECKSUM if grid.sharded else 0
    return grid.chunks * (inside + CHECKSUM) + index


def _is_divided(grid: Grid, expected: Expected) -> bool:
    """Whether chunks and files follow the order of the array, and files are large enough."""
    every = grid.shape, grid.file, grid.chunk
    leading, groups, rows = (part[: expected.split] for part in every)
    shape, file, chunk = (part[expected.split :] for part in every)
    if grid.sharded and not (
        is_contiguous(leading, groups) and is_contiguous(leading, rows)
        and is_contiguous(shape, chunk)
    ):  # fmt: skip
        return False
    return all(size <= length for size, length in zip(shape, file, strict=True)) or (
        expected.slabs and is_contiguous(shape, file) and math.prod(grid.file) >= min_file_values()
    )


def _is_expected(shape: Any, dims: Any, dtype: Any, expected: Expected) -> bool:
    if not isinstance(shape, list) or len(shape) != len(expected.shape):
        return False
    fits = all(
        is_integer_in(size, 0, 2**31) if known is None else type(size) is int and size == known
        for size, known in zip(shape, expected.shape, strict=True)
    )
    kinds = {"str": ("string",), "int": ("int64", "int32", "int16", "int8")}
    known = isinstance(dtype, str) and dtype in kinds.get(expected.dtype, (expected.dtype,))
    return fits and known and dims == list(expected.dims)


def _found(shape: Any, dims: Any, dtype: Any) -> str:
    if isinstance(shape, list) and isinstance(dims, list) and len(shape) <= len(dims) <= 30:
        texts = [tuple(brief(one).strip("'") for one in listed) for listed in (dims, shape)]
        return describe_array(brief(dtype).strip("'"), *texts)
    return brief((dtype, dims, shape))


def _are_attributes(given: Any) -> bool:
    """Whether these are texts and lists of texts, the only kinds that are safe in any reader."""
    return (
        isinstance(given, dict)
        and len(given) <= 20
        and all(
            isinstance(one, str)
            or (isinstance(one, list) and all(isinstance(text, str) for text in one))
            for one in given.values()
        )
    )


def _sizes(named: Mapping[str, Any], ndim: int) -> tuple[int, ...]:
    configuration = named.get("configuration")
    sizes = configuration.get("chunk_shape") if isinstance(configuration, dict) else None
    if (
        not isinstance(sizes, list)
        or len(sizes) != ndim
        or not all(is_integer_in(size, 1, 2**40) for size in sizes)
    ):
        raise Misfit(f"has chunks of {brief(sizes)}")
    return tuple(sizes)


def _encoded(codecs: Any, shape: Sequence[int], file: tuple[int, ...], dtype: str) -> Grid:
    """The grid of an array whose codecs fusiform writes."""
    itemsize = 0 if dtype == "string" else _TYPES[dtype]
    names = _names(codecs)
    grid = Grid(tuple(shape), file, file, itemsize, compressed=False, sharded=False)
    if names == ["sharding_indexed"] and itemsize:
        chunk = _sizes(codecs[0], len(shape))
        inside = codecs[0]["configuration"]
        inner, index = _names(inside.get("codecs")), _names(inside.get("index_codecs"))
        compressed = inner == ["bytes", "blosc", "crc32c"]
        if (
            (compressed or inner == ["bytes", "crc32c"])
            and index == ["bytes", "crc32c"]
            and inside.get("index_location", "end") == "end"
            and not any(whole % part for whole, part in zip(file, chunk, strict=True))
            and all(map(_is_configured, (*inside["codecs"], *inside["index_codecs"])))
        ):
            return replace(grid, chunk=chunk, compressed=compressed, sharded=True)
        names = [*names, *inner]
    plain = ["bytes" if itemsize else "vlen-utf8", "crc32c"]
    if names == plain and all(map(_is_configured, codecs)):
        return grid
    raise Misfit(f"is encoded by {brief(names)}, which fusiform does not write")


def _names(codecs: Any) -> list[Any]:
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        return []
    return [codec.get("name") for codec in codecs[:5]]


def _is_configured(codec: Mapping[str, Any]) -> bool:
    """Whether a known codec is configured as fusiform does."""
    given = codec.get("configuration") or {}
    if codec.get("name") != "blosc":
        return given in ({}, {"endian": "little"})
    return (
        isinstance(given, dict)
        and given.get("cname") == "lz4"
        and given.get("shuffle") in ("shuffle", "noshuffle", "bitshuffle")
        and is_integer_in(given.get("typesize"), 1, 255)
        and is_integer_in(given.get("clevel"), 0, 9)
        and is_integer_in(given.get("blocksize"), 0, 2**30)
    )


@contextmanager
def refusing(refusal: Callable[[str], Exception]) -> Iterator[None]:
    """Turn any error but a user's mistake into ``refusal`` of its first line.

    zarr raises many kinds of error for foreign data. Code compiled from Rust panics with one that
    is no ``Exception``.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if is_resource_limit(error) or isinstance(error, MemoryError):  # not damage
            raise
        raise refusal(first_line(error)) from None

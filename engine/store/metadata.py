"""The metadata of a store's arrays, read and judged before zarr sees them.

Stores come from strangers: accepted is what fusiform writes, and nothing else. A codec that is not
named here can expand a few bytes without bound; those that are cannot: lz4 gives at most 255 bytes
for one, and all others as many as they take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import zarr
from zarr.abc.store import RangeByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import StorePath

from ..errors import UserError, first_line, is_of_limits
from .cuts import is_in_order, least_of_a_file
from .schema import Expected, described, is_whole, shown
from .zarr_internals import sync

# Of a root, which gathers the metadata of all arrays; and of one array.
ROOT_BYTES, ARRAY_BYTES = 64 * 2**20, 2**20
# Numbers, texts, lists in a root: each takes some hundred bytes of memory.
_MOST_VALUES = 4_000_000
# Decoded bytes of a chunk, and of an array of texts.
CHUNK_BYTES = 2**30
# One encoded byte gives at most so many: 255 by lz4, and some for what lies around it.
EXPANSION = 300
CHECKSUM, INDEX_ENTRY = 4, 16
_TYPES = {"float64": 8, "float32": 4, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "bool": 1}
# Files called c/0/1/2.
_KEYS = {"name": "default", "configuration": {"separator": "/"}}
# What the metadata of arrays and groups consist of.
ARRAY_KEYS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("fill_value", "codecs", "attributes", "dimension_names", "storage_transformers"),
}
GROUP_KEYS = {"zarr_format", "node_type", "attributes", "consolidated_metadata"}


class Misfit(Exception):
    """What a store holds is not what it has to be; says in which way."""


@dataclass(frozen=True)
class Cut:
    """How an array is cut: ``file`` and ``chunk`` are shapes, ``itemsize`` is 0 for texts."""

    shape: tuple[int, ...]
    file: tuple[int, ...]
    chunk: tuple[int, ...]
    itemsize: int
    compressed: bool
    sharded: bool

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunk) * self.itemsize

    @property
    def chunks(self) -> int:
        """Chunks in a file."""
        return math.prod(self.file) // math.prod(self.chunk)

    @property
    def least_bytes(self) -> int:
        """A file with fewer bytes cannot be whole."""
        if not self.itemsize:  # texts: how many they are, and how long is each
            return 4 + 4 * math.prod(self.shape) + CHECKSUM
        inside = -(-self.chunk_bytes // EXPANSION) if self.compressed else self.chunk_bytes
        index = self.chunks * INDEX_ENTRY + CHECKSUM if self.sharded else 0
        return self.chunks * (inside + CHECKSUM) + index


@dataclass(frozen=True)
class Opened:
    """An array that is what it has to be, and how it is cut."""

    array: zarr.Array[Any]
    cut: Cut


def read_json(store: ZarrStore, key: str, most: int) -> dict[str, Any]:
    """The JSON object in a file of at most ``most`` bytes.

    Raises
    ------
    FileNotFoundError : there is none
    Misfit : it is no JSON object, or too large
    """
    size = sync(store.getsize(key))
    while True:
        if not 0 < size <= most:
            raise Misfit(
                f"has a zarr.json of {size:,} bytes; it has to have some, and at most {most:,}"
            )
        found = sync(store.get(key, default_buffer_prototype(), RangeByteRequest(0, size)))
        if found is None:
            raise FileNotFoundError(key)
        try:
            return parsed(found.to_bytes(), most)
        except Misfit:
            before, size = size, sync(store.getsize(key))
            if size == before:
                raise
            # Half of it was read, since a longer one has taken its place meanwhile: again.


def parsed(text: bytes, most: int) -> dict[str, Any]:
    """The JSON object in a text of at most ``most`` bytes.

    Raises
    ------
    Misfit : it is none, or too large
    """
    if len(text) > most:
        raise Misfit(f"has a zarr.json of {len(text):,} bytes; it has at most {most:,}")
    if sum(text.count(mark) for mark in (b"{", b"[", b",")) > _MOST_VALUES:
        raise Misfit(f"has a zarr.json of more than {_MOST_VALUES:,} values")
    try:
        document = json.loads(text)
    except RecursionError:  # each Python says it in other words
        raise Misfit("has no metadata that can be read (values nested too deep)") from None
    except ValueError as error:
        raise Misfit(f"has no metadata that can be read ({first_line(error)})") from None
    if not isinstance(document, dict):
        raise Misfit("has no metadata that can be read (they are no JSON object)")
    return document


def gathered_in(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The metadata of all that lies in a group, if it has gathered them.

    Raises
    ------
    Misfit : what it has gathered is none
    """
    found = document.get("consolidated_metadata")
    if found is None:
        return None
    gathered = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(gathered, dict) or found.get("kind") != "inline":
        raise Misfit("the metadata that it has gathered are none")
    return gathered


def open_array(
    store: ZarrStore, key: str, document: Mapping[str, Any], expected: Expected
) -> Opened:
    """The array that ``document`` describes, if it is the one expected.

    Raises
    ------
    Misfit : it is another one, or not encoded as fusiform does
    """
    cut = cut_of(document, expected)
    opened: Any = zarr.AsyncArray.from_dict(StorePath(store, key), dict(document))
    return Opened(zarr.Array(opened), cut)


def cut_of(document: Mapping[str, Any], expected: Expected) -> Cut:
    """How the array that ``document`` describes is cut, if it is the one expected.

    Raises
    ------
    Misfit : it is another one, or not encoded as fusiform does
    """
    if document.get("node_type") != "array" or document.get("zarr_format") != 3:
        raise Misfit("has no metadata that can be read (they are not of an array)")
    shape, dims, dtype = (document.get(n) for n in ("shape", "dimension_names", "data_type"))
    if not _is_expected(shape, dims, dtype, expected):
        raise Misfit(f"has to be {expected}; it is {_found(shape, dims, dtype)}")
    fill, grid = document.get("fill_value"), document.get("chunk_grid")
    if (
        document.get("chunk_key_encoding") != _KEYS
        or document.get("storage_transformers")
        or not document.keys() <= ARRAY_KEYS
        or fill not in ("NaN", "", 0, False)
        or not _are_attributes(document.get("attributes", {}))
    ):
        raise Misfit("has fields, file names or missing values that fusiform does not write")
    if not isinstance(grid, dict) or grid.get("name") != "regular":
        raise Misfit("has chunks that are not those of a regular grid")
    cut = _encoded(document.get("codecs"), shape, _sizes(grid, len(shape)), dtype)  # type: ignore[arg-type]
    if cut.chunk_bytes > CHUNK_BYTES:
        raise Misfit(f"has chunks of {cut.chunk_bytes:,} bytes; they have at most {CHUNK_BYTES:,}")
    if not _is_cut(cut, expected):
        raise Misfit(f"is cut into files of {list(cut.file)}, in another way than fusiform does")
    return cut


def _is_cut(cut: Cut, expected: Expected) -> bool:
    """Whether its chunks and files are in the order of the array, and files not too small."""
    shape, file, chunk = (part[expected.split :] for part in (cut.shape, cut.file, cut.chunk))
    whole = all(size <= length for size, length in zip(shape, file, strict=True))
    if cut.sharded and not is_in_order(shape, chunk):
        return False
    return whole or (
        expected.slabs and is_in_order(shape, file) and math.prod(cut.file) >= least_of_a_file()
    )


def _is_expected(shape: Any, dims: Any, dtype: Any, expected: Expected) -> bool:
    if not isinstance(shape, list) or len(shape) != len(expected.shape):
        return False
    sizes = zip(shape, expected.shape, strict=True)
    fits = all(is_whole(s, 0, 2**31) if e is None else type(s) is int and s == e for s, e in sizes)
    kinds = {"str": ("string",), "int": ("int64", "int32", "int16", "int8")}
    known = isinstance(dtype, str) and dtype in kinds.get(expected.dtype, (expected.dtype,))
    return fits and known and dims == list(expected.dims)


def _found(shape: Any, dims: Any, dtype: Any) -> str:
    if isinstance(shape, list) and isinstance(dims, list) and len(shape) <= len(dims) <= 30:
        texts = [tuple(shown(one).strip("'") for one in listed) for listed in (dims, shape)]
        return described(shown(dtype).strip("'"), *texts)
    return shown((dtype, dims, shape))


def _are_attributes(given: Any) -> bool:
    """Whether they are texts and lists of texts: what readers make of others is not known."""
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
        or not all(is_whole(size, 1, 2**40) for size in sizes)
    ):
        raise Misfit(f"has chunks of {shown(sizes)}")
    return tuple(sizes)


def _encoded(codecs: Any, shape: Sequence[int], file: tuple[int, ...], dtype: str) -> Cut:
    """How an array is cut, if its codecs are those that fusiform writes."""
    itemsize = 0 if dtype == "string" else _TYPES[dtype]
    names = _names(codecs)
    cut = Cut(tuple(shape), file, file, itemsize, compressed=False, sharded=False)
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
            return replace(cut, chunk=chunk, compressed=compressed, sharded=True)
        names = [*names, *inner]
    plain = ["bytes" if itemsize else "vlen-utf8", "crc32c"]
    if names == plain and all(map(_is_configured, codecs)):
        return cut
    raise Misfit(f"is encoded by {shown(names)}, in another way than fusiform does")


def _names(codecs: Any) -> list[Any]:
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        return []
    return [codec.get("name") for codec in codecs[:5]]


def _is_configured(codec: Mapping[str, Any]) -> bool:
    """Whether a codec that fusiform knows is set up as it does."""
    given = codec.get("configuration") or {}
    if codec.get("name") != "blosc":
        return given in ({}, {"endian": "little"})
    return (
        isinstance(given, dict)
        and given.get("cname") == "lz4"
        and given.get("shuffle") in ("shuffle", "noshuffle", "bitshuffle")
        and is_whole(given.get("typesize"), 1, 255)
        and is_whole(given.get("clevel"), 0, 9)
        and is_whole(given.get("blocksize"), 0, 2**30)
    )


@contextmanager
def refusing(refusal: Callable[[str], Exception]) -> Iterator[None]:
    """Whatever else than a user's mistake comes of what is inside, as a refusal of what is read.

    zarr raises many kinds for what it did not write. Code compiled from Rust raises what is no
    ``Exception`` where it gives up.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if is_of_limits(error):
            raise
        raise refusal(first_line(error)) from None

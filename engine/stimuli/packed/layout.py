"""Layout of a packed set on disk: plain zarr v3, for any reader.

One array holds the uncompressed pictures, with the stimulus table beside it. The bytes of a picture
are followed by their CRC-32C, in files of some tens of MiB that end with an index (zarr's sharding
codec).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import CDLL, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ...preprocessing import Preprocessing
from ...registry import STIMULUS_COLUMNS

METADATA = "zarr.json"
SCHEMA, VERSION = "fusiform stimuli", 1
PICTURES = "pictures"
# Preprocessing that determines the packed pixels; mean and standard deviation come later.
PREPARED: dict[str, type] = {"resize": int, "crop": int, "interpolation": str, "squash": bool}
# Bytes of an index entry, and of the checksum after every chunk and index.
INDEX_ENTRY, CHECKSUM = 16, 4
_SHARD_BYTES = 32 * 2**20
_CRC = {"name": "crc32c"}
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def prepared(preprocessing: Preprocessing) -> dict[str, Any]:
    """Preprocessing as stored in a packed set."""
    return {name: getattr(preprocessing, name) for name in PREPARED}


def per_shard(crop: int, number: int | None = None) -> int:
    """Pictures per file; at most ``number``, if that is given."""
    full = max(1, _SHARD_BYTES // (crop * crop * 3))
    return full if number is None else min(number, full)


def shard_index(crop: int, number: int) -> bytes:
    """Index at the end of the file with the last of ``number`` pictures.

    First byte and number of bytes of every slot, as in zarr's sharding codec; both are 2**64 - 1
    for empty slots.
    """
    size, slots = crop * crop * 3 + CHECKSUM, per_shard(crop, number)
    index = np.full((slots, 2), 2**64 - 1, "<u8")
    held = (number - 1) % slots + 1
    index[:held] = np.stack([np.arange(held) * size, np.full(held, size)], axis=1)
    return with_checksum(index.tobytes())


def shard_path(folder: Path, shard: int) -> Path:
    """Path of a file of pictures."""
    return folder / PICTURES / "c" / str(shard) / "0" / "0" / "0"


def column_path(folder: Path, column: str) -> Path:
    """Path of a column of the table, or of the category names."""
    return folder / column / "c" / "0"


def metadata(number: int, categories: int, crop: int) -> dict[str, dict[str, Any]]:
    """Metadata of every array of a packed set."""
    row, sides = ["stimulus"], [crop, crop, 3]
    texts: list[Any] = [{"name": "vlen-utf8", "configuration": {}}, _CRC]
    sharding = {
        "chunk_shape": [1, *sides],
        "codecs": [{"name": "bytes"}, _CRC],
        "index_codecs": [_BYTES, _CRC],
        "index_location": "end",
    }
    names = {"category": "stimulus category", PICTURES: "picture, RGB", **STIMULUS_COLUMNS}
    arrays = {
        "category": ([categories], [categories], "string", texts, ["category"]),
        "stimulus_path": ([number], [number], "string", texts, row),
        "stimulus_category": ([number], [number], "int32", [_BYTES, _CRC], row),
        "stimulus_sha256": ([number], [number], "string", texts, row),
        PICTURES: (
            [number, *sides],
            [per_shard(crop, number), *sides],
            "uint8",
            [{"name": "sharding_indexed", "configuration": sharding}],
            [*row, "y", "x", "rgb"],
        ),
    }
    return {
        name: {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": file}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "" if dtype == "string" else 0,
            "codecs": codecs,
            "attributes": {"long_name": names[name]},
            "dimension_names": dims,
            "storage_transformers": [],
        }
        for name, (shape, file, dtype, codecs, dims) in arrays.items()
    }


def with_checksum(content: bytes) -> bytes:
    """A chunk as written, with its CRC-32C at the end."""
    return content + checksum_of(content)


def checksum_of(content: bytes | NDArray[np.uint8]) -> bytes:
    """CRC-32C of a chunk, as bytes."""
    return _crc32c(np.frombuffer(content, np.uint8)).to_bytes(CHECKSUM, "little")


def _crc32c_of_the_library() -> Callable[[NDArray[np.uint8]], int]:
    """CRC-32C of bytes by the library behind google_crc32c, if it can be called without the GIL."""
    with suppress(ImportError, AttributeError, OSError):  # google_crc32c in Python alone
        from google_crc32c import _crc32c as extension

        value = CDLL(extension.__file__).crc32c_value
        value.argtypes, value.restype = (c_void_p, c_size_t), c_uint32
        return lambda content: int(value(content.ctypes.data, content.size))
    return lambda content: int(google_crc32c.value(content.tobytes()))


_crc32c = _crc32c_of_the_library()


def encoded(texts: Sequence[str]) -> bytes:
    """A column of texts as written: their number, then each after its length."""
    parts = bytearray(len(texts).to_bytes(4, "little"))
    for text in texts:
        content = text.encode()
        parts += len(content).to_bytes(4, "little") + content
    return with_checksum(bytes(parts))

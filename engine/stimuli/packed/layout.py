"""How a packed set lies on the disk: plain zarr v3, for any reader.

Pictures are uncompressed in one array, with the stimulus table beside it. A picture is a run of
bytes with its CRC-32C behind it, in a file of some tens of MiB that ends with an index of such runs
(zarr's sharding codec).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from ...preprocessing import Preprocessing
from ...variables import STIMULUS_COLUMNS

METADATA = "zarr.json"
SCHEMA, VERSION = "fusiform stimuli", 1
PICTURES = "pictures"
# What makes the pixels of a file; mean and standard deviation come after.
PREPARED: dict[str, type] = {"resize": int, "crop": int, "interpolation": str, "squash": bool}
# Of an entry of the index, and behind every chunk and index.
INDEX_ENTRY, CHECKSUM = 16, 4
_SHARD_BYTES = 32 * 2**20
_CRC = {"name": "crc32c"}
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def prepared(preprocessing: Preprocessing) -> dict[str, Any]:
    """What a packed set says of how its pictures were made."""
    return {name: getattr(preprocessing, name) for name in PREPARED}


def per_shard(crop: int, number: int | None = None) -> int:
    """Pictures in a file, of so many, or of more than fill one."""
    full = max(1, _SHARD_BYTES // (crop * crop * 3))
    return full if number is None else min(number, full)


def shard_index(crop: int, number: int) -> bytes:
    """What the file that the last of ``number`` pictures is in ends with.

    First byte and number of bytes for every place, as zarr's sharding codec has it; places without
    a picture have 2**64 - 1 of both.
    """
    size, places = crop * crop * 3 + CHECKSUM, per_shard(crop, number)
    index = np.full((places, 2), 2**64 - 1, "<u8")
    held = (number - 1) % places + 1
    index[:held] = np.stack([np.arange(held) * size, np.full(held, size)], axis=1)
    return with_checksum(index.tobytes())


def shard_path(folder: Path, shard: int) -> Path:
    """Where a file of pictures lies."""
    return folder / PICTURES / "c" / str(shard) / "0" / "0" / "0"


def column_path(folder: Path, column: str) -> Path:
    """Where a column of the table lies, or the names of categories."""
    return folder / column / "c" / "0"


def metadata(number: int, categories: int, crop: int) -> dict[str, dict[str, Any]]:
    """The metadata of every array of a packed set."""
    row, sides = ["stimulus"], [crop, crop, 3]
    texts: list[Any] = [{"name": "vlen-utf8", "configuration": {}}, _CRC]
    sharding = {
        "chunk_shape": [1, *sides],
        "codecs": [{"name": "bytes"}, _CRC],
        "index_codecs": [_BYTES, _CRC],
        "index_location": "end",
    }
    said = {"category": "stimulus category", PICTURES: "picture, RGB", **STIMULUS_COLUMNS}
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
            "attributes": {"long_name": said[name]},
            "dimension_names": dims,
            "storage_transformers": [],
        }
        for name, (shape, file, dtype, codecs, dims) in arrays.items()
    }


def with_checksum(content: bytes) -> bytes:
    """A chunk as it is written: the CRC-32C stands behind it."""
    return content + checksum_of(content)


def checksum_of(content: bytes) -> bytes:
    """The CRC-32C, as it stands behind a chunk."""
    return int(google_crc32c.value(content)).to_bytes(CHECKSUM, "little")


def encoded(texts: Sequence[str]) -> bytes:
    """A column of texts as it is written: their number, then each with its length before it."""
    parts = bytearray(len(texts).to_bytes(4, "little"))
    for text in texts:
        content = text.encode()
        parts += len(content).to_bytes(4, "little") + content
    return with_checksum(bytes(parts))

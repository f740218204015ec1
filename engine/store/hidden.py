"""What a scan keeps beside a store that it fills: files in a folder of its own, with checksums."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import cpu, default_buffer_prototype

from .zarr_internals import sync

Bytes = NDArray[np.uint8]


class HiddenFolder:
    """A folder of ``store`` that is none of its groups, and is gone when the scan is complete.

    ``folder`` begins with a dot: no module of a network can be called like this, so no layer.
    """

    folder: str

    def __init__(self, store: ZarrStore) -> None:
        self._store = store

    def remove(self) -> None:
        """Remove all: the scan has come to its end."""
        sync(self._store.delete_dir(self.folder))

    def _write(self, key: str, content: Bytes) -> None:
        sync(self._store.set(f"{self.folder}/{key}", cpu.Buffer.from_array_like(content)))

    def _content(self, key: str) -> Bytes:
        found = sync(self._store.get(f"{self.folder}/{key}", default_buffer_prototype()))
        return np.empty(0, np.uint8) if found is None else np.asarray(found.as_numpy_array())


def checksum(content: Any) -> int:
    """The CRC-32 of bytes."""
    return zlib.crc32(content)


def sealed(fields: Mapping[str, Any]) -> Bytes:
    """A record with its checksum, as bytes."""
    text = json.dumps(fields).encode()
    return np.frombuffer(b"%08x %b" % (checksum(text), text), np.uint8)


def unsealed(record: Bytes) -> dict[str, Any] | None:
    """What :func:`sealed` was given; None where the record is torn, or there is none."""
    sum_, _, text = record.tobytes().partition(b" ")
    if sum_ != b"%08x" % checksum(text):
        return None
    fields: dict[str, Any] = json.loads(text)
    return fields

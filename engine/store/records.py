"""What workers leave behind of a scan that several do at once: a record of every task that is done.

A task's record is written last, when all that the task has written is on the disk, and makes it
count. Moments of a group that other tasks share are kept beside the records until all of them are
there to be merged. A record that is torn is as if it had never been; a task that is done twice
writes the same again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync

from ...kernels.moments import Moments
from ..spec import Layer
from .durable import flush

# No module of a network can be called like this, so no layer.
FOLDER = ".records"

# Of moments that were kept: stimuli, bytes, checksum.
Seal = tuple[int, int, int]


def sealed(fields: Mapping[str, Any]) -> NDArray[np.uint8]:
    """A record with its checksum, as bytes."""
    text = json.dumps(fields).encode()
    return np.frombuffer(b"%08x %b" % (zlib.crc32(text), text), np.uint8)


def unsealed(record: NDArray[np.uint8]) -> dict[str, Any] | None:
    """What :func:`sealed` was given; None where the record is torn, or there is none."""
    sum_, _, text = record.tobytes().partition(b" ")
    if sum_ != b"%08x" % zlib.crc32(text):
        return None
    fields: dict[str, Any] = json.loads(text)
    return fields


def _sum(content: Any) -> int:
    return zlib.crc32(content)


class Records:
    """The records of the scan that fills ``store``, by the names of the tasks: ``STAGE/...``."""

    def __init__(self, store: ZarrStore) -> None:
        self._store = store

    def write(self, name: str, **fields: Any) -> None:
        """Record that a task is done: all that this program wrote to the store is kept first."""
        flush(self._store)
        self._set(f"{name}.json", sealed(fields))
        flush(self._store)

    def read(self, name: str) -> dict[str, Any] | None:
        """The record of a task; None where it is not done."""
        return unsealed(self._content(f"{name}.json"))

    def of(self, stage: str) -> dict[str, dict[str, Any]]:
        """The whole records of a stage, by the tasks' names."""
        names = sorted(self._names(f"{FOLDER}/{stage}/"))
        found = {name.removesuffix(".json"): unsealed(self._content(name)) for name in names}
        return {name: fields for name, fields in found.items() if fields is not None}

    @property
    def are_there(self) -> bool:
        """Whether any task is done."""
        return any(unsealed(self._content(name)) for name in self._names(FOLDER))

    def forget(self, name: str) -> None:
        """Have a task, or all of a stage, done again."""
        sync(self._store.delete(f"{FOLDER}/{name}.json"))
        sync(self._store.delete_dir(f"{FOLDER}/{name}"))

    def keep(self, name: str, moments: Moments) -> Seal:
        """Keep the moments that a task has of a group; its record has to hold what comes back."""
        content = np.concatenate([moments.mean.ravel(), moments.m2.ravel()]).view(np.uint8)
        self._set(name, content)
        return moments.count, len(content), _sum(content)

    def kept(self, name: str, layer: Layer, seal: Seal) -> Moments | None:
        """What :meth:`keep` was given; None where it is not there any more as it was."""
        count, size, sum_ = seal
        content = self._content(name)
        if (len(content), _sum(content)) != (size, sum_):
            return None
        mean, m2 = content.view(np.float64).reshape(2, *layer.shape).copy()
        return Moments(count, mean, m2)

    def remove(self) -> None:
        """Remove all: the scan has come to its end."""
        sync(self._store.delete_dir(FOLDER))

    def _names(self, prefix: str) -> list[str]:
        async def listed(found: AsyncIterator[str]) -> list[str]:
            names = [name.removeprefix(f"{FOLDER}/") async for name in found]
            return [name for name in names if name.endswith(".json")]

        return sync(listed(self._store.list_prefix(prefix)))

    def _set(self, name: str, content: NDArray[np.uint8]) -> None:
        sync(self._store.set(f"{FOLDER}/{name}", cpu.Buffer.from_array_like(content)))

    def _content(self, name: str) -> NDArray[np.uint8]:
        found = sync(self._store.get(f"{FOLDER}/{name}", default_buffer_prototype()))
        return np.empty(0, np.uint8) if found is None else np.asarray(found.as_numpy_array())

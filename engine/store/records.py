"""What workers leave behind of a scan that several do at once: a record of every task that is done.

A task's record is written last, when all that the task has written is on the disk, and makes it
count. Moments of a group that other tasks share are kept beside the records until all of them are
there to be merged. A record that is torn is as if it had never been; a task that is done twice
writes the same again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from ...kernels.moments import Moments
from ..layer import Layer
from .durable import flush
from .hidden import HiddenFolder, checksum, sealed, unsealed
from .zarr_internals import sync

# Of moments that were kept: stimuli, bytes, checksum.
Seal = tuple[int, int, int]


class Records(HiddenFolder):
    """The records of the scan that fills ``store``, by the names of the tasks: ``STAGE/...``."""

    folder = ".records"

    def write(self, name: str, **fields: Any) -> None:
        """Record that a task is done: all that this program wrote to the store is kept first."""
        flush(self._store)
        self._write(f"{name}.json", sealed(fields))
        flush(self._store)

    def read(self, name: str) -> dict[str, Any] | None:
        """The record of a task; None where it is not done."""
        return unsealed(self._content(f"{name}.json"))

    def of(self, stage: str) -> dict[str, dict[str, Any]]:
        """The whole records of a stage, by the tasks' names."""
        names = sorted(self._names(f"{self.folder}/{stage}/"))
        found = {name.removesuffix(".json"): unsealed(self._content(name)) for name in names}
        return {name: fields for name, fields in found.items() if fields is not None}

    def damaged(self) -> list[str]:
        """The names of records that are not what was written."""
        names = sorted(self._names(self.folder))
        return [name for name in names if unsealed(self._content(name)) is None]

    @property
    def are_there(self) -> bool:
        """Whether any task is done."""
        return any(unsealed(self._content(name)) for name in self._names(self.folder))

    def forget(self, name: str) -> None:
        """Have a task, or all of a stage, done again."""
        sync(self._store.delete(f"{self.folder}/{name}.json"))
        sync(self._store.delete_dir(f"{self.folder}/{name}"))

    def keep(self, name: str, moments: Moments) -> Seal:
        """Keep the moments that a task has of a group; its record has to hold what comes back."""
        content = np.concatenate([moments.mean.ravel(), moments.m2.ravel()]).view(np.uint8)
        self._write(name, content)
        return moments.count, len(content), checksum(content)

    def kept(self, name: str, layer: Layer, seal: Seal) -> Moments | None:
        """What :meth:`keep` was given; None where it is not there any more as it was."""
        count, size, sum_ = seal
        content = self._content(name)
        if (len(content), checksum(content)) != (size, sum_):
            return None
        mean, m2 = content.view(np.float64).reshape(2, *layer.shape).copy()
        return Moments(count, mean, m2)

    def _names(self, prefix: str) -> list[str]:
        async def listed(found: AsyncIterator[str]) -> list[str]:
            names = [name.removeprefix(f"{self.folder}/") async for name in found]
            return [name for name in names if name.endswith(".json")]

        return sync(listed(self._store.list_prefix(prefix)))

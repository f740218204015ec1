"""A folder of which it is known what may be lost when the power fails, and how to keep it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from uuid import uuid4

from zarr.abc.buffer import Buffer
from zarr.abc.store import Store as ZarrStore
from zarr.storage import LocalStore

from ..beside import MARK
from ..disk import CANNOT, synchronise, synchronised

# What a file is called while it is written; zarr gives its own such names.
_UNFINISHED = ".partial"
# Files that wait to be flushed: a thousand categories write tens of thousands between two commits.
_MOST_UNFLUSHED = 2048


class DurableFolder(LocalStore):
    """A folder as zarr writes to it. A file is there whole or not at all; :meth:`flush` keeps it.

    What is in a file reaches the disk some time after it was written, and in any order. Metadata
    that replace others, and records of what is done, are on the disk before they get their name: no
    crash leaves half of one.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        # Keys, and not paths, which take kilobytes each.
        self._unflushed: set[str] = set()

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file.

        Raises
        ------
        FileNotFoundError : the folder of the store was removed; it is not made anew
        """
        path = self.root / key
        if not os.path.isdir(self.root):  # noqa: PTH112  disks may fail
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
        # Metadata and records say what all else is; other files are as good as absent until they
        # are flushed.
        record = path.suffix == ".json" and path.name != "zarr.json"
        if record or (path.name == "zarr.json" and await asyncio.to_thread(path.is_file)):
            await asyncio.to_thread(_replace, path, value)
        else:
            await super().set(key, value)
        self._unflushed.add(key)
        if len(self._unflushed) >= _MOST_UNFLUSHED:
            await asyncio.to_thread(self.flush)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a file, unless it is there."""
        try:
            await super().set_if_not_exists(key, value)
        except OSError as error:  # zarr makes a hard link
            if error.errno not in CANNOT:
                raise
            if not await self.exists(key):
                await super().set(key, value)
        self._unflushed.add(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder; a draft's mark is no part of what zarr has written."""
        async for name in super().list_dir(prefix):
            if name != MARK:
                yield name

    def flush(self) -> None:
        """Wait until all that was written is on the disk."""
        keys, self._unflushed = self._unflushed, set()
        folders: set[str] = set()
        for key in keys:
            if synchronised(self.root / key):
                folder = key.rpartition("/")[0]
                while folder and folder not in folders:
                    folders.add(folder)
                    folder = folder.rpartition("/")[0]
        for folder in folders:
            synchronised(self.root / folder)
        synchronised(self.root)


def flush(store: ZarrStore) -> None:
    """Wait until what was written to ``store`` will outlive a power failure.

    Behind a URL it does so as soon as it is written.
    """
    if isinstance(store, DurableFolder):
        store.flush()


def missing_file(array: Path) -> str | None:
    """The first file of an array that is not there, or empty. Much faster than zarr opens it."""
    try:
        found = json.loads((array / "zarr.json").read_bytes())
        sizes = zip(
            found["shape"], found["chunk_grid"]["configuration"]["chunk_shape"], strict=True
        )
    except (OSError, ValueError, LookupError, TypeError):
        return "zarr.json"
    for place in product(*(range(-(-length // size)) for length, size in sizes)):
        key = "/".join(("c", *map(str, place)))
        try:
            if not (array / key).stat().st_size:
                return key
        except OSError:
            return key
    return None


def sweep(folder: Path) -> None:
    """Remove what writes that did not come to their end have left in a folder."""
    for path in folder.rglob(f"*{_UNFINISHED}"):
        if path.is_file():
            path.unlink()


def _replace(path: Path, value: Buffer) -> None:
    new = path.with_name(f"{path.name}.{uuid4().hex}{_UNFINISHED}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with new.open("wb") as file:
            file.write(value.as_buffer_like())
            file.flush()
            synchronise(file.fileno(), new)
        new.replace(path)
    except Exception:
        new.unlink(missing_ok=True)
        raise

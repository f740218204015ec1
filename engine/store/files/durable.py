"""A zarr folder whose files are whole or not there, also after a power failure."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any
from uuid import uuid4
from weakref import finalize

from zarr.abc.buffer import Buffer
from zarr.storage import LocalStore

from ...beside import MARK
from ...disk import flush_descriptor, flush_file_system, flush_paths, start_flushing

# Suffix of a file while it is written; zarr's own temporary files have it, too.
_PARTIAL = ".partial"
# Bytes of a file that the disk begins with when it is written.
_LARGE = 2**18
# Unflushed files that are better flushed with their file system, and most to remember.
_MANY, _MAX_UNFLUSHED = 256, 8192


class DurableFolder(LocalStore):
    """A zarr folder that tracks unflushed writes; :meth:`flush` brings them to the disk.

    Files are written whole or not at all. They reach the disk later, in any order, except records
    and metadata that replace others: these are on the disk before they take their name, so that no
    crash leaves half of one.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        # Keys, not paths, which take kilobytes each.
        self._unflushed: set[str] = set()
        self._turn = Lock()
        self._opened = _opened_folder(self.root)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file, as :meth:`write` does."""
        await asyncio.to_thread(self._put, key, [value.as_buffer_like()])

    def write(self, key: str, parts: Sequence[Any]) -> None:
        """Write a file from its parts, in this thread; the disk begins with a large one at once.

        Raises
        ------
        FileNotFoundError : the folder was removed; it is not created again
        """
        self._put(key, parts)

    def _put(self, key: str, parts: Sequence[Any]) -> None:
        path = self._path(key)
        record = path.suffix == ".json" and path.name != "zarr.json"
        large = sum(map(len, parts)) > _LARGE
        # A commit may need the file that is replaced: no crash leaves half of the new one.
        if record or (not large and os.path.isfile(path)):  # noqa: PTH113
            self._write(path, parts, flush_descriptor)
        else:
            self._write(path, parts, start_flushing if large else None)
        if self._remember(key):
            self.flush()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Require a file. zarr writes the groups above a new array so, if they are missing.

        Raises
        ------
        FileNotFoundError : the group was removed; without its attributes it is not created again
        """
        del value
        if not await self.exists(key):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root / key))

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder, without the mark of a draft."""
        async for name in super().list_dir(prefix):
            if name != MARK:
                yield name

    def flush(self) -> None:
        """Wait until everything written is on the disk; after an error, the next call does."""
        with self._turn:
            keys, self._unflushed = self._unflushed, set()
        try:
            if len(keys) > _MANY and self._flush_all(keys):
                return
            found = flush_paths(self.root, keys)
            folders = {str(folder) for key in found for folder in PurePosixPath(key).parents}
            flush_paths(self.root, folders | {"."})
        except BaseException:  # or a later commit would count them as flushed
            with self._turn:
                self._unflushed |= keys
            raise

    def _flush_all(self, keys: Iterable[str]) -> bool:
        """Flush the whole file system, if that is safe and quick."""
        folders = {(self.root / key).parent for key in keys}
        with suppress(OSError):
            return self._opened is not None and flush_file_system(self._opened.fileno(), folders)
        return False

    def _path(self, key: str) -> Path:
        if not os.path.isdir(self.root):  # noqa: PTH112  disks may fail
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
        return self.root / key

    def _write(
        self, path: Path, parts: Iterable[Any], flush: Callable[[int, Path], None] | None
    ) -> None:
        """Write a file under another name, ``flush`` it, and give it its name."""
        new = path.with_name(f"{path.name}.{uuid4().hex}{_PARTIAL}")
        try:
            try:
                opened = new.open("wb")
            except FileNotFoundError:
                self._make_folders(path)
                opened = new.open("wb")
            with opened as file:
                file.writelines(parts)
                if flush:
                    file.flush()
                    flush(file.fileno(), new)
            new.replace(path)
        except Exception:
            new.unlink(missing_ok=True)
            raise

    def _make_folders(self, path: Path) -> None:
        """Make the folders above a file, but not the root, which may have been removed."""
        *below, _ = path.relative_to(self.root).parents
        for folder in reversed(below):
            (self.root / folder).mkdir(exist_ok=True)

    def _remember(self, key: str) -> bool:
        """Remember to flush a file; True if there are too many to remember more."""
        with self._turn:
            self._unflushed.add(key)
            return len(self._unflushed) >= _MAX_UNFLUSHED


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files of interrupted writes."""
    for path in folder.rglob(f"*{_PARTIAL}"):
        if path.is_file():
            path.unlink()


class _OpenFolder:
    """A folder that stays open as long as its store, so that no error of its disk is missed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        finalize(self, os.close, descriptor)

    def fileno(self) -> int:
        return self._descriptor


def _opened_folder(root: Path) -> _OpenFolder | None:
    try:
        return _OpenFolder(os.open(root, os.O_RDONLY))
    except OSError:  # it does not exist yet, or this system cannot open folders
        return None

"""A folder of which it is known what may be lost when the power fails, and how to keep it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from uuid import uuid4

from zarr.abc.buffer import Buffer
from zarr.abc.store import Store as ZarrStore
from zarr.storage import LocalStore

from ..errors import UserError

# What a file is called while it is written; zarr gives its own such names.
_UNFINISHED = ".partial"
# Files that wait to be flushed: a thousand categories write tens of thousands between two commits.
_MOST_UNFLUSHED = 2048
# What file systems answer that cannot do something (SMB, FUSE), and not that writing has failed.
_CANNOT = {
    getattr(errno, name)
    for name in ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EPERM", "EACCES")
    if hasattr(errno, name)
}
# And to being asked for a lock.
_NO_LOCKS = _CANNOT | {errno.ENOLCK, errno.EBADF}
_lacking: set[str] = set()


class DurableFolder(LocalStore):
    """A folder as zarr writes to it. A file is there whole or not at all; :meth:`flush` keeps it.

    What is in a file reaches the disk some time after it was written, and in any order. Metadata
    that replace others are on the disk before they do: no crash leaves neither.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        # Keys, and not paths, which take kilobytes each.
        self._unflushed: set[str] = set()

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file."""
        path = self.root / key
        # Metadata says what all else is; other files are as good as absent until they are flushed.
        if path.name == "zarr.json" and await asyncio.to_thread(path.is_file):
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
            if error.errno not in _CANNOT:
                raise
            if not await self.exists(key):
                await super().set(key, value)
        self._unflushed.add(key)

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


def publish(folder: Path, final: Path) -> None:
    """Rename a folder, which may replace nothing, for good."""
    folder.replace(final)
    synchronised(final.parent)


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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create ``folder``, if it is not there, and keep other programs that ask from filling it.

    Raises
    ------
    UserError : another program fills it
    """
    folder.mkdir(exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"one scan at a time fills {folder}; another does: wait for its end, or choose "
                "another output"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                error.filename = str(folder)
                raise
            _lacking.add("lock a folder: let one scan at a time write it")
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, value: Buffer) -> None:
    new = path.with_name(f"{path.name}.{uuid4().hex}{_UNFINISHED}")
    try:
        with new.open("wb") as file:
            file.write(value.as_buffer_like())
            file.flush()
            synchronise(file.fileno(), new)
        new.replace(path)
    except Exception:
        new.unlink(missing_ok=True)
        raise


def synchronised(path: Path) -> bool:
    """Have the system write a file or folder to the disk; whether it was there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # removed or replaced since
        return False
    except OSError as error:  # where a folder cannot be opened, as on Windows
        _let_pass(error, path)
        return True
    try:
        synchronise(descriptor, path)
    finally:
        os.close(descriptor)
    return True


def synchronise(descriptor: int, path: Path) -> None:
    """Have the system write an open file to the disk, if its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        _let_pass(error, path)


@contextmanager
def telling(note: Callable[[str], None], place: Path | str) -> Iterator[None]:
    """Say at the end, each once, what the file system of ``place`` cannot do."""
    _lacking.clear()
    try:
        yield
    finally:
        for what in sorted(_lacking):
            note(f"the file system of {place} cannot {what}")


def _let_pass(error: OSError, path: Path) -> None:
    if error.errno not in _CANNOT:
        error.filename = str(path)
        raise error
    kind = "folders" if path.is_dir() else "files"
    _lacking.add(f"synchronise {kind}: a power failure may cost what was just written")

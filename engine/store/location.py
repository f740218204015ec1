"""Where a store lies, a folder, archive or URL, and the zarr stores that read and write it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from itertools import product
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any
from uuid import uuid4
from weakref import finalize

from zarr.abc.buffer import Buffer
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from ..beside import MARK
from ..disk import flush_descriptor, flush_file_system, flush_paths, start_flushing
from ..errors import UserError, first_line, require_path
from ..urls import IS_URL, Url
from .files.archive import Archive, is_archive
from .files.zarr_stores import ArchiveStore, PlainFiles
from .identity import Unchanged
from .zarr_internals import sync

Location = Path | Archive | Url

# Seconds of retries before a server counts as unreachable.
_RETRY_SECONDS = 30
# Suffix of a file while it is written; zarr's own temporary files have it, too.
_PARTIAL = ".partial"
# Bytes of a file that the disk begins with when it is written.
_LARGE = 2**18
# Unflushed files that are better flushed with their file system, and most to remember.
_MANY, _MAX_UNFLUSHED = 256, 8192


def location_of(path: Path | str) -> Location:
    """A URL, which hides its credentials when it is shown, an archive, or the path of a folder."""
    if isinstance(path, Url | Archive):
        return path
    require_path(path)
    text = str(path)
    if text.startswith("file://"):
        path = Path(text.removeprefix("file://"))
    elif IS_URL.match(text):
        return Url(text)
    return Archive(path) if is_archive(path) else Path(path)


def name_of(location: Path | str) -> str:
    """The last part of a location."""
    return str(location).rstrip("/").rpartition("/")[2]


def stimuli_attributes(stimuli: Path | str) -> dict[str, str]:
    """The attributes that locate the stimuli: their path as given, and in full."""
    return {"stimuli": str(stimuli), "stimuli_path": os.path.abspath(stimuli)}  # noqa: PTH100


def zarr_store(location: Location, read_only: bool = True) -> ZarrStore:
    """The zarr store at a location.

    Object stores take credentials and endpoints from the environment (``AWS_...`` and so on); a web
    server receives the user name, password and query of its URL.

    Raises
    ------
    UserError : the kind of URL is unknown, or the library for URLs is not installed
    """
    if isinstance(location, Path):
        return LocalStore(location, read_only=True) if read_only else DurableFolder(location)
    if isinstance(location, Archive):
        if not read_only:
            writable(location)
        return ArchiveStore(location)
    if is_archive(location):
        raise UserError(f"archives are read from a disk; got {location}: download it")
    if location.lower().startswith(("http:", "https:")) and not read_only:
        raise UserError(f"web servers are read-only; got {location}: write to a folder or s3://")
    if find_spec("obstore") is None:
        raise UserError(f"URLs need obstore; got {location}: pip install 'fusiform[cloud]'")
    refuse_forked(location)
    from obstore.exceptions import BaseError
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    url, headers = location.opened()
    options: Any = {"retry_config": {"retry_timeout": timedelta(seconds=_RETRY_SECONDS)}}
    if url.lower().startswith("http"):  # object stores read AWS_ALLOW_HTTP and the like
        plain = url.lower().startswith("http:")
        options["client_options"] = {"allow_http": plain, "default_headers": headers}
    try:
        return ObjectStore(from_url(url, **options), read_only=read_only)
    except (BaseError, ValueError) as error:
        raise UserError(
            f"a store's URL is one of s3://, gs://, az://, https://; got {location} "
            f"({first_line(error)})"
        ) from None


def store_for_others(location: Location, unchanged: Unchanged | None) -> ZarrStore:
    """The zarr store for readers that open whatever they find, such as xarray."""
    if isinstance(location, Path):
        return PlainFiles(location, unchanged=unchanged)
    if isinstance(location, Archive):
        return ArchiveStore(location, unchanged)
    return zarr_store(location)


def writable(location: Location) -> Path | Url:
    """The location of what is to be written.

    Raises
    ------
    UserError : it is an archive
    """
    if isinstance(location, Archive):
        raise UserError(
            f"archives are not written to; got {location}: name a folder (unzip unpacks an "
            "archive, 'fusiform archive' makes one)"
        )
    return location


def refuse_forked(location: Location) -> None:
    """Raise where reading a URL would wait for threads that only the parent process has.

    Raises
    ------
    UserError : this is a forked child, and its parent may have started the threads
    """
    if isinstance(location, Url) and _threads_lost:
        raise UserError(
            f"a forked process cannot read URLs if its parent did; got {location}: start it by "
            "spawn, as multiprocessing.get_context('spawn') does"
        )


def exists(location: Location) -> bool:
    """Whether a folder or archive, or a zarr group behind a URL, exists.

    Raises
    ------
    UserError : the URL cannot be reached
    """
    if isinstance(location, Url):
        return is_group(location)
    return os.path.exists(location)  # noqa: PTH110


def is_group(location: Location) -> bool:
    """Whether a zarr group or array exists.

    Raises
    ------
    UserError : the URL cannot be reached
    """
    if isinstance(location, Path):  # without zarr's threads, which a limit may refuse
        return os.path.isfile(location / "zarr.json")  # noqa: PTH113  disks may fail
    store = zarr_store(location)
    try:
        # A web server cannot list: look for the file that every store has.
        return bool(sync(store.exists("zarr.json")))
    except Exception as error:
        raise UserError(f"cannot reach {location} ({first_line(error)})") from None


def remove(location: Location) -> None:
    """Remove everything at a location, as far as possible."""
    if isinstance(location, Path):
        shutil.rmtree(location, ignore_errors=True)
    else:
        sync(zarr_store(location, read_only=False).delete_dir(""))


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
            _write(path, parts, flush_descriptor)
        else:
            _write(path, parts, start_flushing if large else None)
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

    def _remember(self, key: str) -> bool:
        """Remember to flush a file; True if there are too many to remember more."""
        with self._turn:
            self._unflushed.add(key)
            return len(self._unflushed) >= _MAX_UNFLUSHED


def write(store: ZarrStore, key: str, parts: Sequence[Any]) -> None:
    """Write a file from its parts, bytes or arrays of bytes."""
    if isinstance(store, DurableFolder):
        store.write(key, parts)
    else:
        content = b"".join(map(bytes, parts))
        sync(store.set(key, default_buffer_prototype().buffer.from_bytes(content)))


def flush(store: ZarrStore) -> None:
    """Wait until writes to ``store`` will survive a power failure; behind a URL they do at once."""
    if isinstance(store, DurableFolder):
        store.flush()


def missing_file(array: Path) -> str | None:
    """The first missing or empty file of an array; None if it has all. Much faster than zarr."""
    try:
        found = json.loads((array / "zarr.json").read_bytes())
        sizes = zip(
            found["shape"], found["chunk_grid"]["configuration"]["chunk_shape"], strict=True
        )
    except (OSError, ValueError, LookupError, TypeError):
        return "zarr.json"
    for index in product(*(range(-(-length // size)) for length, size in sizes)):
        key = "/".join(("c", *map(str, index)))
        try:
            if not (array / key).stat().st_size:
                return key
        except OSError:
            return key
    return None


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files of interrupted writes."""
    for path in folder.rglob(f"*{_PARTIAL}"):
        if path.is_file():
            path.unlink()


def _write(
    path: Path, parts: Iterable[Any], flush: Callable[[int, Path], None] | None = None
) -> None:
    """Write a file under another name, ``flush`` it, and give it its name."""
    new = path.with_name(f"{path.name}.{uuid4().hex}{_PARTIAL}")
    try:
        try:
            opened = new.open("wb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
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


def _remember_fork() -> None:
    global _threads_lost
    _threads_lost = "obstore.store" in sys.modules


_threads_lost = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember_fork)

"""Where a store lies, a folder, archive or URL, and the zarr stores that read and write it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from ..errors import UserError, first_line, require_path
from ..spec import Stimuli
from ..stimulus_groups import Groups
from ..urls import IS_URL, Url
from .files.archive import Archive, is_archive
from .files.durable import DurableFolder
from .files.memory import Memory, MemoryFolder
from .files.zarr_stores import ArchiveStore, PlainFiles
from .identity import Unchanged
from .zarr_internals import sync

Location = Path | Archive | Url

# Seconds of retries before a server counts as unreachable.
_RETRY_SECONDS = 30


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


def stimuli_attributes(stimuli: Stimuli) -> dict[str, Any]:
    """The attributes on stimuli in files: their path as given and in full, and their groups."""
    if stimuli.are_objects:
        return {}
    source = stimuli.source
    found: dict[str, Any] = {"stimuli": str(source), "stimuli_path": os.path.abspath(source)}  # noqa: PTH100
    if stimuli.groups is not None:
        found["groups"] = Groups.of(stimuli.groups).as_record()
    return found


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
    if isinstance(location, Memory):
        return MemoryFolder(location.files, read_only=read_only)
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
    """A location that is written to.

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


def write(store: ZarrStore, key: str, parts: Sequence[Any]) -> None:
    """Write a file from its parts, bytes or arrays of bytes."""
    if isinstance(store, DurableFolder | MemoryFolder):
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
        separator = found["chunk_key_encoding"]["configuration"]["separator"]
    except (OSError, ValueError, LookupError, TypeError):
        return "zarr.json"
    for index in product(*(range(-(-length // size)) for length, size in sizes)):
        key = str(separator).join(("c", *map(str, index)))
        try:
            if not (array / key).stat().st_size:
                return key
        except OSError:
            return key
    return None


def _remember_fork() -> None:
    global _threads_lost
    _threads_lost = "obstore.store" in sys.modules


_threads_lost = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember_fork)

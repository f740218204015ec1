"""Where a store lives: a folder, or a URL of an object store (s3, gs, az) or a web server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.storage import LocalStore

from ..errors import UserError, first_line, refuse_no_path
from ..urls import IS_URL, Url
from .durable import DurableFolder
from .unchanged import Unchanged
from .zarr_internals import sync

# A folder, or a URL.
Place = Path | Url

_CHUNK = re.compile(r"/c(/\d+)+$")
# Seconds after which a server that does not answer, or is busy, is not asked again.
_PATIENCE = 30


def place_of(location: Path | str) -> Place:
    """A URL as one, without its credentials wherever it is shown; anything else as a path."""
    if isinstance(location, Url):
        return location
    refuse_no_path(location)
    text = str(location)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Url(text) if IS_URL.match(text) else Path(location)


def name_of(place: Path | str) -> str:
    """The last part of a place."""
    return str(place).rstrip("/").rpartition("/")[2]


def whereabouts(stimuli: Path | str) -> dict[str, str]:
    """Where stimuli lie, for the root of a store: as they were named, and their full path."""
    return {"stimuli": str(stimuli), "stimuli_path": os.path.abspath(stimuli)}  # noqa: PTH100


def zarr_store(place: Place, read_only: bool = True) -> ZarrStore:
    """What zarr reads from and writes to.

    Credentials and endpoints of object stores are those of the environment (``AWS_...`` and so on);
    a web server is sent the name and password of a URL, and its query.

    Raises
    ------
    UserError : a URL of an unknown kind, or the library for URLs is not installed
    """
    if isinstance(place, Path):
        return LocalStore(place, read_only=True) if read_only else DurableFolder(place)
    if place.lower().startswith(("http:", "https:")) and not read_only:
        raise UserError(f"a web server is read from only; got {place}: write to a folder or s3://")
    if find_spec("obstore") is None:
        raise UserError(f"URLs need obstore; got {place}: pip install 'fusiform[cloud]'")
    refuse_forked(place)
    from obstore.exceptions import BaseError
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    url, headers = place.opened()
    options: Any = {"retry_config": {"retry_timeout": timedelta(seconds=_PATIENCE)}}
    if url.lower().startswith("http"):  # else the environment says them, as by AWS_ALLOW_HTTP
        plain = url.lower().startswith("http:")
        options["client_options"] = {"allow_http": plain, "default_headers": headers}
    try:
        return ObjectStore(from_url(url, **options), read_only=read_only)
    except (BaseError, ValueError) as error:
        raise UserError(
            f"a store's URL is one of s3://, gs://, az://, https://; got {place} "
            f"({first_line(error)})"
        ) from None


def refuse_forked(place: Place) -> None:
    """Refuse to wait for the threads that read URLs, which a forked child does not have.

    Raises
    ------
    UserError : this is one, and its parent may have started them
    """
    if isinstance(place, Url) and _threads_lost:
        raise UserError(
            f"a forked process cannot read URLs where its parent did; got {place}: start it by "
            "spawn, as multiprocessing.get_context('spawn') does"
        )


class PlainFiles(LocalStore):
    """A folder for readers who open what they find: not a pipe, nor a device, which has no end.

    Nor a chunk that is missing, which zarr would read as missing values, or one that is of another
    store by now.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        read_only: bool = True,
        unchanged: Unchanged | None = None,
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._unchanged = unchanged

    def with_read_only(self, read_only: bool = False) -> PlainFiles:
        """The same folder."""
        return PlainFiles(self.root, read_only=read_only, unchanged=self._unchanged)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or part of one. Raises OSError where something else, or no chunk, is there.

        Raises
        ------
        UserError : the chunk is missing, or was replaced since the store was opened
        """
        path = self.root / key
        if await asyncio.to_thread(lambda: path.exists() and not path.is_file()):
            raise OSError(f"{path} is no plain file")
        found = await super().get(key, prototype, byte_range)
        if _CHUNK.search(key):
            if self._unchanged:
                await asyncio.to_thread(self._unchanged.require, key)
            if found is None:
                raise UserError(
                    f"every chunk of a store is written; {path} is missing: it is damaged; "
                    f"'fusiform check {self.root}' says more"
                )
        return found


def exists(place: Place) -> bool:
    """Whether a folder is there, or a zarr group behind a URL.

    Raises
    ------
    UserError : a URL that cannot be reached
    """
    return place.exists() if isinstance(place, Path) else is_group(place)


def is_group(place: Place) -> bool:
    """Whether a zarr group or array is there.

    Raises
    ------
    UserError : a URL that cannot be reached
    """
    if isinstance(place, Path):  # by no thread of zarr's, which a limit may refuse
        return os.path.isfile(place / "zarr.json")  # noqa: PTH113  disks may fail
    store = zarr_store(place)
    try:
        # A web server lists nothing; what every store has is there or not.
        return bool(sync(store.exists("zarr.json")))
    except Exception as error:
        raise UserError(f"cannot reach {place} ({first_line(error)})") from None


def remove(place: Place) -> None:
    """Remove all that is there, as far as that is possible."""
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
    else:
        sync(zarr_store(place, read_only=False).delete_dir(""))


def _remember_fork() -> None:
    global _threads_lost
    _threads_lost = "obstore.store" in sys.modules


_threads_lost = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember_fork)

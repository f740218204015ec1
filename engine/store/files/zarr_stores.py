"""Folders and archives as zarr stores: for what zarr reads, metadata and texts, and for xarray."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from ...errors import UserError
from .archive import Archive

if TYPE_CHECKING:
    from ..identity import Unchanged

_CHUNK = re.compile(r"/c(\.\d+)+$")


class PlainFiles(LocalStore):
    """A zarr folder for readers that open whatever they find, such as xarray.

    Pipes and devices, which may never end, raise an error. So do missing chunks, which zarr would
    read as missing values, and chunks of a store that was replaced since it was opened.
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
        """Read a file, or part of one.

        Raises
        ------
        OSError : it is no plain file
        UserError : it is a chunk, and missing or replaced since the store was opened
        """
        path = self.root / key
        if await asyncio.to_thread(lambda: path.exists() and not path.is_file()):
            raise OSError(f"{path} is no plain file")
        found = await super().get(key, prototype, byte_range)
        await _require_chunk(key, found is not None, self.root, self._unchanged)
        return found


class ArchiveStore(ZarrStore):
    """An archive as a zarr store, which is read only.

    As in :class:`PlainFiles`, missing chunks and those of a replaced archive raise an error.
    """

    supports_writes = supports_deletes = supports_partial_writes = False
    supports_listing = True

    def __init__(self, archive: Archive, unchanged: Unchanged | None = None) -> None:
        super().__init__(read_only=True)
        self.archive, self.files, self._unchanged = archive, archive.files, unchanged

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchiveStore) and self.archive == other.archive

    def __reduce__(self) -> Any:
        return ArchiveStore, (self.archive, self._unchanged)

    def with_read_only(self, read_only: bool = False) -> ArchiveStore:
        """The same archive."""
        del read_only
        return self

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a member, or part of one.

        Raises
        ------
        UserError : it is a chunk, and missing or replaced since the store was opened
        """
        found = await asyncio.to_thread(self._read, key, byte_range)
        await _require_chunk(key, found is not None, self.archive, self._unchanged)
        buffer = (prototype or default_buffer_prototype()).buffer
        return None if found is None else buffer.from_bytes(found)

    def _read(self, key: str, part: ByteRequest | None) -> bytes | None:
        try:
            with self.files.open(key) as file:
                start, end = 0, file.size
                if isinstance(part, RangeByteRequest):
                    start, end = part.start, min(part.end, end)
                elif isinstance(part, OffsetByteRequest):
                    start = part.offset
                elif part is not None:
                    start = max(0, end - part.suffix)
                return file.read(start, max(0, end - start))
        except FileNotFoundError:
            return None

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of several members."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def getsize(self, key: str) -> int:
        """Bytes of a member.

        Raises
        ------
        FileNotFoundError : it is missing
        """
        if not await self.exists(key):
            raise FileNotFoundError(key)
        return self.files.size(key)

    async def exists(self, key: str) -> bool:
        """Whether there is such a member."""
        return key in self.files

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        raise NotImplementedError("an archive is read only")

    async def delete(self, key: str) -> None:
        """Refuse to delete."""
        raise NotImplementedError("an archive is read only")

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        for member in self.files.members:
            yield member.key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin so."""
        for member in self.files.members:
            if member.key.startswith(prefix):
                yield member.key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder."""
        within = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        keys = (member.key for member in self.files.members)
        names = (key.removeprefix(within) for key in keys if key.startswith(within))
        for name in dict.fromkeys(name.partition("/")[0] for name in names):
            yield name


async def _require_chunk(
    key: str, is_there: bool, store: Path | str, unchanged: Unchanged | None
) -> None:
    """Raise if a key is that of a chunk, and it is missing, or its store was replaced."""
    if not _CHUNK.search(key):
        return
    if unchanged:
        await asyncio.to_thread(unchanged.require, key)
    if not is_there:
        raise UserError(
            f"every chunk of a store is written; {key} of {store} is missing: it is damaged; "
            f"'fusiform check {store}' says more"
        )

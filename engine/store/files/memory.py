"""A store in the memory of this process, which nothing outlives."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from zarr.abc.buffer import Buffer
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from ...urls import Url
from .raw import RawFile

# The content of every file, by its key.
Files = MutableMapping[str, Buffer]


class Memory(Url):
    """The location of a store in memory. As behind a URL, it is filled in place."""

    files: Files

    def __new__(cls) -> Memory:
        """A new, empty one."""
        found = str.__new__(cls, "memory")
        found._user = found._query = ""
        found.files = {}
        return found

    def __getnewargs__(self) -> tuple[()]:  # type: ignore[override]
        """A copy is made as a new one, and given the files."""
        return ()


class MemoryFolder(MemoryStore):
    """A zarr store in memory, whose files are also written and read without zarr's event loop."""

    def __init__(self, store_dict: Files | None = None, *, read_only: bool = False) -> None:
        self.files: Files = {} if store_dict is None else store_dict
        super().__init__(self.files, read_only=read_only)

    def write(self, key: str, parts: Sequence[Any]) -> None:
        """Write a file from its parts."""
        content = b"".join(map(bytes, parts))
        self.files[key] = default_buffer_prototype().buffer.from_bytes(content)


class MemoryFiles:
    """The files of a store in memory, for readers of byte ranges."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def size(self, key: str) -> int:
        """Bytes of a file; 0 if it is missing."""
        return len(self._files[key]) if key in self._files else 0

    def open(self, key: str) -> RawFile:
        """Open a file.

        Raises
        ------
        FileNotFoundError : it is missing
        """
        if key not in self._files:
            raise FileNotFoundError(key)
        return _MemoryFile(memoryview(self._files[key].as_numpy_array()))  # type: ignore[arg-type]


class _MemoryFile(RawFile):
    """A file in memory; only the bytes that are read are copied."""

    def __init__(self, content: memoryview) -> None:
        self._content, self.size = content, len(content)

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, start: int, length: int) -> bytes:
        """Some bytes; fewer at the end."""
        return bytes(self._content[start : start + max(0, length)]) if start >= 0 else b""

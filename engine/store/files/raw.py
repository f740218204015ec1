"""The files of a store on a disk, read by byte ranges without zarr."""

from __future__ import annotations

import os
from io import BytesIO, FileIO
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Protocol, Self


class RawFile:
    """An open file, or a part of one: ``size`` bytes from ``start``."""

    def __init__(self, file: FileIO | BytesIO, start: int, size: int) -> None:
        self._file, self._start, self.size = file, start, size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, start: int, length: int) -> bytes:
        """Some bytes; fewer at the end."""
        if start < 0:
            return b""
        self._file.seek(self._start + start)
        return self._file.read(max(0, min(length, self.size - start))) or b""


class RawFiles(Protocol):
    """The files of a store by key, such as ``conv1/mean/c.0.0``."""

    def size(self, key: str) -> int:
        """Bytes of a file; 0 if it is missing."""

    def open(self, key: str) -> RawFile:
        """Open a file.

        Raises
        ------
        OSError : it is missing, or no plain file
        """


class FolderFiles:
    """The files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def size(self, key: str) -> int:
        """Bytes of a file; 0 if it is missing."""
        try:
            return os.stat(f"{self._root}/{key}").st_size  # noqa: PTH116  a path costs more
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def open(self, key: str) -> RawFile:
        """Open a file.

        Raises
        ------
        OSError : it is missing, or no plain file
        """
        path = f"{self._root}/{key}"
        found = os.stat(path)  # noqa: PTH116
        if not S_ISREG(found.st_mode):  # a pipe may never end
            raise OSError(f"{path} is no plain file")
        return RawFile(FileIO(path), 0, found.st_size)

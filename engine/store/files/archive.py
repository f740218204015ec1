"""Archives read in place: the members of a zip file, by byte ranges.

Archives come from strangers. Only members that lie in the file as they are can be read in part, and
only they take no more memory than they have bytes: others are refused, before anything is read.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from ...errors import UserError, first_line
from .raw import RawFile
from .zip_form import LENGTHS, LOCAL_MARK, LOCAL_SIZE, Member, directory, local_header

# Bytes that are read at once where a whole archive is read.
_BLOCK = 2**20
# Directories of archives to remember: opening a store looks at its archive several times.
_KNOWN = 4


class Archive(str):
    """The path of a store that is one file."""

    @property
    def files(self) -> ArchiveFiles:
        """Its members.

        Raises
        ------
        UserError : it is no zip file, or one that must not be read
        """
        found = os.stat(self)  # noqa: PTH116
        if not S_ISREG(found.st_mode):  # a pipe may never end
            raise _refusal(str(self), "it is no plain file")
        return _files(str(self), found.st_ino, found.st_mtime_ns, found.st_size)


def is_archive(path: Path | str) -> bool:
    """Whether a path is that of an archive: by its name, unless it is a folder."""
    return str(path).lower().endswith(".zip") and not os.path.isdir(path)  # noqa: PTH112


class ArchiveFiles:
    """The members of an archive by key; see :class:`.raw.RawFiles`.

    ``path`` is that of the zip file, ``members`` are in the order in which they lie in it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with ZipFile(path) as opened:
                self.members = _members(opened.infolist(), opened.start_dir)
        except _Refused as refused:
            raise _refusal(path, str(refused)) from None
        except (BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise _refusal(path, f"it is no whole zip file: {first_line(error)}") from None
        following = [member.start for member in self.members[1:]]
        ends = [*following, opened.start_dir]
        self._ends = {m.key: end for m, end in zip(self.members, ends, strict=True)}
        self._by_key = {member.key: member for member in self.members}

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def size(self, key: str) -> int:
        """Bytes of a file; 0 if it is missing."""
        member = self._by_key.get(key)
        return member.size if member else 0

    def open(self, key: str) -> RawFile:
        """Open a file.

        Raises
        ------
        OSError : it is missing, or overlaps another
        """
        if key not in self._by_key:
            raise FileNotFoundError(key)
        member, file = self._by_key[key], FileIO(self.path)
        try:
            file.seek(member.start)
            head = file.read(LOCAL_SIZE).ljust(LOCAL_SIZE, b"\0")
            start = member.start + LOCAL_SIZE + sum(LENGTHS.unpack(head))
            if not head.startswith(LOCAL_MARK) or start + member.size > self._ends[key]:
                raise OSError(f"{key} does not lie where the zip file says")
        except BaseException:
            file.close()
            raise
        return RawFile(file, start, member.size)

    def fault(self) -> str | None:
        """The first byte that is not what ``fusiform archive`` writes; None if all are."""
        with open(self.path, "rb") as file:  # noqa: PTH123
            for member in self.members:
                header = local_header(member)
                if file.tell() != member.start or file.read(len(header)) != header:
                    return f"{member.key}: its head in the zip file is not what was written"
                if _crc(file, member.size) != member.crc:
                    return f"{member.key}: is not what was written: its checksum differs"
            rest = directory(self.members, file.tell())
            whole = file.read(len(rest) + 1) == rest
        return None if whole else "the directory of the zip file is not what was written"


class _Refused(Exception):
    pass


@lru_cache(_KNOWN)
def _files(path: str, *stamp: int) -> ArchiveFiles:
    del stamp  # it tells two archives at one path apart
    return ArchiveFiles(path)


def _refusal(path: str, why: str) -> UserError:
    return UserError(
        f"an archive is a zip file that fusiform archive made; got {path} ({why}): archive the "
        "store again, or unpack it yourself"
    )


def _members(found: Iterable[ZipInfo], end: int) -> list[Member]:
    """The members of a zip file whose directory begins at ``end``, in their order.

    Raises
    ------
    _Refused : one is compressed, encrypted, named twice or outside of the folder, or not inside
        the file
    """
    members, keys = [], set()
    for one in sorted(found, key=lambda one: one.header_offset):
        if one.is_dir() and not one.file_size:
            continue
        key = one.orig_filename
        if key != one.filename or "\\" in key or not all(_names(key)):
            raise _Refused(f"it has a member {key[:80]!r}, which names no file of a store")
        if key in keys:
            raise _Refused(f"it has two members {key!r}")
        if one.flag_bits & 1:
            raise _Refused(f"its member {key} is encrypted")
        if one.compress_type != ZIP_STORED or one.compress_size != one.file_size:
            raise _Refused(f"its member {key} is compressed")
        keys.add(key)
        members.append(Member(key, one.header_offset, one.file_size, one.CRC))
    ends = (*(member.start for member in members[1:]), end)
    for member, following in zip(members, ends, strict=True):
        if member.start < 0 or member.start + LOCAL_SIZE + member.size > following:
            raise _Refused(f"its member {member.key} overlaps another, or the end")
    return members


def _names(key: str) -> Iterator[bool]:
    """Whether each part of a key is a name."""
    return (part not in ("", ".", "..") and part.isprintable() for part in key.split("/"))


def _crc(file: BinaryIO, size: int) -> int:
    """The CRC-32 of the next bytes of a file."""
    found = 0
    for at in range(0, size, _BLOCK):
        found = zlib.crc32(file.read(min(_BLOCK, size - at)), found)
    return found

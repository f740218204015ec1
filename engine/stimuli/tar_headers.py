"""Files of an untrusted tar archive, one header at a time.

Python's reader believes the sizes in a header. They are checked here first, so that reading always
ends and takes no more memory than the largest header allowed.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import UserError
from .columns import LONGEST_TEXT

_BLOCK = 512
# Most bytes of the headers of a file, with its name and file system attributes.
_MOST_HEADERS = 2**20
# Bytes read at a time when searching for the next archive, and most zeros before it: programs pad
# the last record, up to some MiB.
_AT_ONCE, _MOST_ZEROS = 2**20, 2**26


def files_in(path: Path) -> Iterator[tarfile.TarInfo]:
    """Files in a shard, except hidden ones, one header at a time.

    Reads past the zero blocks at the end of an archive, like ``tar --ignore-zeros``: shards joined
    by ``cat`` are read completely.

    Raises
    ------
    UserError : not a tar file, damaged or truncated, or one with links, devices or sparse files
    """
    try:
        with path.open("rb") as file:
            start: int | None = 0
            while start is not None:
                file.seek(start)
                with _Archive.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
                    yield from _members(path, tar)
                    start = _next_archive(file, tar.offset)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"shards are uncompressed tar files; {path} is not, or is damaged ({reason}): create "
            "it again"
        ) from None


class _Header(tarfile.TarInfo):
    """A header, with a bound on it and on the extended headers before it."""

    def _proc_member(self, archive: _Archive) -> _Header:
        """Process a header: the hook that Python's reader offers."""
        if self.type == tarfile.GNUTYPE_SPARSE:
            self.sparse = b""  # rejected later; its lists could be of any length
            return self._as_python(archive, "_proc_builtin")
        if self.type not in (*_LONG, *_PAX):
            return self._as_python(archive, "_proc_member")
        end = self.offset + self.size
        if self.size < 0 or end - archive.member > _MOST_HEADERS:
            raise tarfile.ReadError(f"headers of {end - archive.member:,} bytes")
        return (self._of_pax if self.type in _PAX else self._as_python)(archive)

    def _as_python(self, archive: _Archive, step: str = "_proc_member") -> _Header:
        found: _Header = getattr(super(), step)(archive)
        return found

    def _of_pax(self, archive: _Archive) -> _Header:
        """Read name and size from a PAX header in linear time; Python's reader is quadratic."""
        assert archive.fileobj
        content = archive.fileobj.read(-(-self.size // _BLOCK) * _BLOCK)[: self.size]
        records = dict(_records(content))
        try:
            found = self.fromtarfile(archive)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        assert isinstance(found, _Header)
        found.offset = self.offset
        if self.type == tarfile.XGLTYPE:  # applies to all files
            if records.keys() & {b"path", b"size"}:
                raise tarfile.ReadError("one name or size for all files")
            return found
        if b"path" in records:
            found.name = records[b"path"].decode(errors="surrogateescape").rstrip("/")
        if b"size" in records:
            found.size = int(records[b"size"])
            content_bytes = -(-found.size // _BLOCK) * _BLOCK if found.isreg() else 0
            archive.offset = found.offset_data + content_bytes
        if any(name.startswith(b"GNU.sparse") for name in records):
            found.sparse = b""
        return found


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values in a PAX header; its lines are ``LENGTH NAME=VALUE``."""
    content = content.rstrip(b"\0")
    start = 0
    while start < len(content):
        length = content[start : start + 9].partition(b" ")[0]
        end = start + int(length)
        name, equals, value = content[start + len(length) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(content):
            raise tarfile.ReadError(f"no PAX header at its byte {start:,}")
        yield name, value[:-1]
        start = end


_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class _Archive(tarfile.TarFile):
    """An archive with bounded headers; ``member`` is the offset of the next file's headers."""

    tarinfo = _Header
    member = 0

    def next(self) -> tarfile.TarInfo | None:
        """Read the next file's headers."""
        self.member = self.offset
        return super().next()


def _members(path: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (one := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        ends = one.offset_data + -(-one.size // _BLOCK) * _BLOCK
        if one.size < 0 or tar.offset <= one.offset or (one.isreg() and tar.offset != ends):
            raise tarfile.ReadError(f"a member of {one.size:,} bytes at byte {one.offset:,}")
        if tar.offset > path.stat().st_size:
            raise tarfile.ReadError(f"a member of {one.size:,} bytes is cut short")
        if len(one.name) > LONGEST_TEXT:
            raise tarfile.ReadError(f"a name of {len(one.name):,} characters")
        if one.isdir() or os.path.basename(one.name).startswith("."):  # noqa: PTH119
            continue
        if not one.isreg() or one.sparse is not None:
            raise UserError(
                f"shards hold plain files; {one.name} in {path} is a link, a device or a sparse "
                "file: leave it out"
            )
        yield one


def _next_archive(file: IO[bytes], end: int) -> int | None:
    """Start of the next archive after the ``end`` of one; None if only zeros follow.

    Needed since Python's reader takes an invalid header for the end.

    Raises
    ------
    tarfile.ReadError : no block of zeros, or more zeros than any program writes
    """
    file.seek(end)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise tarfile.ReadError("it is cut short")
    if any(block):
        raise tarfile.ReadError(f"no header at byte {end:,}")
    for start in range(end + _BLOCK, end + _MOST_ZEROS, _AT_ONCE):
        part = file.read(_AT_ONCE)
        if not part:
            return None
        rest = part.lstrip(b"\0")
        if rest:
            begin = start + len(part) - len(rest)
            return begin - (begin - end) % _BLOCK
    raise tarfile.ReadError(f"more than {_MOST_ZEROS:,} bytes of zeros at byte {end:,}")

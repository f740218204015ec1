"""The files in a tar archive, one header at a time. Archives come from strangers.

Python's reader takes a header at its word: what it says of sizes is judged here before that is
followed, so that an archive takes no more memory than a header may have bytes, and an end comes.
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
# Bytes of the headers before a file, which hold its name and attributes of file systems.
_MOST_HEADERS = 2**20
# Bytes that are read at a time in search of the next archive, and how many zeros may lie before it:
# programs fill the last record, of up to some MiB.
_AT_ONCE, _MOST_ZEROS = 2**20, 2**26


def files_in(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files in a shard, hidden ones aside, one header at a time.

    As ``tar`` with ``--ignore-zeros``, what follows the blocks of zeros at the end of an archive is
    read on: shards that were joined by ``cat`` are all read.

    Raises
    ------
    UserError : it is no tar, is damaged or cut short, or holds links, devices or sparse files
    """
    try:
        with path.open("rb") as file:
            place: int | None = 0
            while place is not None:
                file.seek(place)
                with _Archive.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
                    yield from _members(path, tar)
                    place = _next_archive(file, tar.offset)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"shards are tar files, not compressed; {path} is none or damaged ({reason}): make it "
            "anew"
        ) from None


class _Header(tarfile.TarInfo):
    """A header. Others may stand before it that say more of the same file: all are bounded."""

    def _proc_member(self, archive: _Archive) -> _Header:
        """Read what a header is of: where Python's reader lets others take part."""
        if self.type == tarfile.GNUTYPE_SPARSE:
            self.sparse = b""  # it is refused, and its lists of any length are not read
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
        """Read what a PAX header says of name and size; Python looks through it again and again."""
        assert archive.fileobj
        content = archive.fileobj.read(-(-self.size // _BLOCK) * _BLOCK)[: self.size]
        said = dict(_records(content))
        try:
            found = self.fromtarfile(archive)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        assert isinstance(found, _Header)
        found.offset = self.offset
        if self.type == tarfile.XGLTYPE:  # of all files
            if said.keys() & {b"path", b"size"}:
                raise tarfile.ReadError("one name or size for all files")
            return found
        if b"path" in said:
            found.name = said[b"path"].decode(errors="surrogateescape").rstrip("/")
        if b"size" in said:
            found.size = int(said[b"size"])
            content_bytes = -(-found.size // _BLOCK) * _BLOCK if found.isreg() else 0
            archive.offset = found.offset_data + content_bytes
        if any(name.startswith(b"GNU.sparse") for name in said):
            found.sparse = b""
        return found


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values in a PAX header: ``LENGTH NAME=VALUE``, the length that of the line."""
    content = content.rstrip(b"\0")
    place = 0
    while place < len(content):
        length = content[place : place + 9].partition(b" ")[0]
        end = place + int(length)
        name, equals, value = content[place + len(length) + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(content):
            raise tarfile.ReadError(f"no PAX header at its byte {place:,}")
        yield name, value[:-1]
        place = end


_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class _Archive(tarfile.TarFile):
    """An archive whose headers are bounded; ``member`` is where those of the next file begin."""

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
                f"shards hold plain files; {one.name} in {path} is a link, a device or "
                "sparse: leave it out"
            )
        yield one


def _next_archive(file: IO[bytes], place: int) -> int | None:
    """Where the next archive in a file begins; None where only zeros follow.

    Python's reader stops at a header that is none as if there were no more.

    Raises
    ------
    tarfile.ReadError : there is no block of zeros, or after it more than any program leaves
    """
    file.seek(place)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise tarfile.ReadError("it is cut short")
    if any(block):
        raise tarfile.ReadError(f"no header at byte {place:,}")
    for start in range(place + _BLOCK, place + _MOST_ZEROS, _AT_ONCE):
        part = file.read(_AT_ONCE)
        if not part:
            return None
        rest = part.lstrip(b"\0")
        if rest:
            begin = start + len(part) - len(rest)
            return begin - (begin - place) % _BLOCK
    raise tarfile.ReadError(f"more than {_MOST_ZEROS:,} bytes of zeros at byte {place:,}")

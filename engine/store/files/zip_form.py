"""The form of an archive: a zip file of uncompressed members, always the same bytes for a store.

After PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3. Every header follows from the names,
sizes and checksums of the members, so that ``check`` can compare each byte with what it must be.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
# Versions of the format that readers need, without and with sizes of 64 bits; Unix's number.
_PLAIN, _ZIP64, _UNIX = 20, 45, 3 << 8
# Names are UTF-8. The date is the format's first, 1 January 1980; the mode that of a file.
_UTF8, _DATE, _MODE = 0x800, 0x21, 0o100644 << 16
# Values that say "see the entry of 64 bits"; the kind of that entry.
_MOST, _MOST_MEMBERS, _EXTRA = 0xFFFFFFFF, 0xFFFF, 1
# Bytes of a local header before the name, its opening, and where the lengths lie that end it.
LOCAL_SIZE, LOCAL_MARK, LENGTHS = _LOCAL.size, b"PK\3\4", struct.Struct("<26x2H")


class Member(NamedTuple):
    """A file in an archive: its key in the store, where its header begins, bytes, and CRC-32."""

    key: str
    start: int
    size: int
    crc: int


def local_header(member: Member) -> bytes:
    """The header of a member, which stands before its content."""
    name, size = member.key.encode(), min(member.size, _MOST)
    extra = _wide([member.size, member.size] if size == _MOST else [])
    needed = _ZIP64 if extra else _PLAIN
    fields = (LOCAL_MARK, needed, _UTF8, 0, 0, _DATE, member.crc, size, size, len(name), len(extra))
    return _LOCAL.pack(*fields) + name + extra


def directory(members: Sequence[Member], start: int) -> bytes:
    """The directory, behind the last member, from ``start``: an entry for each, and the end."""
    entries = b"".join(map(_entry, members))
    number, size = len(members), len(entries)
    end = b""
    if number >= _MOST_MEMBERS or start >= _MOST:
        sizes = (number, number, size, start)
        end += _END64.pack(b"PK\6\6", _END64.size - 12, _UNIX | _ZIP64, _ZIP64, 0, 0, *sizes)
        end += _LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    short, begins = min(number, _MOST_MEMBERS), min(start, _MOST)
    return entries + end + _END.pack(b"PK\5\6", 0, 0, short, short, size, begins, 0)


def _entry(member: Member) -> bytes:
    name, size, start = member.key.encode(), min(member.size, _MOST), min(member.start, _MOST)
    wide = [member.size, member.size] if size == _MOST else []
    extra = _wide([*wide, *([member.start] if start == _MOST else [])])
    needed = _ZIP64 if extra else _PLAIN
    fields = (_UNIX | needed, needed, _UTF8, 0, 0, _DATE, member.crc, size, size)
    lengths = (len(name), len(extra), 0, 0, 0)
    return _CENTRAL.pack(b"PK\1\2", *fields, *lengths, _MODE, start) + name + extra


def _wide(values: Sequence[int]) -> bytes:
    """An extra field of values that take more than 32 bits; nothing without any."""
    return struct.pack(f"<2H{len(values)}Q", _EXTRA, 8 * len(values), *values) if values else b""

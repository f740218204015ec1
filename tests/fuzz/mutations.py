"""Mutations of a file, and the report of all cases."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .seeds import chunk

_SIDES = (0, 1, 2, 255, 13000, 16383, 32767, 65535)
_NUMBERS = (*_SIDES, 0x7FFF, 0x8000, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_SIDES_AT = (
    (b"\x89PNG", ">II", 16),
    (b"GIF", "<HH", 6),
    (b"BM", "<II", 18),
    (b"\x28\0\0\0", "<II", 4),
    (b"\0\0\2", "<HH", 12),
)


def damaged(content: bytes, other: bytes, chance: random.Random) -> tuple[bytes, str]:
    """``content`` after one to four mutations (some splice in ``other``), and their names."""
    done = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        mutation = chance.choice(MUTATIONS)
        content = mutation(content or b"\0", other, chance)
        done.append(mutation.__name__.strip("_"))
    if content.startswith(b"\x89PNG") and chance.random() < 0.5:
        content = _with_checksums(content)
        done.append("checksums")
    return content, ", ".join(done)


def _flip(content: bytes, other: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 2, 8, 32))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, other: bytes, chance: random.Random) -> bytes:
    start, length = chance.randrange(len(content)), chance.choice((1, 4, 16, 64))
    run = chance.choice((b"\0" * length, b"\xff" * length, chance.randbytes(length)))
    return content[:start] + run + content[start + length :]


def _truncate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _cut(content: bytes, other: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.choice((1, 2, 9, 100)) :]


def _repeat(content: bytes, other: bytes, chance: random.Random) -> bytes:
    start, length = chance.randrange(len(content)), chance.choice((1, 8, 64, 512))
    return content[: start + length] * chance.choice((1, 2)) + content[start:]


def _insert(content: bytes, other: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + bytes(chance.choice((1, 2, 13, 4096))) + content[start:]


def _splice(content: bytes, other: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]


def _blow_up(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Replace a length, side, count or offset, in either byte order."""
    form = chance.choice("<>") + chance.choice("HI")
    size = struct.calcsize(form)
    start = min(chance.choice(fields(content)), max(0, len(content) - size))
    value = chance.choice(_NUMBERS) & (2 ** (8 * size) - 1)
    return content[:start] + struct.pack(form, value) + content[start + size :]


def _enlarge(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Enlarge both sides, sometimes beyond the limit on pixels."""
    width, height = (chance.choice((1, 3000, 9000, 13300, 16383, 65535)) for _ in range(2))
    if content.startswith(b"P") and b"24 20" in content[:20]:
        return content.replace(b"24 20", b"%d %d" % (width, height), 1)
    for magic, form, start in _SIDES_AT:
        if content.startswith(magic):
            sides = struct.pack(form, width, height)
            return content[:start] + sides + content[start + len(sides) :]
    if content.startswith(b"II*\0"):
        for tag, side in ((256, width), (257, height)):
            for kind, form in ((3, "<HHIHxx"), (4, "<HHII")):
                entry = struct.pack("<HHI", tag, kind, 1)
                start = content.find(entry)
                if start > 0:
                    new = struct.pack(form, tag, kind, 1, side)
                    content = content[:start] + new + content[start + 12 :]
    if content.startswith(b"\xff\xd8"):
        start = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
        if start > 0:
            return content[: start + 5] + struct.pack(">HH", height, width) + content[start + 9 :]
    return content


MUTATIONS: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    *(_flip, _overwrite, _truncate, _cut, _repeat, _insert, _splice),
    *(_blow_up, _blow_up, _blow_up, _enlarge),
)


def fields(content: bytes) -> list[int]:
    """Positions of numbers that declare lengths and counts."""
    if content.startswith(b"\x89PNG"):
        starts = [start for start, _, _ in _chunks(content)]
        return [16, 20, 23, *(start + add for start in starts for add in (0, 4, 8, 12))]
    if content.startswith(b"\xff\xd8"):
        marks = [i for i in range(len(content) - 1) if content[i] == 255 and content[i + 1] > 191]
        return [mark + add for mark in marks for add in (2, 5, 7, 9)]
    if content[:2] in (b"II", b"MM") and len(content) >= 8:
        order = "<" if content[:2] == b"II" else ">"
        start = struct.unpack(order + "I", content[4:8])[0]
        return [4, start, *(start + 2 + 12 * i + add for i in range(20) for add in (0, 2, 4, 8))]
    return list(range(60))


def _chunks(content: bytes) -> list[tuple[int, bytes, bytes]]:
    found, start = [], 8
    while start + 12 <= len(content):
        length = struct.unpack(">I", content[start : start + 4])[0]
        found.append(
            (start, content[start + 4 : start + 8], content[start + 8 : start + 8 + length])
        )
        start += 12 + length
    return found


def _with_checksums(content: bytes) -> bytes:
    return content[:8] + b"".join(chunk(kind, inside) for _, kind, inside in _chunks(content))


@dataclass
class Report:
    """The results of all cases: ``outcomes[kind of file, outcome]``, and the failures."""

    count: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_case: str = ""
    peak: int = 0
    seconds: float = 0.0

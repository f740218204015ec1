"""Columns of a table with a row per stimulus, in a few bytes a row: a million are ordinary."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import index
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
# Rows that are moved at a time: the indices of all bytes would take eight times the bytes.
_AT_ONCE = 65_536
# Texts may hold halves of surrogate pairs, by which Python passes on bytes that are no UTF-8.
_CODEC = ("utf-8", "surrogatepass")
SHA256_BYTES = 32
# Characters of a name or category: as many bytes as a path has at most.
LONGEST_TEXT = 2**12


class Column(Sequence[T]):
    """Values that are made when they are asked for; equal to any sequence of the same values."""

    def __init__(self, length: int, value: Callable[[int], T]) -> None:
        self._length, self._value = length, value

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> list[T]: ...

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._value(i) for i in range(*place.indices(self._length))]
        number = index(place)
        if not -self._length <= number < self._length:
            raise IndexError(number)
        return self._value(number % self._length)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            own == its for own, its in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,}>"


class Texts(Column[str]):
    """Texts behind each other in one buffer: their bytes, and 4 more each (8 beyond 4 GiB)."""

    def __init__(self, content: NDArray[np.uint8], ends: NDArray[Any]) -> None:
        super().__init__(len(ends), self._text)
        small = len(content) < 2**32
        self.content, self.ends = content, ends.astype(np.uint32 if small else np.int64)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for first in range(0, len(self), _AT_ONCE):
            ends = self.ends[first : first + _AT_ONCE].tolist()
            content, begin = self.content[start : ends[-1]].tobytes(), start
            for end in ends:
                yield content[start - begin : end - begin].decode(*_CODEC)
                start = end

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """The column of these texts, which are looked at one by one."""
        content, ends = bytearray(), array("q")
        for text in texts:
            content += text.encode(*_CODEC)
            ends.append(len(content))
        return cls(np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64))

    def take(self, order: NDArray[np.int64]) -> Texts:
        """The texts at these places."""
        ends = self.ends.astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        lengths = (ends - starts)[order]
        new = np.cumsum(lengths)
        content = np.empty(int(new[-1]) if len(new) else 0, np.uint8)
        for first in range(0, len(order), _AT_ONCE):
            own = slice(first, first + _AT_ONCE)
            begin = int(new[first] - lengths[first])
            shift = np.repeat(starts[order[own]] - (new[own] - lengths[own]), lengths[own])
            places = np.arange(begin, begin + len(shift)) + shift
            content[begin : begin + len(shift)] = self.content[places]
        return Texts(content, new)

    def row_of(self, byte: int) -> int:
        """The text that a byte of the buffer belongs to."""
        return int(np.searchsorted(self.ends, byte, side="right"))

    def storable(self) -> Texts:
        """The same as text that UTF-8 can hold; see :func:`storable`."""
        odd = (self.content[:-1] == 0xED) & (self.content[1:] >= 0xA0)
        return Texts.of(map(storable, self)) if odd.any() else self

    def _text(self, i: int) -> str:
        start = int(self.ends[i - 1]) if i else 0
        return str(self.content[start : int(self.ends[i])].tobytes(), *_CODEC)


class Content(NamedTuple):
    """What reading a stimulus once found.

    ``sha256`` is "" where it cannot be read; ``problem`` is "" where nothing speaks against
    showing it, otherwise one short reason without the path.
    """

    sha256: str
    problem: str


class Contents(Column[Content]):
    """What stimuli hold: ``digests [stimulus, byte]``, all 0 where there is none, and problems.

    Few stimuli have ``problems``, which are by the number of the stimulus.
    """

    def __init__(self, digests: NDArray[np.uint8], problems: dict[int, str]) -> None:
        super().__init__(len(digests), self._content)
        self.digests, self.problems = digests, dict(sorted(problems.items()))

    def sha256(self, i: int) -> str:
        """The hash of a stimulus in hexadecimal digits, or ""."""
        digest = self.digests[i]
        return bytes(digest).hex() if digest.any() else ""

    def _content(self, i: int) -> Content:
        return Content(self.sha256(i), self.problems.get(i, ""))


def storable(name: str) -> str:
    r"""``name`` as text that UTF-8 can hold: bytes that are not UTF-8 become ``\xe9``."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", _escape, name)
    return name


def _escape(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    # How Python passes on a byte that is not UTF-8; the others are Windows' own.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

"""Compact columns of a stimulus table, for sets of millions of stimuli."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import index
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
# Rows copied at a time: indices of all bytes would take eight times the memory.
_AT_ONCE = 65_536
# Texts may hold lone surrogates, which stand for bytes that are not UTF-8.
_CODEC = ("utf-8", "surrogatepass")
SHA256_BYTES = 32
# Most characters of a name or category: the limit on bytes of a path.
LONGEST_TEXT = 2**12


class Column(Sequence[T]):
    """A sequence of values computed on access; equal to any sequence of the same values."""

    def __init__(self, length: int, value: Callable[[int], T]) -> None:
        self._length, self._value = length, value

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, row: int) -> T: ...

    @overload
    def __getitem__(self, row: slice) -> list[T]: ...

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self._value(i) for i in range(*row.indices(self._length))]
        number = index(row)
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
    """Texts in one buffer, with an offset of 4 bytes each (8 beyond 4 GiB)."""

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
        """Column of ``texts``, consumed one by one."""
        content, ends = bytearray(), array("q")
        for text in texts:
            content += text.encode(*_CODEC)
            ends.append(len(content))
        return cls(np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64))

    def take(self, order: NDArray[np.int64]) -> Texts:
        """Texts at the rows in ``order``."""
        ends = self.ends.astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        lengths = (ends - starts)[order]
        new = np.cumsum(lengths)
        content = np.empty(int(new[-1]) if len(new) else 0, np.uint8)
        for first in range(0, len(order), _AT_ONCE):
            own = slice(first, first + _AT_ONCE)
            begin = int(new[first] - lengths[first])
            shift = np.repeat(starts[order[own]] - (new[own] - lengths[own]), lengths[own])
            bytes_of_rows = np.arange(begin, begin + len(shift)) + shift
            content[begin : begin + len(shift)] = self.content[bytes_of_rows]
        return Texts(content, new)

    def row_of(self, byte: int) -> int:
        """Row of the text that holds a byte of the buffer."""
        return int(np.searchsorted(self.ends, byte, side="right"))

    def storable(self) -> Texts:
        """All texts as valid UTF-8; see :func:`storable`."""
        odd = (self.content[:-1] == 0xED) & (self.content[1:] >= 0xA0)
        return Texts.of(map(storable, self)) if odd.any() else self

    def _text(self, i: int) -> str:
        start = int(self.ends[i - 1]) if i else 0
        return str(self.content[start : int(self.ends[i])].tobytes(), *_CODEC)


class Content(NamedTuple):
    """Result of reading a stimulus file once.

    ``sha256`` is "" if it cannot be read. ``problem`` is "", or a short reason, without the path,
    why it cannot be shown.
    """

    sha256: str
    problem: str


class Contents(Column[Content]):
    """:class:`Content` of all stimuli: ``digests [stimulus, byte]`` (0 if unknown), and problems.

    ``problems`` maps a stimulus to its problem, if it has one.
    """

    def __init__(self, digests: NDArray[np.uint8], problems: dict[int, str]) -> None:
        super().__init__(len(digests), self._content)
        self.digests, self.problems = digests, dict(sorted(problems.items()))

    def sha256(self, i: int) -> str:
        """Hash of a stimulus in hexadecimal digits, or ""."""
        digest = self.digests[i]
        return bytes(digest).hex() if digest.any() else ""

    def _content(self, i: int) -> Content:
        return Content(self.sha256(i), self.problems.get(i, ""))


def storable(name: str) -> str:
    r"""``name`` as valid UTF-8; other bytes are escaped, as ``\xe9``."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", _escape, name)
    return name


def _escape(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    # Python's escape for a byte that is not UTF-8; other surrogates come from Windows.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

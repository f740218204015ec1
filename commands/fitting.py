"""Text and tables that fit the terminal.

The columns of a table stand in the order of their importance: what does not fit is dropped from
the right, after names were shortened. Output that goes elsewhere than to a terminal is complete.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from textwrap import TextWrapper
from typing import TextIO

# Whether lines are whole, however wide the terminal: --wide. None where a command lacks the option.
is_wide: ContextVar[bool | None] = ContextVar("is_wide", default=None)

_GAP, _DOTS = 2, "..."
# Columns that lines take on any terminal.
_NARROWEST = 20
# Characters that a name, a heading of numbers, and a text of several lines keep, if need be.
_NAME, _HEADING, _PROSE = 16, 18, 20


@contextmanager
def width_as(wide: bool) -> Iterator[None]:
    """Print whole lines if ``wide``, otherwise such as fit the terminal."""
    token = is_wide.set(wide)
    try:
        yield
    finally:
        is_wide.reset(token)


def width_of(stream: TextIO) -> int | None:
    """The columns of the terminal behind a stream; None where there is none, or with --wide.

    The variable COLUMNS takes precedence, as everywhere.
    """
    if is_wide.get():
        return None
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return max(int(given), _NARROWEST)
    try:
        return max(os.get_terminal_size(stream.fileno()).columns, _NARROWEST)
    except (AttributeError, OSError, ValueError):  # no terminal, closed, or no file at all
        return None


def shorten(text: str, width: int) -> str:
    """A text without its middle; more is kept of the end, where layers and paths differ."""
    if len(text) <= width:
        return text
    kept = max(width - len(_DOTS), 0)
    start = kept // 3
    return f"{text[:start]}{_DOTS}{text[len(text) - kept + start :]}"[:width]


def wrap(text: str, width: int | None, indent: int = 2) -> str:
    """A text in lines that fit, broken at spaces; the lines after the first are indented."""
    if width is None or len(text) <= width:
        return text
    wrapper = TextWrapper(width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return "\n".join(wrapper.wrap(text))


def continued(command: str, width: int | None, indent: int) -> str:
    """A command in lines that fit, which a shell reads as one; no word of it is broken."""
    if width is None or len(command) <= width:
        return command
    wrapper = TextWrapper(
        width - 2, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return " \\\n".join(wrapper.wrap(command))


@dataclass(frozen=True)
class Fitted:
    """The columns of a table that fit, each with its heading, and the headings of the others.

    ``widths`` are those of the columns; a name that is longer was shortened, ``wrapped`` columns
    have several lines instead.
    """

    columns: list[list[str]]
    widths: list[int]
    left_out: list[str]
    is_shortened: bool


def fit(
    table: Sequence[Sequence[str]],
    right: Collection[int],
    wrapped: Collection[int],
    width: int | None,
    together: int = 1,
    kept: int = 0,
) -> Fitted:
    """Fit a table, its first row the headings, into a width.

    Parameters
    ----------
    right : columns of numbers, which are never shortened
    wrapped : columns of texts that may take several lines
    together : the columns after the names are dropped in groups of this many
    kept : the number of columns that are always kept; by default the names, which stand before the
        first number, and one group
    """
    columns = [list(cells) for cells in zip(*table, strict=True)]
    whole = [max(map(len, cells)) for cells in columns]
    if width is None or _line(whole) <= width:
        return Fitted(columns, whole, [], is_shortened=False)
    least = [
        _least_of_numbers(cells) if place in right
        else _least_of_texts(cells, width // 3) if place in wrapped
        else _least_of_names(cells, width // 3)
        for place, cells in enumerate(columns)
    ]  # fmt: skip
    needed = kept or _names(len(columns), right) + together
    kept = len(columns)
    while kept > needed and _line(least[:kept]) > width:
        kept = max(kept - together, needed)
    widths = _grown(_shrunk(least[:kept], right, width), whole, width)
    shortened = any(widths[place] < whole[place] for place in range(kept) if place not in wrapped)
    fitted = [
        cells if place in wrapped else [shorten(cell, widths[place]) for cell in cells]
        for place, cells in enumerate(columns[:kept])
    ]
    return Fitted(fitted, widths, [cells[0] for cells in columns[kept:]], shortened)


def _line(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _names(number: int, right: Collection[int]) -> int:
    """The number of columns up to the last of the names; a number may stand before them."""
    place = 0
    while place < number and place in right:
        place += 1
    while place < number and place not in right:
        place += 1
    return place


def _least_of_numbers(cells: Sequence[str]) -> int:
    return max(min(len(cells[0]), _HEADING), *map(len, cells[1:]), 0)


def _least_of_texts(cells: Sequence[str], most: int) -> int:
    """The width of the longest word, up to ``most``."""
    longest = max((len(word) for cell in cells for word in cell.split()), default=0)
    return min(max(longest, min(_PROSE, max(map(len, cells)))), most)


def _least_of_names(cells: Sequence[str], most: int) -> int:
    """The width at which different names still differ: a quarter of the line, or up to ``most``."""
    names = set(cells)
    longest = max(map(len, names))
    for width in range(min(max(_NAME, 3 * most // 4), most), min(longest, most)):
        if len({shorten(name, width) for name in names}) == len(names):
            return width
    return min(longest, most)


def _shrunk(least: list[int], right: Collection[int], width: int) -> list[int]:
    """Narrower names, where even the columns that are always kept do not fit."""
    own = [place for place in range(len(least)) if place not in right]
    while _line(least) > width and max((least[place] for place in own), default=0) > len(_DOTS):
        least[max(own, key=lambda place: least[place])] -= 1
    return least


def _grown(widths: list[int], whole: Sequence[int], width: int) -> list[int]:
    """Wider columns, the narrowest first, until all are whole or the line is full."""
    for _ in range(width - _line(widths)):
        cut = [place for place, own in enumerate(widths) if own < whole[place]]
        if not cut:
            break
        widths[min(cut, key=lambda place: widths[place])] += 1
    return widths

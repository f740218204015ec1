"""Names in several Unicode forms, printable texts, CSV tables as people write them, durations."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO
from unicodedata import normalize

from .errors import UserError, shortened
from .urls import without_credentials

# Delimiters of columns, in the order in which a head is searched for them, and their names.
_DELIMITERS = {";": "semicolons", "|": "bars", "\t": "tabs", ",": "commas"}
# In characters; the csv module itself limits cells to 131,072.
_LONGEST_LINE = 2**20


def composed(name: str) -> str:
    """``name`` in NFC, the form in which names are compared: macOS decomposes file names."""
    return name if name.isascii() else normalize("NFC", name)


def printable(text: str) -> str:
    """``text`` on one line, with escapes for characters that a terminal would obey or hide.

    Names come from folders and stores of other people. URLs lose their credentials.
    """
    shown = without_credentials(text)
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return "".join(escaped)


def number(value: float, digits: int = 4) -> str:
    """A number with some significant digits; a large one in full, with commas: 175,400."""
    if 10**digits <= abs(value) + 0.5 < 10**15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def in_bytes(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def csv_rows(source: Path, what: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file with their line numbers; the first row holds the column names.

    The file is UTF-8, with or without a byte order mark. Spaces around cells are stripped and blank
    lines skipped; a row may be short. ``what`` names the kind of table in errors.

    Raises
    ------
    UserError : it is not a file, not CSV in UTF-8, has another ``delimiter``, or a row has more
        cells than columns
    """
    width = 0
    if source.exists() and not (source.is_file() or source.is_dir()):
        raise UserError(f"{what} is a CSV file; {source} is a device or pipe: write it to a file")
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            head = next((line for line in _lines(file) if line.strip()), "")
            found = next((mark for mark in _DELIMITERS if mark in head), "")
            if found and delimiter not in head:
                name = _DELIMITERS[delimiter]
                raise UserError(
                    f"{what} has {name} between its columns; {source} has {found!r}: save it with "
                    f"{name}"
                )
            file.seek(0)
            reader = csv.reader(
                _lines(file), delimiter=delimiter, strict=True, skipinitialspace=True
            )
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                width = width or len(cells)
                if any(cells[width:]):
                    raise UserError(
                        f"every row of a table has one cell per column; line {reader.line_num} of "
                        f"{source} has {len(cells)} for {width} columns: quote cells that contain "
                        f"{_DELIMITERS[delimiter]}"
                    )
                yield reader.line_num, cells[:width]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{what} is CSV in UTF-8; {source} is not ({error}): correct it, or save it so"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{what} is a CSV file; {source} is a folder") from None


def _lines(file: IO[str]) -> Iterator[str]:
    """Lines of a file, of bounded length."""
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise csv.Error(f"a line has more than {_LONGEST_LINE:,} characters")
        yield line


def column_indices(
    columns: Sequence[str],
    needed: Sequence[str],
    optional: Sequence[str],
    rule: str,
    source: Path,
) -> dict[str, int]:
    """Indices of the ``needed`` columns, and of the ``optional`` ones that exist.

    Raises
    ------
    UserError : a needed column is missing, or one appears twice; ``rule`` opens the message
    """
    stripped = [column.strip() for column in columns]
    if missing := [name for name in needed if name not in stripped]:
        raise UserError(
            f"{rule}; {source} lacks {', '.join(missing)}: it has {shortened(stripped) or 'none'}"
        )
    present = [name for name in (*needed, *optional) if name in stripped]
    for name in present:
        if stripped.count(name) > 1:
            raise UserError(
                f"a column appears once in a table; {source} has {name} twice: remove one"
            )
    return {name: stripped.index(name) for name in present}

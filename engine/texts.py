"""Texts: names in several Unicode forms, tables in CSV, numbers as people read them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO
from unicodedata import normalize

from .errors import UserError, shortened

# Marks other than commas that programs put between columns; the last is a tab.
_OTHER_MARKS = (";", "|", "\t")
# Characters of a line; csv has a bound of its own on cells, 131,072.
_LONGEST_LINE = 2**20


def composed(name: str) -> str:
    """``name`` in the form in which names are compared, NFC: Macs decompose those of files."""
    return name if name.isascii() else normalize("NFC", name)


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


def csv_rows(source: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file, each with its line; the first holds the names of the columns.

    UTF-8, with or without a byte order mark, with any line ends. Spaces around cells do not count,
    and lines without anything in them are passed over. A row may be short; ``what`` is the kind of
    table in errors.

    Raises
    ------
    UserError : it is no file, or no CSV in UTF-8, has other marks than commas between its columns,
        or a row has more cells than there are columns
    """
    width = 0
    if source.exists() and not (source.is_file() or source.is_dir()):
        raise UserError(f"{what} is a CSV file; {source} is a device or pipe: write it to a file")
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            head = next((line for line in _lines(file) if line.strip()), "")
            mark = next((mark for mark in _OTHER_MARKS if mark in head), "")
            if mark and "," not in head:
                raise UserError(
                    f"{what} has commas between its columns; {source} has {mark!r}: save it with "
                    "commas"
                )
            file.seek(0)
            reader = csv.reader(_lines(file), strict=True, skipinitialspace=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                width = width or len(cells)
                if any(cells[width:]):
                    raise UserError(
                        f"every row of a table has as many cells as there are columns; line "
                        f"{reader.line_num} of {source} has {len(cells)} for {width}: put a text "
                        "with a comma in it in quotes"
                    )
                yield reader.line_num, cells[:width]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{what} is CSV in UTF-8; {source} is not ({error})") from None
    except IsADirectoryError:
        raise UserError(f"{what} is a CSV file; {source} is a folder") from None


def _lines(file: IO[str]) -> Iterator[str]:
    """Lines, of which none is read that has no end."""
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise csv.Error(f"a line has more than {_LONGEST_LINE:,} characters")
        yield line


def places_of(
    columns: Sequence[str],
    needed: Sequence[str],
    optional: Sequence[str],
    rule: str,
    source: Path,
) -> dict[str, int]:
    """Where the columns stand that are ``needed``, and those ``optional`` ones that are there.

    Raises
    ------
    UserError : a needed one is missing, or one stands twice; ``rule`` says what a table has
    """
    stripped = [column.strip() for column in columns]
    if missing := [name for name in needed if name not in stripped]:
        raise UserError(
            f"{rule}; {source} lacks {', '.join(missing)}: it has {shortened(stripped) or 'none'}"
        )
    wanted = [name for name in (*needed, *optional) if name in stripped]
    for name in wanted:
        if stripped.count(name) > 1:
            raise UserError(
                f"a column stands once in a table; {source} has {name} twice: remove one"
            )
    return {name: stripped.index(name) for name in wanted}

"""Manifests: tables of stimuli with the columns ``path``, ``category`` and optionally ``sha256``.

CSV, Parquet or Arrow (Feather). Rows are read a few thousand at a time, and take some tens of bytes
each in memory.
"""

from __future__ import annotations

import posixpath
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..texts import column_indices, csv_rows
from .arrays.named import NamedImages
from .arrow_tables import rows_of
from .columns import LONGEST_TEXT, SHA256_BYTES, Texts
from .listing import Listing, Source, are_alike, rows_by_category
from .paths import FilesByName

_ARROW = (".parquet", ".arrow", ".feather")
MANIFESTS = (".csv", *_ARROW)
_NEEDED, _OPTIONAL = ("path", "category"), ("sha256",)
# Number of rows at the first check for repeated rows; it then doubles.
_FIRST_CHECK = 2**16
_RULE = "a manifest has the columns path and category"


# Location of a row for messages, path, category, hash.
Row = tuple[str, str, str, str | None]


def list_manifest(given: Source) -> Listing | None:
    """Images and categories of a manifest, both in its order.

    Raises
    ------
    UserError : a missing column, path or category, a path listed twice, an invalid hash, or a
        file that does not match its suffix
    """
    source = given.path
    if source.suffix.lower() not in MANIFESTS or not source.is_file():
        return None
    return listed_rows(given, source.parent, lambda: _rows(source))


def listed_rows(given: Source, base: Path, rows_of_source: Callable[[], Iterator[Row]]) -> Listing:
    """Listing of the rows of a table; ``base`` is the folder of its paths.

    Raises
    ------
    UserError : see :func:`list_manifest`
    """
    source = given.path
    numbers, marks, digests = array("i"), array("q"), bytearray()
    known: dict[str, int] = {}
    files = FilesByName(base)

    def named() -> NamedImages:
        return NamedImages(base, given.root, files)

    images = named()

    def paths() -> Iterator[str]:
        next_check = _FIRST_CHECK
        for where, listed, category, sha256 in rows_of_source():
            path = images.add(listed, f"{source} {where}")
            numbers.append(known.setdefault(category, len(known)))
            # A hash takes eight bytes, the path itself would take a hundred.
            marks.append(hash(posixpath.normpath(path)))
            if sha256 is not None:
                digests.extend(_digest(sha256, where, source))
            if len(marks) == next_check:
                # A small compressed file can repeat a row endlessly.
                if are_alike(np.frombuffer(marks, np.int64)):
                    _refuse_repeated(source, rows_of_source(), named())
                next_check *= 2
            yield path

    names = Texts.of(paths())
    if are_alike(np.frombuffer(marks, np.int64)):
        _refuse_repeated(source, rows_of_source(), named())
    notes: tuple[str, ...] = ()
    if files.renamed:
        notes = (f"{files.renamed:,} files have the listed names in another Unicode form",)
    hashes = np.frombuffer(digests, np.uint8).reshape(-1, SHA256_BYTES) if digests else None
    rows = rows_by_category(known, np.frombuffer(numbers, np.int32))
    return Listing(base, names, rows, notes, hashes, images.images(), confined=True)


def _rows(source: Path) -> Iterator[Row]:
    kind, rows = ("line", _csv_rows) if source.suffix.lower() == ".csv" else ("row", _arrow_rows)
    for number, path, category, *rest in rows(source):
        path, category = (path or "").strip(), (category or "").strip()
        if not path or not category:
            raise UserError(
                f"every row of a manifest needs a path and a category; {source} {kind} {number} "
                f"has {path or 'no path'}, {category or 'no category'}"
            )
        if max(len(path), len(category)) > LONGEST_TEXT:
            raise UserError(
                f"a path and a category have at most {LONGEST_TEXT:,} characters; {source} {kind} "
                f"{number} has more: shorten it"
            )
        yield f"{kind} {number}", path, category, rest[0] or "" if rest else None


def _csv_rows(source: Path) -> Iterator[Sequence[Any]]:
    rows = csv_rows(source, "a manifest")
    _, columns = next(rows, (0, []))
    used = column_indices(columns, _NEEDED, _OPTIONAL, _RULE, source).values()
    for line, row in rows:
        yield line, *[row[column] if column < len(row) else "" for column in used]


def _arrow_rows(source: Path) -> Iterator[Sequence[Any]]:
    for number, row in enumerate(rows_of(source, _NEEDED, _OPTIONAL, _RULE), 1):
        yield number, *row


def _digest(sha256: str, where: str, source: Path) -> bytes:
    try:
        digest = bytes.fromhex(sha256.strip())
    except ValueError:
        digest = b""
    if len(digest) != SHA256_BYTES or not any(digest):
        raise UserError(
            f"a column sha256 has 64 hexadecimal digits in every row; {source} {where} has "
            f"{sha256[:80]!r}: correct it, or leave the column out"
        )
    return digest


def _refuse_repeated(source: Path, rows: Iterator[Row], images: NamedImages) -> None:
    """Raise for the first path that is listed twice; equal hashes alone may be a coincidence."""
    seen: set[str] = set()
    for where, listed, *_ in rows:
        path = posixpath.normpath(images.add(listed, f"{source} {where}"))
        if path in seen:
            raise UserError(
                f"a manifest lists a stimulus once; {source} {where} repeats {listed}: remove it"
            )
        seen.add(path)

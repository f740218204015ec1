"""Manifests: tables of stimuli with the columns ``path``, ``category`` and perhaps ``sha256``.

CSV, Parquet, or Arrow's own format (Feather). Rows are read a few thousand at a time, and kept in
some tens of bytes each.
"""

from __future__ import annotations

import posixpath
from array import array
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..texts import csv_rows, places_of
from .arrow_tables import rows_of
from .bounds import FilesByName
from .columns import LONGEST_TEXT, SHA256_BYTES, Texts
from .listing import Listing, are_alike, rows_by_category

_ARROW = (".parquet", ".arrow", ".feather")
MANIFESTS = (".csv", *_ARROW)
_NEEDED, _OPTIONAL = ("path", "category"), ("sha256",)
# Rows after which it is looked whether one is there twice, and then at every doubling.
_FIRST_LOOK = 2**16
_RULE = "a manifest has the columns path and category"


# What to call a row's place, its path, category and hash.
_Row = tuple[str, str, str, str | None]


def list_manifest(source: Path) -> Listing:
    """Images and categories, both in the order in which a manifest lists them.

    Raises
    ------
    UserError : columns are missing, a row lacks a path or a category, a path is listed twice, a
        hash is none, the file is not what its suffix says; pyarrow is needed and not installed
    """
    numbers, marks, digests = array("i"), array("q"), bytearray()
    known: dict[str, int] = {}
    files = FilesByName(source.parent)

    def paths() -> Iterator[str]:
        looked = _FIRST_LOOK
        for place, listed, category, sha256 in _rows(source):
            path = files.find(listed)
            numbers.append(known.setdefault(category, len(known)))
            # Eight bytes to know again what was listed: the paths themselves would be a hundred.
            marks.append(hash(posixpath.normpath(path)))
            if sha256 is not None:
                digests.extend(_digest(sha256, place, source))
            if len(marks) == looked:
                # Some bytes can say the same row without end.
                if are_alike(np.frombuffer(marks, np.int64)):
                    _refuse_repeated(source, files)
                looked *= 2
            yield path

    names = Texts.of(paths())
    if are_alike(np.frombuffer(marks, np.int64)):
        _refuse_repeated(source, files)
    notes: tuple[str, ...] = ()
    if files.renamed:
        notes = (f"{files.renamed:,} files are called as listed, but in another Unicode form",)
    given = np.frombuffer(digests, np.uint8).reshape(-1, SHA256_BYTES) if digests else None
    rows = rows_by_category(known, np.frombuffer(numbers, np.int32))
    return Listing(names, rows, notes, digests=given)


def _rows(source: Path) -> Iterator[_Row]:
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
    places = places_of(columns, _NEEDED, _OPTIONAL, _RULE, source).values()
    for line, row in rows:
        yield line, *[row[place] if place < len(row) else "" for place in places]


def _arrow_rows(source: Path) -> Iterator[Sequence[Any]]:
    if find_spec("pyarrow") is None:
        raise UserError(
            f"{source.suffix} manifests need pyarrow; got {source}: pip install "
            "'fusiform[parquet]', or make it a .csv"
        )
    for number, row in enumerate(rows_of(source, _NEEDED, _OPTIONAL, _RULE), 1):
        yield number, *row


def _digest(sha256: str, place: str, source: Path) -> bytes:
    try:
        digest = bytes.fromhex(sha256.strip())
    except ValueError:
        digest = b""
    if len(digest) != SHA256_BYTES or not any(digest):
        raise UserError(
            f"a column sha256 has 64 hexadecimal digits in every row; {source} {place} has "
            f"{sha256[:80]!r}: correct it, or leave the column out"
        )
    return digest


def _refuse_repeated(source: Path, files: FilesByName) -> None:
    """Name the first path that is listed twice, if one is and not only two alike in their mark."""
    seen: set[str] = set()
    for place, listed, *_ in _rows(source):
        path = posixpath.normpath(files.find(listed))
        if path in seen:
            raise UserError(
                f"a manifest lists a stimulus once; {source} {place} lists {listed} again: remove "
                "it"
            )
        seen.add(path)

"""Manifests: tables of stimuli with the columns ``path``, ``category`` and perhaps ``sha256``.

CSV, Parquet, or Arrow's own format (Feather). Rows are read a few thousand at a time, and kept in
some tens of bytes each.
"""

from __future__ import annotations

import os
import posixpath
from array import array
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..texts import csv_rows, places_of
from .bounds import FilesByName
from .columns import SHA256_BYTES, Texts
from .listing import Listing, are_alike, rows_by_category

_ARROW = (".parquet", ".arrow", ".feather")
MANIFESTS = (".csv", *_ARROW)
_NEEDED, _OPTIONAL = ("path", "category"), ("sha256",)
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
        for place, listed, category, sha256 in _rows(source):
            path = files.find(listed)
            numbers.append(known.setdefault(category, len(known)))
            # Eight bytes to know again what was listed: the paths themselves would be a hundred.
            marks.append(hash(posixpath.normpath(path)))
            if sha256 is not None:
                digests.extend(_digest(sha256, place, source))
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
        yield f"{kind} {number}", path, category, rest[0] or "" if rest else None


def _csv_rows(source: Path) -> Iterator[Sequence[Any]]:
    rows = csv_rows(source, "a manifest")
    _, columns = next(rows, (0, []))
    places = _places(columns, source).values()
    for line, row in rows:
        yield line, *[row[place] if place < len(row) else "" for place in places]


def _arrow_rows(source: Path) -> Iterator[Sequence[Any]]:
    if find_spec("pyarrow") is None:
        raise UserError(
            f"{source.suffix} manifests need pyarrow; got {source}: pip install "
            "'fusiform[parquet]', or make it a .csv"
        )
    import pyarrow

    try:
        number = 0
        for batch in _batches(source):
            batch.validate(full=True)  # what a stranger wrote may point outside of the file
            names = _places(batch.schema.names, source)
            columns = [_texts(batch.column(i), name, source) for name, i in names.items()]
            for row in zip(*columns, strict=True):
                number += 1
                yield number, *row
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = str(error).partition("\n")[0][:200]
        kind = "Parquet" if source.suffix.lower() == ".parquet" else "an Arrow file"
        raise UserError(
            f"a {source.suffix} manifest is {kind}; {source} is not ({reason})"
        ) from None


def _batches(source: Path) -> Iterator[Any]:
    """Record batches of at least the columns that count."""
    import pyarrow

    if source.suffix.lower() == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(source) as file:
            names = file.schema_arrow.names
            wanted = [names[place] for place in _places(names, source).values()]
            yield from file.iter_batches(columns=wanted)
        return
    with pyarrow.memory_map(os.fspath(source)) as mapped:
        reader = pyarrow.ipc.open_file(mapped)
        wanted = list(_places(reader.schema.names, source).values())
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number).select(wanted)


def _places(columns: Sequence[str], source: Path) -> dict[str, int]:
    return places_of(columns, _NEEDED, _OPTIONAL, _RULE, source)


def _texts(column: Any, name: str, source: Path) -> list[str | None]:
    """A column as texts; whole numbers, which classes often are, become such."""
    import pyarrow.types as types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_text or types.is_null(kind) or (types.is_integer(kind) and name == "category")):
        raise UserError(f"columns of a manifest hold text; {name} of {source} holds {kind}")
    return [None if value is None else str(value) for value in column.to_pylist()]


def _digest(sha256: str, place: str, source: Path) -> bytes:
    try:
        digest = bytes.fromhex(sha256.strip())
    except ValueError:
        digest = b""
    if len(digest) != SHA256_BYTES or not any(digest):
        raise UserError(
            f"a column sha256 has 64 hexadecimal digits in every row; {source} {place} has "
            f"{sha256!r}: correct it, or leave the column out"
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

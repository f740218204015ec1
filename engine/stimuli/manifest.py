"""Manifests: tables of stimuli with the columns ``path``, ``category`` and perhaps ``sha256``.

CSV, Parquet, or Arrow's own format (Feather). Rows are read a few thousand at a time, and kept in
some tens of bytes each.
"""

from __future__ import annotations

import csv
import os
import posixpath
from array import array
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, shortened
from .columns import SHA256_BYTES, Texts
from .listing import Listing, are_alike, rows_by_category

_ARROW = (".parquet", ".arrow", ".feather")
MANIFESTS = (".csv", *_ARROW)
_NEEDED, _OPTIONAL = ("path", "category"), "sha256"


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

    def paths() -> Iterator[str]:
        for place, path, category, sha256 in _rows(source):
            numbers.append(known.setdefault(category, len(known)))
            # Eight bytes to know again what was listed: the paths themselves would be a hundred.
            marks.append(hash(posixpath.normpath(path)))
            if sha256 is not None:
                digests.extend(_digest(sha256, place, source))
            yield path

    names = Texts.of(paths())
    if are_alike(np.frombuffer(marks, np.int64)):
        _refuse_repeated(source)
    given = np.frombuffer(digests, np.uint8).reshape(-1, SHA256_BYTES) if digests else None
    return Listing(names, rows_by_category(known, np.frombuffer(numbers, np.int32)), digests=given)


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
    try:
        with source.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines)
            columns = {name: place for place, name in enumerate(next(rows, []))}
            _require_columns(columns, source)
            wanted = [columns[name] for name in (*_NEEDED, _OPTIONAL) if name in columns]
            for row in rows:
                if row:
                    yield rows.line_num, *[row[i] if i < len(row) else "" for i in wanted]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"a manifest is CSV in UTF-8; {source} is not ({error})") from None


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
            columns = [_texts(batch.column(name), name, source) for name in batch.schema.names]
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
    """Record batches of the columns that count, in their order."""
    import pyarrow

    if source.suffix.lower() == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(source) as file:
            _require_columns(file.schema_arrow.names, source)
            yield from file.iter_batches(columns=_wanted(file.schema_arrow.names))
        return
    with pyarrow.memory_map(os.fspath(source)) as mapped:
        reader = pyarrow.ipc.open_file(mapped)
        _require_columns(reader.schema.names, source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number).select(_wanted(reader.schema.names))


def _wanted(columns: Sequence[str]) -> list[str]:
    return [name for name in (*_NEEDED, _OPTIONAL) if name in columns]


def _texts(column: Any, name: str, source: Path) -> list[str | None]:
    """A column as texts; whole numbers, which classes often are, become such."""
    import pyarrow.types as types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_text or types.is_null(kind) or (types.is_integer(kind) and name == "category")):
        raise UserError(f"columns of a manifest hold text; {name} of {source} holds {kind}")
    return [None if value is None else str(value) for value in column.to_pylist()]


def _require_columns(names: Any, source: Path) -> None:
    if not set(_NEEDED) <= set(names):
        found = shortened(names) or "none"
        raise UserError(f"a manifest has the columns path and category; {source} has {found}")


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


def _refuse_repeated(source: Path) -> None:
    """Name the first path that is listed twice, if one is and not only two alike in their mark."""
    seen: set[str] = set()
    for place, path, *_ in _rows(source):
        if posixpath.normpath(path) in seen:
            raise UserError(
                f"a manifest lists a stimulus once; {source} {place} lists {path} again: remove it"
            )
        seen.add(posixpath.normpath(path))

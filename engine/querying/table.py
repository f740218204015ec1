"""A table of results: named columns, for people, spreadsheets and programs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, shortened
from ..files import file_place, new_file, write_arrays
from ..values import as_json

if TYPE_CHECKING:
    import pandas

Format = Literal["table", "csv", "json", "parquet", "npz"]
# What spreadsheets take for the beginning of a formula.
_FORMULA = tuple("=+-@\t\r")
# A place along a dimension that a layer has not.
NOWHERE = -1


class Table:
    """Columns of equal length, in order: text, or numbers as numpy arrays."""

    def __init__(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        self.columns: dict[str, NDArray[Any]] = {
            name: values if isinstance(values, np.ndarray) else _column(values)
            for name, values in columns.items()
        }

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __repr__(self) -> str:
        return repr(self.frame())

    def _repr_html_(self) -> str:
        return str(self.frame()._repr_html_())  # pandas escapes names

    def take(self, rows: Any) -> Table:
        """Some of its rows."""
        return Table({name: values[rows] for name, values in self.columns.items()})

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Row by row, as plain Python values; None for what is not there."""
        yield from zip(*map(_plain, self.columns.values()), strict=True)

    def frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(
            {
                name: pandas.array(_plain(values), dtype="Int32") if _is_place(values) else values
                for name, values in self.columns.items()
            }
        )


def joined(tables: Sequence[Table]) -> Table:
    """Tables below each other; places along dimensions that only some have are left open."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    lengths = [len(table) for table in tables]

    def column(name: str) -> NDArray[Any]:
        known = next(table[name] for table in tables if name in table.columns)
        missing = np.array([NOWHERE if known.dtype.kind == "i" else np.nan]).astype(known.dtype)
        parts = [
            table.columns.get(name, np.broadcast_to(missing, length))
            for table, length in zip(tables, lengths, strict=True)
        ]
        return np.concatenate(parts)

    return Table({name: column(name) for name in names})


def refuse_form(form: Format, output: Path | None, guard_formulas: bool = False) -> None:
    """Refuse what tables cannot be written as, or where, before there are any.

    Raises
    ------
    UserError : there is no output for a format that needs one, no library for it, no folder for the
        output, or no need of an output; formulas are guarded in another form than CSV
    """
    if guard_formulas and form != "csv":
        raise UserError(f"formulas are guarded in csv, for spreadsheets; got {form}: leave it out")
    if output is None:
        if form in ("parquet", "npz"):
            raise UserError(f"{form} is written to a file; name one with --output")
        return
    if form == "table":
        raise UserError(f"a table is printed; to write {output} choose --format")
    file_place(output, "a table", "name a file, or leave out --output and it is printed")
    if form == "parquet" and find_spec("pyarrow") is None:
        raise UserError("parquet needs pyarrow: pip install 'fusiform[parquet]'")


def write(
    tables: Iterable[Table],
    form: Format,
    output: Path | None,
    stream: IO[str],
    guard_formulas: bool = False,
) -> int:
    """Write tables of the same columns, part by part as they come; gives the number of rows.

    ``csv`` and ``json`` go to ``stream`` unless an ``output`` is named; the others need one. With
    ``guard_formulas`` a ``'`` stands in CSV before texts that a spreadsheet would run as formulas,
    as a category could that came from a stranger: those that begin with =, +, -, @, a tab or CR.

    Raises
    ------
    UserError : see :func:`refuse_form`; the output cannot be written to
    """
    refuse_form(form, output, guard_formulas)
    tables = iter(tables)
    # What is wrong with a question comes with the first table: before anything is written.
    tables = chain(list(islice(tables, 1)), tables)
    writer = _WRITERS[form]
    if guard_formulas:
        writer = partial(_write_csv, shown=_guarded)
    if output is None:
        return writer(tables, stream)
    with new_file(output, "a table", text=form in ("csv", "json")) as file:
        return writer(tables, file)


class _Lines:
    """What csv writes to: only if it ends lines by both characters does it quote names with one."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def _guarded(row: Iterable[Any]) -> list[Any]:
    """A row whose texts no spreadsheet takes for formulas."""
    return [f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA) else v for v in row]


def _write_csv(
    tables: Iterable[Table],
    file: IO[str],
    shown: Callable[[Iterable[Any]], Sequence[Any]] = tuple,
) -> int:
    writer, written = csv.writer(_Lines(file), lineterminator="\r\n"), 0
    for index, table in enumerate(_alike(tables)):
        if index == 0:
            writer.writerow(shown(table.columns))
        writer.writerows(map(shown, table.rows()))
        written += len(table)
    return written


def _write_json(tables: Iterable[Table], file: IO[str]) -> int:
    """An array of records, one to a line."""
    written = 0
    file.write("[")
    for table in _alike(tables):
        for row in table.rows():
            record = as_json(dict(zip(table.columns, row, strict=True)))
            file.write(f",\n {record}" if written else f"\n {record}")
            written += 1
    file.write("\n]\n")
    return written


def _write_parquet(tables: Iterable[Table], file: IO[bytes]) -> int:
    import pyarrow
    from pyarrow import parquet

    written, writer = 0, None
    try:
        for table in _alike(tables):
            arrays = {
                name: pyarrow.array(
                    values,
                    type=pyarrow.string() if values.dtype == object else None,
                    mask=values == NOWHERE if _is_place(values) else None,
                )
                for name, values in table.columns.items()
            }
            part = pyarrow.table(arrays)
            writer = writer or parquet.ParquetWriter(file, part.schema)
            writer.write_table(part)
            written += len(table)
    finally:
        if writer:
            writer.close()
    return written


def _write_npz(tables: Iterable[Table], file: IO[bytes]) -> int:
    whole = joined(list(tables))
    columns: dict[str, Any] = {
        # Text of fixed length: an array of objects would be a pickle.
        name: values.astype(str) if values.dtype == object else values
        for name, values in whole.columns.items()
    }
    write_arrays(file, columns, compressed=True)
    return len(whole)


_WRITERS: Mapping[str, Callable[[Iterable[Table], IO[Any]], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
    "npz": _write_npz,
}


def _alike(tables: Iterable[Table]) -> Iterator[Table]:
    """Tables of the same columns, as they have to be where rows are written as they come."""
    first: list[str] | None = None
    for table in tables:
        names = list(table.columns)
        first = names if first is None else first
        if names != first:
            different = sorted({*names} ^ {*first})
            raise UserError(
                f"one table has one set of columns; {shortened(different)} are not in all stores: "
                "name columns that are, or ask the stores one by one"
            )
        yield table


def _column(values: Sequence[Any]) -> NDArray[Any]:
    text = not values or isinstance(values[0], str)
    return np.array(values, object if text else None)


def _is_place(values: NDArray[Any]) -> bool:
    return values.dtype == np.int32


def _plain(values: NDArray[Any]) -> list[Any]:
    """As Python values: None for no place, and no more digits than a number of its type has."""
    if values.dtype == np.float32:
        return [float(text) for text in values.astype(str)]
    listed: list[Any] = values.tolist()
    return (
        [None if value == NOWHERE else value for value in listed] if _is_place(values) else listed
    )
